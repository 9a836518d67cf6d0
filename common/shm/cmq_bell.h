/*
 * cmq_bell: the doorbell, an eventcount over shared memory. The wake protocol and its proof are in cmq_bell.c.
 * Ownership: bells lie in the bell object; every waiter has a bit of its own.
 * Units: microseconds.
 * Errors: none; a wait is always bounded.
 * Callers: ring: any thread of any process. wait: one thread a bit.
 */
#ifndef CMQ_BELL_H
#define CMQ_BELL_H

#include "common/shm/cmq_layout.h"

#define CMQ_BELL_ALL INT32_MAX

/* Looks at everything that the waiter waits for, on fresh values: never on what an earlier look remembered.
 */
typedef bool cmq_bell_look(void *context);

enum cmq_bell_result { CMQ_BELL_FOUND, CMQ_BELL_RUNG, CMQ_BELL_TIMED_OUT };

enum cmq_bell_result cmq_bell_wait(struct cmq_bell *bell, uint32_t bit, cmq_bell_look *look, void *context,
                                   uint64_t timeout_us);
/* Call after the state change is visible. Wakes up to waiters_max; no system call when nobody is parked. */
void cmq_bell_ring(struct cmq_bell *bell, int waiters_max);

#endif
