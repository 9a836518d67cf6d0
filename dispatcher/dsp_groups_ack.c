/* The end of deliveries: auto-acks, acks, nacks. A run in a flight is only a place to look at; the state of each message says
 * whether it is still in this member's hands, and in which attempt. */
#include "common/base/cmq_clock.h"
#include "dispatcher/dsp_groups_gap.h"

enum { RUNS_MIN = 64 };

/* The state of a message in this member's flight; NULL: it is not. */
static struct dsp_message *in_flight(struct dsp_member *member, struct cmq_id id, uint32_t attempt,
                                     struct dsp_hand **ret_hand)
{
    struct dsp_hand *hand = dsp_hand_find(member->group, id.seq);
    if (hand == NULL || hand->states == NULL || id.index >= hand->message_count)
        return NULL;
    struct dsp_message *message = &hand->states[id.index];
    if (message->state != DSP_FLIGHT || message->holder != member->number ||
        (attempt != 0 && attempt != message->attempt))
        return NULL;
    *ret_hand = hand;
    return message;
}

static bool is_live(const struct dsp_range *run, uint32_t index, uint32_t holder)
{
    const struct dsp_hand *hand = run->hand;
    return !hand->finished && hand->states[index].state == DSP_FLIGHT &&
           hand->states[index].holder == holder &&
           hand->states[index].attempt == (uint16_t)cmq_min_u64(run->attempt, UINT16_MAX);
}

/* Runs at the front of which nothing is in flight any more. Each message is looked at once. */
static void trim_flight(struct dsp_groups *groups, struct dsp_member *member)
{
    for (struct dsp_range *run; (run = member->flight) != NULL;) {
        while (run->count > 0 && !is_live(run, run->first, member->number)) {
            run->first++;
            run->count--;
            run->offset = DSP_OFFSET_UNKNOWN;
        }
        if (run->count > 0)
            return;
        dsp_flight_pop(groups, member);
    }
}

/* Runs that are over behind one that is not: a message that is never acked would keep all of them. Only when they are most of
 * the flight, so that each is looked at a few times. */
static void sweep_flight(struct dsp_groups *groups, struct dsp_member *member)
{
    struct dsp_range *next = member->flight;
    if (member->flight_runs < RUNS_MIN || member->flight_runs / 2 < member->flight_count)
        return;
    member->flight = member->flight_last = NULL;
    for (struct dsp_range *run; (run = next) != NULL;) {
        next = run->next;
        while (run->count > 0 && !is_live(run, run->first, member->number)) {
            run->first++;
            run->count--;
            run->offset = DSP_OFFSET_UNKNOWN;
        }
        if (run->count == 0) {
            member->flight_runs--;
            dsp_run_drop(groups, run);
            continue;
        }
        run->next = NULL;
        if (member->flight_last != NULL)
            member->flight_last->next = run;
        else
            member->flight = run;
        member->flight_last = run;
    }
}

static void finish(struct dsp_groups *groups, struct dsp_member *member, struct dsp_hand *hand,
                   uint32_t index)
{
    hand->states[index].state = DSP_DONE;
    member->flight_count--;
    member->group->pending--;
    dsp_hand_done(groups, hand, index, 1);
}

/* Credit came back: for this member, or for one that waits. */
static void after_acks(struct dsp_groups *groups, struct dsp_member *member)
{
    struct dsp_group *group = member->group;
    cmq_ring_gauge(groups->setup.ring, CMQ_COUNT_BACKLOG, groups->hand_count);
    trim_flight(groups, member);
    sweep_flight(groups, member);
    if (groups->draining)
        return;
    if (member->waiting && dsp_has_room(group, member) && dsp_may_have_more(groups, group)) {
        dsp_waiting_remove(group, member);
        groups->setup.on_ready(groups->setup.context, member);
    } else {
        dsp_wake_if_more(groups, group);
    }
}

void dsp_group_skip(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id)
{
    struct dsp_hand *hand;
    if (member->group->auto_ack || in_flight(member, id, 0, &hand) == NULL)
        return;
    finish(groups, member, hand, id.index);
    trim_flight(groups, member);
}

void dsp_group_pass(struct dsp_groups *groups, struct dsp_member *member, const struct dsp_batch *batch)
{
    struct dsp_group *group = member->group;
    struct dsp_hand *hand = dsp_hand_find(group, batch->record->seq);
    if (group->auto_ack || hand == NULL)
        return;
    for (uint32_t i = batch->first; i < batch->first + batch->count; i++) {
        if (in_flight(member, (struct cmq_id){.seq = hand->seq, .index = i}, 0, &hand) == NULL)
            continue;
        hand->states[i].state = DSP_PASSED;
        hand->passed_count++;
        member->flight_count--;
        group->pending--;
    }
    trim_flight(groups, member);
    dsp_gap_add(groups, group, hand->seq, hand->seq + 1, true, DSP_GAP_PASSED);
}

/* For whoever takes over: everything below the lowest record in hand is done, and the first part of that. */
static void note(struct dsp_groups *groups, struct dsp_group *group, uint64_t last_seq)
{
    const struct dsp_hand *lowest = group->hands;
    const struct cmq_id now = lowest != NULL ? (struct cmq_id){.seq = lowest->seq, .index = lowest->low}
                                             : (struct cmq_id){.seq = last_seq + 1};
    if (now.seq == group->noted.seq && now.index == group->noted.index)
        return;
    group->noted = now;
    enum cmq_err err = dsp_ledger_note(groups->setup.ledger, group->ledger.id, now.seq, now.index);
    (void)err; /* LOST: the records are not ours any more, and come twice */
}

void dsp_group_delivered(struct dsp_groups *groups, struct dsp_member *member)
{
    struct dsp_group *group = member->group;
    if (group == NULL || member->flight == NULL)
        return;
    cmq_assert(group->auto_ack);
    uint64_t last_seq = 0;
    while (member->flight != NULL) {
        struct dsp_range *run = member->flight;
        last_seq = cmq_max_u64(last_seq, run->hand->seq);
        dsp_hand_done(groups, run->hand, run->first, run->count);
        group->pending -= run->count;
        dsp_flight_pop(groups, member);
    }
    member->flight_count = 0;
    note(groups, group, last_seq);
    cmq_ring_gauge(groups->setup.ring, CMQ_COUNT_BACKLOG, groups->hand_count);
    if (groups->draining)
        dsp_group_let_go(groups, group);
    else
        dsp_wake_if_more(groups, group);
    dsp_commit_flush(groups);
}

enum dsp_ack dsp_group_ack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                           uint32_t attempt)
{
    struct dsp_hand *hand;
    if (member->group->auto_ack || in_flight(member, id, attempt, &hand) == NULL) {
        cmq_ring_count(groups->setup.ring, CMQ_COUNT_STALE_ACKS, 1);
        return DSP_ACK_STALE;
    }
    groups->ticket++;
    finish(groups, member, hand, id.index);
    cmq_ring_count(groups->setup.ring, CMQ_COUNT_ACKS, 1);
    after_acks(groups, member);
    return DSP_ACK_OK;
}

uint32_t dsp_group_ack_upto(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id)
{
    uint32_t acked = 0;
    if (member->group->auto_ack)
        return 0;
    for (struct dsp_range *run = member->flight; run != NULL; run = run->next) {
        uint64_t seq = run->hand->seq;
        if (seq > id.seq || run->hand->finished)
            continue;
        for (uint32_t i = 0; i < run->count; i++) {
            if ((seq == id.seq && run->first + i > id.index) || !is_live(run, run->first + i, member->number))
                continue;
            finish(groups, member, run->hand, run->first + i);
            acked++;
        }
    }
    groups->ticket += acked;
    cmq_ring_count(groups->setup.ring, CMQ_COUNT_ACKS, acked);
    after_acks(groups, member);
    return acked;
}

enum dsp_ack dsp_group_nack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                            uint32_t attempt, uint64_t delay_ms)
{
    struct dsp_hand *hand;
    struct dsp_message *message = member->group->auto_ack ? NULL : in_flight(member, id, attempt, &hand);
    if (message == NULL) {
        cmq_ring_count(groups->setup.ring, CMQ_COUNT_STALE_ACKS, 1);
        return DSP_ACK_STALE;
    }
    struct dsp_range one = {.hand = hand,
                            .first = id.index,
                            .count = 1,
                            .attempt = message->attempt,
                            .offset = DSP_OFFSET_UNKNOWN};
    dsp_run_return(groups, &one, member->number, delay_ms * CMQ_NS_PER_MS);
    member->flight_count--;
    cmq_ring_count(groups->setup.ring, CMQ_COUNT_NACKS, 1);
    after_acks(groups, member);
    return DSP_ACK_OK;
}
