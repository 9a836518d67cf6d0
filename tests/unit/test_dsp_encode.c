#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_encode.h"
#include "tests/support/fake_log.h"

enum { CACHE_BYTES = 8 << 20, PLAIN_BYTES = 1 << 20 };
#define ALL UINT32_MAX

static struct fake_log *event_log;
static struct dsp_source *source;
static struct dsp_encoder encoder;
static struct dsp_text text;
static struct dsp_record *record;
static struct dsp_items items;
static uint8_t plain[PLAIN_BYTES];
static size_t plain_bytes;
static uint32_t plain_count;

static int setup(void **state)
{
    (void)state;
    struct cmq_reason reason = {{0}};
    event_log = fake_log_new();
    const struct dsp_source_setup source_setup = {
        .directory = "unused", .cache_bytes = CACHE_BYTES, .free_encoded = dsp_encode_free};
    assert_int_equal(dsp_source_new(&source_setup, event_log->ring, event_log->opening, &source, &reason),
                     CMQ_OK);
    assert_int_equal(dsp_encoder_init(&encoder, source), CMQ_OK);
    assert_int_equal(dsp_text_init(&text, 16, 4096), CMQ_OK);
    plain_bytes = 0;
    plain_count = 0;
    record = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (record != NULL)
        dsp_source_put(source, record);
    dsp_text_fini(&text);
    dsp_encoder_fini(&encoder);
    dsp_source_free(source);
    fake_log_free(event_log);
    return 0;
}

/* ---- messages in, text out ---- */

static void add_text(const char *body)
{
    const struct cmq_message_full message = {.text = true, .body = cmq_span_make(body, strlen(body))};
    plain_bytes += cmq_message_write(plain + plain_bytes, &message);
    plain_count++;
}

static void add_full(const struct cmq_message_full *message)
{
    plain_bytes += cmq_message_write(plain + plain_bytes, message);
    plain_count++;
}

static void add_left_out(void)
{
    plain[plain_bytes++] = 0xc0;
    plain_count++;
}

/* Seals what was added as a record of one unit, and opens it. */
static void publish(uint32_t claimed)
{
    uint64_t next;
    const struct fake_unit unit = {
        .topic = "t", .messages = cmq_span_make(plain, plain_bytes), .count = claimed};
    assert_int_equal(dsp_source_get(source, fake_log_seal(event_log, &unit, 1), NULL, &record, &next),
                     CMQ_OK);
    assert_int_equal(dsp_source_open(source, record), CMQ_OK);
}

static void begin(enum dsp_format format, size_t bytes_max, uint32_t count_max)
{
    dsp_text_begin(&text);
    items =
        (struct dsp_items){.text = &text, .format = format, .bytes_max = bytes_max, .count_max = count_max};
}

static uint32_t shared_from(uint32_t index)
{
    uint32_t next = 0;
    assert_int_equal(dsp_encode_shared(&encoder, record, &record->units[0], index, &items, &next), CMQ_OK);
    return next;
}

static void assert_text(const char *expected)
{
    if (text.bytes != strlen(expected) || memcmp(dsp_text_start(&text), expected, text.bytes) != 0)
        fail_msg("got %.*s", (int)text.bytes, (const char *)dsp_text_start(&text));
}

/* What an encoded form may look like, whatever the page is: item `index` of a record of add_numbered. */
static void assert_numbered(uint32_t first, uint32_t count)
{
    char expected[128];
    const char *at = (const char *)dsp_text_start(&text), *end = at + text.bytes;
    for (uint32_t i = first; i < first + count; i++) {
        int bytes = snprintf(expected, sizeof(expected),
                             "{\"id\":\"1-%u\",\"data\":\"n%u\",\"ts\":1700000000000},", i, i);
        assert_true(end - at >= bytes);
        assert_memory_equal(at, expected, (size_t)bytes);
        at += bytes;
    }
    assert_ptr_equal(at, end);
}

static void publish_numbered(uint32_t count)
{
    char body[16];
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(body, sizeof(body), "n%u", i);
        add_text(body);
    }
    publish(count);
}

/* ---- forms ---- */

static void text_becomes_a_json_item(void **state)
{
    (void)state;
    add_text("hello \"you\"\n");
    add_text("");
    publish(2);
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(shared_from(0), 2);
    assert_int_equal(items.count, 2);
    assert_text("{\"id\":\"1-0\",\"data\":\"hello \\\"you\\\"\\n\",\"ts\":1700000000000},"
                "{\"id\":\"1-1\",\"data\":\"\",\"ts\":1700000000000},");
}

static void json_text_is_the_value_itself(void **state)
{
    (void)state;
    const struct cmq_message_full message = {.text = true,
                                             .body = {(const uint8_t *)"{\"a\":[1,2]}", 11},
                                             .type = {(const uint8_t *)"application/json", 16}};
    add_full(&message);
    publish(1);
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(shared_from(0), 1);
    assert_text("{\"id\":\"1-0\",\"data\":{\"a\":[1,2]},\"ts\":1700000000000},");
}

static void other_types_and_ids_of_publishers(void **state)
{
    (void)state;
    const struct cmq_message_full message = {.text = true,
                                             .body = {(const uint8_t *)"<a/>", 4},
                                             .type = {(const uint8_t *)"text/xml", 8},
                                             .id = {(const uint8_t *)"order-7", 7}};
    add_full(&message);
    publish(1);
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(shared_from(0), 1);
    assert_text("{\"id\":\"1-0\",\"data\":\"<a/>\",\"type\":\"text/xml\",\"ts\":1700000000000},");
}

static void octets_become_base64(void **state)
{
    (void)state;
    static const char *const encoded[] = {"", "AQ==", "AQL+", "AQL+/w=="};
    static const uint8_t octets[] = {1, 2, 0xfe, 0xff};
    static const size_t sizes[] = {0, 1, 3, 4};
    char expected[512];
    size_t bytes = 0;
    for (unsigned i = 0; i < 4; i++) {
        const struct cmq_message_full message = {.body = {octets, sizes[i]}};
        add_full(&message);
        bytes +=
            (size_t)snprintf(expected + bytes, sizeof(expected) - bytes,
                             "{\"id\":\"1-%u\",\"data_base64\":\"%s\",\"ts\":1700000000000},", i, encoded[i]);
    }
    publish(4);
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(shared_from(0), 4);
    assert_text(expected);
}

static void headers_become_an_object(void **state)
{
    (void)state;
    static const uint8_t map[] = "\x82\xa3"
                                 "who\xa2me\xa1q\xc0";
    const struct cmq_message_full message = {
        .text = true, .body = {(const uint8_t *)"x", 1}, .headers = {map, sizeof(map) - 1}};
    add_full(&message);
    publish(1);
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(shared_from(0), 1);
    assert_text(
        "{\"id\":\"1-0\",\"data\":\"x\",\"headers\":{\"who\":\"me\",\"q\":null},\"ts\":1700000000000},");
}

static void messagepack_items_are_the_same_maps(void **state)
{
    (void)state;
    const struct cmq_message_full octets = {.body = {(const uint8_t *)"\1\2", 2},
                                            .type = {(const uint8_t *)"image/x", 7}};
    add_text("hi");
    add_full(&octets);
    publish(2);
    begin(DSP_FORMAT_MSGPACK, 4096, ALL);
    assert_int_equal(shared_from(0), 2);
    assert_int_equal(items.count, 2);
    static const char expected[] = "\x83\xa2id\xa3"
                                   "1-0\xa4"
                                   "data\xa2hi\xa2ts\xcf\0\0\x01\x8b\xcf\xe5\x68\0"
                                   "\x84\xa2id\xa3"
                                   "1-1\xa4"
                                   "data\xc4\2\1\2\xa4type\xa7image/x\xa2ts\xcf\0\0\x01\x8b\xcf\xe5\x68\0";
    assert_int_equal(text.bytes, sizeof(expected) - 1);
    assert_memory_equal(dsp_text_start(&text), expected, text.bytes);
}

static void left_out_messages_are_no_items_but_keep_their_index(void **state)
{
    (void)state;
    add_left_out();
    add_text("b");
    add_left_out();
    add_text("d");
    publish(4);
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(shared_from(0), 4);
    assert_int_equal(items.count, 2);
    assert_text("{\"id\":\"1-1\",\"data\":\"b\",\"ts\":1700000000000},"
                "{\"id\":\"1-3\",\"data\":\"d\",\"ts\":1700000000000},");
    begin(DSP_FORMAT_JSON, 4096, 1);
    assert_int_equal(shared_from(0), 3);
    assert_int_equal(items.count, 1);
}

static void what_is_no_message_ends_the_items_before_it(void **state)
{
    (void)state;
    add_text("a");
    plain[plain_bytes++] = 0x05; /* a number */
    add_text("c");
    publish(3);
    uint32_t next;
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(dsp_encode_shared(&encoder, record, &record->units[0], 0, &items, &next),
                     CMQ_ERR_MALFORMED);
    assert_int_equal(next, 1);
    assert_int_equal(items.count, 1);
}

/* ---- frames ---- */

static void frame_may_begin_and_end_at_any_message(void **state)
{
    (void)state;
    publish_numbered(3000);
    for (uint32_t first = 0; first < 3000; first += 97) {
        begin(DSP_FORMAT_JSON, SIZE_MAX, 1 + first % 1500);
        uint32_t count = first + 1 + first % 1500 > 3000 ? 3000 - first : 1 + first % 1500;
        assert_int_equal(shared_from(first), first + count);
        assert_int_equal(items.count, count);
        assert_numbered(first, count);
    }
}

static void frame_keeps_its_bytes(void **state)
{
    (void)state;
    publish_numbered(3000);
    uint32_t index = 0, frames = 0;
    while (index < 3000) {
        begin(DSP_FORMAT_JSON, 3000, ALL);
        uint32_t next = shared_from(index);
        assert_true(next > index);
        assert_true(text.bytes <= 3000);
        assert_true(next == 3000 || text.bytes > 3000 - 60);
        assert_numbered(index, next - index);
        index = next;
        frames++;
    }
    assert_true(frames > 30);
}

static void single_item_that_is_larger_goes_alone(void **state)
{
    (void)state;
    static char large[20000];
    memset(large, 'x', sizeof(large) - 1);
    add_text("a");
    add_text(large);
    add_text("c");
    publish(3);
    begin(DSP_FORMAT_JSON, 1000, ALL);
    assert_int_equal(shared_from(0), 1);
    begin(DSP_FORMAT_JSON, 1000, ALL);
    assert_int_equal(shared_from(1), 2);
    assert_true(text.bytes > 20000);
    begin(DSP_FORMAT_JSON, 1000, ALL);
    assert_int_equal(shared_from(2), 3);
}

static void second_subscriber_finds_the_items_encoded(void **state)
{
    (void)state;
    publish_numbered(3000);
    begin(DSP_FORMAT_JSON, SIZE_MAX, ALL);
    assert_int_equal(shared_from(0), 3000);
    size_t bytes = dsp_source_bytes(source);
    assert_non_null(record->encoded[DSP_FORMAT_JSON]);
    assert_null(record->encoded[DSP_FORMAT_MSGPACK]);
    begin(DSP_FORMAT_JSON, SIZE_MAX, ALL);
    assert_int_equal(shared_from(0), 3000);
    assert_int_equal(dsp_source_bytes(source), bytes);
    assert_numbered(0, 3000);
}

static void only_what_a_frame_needs_is_encoded(void **state)
{
    (void)state;
    publish_numbered(30000);
    size_t before = dsp_source_bytes(source);
    begin(DSP_FORMAT_JSON, 2000, ALL);
    assert_true(shared_from(15000) < 15100);
    assert_true(dsp_source_bytes(source) - before < 200000);
}

/* ---- messages whose time ends ---- */

static uint64_t now_ms;

static uint64_t clock_ms(void)
{
    return now_ms;
}

static void add_until(const char *body, uint64_t expiry_ms)
{
    const struct cmq_message_full message = {
        .text = true, .body = cmq_span_make(body, strlen(body)), .expiry_ms = expiry_ms};
    add_full(&message);
}

#define A "{\"id\":\"1-0\",\"data\":\"a\",\"ts\":1700000000000},"
#define B "{\"id\":\"1-1\",\"data\":\"b\",\"ts\":1700000000000},"
#define C "{\"id\":\"1-2\",\"data\":\"c\",\"ts\":1700000000000},"

static void assert_items_at(uint64_t ms, const char *expected)
{
    now_ms = ms;
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(shared_from(0), 3);
    assert_text(expected);
}

static void shared_items_go_when_their_time_is_over(void **state)
{
    (void)state;
    encoder.clock_ms = clock_ms;
    add_until("a", 300);
    add_until("b", 200);
    add_text("c");
    publish(3);
    assert_items_at(199, A B C);
    const size_t bytes = dsp_source_bytes(source);
    assert_items_at(200, A C);
    assert_int_equal(items.count, 2);
    assert_items_at(299, A C);
    assert_items_at(300, C);
    assert_items_at(100000, C);
    assert_int_equal(dsp_source_bytes(source), bytes);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_EXPIRED), 2);
}

static void messages_that_are_over_at_once_are_no_items_and_counted_once(void **state)
{
    (void)state;
    encoder.clock_ms = clock_ms;
    add_until("a", 300);
    add_left_out();
    add_until("c", 500);
    publish(3);
    assert_items_at(400, C);
    assert_items_at(400, C);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_EXPIRED), 1);
    assert_items_at(500, "");
    assert_int_equal(items.count, 0);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_EXPIRED), 2);
}

static void what_is_over_does_not_come_back_when_the_clock_is_set_back(void **state)
{
    (void)state;
    encoder.clock_ms = clock_ms;
    add_until("a", 300);
    add_until("b", 600);
    add_text("c");
    publish(3);
    assert_items_at(400, B C);
    assert_items_at(100, B C);
    assert_items_at(600, C);
    assert_items_at(100, C);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_EXPIRED), 2);
}

static void run_leaves_out_what_is_over(void **state)
{
    (void)state;
    uint32_t taken, left_out;
    size_t bytes;
    add_until("a", 300);
    add_until("b", 301);
    const struct dsp_run run = {.seq = 1,
                                .ts_ms = 1700000000000,
                                .count = 2,
                                .messages = cmq_span_make(plain, plain_bytes),
                                .now_ms = 300};
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(dsp_encode_run(&items, &run, &taken, &bytes, &left_out), CMQ_OK);
    assert_int_equal(taken, 2);
    assert_int_equal(left_out, 1);
    assert_text(B);
}

/* ---- groups ---- */

static void run_has_attempts_and_may_end_anywhere(void **state)
{
    (void)state;
    uint32_t taken, left_out;
    size_t bytes;
    add_text("a");
    add_left_out();
    add_text("c");
    const struct dsp_run run = {.seq = 9,
                                .ts_ms = 5,
                                .first = 7,
                                .count = 3,
                                .attempt = 2,
                                .messages = cmq_span_make(plain, plain_bytes)};
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(dsp_encode_run(&items, &run, &taken, &bytes, &left_out), CMQ_OK);
    assert_int_equal(taken, 3);
    assert_int_equal(bytes, plain_bytes);
    assert_int_equal(left_out, 1);
    assert_text("{\"id\":\"9-7\",\"data\":\"a\",\"ts\":5,\"attempt\":2},{\"id\":\"9-9\",\"data\":\"c\","
                "\"ts\":5,\"attempt\":2},");
    begin(DSP_FORMAT_JSON, 60, ALL);
    assert_int_equal(dsp_encode_run(&items, &run, &taken, &bytes, &left_out), CMQ_OK);
    assert_int_equal(taken, 2);
    assert_int_equal(bytes, 3);
    assert_int_equal(items.count, 1);
}

static void indexes_count_in_decimal_over_every_boundary(void **state)
{
    (void)state;
    static const uint32_t starts[] = {0, 8, 98, 999, 9999999, 99999998, 999999999, 4294967290u};
    for (unsigned i = 0; i < CMQ_COUNT_OF(starts); i++) {
        uint32_t taken, left_out;
        size_t bytes, at = 0;
        char expected[512];
        plain_bytes = 0;
        for (unsigned j = 0; j < 4; j++) {
            add_text("m");
            at += (size_t)snprintf(expected + at, sizeof(expected) - at,
                                   "{\"id\":\"3-%u\",\"data\":\"m\",\"ts\":1},", starts[i] + j);
        }
        const struct dsp_run run = {.seq = 3,
                                    .ts_ms = 1,
                                    .first = starts[i],
                                    .count = 4,
                                    .messages = cmq_span_make(plain, plain_bytes)};
        begin(DSP_FORMAT_JSON, 4096, ALL);
        assert_int_equal(dsp_encode_run(&items, &run, &taken, &bytes, &left_out), CMQ_OK);
        assert_text(expected);
    }
}

static void largest_numbers_have_room(void **state)
{
    (void)state;
    uint32_t taken, left_out;
    size_t bytes;
    add_text("m");
    const struct dsp_run run = {.seq = UINT64_MAX,
                                .ts_ms = UINT64_MAX,
                                .first = UINT32_MAX,
                                .count = 1,
                                .attempt = UINT32_MAX,
                                .messages = cmq_span_make(plain, plain_bytes)};
    begin(DSP_FORMAT_JSON, 4096, ALL);
    assert_int_equal(dsp_encode_run(&items, &run, &taken, &bytes, &left_out), CMQ_OK);
    assert_text("{\"id\":\"18446744073709551615-4294967295\",\"data\":\"m\",\"ts\":18446744073709551615,"
                "\"attempt\":4294967295},");
    begin(DSP_FORMAT_MSGPACK, 4096, ALL);
    assert_int_equal(dsp_encode_run(&items, &run, &taken, &bytes, &left_out), CMQ_OK);
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, cmq_span_make(dsp_text_start(&text), text.bytes));
    assert_int_equal(cmq_mp_skip(&reader), CMQ_OK);
    assert_int_equal(cmq_mp_left(&reader), 0);
}

/* ---- maps ---- */

static void write_sample(enum dsp_format format)
{
    dsp_text_begin(&text);
    struct dsp_writer writer = dsp_writer_of(&text, format);
    dsp_write_map(&writer, 3);
    dsp_write_key(&writer, "id");
    dsp_write_nil(&writer);
    dsp_write_key(&writer, "ok");
    dsp_write_map(&writer, 0);
    dsp_write_map_end(&writer);
    dsp_write_key(&writer, "list");
    dsp_write_array(&writer, 2);
    dsp_write_uint(&writer, 300);
    dsp_write_text(&writer, "a\"b");
    dsp_write_array_end(&writer);
    dsp_write_map_end(&writer);
    assert_int_equal(text.err, CMQ_OK);
}

static void maps_are_written_in_both_formats(void **state)
{
    (void)state;
    write_sample(DSP_FORMAT_JSON);
    assert_text("{\"id\":null,\"ok\":{},\"list\":[300,\"a\\\"b\"]}");
    write_sample(DSP_FORMAT_MSGPACK);
    assert_text("\x83\xa2id\xc0\xa2ok\x80\xa4list\x92\xcd\x01\x2c\xa3"
                "a\"b");
}

static void text_gives_back_what_a_large_one_needed(void **state)
{
    (void)state;
    dsp_text_begin(&text);
    assert_non_null(dsp_text_room(&text, 1 << 20));
    assert_true(text.capacity >= 1 << 20);
    for (unsigned i = 0; i < 100; i++) {
        dsp_text_begin(&text);
        dsp_text_add(&text, "x", 1);
    }
    assert_int_equal(text.capacity, 4096);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(text_becomes_a_json_item),
        TEST(json_text_is_the_value_itself),
        TEST(other_types_and_ids_of_publishers),
        TEST(octets_become_base64),
        TEST(headers_become_an_object),
        TEST(messagepack_items_are_the_same_maps),
        TEST(left_out_messages_are_no_items_but_keep_their_index),
        TEST(what_is_no_message_ends_the_items_before_it),
        TEST(frame_may_begin_and_end_at_any_message),
        TEST(frame_keeps_its_bytes),
        TEST(single_item_that_is_larger_goes_alone),
        TEST(second_subscriber_finds_the_items_encoded),
        TEST(only_what_a_frame_needs_is_encoded),
        TEST(shared_items_go_when_their_time_is_over),
        TEST(messages_that_are_over_at_once_are_no_items_and_counted_once),
        TEST(what_is_over_does_not_come_back_when_the_clock_is_set_back),
        TEST(run_leaves_out_what_is_over),
        TEST(run_has_attempts_and_may_end_anywhere),
        TEST(indexes_count_in_decimal_over_every_boundary),
        TEST(largest_numbers_have_room),
        TEST(maps_are_written_in_both_formats),
        TEST(text_gives_back_what_a_large_one_needed),
    };
    return cmocka_run_group_tests_name("dsp_encode", tests, NULL, NULL);
}
