/*
 * dsp_waiter: one thread that sleeps on the ring for the delivery thread, which can only sleep in poll.
 * Ownership: start/stop on the caller's memory; borrows the ring.
 * Units: seq = record number.
 * Errors: CMQ_ERR_SYSTEM (no thread).
 * Callers: start and stop the main thread, arm the delivery thread; rang is called in the waiter's thread.
 *
 * Armed, it waits until the log has a record that the delivery thread has not seen, calls rang once, and rests until it is
 * armed again. So there are no wake-ups while the delivery thread has work. No wake is lost: cmq_ring_wait looks at
 * the ring itself, after it has registered, so what came between the last look at the log and arm is seen.
 */
#ifndef DSP_WAITER_H
#define DSP_WAITER_H

#include <pthread.h>

#include "common/shm/cmq_ring.h"

struct dsp_waiter {
    struct cmq_ring *ring;
    void (*rang)(void *context);
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool armed;   /* under lock */
    uint64_t seq; /* under lock */
    atomic_uint stop;
    bool started;
};

CMQ_MUST_USE enum cmq_err dsp_waiter_start(struct dsp_waiter *waiter, struct cmq_ring *ring,
                                           void (*rang)(void *), void *context);
/* rang is called when record seq is stored. Already armed: nothing changes. */
void dsp_waiter_arm(struct dsp_waiter *waiter, uint64_t seq);
/* Returns when the thread has ended. Accepts a zeroed struct. */
void dsp_waiter_stop(struct dsp_waiter *waiter);

#endif
