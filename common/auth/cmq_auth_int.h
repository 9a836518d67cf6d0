/*
 * cmq_auth_int: checks at a given time, for tests.
 * Ownership: credentials borrow; the rest as cmq_auth.h.
 * Units: wall_ms since 1970, mono_ns as cmq_clock_mono_ns.
 * Errors: as cmq_auth.h.
 * Callers: as cmq_auth.h. Private to common/auth.
 */
#ifndef CMQ_AUTH_INT_H
#define CMQ_AUTH_INT_H

#include "common/auth/cmq_auth.h"

struct cmq_auth_credentials {
    struct cmq_span token, certificate, address;
};

CMQ_MUST_USE enum cmq_auth_result cmq_auth_check_at(struct cmq_auth *auth,
                                                    const struct cmq_auth_credentials *credentials,
                                                    uint64_t wall_ms, uint64_t mono_ns,
                                                    struct cmq_grant *ret_grant);
bool cmq_grant_is_live_at(const struct cmq_auth *auth, const struct cmq_grant *grant, uint64_t wall_ms);

#endif
