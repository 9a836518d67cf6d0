/*
 * ing_gzip: inflates one gzip body, step by step (RFC 1952; several members are one body). The only user of zlib.
 * Ownership: new/free; input and output are the caller's.
 * Units: bytes.
 * Errors: CMQ_ERR_MALFORMED (not gzip), CMQ_ERR_TOO_BIG (it grows too much), CMQ_ERR_NOMEM.
 * Callers: one thread at a time.
 */
#ifndef ING_GZIP_H
#define ING_GZIP_H

#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

/* What one takes, at most: zlib's window and state. */
#define ING_GZIP_BYTES (48u * 1024u)
/* So much output is let through whatever the ratio: small texts that are all alike. */
#define ING_GZIP_FREE_BYTES (64u * 1024u)

struct ing_gzip;

/* ratio_max: of all output to all input. */
CMQ_MUST_USE enum cmq_err ing_gzip_new(uint64_t ratio_max, struct ing_gzip **ret_gzip);
void ing_gzip_free(struct ing_gzip *gzip); /* NULL is fine */
/* Inflates from *in, which is moved on, until `out` is full or nothing more comes of it. There may be more whenever
 * *ret_bytes is out_bytes. */
CMQ_MUST_USE enum cmq_err ing_gzip_step(struct ing_gzip *gzip, struct cmq_span *in, uint8_t *out,
                                        size_t out_bytes, size_t *ret_bytes);
/* The last member is whole. */
bool ing_gzip_is_whole(const struct ing_gzip *gzip);

#endif
