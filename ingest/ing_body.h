/*
 * ing_body: the bytes of one request body while they arrive, and the pool that large ones come from.
 * Ownership: a body belongs to its connection; its memory is its own array while small, else a block of the pool.
 * Units: bytes. Blocks are powers of two; CMQ_JSON_PADDING readable bytes follow the content.
 * Errors: CMQ_ERR_FULL (all bodies together are over the pool's limit), CMQ_ERR_NOMEM; the content is then
 *         unchanged.
 * Callers: a body: one thread at a time. The pool: any thread.
 *
 * Memory is bounded: bytes received and not yet parsed (of streams: their blocks) never exceed received_bytes_max over all
 * connections, besides ING_BODY_SMALL_BYTES a connection; free blocks that are kept never exceed kept_bytes_max.
 */
#ifndef ING_BODY_H
#define ING_BODY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "common/wire/cmq_json_in.h"

#define ING_BODY_SMALL_BYTES 1024u
#define ING_BODY_CLASSES     40u

struct ing_body_pool {
    pthread_mutex_t mutex;
    void *free[ING_BODY_CLASSES]; /* lists of blocks of 2^class bytes and padding; under the mutex */
    size_t kept_bytes;            /* under the mutex */
    size_t kept_bytes_max;
    size_t received_bytes_max;
    atomic_size_t received_bytes;
    atomic_bool used; /* since the last trim */
};

struct ing_body {
    uint8_t *block; /* NULL: the content is in small */
    size_t bytes;
    size_t capacity;       /* of block */
    size_t expected_bytes; /* from Content-Length; 0 when it isn't known */
    bool by_capacity;      /* counts with all of its block: one that is emptied and filled again */
    uint8_t small[ING_BODY_SMALL_BYTES + CMQ_JSON_PADDING];
};

void ing_body_pool_init(struct ing_body_pool *pool, size_t received_bytes_max, size_t kept_bytes_max);
/* No body may hold a block. */
void ing_body_pool_fini(struct ing_body_pool *pool);
/* Gives the kept blocks back to the system if no large body came since the last call. */
void ing_body_pool_trim(struct ing_body_pool *pool);

/* For memory beside bodies that counts like them. False: the limit is reached. */
CMQ_MUST_USE bool ing_body_pool_reserve(struct ing_body_pool *pool, size_t bytes);
void ing_body_pool_release(struct ing_body_pool *pool, size_t bytes);

/* Starts an empty body. */
void ing_body_init(struct ing_body *body, size_t expected_bytes);
CMQ_MUST_USE enum cmq_err ing_body_append(struct ing_body_pool *pool, struct ing_body *body, const void *data,
                                          size_t bytes);
/* Starts an empty body that is filled, emptied in part, and filled again. */
void ing_body_init_stream(struct ing_body *body);
/* Forgets the first `bytes` bytes of such a body. Its block stays for what comes, unless it is larger than keep_bytes_max and
 * mostly empty. */
void ing_body_drop(struct ing_body_pool *pool, struct ing_body *body, size_t bytes, size_t keep_bytes_max);
/* Forgets the content and returns the block. Fine on a zeroed or cleared body. */
void ing_body_clear(struct ing_body_pool *pool, struct ing_body *body);

static inline struct cmq_span ing_body_span(const struct ing_body *body)
{
    return cmq_span_make(body->block != NULL ? body->block : body->small, body->bytes);
}

#endif
