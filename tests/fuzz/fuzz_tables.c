/*
 * Bytes -> what lies in the tables of an instance. A page that good writers filled is overwritten: the first byte says whose it is,
 * then, again and again, two bytes name a word, one a length, and so many bytes follow. Whatever comes of it: copies are within
 * their bounds, the text for people is JSON, that for Prometheus has no byte but printable ASCII, and a writer goes on.
 */
#include <string.h>

#include "common/shm/cmq_metrics.h"
#include "common/shm/cmq_state.h"
#include "common/shm/cmq_table_topics.h"
#include "common/shm/cmq_tables_read.h"
#include "common/wire/cmq_json_pack.h"

enum { TEXT_BYTES_MAX = 8 << 20, PAGE_WORDS = sizeof(struct cmq_tables_page) / 8 };

static struct cmq_tables_page page;
static struct cmq_json_packer *packer;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct cmq_span span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

static void write_some(enum cmq_role role)
{
    const struct cmq_table_error error = {.time_ms = 7,
                                          .level = CMQ_TABLE_WARN,
                                          .event_bytes = 5,
                                          .text_bytes = 3,
                                          .event = "event",
                                          .text = "a=1"};
    const struct cmq_table_group group = {
        .name = span("group"), .topic = span("a.*"), .members = 1, .floor = 5};
    const struct cmq_table_client client = {
        .kind = CMQ_CLIENT_V1, .subject = span("a.>"), .address = "192.0.2.1"};
    cmq_tables_error(&page, &error);
    if (role == CMQ_ROLE_ENCRYPTOR) {
        struct cmq_table_topics *topics;
        if (cmq_table_topics_new(&page, 100, &topics) != CMQ_OK)
            return;
        cmq_table_topics_note(topics, span("a.b"), 1, 1, 5 * CMQ_NS_PER_S);
        cmq_table_topics_note(topics, span("c"), 1, 1, 5 * CMQ_NS_PER_S);
        cmq_table_topics_free(topics);
    } else if (role == CMQ_ROLE_DISPATCHER) {
        cmq_tables_group(&page, &group);
        cmq_tables_clients(&page, &client, 1, 1, 9);
    }
}

static void overwrite(const uint8_t *data, size_t bytes)
{
    while (bytes >= 3) {
        const size_t word = (data[0] | (size_t)data[1] << 8) % PAGE_WORDS;
        const size_t wanted = cmq_min_u64(data[2], bytes - 3);
        const size_t copied = cmq_min_u64(wanted, sizeof page - word * 8);
        memcpy((uint8_t *)&page + word * 8, data + 3, copied);
        data += 3 + wanted;
        bytes -= 3 + wanted;
    }
}

static void check_texts(const struct cmq_sight *sight)
{
    struct cmq_buf text, packed;
    cmq_buf_init(&text, TEXT_BYTES_MAX);
    cmq_buf_init(&packed, TEXT_BYTES_MAX);
    cmq_assert(cmq_state_write(sight, "1", true, &text) == CMQ_OK);
    cmq_assert(cmq_json_pack(packer, cmq_buf_span(&text), &packed, NULL) == CMQ_OK);
    cmq_buf_clear(&text, 0);
    cmq_assert(cmq_metrics_write(sight, "1", true, &text) == CMQ_OK);
    for (size_t i = 0; i < text.bytes; i++)
        cmq_assert(text.data[i] == '\n' || (text.data[i] >= 0x20 && text.data[i] < 0x7f));
    cmq_buf_fini(&packed);
    cmq_buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const enum cmq_role roles[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};
    static struct cmq_tables_copy copy;
    if (packer == NULL)
        cmq_assert(cmq_json_packer_new(TEXT_BYTES_MAX, &packer) == CMQ_OK);
    if (bytes == 0)
        return 0;
    const enum cmq_role role = roles[data[0] % CMQ_COUNT_OF(roles)];
    memset(&page, 0, sizeof page);
    write_some(role);
    overwrite(data + 1, bytes - 1);
    struct cmq_sight_instance instance = {
        .status = {.role = role}, .alive = true, .member = {.id = CMQ_MEMBERS_MAX}, .tables = &copy};
    const struct cmq_sight sight = {.instance = "fuzz", .stored = 10, .instances = &instance, .count = 1};
    for (unsigned i = 0; i < 2; i++) {
        cmq_tables_copy(&page, role, 0, &copy);
        cmq_assert(copy.topic_count <= CMQ_TABLE_TOPICS_MAX + 1 && copy.group_count <= CMQ_TABLE_GROUPS_MAX &&
                   copy.client_count <= CMQ_TABLE_CLIENTS_MAX && copy.error_count <= CMQ_TABLE_ERRORS_MAX);
        check_texts(&sight);
        write_some(role);
    }
    return 0;
}
