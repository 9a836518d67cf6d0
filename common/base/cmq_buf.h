/*
 * cmq_buf: a growable byte buffer with a hard cap.
 * Ownership: init/fini on the caller's memory; the bytes belong to the buffer until fini.
 * Units: bytes. bytes_max is never exceeded; capacity grows by doubling.
 * Errors: CMQ_ERR_TOO_BIG past bytes_max, CMQ_ERR_NOMEM; the content is then unchanged.
 * Callers: one thread at a time.
 */
#ifndef CMQ_BUF_H
#define CMQ_BUF_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

struct cmq_buf {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
    size_t bytes_max;
};

void cmq_buf_init(struct cmq_buf *buf, size_t bytes_max);
/* Frees; the buffer may be initialised again. Accepts a zeroed struct. */
void cmq_buf_fini(struct cmq_buf *buf);
/* Makes room for `more` bytes behind the content without changing the content. */
CMQ_MUST_USE enum cmq_err cmq_buf_reserve(struct cmq_buf *buf, size_t more);
CMQ_MUST_USE enum cmq_err cmq_buf_append(struct cmq_buf *buf, const void *data, size_t bytes);
/* Forgets the content; gives memory back when more than keep_max bytes are held. */
void cmq_buf_clear(struct cmq_buf *buf, size_t keep_max);

static inline struct cmq_span cmq_buf_span(const struct cmq_buf *buf)
{
    return cmq_span_make(buf->data, buf->bytes);
}

#endif
