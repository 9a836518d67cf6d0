/*
 * enc_log: the log's writer: segments, append, sync, recovery, retention.
 * Ownership: a log is heap memory of one thread; it holds the log lock (an open file description lock on DIRECTORY/lock)
 *            from open to close, so there is one writer at a time, and the kernel frees it when that one dies.
 * Units: bytes, records, milliseconds.
 * Errors: CMQ_ERR_AGAIN (somebody else holds the lock), CMQ_ERR_FULL (no space on the disk, or reject_new and the limit is
 *         reached: nothing was written, try again later), CMQ_ERR_SYSTEM (a write or a sync failed: this log is
 *         poisoned, every further call fails; close and open again, which reads back what is really there),
 *         CMQ_ERR_PERMISSION, CMQ_ERR_VERSION, CMQ_ERR_CORRUPT, CMQ_ERR_NOMEM, each with a sentence.
 * Callers: the log thread.
 *
 * Format: common/journal/cmq_journal.h.
 */
#ifndef ENC_LOG_H
#define ENC_LOG_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/journal/cmq_journal.h"

enum enc_log_retention { ENC_LOG_DISCARD_OLD, ENC_LOG_REJECT_NEW };

struct enc_log_setup {
    const char *directory; /* made (0750) if only its last part is missing */
    const struct cmq_file_ops *ops;
    uint64_t first_seq;     /* of an empty log */
    uint64_t segment_bytes; /* of a new segment; a record that needs more gets a segment of its own size */
    uint64_t retention_bytes;
    uint64_t retention_ms; /* 0: no limit by age */
    enum enc_log_retention retention;
    /* Not 0: a sync has failed, and the kernel may have dropped what it should have written although it can still be read.
     * What is read back from this record on is written again to its place, so that the next sync covers it. */
    uint64_t rewrite_from;
};

struct enc_log;

/* Takes the lock, reads back what is there, cuts a torn tail (only when nothing valid follows it). Idempotent under
 * death at any step. CMQ_ERR_CORRUPT: a segment file is missing in the middle or at the end; the reason says which, and how
 * to go on without it. What is read back may not be synced yet: call enc_log_sync before anybody is told of it. */
CMQ_MUST_USE enum cmq_err enc_log_open(const struct enc_log_setup *setup, struct enc_log **ret_log,
                                       struct cmq_reason *reason);
/* Accepts NULL. Does not sync. */
void enc_log_close(struct enc_log *log);

struct enc_log_record {
    uint64_t seq; /* consecutive, from enc_log_next_seq on */
    struct cmq_span payload;
    uint32_t messages;
    enum cmq_journal_type type;
    uint16_t flags;
};
/* Writes all records (as few calls as possible, over segments where needed); they are not synced yet. *ret_written is how
 * many of them were written whole before an error: those are in the log. CMQ_ERR_TOO_BIG: a payload of 4 GiB or more. */
CMQ_MUST_USE enum cmq_err enc_log_append(struct enc_log *log, const struct enc_log_record *records,
                                         size_t count, uint64_t now_ms, size_t *ret_written,
                                         struct cmq_reason *reason);
/* What was appended survives a power cut when this returns CMQ_OK. */
CMQ_MUST_USE enum cmq_err enc_log_sync(struct enc_log *log, struct cmq_reason *reason);
/* Removes or recycles whole segments beyond the limits (discard_old), or by age only (reject_new). Never the newest. */
CMQ_MUST_USE enum cmq_err enc_log_retain(struct enc_log *log, uint64_t now_ms, struct cmq_reason *reason);

uint64_t enc_log_next_seq(const struct enc_log *log);
uint64_t enc_log_floor(const struct enc_log *log); /* lowest seq; next_seq when empty */
uint64_t enc_log_bytes(const struct enc_log *log); /* on disk */
uint64_t
enc_log_damaged(const struct enc_log *log); /* records that recovery found unreadable in the newest segment */

#endif
