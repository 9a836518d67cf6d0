/*
 * ing_watch: open connections and the time by which each must have sent what it began to send.
 * Ownership: entries live in their connections; add before use, remove before the socket is closed.
 * Units: nanoseconds (monotonic), bytes.
 * Errors: none.
 * Callers: any thread. A deadline is set by the connection's own thread.
 *
 * The HTTP library has an idle time-out only, which one byte a minute satisfies. Here a head must be whole
 * grace_ns after its first line, and a body must come at body_bytes_per_s on average behind that grace. A
 * late socket is shut down, not closed: its owner notices and closes it.
 */
#ifndef ING_WATCH_H
#define ING_WATCH_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"

#define ING_WATCH_LINGER_NS (5u * CMQ_NS_PER_S)
#define ING_WATCH_TICK_MS   25u
#define ING_WATCH_ROUND_NS  CMQ_NS_PER_S

/* Instead of a deadline: between requests; and when it is our turn, so that nothing can be late. */
#define ING_WATCH_IDLE 0u
#define ING_WATCH_BUSY UINT64_MAX

struct ing_watched {
    struct ing_watched *prev, *next; /* under the list's mutex */
    int fd;
    bool shut;         /* by a sweep; under the mutex, as the next two */
    bool at_end;       /* in the last round */
    uint64_t swept_ns; /* deadline in the last round */
    atomic_uint_least64_t deadline_ns;
};

struct ing_watch {
    pthread_mutex_t mutex;
    struct ing_watched *first;
    size_t count;
    struct ing_watched *next;  /* of this round; NULL: the next one has not begun */
    uint64_t round_ns;         /* begin of the last one */
    uint64_t grace_ns;         /* as the next one, constant */
    uint64_t body_bytes_per_s; /* > 0 */
};

void ing_watch_init(struct ing_watch *watch, uint64_t grace_ns, uint64_t body_bytes_per_s);
/* Nothing may be watched any more. */
void ing_watch_fini(struct ing_watch *watch);
/* Both return how many there are now. */
size_t ing_watch_add(struct ing_watch *watch, struct ing_watched *entry, int fd);
size_t ing_watch_remove(struct ing_watch *watch, struct ing_watched *entry);
/*
 * To be called every ING_WATCH_TICK_MS. Looks at a part of the sockets, at each of them once a second at most, and shuts
 * late ones down; returns how many had missed their deadline.
 */
size_t ing_watch_sweep(struct ing_watch *watch, uint64_t now_ns);

static inline void ing_watch_set(struct ing_watched *entry, uint64_t deadline_ns)
{
    /* Relaxed: a time alone; a sweep that sees the old one acts a moment early or late. */
    atomic_store_explicit(&entry->deadline_ns, deadline_ns, memory_order_relaxed);
}
/* When a body must be here of which `bytes` bytes have come since start_ns; or a reply of so many be gone. */
static inline uint64_t ing_watch_body_deadline(const struct ing_watch *watch, uint64_t start_ns, size_t bytes)
{
    const uint64_t rate = watch->body_bytes_per_s; /* in two steps: a stream may have any size */
    return start_ns + watch->grace_ns + bytes / rate * CMQ_NS_PER_S + bytes % rate * CMQ_NS_PER_S / rate;
}

#endif
