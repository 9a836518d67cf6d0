/*
 * cmq_digest: SHA-256 (FIPS 180-4) of several pieces, for telling contents apart.
 * Ownership: a digest owns its OpenSSL context; the pieces are borrowed for the call.
 * Units: bytes.
 * Errors: CMQ_ERR_SYSTEM (OpenSSL failed), CMQ_ERR_NOMEM.
 * Callers: one thread a digest.
 */
#ifndef CMQ_DIGEST_H
#define CMQ_DIGEST_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

#define CMQ_DIGEST_BYTES 32u

struct cmq_digest;

CMQ_MUST_USE enum cmq_err cmq_digest_new(struct cmq_digest **ret_digest);
/* NULL is fine. */
void cmq_digest_free(struct cmq_digest *digest);
/* Of the pieces back to back: where one ends and the next begins is for the caller to say in them. */
CMQ_MUST_USE enum cmq_err cmq_digest_sha256(struct cmq_digest *digest, const struct cmq_span *pieces,
                                            size_t count, uint8_t ret_bytes[CMQ_DIGEST_BYTES]);
/* The same piece by piece: begin, add as often as needed, end. Another begin or cmq_digest_sha256 gives up what was added. */
CMQ_MUST_USE enum cmq_err cmq_digest_begin(struct cmq_digest *digest);
CMQ_MUST_USE enum cmq_err cmq_digest_add(struct cmq_digest *digest, struct cmq_span piece);
CMQ_MUST_USE enum cmq_err cmq_digest_end(struct cmq_digest *digest, uint8_t ret_bytes[CMQ_DIGEST_BYTES]);

#endif
