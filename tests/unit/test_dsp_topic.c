#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_topic.h"
#include "tests/support/fake_log.h"

enum { CACHE_BYTES = 1 << 20, HEADROOM = 32, ARGS_MAX = 4 };

static struct fake_log *event_log;
static struct dsp_source *source;
static struct dsp_encoder encoder;
static struct dsp_text text;
static struct dsp_push_limits limits;
static struct dsp_topic_request request;
static struct dsp_feed feed;
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
    assert_int_equal(dsp_text_init(&text, HEADROOM, 4096), CMQ_OK);
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

/* args: separated by '&'; last_event_id: NULL or the header. */
static enum cmq_err parse(const char *path, const char *args, const char *last_event_id)
{
    struct cmq_span spans[ARGS_MAX];
    struct dsp_topic_query query = {.path = span_of(path), .args = spans};
    while (args[0] != '\0') {
        size_t bytes = strcspn(args, "&");
        assert_true(query.arg_count < ARGS_MAX);
        spans[query.arg_count++] = cmq_span_make(args, bytes);
        args += bytes + (args[bytes] == '&');
    }
    if (last_event_id != NULL)
        query.last_event_id = span_of(last_event_id);
    return dsp_topic_parse(&query, &request, &reason);
}

static void open_feed(const char *path, const char *args)
{
    assert_int_equal(parse(path, args, NULL), CMQ_OK);
    assert_int_equal(dsp_feed_init(&feed, &request, source, &reason), CMQ_OK);
}

static enum dsp_feed_result next(void)
{
    enum cmq_err err = CMQ_OK;
    enum dsp_feed_result result = dsp_feed_next(&feed, &encoder, &limits, &text, &err);
    assert_int_equal(err, CMQ_OK);
    return result;
}

static void assert_text(const char *expected)
{
    if (text.bytes != strlen(expected) || memcmp(dsp_text_start(&text), expected, text.bytes) != 0)
        fail_msg("got %.*s", (int)text.bytes, (const char *)dsp_text_start(&text));
}

static void assert_next(const char *expected)
{
    assert_int_equal(next(), DSP_FEED_TEXT);
    assert_text(expected);
}

#define REST(id, data)        "\"id\":\"" id "\",\"data\":\"" data "\",\"ts\":1700000000000}"
#define LINE(topic, id, data) "{\"topic\":\"" topic "\"," REST(id, data) "\n"
#define EVENT(topic, id, data) \
    "id: " id "\nevent: message\ndata: {\"topic\":\"" topic "\"," REST(id, data) "\n\n"

/* ---- requests ---- */

static void path_names_topic_and_kind(void **state)
{
    (void)state;
    assert_int_equal(parse("/t/orders.*/ws", "", NULL), CMQ_OK);
    assert_int_equal(request.kind, DSP_TOPIC_WS);
    assert_int_equal(request.pattern.bytes, 8);
    assert_memory_equal(request.pattern.data, "orders.*", 8);
    assert_int_equal(parse("/t/a.>/sse", "", NULL), CMQ_OK);
    assert_int_equal(request.kind, DSP_TOPIC_SSE);
    assert_int_equal(parse("/t/a/json", "", NULL), CMQ_OK);
    assert_int_equal(request.kind, DSP_TOPIC_JSON);
}

static void other_paths_are_not_found_and_bad_topics_are_bad(void **state)
{
    (void)state;
    static const char *const none[] = {"/t/",         "/t",         "/t/a",      "/t/a/",
                                       "/t/a/xml",    "/x/a/json",  "/t/a/ws/",  "/t//xx",
                                       "/t/a/b/json", "/t/a/jsonx", "/t/a/ sse", ""};
    static const char *const bad[] = {"/t//json", "/t/a..b/sse", "/t/a b/ws", "/t/>.a/json", "/t/a*/json"};
    for (size_t i = 0; i < CMQ_COUNT_OF(none); i++)
        assert_int_equal(parse(none[i], "", NULL), CMQ_ERR_NOT_FOUND);
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        assert_int_equal(parse(bad[i], "", NULL), CMQ_ERR_INVALID);
}

static void since_is_what_the_query_says_and_the_header_wins(void **state)
{
    (void)state;
    assert_int_equal(parse("/t/a/sse", "", NULL), CMQ_OK);
    assert_memory_equal(request.since.data, "latest", 6);
    assert_int_equal(parse("/t/a/json", "", NULL), CMQ_OK);
    assert_memory_equal(request.since.data, "earliest", 8);
    assert_int_equal(parse("/t/a/sse", "since=12-0", NULL), CMQ_OK);
    assert_memory_equal(request.since.data, "12-0", 4);
    assert_int_equal(parse("/t/a/sse", "since=12-0", "13-1"), CMQ_OK);
    assert_memory_equal(request.since.data, "13-1", 4);
}

static void limit_and_wait_are_for_json(void **state)
{
    (void)state;
    assert_int_equal(parse("/t/a/json", "limit=3&wait_ms=250&since=latest", NULL), CMQ_OK);
    assert_int_equal(request.limit, 3);
    assert_int_equal(request.wait_ms, 250);
    assert_int_equal(parse("/t/a/json", "wait_ms=0", NULL), CMQ_OK);
    assert_true(request.limit == UINT64_MAX);
    assert_int_equal(parse("/t/a/sse", "limit=3", NULL), CMQ_ERR_INVALID);
    assert_int_equal(parse("/t/a/ws", "wait_ms=3", NULL), CMQ_ERR_INVALID);
}

static void what_a_query_cannot_mean_is_refused_with_what_it_can(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "limit=0", "limit=-1", "limit=", "limit=1e3", "wait_ms=x",   "sinse=12-0",
        "since=",  "since",    "=1",     "limit",     "limit=1&x=1", "wait_ms=1234567890123456789"};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        assert_int_equal(parse("/t/a/json", bad[i], NULL), CMQ_ERR_INVALID);
        assert_true(strstr(reason.text, "limit") != NULL || strstr(reason.text, "wait_ms") != NULL);
    }
    assert_int_equal(parse("/t/a/json", "since=yesterday", NULL), CMQ_OK);
    assert_int_equal(dsp_feed_init(&feed, &request, source, &reason), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "earliest"));
}

/* ---- formats ---- */

static void events_have_id_kind_and_the_item_with_its_topic(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "o.eu", 2, 'a');
    (void)fake_log_texts(event_log, "other", 1, 'x');
    (void)fake_log_texts(event_log, "o.us", 1, 'b');
    open_feed("/t/o.*/sse", "since=earliest");
    assert_next(EVENT("o.eu", "1-0", "a0") EVENT("o.eu", "1-1", "a1") EVENT("o.us", "3-0", "b0"));
    assert_int_equal(next(), DSP_FEED_TAIL);
    (void)fake_log_texts(event_log, "o.eu", 1, 'c');
    assert_next(EVENT("o.eu", "4-0", "c0"));
}

static void lines_are_items_with_their_topic(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "o.eu", 1, 'a');
    (void)fake_log_texts(event_log, "o.us", 1, 'b');
    open_feed("/t/o.*/json", "");
    assert_next(LINE("o.eu", "1-0", "a0") LINE("o.us", "2-0", "b0"));
    assert_int_equal(next(), DSP_FEED_END);
}

static void frames_are_those_of_v1(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    open_feed("/t/t/ws", "since=earliest");
    assert_next("{\"msgs\":{\"sub\":1,\"topic\":\"t\",\"items\":[{" REST("1-0", "a0") "]}}");
}

static void publish(const char *topic, const struct cmq_message_full *messages, uint32_t count)
{
    uint8_t plain[4096];
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += cmq_message_write(plain + bytes, &messages[i]);
    const struct fake_unit unit = {.topic = topic, .messages = {plain, bytes}, .count = count};
    (void)fake_log_seal(event_log, &unit, 1);
}

static void line_breaks_of_json_become_blanks_and_those_of_text_stay_escaped(void **state)
{
    (void)state;
    static const char json[] = "{\r\n\t\"a\": [1,\n2],\n\"b\":\"x\\ny\"\n}";
    const struct cmq_message_full messages[] = {{.text = true,
                                                 .body = {(const uint8_t *)json, sizeof(json) - 1},
                                                 .type = span_of("application/json")},
                                                {.text = true, .body = span_of("one\ntwo\r")}};
    publish("t", messages, 2);
    open_feed("/t/t/sse", "since=earliest");
    assert_next("id: 1-0\nevent: message\ndata: {\"topic\":\"t\",\"id\":\"1-0\",\"data\":"
                "{  \t\"a\": [1, 2], \"b\":\"x\\ny\" },\"ts\":1700000000000}\n\n"
                "id: 1-1\nevent: message\ndata: {\"topic\":\"t\",\"id\":\"1-1\",\"data\":"
                "\"one\\ntwo\\r\",\"ts\":1700000000000}\n\n");
}

/* Every line and event is the item of the frame, word for word but for its topic. */
static void three_formats_carry_identical_items(void **state)
{
    (void)state;
    static const uint8_t octets[] = {0xff, 0, '\n'}, headers[] = {0x81, 0xa1, 'h', 0xa2, '"', '\n'};
    const struct cmq_message_full messages[] = {
        {.text = true, .body = span_of("plain \"quoted\" \x01")},
        {.text = false, .body = {octets, sizeof(octets)}, .type = span_of("image/png")},
        {.text = true, .body = span_of("{\"a\":1}"), .type = span_of("application/json")},
        {.text = true,
         .body = span_of("a,b"),
         .type = span_of("text/csv"),
         .headers = {headers, sizeof(headers)}},
        {.text = true, .body = span_of("")}};
    const uint32_t count = CMQ_COUNT_OF(messages);
    char frame[2048], *item = frame;
    publish("t", messages, count);
    open_feed("/t/t/ws", "since=earliest");
    assert_int_equal(next(), DSP_FEED_TEXT);
    assert_true(text.bytes < sizeof(frame));
    memcpy(frame, dsp_text_start(&text), text.bytes);
    frame[text.bytes - 3] = '\0'; /* what closes the array */
    item = strstr(frame, "[{") + 1;
    for (uint32_t i = 0; i < count; i++) {
        char since[64], line[2048], event[4096], *end = strstr(item, "},{\"id\"");
        if (end != NULL)
            end[1] = '\0';
        (void)snprintf(since, sizeof(since), i == 0 ? "since=0-4294967295&limit=1" : "since=1-%u&limit=1",
                       i - 1);
        (void)snprintf(line, sizeof(line), "{\"topic\":\"t\",%s\n", item + 1);
        open_feed("/t/t/json", since);
        assert_next(line);
        *strchr(since, '&') = '\0';
        limits.frame_messages_max = 1;
        (void)snprintf(event, sizeof(event), "id: 1-%u\nevent: message\ndata: %s\n", i, line);
        open_feed("/t/t/sse", since);
        assert_next(event);
        item += strlen(item) + 1;
    }
}

static void texts_keep_their_bytes_in_every_format(void **state)
{
    (void)state;
    static const char *const paths[] = {"/t/t/ws", "/t/t/sse", "/t/t/json"};
    for (unsigned i = 0; i < 20; i++)
        (void)fake_log_texts(event_log, "t", 50, 'a');
    limits.frame_bytes_max = 1000;
    for (size_t i = 0; i < CMQ_COUNT_OF(paths); i++) {
        unsigned texts = 0;
        open_feed(paths[i], "since=earliest");
        for (; next() == DSP_FEED_TEXT; texts++)
            assert_true(text.bytes <= 1000);
        assert_true(texts >= 50);
        assert_int_equal(feed.sub.cursor.next.seq, 21);
    }
}

/* ---- gaps ---- */

static void gap_is_an_event_whose_id_goes_on_behind_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 9; i++)
        (void)fake_log_texts(event_log, "t", 1, 'a');
    fake_log_set_floor(event_log, 9);
    open_feed("/t/t/sse", "since=2-0");
    assert_next("id: 8-4294967295\nevent: gap\n"
                "data: {\"from\":\"2-1\",\"to\":\"9-0\",\"reason\":\"retention\"}\n\n");
    assert_next(EVENT("t", "9-0", "a0"));
    open_feed("/t/t/sse", "since=8-4294967295");
    assert_next(EVENT("t", "9-0", "a0"));
}

static void gap_is_a_line(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    uint64_t bad = fake_log_texts(event_log, "t", 2, 'b');
    (void)fake_log_texts(event_log, "t", 1, 'c');
    fake_log_flip(event_log, bad, fake_log_payload_bytes(event_log, bad) - 1);
    open_feed("/t/t/json", "");
    assert_next(LINE("t", "1-0", "a0"));
    assert_next("{\"gap\":{\"from\":\"2-0\",\"to\":\"2-2\",\"reason\":\"damaged\"}}\n");
    assert_next(LINE("t", "3-0", "c0"));
    assert_int_equal(next(), DSP_FEED_END);
}

/* ---- json ends ---- */

static void json_ends_at_what_was_the_end_when_it_began(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    limits.frame_messages_max = 1;
    open_feed("/t/t/json", "");
    (void)fake_log_texts(event_log, "t", 1, 'b');
    assert_next(LINE("t", "1-0", "a0"));
    assert_int_equal(next(), DSP_FEED_END);
}

static void json_ends_at_its_limit(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 3, 'a');
    open_feed("/t/t/json", "limit=2");
    assert_next(LINE("t", "1-0", "a0") LINE("t", "1-1", "a1"));
    assert_int_equal(next(), DSP_FEED_END);
}

static void json_waits_for_a_first_message(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "other", 1, 'x');
    open_feed("/t/t/json", "wait_ms=1000");
    assert_int_equal(next(), DSP_FEED_TAIL);
    (void)fake_log_texts(event_log, "other", 1, 'x');
    assert_int_equal(next(), DSP_FEED_TAIL);
    (void)fake_log_texts(event_log, "t", 1, 'a');
    assert_next(LINE("t", "3-0", "a0"));
    assert_int_equal(next(), DSP_FEED_END);
    open_feed("/t/t/json", "wait_ms=1000&since=latest");
    assert_int_equal(next(), DSP_FEED_TAIL);
    dsp_feed_hurry(&feed);
    assert_int_equal(next(), DSP_FEED_END);
}

static void json_without_wait_ends_where_nothing_is(void **state)
{
    (void)state;
    open_feed("/t/t/json", "");
    assert_int_equal(next(), DSP_FEED_END);
    (void)fake_log_texts(event_log, "other", 1, 'x');
    open_feed("/t/t/json", "");
    assert_int_equal(next(), DSP_FEED_END);
}

/* ---- places ---- */

static void hello_says_where_to_go_on_before_any_message(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "t", 1, 'a');
    open_feed("/t/t/sse", "");
    dsp_feed_hello(&feed, 2000, &text);
    assert_text("retry: 2000\nid: 1-4294967295\n\n");
    (void)fake_log_texts(event_log, "t", 1, 'b');
    open_feed("/t/t/sse", "since=1-4294967295");
    assert_next(EVENT("t", "2-0", "b0"));
}

static void beat_says_the_place_only_if_it_is_another(void **state)
{
    (void)state;
    open_feed("/t/t/sse", "");
    dsp_feed_hello(&feed, 2000, &text);
    dsp_feed_beat(&feed, &text);
    assert_text(": \n\n");
    (void)fake_log_texts(event_log, "other", 1, 'x');
    assert_int_equal(next(), DSP_FEED_TAIL);
    dsp_feed_beat(&feed, &text);
    assert_text(": \nid: 1-4294967295\n\n");
    dsp_feed_beat(&feed, &text);
    assert_text(": \n\n");
    open_feed("/t/t/ws", "");
    dsp_feed_beat(&feed, &text);
    assert_text("{}");
}

static void text_becomes_a_chunk(void **state)
{
    (void)state;
    dsp_text_begin(&text);
    for (unsigned i = 0; i < 26; i++)
        dsp_text_add(&text, "0123456789", 10);
    assert_int_equal(dsp_topic_chunk(&text), 5);
    assert_int_equal(text.bytes, 262);
    assert_memory_equal(dsp_text_start(&text) - 5, "104\r\n0123", 9);
    assert_memory_equal(dsp_text_start(&text) + 258, "89\r\n", 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(path_names_topic_and_kind),
        TEST(other_paths_are_not_found_and_bad_topics_are_bad),
        TEST(since_is_what_the_query_says_and_the_header_wins),
        TEST(limit_and_wait_are_for_json),
        TEST(what_a_query_cannot_mean_is_refused_with_what_it_can),
        TEST(events_have_id_kind_and_the_item_with_its_topic),
        TEST(lines_are_items_with_their_topic),
        TEST(frames_are_those_of_v1),
        TEST(line_breaks_of_json_become_blanks_and_those_of_text_stay_escaped),
        TEST(three_formats_carry_identical_items),
        TEST(texts_keep_their_bytes_in_every_format),
        TEST(gap_is_an_event_whose_id_goes_on_behind_it),
        TEST(gap_is_a_line),
        TEST(json_ends_at_what_was_the_end_when_it_began),
        TEST(json_ends_at_its_limit),
        TEST(json_waits_for_a_first_message),
        TEST(json_without_wait_ends_where_nothing_is),
        TEST(hello_says_where_to_go_on_before_any_message),
        TEST(beat_says_the_place_only_if_it_is_another),
        TEST(text_becomes_a_chunk),
    };
    return cmocka_run_group_tests_name("dsp_topic", tests, NULL, NULL);
}
