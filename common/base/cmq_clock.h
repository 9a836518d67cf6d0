/*
 * cmq_clock: the two clocks of the broker.
 * Ownership: none.
 * Units: nanoseconds (monotonic, also between processes of one boot), milliseconds since 1970 (wall).
 * Errors: none; both clocks exist on every Linux that we run on.
 * Callers: any thread. Wall time is a label; nothing is decided by it but the end of messages that have one.
 */
#ifndef CMQ_CLOCK_H
#define CMQ_CLOCK_H

#include <stdint.h>

#define CMQ_NS_PER_US 1000ull
#define CMQ_NS_PER_MS 1000000ull
#define CMQ_NS_PER_S  1000000000ull

uint64_t cmq_clock_mono_ns(void);
uint64_t cmq_clock_wall_ms(void);

#endif
