/*
 * cmq_counters: every counter of every stage, once. Status, metrics and ctl read this table.
 * Ownership: none.
 * Units: in the unit column. Counters only rise during one process's life; gauges go up and down.
 * Errors: none.
 * Callers: any.
 */
#ifndef CMQ_COUNTERS_H
#define CMQ_COUNTERS_H

#include <stdint.h>

/* Who counts it. */
enum { CMQ_BY_INGEST = 1, CMQ_BY_ENCRYPTOR = 2, CMQ_BY_DISPATCHER = 4, CMQ_BY_ALL = 7 };

/* X(NAME, by, name in output, kind, unit, help) */
#define CMQ_COUNTER_MAP(X)                                                                                   \
    X(RECORDS, CMQ_BY_ALL, "records", COUNTER, "records", "records published, sealed, or delivered whole")   \
    X(MESSAGES, CMQ_BY_ALL, "messages", COUNTER, "messages", "messages in those records")                    \
    X(BYTES_IN, CMQ_BY_ALL, "bytes_in", COUNTER, "bytes",                                                    \
      "request bodies, plain batches, or sealed batches read")                                               \
    X(BYTES_OUT, CMQ_BY_ALL, "bytes_out", COUNTER, "bytes",                                                  \
      "plain batches, sealed batches, or frames written")                                                    \
    X(WORK_NS, CMQ_BY_ALL, "work_ns", COUNTER, "ns", "time spent on records, without waiting")               \
    X(WAITS, CMQ_BY_ALL, "waits", COUNTER, "", "sleeps")                                                     \
    X(WAITS_LATE, CMQ_BY_ALL, "waits_late", COUNTER, "",                                                     \
      "sleeps that timed out although there was work: lost wake-ups")                                        \
    X(STOLEN, CMQ_BY_ENCRYPTOR, "stolen", COUNTER, "records", "records taken over from another member")      \
    X(LOST, CMQ_BY_ENCRYPTOR, "lost", COUNTER, "records",                                                    \
      "results dropped because another member was first")                                                    \
    X(VOIDS, CMQ_BY_ENCRYPTOR, "voids", COUNTER, "records", "unreadable records that were skipped")          \
    X(REQUESTS, CMQ_BY_INGEST, "requests", COUNTER, "requests", "HTTP requests answered")                    \
    X(REJECTED_BAD, CMQ_BY_INGEST, "rejected_bad", COUNTER, "requests",                                      \
      "requests refused with 4xx, but 413")                                                                  \
    X(REJECTED_LARGE, CMQ_BY_INGEST, "rejected_large", COUNTER, "requests", "requests refused with 413")     \
    X(REJECTED_AUTH, CMQ_BY_INGEST | CMQ_BY_DISPATCHER, "rejected_auth", COUNTER, "requests",                \
      "requests and connects refused for want of a right")                                                   \
    X(REJECTED_RATE, CMQ_BY_INGEST, "rejected_rate", COUNTER, "requests", "requests refused with 429")       \
    X(REFUSED_ADDRESS, CMQ_BY_INGEST | CMQ_BY_DISPATCHER, "refused_address", COUNTER, "",                    \
      "connections refused: too many, of one address or in all")                                             \
    X(TLS_FAILED, CMQ_BY_INGEST | CMQ_BY_DISPATCHER, "tls_failed", COUNTER, "",                              \
      "TLS handshakes that failed")                                                                          \
    X(PROTOCOL_ERRORS, CMQ_BY_DISPATCHER, "protocol_errors", COUNTER, "",                                    \
      "WebSocket connections closed for what they sent")                                                     \
    X(EXPIRED, CMQ_BY_DISPATCHER, "expired", COUNTER, "messages",                                            \
      "messages not delivered because their time was over")                                                  \
    X(REJECTED_FULL, CMQ_BY_INGEST, "rejected_full", COUNTER, "requests", "requests refused with 503")       \
    X(CLIENTS, CMQ_BY_INGEST | CMQ_BY_DISPATCHER, "clients", GAUGE, "", "open connections")                  \
    X(CLIENTS_TOTAL, CMQ_BY_INGEST | CMQ_BY_DISPATCHER, "clients_total", COUNTER, "",                        \
      "connections accepted")                                                                                \
    X(CLIENTS_DROPPED, CMQ_BY_INGEST | CMQ_BY_DISPATCHER, "clients_dropped", COUNTER, "",                    \
      "clients closed because they took nothing or did not answer pings")                                    \
    X(FRAMES, CMQ_BY_DISPATCHER, "frames", COUNTER, "frames", "WebSocket frames taken whole by a socket")    \
    X(REDELIVERED, CMQ_BY_DISPATCHER, "redelivered", COUNTER, "messages",                                    \
      "messages offered again after a client or dispatcher went away")                                       \
    X(UNDELIVERABLE, CMQ_BY_DISPATCHER, "undeliverable", COUNTER, "messages",                                \
      "messages in units that could not be opened")                                                          \
    X(BACKLOG, CMQ_BY_DISPATCHER, "backlog", GAUGE, "records", "records in hand")                            \
    X(KEY_EPOCH, CMQ_BY_ENCRYPTOR, "key_epoch", GAUGE, "", "newest data key epoch in use")                   \
    X(SEALS, CMQ_BY_ENCRYPTOR | CMQ_BY_DISPATCHER, "seals", COUNTER, "units", "AEAD units sealed or opened") \
    X(LOG_APPENDS, CMQ_BY_ENCRYPTOR, "log_appends", COUNTER, "",                                             \
      "group commits: writes of one or more records to the log")                                             \
    X(LOG_BYTES, CMQ_BY_ENCRYPTOR, "log_bytes", COUNTER, "bytes", "written to the log")                      \
    X(LOG_SYNCS, CMQ_BY_ENCRYPTOR, "log_syncs", COUNTER, "", "syncs of the log")                             \
    X(LOG_SYNC_NS, CMQ_BY_ENCRYPTOR, "log_sync_ns", COUNTER, "ns", "time spent in those syncs")              \
    X(LOG_FLOOR, CMQ_BY_ENCRYPTOR, "log_floor", GAUGE, "", "lowest record of the log")                       \
    X(LOG_DISK_BYTES, CMQ_BY_ENCRYPTOR, "log_disk_bytes", GAUGE, "bytes", "size of the log's segments")      \
    X(LOG_TAKEOVERS, CMQ_BY_ENCRYPTOR, "log_takeovers", COUNTER, "",                                         \
      "times that this member became the log's writer")                                                      \
    X(DUPLICATES, CMQ_BY_ENCRYPTOR, "duplicates", COUNTER, "messages",                                       \
      "messages left out because their id was known")                                                        \
    X(CONFLICTS, CMQ_BY_ENCRYPTOR, "conflicts", COUNTER, "records",                                          \
      "records refused: a known id with another content")                                                    \
    X(SUBSCRIPTIONS, CMQ_BY_DISPATCHER, "subscriptions", GAUGE, "",                                          \
      "open subscriptions, members of groups included")                                                      \
    X(GROUPS, CMQ_BY_DISPATCHER, "groups", GAUGE, "", "consumer groups")                                     \
    X(ACKS, CMQ_BY_DISPATCHER, "acks", COUNTER, "messages", "messages acknowledged")                         \
    X(STALE_ACKS, CMQ_BY_DISPATCHER, "stale_acks", COUNTER, "messages",                                      \
      "acknowledgements refused: not the present delivery")                                                  \
    X(NACKS, CMQ_BY_DISPATCHER, "nacks", COUNTER, "messages", "messages given back by consumers")            \
    X(DEAD_LETTERS, CMQ_BY_DISPATCHER, "dead_letters", COUNTER, "messages",                                  \
      "messages given up after max_deliver deliveries")                                                      \
    X(GAPS, CMQ_BY_DISPATCHER, "gaps", COUNTER, "", "gaps announced to subscribers")                         \
    X(LAG, CMQ_BY_DISPATCHER, "lag", GAUGE, "records", "records of the log that are not read yet")           \
    X(RING_HIGH_WATER, CMQ_BY_INGEST, "ring_high_water", GAUGE, "records",                                   \
      "most records that were in the ring when this process published one")                                  \
    X(KEY_SEALS_LEFT, CMQ_BY_ENCRYPTOR, "key_seals_left", GAUGE, "units",                                    \
      "seals that the most used of the newest data keys may make before the next epoch")                     \
    X(FENCED, CMQ_BY_ALL, "fenced", COUNTER, "", "stopped members of the own stage that were killed")

enum cmq_counter {
#define X(name, by, text, kind, unit, help) CMQ_COUNT_##name,
    CMQ_COUNTER_MAP(X)
#undef X
        CMQ_COUNTER_COUNT
};

enum cmq_counter_kind { CMQ_KIND_COUNTER, CMQ_KIND_GAUGE };

struct cmq_counter_info {
    const char *name;
    unsigned by; /* CMQ_BY_ */
    enum cmq_counter_kind kind;
    const char *unit;
    const char *help;
};
/* index < CMQ_COUNTER_COUNT */
const struct cmq_counter_info *cmq_counter_info(enum cmq_counter counter);

/* Durations, as histograms. X(NAME, by, name in output, help) */
#define CMQ_HIST_MAP(X)                                                                                    \
    X(REQUEST, CMQ_BY_INGEST, "request", "a POST from its first line to its reply")                        \
    X(LOG_WAIT, CMQ_BY_INGEST, "log_wait", "a published record until the log has it as the request wants") \
    X(SEAL, CMQ_BY_ENCRYPTOR, "seal", "one record sealed")                                                 \
    X(LOG_APPEND, CMQ_BY_ENCRYPTOR, "log_append", "one group commit written, without its sync")            \
    X(LOG_SYNC, CMQ_BY_ENCRYPTOR, "log_sync", "one sync of the log")                                       \
    X(DELIVERY, CMQ_BY_DISPATCHER, "delivery",                                                             \
      "a record from its acceptance until a dispatcher opens it to deliver it")

enum cmq_hist {
#define X(name, by, text, help) CMQ_HIST_##name,
    CMQ_HIST_MAP(X)
#undef X
        CMQ_HIST_COUNT
};

/* Bucket k holds durations up to 2^k microseconds, the last one all longer ones. */
#define CMQ_HIST_BUCKETS 28u

struct cmq_hist_info {
    const char *name;
    unsigned by;
    const char *help;
};
/* index < CMQ_HIST_COUNT */
const struct cmq_hist_info *cmq_hist_info(enum cmq_hist hist);
/* The bucket of a duration. */
unsigned cmq_hist_bucket(uint64_t ns);

#endif
