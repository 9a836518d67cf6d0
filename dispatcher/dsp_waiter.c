#include "dispatcher/dsp_waiter.h"

/* Returns false when the thread is to end. */
static bool wait_armed(struct dsp_waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->armed && atomic_load_explicit(&waiter->stop, memory_order_relaxed) == 0)
        pthread_cond_wait(&waiter->changed, &waiter->lock);
    cmq_ring_follow(waiter->ring, CMQ_WAIT_STORED, waiter->seq);
    pthread_mutex_unlock(&waiter->lock);
    return atomic_load_explicit(&waiter->stop, memory_order_relaxed) == 0;
}

/* Before rang, so that the delivery thread can arm again at once. */
static void disarm(struct dsp_waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    waiter->armed = false;
    pthread_mutex_unlock(&waiter->lock);
}

static void *run(void *context)
{
    struct dsp_waiter *waiter = context;
    (void)pthread_setname_np(pthread_self(), "cmq-waiter");
    while (wait_armed(waiter)) {
        if (!cmq_ring_wait(waiter->ring, CMQ_WAIT_STORED, UINT32_MAX, &waiter->stop))
            continue;
        disarm(waiter);
        waiter->rang(waiter->context);
    }
    return NULL;
}

enum cmq_err dsp_waiter_start(struct dsp_waiter *waiter, struct cmq_ring *ring, void (*rang)(void *),
                              void *context)
{
    *waiter = (struct dsp_waiter){.ring = ring, .rang = rang, .context = context};
    atomic_init(&waiter->stop, 0);
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->changed, NULL);
    waiter->started = pthread_create(&waiter->thread, NULL, run, waiter) == 0;
    return waiter->started ? CMQ_OK : CMQ_ERR_SYSTEM;
}

void dsp_waiter_arm(struct dsp_waiter *waiter, uint64_t seq)
{
    pthread_mutex_lock(&waiter->lock);
    if (!waiter->armed) {
        waiter->armed = true;
        waiter->seq = seq;
        pthread_cond_signal(&waiter->changed);
    }
    pthread_mutex_unlock(&waiter->lock);
}

void dsp_waiter_stop(struct dsp_waiter *waiter)
{
    if (!waiter->started)
        return;
    pthread_mutex_lock(&waiter->lock);
    /* Release: pairs with the look inside cmq_ring_wait. */
    atomic_store_explicit(&waiter->stop, 1, memory_order_release);
    pthread_cond_signal(&waiter->changed);
    pthread_mutex_unlock(&waiter->lock);
    cmq_ring_wake(waiter->ring, CMQ_WAIT_STORED);
    pthread_join(waiter->thread, NULL);
    pthread_cond_destroy(&waiter->changed);
    pthread_mutex_destroy(&waiter->lock);
    waiter->started = false;
}
