#include "ingest/ing_gzip.h"

#include <limits.h>
#include <zlib.h>

/* zlib's way to say: gzip, and nothing else. */
enum { GZIP_WINDOW_BITS = 16 + 15 };

struct ing_gzip {
    z_stream stream;
    uint64_t ratio_max;
    uint64_t in_bytes, out_bytes; /* of all members */
    bool whole;                   /* a member has ended and none has begun */
};

enum cmq_err ing_gzip_new(uint64_t ratio_max, struct ing_gzip **ret_gzip)
{
    struct ing_gzip *gzip = calloc(1, sizeof *gzip);
    if (gzip == NULL || inflateInit2(&gzip->stream, GZIP_WINDOW_BITS) != Z_OK) {
        free(gzip);
        return CMQ_ERR_NOMEM;
    }
    gzip->ratio_max = ratio_max;
    *ret_gzip = gzip;
    return CMQ_OK;
}

void ing_gzip_free(struct ing_gzip *gzip)
{
    if (gzip == NULL)
        return;
    (void)inflateEnd(&gzip->stream);
    free(gzip);
}

/* One call of zlib. True: it may be called again. */
static bool inflate_some(struct ing_gzip *gzip, struct cmq_span *in, uint8_t **out, size_t *left,
                         enum cmq_err *ret_err)
{
    z_stream *stream = &gzip->stream;
    const size_t in_bytes = in->bytes < UINT_MAX ? in->bytes : UINT_MAX;
    const size_t out_bytes = *left < UINT_MAX ? *left : UINT_MAX;
    stream->next_in = (Bytef *)(uintptr_t)in->data;
    stream->avail_in = (uInt)in_bytes;
    stream->next_out = *out;
    stream->avail_out = (uInt)out_bytes;
    const int result = inflate(stream, Z_NO_FLUSH);
    const size_t used = in_bytes - stream->avail_in, made = out_bytes - stream->avail_out;
    *in = cmq_span_make(in->data + used, in->bytes - used);
    *out += made;
    *left -= made;
    gzip->in_bytes += used;
    gzip->out_bytes += made;
    *ret_err = CMQ_OK;
    if (result == Z_MEM_ERROR)
        *ret_err = CMQ_ERR_NOMEM;
    else if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        *ret_err = CMQ_ERR_MALFORMED;
    gzip->whole = result == Z_STREAM_END;
    return result == Z_STREAM_END || (result == Z_OK && (used != 0 || made != 0));
}

enum cmq_err ing_gzip_step(struct ing_gzip *gzip, struct cmq_span *in, uint8_t *out, size_t out_bytes,
                           size_t *ret_bytes)
{
    size_t left = out_bytes;
    enum cmq_err err = CMQ_OK;
    bool more = true;
    while (more && left != 0 && err == CMQ_OK) {
        if (gzip->whole && in->bytes == 0)
            break;
        if (gzip->whole && inflateReset(&gzip->stream) != Z_OK)
            return CMQ_ERR_MALFORMED;
        more = inflate_some(gzip, in, &out, &left, &err);
    }
    if (err == CMQ_OK && gzip->out_bytes > ING_GZIP_FREE_BYTES &&
        gzip->out_bytes / gzip->ratio_max > gzip->in_bytes)
        err = CMQ_ERR_TOO_BIG;
    *ret_bytes = out_bytes - left;
    return err;
}

bool ing_gzip_is_whole(const struct ing_gzip *gzip)
{
    return gzip->whole;
}
