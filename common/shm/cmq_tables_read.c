#include "common/shm/cmq_tables_read.h"

#include <string.h>

enum { TRIES = 8, WORDS_MAX = (CMQ_TABLE_LINE_BYTES_MAX + 7) / 8 };

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* ---- one row ---- */

/* Pairs with cmq_row_begin and cmq_row_end. */
static uint64_t row_enter(const _Atomic uint64_t *version)
{
    return atomic_load_explicit(version, memory_order_acquire);
}

static bool row_is_whole(const _Atomic uint64_t *version, uint64_t entered)
{
    atomic_thread_fence(memory_order_acquire);
    return (entered & 1u) == 0 && load(version) == entered;
}

/* False: a length that no writer can have written. ret_text has bytes_max + 1 bytes. */
static bool copy_text(const _Atomic uint64_t *bytes, const _Atomic uint64_t *words, size_t bytes_max,
                      char *ret_text)
{
    uint64_t copy[WORDS_MAX];
    const uint64_t text_bytes = load(bytes); /* once */
    if (text_bytes > bytes_max)
        return false;
    for (size_t i = 0; i < (text_bytes + 7u) / 8u; i++)
        copy[i] = load(&words[i]);
    memcpy(ret_text, copy, text_bytes);
    ret_text[text_bytes] = '\0';
    for (size_t i = 0; i < text_bytes; i++)
        if (ret_text[i] < 0x20 || ret_text[i] > 0x7e)
            ret_text[i] = '?';
    return true;
}

#define COPY(text, bytes_max, ret_text) copy_text(&(text).bytes, (text).words, bytes_max, ret_text)

/* The bytes of names, and no others. empty: it may be. */
static bool is_name(const char *text, bool empty)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.$*>";
    return (empty || text[0] != '\0') && text[strspn(text, allowed)] == '\0';
}

static bool copy_topic(const struct cmq_topic_row *row, struct cmq_topic_copy *ret_copy)
{
    for (unsigned i = 0; i < TRIES; i++) {
        const uint64_t version = row_enter(&row->version);
        bool good = COPY(row->topic, CMQ_TABLE_TOPIC_BYTES_MAX, ret_copy->topic);
        ret_copy->messages = load(&row->messages);
        ret_copy->bytes = load(&row->bytes);
        ret_copy->last_ms = load(&row->last_ms);
        if (row_is_whole(&row->version, version))
            return good && is_name(ret_copy->topic, false) && strcmp(ret_copy->topic, CMQ_TOPIC_OTHER) != 0;
    }
    return false;
}

static bool copy_group(const struct cmq_group_row *row, struct cmq_group_copy *ret_copy)
{
    for (unsigned i = 0; i < TRIES; i++) {
        const uint64_t version = row_enter(&row->version);
        bool good = COPY(row->name, CMQ_TABLE_GROUP_BYTES_MAX, ret_copy->name);
        good = COPY(row->topic, CMQ_TABLE_TOPIC_BYTES_MAX, ret_copy->topic) && good;
        ret_copy->members = load(&row->members);
        ret_copy->pending = load(&row->pending);
        ret_copy->floor = load(&row->floor);
        ret_copy->done_above = load(&row->done_above);
        ret_copy->redelivered = load(&row->redelivered);
        ret_copy->dead_letters = load(&row->dead_letters);
        ret_copy->lag_records = 0;
        if (row_is_whole(&row->version, version))
            return good && is_name(ret_copy->name, false) && is_name(ret_copy->topic, false);
    }
    return false;
}

static bool copy_client(const struct cmq_client_row *row, struct cmq_client_copy *ret_copy)
{
    for (unsigned i = 0; i < TRIES; i++) {
        const uint64_t version = row_enter(&row->version);
        const uint64_t kind = load(&row->kind);
        bool good = kind > 0 && kind <= CMQ_CLIENT_KINDS;
        good = COPY(row->subject, CMQ_TABLE_TOPIC_BYTES_MAX, ret_copy->subject) && good;
        good = COPY(row->group, CMQ_TABLE_GROUP_BYTES_MAX, ret_copy->group) && good;
        good = COPY(row->address, CMQ_TABLE_ADDRESS_BYTES_MAX, ret_copy->address) && good;
        ret_copy->kind = good ? (enum cmq_client_kind)(kind - 1u) : CMQ_CLIENT_ROOT;
        ret_copy->connected_ms = load(&row->connected_ms);
        ret_copy->lag_records = load(&row->lag_records);
        ret_copy->messages = load(&row->messages);
        ret_copy->bytes = load(&row->bytes);
        ret_copy->subscriptions = load(&row->subscriptions);
        if (row_is_whole(&row->version, version))
            return good && is_name(ret_copy->subject, true) && is_name(ret_copy->group, true);
    }
    return false;
}

static bool copy_error(const struct cmq_error_row *row, struct cmq_error_copy *ret_copy)
{
    for (unsigned i = 0; i < TRIES; i++) {
        const uint64_t version = row_enter(&row->version);
        const uint64_t level = load(&row->level);
        ret_copy->time_ms = load(&row->time_ms);
        ret_copy->is_error = level == CMQ_TABLE_ERROR;
        bool good = COPY(row->event, CMQ_TABLE_EVENT_BYTES_MAX, ret_copy->event);
        good = COPY(row->text, CMQ_TABLE_LINE_BYTES_MAX, ret_copy->text) && good;
        if (row_is_whole(&row->version, version))
            return good && ret_copy->time_ms != 0 && is_name(ret_copy->event, false) &&
                   (level == CMQ_TABLE_ERROR || level == CMQ_TABLE_WARN);
    }
    return false;
}

/* ---- one instance ---- */

static void copy_topics(const struct cmq_tables_page *page, struct cmq_tables_copy *ret_copy)
{
    struct cmq_topic_copy other = {.topic = CMQ_TOPIC_OTHER,
                                   .messages = load(&page->of.topics.other_messages),
                                   .bytes = load(&page->of.topics.other_bytes),
                                   .last_ms = load(&page->of.topics.other_last_ms)};
    for (size_t i = 0; i < CMQ_TABLE_TOPICS_MAX; i++)
        ret_copy->topic_count +=
            copy_topic(&page->of.topics.rows[i], &ret_copy->topics[ret_copy->topic_count]);
    if (other.messages > 0 || other.bytes > 0)
        ret_copy->topics[ret_copy->topic_count++] = other;
}

static void copy_delivery(const struct cmq_tables_page *page, uint32_t number,
                          struct cmq_tables_copy *ret_copy)
{
    for (size_t i = 0; i < CMQ_TABLE_GROUPS_MAX; i++)
        ret_copy->group_count +=
            copy_group(&page->of.delivery.groups[i], &ret_copy->groups[ret_copy->group_count]);
    for (size_t i = 0; i < CMQ_TABLE_CLIENTS_MAX; i++) {
        struct cmq_client_copy *client = &ret_copy->clients[ret_copy->client_count];
        client->dispatcher = number;
        ret_copy->client_count += copy_client(&page->of.delivery.clients[i], client);
    }
    ret_copy->clients_total = load(&page->of.delivery.clients_total);
    ret_copy->subscriber_lag = load(&page->of.delivery.subscriber_lag);
}

void cmq_tables_copy(const struct cmq_tables_page *page, enum cmq_role role, uint32_t instance_number,
                     struct cmq_tables_copy *ret_copy)
{
    ret_copy->topic_count = ret_copy->group_count = ret_copy->client_count = ret_copy->error_count = 0;
    ret_copy->clients_total = ret_copy->subscriber_lag = 0;
    const uint64_t written = load(&page->errors_written);
    for (size_t i = 1; i <= CMQ_TABLE_ERRORS_MAX; i++) { /* the newest first */
        struct cmq_error_copy *error = &ret_copy->errors[ret_copy->error_count];
        error->role = role;
        error->instance_number = instance_number;
        ret_copy->error_count += copy_error(&page->errors[(written - i) % CMQ_TABLE_ERRORS_MAX], error);
    }
    if (role == CMQ_ROLE_ENCRYPTOR)
        copy_topics(page, ret_copy);
    else if (role == CMQ_ROLE_DISPATCHER)
        copy_delivery(page, instance_number, ret_copy);
}

const char *cmq_client_kind_name(enum cmq_client_kind kind)
{
    static const char *const names[CMQ_CLIENT_KINDS] = {
        [CMQ_CLIENT_ROOT] = "root", [CMQ_CLIENT_V1] = "v1",     [CMQ_CLIENT_WS] = "ws",
        [CMQ_CLIENT_SSE] = "sse",   [CMQ_CLIENT_JSON] = "json", [CMQ_CLIENT_BOARD] = "board"};
    return (unsigned)kind < CMQ_CLIENT_KINDS ? names[kind] : "unknown";
}
