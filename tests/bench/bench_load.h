/*
 * bench_load: the publisher thread: keep-alive connections over one epoll, one POST in flight on each.
 * Ownership: the caller's memory; connections are opened by start and closed by join.
 * Units: nanoseconds (monotonic), microseconds since 1970 where it says wall, messages, bytes.
 * Errors: start: CMQ_ERR_SYSTEM, CMQ_ERR_TIMEOUT, CMQ_ERR_NOMEM with the sentence; later failures are counted.
 * Callers: the thread that runs the measurement.
 *
 * A POST that fails is sent again after one second, at most three times. If the connection broke after bytes
 * had been sent, the first try may have been accepted, so its batch is marked: the broker may then deliver it
 * twice.
 *
 * With a rate, POST i is due at start + i / rate whatever became of the ones before (open loop). When all
 * connections were still waiting for the broker at that moment, its latency counts from when it was due and
 * not from when it could be sent (no coordinated omission). When the generator itself woke late, that is
 * counted apart, in `late`.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <pthread.h>

#include "tests/bench/bench_link.h"
#include "tests/bench/bench_verify.h"

#define BENCH_RETRIES_MAX 3u

enum bench_failure {
    BENCH_FAILURE_NONE,
    BENCH_FAILURE_STATUS,  /* a reply other than 200 */
    BENCH_FAILURE_REPLY,   /* no HTTP, or more than was asked for */
    BENCH_FAILURE_LOST,    /* connection broke */
    BENCH_FAILURE_CONNECT, /* no connection */
    BENCH_FAILURE_UNSENT   /* the run ended before it was answered */
};

/* What became of one POST. */
struct bench_post {
    uint64_t latency_ns;
    uint64_t ended_wall_us;
    uint16_t status; /* 0: no reply */
    uint8_t failure; /* enum bench_failure, of the last try */
};

struct bench_load {
    struct bench_address address;
    bool single;
    const char *topic; /* as in struct bench_request_form */
    const char *ack;   /* each 200 must say this level; NULL: the broker's default */
    unsigned connections;
    uint64_t rate; /* POSTs a second; 0: as fast as they are answered */
    uint64_t deadline_ns;
    struct bench_verify *verify; /* numbers and batches */
    _Atomic uint64_t *wanted;
    _Atomic uint32_t *stop;
    struct bench_post *posts; /* one a batch, or NULL */

    /* results, after join */
    uint64_t posts_accepted, posts_failed, retries;
    uint64_t wrong_acks; /* 200 that said another level, or none */
    uint64_t no_ids;     /* 200 without an id, of those that must have one */
    char wrong_ack[16];  /* what the first one said */
    uint64_t messages_accepted, body_bytes;
    uint64_t first_ns, last_ns; /* first byte sent, last 200 received */
    uint64_t cpu_ns;
    bool timed_out;
    struct bench_hist reply; /* POST sent -> 200 received */
    struct bench_hist late;  /* how late the generator was, rate only */
    char failure[200];       /* the last failure in words, "" if none */

    pthread_t thread;
    struct bench_loader *loader;
};

CMQ_MUST_USE enum cmq_err bench_load_start(struct bench_load *load, struct cmq_reason *reason);
void bench_load_join(struct bench_load *load);
/* Static text, never NULL. */
const char *bench_failure_text(enum bench_failure failure);

#endif
