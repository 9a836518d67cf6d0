/*
 * dsp_frame: builds the text of one WebSocket frame, a JSON array of strings, in a buffer that is used again and
 *            again.
 * Ownership: init/fini on the caller's memory; the text belongs to the frame and lasts until the next begin.
 * Units: bytes of text, messages. bytes_max is exceeded only by a single message that is larger: it goes alone.
 * Errors: CMQ_ERR_NOMEM.
 * Callers: the delivery thread.
 */
#ifndef DSP_FRAME_H
#define DSP_FRAME_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "common/wire/cmq_mp.h"

struct dsp_frame {
    uint8_t *memory; /* headroom, then capacity bytes of text */
    size_t headroom, capacity;
    size_t bytes;
    uint32_t messages; /* in the text */
    uint32_t skipped;  /* taken, but not text: nothing was written for them */
    uint32_t expired;  /* taken, but their time is over */
    uint64_t now_ms;   /* since 1970, when it was begun */
    size_t bytes_max;
    uint32_t messages_max;
    uint32_t small_frames; /* since the buffer was larger than usual and that was needed */
};

enum dsp_take {
    DSP_TAKE_ALL,  /* as many messages as asked for */
    DSP_TAKE_FULL, /* the next one does not go into this frame */
    DSP_TAKE_BAD,  /* the next one is no message: what follows cannot be read */
    DSP_TAKE_NOMEM
};

/* headroom: bytes before the text that the transport may write to. */
CMQ_MUST_USE enum cmq_err dsp_frame_init(struct dsp_frame *frame, size_t headroom, size_t bytes_max,
                                         uint32_t messages_max);
void dsp_frame_fini(struct dsp_frame *frame);
/* New limits, from the next begin on. */
void dsp_frame_set_limits(struct dsp_frame *frame, size_t bytes_max, uint32_t messages_max);

/* Starts an empty frame of what is not over at now_ms. */
CMQ_MUST_USE enum cmq_err dsp_frame_begin(struct dsp_frame *frame, uint64_t now_ms);
/* Takes up to `count` messages; *ret_taken (always written) of them are behind reader->next then. */
CMQ_MUST_USE enum dsp_take dsp_frame_take(struct dsp_frame *frame, struct cmq_mp_reader *reader,
                                          uint32_t count, uint32_t *ret_taken);
/* Closes the array. The text is at the returned address, `headroom` writable bytes before it. */
uint8_t *dsp_frame_end(struct dsp_frame *frame, size_t *ret_bytes);

#endif
