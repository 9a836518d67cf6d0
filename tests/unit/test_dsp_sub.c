#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "dispatcher/dsp_sub.h"
#include "tests/support/fake_log.h"

enum { CACHE_BYTES = 1 << 20, SUB = 2 };

static struct fake_log *event_log;
static struct dsp_source *source;
static struct dsp_encoder encoder;
static struct dsp_text text;
static struct dsp_sub sub;
static struct dsp_push_limits limits;
static struct cmq_reason reason;

static int setup(void **state)
{
    (void)state;
    event_log = fake_log_new();
    const struct dsp_source_setup source_setup = {
        .directory = "unused", .cache_bytes = CACHE_BYTES, .free_encoded = dsp_encode_free};
    assert_int_equal(dsp_source_new(&source_setup, event_log->ring, event_log->opening, &source, &reason),
                     CMQ_OK);
    assert_int_equal(dsp_encoder_init(&encoder, source), CMQ_OK);
    assert_int_equal(dsp_text_init(&text, 16, 4096), CMQ_OK);
    limits = (struct dsp_push_limits){.frame_bytes_max = 4096, .frame_messages_max = 65536};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dsp_text_fini(&text);
    dsp_encoder_fini(&encoder);
    dsp_source_free(source);
    fake_log_free(event_log);
    return 0;
}

static struct cmq_span span_of(const char *word)
{
    return cmq_span_make(word, strlen(word));
}

static enum cmq_err subscribe(const char *pattern, const char *since)
{
    struct dsp_cursor cursor;
    enum cmq_err err = dsp_cursor_parse(source, span_of(since), &cursor, &reason);
    if (err == CMQ_OK)
        dsp_sub_init(&sub, SUB, span_of(pattern), &cursor);
    return err;
}

static enum dsp_fill_result fill(void)
{
    enum cmq_err err = CMQ_OK;
    enum dsp_fill_result result = dsp_sub_fill(&sub, &encoder, DSP_FORMAT_JSON, &limits, &text, &err);
    assert_int_equal(err, CMQ_OK);
    return result;
}

static void assert_text(const char *expected)
{
    if (text.bytes != strlen(expected) || memcmp(dsp_text_start(&text), expected, text.bytes) != 0)
        fail_msg("got %.*s", (int)text.bytes, (const char *)dsp_text_start(&text));
}

static void assert_frame(const char *expected)
{
    assert_int_equal(fill(), DSP_SUB_FRAME);
    assert_text(expected);
}

static void assert_tail(void)
{
    assert_int_equal(fill(), DSP_SUB_TAIL);
}

#define ITEM(id, data)     "{\"id\":\"" id "\",\"data\":\"" data "\",\"ts\":1700000000000}"
#define MSGS(topic, items) "{\"msgs\":{\"sub\":2,\"topic\":\"" topic "\",\"items\":[" items "]}}"
#define GAP(from, to, why) \
    "{\"gap\":{\"sub\":2,\"from\":\"" from "\",\"to\":\"" to "\",\"reason\":\"" why "\"}}"

/* ---- frames ---- */

static void frame_takes_all_of_a_topic_over_several_records(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 2, 'a');
    (void)fake_log_texts(event_log, "t", 1, 'b');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_frame(MSGS("t", ITEM("1-0", "a0") "," ITEM("1-1", "a1") "," ITEM("2-0", "b0")));
    assert_tail();
    (void)fake_log_texts(event_log, "t", 1, 'c');
    assert_frame(MSGS("t", ITEM("3-0", "c0")));
    assert_tail();
}

static void frame_has_one_topic_and_order_is_kept(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "o.eu", 1, 'a');
    (void)fake_log_texts(event_log, "o.us", 1, 'b');
    (void)fake_log_texts(event_log, "other", 1, 'x');
    (void)fake_log_texts(event_log, "o.us", 1, 'c');
    (void)fake_log_texts(event_log, "o.eu", 1, 'd');
    assert_int_equal(subscribe("o.*", "earliest"), CMQ_OK);
    assert_frame(MSGS("o.eu", ITEM("1-0", "a0")));
    assert_frame(MSGS("o.us", ITEM("2-0", "b0") "," ITEM("4-0", "c0")));
    assert_frame(MSGS("o.eu", ITEM("5-0", "d0")));
    assert_tail();
}

static void units_of_a_record_are_matched_one_by_one(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xa1, 'x', 0xa1, 'y'};
    const struct fake_unit units[] = {{.topic = "a", .messages = {plain, 4}, .count = 2},
                                      {.topic = "b", .messages = {plain, 2}, .count = 1},
                                      {.topic = "a", .messages = {plain, 2}, .count = 1}};
    (void)fake_log_seal(event_log, units, 3);
    assert_int_equal(subscribe("a", "earliest"), CMQ_OK);
    assert_frame(MSGS("a", ITEM("1-0", "x") "," ITEM("1-1", "y") "," ITEM("1-3", "x")));
    assert_int_equal(subscribe(">", "earliest"), CMQ_OK);
    assert_frame(MSGS("a", ITEM("1-0", "x") "," ITEM("1-1", "y")));
    assert_frame(MSGS("b", ITEM("1-2", "x")));
    assert_frame(MSGS("a", ITEM("1-3", "x")));
    assert_tail();
}

static void frame_limits_cut_inside_a_record(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 5, 'a');
    limits.frame_messages_max = 2;
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_frame(MSGS("t", ITEM("1-0", "a0") "," ITEM("1-1", "a1")));
    assert_frame(MSGS("t", ITEM("1-2", "a2") "," ITEM("1-3", "a3")));
    assert_frame(MSGS("t", ITEM("1-4", "a4")));
    assert_tail();
}

static void frame_never_has_more_bytes_than_its_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        (void)fake_log_texts(event_log, "t", 50, 'a');
    limits.frame_bytes_max = 1000;
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    unsigned frames = 0;
    while (fill() == DSP_SUB_FRAME) {
        assert_true(text.bytes <= 1000);
        assert_int_equal(dsp_text_start(&text)[text.bytes - 1], '}');
        frames++;
    }
    assert_true(frames >= 50);
}

static void records_of_other_topics_are_not_decrypted(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        (void)fake_log_texts(event_log, "other", 1, 'x');
    (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_frame(MSGS("t", ITEM("101-0", "a0")));
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_SEALS), 1);
}

static void long_search_lets_others_have_their_turn(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5000; i++)
        (void)fake_log_add_void(event_log);
    (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_int_equal(fill(), DSP_SUB_MORE);
    assert_int_equal(fill(), DSP_SUB_MORE);
    assert_frame(MSGS("t", ITEM("5001-0", "a0")));
}

static void who_waits_passes_what_is_not_its_own(void **state)
{
    (void)state;
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_true(dsp_sub_pass(&sub, source));
    (void)fake_log_texts(event_log, "other", 2, 'x');
    (void)fake_log_texts(event_log, "another", 1, 'y');
    assert_true(dsp_sub_pass(&sub, source));
    assert_int_equal(sub.cursor.next.seq, 3);
    (void)fake_log_texts(event_log, "other", 1, 'z');
    (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_false(dsp_sub_pass(&sub, source));
    assert_int_equal(sub.cursor.next.seq, 4);
    assert_frame(MSGS("t", ITEM("4-0", "a0")));
    assert_true(dsp_sub_pass(&sub, source));
    (void)fake_log_texts(event_log, "other", 1, 'v');
    fake_log_damage(event_log, 5);
    assert_false(dsp_sub_pass(&sub, source));
    assert_frame(GAP("5-0", "6-0", "damaged"));
    assert_true(dsp_sub_pass(&sub, source));
    for (int i = 0; i < 100; i++)
        (void)fake_log_texts(event_log, "other", 1, 'w');
    assert_false(dsp_sub_pass(&sub, source)); /* that many are for its turn */
    assert_tail();
    assert_int_equal(sub.cursor.next.seq, 106);
}

static void two_subscribers_share_what_was_opened_and_read(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++)
        (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_int_equal(fill(), DSP_SUB_FRAME);
    uint64_t opened = fake_log_counter(event_log, CMQ_COUNT_SEALS);
    const unsigned reads = (unsigned)event_log->reads;
    assert_in_range(reads, 1, 2);
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_int_equal(fill(), DSP_SUB_FRAME);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_SEALS), opened);
    assert_int_equal(event_log->reads, reads);
}

/* Left-out messages only: nothing to send, nothing to stop at. */
static void messages_that_were_left_out_are_passed(void **state)
{
    (void)state;
    static const uint8_t nil[] = {0xc0};
    const struct fake_unit unit = {.topic = "t", .messages = {nil, 1}, .count = 1};
    (void)fake_log_seal(event_log, &unit, 1);
    assert_int_equal(subscribe(">", "earliest"), CMQ_OK);
    assert_tail();
    (void)fake_log_seal(event_log, &unit, 1);
    (void)fake_log_texts(event_log, "u", 1, 'a');
    assert_frame(MSGS("u", ITEM("3-0", "a0")));
}

static void messagepack_frame_counts_its_items(void **state)
{
    (void)state;
    enum cmq_err err = CMQ_OK;
    struct cmq_mp_reader reader;
    struct cmq_mp_value value;
    (void)fake_log_texts(event_log, "t", 300, 'a');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    limits.frame_bytes_max = 1 << 20;
    assert_int_equal(dsp_sub_fill(&sub, &encoder, DSP_FORMAT_MSGPACK, &limits, &text, &err), DSP_SUB_FRAME);
    cmq_mp_reader_init(&reader, cmq_span_make(dsp_text_start(&text), text.bytes));
    for (unsigned i = 0; i < 8; i++) /* map, "msgs", map, "sub", 2, "topic", "t", "items" */
        assert_int_equal(cmq_mp_read(&reader, &value), CMQ_OK);
    assert_int_equal(cmq_mp_read(&reader, &value), CMQ_OK);
    assert_int_equal(value.type, CMQ_MP_ARRAY);
    assert_int_equal(value.count, 300);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(cmq_mp_skip(&reader), CMQ_OK);
    assert_int_equal(cmq_mp_left(&reader), 0);
}

/* ---- where it begins ---- */

static void latest_begins_behind_what_is_stored(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_int_equal(subscribe("t", "latest"), CMQ_OK);
    assert_int_equal(sub.cursor.next.seq, 2);
    assert_tail();
    (void)fake_log_texts(event_log, "t", 1, 'b');
    assert_frame(MSGS("t", ITEM("2-0", "b0")));
}

static void id_begins_behind_that_message(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 3, 'a');
    assert_int_equal(subscribe("t", "1-0"), CMQ_OK);
    assert_frame(MSGS("t", ITEM("1-1", "a1") "," ITEM("1-2", "a2")));
    assert_int_equal(subscribe("t", "1-2"), CMQ_OK);
    assert_tail();
    assert_int_equal(subscribe("t", "1-4294967295"), CMQ_OK);
    assert_tail();
    assert_int_equal(subscribe("t", "0-0"), CMQ_OK);
    assert_frame(MSGS("t", ITEM("1-0", "a0") "," ITEM("1-1", "a1") "," ITEM("1-2", "a2")));
}

static void wrong_places_to_begin_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "now", "12", "1-", "-1", "01-0", "2-0", "99-0", "Earliest"};
    (void)fake_log_texts(event_log, "t", 3, 'a');
    for (unsigned i = 0; i < CMQ_COUNT_OF(wrong); i++)
        assert_int_equal(subscribe("t", wrong[i]), CMQ_ERR_INVALID);
    assert_int_equal(subscribe("t", "1-99"), CMQ_OK);
}

/* ---- gaps ---- */

static void id_that_was_given_may_come_before_it_is_stored(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    (void)fake_log_texts(event_log, "t", 1, 'b');
    (void)fake_log_texts(event_log, "t", 1, 'c');
    fake_log_set_stored(event_log, 2);
    assert_int_equal(subscribe("t", "4-0"), CMQ_ERR_INVALID);
    assert_int_equal(subscribe("t", "2-0"), CMQ_OK);
    assert_tail();
    fake_log_set_stored(event_log, UINT64_MAX);
    assert_frame(MSGS("t", ITEM("3-0", "c0")));
}

static void what_retention_has_taken_is_told(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        (void)fake_log_texts(event_log, "t", 2, 'a');
    fake_log_set_floor(event_log, 4);
    assert_int_equal(subscribe("t", "2-0"), CMQ_OK);
    assert_frame(GAP("2-1", "4-0", "retention"));
    assert_frame(
        MSGS("t", ITEM("4-0", "a0") "," ITEM("4-1", "a1") "," ITEM("5-0", "a0") "," ITEM("5-1", "a1")));
    assert_tail();
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_int_equal(sub.cursor.next.seq, 4);
}

static void damaged_records_are_told_behind_what_comes_before_them(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        (void)fake_log_texts(event_log, "t", 1, 'a');
    fake_log_damage(event_log, 2);
    fake_log_damage(event_log, 3);
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_frame(MSGS("t", ITEM("1-0", "a0")));
    assert_frame(GAP("2-0", "4-0", "damaged"));
    assert_frame(MSGS("t", ITEM("4-0", "a0")));
    assert_tail();
}

static void unit_that_cannot_be_opened_is_told_to_its_subscribers_only(void **state)
{
    (void)state;
    uint64_t seq = fake_log_texts(event_log, "t", 3, 'a');
    fake_log_flip(event_log, seq, fake_log_payload_bytes(event_log, seq) - 1);
    (void)fake_log_texts(event_log, "t", 1, 'b');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_frame(GAP("1-0", "1-3", "damaged"));
    assert_frame(MSGS("t", ITEM("2-0", "b0")));
    assert_int_equal(subscribe("u", "earliest"), CMQ_OK);
    assert_tail();
}

static void messages_behind_a_bad_one_are_told(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xa1, 'x', 0x05, 0xa1, 'y'};
    const struct fake_unit unit = {.topic = "t", .messages = {plain, 5}, .count = 3};
    (void)fake_log_seal(event_log, &unit, 1);
    (void)fake_log_texts(event_log, "t", 1, 'b');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    assert_frame(MSGS("t", ITEM("1-0", "x")));
    assert_frame(GAP("1-1", "1-3", "damaged"));
    assert_frame(MSGS("t", ITEM("2-0", "b0")));
}

static void failing_log_is_a_fault_of_the_process(void **state)
{
    (void)state;
    enum cmq_err err = CMQ_OK;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    event_log->fail = CMQ_ERR_SYSTEM;
    assert_int_equal(dsp_sub_fill(&sub, &encoder, DSP_FORMAT_JSON, &limits, &text, &err), DSP_SUB_FAILED);
    assert_int_equal(err, CMQ_ERR_SYSTEM);
}

static void backlog_costs_no_memory(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2000; i++)
        (void)fake_log_texts(event_log, "t", 100, 'a');
    assert_int_equal(subscribe("t", "earliest"), CMQ_OK);
    limits.frame_bytes_max = 65536;
    while (fill() == DSP_SUB_FRAME)
        assert_true(dsp_source_bytes(source) <= CACHE_BYTES);
    assert_int_equal(sub.cursor.next.seq, 2001);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(id_that_was_given_may_come_before_it_is_stored),
        TEST(frame_takes_all_of_a_topic_over_several_records),
        TEST(frame_has_one_topic_and_order_is_kept),
        TEST(units_of_a_record_are_matched_one_by_one),
        TEST(frame_limits_cut_inside_a_record),
        TEST(frame_never_has_more_bytes_than_its_limit),
        TEST(records_of_other_topics_are_not_decrypted),
        TEST(long_search_lets_others_have_their_turn),
        TEST(who_waits_passes_what_is_not_its_own),
        TEST(two_subscribers_share_what_was_opened_and_read),
        TEST(messages_that_were_left_out_are_passed),
        TEST(messagepack_frame_counts_its_items),
        TEST(latest_begins_behind_what_is_stored),
        TEST(id_begins_behind_that_message),
        TEST(wrong_places_to_begin_are_refused),
        TEST(what_retention_has_taken_is_told),
        TEST(damaged_records_are_told_behind_what_comes_before_them),
        TEST(unit_that_cannot_be_opened_is_told_to_its_subscribers_only),
        TEST(messages_behind_a_bad_one_are_told),
        TEST(failing_log_is_a_fault_of_the_process),
        TEST(backlog_costs_no_memory),
    };
    return cmocka_run_group_tests_name("dsp_sub", tests, NULL, NULL);
}
