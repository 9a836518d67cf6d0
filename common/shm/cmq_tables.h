/*
 * cmq_tables: what an instance knows by name: topics (encryptor), groups and clients (dispatcher), its last errors (all).
 * Ownership: objects "/cmq.INSTANCE.t{i,e,d}N", made, kept and removed as those of cmq_status.h; written by the process that
 *            has the number, read by anyone (cmq_tables_read.h). Nobody who reads writes or is waited for.
 * Units: messages, bytes, records; milliseconds since 1970.
 * Errors: none: what does not fit is left out, or counted among the others.
 * Callers: topics: the pump's thread (cmq_table_topics.h). Groups, clients: the delivery thread. Errors: one thread at a time.
 *
 * A row has a version: odd while its names change. All words are atomic and relaxed; a reader that finds the version odd, or
 * another one behind, reads again, and leaves the row out at last. What a death leaves: an odd version, whose row the next
 * process of that number empties.
 */
#ifndef CMQ_TABLES_H
#define CMQ_TABLES_H

#include "common/shm/cmq_status.h"

#define CMQ_TABLE_TOPICS_MAX  128u /* and the others */
#define CMQ_TABLE_GROUPS_MAX  64u
#define CMQ_TABLE_CLIENTS_MAX 64u
#define CMQ_TABLE_ERRORS_MAX  16u

#define CMQ_TABLE_TOPIC_BYTES_MAX   255u
#define CMQ_TABLE_GROUP_BYTES_MAX   64u
#define CMQ_TABLE_ADDRESS_BYTES_MAX 48u
#define CMQ_TABLE_EVENT_BYTES_MAX   32u
#define CMQ_TABLE_LINE_BYTES_MAX    448u

/* Text in shared memory: its length, and words. */
#define CMQ_TABLE_TEXT(bytes_max)                        \
    struct {                                             \
        _Atomic uint64_t bytes;                          \
        _Atomic uint64_t words[((bytes_max) + 7u) / 8u]; \
    }

struct cmq_topic_row {
    _Atomic uint64_t version;
    CMQ_TABLE_TEXT(CMQ_TABLE_TOPIC_BYTES_MAX) topic; /* empty: a free row, as below */
    _Atomic uint64_t messages, bytes, last_ms;
};

struct cmq_group_row {
    _Atomic uint64_t version;
    CMQ_TABLE_TEXT(CMQ_TABLE_GROUP_BYTES_MAX) name;
    CMQ_TABLE_TEXT(CMQ_TABLE_TOPIC_BYTES_MAX) topic;
    _Atomic uint64_t members, pending;          /* of this dispatcher */
    _Atomic uint64_t floor, done_above;         /* of the group, as this dispatcher saw it last */
    _Atomic uint64_t redelivered, dead_letters; /* by this number's processes */
};

struct cmq_client_row {
    _Atomic uint64_t version;
    _Atomic uint64_t kind; /* enum cmq_client_kind + 1; 0: free */
    CMQ_TABLE_TEXT(CMQ_TABLE_TOPIC_BYTES_MAX) subject;
    CMQ_TABLE_TEXT(CMQ_TABLE_GROUP_BYTES_MAX) group;
    CMQ_TABLE_TEXT(CMQ_TABLE_ADDRESS_BYTES_MAX) address;
    _Atomic uint64_t connected_ms, lag_records, messages, bytes, subscriptions;
};

struct cmq_error_row {
    _Atomic uint64_t version;
    _Atomic uint64_t time_ms; /* 0: free */
    _Atomic uint64_t level;   /* CMQ_TABLE_ERROR or CMQ_TABLE_WARN */
    CMQ_TABLE_TEXT(CMQ_TABLE_EVENT_BYTES_MAX) event;
    CMQ_TABLE_TEXT(CMQ_TABLE_LINE_BYTES_MAX) text;
};

struct cmq_tables_page {
    _Atomic uint64_t magic;          /* stored last by who makes it */
    _Atomic uint64_t errors_written; /* row of the next one: modulo CMQ_TABLE_ERRORS_MAX */
    struct cmq_error_row errors[CMQ_TABLE_ERRORS_MAX];
    union {
        struct { /* encryptor */
            /* What has no row (any more). */
            _Atomic uint64_t other_messages, other_bytes, other_last_ms;
            struct cmq_topic_row rows[CMQ_TABLE_TOPICS_MAX];
        } topics;
        struct { /* dispatcher */
            _Atomic uint64_t clients_total;
            _Atomic uint64_t
                subscriber_lag; /* records, of the subscriber that is farthest behind; members of groups not */
            struct cmq_group_row groups[CMQ_TABLE_GROUPS_MAX];
            struct cmq_client_row clients[CMQ_TABLE_CLIENTS_MAX];
        } delivery;
    } of;
};
static_assert(sizeof(struct cmq_tables_page) <= 65536, "an instance's tables");

/* For cmq_ring: the tables of a joining member; repaired, gauges begin anew. As cmq_status_join. */
void cmq_tables_join(const char *instance, enum cmq_role role, uint32_t instance_number,
                     struct cmq_segment *ret_segment);
/* Those of a member's instance; NULL: it has none. They are mapped as long as it is attached. */
struct cmq_tables_page *cmq_tables_of(struct cmq_ring *ring);
/* Those that are there already, to be written or read. False: there are none of this build. */
bool cmq_tables_map(const char *instance, enum cmq_role role, uint32_t instance_number, bool writable,
                    struct cmq_segment *ret_segment);

/* What a dispatcher knows about a group. */
struct cmq_table_group {
    struct cmq_span name, topic;
    uint64_t members, pending;
    uint64_t floor, done_above;         /* all records below are done, and so many above */
    uint64_t redelivered, dead_letters; /* since it was told last */
};
/* page NULL is fine, here and below. With all rows in use a group replaces one that has no members here, if it has some itself
 * or is farther behind. */
void cmq_tables_group(struct cmq_tables_page *page, const struct cmq_table_group *group);

enum cmq_client_kind {
    CMQ_CLIENT_ROOT,
    CMQ_CLIENT_V1,
    CMQ_CLIENT_WS,
    CMQ_CLIENT_SSE,
    CMQ_CLIENT_JSON,
    CMQ_CLIENT_BOARD,
    CMQ_CLIENT_KINDS
};
struct cmq_table_client {
    enum cmq_client_kind kind;
    struct cmq_span subject, group;
    char address[CMQ_TABLE_ADDRESS_BYTES_MAX];
    uint64_t connected_ms, lag_records, messages, bytes, subscriptions;
};
/* All of them: rows beyond count become free. count <= CMQ_TABLE_CLIENTS_MAX */
void cmq_tables_clients(struct cmq_tables_page *page, const struct cmq_table_client *clients, size_t count,
                        uint64_t total, uint64_t subscriber_lag);

enum { CMQ_TABLE_WARN = 1, CMQ_TABLE_ERROR = 2 };
struct cmq_table_error {
    uint64_t time_ms;
    uint32_t level;
    uint32_t event_bytes, text_bytes;
    char event[CMQ_TABLE_EVENT_BYTES_MAX];
    char text[CMQ_TABLE_LINE_BYTES_MAX];
};
/* The newest; the oldest goes. */
void cmq_tables_error(struct cmq_tables_page *page, const struct cmq_table_error *error);

/* Of a row, for its one writer. Between begin and end its names change. */
void cmq_row_begin(_Atomic uint64_t *version);
void cmq_row_end(_Atomic uint64_t *version);
/* Cut at bytes_max. words: (bytes_max + 7) / 8 of them. */
void cmq_row_text_set(_Atomic uint64_t *bytes, _Atomic uint64_t *words, size_t bytes_max,
                      struct cmq_span text);
bool cmq_row_text_is(const _Atomic uint64_t *bytes, const _Atomic uint64_t *words, size_t bytes_max,
                     struct cmq_span text);

#endif
