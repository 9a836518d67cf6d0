/*
 * drain: the broker comes to rest, in the order that messages take. What is left is in the log, and waits there; only what is
 * accepted and not stored (a full disk, no encryptor) is in shared memory alone, which a reboot empties.
 *
 *   step                                         a death of drain there leaves
 *   ingest stopped                               a broker that delivers and takes nothing: drain again, or scale ingest 1
 *   waits until published = stored = durable,    the same
 *   and whoever is connected has everything
 *   encryptors stopped, then dispatchers         some stages stopped: the same
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_tables_read.h"
#include "ctl_scale.h"

/* Dispatchers tell four times a second how groups and clients do: what is seen for so long is no older than the log's end. */
enum { LOOK_AGAIN_MS = 20, SETTLE_MS = 800 };

struct rest {
    uint64_t not_stored, not_durable; /* records */
    uint64_t clients, clients_lag;    /* subscribers that are behind, and the most of them */
    uint64_t members_wait;            /* groups with members that have not done everything */
    struct cmq_tables_merged *told;
};

static bool has_more(const struct cmq_group_copy *group)
{
    return group->members > 0 && (group->lag_records > 0 || group->pending > 0);
}

static enum cmq_err look(const struct ctl *ctl, struct rest *ret_rest, struct cmq_reason *reason)
{
    struct cmq_ring *ring = NULL;
    struct cmq_sight *sight = NULL;
    struct rest rest = {.told = NULL};
    enum cmq_err err = ctl_ring_observe(&ctl->conf, &ring, reason);
    if (err == CMQ_OK)
        err = cmq_sight_take(ring, &sight);
    if (err == CMQ_OK)
        err = cmq_tables_merge(sight, &rest.told);
    if (err == CMQ_OK) {
        rest.not_stored = sight->ring.published > sight->stored ? sight->ring.published - sight->stored : 0;
        rest.not_durable = sight->stored > sight->durable ? sight->stored - sight->durable : 0;
        for (size_t i = 0; i < rest.told->client_count; i++) {
            rest.clients += rest.told->clients[i].lag_records > 0;
            rest.clients_lag = cmq_max_u64(rest.clients_lag, rest.told->clients[i].lag_records);
        }
        for (size_t i = 0; i < rest.told->group_count; i++)
            rest.members_wait += has_more(&rest.told->groups[i]);
        *ret_rest = rest;
    }
    cmq_sight_free(sight);
    cmq_ring_detach(ring);
    return err;
}

static bool is_at_rest(const struct rest *rest)
{
    return rest->not_stored == 0 && rest->not_durable == 0 && rest->clients == 0 && rest->members_wait == 0;
}

/* *ret_rest is the last look, whose tables the caller frees. */
static enum cmq_err wait_rest(const struct ctl *ctl, struct rest *ret_rest, bool *ret_drained,
                              struct cmq_reason *reason)
{
    const uint64_t begin_ns = cmq_clock_mono_ns();
    const uint64_t deadline_ns = begin_ns + ctl->timeout_ms * CMQ_NS_PER_MS;
    uint64_t since_ns = 0; /* at rest from then on */
    for (;;) {
        enum cmq_err err = look(ctl, ret_rest, reason);
        if (err != CMQ_OK)
            return err;
        const uint64_t now_ns = cmq_clock_mono_ns();
        if (!is_at_rest(ret_rest))
            since_ns = 0;
        else if (since_ns == 0)
            since_ns = now_ns;
        *ret_drained = since_ns != 0 && now_ns - since_ns >= SETTLE_MS * CMQ_NS_PER_MS;
        if (*ret_drained || now_ns >= deadline_ns)
            return CMQ_OK;
        free(ret_rest->told);
        (void)poll(NULL, 0, LOOK_AGAIN_MS); /* shared memory has no bell for this; bounded by the deadline */
    }
}

static int stop_stage(struct ctl *ctl, enum cmq_role role)
{
    const struct ctl_target target = {.stage = cmq_role_name(role), .role = role};
    return ctl_scale_stop(ctl, &target);
}

/* ---- output ---- */

static void print_json(const struct rest *rest, bool drained)
{
    bool first = true;
    (void)printf(
        "{\"drained\":%s,\"not_stored_records\":%llu,\"not_durable_records\":%llu,\"clients_behind\":%llu,"
        "\"groups\":[",
        drained ? "true" : "false", (unsigned long long)rest->not_stored,
        (unsigned long long)rest->not_durable, (unsigned long long)rest->clients);
    for (size_t i = 0; i < rest->told->group_count; i++) {
        const struct cmq_group_copy *group = &rest->told->groups[i];
        if (group->lag_records == 0)
            continue;
        (void)printf(
            "%s{\"group\":\"%s\",\"topic\":\"%s\",\"lag_records\":%llu,\"pending\":%llu,\"members\":%llu}",
            first ? "" : ",", group->name, group->topic, (unsigned long long)group->lag_records,
            (unsigned long long)group->pending, (unsigned long long)group->members);
        first = false;
    }
    (void)printf("]}\n");
}

static void print_text(const struct rest *rest)
{
    if (rest->not_stored > 0)
        (void)printf(
            "not in the log: %llu accepted records; they are in shared memory, the next start stores them, a "
            "reboot loses them\n",
            (unsigned long long)rest->not_stored);
    if (rest->clients > 0)
        (void)printf("subscribers behind: %llu, by up to %llu records, which stay in the log\n",
                     (unsigned long long)rest->clients, (unsigned long long)rest->clients_lag);
    for (size_t i = 0; i < rest->told->group_count; i++) {
        const struct cmq_group_copy *group = &rest->told->groups[i];
        if (group->lag_records > 0)
            (void)printf("group %s (%s): %llu records are not done and stay in the log%s\n", group->name,
                         group->topic, (unsigned long long)group->lag_records,
                         group->members == 0 ? "; it has no members" : "");
    }
}

static int drain_all(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct rest rest = {.told = NULL};
    bool drained = false;
    int code = stop_stage(ctl, CMQ_ROLE_INGEST);
    if (code != CMQ_EXIT_OK)
        return code;
    enum cmq_err err = wait_rest(ctl, &rest, &drained, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    code = stop_stage(ctl, CMQ_ROLE_ENCRYPTOR);
    if (code == CMQ_EXIT_OK)
        code = stop_stage(ctl, CMQ_ROLE_DISPATCHER);
    if (ctl->json)
        print_json(&rest, drained);
    else
        print_text(&rest);
    if (code == CMQ_EXIT_OK && !drained)
        code = ctl_fail(
            CTL_EXIT_WAITING,
            "not drained within %llu s: %llu records not stored, %llu not synced; %llu subscribers and "
            "%llu groups with members had more to get",
            (unsigned long long)(ctl->timeout_ms / 1000u), (unsigned long long)rest.not_stored,
            (unsigned long long)rest.not_durable, (unsigned long long)rest.clients,
            (unsigned long long)rest.members_wait);
    else if (code == CMQ_EXIT_OK && !ctl->json)
        (void)printf("drained; `ciphermqctl scale STAGE 1` starts a stage again\n");
    free(rest.told);
    return code;
}

int ctl_drain(struct ctl *ctl)
{
    struct ctl_target target;
    if (ctl->word_count == 0)
        return drain_all(ctl);
    if (!ctl_target_parse(ctl->words[0], &target))
        return ctl_fail(
            CMQ_EXIT_USAGE,
            "drain %s: name a stage (ingest, encryptor, dispatcher), or one instance of it: ingest:0 to "
            "ingest:%u; without a name all is drained",
            ctl->words[0], CTL_INSTANCES_MAX - 1);
    const int code = ctl_scale_stop(ctl, &target);
    if (code == CMQ_EXIT_OK && ctl->json)
        (void)printf("{\"drained\":true}\n");
    return code;
}
