/*
 * dsp_encode: messages -> items of a frame, as JSON or MessagePack.
 * Ownership: an encoder is the caller's memory and borrows the source. What it encodes for all subscribers belongs to the
 *            record (record->encoded[format]) and is freed with it through dsp_encode_free.
 * Units: bytes of text, messages; index = number of a message in its record.
 * Errors: CMQ_ERR_MALFORMED (what follows in the unit is no message), CMQ_ERR_NOMEM.
 * Callers: the delivery thread.
 *
 * An item is {"id":"12-0","data":"...","ts":1732480000000}, with "data_base64" for octets (JSON only), "type", "headers" and
 * "attempt" if there are any. Text of type application/json is the value itself in a JSON frame, and text with its type
 * in a MessagePack frame. A message that was left out is no item, and neither is one whose time is over.
 * SSE and LINES have the JSON items, framed as they are copied.
 * Units are encoded in pages of some hundred messages, each when it is first wanted, so that the work for one frame is
 * bounded however large the record is. Groups' items have an attempt, so those are encoded for each delivery.
 */
#ifndef DSP_ENCODE_H
#define DSP_ENCODE_H

#include "dispatcher/dsp_source.h"
#include "dispatcher/dsp_text.h"

struct dsp_encoder {
    struct dsp_source *source;
    struct dsp_text scratch;
    uint64_t (*clock_ms)(void); /* since 1970; tests have their own */
};

CMQ_MUST_USE enum cmq_err dsp_encoder_init(struct dsp_encoder *encoder, struct dsp_source *source);
/* Accepts a zeroed struct. */
void dsp_encoder_fini(struct dsp_encoder *encoder);
/* The hook of dsp_source. */
void dsp_encode_free(void *encoded);

/* The items of one frame: where they go, and how many may. Only a single item that is larger alone exceeds bytes_max. */
struct dsp_items {
    struct dsp_text *text;
    enum dsp_format format;
    size_t bytes_max; /* of the whole text */
    uint32_t count_max;
    uint32_t count;
    size_t head_bytes;     /* of the text before the first item; dsp_push's */
    struct cmq_span topic; /* of the items; SSE and LINES */
};

/* Appends the unit's items from message `index` on, as many as go into the frame. *ret_index (always written): the message
 * that was not taken; behind the unit's last one when all were. CMQ_ERR_MALFORMED: message *ret_index cannot be read. The
 * record is open, the unit readable. */
CMQ_MUST_USE enum cmq_err dsp_encode_shared(struct dsp_encoder *encoder, struct dsp_record *record,
                                            const struct dsp_unit *unit, uint32_t index,
                                            struct dsp_items *items, uint32_t *ret_index);

/* Messages of a delivery of a group. */
struct dsp_run {
    uint64_t seq, ts_ms;
    uint32_t first, count, attempt;
    struct cmq_span messages; /* from `first` on */
    uint64_t now_ms;          /* messages whose time is over by then are no items */
};
/* Appends items of the run, as many as go into the frame. *ret_taken messages were read, *ret_bytes of them, *ret_left_out
 * among them were no items (all always written). */
CMQ_MUST_USE enum cmq_err dsp_encode_run(struct dsp_items *items, const struct dsp_run *run,
                                         uint32_t *ret_taken, size_t *ret_bytes, uint32_t *ret_left_out);

#endif
