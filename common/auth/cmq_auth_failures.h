/*
 * cmq_auth_failures: failed attempts an address, in a table of fixed size.
 * Ownership: heap; new and free.
 * Units: nanoseconds (monotonic); attempts in a window of a minute that begins with the first.
 * Errors: CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM (no random bytes).
 * Callers: add: any thread. Private to common/auth.
 *
 * 16,384 addresses in sets of 4. In a full set the one with the fewest failures goes, an old one first: somebody with many
 * addresses can make the table forget, but not count anything against a neighbour. Where an address lies is secret.
 */
#ifndef CMQ_AUTH_FAILURES_H
#define CMQ_AUTH_FAILURES_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

#define CMQ_AUTH_FAILURES_WINDOW_NS 60000000000ull

struct cmq_auth_failures;

CMQ_MUST_USE enum cmq_err cmq_auth_failures_new(uint32_t failures_max,
                                                struct cmq_auth_failures **ret_failures);
/* NULL is fine. */
void cmq_auth_failures_free(struct cmq_auth_failures *failures);
/* address: 4 or 16 bytes, the text of an address, or whatever names the peer. IPv6: its /64 counts; IPv4 in IPv6 is IPv4.
 * True: this one is above the limit. */
bool cmq_auth_failures_add(struct cmq_auth_failures *failures, struct cmq_span address, uint64_t now_ns);

#endif
