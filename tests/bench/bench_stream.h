/*
 * bench_stream: JSON arrays of strings, in pieces as they come from the socket -> message numbers.
 * Ownership: plain caller's memory; borrows verify and the pieces.
 * Units: bytes, messages.
 * Errors: text that is no JSON array of strings is counted in `corrupt`; the rest of that WebSocket message is
 *         ignored.
 * Callers: one thread at a time.
 *
 * A string equal to the expected next message costs three word compares; anything else goes byte by byte (RFC
 * 8259, escapes and surrogate pairs included), so what is not ours, or split between two pieces, is merely
 * slower.
 */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "tests/bench/bench_text.h"
#include "tests/bench/bench_verify.h"

/* Bytes behind a piece that must be readable (their content does not matter). */
#define BENCH_STREAM_SLACK BENCH_TEXT_BYTES

enum bench_stream_phase {
    BENCH_STREAM_START,
    BENCH_STREAM_FIRST, /* behind [ */
    BENCH_STREAM_VALUE, /* behind , */
    BENCH_STREAM_STRING,
    BENCH_STREAM_ESCAPE,
    BENCH_STREAM_HEX,
    BENCH_STREAM_AFTER, /* behind a string */
    BENCH_STREAM_DONE,
    BENCH_STREAM_BAD
};

struct bench_stream {
    struct bench_verify *verify; /* NULL: messages are only counted */
    enum bench_stream_phase phase;
    struct bench_text expected;
    uint64_t messages; /* strings seen */
    uint64_t corrupt;  /* WebSocket messages that are no array of strings */

    uint8_t content[64]; /* of the string at hand; longer ones are none of ours */
    size_t content_bytes;
    unsigned hex_left;
    uint32_t hex;
    uint32_t high_surrogate; /* 0: none */
};

void bench_stream_init(struct bench_stream *stream, struct bench_verify *verify);
/* A WebSocket message begins, goes on, ends. now_ns: when the piece was received. */
void bench_stream_begin(struct bench_stream *stream);
void bench_stream_piece(struct bench_stream *stream, const uint8_t *data, size_t bytes, uint64_t now_ns);
void bench_stream_end(struct bench_stream *stream);

#endif
