#include "common/shm/cmq_counters.h"

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"

const struct cmq_counter_info *cmq_counter_info(enum cmq_counter counter)
{
    static const struct cmq_counter_info table[] = {
#define X(counter_name, counter_by, counter_text, counter_kind, counter_unit, counter_help) \
    [CMQ_COUNT_##                                                                           \
        counter_name] = {counter_text, counter_by, CMQ_KIND_##counter_kind, counter_unit, counter_help},
        CMQ_COUNTER_MAP(X)
#undef X
    };
    cmq_assert((unsigned)counter < CMQ_COUNTER_COUNT);
    return &table[counter];
}

const struct cmq_hist_info *cmq_hist_info(enum cmq_hist hist)
{
    static const struct cmq_hist_info table[] = {
#define X(hist_name, hist_by, hist_text, hist_help) [CMQ_HIST_##hist_name] = {hist_text, hist_by, hist_help},
        CMQ_HIST_MAP(X)
#undef X
    };
    cmq_assert((unsigned)hist < CMQ_HIST_COUNT);
    return &table[hist];
}

unsigned cmq_hist_bucket(uint64_t ns)
{
    if (ns <= CMQ_NS_PER_US)
        return 0;
    const uint64_t us = (ns - 1) / CMQ_NS_PER_US; /* 2^k us belongs to bucket k */
    const unsigned bucket = 64u - (unsigned)__builtin_clzll(us);
    return bucket < CMQ_HIST_BUCKETS ? bucket : CMQ_HIST_BUCKETS - 1;
}
