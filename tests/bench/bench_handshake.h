/*
 * bench_handshake: the opening handshake of a WebSocket client (RFC 6455, section 4.1).
 * Ownership: borrows everything.
 * Units: bytes, milliseconds.
 * Errors: CMQ_ERR_TIMEOUT, CMQ_ERR_LOST, CMQ_ERR_MALFORMED (no WebSocket, or another subprotocol), CMQ_ERR_SYSTEM; with
 *         the sentence.
 * Callers: any thread.
 */
#ifndef BENCH_HANDSHAKE_H
#define BENCH_HANDSHAKE_H

#include <stdint.h>

#include "tests/bench/bench_link.h"

#define BENCH_HANDSHAKE_BYTES_MAX 8192u

struct bench_handshake {
    struct bench_link *link; /* open, does not block */
    const char *path;
    const char *subprotocol; /* NULL: none */
    unsigned timeout_ms;
};

/* memory: BENCH_HANDSHAKE_BYTES_MAX + 1. What came behind the reply is left at its start, *ret_pending_bytes of it. */
CMQ_MUST_USE enum cmq_err bench_handshake(const struct bench_handshake *shake, uint8_t *memory,
                                          size_t *ret_pending_bytes, struct cmq_reason *reason);

#endif
