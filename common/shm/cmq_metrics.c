#include "common/shm/cmq_metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_status.h"
#include "common/shm/cmq_view.h"

enum { LINE_BYTES_MAX = 512, STATUSES_MAX = 3 * CMQ_STATUS_INSTANCES_MAX };

/* All numbers of one moment, more or less: they move while they are read. */
struct sight {
    struct cmq_ring_state ring;
    struct cmq_member_state *members;
    size_t member_count;
    struct cmq_status *statuses;
    size_t status_count;
};

struct writer {
    struct cmq_buf *text;
    enum cmq_err err; /* the first */
};

CMQ_PRINTF(2, 3) static void put(struct writer *writer, const char *fmt, ...)
{
    char line[LINE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int bytes = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    cmq_assert(bytes >= 0 && (size_t)bytes < sizeof line);
    if (writer->err == CMQ_OK)
        writer->err = cmq_buf_append(writer->text, line, (size_t)bytes);
}

static void put_head(struct writer *writer, const char *name, const char *type, const char *help)
{
    put(writer, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static const char *stage_name(enum cmq_role role)
{
    switch (role) {
    case CMQ_ROLE_INGEST:
        return "ingest";
    case CMQ_ROLE_ENCRYPTOR:
        return "encryptor";
    case CMQ_ROLE_DISPATCHER:
        return "dispatcher";
    case CMQ_ROLE_NONE:
    case CMQ_ROLE_OBSERVER:
        break;
    }
    return "unknown";
}

static unsigned by_of(enum cmq_role role)
{
    return role == CMQ_ROLE_INGEST      ? CMQ_BY_INGEST
           : role == CMQ_ROLE_ENCRYPTOR ? CMQ_BY_ENCRYPTOR
                                        : CMQ_BY_DISPATCHER;
}

/* The process that has the number now. */
static const struct cmq_member_state *member_of(const struct sight *sight, const struct cmq_status *status)
{
    const struct cmq_member_state *found = NULL;
    for (size_t i = 0; i < sight->member_count; i++) {
        const struct cmq_member_state *member = &sight->members[i];
        if (member->alive && member->role == status->role &&
            member->instance_number == status->instance_number &&
            (found == NULL || member->start_wall_ms > found->start_wall_ms))
            found = member;
    }
    return found;
}

/* ---- of an instance ---- */

static void put_sample(struct writer *writer, const char *name, const struct cmq_status *status)
{
    put(writer, "%s{stage=\"%s\",instance=\"%u\"} ", name, stage_name(status->role), status->instance_number);
}

static bool ends_with(const char *text, const char *end)
{
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

static void put_counter(struct writer *writer, const struct sight *sight, enum cmq_counter counter)
{
    const struct cmq_counter_info *info = cmq_counter_info(counter);
    const bool gauge = info->kind == CMQ_KIND_GAUGE, ns = ends_with(info->name, "_ns");
    char name[96];
    (void)snprintf(name, sizeof name, "ciphermq_%.*s%s%s", (int)(strlen(info->name) - (ns ? 3 : 0)),
                   info->name, ns ? "_seconds" : "",
                   gauge || ends_with(info->name, "_total") ? "" : "_total");
    put_head(writer, name, gauge ? "gauge" : "counter", info->help);
    for (size_t i = 0; i < sight->status_count; i++) {
        const struct cmq_status *status = &sight->statuses[i];
        if ((info->by & by_of(status->role)) == 0)
            continue;
        put_sample(writer, name, status);
        if (ns)
            put(writer, "%.9f\n", (double)status->counters[counter] / 1e9);
        else
            put(writer, "%" PRIu64 "\n",
                gauge && member_of(sight, status) == NULL ? 0 : status->counters[counter]);
    }
}

static void put_hist_of(struct writer *writer, const char *name, const struct cmq_status *status,
                        enum cmq_hist hist)
{
    const char *stage = stage_name(status->role);
    const unsigned number = status->instance_number;
    uint64_t below = 0;
    for (unsigned k = 0; k + 1 < CMQ_HIST_BUCKETS; k++) {
        below += status->hists[hist].buckets[k];
        put(writer, "%s_bucket{stage=\"%s\",instance=\"%u\",le=\"%.9g\"} %" PRIu64 "\n", name, stage, number,
            (double)(1ull << k) / 1e6, below);
    }
    put(writer, "%s_bucket{stage=\"%s\",instance=\"%u\",le=\"+Inf\"} %" PRIu64 "\n", name, stage, number,
        status->hists[hist].count);
    put(writer, "%s_sum{stage=\"%s\",instance=\"%u\"} %.9f\n", name, stage, number,
        (double)status->hists[hist].sum_ns / 1e9);
    put(writer, "%s_count{stage=\"%s\",instance=\"%u\"} %" PRIu64 "\n", name, stage, number,
        status->hists[hist].count);
}

static void put_hist(struct writer *writer, const struct sight *sight, enum cmq_hist hist)
{
    const struct cmq_hist_info *info = cmq_hist_info(hist);
    char name[96];
    (void)snprintf(name, sizeof name, "ciphermq_%s_duration_seconds", info->name);
    put_head(writer, name, "histogram", info->help);
    for (size_t i = 0; i < sight->status_count; i++) {
        if ((info->by & by_of(sight->statuses[i].role)) != 0)
            put_hist_of(writer, name, &sight->statuses[i], hist);
    }
}

static void put_instances(struct writer *writer, const struct sight *sight)
{
    put_head(writer, "ciphermq_up", "gauge", "1 while a process has this number, else 0");
    for (size_t i = 0; i < sight->status_count; i++) {
        put_sample(writer, "ciphermq_up", &sight->statuses[i]);
        put(writer, "%d\n", member_of(sight, &sight->statuses[i]) != NULL);
    }
    put_head(writer, "ciphermq_starts_total", "counter", "processes that had this number");
    for (size_t i = 0; i < sight->status_count; i++) {
        put_sample(writer, "ciphermq_starts_total", &sight->statuses[i]);
        put(writer, "%" PRIu64 "\n", sight->statuses[i].starts);
    }
    put_head(writer, "ciphermq_start_time_seconds", "gauge", "when the process started, in Unix time");
    for (size_t i = 0; i < sight->status_count; i++) {
        const struct cmq_member_state *member = member_of(sight, &sight->statuses[i]);
        if (member == NULL)
            continue;
        put_sample(writer, "ciphermq_start_time_seconds", &sight->statuses[i]);
        put(writer, "%.3f\n", (double)member->start_wall_ms / 1e3);
    }
}

/* ---- of the broker ---- */

static void put_one(struct writer *writer, const char *name, const char *type, const char *help,
                    uint64_t value)
{
    put_head(writer, name, type, help);
    put(writer, "%s %" PRIu64 "\n", name, value);
}

static void put_broker(struct writer *writer, struct cmq_ring *ring, const struct sight *sight,
                       const char *version)
{
    static const char *const healths[] = {[CMQ_LOG_HEALTH_NONE] = "none",
                                          [CMQ_LOG_HEALTH_OK] = "ok",
                                          [CMQ_LOG_HEALTH_FULL] = "full",
                                          [CMQ_LOG_HEALTH_FAILED] = "failed"};
    const enum cmq_log_health health = cmq_ring_log_health(ring);
    put_head(writer, "ciphermq_build_info", "gauge", "always 1; the version is in the label");
    put(writer, "ciphermq_build_info{version=\"%s\"} 1\n", version);
    put_one(writer, "ciphermq_ring_slots", "gauge", "records that the ring holds", sight->ring.slots);
    put_one(writer, "ciphermq_ring_published_record", "gauge", "number of the next record to be published",
            sight->ring.published);
    put_one(writer, "ciphermq_ring_sealed_record", "gauge", "all records below are sealed",
            sight->ring.committed);
    put_one(writer, "ciphermq_ring_depth", "gauge", "records in the ring that the log does not have yet",
            sight->ring.published - sight->ring.gate);
    put_one(writer, "ciphermq_ring_draining", "gauge", "1 while the ring is told to drain",
            sight->ring.draining);
    put_one(writer, "ciphermq_log_stored_record", "gauge", "all records below are in the log",
            cmq_ring_stored_seq(ring));
    put_one(writer, "ciphermq_log_durable_record", "gauge", "all records below survive a power cut",
            cmq_ring_durable_seq(ring));
    put_head(writer, "ciphermq_log_health", "gauge", "1 for the state that the log is in");
    for (size_t i = 0; i < CMQ_COUNT_OF(healths); i++)
        put(writer, "ciphermq_log_health{state=\"%s\"} %d\n", healths[i], (size_t)health == i);
}

enum cmq_err cmq_metrics_write(struct cmq_ring *ring, const char *version, struct cmq_buf *text)
{
    struct sight sight = {.members = calloc(CMQ_MEMBERS_MAX, sizeof *sight.members),
                          .statuses = calloc(STATUSES_MAX, sizeof *sight.statuses)};
    struct writer writer = {.text = text, .err = CMQ_OK};
    if (sight.members == NULL || sight.statuses == NULL) {
        writer.err = CMQ_ERR_NOMEM;
        goto out;
    }
    cmq_ring_state(ring, &sight.ring);
    sight.member_count = cmq_min_u64(cmq_ring_members(ring, sight.members, CMQ_MEMBERS_MAX), CMQ_MEMBERS_MAX);
    sight.status_count =
        cmq_min_u64(cmq_status_read(ring->instance, sight.statuses, STATUSES_MAX), STATUSES_MAX);
    put_broker(&writer, ring, &sight, version);
    put_instances(&writer, &sight);
    for (unsigned i = 0; i < CMQ_COUNTER_COUNT; i++)
        put_counter(&writer, &sight, (enum cmq_counter)i);
    for (unsigned i = 0; i < CMQ_HIST_COUNT; i++)
        put_hist(&writer, &sight, (enum cmq_hist)i);
out:
    free(sight.members);
    free(sight.statuses);
    return writer.err;
}
