/*
 * cmq_counters: every counter of every stage, once. Status, metrics and ctl read this table.
 * Ownership: none.
 * Units: in the unit column. Counters only rise during one process's life; gauges go up and down.
 * Errors: none.
 * Callers: any.
 */
#ifndef CMQ_COUNTERS_H
#define CMQ_COUNTERS_H

/* X(NAME, name in output, kind, unit, help) */
#define CMQ_COUNTER_MAP(X)                                                                                   \
    X(RECORDS, "records", COUNTER, "records", "records published, sealed, or delivered whole")               \
    X(MESSAGES, "messages", COUNTER, "messages", "messages in those records")                                \
    X(BYTES_IN, "bytes_in", COUNTER, "bytes", "request bodies, plain batches, or sealed batches read")       \
    X(BYTES_OUT, "bytes_out", COUNTER, "bytes", "plain batches, sealed batches, or frames written")          \
    X(WORK_NS, "work_ns", COUNTER, "ns", "time spent on records, without waiting")                           \
    X(WAITS, "waits", COUNTER, "", "sleeps")                                                                 \
    X(WAITS_LATE, "waits_late", COUNTER, "", "sleeps that timed out although there was work: lost wake-ups") \
    X(STOLEN, "stolen", COUNTER, "records", "records taken over from another member")                        \
    X(LOST, "lost", COUNTER, "records", "results dropped because another member was first")                  \
    X(VOIDS, "voids", COUNTER, "records", "unreadable records that were skipped")                            \
    X(REQUESTS, "requests", COUNTER, "requests", "HTTP requests answered")                                   \
    X(REJECTED_BAD, "rejected_bad", COUNTER, "requests", "requests refused with 4xx, but 413")               \
    X(REJECTED_LARGE, "rejected_large", COUNTER, "requests", "requests refused with 413")                    \
    X(REJECTED_AUTH, "rejected_auth", COUNTER, "requests",                                                   \
      "requests and connects refused for want of a right")                                                   \
    X(REJECTED_RATE, "rejected_rate", COUNTER, "requests", "requests refused with 429")                      \
    X(REFUSED_ADDRESS, "refused_address", COUNTER, "", "connections refused: too many of one address")       \
    X(TLS_FAILED, "tls_failed", COUNTER, "", "TLS handshakes that failed")                                   \
    X(PROTOCOL_ERRORS, "protocol_errors", COUNTER, "", "WebSocket connections closed for what they sent")    \
    X(EXPIRED, "expired", COUNTER, "messages", "messages not delivered because their time was over")         \
    X(REJECTED_FULL, "rejected_full", COUNTER, "requests", "requests refused with 503")                      \
    X(CLIENTS, "clients", GAUGE, "", "open connections")                                                     \
    X(CLIENTS_TOTAL, "clients_total", COUNTER, "", "connections accepted")                                   \
    X(CLIENTS_DROPPED, "clients_dropped", COUNTER, "",                                                       \
      "clients closed because they took nothing or did not answer pings")                                    \
    X(FRAMES, "frames", COUNTER, "frames", "WebSocket frames taken whole by a socket")                       \
    X(REDELIVERED, "redelivered", COUNTER, "messages",                                                       \
      "messages offered again after a client or dispatcher went away")                                       \
    X(UNDELIVERABLE, "undeliverable", COUNTER, "messages", "messages in units that could not be opened")     \
    X(BACKLOG, "backlog", GAUGE, "records", "records in hand")                                               \
    X(KEY_EPOCH, "key_epoch", GAUGE, "", "newest data key epoch in use")                                     \
    X(SEALS, "seals", COUNTER, "units", "AEAD units sealed or opened")                                       \
    X(LOG_APPENDS, "log_appends", COUNTER, "", "group commits: writes of one or more records to the log")    \
    X(LOG_BYTES, "log_bytes", COUNTER, "bytes", "written to the log")                                        \
    X(LOG_SYNCS, "log_syncs", COUNTER, "", "syncs of the log")                                               \
    X(LOG_SYNC_NS, "log_sync_ns", COUNTER, "ns", "time spent in those syncs")                                \
    X(LOG_FLOOR, "log_floor", GAUGE, "", "lowest record of the log")                                         \
    X(LOG_DISK_BYTES, "log_disk_bytes", GAUGE, "bytes", "size of the log's segments")                        \
    X(LOG_TAKEOVERS, "log_takeovers", COUNTER, "", "times that this member became the log's writer")         \
    X(DUPLICATES, "duplicates", COUNTER, "messages", "messages left out because their id was known")         \
    X(CONFLICTS, "conflicts", COUNTER, "records", "records refused: a known id with another content")        \
    X(SUBSCRIPTIONS, "subscriptions", GAUGE, "", "open subscriptions, members of groups included")           \
    X(GROUPS, "groups", GAUGE, "", "consumer groups")                                                        \
    X(ACKS, "acks", COUNTER, "messages", "messages acknowledged")                                            \
    X(STALE_ACKS, "stale_acks", COUNTER, "messages", "acknowledgements refused: not the present delivery")   \
    X(NACKS, "nacks", COUNTER, "messages", "messages given back by consumers")                               \
    X(DEAD_LETTERS, "dead_letters", COUNTER, "messages", "messages given up after max_deliver deliveries")   \
    X(GAPS, "gaps", COUNTER, "", "gaps announced to subscribers")                                            \
    X(LAG, "lag", GAUGE, "records", "records of the log that are not read yet")                              \
    X(FENCED, "fenced", COUNTER, "", "stopped members of the own stage that were killed")

enum cmq_counter {
#define X(name, text, kind, unit, help) CMQ_COUNT_##name,
    CMQ_COUNTER_MAP(X)
#undef X
        CMQ_COUNTER_COUNT
};

enum cmq_counter_kind { CMQ_KIND_COUNTER, CMQ_KIND_GAUGE };

struct cmq_counter_info {
    const char *name;
    enum cmq_counter_kind kind;
    const char *unit;
    const char *help;
};
/* index < CMQ_COUNTER_COUNT */
const struct cmq_counter_info *cmq_counter_info(enum cmq_counter counter);

#endif
