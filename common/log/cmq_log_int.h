/*
 * cmq_log_int: the clock of the log, so that a test can move it.
 * Ownership: none.
 * Units: nanoseconds.
 * Errors: none.
 * Callers: tests/unit only, before other threads log.
 */
#ifndef CMQ_LOG_INT_H
#define CMQ_LOG_INT_H

#include <stdint.h>

/* What decides about repeats; the ts field stays wall time. */
void cmq_log_set_mono_clock(uint64_t (*mono_ns)(void));

#endif
