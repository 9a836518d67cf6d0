#include "common/shm/cmq_state.h"

#include <inttypes.h>

#include "common/shm/cmq_writer.h"

static void put_ring(struct cmq_writer *writer, const struct cmq_ring_state *ring)
{
    const double fill = ring->slots == 0 ? 0.0 : (double)(ring->published - ring->gate) / (double)ring->slots;
    cmq_writer_put(writer,
                   "\"ring\":{\"slots\":%u,\"first_seq\":%" PRIu64 ",\"gate\":%" PRIu64
                   ",\"committed\":%" PRIu64 ",\"published\":%" PRIu64 ",\"fill\":%.4f,\"draining\":%s},",
                   ring->slots, ring->first_seq, ring->gate, ring->committed, ring->published, fill,
                   ring->draining ? "true" : "false");
}

/* floor, bytes and writer are null while nobody writes. */
static void put_log(struct cmq_writer *writer, const struct cmq_sight *sight)
{
    cmq_writer_put(writer, "\"log\":{\"health\":\"%s\",\"stored\":%" PRIu64 ",\"durable\":%" PRIu64 ",",
                   cmq_log_health_name(sight->health), sight->stored, sight->durable);
    if (sight->writer == NULL)
        cmq_writer_put(writer, "\"floor\":null,\"bytes\":null,\"writer\":null},");
    else
        cmq_writer_put(writer, "\"floor\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"writer\":%u},",
                       sight->writer->member.counters[CMQ_COUNT_LOG_FLOOR],
                       sight->writer->member.counters[CMQ_COUNT_LOG_DISK_BYTES],
                       sight->writer->status.instance_number);
}

/* The bound of the bucket in which that part of the durations ends, in nanoseconds; 0: there were none. */
static uint64_t quantile(const struct cmq_status *status, unsigned hist, double part)
{
    uint64_t below = 0;
    for (unsigned k = 0; k < CMQ_HIST_BUCKETS; k++) {
        below += status->hists[hist].buckets[k];
        if (status->hists[hist].count > 0 && (double)below >= part * (double)status->hists[hist].count)
            return 1000ull << k;
    }
    return 0;
}

static void put_durations(struct cmq_writer *writer, const struct cmq_status *status, unsigned by)
{
    bool first = true;
    cmq_writer_put(writer, "\"durations\":{");
    for (unsigned i = 0; i < CMQ_HIST_COUNT; i++) {
        const struct cmq_hist_info *info = cmq_hist_info((enum cmq_hist)i);
        if ((info->by & by) == 0)
            continue;
        cmq_writer_put(writer,
                       "%s\"%s\":{\"count\":%" PRIu64 ",\"sum_ns\":%" PRIu64 ",\"p50_ns\":%" PRIu64
                       ",\"p99_ns\":%" PRIu64 ",\"buckets\":[",
                       first ? "" : ",", info->name, status->hists[i].count, status->hists[i].sum_ns,
                       quantile(status, i, 0.5), quantile(status, i, 0.99));
        for (unsigned k = 0; k < CMQ_HIST_BUCKETS; k++)
            cmq_writer_put(writer, "%s%" PRIu64, k == 0 ? "" : ",", status->hists[i].buckets[k]);
        cmq_writer_put(writer, "]}");
        first = false;
    }
    cmq_writer_put(writer, "}");
}

static void put_instance(struct cmq_writer *writer, const struct cmq_sight *sight,
                         const struct cmq_sight_instance *instance)
{
    const struct cmq_member_state *member = &instance->member;
    const bool known = member->id != CMQ_MEMBERS_MAX;
    const uint64_t uptime_ms =
        instance->alive && sight->now_ms > member->start_wall_ms ? sight->now_ms - member->start_wall_ms : 0;
    cmq_writer_put(writer, "{\"stage\":\"%s\",\"instance\":%u,", cmq_role_name(instance->status.role),
                   instance->status.instance_number);
    if (known)
        cmq_writer_put(writer, "\"id\":%u,\"pid\":%d,", member->id, member->pid);
    else
        cmq_writer_put(writer, "\"id\":null,\"pid\":null,");
    cmq_writer_put(writer, "\"version\":\"%s\",", instance->status.version);
    cmq_writer_put(writer,
                   "\"alive\":%s,\"starts\":%" PRIu64 ",\"uptime_s\":%" PRIu64 ",\"arena_bytes\":%" PRIu64
                   ",\"lag\":%" PRIu64 ",\"ns_per_message\":%" PRIu64 ",\"counters\":{",
                   instance->alive ? "true" : "false", instance->status.starts, uptime_ms / 1000u,
                   member->arena_bytes, instance->lag, instance->ns_per_message);
    for (unsigned i = 0; i < CMQ_COUNTER_COUNT; i++)
        cmq_writer_put(writer, "%s\"%s\":%" PRIu64, i == 0 ? "" : ",",
                       cmq_counter_info((enum cmq_counter)i)->name, member->counters[i]);
    cmq_writer_put(writer, "},");
    put_durations(writer, &instance->status, cmq_role_by(instance->status.role));
    cmq_writer_put(writer, "}");
}

enum cmq_err cmq_state_write(const struct cmq_sight *sight, const char *version, bool names,
                             struct cmq_buf *text)
{
    static const enum cmq_role stages[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};
    struct cmq_writer writer = {.text = text, .err = CMQ_OK};
    cmq_writer_put(&writer, "{\"broker\":\"%s\",\"version\":\"%s\",\"time_ms\":%" PRIu64 ",", sight->instance,
                   version, sight->now_ms);
    put_ring(&writer, &sight->ring);
    put_log(&writer, sight);
    cmq_writer_put(&writer, "\"live\":{");
    for (size_t i = 0; i < CMQ_COUNT_OF(stages); i++)
        cmq_writer_put(&writer, "%s\"%s\":%u", i == 0 ? "" : ",", cmq_role_name(stages[i]),
                       cmq_sight_live(sight, stages[i]));
    cmq_writer_put(&writer, "},\"instances\":[");
    for (size_t i = 0; i < sight->count; i++) {
        cmq_writer_put(&writer, "%s", i == 0 ? "" : ",");
        put_instance(&writer, sight, &sight->instances[i]);
    }
    cmq_writer_put(&writer, "]");
    if (!names)
        cmq_writer_put(&writer, ",\"topics\":null,\"groups\":null,\"clients\":null,\"errors\":null");
    else if (writer.err == CMQ_OK)
        writer.err = cmq_state_write_tables(sight, &writer);
    cmq_writer_put(&writer, "}");
    return writer.err;
}
