/*
 * ctl_log: the retained log, unit by unit, without opening anything.
 * Ownership: the topic of a unit lives until the hook returns.
 * Units: messages, bytes, milliseconds since 1970; records [from_seq, end_seq).
 * Errors: as cmq_journal.h; what cannot be read is counted and passed.
 * Callers: the only thread. Read-only; safe beside the broker.
 */
#ifndef CTL_LOG_H
#define CTL_LOG_H

#include "ctl.h"

struct ctl_log_unit {
    struct cmq_span topic;
    uint64_t seq;
    uint32_t first, count; /* messages of the record */
    uint64_t accepted_at_ms;
    size_t sealed_bytes;
};

struct ctl_log {
    const char *what; /* shown beside the progress */
    uint64_t from_seq, end_seq;
    enum cmq_err (*on_unit)(void *context, const struct ctl_log_unit *unit);
    void *context;
    uint64_t damaged; /* records that cannot be read */
};

/* Up to where the log is: what the ring says is stored, or without a ring the last valid record. */
CMQ_MUST_USE enum cmq_err ctl_log_end(const struct cmq_conf *conf, uint64_t *ret_seq,
                                      struct cmq_reason *reason);
/* The lowest record that is there; end_seq: there is none, or no log yet. */
CMQ_MUST_USE enum cmq_err ctl_log_floor(const struct cmq_conf *conf, uint64_t end_seq, uint64_t *ret_seq,
                                        struct cmq_reason *reason);
/* Walks over all units. from_seq may be below the floor. No log yet: there is nothing in it. */
CMQ_MUST_USE enum cmq_err ctl_log_walk(const struct ctl *ctl, struct ctl_log *log, struct cmq_reason *reason);

#endif
