/*
 * ing_cors: which pages of which origins may use the HTTP port from a browser (fetch.spec.whatwg.org, CORS protocol).
 * Ownership: borrows.
 * Units: bytes.
 * Errors: none.
 * Callers: any thread.
 *
 * Credentials (cookies) are never allowed: a token is sent by the page itself, so an origin alone gives no right.
 */
#ifndef ING_CORS_H
#define ING_CORS_H

#include "ingest/ing_fields.h"

/* The longest Access-Control-Request-Headers that a preflight repeats. */
#define ING_CORS_HEADERS_BYTES_MAX 512u

/* origins: as ingest.cors_origins. Returns "*" or the one that fits, a part of origins; bytes 0: none, or no origin. */
struct cmq_span ing_cors_match(const char *origins, struct cmq_span origin);
/* On every reply to a page of an allowed origin. allowed: from ing_cors_match, not empty. */
void ing_cors_fields(struct cmq_span allowed, struct ing_fields *fields);
/* Besides, on the reply to a preflight. asked: Access-Control-Request-Headers. */
void ing_cors_preflight(const char *methods, struct cmq_span asked, struct ing_fields *fields);

#endif
