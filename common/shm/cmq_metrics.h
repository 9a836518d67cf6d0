/*
 * cmq_metrics: the broker's numbers as text, in the Prometheus exposition format 0.0.4.
 * Ownership: appends to the caller's buffer.
 * Units: seconds and bytes, as Prometheus wants them; records are sequence numbers.
 * Errors: CMQ_ERR_NOMEM, CMQ_ERR_TOO_BIG (of the buffer).
 * Callers: any thread.
 */
#ifndef CMQ_METRICS_H
#define CMQ_METRICS_H

#include "common/base/cmq_buf.h"
#include "common/shm/cmq_sight.h"

#define CMQ_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Everything that is known of all instances, those included that do not run. topics: with those of each topic, which are at
 * most 129 for an encryptor and metric. */
CMQ_MUST_USE enum cmq_err cmq_metrics_write(const struct cmq_sight *sight, const char *version, bool topics,
                                            struct cmq_buf *text);

/* For cmq_metrics.c: those of the tables. */
struct cmq_writer;
CMQ_MUST_USE enum cmq_err cmq_metrics_write_tables(const struct cmq_sight *sight, bool topics,
                                                   struct cmq_writer *writer);

#endif
