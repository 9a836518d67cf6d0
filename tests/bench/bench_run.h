/*
 * bench_run: one measurement: drain, publish, consume, check.
 * Ownership: the plan is the caller's; results are plain memory, init'ed by bench_run, freed by bench_run_fini.
 * Units: nanoseconds, messages, bytes.
 * Errors: an error code means that nothing could be measured (no broker); a failed check is in the result,
 *         `verdict`.
 * Callers: the main thread.
 */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "tests/bench/bench_consume.h"
#include "tests/bench/bench_load.h"
#include "tests/bench/bench_stages.h"
#include "tests/bench/bench_verdict.h"

struct bench_plan {
    const char *name; /* for the report */
    bool single;
    unsigned connections;
    uint64_t messages;
    uint32_t size;   /* messages a POST */
    uint64_t rate;   /* POSTs a second; 0: as fast as possible */
    const char *ack; /* level that is asked for; NULL: the broker's default */
    uint64_t timeout_s;
    bool want_posts; /* keep what became of each POST */
};

struct bench_target {
    struct bench_address ingest, dispatcher;
    struct bench_stages stages;
    char no_stages[CMQ_REASON_BYTES]; /* why there are no figures per stage; "" if there are */
};

struct bench_result {
    struct bench_plan plan;
    struct bench_verdict verdict;
    uint64_t discarded;
    uint64_t start_wall_ms;
    struct bench_load load;
    struct bench_consume consume;
    struct bench_verify *verify; /* counts and the delivery histogram */
    uint64_t corrupt;            /* WebSocket messages that are no JSON array of strings */
    struct bench_use use[BENCH_STAGE_COUNT];
};

CMQ_MUST_USE enum cmq_err bench_run(struct bench_target *target, const struct bench_plan *plan,
                                    struct bench_result **ret_result, struct cmq_reason *reason);
/* NULL is fine. */
void bench_run_free(struct bench_result *result);

/* First byte sent -> last 200, -> last message; only meaningful when the check did not fail. */
uint64_t bench_result_accepted_ns(const struct bench_result *result);
uint64_t bench_result_delivered_ns(const struct bench_result *result);

struct bench_idle {
    uint64_t elapsed_ns;
    struct bench_use use[BENCH_STAGE_COUNT];
    struct bench_sample *processes; /* for a line each */
};

/* CPU and memory of all stages while one consumer is connected and nothing happens. */
CMQ_MUST_USE enum cmq_err bench_idle(struct bench_target *target, uint64_t seconds,
                                     struct bench_idle *ret_idle, struct cmq_reason *reason);
void bench_idle_fini(struct bench_idle *idle);

#endif
