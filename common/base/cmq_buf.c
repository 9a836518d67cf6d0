#include "common/base/cmq_buf.h"

#include <string.h>

enum { CAPACITY_MIN = 256 };

void cmq_buf_init(struct cmq_buf *buf, size_t bytes_max)
{
    *buf = (struct cmq_buf){.bytes_max = bytes_max};
}

void cmq_buf_fini(struct cmq_buf *buf)
{
    free(buf->data);
    *buf = (struct cmq_buf){.bytes_max = buf->bytes_max};
}

enum cmq_err cmq_buf_reserve(struct cmq_buf *buf, size_t more)
{
    if (more > buf->bytes_max || buf->bytes > buf->bytes_max - more)
        return CMQ_ERR_TOO_BIG;
    size_t need = buf->bytes + more;
    if (need <= buf->capacity)
        return CMQ_OK;
    size_t capacity = buf->capacity < CAPACITY_MIN ? CAPACITY_MIN : buf->capacity;
    while (capacity < need)
        capacity = capacity > buf->bytes_max / 2 ? buf->bytes_max : capacity * 2;
    uint8_t *data = realloc(buf->data, capacity);
    if (data == NULL)
        return CMQ_ERR_NOMEM;
    buf->data = data;
    buf->capacity = capacity;
    return CMQ_OK;
}

enum cmq_err cmq_buf_append(struct cmq_buf *buf, const void *data, size_t bytes)
{
    enum cmq_err err = cmq_buf_reserve(buf, bytes);
    if (err != CMQ_OK)
        return err;
    if (bytes != 0)
        memcpy(buf->data + buf->bytes, data, bytes);
    buf->bytes += bytes;
    return CMQ_OK;
}

void cmq_buf_clear(struct cmq_buf *buf, size_t keep_max)
{
    buf->bytes = 0;
    if (buf->capacity > keep_max)
        cmq_buf_fini(buf);
}
