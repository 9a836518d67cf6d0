/*
 * cmq_json_in_int: what cmq_json_in gives to the other readers of JSON bodies.
 * Ownership: as cmq_json_in.h; a walk borrows the parser's tokens until the parser is used again.
 * Units: bytes.
 * Errors: as cmq_json_in.h.
 * Callers: common/wire.
 */
#ifndef CMQ_JSON_IN_INT_H
#define CMQ_JSON_IN_INT_H

#include "common/wire/cmq_json_messages.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cmq_json_order {
    struct cmq_span body;
    const struct cmq_json_limits *limits;
    const struct cmq_element_defaults *defaults;
    cmq_json_document *read;
    bool list; /* there are several messages, so that an error may have an index */
};

/* Tokens, and what order->read makes of them. */
CMQ_MUST_USE enum cmq_err cmq_json_parse_document(struct cmq_json_parser *parser,
                                                  const struct cmq_json_order *order,
                                                  struct cmq_buf *messages, struct cmq_json_found *ret_found,
                                                  struct cmq_json_error *ret_error);

void cmq_json_begin_walk(struct cmq_walk *ret_walk, struct cmq_span body,
                         const struct cmq_json_limits *limits, const struct cmq_element_defaults *defaults,
                         struct cmq_buf *messages, struct cmq_json_error *error);
/* Fills w's tokens; none of a blank text. w->bytes is at most cmq_json_body_bytes_max. CMQ_ERR_MALFORMED: some byte cannot be
 * part of JSON, see cmq_json_find_flaw; CMQ_ERR_NOMEM. Says nothing in w->error. */
CMQ_MUST_USE enum cmq_err cmq_json_tokenize(struct cmq_json_parser *parser, struct cmq_walk *w);
size_t cmq_json_body_bytes_max(const struct cmq_json_parser *parser);
/* Gives back what a large body took. */
void cmq_json_trim(struct cmq_json_parser *parser);

#ifdef __cplusplus
}
#endif

#endif
