#include "common/shm/cmq_state.h"

#include <inttypes.h>

#include "common/shm/cmq_tables_read.h"
#include "common/shm/cmq_writer.h"

/* ,"name": in front of every member of an object but its first. */
static void put_text(struct cmq_writer *writer, const char *name, const char *text)
{
    cmq_writer_put(writer, ",\"%s\":", name);
    cmq_writer_put_string(writer, text);
}

static void put_number(struct cmq_writer *writer, const char *name, uint64_t number)
{
    cmq_writer_put(writer, ",\"%s\":%" PRIu64, name, number);
}

static void put_topic(struct cmq_writer *writer, const struct cmq_topic_copy *topic)
{
    cmq_writer_put(writer, "{\"topic\":");
    cmq_writer_put_string(writer, topic->topic);
    put_number(writer, "messages", topic->messages);
    put_number(writer, "bytes", topic->bytes);
    put_number(writer, "last_ms", topic->last_ms);
    cmq_writer_put(writer, "}");
}

/* Messages are not counted before they are read: lag_messages stays null. */
static void put_group(struct cmq_writer *writer, const struct cmq_group_copy *group)
{
    cmq_writer_put(writer, "{\"group\":");
    cmq_writer_put_string(writer, group->name);
    put_text(writer, "topic", group->topic);
    put_number(writer, "lag_records", group->lag_records);
    cmq_writer_put(writer, ",\"lag_messages\":null");
    put_number(writer, "pending", group->pending);
    put_number(writer, "members", group->members);
    put_number(writer, "redelivered", group->redelivered);
    put_number(writer, "dead_letters", group->dead_letters);
    put_number(writer, "floor", group->floor);
    cmq_writer_put(writer, "}");
}

static void put_client(struct cmq_writer *writer, const struct cmq_client_copy *client)
{
    cmq_writer_put(writer, "{\"kind\":\"%s\"", cmq_client_kind_name(client->kind));
    put_text(writer, "subject", client->subject);
    if (client->group[0] == '\0')
        cmq_writer_put(writer, ",\"group\":null");
    else
        put_text(writer, "group", client->group);
    put_text(writer, "address", client->address);
    put_number(writer, "connected_ms", client->connected_ms);
    put_number(writer, "lag_records", client->lag_records);
    put_number(writer, "messages", client->messages);
    put_number(writer, "bytes", client->bytes);
    put_number(writer, "subscriptions", client->subscriptions);
    put_number(writer, "dispatcher", client->dispatcher);
    cmq_writer_put(writer, "}");
}

static void put_error(struct cmq_writer *writer, const struct cmq_error_copy *error)
{
    cmq_writer_put(writer, "{\"time_ms\":%" PRIu64 ",\"stage\":\"%s\",\"instance\":%u,\"level\":\"%s\"",
                   error->time_ms, cmq_role_name(error->role), error->instance_number,
                   error->is_error ? "error" : "warn");
    put_text(writer, "event", error->event);
    put_text(writer, "text", error->text);
    cmq_writer_put(writer, "}");
}

#define PUT_ALL(writer, put, rows, count)                    \
    do {                                                     \
        for (size_t i = 0; i < (count); i++) {               \
            cmq_writer_put(writer, "%s", i == 0 ? "" : ","); \
            put(writer, &(rows)[i]);                         \
        }                                                    \
    } while (0)

enum cmq_err cmq_state_write_tables(const struct cmq_sight *sight, struct cmq_writer *writer)
{
    struct cmq_tables_merged *merged = NULL;
    enum cmq_err err = cmq_tables_merge(sight, &merged);
    if (err != CMQ_OK)
        return err;
    cmq_writer_put(writer, ",\"topics\":[");
    PUT_ALL(writer, put_topic, merged->topics, merged->topic_count);
    cmq_writer_put(writer, "],\"groups\":[");
    PUT_ALL(writer, put_group, merged->groups, merged->group_count);
    cmq_writer_put(writer, "],\"clients\":{\"total\":%" PRIu64 ",\"rows\":[", merged->clients_total);
    PUT_ALL(writer, put_client, merged->clients, merged->client_count);
    cmq_writer_put(writer, "]},\"errors\":[");
    PUT_ALL(writer, put_error, merged->errors, merged->error_count);
    cmq_writer_put(writer, "]");
    free(merged);
    return writer->err;
}
