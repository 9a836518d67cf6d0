# Debian 12 packages; newer versions are fine. deploy/deps installs what is missing.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto)
find_package(simdjson REQUIRED)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd>=0.9.75)
pkg_check_modules(WEBSOCKETS REQUIRED IMPORTED_TARGET libwebsockets>=4.1)
pkg_check_modules(INIH REQUIRED IMPORTED_TARGET inih)
# The C library is packaged as msgpack (Debian 12) or msgpack-c (newer).
pkg_search_module(MSGPACK REQUIRED IMPORTED_TARGET msgpack-c msgpack)
if(BUILD_TESTING OR NOT DEFINED BUILD_TESTING)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka>=1.1.5)
endif()
