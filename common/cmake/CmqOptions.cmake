# One target for language and warnings, one for hardening. Everything of ours links both.
add_library(cmq_options INTERFACE)
target_compile_features(cmq_options INTERFACE c_std_17 cxx_std_17)
target_compile_definitions(cmq_options INTERFACE _GNU_SOURCE)
target_include_directories(cmq_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(cmq_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wvla -Wformat=2 -Wundef
  -Wnull-dereference -Wimplicit-fallthrough
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
  $<$<BOOL:${CMQ_WERROR}>:-Werror>)
if(CMQ_CRASH_POINTS)
  target_compile_definitions(cmq_options INTERFACE CMQ_CRASH_POINTS=1)
endif()
if(CMQ_SANITIZE)
  target_compile_options(cmq_options INTERFACE -fsanitize=${CMQ_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(cmq_options INTERFACE -fsanitize=${CMQ_SANITIZE})
endif()
if(CMQ_COVERAGE)
  target_compile_options(cmq_options INTERFACE --coverage)
  target_link_options(cmq_options INTERFACE --coverage)
endif()

add_library(cmq_hardening INTERFACE)
if(NOT CMQ_SANITIZE)
  target_compile_options(cmq_hardening INTERFACE
    -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=3>)
endif()
target_link_options(cmq_hardening INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()

# cmq_layer(NAME DIR-relative sources... LINK deps...): one static library per layer, alias cmq::NAME.
function(cmq_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK;PRIVATE" ${ARGN})
  add_library(cmq_${name} STATIC ${arg_SOURCES})
  add_library(cmq::${name} ALIAS cmq_${name})
  target_link_libraries(cmq_${name} PUBLIC cmq_options cmq_hardening ${arg_LINK} PRIVATE ${arg_PRIVATE})
endfunction()
