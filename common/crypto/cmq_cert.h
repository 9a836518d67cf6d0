/*
 * cmq_cert: what an operator wants to know of a certificate and its key, without using them.
 * Ownership: none.
 * Units: milliseconds since 1970.
 * Errors: CMQ_ERR_NOT_FOUND, CMQ_ERR_PERMISSION, CMQ_ERR_INVALID (no PEM, or the key is another one's), with a sentence.
 * Callers: any thread.
 */
#ifndef CMQ_CERT_H
#define CMQ_CERT_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

#define CMQ_CERT_SUBJECT_BYTES 128

struct cmq_cert_info {
    char subject[CMQ_CERT_SUBJECT_BYTES]; /* the common name of the first certificate, cut if it is longer */
    uint64_t not_before_ms, not_after_ms;
};

/* Both files PEM; the first certificate counts. The key is read to see that it belongs to it, and forgotten. */
CMQ_MUST_USE enum cmq_err cmq_cert_examine(const char *cert_file, const char *key_file,
                                           struct cmq_cert_info *ret_info, struct cmq_reason *reason);

#endif
