#include "common/base/cmq_clock.h"

#include <time.h>

uint64_t cmq_clock_mono_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * CMQ_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t cmq_clock_wall_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / CMQ_NS_PER_MS;
}
