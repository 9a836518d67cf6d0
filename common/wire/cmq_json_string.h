/*
 * cmq_json_string: strings of a body -> text and packed text, written behind w->buf's content. The hot path of common/wire.
 * Ownership: as cmq_json_walk.h.
 * Units: bytes, tokens.
 * Errors: those of cmq_json_in.h, told in *w->error.
 * Callers: the readers of bodies.
 */
#ifndef CMQ_JSON_STRING_H
#define CMQ_JSON_STRING_H

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_text.h"
#include "common/wire/cmq_json_walk.h"

/* What may be written too much behind a string. */
#define CMQ_JSON_WIDE_BYTES 16

/* Room for `bytes` more at w->out, which may move. CMQ_ERR_TOO_BIG: w->full. Use cmq_json_need_room. */
CMQ_MUST_USE enum cmq_err cmq_json_grow_room(struct cmq_walk *w, size_t bytes);
CMQ_MUST_USE enum cmq_err cmq_json_too_large(const struct cmq_walk *w, uint32_t token, size_t bytes);

CMQ_MUST_USE static inline enum cmq_err cmq_json_need_room(struct cmq_walk *w, size_t bytes)
{
    bool there = w->buf->capacity - (size_t)(w->out - w->buf->data) >= bytes;
    return __builtin_expect(there, 1) ? CMQ_OK : cmq_json_grow_room(w, bytes);
}

/* Copies up to the next quote or backslash; returns how many bytes. end: where the token must have ended. */
static inline size_t cmq_json_copy_plain(const struct cmq_walk *w, uint8_t *dst, const uint8_t *src,
                                         const uint8_t *end)
{
    const uint8_t *begin = src;
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    while (src < end && w->readable_end - src >= CMQ_JSON_WIDE_BYTES) {
        __m128i chunk = _mm_loadu_si128((const __m128i *)(const void *)src);
        __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(chunk, quote), _mm_cmpeq_epi8(chunk, backslash));
        unsigned mask = (unsigned)_mm_movemask_epi8(hits);
        _mm_storeu_si128((__m128i *)(void *)dst, chunk);
        if (mask != 0)
            return (size_t)(src - begin) + (unsigned)__builtin_ctz(mask);
        src += CMQ_JSON_WIDE_BYTES;
        dst += CMQ_JSON_WIDE_BYTES;
    }
#else
    (void)w;
#endif
    while (src < end && *src != '"' && *src != '\\')
        *dst++ = *src++;
    return (size_t)(src - begin);
}

/* Decodes the string of the token to dst. */
__attribute__((always_inline)) static inline enum cmq_err
cmq_json_copy_string(const struct cmq_walk *w, uint32_t token, uint8_t *dst, size_t *ret_bytes)
{
    const uint8_t *src = w->body + w->tokens[token] + 1;
    const uint8_t *end = w->body + cmq_walk_offset(w, token + 1);
    const uint8_t *begin = dst;
    for (;;) {
        size_t count = cmq_json_copy_plain(w, dst, src, end);
        src += count;
        dst += count;
        if (src >= end)
            return cmq_walk_fail(w, CMQ_ERR_MALFORMED, w->tokens[token], "a string is not closed");
        if (*src == '"')
            break;
        struct cmq_json_escape piece = cmq_json_unescape(src, end);
        if (piece.taken == 0)
            return cmq_walk_fail(w, CMQ_ERR_MALFORMED, (size_t)(src - w->body), piece.wrong);
        memcpy(dst, piece.utf8, piece.bytes);
        src += piece.taken;
        dst += piece.bytes;
    }
    *ret_bytes = (size_t)(dst - begin);
    return CMQ_OK;
}

static inline size_t cmq_json_head_bytes(size_t bytes)
{
    return bytes < 32 ? 1 : bytes < 256 ? 2 : bytes < 65536 ? 3 : 5;
}

/* The head of a fixstr is written here: nearly all messages are that short. */
static inline size_t cmq_json_put_head(uint8_t *dst, size_t bytes)
{
    if (bytes >= 32)
        return cmq_message_head(dst, true, (uint32_t)bytes);
    *dst = (uint8_t)(0xa0u | bytes);
    return 1;
}

/* Packs the string of the token to dst. */
__attribute__((always_inline)) static inline enum cmq_err
cmq_json_pack_string(const struct cmq_walk *w, uint32_t token, uint8_t *dst, size_t *ret_bytes)
{
    /* The distance to the next token is the length if there are no escapes and no blanks: nearly always. */
    size_t head = cmq_json_head_bytes(cmq_walk_offset(w, token + 1) - w->tokens[token] - 2);
    size_t bytes = 0;
    enum cmq_err err = cmq_json_copy_string(w, token, dst + head, &bytes);
    if (err != CMQ_OK)
        return err;
    if (bytes > w->limits->message_bytes_max)
        return cmq_json_too_large(w, token, bytes);
    if (__builtin_expect(cmq_json_head_bytes(bytes) != head, 0))
        memmove(dst + cmq_json_head_bytes(bytes), dst + head, bytes);
    *ret_bytes = cmq_json_put_head(dst, bytes) + bytes;
    return CMQ_OK;
}

#endif
