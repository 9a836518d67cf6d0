/*
 * ctl_bench: what `bench` finds out: whether each message came once and in order, and how long things took.
 * Ownership: the caller's memory; a judge is ended by ctl_judge_fini.
 * Units: nanoseconds, messages.
 * Errors: CMQ_ERR_NOMEM.
 * Callers: one thread for each struct.
 */
#ifndef CTL_BENCH_H
#define CTL_BENCH_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

/* Durations: 16 steps for each power of two, so a number is at most 1/16 too large. */
enum { CTL_TIMES_STEPS = 16, CTL_TIMES_BUCKETS = 64 * CTL_TIMES_STEPS };
struct ctl_times {
    uint64_t count, max_ns;
    uint64_t buckets[CTL_TIMES_BUCKETS];
};
void ctl_times_add(struct ctl_times *times, uint64_t ns, uint64_t count);
void ctl_times_sum(struct ctl_times *times, const struct ctl_times *more);
/* share: 0.99 for p99. 0 when there are none. */
uint64_t ctl_times_at(const struct ctl_times *times, double share);

/* Each publisher numbers its messages from 0, and sends the next ones when the last are acknowledged: so they come in order. */
struct ctl_judge {
    unsigned publishers;
    uint64_t *next;     /* of each publisher */
    uint64_t received;  /* that came first */
    uint64_t skipped;   /* that had not come when a later one did */
    uint64_t repeated;  /* that came again, or after a later one */
    uint64_t strangers; /* of nobody */
};
CMQ_MUST_USE enum cmq_err ctl_judge_init(struct ctl_judge *judge, unsigned publishers);
void ctl_judge_fini(struct ctl_judge *judge);
void ctl_judge_take(struct ctl_judge *judge, uint64_t publisher, uint64_t number);
/* Messages that were acknowledged, of `acked` by each publisher, and never came: those skipped, and those at the end. */
uint64_t ctl_judge_missing(const struct ctl_judge *judge, const uint64_t *acked);
/* Nothing is missing, came twice, or out of order. */
bool ctl_judge_is_good(const struct ctl_judge *judge, const uint64_t *acked);

#endif
