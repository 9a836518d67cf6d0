/*
 * bench_v1: a WebSocket client of the v1 protocol, in JSON or MessagePack.
 * Ownership: open/close; a scratch is shared by all connections of one thread.
 * Units: bytes, nanoseconds (monotonic), milliseconds.
 * Errors: CMQ_ERR_AGAIN (nothing there), CMQ_ERR_LOST (closed; close_code), CMQ_ERR_MALFORMED, CMQ_ERR_TIMEOUT,
 *         CMQ_ERR_INVALID (an error reply to a command), CMQ_ERR_SYSTEM, CMQ_ERR_NOMEM; with the sentence.
 * Callers: one thread at a time.
 */
#ifndef BENCH_V1_H
#define BENCH_V1_H

#include "tests/bench/bench_link.h"
#include "tests/bench/bench_push.h"

#define BENCH_V1_COMMAND_BYTES_MAX 1024u

/* Memory that sockets are read into; a zeroed one is empty. */
struct bench_scratch {
    uint8_t *data;
    size_t capacity;
};
void bench_scratch_fini(struct bench_scratch *scratch);

struct bench_v1 {
    struct bench_link link;
    bool msgpack;
    uint64_t last_id;    /* of the commands sent */
    unsigned close_code; /* the broker's; 0: open */
    uint64_t frames, payload_bytes;

    struct bench_scratch kept; /* begin of a frame that is not whole */
    size_t kept_bytes;
    struct bench_scratch parts; /* of a fragmented message */
    size_t parts_bytes;
    bool in_parts;
    uint8_t out[4u * BENCH_V1_COMMAND_BYTES_MAX]; /* what the socket did not take yet */
    size_t out_bytes;
};

/* Handshake and connect command. */
CMQ_MUST_USE enum cmq_err bench_v1_open(const struct bench_address *address, bool msgpack,
                                        unsigned timeout_ms, struct bench_v1 **ret_v1,
                                        struct cmq_reason *reason);
void bench_v1_close(struct bench_v1 *v1);

/* One member of a command's map: a text, or a number. */
struct bench_field {
    const char *key;
    const char *text; /* NULL: number */
    uint64_t number;
};
/* Sends a command with the next id; the reply comes like any other message. CMQ_ERR_FULL: the broker reads nothing. */
CMQ_MUST_USE enum cmq_err bench_v1_command(struct bench_v1 *v1, const char *name,
                                           const struct bench_field *fields, size_t count,
                                           struct cmq_reason *reason);
/* What the socket did not take before; true when nothing is left. */
bool bench_v1_flush(struct bench_v1 *v1);

typedef enum cmq_err bench_v1_message(void *context, struct cmq_span message, uint64_t now_ns,
                                      struct cmq_reason *reason);
/* One read of the socket; every whole message is passed on. An error of on_message ends it. */
CMQ_MUST_USE enum cmq_err bench_v1_read(struct bench_v1 *v1, struct bench_scratch *scratch,
                                        bench_v1_message *on_message, void *context,
                                        struct cmq_reason *reason);
/* Reads until the reply to the last command has come; nothing but heartbeats may come before it. */
CMQ_MUST_USE enum cmq_err bench_v1_wait(struct bench_v1 *v1, struct bench_scratch *scratch,
                                        unsigned timeout_ms, struct cmq_reason *reason);

/* The text of a command; returns its bytes. Not for texts that need escapes. */
size_t bench_v1_command_text(uint8_t ret_text[BENCH_V1_COMMAND_BYTES_MAX], bool msgpack, uint64_t id,
                             const char *name, const struct bench_field *fields, size_t count);

#endif
