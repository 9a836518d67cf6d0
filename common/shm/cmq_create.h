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
/* Is lock_fd the members file that the ring was made with? */
CMQ_MUST_USE enum cmq_err cmq_members_check(const struct cmq_header *header, int lock_fd, const char *run_dir,
                                            struct cmq_reason *reason);
CMQ_MUST_USE enum cmq_err cmq_setup_check(const struct cmq_ring_setup *setup, struct cmq_reason *reason);
/* Same build, same boot, sane geometry? */
CMQ_MUST_USE enum cmq_err cmq_header_check(const struct cmq_header *header, const char *instance,
                                           struct cmq_reason *reason);

/* Room that sealing a plain record may need: heads, nonces and tags of up to 24 topics. */
static inline uint64_t cmq_sealed_bytes_max(uint64_t plain_bytes)
{
    return plain_bytes + CMQ_PAGE_BYTES;
}
/* The same with the record's head. */
static inline uint64_t cmq_result_bytes_max(uint64_t plain_bytes)
{
    return sizeof(struct cmq_record) + cmq_sealed_bytes_max(plain_bytes);
}

#endif
