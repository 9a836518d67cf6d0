/*
 * dsp_push: frames that the broker sends by itself: messages of one topic, and gaps.
 * Ownership: writes to the caller's text.
 * Units: messages, bytes.
 * Errors: text->err.
 * Callers: the delivery thread.
 *
 * {"msgs":{"sub":2,"topic":"orders.eu","items":[...]}}, of a group with "group"; {"gap":{"sub":2,"from":..,"to":..,"reason":..}}
 * SSE, LINES: the items alone (dsp_item_frame); a gap is an event `gap`, or a line {"gap":{"from":..,"to":..,"reason":..}}.
 */
#ifndef DSP_PUSH_H
#define DSP_PUSH_H

#include "common/wire/cmq_id.h"
#include "dispatcher/dsp_encode.h"

struct dsp_push_limits {
    size_t frame_bytes_max;
    uint32_t frame_messages_max;
};

/* Begins the text with everything up to the first item, and prepares *ret_items. group.bytes 0: none. topic: valid until the
 * end. */
void dsp_push_begin(struct dsp_text *text, enum dsp_format format, const struct dsp_push_limits *limits,
                    uint64_t sub, struct cmq_span group, struct cmq_span topic, struct dsp_items *ret_items);
/* At least one item was added. */
void dsp_push_end(struct dsp_items *items);

/* Messages with from <= id < to may be missing. */
void dsp_push_gap(struct dsp_text *text, enum dsp_format format, uint64_t sub, struct cmq_id from,
                  struct cmq_id to, const char *reason);

/* What a client says to go on at `next`: the id of the message before it, whether or not there is one. */
struct cmq_id dsp_push_before(struct cmq_id next);

#endif
