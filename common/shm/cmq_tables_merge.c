#include "common/shm/cmq_tables_read.h"

#include <string.h>

/* While it is made there may be more topics than are told in the end. */
struct merging {
    struct cmq_tables_merged *merged;
    struct cmq_topic_copy *topics;
    size_t topic_count, topics_max;
    struct cmq_topic_copy other;
};

static void add_topic(struct cmq_topic_copy *into, const struct cmq_topic_copy *topic)
{
    into->messages += topic->messages;
    into->bytes += topic->bytes;
    into->last_ms = cmq_max_u64(into->last_ms, topic->last_ms);
}

static int by_topic(const void *one, const void *other)
{
    return strcmp(((const struct cmq_topic_copy *)one)->topic, ((const struct cmq_topic_copy *)other)->topic);
}

static int by_messages(const void *one, const void *other)
{
    const struct cmq_topic_copy *a = one, *b = other;
    return a->messages != b->messages ? (a->messages < b->messages ? 1 : -1) : by_topic(a, b);
}

static void gather_topics(struct merging *merging, const struct cmq_tables_copy *copy)
{
    for (size_t i = 0; i < copy->topic_count; i++) {
        if (strcmp(copy->topics[i].topic, CMQ_TOPIC_OTHER) == 0)
            add_topic(&merging->other, &copy->topics[i]);
        else
            merging->topics[merging->topic_count++] = copy->topics[i];
    }
}

static void merge_topics(struct merging *merging)
{
    struct cmq_tables_merged *merged = merging->merged;
    size_t count = 0;
    qsort(merging->topics, merging->topic_count, sizeof *merging->topics, by_topic);
    for (size_t i = 0; i < merging->topic_count; i++) {
        if (count > 0 && by_topic(&merging->topics[count - 1], &merging->topics[i]) == 0)
            add_topic(&merging->topics[count - 1], &merging->topics[i]);
        else
            merging->topics[count++] = merging->topics[i];
    }
    qsort(merging->topics, count, sizeof *merging->topics, by_messages);
    for (size_t i = 0; i < count; i++) {
        if (i < CMQ_TABLE_TOPICS_MAX)
            merged->topics[merged->topic_count++] = merging->topics[i];
        else
            add_topic(&merging->other, &merging->topics[i]);
    }
    if (merging->other.messages > 0 || merging->other.bytes > 0)
        merged->topics[merged->topic_count++] = merging->other;
}

/* NULL: there is no room for another one. */
static struct cmq_group_copy *find_group(struct cmq_tables_merged *merged, const struct cmq_group_copy *group)
{
    for (size_t i = 0; i < merged->group_count; i++)
        if (strcmp(merged->groups[i].name, group->name) == 0)
            return &merged->groups[i];
    if (merged->group_count == CMQ_MERGED_GROUPS_MAX)
        return NULL;
    struct cmq_group_copy *found = &merged->groups[merged->group_count++];
    *found = (struct cmq_group_copy){0};
    memcpy(found->name, group->name, sizeof found->name);
    memcpy(found->topic, group->topic, sizeof found->topic);
    return found;
}

static void merge_groups(struct cmq_tables_merged *merged, const struct cmq_tables_copy *copy, bool alive)
{
    for (size_t i = 0; i < copy->group_count; i++) {
        const struct cmq_group_copy *group = &copy->groups[i];
        struct cmq_group_copy *into = find_group(merged, group);
        if (into == NULL)
            continue;
        if (alive) {
            into->members += group->members;
            into->pending += group->pending;
        }
        into->redelivered += group->redelivered;
        into->dead_letters += group->dead_letters;
        if (group->floor + group->done_above < into->floor + into->done_above)
            continue;
        into->floor = group->floor;
        into->done_above = group->done_above;
    }
}

static void merge_clients(struct cmq_tables_merged *merged, const struct cmq_tables_copy *copy)
{
    for (size_t i = 0; i < copy->client_count; i++) {
        const struct cmq_client_copy *client = &copy->clients[i];
        size_t at = cmq_min_u64(merged->client_count, CMQ_TABLE_CLIENTS_MAX - 1u);
        if (merged->client_count == CMQ_TABLE_CLIENTS_MAX &&
            merged->clients[at].lag_records >= client->lag_records)
            continue;
        for (; at > 0 && merged->clients[at - 1].lag_records < client->lag_records; at--)
            merged->clients[at] = merged->clients[at - 1];
        merged->clients[at] = *client;
        if (merged->client_count < CMQ_TABLE_CLIENTS_MAX)
            merged->client_count++;
    }
    merged->clients_total += copy->clients_total;
}

static void merge_errors(struct cmq_tables_merged *merged, const struct cmq_tables_copy *copy)
{
    for (size_t i = 0; i < copy->error_count; i++) {
        const struct cmq_error_copy *error = &copy->errors[i];
        size_t at = cmq_min_u64(merged->error_count, CMQ_MERGED_ERRORS_MAX - 1u);
        if (merged->error_count == CMQ_MERGED_ERRORS_MAX && merged->errors[at].time_ms >= error->time_ms)
            continue;
        for (; at > 0 && merged->errors[at - 1].time_ms < error->time_ms; at--)
            merged->errors[at] = merged->errors[at - 1];
        merged->errors[at] = *error;
        if (merged->error_count < CMQ_MERGED_ERRORS_MAX)
            merged->error_count++;
    }
}

static int by_lag(const void *one, const void *other)
{
    const struct cmq_group_copy *a = one, *b = other;
    return a->lag_records != b->lag_records ? (a->lag_records < b->lag_records ? 1 : -1)
                                            : strcmp(a->name, b->name);
}

/* What retention took is not behind any more. */
static void tell_lags(struct cmq_tables_merged *merged, const struct cmq_sight *sight)
{
    const uint64_t log_floor =
        sight->writer == NULL ? 0 : sight->writer->member.counters[CMQ_COUNT_LOG_FLOOR];
    for (size_t i = 0; i < merged->group_count; i++) {
        struct cmq_group_copy *group = &merged->groups[i];
        const uint64_t done = cmq_max_u64(group->floor + group->done_above, log_floor);
        group->lag_records = sight->stored > done ? sight->stored - done : 0;
    }
    qsort(merged->groups, merged->group_count, sizeof *merged->groups, by_lag);
}

enum cmq_err cmq_tables_merge(const struct cmq_sight *sight, struct cmq_tables_merged **ret_merged)
{
    struct merging merging = {.merged = calloc(1, sizeof *merging.merged),
                              .other = {.topic = CMQ_TOPIC_OTHER}};
    for (size_t i = 0; i < sight->count; i++)
        merging.topics_max +=
            sight->instances[i].tables == NULL ? 0 : sight->instances[i].tables->topic_count;
    merging.topics = calloc(merging.topics_max + 1u, sizeof *merging.topics);
    if (merging.merged == NULL || merging.topics == NULL) {
        free(merging.topics);
        free(merging.merged);
        return CMQ_ERR_NOMEM;
    }
    for (size_t i = 0; i < sight->count; i++) {
        const struct cmq_sight_instance *instance = &sight->instances[i];
        if (instance->tables == NULL)
            continue;
        gather_topics(&merging, instance->tables);
        merge_groups(merging.merged, instance->tables, instance->alive);
        if (instance->alive)
            merge_clients(merging.merged, instance->tables);
        merge_errors(merging.merged, instance->tables);
    }
    merge_topics(&merging);
    tell_lags(merging.merged, sight);
    free(merging.topics);
    *ret_merged = merging.merged;
    return CMQ_OK;
}
