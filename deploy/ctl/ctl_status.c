/* status: the ring, the log, and each member with its counters, as a table or as JSON. Reads shared memory, writes
 * nothing there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "common/shm/cmq_state.h"
#include "ctl.h"

enum { JSON_BYTES_MAX = 64 << 20, GROUPS_SHOWN = 20, ERRORS_SHOWN = 5 };

static const enum cmq_role stages[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};

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

static void print_text_log(const struct cmq_sight *sight)
{
    (void)printf("log %s  stored up to record %llu, durable up to %llu", cmq_log_health_name(sight->health),
                 (unsigned long long)sight->stored, (unsigned long long)sight->durable);
    if (sight->writer == NULL)
        (void)printf("; nobody writes it\n\n");
    else
        (void)printf(", from record %llu on, %.1f MiB, written by encryptor %u\n\n",
                     (unsigned long long)sight->writer->member.counters[CMQ_COUNT_LOG_FLOOR],
                     (double)sight->writer->member.counters[CMQ_COUNT_LOG_DISK_BYTES] / (1024.0 * 1024.0),
                     sight->writer->status.instance_number);
}

static void print_text_instance(const struct cmq_sight *sight, const struct cmq_sight_instance *instance)
{
    const struct cmq_member_state *member = &instance->member;
    const uint64_t uptime_ms =
        sight->now_ms > member->start_wall_ms ? sight->now_ms - member->start_wall_ms : 0;
    char up[24];
    (void)printf("%-10s %3u %8d %9s %12llu %14llu %16llu %10llu %8llu %8llu %7llu\n",
                 cmq_role_name(instance->status.role), instance->status.instance_number, member->pid,
                 instance->alive ? uptime_text(up, uptime_ms / 1000u) : "dead",
                 (unsigned long long)member->counters[CMQ_COUNT_RECORDS],
                 (unsigned long long)member->counters[CMQ_COUNT_MESSAGES],
                 (unsigned long long)member->counters[CMQ_COUNT_BYTES_IN],
                 (unsigned long long)member->counters[CMQ_COUNT_WAITS],
                 (unsigned long long)member->counters[CMQ_COUNT_WAITS_LATE],
                 (unsigned long long)instance->lag, (unsigned long long)instance->ns_per_message);
}

/* During an upgrade: who is of which version. Nothing if all are of one. */
static void print_text_versions(const struct cmq_sight *sight)
{
    const char *first = NULL;
    bool several = false;
    for (size_t i = 0; i < sight->count; i++) {
        const struct cmq_sight_instance *instance = &sight->instances[i];
        if (!instance->alive)
            continue;
        first = first == NULL ? instance->status.version : first;
        several = several || strcmp(first, instance->status.version) != 0;
    }
    for (size_t i = 0; several && i < sight->count; i++) {
        const struct cmq_status *status = &sight->instances[i].status;
        if (sight->instances[i].alive)
            (void)printf("%s:%u is version %s\n", cmq_role_name(status->role), status->instance_number,
                         status->version);
    }
}

/* Counts since the ring was made; JSON has the sequence numbers themselves. */
static void print_text(const struct cmq_sight *sight)
{
    const struct cmq_ring_state *ring = &sight->ring;
    (void)printf(
        "broker %s  ring %u slots, %.1f %% full%s  records: %llu published, %llu sealed, %llu stored\n",
        sight->instance, ring->slots, fill_percent(ring), ring->draining ? ", draining" : "",
        (unsigned long long)(ring->published - ring->first_seq),
        (unsigned long long)(ring->committed - ring->first_seq),
        (unsigned long long)(ring->gate - ring->first_seq));
    print_text_log(sight);
    (void)printf("%-10s %3s %8s %9s %12s %14s %16s %10s %8s %8s %7s\n", "STAGE", "N", "PID", "UP", "RECORDS",
                 "MESSAGES", "BYTES", "WAITS", "LATE", "LAG", "NS/MSG");
    for (size_t i = 0; i < sight->count; i++)
        print_text_instance(sight, &sight->instances[i]);
    print_text_versions(sight);
    for (size_t i = 0; i < CMQ_COUNT_OF(stages); i++) {
        if (cmq_sight_live(sight, stages[i]) == 0)
            (void)printf("no %s runs; start one: ciphermqctl scale %s 1\n", cmq_role_name(stages[i]),
                         cmq_role_name(stages[i]));
    }
}

static enum cmq_err print_json(const struct cmq_sight *sight)
{
    struct cmq_buf text;
    cmq_buf_init(&text, JSON_BYTES_MAX);
    enum cmq_err err = cmq_state_write(sight, CMQ_VERSION, true, &text);
    if (err == CMQ_OK)
        (void)printf("%.*s\n", (int)text.bytes, (const char *)text.data);
    cmq_buf_fini(&text);
    return err;
}

static int no_ring(const struct ctl *ctl, const struct cmq_reason *reason)
{
    if (ctl->json)
        (void)printf("{\"broker\":\"%s\",\"ring\":null,\"log\":null,\"live\":{\"ingest\":0,\"encryptor\":0,"
                     "\"dispatcher\":0},"
                     "\"instances\":[],\"topics\":[],\"groups\":[],\"clients\":{\"total\":0,\"rows\":[]},"
                     "\"errors\":[]}\n",
                     ctl->conf.common_instance);
    return ctl_fail(CTL_EXIT_NOT_RUNNING, "%s", reason->text);
}

int ctl_status(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_ring *ring = NULL;
    struct cmq_sight *sight = NULL;
    enum cmq_err err = ctl_ring_observe(&ctl->conf, &ring, &reason);
    if (err == CMQ_ERR_AGAIN)
        return no_ring(ctl, &reason);
    if (err == CMQ_OK)
        err = cmq_sight_take(ring, &sight);
    cmq_ring_detach(ring);
    if (err == CMQ_OK && ctl->json)
        err = print_json(sight);
    else if (err == CMQ_OK) {
        print_text(sight);
        err = ctl_print_names(sight, GROUPS_SHOWN, ERRORS_SHOWN);
    }
    int code = err == CMQ_OK ? CMQ_EXIT_OK : ctl_fail_err(err, &reason);
    for (size_t i = 0; err == CMQ_OK && i < CMQ_COUNT_OF(stages); i++) {
        if (cmq_sight_live(sight, stages[i]) == 0)
            code = CTL_EXIT_NOT_RUNNING;
    }
    cmq_sight_free(sight);
    return code;
}
