#include "common/shm/cmq_metrics.h"

#include <inttypes.h>

#include "common/shm/cmq_tables_read.h"
#include "common/shm/cmq_writer.h"

static void put_head(struct cmq_writer *writer, const char *name, const char *type, const char *help)
{
    cmq_writer_put(writer, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* name{stage="...",instance="N",  */
static void put_instance(struct cmq_writer *writer, const char *name,
                         const struct cmq_sight_instance *instance)
{
    cmq_writer_put(writer, "%s{stage=\"%s\",instance=\"%u\"", name, cmq_role_name(instance->status.role),
                   instance->status.instance_number);
}

/* Labels are names, checked, that need no escape: they are JSON strings, too. */
static void put_label(struct cmq_writer *writer, const char *name, const char *text)
{
    cmq_writer_put(writer, "%s=", name);
    cmq_writer_put_string(writer, text);
}

/* ---- topics ---- */

/* Each instance counts for itself: a topic that changes from a row to the others begins anew there, as a counter may; the sum of
 * several could not. */
static void put_topics(struct cmq_writer *writer, const struct cmq_sight *sight, const char *name,
                       const char *help, uint64_t (*value)(const struct cmq_topic_copy *topic))
{
    put_head(writer, name, "counter", help);
    for (size_t i = 0; i < sight->count; i++) {
        const struct cmq_tables_copy *tables = sight->instances[i].tables;
        for (size_t k = 0; tables != NULL && k < tables->topic_count; k++) {
            put_instance(writer, name, &sight->instances[i]);
            put_label(writer, ",topic", tables->topics[k].topic);
            cmq_writer_put(writer, "} %" PRIu64 "\n", value(&tables->topics[k]));
        }
    }
}

static uint64_t topic_messages(const struct cmq_topic_copy *topic)
{
    return topic->messages;
}

static uint64_t topic_bytes(const struct cmq_topic_copy *topic)
{
    return topic->bytes;
}

/* ---- groups ---- */

/* Gauges of a group in all dispatchers. */
static void put_groups(struct cmq_writer *writer, const struct cmq_tables_merged *merged, const char *name,
                       const char *help, uint64_t (*value)(const struct cmq_group_copy *group))
{
    put_head(writer, name, "gauge", help);
    for (size_t i = 0; i < merged->group_count; i++) {
        cmq_writer_put(writer, "%s{", name);
        put_label(writer, "group", merged->groups[i].name);
        put_label(writer, ",topic", merged->groups[i].topic);
        cmq_writer_put(writer, "} %" PRIu64 "\n", value(&merged->groups[i]));
    }
}

/* Counters of a group in each dispatcher, as of topics. */
static void put_group_counts(struct cmq_writer *writer, const struct cmq_sight *sight, const char *name,
                             const char *help, uint64_t (*value)(const struct cmq_group_copy *group))
{
    put_head(writer, name, "counter", help);
    for (size_t i = 0; i < sight->count; i++) {
        const struct cmq_tables_copy *tables = sight->instances[i].tables;
        for (size_t k = 0; tables != NULL && k < tables->group_count; k++) {
            put_instance(writer, name, &sight->instances[i]);
            put_label(writer, ",group", tables->groups[k].name);
            put_label(writer, ",topic", tables->groups[k].topic);
            cmq_writer_put(writer, "} %" PRIu64 "\n", value(&tables->groups[k]));
        }
    }
}

static uint64_t group_lag(const struct cmq_group_copy *group)
{
    return group->lag_records;
}

static uint64_t group_pending(const struct cmq_group_copy *group)
{
    return group->pending;
}

static uint64_t group_members(const struct cmq_group_copy *group)
{
    return group->members;
}

static uint64_t group_redelivered(const struct cmq_group_copy *group)
{
    return group->redelivered;
}

static uint64_t group_dead_letters(const struct cmq_group_copy *group)
{
    return group->dead_letters;
}

/* ---- subscribers ---- */

static void put_subscribers(struct cmq_writer *writer, const struct cmq_sight *sight)
{
    static const char name[] = "ciphermq_subscriber_lag_records";
    put_head(writer, name, "gauge",
             "records that the subscriber which is farthest behind has not read; members of groups not");
    for (size_t i = 0; i < sight->count; i++) {
        const struct cmq_sight_instance *instance = &sight->instances[i];
        if (instance->status.role != CMQ_ROLE_DISPATCHER || instance->tables == NULL)
            continue;
        put_instance(writer, name, instance);
        cmq_writer_put(writer, "} %" PRIu64 "\n", instance->alive ? instance->tables->subscriber_lag : 0);
    }
}

enum cmq_err cmq_metrics_write_tables(const struct cmq_sight *sight, bool topics, struct cmq_writer *writer)
{
    struct cmq_tables_merged *merged = NULL;
    enum cmq_err err = cmq_tables_merge(sight, &merged);
    if (err != CMQ_OK)
        return err;
    if (topics) {
        put_topics(writer, sight, "ciphermq_topic_messages_total", "messages sealed for the topic",
                   topic_messages);
        put_topics(writer, sight, "ciphermq_topic_bytes_total", "bytes of those messages", topic_bytes);
    }
    put_groups(writer, merged, "ciphermq_group_lag_records",
               "records of the log that are not done for the group", group_lag);
    put_groups(writer, merged, "ciphermq_group_pending_messages",
               "messages delivered to members and not acknowledged", group_pending);
    put_groups(writer, merged, "ciphermq_group_members", "connected members of the group", group_members);
    put_group_counts(writer, sight, "ciphermq_group_redelivered_total", "messages delivered again",
                     group_redelivered);
    put_group_counts(writer, sight, "ciphermq_group_dead_letters_total",
                     "messages given up after max_deliver deliveries", group_dead_letters);
    put_subscribers(writer, sight);
    free(merged);
    return writer->err;
}
