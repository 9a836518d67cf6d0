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
                                                                                                                             \
    U64(ring, slots, 65536, 2, 1048576, "records", START, "records the ring holds; a power of two; used at creation")        \
    U64(ring, spin_us, 50, 0, 1000, "us", START, "busy wait before sleeping, while traffic is recent")                       \
    U64(ring, wait_ms, 50, 1, 1000, "ms", START, "longest sleep of an idle stage before it looks again by itself")           \
    U64(ring, lease_ms, 20, 1, 10000, "ms", START, "age after which another encryptor may take over a record")               \
    U64(ring, stall_ms, 5000, 1000, 600000, "ms", START, "silence after which a dispatcher's records are given to another")   \
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
    WORD(ingest, ack, "accepted", "accepted", START, "what a 200 promises: accepted = survives the death of any process")    \
                                                                                                                             \
    TEXT(encryptor, kek_file, "/etc/ciphermq/kek", 255, START, "key-encryption key, 32 bytes, mode 0400")                    \
    TEXT(encryptor, keyring_file, "/var/lib/ciphermq/keyring", 255, START, "wrapped data keys")                              \
    U64(encryptor, arena_bytes, CMQ_MIB(256), 131072, CMQ_MIB(16383), "bytes", START, "shared memory for sealed records")    \
                                                                                                                             \
    TEXT(dispatcher, listen, "127.0.0.1", 63, START, "address of the WebSocket port")                                        \
    U64(dispatcher, port, 8080, 1, 65535, "", START, "WebSocket port; instances share it")                                   \
    TEXT(dispatcher, kek_file, "/etc/ciphermq/delivery.kek", 255, START, "delivery key-encryption key, 32 bytes, mode 0400") \
    TEXT(dispatcher, keyring_file, "/var/lib/ciphermq/keyring", 255, START, "wrapped data keys (the encryptor's file)")      \
    U64(dispatcher, frame_messages_max, 65536, 1, 1000000, "messages", LIVE, "most messages in one frame")                   \
    U64(dispatcher, frame_bytes_max, CMQ_KIB(256), 4096, CMQ_MIB(16), "bytes", LIVE, "a frame is closed when it has this")   \
    U64(dispatcher, open_records_max, 4096, 1, 65536, "records", START, "records one instance works on at a time")           \
    U64(dispatcher, open_bytes_max, CMQ_MIB(32), 65536, CMQ_MIB(1024), "bytes", START, "decrypted bytes held at a time")     \
    U64(dispatcher, clients_max, 4096, 1, 65000, "clients", START, "open WebSocket connections of one instance")             \
    U64(dispatcher, write_timeout_ms, 30000, 100, 3600000, "ms", LIVE, "a client that takes nothing for so long is closed")  \
    U64(dispatcher, ping_s, 30, 1, 3600, "s", START, "quiet clients are pinged; no answer within the same time closes")      \
    U64(dispatcher, receive_bytes_max, CMQ_KIB(64), 125, CMQ_MIB(16), "bytes", START, "largest message a client may send")
/* clang-format on */

#endif
