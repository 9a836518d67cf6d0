/*
 * cmq_json_in: JSON request bodies -> MessagePack messages. The only user of simdjson.
 * Ownership: a parser is heap memory, reused from request to request; bodies are borrowed.
 * Units: bytes, messages.
 * Errors: CMQ_ERR_MALFORMED, CMQ_ERR_TOO_BIG with struct cmq_json_error; CMQ_ERR_NOMEM. On error *messages is as before.
 * Callers: one thread a parser.
 *
 * Strings arrive byte-exact: escapes (also \u0000 and surrogate pairs) are decoded to UTF-8; lone surrogates and invalid
 * UTF-8 are refused. Unknown members are ignored in the bodies of the original API. A known member twice is refused.
 * A byte order mark, anything behind the object, and more than 32 levels of nesting are refused. (RFC 8259; the original
 * service took the same bodies.) The whole body is checked, also what is ignored, before a message is kept.
 * A parser holds at most 4 bytes of memory per byte of body_bytes_max, and keeps at most 4 MiB between two bodies.
 */
#ifndef CMQ_JSON_IN_H
#define CMQ_JSON_IN_H

#include "common/base/cmq_buf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes behind the body that must be readable (their content does not matter). */
#define CMQ_JSON_PADDING 64u

struct cmq_json_parser;

struct cmq_json_limits {
    size_t message_bytes_max;
    uint32_t messages_max;
    size_t headers_bytes_max; /* names and values of one message's headers; 0: none are taken */
    uint64_t ttl_ms_max;      /* 0: CMQ_TTL_MS_MAX */
};

#define CMQ_TTL_MS_MAX 315360000000u /* ten years */

/* What the elements of a batch get that do not say it themselves. Borrowed for the call. */
struct cmq_element_defaults {
    uint64_t accepted_at_ms; /* what every ttl counts from */
    uint64_t ttl_ms;         /* 0: none */
    struct cmq_span headers; /* packed, of cmq_headers_write; an element's own win; bytes 0: none */
};

struct cmq_json_error {
    size_t offset;  /* byte position in the body; SIZE_MAX if it isn't known */
    uint32_t index; /* index of the message; UINT32_MAX when the error isn't inside one */
    char text[160]; /* what is wrong and what is expected; of the body at most an unknown name, in ASCII */
};

CMQ_MUST_USE enum cmq_err cmq_json_parser_new(size_t body_bytes_max, struct cmq_json_parser **ret_parser);
void cmq_json_parser_free(struct cmq_json_parser *parser);

struct cmq_json_found {
    uint32_t messages;
    bool has_ids; /* some message has an id */
};

/* The first two reserve body.bytes in *messages (CMQ_ERR_TOO_BIG if it may not grow that far) and never append more, unless
 * there are defaults. defaults may be NULL. */

/* {"content":"...", "id"?:"..."}: appends one message. */
CMQ_MUST_USE enum cmq_err cmq_json_parse_single(struct cmq_json_parser *parser, struct cmq_span body,
                                                const struct cmq_json_limits *limits,
                                                const struct cmq_element_defaults *defaults,
                                                struct cmq_buf *messages, struct cmq_json_found *ret_found,
                                                struct cmq_json_error *ret_error);
/* {"messages":[{"content":"...", "id"?:"..."},...]}: appends the messages, may be none. */
CMQ_MUST_USE enum cmq_err cmq_json_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                               const struct cmq_json_limits *limits,
                                               const struct cmq_element_defaults *defaults,
                                               struct cmq_buf *messages, struct cmq_json_found *ret_found,
                                               struct cmq_json_error *ret_error);
/* ["...", {"data":any value, "id"?:"...", "type"?:"...", "ttl_ms"?:1.., "headers"?:{"name":"value"}}, ...]: the same. Here
 * unknown members are refused. A value that is no string is kept as it stands in the body, of the type application/json
 * unless another is given. */
CMQ_MUST_USE enum cmq_err cmq_json_parse_topic_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                                     const struct cmq_json_limits *limits,
                                                     const struct cmq_element_defaults *defaults,
                                                     struct cmq_buf *messages,
                                                     struct cmq_json_found *ret_found,
                                                     struct cmq_json_error *ret_error);
/* Whether the body is one JSON value, of any kind. */
CMQ_MUST_USE enum cmq_err cmq_json_check(struct cmq_json_parser *parser, struct cmq_span body,
                                         struct cmq_json_error *ret_error);

bool cmq_utf8_is_valid(struct cmq_span text);

#ifdef __cplusplus
}
#endif

#endif
