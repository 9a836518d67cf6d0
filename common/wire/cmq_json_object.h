/*
 * cmq_json_object: objects and lists of a body, and the parts of one message -> the message.
 * Ownership: as cmq_json_walk.h.
 * Units: bytes, tokens, milliseconds.
 * Errors: those of cmq_json_in.h, told in *w->error.
 * Callers: the readers of bodies.
 */
#ifndef CMQ_JSON_OBJECT_H
#define CMQ_JSON_OBJECT_H

#include "common/wire/cmq_json_string.h"

#define CMQ_JSON_NO_TOKEN UINT32_MAX

/* The parts of one message. The content stands packed at w->out + 1 meanwhile. */
struct cmq_json_parts {
    size_t content_bytes;   /* packed, with its head */
    bool json;              /* it is the text of a value that is no string */
    uint64_t ttl_ms;        /* 0: none of its own */
    uint32_t headers_token; /* of its own headers, which are right as JSON; or CMQ_JSON_NO_TOKEN */
    size_t id_bytes, type_bytes;
    uint8_t id[CMQ_MESSAGE_ID_BYTES_MAX];
    uint8_t type[CMQ_MESSAGE_TYPE_BYTES_MAX];
};

/* Not the arrays, which are long. */
static inline void cmq_json_parts_init(struct cmq_json_parts *parts)
{
    parts->content_bytes = parts->id_bytes = parts->type_bytes = 0;
    parts->json = false;
    parts->ttl_ms = 0;
    parts->headers_token = CMQ_JSON_NO_TOKEN;
}

typedef enum cmq_err cmq_json_read_value(struct cmq_walk *w, struct cmq_json_parts *parts);

struct cmq_json_member {
    const char *name;
    size_t bytes;
    cmq_json_read_value *read;
};

/* An object of which some members matter; the first of them must be there. */
struct cmq_json_object {
    struct cmq_json_member members[5];
    unsigned count;
    bool strict; /* others are an error */
    const char *expected;
};

/* Reads the object at w->next, which must have its first member. */
CMQ_MUST_USE enum cmq_err cmq_json_read_object(struct cmq_walk *w, const struct cmq_json_object *object,
                                               struct cmq_json_parts *parts);

/* Members. read_content: a string, with room made for it if w->grows. */
cmq_json_read_value cmq_json_read_content, cmq_json_read_id;

/* Room behind a content for what cmq_json_finish_message writes, but headers. */
#define CMQ_JSON_PARTS_ROOM \
    (CMQ_MESSAGE_FULL_BYTES + CMQ_MESSAGE_ID_BYTES_MAX + CMQ_MESSAGE_TYPE_BYTES_MAX + CMQ_JSON_WIDE_BYTES)
/* Makes a message of the parts, with the defaults: plain content if there is nothing else. */
CMQ_MUST_USE enum cmq_err cmq_json_finish_message(struct cmq_walk *w, const struct cmq_json_parts *parts);

/* When the message expires that has this ttl of its own, or 0; 0: never. */
uint64_t cmq_element_expiry_ms(const struct cmq_element_defaults *defaults, uint64_t ttl_ms);
/* Longest ttl that is taken. */
uint64_t cmq_element_ttl_ms_max(const struct cmq_json_limits *limits);
/* Text of a name for an error: cut, and only visible ASCII. Returns shown. */
#define CMQ_JSON_NAME_BYTES_MAX 32
const char *cmq_json_show_name(char shown[CMQ_JSON_NAME_BYTES_MAX + 4], const uint8_t *name, size_t bytes);

/* Reserves for a whole document; w->out begins there. */
CMQ_MUST_USE enum cmq_err cmq_json_reserve(struct cmq_walk *w, size_t bytes);
/* Behind the document: nothing may follow it. Keeps the messages. */
CMQ_MUST_USE enum cmq_err cmq_json_finish_document(struct cmq_walk *w, const char *wrong);

CMQ_MUST_USE enum cmq_err cmq_json_too_many(const struct cmq_walk *w);

/* Reads the array at w->next; read is constant where this is inlined. */
__attribute__((always_inline)) static inline enum cmq_err
cmq_json_read_list(struct cmq_walk *w, enum cmq_err (*read)(struct cmq_walk *w))
{
    w->next++;
    if (cmq_walk_byte(w, w->next) == ']') {
        w->next++;
        return CMQ_OK;
    }
    w->depth++;
    for (;;) {
        w->index = w->messages;
        if (w->messages == w->limits->messages_max)
            return cmq_json_too_many(w);
        enum cmq_err err = read(w);
        if (err != CMQ_OK)
            return err;
        w->messages++;
        w->index = CMQ_JSON_NO_INDEX;
        uint8_t byte = cmq_walk_byte(w, w->next);
        if (byte != ',' && byte != ']')
            return cmq_walk_malformed(w, w->next, "expected ',' or ']' behind a message");
        w->next++;
        if (byte == ']')
            break;
    }
    w->depth--;
    return CMQ_OK;
}

#endif
