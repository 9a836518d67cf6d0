/*
 * bench_listen: the thread of all v1 consumers of a run: one epoll, large reads, every item checked.
 * Ownership: the caller's memory; connections and verifiers are the thread's alone between start and join.
 * Units: nanoseconds (monotonic), bytes, messages.
 * Errors: those of bench_v1, in `err` and `reason` after join.
 * Callers: the thread that runs the measurement.
 *
 * Checked of each consumer: contents (bench_verify); ids ascend, and within a record by one; an id names the same message
 * for everybody, and the record that the publisher was told. Members of a group share one verifier: each message exactly
 * once at any of them.
 */
#ifndef BENCH_LISTEN_H
#define BENCH_LISTEN_H

#include <pthread.h>
#include <semaphore.h>

#include "tests/bench/bench_v1.h"
#include "tests/bench/bench_verify.h"

struct bench_member {
    struct bench_v1 *v1;
    struct bench_verify *verify;
    bool done;
    bool any;              /* something came */
    struct bench_id last;  /* of what came */
    uint64_t to_ack;       /* messages that came since the last ack */
    uint64_t acks_waiting; /* commands whose reply has not come */
};

struct bench_listen {
    struct bench_member *members;
    unsigned count;
    const char *group;  /* acks are sent; NULL: subscribers */
    bool gaps_excuse;   /* a gap is no fault but an announced loss */
    bool may_come_back; /* a repeated delivery is no fault */
    uint64_t *seqs;     /* per batch of the run: the record that consumers saw it in; 0: not yet */
    uint64_t deadline_ns;
    _Atomic uint64_t *wanted; /* messages that must come to each verifier */
    _Atomic uint32_t *stop;

    /* results, after join */
    uint64_t last_ns; /* when everything had come and was checked (and confirmed); 0: never */
    uint64_t cpu_ns;
    uint64_t deliveries, frames, payload_bytes;
    uint64_t acks, acked, stale; /* commands; messages that replies confirmed; ids that were refused */
    uint64_t wrong_ids, wrong_messages, redelivered, gaps, error_replies;
    char last_gap[160], last_error[160];
    bool timed_out;
    enum cmq_err err;
    struct cmq_reason reason;

    unsigned done;
    int epoll_fd;
    struct bench_scratch scratch;
    pthread_t thread;
    sem_t settled;
};

CMQ_MUST_USE enum cmq_err bench_listen_start(struct bench_listen *listen, struct cmq_reason *reason);
/* Returns true when last_ns is set or never will be, false after timeout_ms. The thread may go on listening for
 * duplicates. */
bool bench_listen_wait(struct bench_listen *listen, unsigned timeout_ms);
void bench_listen_join(struct bench_listen *listen);

#endif
