/*
 * enc_logger_int: what the files of enc_logger share: the state, and the ways into and out of trouble.
 * Ownership: as in enc_logger.h.
 * Units: milliseconds; functions that return uint32_t say how long to wait before the next step.
 * Errors: as in enc_logger.h.
 * Callers: encryptor/enc_logger*.c, log thread.
 */
#ifndef ENC_LOGGER_INT_H
#define ENC_LOGGER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "encryptor/enc_logger.h"

enum {
    GROUP_RECORDS = 1024,
    GROUP_BYTES = 8 << 20,
    LOCK_MS = 20,     /* between two looks at the lock that another encryptor holds */
    FULL_MS = 100,    /* between two attempts on a full disk */
    FAILED_MS = 500,  /* between two attempts to open a log that failed */
    TROUBLE_MS = 100, /* a key file, a mapping */
    IDLE_MS = 1000,   /* the ring has its own, shorter bound */
    TIDY_MS = 1000    /* between two looks at retention and at old ids */
};

struct enc_logger {
    struct enc_logger_setup setup;
    struct enc_log *log; /* NULL: somebody else writes, or it failed */
    uint64_t next_seq;   /* first record that the log does not have */
    uint64_t synced_seq; /* first record that may not survive a power cut */
    uint64_t unsynced_since_ns;
    uint64_t tidied_ns;
    uint64_t written_bytes; /* since retention was looked at */
    bool worked;            /* this process has written the log before */
    bool refused;           /* `fail` was called */
    bool finished;          /* drained */
    bool trouble;           /* and it was said */
    uint64_t dropped;       /* ids, as last reported */

    struct enc_log_record records[GROUP_RECORDS];
    struct cmq_outcome outcomes[GROUP_RECORDS];

    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;   /* for stopped only */
    pthread_cond_t stopped; /* stop was set */
    atomic_uint stop;
};

uint64_t enc_logger_wall_ms(const struct enc_logger *logger);
/* Gauges. */
void enc_logger_show(struct enc_logger *logger);
void enc_logger_health(struct enc_logger *logger, enum cmq_log_health health, const char *why);
/* Lets go of the lock: another encryptor, or a later attempt of ours, goes on. */
void enc_logger_release(struct enc_logger *logger);
uint32_t enc_logger_failed(struct enc_logger *logger, const char *why);
/* For good. */
uint32_t enc_logger_refuse(struct enc_logger *logger, const char *why);

CMQ_MUST_USE enum cmq_err enc_logger_sync(struct enc_logger *logger, struct cmq_reason *reason);
void enc_logger_move_cursors(struct enc_logger *logger);
/* Tries to become the writer. 0: it is. */
uint32_t enc_logger_take(struct enc_logger *logger);

#endif
