/*
 * dsp_item: writes the items of messages, one after the other; the inner loop of delivery.
 * Ownership: a form is the caller's memory; text and reader are borrowed.
 * Units: bytes, messages; index = number of a message in its record.
 * Errors: by the result.
 * Callers: dsp_encode, tests.
 *
 * JSON: {"id":"<seq>-<index>","data":...[,"type":..][,"headers":..],"ts":..[,"attempt":..]}, with its comma.
 * All but index and data is rendered once for many items.
 */
#ifndef DSP_ITEM_H
#define DSP_ITEM_H

#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_text.h"

struct dsp_form {
    enum dsp_format format;
    size_t head_bytes, tail_bytes, seq_bytes;
    uint32_t pairs;   /* MessagePack: of an item with neither type nor headers */
    uint8_t head[40]; /* up to the index; copied whole */
    uint8_t tail[72];
};

/* attempt 0: none is written. */
void dsp_form_init(struct dsp_form *ret_form, enum dsp_format format, uint64_t seq, uint64_t ts_ms,
                   uint32_t attempt);

struct dsp_item_run {
    struct cmq_mp_reader *reader;
    uint32_t index;    /* of the message at reader->next */
    uint32_t count;    /* messages to read at most */
    size_t bytes_max;  /* of the text; an item that exceeds it is taken back */
    bool first_goes;   /* but not the first one of this run */
    uint32_t item_max; /* items to write at most */
    uint64_t now_ms;   /* messages whose time is over by then are no items */
    uint32_t *ends;    /* NULL, or end of every message's item in the text */
};

enum dsp_item_end {
    DSP_ITEM_ALL,  /* count messages were read */
    DSP_ITEM_FULL, /* the next one does not go into the text */
    DSP_ITEM_BAD,  /* the next one is no message */
    DSP_ITEM_NOMEM
};
struct dsp_item_tally {
    uint32_t read, items; /* messages, and how many of them are items */
    uint32_t expired;     /* of those that are not */
    uint64_t until_ms;    /* when the first of the items will be over; UINT64_MAX: never */
};
/* Moves the reader behind the messages that were read. */
CMQ_MUST_USE enum dsp_item_end dsp_item_write(struct dsp_text *text, const struct dsp_form *form,
                                              const struct dsp_item_run *run,
                                              struct dsp_item_tally *ret_tally);

/* Whether it is no item any more. */
bool dsp_item_is_over(const struct cmq_message_full *message, uint64_t now_ms);

/* Appends a JSON item, with its comma, as an event or a line of this topic:
 *   id: 12-0\nevent: message\ndata: {"topic":"orders.eu","id":"12-0","data":...}\n\n
 *   {"topic":"orders.eu","id":"12-0","data":...}\n
 * A JSON value may have line breaks between its tokens, which would end the event or line: they become blanks. */
void dsp_item_frame(struct dsp_text *text, enum dsp_format format, struct cmq_span topic,
                    struct cmq_span item);
/* More than that adds to any item of the topic. */
size_t dsp_item_frame_bytes(enum dsp_format format, struct cmq_span topic);

#endif
