#include "ingest/ing_watch.h"

#include <sys/socket.h>

/*
 * A round is done in this many sweeps, and a sweep ends one in so many of those that it looks at, and one more: thousands
 * that came together are late together, and come again together; all at once they would keep everybody waiting.
 */
enum { ROUND_SWEEPS = 32, LATE_PART = 16 };

void ing_watch_init(struct ing_watch *watch, uint64_t grace_ns, uint64_t body_bytes_per_s)
{
    cmq_assert(body_bytes_per_s != 0);
    *watch = (struct ing_watch){.grace_ns = grace_ns, .body_bytes_per_s = body_bytes_per_s};
    int error = pthread_mutex_init(&watch->mutex, NULL);
    cmq_assert(error == 0);
}

void ing_watch_fini(struct ing_watch *watch)
{
    cmq_assert(watch->first == NULL);
    (void)pthread_mutex_destroy(&watch->mutex);
}

size_t ing_watch_add(struct ing_watch *watch, struct ing_watched *entry, int fd)
{
    entry->fd = fd;
    entry->shut = false;
    entry->at_end = false;
    atomic_init(&entry->deadline_ns, ING_WATCH_IDLE);
    pthread_mutex_lock(&watch->mutex);
    entry->prev = NULL;
    entry->next = watch->first;
    if (entry->next != NULL)
        entry->next->prev = entry;
    watch->first = entry;
    size_t count = ++watch->count;
    pthread_mutex_unlock(&watch->mutex);
    return count;
}

size_t ing_watch_remove(struct ing_watch *watch, struct ing_watched *entry)
{
    pthread_mutex_lock(&watch->mutex);
    if (watch->next == entry)
        watch->next = entry->next;
    if (entry->prev != NULL)
        entry->prev->next = entry->next;
    else
        watch->first = entry->next;
    if (entry->next != NULL)
        entry->next->prev = entry->prev;
    size_t count = --watch->count;
    pthread_mutex_unlock(&watch->mutex);
    return count;
}

/* The peer sends nothing more, and all that it sent was read. */
static bool is_at_end(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static bool has_ended(struct ing_watched *entry, uint64_t deadline_ns)
{
    bool was_at_end = entry->at_end && entry->swept_ns == deadline_ns;
    entry->at_end = is_at_end(entry->fd);
    entry->swept_ns = deadline_ns;
    return was_at_end && entry->at_end;
}

/* Whether it was shut down for being late. */
static bool sweep_one(struct ing_watched *entry, uint64_t now_ns)
{
    uint64_t deadline_ns = atomic_load_explicit(&entry->deadline_ns, memory_order_relaxed);
    if (entry->shut || deadline_ns == ING_WATCH_BUSY)
        return false;
    bool is_late = deadline_ns != ING_WATCH_IDLE && now_ns >= deadline_ns;
    if (!is_late && !has_ended(entry, deadline_ns))
        return false;
    (void)shutdown(entry->fd, SHUT_RDWR);
    entry->shut = true;
    return is_late;
}

static void begin_round(struct ing_watch *watch, uint64_t now_ns)
{
    if (watch->next != NULL || now_ns - watch->round_ns < ING_WATCH_ROUND_NS)
        return;
    watch->next = watch->first;
    watch->round_ns = now_ns;
}

size_t ing_watch_sweep(struct ing_watch *watch, uint64_t now_ns)
{
    size_t late = 0;
    /* Under the mutex no entry is removed, so no fd can have been closed and used again. */
    pthread_mutex_lock(&watch->mutex);
    begin_round(watch, now_ns);
    const size_t part = watch->count / ROUND_SWEEPS + 1, late_max = part / LATE_PART + 1;
    for (size_t i = 0; i < part && late < late_max && watch->next != NULL; i++) {
        late += sweep_one(watch->next, now_ns);
        watch->next = watch->next->next;
    }
    pthread_mutex_unlock(&watch->mutex);
    return late;
}
