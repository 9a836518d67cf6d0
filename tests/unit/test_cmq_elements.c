/* Lifetimes and headers of JSON elements: their own, and those of their request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_headers.h"
#include "tests/support/alloc_faults.h"
#include "tests/unit/wire_bodies.h"

typedef enum cmq_err parse_body(struct cmq_json_parser *, struct cmq_span, const struct cmq_json_limits *,
                                const struct cmq_element_defaults *, struct cmq_buf *,
                                struct cmq_json_found *, struct cmq_json_error *);

static struct cmq_json_parser *parser;
static struct cmq_buf messages;
static struct cmq_json_found found;
static struct cmq_json_error error;
static const struct cmq_json_limits limits = {
    .message_bytes_max = 1000, .messages_max = 100, .headers_bytes_max = 64, .ttl_ms_max = 5000};
/* {"r":"1","s":"2"} */
static const struct cmq_element_defaults request = {
    .accepted_at_ms = 1000,
    .ttl_ms = 70,
    .headers = {(const uint8_t *)"\x82\xa1r\xa1\x31\xa1s\xa1\x32", 9},
};
static const struct cmq_element_defaults clock_only = {.accepted_at_ms = 1000};

static int setup(void **state)
{
    (void)state;
    cmq_buf_init(&messages, 1 << 20);
    return cmq_json_parser_new(1 << 20, &parser) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cmq_buf_fini(&messages);
    cmq_json_parser_free(parser);
    return 0;
}

static enum cmq_err run(parse_body *parse, const char *body, const struct cmq_element_defaults *defaults)
{
    struct cmq_span span = cmq_span_make(body, strlen(body));
    uint8_t *padded = wire_padded(span, '}');
    messages.bytes = 0;
    found = (struct cmq_json_found){.messages = 77};
    enum cmq_err err =
        parse(parser, cmq_span_make(padded, span.bytes), &limits, defaults, &messages, &found, &error);
    free(padded);
    if (err != CMQ_OK) {
        assert_int_equal(messages.bytes, 0);
        assert_int_equal(found.messages, 77);
    }
    return err;
}

static void expect(parse_body *parse, const struct cmq_element_defaults *defaults, const char *body,
                   const char *expected)
{
    if (run(parse, body, defaults) != CMQ_OK)
        fail_msg("%s: %s at %zu", body, error.text, error.offset);
    const char *described = wire_describe(cmq_buf_span(&messages), found.messages);
    if (strcmp(described, expected) != 0)
        fail_msg("%s: %s", body, described);
}

static void expect_bad(parse_body *parse, const struct cmq_element_defaults *defaults, const char *body,
                       enum cmq_err err, size_t offset, const char *part)
{
    enum cmq_err found_err = run(parse, body, defaults);
    if (found_err != err || error.offset != offset || strstr(error.text, part) == NULL)
        fail_msg("%s: %d at %zu: %s", body, (int)found_err, error.offset, error.text);
}

static void an_element_lives_as_long_as_it_says(void **state)
{
    (void)state;
    expect(cmq_json_parse_topic_batch, &clock_only,
           "[{\"data\":\"a\",\"ttl_ms\":1},{\"ttl_ms\":5000,\"data\":1},\"b\"]",
           "t'a' - - 1001 - t'1' application/json - 6000 - t'b'");
    expect(cmq_json_parse_topic_batch, &request, "[{\"data\":\"a\",\"ttl_ms\":7}]",
           "t'a' - - 1007 {r=1,s=2}");
}

static void a_lifetime_is_a_whole_number_in_its_bounds(void **state)
{
    (void)state;
    static const char *const bad[] = {"0",
                                      "-1",
                                      "5001",
                                      "1.0",
                                      "1e3",
                                      "\"5\"",
                                      "null",
                                      "true",
                                      "01",
                                      "[1]",
                                      "{}",
                                      "18446744073709551617",
                                      "100000000000000000000000000000000000000000000000"};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        char body[128];
        (void)snprintf(body, sizeof body, "[{\"data\":\"a\",\"ttl_ms\":%s}]", bad[i]);
        expect_bad(cmq_json_parse_topic_batch, &clock_only, body, CMQ_ERR_MALFORMED, 22,
                   strcmp(bad[i], "01") == 0 ? "not a JSON value"
                                             : "whole number of milliseconds from 1 to 5000");
    }
    expect_bad(cmq_json_parse_topic_batch, NULL, "[{\"data\":1,\"ttl_ms\":1,\"ttl_ms\":1}]",
               CMQ_ERR_MALFORMED, 22, "\"ttl_ms\" is there twice");
}

static void without_a_limit_a_lifetime_is_ten_years_at_most(void **state)
{
    (void)state;
    static const char body[] = "[{\"data\":\"a\",\"ttl_ms\":315360000000}]",
                      more[] = "[{\"data\":\"a\",\"ttl_ms\":315360000001}]";
    const struct cmq_json_limits open = {.message_bytes_max = 10, .messages_max = 1};
    const struct cmq_element_defaults late = {.accepted_at_ms = UINT64_MAX - 5};
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    uint8_t *padded_more = wire_padded(cmq_span_make(more, sizeof more - 1), 0);
    assert_int_equal(cmq_json_parse_topic_batch(parser, cmq_span_make(padded, sizeof body - 1), &open, &late,
                                                &messages, &found, &error),
                     CMQ_OK);
    assert_string_equal(wire_describe(cmq_buf_span(&messages), 1), "t'a' - - 18446744073709551615 -");
    assert_int_equal(cmq_json_parse_topic_batch(parser, cmq_span_make(padded_more, sizeof more - 1), &open,
                                                &late, &messages, &found, &error),
                     CMQ_ERR_MALFORMED);
    free(padded);
    free(padded_more);
}

static void a_limit_below_ten_holds_too(void **state)
{
    (void)state;
    const struct cmq_json_limits short_lived = {.message_bytes_max = 10, .messages_max = 1, .ttl_ms_max = 3};
    for (unsigned ttl_ms = 1; ttl_ms <= 12; ttl_ms++) {
        char body[64 + CMQ_JSON_PADDING] = "";
        int bytes = snprintf(body, 64, "[{\"data\":\"a\",\"ttl_ms\":%u}]", ttl_ms);
        messages.bytes = 0;
        assert_int_equal(cmq_json_parse_topic_batch(parser, cmq_span_make(body, (size_t)bytes), &short_lived,
                                                    NULL, &messages, &found, &error),
                         ttl_ms <= 3 ? CMQ_OK : CMQ_ERR_MALFORMED);
    }
}

static void an_element_carries_its_headers(void **state)
{
    (void)state;
    expect(cmq_json_parse_topic_batch, &clock_only,
           "[{\"headers\":{\"b\":\"x\",\"a\":\"\"},\"data\":\"d\",\"id\":\"1\"},{\"data\":\"e\",\"headers\":{"
           " }}]",
           "t'd' - 1 - {b=x,a=} t'e'");
    assert_true(found.has_ids);
    expect(cmq_json_parse_topic_batch, NULL,
           "[{\"data\":\"d\",\"headers\" : { \"\\u0061\" : \"\\u00e9\\\\\" } }]",
           "t'd' - - - {a=\xc3\xa9\\}");
}

static void headers_of_the_request_fill_up(void **state)
{
    (void)state;
    expect(cmq_json_parse_topic_batch, &request,
           "[\"a\",{\"data\":\"b\",\"headers\":{\"s\":\"own\",\"t\":\"3\"}},{\"data\":2,\"headers\":{}}]",
           "t'a' - - 1070 {r=1,s=2} t'b' - - 1070 {s=own,t=3,r=1} t'2' application/json - 1070 {r=1,s=2}");
}

static void the_original_bodies_inherit_too(void **state)
{
    (void)state;
    expect(cmq_json_parse_single, &request, "{\"content\":\"a\"}", "t'a' - - 1070 {r=1,s=2}");
    expect(cmq_json_parse_single, &clock_only, "{\"content\":\"a\"}", "t'a'");
    expect(cmq_json_parse_batch, &request,
           "{\"messages\":[{\"content\":\"a\"},{\"content\":\"\",\"id\":\"7\"}]}",
           "t'a' - - 1070 {r=1,s=2} t'' - 7 1070 {r=1,s=2}");
    expect(cmq_json_parse_batch, &request, "{\"messages\":[]}", "");
}

static void headers_against_the_rules_are_refused_where_they_stand(void **state)
{
    (void)state;
    static const struct {
        const char *headers;
        size_t offset; /* in it */
        const char *part;
    } table[] = {{"[]", 0, "must be an object of strings"},
                 {"null", 0, "must be an object of strings"},
                 {"\"a\"", 0, "must be an object of strings"},
                 {"{\"a\":1}", 5, "value of a header must be a string"},
                 {"{\"a\":null}", 5, "value of a header must be a string"},
                 {"{\"a\":{}}", 5, "value of a header must be a string"},
                 {"{\"A\":\"\"}", 1, "lower case"},
                 {"{\"\":\"\"}", 1, "lower case"},
                 {"{\"a\":\"\\n\"}", 1, "the value of the header \"a\""},
                 {"{\"a\":\"\\u0000\"}", 1, "the value of the header \"a\""},
                 {"{\"a\":\"\\ud800\"}", 6, "surrogate"},
                 {"{\"a\":\"1\",\"a\":\"1\"}", 9, "\"a\" is there twice"},
                 {"{\"a\":\"1\",\"\\u0061\":\"1\"}", 9, "\"a\" is there twice"},
                 {"{\"a\":\"1\",}", 9, "member name"},
                 {"{\"a\" \"1\"}", 5, "':'"}};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        char body[128];
        (void)snprintf(body, sizeof body, "[{\"data\":1,\"headers\":%s}]", table[i].headers);
        expect_bad(cmq_json_parse_topic_batch, &clock_only, body, CMQ_ERR_MALFORMED, 21 + table[i].offset,
                   table[i].part);
    }
    expect_bad(cmq_json_parse_topic_batch, NULL, "[{\"data\":1,\"headers\":{},\"headers\":{}}]",
               CMQ_ERR_MALFORMED, 24, "\"headers\" is there twice");
}

static void headers_have_limits(void **state)
{
    (void)state;
    char body[2000], headers[1500] = "";
    expect(cmq_json_parse_topic_batch, NULL,
           "[{\"data\":\"\",\"headers\":{\"a\":"
           "\"012345678901234567890123456789012345678901234567890123456789012\"}}]",
           "t'' - - - {a=012345678901234567890123456789012345678901234567890123456789012}");
    expect_bad(cmq_json_parse_topic_batch, NULL,
               "[{\"data\":\"\",\"headers\":{\"a\":"
               "\"0123456789012345678901234567890123456789012345678901234567890123\"}}]",
               CMQ_ERR_TOO_BIG, 23, "more than 64 bytes");
    expect_bad(cmq_json_parse_topic_batch, NULL,
               "[{\"data\":\"\",\"headers\":{"
               "\"0123456789012345678901234567890123456789012345678901234567890123a\":\"\"}}]",
               CMQ_ERR_TOO_BIG, 23, "more than 64 bytes");
    /* 60 bytes of its own and 4 of the request are the limit; one more is not taken. */
    expect(cmq_json_parse_topic_batch, &request,
           "[{\"data\":\"\",\"headers\":{\"a\":"
           "\"01234567890123456789012345678901234567890123456789012345678\"}}]",
           "t'' - - 1070 {a=01234567890123456789012345678901234567890123456789012345678,r=1,s=2}");
    expect_bad(cmq_json_parse_topic_batch, &request,
               "[{\"data\":\"\",\"headers\":{\"a\":"
               "\"012345678901234567890123456789012345678901234567890123456789\"}}]",
               CMQ_ERR_TOO_BIG, 22, "more than 64 bytes");
    for (unsigned i = 0; i < 33; i++) {
        size_t bytes = strlen(headers);
        (void)snprintf(headers + bytes, sizeof headers - bytes, "%s\"%c\":\"\"", i > 0 ? "," : "",
                       i < 26 ? 'a' + (int)i : '0' + (int)i - 26);
        (void)snprintf(body, sizeof body, "[{\"data\":1,\"headers\":{%s}}]", headers);
        if (i < 32)
            assert_int_equal(run(cmq_json_parse_topic_batch, body, NULL), CMQ_OK);
    }
    assert_int_equal(run(cmq_json_parse_topic_batch, body, NULL), CMQ_ERR_TOO_BIG);
    assert_string_equal(error.text, "more than 32 headers, with the request's");
}

static void where_no_headers_are_taken_none_are(void **state)
{
    (void)state;
    static const char body[] = "[{\"data\":1,\"headers\":{\"a\":\"\"}}]";
    const struct cmq_json_limits none = {.message_bytes_max = 10, .messages_max = 1};
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    assert_int_equal(cmq_json_parse_topic_batch(parser, cmq_span_make(padded, sizeof body - 1), &none, NULL,
                                                &messages, &found, &error),
                     CMQ_ERR_TOO_BIG);
    assert_string_equal(error.text, "no headers are taken here");
    free(padded);
}

/* Small bodies with large inheritance: room is made, or refused at the buffer's limit, and nothing is written past it. */
static void what_is_inherited_has_room_or_is_refused(void **state)
{
    (void)state;
    static const char body[] =
        "[\"a\",{\"data\":1},{\"data\":\"b\",\"headers\":{\"n\":\"\"}},{\"data\":\"c\",\"id\":\"1\"}]";
    static const char batch[] = "{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\",\"id\":\"1\"}]}";
    uint8_t packed[3000] = {0x81, 0xa1, 'h', 0xda, 2000 >> 8, 2000 & 0xff};
    memset(packed + 6, 'v', 2000);
    const struct cmq_element_defaults large = {.accepted_at_ms = 1, .ttl_ms = 1, .headers = {packed, 2006}};
    const struct cmq_json_limits roomy = {
        .message_bytes_max = 10, .messages_max = 10, .headers_bytes_max = 4000};
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    uint8_t *padded_batch = wire_padded(cmq_span_make(batch, sizeof batch - 1), 0);
    size_t taken = 0;
    for (size_t room = 0; room < 10000; room += 41) {
        struct cmq_buf buf;
        cmq_buf_init(&buf, room);
        enum cmq_err err = cmq_json_parse_topic_batch(parser, cmq_span_make(padded, sizeof body - 1), &roomy,
                                                      &large, &buf, &found, &error);
        assert_true(err == CMQ_OK || (err == CMQ_ERR_TOO_BIG && buf.bytes == 0));
        taken += err == CMQ_OK;
        cmq_buf_clear(&buf, 0);
        err = cmq_json_parse_batch(parser, cmq_span_make(padded_batch, sizeof batch - 1), &roomy, &large,
                                   &buf, &found, &error);
        assert_true(err == CMQ_OK || (err == CMQ_ERR_TOO_BIG && buf.bytes == 0));
        cmq_buf_fini(&buf);
    }
    assert_true(taken > 5);
    free(padded);
    free(padded_batch);
}

/* A short content with large headers, then a long content that starts where the body alone would have ended. */
static void a_content_behind_large_headers_has_room(void **state)
{
    (void)state;
    enum { HEADER_BYTES = 2000, CONTENT_MAX = 4000 };
    uint8_t packed[6 + HEADER_BYTES] = {0x81, 0xa1, 'h', 0xda, HEADER_BYTES >> 8, HEADER_BYTES & 0xff};
    memset(packed + 6, 'v', HEADER_BYTES);
    const struct cmq_element_defaults large = {.accepted_at_ms = 1, .headers = {packed, sizeof packed}};
    const struct cmq_json_limits roomy = {
        .message_bytes_max = CONTENT_MAX, .messages_max = 2, .headers_bytes_max = 4000};
    for (int length = 100; length <= CONTENT_MAX; length += 100) {
        char body[CONTENT_MAX + 100];
        int bytes = snprintf(body, sizeof body, "{\"messages\":[{\"content\":\"a\"},{\"content\":\"%0*u\"}]}",
                             length, 7u);
        uint8_t *padded = wire_padded(cmq_span_make(body, (size_t)bytes), 0);
        struct cmq_buf buf;
        cmq_buf_init(&buf, 1 << 20);
        assert_int_equal(cmq_json_parse_batch(parser, cmq_span_make(padded, (size_t)bytes), &roomy, &large,
                                              &buf, &found, &error),
                         CMQ_OK);
        assert_true(buf.bytes <= buf.capacity);
        struct cmq_mp_reader reader;
        struct cmq_message_full message;
        cmq_mp_reader_init(&reader, cmq_buf_span(&buf));
        assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
        assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
        assert_int_equal(message.body.bytes, length);
        assert_int_equal(message.headers.bytes, sizeof packed);
        assert_int_equal(cmq_mp_left(&reader), 0);
        cmq_buf_fini(&buf);
        free(padded);
    }
}

/* Each allocation fails once: an error, nothing kept, and the next try succeeds. */
static void no_allocation_that_fails_leaves_anything(void **state)
{
    (void)state;
    static const char body[] = "[\"a\",{\"data\":{\"k\":[1]},\"ttl_ms\":9,\"headers\":{\"n\":\"v\"}},\"b\"]";
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    unsigned failures = 0;
    for (uint64_t nth = 1;; nth++) {
        struct cmq_json_parser *fresh = NULL;
        struct cmq_buf buf;
        cmq_buf_init(&buf, 1 << 20);
        alloc_faults_arm(nth, nth % 2 == 0);
        enum cmq_err err = cmq_json_parser_new(1 << 20, &fresh);
        if (err == CMQ_OK)
            err = cmq_json_parse_topic_batch(fresh, cmq_span_make(padded, sizeof body - 1), &limits, &request,
                                             &buf, &found, &error);
        bool failed = alloc_faults_disarm();
        assert_int_equal(err, failed ? CMQ_ERR_NOMEM : CMQ_OK);
        assert_true(!failed || buf.bytes == 0);
        if (failed && fresh != NULL)
            assert_int_equal(cmq_json_parse_topic_batch(fresh, cmq_span_make(padded, sizeof body - 1),
                                                        &limits, &request, &buf, &found, &error),
                             CMQ_OK);
        cmq_buf_fini(&buf);
        cmq_json_parser_free(fresh);
        if (!failed)
            break;
        failures++;
    }
    assert_true(failures >= 4);
    free(padded);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_element_lives_as_long_as_it_says),
        TEST(a_lifetime_is_a_whole_number_in_its_bounds),
        TEST(without_a_limit_a_lifetime_is_ten_years_at_most),
        TEST(a_limit_below_ten_holds_too),
        TEST(an_element_carries_its_headers),
        TEST(headers_of_the_request_fill_up),
        TEST(the_original_bodies_inherit_too),
        TEST(headers_against_the_rules_are_refused_where_they_stand),
        TEST(headers_have_limits),
        TEST(where_no_headers_are_taken_none_are),
        TEST(what_is_inherited_has_room_or_is_refused),
        TEST(a_content_behind_large_headers_has_room),
        TEST(no_allocation_that_fails_leaves_anything),
    };
    return cmocka_run_group_tests_name("cmq_elements", tests, NULL, NULL);
}
