/*
 * cmq_futex: futex(2) on shared memory; the only user of linux/futex.h.
 * Ownership: none.
 * Units: microseconds.
 * Errors: none. EAGAIN, EINTR and ETIMEDOUT all mean: look again.
 * Callers: any thread. Not FUTEX_PRIVATE: the word lies in a shared mapping.
 */
#ifndef CMQ_FUTEX_H
#define CMQ_FUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Sleeps while *word == expected, at most timeout_us. True if it timed out. */
bool cmq_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_us);
void cmq_futex_wake(_Atomic uint32_t *word, int waiters_max);

#endif
