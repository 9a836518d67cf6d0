/* Rules that span several keys, and texts that must have a form. Every sentence says how to fix it. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "common/conf/cmq_conf_int.h"

/* An arena holds this many of the largest records; one of an encryptor's is the reserve for stolen work. */
#define ARENA_RECORDS 8u
#define ARENA_ALIGN   4096u
/* What sealing adds to a record of one topic, and the record's own header, rounded up. */
#define SEALED_MORE 4096u
/* What a segment of the log has besides a record. */
#define SEGMENT_MORE 8192u

uint64_t cmq_conf_record_bytes_max(const struct cmq_conf *conf)
{
    return conf->ingest_request_bytes_max + conf->ingest_request_bytes_max / 1024u + 4096u;
}

uint64_t cmq_conf_sealed_bytes_max(const struct cmq_conf *conf)
{
    return cmq_conf_record_bytes_max(conf) + SEALED_MORE;
}

static const char *data_dir(const struct cmq_conf *conf, const char *directory, const char *kind,
                            struct cmq_conf_path *ret_path)
{
    if (conf->log_store == CMQ_CONF_STORE_MEMORY)
        (void)snprintf(ret_path->text, sizeof ret_path->text, "/dev/shm/cmq.%s.%s", conf->common_instance,
                       kind);
    else
        (void)snprintf(ret_path->text, sizeof ret_path->text, "%s", directory);
    return ret_path->text;
}

const char *cmq_conf_log_dir(const struct cmq_conf *conf, struct cmq_conf_path *ret_path)
{
    return data_dir(conf, conf->log_dir, "log", ret_path);
}

const char *cmq_conf_idempotency_dir(const struct cmq_conf *conf, struct cmq_conf_path *ret_path)
{
    return data_dir(conf, conf->encryptor_idempotency_dir, "idempotency", ret_path);
}

const char *cmq_conf_groups_dir(const struct cmq_conf *conf, struct cmq_conf_path *ret_path)
{
    return data_dir(conf, conf->dispatcher_groups_dir, "groups", ret_path);
}

uint64_t cmq_conf_log_bytes_max(const struct cmq_conf *conf)
{
    return conf->log_store == CMQ_CONF_STORE_MEMORY ? conf->log_memory_bytes : conf->log_retention_bytes;
}

enum cmq_conf_sync cmq_conf_log_sync(const struct cmq_conf *conf)
{
    return conf->log_store == CMQ_CONF_STORE_MEMORY ? CMQ_CONF_SYNC_NONE : (enum cmq_conf_sync)conf->log_sync;
}

static enum cmq_err check_instance(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    struct cmq_conf_shown shown;
    if (conf->common_instance[strspn(conf->common_instance, allowed)] != '\0')
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "common.instance = %s: only letters, digits, '_' and '-' are allowed",
                              cmq_conf_shown(&shown, conf->common_instance));
    return CMQ_OK;
}

static enum cmq_err check_paths(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    const struct {
        const char *key, *path;
    } paths[] = {{"common.run_dir", conf->common_run_dir},
                 {"encryptor.kek_file", conf->encryptor_kek_file},
                 {"encryptor.keyring_file", conf->encryptor_keyring_file},
                 {"dispatcher.kek_file", conf->dispatcher_kek_file},
                 {"dispatcher.keyring_file", conf->dispatcher_keyring_file},
                 {"log.dir", conf->log_dir},
                 {"encryptor.idempotency_dir", conf->encryptor_idempotency_dir},
                 {"dispatcher.groups_dir", conf->dispatcher_groups_dir}};
    const size_t count = CMQ_COUNT_OF(paths);
    struct cmq_conf_shown shown;
    for (size_t i = 0; i < count; i++) {
        if (paths[i].path[0] != '/')
            return cmq_reason_set(reason, CMQ_ERR_INVALID,
                                  "%s = %s: write the whole path, beginning with '/'", paths[i].key,
                                  cmq_conf_shown(&shown, paths[i].path));
    }
    if (strcmp(conf->encryptor_kek_file, conf->dispatcher_kek_file) == 0)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "encryptor.kek_file and dispatcher.kek_file are the same file: the dispatcher must not "
            "hold the encryptor's key; name two files, `ciphermqctl init` makes both");
    for (size_t i = count - 3; i < count; i++) { /* the directories: each has one owner who clears it up */
        for (size_t j = i + 1; j < count; j++) {
            if (strcmp(paths[i].path, paths[j].path) == 0)
                return cmq_reason_set(reason, CMQ_ERR_INVALID,
                                      "%s and %s are the same directory: name two directories", paths[i].key,
                                      paths[j].key);
        }
    }
    return CMQ_OK;
}

/* Files that need not be named; so that none is looked for where a stage happens to be started. */
static enum cmq_err check_edge_paths(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    const struct {
        const char *key, *path;
    } paths[] = {{"tokens.file", conf->tokens_file},
                 {"tls.cert_file", conf->tls_cert_file},
                 {"tls.key_file", conf->tls_key_file},
                 {"tls.client_ca_file", conf->tls_client_ca_file}};
    struct cmq_conf_shown shown;
    for (size_t i = 0; i < CMQ_COUNT_OF(paths); i++) {
        if (paths[i].path[0] != '\0' && paths[i].path[0] != '/')
            return cmq_reason_set(reason, CMQ_ERR_INVALID,
                                  "%s = %s: write the whole path, beginning with '/'", paths[i].key,
                                  cmq_conf_shown(&shown, paths[i].path));
    }
    return CMQ_OK;
}

/* What is half said about TLS is an error: nobody shall believe that clients are asked for certificates when they are
 * not. */
static enum cmq_err check_tls(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    const bool has_cert = conf->tls_cert_file[0] != '\0', has_key = conf->tls_key_file[0] != '\0';
    const bool has_ca = conf->tls_client_ca_file[0] != '\0';
    const bool asks = conf->tls_client_cert != CMQ_CONF_CLIENT_CERT_NONE;
    if (has_cert != has_key)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "%s is set without %s: TLS needs both; set it too, or leave both out for no TLS",
            has_cert ? "tls.cert_file" : "tls.key_file", has_cert ? "tls.key_file" : "tls.cert_file");
    if (asks && !has_cert)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "tls.client_cert asks for certificates, but there is no TLS: set tls.cert_file and "
            "tls.key_file, or tls.client_cert = none");
    if (asks && !has_ca)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "tls.client_cert asks for certificates, but nobody is trusted to issue them: set "
            "tls.client_ca_file, or tls.client_cert = none");
    if (has_ca && !asks)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "tls.client_ca_file is set, but no client is asked for a certificate: set "
                              "tls.client_cert = optional or required, or leave tls.client_ca_file out");
    return CMQ_OK;
}

static enum cmq_err check_listen(const struct cmq_conf *conf, const char *key, const char *address,
                                 struct cmq_reason *reason)
{
    const bool is_guarded = conf->tls_cert_file[0] != '\0' && conf->tokens_file[0] != '\0';
    struct in_addr v4;
    struct in6_addr v6;
    struct cmq_conf_shown shown;
    bool is_v4 = inet_pton(AF_INET, address, &v4) == 1;
    bool is_v6 = !is_v4 && inet_pton(AF_INET6, address, &v6) == 1;
    if (!is_v4 && !is_v6)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "%s = %s: not an IP address; names are not looked up, write 127.0.0.1 or ::1",
                              key, cmq_conf_shown(&shown, address));
    const bool is_loopback = is_v4 ? ntohl(v4.s_addr) >> 24 == 127u : IN6_IS_ADDR_LOOPBACK(&v6);
    if (!is_loopback && !is_guarded)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "%s = %s: without TLS and tokens only loopback is allowed; listen on 127.0.0.1 (or ::1), or set "
            "tls.cert_file, tls.key_file and tokens.file (`ciphermqctl token create` makes the last one)",
            key, cmq_conf_shown(&shown, address));
    return CMQ_OK;
}

static enum cmq_err check_network(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    enum cmq_err err = check_listen(conf, "ingest.listen", conf->ingest_listen, reason);
    if (err == CMQ_OK)
        err = check_listen(conf, "dispatcher.listen", conf->dispatcher_listen, reason);
    /* Both stages share their port between instances, so the kernel would accept this and mix the
     * connections. */
    if (err == CMQ_OK && conf->ingest_port == conf->dispatcher_port &&
        strcmp(conf->ingest_listen, conf->dispatcher_listen) == 0)
        err = cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "ingest.port and dispatcher.port are both %llu on %s: give one of them another port",
            (unsigned long long)conf->ingest_port, conf->ingest_listen);
    return err;
}

static enum cmq_err check_aligned(const char *key, uint64_t bytes, struct cmq_reason *reason)
{
    struct cmq_conf_number is;
    if (bytes % ARENA_ALIGN != 0)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s = %s: it must be a multiple of 4K", key,
                              cmq_conf_number(&is, bytes, "bytes"));
    return CMQ_OK;
}

static enum cmq_err check_arena(const char *key, uint64_t bytes, uint64_t record_bytes,
                                const struct cmq_conf *conf, struct cmq_reason *reason)
{
    struct cmq_conf_number is, needed, limit;
    uint64_t least = cmq_align_up(ARENA_RECORDS * record_bytes, ARENA_ALIGN);
    if (bytes < least)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "%s = %s: it must hold %u of the largest records; set it to %s or more, or lower "
            "ingest.request_bytes_max (now %s)",
            key, cmq_conf_number(&is, bytes, "bytes"), ARENA_RECORDS,
            cmq_conf_number(&needed, least, "bytes"),
            cmq_conf_number(&limit, conf->ingest_request_bytes_max, "bytes"));
    return check_aligned(key, bytes, reason);
}

/* Of two sizes the first may not be the larger one. */
static enum cmq_err check_order(const char *small_key, uint64_t small, const char *large_key, uint64_t large,
                                struct cmq_reason *reason)
{
    struct cmq_conf_number small_text, large_text;
    if (small <= large)
        return CMQ_OK;
    return cmq_reason_set(reason, CMQ_ERR_INVALID,
                          "%s = %s is more than %s = %s: lower the first or raise the second", small_key,
                          cmq_conf_number(&small_text, small, "bytes"), large_key,
                          cmq_conf_number(&large_text, large, "bytes"));
}

/* bytes must hold `least`, whose size comes from ingest.request_bytes_max. */
static enum cmq_err check_holds(const char *key, uint64_t bytes, const char *what, uint64_t least,
                                const struct cmq_conf *conf, struct cmq_reason *reason)
{
    struct cmq_conf_number is, needed, limit;
    if (bytes >= least)
        return CMQ_OK;
    return cmq_reason_set(
        reason, CMQ_ERR_INVALID,
        "%s = %s: it must hold %s; set it to %s or more, or lower ingest.request_bytes_max (now %s)", key,
        cmq_conf_number(&is, bytes, "bytes"), what, cmq_conf_number(&needed, least, "bytes"),
        cmq_conf_number(&limit, conf->ingest_request_bytes_max, "bytes"));
}

static enum cmq_err check_log(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    /* A segment has a page of head, and a record a head of 64 bytes (cmq_journal.h). */
    const uint64_t least = cmq_align_up(cmq_conf_sealed_bytes_max(conf) + SEGMENT_MORE, ARENA_ALIGN);
    const char *const limit_key =
        conf->log_store == CMQ_CONF_STORE_MEMORY ? "log.memory_bytes" : "log.retention_bytes";
    struct cmq_conf_number is, needed;
    enum cmq_err err =
        check_holds("log.segment_bytes", conf->log_segment_bytes, "the largest record", least, conf, reason);
    if (err != CMQ_OK)
        return err;
    if (cmq_conf_log_bytes_max(conf) < 2u * conf->log_segment_bytes)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "%s = %s: retention removes whole segments, so it must hold two of log.segment_bytes; set it to "
            "%s or more, or lower log.segment_bytes",
            limit_key, cmq_conf_number(&is, cmq_conf_log_bytes_max(conf), "bytes"),
            cmq_conf_number(&needed, 2u * conf->log_segment_bytes, "bytes"));
    if (cmq_conf_log_sync(conf) == CMQ_CONF_SYNC_INTERVAL &&
        conf->log_sync_ms >= conf->ingest_durable_wait_ms)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "ingest.durable_wait_ms = %llu: with log.sync = interval it must be more than log.sync_ms "
            "(now %llu), or every request that waits for durable fails",
            (unsigned long long)conf->ingest_durable_wait_ms, (unsigned long long)conf->log_sync_ms);
    return CMQ_OK;
}

static enum cmq_err check_dispatcher(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    enum cmq_err err = check_holds(
        "dispatcher.dead_arena_bytes", conf->dispatcher_dead_arena_bytes, "two of the largest records",
        cmq_align_up(2u * cmq_conf_record_bytes_max(conf), ARENA_ALIGN), conf, reason);
    if (err == CMQ_OK)
        err = check_aligned("dispatcher.dead_arena_bytes", conf->dispatcher_dead_arena_bytes, reason);
    if (err == CMQ_OK && conf->dispatcher_credit > conf->dispatcher_max_ack_pending)
        err = cmq_reason_set(reason, CMQ_ERR_INVALID,
                             "dispatcher.credit = %llu is more than dispatcher.max_ack_pending = %llu: lower "
                             "the first or raise the second",
                             (unsigned long long)conf->dispatcher_credit,
                             (unsigned long long)conf->dispatcher_max_ack_pending);
    return err;
}

static enum cmq_err check_sizes(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    uint64_t record = cmq_conf_record_bytes_max(conf);
    if (!cmq_is_pow2(conf->ring_slots)) {
        uint64_t below = 1ull << (63 - __builtin_clzll(conf->ring_slots));
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID, "ring.slots = %llu: it must be a power of two, say %llu or %llu",
            (unsigned long long)conf->ring_slots, (unsigned long long)below, (unsigned long long)below * 2u);
    }
    enum cmq_err err = check_order("ingest.message_bytes_max", conf->ingest_message_bytes_max,
                                   "ingest.request_bytes_max", conf->ingest_request_bytes_max, reason);
    if (err == CMQ_OK)
        err = check_order("ingest.request_bytes_max", conf->ingest_request_bytes_max,
                          "ingest.receive_bytes_max", conf->ingest_receive_bytes_max, reason);
    if (err != CMQ_OK)
        return err;
    err = check_arena("ingest.arena_bytes", conf->ingest_arena_bytes, record, conf, reason);
    if (err == CMQ_OK)
        err = check_arena("encryptor.arena_bytes", conf->encryptor_arena_bytes,
                          cmq_conf_sealed_bytes_max(conf), conf, reason);
    if (err == CMQ_OK)
        err = check_log(conf, reason);
    if (err == CMQ_OK)
        err = check_dispatcher(conf, reason);
    return err;
}

enum cmq_err cmq_conf_check(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    enum cmq_err err = check_instance(conf, reason);
    if (err == CMQ_OK)
        err = check_paths(conf, reason);
    if (err == CMQ_OK)
        err = check_edge_paths(conf, reason);
    if (err == CMQ_OK)
        err = check_tls(conf, reason);
    if (err == CMQ_OK)
        err = check_network(conf, reason);
    if (err == CMQ_OK)
        err = check_sizes(conf, reason);
    return err;
}
