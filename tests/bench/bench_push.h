/*
 * bench_push: one message of the v1 protocol: a reply, messages, a gap or a heartbeat.
 * Ownership: borrows the message; spans point into it.
 * Units: messages; ids are record and index.
 * Errors: kind BENCH_PUSH_BAD; of items that break off, `doc.bad` after the last run.
 * Callers: one thread at a time.
 *
 * An item is parsed key by key once; from then on the next one is expected to be the same bytes with its id's index and
 * its content's number counted up by one, which is one comparison. So every item is checked whole, and cheaply.
 */
#ifndef BENCH_PUSH_H
#define BENCH_PUSH_H

#include "tests/bench/bench_doc.h"

enum bench_push_kind {
    BENCH_PUSH_BAD,
    BENCH_PUSH_HEARTBEAT,
    BENCH_PUSH_OK,
    BENCH_PUSH_ERROR,
    BENCH_PUSH_MSGS,
    BENCH_PUSH_GAP
};

struct bench_id {
    uint64_t seq;
    uint64_t index;
};
/* "12-0" */
bool bench_id_parse(struct cmq_span text, struct bench_id *ret_id);

struct bench_push {
    enum bench_push_kind kind;
    uint64_t id;                  /* of the command, or of the subscription */
    struct cmq_span topic;        /* MSGS */
    struct cmq_span code, reason; /* ERROR: code and message; GAP: reason */
    uint64_t acked, stale;        /* OK of an ack */
    struct bench_id from, to;     /* GAP */
    struct bench_doc doc;         /* MSGS: behind the bracket of the items */
    struct bench_scope whole, msgs, items;
};

/* Messages with consecutive indexes of one record and consecutive numbers. */
struct bench_item_run {
    bool
        ours; /* false: an item with content that the bench does not send; nothing below is set, but the count (1) */
    struct bench_id id;
    uint64_t number;
    uint64_t attempt; /* 0: none given */
    uint32_t count;
};

void bench_push_parse(struct cmq_span message, bool msgpack, struct bench_push *ret_push);
/* False behind the last one; the rest of the message has been checked then, see doc.bad. */
bool bench_push_next(struct bench_push *push, struct bench_item_run *ret_run);

#endif
