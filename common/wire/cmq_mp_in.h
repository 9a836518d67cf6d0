/*
 * cmq_mp_in: a MessagePack request body -> messages.
 * Ownership: the body is borrowed.
 * Units: bytes, messages.
 * Errors: as cmq_json_in.h, offsets into the body. On error *messages is as before.
 * Callers: one thread a parser.
 *
 * The body is one array, and nothing follows it. An element is a str (text, UTF-8), a bin (octets), or a map with the
 * members data (str or bin), and maybe id, type (str), ttl_ms (a whole number, 1..), headers (map of str to str): each at
 * most once, others are refused. data that is a number, an array or a map is refused, since MessagePack has no one text
 * form for it: put JSON text into a str with the type application/json. Text of that type (str or bin) must be JSON.
 */
#ifndef CMQ_MP_IN_H
#define CMQ_MP_IN_H

#include "common/wire/cmq_json_in.h"

/* CMQ_JSON_PADDING readable bytes follow the body. defaults may be NULL. The parser is for data of type application/json. */
CMQ_MUST_USE enum cmq_err cmq_mp_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                             const struct cmq_json_limits *limits,
                                             const struct cmq_element_defaults *defaults,
                                             struct cmq_buf *messages, struct cmq_json_found *ret_found,
                                             struct cmq_json_error *ret_error);

#endif
