#include "dispatcher/dsp_groups.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/wire/cmq_topic.h"
#include "dispatcher/dsp_groups_gap.h"

enum { GROUPS_MAX = 4096 };

/* ---- who waits ---- */

static void waiting_add(struct dsp_group *group, struct dsp_member *member)
{
    if (member->waiting)
        return;
    member->waiting = true;
    member->waiting_next = NULL;
    member->waiting_prev = group->waiting_last;
    if (group->waiting_last != NULL)
        group->waiting_last->waiting_next = member;
    else
        group->waiting = member;
    group->waiting_last = member;
}

void dsp_waiting_remove(struct dsp_group *group, struct dsp_member *member)
{
    if (!member->waiting)
        return;
    member->waiting = false;
    if (member->waiting_prev != NULL)
        member->waiting_prev->waiting_next = member->waiting_next;
    else
        group->waiting = member->waiting_next;
    if (member->waiting_next != NULL)
        member->waiting_next->waiting_prev = member->waiting_prev;
    else
        group->waiting_last = member->waiting_prev;
}

bool dsp_has_room(const struct dsp_group *group, const struct dsp_member *member)
{
    return group->auto_ack ||
           (member->flight_count < member->credit && group->pending < group->max_ack_pending);
}

/* The next one in turn that could take something. */
static void wake_one(struct dsp_groups *groups, struct dsp_group *group)
{
    if (groups->draining)
        return;
    for (struct dsp_member *member = group->waiting; member != NULL; member = member->waiting_next) {
        if (!dsp_has_room(group, member))
            continue;
        dsp_waiting_remove(group, member);
        groups->setup.on_ready(groups->setup.context, member);
        return;
    }
}

bool dsp_may_have_more(const struct dsp_groups *groups, const struct dsp_group *group)
{
    return group->returned.head != NULL || group->current != NULL || group->claim.from < group->claim.to ||
           group->looked_stored != dsp_source_stored(groups->setup.source) ||
           cmq_clock_mono_ns() - group->looked_ns >= DSP_LOOK_AGAIN_NS;
}

void dsp_wake_if_more(struct dsp_groups *groups, struct dsp_group *group)
{
    if (group->waiting != NULL && dsp_may_have_more(groups, group))
        wake_one(groups, group);
}

static void forget_held(struct dsp_groups *groups)
{
    if (groups->held != NULL)
        dsp_source_put(groups->setup.source, groups->held);
    groups->held = NULL;
}

/* ---- life ---- */

enum cmq_err dsp_groups_new(const struct dsp_groups_setup *setup, struct dsp_groups **ret_groups)
{
    struct dsp_groups *groups = calloc(1, sizeof *groups);
    if (groups == NULL)
        return CMQ_ERR_NOMEM;
    groups->setup = *setup;
    groups->due_ns = UINT64_MAX;
    enum cmq_err err = dsp_commit_start(groups);
    if (err != CMQ_OK) {
        dsp_commit_stop(groups);
        free(groups);
        return err;
    }
    *ret_groups = groups;
    return CMQ_OK;
}

/* A group without members; its claims were given up. */
static void group_free(struct dsp_groups *groups, struct dsp_group *group)
{
    dsp_group_tell_last(groups, group);
    if (group->prev != NULL)
        group->prev->next = group->next;
    else
        groups->groups = group->next;
    if (group->next != NULL)
        group->next->prev = group->prev;
    groups->group_count--;
    free(group);
}

/* Nobody is left: what is in hand is given up, but for dead letters on their way. */
static void close_if_empty(struct dsp_groups *groups, struct dsp_group *group)
{
    if (group->members != NULL)
        return;
    dsp_group_let_go(groups, group);
    if (group->hands == NULL && group->dead_count == 0)
        group_free(groups, group);
}

static void close_empty(struct dsp_groups *groups)
{
    struct dsp_group *next;
    for (struct dsp_group *group = groups->groups; group != NULL; group = next) {
        next = group->next;
        close_if_empty(groups, group);
    }
}

void dsp_groups_free(struct dsp_groups *groups)
{
    if (groups == NULL)
        return;
    forget_held(groups);
    for (struct dsp_dead *dead; (dead = groups->dead) != NULL;) {
        groups->dead = dead->next;
        dead->hand->group->dead_count--; /* somebody else sends the letter */
        dsp_hand_unref(groups, dead->hand);
        free(dead);
    }
    close_empty(groups);
    cmq_assert(groups->groups == NULL); /* no member is left */
    dsp_commit_stop(groups);
    for (struct dsp_range *range; (range = groups->spare_ranges) != NULL;) {
        groups->spare_ranges = range->next;
        free(range);
    }
    free(groups);
}

/* ---- members ---- */

static bool name_is_good(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t bytes = strlen(name);
    return bytes > 0 && bytes <= DSP_GROUP_NAME_BYTES_MAX && strspn(name, allowed) == bytes;
}

static enum cmq_err find_group(struct dsp_groups *groups, const char *name, struct cmq_span topic,
                               const struct dsp_group_options *options, struct dsp_group **ret_group,
                               struct cmq_reason *reason)
{
    struct dsp_ledger_group ledger;
    enum cmq_err err = dsp_ledger_group(groups->setup.ledger, name, topic, options->start_seq,
                                        options->start_index, &ledger);
    if (err == CMQ_ERR_EXISTS)
        return cmq_reason_set(reason, err, "group %s has topic %s: consume that, or take another name", name,
                              ledger.topic);
    if (err == CMQ_ERR_NOT_FOUND)
        return cmq_reason_set(reason, err, "there is no group %s yet: name the topic that it is to consume",
                              name);
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "the state of groups cannot be read or written: %s",
                              cmq_err_text(err));
    for (struct dsp_group *group = groups->groups; group != NULL; group = group->next) {
        *ret_group = group;
        if (strcmp(group->name, name) == 0)
            return CMQ_OK;
    }
    if (groups->group_count >= GROUPS_MAX)
        return cmq_reason_set(reason, CMQ_ERR_FULL,
                              "%d groups are in use here, which is the most there may be", GROUPS_MAX);
    struct dsp_group *group = calloc(1, sizeof *group);
    if (group == NULL)
        return CMQ_ERR_NOMEM;
    memcpy(group->name, name, strlen(name) + 1);
    group->ledger = ledger;
    group->auto_ack = options->auto_ack;
    group->next = groups->groups;
    if (group->next != NULL)
        group->next->prev = group;
    groups->groups = group;
    groups->group_count++;
    *ret_group = group;
    return CMQ_OK;
}

enum cmq_err dsp_group_join(struct dsp_groups *groups, const char *name, struct cmq_span topic,
                            const struct dsp_group_options *options, struct dsp_member *ret_member,
                            struct cmq_reason *reason)
{
    struct dsp_group *group = NULL;
    if (!name_is_good(name))
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "a group's name is 1 to %u of A-Z a-z 0-9 _ . -",
                              DSP_GROUP_NAME_BYTES_MAX);
    if (topic.bytes > 0 && cmq_topic_pattern_check(topic, reason) != CMQ_OK)
        return CMQ_ERR_INVALID;
    enum cmq_err err = find_group(groups, name, topic, options, &group, reason);
    if (err != CMQ_OK)
        return err;
    if (group->auto_ack != options->auto_ack)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "group %s is the one of the root endpoint, which needs no acks: take another name", name);
    group->max_deliver = options->max_deliver;
    group->max_ack_pending = options->max_ack_pending;
    *ret_member = (struct dsp_member){.group = group,
                                      .next = group->members,
                                      .credit = UINT32_MAX,
                                      .ack_wait_ns = options->ack_wait_ms * CMQ_NS_PER_MS,
                                      .number = ++groups->member_number};
    if (group->members != NULL)
        group->members->prev = ret_member;
    group->members = ret_member;
    group->member_count++;
    cmq_ring_gauge(groups->setup.ring, CMQ_COUNT_GROUPS, groups->group_count);
    return CMQ_OK;
}

enum cmq_err dsp_groups_topic(struct dsp_groups *groups, const char *name, char ret_topic[256])
{
    struct dsp_ledger_group ledger;
    const struct cmq_span any = {0};
    enum cmq_err err = dsp_ledger_group(groups->setup.ledger, name, any, 0, 0, &ledger);
    if (err == CMQ_OK)
        memcpy(ret_topic, ledger.topic, sizeof ledger.topic);
    return err;
}

void dsp_flight_pop(struct dsp_groups *groups, struct dsp_member *member)
{
    struct dsp_range *run = member->flight;
    member->flight = run->next;
    if (member->flight == NULL)
        member->flight_last = NULL;
    member->flight_runs--;
    dsp_run_drop(groups, run);
}

void dsp_group_leave(struct dsp_groups *groups, struct dsp_member *member)
{
    struct dsp_group *group = member->group;
    if (group == NULL)
        return;
    forget_held(groups);
    group->returned_hint = NULL;
    while (member->flight != NULL) {
        dsp_run_return(groups, member->flight, member->number, 0);
        dsp_flight_pop(groups, member);
    }
    dsp_waiting_remove(group, member);
    if (member->prev != NULL)
        member->prev->next = member->next;
    else
        group->members = member->next;
    if (member->next != NULL)
        member->next->prev = member->prev;
    group->member_count--;
    *member = (struct dsp_member){0};
    dsp_gaps_tell_again(groups, group);
    if (groups->draining)
        dsp_group_let_go(groups, group);
    else if (group->members != NULL)
        dsp_wake_if_more(groups, group);
    close_if_empty(groups, group);
    cmq_ring_gauge(groups->setup.ring, CMQ_COUNT_GROUPS, groups->group_count);
    cmq_ring_gauge(groups->setup.ring, CMQ_COUNT_BACKLOG, groups->hand_count);
}

struct cmq_span dsp_group_name(const struct dsp_group *group)
{
    return cmq_span_make(group->name, strlen(group->name));
}

struct cmq_span dsp_group_topic(const struct dsp_group *group)
{
    return cmq_span_make(group->ledger.topic, strlen(group->ledger.topic));
}

bool dsp_group_is_auto_ack(const struct dsp_group *group)
{
    return group->auto_ack;
}

/* ---- handing out ---- */

static uint32_t room_of(const struct dsp_group *group, const struct dsp_member *member)
{
    if (group->auto_ack)
        return UINT32_MAX;
    uint32_t credit = member->credit - member->flight_count,
             pending = group->max_ack_pending - group->pending;
    return credit < pending ? credit : pending;
}

/* How many messages from `first` on nobody had. */
static uint32_t free_run(const struct dsp_hand *hand, uint32_t first, uint32_t end, uint32_t *ret_attempt)
{
    uint32_t index = first;
    *ret_attempt = hand->losses + 1;
    if (hand->states == NULL) {
        for (const struct dsp_range *range = hand->ahead; range != NULL; range = range->next)
            if (range->first >= first && range->first < end)
                end = range->first;
        return end - first;
    }
    const uint16_t known = hand->states[first].attempt;
    *ret_attempt += known;
    while (index < end && hand->states[index].state == DSP_FREE && hand->states[index].attempt == known)
        index++;
    return index - first;
}

static enum cmq_err fill_batch(struct dsp_groups *groups, struct dsp_group *group, struct dsp_hand *hand,
                               struct dsp_range *run, uint32_t room, struct dsp_batch *ret_batch)
{
    uint64_t next;
    const uint32_t first = run != NULL ? run->first : hand->handed;
    size_t offset = run != NULL ? run->offset : hand->offset;
    enum cmq_err err = dsp_source_get(groups->setup.source, hand->seq, &hand->near, &groups->held, &next);
    if (err != CMQ_OK) {
        groups->held = NULL;
        return err;
    }
    err = dsp_source_open(groups->setup.source, groups->held);
    if (err != CMQ_OK)
        return err;
    const struct dsp_unit *unit = dsp_unit_of(groups->held, first);
    if (unit == NULL)
        return CMQ_ERR_CORRUPT;
    *ret_batch = (struct dsp_batch){.record = groups->held, .unit = unit, .first = first};
    uint32_t unit_end = unit->first + unit->count;
    if (run != NULL) {
        ret_batch->attempt = run->attempt + 1;
        ret_batch->count = run->count;
    } else {
        ret_batch->count = free_run(hand, first, unit_end, &ret_batch->attempt);
    }
    if (ret_batch->count > room)
        ret_batch->count = room;
    if (!unit->readable)
        return CMQ_OK;
    if (first == unit->first)
        offset = 0;
    if (offset == DSP_OFFSET_UNKNOWN || offset > unit->messages.bytes)
        err = dsp_walk_to(group, groups->held, unit, first, &offset);
    if (err != CMQ_OK)
        offset = unit->messages.bytes; /* not a message: the caller finds that out, and passes it */
    ret_batch->messages = cmq_span_make(unit->messages.data + offset, unit->messages.bytes - offset);
    ret_batch->offset = offset;
    return CMQ_OK;
}

enum cmq_err dsp_group_peek(struct dsp_groups *groups, struct dsp_member *member, struct dsp_batch *ret_batch)
{
    struct dsp_group *group = member->group;
    enum cmq_err err = CMQ_ERR_AGAIN;
    forget_held(groups);
    groups->steps = 0;
    while (dsp_has_room(group, member) && !groups->draining) {
        const uint32_t room = room_of(group, member);
        struct dsp_range *run = group->returned.head;
        err = run != NULL ? CMQ_OK : dsp_hand_next(groups, group, room);
        if (err != CMQ_OK)
            break;
        struct dsp_hand *hand = run != NULL ? run->hand : group->current;
        err = fill_batch(groups, group, hand, run, room, ret_batch);
        if (err == CMQ_ERR_NOT_FOUND || err == CMQ_ERR_CORRUPT) {
            dsp_gap_of_hand(groups, hand, err == CMQ_ERR_CORRUPT);
            err = CMQ_ERR_AGAIN;
            continue;
        }
        if (err == CMQ_OK) {
            group->peeked_run = run;
            group->peeked_hand = hand;
            dsp_waiting_remove(group, member);
            return CMQ_OK;
        }
        break;
    }
    if (err == CMQ_ERR_AGAIN)
        waiting_add(group, member);
    else if (err == CMQ_ERR_TIMEOUT) {
        dsp_waiting_remove(group, member);
        err = CMQ_ERR_AGAIN;
        dsp_commit_flush(groups);
    }
    return groups->nomem ? CMQ_ERR_NOMEM : err;
}

/* The run that goes into the flight: all of the one that came back, its first part, or a new one. */
static struct dsp_range *cut_run(struct dsp_groups *groups, struct dsp_group *group,
                                 const struct dsp_batch *batch, uint32_t count, size_t bytes)
{
    struct dsp_range *run = group->peeked_run;
    struct dsp_hand *hand = group->peeked_hand;
    if (run != NULL && count == run->count) {
        if (group->returned_hint == run)
            group->returned_hint = NULL;
        dsp_runs_remove(&group->returned, run);
        return run;
    }
    struct dsp_range *part = dsp_range_new(groups);
    if (part == NULL)
        return NULL;
    *part = (struct dsp_range){.hand = hand, .first = batch->first, .offset = batch->offset};
    hand->refs++;
    size_t after = bytes > 0 ? batch->offset + bytes : DSP_OFFSET_UNKNOWN;
    if (run != NULL) {
        run->first += count;
        run->count -= count;
        run->offset = after;
    } else {
        hand->handed += count;
        hand->offset = after;
        if (hand->handed == hand->message_count)
            group->current = NULL; /* nobody is to be woken for it */
    }
    return part;
}

enum cmq_err dsp_group_take(struct dsp_groups *groups, struct dsp_member *member,
                            const struct dsp_batch *batch, uint32_t count, size_t bytes)
{
    struct dsp_group *group = member->group;
    struct dsp_hand *hand = group->peeked_hand;
    struct dsp_message *states = group->auto_ack ? NULL : dsp_hand_states(groups, hand);
    if (!group->auto_ack && states == NULL)
        return CMQ_ERR_NOMEM;
    struct dsp_range *run = cut_run(groups, group, batch, count, bytes);
    if (run == NULL)
        return CMQ_ERR_NOMEM;
    run->count = count;
    run->attempt = batch->attempt;
    run->at_ns = UINT64_MAX;
    for (uint32_t i = 0; states != NULL && i < count; i++)
        states[batch->first + i] =
            (struct dsp_message){.state = DSP_FLIGHT,
                                 .attempt = (uint16_t)cmq_min_u64(batch->attempt, UINT16_MAX),
                                 .holder = member->number};
    if (!group->auto_ack && member->ack_wait_ns > 0) {
        run->at_ns = cmq_clock_mono_ns() + member->ack_wait_ns;
        groups->due_ns = cmq_min_u64(groups->due_ns, run->at_ns);
    }
    run->next = NULL;
    if (member->flight_last != NULL)
        member->flight_last->next = run;
    else
        member->flight = run;
    member->flight_last = run;
    member->flight_runs++;
    member->flight_count += count;
    group->pending += count;
    group->peeked_run = NULL;
    group->peeked_hand = NULL;
    if (batch->attempt > 1)
        cmq_ring_count(groups->setup.ring, CMQ_COUNT_REDELIVERED, count);
    group->telling.redelivered += batch->attempt > 1 ? count : 0;
    cmq_ring_gauge(groups->setup.ring, CMQ_COUNT_BACKLOG, groups->hand_count);
    dsp_wake_if_more(groups, group);
    return CMQ_OK;
}

/* ---- credit and tickets ---- */

void dsp_group_set_credit(struct dsp_groups *groups, struct dsp_member *member, uint32_t credit)
{
    member->credit = credit;
    if (member->waiting && dsp_has_room(member->group, member)) {
        dsp_waiting_remove(member->group, member);
        groups->setup.on_ready(groups->setup.context, member);
    }
}

uint64_t dsp_groups_ticket(struct dsp_groups *groups)
{
    dsp_commit_flush(groups);
    return groups->ticket;
}

uint64_t dsp_groups_durable(struct dsp_groups *groups)
{
    dsp_commit_flush(groups);
    pthread_mutex_lock(&groups->lock);
    uint64_t durable = groups->durable;
    pthread_mutex_unlock(&groups->lock);
    return durable;
}

static uint64_t unread(struct dsp_groups *groups, const struct dsp_group *group, uint64_t stored)
{
    if (group->current != NULL)
        return group->current->seq;
    if (group->claim.from < group->claim.to)
        return group->claim.from;
    uint64_t seq = cmq_max_u64(group->claim.to, group->looked_stored);
    if (seq < stored) /* others may be farther, while members here have no credit, say */
        seq = cmq_max_u64(seq, dsp_ledger_floor(groups->setup.ledger, &group->ledger));
    return seq;
}

uint64_t dsp_groups_unread(struct dsp_groups *groups)
{
    const uint64_t stored = dsp_source_stored(groups->setup.source);
    uint64_t lowest = UINT64_MAX;
    for (const struct dsp_group *group = groups->groups; group != NULL; group = group->next)
        if (group->members != NULL)
            lowest = cmq_min_u64(lowest, unread(groups, group, stored));
    return lowest;
}

/* ---- time ---- */

void dsp_groups_poke(struct dsp_groups *groups)
{
    if (groups->dead != NULL) {
        groups->due_ns = cmq_min_u64(groups->due_ns, dsp_dead_tick(groups, cmq_clock_mono_ns()));
        close_empty(groups);
    }
    dsp_commit_flush(groups);
    for (struct dsp_group *group = groups->groups; group != NULL; group = group->next)
        dsp_wake_if_more(groups, group);
}

static void expire_flights(struct dsp_groups *groups, struct dsp_group *group, uint64_t now_ns)
{
    group->returned_hint = NULL;
    for (struct dsp_member *member = group->members; member != NULL; member = member->next) {
        while (member->flight != NULL && member->flight->at_ns <= now_ns) {
            uint32_t before = group->pending;
            dsp_run_return(groups, member->flight, member->number, 0);
            member->flight_count -= before - group->pending;
            dsp_flight_pop(groups, member);
        }
        if (member->flight != NULL)
            groups->due_ns = cmq_min_u64(groups->due_ns, member->flight->at_ns);
    }
}

static void end_delays(struct dsp_groups *groups, struct dsp_group *group, uint64_t now_ns)
{
    for (struct dsp_range *run; (run = group->delayed.head) != NULL && run->at_ns <= now_ns;) {
        dsp_runs_remove(&group->delayed, run);
        dsp_returned_add(group, run);
    }
    if (group->delayed.head != NULL)
        groups->due_ns = cmq_min_u64(groups->due_ns, group->delayed.head->at_ns);
}

uint64_t dsp_groups_tick(struct dsp_groups *groups, uint64_t now_ns)
{
    struct dsp_group *next;
    groups->due_ns = UINT64_MAX;
    for (struct dsp_group *group = groups->groups; group != NULL; group = next) {
        next = group->next;
        if (!group->auto_ack) {
            expire_flights(groups, group, now_ns);
            end_delays(groups, group, now_ns);
        }
        dsp_wake_if_more(groups, group);
    }
    groups->due_ns = cmq_min_u64(groups->due_ns, dsp_dead_tick(groups, now_ns));
    close_empty(groups);
    dsp_commit_flush(groups);
    return groups->due_ns;
}

uint64_t dsp_groups_due(const struct dsp_groups *groups)
{
    return groups->due_ns;
}

void dsp_groups_drain(struct dsp_groups *groups)
{
    groups->draining = true;
    forget_held(groups);
    for (struct dsp_group *group = groups->groups; group != NULL; group = group->next)
        dsp_group_let_go(groups, group);
}
