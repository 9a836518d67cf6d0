/*
 * bench_consume: the consumer thread: reads the WebSocket until every message has come and it stays quiet.
 * Ownership: the caller's memory; ws and verify are the thread's alone between start and join.
 * Units: nanoseconds (monotonic), bytes, messages.
 * Errors: CMQ_ERR_LOST and others of bench_ws, in `err` and `reason` after join.
 * Callers: the thread that runs the measurement.
 */
#ifndef BENCH_CONSUME_H
#define BENCH_CONSUME_H

#include <pthread.h>
#include <semaphore.h>

#include "tests/bench/bench_verify.h"
#include "tests/bench/bench_ws.h"

struct bench_consume {
    struct bench_ws *ws;
    struct bench_verify *verify;
    uint64_t deadline_ns;
    _Atomic uint64_t wanted; /* messages that must come; the publisher lowers it when it gives a POST up */
    _Atomic uint32_t *stop;  /* shared by both threads: the other one failed */

    /* results, after join */
    uint64_t last_ns; /* when the last wanted message had been checked; 0: it never came */
    uint64_t cpu_ns;  /* of this thread, up to then */
    uint64_t frames, text_bytes;
    bool timed_out;
    enum cmq_err err;
    struct cmq_reason reason;

    pthread_t thread;
    sem_t settled; /* posted once: all wanted messages came, or the thread gave up */
};

/* Discards what waits in the broker until nothing has come for 200 ms. */
CMQ_MUST_USE enum cmq_err bench_consume_drain(struct bench_ws *ws, uint64_t deadline_ns,
                                              uint64_t *ret_discarded, struct cmq_reason *reason);
CMQ_MUST_USE enum cmq_err bench_consume_start(struct bench_consume *consume, struct cmq_reason *reason);
/* Returns when last_ns and cpu_ns are set or never will be; the thread may go on listening for duplicates. */
void bench_consume_wait(struct bench_consume *consume);
void bench_consume_join(struct bench_consume *consume);

/* CPU time of the calling thread. */
uint64_t bench_thread_cpu_ns(void);

#endif
