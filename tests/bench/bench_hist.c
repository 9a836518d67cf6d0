#include "tests/bench/bench_hist.h"

#include "common/base/cmq_base.h"

/* Values below 2^(SUB_BITS + 1) have a bucket each; above, each power of two is cut into 2^SUB_BITS parts. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < (2u << BENCH_HIST_SUB_BITS))
        return (unsigned)ns;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(ns);
    unsigned shift = exponent - BENCH_HIST_SUB_BITS;
    return (shift << BENCH_HIST_SUB_BITS) + (unsigned)(ns >> shift);
}

static uint64_t bucket_last(unsigned bucket)
{
    if (bucket < (2u << BENCH_HIST_SUB_BITS))
        return bucket;
    unsigned shift = (bucket >> BENCH_HIST_SUB_BITS) - 1u;
    uint64_t head = (bucket & ((1u << BENCH_HIST_SUB_BITS) - 1u)) + (1u << BENCH_HIST_SUB_BITS);
    return ((head + 1u) << shift) - 1u;
}

void bench_hist_add(struct bench_hist *hist, uint64_t ns)
{
    uint64_t capped = cmq_min_u64(ns, 1ull << BENCH_HIST_EXP_MAX);
    hist->buckets[bucket_of(capped)]++;
    hist->count++;
    hist->sum_ns += ns;
    if (ns > hist->max_ns)
        hist->max_ns = ns;
}

void bench_hist_merge(struct bench_hist *into, const struct bench_hist *from)
{
    for (unsigned i = 0; i < BENCH_HIST_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    into->max_ns = cmq_max_u64(into->max_ns, from->max_ns);
}

uint64_t bench_hist_at(const struct bench_hist *hist, unsigned per_mille)
{
    uint64_t wanted = (hist->count * per_mille + 999u) / 1000u;
    uint64_t seen = 0;
    for (unsigned i = 0; i < BENCH_HIST_BUCKETS; i++) {
        seen += hist->buckets[i];
        if (seen >= wanted && seen > 0)
            return cmq_min_u64(bucket_last(i), hist->max_ns);
    }
    return hist->max_ns;
}

uint64_t bench_hist_mean(const struct bench_hist *hist)
{
    return hist->count == 0 ? 0 : hist->sum_ns / hist->count;
}
