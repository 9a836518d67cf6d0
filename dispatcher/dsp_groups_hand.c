/* Records in hand: claimed, opened, handed out, and let go. */
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/wire/cmq_topic.h"
#include "dispatcher/dsp_groups_gap.h"

enum {
    CLAIM_RECORDS_MAX = 64,
    CLAIM_MESSAGES = 65536, /* about so many are claimed at a time */
    STEPS_MAX = 1024,       /* records that one peek passes without finding anything */
    ACKED_MAX = 1024
};
/* States of all records in hand together; one record may have more. */
#define STATE_BYTES_MAX (64u << 20)
#define HANDS_MAX       65536u

/* ---- the index ---- */

static struct dsp_hand **bucket_of(struct dsp_group *group, uint64_t seq)
{
    return &group->buckets[seq % DSP_HASH_BUCKETS];
}

struct dsp_hand *dsp_hand_find(struct dsp_group *group, uint64_t seq)
{
    struct dsp_hand *hand = *bucket_of(group, seq);
    while (hand != NULL && hand->seq != seq)
        hand = hand->hash_next;
    return hand;
}

static struct dsp_hand *hand_add(struct dsp_groups *groups, struct dsp_group *group,
                                 const struct dsp_record *record)
{
    struct dsp_hand *hand = calloc(1, sizeof *hand);
    if (hand == NULL)
        return NULL;
    hand->group = group;
    hand->seq = record->seq;
    hand->near = group->near;
    hand->message_count = record->message_count;
    hand->losses = group->claim.losses;
    struct dsp_hand *after = group->hands_last; /* claims of the dead may be older */
    while (after != NULL && after->seq > hand->seq)
        after = after->prev;
    hand->prev = after;
    hand->next = after != NULL ? after->next : group->hands;
    if (hand->next != NULL)
        hand->next->prev = hand;
    else
        group->hands_last = hand;
    if (after != NULL)
        after->next = hand;
    else
        group->hands = hand;
    hand->hash_next = *bucket_of(group, hand->seq);
    *bucket_of(group, hand->seq) = hand;
    group->hand_count++;
    groups->hand_count++;
    return hand;
}

static void hand_free(struct dsp_groups *groups, struct dsp_hand *hand)
{
    if (hand->states != NULL)
        groups->state_bytes -= hand->message_count * sizeof *hand->states;
    free(hand->states);
    for (struct dsp_range *range; (range = hand->ahead) != NULL;) {
        hand->ahead = range->next;
        dsp_range_free(groups, range);
    }
    free(hand);
}

/* Out of the group's list and index; freed when nothing refers to it. */
static void hand_remove(struct dsp_groups *groups, struct dsp_hand *hand)
{
    struct dsp_group *group = hand->group;
    if (hand->prev != NULL)
        hand->prev->next = hand->next;
    else
        group->hands = hand->next;
    if (hand->next != NULL)
        hand->next->prev = hand->prev;
    else
        group->hands_last = hand->prev;
    for (struct dsp_hand **link = bucket_of(group, hand->seq); *link != NULL; link = &(*link)->hash_next) {
        if (*link != hand)
            continue;
        *link = hand->hash_next;
        break;
    }
    for (struct dsp_hand **link = &groups->dirty; hand->dirty && *link != NULL; link = &(*link)->dirty_next) {
        if (*link != hand)
            continue;
        *link = hand->dirty_next;
        break;
    }
    hand->dirty = false;
    if (group->current == hand)
        group->current = NULL;
    group->hand_count--;
    groups->hand_count--;
    hand->finished = true;
    if (hand->refs == 0)
        hand_free(groups, hand);
}

void dsp_hand_lose(struct dsp_groups *groups, struct dsp_hand *hand)
{
    if (hand->dirty)
        dsp_commit_partial(groups, hand);
    hand->done_count = hand->message_count; /* its runs may still end */
    hand_remove(groups, hand);
}

void dsp_hand_unref(struct dsp_groups *groups, struct dsp_hand *hand)
{
    cmq_assert(hand->refs > 0);
    if (--hand->refs == 0 && hand->finished)
        hand_free(groups, hand);
}

void dsp_run_drop(struct dsp_groups *groups, struct dsp_range *run)
{
    struct dsp_hand *hand = run->hand;
    dsp_range_free(groups, run);
    dsp_hand_unref(groups, hand);
}

struct dsp_message *dsp_hand_states(struct dsp_groups *groups, struct dsp_hand *hand)
{
    if (hand->states == NULL) {
        hand->states = calloc(hand->message_count, sizeof *hand->states);
        if (hand->states != NULL)
            groups->state_bytes += hand->message_count * sizeof *hand->states;
    }
    return hand->states;
}

/* ---- what is done ---- */

/* Auto-ack: merges a range into what is done. */
static void note_done(struct dsp_groups *groups, struct dsp_hand *hand, uint32_t first, uint32_t count)
{
    if (first != hand->low) {
        struct dsp_range *range = dsp_range_new(groups), **link = &hand->ahead;
        if (range == NULL) {
            groups->nomem = true;
            return;
        }
        *range = (struct dsp_range){.first = first, .count = count};
        while (*link != NULL && (*link)->first < first)
            link = &(*link)->next;
        range->next = *link;
        *link = range;
        return;
    }
    hand->low += count;
    for (struct dsp_range *range; (range = hand->ahead) != NULL && range->first <= hand->low;) {
        hand->low = (uint32_t)cmq_max_u64(hand->low, (uint64_t)range->first + range->count);
        hand->ahead = range->next;
        dsp_range_free(groups, range);
    }
}

static void mark_dirty(struct dsp_groups *groups, struct dsp_hand *hand, uint32_t first, uint32_t last)
{
    if (!hand->dirty) {
        hand->dirty = true;
        hand->dirty_first = first;
        hand->dirty_last = last;
        hand->dirty_next = groups->dirty;
        groups->dirty = hand;
        return;
    }
    hand->dirty_first = first < hand->dirty_first ? first : hand->dirty_first;
    hand->dirty_last = last > hand->dirty_last ? last : hand->dirty_last;
}

void dsp_hand_done(struct dsp_groups *groups, struct dsp_hand *hand, uint32_t first, uint32_t count)
{
    struct dsp_group *group = hand->group;
    hand->done_count += count;
    if (group->auto_ack)
        note_done(groups, hand, first, count);
    if (hand->done_count == hand->message_count) {
        dsp_commit_done(groups, group, hand->seq, hand->seq + 1);
        hand_remove(groups, hand);
    } else if (!group->auto_ack) {
        mark_dirty(groups, hand, first, first + count - 1);
    }
}

/* ---- opening ---- */

/* What the ledger knows of this record's messages. */
static enum cmq_err load_acked(struct dsp_groups *groups, struct dsp_hand *hand)
{
    struct dsp_group *group = hand->group;
    struct cmq_ledger_acked acked[ACKED_MAX], *all = acked;
    size_t count = dsp_ledger_acked(groups->setup.ledger, group->ledger.id, hand->seq, acked, ACKED_MAX);
    if (count == 0)
        return CMQ_OK;
    if (count > ACKED_MAX) {
        all = malloc(count * sizeof *all);
        if (all == NULL)
            return CMQ_ERR_NOMEM;
        count = cmq_min_u64(count,
                            dsp_ledger_acked(groups->setup.ledger, group->ledger.id, hand->seq, all, count));
    }
    enum cmq_err err = dsp_hand_states(groups, hand) == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < count; i++) {
        const uint64_t end = cmq_min_u64((uint64_t)all[i].first + all[i].count, hand->message_count);
        for (uint64_t index = all[i].first; index < end; index++) {
            struct dsp_message *message = &hand->states[index];
            if (message->state == DSP_DONE)
                continue;
            message->attempt = (uint16_t)cmq_min_u64(all[i].attempts & ~CMQ_LEDGER_ACKED_DEAD, UINT16_MAX);
            if ((all[i].attempts & CMQ_LEDGER_ACKED_DEAD) != 0) {
                message->state = DSP_DEAD;
                dsp_dead_add(groups, hand, (uint32_t)index, message->attempt, 0);
                continue;
            }
            if (all[i].attempts != 0)
                continue;
            message->state = DSP_DONE;
            hand->done_count++;
        }
    }
    if (all != acked)
        free(all);
    return err;
}

static enum cmq_err pass(struct dsp_groups *groups, struct dsp_hand *hand, uint32_t first, uint64_t end)
{
    if (first < end && dsp_hand_states(groups, hand) == NULL)
        return CMQ_ERR_NOMEM;
    for (uint32_t index = first; index < end; index++) {
        hand->done_count += hand->states[index].state != DSP_DONE;
        hand->states[index].state = DSP_DONE;
    }
    return CMQ_OK;
}

/* Messages that the group does not want are done. */
static enum cmq_err pass_units(struct dsp_groups *groups, struct dsp_hand *hand,
                               const struct dsp_record *record)
{
    const struct dsp_group *group = hand->group;
    const struct cmq_span pattern = cmq_span_make(group->ledger.topic, strlen(group->ledger.topic));
    for (uint32_t i = 0; i < record->unit_count; i++) {
        const struct dsp_unit *unit = &record->units[i];
        if (unit->count == 0 || cmq_topic_matches(pattern, unit->topic))
            continue;
        if (group->auto_ack) {
            hand->done_count += unit->count;
            note_done(groups, hand, unit->first, unit->count);
        } else if (pass(groups, hand, unit->first, (uint64_t)unit->first + unit->count) != CMQ_OK) {
            return CMQ_ERR_NOMEM;
        }
    }
    return CMQ_OK;
}

/* Auto-ack: what the owner before noted is done. */
static void pass_noted(struct dsp_groups *groups, struct dsp_hand *hand)
{
    const struct dsp_claim *claim = &hand->group->claim;
    uint32_t noted = 0;
    if (claim->noted_seq > hand->seq)
        noted = hand->message_count;
    else if (claim->noted_seq == hand->seq)
        noted = (uint32_t)cmq_min_u64(claim->noted_index, hand->message_count);
    if (noted <= hand->low)
        return;
    uint32_t before = hand->low;
    note_done(groups, hand, before, noted - before);
    /* Ranges that were ahead are counted already: count again from what is known. */
    hand->done_count = hand->low;
    for (const struct dsp_range *range = hand->ahead; range != NULL; range = range->next)
        hand->done_count += range->count;
}

/* Takes the first record of the claim in hand, or passes it. */
static enum cmq_err open_next(struct dsp_groups *groups, struct dsp_group *group)
{
    struct dsp_record *record = NULL;
    uint64_t seq = group->claim.from, next = seq + 1;
    enum cmq_err err = dsp_source_get(groups->setup.source, seq, &group->near, &record, &next);
    if (err == CMQ_ERR_NOT_FOUND || err == CMQ_ERR_CORRUPT) {
        next = cmq_max_u64(cmq_min_u64(next, group->claim.to), seq + 1);
        dsp_gap_add(groups, group, seq, next, err == CMQ_ERR_CORRUPT, DSP_GAP_CLAIMED);
        group->claim.from = next;
        return CMQ_OK;
    }
    if (err != CMQ_OK)
        return err;
    struct dsp_hand *hand = NULL;
    if (record->message_count > 0) {
        hand = hand_add(groups, group, record);
        err = hand == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
    } else {
        dsp_commit_done(groups, group, seq, next);
    }
    group->near = record->next;
    if (hand != NULL && !group->auto_ack)
        err = load_acked(groups, hand);
    if (hand != NULL && err == CMQ_OK && !group->auto_ack && seq == group->ledger.start_seq)
        err = pass(groups, hand, 0, cmq_min_u64(group->ledger.start_index, hand->message_count));
    if (hand != NULL && err == CMQ_OK)
        err = pass_units(groups, hand, record);
    dsp_source_put(groups->setup.source, record);
    if (err != CMQ_OK)
        return err; /* of memory only: the process ends, and the claim with it */
    group->claim.from = next;
    if (hand == NULL)
        return CMQ_OK;
    group->usual_messages = hand->message_count;
    if (group->auto_ack) {
        pass_noted(groups, hand);
        hand->handed = hand->low; /* other topics may stand first, too */
        hand->offset = hand->low > 0 ? DSP_OFFSET_UNKNOWN : 0;
    }
    if (hand->done_count == hand->message_count)
        dsp_hand_done(groups, hand, 0, 0);
    else
        group->current = hand;
    return CMQ_OK;
}

/* An operator moved the group, so that its name has another id, or removed it. What is in hand ends under the old id, which
 * concerns nobody any more; then the group begins anew. A removed one gives nothing until its members have left. */
static enum cmq_err begin_anew(struct dsp_groups *groups, struct dsp_group *group)
{
    struct dsp_ledger_group ledger;
    const struct cmq_span topic = cmq_span_make(group->ledger.topic, strlen(group->ledger.topic));
    const struct cmq_span any = {0};
    group->looked_stored = dsp_source_stored(groups->setup.source);
    group->looked_ns = cmq_clock_mono_ns();
    dsp_source_await(groups->setup.source, group->looked_stored);
    if (group->hands != NULL)
        return CMQ_ERR_AGAIN;
    enum cmq_err err = dsp_ledger_group(groups->setup.ledger, group->name, any, 0, 0, &ledger);
    if (err == CMQ_ERR_NOT_FOUND || (err == CMQ_OK && (strlen(ledger.topic) != topic.bytes ||
                                                       memcmp(ledger.topic, topic.data, topic.bytes) != 0)))
        return CMQ_ERR_AGAIN;
    if (err != CMQ_OK)
        return err;
    dsp_gaps_let_go(groups, group);
    group->ledger = ledger;
    group->claim = (struct dsp_claim){0};
    group->near = (struct cmq_journal_pos){0};
    group->noted = (struct cmq_id){0};
    group->floor = 0;
    group->looked_stored = 0;
    group->telling.done = 0;
    return CMQ_OK;
}

static enum cmq_err claim_more(struct dsp_groups *groups, struct dsp_group *group, uint32_t room)
{
    const uint64_t stored = dsp_source_stored(groups->setup.source);
    const uint64_t now_ns = cmq_clock_mono_ns();
    if (stored == group->looked_stored && now_ns - group->looked_ns < DSP_LOOK_AGAIN_NS)
        return CMQ_ERR_AGAIN;
    dsp_group_check_floor(groups, group);
    uint64_t records = cmq_min_u64(room, CLAIM_MESSAGES) / (group->usual_messages + 1u) + 1u;
    struct dsp_claim claim;
    enum cmq_err err =
        dsp_ledger_claim(groups->setup.ledger, &group->ledger, dsp_source_floor(groups->setup.source), stored,
                         (uint32_t)cmq_min_u64(records, CLAIM_RECORDS_MAX), &claim);
    if (err == CMQ_ERR_AGAIN) {
        group->looked_stored = stored;
        group->looked_ns = now_ns;
        dsp_source_await(groups->setup.source, stored);
    }
    if (err == CMQ_ERR_LOST)
        return begin_anew(groups, group);
    if (err != CMQ_OK)
        return err;
    group->claim = claim;
    /* The lowest free ones reach to the end: behind them there is nothing to look for. */
    group->looked_stored = claim.to == stored ? stored : 0;
    group->looked_ns = now_ns;
    return CMQ_OK;
}

enum cmq_err dsp_hand_next(struct dsp_groups *groups, struct dsp_group *group, uint32_t room)
{
    enum cmq_err err = CMQ_OK;
    while (err == CMQ_OK) {
        struct dsp_hand *hand = group->current;
        /* Over what is done already, or came back. */
        while (hand != NULL && hand->handed < hand->message_count && hand->states != NULL &&
               hand->states[hand->handed].state != DSP_FREE) {
            hand->handed++;
            hand->offset = DSP_OFFSET_UNKNOWN;
        }
        if (hand != NULL && group->auto_ack)
            for (const struct dsp_range *range = hand->ahead; range != NULL; range = range->next)
                if (range->first == hand->handed) {
                    hand->handed += range->count;
                    hand->offset = DSP_OFFSET_UNKNOWN;
                }
        if (hand != NULL && hand->handed < hand->message_count)
            return CMQ_OK;
        group->current = NULL;
        if (groups->draining)
            return CMQ_ERR_AGAIN;
        if (group->claim.from < group->claim.to) {
            if (group->hand_count > 0 &&
                (group->hand_count >= HANDS_MAX || groups->state_bytes >= STATE_BYTES_MAX))
                return CMQ_ERR_AGAIN;
            if (groups->steps++ >= STEPS_MAX)
                return CMQ_ERR_TIMEOUT;
            err = open_next(groups, group);
        } else {
            err = claim_more(groups, group, room);
        }
    }
    return err;
}

/* ---- coming back ---- */

static void piece_return(struct dsp_groups *groups, struct dsp_range *run, uint32_t first, uint32_t count,
                         uint64_t delay_ns)
{
    struct dsp_group *group = run->hand->group;
    struct dsp_range *piece = dsp_range_new(groups);
    if (piece == NULL) {
        groups->nomem = true; /* they come again when this process has ended, which is soon */
        return;
    }
    *piece = (struct dsp_range){.hand = run->hand,
                                .first = first,
                                .count = count,
                                .attempt = run->attempt,
                                .offset = first == run->first ? run->offset : DSP_OFFSET_UNKNOWN};
    run->hand->refs++;
    if (delay_ns > 0) {
        piece->at_ns = cmq_clock_mono_ns() + delay_ns;
        groups->due_ns = cmq_min_u64(groups->due_ns, piece->at_ns);
        dsp_delayed_add(group, piece);
    } else {
        dsp_returned_add(group, piece);
    }
}

void dsp_run_return(struct dsp_groups *groups, struct dsp_range *run, uint32_t holder, uint64_t delay_ns)
{
    struct dsp_hand *hand = run->hand;
    struct dsp_group *group = hand->group;
    if (group->auto_ack) {
        group->pending -= run->count;
        piece_return(groups, run, run->first, run->count, delay_ns);
        return;
    }
    bool dead = group->max_deliver != 0 && run->attempt >= group->max_deliver;
    for (uint32_t i = 0, end; i < run->count; i = end) {
        struct dsp_message *message = &hand->states[run->first + i];
        for (end = i; end < run->count; end++, message++) {
            if (hand->finished || message->state != DSP_FLIGHT || message->holder != holder ||
                message->attempt != run->attempt)
                break;
            message->state = dead ? DSP_DEAD : DSP_RETURNED;
            mark_dirty(groups, hand, run->first + end, run->first + end); /* how often it was delivered */
            group->pending--;
            if (dead)
                dsp_dead_add(groups, hand, run->first + end, run->attempt, ++groups->ticket);
        }
        if (end == i)
            end++;
        else if (!dead)
            piece_return(groups, run, run->first + i, end - i, delay_ns);
    }
}

/* ---- letting go ---- */

static void drop_runs(struct dsp_groups *groups, struct dsp_run_list *list)
{
    for (struct dsp_range *run; (run = list->head) != NULL;) {
        dsp_runs_remove(list, run);
        dsp_run_drop(groups, run);
    }
}

/* A flight, or a dead letter on its way; what is dead and has no letter here is given up as dead. */
static bool has_flight(const struct dsp_hand *hand)
{
    const bool letters = hand->group->dead_count > 0;
    for (uint32_t i = 0; hand->states != NULL && i < hand->message_count; i++)
        if (hand->states[i].state == DSP_FLIGHT || (letters && hand->states[i].state == DSP_DEAD))
            return true;
    return false;
}

/* Auto-ack: a record with a flight has runs besides those that came back. */
static bool is_in_use(const struct dsp_hand *hand)
{
    return hand->group->auto_ack ? hand->refs > 0 : has_flight(hand);
}

void dsp_group_let_go(struct dsp_groups *groups, struct dsp_group *group)
{
    drop_runs(groups, &group->returned);
    drop_runs(groups, &group->delayed);
    dsp_gaps_let_go(groups, group);
    group->returned_hint = NULL;
    group->peeked_run = NULL;
    if (group->claim.from < group->claim.to)
        dsp_commit_release(groups, group, group->claim.from, group->claim.to, group->claim.noted_seq,
                           group->claim.noted_index);
    group->claim = (struct dsp_claim){0};
    struct dsp_hand *next;
    for (struct dsp_hand *hand = group->hands; hand != NULL; hand = next) {
        next = hand->next;
        if (is_in_use(hand))
            continue;
        if (hand->dirty)
            dsp_commit_partial(groups, hand);
        if (group->auto_ack && hand->handed > hand->low)
            cmq_ring_count(groups->setup.ring, CMQ_COUNT_REDELIVERED, hand->handed - hand->low);
        dsp_commit_release(groups, group, hand->seq, hand->seq + 1,
                           group->auto_ack && hand->low > 0 ? hand->seq : 0, hand->low);
        hand_remove(groups, hand);
    }
    group->looked_stored = 0;
    dsp_commit_flush(groups);
}
