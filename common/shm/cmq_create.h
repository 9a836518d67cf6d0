/*
 * cmq_create: sizes, checks and creation of the shared objects, private to common/shm.
 * Ownership: none.
 * Units: bytes.
 * Errors: CMQ_ERR_INVALID, CMQ_ERR_LAYOUT with a sentence.
 * Callers: any thread.
 */
#ifndef CMQ_CREATE_H
#define CMQ_CREATE_H

#include "common/shm/cmq_layout.h"

struct cmq_sizes {
    uint64_t bell_bytes, a_bytes, b_bytes, d_bytes;
};

struct cmq_sizes cmq_sizes_for(uint32_t slots);
CMQ_MUST_USE enum cmq_err cmq_setup_check(const struct cmq_ring_setup *setup, struct cmq_reason *reason);
/* Same build, same boot, sane geometry? */
CMQ_MUST_USE enum cmq_err cmq_header_check(const struct cmq_header *header, const char *instance,
                                           struct cmq_reason *reason);

/* Room that sealing a plain record may need: heads, nonces and tags of up to 24 topics. */
static inline uint64_t cmq_sealed_bytes_max(uint64_t plain_bytes)
{
    return plain_bytes + CMQ_PAGE_BYTES;
}

#endif
