/*
 * dsp_text: a text that grows, with room before it for the transport, and the writer of maps in both formats of /v1/ws.
 * Ownership: init/fini on the caller's memory; the bytes belong to the text and last until the next begin.
 * Units: bytes.
 * Errors: CMQ_ERR_NOMEM; the writer keeps it in text->err, so that a whole map is written before anyone looks.
 * Callers: the delivery thread.
 *
 * One buffer serves all frames. It is as large as a usual frame; what a larger one needed is given back after a while.
 */
#ifndef DSP_TEXT_H
#define DSP_TEXT_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

/* SSE and LINES: items in JSON, each an event (WHATWG HTML, server-sent events) or a line of its own; no maps around them. */
enum dsp_format { DSP_FORMAT_JSON, DSP_FORMAT_MSGPACK, DSP_FORMAT_SSE, DSP_FORMAT_LINES, DSP_FORMAT_COUNT };
static inline bool dsp_format_is_framed(enum dsp_format format)
{
    return format == DSP_FORMAT_SSE || format == DSP_FORMAT_LINES;
}

struct dsp_text {
    uint8_t *memory; /* headroom, then capacity bytes */
    size_t headroom, capacity, usual_bytes;
    size_t bytes;
    uint32_t small; /* texts since one needed more than is usual */
    enum cmq_err err;
};

CMQ_MUST_USE enum cmq_err dsp_text_init(struct dsp_text *text, size_t headroom, size_t usual_bytes);
/* Accepts a zeroed struct. */
void dsp_text_fini(struct dsp_text *text);
/* An empty text. */
void dsp_text_begin(struct dsp_text *text);
/* Room for `more` bytes at the returned address, which the caller counts by adding to bytes. NULL: err is set. */
uint8_t *dsp_text_room(struct dsp_text *text, size_t more);
void dsp_text_add(struct dsp_text *text, const void *data, size_t bytes);

static inline uint8_t *dsp_text_start(const struct dsp_text *text)
{
    return text->memory + text->headroom;
}

/* ---- maps; JSON and MESSAGEPACK only ---- */

struct dsp_writer {
    struct dsp_text *text;
    enum dsp_format format;
    bool comma; /* JSON: the next value needs one before it */
};

static inline struct dsp_writer dsp_writer_of(struct dsp_text *text, enum dsp_format format)
{
    return (struct dsp_writer){.text = text, .format = format};
}

/* Exactly as many pairs (values) must follow, then the end. */
void dsp_write_map(struct dsp_writer *writer, uint32_t pairs);
void dsp_write_map_end(struct dsp_writer *writer);
void dsp_write_array(struct dsp_writer *writer, uint32_t values);
void dsp_write_array_end(struct dsp_writer *writer);
/* name: a literal that needs no escape. */
void dsp_write_key(struct dsp_writer *writer, const char *name);
/* Valid UTF-8. */
void dsp_write_str(struct dsp_writer *writer, struct cmq_span value);
void dsp_write_text(struct dsp_writer *writer, const char *value);
void dsp_write_uint(struct dsp_writer *writer, uint64_t value);
void dsp_write_nil(struct dsp_writer *writer);

#endif
