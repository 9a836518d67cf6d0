/* status: the ring, the log, and each member with its counters, as a table or as JSON. Reads shared memory, writes
 * nothing there. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "ctl.h"

static const enum cmq_role stages[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};

struct view {
    struct cmq_ring_state ring;
    struct cmq_member_state members[CMQ_MEMBERS_MAX];
    size_t count;
    uint64_t now_ms;
    uint64_t stored, durable; /* cursors of the log */
    enum cmq_log_health health;
    const struct cmq_member_state *writer; /* of the log; NULL: nobody now */
};

static int by_stage_and_number(const void *left, const void *right)
{
    const struct cmq_member_state *a = left, *b = right;
    if (a->role != b->role)
        return a->role < b->role ? -1 : 1;
    if (a->instance_number != b->instance_number)
        return a->instance_number < b->instance_number ? -1 : 1;
    return a->start_wall_ms < b->start_wall_ms ? -1 : a->start_wall_ms > b->start_wall_ms;
}

static void view_take(struct cmq_ring *ring, struct view *ret_view)
{
    cmq_ring_state(ring, &ret_view->ring);
    size_t count = cmq_ring_members(ring, ret_view->members, CMQ_COUNT_OF(ret_view->members));
    ret_view->count = cmq_min_u64(count, CMQ_COUNT_OF(ret_view->members));
    ret_view->now_ms = cmq_clock_wall_ms();
    ret_view->durable = cmq_ring_durable_seq(ring);
    ret_view->stored = cmq_ring_stored_seq(ring);
    ret_view->health = cmq_ring_log_health(ring);
    qsort(ret_view->members, ret_view->count, sizeof ret_view->members[0], by_stage_and_number);
    ret_view->writer = NULL;
    for (size_t i = 0; i < ret_view->count; i++) {
        const struct cmq_member_state *member = &ret_view->members[i];
        if (member->alive && member->role == CMQ_ROLE_ENCRYPTOR && member->counters[CMQ_COUNT_LOG_FLOOR] > 0)
            ret_view->writer = member;
    }
}

static const char *health_name(enum cmq_log_health health)
{
    switch (health) {
    case CMQ_LOG_HEALTH_NONE:
        return "none";
    case CMQ_LOG_HEALTH_OK:
        return "ok";
    case CMQ_LOG_HEALTH_FULL:
        return "full";
    case CMQ_LOG_HEALTH_FAILED:
        return "failed";
    }
    return "unknown"; /* the number came out of shared memory */
}

/* Records that wait for the stage. The words are read one after another: a difference may be out by what
 * moved between. */
static uint64_t stage_lag(const struct cmq_ring_state *ring, const struct cmq_member_state *member)
{
    if (member->role == CMQ_ROLE_ENCRYPTOR)
        return ring->published - ring->committed;
    return member->role == CMQ_ROLE_DISPATCHER ? member->counters[CMQ_COUNT_LAG] : 0;
}

static unsigned live_count(const struct view *view, enum cmq_role role)
{
    unsigned count = 0;
    for (size_t i = 0; i < view->count; i++)
        count += view->members[i].alive && view->members[i].role == role;
    return count;
}

static uint64_t ns_per_message(const struct cmq_member_state *member)
{
    uint64_t messages = member->counters[CMQ_COUNT_MESSAGES];
    return messages == 0 ? 0 : member->counters[CMQ_COUNT_WORK_NS] / messages;
}

static uint64_t uptime_s(const struct view *view, const struct cmq_member_state *member)
{
    return view->now_ms > member->start_wall_ms ? (view->now_ms - member->start_wall_ms) / 1000u : 0;
}

static double fill_percent(const struct cmq_ring_state *ring)
{
    return ring->slots == 0 ? 0.0 : 100.0 * (double)(ring->published - ring->gate) / (double)ring->slots;
}

/* ---- text ---- */

static const char *uptime_text(char text[24], uint64_t seconds)
{
    if (seconds < 86400u)
        (void)snprintf(text, 24, "%llu:%02llu:%02llu", (unsigned long long)(seconds / 3600u),
                       (unsigned long long)(seconds / 60u % 60u), (unsigned long long)(seconds % 60u));
    else
        (void)snprintf(text, 24, "%llud %lluh", (unsigned long long)(seconds / 86400u),
                       (unsigned long long)(seconds / 3600u % 24u));
    return text;
}

static void print_text_log(const struct view *view)
{
    (void)printf("log %s  stored up to record %llu, durable up to %llu", health_name(view->health),
                 (unsigned long long)view->stored, (unsigned long long)view->durable);
    if (view->writer == NULL)
        (void)printf("; nobody writes it\n\n");
    else
        (void)printf(", from record %llu on, %.1f MiB, written by encryptor %u\n\n",
                     (unsigned long long)view->writer->counters[CMQ_COUNT_LOG_FLOOR],
                     (double)view->writer->counters[CMQ_COUNT_LOG_DISK_BYTES] / (1024.0 * 1024.0),
                     view->writer->instance_number);
}

/* Counts since the ring was made; JSON has the sequence numbers themselves. */
static void print_text(const struct cmq_conf *conf, const struct view *view)
{
    const struct cmq_ring_state *ring = &view->ring;
    (void)printf(
        "broker %s  ring %u slots, %.1f %% full%s  records: %llu published, %llu sealed, %llu stored\n",
        conf->common_instance, ring->slots, fill_percent(ring), ring->draining ? ", draining" : "",
        (unsigned long long)(ring->published - ring->first_seq),
        (unsigned long long)(ring->committed - ring->first_seq),
        (unsigned long long)(ring->gate - ring->first_seq));
    print_text_log(view);
    (void)printf("%-10s %3s %8s %9s %12s %14s %16s %10s %8s %8s %7s\n", "STAGE", "N", "PID", "UP", "RECORDS",
                 "MESSAGES", "BYTES", "WAITS", "LATE", "LAG", "NS/MSG");
    for (size_t i = 0; i < view->count; i++) {
        const struct cmq_member_state *member = &view->members[i];
        char up[24];
        (void)printf("%-10s %3u %8d %9s %12llu %14llu %16llu %10llu %8llu %8llu %7llu\n",
                     ctl_role_name(member->role), member->instance_number, member->pid,
                     member->alive ? uptime_text(up, uptime_s(view, member)) : "dead",
                     (unsigned long long)member->counters[CMQ_COUNT_RECORDS],
                     (unsigned long long)member->counters[CMQ_COUNT_MESSAGES],
                     (unsigned long long)member->counters[CMQ_COUNT_BYTES_IN],
                     (unsigned long long)member->counters[CMQ_COUNT_WAITS],
                     (unsigned long long)member->counters[CMQ_COUNT_WAITS_LATE],
                     (unsigned long long)stage_lag(ring, member), (unsigned long long)ns_per_message(member));
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(stages); i++) {
        if (live_count(view, stages[i]) == 0)
            (void)printf("no %s runs; start one: ciphermqctl scale %s 1\n", ctl_role_name(stages[i]),
                         ctl_role_name(stages[i]));
    }
}

/* ---- JSON: all strings are names from our tables or settings whose characters need no escape ---- */

static void print_json_member(const struct view *view, const struct cmq_member_state *member)
{
    (void)printf("{\"stage\":\"%s\",\"instance\":%u,\"id\":%u,\"pid\":%d,\"alive\":%s,\"uptime_s\":%llu,"
                 "\"arena_bytes\":%llu,\"lag\":%llu,\"ns_per_message\":%llu,\"counters\":{",
                 ctl_role_name(member->role), member->instance_number, member->id, member->pid,
                 member->alive ? "true" : "false", (unsigned long long)uptime_s(view, member),
                 (unsigned long long)member->arena_bytes, (unsigned long long)stage_lag(&view->ring, member),
                 (unsigned long long)ns_per_message(member));
    for (unsigned i = 0; i < CMQ_COUNTER_COUNT; i++)
        (void)printf("%s\"%s\":%llu", i == 0 ? "" : ",", cmq_counter_info((enum cmq_counter)i)->name,
                     (unsigned long long)member->counters[i]);
    (void)printf("}}");
}

/* floor, bytes and writer are null while nobody writes. */
static void print_json_log(const struct view *view)
{
    (void)printf("\"log\":{\"health\":\"%s\",\"stored\":%llu,\"durable\":%llu,", health_name(view->health),
                 (unsigned long long)view->stored, (unsigned long long)view->durable);
    if (view->writer == NULL)
        (void)printf("\"floor\":null,\"bytes\":null,\"writer\":null},");
    else
        (void)printf("\"floor\":%llu,\"bytes\":%llu,\"writer\":%u},",
                     (unsigned long long)view->writer->counters[CMQ_COUNT_LOG_FLOOR],
                     (unsigned long long)view->writer->counters[CMQ_COUNT_LOG_DISK_BYTES],
                     view->writer->instance_number);
}

static void print_json(const struct cmq_conf *conf, const struct view *view)
{
    const struct cmq_ring_state *ring = &view->ring;
    (void)printf(
        "{\"broker\":\"%s\",\"ring\":{\"slots\":%u,\"first_seq\":%llu,\"gate\":%llu,\"committed\":%llu,"
        "\"published\":%llu,\"fill\":%.4f,\"draining\":%s},",
        conf->common_instance, ring->slots, (unsigned long long)ring->first_seq,
        (unsigned long long)ring->gate, (unsigned long long)ring->committed,
        (unsigned long long)ring->published, fill_percent(ring) / 100.0, ring->draining ? "true" : "false");
    print_json_log(view);
    (void)printf("\"live\":{");
    for (size_t i = 0; i < CMQ_COUNT_OF(stages); i++)
        (void)printf("%s\"%s\":%u", i == 0 ? "" : ",", ctl_role_name(stages[i]), live_count(view, stages[i]));
    (void)printf("},\"instances\":[");
    for (size_t i = 0; i < view->count; i++) {
        (void)printf("%s", i == 0 ? "" : ",");
        print_json_member(view, &view->members[i]);
    }
    (void)printf("]}\n");
}

int ctl_status(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_ring *ring = NULL;
    struct view view;
    enum cmq_err err = ctl_ring_observe(&ctl->conf, &ring, &reason);
    if (err == CMQ_ERR_AGAIN) {
        if (ctl->json)
            (void)printf("{\"broker\":\"%s\",\"ring\":null,\"log\":null,\"live\":{\"ingest\":0,\"encryptor\":"
                         "0,\"dispatcher\":0},"
                         "\"instances\":[]}\n",
                         ctl->conf.common_instance);
        return ctl_fail(CTL_EXIT_NOT_RUNNING, "%s", reason.text);
    }
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    view_take(ring, &view);
    cmq_ring_detach(ring);
    if (ctl->json)
        print_json(&ctl->conf, &view);
    else
        print_text(&ctl->conf, &view);
    for (size_t i = 0; i < CMQ_COUNT_OF(stages); i++) {
        if (live_count(&view, stages[i]) == 0)
            return CTL_EXIT_NOT_RUNNING;
    }
    return CMQ_EXIT_OK;
}
