/*
 * enc_logger: the thread that writes the log, in that encryptor which holds the log lock; in the others it waits for it.
 * Ownership: a logger owns its log and its buffers; ring, filter and the texts of the setup are borrowed and outlive it.
 * Units: milliseconds; seq as in cmq_ring.h.
 * Errors: what only a human can mend is said in the log, and `fail` is called with the exit code; everything else is
 *         waited for: publishers see it as the ring's log health.
 * Callers: the main thread; the logger runs a thread of its own. Tests call enc_logger_step instead of starting it.
 *
 * Happy path of a step:
 *   - all records that are committed from `stored` on, up to a bound, are judged by the filter;
 *   - the filter's table is written, then the group is appended to the log with one call, and flushed (sync=always);
 *   - `stored` and `durable` are moved, which wakes dispatchers and waiting publishers.
 * Failure modes:
 *   - death anywhere: the lock is free; the next writer finds in the log what was written, flushes it, and moves the cursors;
 *   - no space: the health is FULL, what was written counts, the rest waits in the ring;
 *   - a write or a flush fails: the health is FAILED, the log is closed and opened again. A flush that failed may have
 *     dropped what it should have written while it can still be read, so everything above `durable` is then written again
 *     before it is flushed (enc_log_setup.rewrite_from);
 *   - the ring is ahead of the log: files are gone. Refused.
 */
#ifndef ENC_LOGGER_H
#define ENC_LOGGER_H

#include "common/conf/cmq_conf.h"
#include "common/shm/cmq_ring.h"
#include "encryptor/enc_filter.h"
#include "encryptor/log/enc_log.h"

struct enc_logger_setup {
    struct cmq_ring *ring; /* attached as encryptor */
    struct enc_log_setup log;
    enum cmq_conf_sync sync;
    uint32_t sync_ms;          /* interval */
    struct enc_filter *filter; /* NULL: message ids are not looked at */
    uint64_t (*wall_ms)(void); /* NULL: the clock */
    void (*fail)(void *context, int exit_code);
    void *context;
};

struct enc_logger;

CMQ_MUST_USE enum cmq_err enc_logger_new(const struct enc_logger_setup *setup, struct enc_logger **ret_logger,
                                         struct cmq_reason *reason);
CMQ_MUST_USE enum cmq_err enc_logger_start(struct enc_logger *logger, struct cmq_reason *reason);
/* Does what there is to do; returns how long to wait for more. */
uint32_t enc_logger_step(struct enc_logger *logger);
/* Holds the log lock, and can write. */
bool enc_logger_writes(const struct enc_logger *logger);
/* With the lock (or if nobody has it): what is committed now is stored. The lock is released. Not more: others may seal on.
 * Returns when the thread has stopped. */
void enc_logger_drain(struct enc_logger *logger);
/* Drains. NULL is fine. */
void enc_logger_free(struct enc_logger *logger);

#endif
