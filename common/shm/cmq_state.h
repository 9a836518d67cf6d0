/*
 * cmq_state: a look at the broker as one JSON object, for ciphermqctl status --json and the dashboard.
 * Ownership: appends to the caller's buffer.
 * Units: milliseconds, seconds, bytes, records; counters of an instance are those of its present process.
 * Errors: CMQ_ERR_NOMEM, CMQ_ERR_TOO_BIG (of the buffer).
 * Callers: any thread.
 */
#ifndef CMQ_STATE_H
#define CMQ_STATE_H

#include "common/base/cmq_buf.h"
#include "common/shm/cmq_sight.h"

/* No line end. names: with topics, groups, clients and the last errors; else each of these is null, for who may see how much is
 * going on, but not what. */
CMQ_MUST_USE enum cmq_err cmq_state_write(const struct cmq_sight *sight, const char *version, bool names,
                                          struct cmq_buf *text);

/* For cmq_state.c: those members, with a comma before the first. */
struct cmq_writer;
CMQ_MUST_USE enum cmq_err cmq_state_write_tables(const struct cmq_sight *sight, struct cmq_writer *writer);

#endif
