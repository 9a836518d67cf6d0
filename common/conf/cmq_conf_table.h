/*
 * cmq_conf_table: every setting of the broker, once. Parser, --help, sample file and reference page come from it.
 * Ownership: none, macros only.
 * Units: named in the unit column; sizes may be written with K, M, G (powers of 1024) and times with ms, s, m.
 * Errors: none.
 * Callers: common/conf only.
 *
 * U64(section, name, default, min, max, unit, when, help)   number, field uint64_t
 * TEXT(section, name, default, bytes_max, when, help)       text, field char[bytes_max + 1]
 * WORD(section, name, default, "a|b|c", when, help)         one of the words, field uint32_t = index of the
 * word when: START = read at start-up only; LIVE = taken by a running stage on SIGHUP.
 */
#ifndef CMQ_CONF_TABLE_H
#define CMQ_CONF_TABLE_H

#define CMQ_KIB(n) ((n)*1024ull)
#define CMQ_MIB(n) ((n)*1024ull * 1024ull)

/* clang-format off */
#define CMQ_CONF_MAP(U64, TEXT, WORD)                                                                                        \
    TEXT(common, instance, "default", 31, START, "name of this broker; part of every shared-memory object's name")           \
    TEXT(common, run_dir, "/run/ciphermq", 200, START, "directory for lock files and sockets; private to the broker")        \
    WORD(common, log_level, "info", "debug|info|warn|error", LIVE, "least severe lines that are written")                    \
    U64(common, drain_ms, 10000, 0, 600000, "ms", LIVE, "longest time that SIGTERM waits for work in hand")                  \
    U64(common, status_topics_max, 128, 0, 128, "topics", START, "topics that an encryptor counts one by one, the most active; 0: none") \
    WORD(common, metrics_topics, "on", "off|on", START, "whether /metrics has counters of each of these topics")              \
                                                                                                                             \
    TEXT(tokens, file, "", 255, LIVE, "digests of the bearer tokens (ciphermqctl token); empty: nobody needs one")           \
    U64(tokens, failures_max, 20, 1, 1000000, "attempts", START, "failed attempts of one address a minute; then 429")        \
    U64(tokens, messages_rate, 0, 0, 1000000000, "messages", START, "a second of a token that has no own limit; 0: no limit") \
    U64(tokens, bytes_rate, 0, 0, CMQ_MIB(1048576), "bytes", START, "the same for bytes of request bodies; 0: no limit")     \
                                                                                                                             \
    TEXT(tls, cert_file, "", 255, START, "certificate chain, PEM, for both ports; empty: no TLS")                            \
    TEXT(tls, key_file, "", 255, START, "its private key, PEM, readable for ingest and dispatcher only")                     \
    TEXT(tls, client_ca_file, "", 255, START, "certificates of the authorities that clients' certificates are from, PEM")    \
    WORD(tls, client_cert, "none", "none|optional|required", START, "whether clients show a certificate")                    \
                                                                                                                             \
    U64(ring, slots, 65536, 2, 1048576, "records", START, "records the ring holds; a power of two; used at creation")        \
    U64(ring, spin_us, 50, 0, 1000, "us", START, "busy wait before sleeping, while traffic is recent")                       \
    U64(ring, wait_ms, 50, 1, 1000, "ms", START, "longest sleep of an idle stage before it looks again by itself")           \
    U64(ring, lease_ms, 20, 1, 10000, "ms", START, "age after which another encryptor may take over a record")               \
    U64(ring, stall_ms, 5000, 1000, 600000, "ms", START, "silence after which another process of its stage kills a stopped one")   \
                                                                                                                             \
    WORD(log, store, "disk", "disk|memory", START, "where accepted messages are kept; memory: /dev/shm, lost with the machine") \
    TEXT(log, dir, "/var/lib/ciphermq/log", 200, START, "the log with store = disk; written by encryptors, read by dispatchers") \
    U64(log, segment_bytes, CMQ_MIB(64), CMQ_MIB(1), CMQ_MIB(1024), "bytes", START, "size of one file of the log")           \
    U64(log, retention_bytes, CMQ_MIB(8192), CMQ_MIB(2), CMQ_MIB(1048576) * 16, "bytes", START, "size of the log on disk")   \
    U64(log, retention_ms, 604800000, 0, 315360000000, "ms", START, "age at which messages go; 0: whatever their age")       \
    WORD(log, retention, "discard_old", "discard_old|reject_new", START, "a log at its size: the oldest go, or publishers get 503") \
    WORD(log, sync, "always", "always|interval|none", START, "when writes are flushed to the disk; always: before durable is said") \
    U64(log, sync_ms, 100, 1, 60000, "ms", START, "time between flushes with sync = interval")                               \
    U64(log, memory_bytes, CMQ_MIB(512), CMQ_MIB(2), CMQ_MIB(1048576), "bytes", START, "size of the log with store = memory") \
                                                                                                                             \
    TEXT(ingest, listen, "127.0.0.1", 63, START, "address of the HTTP port")                                                 \
    U64(ingest, port, 3000, 1, 65535, "", START, "HTTP port; instances share it")                                            \
    U64(ingest, threads, 2, 1, 64, "threads", START, "HTTP worker threads of one instance")                                  \
    U64(ingest, request_bytes_max, CMQ_MIB(16), 1024, CMQ_MIB(256), "bytes", START, "largest request body")                  \
    U64(ingest, message_bytes_max, CMQ_MIB(1), 1, CMQ_MIB(256), "bytes", START, "largest single message")                    \
    U64(ingest, request_messages_max, 1000000, 1, 10000000, "messages", START, "most messages in one request")               \
    U64(ingest, arena_bytes, CMQ_MIB(132), 65536, CMQ_MIB(16383), "bytes", START, "shared memory for records on their way")  \
    U64(ingest, admission_wait_ms, 2000, 0, 60000, "ms", LIVE, "longest wait for space in a full ring before 503")           \
    U64(ingest, waiting_bytes_max, CMQ_MIB(64), 0, CMQ_MIB(16384), "bytes", LIVE, "requests waiting for space, in all")      \
    U64(ingest, connections_max, 4096, 1, 65000, "connections", START, "open HTTP connections of one instance")              \
    U64(ingest, idle_s, 60, 1, 3600, "s", START, "idle HTTP connections are closed after this")                              \
    U64(ingest, receive_bytes_max, CMQ_MIB(64), 1024, CMQ_MIB(16384), "bytes", START, "bodies in receipt, in all")            \
    U64(ingest, head_ms, 10000, 100, 600000, "ms", START, "a request's head must be whole by then")                           \
    U64(ingest, body_rate_min, 65536, 1, CMQ_MIB(1024), "bytes", START, "a body must come this fast, per second, behind head_ms") \
    WORD(ingest, ack, "durable", "accepted|durable", START, "what a 200 promises unless the request says; durable: a power cut") \
    U64(ingest, durable_wait_ms, 5000, 1, 600000, "ms", LIVE, "longest wait for the log before 503")                         \
                                                                                                                             \
    U64(ingest, address_connections_max, 1024, 1, 65000, "connections", START, "open HTTP connections of one address")       \
    U64(ingest, headers_max, 100, 8, 1000, "headers", START, "header lines of one request")                                  \
    U64(ingest, meta_bytes_max, CMQ_KIB(4), 0, CMQ_KIB(16), "bytes", START, "headers carried with one message, in all")      \
    U64(ingest, ttl_ms_max, 315360000000, 1, 315360000000, "ms", START, "longest CMQ-TTL")                                   \
    TEXT(ingest, cors_origins, "", 255, START, "origins of pages that may publish, with blanks between; *: any; empty: none") \
    WORD(ingest, gzip, "off", "off|on", START, "take bodies with Content-Encoding: gzip")                                    \
    U64(ingest, gzip_ratio_max, 100, 2, 1032, "", START, "a gzip body may grow so many times")                               \
    U64(ingest, stream_record_bytes, CMQ_MIB(1), 4096, CMQ_MIB(16), "bytes", START, "an NDJSON body becomes records of about this size") \
    U64(ingest, stream_errors_max, 1000, 1, 100000, "lines", START, "refused lines named in the reply to an NDJSON body")    \
                                                                                                                             \
    TEXT(encryptor, kek_file, "/etc/ciphermq/kek", 255, START, "key-encryption key, 32 bytes, mode 0400")                    \
    TEXT(encryptor, keyring_file, "/var/lib/ciphermq/keyring", 255, START, "wrapped data keys")                              \
    U64(encryptor, arena_bytes, CMQ_MIB(256), 131072, CMQ_MIB(16383), "bytes", START, "shared memory for sealed records")    \
    TEXT(encryptor, idempotency_dir, "/var/lib/ciphermq/idempotency", 200, START, "table of the message ids in the window")  \
    U64(encryptor, idempotency_window_ms, 120000, 1000, 86400000, "ms", START, "a message id is known for so long")          \
    U64(encryptor, idempotency_entries_max, 10000000, 1000, 1000000000, "ids", START, "ids known at a time; the oldest go first") \
                                                                                                                             \
    TEXT(agent, user, "", 31, START, "user whose processes the agent obeys, the dispatchers'; empty: the agent's own")       \
    U64(agent, connections_max, 16, 1, 256, "connections", START, "open connections to the agent")                           \
    U64(agent, request_bytes_max, 512, 64, 4096, "bytes", START, "largest request to the agent")                             \
    U64(agent, request_ms, 2000, 10, 60000, "ms", START, "a request to the agent must be whole by then")                     \
    U64(agent, job_ms, 600000, 1000, 3600000, "ms", START, "an operation is ended after this")                               \
    U64(agent, jobs_rate_max, 20, 1, 1000, "operations", START, "begun a minute; then the agent refuses more")               \
                                                                                                                             \
    TEXT(dispatcher, listen, "127.0.0.1", 63, START, "address of the WebSocket port")                                        \
    U64(dispatcher, port, 8080, 1, 65535, "", START, "WebSocket port; instances share it")                                   \
    TEXT(dispatcher, kek_file, "/etc/ciphermq/delivery.kek", 255, START, "delivery key-encryption key, 32 bytes, mode 0400") \
    TEXT(dispatcher, keyring_file, "/var/lib/ciphermq/keyring", 255, START, "wrapped data keys (the encryptor's file)")      \
    U64(dispatcher, frame_messages_max, 65536, 1, 1000000, "messages", LIVE, "most messages in one frame")                   \
    U64(dispatcher, frame_bytes_max, CMQ_KIB(256), 4096, CMQ_MIB(16), "bytes", LIVE, "a frame is closed when it has this")   \
    U64(dispatcher, clients_max, 4096, 1, 65000, "clients", START, "open WebSocket connections of one instance")             \
    U64(dispatcher, write_timeout_ms, 30000, 100, 3600000, "ms", LIVE, "a client that takes nothing for so long is closed")  \
    U64(dispatcher, ping_s, 30, 1, 3600, "s", START, "quiet clients are pinged; no answer within the same time closes")      \
    U64(dispatcher, receive_bytes_max, CMQ_KIB(64), 125, CMQ_MIB(16), "bytes", START, "largest message a client may send")   \
    U64(dispatcher, address_clients_max, 1024, 1, 65000, "clients", START, "open connections of one address")                \
    U64(dispatcher, login_ms, 10000, 100, 600000, "ms", START, "a connection to /v1/ws must have sent connect by then")      \
    U64(dispatcher, fragments_max, 64, 1, 1000000, "fragments", START, "of one message of a client")                         \
    U64(dispatcher, control_rate_max, 20, 1, 100000, "frames", START, "pings and pongs a second of one client")              \
    TEXT(dispatcher, origins, "", 255, START, "origins of pages that may connect besides the own host; *: any")              \
    U64(dispatcher, sse_retry_ms, 2000, 100, 600000, "ms", START, "after which a browser's EventSource connects again")      \
    U64(dispatcher, poll_wait_ms_max, 30000, 0, 600000, "ms", START, "longest wait of /t/{topic}/json for a first message")  \
                                                                                                                             \
    TEXT(dispatcher, groups_dir, "/var/lib/ciphermq/groups", 200, START, "consumer groups: positions and acknowledgements")  \
    U64(dispatcher, groups_bytes_max, CMQ_MIB(1024), CMQ_MIB(1), CMQ_MIB(65536), "bytes", START, "largest size of that table") \
    U64(dispatcher, cache_bytes, CMQ_MIB(4), CMQ_MIB(1), CMQ_MIB(16384), "bytes", START, "records read and opened that are kept") \
    U64(dispatcher, ack_wait_ms, 30000, 10, 86400000, "ms", START, "a message not acknowledged by then comes again, if not said") \
    U64(dispatcher, max_deliver, 16, 1, 1000000, "times", START, "deliveries before a dead letter, if not said")             \
    U64(dispatcher, max_ack_pending, 65536, 1, 10000000, "messages", START, "delivered and not acknowledged, of one group")  \
    U64(dispatcher, credit, 1024, 1, 10000000, "messages", START, "not acknowledged at one consumer, if it does not say")    \
    U64(dispatcher, subscriptions_max, 64, 1, 65536, "subscriptions", START, "of one connection")                            \
    U64(dispatcher, commit_ms, 50, 1, 10000, "ms", START, "delivered positions of auto-acknowledging groups are kept this often") \
    U64(dispatcher, dead_arena_bytes, CMQ_MIB(36), 65536, CMQ_MIB(16383), "bytes", START, "shared memory for dead letters")
/* clang-format on */

#endif
