/*
 * cmq_log: the only writer to stderr. One line a call: `ts=... level=... stage=... inst=... pid=... ev=... key=value...`.
 * Ownership: nothing is kept of the arguments.
 * Units: a line has at most 1,024 bytes; longer ones are cut and end in `cut=1`.
 * Errors: none are returned; a line that cannot be written is counted and lost, cmq_log_tick reports the count.
 * Callers: any thread. Never pass payloads, keys or tokens; client strings go through cmq_log_quote.
 */
#ifndef CMQ_LOG_H
#define CMQ_LOG_H

#include <stddef.h>

#include "common/base/cmq_err.h"

enum cmq_log_level { CMQ_LOG_DEBUG, CMQ_LOG_INFO, CMQ_LOG_WARN, CMQ_LOG_ERROR };

/* Every event that the broker can report, once. The name in the log is the lower-case word. */
#define CMQ_LOG_EVENT_MAP(X)            \
    X(STARTING, "starting")             \
    X(READY, "ready")                   \
    X(WAITING, "waiting")               \
    X(DRAINING, "draining")             \
    X(DRAINED, "drained")               \
    X(STOPPED, "stopped")               \
    X(RELOADED, "reloaded")             \
    X(REFUSED, "refused")               \
    X(RING_CREATED, "ring_created")     \
    X(MEMBER_DEAD, "member_dead")       \
    X(RECORD_VOID, "record_void")       \
    X(RECORD_BAD, "record_bad")         \
    X(DEAD_LETTER, "dead_letter")       \
    X(RING_FULL, "ring_full")           \
    X(RING_CORRUPT, "ring_corrupt")     \
    X(LOG_TAKEN, "log_taken")           \
    X(LOG_RELEASED, "log_released")     \
    X(LOG_FULL, "log_full")             \
    X(LOG_FAILED, "log_failed")         \
    X(LOG_WORKS, "log_works")           \
    X(LISTENING, "listening")           \
    X(CLIENT_REFUSED, "client_refused") \
    X(CLIENT_SLOW, "client_slow")       \
    X(KEYRING_LOADED, "keyring_loaded") \
    X(KEY_REFUSED, "key_refused")       \
    X(OPERATION, "operation")           \
    X(LIBRARY, "library")               \
    X(SYSTEM_ERROR, "system_error")     \
    X(REPEATED, "repeated")

enum cmq_log_event {
#define X(name, text) CMQ_EV_##name,
    CMQ_LOG_EVENT_MAP(X)
#undef X
};

/* Sets the fixed fields of every following line. stage must outlive the process (a literal). Call once, early. */
void cmq_log_open(const char *stage, unsigned instance, enum cmq_log_level level);
void cmq_log_set_level(enum cmq_log_level level);

/* fmt gives the `key=value` pairs after ev=. Values with blanks must be quoted by cmq_log_quote. The same event at
 * WARN or ERROR more than 20 times a second is counted, and reported once a second as ev=repeated of=<ev> count=N. */
void cmq_log(enum cmq_log_level level, enum cmq_log_event event, const char *fmt, ...) CMQ_PRINTF(3, 4);

/* Is given every line of WARN and ERROR that is written, too: its event, and the pairs behind ev=, cut as in the log. Set before
 * other threads log, NULL: nobody. Called in the thread that logs; it must not log. */
typedef void cmq_log_keep(void *context, enum cmq_log_level level, const char *event, const char *text,
                          size_t bytes);
void cmq_log_set_keep(cmq_log_keep *keep, void *context);

/* Writes the reports that are due (ev=repeated, lost lines) although nothing else is logged. cmq_proc calls it on every
 * tick and before the process ends. */
void cmq_log_tick(void);

/* Writes text as a quoted, escaped, cut (128 bytes of input) value into the caller's buffer and returns it.
 * Everything outside printable ASCII, and quote and backslash, becomes \xNN; a cut value ends in `...`. */
struct cmq_log_quoted {
    char text[560];
};
const char *cmq_log_quote(struct cmq_log_quoted *ret_quoted, const void *data, size_t bytes);

/* The same for our own sentences (struct cmq_reason), which are longer: cut at about 780 bytes of output. */
struct cmq_log_quoted_sentence {
    char text[800];
};
const char *cmq_log_sentence(struct cmq_log_quoted_sentence *ret_quoted, const char *sentence);

#endif
