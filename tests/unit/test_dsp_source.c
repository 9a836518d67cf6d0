#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_source.h"
#include "tests/support/fake_log.h"

enum { CACHE_BYTES = 256 * 1024 };

static struct fake_log *event_log;
static struct dsp_source *source;
static struct dsp_record *record;
static uint64_t next;
static unsigned freed;

static void free_encoded(void *encoded)
{
    freed++;
    free(encoded);
}

static void open_source(size_t cache_bytes)
{
    struct cmq_reason reason = {{0}};
    const struct dsp_source_setup setup = {
        .directory = "unused", .cache_bytes = cache_bytes, .free_encoded = free_encoded};
    assert_int_equal(dsp_source_new(&setup, event_log->ring, event_log->opening, &source, &reason), CMQ_OK);
}

static int setup(void **state)
{
    (void)state;
    event_log = fake_log_new();
    open_source(CACHE_BYTES);
    freed = 0;
    next = 0;
    record = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dsp_source_free(source);
    fake_log_free(event_log);
    return 0;
}

static enum cmq_err get(uint64_t seq)
{
    return dsp_source_get(source, seq, NULL, &record, &next);
}

static void put(void)
{
    dsp_source_put(source, record);
}

static void assert_unit(uint32_t index, const char *topic, uint32_t first, uint32_t count)
{
    assert_true(index < record->unit_count);
    const struct dsp_unit *unit = &record->units[index];
    assert_int_equal(unit->topic.bytes, strlen(topic));
    assert_memory_equal(unit->topic.data, topic, strlen(topic));
    assert_int_equal(unit->first, first);
    assert_int_equal(unit->count, count);
}

static void assert_texts(uint32_t index, char letter)
{
    const struct dsp_unit *unit = &record->units[index];
    struct cmq_mp_reader reader;
    struct cmq_message message;
    char text[16];
    assert_true(unit->readable);
    cmq_mp_reader_init(&reader, unit->messages);
    for (uint32_t i = 0; i < unit->count; i++) {
        int bytes = snprintf(text, sizeof(text), "%c%u", letter, i);
        assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
        assert_int_equal(message.body.bytes, bytes);
        assert_memory_equal(message.body.data, text, (size_t)bytes);
    }
    assert_int_equal(cmq_mp_left(&reader), 0);
}

static uint64_t undeliverable(void)
{
    return fake_log_counter(event_log, CMQ_COUNT_UNDELIVERABLE);
}

/* ---- getting ---- */

static void record_has_topics_before_it_is_opened_and_messages_after(void **state)
{
    (void)state;
    uint64_t seq = fake_log_texts(event_log, "orders.eu", 3, 'a');
    assert_int_equal(get(seq), CMQ_OK);
    assert_int_equal(record->seq, seq);
    assert_int_equal(record->message_count, 3);
    assert_int_equal(record->accepted_at_ms, 1700000000000);
    assert_unit(0, "orders.eu", 0, 3);
    assert_false(record->opened);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_SEALS), 0);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_texts(0, 'a');
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_SEALS), 1);
    put();
}

static void units_count_their_messages_over_the_record(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xa1, 'x', 0xa1, 'y'};
    const struct fake_unit units[] = {{.topic = "a", .messages = {plain, 4}, .count = 2},
                                      {.topic = "b.c", .messages = {plain, 2}, .count = 1},
                                      {.topic = "a", .messages = {plain, 4}, .count = 2}};
    assert_int_equal(get(fake_log_seal(event_log, units, 3)), CMQ_OK);
    assert_int_equal(record->message_count, 5);
    assert_unit(0, "a", 0, 2);
    assert_unit(1, "b.c", 2, 1);
    assert_unit(2, "a", 3, 2);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_memory_equal(record->units[1].messages.data, plain, 2);
    put();
}

static void what_is_not_stored_is_told_to_come_again(void **state)
{
    (void)state;
    assert_int_equal(get(1), CMQ_ERR_AGAIN);
    (void)fake_log_texts(event_log, "t", 1, 'a');
    (void)fake_log_texts(event_log, "t", 1, 'b');
    fake_log_set_stored(event_log, 2);
    assert_int_equal(dsp_source_stored(source), 2);
    assert_int_equal(get(2), CMQ_ERR_AGAIN);
    assert_int_equal(get(1), CMQ_OK);
    put();
    fake_log_set_stored(event_log, UINT64_MAX);
    assert_int_equal(get(2), CMQ_OK);
    put();
}

static void one_read_serves_all_records_in_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        (void)fake_log_texts(event_log, "t", 1, 'a');
    for (uint64_t seq = 1; seq <= 100; seq++) {
        assert_int_equal(get(seq), CMQ_OK);
        assert_int_equal(dsp_source_open(source, record), CMQ_OK);
        assert_texts(0, 'a');
        put();
    }
    assert_int_equal(event_log->reads, 1);
}

/* Behind the end of the log lie old bytes that a read would fetch for nothing. */
static void who_is_at_the_end_reads_little_and_who_is_far_from_it_much(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3000; i++)
        (void)fake_log_texts(event_log, "t", 10, 'a');
    assert_int_equal(get(3000), CMQ_OK);
    put();
    assert_true(event_log->read_bytes <= 4096);
    assert_int_equal(get(1), CMQ_OK);
    put();
    assert_true(event_log->read_bytes >= 100000);
    (void)fake_log_texts(event_log, "t", 10, 'a');
    assert_int_equal(get(3001), CMQ_OK);
    put();
    assert_true(event_log->read_bytes <= 4096);
}

static void second_read_is_told_where_its_record_begins(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_int_equal(get(1), CMQ_OK);
    const struct cmq_journal_pos place = record->next;
    put();
    (void)fake_log_texts(event_log, "t", 1, 'b');
    assert_int_equal(get(2), CMQ_OK); /* the record before it is known here */
    put();
    assert_int_equal(event_log->hints_used, 1);
    dsp_source_free(source);
    open_source(CACHE_BYTES);
    assert_int_equal(dsp_source_get(source, 2, &place, &record, &next), CMQ_OK);
    put();
    assert_int_equal(event_log->hints_used, 2);
}

static void void_record_has_no_messages(void **state)
{
    (void)state;
    (void)fake_log_add_void(event_log);
    assert_int_equal(get(1), CMQ_OK);
    assert_int_equal(record->message_count, 0);
    assert_int_equal(record->unit_count, 0);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    put();
}

static void gaps_tell_where_to_go_on(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        (void)fake_log_texts(event_log, "t", 1, 'a');
    fake_log_set_floor(event_log, 3);
    assert_int_equal(dsp_source_floor(source), 3);
    assert_int_equal(get(1), CMQ_ERR_NOT_FOUND);
    assert_int_equal(next, 3);
    fake_log_damage(event_log, 4);
    fake_log_damage(event_log, 5);
    assert_int_equal(get(3), CMQ_OK);
    put();
    assert_int_equal(get(4), CMQ_ERR_CORRUPT);
    assert_int_equal(next, 6);
    assert_int_equal(get(6), CMQ_OK);
    put();
}

static void failing_read_is_told_and_may_be_tried_again(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    event_log->fail = CMQ_ERR_SYSTEM;
    assert_int_equal(get(1), CMQ_ERR_SYSTEM);
    assert_int_equal(get(1), CMQ_OK);
    put();
}

/* ---- opening ---- */

static void unit_with_a_wrong_tag_is_not_readable_and_the_others_are(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xa2, 'a', '0', 0xa2, 'a', '1'};
    const struct fake_unit units[] = {{.topic = "t", .messages = {plain, 6}, .count = 2},
                                      {.topic = "u", .messages = {plain, 3}, .count = 1}};
    uint64_t seq = fake_log_seal(event_log, units, 2);
    fake_log_flip(event_log, seq, fake_log_payload_bytes(event_log, seq) - 1);
    assert_int_equal(get(seq), CMQ_OK);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_texts(0, 'a');
    assert_false(record->units[1].readable);
    assert_int_equal(undeliverable(), 1);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_int_equal(undeliverable(), 1);
    put();
}

static void request_key_is_taken_off(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xa3, 'k', 'e', 'y', 0xa2, 'a', '0', 0xa2, 'a', '1'};
    const struct fake_unit unit = {
        .topic = "t", .messages = {plain, sizeof(plain)}, .count = 2, .flags = CMQ_PLAIN_HAS_KEY};
    assert_int_equal(get(fake_log_seal(event_log, &unit, 1)), CMQ_OK);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_texts(0, 'a');
    put();
}

static void announced_key_that_is_none_makes_the_unit_unreadable(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xc0, 0xa1, 'a'};
    const struct fake_unit unit = {
        .topic = "t", .messages = {plain, 3}, .count = 1, .flags = CMQ_PLAIN_HAS_KEY};
    assert_int_equal(get(fake_log_seal(event_log, &unit, 1)), CMQ_OK);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_false(record->units[0].readable);
    assert_int_equal(undeliverable(), 1);
    put();
}

static void unknown_suite_is_not_readable(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xa1, 'a'};
    const struct fake_unit unit = {.topic = "t", .messages = {plain, 2}, .count = 1, .suite = 2};
    assert_int_equal(get(fake_log_seal(event_log, &unit, 1)), CMQ_OK);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_false(record->units[0].readable);
    put();
}

static void key_made_after_start_is_found_by_reading_the_file_again(void **state)
{
    (void)state;
    struct cmq_reason reason = {{0}};
    assert_int_equal(cmq_keyring_rotate(event_log->sealing, ">", true, &reason), CMQ_OK);
    assert_int_equal(get(fake_log_texts(event_log, "t", 2, 'k')), CMQ_OK);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_texts(0, 'k');
    put();
}

static void key_that_is_not_for_delivery_makes_the_unit_unreadable(void **state)
{
    (void)state;
    struct cmq_reason reason = {{0}};
    assert_int_equal(cmq_keyring_rotate(event_log->sealing, "hidden", false, &reason), CMQ_OK);
    assert_int_equal(get(fake_log_texts(event_log, "hidden", 2, 'n')), CMQ_OK);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_false(record->units[0].readable);
    assert_int_equal(undeliverable(), 2);
    put();
}

static void record_under_another_seq_is_damaged(void **state)
{
    (void)state;
    const struct cmq_sealed_head head = {.seq = 77, .unit_count = 0};
    uint8_t batch[CMQ_BATCH_HEAD_BYTES];
    (void)fake_log_add(event_log, batch, cmq_sealed_encode_head(batch, &head), 4);
    assert_int_equal(get(1), CMQ_ERR_CORRUPT);
    assert_int_equal(next, 2);
    assert_int_equal(undeliverable(), 4);
    assert_int_equal(get(1), CMQ_ERR_CORRUPT);
    assert_int_equal(undeliverable(), 4);
}

/* Every byte changed, and cut anywhere: never a fault of the process, nothing that was not sealed comes out. */
static void changed_batches_give_nothing_that_was_not_sealed(void **state)
{
    (void)state;
    uint64_t whole = fake_log_texts(event_log, "t", 3, 'a');
    size_t bytes = fake_log_payload_bytes(event_log, whole);
    for (size_t i = 0; i < bytes; i++) {
        fake_log_flip(event_log, whole, i);
        dsp_source_free(source);
        open_source(CACHE_BYTES);
        enum cmq_err err = get(whole);
        if (err == CMQ_OK) {
            assert_int_equal(dsp_source_open(source, record), CMQ_OK);
            for (uint32_t unit = 0; unit < record->unit_count; unit++) {
                if (record->units[unit].readable)
                    assert_texts(unit, 'a');
            }
            put();
        } else {
            assert_int_equal(err, CMQ_ERR_CORRUPT);
        }
        fake_log_flip(event_log, whole, i);
    }
}

static void cut_batches_are_damaged_records(void **state)
{
    (void)state;
    uint8_t batch[512];
    struct cmq_sealed_unit unit = {.topic_bytes = 1, .count = 1, .suite = 1, .sealed = {.bytes = 18}};
    unit.topic[0] = 't';
    for (size_t cut = 0;; cut++) {
        const struct cmq_sealed_head head = {.seq = cut + 1, .unit_count = 1};
        memset(batch, 0, sizeof(batch));
        size_t bytes = cmq_sealed_encode_head(batch, &head);
        bytes += cmq_sealed_encode_unit(batch + bytes, &unit) + unit.sealed.bytes;
        if (cut == bytes)
            break;
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, batch, cut);
        (void)fake_log_add(event_log, exact, cut, 1);
        free(exact);
        assert_int_equal(get(cut + 1), CMQ_ERR_CORRUPT);
    }
}

/* ---- bounds ---- */

static void backlog_costs_no_more_than_the_cache(void **state)
{
    (void)state;
    static uint8_t plain[5000];
    size_t head = cmq_message_head(plain, true, sizeof(plain) - 3);
    memset(plain + head, 'x', sizeof(plain) - head);
    const struct fake_unit unit = {.topic = "t", .messages = {plain, sizeof(plain)}, .count = 1};
    for (unsigned i = 0; i < 1000; i++)
        (void)fake_log_seal(event_log, &unit, 1);
    for (uint64_t seq = 1; seq <= 1000; seq++) {
        assert_int_equal(get(seq), CMQ_OK);
        assert_int_equal(dsp_source_open(source, record), CMQ_OK);
        put();
        assert_true(dsp_source_bytes(source) <= CACHE_BYTES);
    }
}

static void records_that_are_held_stay_and_the_others_go(void **state)
{
    (void)state;
    struct dsp_record *held[8];
    dsp_source_free(source);
    open_source(1);
    for (unsigned i = 0; i < 8; i++)
        (void)fake_log_texts(event_log, "t", 2, 'a');
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(get(i + 1), CMQ_OK);
        assert_int_equal(dsp_source_open(source, record), CMQ_OK);
        held[i] = record;
    }
    for (unsigned i = 0; i < 8; i++) {
        record = held[i];
        assert_int_equal(record->seq, i + 1);
        assert_texts(0, 'a');
        put();
    }
    assert_int_equal(dsp_source_bytes(source), 0);
}

static void holding_twice_needs_putting_twice(void **state)
{
    (void)state;
    dsp_source_free(source);
    open_source(1);
    assert_int_equal(get(fake_log_texts(event_log, "t", 2, 'a')), CMQ_OK);
    dsp_source_hold(record);
    put();
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
    assert_texts(0, 'a');
    put();
    assert_int_equal(dsp_source_bytes(source), 0);
}

static void least_recently_used_record_goes_first(void **state)
{
    (void)state;
    static uint8_t plain[100000];
    size_t head = cmq_message_head(plain, true, sizeof(plain) - 5);
    const struct fake_unit unit = {.topic = "t", .messages = {plain, sizeof(plain)}, .count = 1};
    (void)head;
    for (uint64_t seq = 1; seq <= 2; seq++) {
        assert_int_equal(get(fake_log_seal(event_log, &unit, 1)), CMQ_OK);
        put();
    }
    assert_int_equal(get(1), CMQ_OK); /* 2 is the older one now */
    put();
    assert_int_equal(get(fake_log_seal(event_log, &unit, 1)), CMQ_OK);
    put();
    unsigned reads = event_log->reads;
    assert_int_equal(get(1), CMQ_OK);
    put();
    assert_int_equal(event_log->reads, reads);
    assert_int_equal(get(2), CMQ_OK);
    put();
    assert_int_equal(event_log->reads, reads + 1);
}

static void encoded_forms_count_and_are_freed_with_their_record(void **state)
{
    (void)state;
    assert_int_equal(get(fake_log_texts(event_log, "t", 2, 'a')), CMQ_OK);
    size_t before = dsp_source_bytes(source);
    record->encoded[1] = malloc(10);
    dsp_source_grew(source, record, CACHE_BYTES);
    assert_int_equal(dsp_source_bytes(source), before + CACHE_BYTES);
    assert_int_equal(freed, 0);
    put();
    assert_int_equal(freed, 1);
    assert_int_equal(dsp_source_bytes(source), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(record_has_topics_before_it_is_opened_and_messages_after),
        TEST(units_count_their_messages_over_the_record),
        TEST(what_is_not_stored_is_told_to_come_again),
        TEST(one_read_serves_all_records_in_it),
        TEST(who_is_at_the_end_reads_little_and_who_is_far_from_it_much),
        TEST(second_read_is_told_where_its_record_begins),
        TEST(void_record_has_no_messages),
        TEST(gaps_tell_where_to_go_on),
        TEST(failing_read_is_told_and_may_be_tried_again),
        TEST(unit_with_a_wrong_tag_is_not_readable_and_the_others_are),
        TEST(request_key_is_taken_off),
        TEST(announced_key_that_is_none_makes_the_unit_unreadable),
        TEST(unknown_suite_is_not_readable),
        TEST(key_made_after_start_is_found_by_reading_the_file_again),
        TEST(key_that_is_not_for_delivery_makes_the_unit_unreadable),
        TEST(record_under_another_seq_is_damaged),
        TEST(changed_batches_give_nothing_that_was_not_sealed),
        TEST(cut_batches_are_damaged_records),
        TEST(backlog_costs_no_more_than_the_cache),
        TEST(records_that_are_held_stay_and_the_others_go),
        TEST(holding_twice_needs_putting_twice),
        TEST(least_recently_used_record_goes_first),
        TEST(encoded_forms_count_and_are_freed_with_their_record),
    };
    return cmocka_run_group_tests_name("dsp_source", tests, NULL, NULL);
}
