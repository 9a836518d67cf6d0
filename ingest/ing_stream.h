/*
 * ing_stream: what became of an NDJSON body so far, and the reply that tells it.
 * Ownership: new/free; texts that grow are bodies of the pool, so they count like what is received.
 * Units: lines from 1, messages, bytes.
 * Errors: none: what finds no memory in the pool is cut, and the reply says so.
 * Callers: one thread at a time.
 *
 * A body of any size becomes several records. Of each it is known, before the next is begun, what became of it. Lines that
 * are refused are named, the others kept. What stops a stream early (`stop`) leaves kept what was kept.
 */
#ifndef ING_STREAM_H
#define ING_STREAM_H

#include "common/shm/cmq_ring.h"
#include "common/wire/cmq_ndjson.h"
#include "ingest/ing_body.h"
#include "ingest/ing_reply.h"

#define ING_STREAM_RECORDS_MAX 1000u /* named in a reply */

struct ing_stream {
    struct ing_body_pool *pool;
    uint32_t errors_max;     /* named in a reply */
    uint64_t line;           /* number of the next one to be looked at */
    uint64_t settled;        /* lines whose fate is known */
    uint64_t count;          /* messages kept */
    uint64_t rejected;       /* lines */
    uint64_t duplicates;     /* of count: were there before */
    size_t whole_bytes;      /* of the body in receipt: lines with their end */
    size_t received_bytes;   /* of the request's body */
    uint64_t opened_ns;      /* when the first byte of the next record came; 0: none is here */
    bool skipping;           /* the rest of a line that is too long */
    bool ends;               /* the body is here to its end */
    struct ing_problem stop; /* why the stream ends before its end; ING_PROBLEM_NONE: it does not */
    char stop_detail[200];
    uint32_t records_named, errors_named;
    bool records_cut, errors_cut;
    struct ing_body records, errors; /* JSON, elements with commas */
    struct ing_body reply;
};

/* NULL: no memory. */
struct ing_stream *ing_stream_new(struct ing_body_pool *pool, uint32_t errors_max);
void ing_stream_free(struct ing_stream *stream); /* NULL is fine */

/* A cmq_line_refused; context is the stream. */
void ing_stream_refuse_line(void *context, uint64_t line, const struct cmq_json_error *error);
/* A record of so many messages, and what the log said of it. */
void ing_stream_keep(struct ing_stream *stream, uint64_t seq, uint32_t messages,
                     const struct cmq_outcome *outcome);
/* The first problem counts. Its detail is copied. */
void ing_stream_stop(struct ing_stream *stream, const struct ing_problem *problem);

/* The reply at the end of the body; its text is the stream's. */
void ing_stream_reply(struct ing_stream *stream, bool durable, struct ing_reply *ret_reply);
/* In the middle of it: numbers only, in reply->body. */
void ing_stream_short_reply(const struct ing_stream *stream, bool durable, struct ing_reply *ret_reply);

#endif
