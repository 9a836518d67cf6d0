/*
 * bench_verify: decides whether every message came exactly once and in order.
 * Ownership: new/free; batches is shared with the publishers as said at its fields.
 * Units: message numbers first .. first + messages - 1; batch b holds `size` of them, the last one the rest.
 * Errors: CMQ_ERR_NOMEM; what is wrong with the deliveries is counted.
 * Callers: the consumer thread, but for the fields of struct bench_batch that the publisher thread writes.
 *
 * Several POSTs are on their way at a time, so the order that the broker promises is: the messages of one
 * POST are contiguous and ascending, and the POSTs of one connection come in the order in which they were
 * sent.
 */
#ifndef BENCH_VERIFY_H
#define BENCH_VERIFY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/cmq_err.h"
#include "tests/bench/bench_hist.h"

#define BENCH_CONNECTIONS_MAX 1024u

/* One POST. The publisher writes it before it sends; sent_ns last, by release. */
struct bench_batch {
    _Atomic uint64_t sent_ns; /* 0: not sent yet */
    _Atomic uint16_t connection;
    _Atomic uint8_t retried; /* sent again although the first try may have been accepted */
    _Atomic uint64_t seq;    /* record, from the reply; 0: not known */
};

struct bench_verify {
    uint64_t first, messages;
    uint64_t batch_count;
    uint32_t size;
    struct bench_batch *batches;
    bool borrows;   /* batches are another one's */
    bool any_order; /* members of a group share the messages: only exactly once is checked */
    uint64_t *seen; /* one bit a message */

    uint64_t unique;                 /* messages that came at least once */
    uint64_t excused;                /* never came, and the broker said so */
    uint64_t duplicates;             /* came again */
    uint64_t duplicates_after_retry; /* came again, of a POST that was sent again: allowed */
    uint64_t out_of_order;           /* places where the order is broken, not messages */
    uint64_t foreign;                /* content that nobody sent, or not yet */

    uint64_t current_batch; /* of the message before; batch_count: none */
    uint64_t next;          /* number behind the highest one seen of current_batch */
    uint64_t newest_of_connection[BENCH_CONNECTIONS_MAX]; /* batch + 1 */
    struct bench_hist delivery;                           /* POST sent -> its last message received */
};

CMQ_MUST_USE enum cmq_err bench_verify_new(uint64_t first, uint64_t messages, uint32_t size,
                                           struct bench_verify **ret_verify);
/* Another consumer of the same POSTs; `of` must outlive it. */
CMQ_MUST_USE enum cmq_err bench_verify_beside(const struct bench_verify *of,
                                              struct bench_verify **ret_verify);
void bench_verify_free(struct bench_verify *verify);

/* Messages number .. number + count - 1 came back to back, at now_ns. count > 0. */
void bench_verify_add(struct bench_verify *verify, uint64_t number, uint64_t count, uint64_t now_ns);
/* A message came whose content is none of ours. */
void bench_verify_add_foreign(struct bench_verify *verify);
/* Messages of the records from_seq .. end_seq - 1 that have not come are excused, and would be duplicates from now on. */
void bench_verify_excuse(struct bench_verify *verify, uint64_t from_seq, uint64_t end_seq);
/* Messages in this batch. */
uint32_t bench_verify_batch_messages(const struct bench_verify *verify, uint64_t batch);
/* Lowest number that has not come; first + messages when all have. */
uint64_t bench_verify_first_missing(const struct bench_verify *verify);

#endif
