/*
 * bench_ws: a WebSocket client that only listens (RFC 6455): opening handshake, frames in, pongs out.
 * Ownership: open/close; the stream inside belongs to the connection, the caller may initialise it anew between
 *            messages.
 * Units: bytes, nanoseconds (monotonic), milliseconds.
 * Errors: CMQ_ERR_TIMEOUT (nothing came for BENCH_WS_WAIT_MS), CMQ_ERR_LOST (closed), CMQ_ERR_MALFORMED (a frame
 *         that a server must not send), CMQ_ERR_SYSTEM; with the sentence.
 * Callers: one thread at a time.
 */
#ifndef BENCH_WS_H
#define BENCH_WS_H

#include "tests/bench/bench_link.h"
#include "tests/bench/bench_stream.h"

#define BENCH_WS_WAIT_MS 50

struct bench_ws {
    struct bench_stream stream;
    uint64_t frames;     /* data frames received whole */
    uint64_t text_bytes; /* payload of data frames */
    uint64_t pings;
    bool in_message;

    struct bench_link link;
    uint8_t *memory;
    size_t pending_bytes; /* came behind the handshake's reply, not read yet */
    uint8_t head[14];
    unsigned head_bytes;
    bool in_payload, fin, is_control;
    unsigned opcode;
    uint64_t left; /* of the payload at hand */
    uint8_t control[125];
    size_t control_bytes;
};

CMQ_MUST_USE enum cmq_err bench_ws_open(const struct bench_address *address, unsigned timeout_ms,
                                        struct bench_ws **ret_ws, struct cmq_reason *reason);
/* Sends a close frame, waits for nothing. NULL is fine. */
void bench_ws_close(struct bench_ws *ws);
/* Takes what is there, or waits for it, and feeds the stream. ret_now_ns: when it was received. */
CMQ_MUST_USE enum cmq_err bench_ws_read(struct bench_ws *ws, uint64_t *ret_now_ns, struct cmq_reason *reason);

#endif
