/*
 * No wake-up is lost although adding wakes nobody: the thread reads the cursors and looks through the list under one
 * mutex, and then waits for the cursors to move on from exactly those values. A wait added later sees under the same mutex
 * which values were read: if its record is beyond them, the cursor has still to move over it, and that ends the sleep. If
 * it isn't (the log was faster than the worker), or if the thread does not follow that cursor now, the thread is woken.
 */
#include "ingest/ing_durable.h"

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/cmq_clock.h"

/* A cursor is followed until it moved so often without a wait for it, so that traffic with short pauses wakes the thread
 * by the log alone. */
enum { QUIET_LOOKS = 16 };
/* Cap of one sleep: a deadline that is earlier than those before, after a reload, is seen so much late at most. */
enum { SLEEP_MS = 100 };

/* One cursor of the log. Under the mutex. */
struct cursor {
    uint64_t seen;  /* below it no wait is left */
    unsigned quiet; /* looks without a wait */
    bool followed;
};

struct ing_durable {
    struct cmq_ring *ring;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t added;    /* a wait, after a pause; or stop */
    struct ing_wait *first;  /* under the mutex, newest first */
    struct cursor cursor[2]; /* by enum ing_level */
    bool sleeping;           /* on the condition; under the mutex */
    atomic_uint stop;
    atomic_uint_least64_t wait_ms;
};

/* What the thread has to do after a look. */
struct look {
    struct ing_wait *ended; /* newest first */
    uint64_t follow[2];     /* by enum ing_level; UINT64_MAX: not */
    uint64_t next_deadline_ns;
};

static bool log_takes_nothing(struct cmq_ring *ring, enum ing_wait_end *ret_end)
{
    enum cmq_log_health health = cmq_ring_log_health(ring);
    *ret_end = health == CMQ_LOG_HEALTH_FULL ? ING_WAIT_FULL : ING_WAIT_FAILED;
    return health == CMQ_LOG_HEALTH_FULL || health == CMQ_LOG_HEALTH_FAILED;
}

/* Whether the wait ends now. */
static bool judge(struct ing_durable *durable, struct ing_wait *wait, uint64_t now_ns, bool broken,
                  enum ing_wait_end broken_end)
{
    if (wait->seq < durable->cursor[wait->level].seen) {
        bool known = cmq_ring_outcome(durable->ring, wait->seq, &wait->outcome);
        wait->end = known ? ING_WAIT_DONE : ING_WAIT_UNKNOWN;
        return true;
    }
    if (broken)
        wait->end = broken_end;
    else if (atomic_load_explicit(&durable->stop, memory_order_relaxed) != 0)
        wait->end = ING_WAIT_STOPPED;
    else if (now_ns >= wait->deadline_ns)
        wait->end = ING_WAIT_LATE;
    else
        return false;
    return true;
}

/* Takes the waits that end out of the list. Under the mutex. */
static void take_ended(struct ing_durable *durable, struct look *look, bool ret_has[2])
{
    enum ing_wait_end broken_end;
    const bool broken = log_takes_nothing(durable->ring, &broken_end);
    const uint64_t now_ns = cmq_clock_mono_ns();
    struct ing_wait **link = &durable->first, **ended = &look->ended;
    look->next_deadline_ns = now_ns + SLEEP_MS * CMQ_NS_PER_MS;
    while (*link != NULL) {
        struct ing_wait *wait = *link;
        ret_has[wait->level] = true;
        if (judge(durable, wait, now_ns, broken, broken_end)) {
            *link = wait->next;
            *ended = wait;
            ended = &wait->next;
        } else {
            look->next_deadline_ns = cmq_min_u64(look->next_deadline_ns, wait->deadline_ns);
            link = &wait->next;
        }
    }
    *ended = NULL;
}

static void settle_cursor(struct cursor *cursor, bool has, uint64_t *ret_follow)
{
    cursor->quiet = has ? 0 : cursor->quiet + 1;
    cursor->followed = cursor->quiet < QUIET_LOOKS;
    *ret_follow = cursor->followed ? cursor->seen : UINT64_MAX;
}

/* Sleeps first if nobody has waited for a while. Returns false when the stage stops and nobody waits. */
static bool look_through(struct ing_durable *durable, struct look *ret_look)
{
    bool has[2] = {false, false};
    pthread_mutex_lock(&durable->mutex);
    struct cursor *stored = &durable->cursor[ING_LEVEL_STORED],
                  *fsynced = &durable->cursor[ING_LEVEL_DURABLE];
    if (!stored->followed && !fsynced->followed) {
        durable->sleeping = true;
        while (durable->first == NULL && atomic_load_explicit(&durable->stop, memory_order_relaxed) == 0)
            pthread_cond_wait(&durable->added, &durable->mutex);
        durable->sleeping = false;
    }
    stored->seen = cmq_ring_stored_seq(durable->ring);
    fsynced->seen = cmq_ring_durable_seq(durable->ring);
    take_ended(durable, ret_look, has);
    settle_cursor(stored, has[ING_LEVEL_STORED], &ret_look->follow[ING_LEVEL_STORED]);
    settle_cursor(fsynced, has[ING_LEVEL_DURABLE], &ret_look->follow[ING_LEVEL_DURABLE]);
    bool more = durable->first != NULL || atomic_load_explicit(&durable->stop, memory_order_relaxed) == 0;
    pthread_mutex_unlock(&durable->mutex);
    return more;
}

/* The list is newest first; who came first is answered first. */
static void end_all(struct ing_wait *ended)
{
    struct ing_wait *ordered = NULL;
    while (ended != NULL) {
        struct ing_wait *wait = ended;
        ended = wait->next;
        wait->next = ordered;
        ordered = wait;
    }
    while (ordered != NULL) {
        struct ing_wait *wait = ordered;
        ordered = wait->next; /* before done: the memory may be used again at once */
        wait->done(wait);
    }
}

static void sleep_until_moved(struct ing_durable *durable, const struct look *look)
{
    if (look->follow[ING_LEVEL_STORED] == UINT64_MAX && look->follow[ING_LEVEL_DURABLE] == UINT64_MAX)
        return;
    uint64_t now_ns = cmq_clock_mono_ns();
    uint64_t left_ns = look->next_deadline_ns > now_ns ? look->next_deadline_ns - now_ns : 0;
    (void)cmq_ring_wait(durable->ring, CMQ_WAIT_DURABLE,
                        (uint32_t)((left_ns + CMQ_NS_PER_MS - 1) / CMQ_NS_PER_MS), &durable->stop);
}

static void *run(void *context)
{
    struct ing_durable *durable = context;
    struct look look;
    bool more;
    do {
        more = look_through(durable, &look);
        cmq_ring_follow(durable->ring, CMQ_WAIT_STORED, look.follow[ING_LEVEL_STORED]);
        cmq_ring_follow(durable->ring, CMQ_WAIT_DURABLE, look.follow[ING_LEVEL_DURABLE]);
        end_all(look.ended);
        if (more)
            sleep_until_moved(durable, &look);
    } while (more);
    return NULL;
}

enum cmq_err ing_durable_start(struct cmq_ring *ring, uint64_t wait_ms, struct ing_durable **ret_durable)
{
    struct ing_durable *durable = calloc(1, sizeof *durable);
    if (durable == NULL)
        return CMQ_ERR_NOMEM;
    durable->ring = ring;
    ing_durable_set_wait_ms(durable, wait_ms);
    if (pthread_mutex_init(&durable->mutex, NULL) != 0) {
        free(durable);
        return CMQ_ERR_NOMEM;
    }
    if (pthread_cond_init(&durable->added, NULL) != 0) {
        (void)pthread_mutex_destroy(&durable->mutex);
        free(durable);
        return CMQ_ERR_NOMEM;
    }
    if (pthread_create(&durable->thread, NULL, run, durable) != 0) {
        ing_durable_free(durable);
        return CMQ_ERR_SYSTEM;
    }
    (void)pthread_setname_np(durable->thread, "ing-durable");
    *ret_durable = durable;
    return CMQ_OK;
}

void ing_durable_set_wait_ms(struct ing_durable *durable, uint64_t wait_ms)
{
    atomic_store_explicit(&durable->wait_ms, wait_ms, memory_order_relaxed);
}

void ing_durable_stop(struct ing_durable *durable)
{
    pthread_mutex_lock(&durable->mutex);
    /* Under the mutex as in ing_durable_add; the ring reads it without. */
    atomic_store_explicit(&durable->stop, 1, memory_order_release);
    pthread_cond_signal(&durable->added);
    pthread_mutex_unlock(&durable->mutex);
    cmq_ring_wake(durable->ring, CMQ_WAIT_DURABLE);
    (void)pthread_join(durable->thread, NULL);
}

void ing_durable_free(struct ing_durable *durable)
{
    if (durable == NULL)
        return;
    (void)pthread_cond_destroy(&durable->added);
    (void)pthread_mutex_destroy(&durable->mutex);
    free(durable);
}

void ing_durable_add(struct ing_durable *durable, struct ing_wait *wait)
{
    /* Relaxed: a setting. */
    uint64_t wait_ms = atomic_load_explicit(&durable->wait_ms, memory_order_relaxed);
    const enum ing_level level = wait->level;
    wait->deadline_ns = cmq_clock_mono_ns() + wait_ms * CMQ_NS_PER_MS;
    pthread_mutex_lock(&durable->mutex);
    bool stopped = atomic_load_explicit(&durable->stop, memory_order_relaxed) != 0;
    bool wake = false;
    if (!stopped) {
        const struct cursor *cursor = &durable->cursor[level];
        wake = !durable->sleeping && (!cursor->followed || wait->seq < cursor->seen);
        wait->next = durable->first;
        durable->first = wait;
        if (durable->sleeping)
            pthread_cond_signal(&durable->added);
    }
    pthread_mutex_unlock(&durable->mutex);
    /* The log may have failed since the worker looked; the bell of that has rung already. */
    enum ing_wait_end ignored;
    if (wake || (!stopped && log_takes_nothing(durable->ring, &ignored)))
        cmq_ring_wake(durable->ring, CMQ_WAIT_DURABLE);
    if (stopped) {
        wait->end = ING_WAIT_STOPPED;
        wait->done(wait);
    }
}
