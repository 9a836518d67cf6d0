/*
 * ing_head: the headers of one request, collected in one pass, and what they say. Pure functions.
 * Ownership: a head borrows the spans of its headers.
 * Units: bytes, milliseconds.
 * Errors: two kinds: `broken` (two parsers could read the head differently: 400 and close) and `wrong` (a value is not
 *         allowed); both static texts. Which of them matter for a route is decided in ing_request.
 * Callers: any thread.
 */
#ifndef ING_HEAD_H
#define ING_HEAD_H

#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/wire/cmq_type.h"

#define ING_CARRIED_MAX 32u

enum ing_ack { ING_ACK_UNSAID, ING_ACK_ACCEPTED, ING_ACK_DURABLE };
enum ing_coding { ING_CODING_NONE, ING_CODING_GZIP, ING_CODING_OTHER };

struct ing_head_limits {
    uint32_t headers_max;
    size_t meta_bytes_max; /* names and values that go with a message */
    uint64_t ttl_ms_max;
    bool gzip; /* is taken */
};

enum ing_carried_kind { ING_CARRIED_META, ING_CARRIED_EVENT };

/* A header that goes with the message. */
struct ing_carried {
    enum ing_carried_kind kind;
    struct cmq_span name; /* as it was sent, without CMQ-Meta- */
    struct cmq_span value;
};

/* Collected over one pass of the headers. The spans are those of the headers; bytes 0: none, or empty. */
struct ing_head {
    const struct ing_head_limits *limits;
    uint64_t seen;      /* bit set of headers that may come once only */
    const char *broken; /* first rule that was broken */
    const char *wrong;  /* first value that is not allowed, though the framing is sound */
    uint32_t count;     /* of all headers */
    bool too_many;
    bool has_length;
    bool chunked;
    enum ing_coding coding;
    enum cmq_type type;
    enum ing_ack ack;
    uint64_t content_length;
    uint64_t ttl_ms;           /* 0: none */
    struct cmq_span type_text; /* Content-Type */
    struct cmq_span key;       /* Idempotency-Key */
    struct cmq_span token;     /* of Authorization: Bearer, or X-API-Key */
    struct cmq_span origin;    /* of the page that sends it */
    uint32_t carried_count;
    struct ing_carried carried[ING_CARRIED_MAX]; /* the first carried_count */
};

/* limits must outlive the head. */
void ing_head_init(struct ing_head *head, const struct ing_head_limits *limits);
/* One header. Returns false once a rule is broken; the rest need not be looked at. */
bool ing_head_add(struct ing_head *head, struct cmq_span name, struct cmq_span value);
bool ing_head_has_host(const struct ing_head *head);
/* True if the head announces a body of at least one byte. */
static inline bool ing_head_has_body(const struct ing_head *head)
{
    return head->chunked || (head->has_length && head->content_length != 0);
}

/* "1500ms", "30s", "5m", "2h", "3d", or seconds without a unit. False: none of these, zero, or over max. */
bool ing_ttl_parse(struct cmq_span text, uint64_t ttl_ms_max, uint64_t *ret_ttl_ms);

/* Names and values, as they came. */
size_t ing_head_carried_bytes(const struct ing_head *head);
/* Checks the carried headers and writes them as a message has them; 0 bytes without any. memory: ing_head_carried_bytes;
 * dst: the same and CMQ_HEADERS_ROOM. CMQ_ERR_MALFORMED, CMQ_ERR_TOO_BIG with a reason. */
CMQ_MUST_USE enum cmq_err ing_head_pack_carried(const struct ing_head *head, uint8_t *memory, uint8_t *dst,
                                                size_t *ret_bytes, struct cmq_reason *reason);

#endif
