/*
 * dsp_ws_guard: what a WebSocket connection may send: fragments of a message, pings and pongs.
 * Ownership: struct dsp_guard is part of its connection.
 * Units: bytes, frames, nanoseconds of CLOCK_MONOTONIC.
 * Errors: results say which rule was broken; the caller closes.
 * Callers: the delivery thread.
 *
 * The library answers pings by itself and tells nobody, so they are counted from outside: the kernel knows how many bytes came
 * and went, and we know those of messages and of frames that we sent. What is left is control frames: a ping of n bytes takes
 * 6 + n of them in and its pong 2 + n out, so a quarter of the difference is how many there were. Pings that the library drops
 * (it answers one at a time) and empty pongs count for more than one. With TLS, which adds bytes of its own, and while a frame is
 * half through, only what came in counts, as if each were of the largest size.
 */
#ifndef DSP_WS_GUARD_H
#define DSP_WS_GUARD_H

#include <libwebsockets.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

struct dsp_guard_limits {
    uint32_t fragments_max, control_rate_max;
};

struct dsp_guard {
    uint64_t frame_bytes;         /* of the data frame that is coming */
    uint64_t in_bytes, out_bytes; /* of data frames, with their heads */
    uint64_t seen_in, seen_out;   /* what the kernel said, less those, at the last look */
    uint64_t looked_ns;           /* 0: it never said anything */
    uint32_t fragments;           /* of the message that is coming */
    uint32_t pongs;               /* since the last look */
    uint32_t strikes;             /* looks in a row that found too much */
    bool peer_closed, ended;
};

/* The connection is a WebSocket now. */
void dsp_guard_begin(struct dsp_guard *guard, struct lws *wsi);
/* Part of a message came (LWS_CALLBACK_RECEIVE). False: in too many fragments. */
CMQ_MUST_USE bool dsp_guard_received(struct dsp_guard *guard, const struct dsp_guard_limits *limits,
                                     struct lws *wsi, size_t bytes);
/* A pong with so many bytes in it came. */
void dsp_guard_pong(struct dsp_guard *guard, size_t bytes);
/* A frame of so many bytes was given to the library. */
static inline void dsp_guard_sent(struct dsp_guard *guard, size_t bytes)
{
    guard->out_bytes += bytes + (bytes < 126 ? 2u : bytes < 65536 ? 4u : 10u);
}
/* To be asked about once a second while it is read from. False: it sent more control frames than allowed, several times in a
 * row. */
CMQ_MUST_USE bool dsp_guard_look(struct dsp_guard *guard, const struct dsp_guard_limits *limits,
                                 struct lws *wsi, uint64_t now_ns);

/* LWS_CALLBACK_SERVER_WRITEABLE of a WebSocket comes here first. True: it is being closed, there is nothing more to write. The
 * library asks all the same once the close frame is out; who closes once more then ends the connection at once, and if the peer is
 * sending, the kernel throws the close frame away. So the peer has this long to answer;
 * then comes LWS_CALLBACK_TIMER, which nothing else uses. */
#define DSP_CLOSE_ANSWER_MS 200u
bool dsp_guard_is_closing(struct lws *wsi);
/* The peer sent a close frame. */
static inline void dsp_guard_peer_closed(struct dsp_guard *guard)
{
    guard->peer_closed = true;
}
/* We end it for another reason than what it sent. */
static inline void dsp_guard_end(struct dsp_guard *guard)
{
    guard->ended = true;
}
/* At LWS_CALLBACK_CLOSED: whether the connection ended because of what the peer sent. */
bool dsp_guard_is_fault(const struct dsp_guard *guard, struct lws *wsi);

#endif
