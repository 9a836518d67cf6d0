/*
 * log_dir: a log directory of a test, records whose content follows from their seq, and reading them back.
 * Ownership: the directory is removed by log_dir_close.
 * Units: bytes, records.
 * Errors: cmocka assertions.
 * Callers: tests of the log.
 */
#ifndef LOG_DIR_H
#define LOG_DIR_H

#include "common/journal/cmq_journal_format.h"
#include "encryptor/log/enc_log.h"

struct log_dir {
    char path[64];
    struct enc_log_setup setup;
    const uint8_t *salts; /* by seq: which of a record's possible contents is meant; NULL: 0 */
};

enum { LOG_DIR_SEGMENT = 16384, LOG_DIR_PAYLOAD_MAX = 65536, LOG_DIR_NOW_MS = 1000000 };

/* In memory (/dev/shm): small segments, first seq 1, no limits. */
void log_dir_open(struct log_dir *dir);
void log_dir_close(struct log_dir *dir);
/* In the memory of file_faults; no close. */
void log_dir_faulty(struct log_dir *dir, const struct cmq_file_ops *ops);

/* The payload of record seq: length and bytes follow from seq and salt. Every 16th is VOID and empty. */
size_t log_dir_payload(uint64_t seq, uint32_t salt, uint8_t *ret_payload);
/* Appends `count` records in groups of at most `group`; returns how many went in, ret_err why not more. */
uint64_t log_dir_append(const struct log_dir *dir, struct enc_log *log, uint64_t count, uint64_t group,
                        enum cmq_err *ret_err);
/* Opens with the system's own calls or those of the setup; must succeed. */
struct enc_log *log_dir_writer(const struct log_dir *dir);

struct log_dir_seen {
    uint64_t records; /* equal to what was written */
    uint64_t lost;    /* seqs that were told to be damaged or missing */
    uint64_t lost_from, lost_to;
};
/* Reads [from, end) and compares every byte; wrong data is a failed assertion. ret_lost, if not NULL: 1 at the index of every
 * seq that was lost, else unchanged. */
struct log_dir_seen log_dir_read(const struct log_dir *dir, uint64_t from, uint64_t end, size_t want_bytes,
                                 uint8_t *ret_lost);

#endif
