/*
 * cmq_conf: configuration text -> validated struct.
 * Ownership: struct cmq_conf is plain caller's memory, no pointers.
 * Units: as in cmq_conf_table.h.
 * Errors: CMQ_ERR_INVALID with a sentence that names file, line, key, what is allowed and the nearest known key;
 *         CMQ_ERR_NOT_FOUND / CMQ_ERR_PERMISSION when the file cannot be read. ret_conf is unchanged on error.
 * Callers: any thread; no state.
 */
#ifndef CMQ_CONF_H
#define CMQ_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/cmq_reason.h"
#include "common/conf/cmq_conf_table.h"

/* Field of key `name` in [section] is conf.section_name, for example conf.ingest_port. */
struct cmq_conf {
#define U64(section, name, ...)                     uint64_t section##_##name;
#define TEXT(section, name, preset, bytes_max, ...) char section##_##name[(bytes_max) + 1];
#define WORD(section, name, ...)                    uint32_t section##_##name;
    CMQ_CONF_MAP(U64, TEXT, WORD)
#undef U64
#undef TEXT
#undef WORD
};

/* Words, in the table's order. */
enum cmq_conf_store { CMQ_CONF_STORE_DISK, CMQ_CONF_STORE_MEMORY };
enum cmq_conf_sync { CMQ_CONF_SYNC_ALWAYS, CMQ_CONF_SYNC_INTERVAL, CMQ_CONF_SYNC_NONE };
enum cmq_conf_retention { CMQ_CONF_RETENTION_DISCARD_OLD, CMQ_CONF_RETENTION_REJECT_NEW };
enum cmq_conf_client_cert {
    CMQ_CONF_CLIENT_CERT_NONE,
    CMQ_CONF_CLIENT_CERT_OPTIONAL,
    CMQ_CONF_CLIENT_CERT_REQUIRED
};
enum cmq_conf_ack { CMQ_CONF_ACK_ACCEPTED, CMQ_CONF_ACK_DURABLE };
enum cmq_conf_metrics_topics { CMQ_CONF_METRICS_TOPICS_OFF, CMQ_CONF_METRICS_TOPICS_ON };
enum cmq_conf_gzip { CMQ_CONF_GZIP_OFF, CMQ_CONF_GZIP_ON };

/* One `section.key=value` from the command line; applied after the file. */
struct cmq_conf_override {
    const char *text;
};

/* path NULL: defaults only. Also checks what spans several keys (sizes of arenas against the request limit, ring.slots
 * a power of two, ...). The same key twice in the file is an error; of several overrides of a key the last one counts. */
CMQ_MUST_USE enum cmq_err cmq_conf_load(const char *path, const struct cmq_conf_override *overrides,
                                        size_t override_count, struct cmq_conf *ret_conf,
                                        struct cmq_reason *reason);

/* The largest record that a request can become, in payload bytes: what rings and arenas are sized by. */
uint64_t cmq_conf_record_bytes_max(const struct cmq_conf *conf);

/* The same for a sealed record: in the encryptors' arenas and in the log. */
uint64_t cmq_conf_sealed_bytes_max(const struct cmq_conf *conf);

/* Directories of the log and of the tables that name its records: log.dir and so on, or with store = memory those in
 * /dev/shm that go with the instance: a log that begins anew must not meet tables of the one before. */
struct cmq_conf_path {
    char text[256];
};
const char *cmq_conf_log_dir(const struct cmq_conf *conf, struct cmq_conf_path *ret_path);
const char *cmq_conf_idempotency_dir(const struct cmq_conf *conf, struct cmq_conf_path *ret_path);
const char *cmq_conf_groups_dir(const struct cmq_conf *conf, struct cmq_conf_path *ret_path);
/* What the log may hold on its store. */
uint64_t cmq_conf_log_bytes_max(const struct cmq_conf *conf);
/* How it is flushed: never in memory. */
enum cmq_conf_sync cmq_conf_log_sync(const struct cmq_conf *conf);

/* Whether a running stage may take the new settings (SIGHUP): only keys that the table marks LIVE differ.
 * Returns false and names the first key that needs a restart. */
bool cmq_conf_reloadable(const struct cmq_conf *old_conf, const struct cmq_conf *new_conf,
                         struct cmq_reason *reason);

/* One key as pages show it. */
struct cmq_conf_key {
    const char *section, *name, *help; /* static */
    bool live;                         /* taken on SIGHUP */
    char preset[256], allowed[256];
};
/* False: there are no more. */
CMQ_MUST_USE bool cmq_conf_key(size_t index, struct cmq_conf_key *ret_key);
/* How the file is written, and the rules that span several keys: paragraphs and lists in Markdown. */
const char *cmq_conf_rules(void);

/* The commented sample file, and the reference page (Markdown), from the table. */
void cmq_conf_print_sample(FILE *out);
void cmq_conf_print_reference(FILE *out);

#endif
