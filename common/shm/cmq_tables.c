#include "common/shm/cmq_view.h"

#include <string.h>

enum { KIND = 't', TEXT_BYTES_MAX = CMQ_TABLE_LINE_BYTES_MAX };

/* A build with other tables does not read these. */
static uint64_t tables_magic(void)
{
    const uint64_t parts[] = {1,
                              sizeof(struct cmq_tables_page),
                              sizeof(struct cmq_topic_row),
                              sizeof(struct cmq_group_row),
                              sizeof(struct cmq_client_row),
                              sizeof(struct cmq_error_row)};
    uint64_t hash = 0x434d512d5441424cull; /* "CMQ-TABL" */
    for (size_t i = 0; i < CMQ_COUNT_OF(parts); i++)
        hash = (hash ^ parts[i]) * 0x100000001b3ull;
    return hash;
}

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void store(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

/* ---- rows ---- */

void cmq_row_begin(_Atomic uint64_t *version)
{
    store(version, load(version) | 1u);
    /* Pairs with the readers' acquire fence: who sees a word of the change sees an odd version, or a later one. */
    atomic_thread_fence(memory_order_release);
}

void cmq_row_end(_Atomic uint64_t *version)
{
    /* Pairs with the readers' first load: an even version comes with all of its row. */
    atomic_store_explicit(version, (load(version) | 1u) + 1u, memory_order_release);
}

void cmq_row_text_set(_Atomic uint64_t *bytes, _Atomic uint64_t *words, size_t bytes_max,
                      struct cmq_span text)
{
    uint64_t copy[(TEXT_BYTES_MAX + 7u) / 8u] = {0};
    const size_t kept = text.bytes < bytes_max ? text.bytes : bytes_max;
    cmq_assert(bytes_max <= sizeof copy);
    if (kept > 0)
        memcpy(copy, text.data, kept);
    for (size_t i = 0; i < (kept + 7u) / 8u; i++)
        store(&words[i], copy[i]);
    store(bytes, kept);
}

bool cmq_row_text_is(const _Atomic uint64_t *bytes, const _Atomic uint64_t *words, size_t bytes_max,
                     struct cmq_span text)
{
    uint64_t copy[(TEXT_BYTES_MAX + 7u) / 8u] = {0};
    if (text.bytes > bytes_max || load(bytes) != text.bytes)
        return false;
    if (text.bytes > 0)
        memcpy(copy, text.data, text.bytes);
    for (size_t i = 0; i < (text.bytes + 7u) / 8u; i++)
        if (load(&words[i]) != copy[i])
            return false;
    return true;
}

#define SET(text, bytes_max, span) cmq_row_text_set(&(text).bytes, (text).words, bytes_max, span)
#define IS(text, bytes_max, span)  cmq_row_text_is(&(text).bytes, (text).words, bytes_max, span)

/* ---- objects ---- */

/* A row of which the last process left half. Of errors it stays unread until its turn comes. */
static bool is_torn(const _Atomic uint64_t *version)
{
    return (load(version) & 1u) != 0;
}

static void repair_topics(struct cmq_tables_page *page)
{
    for (size_t i = 0; i < CMQ_TABLE_TOPICS_MAX; i++) {
        struct cmq_topic_row *row = &page->of.topics.rows[i];
        if (!is_torn(&row->version))
            continue;
        store(&row->topic.bytes, 0);
        store(&row->messages, 0);
        store(&row->bytes, 0);
        cmq_row_end(&row->version);
    }
}

static void empty_client(struct cmq_client_row *row)
{
    cmq_row_begin(&row->version);
    store(&row->kind, 0);
    cmq_row_end(&row->version);
}

static void repair_delivery(struct cmq_tables_page *page)
{
    store(&page->of.delivery.clients_total, 0);
    store(&page->of.delivery.subscriber_lag, 0);
    for (size_t i = 0; i < CMQ_TABLE_CLIENTS_MAX; i++)
        empty_client(&page->of.delivery.clients[i]);
    for (size_t i = 0; i < CMQ_TABLE_GROUPS_MAX; i++) {
        struct cmq_group_row *row = &page->of.delivery.groups[i];
        store(&row->members, 0);
        store(&row->pending, 0);
        if (!is_torn(&row->version))
            continue;
        store(&row->name.bytes, 0);
        cmq_row_end(&row->version);
    }
}

void cmq_tables_join(const char *instance, enum cmq_role role, uint32_t instance_number,
                     struct cmq_segment *ret_segment)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    if (!cmq_status_object_name(name, KIND, instance, role, instance_number) ||
        cmq_status_object_open(name, sizeof(struct cmq_tables_page), tables_magic(), &segment) != CMQ_OK)
        return;
    struct cmq_tables_page *page = segment.data;
    if (role == CMQ_ROLE_ENCRYPTOR)
        repair_topics(page);
    else if (role == CMQ_ROLE_DISPATCHER)
        repair_delivery(page);
    /* Pairs with the load in cmq_tables_map: a page with a magic is whole. */
    atomic_store_explicit(&page->magic, tables_magic(), memory_order_release);
    *ret_segment = segment;
}

struct cmq_tables_page *cmq_tables_of(struct cmq_ring *ring)
{
    return ring->tables_segment.data;
}

bool cmq_tables_map(const char *instance, enum cmq_role role, uint32_t instance_number, bool writable,
                    struct cmq_segment *ret_segment)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    if (!cmq_status_object_name(name, KIND, instance, role, instance_number) ||
        cmq_segment_map(name, 0, writable, &segment, NULL) != CMQ_OK)
        return false;
    const struct cmq_tables_page *page = segment.data;
    if (segment.bytes < sizeof *page ||
        atomic_load_explicit(&page->magic, memory_order_acquire) != tables_magic()) {
        cmq_segment_unmap(&segment);
        return false;
    }
    *ret_segment = segment;
    return true;
}

/* ---- groups ---- */

/* Records of the group that are done: the more of them, the less it is behind, since all have the same log. */
static uint64_t done_of(const struct cmq_group_row *row)
{
    return load(&row->floor) + load(&row->done_above);
}

/* NULL: there is none for it. */
static struct cmq_group_row *group_row(struct cmq_tables_page *page, const struct cmq_table_group *group)
{
    struct cmq_group_row *victim = NULL;
    for (size_t i = 0; i < CMQ_TABLE_GROUPS_MAX; i++) {
        struct cmq_group_row *row = &page->of.delivery.groups[i];
        if (IS(row->name, CMQ_TABLE_GROUP_BYTES_MAX, group->name))
            return row;
        if (load(&row->name.bytes) == 0)
            victim = victim == NULL || load(&victim->name.bytes) != 0 ? row : victim;
        else if (load(&row->members) == 0 &&
                 (victim == NULL || (load(&victim->name.bytes) != 0 && done_of(row) > done_of(victim))))
            victim = row;
    }
    if (victim == NULL || (load(&victim->name.bytes) != 0 && group->members == 0 &&
                           group->floor + group->done_above >= done_of(victim)))
        return NULL;
    cmq_row_begin(&victim->version);
    SET(victim->name, CMQ_TABLE_GROUP_BYTES_MAX, group->name);
    SET(victim->topic, CMQ_TABLE_TOPIC_BYTES_MAX, group->topic);
    store(&victim->redelivered, 0);
    store(&victim->dead_letters, 0);
    store(&victim->members, group->members);
    store(&victim->pending, group->pending);
    store(&victim->floor, group->floor);
    store(&victim->done_above, group->done_above);
    cmq_row_end(&victim->version);
    return victim;
}

void cmq_tables_group(struct cmq_tables_page *page, const struct cmq_table_group *group)
{
    if (page == NULL || group->name.bytes == 0 || group->name.bytes > CMQ_TABLE_GROUP_BYTES_MAX)
        return;
    struct cmq_group_row *row = group_row(page, group);
    if (row == NULL)
        return;
    /* Under the version, so that nobody reads the old floor with what is done above the new one. */
    cmq_row_begin(&row->version);
    store(&row->members, group->members);
    store(&row->pending, group->pending);
    store(&row->floor, group->floor);
    store(&row->done_above, group->done_above);
    store(&row->redelivered, load(&row->redelivered) + group->redelivered);
    store(&row->dead_letters, load(&row->dead_letters) + group->dead_letters);
    cmq_row_end(&row->version);
}

/* ---- clients ---- */

static void set_client(struct cmq_client_row *row, const struct cmq_table_client *client)
{
    const size_t address_bytes = strnlen(client->address, sizeof client->address);
    cmq_row_begin(&row->version);
    store(&row->kind, (uint64_t)client->kind + 1u);
    SET(row->subject, CMQ_TABLE_TOPIC_BYTES_MAX, client->subject);
    SET(row->group, CMQ_TABLE_GROUP_BYTES_MAX, client->group);
    SET(row->address, CMQ_TABLE_ADDRESS_BYTES_MAX, cmq_span_make(client->address, address_bytes));
    store(&row->connected_ms, client->connected_ms);
    store(&row->lag_records, client->lag_records);
    store(&row->messages, client->messages);
    store(&row->bytes, client->bytes);
    store(&row->subscriptions, client->subscriptions);
    cmq_row_end(&row->version);
}

void cmq_tables_clients(struct cmq_tables_page *page, const struct cmq_table_client *clients, size_t count,
                        uint64_t total, uint64_t subscriber_lag)
{
    if (page == NULL)
        return;
    cmq_assert(count <= CMQ_TABLE_CLIENTS_MAX);
    for (size_t i = 0; i < CMQ_TABLE_CLIENTS_MAX; i++) {
        struct cmq_client_row *row = &page->of.delivery.clients[i];
        if (i < count)
            set_client(row, &clients[i]);
        else if (load(&row->kind) != 0)
            empty_client(row);
    }
    store(&page->of.delivery.clients_total, total);
    store(&page->of.delivery.subscriber_lag, subscriber_lag);
}

/* ---- errors ---- */

void cmq_tables_error(struct cmq_tables_page *page, const struct cmq_table_error *error)
{
    if (page == NULL)
        return;
    const uint64_t written = load(&page->errors_written);
    struct cmq_error_row *row = &page->errors[written % CMQ_TABLE_ERRORS_MAX];
    cmq_row_begin(&row->version);
    store(&row->time_ms, error->time_ms);
    store(&row->level, error->level);
    SET(row->event, CMQ_TABLE_EVENT_BYTES_MAX, cmq_span_make(error->event, error->event_bytes));
    SET(row->text, CMQ_TABLE_LINE_BYTES_MAX, cmq_span_make(error->text, error->text_bytes));
    cmq_row_end(&row->version);
    store(&page->errors_written, written + 1u);
}
