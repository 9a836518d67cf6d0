/*
 * cmq_json_walk: the tokens of a JSON text held against the grammar, without a tree.
 * Ownership: borrows body, tokens, limits, error; buf is written behind its content and grows only at the end.
 * Units: bytes, tokens.
 * Errors: those of cmq_json_in.h, told in *error.
 * Callers: cmq_json_in, cmq_json_messages.
 *
 * A token is the offset of { } [ ] : , or of the opening quote of a string, or of the first byte of anything else. Who made
 * them has checked UTF-8, control characters in strings, and that strings are closed.
 */
#ifndef CMQ_JSON_WALK_H
#define CMQ_JSON_WALK_H

#include "common/base/cmq_buf.h"
#include "common/wire/cmq_json_in.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CMQ_JSON_DEPTH_MAX 32u
#define CMQ_JSON_NO_INDEX  UINT32_MAX

struct cmq_walk {
    const uint8_t *body;
    size_t bytes;
    const uint8_t *readable_end; /* what stands there may be read, up to here: not before body + bytes */
    const uint32_t *tokens;
    uint32_t count; /* of tokens */
    uint32_t next;  /* token */
    uint32_t index; /* message that is being read, or CMQ_JSON_NO_INDEX */
    uint32_t messages;
    unsigned depth; /* containers that are open */
    bool has_ids;   /* some message has an id */
    bool inherits;  /* the defaults give every message a time to live or headers */
    bool grows;     /* messages may take more bytes than they have in the body: room is made one by one */
    bool full;      /* there was no room because of buf->bytes_max */
    const struct cmq_json_limits *limits;
    const struct cmq_element_defaults *defaults; /* or NULL */
    struct cmq_buf *buf;
    uint8_t *out; /* end of what is written, behind buf's content */
    struct cmq_json_error *error;
};

static inline size_t cmq_walk_offset(const struct cmq_walk *w, uint32_t token)
{
    return token < w->count ? w->tokens[token] : w->bytes;
}

/* 0 behind the last token; no token begins with it, since the grammar has no NUL. */
static inline uint8_t cmq_walk_byte(const struct cmq_walk *w, uint32_t token)
{
    return token < w->count ? w->body[w->tokens[token]] : 0;
}

/* Both return their err. */
enum cmq_err cmq_walk_fail(const struct cmq_walk *w, enum cmq_err err, size_t offset, const char *text);
enum cmq_err cmq_walk_malformed(const struct cmq_walk *w, uint32_t token, const char *text);

/* Checks the string at w->next and moves behind it. Its first bytes_max bytes go to dst; *ret_bytes is its whole length. */
CMQ_MUST_USE enum cmq_err cmq_walk_string(struct cmq_walk *w, uint8_t *dst, size_t bytes_max,
                                          size_t *ret_bytes);
/* The same for `"key":`. */
CMQ_MUST_USE enum cmq_err cmq_walk_key(struct cmq_walk *w, uint8_t *dst, size_t bytes_max, size_t *ret_bytes);
/* Checks the value at w->next and moves behind it. */
CMQ_MUST_USE enum cmq_err cmq_walk_skip(struct cmq_walk *w);
/* Where the value ended behind which w->next stands. */
size_t cmq_walk_value_end(const struct cmq_walk *w);

#ifdef __cplusplus
}
#endif

#endif
