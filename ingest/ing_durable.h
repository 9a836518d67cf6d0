/*
 * ing_durable: requests whose record is in the ring wait here until the log has it.
 * Ownership: a wait is the caller's memory and must stay until its done callback has run.
 * Units: milliseconds; nanoseconds (monotonic).
 * Errors: how a wait ended, see enum ing_wait_end. At start CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM.
 * Callers: any thread; nothing here blocks but ing_durable_stop.
 *
 *   - the worker that published the record adds a wait and is free;
 *   - one thread sleeps until the log has moved, which it does once a group commit, and ends all waits that it passed;
 *   - adding a wait wakes nobody, except after a pause without any;
 *   - a wait also ends when it took too long, when the log takes nothing any more, and when the stage stops. The record is
 *     in the ring then and may still be kept: never is a 2xx given for it.
 * A log writer or an encryptor that is restarted only makes the waits longer.
 */
#ifndef ING_DURABLE_H
#define ING_DURABLE_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "common/shm/cmq_ring.h"

enum ing_level {
    ING_LEVEL_STORED, /* in the log, and its outcome is known */
    ING_LEVEL_DURABLE /* and survives a power cut */
};

enum ing_wait_end {
    ING_WAIT_DONE,    /* outcome says what became of the record */
    ING_WAIT_UNKNOWN, /* the log passed it, but what became of it is not known any more */
    ING_WAIT_LATE,
    ING_WAIT_FULL,   /* the log is full */
    ING_WAIT_FAILED, /* the log cannot be written */
    ING_WAIT_STOPPED
};

struct ing_wait {
    struct ing_wait *next; /* private to ing_durable, as the next one */
    uint64_t deadline_ns;
    uint64_t seq; /* by the caller, as the next two */
    enum ing_level level;
    void (*done)(struct ing_wait *wait); /* runs once, on the waiting thread or in ing_durable_add */
    enum ing_wait_end end;               /* written before done, as the next one */
    struct cmq_outcome outcome;
};

struct ing_durable;

/* Starts the waiting thread. */
CMQ_MUST_USE enum cmq_err ing_durable_start(struct cmq_ring *ring, uint64_t wait_ms,
                                            struct ing_durable **ret_durable);
/* For waits that are added from now on. */
void ing_durable_set_wait_ms(struct ing_durable *durable, uint64_t wait_ms);
/* Ends all waits with ING_WAIT_STOPPED, also those added later, and ends the thread. Call once. */
void ing_durable_stop(struct ing_durable *durable);
/* After ing_durable_stop, when no other thread uses it any more. NULL is fine. */
void ing_durable_free(struct ing_durable *durable);

/* done runs exactly once, perhaps before this returns. */
void ing_durable_add(struct ing_durable *durable, struct ing_wait *wait);

#endif
