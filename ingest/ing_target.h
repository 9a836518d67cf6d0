/*
 * ing_target: where a request goes: the path, and what a query must not have. Pure functions.
 * Ownership: a target keeps a copy of the topic.
 * Units: bytes.
 * Errors: in the target: `wrong` and `detail`.
 * Callers: any thread.
 */
#ifndef ING_TARGET_H
#define ING_TARGET_H

#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/wire/cmq_batch.h"
#include "ingest/ing_problem.h"

enum ing_route {
    ING_ROUTE_NONE,
    ING_ROUTE_ANY, /* "*", for OPTIONS */
    ING_ROUTE_ROOT,
    ING_ROUTE_HEALTH,
    ING_ROUTE_READY,
    ING_ROUTE_METRICS,
    ING_ROUTE_OPENAPI,
    ING_ROUTE_SINGLE,     /* /input; from here on: routes that take messages */
    ING_ROUTE_BATCH,      /* /input/batch */
    ING_ROUTE_TOPIC,      /* /v1/topics/{topic} */
    ING_ROUTE_TOPIC_BATCH /* /v1/topics/{topic}/batch */
};

enum ing_method { ING_METHOD_GET, ING_METHOD_HEAD, ING_METHOD_POST, ING_METHOD_OPTIONS, ING_METHOD_OTHER };

/* Where a request goes. */
struct ing_target {
    enum ing_route route;
    bool has_secret;             /* the query names a token */
    enum ing_problem_kind wrong; /* of the topic; detail says it then */
    uint8_t topic_bytes;         /* of /input too */
    uint8_t topic[CMQ_TOPIC_BYTES_MAX];
    char detail[200];
};

/* text: the request target as it was sent. A query is looked at only for tokens; nothing is decoded, so an escaped path is
 * not found. */
void ing_target_parse(struct ing_target *ret_target, const char *text);
static inline bool ing_route_takes_messages(enum ing_route route)
{
    return route >= ING_ROUTE_SINGLE;
}
static inline struct cmq_span ing_target_topic(const struct ing_target *target)
{
    return cmq_span_make(target->topic, target->topic_bytes);
}
enum ing_method ing_method_of(const char *method);
bool ing_method_fits(enum ing_route route, enum ing_method method);
/* The methods for the Allow header; NULL for ING_ROUTE_NONE. */
const char *ing_route_allow(enum ing_route route);

#endif
