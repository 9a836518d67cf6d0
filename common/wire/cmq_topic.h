/*
 * cmq_topic: names of topics.
 * Ownership: borrows.
 * Units: bytes; 1..255 of them.
 * Errors: CMQ_ERR_INVALID with a sentence naming rule and position.
 * Callers: any thread.
 *
 * A topic is levels of [A-Za-z0-9_-]+ separated by single dots, at most 32 levels. Names that begin with '$' belong to
 * the broker: the first level may begin with '$' only if allow_system is set.
 */
#ifndef CMQ_TOPIC_H
#define CMQ_TOPIC_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

#define CMQ_TOPIC_LEVELS_MAX 32u
#define CMQ_TOPIC_DEFAULT    "default"

CMQ_MUST_USE enum cmq_err cmq_topic_check(struct cmq_span topic, bool allow_system,
                                          struct cmq_reason *reason);
/* Pattern: as a topic, but a level may be `*` (one level) and the last may be `>` (one or more levels) (NATS subjects).
 * The first level may begin with '$'; whether the caller may have system topics is not decided here. */
CMQ_MUST_USE enum cmq_err cmq_topic_pattern_check(struct cmq_span pattern, struct cmq_reason *reason);
/* Both already checked. A wildcard in the first level does not match a system topic (MQTT 5.0, section 4.7.2). */
bool cmq_topic_matches(struct cmq_span pattern, struct cmq_span topic);

#endif
