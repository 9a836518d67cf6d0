#include "common/shm/cmq_metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/shm/cmq_sight.h"
#include "common/shm/cmq_writer.h"

static void put_head(struct cmq_writer *writer, const char *name, const char *type, const char *help)
{
    cmq_writer_put(writer, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* ---- of an instance ---- */

static void put_sample(struct cmq_writer *writer, const char *name, const struct cmq_status *status)
{
    cmq_writer_put(writer, "%s{stage=\"%s\",instance=\"%u\"} ", name, cmq_role_name(status->role),
                   status->instance_number);
}

static bool ends_with(const char *text, const char *end)
{
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

static void put_counter(struct cmq_writer *writer, const struct cmq_sight *sight, enum cmq_counter counter)
{
    const struct cmq_counter_info *info = cmq_counter_info(counter);
    const bool gauge = info->kind == CMQ_KIND_GAUGE, ns = ends_with(info->name, "_ns");
    char name[96];
    (void)snprintf(name, sizeof name, "ciphermq_%.*s%s%s", (int)(strlen(info->name) - (ns ? 3 : 0)),
                   info->name, ns ? "_seconds" : "",
                   gauge || ends_with(info->name, "_total") ? "" : "_total");
    put_head(writer, name, gauge ? "gauge" : "counter", info->help);
    for (size_t i = 0; i < sight->count; i++) {
        const struct cmq_status *status = &sight->instances[i].status;
        if ((info->by & cmq_role_by(status->role)) == 0)
            continue;
        put_sample(writer, name, status);
        if (ns)
            cmq_writer_put(writer, "%.9f\n", (double)status->counters[counter] / 1e9);
        else
            cmq_writer_put(writer, "%" PRIu64 "\n",
                           gauge && !sight->instances[i].alive ? 0 : status->counters[counter]);
    }
}

static void put_hist_of(struct cmq_writer *writer, const char *name, const struct cmq_status *status,
                        enum cmq_hist hist)
{
    const char *stage = cmq_role_name(status->role);
    const unsigned number = status->instance_number;
    uint64_t below = 0;
    for (unsigned k = 0; k + 1 < CMQ_HIST_BUCKETS; k++) {
        below += status->hists[hist].buckets[k];
        cmq_writer_put(writer, "%s_bucket{stage=\"%s\",instance=\"%u\",le=\"%.9g\"} %" PRIu64 "\n", name,
                       stage, number, (double)(1ull << k) / 1e6, below);
    }
    cmq_writer_put(writer, "%s_bucket{stage=\"%s\",instance=\"%u\",le=\"+Inf\"} %" PRIu64 "\n", name, stage,
                   number, status->hists[hist].count);
    cmq_writer_put(writer, "%s_sum{stage=\"%s\",instance=\"%u\"} %.9f\n", name, stage, number,
                   (double)status->hists[hist].sum_ns / 1e9);
    cmq_writer_put(writer, "%s_count{stage=\"%s\",instance=\"%u\"} %" PRIu64 "\n", name, stage, number,
                   status->hists[hist].count);
}

static void put_hist(struct cmq_writer *writer, const struct cmq_sight *sight, enum cmq_hist hist)
{
    const struct cmq_hist_info *info = cmq_hist_info(hist);
    char name[96];
    (void)snprintf(name, sizeof name, "ciphermq_%s_duration_seconds", info->name);
    put_head(writer, name, "histogram", info->help);
    for (size_t i = 0; i < sight->count; i++) {
        if ((info->by & cmq_role_by(sight->instances[i].status.role)) != 0)
            put_hist_of(writer, name, &sight->instances[i].status, hist);
    }
}

static void put_instances(struct cmq_writer *writer, const struct cmq_sight *sight)
{
    put_head(writer, "ciphermq_up", "gauge", "1 while a process has this number, else 0");
    for (size_t i = 0; i < sight->count; i++) {
        put_sample(writer, "ciphermq_up", &sight->instances[i].status);
        cmq_writer_put(writer, "%d\n", sight->instances[i].alive);
    }
    put_head(writer, "ciphermq_starts_total", "counter", "processes that had this number");
    for (size_t i = 0; i < sight->count; i++) {
        put_sample(writer, "ciphermq_starts_total", &sight->instances[i].status);
        cmq_writer_put(writer, "%" PRIu64 "\n", sight->instances[i].status.starts);
    }
    put_head(writer, "ciphermq_start_time_seconds", "gauge", "when the process started, in Unix time");
    for (size_t i = 0; i < sight->count; i++) {
        if (!sight->instances[i].alive)
            continue;
        put_sample(writer, "ciphermq_start_time_seconds", &sight->instances[i].status);
        cmq_writer_put(writer, "%.3f\n", (double)sight->instances[i].member.start_wall_ms / 1e3);
    }
}

/* ---- of the broker ---- */

static void put_one(struct cmq_writer *writer, const char *name, const char *type, const char *help,
                    uint64_t value)
{
    put_head(writer, name, type, help);
    cmq_writer_put(writer, "%s %" PRIu64 "\n", name, value);
}

static void put_broker(struct cmq_writer *writer, const struct cmq_sight *sight, const char *version)
{
    static const enum cmq_log_health healths[] = {CMQ_LOG_HEALTH_NONE, CMQ_LOG_HEALTH_OK, CMQ_LOG_HEALTH_FULL,
                                                  CMQ_LOG_HEALTH_FAILED};
    put_head(writer, "ciphermq_build_info", "gauge", "always 1; the version is in the label");
    cmq_writer_put(writer, "ciphermq_build_info{version=\"%s\"} 1\n", version);
    put_one(writer, "ciphermq_ring_slots", "gauge", "records that the ring holds", sight->ring.slots);
    put_one(writer, "ciphermq_ring_published_record", "gauge", "number of the next record to be published",
            sight->ring.published);
    put_one(writer, "ciphermq_ring_sealed_record", "gauge", "all records below are sealed",
            sight->ring.committed);
    put_one(writer, "ciphermq_ring_depth", "gauge", "records in the ring that the log does not have yet",
            sight->ring.published - sight->ring.gate);
    put_one(writer, "ciphermq_ring_draining", "gauge", "1 while the ring is told to drain",
            sight->ring.draining);
    put_one(writer, "ciphermq_log_stored_record", "gauge", "all records below are in the log", sight->stored);
    put_one(writer, "ciphermq_log_durable_record", "gauge", "all records below survive a power cut",
            sight->durable);
    put_head(writer, "ciphermq_log_health", "gauge", "1 for the state that the log is in");
    for (size_t i = 0; i < CMQ_COUNT_OF(healths); i++)
        cmq_writer_put(writer, "ciphermq_log_health{state=\"%s\"} %d\n", cmq_log_health_name(healths[i]),
                       sight->health == healths[i]);
}

enum cmq_err cmq_metrics_write(const struct cmq_sight *sight, const char *version, bool topics,
                               struct cmq_buf *text)
{
    struct cmq_writer writer = {.text = text, .err = CMQ_OK};
    put_broker(&writer, sight, version);
    put_instances(&writer, sight);
    for (unsigned i = 0; i < CMQ_COUNTER_COUNT; i++)
        put_counter(&writer, sight, (enum cmq_counter)i);
    for (unsigned i = 0; i < CMQ_HIST_COUNT; i++)
        put_hist(&writer, sight, (enum cmq_hist)i);
    return writer.err == CMQ_OK ? cmq_metrics_write_tables(sight, topics, &writer) : writer.err;
}
