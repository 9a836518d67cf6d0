/*
 * ing_admit: records enter the ring here, at once or, when it is full, in the order in which they came.
 * Ownership: tickets are the caller's memory and must stay until their done callback has run; the record's bytes
 *            are copied when a ticket is filled and freed before done.
 * Units: milliseconds, bytes.
 * Errors: CMQ_ERR_AGAIN (no room now: fill a ticket and queue it), CMQ_ERR_FULL (no room, and waiting is over or
 *         not allowed), CMQ_ERR_DRAINING, CMQ_ERR_NOMEM, else what cmq_ring_publish says.
 * Callers: any thread; nothing here blocks but ing_admit_stop.
 *
 *   - nobody waits, and the ring has room: published at once by the caller;
 *   - else the request joins a queue; one thread publishes from its front whenever the ring gains room;
 *   - whoever comes while others wait joins the queue too, so nobody is overtaken for long;
 *   - a request that waited admission_wait_ms, and everything queued when the stage stops, ends with an
 * error.
 */
#ifndef ING_ADMIT_H
#define ING_ADMIT_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "common/shm/cmq_ring.h"

struct ing_admit;

struct ing_ticket {
    struct ing_ticket *next; /* private to ing_admit, as the next four */
    uint8_t *record;
    size_t record_bytes;
    uint32_t messages;
    uint64_t queued_ns;
    void (*done)(struct ing_ticket *ticket); /* runs once, on the waiting thread or in ing_admit_queue */
    enum cmq_err err;                        /* result, written before done */
    uint64_t seq;                            /* if err is CMQ_OK */
};

struct ing_admit_limits {
    uint64_t wait_ms;
    uint64_t waiting_bytes_max;
};

/* Starts the waiting thread. */
CMQ_MUST_USE enum cmq_err ing_admit_start(struct cmq_ring *ring, const struct ing_admit_limits *limits,
                                          struct ing_admit **ret_admit);
/* New limits, also for those who wait already. */
void ing_admit_set_limits(struct ing_admit *admit, const struct ing_admit_limits *limits);
/* Ends all waiting with CMQ_ERR_DRAINING, and ends the thread. From then on ing_admit_publish says
 * CMQ_ERR_DRAINING. Call once. */
void ing_admit_stop(struct ing_admit *admit);
/* After ing_admit_stop, when no other thread uses it any more. NULL is fine. */
void ing_admit_free(struct ing_admit *admit);

CMQ_MUST_USE enum cmq_err ing_admit_publish(struct ing_admit *admit, const struct cmq_span *parts,
                                            size_t part_count, uint32_t messages, uint64_t *ret_seq);
/* Copies the record. CMQ_ERR_FULL: waiting_bytes_max is reached. On CMQ_OK ing_admit_queue must follow. */
CMQ_MUST_USE enum cmq_err ing_ticket_fill(struct ing_admit *admit, struct ing_ticket *ticket,
                                          const struct cmq_span *parts, size_t part_count, uint32_t messages);
/* done runs exactly once, perhaps before this returns. */
void ing_admit_queue(struct ing_admit *admit, struct ing_ticket *ticket);

#endif
