#include "tests/support/fake_ring.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_crash.h"

struct record {
    uint8_t *data;
    size_t bytes;
    uint32_t messages;
};

struct cmq_ring {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct record *records;
    size_t count, room, refused;
    enum cmq_err error;
    size_t record_room;
    uint64_t stored, durable, follow_stored, follow_durable, forgotten;
    enum cmq_log_health health;
    struct outcome {
        uint64_t seq;
        struct cmq_outcome outcome;
    } outcomes[16];
    size_t outcome_count, wakes, sleepers;
    bool poked; /* CMQ_WAIT_DURABLE */
    bool no_encryptor, draining;
    uint64_t counters[CMQ_COUNTER_COUNT];
};

struct cmq_ring *fake_ring_new(void)
{
    struct cmq_ring *ring = calloc(1, sizeof *ring);
    cmq_assert(ring != NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&ring->mutex, NULL);
    (void)pthread_cond_init(&ring->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    ring->room = FAKE_RING_ENDLESS;
    ring->record_room = SIZE_MAX;
    ring->stored = ring->durable = 1;
    ring->follow_stored = ring->follow_durable = UINT64_MAX;
    ring->health = CMQ_LOG_HEALTH_OK;
    return ring;
}

void fake_ring_free(struct cmq_ring *ring)
{
    for (size_t i = 0; i < ring->count; i++)
        free(ring->records[i].data);
    free(ring->records);
    (void)pthread_cond_destroy(&ring->changed);
    (void)pthread_mutex_destroy(&ring->mutex);
    free(ring);
}

static void lock(struct cmq_ring *ring)
{
    pthread_mutex_lock(&ring->mutex);
}

static void unlock(struct cmq_ring *ring)
{
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->mutex);
}

void fake_ring_set_room(struct cmq_ring *ring, size_t records)
{
    lock(ring);
    ring->room = records;
    unlock(ring);
}

void fake_ring_set_error(struct cmq_ring *ring, enum cmq_err err)
{
    lock(ring);
    ring->error = err;
    unlock(ring);
}

void fake_ring_set_record_room(struct cmq_ring *ring, size_t bytes)
{
    lock(ring);
    ring->record_room = bytes;
    unlock(ring);
}

void fake_ring_set_log(struct cmq_ring *ring, uint64_t stored, uint64_t durable)
{
    lock(ring);
    ring->stored = stored;
    ring->durable = durable;
    unlock(ring);
}

void fake_ring_set_health(struct cmq_ring *ring, enum cmq_log_health health)
{
    lock(ring);
    ring->health = health;
    unlock(ring);
}

void fake_ring_set_outcome(struct cmq_ring *ring, uint64_t seq, const struct cmq_outcome *outcome)
{
    lock(ring);
    cmq_assert(ring->outcome_count < CMQ_COUNT_OF(ring->outcomes));
    ring->outcomes[ring->outcome_count++] = (struct outcome){.seq = seq, .outcome = *outcome};
    unlock(ring);
}

void fake_ring_forget_outcomes(struct cmq_ring *ring, uint64_t seq)
{
    lock(ring);
    ring->forgotten = seq;
    unlock(ring);
}

size_t fake_ring_wakes(struct cmq_ring *ring)
{
    lock(ring);
    size_t wakes = ring->wakes;
    unlock(ring);
    return wakes;
}

size_t fake_ring_records(struct cmq_ring *ring)
{
    lock(ring);
    size_t count = ring->count;
    unlock(ring);
    return count;
}

struct cmq_span fake_ring_record(struct cmq_ring *ring, size_t index, uint32_t *ret_messages)
{
    lock(ring);
    cmq_assert(index < ring->count);
    struct record record = ring->records[index];
    unlock(ring);
    *ret_messages = record.messages;
    return cmq_span_make(record.data, record.bytes);
}

uint64_t fake_ring_counter(struct cmq_ring *ring, enum cmq_counter counter)
{
    lock(ring);
    uint64_t value = ring->counters[counter];
    unlock(ring);
    return value;
}

void fake_ring_await_refused(struct cmq_ring *ring, size_t refused)
{
    pthread_mutex_lock(&ring->mutex);
    while (ring->refused < refused)
        pthread_cond_wait(&ring->changed, &ring->mutex);
    pthread_mutex_unlock(&ring->mutex);
}

void fake_ring_await_records(struct cmq_ring *ring, size_t records)
{
    pthread_mutex_lock(&ring->mutex);
    while (ring->count < records)
        pthread_cond_wait(&ring->changed, &ring->mutex);
    pthread_mutex_unlock(&ring->mutex);
}

void fake_ring_await_sleeper(struct cmq_ring *ring)
{
    pthread_mutex_lock(&ring->mutex);
    while (ring->sleepers == 0)
        pthread_cond_wait(&ring->changed, &ring->mutex);
    pthread_mutex_unlock(&ring->mutex);
}

void fake_ring_await_counter(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value)
{
    pthread_mutex_lock(&ring->mutex);
    while (ring->counters[counter] != value)
        pthread_cond_wait(&ring->changed, &ring->mutex);
    pthread_mutex_unlock(&ring->mutex);
}

/* ---- cmq_ring.h ---- */

static void store(struct cmq_ring *ring, const struct cmq_span *parts, size_t part_count, uint32_t messages)
{
    struct record record = {.messages = messages};
    for (size_t i = 0; i < part_count; i++)
        record.bytes += parts[i].bytes;
    record.data = malloc(record.bytes);
    ring->records = realloc(ring->records, (ring->count + 1) * sizeof *ring->records);
    cmq_assert(record.data != NULL && ring->records != NULL);
    size_t at = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].bytes != 0)
            memcpy(record.data + at, parts[i].data, parts[i].bytes);
        at += parts[i].bytes;
    }
    ring->records[ring->count++] = record;
}

enum cmq_err cmq_ring_publish(struct cmq_ring *ring, const struct cmq_span *parts, size_t part_count,
                              uint32_t messages, uint64_t *ret_seq)
{
    enum cmq_err err = CMQ_OK;
    size_t bytes = 0;
    for (size_t i = 0; i < part_count; i++)
        bytes += parts[i].bytes;
    lock(ring);
    if (ring->error != CMQ_OK) {
        err = ring->error;
    } else if (ring->room == 0 || bytes > ring->record_room) {
        ring->refused++;
        err = CMQ_ERR_FULL;
    } else {
        if (ring->room != FAKE_RING_ENDLESS)
            ring->room--;
        store(ring, parts, part_count, messages);
        *ret_seq = ring->count;
    }
    unlock(ring);
    return err;
}

static bool moved(const struct cmq_ring *ring)
{
    return ring->stored > ring->follow_stored || ring->durable > ring->follow_durable;
}

/* Sleeps as long as it may: what has to wake it must do so. */
static bool wait_durable(struct cmq_ring *ring, uint32_t timeout_ms, const atomic_uint *stop)
{
    uint64_t until_ns = cmq_clock_mono_ns() + timeout_ms * CMQ_NS_PER_MS;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CMQ_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CMQ_NS_PER_S)};
    int error = 0;
    pthread_mutex_lock(&ring->mutex);
    enum cmq_log_health health = ring->health;
    ring->sleepers++;
    pthread_cond_broadcast(&ring->changed);
    while (!moved(ring) && !ring->poked && health == ring->health && error == 0 && atomic_load(stop) == 0)
        error = pthread_cond_timedwait(&ring->changed, &ring->mutex, &until);
    ring->sleepers--;
    ring->poked = false;
    ring->wakes += moved(ring);
    bool found = moved(ring);
    pthread_mutex_unlock(&ring->mutex);
    return found;
}

bool cmq_ring_wait(struct cmq_ring *ring, enum cmq_wait kind, uint32_t timeout_ms, const atomic_uint *stop)
{
    if (kind == CMQ_WAIT_DURABLE)
        return wait_durable(ring, timeout_ms, stop);
    cmq_assert(kind == CMQ_WAIT_SPACE_INGEST);
    uint64_t until_ns = cmq_clock_mono_ns() + cmq_min_u64(timeout_ms, 50) * CMQ_NS_PER_MS;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CMQ_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CMQ_NS_PER_S)};
    pthread_mutex_lock(&ring->mutex);
    int error = 0;
    while (ring->room == 0 && error == 0 && atomic_load(stop) == 0)
        error = pthread_cond_timedwait(&ring->changed, &ring->mutex, &until);
    bool room = ring->room != 0;
    pthread_mutex_unlock(&ring->mutex);
    return room;
}

void cmq_ring_wake(struct cmq_ring *ring, enum cmq_wait kind)
{
    lock(ring);
    ring->poked = ring->poked || kind == CMQ_WAIT_DURABLE;
    unlock(ring);
}

void cmq_ring_follow(struct cmq_ring *ring, enum cmq_wait kind, uint64_t seq)
{
    cmq_assert(kind == CMQ_WAIT_STORED || kind == CMQ_WAIT_DURABLE);
    lock(ring);
    if (kind == CMQ_WAIT_STORED)
        ring->follow_stored = seq;
    else
        ring->follow_durable = seq;
    unlock(ring);
}

uint64_t cmq_ring_stored_seq(struct cmq_ring *ring)
{
    lock(ring);
    uint64_t seq = ring->stored;
    unlock(ring);
    return seq;
}

uint64_t cmq_ring_durable_seq(struct cmq_ring *ring)
{
    lock(ring);
    uint64_t seq = ring->durable;
    unlock(ring);
    return seq;
}

enum cmq_log_health cmq_ring_log_health(struct cmq_ring *ring)
{
    lock(ring);
    enum cmq_log_health health = ring->health;
    unlock(ring);
    return health;
}

bool cmq_ring_outcome(struct cmq_ring *ring, uint64_t seq, struct cmq_outcome *ret_outcome)
{
    lock(ring);
    bool known = seq < ring->stored && seq >= ring->forgotten;
    *ret_outcome = (struct cmq_outcome){.kind = CMQ_OUTCOME_KEPT};
    for (size_t i = 0; i < ring->outcome_count; i++)
        if (ring->outcomes[i].seq == seq)
            *ret_outcome = ring->outcomes[i].outcome;
    unlock(ring);
    return known;
}

void cmq_ring_observe(struct cmq_ring *ring, enum cmq_hist hist, uint64_t ns)
{
    (void)ring, (void)hist, (void)ns;
}

void cmq_ring_count(struct cmq_ring *ring, enum cmq_counter counter, uint64_t add)
{
    lock(ring);
    ring->counters[counter] += add;
    unlock(ring);
}

void cmq_ring_gauge(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value)
{
    lock(ring);
    ring->counters[counter] = value;
    unlock(ring);
}

#ifdef CMQ_CRASH_POINTS
void cmq_crash_point(const char *label)
{
    (void)label;
}
#endif

void cmq_ring_state(struct cmq_ring *ring, struct cmq_ring_state *ret_state)
{
    lock(ring);
    *ret_state = (struct cmq_ring_state){.first_seq = 1, .draining = ring->draining};
    unlock(ring);
}

bool cmq_ring_role_is_alive(struct cmq_ring *ring, enum cmq_role role)
{
    lock(ring);
    bool alive = role != CMQ_ROLE_ENCRYPTOR || !ring->no_encryptor;
    unlock(ring);
    return alive;
}

void fake_ring_set_members(struct cmq_ring *ring, bool encryptor, bool draining)
{
    lock(ring);
    ring->no_encryptor = !encryptor;
    ring->draining = draining;
    unlock(ring);
}
