/*
 * wire_support: what the tests of common/wire share: exact copies and repeatable random numbers.
 * Ownership: wire_copy returns heap memory.
 * Units: bytes.
 * Errors: a test without memory aborts.
 * Callers: tests/unit, one thread.
 */
#ifndef WIRE_SUPPORT_H
#define WIRE_SUPPORT_H

#include <string.h>

#include "common/base/cmq_base.h"

/* A copy with nothing readable behind it, so that AddressSanitizer sees every byte read too many. */
static inline uint8_t *wire_copy(const void *data, size_t bytes)
{
    uint8_t *copy = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(copy != NULL);
    if (bytes != 0)
        memcpy(copy, data, bytes);
    return copy;
}

/* splitmix64: any seed is good, and a failure can be repeated. */
static inline uint64_t wire_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline bool wire_inside(struct cmq_span part, struct cmq_span whole)
{
    return part.bytes == 0 || (part.data >= whole.data && part.bytes <= whole.bytes &&
                               (size_t)(part.data - whole.data) <= whole.bytes - part.bytes);
}

#endif
