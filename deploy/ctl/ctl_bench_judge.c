#include <stdlib.h>

#include "ctl_bench.h"

static size_t bucket_of(uint64_t ns)
{
    if (ns < CTL_TIMES_STEPS)
        return (size_t)ns;
    const unsigned power = 63u - (unsigned)__builtin_clzll(ns); /* at least 4 */
    return (size_t)(power - 3u) * CTL_TIMES_STEPS + ((ns >> (power - 4u)) & (CTL_TIMES_STEPS - 1u));
}

/* The largest duration in it. */
static uint64_t end_of(size_t bucket)
{
    if (bucket < CTL_TIMES_STEPS)
        return bucket;
    const unsigned power = (unsigned)(bucket / CTL_TIMES_STEPS) + 3u;
    const uint64_t step = (uint64_t)1 << (power - 4u);
    return ((uint64_t)1 << power) + (bucket % CTL_TIMES_STEPS + 1u) * step - 1u;
}

void ctl_times_add(struct ctl_times *times, uint64_t ns, uint64_t count)
{
    times->count += count;
    times->max_ns = ns > times->max_ns ? ns : times->max_ns;
    times->buckets[bucket_of(ns)] += count;
}

void ctl_times_sum(struct ctl_times *times, const struct ctl_times *more)
{
    times->count += more->count;
    times->max_ns = more->max_ns > times->max_ns ? more->max_ns : times->max_ns;
    for (size_t i = 0; i < CTL_TIMES_BUCKETS; i++)
        times->buckets[i] += more->buckets[i];
}

uint64_t ctl_times_at(const struct ctl_times *times, double share)
{
    const double wanted = share * (double)times->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < CTL_TIMES_BUCKETS && times->count > 0; i++) {
        seen += times->buckets[i];
        if (seen > 0 && (double)seen >= wanted)
            return end_of(i) < times->max_ns ? end_of(i) : times->max_ns;
    }
    return times->max_ns;
}

enum cmq_err ctl_judge_init(struct ctl_judge *judge, unsigned publishers)
{
    *judge = (struct ctl_judge){.publishers = publishers, .next = calloc(publishers, sizeof(uint64_t))};
    return judge->next != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
}

void ctl_judge_fini(struct ctl_judge *judge)
{
    free(judge->next);
    judge->next = NULL;
}

void ctl_judge_take(struct ctl_judge *judge, uint64_t publisher, uint64_t number)
{
    if (publisher >= judge->publishers) {
        judge->strangers++;
        return;
    }
    uint64_t *next = &judge->next[publisher];
    if (number < *next) {
        judge->repeated++;
        return;
    }
    judge->skipped += number - *next;
    judge->received++;
    *next = number + 1;
}

uint64_t ctl_judge_missing(const struct ctl_judge *judge, const uint64_t *acked)
{
    uint64_t missing = judge->skipped;
    for (unsigned i = 0; i < judge->publishers; i++)
        missing += acked[i] > judge->next[i] ? acked[i] - judge->next[i] : 0;
    return missing;
}

bool ctl_judge_is_good(const struct ctl_judge *judge, const uint64_t *acked)
{
    return ctl_judge_missing(judge, acked) == 0 && judge->repeated == 0 && judge->strangers == 0;
}
