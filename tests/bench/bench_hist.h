/*
 * bench_hist: a histogram of durations with a relative error of at most 1/64.
 * Ownership: plain caller's memory; zero-initialised is empty.
 * Units: nanoseconds; values above 2^42 (73 minutes) count as that.
 * Errors: none.
 * Callers: one thread at a time.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#define BENCH_HIST_SUB_BITS 6u
#define BENCH_HIST_EXP_MAX  42u
#define BENCH_HIST_BUCKETS  ((BENCH_HIST_EXP_MAX - BENCH_HIST_SUB_BITS + 2u) << BENCH_HIST_SUB_BITS)

struct bench_hist {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t buckets[BENCH_HIST_BUCKETS];
};

void bench_hist_add(struct bench_hist *hist, uint64_t ns);
void bench_hist_merge(struct bench_hist *into, const struct bench_hist *from);
/* The smallest bucket bound that at least per_mille / 1000 of the values do not exceed; never above max_ns.
 * 0 when the histogram is empty. */
uint64_t bench_hist_at(const struct bench_hist *hist, unsigned per_mille);
uint64_t bench_hist_mean(const struct bench_hist *hist);

#endif
