/*
 * Gaps: records that nobody can have any more.
 *
 *   - found: the record is not in the log, or damaged, or a part of it cannot be read. All members are told (on_gap);
 *   - told: the first member whose socket took that makes the records done, and the ledger commits them;
 *   - before that this process may die, or the last member leave: the records are still claimed, or below the floor and not
 *     done, so whoever looks at them next finds the gap again. A gap is told once more rather than never.
 */
#include "dispatcher/dsp_groups_gap.h"

#include <stdlib.h>
#include <string.h>

#include "common/log/cmq_log.h"

static void tell_all(struct dsp_groups *groups, const struct dsp_group *group, const struct dsp_gap *gap)
{
    for (struct dsp_member *member = group->members; member != NULL; member = member->next)
        groups->setup.on_gap(groups->setup.context, member, gap->from, gap->to, gap->damaged);
}

/* One that the new one can be made a part of; there is one of the floor at most. */
static struct dsp_gap *find_neighbour(const struct dsp_group *group, uint64_t from, bool damaged,
                                      enum dsp_gap_kind kind)
{
    for (struct dsp_gap *gap = group->gaps; gap != NULL; gap = gap->next)
        if (gap->kind == kind && gap->damaged == damaged && (kind == DSP_GAP_FLOOR || gap->to == from))
            return gap;
    return NULL;
}

static void insert(struct dsp_groups *groups, struct dsp_group *group, const struct dsp_gap *wanted)
{
    struct dsp_gap *gap = malloc(sizeof *gap);
    if (gap == NULL) {
        groups->nomem = true; /* the process ends, and its claims with it */
        return;
    }
    *gap = *wanted;
    gap->next = group->gaps;
    group->gaps = gap;
}

void dsp_gap_add(struct dsp_groups *groups, struct dsp_group *group, uint64_t from, uint64_t to, bool damaged,
                 enum dsp_gap_kind kind)
{
    const struct dsp_gap wanted = {.from = from, .to = to, .kind = kind, .damaged = damaged};
    cmq_ring_count(groups->setup.ring, CMQ_COUNT_GAPS, 1);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_BAD, "where=group name=%s from=%llu to=%llu reason=%s", group->name,
            (unsigned long long)from, (unsigned long long)to, damaged ? "damaged" : "retention");
    if (group->auto_ack || groups->setup.on_gap == NULL) {
        dsp_commit_done(groups, group, from, to);
        return;
    }
    struct dsp_gap *gap = find_neighbour(group, from, damaged, kind);
    if (gap == NULL) {
        insert(groups, group, &wanted);
    } else {
        gap->from = cmq_min_u64(gap->from, from);
        gap->to = cmq_max_u64(gap->to, to);
    }
    tell_all(groups, group, &wanted);
}

/* What members have of a hand that goes. */
static void give_credit_back(struct dsp_group *group, const struct dsp_hand *hand)
{
    for (uint32_t i = 0; hand->states != NULL && i < hand->message_count; i++) {
        struct dsp_member *member = hand->states[i].state == DSP_FLIGHT ? group->members : NULL;
        while (member != NULL && member->number != hand->states[i].holder)
            member = member->next;
        if (member == NULL)
            continue;
        member->flight_count--;
        group->pending--;
    }
}

void dsp_gap_of_hand(struct dsp_groups *groups, struct dsp_hand *hand, bool damaged)
{
    struct dsp_group *group = hand->group;
    for (struct dsp_range *run = group->returned.head, *next; run != NULL; run = next) {
        next = run->next;
        if (run->hand != hand)
            continue;
        dsp_runs_remove(&group->returned, run);
        dsp_run_drop(groups, run);
    }
    group->returned_hint = NULL;
    if (hand->finished)
        return;
    const uint64_t seq = hand->seq;
    give_credit_back(group, hand);
    dsp_hand_lose(groups, hand);
    dsp_gap_add(groups, group, seq, seq + 1, damaged, DSP_GAP_CLAIMED);
}

/* Messages that were passed in records [from, to) are done. */
static void finish_passed(struct dsp_groups *groups, struct dsp_group *group, uint64_t from, uint64_t to)
{
    struct dsp_hand *next;
    for (struct dsp_hand *hand = group->hands; hand != NULL && hand->seq < to; hand = next) {
        next = hand->next;
        uint32_t left = hand->seq < from ? 0 : hand->passed_count;
        for (uint32_t i = 0; left > 0 && i < hand->message_count; i++) {
            if (hand->states[i].state != DSP_PASSED)
                continue;
            hand->states[i].state = DSP_DONE;
            hand->passed_count--;
            left--;
            dsp_hand_done(groups, hand, i, 1); /* the last one frees the hand */
        }
    }
}

static void finish(struct dsp_groups *groups, struct dsp_group *group, const struct dsp_gap *gap)
{
    if (gap->kind == DSP_GAP_PASSED)
        finish_passed(groups, group, gap->from, gap->to);
    else
        dsp_commit_done(groups, group, gap->from, gap->to);
}

void dsp_group_gap_told(struct dsp_groups *groups, struct dsp_member *member, uint64_t from, uint64_t to)
{
    struct dsp_group *group = member->group;
    struct dsp_gap *gap = group->gaps;
    group->gaps = NULL;
    for (struct dsp_gap *next; gap != NULL; gap = next) {
        next = gap->next;
        struct dsp_gap told = *gap, before = *gap, behind = *gap;
        told.from = cmq_max_u64(gap->from, from);
        told.to = cmq_min_u64(gap->to, to);
        before.to = cmq_min_u64(gap->to, from);
        behind.from = cmq_max_u64(gap->from, to);
        free(gap);
        if (told.from < told.to)
            finish(groups, group, &told);
        if (before.from < before.to)
            insert(groups, group, &before);
        if (behind.from < behind.to)
            insert(groups, group, &behind);
    }
    dsp_commit_flush(groups);
    cmq_ring_gauge(groups->setup.ring, CMQ_COUNT_BACKLOG, groups->hand_count);
}

void dsp_gaps_tell_again(struct dsp_groups *groups, const struct dsp_group *group)
{
    for (const struct dsp_gap *gap = group->gaps; gap != NULL; gap = gap->next)
        tell_all(groups, group, gap);
}

void dsp_gaps_let_go(struct dsp_groups *groups, struct dsp_group *group)
{
    for (struct dsp_gap *gap; (gap = group->gaps) != NULL;) {
        group->gaps = gap->next;
        if (gap->kind == DSP_GAP_CLAIMED)
            dsp_commit_release(groups, group, gap->from, gap->to, 0, 0);
        free(gap);
    }
}

void dsp_group_check_floor(struct dsp_groups *groups, struct dsp_group *group)
{
    const uint64_t floor = dsp_source_floor(groups->setup.source);
    struct dsp_ledger_state state;
    if (floor <= group->floor)
        return;
    group->floor = floor;
    for (size_t i = 0; dsp_ledger_state(groups->setup.ledger, i, &state) == CMQ_OK; i++) {
        if (strcmp(state.name, group->name) != 0)
            continue;
        if (state.floor < floor)
            dsp_gap_add(groups, group, state.floor, floor, false, DSP_GAP_FLOOR);
        return;
    }
}
