/* Tests of cmq_tables: names in shared memory: counted, replaced, torn, hostile, merged, and as text. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/shm/cmq_metrics.h"
#include "common/shm/cmq_state.h"
#include "common/shm/cmq_table_topics.h"
#include "common/shm/cmq_tables_read.h"
#include "common/wire/cmq_json_pack.h"
#include "tests/support/ring_fixture.h"

enum { SLOTS = 16, ARENA = 1 << 16, TEXT_BYTES_MAX = 8 << 20 };

static struct ring_fixture fixture;
static uint64_t now_ns;

static int set_up(void **state)
{
    (void)state;
    now_ns = 1000 * CMQ_NS_PER_S;
    ring_fixture_open(&fixture, SLOTS, 1, ARENA);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ring_fixture_close(&fixture);
    return 0;
}

static struct cmq_ring *join(enum cmq_role role, uint32_t number)
{
    fixture.setup.instance_number = number;
    return ring_fixture_join(&fixture, role);
}

static struct cmq_span span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

static struct cmq_tables_copy *copy_of(struct cmq_ring *ring, enum cmq_role role)
{
    static struct cmq_tables_copy copy;
    cmq_tables_copy(cmq_tables_of(ring), role, fixture.setup.instance_number, &copy);
    return &copy;
}

static struct cmq_tables_merged *merged_of(struct cmq_ring *ring)
{
    struct cmq_sight *sight;
    struct cmq_tables_merged *merged = NULL;
    assert_int_equal(cmq_sight_take(ring, &sight), CMQ_OK);
    assert_int_equal(cmq_tables_merge(sight, &merged), CMQ_OK);
    cmq_sight_free(sight);
    return merged;
}

/* ---- topics ---- */

static void note(struct cmq_table_topics *topics, const char *name, unsigned number, uint64_t messages)
{
    char topic[64];
    (void)snprintf(topic, sizeof topic, "%s.%u", name, number);
    cmq_table_topics_note(topics, span(topic), messages, 10 * messages, now_ns);
}

/* One with an empty name: it is not there. */
static const struct cmq_topic_copy *topic_of(const struct cmq_tables_copy *copy, const char *topic)
{
    static const struct cmq_topic_copy none;
    for (size_t i = 0; i < copy->topic_count; i++)
        if (strcmp(copy->topics[i].topic, topic) == 0)
            return &copy->topics[i];
    return &none;
}

static uint64_t sum_of(const struct cmq_tables_copy *copy)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < copy->topic_count; i++) {
        assert_int_equal(copy->topics[i].bytes, 10 * copy->topics[i].messages);
        sum += copy->topics[i].messages;
    }
    return sum;
}

static void topics_are_counted_each_for_itself(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_ENCRYPTOR, 0);
    struct cmq_table_topics *topics;
    const uint64_t begin_ms = cmq_clock_wall_ms();
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), CMQ_TABLE_TOPICS_MAX, &topics), CMQ_OK);
    for (unsigned i = 0; i < CMQ_TABLE_TOPICS_MAX; i++)
        note(topics, "t", i, i + 1);
    note(topics, "t", 7, 100);
    const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(copy->topic_count, CMQ_TABLE_TOPICS_MAX);
    assert_int_equal(topic_of(copy, "t.7")->messages, 108);
    assert_int_equal(topic_of(copy, "t.7")->bytes, 1080);
    assert_true(topic_of(copy, "t.7")->last_ms >= begin_ms);
    assert_int_equal(topic_of(copy, "t.127")->messages, 128);
    cmq_table_topics_free(topics);
}

static void sums_stay_right_when_rows_change_hands(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_ENCRYPTOR, 0);
    struct cmq_table_topics *topics;
    uint64_t sum = 0, random = 88172645463325252ull, changed = 0;
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), CMQ_TABLE_TOPICS_MAX, &topics), CMQ_OK);
    for (unsigned i = 0; i < 200000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        now_ns += random % 1000 * CMQ_NS_PER_US * 20;
        /* Those that come now are others than those that came before. */
        note(topics, "t", (unsigned)(random >> 32) % 400 + i / 1000, random % 5 + 1);
        sum += random % 5 + 1;
    }
    const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(copy->topic_count, CMQ_TABLE_TOPICS_MAX + 1);
    assert_int_equal(sum_of(copy), sum);
    for (unsigned i = 0; i < 200; i++) {
        char topic[32];
        (void)snprintf(topic, sizeof topic, "t.%u", i + 400);
        changed += topic_of(copy, topic)->topic[0] != '\0';
    }
    assert_true(changed > 10);
    cmq_table_topics_free(topics);
}

static void a_busy_topic_gets_the_row_of_the_least_active(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_ENCRYPTOR, 0);
    struct cmq_table_topics *topics;
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), 4, &topics), CMQ_OK);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 4; i++)
            for (unsigned times = 0; times <= 4 * i; times++)
                note(topics, "old", i, 1);
        now_ns += CMQ_NS_PER_S / 4;
    }
    for (unsigned i = 0; i < 100; i++)
        note(topics, "once", i, 1); /* none of them is worth a row that is in use */
    for (unsigned i = 0; i < 4; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "old.%u", i);
        assert_string_not_equal(topic_of(copy_of(ring, CMQ_ROLE_ENCRYPTOR), name)->topic, "");
    }
    for (unsigned i = 0; i < 100; i++)
        note(topics, "new", 1, 1);
    const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_ENCRYPTOR);
    assert_string_equal(topic_of(copy, "old.0")->topic, "");
    assert_string_not_equal(topic_of(copy, "old.1")->topic, "");
    assert_true(topic_of(copy, "new.1")->messages > 50);
    assert_int_equal(sum_of(copy), 20 * (1 + 5 + 9 + 13) + 200);
    assert_string_equal(copy->topics[copy->topic_count - 1].topic, CMQ_TOPIC_OTHER);
    cmq_table_topics_free(topics);
}

static void an_idle_row_goes_to_the_first_that_comes(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_ENCRYPTOR, 0);
    struct cmq_table_topics *topics;
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), 1, &topics), CMQ_OK);
    note(topics, "old", 0, 5);
    for (unsigned i = 0; i < 3; i++) { /* halved until it is nothing */
        now_ns += 2 * CMQ_NS_PER_S;
        note(topics, "new", 0, 1);
    }
    const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_ENCRYPTOR);
    assert_string_equal(topic_of(copy, "old.0")->topic, "");
    assert_string_not_equal(topic_of(copy, "new.0")->topic, "");
    assert_int_equal(sum_of(copy), 8);
    cmq_table_topics_free(topics);
}

static void topics_go_on_in_the_next_process_and_fewer_rows_keep_the_sum(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_ENCRYPTOR, 2);
    struct cmq_table_topics *topics;
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), CMQ_TABLE_TOPICS_MAX, &topics), CMQ_OK);
    for (unsigned i = 0; i < 10; i++)
        note(topics, "t", i, 1);
    cmq_table_topics_free(topics);
    ring_fixture_leave(&fixture, ring);
    static const unsigned rows[] = {128, 3, 0, 128};
    for (unsigned life = 0; life < CMQ_COUNT_OF(rows); life++) {
        ring = join(CMQ_ROLE_ENCRYPTOR, 2);
        assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), rows[life], &topics), CMQ_OK);
        note(topics, "t", 1, 1);
        const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_ENCRYPTOR);
        assert_int_equal(sum_of(copy), 11 + life);
        assert_int_equal(copy->topic_count, life == 0 ? 10 : life == 1 ? 4 : life == 2 ? 1 : 2);
        if (life < 2)
            assert_int_equal(topic_of(copy, "t.1")->messages, 2 + life);
        cmq_table_topics_free(topics);
        ring_fixture_leave(&fixture, ring);
    }
}

static void topics_without_a_table_harm_nobody(void **state)
{
    (void)state;
    struct cmq_table_topics *topics;
    assert_int_equal(cmq_table_topics_new(NULL, CMQ_TABLE_TOPICS_MAX, &topics), CMQ_OK);
    note(topics, "t", 1, 1);
    cmq_table_topics_free(topics);
    cmq_table_topics_note(NULL, span("t"), 1, 1, now_ns);
}

/* ---- groups ---- */

static void tell_group(struct cmq_ring *ring, unsigned number, uint64_t members, uint64_t done)
{
    char name[32];
    (void)snprintf(name, sizeof name, "g%u", number);
    const struct cmq_table_group group = {.name = span(name),
                                          .topic = span("jobs.*"),
                                          .members = members,
                                          .pending = 2 * members,
                                          .floor = done - done / 4,
                                          .done_above = done / 4,
                                          .redelivered = 3,
                                          .dead_letters = 1};
    cmq_tables_group(cmq_tables_of(ring), &group);
}

static const struct cmq_group_copy *group_of(const struct cmq_group_copy *groups, size_t count,
                                             unsigned number)
{
    static const struct cmq_group_copy none;
    char name[32];
    (void)snprintf(name, sizeof name, "g%u", number);
    for (size_t i = 0; i < count; i++)
        if (strcmp(groups[i].name, name) == 0)
            return &groups[i];
    return &none;
}

static void a_group_with_members_takes_a_row_from_one_without(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_DISPATCHER, 0);
    for (unsigned i = 0; i < CMQ_TABLE_GROUPS_MAX; i++)
        tell_group(ring, i, i % 2,
                   1000 + i); /* the odd ones have members; 62 is least behind of the others */
    const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_DISPATCHER);
    assert_int_equal(copy->group_count, CMQ_TABLE_GROUPS_MAX);
    tell_group(ring, 100, 0, 2000); /* less behind than all */
    assert_string_equal(group_of(copy_of(ring, CMQ_ROLE_DISPATCHER)->groups, CMQ_TABLE_GROUPS_MAX, 100)->name,
                        "");
    tell_group(ring, 101, 0, 10); /* more behind */
    tell_group(ring, 102, 4, 2000);
    copy = copy_of(ring, CMQ_ROLE_DISPATCHER);
    assert_int_equal(copy->group_count, CMQ_TABLE_GROUPS_MAX);
    assert_string_equal(group_of(copy->groups, copy->group_count, 62)->name, "");
    assert_string_equal(group_of(copy->groups, copy->group_count, 60)->name, "");
    assert_string_not_equal(group_of(copy->groups, copy->group_count, 63)->name, "");
    assert_int_equal(group_of(copy->groups, copy->group_count, 101)->floor, 8);
    const struct cmq_group_copy *last = group_of(copy->groups, copy->group_count, 102);
    assert_int_equal(last->members, 4);
    assert_int_equal(last->redelivered, 3);
    assert_string_equal(last->topic, "jobs.*");
}

static void group_counts_go_on_and_gauges_begin_anew(void **state)
{
    (void)state;
    for (unsigned life = 1; life <= 3; life++) {
        struct cmq_ring *ring = join(CMQ_ROLE_DISPATCHER, 0);
        const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_DISPATCHER);
        if (life > 1) {
            assert_int_equal(copy->groups[0].members + copy->groups[0].pending, 0);
            assert_int_equal(copy->groups[0].floor, 75);
        }
        tell_group(ring, 1, 5, 100);
        copy = copy_of(ring, CMQ_ROLE_DISPATCHER);
        assert_int_equal(copy->group_count, 1);
        assert_int_equal(copy->groups[0].redelivered, 3 * life);
        assert_int_equal(copy->groups[0].dead_letters, life);
        assert_int_equal(copy->groups[0].members, 5);
        ring_fixture_leave(&fixture, ring);
    }
}

static void dispatchers_add_up_and_the_one_that_saw_most_done_knows_the_lag(void **state)
{
    (void)state;
    struct cmq_ring *first = join(CMQ_ROLE_DISPATCHER, 0), *second = join(CMQ_ROLE_DISPATCHER, 1);
    struct cmq_ring *ingest = join(CMQ_ROLE_INGEST, 0), *encryptor = join(CMQ_ROLE_ENCRYPTOR, 0);
    for (unsigned i = 0; i < 10; i++) { /* the log ends before record 11 */
        (void)ring_fixture_publish(ingest, "x");
        (void)ring_fixture_seal(encryptor);
        (void)ring_fixture_store(encryptor, "x");
    }
    tell_group(first, 1, 2, 8);
    tell_group(second, 1, 3, 4);
    tell_group(second, 2, 0, 1);
    struct cmq_tables_merged *merged = merged_of(ingest);
    assert_int_equal(merged->group_count, 2);
    assert_string_equal(merged->groups[0].name, "g2"); /* the one that is farther behind */
    assert_int_equal(merged->groups[0].lag_records, 10);
    assert_int_equal(merged->groups[1].members, 5);
    assert_int_equal(merged->groups[1].pending, 10);
    assert_int_equal(merged->groups[1].lag_records, 3);
    assert_int_equal(merged->groups[1].floor, 6);
    assert_int_equal(merged->groups[1].redelivered, 6);
    free(merged);
    ring_fixture_leave(&fixture, first); /* its members are gone, what it saw is still true */
    merged = merged_of(ingest);
    assert_int_equal(merged->groups[1].members, 3);
    assert_int_equal(merged->groups[1].lag_records, 3);
    assert_int_equal(merged->groups[1].redelivered, 6);
    free(merged);
}

/* ---- clients and errors ---- */

static void clients_of_those_that_live_are_told_by_their_lag(void **state)
{
    (void)state;
    struct cmq_ring *rings[2] = {join(CMQ_ROLE_DISPATCHER, 0), join(CMQ_ROLE_DISPATCHER, 1)};
    struct cmq_table_client clients[CMQ_TABLE_CLIENTS_MAX] = {0};
    for (unsigned dispatcher = 0; dispatcher < 2; dispatcher++) {
        for (unsigned i = 0; i < CMQ_TABLE_CLIENTS_MAX; i++)
            clients[i] = (struct cmq_table_client){.kind = CMQ_CLIENT_SSE,
                                                   .subject = span("a.>"),
                                                   .address = "192.0.2.1",
                                                   .lag_records = 2 * i + dispatcher};
        cmq_tables_clients(cmq_tables_of(rings[dispatcher]), clients, CMQ_TABLE_CLIENTS_MAX, 1000, 126);
    }
    struct cmq_tables_merged *merged = merged_of(rings[0]);
    assert_int_equal(merged->clients_total, 2000);
    assert_int_equal(merged->client_count, CMQ_TABLE_CLIENTS_MAX);
    for (unsigned i = 0; i < CMQ_TABLE_CLIENTS_MAX; i++) {
        assert_int_equal(merged->clients[i].lag_records, 127 - i);
        assert_int_equal(merged->clients[i].dispatcher, (127 - i) % 2);
    }
    assert_string_equal(merged->clients[0].address, "192.0.2.1");
    free(merged);
    cmq_tables_clients(cmq_tables_of(rings[0]), clients, 1, 1, 0);
    assert_int_equal(copy_of(rings[0], CMQ_ROLE_DISPATCHER)->client_count, 1);
    ring_fixture_leave(&fixture, rings[1]);
    merged = merged_of(rings[0]);
    assert_int_equal(merged->client_count, 1);
    assert_int_equal(merged->clients_total, 1);
    free(merged);
}

static void tell_error(struct cmq_ring *ring, uint64_t time_ms, const char *text)
{
    struct cmq_table_error error = {.time_ms = time_ms,
                                    .level = time_ms % 2 != 0 ? CMQ_TABLE_ERROR : CMQ_TABLE_WARN,
                                    .event_bytes = 7,
                                    .text_bytes = (uint32_t)strlen(text),
                                    .event = "refused"};
    memcpy(error.text, text, strlen(text));
    cmq_tables_error(cmq_tables_of(ring), &error);
}

static void the_newest_lines_of_a_stage_are_kept_after_its_end(void **state)
{
    (void)state;
    struct cmq_ring *looker = join(CMQ_ROLE_DISPATCHER, 0);
    struct cmq_ring *ring = join(CMQ_ROLE_INGEST, 5);
    for (unsigned i = 1; i <= CMQ_TABLE_ERRORS_MAX + 3; i++)
        tell_error(ring, i, i == CMQ_TABLE_ERRORS_MAX + 3 ? "last" : "line");
    ring_fixture_leave(&fixture, ring);
    tell_error(looker, 18, "of the dispatcher");
    struct cmq_tables_merged *merged = merged_of(looker);
    assert_int_equal(merged->error_count, CMQ_TABLE_ERRORS_MAX + 1);
    assert_string_equal(merged->errors[0].text, "last");
    assert_int_equal(merged->errors[0].role, CMQ_ROLE_INGEST);
    assert_int_equal(merged->errors[0].instance_number, 5);
    assert_true(merged->errors[0].is_error);
    assert_int_equal(merged->errors[1].time_ms + merged->errors[2].time_ms, 36);
    assert_int_equal(merged->errors[CMQ_TABLE_ERRORS_MAX].time_ms, 4);
    free(merged);
}

/* ---- what cannot be trusted ---- */

static void a_torn_row_is_left_out_and_emptied_by_the_next_process(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_DISPATCHER, 0);
    tell_group(ring, 1, 1, 10);
    tell_group(ring, 2, 1, 10);
    tell_error(ring, 1, "whole");
    tell_error(ring, 2, "torn");
    cmq_row_begin(&cmq_tables_of(ring)->of.delivery.groups[0].version);
    cmq_row_begin(&cmq_tables_of(ring)->errors[1].version);
    const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_DISPATCHER);
    assert_int_equal(copy->group_count, 1);
    assert_string_equal(copy->groups[0].name, "g2");
    assert_int_equal(copy->error_count, 1);
    ring_fixture_leave(&fixture, ring);
    ring = join(CMQ_ROLE_DISPATCHER, 0);
    assert_int_equal(cmq_tables_of(ring)->of.delivery.groups[0].name.bytes, 0);
    tell_group(ring, 3, 1, 10);
    copy = copy_of(ring, CMQ_ROLE_DISPATCHER);
    assert_int_equal(copy->group_count, 2);
    assert_int_equal(group_of(copy->groups, 2, 3)->redelivered, 3); /* not those of who had the row before */
    assert_int_equal(copy->error_count, 1);
    ring_fixture_leave(&fixture, ring);

    struct cmq_table_topics *topics;
    ring = join(CMQ_ROLE_ENCRYPTOR, 0);
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), 8, &topics), CMQ_OK);
    note(topics, "t", 1, 1);
    note(topics, "t", 2, 1);
    cmq_row_begin(&cmq_tables_of(ring)->of.topics.rows[0].version);
    assert_int_equal(copy_of(ring, CMQ_ROLE_ENCRYPTOR)->topic_count, 1);
    cmq_table_topics_free(topics);
    ring_fixture_leave(&fixture, ring);
    ring = join(CMQ_ROLE_ENCRYPTOR, 0);
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(ring), 8, &topics), CMQ_OK);
    note(topics, "t", 3, 1);
    copy = copy_of(ring, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(copy->topic_count, 2);
    assert_string_equal(topic_of(copy, "t.1")->topic, "");
    cmq_table_topics_free(topics);
}

static void expect_good_text(struct cmq_ring *ring)
{
    struct cmq_json_packer *packer;
    struct cmq_buf text, packed;
    struct cmq_sight *sight;
    struct cmq_reason reason = {{0}};
    cmq_buf_init(&text, TEXT_BYTES_MAX);
    cmq_buf_init(&packed, TEXT_BYTES_MAX);
    assert_int_equal(cmq_json_packer_new(TEXT_BYTES_MAX, &packer), CMQ_OK);
    assert_int_equal(cmq_sight_take(ring, &sight), CMQ_OK);
    assert_int_equal(cmq_state_write(sight, "9.9", true, &text), CMQ_OK);
    if (cmq_json_pack(packer, cmq_buf_span(&text), &packed, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
    cmq_buf_clear(&text, 0);
    assert_int_equal(cmq_metrics_write(sight, "9.9", true, &text), CMQ_OK);
    for (size_t i = 0; i < text.bytes; i++)
        assert_true(text.data[i] == '\n' || (text.data[i] >= 0x20 && text.data[i] < 0x7f));
    cmq_sight_free(sight);
    cmq_json_packer_free(packer);
    cmq_buf_fini(&packed);
    cmq_buf_fini(&text);
}

/* Versions are even, so that every row is looked at. */
static void fill(struct cmq_tables_page *page, uint64_t *random, unsigned kind)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)page;
    for (size_t i = 1; i < sizeof *page / 8; i++) {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        uint64_t word = *random;
        if (kind == 1)
            word %= 300;
        else if (kind == 2)
            word = (word & 0x3f3f3f3f3f3f3f3full) + 0x2020202020202020ull; /* quotes, backslashes, letters */
        else if (kind == 3)
            word = i % 3 == 0 ? word % 64 : (word & 0x0707070707070707ull) + 0x6161616161616161ull;
        atomic_store_explicit(&words[i], word, memory_order_relaxed);
    }
    for (size_t i = 0; i < CMQ_TABLE_ERRORS_MAX; i++) {
        cmq_row_end(&page->errors[i].version);
        if (i % 2 == 0) {
            atomic_store_explicit(&page->errors[i].level, CMQ_TABLE_WARN, memory_order_relaxed);
            cmq_row_text_set(&page->errors[i].event.bytes, page->errors[i].event.words,
                             CMQ_TABLE_EVENT_BYTES_MAX, span("event"));
            atomic_store_explicit(&page->errors[i].text.bytes, *random % 600, memory_order_relaxed);
        }
    }
    for (size_t i = 0; i < CMQ_TABLE_GROUPS_MAX; i++)
        cmq_row_end(&page->of.delivery.groups[i].version);
    for (size_t i = 0; i < CMQ_TABLE_CLIENTS_MAX; i++)
        cmq_row_end(&page->of.delivery.clients[i].version);
}

static void whatever_is_in_the_memory_the_text_is_whole(void **state)
{
    (void)state;
    struct cmq_ring *dispatcher = join(CMQ_ROLE_DISPATCHER, 0), *encryptor = join(CMQ_ROLE_ENCRYPTOR, 0);
    uint64_t random = 0x9e3779b97f4a7c15ull;
    for (unsigned i = 0; i < 200; i++) {
        fill(cmq_tables_of(dispatcher), &random, i % 4);
        fill(cmq_tables_of(encryptor), &random, i % 4);
        for (size_t row = 0; row < CMQ_TABLE_TOPICS_MAX; row++)
            cmq_row_end(&cmq_tables_of(encryptor)->of.topics.rows[row].version);
        expect_good_text(dispatcher);
    }
    /* Nor is a writer misled by what the last one left. */
    struct cmq_table_topics *topics;
    assert_int_equal(cmq_table_topics_new(cmq_tables_of(encryptor), 100, &topics), CMQ_OK);
    note(topics, "t", 1, 1);
    cmq_table_topics_free(topics);
    tell_group(dispatcher, 1, 1, 1);
    tell_error(dispatcher, 1, "x");
    expect_good_text(dispatcher);
}

static void names_that_no_client_may_choose_are_left_out(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_ENCRYPTOR, 0);
    static const char *const bad[] = {"a\"b", "a\\b", "a b", "a\nb", "\xc3\xa9", "$other", "a\"} 1\nfake 2"};
    struct cmq_tables_page *page = cmq_tables_of(ring);
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        struct cmq_topic_row *row = &page->of.topics.rows[i];
        cmq_row_text_set(&row->topic.bytes, row->topic.words, CMQ_TABLE_TOPIC_BYTES_MAX, span(bad[i]));
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(page->of.topics.rows[20].topic.words); i++)
        atomic_store_explicit(&page->of.topics.rows[20].topic.words[i], 0x6161616161616161ull,
                              memory_order_relaxed);
    atomic_store_explicit(&page->of.topics.rows[20].topic.bytes, CMQ_TABLE_TOPIC_BYTES_MAX + 1u,
                          memory_order_relaxed);
    atomic_store_explicit(&page->of.topics.rows[21].topic.bytes, UINT64_MAX, memory_order_relaxed);
    struct cmq_topic_row *good = &page->of.topics.rows[22];
    cmq_row_text_set(&good->topic.bytes, good->topic.words, CMQ_TABLE_TOPIC_BYTES_MAX, span("$dead.a_b-c"));
    const struct cmq_tables_copy *copy = copy_of(ring, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(copy->topic_count, 1);
    assert_string_equal(copy->topics[0].topic, "$dead.a_b-c");
}

static void text_has_its_quotes_escaped(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_INGEST, 0);
    struct cmq_sight *sight;
    struct cmq_buf text;
    cmq_buf_init(&text, TEXT_BYTES_MAX);
    tell_error(ring, 7, "reason=\"a \\x0a b\" \x01 \xff");
    assert_int_equal(cmq_sight_take(ring, &sight), CMQ_OK);
    assert_int_equal(cmq_state_write(sight, "9.9", true, &text), CMQ_OK);
    assert_int_equal(cmq_buf_append(&text, "", 1), CMQ_OK);
    assert_non_null(
        strstr((const char *)text.data,
               "\"errors\":[{\"time_ms\":7,\"stage\":\"ingest\",\"instance\":0,\"level\":\"error\","
               "\"event\":\"refused\",\"text\":\"reason=\\\"a \\\\x0a b\\\" ? ?\"}]"));
    cmq_buf_clear(&text, 0);
    assert_int_equal(cmq_state_write(sight, "9.9", false, &text), CMQ_OK);
    assert_int_equal(cmq_buf_append(&text, "", 1), CMQ_OK);
    assert_null(strstr((const char *)text.data, "\"refused\""));
    assert_non_null(strstr((const char *)text.data,
                           ",\"topics\":null,\"groups\":null,\"clients\":null,\"errors\":null}"));
    cmq_sight_free(sight);
    cmq_buf_fini(&text);
}

/* ---- a reader beside the writer ---- */

static atomic_bool stop;

enum { FLOOR = 1 << 30 };

/* Only one row is without members, and each group is farther behind than the one before: it gets that row. Its name has as many
 * letters as its number says. */
static void *change_rows(void *context)
{
    char name[CMQ_TABLE_GROUP_BYTES_MAX];
    for (uint64_t i = 1; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
        const size_t bytes = i % CMQ_TABLE_GROUP_BYTES_MAX + 1;
        memset(name, 'a' + (int)(i % 26), bytes);
        const struct cmq_table_group group = {
            .name = cmq_span_make(name, bytes), .topic = cmq_span_make(name, bytes), .floor = FLOOR - i};
        cmq_tables_group(context, &group);
    }
    return NULL;
}

static bool is_whole(const struct cmq_group_copy *group)
{
    const uint64_t number = FLOOR - group->floor;
    const char letter[] = {(char)('a' + number % 26), '\0'};
    return strlen(group->name) == number % CMQ_TABLE_GROUP_BYTES_MAX + 1 &&
           strspn(group->name, letter) == strlen(group->name) && strcmp(group->name, group->topic) == 0;
}

static void a_row_is_read_whole_or_not_at_all(void **state)
{
    (void)state;
    struct cmq_ring *ring = join(CMQ_ROLE_DISPATCHER, 0);
    static struct cmq_tables_copy copy;
    pthread_t thread;
    unsigned seen = 0, different = 0, torn = 0;
    uint64_t last = 0;
    for (unsigned i = 1; i < CMQ_TABLE_GROUPS_MAX; i++)
        tell_group(ring, i, 1, 1);
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&thread, NULL, change_rows, cmq_tables_of(ring)), 0);
    while (different < 1000 || seen < 20000) {
        cmq_tables_copy(cmq_tables_of(ring), CMQ_ROLE_DISPATCHER, 0, &copy);
        seen++;
        if (copy.group_count < CMQ_TABLE_GROUPS_MAX)
            continue;
        const struct cmq_group_copy *group = &copy.groups[CMQ_TABLE_GROUPS_MAX - 1];
        torn += !is_whole(group);
        different += group->floor != last;
        last = group->floor;
    }
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(torn, 0);
}

#define WITH_RING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(topics_are_counted_each_for_itself),
        WITH_RING(sums_stay_right_when_rows_change_hands),
        WITH_RING(a_busy_topic_gets_the_row_of_the_least_active),
        WITH_RING(an_idle_row_goes_to_the_first_that_comes),
        WITH_RING(topics_go_on_in_the_next_process_and_fewer_rows_keep_the_sum),
        WITH_RING(topics_without_a_table_harm_nobody),
        WITH_RING(a_group_with_members_takes_a_row_from_one_without),
        WITH_RING(group_counts_go_on_and_gauges_begin_anew),
        WITH_RING(dispatchers_add_up_and_the_one_that_saw_most_done_knows_the_lag),
        WITH_RING(clients_of_those_that_live_are_told_by_their_lag),
        WITH_RING(the_newest_lines_of_a_stage_are_kept_after_its_end),
        WITH_RING(a_torn_row_is_left_out_and_emptied_by_the_next_process),
        WITH_RING(whatever_is_in_the_memory_the_text_is_whole),
        WITH_RING(names_that_no_client_may_choose_are_left_out),
        WITH_RING(text_has_its_quotes_escaped),
        WITH_RING(a_row_is_read_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
