#include "tests/support/alloc_faults.h"

#include <cstdlib>
#include <new>

namespace
{

uint64_t left;
bool armed, stays, failed;

bool fails()
{
    if (!armed || left == 0)
        return failed && stays && armed;
    left--;
    failed = failed || left == 0;
    return left == 0;
}

} // namespace

void alloc_faults_arm(uint64_t nth, bool sticky)
{
    left = nth;
    stays = sticky;
    failed = false;
    armed = nth != 0;
}

bool alloc_faults_disarm(void)
{
    armed = false;
    return failed;
}

extern "C" {
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    return fails() ? nullptr : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? nullptr : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    return fails() ? nullptr : __real_realloc(memory, bytes);
}
}

/* ---- C++: also those of the shared libraries ---- */

void *operator new(size_t bytes, const std::nothrow_t &) noexcept
{
    return fails() ? nullptr : __real_malloc(bytes);
}

void *operator new[](size_t bytes, const std::nothrow_t &) noexcept
{
    return fails() ? nullptr : __real_malloc(bytes);
}

void *operator new(size_t bytes)
{
    void *memory = fails() ? nullptr : __real_malloc(bytes);
    if (memory == nullptr)
        throw std::bad_alloc();
    return memory;
}

void *operator new[](size_t bytes)
{
    return operator new(bytes);
}

void operator delete(void *memory) noexcept
{
    free(memory);
}

void operator delete[](void *memory) noexcept
{
    free(memory);
}

void operator delete(void *memory, size_t) noexcept
{
    free(memory);
}

void operator delete[](void *memory, size_t) noexcept
{
    free(memory);
}
