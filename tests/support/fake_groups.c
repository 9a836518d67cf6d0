#include "tests/support/fake_groups.h"

#include <string.h>

#include "common/wire/cmq_mp.h"

enum { GROUPS_MAX = 8, FLIGHT_MAX = 4096 };

struct fake_flight {
    struct cmq_id id;
    struct dsp_member *member; /* NULL: free, or to be handed out again */
    uint32_t attempt;
    bool again;
};

struct dsp_group {
    char name[DSP_GROUP_NAME_BYTES_MAX + 1], topic[256];
    struct cmq_id next;
    struct dsp_member *members[GROUPS_MAX];
};

struct dsp_groups {
    struct dsp_source *source;
    void (*on_ready)(void *, struct dsp_member *);
    void (*on_gap)(void *, struct dsp_member *, uint64_t, uint64_t, bool);
    void *context;
    struct dsp_group groups[GROUPS_MAX];
    struct fake_flight flight[FLIGHT_MAX];
    struct dsp_record *held;
    struct dsp_group_options options;
    uint64_t ticket, durable;
    uint32_t group_count, member_count, skipped, passed;
};

static struct dsp_group *make(struct dsp_groups *groups, const char *name, struct cmq_span topic)
{
    struct dsp_group *group = &groups->groups[groups->group_count++];
    cmq_assert(groups->group_count <= GROUPS_MAX);
    (void)snprintf(group->name, sizeof(group->name), "%s", name);
    memcpy(group->topic, topic.data, topic.bytes);
    return group;
}

struct dsp_groups *fake_groups_new(struct dsp_source *source, void (*on_ready)(void *, struct dsp_member *),
                                   void (*on_gap)(void *, struct dsp_member *, uint64_t, uint64_t, bool),
                                   void *context)
{
    struct dsp_groups *groups = calloc(1, sizeof(*groups));
    cmq_assert(groups != NULL);
    *groups =
        (struct dsp_groups){.source = source, .on_ready = on_ready, .on_gap = on_gap, .context = context};
    make(groups, "old", cmq_span_make("past", 4))->next.seq = 1;
    return groups;
}

static void let_go(struct dsp_groups *groups)
{
    if (groups->held != NULL)
        dsp_source_put(groups->source, groups->held);
    groups->held = NULL;
}

void fake_groups_free(struct dsp_groups *groups)
{
    let_go(groups);
    free(groups);
}

void fake_groups_commit(struct dsp_groups *groups)
{
    groups->durable = groups->ticket;
}

uint32_t fake_groups_members(const struct dsp_groups *groups)
{
    return groups->member_count;
}

uint32_t fake_groups_skipped(const struct dsp_groups *groups)
{
    return groups->skipped;
}

struct dsp_group_options fake_groups_options(const struct dsp_groups *groups)
{
    return groups->options;
}

enum cmq_err dsp_groups_topic(struct dsp_groups *groups, const char *name, char ret_topic[256])
{
    for (uint32_t i = 0; i < groups->group_count; i++) {
        if (strcmp(groups->groups[i].name, name) != 0)
            continue;
        memcpy(ret_topic, groups->groups[i].topic, sizeof(groups->groups[i].topic));
        return CMQ_OK;
    }
    return CMQ_ERR_NOT_FOUND;
}

enum cmq_err dsp_group_join(struct dsp_groups *groups, const char *name, struct cmq_span topic,
                            const struct dsp_group_options *options, struct dsp_member *ret_member,
                            struct cmq_reason *reason)
{
    struct dsp_group *group = NULL;
    for (uint32_t i = 0; i < groups->group_count; i++) {
        if (strcmp(groups->groups[i].name, name) == 0)
            group = &groups->groups[i];
    }
    if (group == NULL && topic.bytes == 0)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "there is no group %s", name);
    if (group != NULL && topic.bytes != 0 &&
        (strlen(group->topic) != topic.bytes || memcmp(group->topic, topic.data, topic.bytes) != 0))
        return cmq_reason_set(reason, CMQ_ERR_EXISTS, "group %s is of topic %s", name, group->topic);
    if (group == NULL) {
        group = make(groups, name, topic);
        group->next.seq = options->start_seq;
    }
    groups->options = *options;
    groups->member_count++;
    *ret_member = (struct dsp_member){.group = group};
    for (uint32_t i = 0; i < GROUPS_MAX; i++) {
        if (group->members[i] == NULL) {
            group->members[i] = ret_member;
            break;
        }
    }
    return CMQ_OK;
}

static void wake(struct dsp_groups *groups, struct dsp_group *group)
{
    for (uint32_t i = 0; i < GROUPS_MAX; i++) {
        struct dsp_member *member = group->members[i];
        if (member != NULL && member->waiting) {
            member->waiting = false;
            groups->on_ready(groups->context, member);
        }
    }
}

void dsp_groups_poke(struct dsp_groups *groups)
{
    for (uint32_t i = 0; i < groups->group_count; i++)
        wake(groups, &groups->groups[i]);
}

static void give_back(struct dsp_groups *groups, struct fake_flight *flight)
{
    struct dsp_group *group = flight->member->group;
    flight->member->flight_count--;
    flight->member = NULL;
    flight->again = true;
    wake(groups, group);
}

void dsp_group_leave(struct dsp_groups *groups, struct dsp_member *member)
{
    struct dsp_group *group = member->group;
    if (group == NULL)
        return;
    for (uint32_t i = 0; i < GROUPS_MAX; i++) {
        if (group->members[i] == member)
            group->members[i] = NULL;
    }
    for (uint32_t i = 0; i < FLIGHT_MAX; i++) {
        if (groups->flight[i].member == member)
            give_back(groups, &groups->flight[i]);
    }
    groups->member_count--;
    member->group = NULL;
}

uint64_t dsp_group_lag(const struct dsp_groups *groups, const struct dsp_group *group)
{
    (void)groups;
    (void)group;
    return 0;
}

struct cmq_span dsp_group_name(const struct dsp_group *group)
{
    return cmq_span_make(group->name, strlen(group->name));
}

struct cmq_span dsp_group_topic(const struct dsp_group *group)
{
    return cmq_span_make(group->topic, strlen(group->topic));
}

/* The unit of a record that has the message, from it on. */
static bool batch_at(struct dsp_groups *groups, const struct dsp_group *group, struct cmq_id id,
                     struct dsp_batch *ret_batch)
{
    uint64_t next;
    let_go(groups);
    if (dsp_source_get(groups->source, id.seq, NULL, &groups->held, &next) != CMQ_OK)
        return false;
    cmq_assert(dsp_source_open(groups->source, groups->held) == CMQ_OK);
    for (uint32_t i = 0; i < groups->held->unit_count; i++) {
        const struct dsp_unit *unit = &groups->held->units[i];
        if (unit->topic.bytes != strlen(group->topic) ||
            memcmp(unit->topic.data, group->topic, unit->topic.bytes) != 0 ||
            unit->first + unit->count <= id.index)
            continue;
        struct cmq_mp_reader reader;
        uint32_t first = id.index > unit->first ? id.index : unit->first;
        cmq_mp_reader_init(&reader, unit->messages);
        for (uint32_t j = unit->first; unit->readable && j < first; j++)
            cmq_assert(cmq_mp_skip(&reader) == CMQ_OK);
        *ret_batch = (struct dsp_batch){.record = groups->held,
                                        .unit = unit,
                                        .first = first,
                                        .count = unit->first + unit->count - first,
                                        .attempt = 1,
                                        .messages = cmq_span_make(reader.next, cmq_mp_left(&reader))};
        return true;
    }
    return false;
}

enum cmq_err dsp_group_peek(struct dsp_groups *groups, struct dsp_member *member, struct dsp_batch *ret_batch)
{
    struct dsp_group *group = member->group;
    member->waiting = true;
    if (member->flight_count >= member->credit)
        return CMQ_ERR_AGAIN;
    const uint32_t room = member->credit - member->flight_count;
    for (uint32_t i = 0; i < FLIGHT_MAX; i++) {
        const struct fake_flight *flight = &groups->flight[i];
        if (!flight->again || !batch_at(groups, group, flight->id, ret_batch))
            continue;
        ret_batch->count = 1;
        ret_batch->attempt = flight->attempt + 1;
        member->waiting = false;
        return CMQ_OK;
    }
    while (group->next.seq < dsp_source_stored(groups->source)) {
        if (batch_at(groups, group, group->next, ret_batch)) {
            if (ret_batch->count > room)
                ret_batch->count = room;
            member->waiting = false;
            return CMQ_OK;
        }
        group->next = (struct cmq_id){.seq = group->next.seq + 1};
    }
    return CMQ_ERR_AGAIN;
}

static struct fake_flight *find_again(struct dsp_groups *groups, struct cmq_id id)
{
    struct fake_flight *unused = NULL;
    for (uint32_t i = 0; i < FLIGHT_MAX; i++) {
        struct fake_flight *flight = &groups->flight[i];
        if (flight->again && flight->id.seq == id.seq && flight->id.index == id.index)
            return flight;
        if (!flight->again && flight->member == NULL && unused == NULL)
            unused = flight;
    }
    cmq_assert(unused != NULL);
    *unused = (struct fake_flight){.id = id};
    return unused;
}

enum cmq_err dsp_group_take(struct dsp_groups *groups, struct dsp_member *member,
                            const struct dsp_batch *batch, uint32_t count, size_t bytes)
{
    (void)bytes;
    cmq_assert(count > 0 && count <= batch->count);
    for (uint32_t i = 0; i < count; i++) {
        struct fake_flight *flight =
            find_again(groups, (struct cmq_id){.seq = batch->record->seq, .index = batch->first + i});
        flight->again = false;
        flight->member = member;
        flight->attempt = batch->attempt;
        member->flight_count++;
    }
    if (batch->attempt == 1)
        member->group->next = (struct cmq_id){.seq = batch->record->seq, .index = batch->first + count};
    return CMQ_OK;
}

static struct fake_flight *find_flight(struct dsp_groups *groups, const struct dsp_member *member,
                                       struct cmq_id id)
{
    for (uint32_t i = 0; i < FLIGHT_MAX; i++) {
        struct fake_flight *flight = &groups->flight[i];
        if (flight->member == member && flight->id.seq == id.seq && flight->id.index == id.index)
            return flight;
    }
    return NULL;
}

static void end_flight(struct dsp_groups *groups, struct fake_flight *flight)
{
    struct dsp_group *group = flight->member->group;
    flight->member->flight_count--;
    flight->member = NULL;
    wake(groups, group);
}

void dsp_group_skip(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id)
{
    struct fake_flight *flight = find_flight(groups, member, id);
    cmq_assert(flight != NULL);
    groups->skipped++;
    end_flight(groups, flight);
}

void dsp_group_pass(struct dsp_groups *groups, struct dsp_member *member, const struct dsp_batch *batch)
{
    const uint64_t seq = batch->record->seq;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct cmq_id id = {.seq = seq, .index = batch->first + i};
        struct fake_flight *flight = find_flight(groups, member, id);
        cmq_assert(flight != NULL);
        end_flight(groups, flight);
    }
    groups->passed += batch->count;
    groups->on_gap(groups->context, member, seq, seq + 1, true);
}

void dsp_group_gap_told(struct dsp_groups *groups, struct dsp_member *member, uint64_t from, uint64_t to)
{
    cmq_assert(member->group != NULL && from < to);
    groups->skipped += groups->passed;
    groups->passed = 0;
}

enum dsp_ack dsp_group_ack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                           uint32_t attempt)
{
    struct fake_flight *flight = find_flight(groups, member, id);
    if (flight == NULL || (attempt != 0 && attempt != flight->attempt))
        return DSP_ACK_STALE;
    groups->ticket++;
    end_flight(groups, flight);
    return DSP_ACK_OK;
}

uint32_t dsp_group_ack_upto(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < FLIGHT_MAX; i++) {
        struct cmq_id own = groups->flight[i].id;
        if (groups->flight[i].member != member || own.seq > id.seq ||
            (own.seq == id.seq && own.index > id.index))
            continue;
        count++;
        groups->ticket++;
        end_flight(groups, &groups->flight[i]);
    }
    return count;
}

enum dsp_ack dsp_group_nack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                            uint32_t attempt, uint64_t delay_ms)
{
    struct fake_flight *flight = find_flight(groups, member, id);
    (void)delay_ms;
    if (flight == NULL || (attempt != 0 && attempt != flight->attempt))
        return DSP_ACK_STALE;
    give_back(groups, flight);
    return DSP_ACK_OK;
}

void dsp_group_set_credit(struct dsp_groups *groups, struct dsp_member *member, uint32_t credit)
{
    member->credit = credit;
    wake(groups, member->group);
}

uint64_t dsp_groups_ticket(struct dsp_groups *groups)
{
    return groups->ticket;
}

uint64_t dsp_groups_durable(struct dsp_groups *groups)
{
    return groups->durable;
}
