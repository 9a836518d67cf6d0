/*
 * ing_request: the rules for a request head: what may be asked of which path, and in which form. Pure functions.
 * Ownership: borrows.
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

#include "ingest/ing_head.h"
#include "ingest/ing_problem.h"
#include "ingest/ing_target.h"

/* What the body of a request that brings messages is. */
enum ing_format {
    ING_FORMAT_WHOLE,   /* one message as it stands */
    ING_FORMAT_INPUT,   /* the original API's object, one message */
    ING_FORMAT_INPUTS,  /* the same, many */
    ING_FORMAT_JSON,    /* an array */
    ING_FORMAT_LINES,   /* NDJSON, streamed */
    ING_FORMAT_MSGPACK, /* an array */
    ING_FORMAT_EVENT,   /* a CloudEvent in structured mode */
    ING_FORMAT_EVENTS   /* CloudEvents, batched */
};

/* What can be judged before it is known who asks. version: "HTTP/1.1". The order of the rules is the order of their danger:
 * framing first. */
struct ing_problem ing_request_judge(const struct ing_head *head, const struct ing_target *target,
                                     enum ing_method method, const char *version);
/* Of a POST that passed: topic, length, coding, type, and the other headers. ret_format only without a problem. */
struct ing_problem ing_request_judge_content(const struct ing_head *head, const struct ing_target *target,
                                             uint64_t body_bytes_max, enum ing_format *ret_format);

#endif
