/*
 * ing_problem: every way in which a request can be refused, and its problem+json body (RFC 9457).
 * Ownership: values and static texts; bodies go to the caller's buffer.
 * Units: bytes; offset = position in the request body; index = position among the messages.
 * Errors: none.
 * Callers: any thread.
 */
#ifndef ING_PROBLEM_H
#define ING_PROBLEM_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/cmq_base.h"

#define ING_OFFSET_NONE SIZE_MAX
#define ING_INDEX_NONE  UINT32_MAX

/* What the counters call it, and whether the same request may succeed later (FULL: Retry-After: 1; RATE: as it is known). */
enum ing_refusal { ING_REFUSAL_BAD, ING_REFUSAL_LARGE, ING_REFUSAL_AUTH, ING_REFUSAL_RATE, ING_REFUSAL_FULL };

/* Of a request that is in the ring already, whatever becomes of the log. */
#define ING_MAY_BE_KEPT                                                                                 \
    "The log did not confirm this request in time. It may still be kept. A retry with the same ids or " \
    "Idempotency-Key is safe; without them it may publish twice."

/*    name            status refusal  slug (stable: part of the API)  title, default detail */
#define ING_PROBLEM_MAP(X)                                                                                   \
    X(BAD_REQUEST, 400, BAD, "bad-request", "Bad request", "The request head breaks a rule of HTTP/1.1.")    \
    X(BAD_HEADER, 400, BAD, "bad-header", "Bad header",                                                      \
      "A header of this request has a value that is not allowed.")                                           \
    X(BAD_TOPIC, 400, BAD, "bad-topic", "Bad topic",                                                         \
      "A topic is 1 to 32 levels of A-Z a-z 0-9 _ - with dots between them, at most 255 bytes.")             \
    X(TOKEN_IN_URL, 400, AUTH, "token-in-url", "Token in the URL",                                           \
      "tokens do not belong in a URL: it is written to logs on the way. Send it as Authorization: Bearer, "  \
      "or as X-API-Key, and make a new one.")                                                                \
    X(MALFORMED, 400, BAD, "malformed-json", "Malformed JSON", "The body is not the JSON that is expected.") \
    X(MALFORMED_MSGPACK, 400, BAD, "malformed-msgpack", "Malformed MessagePack",                             \
      "The body is not the MessagePack that is expected.")                                                   \
    X(MALFORMED_EVENT, 400, BAD, "malformed-event", "Malformed CloudEvent",                                  \
      "The body is not a CloudEvent (version 1.0, JSON), or not an array of them.")                          \
    X(MALFORMED_LINES, 400, BAD, "malformed-lines", "No line was taken",                                     \
      "Every line of this body was refused; errors says why.")                                               \
    X(MALFORMED_GZIP, 400, BAD, "malformed-gzip", "Malformed gzip",                                          \
      "The body is not gzip, or ends too early.")                                                            \
    X(UNAUTHORIZED, 401, AUTH, "unauthorized", "Unauthorized",                                               \
      "Send a token that is valid: Authorization: Bearer cmq_..., or X-API-Key: cmq_....")                   \
    X(FORBIDDEN, 403, AUTH, "forbidden", "Forbidden", "this token has no right to publish to this topic")    \
    X(RESERVED_TOPIC, 403, BAD, "reserved-topic", "Reserved topic",                                          \
      "Topics that begin with '$' belong to the broker. Publish to another one.")                            \
    X(NOT_FOUND, 404, BAD, "not-found", "Not found",                                                         \
      "POST one message to /v1/topics/{topic} or /input, or many to the same path with /batch behind it.")   \
    X(METHOD, 405, BAD, "method-not-allowed", "Method not allowed",                                          \
      "This path takes only the methods in the Allow header.")                                               \
    X(CONFLICT, 409, BAD, "idempotency-conflict", "Idempotency conflict",                                    \
      "This id or key was used before with another content, and nothing of this request was kept. Use a "    \
      "new one.")                                                                                            \
    X(TOO_LARGE, 413, LARGE, "too-large", "Content too large",                                               \
      "The request is larger than the configured limits. Send smaller batches.")                             \
    X(MEDIA_TYPE, 415, BAD, "unsupported-media-type", "Unsupported media type",                              \
      "Send JSON with the header Content-Type: application/json (no charset, or charset=utf-8).")            \
    X(CODING, 415, BAD, "unsupported-content-coding", "Unsupported content coding",                          \
      "Send the body without a Content-Encoding header (gzip is taken if ingest.gzip is on).")               \
    X(TOO_MANY_FAILURES, 429, RATE, "too-many-failures", "Too many failed attempts",                         \
      "Too many wrong tokens came from this address. Wait a minute; a valid token passes.")                  \
    X(RATE, 429, RATE, "rate-limited", "Rate limit",                                                         \
      "This token has sent its messages or bytes for now, and nothing of this request was kept. Send it "    \
      "again after Retry-After.")                                                                            \
    X(HEADERS, 431, BAD, "too-many-headers", "Too many headers",                                             \
      "The request has more header lines than ingest.headers_max.")                                          \
    X(INTERNAL, 500, FULL, "internal", "Internal error", "The broker could not take the request.")           \
    X(FULL, 503, FULL, "full", "The broker is full",                                                         \
      "Consumers are slower than publishers. Send the request again later.")                                 \
    X(LOG_FULL, 503, FULL, "log-full", "The log is full",                                                    \
      "The log takes nothing now and this request was not kept. Make room, or wait for retention, and send " \
      "it again.")                                                                                           \
    X(LOG_FAILED, 503, FULL, "log-failed", "The log cannot be written",                                      \
      "Writing the log failed and this request was not kept. See the encryptor's log; send it again later.") \
    X(NOT_DURABLE, 503, FULL, "not-durable", "Not durable in time", ING_MAY_BE_KEPT)                         \
    X(BUSY, 503, FULL, "busy", "Too many requests at once",                                                  \
      "The memory for request bodies is in use. Send the request again later.")                              \
    X(DRAINING, 503, FULL, "draining", "The broker is going down",                                           \
      "This instance takes no new messages. Send the request again, on a new connection.")                   \
    X(NOT_READY, 503, FULL, "not-ready", "Not ready", "The broker cannot take messages now.")

enum ing_problem_kind {
    ING_PROBLEM_NONE,
#define X(name, status, refusal, slug, title, detail) ING_PROBLEM_##name,
    ING_PROBLEM_MAP(X)
#undef X
        ING_PROBLEM_COUNT
};

struct ing_problem {
    enum ing_problem_kind kind;
    const char *detail; /* NULL: the default; of the client at most a name of a member, in ASCII */
    size_t offset;      /* ING_OFFSET_NONE: not known */
    uint32_t index;     /* of a message; ING_INDEX_NONE: not inside one */
    uint32_t retry_s;   /* of ING_REFUSAL_RATE; 0: 1 */
};

struct ing_problem_info {
    unsigned status;
    enum ing_refusal refusal;
    const char *slug;
    const char *title;
    const char *detail;
};

#define ING_PROBLEM_BYTES_MAX 2048u

static inline struct ing_problem ing_problem_make(enum ing_problem_kind kind, const char *detail)
{
    return (struct ing_problem){
        .kind = kind, .detail = detail, .offset = ING_OFFSET_NONE, .index = ING_INDEX_NONE};
}
/* kind is not ING_PROBLEM_NONE. */
const struct ing_problem_info *ing_problem_info(enum ing_problem_kind kind);
/* Writes the JSON object; returns its bytes, always fewer than ING_PROBLEM_BYTES_MAX. A detail is cut at 200
 * bytes. */
size_t ing_problem_write(uint8_t ret_body[ING_PROBLEM_BYTES_MAX], const struct ing_problem *problem);

#endif
