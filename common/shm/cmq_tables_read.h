/*
 * cmq_tables_read: copies of the tables of one instance, checked, and of all together, merged.
 * Ownership: the caller's memory; merged: heap, freed with free().
 * Units: as cmq_tables.h.
 * Errors: none but CMQ_ERR_NOMEM: a row that keeps changing, or that no writer of ours can have made, is left out.
 * Callers: any thread. Nothing that is read is trusted: lengths and characters are checked on the copy.
 *
 * Texts of a copy end with a NUL. Names have the bytes that topics, patterns and groups may have; lines and addresses are
 * printable ASCII, other bytes became '?'.
 */
#ifndef CMQ_TABLES_READ_H
#define CMQ_TABLES_READ_H

#include "common/shm/cmq_sight.h"
#include "common/shm/cmq_tables.h"

/* Topics without a row. No topic of a client may begin with '$'. */
#define CMQ_TOPIC_OTHER "$other"

struct cmq_topic_copy {
    char topic[CMQ_TABLE_TOPIC_BYTES_MAX + 1];
    uint64_t messages, bytes, last_ms;
};
struct cmq_group_copy {
    char name[CMQ_TABLE_GROUP_BYTES_MAX + 1];
    char topic[CMQ_TABLE_TOPIC_BYTES_MAX + 1];
    uint64_t members, pending, floor, done_above, redelivered, dead_letters;
    uint64_t lag_records; /* merged only: of the log, that are not done */
};
struct cmq_client_copy {
    enum cmq_client_kind kind;
    char subject[CMQ_TABLE_TOPIC_BYTES_MAX + 1];
    char group[CMQ_TABLE_GROUP_BYTES_MAX + 1]; /* "": none */
    char address[CMQ_TABLE_ADDRESS_BYTES_MAX + 1];
    uint64_t connected_ms, lag_records, messages, bytes, subscriptions;
    uint32_t dispatcher; /* its number */
};
struct cmq_error_copy {
    uint64_t time_ms;
    bool is_error; /* else a warning */
    char event[CMQ_TABLE_EVENT_BYTES_MAX + 1];
    char text[CMQ_TABLE_LINE_BYTES_MAX + 1];
    enum cmq_role role;
    uint32_t instance_number;
};

/* Of one instance. */
struct cmq_tables_copy {
    size_t topic_count, group_count, client_count, error_count;
    struct cmq_topic_copy topics[CMQ_TABLE_TOPICS_MAX + 1]; /* the others last, if there are any */
    struct cmq_group_copy groups[CMQ_TABLE_GROUPS_MAX];
    struct cmq_client_copy clients[CMQ_TABLE_CLIENTS_MAX];
    struct cmq_error_copy errors[CMQ_TABLE_ERRORS_MAX];
    uint64_t clients_total, subscriber_lag;
};
void cmq_tables_copy(const struct cmq_tables_page *page, enum cmq_role role, uint32_t instance_number,
                     struct cmq_tables_copy *ret_copy);

/* Of all. What is beyond a maximum is left out, but for topics, which are then among the others. */
#define CMQ_MERGED_GROUPS_MAX 128u
#define CMQ_MERGED_ERRORS_MAX 64u
struct cmq_tables_merged {
    size_t topic_count, group_count, client_count, error_count;
    struct cmq_topic_copy topics[CMQ_TABLE_TOPICS_MAX + 1]; /* most messages first, the others last */
    struct cmq_group_copy groups[CMQ_MERGED_GROUPS_MAX];    /* largest lag first, then by name */
    struct cmq_client_copy clients[CMQ_TABLE_CLIENTS_MAX];  /* largest lag first */
    struct cmq_error_copy errors[CMQ_MERGED_ERRORS_MAX];    /* newest first */
    uint64_t clients_total;
};
/* Members, pending and clients are those of processes that live; counts and errors also of those that do not. What is done
 * for a group only grows, so the row that says most is the newest one. */
CMQ_MUST_USE enum cmq_err cmq_tables_merge(const struct cmq_sight *sight,
                                           struct cmq_tables_merged **ret_merged);

const char *cmq_client_kind_name(enum cmq_client_kind kind);

#endif
