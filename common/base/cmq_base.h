/*
 * cmq_base: assert, spans and small arithmetic used everywhere.
 * Ownership: a span borrows; it never frees.
 * Units: bytes.
 * Errors: cmq_assert is for programmer errors only, never for bytes from outside; it aborts in every build.
 * Callers: any thread.
 */
#ifndef CMQ_BASE_H
#define CMQ_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define cmq_assert(cond)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0)) {                                                        \
            fprintf(stderr, "ev=assert file=%s line=%d cond=\"%s\"\n", __FILE__, __LINE__, #cond); \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define CMQ_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define CMQ_CACHE_LINE      64u

/* Borrowed bytes. data may be NULL only when bytes is 0. */
struct cmq_span {
    const uint8_t *data;
    size_t bytes;
};

static inline struct cmq_span cmq_span_make(const void *data, size_t bytes)
{
    struct cmq_span span;
    span.data = (const uint8_t *)data; /* no compound literal: C++ reads this header too */
    span.bytes = bytes;
    return span;
}

static inline uint64_t cmq_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t cmq_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Next multiple of a power of two. The caller knows that value + align does not wrap. */
static inline uint64_t cmq_align_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) & ~(align - 1);
}

/* Inside a busy wait: lets the other hardware thread run. */
static inline void cmq_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline bool cmq_is_pow2(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

#endif
