/*
 * groups: what the dispatchers keep of each consumer group, and moving or removing one while they run. What a death leaves:
 * common/ledger/cmq_ledger_edit.h.
 *
 * A group with members is refused: what they have in hand would end under the old place, and nobody could say what comes twice.
 * A member that joins between the look and the change does no harm: its dispatcher finds the new place when it claims next.
 */
#include "ctl_groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ledger/cmq_ledger_edit.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_tables_read.h"
#include "common/wire/cmq_id.h"
#include "common/wire/cmq_topic.h"
#include "ctl_json.h"
#include "ctl_log.h"

struct groups {
    struct cmq_ledger_look look;
    struct cmq_tables_merged *told; /* by the dispatchers that run; NULL: none do */
    struct cmq_ring *ring;          /* NULL: there is none */
    uint64_t end_seq, log_floor;
    uint64_t *lag_messages; /* NULL: not asked for */
};

/* ---- looking ---- */

static const struct cmq_group_copy *told_of(const struct groups *groups, const char *name)
{
    for (size_t i = 0; groups->told != NULL && i < groups->told->group_count; i++) {
        if (strcmp(groups->told->groups[i].name, name) == 0)
            return &groups->told->groups[i];
    }
    return NULL;
}

static enum cmq_err look_at_ring(const struct ctl *ctl, struct groups *groups)
{
    struct cmq_sight *sight = NULL;
    if (ctl_ring_observe(&ctl->conf, &groups->ring, NULL) != CMQ_OK)
        return CMQ_OK;
    enum cmq_err err = cmq_sight_take(groups->ring, &sight);
    if (err == CMQ_OK)
        err = cmq_tables_merge(sight, &groups->told);
    cmq_sight_free(sight);
    return err;
}

static enum cmq_err groups_open(const struct ctl *ctl, struct groups *groups, struct cmq_reason *reason)
{
    struct cmq_conf_path path;
    enum cmq_err err = look_at_ring(ctl, groups);
    if (err == CMQ_OK)
        err = cmq_ledger_look(cmq_conf_groups_dir(&ctl->conf, &path), &groups->look, reason);
    if (err == CMQ_ERR_NOT_FOUND) /* no dispatcher has run yet */
        err = CMQ_OK;
    if (err == CMQ_OK)
        err = ctl_log_end(&ctl->conf, &groups->end_seq, reason);
    if (err == CMQ_OK)
        err = ctl_log_floor(&ctl->conf, groups->end_seq, &groups->log_floor, reason);
    return err;
}

static void groups_close(struct groups *groups)
{
    cmq_ledger_look_free(&groups->look);
    cmq_ring_detach(groups->ring);
    free(groups->told);
    free(groups->lag_messages);
}

/* ---- output ---- */

static void print_json_group(const struct groups *groups, size_t index)
{
    const struct cmq_ledger_group *group = &groups->look.groups[index];
    const struct cmq_group_copy *told = told_of(groups, group->name);
    const struct cmq_group_copy none = {.members = 0};
    (void)printf("%s{\"group\":\"%s\",\"topic\":", index == 0 ? "" : ",", group->name);
    ctl_json_string(stdout, cmq_span_make(group->row.topic, strlen(group->row.topic)));
    (void)printf(",\"floor\":%llu,\"lag_records\":%llu", (unsigned long long)group->floor,
                 (unsigned long long)ctl_groups_lag_records(group, groups->log_floor, groups->end_seq));
    if (groups->lag_messages != NULL)
        (void)printf(",\"lag_messages\":%llu", (unsigned long long)groups->lag_messages[index]);
    told = told != NULL ? told : &none;
    (void)printf(",\"claimed_records\":%llu,\"members\":%llu,\"pending\":%llu,\"redelivered\":%llu,"
                 "\"dead_letters\":%llu}",
                 (unsigned long long)group->claimed, (unsigned long long)told->members,
                 (unsigned long long)told->pending, (unsigned long long)told->redelivered,
                 (unsigned long long)told->dead_letters);
}

static void print_json(const struct groups *groups)
{
    (void)printf("{\"end\":%llu,\"groups\":[", (unsigned long long)groups->end_seq);
    for (size_t i = 0; i < groups->look.count; i++)
        print_json_group(groups, i);
    (void)printf("]}\n");
}

static void print_text(const struct groups *groups)
{
    const bool messages = groups->lag_messages != NULL;
    (void)printf("%-24s %-24s %12s %14s %10s %8s %8s %12s\n", "GROUP", "TOPIC", "FLOOR",
                 messages ? "LAG MESSAGES" : "LAG RECORDS", "CLAIMED", "MEMBERS", "PENDING", "DEAD LETTERS");
    for (size_t i = 0; i < groups->look.count; i++) {
        const struct cmq_ledger_group *group = &groups->look.groups[i];
        const struct cmq_group_copy *told = told_of(groups, group->name);
        const uint64_t lag = messages ? groups->lag_messages[i]
                                      : ctl_groups_lag_records(group, groups->log_floor, groups->end_seq);
        (void)printf("%-24s %-24s %12llu %14llu %10llu %8llu %8llu %12llu\n", group->name, group->row.topic,
                     (unsigned long long)group->floor, (unsigned long long)lag,
                     (unsigned long long)group->claimed,
                     told != NULL ? (unsigned long long)told->members : 0ull,
                     told != NULL ? (unsigned long long)told->pending : 0ull,
                     told != NULL ? (unsigned long long)told->dead_letters : 0ull);
    }
    (void)printf("%zu groups, up to record %llu\n", groups->look.count, (unsigned long long)groups->end_seq);
}

static enum cmq_err show(const struct ctl *ctl, struct groups *groups, struct cmq_reason *reason)
{
    if (!ctl->records) {
        groups->lag_messages = calloc(groups->look.count + 1, sizeof *groups->lag_messages);
        if (groups->lag_messages == NULL)
            return CMQ_ERR_NOMEM;
        enum cmq_err err = ctl_groups_lag(ctl, &groups->look, groups->end_seq, groups->lag_messages, reason);
        if (err != CMQ_OK)
            return err;
    }
    if (ctl->json)
        print_json(groups);
    else
        print_text(groups);
    return CMQ_OK;
}

/* ---- changing ---- */

/* 0: nobody has it in hand. */
static int check_idle(const struct groups *groups, const struct cmq_ledger_group *group, const char *verb)
{
    const struct cmq_group_copy *told = told_of(groups, group->name);
    if (told != NULL && told->members > 0)
        return ctl_fail(CTL_EXIT_FAILED, "groups %s %s: it has %llu members; stop them first", verb,
                        group->name, (unsigned long long)told->members);
    for (size_t i = 0; groups->ring != NULL && i < group->owner_count; i++) {
        if (cmq_ring_owner_is_alive(groups->ring, group->owners[i]))
            return ctl_fail(
                CTL_EXIT_FAILED,
                "groups %s %s: a dispatcher has messages of it in hand; stop its members first, or wait "
                "until their dead letters are stored",
                verb, group->name);
    }
    return 0;
}

/* Where the group is to go on. */
static int find_place(const struct ctl *ctl, const struct groups *groups, struct cmq_id *ret_start)
{
    const char *to = ctl->to;
    struct cmq_id id = {.seq = 0};
    if (to == NULL)
        return ctl_fail(CMQ_EXIT_USAGE,
                        "groups reset: name the place: --to earliest, latest, or the id of a message");
    if (strcmp(to, "earliest") == 0) {
        *ret_start = (struct cmq_id){.seq = groups->log_floor};
    } else if (strcmp(to, "latest") == 0) {
        *ret_start = (struct cmq_id){.seq = groups->end_seq};
    } else if (cmq_id_parse(cmq_span_make(to, strlen(to)), &id) != CMQ_OK) {
        return ctl_fail(CMQ_EXIT_USAGE,
                        "groups reset: --to is earliest, latest, or the id of a message, as 17-0");
    } else if (id.seq >= groups->end_seq) {
        return ctl_fail(CMQ_EXIT_USAGE,
                        "groups reset: no message has the id %s yet; the log ends before %llu-0", to,
                        (unsigned long long)groups->end_seq);
    } else if (strcmp(ctl->words[1], CMQ_TOPIC_DEFAULT) == 0) {
        return ctl_fail(CMQ_EXIT_USAGE,
                        "groups reset: the group of the root endpoint goes by whole requests: "
                        "--to earliest or latest");
    } else {
        *ret_start = id.index == UINT32_MAX ? (struct cmq_id){.seq = id.seq + 1}
                                            : (struct cmq_id){.seq = id.seq, .index = id.index + 1};
    }
    return 0;
}

static int change(const struct ctl *ctl, const struct groups *groups, bool reset)
{
    const char *verb = ctl->words[0], *name = ctl->words[1], *topic = ctl->words[2];
    struct cmq_conf_path path;
    struct cmq_reason reason = {{0}};
    struct cmq_id start = {.seq = 0};
    uint32_t old_id = 0;
    const char *directory = cmq_conf_groups_dir(&ctl->conf, &path);
    const struct cmq_ledger_group *group = cmq_ledger_find(&groups->look, name);
    if (group == NULL)
        return ctl_fail(CTL_EXIT_FAILED, "groups %s: there is no group %s; `ciphermqctl groups` lists them",
                        verb, name);
    int code = reset ? find_place(ctl, groups, &start) : 0;
    if (code == 0)
        code = check_idle(groups, group, verb);
    if (code != 0)
        return code;
    CMQ_CRASH_POINT("groups.checked");
    enum cmq_err err = reset
                           ? cmq_ledger_move(directory, name, topic, start.seq, start.index, &old_id, &reason)
                           : cmq_ledger_remove(directory, name, topic, &old_id, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    CMQ_CRASH_POINT("groups.changed");
    cmq_ledger_forget_claims(directory, old_id);
    if (ctl->json && reset)
        (void)printf("{\"group\":\"%s\",\"start\":\"%llu-%u\"}\n", name, (unsigned long long)start.seq,
                     start.index);
    else if (ctl->json)
        (void)printf("{\"group\":\"%s\",\"deleted\":true}\n", name);
    else if (reset)
        (void)printf("%s: goes on at %llu-%u\n", name, (unsigned long long)start.seq, start.index);
    else
        (void)printf("%s: deleted\n", name);
    return CMQ_EXIT_OK;
}

int ctl_groups(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct groups groups = {.ring = NULL};
    const char *verb = ctl->words[0];
    const bool reset = ctl->word_count == 3 && strcmp(verb, "reset") == 0;
    if (ctl->word_count > 0 && !reset && (ctl->word_count != 3 || strcmp(verb, "delete") != 0))
        return ctl_fail(CMQ_EXIT_USAGE,
                        "usage: ciphermqctl groups [reset NAME TOPIC --to PLACE | delete NAME TOPIC]");
    if (!reset && ctl->to != NULL)
        return ctl_fail(CMQ_EXIT_USAGE, "groups: --to goes with reset");
    enum cmq_err err = groups_open(ctl, &groups, &reason);
    int code = CMQ_EXIT_OK;
    if (err == CMQ_OK && ctl->word_count > 0)
        code = change(ctl, &groups, reset);
    else if (err == CMQ_OK)
        err = show(ctl, &groups, &reason);
    groups_close(&groups);
    return err == CMQ_OK ? code : ctl_fail_err(err, &reason);
}
