#include "common/shm/cmq_counters.h"

#include "common/base/cmq_base.h"

const struct cmq_counter_info *cmq_counter_info(enum cmq_counter counter)
{
    static const struct cmq_counter_info table[] = {
#define X(counter_name, counter_text, counter_kind, counter_unit, counter_help) \
    [CMQ_COUNT_##counter_name] = {counter_text, CMQ_KIND_##counter_kind, counter_unit, counter_help},
        CMQ_COUNTER_MAP(X)
#undef X
    };
    cmq_assert((unsigned)counter < CMQ_COUNTER_COUNT);
    return &table[counter];
}
