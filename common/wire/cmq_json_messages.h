/*
 * cmq_json_messages: the JSON bodies of the API, walked token by token; contents are copied out on the way.
 * Ownership: as cmq_json_walk.h; messages are written behind w->buf, which grows by them only when all was right.
 * Units: bytes, messages.
 * Errors: those of cmq_json_in.h, told in *w->error.
 * Callers: cmq_json_in, cmq_ndjson.
 */
#ifndef CMQ_JSON_MESSAGES_H
#define CMQ_JSON_MESSAGES_H

#include "common/wire/cmq_json_walk.h"

#ifdef __cplusplus
extern "C" {
#endif

/* w is at its first token and becomes w->count tokens further. */
typedef enum cmq_err cmq_json_document(struct cmq_walk *w);
cmq_json_document cmq_json_read_single, cmq_json_read_batch, cmq_json_read_topic_batch, cmq_json_read_any;
/* One element of a batch of a topic; w stands behind it then. */
enum cmq_err cmq_json_read_element(struct cmq_walk *w);

#ifdef __cplusplus
}
#endif

#endif
