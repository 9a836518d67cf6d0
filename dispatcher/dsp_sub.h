/*
 * dsp_sub: a subscription: everything of some topics, in order, from a place in the log on, at the subscriber's pace.
 * Ownership: the caller's memory; source, encoder and text are borrowed for a call. No record is held between calls.
 * Units: messages; a cursor stands before message index of record seq.
 * Errors: CMQ_ERR_INVALID with a sentence; fill: by its result.
 * Callers: the delivery thread.
 *
 * A subscription has a cursor, not a queue: when its client can take a frame, the frame is built from the records that
 * follow. Records without a topic of it cost a look at their topics. What the log does not have any more, or cannot be
 * read, is told as a gap.
 */
#ifndef DSP_SUB_H
#define DSP_SUB_H

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_id.h"
#include "dispatcher/dsp_encode.h"
#include "dispatcher/dsp_push.h"

struct dsp_cursor {
    struct cmq_id next;         /* first message that is not passed yet */
    struct cmq_journal_pos pos; /* hint where its record begins */
};

/* "earliest", "latest", or an id: what comes behind that message. */
CMQ_MUST_USE enum cmq_err dsp_cursor_parse(struct dsp_source *source, struct cmq_span since,
                                           struct dsp_cursor *ret_cursor, struct cmq_reason *reason);

struct dsp_sub {
    uint64_t id;
    struct dsp_cursor cursor;
    uint8_t pattern[CMQ_TOPIC_BYTES_MAX]; /* checked */
    uint8_t pattern_bytes;
    bool plain;              /* no wildcard in it */
    uint32_t frame_messages; /* in the last frame */
};

void dsp_sub_init(struct dsp_sub *ret_sub, uint64_t id, struct cmq_span pattern,
                  const struct dsp_cursor *cursor);

/* For who waits at the end of the log, when that has moved: passes records of other topics, without a frame. True: it stands
 * at the end again. False: dsp_sub_fill has something to say, or many records to look at. */
bool dsp_sub_pass(struct dsp_sub *sub, struct dsp_source *source);

enum dsp_fill_result {
    DSP_SUB_FRAME, /* the text is a frame to be sent; there may be more */
    DSP_SUB_TAIL,  /* nothing; ask again when the log has more */
    DSP_SUB_MORE,  /* nothing among many records; ask again soon, when others had their turn */
    DSP_SUB_FAILED /* *ret_err; the process should end */
};
/* Builds the next frame: as much of one topic as is there and goes into it, or a gap. */
CMQ_MUST_USE enum dsp_fill_result dsp_sub_fill(struct dsp_sub *sub, struct dsp_encoder *encoder,
                                               enum dsp_format format, const struct dsp_push_limits *limits,
                                               struct dsp_text *text, enum cmq_err *ret_err);

#endif
