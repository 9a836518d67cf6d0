/*
 * enc_log_int: what the files of enc_log share: the state of a log, and its segments.
 * Ownership: as in enc_log.h.
 * Units: bytes, records, milliseconds since 1970.
 * Errors: as in enc_log.h.
 * Callers: encryptor/log.
 */
#ifndef ENC_LOG_INT_H
#define ENC_LOG_INT_H

#include <sys/uio.h>

#include "common/journal/cmq_journal_format.h"
#include "encryptor/log/enc_log.h"

enum {
    ENC_LOG_PARTS = 1024,              /* IOV_MAX of Linux */
    ENC_LOG_BATCH = ENC_LOG_PARTS / 3, /* head, payload, padding */
    ENC_LOG_FILE_MODE = 0640,          /* dispatchers read by their group */
    ENC_LOG_DIRECTORY_MODE = 0750
};

#define ENC_LOG_NEW_NAME    "new.tmp"   /* a segment in the making */
#define ENC_LOG_SPARE_NAME  "spare.tmp" /* a segment whose records are out of retention, for the next one */
#define ENC_LOG_LOCK_NAME   "lock"
#define ENC_LOG_ACCEPT_NAME "accept-missing" /* made by an operator: go on without the missing segments */

struct enc_log_segment {
    uint64_t first_seq;
    uint64_t bytes;
    uint64_t created_at_ms; /* 0: not known */
};

struct enc_log {
    struct enc_log_setup setup; /* directory is a copy; segment_bytes a multiple of the page */
    char *directory;
    int lock_fd, directory_fd;
    int fd;                           /* of the newest segment; -1: there is none */
    struct enc_log_segment *segments; /* rising; the last one is the newest */
    size_t count, capacity;
    uint64_t bytes;       /* of all segments */
    uint64_t spare_bytes; /* 0: there is no spare */
    uint64_t offset;      /* in the newest segment: where the next record goes */
    uint64_t next_seq;
    uint64_t damaged;
    bool dirty;                     /* something is not synced */
    bool retired;                   /* a removed name may come back after a power cut */
    bool poisoned;                  /* for good */
    struct cmq_journal_marks marks; /* of the newest segment */
    struct cmq_journal_record heads[ENC_LOG_BATCH];
    struct iovec parts[ENC_LOG_PARTS];
};

static inline struct enc_log_segment *enc_log_newest(struct enc_log *log)
{
    return &log->segments[log->count - 1];
}

/* The name must be one of the above, so the length was checked by enc_log_open. */
void enc_log_path(const struct enc_log *log, char ret_path[CMQ_JOURNAL_PATH_BYTES], const char *name);
/* errno of a call that changes files: CMQ_ERR_FULL and CMQ_ERR_NOMEM pass, everything else poisons the log. */
enum cmq_err enc_log_failed(struct enc_log *log, const char *what, struct cmq_reason *reason);

/* Makes room for a record of so many bytes (head and padding included): in the newest segment, or in a new one. */
CMQ_MUST_USE enum cmq_err enc_log_make_room(struct enc_log *log, uint64_t record_bytes, uint64_t now_ms,
                                            struct cmq_reason *reason);
CMQ_MUST_USE enum cmq_err enc_log_add_segment(struct enc_log *log, const struct enc_log_segment *segment);
/* Finds segments, leftovers and missing files, and reads back the newest segment. The lock is held. */
CMQ_MUST_USE enum cmq_err enc_log_recover(struct enc_log *log, struct cmq_reason *reason);

#endif
