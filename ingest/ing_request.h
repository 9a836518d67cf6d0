/*
 * ing_request: the rules for a request head: path, topic, method, headers, declared length. Pure functions.
 * Ownership: a head borrows the spans of its headers; a target keeps a copy.
 * Units: bytes.
 * Errors: a struct ing_problem; ING_PROBLEM_NONE means that the request may go on.
 * Callers: any thread.
 *
 * The HTTP library lets through what a smuggler needs: several lengths, length and coding, odd names. A
 * request that two parsers could read differently is refused here, and its connection closed (RFC 9112,
 * sections 3.2, 5, 6, 11.2). Bare LF, folded lines and what follows a NUL are gone before we see them.
 */
#ifndef ING_REQUEST_H
#define ING_REQUEST_H

#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_type.h"
#include "ingest/ing_problem.h"

enum ing_route {
    ING_ROUTE_NONE,
    ING_ROUTE_ROOT,
    ING_ROUTE_SINGLE,     /* /input */
    ING_ROUTE_BATCH,      /* /input/batch */
    ING_ROUTE_TOPIC,      /* /v1/topics/{topic} */
    ING_ROUTE_TOPIC_BATCH /* /v1/topics/{topic}/batch */
};

enum ing_ack { ING_ACK_UNSAID, ING_ACK_ACCEPTED, ING_ACK_DURABLE };

/* Where a request goes. */
struct ing_target {
    enum ing_route route;
    enum ing_problem_kind wrong; /* of the topic; detail says it then */
    uint8_t topic_bytes;
    uint8_t topic[CMQ_TOPIC_BYTES_MAX];
    char detail[200];
};

/* Collected over one pass of the headers. The spans are those of the headers. */
struct ing_head {
    uint32_t seen;      /* bit set of headers that may come once only */
    const char *broken; /* first rule that was broken; static text */
    const char *wrong;  /* first value that is not allowed, though the framing is sound; static text */
    bool has_length;
    bool chunked;
    bool coding_is_identity;
    enum cmq_type type;
    enum ing_ack ack;
    struct cmq_span type_text; /* bytes 0: none */
    struct cmq_span key;       /* Idempotency-Key; bytes 0: none */
    uint64_t content_length;
};

void ing_head_init(struct ing_head *head);
/* One header. Returns false once a rule is broken; the rest need not be looked at. */
bool ing_head_add(struct ing_head *head, struct cmq_span name, struct cmq_span value);

/* text: the request target as it was sent. A query is ignored; nothing is decoded, so an escaped path is not found. */
void ing_target_parse(struct ing_target *ret_target, const char *text);
/* The methods for the Allow header; NULL for ING_ROUTE_NONE. */
const char *ing_request_allow(enum ing_route route);
/* True if the head announces a body of at least one byte. */
bool ing_request_has_body(const struct ing_head *head);

/* Judges a complete head. version: "HTTP/1.1". The order of the rules is the order of their danger: framing
 * first. */
struct ing_problem ing_request_judge(const struct ing_head *head, const struct ing_target *target,
                                     const char *method, const char *version, uint64_t body_bytes_max);

#endif
