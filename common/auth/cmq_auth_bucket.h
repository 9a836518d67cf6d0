/*
 * cmq_auth_bucket: token buckets (a second's worth each) for messages and for bytes.
 * Ownership: caller's memory; zeroed it is full.
 * Units: messages and bytes a second; nanoseconds (monotonic).
 * Errors: none.
 * Callers: one thread at a time; cmq_auth has a lock beside it. Private to common/auth.
 *
 * What is larger than a second's worth is let through by a full bucket, which then is in debt: a batch is never refused for
 * ever, and the rate holds over time.
 */
#ifndef CMQ_AUTH_BUCKET_H
#define CMQ_AUTH_BUCKET_H

#include "common/auth/cmq_auth.h"

struct cmq_auth_bucket {
    double spent; /* of a second's worth: 0 is full; above 1 is debt */
    uint64_t at_ns;
};

/* Takes from both or from none. Rate 0: no limit. */
void cmq_auth_bucket_take(struct cmq_auth_bucket *messages, struct cmq_auth_bucket *bytes,
                          const uint64_t counts[2], const uint64_t rates[2], uint64_t now_ns,
                          struct cmq_rate *ret_rate);

#endif
