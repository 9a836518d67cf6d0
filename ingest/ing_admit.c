#include "ingest/ing_admit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/base/cmq_clock.h"

/* Pause when the ring says that there is room, but not enough for the record in front: no bell rings for
 * that. */
enum { RETRY_MS = 1 };

struct ing_admit {
    struct cmq_ring *ring;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;          /* queue or stop; clock CLOCK_MONOTONIC */
    struct ing_ticket *first, *last; /* under the mutex; only the thread removes */
    atomic_uint waiting;             /* tickets in the queue; written under the mutex, read without */
    atomic_uint stop;                /* set under the mutex, once */
    atomic_uint_least64_t wait_ms;
    atomic_uint_least64_t waiting_bytes_max;
    atomic_uint_least64_t waiting_bytes;
};

static void finish(struct ing_admit *admit, struct ing_ticket *ticket, enum cmq_err err)
{
    free(ticket->record);
    ticket->record = NULL;
    atomic_fetch_sub_explicit(&admit->waiting_bytes, ticket->record_bytes, memory_order_relaxed);
    ticket->err = err;
    ticket->done(ticket);
}

/* The front of the queue, which stays there; NULL when it is empty and the stage stops. */
static struct ing_ticket *wait_for_front(struct ing_admit *admit)
{
    pthread_mutex_lock(&admit->mutex);
    while (admit->first == NULL && atomic_load_explicit(&admit->stop, memory_order_relaxed) == 0)
        pthread_cond_wait(&admit->changed, &admit->mutex);
    struct ing_ticket *ticket = admit->first;
    pthread_mutex_unlock(&admit->mutex);
    return ticket;
}

static void remove_front(struct ing_admit *admit)
{
    pthread_mutex_lock(&admit->mutex);
    admit->first = admit->first->next;
    if (admit->first == NULL)
        admit->last = NULL;
    /* Relaxed: ing_admit_publish takes it as a hint. */
    atomic_fetch_sub_explicit(&admit->waiting, 1, memory_order_relaxed);
    pthread_mutex_unlock(&admit->mutex);
}

static void pause_or_stop(struct ing_admit *admit)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(RETRY_MS * CMQ_NS_PER_MS);
    if (until.tv_nsec >= (long)CMQ_NS_PER_S) {
        until.tv_nsec -= (long)CMQ_NS_PER_S;
        until.tv_sec++;
    }
    pthread_mutex_lock(&admit->mutex);
    if (atomic_load_explicit(&admit->stop, memory_order_relaxed) == 0)
        (void)pthread_cond_timedwait(&admit->changed, &admit->mutex, &until);
    pthread_mutex_unlock(&admit->mutex);
}

/* Milliseconds that the ticket may still wait. */
static uint64_t wait_left_ms(const struct ing_admit *admit, const struct ing_ticket *ticket)
{
    uint64_t waited_ms = (cmq_clock_mono_ns() - ticket->queued_ns) / CMQ_NS_PER_MS;
    uint64_t wait_ms = atomic_load_explicit(&admit->wait_ms, memory_order_relaxed);
    return waited_ms < wait_ms ? wait_ms - waited_ms : 0;
}

/* Publishes the front of the queue; CMQ_ERR_FULL only when its time is over. */
static enum cmq_err publish_front(struct ing_admit *admit, struct ing_ticket *ticket)
{
    const struct cmq_span record = cmq_span_make(ticket->record, ticket->record_bytes);
    bool room = false;
    /* Acquire pairs with the release in ing_admit_stop; nothing but the flag itself is read. */
    while (atomic_load_explicit(&admit->stop, memory_order_acquire) == 0) {
        enum cmq_err err = cmq_ring_publish(admit->ring, &record, 1, ticket->messages, &ticket->seq);
        if (err != CMQ_ERR_FULL)
            return err;
        uint64_t left_ms = wait_left_ms(admit, ticket);
        if (left_ms == 0)
            return CMQ_ERR_FULL;
        if (room)
            pause_or_stop(admit);
        room = cmq_ring_wait(admit->ring, CMQ_WAIT_SPACE_INGEST, (uint32_t)left_ms, &admit->stop);
    }
    return CMQ_ERR_DRAINING;
}

static void *run(void *arg)
{
    struct ing_admit *admit = arg;
    struct ing_ticket *ticket;
    while ((ticket = wait_for_front(admit)) != NULL) {
        enum cmq_err err = publish_front(admit, ticket);
        remove_front(admit);
        finish(admit, ticket, err);
    }
    return NULL;
}

static enum cmq_err init_sync(struct ing_admit *admit)
{
    pthread_condattr_t attr;
    if (pthread_mutex_init(&admit->mutex, NULL) != 0)
        return CMQ_ERR_NOMEM;
    enum cmq_err err = CMQ_ERR_NOMEM;
    if (pthread_condattr_init(&attr) != 0)
        goto out;
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (pthread_cond_init(&admit->changed, &attr) == 0)
        err = CMQ_OK;
    (void)pthread_condattr_destroy(&attr);
out:
    if (err != CMQ_OK)
        (void)pthread_mutex_destroy(&admit->mutex);
    return err;
}

enum cmq_err ing_admit_start(struct cmq_ring *ring, const struct ing_admit_limits *limits,
                             struct ing_admit **ret_admit)
{
    struct ing_admit *admit = calloc(1, sizeof *admit);
    if (admit == NULL)
        return CMQ_ERR_NOMEM;
    admit->ring = ring;
    ing_admit_set_limits(admit, limits);
    enum cmq_err err = init_sync(admit);
    if (err != CMQ_OK) {
        free(admit);
        return err;
    }
    if (pthread_create(&admit->thread, NULL, run, admit) != 0) {
        ing_admit_free(admit);
        return CMQ_ERR_SYSTEM;
    }
    (void)pthread_setname_np(admit->thread, "ing-waiter");
    *ret_admit = admit;
    return CMQ_OK;
}

void ing_admit_set_limits(struct ing_admit *admit, const struct ing_admit_limits *limits)
{
    atomic_store_explicit(&admit->wait_ms, limits->wait_ms, memory_order_relaxed);
    atomic_store_explicit(&admit->waiting_bytes_max, limits->waiting_bytes_max, memory_order_relaxed);
}

void ing_admit_stop(struct ing_admit *admit)
{
    pthread_mutex_lock(&admit->mutex);
    /* Release pairs with the acquire in publish_front and ing_admit_publish. */
    atomic_store_explicit(&admit->stop, 1, memory_order_release);
    pthread_cond_signal(&admit->changed);
    pthread_mutex_unlock(&admit->mutex);
    cmq_ring_wake(admit->ring, CMQ_WAIT_SPACE_INGEST);
    (void)pthread_join(admit->thread, NULL);
}

void ing_admit_free(struct ing_admit *admit)
{
    if (admit == NULL)
        return;
    (void)pthread_cond_destroy(&admit->changed);
    (void)pthread_mutex_destroy(&admit->mutex);
    free(admit);
}

enum cmq_err ing_admit_publish(struct ing_admit *admit, const struct cmq_span *parts, size_t part_count,
                               uint32_t messages, uint64_t *ret_seq)
{
    if (atomic_load_explicit(&admit->stop, memory_order_acquire) != 0)
        return CMQ_ERR_DRAINING;
    enum cmq_err err = CMQ_ERR_FULL;
    if (atomic_load_explicit(&admit->waiting, memory_order_relaxed) == 0)
        err = cmq_ring_publish(admit->ring, parts, part_count, messages, ret_seq);
    bool may_wait = atomic_load_explicit(&admit->wait_ms, memory_order_relaxed) != 0;
    return err == CMQ_ERR_FULL && may_wait ? CMQ_ERR_AGAIN : err;
}

static bool reserve(struct ing_admit *admit, uint64_t bytes)
{
    /* Relaxed: the sum alone matters. */
    uint64_t before = atomic_fetch_add_explicit(&admit->waiting_bytes, bytes, memory_order_relaxed);
    if (before + bytes <= atomic_load_explicit(&admit->waiting_bytes_max, memory_order_relaxed))
        return true;
    atomic_fetch_sub_explicit(&admit->waiting_bytes, bytes, memory_order_relaxed);
    return false;
}

enum cmq_err ing_ticket_fill(struct ing_admit *admit, struct ing_ticket *ticket, const struct cmq_span *parts,
                             size_t part_count, uint32_t messages)
{
    size_t bytes = 0;
    for (size_t i = 0; i < part_count; i++)
        bytes += parts[i].bytes;
    if (!reserve(admit, bytes))
        return CMQ_ERR_FULL;
    uint8_t *record = malloc(bytes);
    if (record == NULL) {
        atomic_fetch_sub_explicit(&admit->waiting_bytes, bytes, memory_order_relaxed);
        return CMQ_ERR_NOMEM;
    }
    uint8_t *dst = record;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].bytes != 0)
            memcpy(dst, parts[i].data, parts[i].bytes);
        dst += parts[i].bytes;
    }
    ticket->next = NULL;
    ticket->record = record;
    ticket->record_bytes = bytes;
    ticket->messages = messages;
    return CMQ_OK;
}

void ing_admit_queue(struct ing_admit *admit, struct ing_ticket *ticket)
{
    ticket->queued_ns = cmq_clock_mono_ns();
    pthread_mutex_lock(&admit->mutex);
    bool stopped = atomic_load_explicit(&admit->stop, memory_order_relaxed) != 0;
    if (!stopped) {
        if (admit->last == NULL)
            admit->first = ticket;
        else
            admit->last->next = ticket;
        admit->last = ticket;
        atomic_fetch_add_explicit(&admit->waiting, 1, memory_order_relaxed);
        pthread_cond_signal(&admit->changed);
    }
    pthread_mutex_unlock(&admit->mutex);
    if (stopped)
        finish(admit, ticket, CMQ_ERR_DRAINING);
}
