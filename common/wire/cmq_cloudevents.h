/*
 * cmq_cloudevents: CloudEvents 1.0 -> messages (cloudevents/spec: core, JSON format, HTTP binding, all 1.0.2).
 * Ownership: bodies are borrowed; see each function.
 * Units: bytes, messages.
 * Errors: CMQ_ERR_MALFORMED, CMQ_ERR_TOO_BIG with a sentence that names the attribute; CMQ_ERR_NOMEM.
 * Callers: one thread a parser or a set.
 *
 * A message has the event's data as its body, datacontenttype as its type, and every other attribute as a header "ce-NAME".
 * An attribute's name is 1 or more of a-z 0-9 (core, naming conventions); its value a string, a boolean or a whole number
 * of 32 bits; null is the same as absent. Needed: specversion "1.0", id, source, type, none of them empty. time is
 * of RFC 3339. Control characters, U+007F..U+009F and noncharacters are refused in all of them.
 * JSON format: data of a JSON type (subtype json or ...+json, or none given) is kept as it stands, also a string, with its quotes;
 * of another type it must be a string and is its text. data_base64 (RFC 4648, section 4, padded) becomes octets.
 */
#ifndef CMQ_CLOUDEVENTS_H
#define CMQ_CLOUDEVENTS_H

#include "common/base/cmq_reason.h"
#include "common/wire/cmq_headers.h"
#include "common/wire/cmq_json_in.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CMQ_CLOUDEVENTS_TYPE       "application/cloudevents+json"
#define CMQ_CLOUDEVENTS_BATCH_TYPE "application/cloudevents-batch+json"

/* application/cloudevents+json: one event. defaults may be NULL. As cmq_json_parse_single. */
CMQ_MUST_USE enum cmq_err cmq_cloudevents_parse(struct cmq_json_parser *parser, struct cmq_span body,
                                                const struct cmq_json_limits *limits,
                                                const struct cmq_element_defaults *defaults,
                                                struct cmq_buf *messages, struct cmq_json_found *ret_found,
                                                struct cmq_json_error *ret_error);
/* application/cloudevents-batch+json: an array of events, may be empty. As cmq_json_parse_topic_batch. */
CMQ_MUST_USE enum cmq_err cmq_cloudevents_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                                      const struct cmq_json_limits *limits,
                                                      const struct cmq_element_defaults *defaults,
                                                      struct cmq_buf *messages,
                                                      struct cmq_json_found *ret_found,
                                                      struct cmq_json_error *ret_error);

/* ---- binary mode ---- */

/* Whether an HTTP header's name begins with "ce-", in any case. */
bool cmq_cloudevents_is_header(struct cmq_span name);
/* Adds the HTTP header "ce-NAME: VALUE" to the set: name in lower case and checked, value without quotes and percent-decoded
 * once (HTTP binding, section 3.1.3.2). What the set borrows is written to memory, which has name.bytes + value.bytes and
 * outlives the set. */
CMQ_MUST_USE enum cmq_err cmq_cloudevents_add_header(struct cmq_headers *headers, struct cmq_span name,
                                                     struct cmq_span value, uint8_t *memory,
                                                     struct cmq_reason *reason);
/* When all headers are in: whether the needed attributes are there and right. Call it if there is any ce- header. */
CMQ_MUST_USE enum cmq_err cmq_cloudevents_check(const struct cmq_headers *headers, struct cmq_reason *reason);

#ifdef __cplusplus
}
#endif

#endif
