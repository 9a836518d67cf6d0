/*
 * bench_http: requests out, replies in; as much of HTTP/1.1 as the load needs (RFC 9112).
 * Ownership: a body owns its buffer; replies are parsed in place.
 * Units: bytes.
 * Errors: CMQ_ERR_AGAIN (reply not whole yet), CMQ_ERR_MALFORMED, CMQ_ERR_TOO_BIG, CMQ_ERR_NOMEM.
 * Callers: any thread; a body belongs to one thread at a time.
 */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

#define BENCH_REPLY_BYTES_MAX 16384u

/* A request: head and body back to back, so that one send takes both. */
struct bench_request {
    uint8_t *memory;
    struct cmq_span whole;
    size_t body_bytes;
};

struct bench_request_form {
    const char *host;  /* for the Host field */
    bool single;       /* POST /input with one message instead of POST /input/batch */
    uint32_t size;     /* most messages in one request */
    const char *topic; /* NULL: /input; else POST /v1/topics/TOPIC/batch, an array of strings */
    const char *ack;   /* CMQ-Ack; NULL: the broker's default */
    const char *token; /* bearer token; NULL: none */
};

CMQ_MUST_USE enum cmq_err bench_request_init(struct bench_request *request,
                                             const struct bench_request_form *form);
void bench_request_fini(struct bench_request *request);
/* Messages first .. first + count - 1, byte for byte as Python's json.dumps writes what the original script
 * sends. */
void bench_request_build(struct bench_request *request, const struct bench_request_form *form, uint64_t first,
                         uint32_t count);

struct bench_reply {
    unsigned status;
    bool close;   /* the server closes the connection after this reply */
    size_t bytes; /* head and body */
    struct cmq_span body;
};

/* What a 200 says of the messages. */
struct bench_receipt {
    uint64_t seq; /* record of the request; 0: the reply has no id */
    char ack[16]; /* "" if the reply has none */
};
void bench_receipt_parse(struct cmq_span body, struct bench_receipt *ret_receipt);

/* CMQ_ERR_AGAIN until the whole reply is in `in`. Interim 1xx replies are skipped (part of ret_reply->bytes).
 */
CMQ_MUST_USE enum cmq_err bench_reply_parse(struct cmq_span in, struct bench_reply *ret_reply);

#endif
