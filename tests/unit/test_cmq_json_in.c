/* Unit tests of cmq_json_in. Every body is parsed with several kinds of padding behind it, which must not
 * matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_json_text.h"
#include "tests/unit/wire_support.h"

#define NO_INDEX UINT32_MAX

enum kind { SINGLE, BATCH, TOPIC };

static struct cmq_json_parser *parser;
static const struct cmq_json_limits wide = {.message_bytes_max = 1u << 20, .messages_max = 1000000};

static int make_parser(void **state)
{
    (void)state;
    return cmq_json_parser_new(4u << 20, &parser) != CMQ_OK;
}

static int drop_parser(void **state)
{
    (void)state;
    cmq_json_parser_free(parser);
    return 0;
}

struct result {
    enum cmq_err err;
    struct cmq_json_error error;
    uint32_t count;
    bool has_ids;
    struct cmq_buf messages;
};

/* One parse with its own exact buffers. "before" stands in *messages already. */
static struct result parse_padded(enum kind kind, struct cmq_span body, const struct cmq_json_limits *limits,
                                  uint8_t padding)
{
    uint8_t *padded = malloc(body.bytes + CMQ_JSON_PADDING);
    assert_non_null(padded);
    if (body.bytes != 0)
        memcpy(padded, body.data, body.bytes);
    memset(padded + body.bytes, padding, CMQ_JSON_PADDING);
    struct result result = {.count = 77};
    cmq_buf_init(&result.messages, SIZE_MAX / 4);
    assert_int_equal(cmq_buf_append(&result.messages, "before", 6), CMQ_OK);
    struct cmq_span span = cmq_span_make(padded, body.bytes);
    static enum cmq_err (*const parse[])(struct cmq_json_parser *, struct cmq_span,
                                         const struct cmq_json_limits *, const struct cmq_element_defaults *,
                                         struct cmq_buf *, struct cmq_json_found *,
                                         struct cmq_json_error *) = {[SINGLE] = cmq_json_parse_single,
                                                                     [BATCH] = cmq_json_parse_batch,
                                                                     [TOPIC] = cmq_json_parse_topic_batch};
    struct cmq_json_found found = {.messages = 77};
    result.err = parse[kind](parser, span, limits, NULL, &result.messages, &found, &result.error);
    result.count = found.messages;
    result.has_ids = found.has_ids;
    assert_true(result.messages.bytes >= 6);
    assert_memory_equal(result.messages.data, "before", 6);
    if (result.err != CMQ_OK) {
        assert_int_equal(result.messages.bytes, 6);
        assert_int_equal(result.count, 77);
        assert_true(memchr(result.error.text, '\0', sizeof result.error.text) != NULL);
        assert_true(result.error.text[0] != '\0');
    }
    free(padded);
    return result;
}

static void expect_messages(enum kind kind, struct cmq_span body, uint32_t count, struct cmq_span expected)
{
    static const uint8_t paddings[] = {0, ' ', '}', ']', '"', '\\', 'u', 0xff, '0'};
    for (size_t i = 0; i < sizeof paddings; i++) {
        struct result result = parse_padded(kind, body, &wide, paddings[i]);
        if (result.err != CMQ_OK)
            fail_msg("%.*s: %s at %zu", (int)body.bytes, (const char *)body.data, result.error.text,
                     result.error.offset);
        assert_int_equal(result.count, kind == SINGLE ? 1 : count);
        assert_int_equal(result.messages.bytes - 6, expected.bytes);
        assert_memory_equal(result.messages.data + 6, expected.data, expected.bytes);
        cmq_buf_fini(&result.messages);
    }
}

struct bad {
    const char *body;
    size_t bytes;
    size_t offset;
    uint32_t index;
    const char *part; /* of the text */
};

static void expect_bad(enum kind kind, const struct bad *bad)
{
    static const uint8_t paddings[] = {0, ' ', '}', ']', '"', '\\', 'u', 0xff, '0'};
    for (size_t i = 0; i < sizeof paddings; i++) {
        struct result result = parse_padded(kind, cmq_span_make(bad->body, bad->bytes), &wide, paddings[i]);
        if (result.err != CMQ_ERR_MALFORMED || result.error.offset != bad->offset ||
            result.error.index != bad->index || strstr(result.error.text, bad->part) == NULL)
            fail_msg("%s, padding %02x: err %d offset %zu index %u text %s", bad->body, paddings[i],
                     (int)result.err, result.error.offset, result.error.index, result.error.text);
        cmq_buf_fini(&result.messages);
    }
}

#define GOOD(body, count, expected)                                   \
    {                                                                 \
        body, sizeof(body) - 1, count, expected, sizeof(expected) - 1 \
    }
#define BAD(body, offset, index, part)              \
    {                                               \
        body, sizeof(body) - 1, offset, index, part \
    }

static void good_single_bodies_become_one_message(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        size_t bytes;
        uint32_t count;
        const char *expected;
        size_t expected_bytes;
    } cases[] = {
        GOOD("{\"content\":\"\"}", 1, "\xa0"),
        GOOD("{\"content\": \"message_1\"}", 1, "\xa9message_1"),
        GOOD(" \t\r\n{ \"content\" : \"x\" } \n", 1, "\xa1x"),
        GOOD("{\"content\":\"a very long line of text, more than 31 bytes\"}", 1,
             "\xd9\x2c"
             "a very long line of text, more than 31 bytes"),
        GOOD("{\"content\":\"\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\"}", 1,
             "\xa6"
             "aaaaaa"),
        GOOD("{\"content\":\"x\"                                        }", 1, "\xa1x"),
        GOOD("{\"content\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", 1, "\xa8\"\\/\b\f\n\r\t"),
        GOOD("{\"content\":\"\\u0000\"}", 1, "\xa1\0"),
        GOOD("{\"content\":\"\\u007f\\u0080\\u07ff\\u0800\\uFFFF\"}", 1,
             "\xab\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"),
        GOOD("{\"content\":\"\\ud83d\\uDE00\\udbff\\udfff\\ud800\\udc00\"}", 1,
             "\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xf0\x90\x80\x80"),
        GOOD("{\"content\":\"gr\xc3\xbc\xc3\x9f \xe2\x80\xa8\xf0\x9f\x98\x80\x7f\"}", 1,
             "\xaf"
             "gr\xc3\xbc\xc3\x9f \xe2\x80\xa8\xf0\x9f\x98\x80\x7f"),
        GOOD("{\"c\\u006fntent\":\"x\"}", 1, "\xa1x"),
        GOOD("{\"no\":1,\"content\":\"x\",\"more\":[1,-0.5e+3,{\"content\":\"y\"},[],{},true,false,null]}", 1,
             "\xa1x"),
        GOOD("{\"Content\":\"y\",\"content\":\"x\",\"content \":\"y\",\"conten\":1,\"contents\":2,\"\":3}", 1,
             "\xa1x"),
        GOOD("{\"a\":1,\"a\":2,\"content\":\"x\"}", 1, "\xa1x"),
        GOOD("{\"messages\":[],\"content\":\"x\"}", 1, "\xa1x"),
        GOOD("{\"content\":\"],}{[:\\\"\"}", 1, "\xa7],}{[:\""),
        GOOD("{\"content\":\"x\",\"deep\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", 1,
             "\xa1x"),
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++)
        expect_messages(SINGLE, cmq_span_make(cases[i].body, cases[i].bytes), cases[i].count,
                        cmq_span_make(cases[i].expected, cases[i].expected_bytes));
}

static void good_batches_become_messages(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        size_t bytes;
        uint32_t count;
        const char *expected;
        size_t expected_bytes;
    } cases[] = {
        GOOD("{\"messages\":[]}", 0, ""),
        GOOD("{\"messages\": [{\"content\": \"message_1\"}, {\"content\": \"message_2\"}]}", 2,
             "\xa9message_1\xa9message_2"),
        GOOD("{\"messages\":[{\"content\":\"\"},{\"content\":\"\"},{\"content\":\"\"}]}", 3, "\xa0\xa0\xa0"),
        GOOD("{\"messages\":[{\"no\":[1],\"content\":\"a\"},{\"content\":\"b\",\"x\":null}],\"x\":\"y\"}", 2,
             "\xa1"
             "a\xa1"
             "b"),
        GOOD("{\"content\":\"no\",\"m\":{\"messages\":1},\"messages\":[{\"content\":\"a\"}]}", 1,
             "\xa1"
             "a"),
        GOOD("{\"m\\u0065ssages\":[{\"\\u0063ontent\":\"a\"}]}", 1,
             "\xa1"
             "a"),
        GOOD("{\n\t\"messages\" :\n[ { \"content\" : \"a\" } , { \"content\" : \"b\\n\" } ]\n}\r\n", 2,
             "\xa1"
             "a\xa2"
             "b\n"),
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++)
        expect_messages(BATCH, cmq_span_make(cases[i].body, cases[i].bytes), cases[i].count,
                        cmq_span_make(cases[i].expected, cases[i].expected_bytes));
}

static void bad_single_bodies_are_refused_where_they_are_wrong(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        BAD("", 0, NO_INDEX, "empty"),
        BAD("   \n", 4, NO_INDEX, "blank"),
        BAD("\xef\xbb\xbf{\"content\":\"x\"}", 0, NO_INDEX, "byte order mark"),
        BAD("\"content\"", 0, NO_INDEX, "expected {"),
        BAD("[{\"content\":\"x\"}]", 0, NO_INDEX, "expected {"),
        BAD("null", 0, NO_INDEX, "expected {"),
        BAD("nul", 0, NO_INDEX, "expected {"),
        BAD("{", 1, NO_INDEX, "ends too early"),
        BAD("{\"content\"", 10, NO_INDEX, "ends too early"),
        BAD("{\"content\":", 11, NO_INDEX, "ends too early"),
        BAD("{\"content\":\"x\"", 14, NO_INDEX, "ends too early"),
        BAD("{\"content\":\"x\",", 15, NO_INDEX, "ends too early"),
        BAD("{\"content\":\"x", 11, NO_INDEX, "not closed"),
        BAD("{\"content\":\"x\\\"}", 11, NO_INDEX, "not closed"),
        BAD("{\"content\":\"x\"}}", 15, NO_INDEX, "follows"),
        BAD("{\"content\":\"x\"} x", 16, NO_INDEX, "follows"),
        BAD("{\"content\":\"x\"}{}", 15, NO_INDEX, "follows"),
        BAD("{\"content\":\"x\"}\0", 15, NO_INDEX, "follows"),
        BAD("{\"content\":\"x\",}", 15, NO_INDEX, "member name"),
        BAD("{,\"content\":\"x\"}", 1, NO_INDEX, "member name"),
        BAD("{\"content\" \"x\"}", 11, NO_INDEX, "':'"),
        BAD("{\"content\",\"x\"}", 10, NO_INDEX, "':'"),
        BAD("{\"content\":\"x\" \"y\":1}", 15, NO_INDEX, "','"),
        BAD("{\"content\":\"x\"]", 14, NO_INDEX, "','"),
        BAD("{\"content\"x:\"y\"}", 10, NO_INDEX, "':'"),
        BAD("{\"content\":\"x\"y}", 14, NO_INDEX, "','"),
        BAD("{content:\"x\"}", 1, NO_INDEX, "member name"),
        BAD("{'content':'x'}", 1, NO_INDEX, "member name"),
        BAD("{}", 0, NO_INDEX, "expected {\"content\""),
        BAD("{\"Content\":\"x\"}", 0, NO_INDEX, "expected {\"content\""),
        BAD("{\"messages\":[]}", 0, NO_INDEX, "expected {\"content\""),
        BAD("{\"content\":1}", 11, NO_INDEX, "must be a string"),
        BAD("{\"content\":null}", 11, NO_INDEX, "must be a string"),
        BAD("{\"content\":[\"x\"]}", 11, NO_INDEX, "must be a string"),
        BAD("{\"content\":{}}", 11, NO_INDEX, "must be a string"),
        BAD("{\"content\":}", 11, NO_INDEX, "must be a string"),
        BAD("{\"content\":\"x\",\"content\":\"x\"}", 15, NO_INDEX, "twice"),
        BAD("{\"content\":\"x\",\"a\":1,\"cont\\u0065nt\":\"x\"}", 21, NO_INDEX, "twice"),
        BAD("{\"content\":\"a\tb\"}", 13, NO_INDEX, "control character"),
        BAD("{\"content\":\"a\0b\"}", 13, NO_INDEX, "control character"),
        BAD("{\"con\ntent\":\"ab\"}", 5, NO_INDEX, "control character"),
        BAD("{\"content\":\"x\\a\"}", 13, NO_INDEX, "escape"),
        BAD("{\"content\":\"x\\u12g4\"}", 13, NO_INDEX, "four hexadecimal"),
        BAD("{\"content\":\"x\\u123\"}", 13, NO_INDEX, "four hexadecimal"),
        BAD("{\"content\":\"x\\U0041\"}", 13, NO_INDEX, "escape"),
        BAD("{\"content\":\"\\ud800\"}", 12, NO_INDEX, "lone high"),
        BAD("{\"content\":\"\\ud800\\u0041\"}", 12, NO_INDEX, "lone high"),
        BAD("{\"content\":\"\\ud800\\ud800\"}", 12, NO_INDEX, "lone high"),
        BAD("{\"content\":\"\\ud800\\ue000\"}", 12, NO_INDEX, "lone high"),
        BAD("{\"content\":\"\\ud800x\\udc00\"}", 12, NO_INDEX, "lone high"),
        BAD("{\"content\":\"\\ud800\\n\\udc00\"}", 12, NO_INDEX, "lone high"),
        BAD("{\"content\":\"x\\udc00\"}", 13, NO_INDEX, "lone low"),
        BAD("{\"content\":\"x\",\"y\":\"\\ud800\"}", 20, NO_INDEX, "lone high"),
        BAD("{\"content\":\"x\",\"\\ud800\":1}", 16, NO_INDEX, "lone high"),
        BAD("{\"content\":\"x\",\"y\":\"\\q\"}", 20, NO_INDEX, "escape"),
        BAD("{\"content\":\"a\x80\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"a\xc3\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"a\xc0\xaf\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"a\xe0\x80\xaf\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"a\xed\xa0\x80\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"a\xf4\x90\x80\x80\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"a\xf5\x80\x80\x80\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"a\xff\"}", 13, NO_INDEX, "UTF-8"),
        BAD("{\"content\":\"x\"}\xe2\x82", 15, NO_INDEX, ""),
        BAD("{\"content\":\"x\",\"y\":tru}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":truee}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":True}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":true\"z\"}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":nan}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":01}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":-}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":+1}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":1.}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":.5}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":1e}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":1e+}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":1.5.5}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":0x10}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":1/**/}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":\x0c}", 19, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":[1 2]}", 22, NO_INDEX, "',' or ']'"),
        BAD("{\"content\":\"x\",\"y\":[1,]}", 22, NO_INDEX, "not a JSON value"),
        BAD("{\"content\":\"x\",\"y\":[1}}", 21, NO_INDEX, "',' or ']'"),
        BAD("{\"content\":\"x\",\"y\":{\"z\":1]}", 25, NO_INDEX, "',' or '}'"),
        BAD("{\"content\":\"x\",\"y\":{\"z\"}}", 23, NO_INDEX, "':'"),
        BAD("{\"content\":\"x\",\"y\":{1:2}}", 20, NO_INDEX, "member name"),
        BAD("{\"content\":\"x\",\"y\":[", 20, NO_INDEX, "ends too early"),
        BAD("{\"content\":\"x\",\"y\":[[1],[2]", 27, NO_INDEX, "ends too early"),
        BAD("{\\\"content\":\"x\"}", 1, NO_INDEX, ""),
        BAD("{\"content\":\"x\",\"y\":\\u0031}", 19, NO_INDEX, "not a JSON value"),
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++)
        expect_bad(SINGLE, &cases[i]);
}

static void bad_batches_name_the_message(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        BAD("{}", 0, NO_INDEX, "expected {\"messages\""),
        BAD("[]", 0, NO_INDEX, "expected {\"messages\""),
        BAD("{\"content\":\"x\"}", 0, NO_INDEX, "expected {\"messages\""),
        BAD("{\"messages\":{}}", 12, NO_INDEX, "must be an array"),
        BAD("{\"messages\":null}", 12, NO_INDEX, "must be an array"),
        BAD("{\"messages\":[],\"messages\":[]}", 15, NO_INDEX, "twice"),
        BAD("{\"messages\":[", 13, 0, "ends too early"),
        BAD("{\"messages\":[]", 14, NO_INDEX, "ends too early"),
        BAD("{\"messages\":[]]", 14, NO_INDEX, "','"),
        BAD("{\"messages\":[]} {}", 16, NO_INDEX, "follows"),
        BAD("{\"messages\":[,]}", 13, 0, "expected {\"content\""),
        BAD("{\"messages\":[{\"content\":\"a\"},]}", 29, 1, "expected {\"content\""),
        BAD("{\"messages\":[{\"content\":\"a\"} {\"content\":\"b\"}]}", 29, NO_INDEX, "',' or ']'"),
        BAD("{\"messages\":[{\"content\":\"a\"}}", 28, NO_INDEX, "',' or ']'"),
        BAD("{\"messages\":[\"a\"]}", 13, 0, "expected {\"content\""),
        BAD("{\"messages\":[{\"content\":\"a\"},{}]}", 29, 1, "expected {\"content\""),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"x\":1}]}", 29, 1, "expected {\"content\""),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":5}]}", 40, 1, "must be a string"),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\",\"content\":\"c\"}]}", 44, 1, "twice"),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\\x\"}]}", 42, 1, "escape"),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\\ud800\"}]}", 42, 1, "lone high"),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\x80\"}]}", 42, 1, "UTF-8"),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\n\"}]}", 42, 1, "control character"),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b]}", 40, 1, "not closed"),
        BAD("{\"x\":[1,2,3],\"messages\":[{\"content\":\"a,\\\"\"},{\"content\":\"b\xff\"}]}", 57, 1,
            "UTF-8"),
        BAD("{\"messages\":[{\"content\":\"a\"}],\"x\":[[[\"\xff\"]]]}", 38, NO_INDEX, "UTF-8"),
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\",\"x\":01}]}", 48, 1, "not a JSON value"),
        BAD("{\"messages\":[{\"content\":\"a\"}],\"x\":01}", 34, NO_INDEX, "not a JSON value"),
        BAD("{\"messages\":[{\"content\":\"a\"", 27, 0, "ends too early"),
        BAD("{\"messages\":[{\"content\":\"a\"},\"\xff\"]}", 30, 1, "UTF-8"),
        BAD("{\"x\":{\"messages\":[{\"content\":\"\xff\"}]}}", 30, NO_INDEX, "UTF-8"),
        BAD("{\"messages\":[{\"content\":\"a\"x}]}", 27, 0, "','"),
        BAD("{\"messages\":[{\"content\"x:\"a\"}]}", 23, 0, "':'"),
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++)
        expect_bad(BATCH, &cases[i]);
}

static void every_cut_of_a_good_body_is_refused(void **state)
{
    (void)state;
    static const char single[] = "{\"id\":[1,{\"a\":-1.5e3}],\"content\":\"x\\u0041\\ud83d\\ude00\xc3\xbc\"}";
    static const char batch[] =
        "{\"messages\":[{\"content\":\"one\"},{\"content\":\"tw\\u006f\"}],\"x\":true}";
    for (size_t cut = 0; cut < sizeof single - 1; cut++) {
        struct result result = parse_padded(SINGLE, cmq_span_make(single, cut), &wide, '"');
        assert_int_equal(result.err, CMQ_ERR_MALFORMED);
        assert_true(result.error.offset <= cut);
        cmq_buf_fini(&result.messages);
    }
    for (size_t cut = 0; cut < sizeof batch - 1; cut++) {
        struct result result = parse_padded(BATCH, cmq_span_make(batch, cut), &wide, '}');
        assert_int_equal(result.err, CMQ_ERR_MALFORMED);
        assert_true(result.error.offset <= cut);
        cmq_buf_fini(&result.messages);
    }
}

static enum cmq_err parse_nested(enum kind kind, const char *before, unsigned levels, const char *open,
                                 const char *close, const char *after)
{
    char body[1024];
    size_t bytes = (size_t)snprintf(body, sizeof body, "%s", before);
    for (unsigned i = 0; i < levels; i++)
        bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, "%s", open);
    bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, "1");
    for (unsigned i = 0; i < levels; i++)
        bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, "%s", close);
    bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, "%s", after);
    struct result result = parse_padded(kind, cmq_span_make(body, bytes), &wide, 0);
    if (result.err != CMQ_OK)
        assert_non_null(strstr(result.error.text, "32 levels"));
    cmq_buf_fini(&result.messages);
    return result.err;
}

static void thirty_two_levels_are_read_and_one_more_is_refused(void **state)
{
    (void)state;
    static const char single[] = "{\"content\":\"x\",\"y\":";
    static const char batch[] = "{\"messages\":[{\"content\":\"x\",\"y\":";
    assert_int_equal(parse_nested(SINGLE, single, 31, "[", "]", "}"), CMQ_OK);
    assert_int_equal(parse_nested(SINGLE, single, 32, "[", "]", "}"), CMQ_ERR_MALFORMED);
    assert_int_equal(parse_nested(SINGLE, single, 31, "{\"a\":", "}", "}"), CMQ_OK);
    assert_int_equal(parse_nested(SINGLE, single, 32, "{\"a\":", "}", "}"), CMQ_ERR_MALFORMED);
    assert_int_equal(parse_nested(BATCH, batch, 29, "[", "]", "}]}"), CMQ_OK);
    assert_int_equal(parse_nested(BATCH, batch, 30, "[", "]", "}]}"), CMQ_ERR_MALFORMED);
    assert_int_equal(parse_nested(BATCH, "{\"messages\":[{\"content\":\"x\"}],\"y\":", 31, "[", "]", "}"),
                     CMQ_OK);
    assert_int_equal(parse_nested(BATCH, "{\"messages\":[{\"content\":\"x\"}],\"y\":", 32, "[", "]", "}"),
                     CMQ_ERR_MALFORMED);
}

static void limits_hold_exactly(void **state)
{
    (void)state;
    static const char batch[] = "{\"messages\":[{\"content\":\"abc\"},{\"content\":\"\\u00fc\\u00fcd\"}]}";
    struct cmq_span body = cmq_span_make(batch, sizeof batch - 1);
    struct cmq_json_limits limits = {.message_bytes_max = 5, .messages_max = 2};
    struct result result = parse_padded(BATCH, body, &limits, 0);
    assert_int_equal(result.err, CMQ_OK);
    cmq_buf_fini(&result.messages);
    limits.message_bytes_max = 4; /* of the decoded text, which has 5 */
    result = parse_padded(BATCH, body, &limits, 0);
    assert_int_equal(result.err, CMQ_ERR_TOO_BIG);
    assert_int_equal(result.error.index, 1);
    assert_int_equal(result.error.offset, 42);
    assert_string_equal(result.error.text, "the message has 5 bytes; at most 4 are allowed");
    cmq_buf_fini(&result.messages);
    limits = (struct cmq_json_limits){.message_bytes_max = 5, .messages_max = 1};
    result = parse_padded(BATCH, body, &limits, 0);
    assert_int_equal(result.err, CMQ_ERR_TOO_BIG);
    assert_int_equal(result.error.index, 1);
    assert_int_equal(result.error.offset, 31);
    assert_non_null(strstr(result.error.text, "more than 1 messages"));
    cmq_buf_fini(&result.messages);
    limits.message_bytes_max = 0;
    result = parse_padded(SINGLE, cmq_span_make("{\"content\":\"x\"}", 15), &limits, 0);
    assert_int_equal(result.err, CMQ_ERR_TOO_BIG);
    assert_int_equal(result.error.index, NO_INDEX);
    cmq_buf_fini(&result.messages);
}

static void bodies_and_buffers_have_limits_of_their_own(void **state)
{
    (void)state;
    struct cmq_json_parser *small = NULL;
    assert_int_equal(cmq_json_parser_new(0, &small), CMQ_ERR_INVALID);
    assert_int_equal(cmq_json_parser_new(SIZE_MAX, &small), CMQ_ERR_INVALID);
    assert_null(small);
    assert_int_equal(cmq_json_parser_new(15, &small), CMQ_OK);
    static const char body[15 + 1 + CMQ_JSON_PADDING] = "{\"content\":\"x\"} ";
    struct cmq_buf messages;
    struct cmq_json_found found;
    struct cmq_json_error error;
    cmq_buf_init(&messages, 15);
    assert_int_equal(
        cmq_json_parse_single(small, cmq_span_make(body, 15), &wide, NULL, &messages, &found, &error),
        CMQ_OK);
    assert_int_equal(messages.bytes, 2);
    assert_int_equal(
        cmq_json_parse_single(small, cmq_span_make(body, 15), &wide, NULL, &messages, &found, &error),
        CMQ_ERR_TOO_BIG);
    assert_int_equal(messages.bytes, 2);
    cmq_buf_clear(&messages, 0);
    assert_int_equal(
        cmq_json_parse_single(small, cmq_span_make(body, 16), &wide, NULL, &messages, &found, &error),
        CMQ_ERR_TOO_BIG);
    assert_int_equal(error.offset, SIZE_MAX);
    cmq_buf_fini(&messages);
    cmq_json_parser_free(small);
    cmq_json_parser_free(NULL);
}

/* Every length of text around the sizes of heads and vector stores, with blanks and escapes that move the
 * head. */
static void messages_of_every_length_are_packed(void **state)
{
    (void)state;
    static const size_t lengths[] = {0,  1,  15,  16,  17,  30,  31,    32,    33,
                                     63, 64, 200, 255, 256, 257, 65535, 65536, 70000};
    static char body[80000];
    for (size_t i = 0; i < CMQ_COUNT_OF(lengths); i++) {
        for (unsigned variant = 0; variant < 4; variant++) {
            size_t escaped = variant % 2 == 1 && lengths[i] > 0 ? 1 : 0;
            size_t bytes = (size_t)snprintf(body, sizeof body, "{\"content\":\"%s", escaped ? "\\u0078" : "");
            memset(body + bytes, 'x', lengths[i] - escaped);
            bytes += lengths[i] - escaped;
            bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, "\"%s}", variant >= 2 ? "   " : "");
            struct result result = parse_padded(SINGLE, cmq_span_make(body, bytes), &wide, 0);
            assert_int_equal(result.err, CMQ_OK);
            uint8_t head[5];
            size_t head_bytes = cmq_message_head(head, true, (uint32_t)lengths[i]);
            assert_int_equal(result.messages.bytes, 6 + head_bytes + lengths[i]);
            assert_memory_equal(result.messages.data + 6, head, head_bytes);
            for (size_t at = 6 + head_bytes; at < result.messages.bytes; at++)
                assert_int_equal(result.messages.data[at], 'x');
            cmq_buf_fini(&result.messages);
        }
    }
}

/* Grows the parser past what it keeps, and shrinks again. */
static void large_batches_come_back_in_order(void **state)
{
    (void)state;
    enum { COUNT = 100000, ROOM = 40 * COUNT };
    char *body = malloc(ROOM);
    assert_non_null(body);
    size_t bytes = (size_t)snprintf(body, ROOM, "{\"messages\": [");
    for (unsigned i = 1; i <= COUNT; i++)
        bytes += (size_t)snprintf(body + bytes, ROOM - bytes, "%s{\"content\": \"message_%u\"}",
                                  i > 1 ? ", " : "", i);
    bytes += (size_t)snprintf(body + bytes, ROOM - bytes, "]}");
    for (int round = 0; round < 2; round++) {
        struct result result = parse_padded(BATCH, cmq_span_make(body, bytes), &wide, 0);
        assert_int_equal(result.err, CMQ_OK);
        assert_int_equal(result.count, COUNT);
        struct cmq_mp_reader reader;
        cmq_mp_reader_init(&reader, cmq_span_make(result.messages.data + 6, result.messages.bytes - 6));
        for (unsigned i = 1; i <= COUNT; i++) {
            char expected[32];
            size_t length = (size_t)snprintf(expected, sizeof expected, "message_%u", i);
            struct cmq_message message;
            assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
            assert_int_equal(message.body.bytes, length);
            assert_memory_equal(message.body.data, expected, length);
        }
        assert_int_equal(cmq_mp_left(&reader), 0);
        cmq_buf_fini(&result.messages);
        result = parse_padded(SINGLE, cmq_span_make("{\"content\":\"x\"}", 15), &wide, 0);
        assert_int_equal(result.err, CMQ_OK);
        cmq_buf_fini(&result.messages);
    }
    free(body);
}

/* What one message nests is closed before the next. */
static void depth_does_not_add_up_over_messages(void **state)
{
    (void)state;
    char body[4096];
    size_t bytes = (size_t)snprintf(body, sizeof body, "{\"messages\":[");
    for (unsigned i = 0; i < 40; i++)
        bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, "%s{\"x\":[{}],\"content\":\"\"}",
                                  i > 0 ? "," : "");
    bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, "]}");
    struct result result = parse_padded(BATCH, cmq_span_make(body, bytes), &wide, 0);
    assert_int_equal(result.err, CMQ_OK);
    assert_int_equal(result.count, 40);
    cmq_buf_fini(&result.messages);
}

/* Changes of one byte: refused, or the messages are still whole and inside the promised room. */
static void changed_bytes_never_give_broken_messages(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"messages\": [{\"content\": \"a\\u00fc\\n\"}, {\"x\":[1,{}],\"content\": \"message\"}]}";
    char body[sizeof whole - 1];
    unsigned accepted = 0;
    for (size_t at = 0; at < sizeof body; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(body, whole, sizeof body);
            body[at] = (char)byte;
            struct result result = parse_padded(BATCH, cmq_span_make(body, sizeof body), &wide, '}');
            if (result.err == CMQ_OK) {
                accepted++;
                assert_true(result.messages.bytes - 6 <= sizeof body);
                struct cmq_mp_reader reader;
                cmq_mp_reader_init(&reader,
                                   cmq_span_make(result.messages.data + 6, result.messages.bytes - 6));
                for (uint32_t i = 0; i < result.count; i++) {
                    struct cmq_message message;
                    assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
                }
                assert_int_equal(cmq_mp_left(&reader), 0);
            } else {
                assert_true(result.error.offset <= sizeof body);
            }
            cmq_buf_fini(&result.messages);
        }
    }
    assert_true(accepted > 1000);
}

static void flaws_are_found_by_the_scan(void **state)
{
    (void)state;
    static const char good[] = "{\"a\":\"\\\\\\\"\xc3\xbc\"}";
    struct cmq_json_flaw flaw = cmq_json_find_flaw(cmq_span_make(good, sizeof good - 1));
    assert_int_equal(flaw.offset, SIZE_MAX);
    assert_int_equal(flaw.index, NO_INDEX);
    flaw = cmq_json_find_flaw(cmq_span_make("]]]}}\"\\", 7));
    assert_int_equal(flaw.offset, 6);
    flaw = cmq_json_find_flaw(cmq_span_make("{\"a\\ud83d\\ude00\\x\"", 17));
    assert_int_equal(flaw.offset, 15);
    assert_non_null(strstr(flaw.text, "escape"));
    flaw = cmq_json_find_flaw((struct cmq_span){0});
    assert_int_equal(flaw.offset, SIZE_MAX);
}

static void cut_escapes_are_wrong(void **state)
{
    (void)state;
    static const char pair[] = "\\ud83d\\ude00";
    for (size_t bytes = 1; bytes < sizeof pair; bytes++) {
        uint8_t *exact = wire_copy(pair, bytes);
        struct cmq_json_escape escape = cmq_json_unescape(exact, exact + bytes);
        if (bytes == sizeof pair - 1) {
            assert_int_equal(escape.taken, bytes);
            assert_int_equal(escape.bytes, 4);
            assert_memory_equal(escape.utf8, "\xf0\x9f\x98\x80", 4);
        } else {
            assert_int_equal(escape.taken, 0);
            assert_non_null(escape.wrong);
        }
        free(exact);
    }
}

/* ---- ids, and the batch of a topic ---- */

struct good {
    const char *body;
    size_t bytes;
    uint32_t count;
    const char *expected;
    size_t expected_bytes;
};

static void expect_all_good(enum kind kind, const struct good *good, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_messages(kind, cmq_span_make(good[i].body, good[i].bytes), good[i].count,
                        cmq_span_make(good[i].expected, good[i].expected_bytes));
}

/* An array message as it is packed: text body of up to 31 bytes; type and id with their heads, or nil. */
#define FULL(body_head, body, type, id) "\x95" body_head body type id "\xc0\xc0"
#define NIL                             "\xc0"
#define JSON_TYPE \
    "\xb0"        \
    "application/json"

static void ids_of_the_original_bodies_are_kept(void **state)
{
    (void)state;
    static const struct good singles[] = {
        GOOD("{\"content\":\"a\",\"id\":\"o-1\"}", 1, FULL("\xa1", "a", NIL, "\xa3o-1")),
        GOOD("{\"id\":\"o-1\",\"x\":[{}],\"content\":\"\"}", 1, FULL("\xa0", "", NIL, "\xa3o-1")),
        GOOD("{\"\\u0069d\":\"\\u0041\",\"content\":\"a\"}", 1,
             FULL("\xa1", "a", NIL,
                  "\xa1"
                  "A")),
    };
    static const struct good batches[] = {
        GOOD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\",\"id\":\"2\"},{\"content\":\"c\"}]}", 3,
             "\xa1"
             "a" FULL("\xa1", "b", NIL,
                      "\xa1"
                      "2") "\xa1"
                           "c"),
    };
    expect_all_good(SINGLE, singles, CMQ_COUNT_OF(singles));
    expect_all_good(BATCH, batches, CMQ_COUNT_OF(batches));
}

static void ids_against_the_rules_are_refused(void **state)
{
    (void)state;
    char too_long[200];
    int bytes = snprintf(too_long, sizeof too_long, "{\"content\":\"a\",\"id\":\"%0129d\"}", 1);
    const struct bad singles[] = {
        {too_long, (size_t)bytes, 20, NO_INDEX, "1 to 128 visible"},
        BAD("{\"id\":\"\",\"content\":\"a\"}", 6, NO_INDEX, "1 to 128 visible"),
        BAD("{\"id\":\"a b\",\"content\":\"a\"}", 6, NO_INDEX, "1 to 128 visible"),
        BAD("{\"id\":\"\xc3\xa9\",\"content\":\"a\"}", 6, NO_INDEX, "1 to 128 visible"),
        BAD("{\"id\":7,\"content\":\"a\"}", 6, NO_INDEX, "1 to 128 visible"),
        BAD("{\"id\":\"\\x\",\"content\":\"a\"}", 7, NO_INDEX, "escape"),
        BAD("{\"id\":\"a\",\"id\":\"a\",\"content\":\"a\"}", 10, NO_INDEX, "\"id\" is there twice"),
        BAD("{\"id\":\"a\"}", 0, NO_INDEX, "content"),
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(singles); i++)
        expect_bad(SINGLE, &singles[i]);
    static const struct bad batch =
        BAD("{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\",\"id\":2}]}", 49, 1, "1 to 128 visible");
    expect_bad(BATCH, &batch);
}

static void a_topic_batch_takes_strings_and_objects(void **state)
{
    (void)state;
    static const struct good table[] = {
        GOOD("[]", 0, ""),
        GOOD(" [ \"a\" , \"\" , \"\\u00e9\" ] ", 3,
             "\xa1"
             "a"
             "\xa0"
             "\xa2\xc3\xa9"),
        GOOD("[{\"data\":\"a\"},{\"data\":\"b\",\"id\":\"2\"}]", 2,
             "\xa1"
             "a" FULL("\xa1", "b", NIL,
                      "\xa1"
                      "2")),
        GOOD("[{\"data\":1}]", 1, FULL("\xa1", "1", JSON_TYPE, NIL)),
        GOOD("[{\"data\":null },{\"data\":true}]", 2,
             FULL("\xa4", "null", JSON_TYPE, NIL) FULL("\xa4", "true", JSON_TYPE, NIL)),
        GOOD("[{\"data\": {\"k\" : [1, \"x\"]} , \"id\":\"3\"}]", 1,
             FULL("\xb0", "{\"k\" : [1, \"x\"]}", JSON_TYPE,
                  "\xa1"
                  "3")),
        GOOD("[{\"data\":[],\"type\":\"application/json; charset=UTF-8\"}]", 1,
             FULL("\xa2", "[]", JSON_TYPE, NIL)),
        GOOD("[{\"type\":\"text/html\",\"data\":\"<b>\"}]", 1, FULL("\xa3", "<b>", "\xa9text/html", NIL)),
        GOOD("[{\"type\":\"text/plain\",\"data\":\"a\"}]", 1,
             "\xa1"
             "a"),
        GOOD("[{\"type\":\"Text/Plain;charset=utf-8\",\"data\":{}}]", 1, "\xa2{}"),
        GOOD("[{\"type\":\"a/b+json\",\"data\":{}}]", 1,
             FULL("\xa2", "{}",
                  "\xa8"
                  "a/b+json",
                  NIL)),
    };
    expect_all_good(TOPIC, table, CMQ_COUNT_OF(table));
}

static void a_topic_batch_is_strict(void **state)
{
    (void)state;
    static const struct bad table[] = {
        BAD("{}", 0, NO_INDEX, "expected an array"),
        BAD("\"a\"", 0, NO_INDEX, "expected an array"),
        BAD("[", 1, 0, "ends too early"),
        BAD("[1]", 1, 0, "expected a string or"),
        BAD("[\"a\",[]]", 5, 1, "expected a string or"),
        BAD("[\"a\",]", 5, 1, "expected a string or"),
        BAD("[\"a\"}", 4, NO_INDEX, "expected ',' or ']'"),
        BAD("[\"a\"] x", 6, NO_INDEX, "follows the JSON array"),
        BAD("[\"a\",{}]", 5, 1, "expected a string or"),
        BAD("[{\"id\":\"1\"}]", 1, 0, "expected a string or"),
        BAD("[{\"data\":1,\"Data\":2}]", 11, 0, "unknown member \"Data\";"),
        BAD("[{\"data\":1,\"d\\u0000\xc3\xa9\":2}]", 11, 0, "unknown member \"d???\";"),
        BAD("[{\"data\":1,\"012345678901234567890123456789012\":2}]", 11, 0,
            "\"01234567890123456789012345678901...\";"),
        BAD("[{\"data\":1,\"data\":2}]", 11, 0, "\"data\" is there twice"),
        BAD("[{\"data\":x}]", 9, 0, "not a JSON value"),
        BAD("[{\"data\":{\"a\":}}]", 14, 0, "not a JSON value"),
        BAD("[{\"data\":1,\"type\":1}]", 18, 0, "media type"),
        BAD("[{\"data\":1,\"type\":\"html\"}]", 18, 0, "media type"),
        BAD("[{\"data\":1,\"type\":\"\"}]", 18, 0, "media type"),
        BAD("[{\"data\":1,\"type\":\"\\ud800\"}]", 19, 0, "surrogate"),
        BAD("[{\"data\":1,\"type\":\"application/json;charset=utf-16\"}]", 18, 0, "UTF-8"),
        BAD("[\"\",{\"data\":\"1\",\"type\":\"application/json\"}]", 4, 1, "not a string"),
        BAD("[\"a\",\"\xff\"]", 6, 1, "UTF-8"),
        BAD("[\"a\",\"b", 5, 1, "not closed"),
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++)
        expect_bad(TOPIC, &table[i]);
    char long_type[200];
    int bytes = snprintf(long_type, sizeof long_type, "[{\"type\":\"a/%0126d\",\"data\":1}]", 1);
    expect_bad(TOPIC, &(struct bad){long_type, (size_t)bytes, 9, 0, "media type"});
}

static void a_topic_batch_has_limits(void **state)
{
    (void)state;
    const struct cmq_json_limits narrow = {.message_bytes_max = 4, .messages_max = 2};
    static const char *const table[] = {"[\"12345\"]", "[{\"data\":\"12345\"}]", "[{\"data\":12345}]",
                                        "[\"\",\"\",\"\"]"};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct result result = parse_padded(TOPIC, cmq_span_make(table[i], strlen(table[i])), &narrow, 0);
        assert_int_equal(result.err, CMQ_ERR_TOO_BIG);
        assert_int_equal(result.error.index, i == 3 ? 2 : 0);
        cmq_buf_fini(&result.messages);
    }
    static const char body[32 + CMQ_JSON_PADDING] = "[{\"data\":1},{\"data\":2}]";
    struct cmq_buf messages;
    struct cmq_json_found found;
    struct cmq_json_error error;
    cmq_buf_init(&messages, 300);
    assert_int_equal(
        cmq_json_parse_topic_batch(parser, cmq_span_make(body, 23), &wide, NULL, &messages, &found, &error),
        CMQ_ERR_TOO_BIG);
    assert_int_equal(messages.bytes, 0);
    assert_int_equal(error.index, 1);
    cmq_buf_fini(&messages);
}

/* Room is made message by message: every length, and growth in between. */
static void large_topic_batches_grow_as_they_must(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    char *body = malloc(COUNT * 20 + 200000 + CMQ_JSON_PADDING);
    assert_non_null(body);
    char *at = stpcpy(body, "[\"");
    memset(at, 'x', 70000);
    at = stpcpy(at + 70000, "\"");
    for (unsigned i = 0; i < COUNT; i++)
        at += snprintf(at, 20, i % 2 ? ",{\"data\":%u}" : ",\"%u\"", i);
    at = stpcpy(at, "]");
    struct result result = parse_padded(TOPIC, cmq_span_make(body, (size_t)(at - body)), &wide, 0);
    assert_int_equal(result.err, CMQ_OK);
    assert_int_equal(result.count, COUNT + 1);
    assert_false(result.has_ids);
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    cmq_mp_reader_init(&reader, cmq_span_make(result.messages.data + 6, result.messages.bytes - 6));
    assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
    assert_int_equal(message.body.bytes, 70000);
    for (unsigned i = 0; i < COUNT; i++) {
        char number[12];
        (void)snprintf(number, sizeof number, "%u", i);
        assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
        assert_int_equal(message.body.bytes, strlen(number));
        assert_memory_equal(message.body.data, number, message.body.bytes);
        assert_int_equal(message.type.bytes, i % 2 ? 16 : 0);
    }
    assert_int_equal(cmq_mp_left(&reader), 0);
    cmq_buf_fini(&result.messages);
    free(body);
}

static void ids_are_announced(void **state)
{
    (void)state;
    static const struct {
        enum kind kind;
        const char *body;
        bool has_ids;
    } table[] = {
        {SINGLE, "{\"content\":\"a\"}", false},
        {SINGLE, "{\"content\":\"a\",\"id\":\"1\"}", true},
        {BATCH, "{\"messages\":[{\"content\":\"a\",\"id\":\"1\"},{\"content\":\"a\"}]}", true},
        {TOPIC, "[\"a\",{\"data\":\"a\",\"type\":\"a/b\"}]", false},
        {TOPIC, "[{\"data\":\"a\",\"id\":\"1\"},\"a\"]", true},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct result result =
            parse_padded(table[i].kind, cmq_span_make(table[i].body, strlen(table[i].body)), &wide, 0);
        assert_int_equal(result.err, CMQ_OK);
        assert_int_equal(result.has_ids, table[i].has_ids);
        cmq_buf_fini(&result.messages);
    }
}

static void any_value_can_be_checked(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        size_t offset; /* SIZE_MAX: good */
    } table[] = {{"1", SIZE_MAX},
                 {" \"a\" ", SIZE_MAX},
                 {"{\"a\":[1,{}]}", SIZE_MAX},
                 {"[]", SIZE_MAX},
                 {"null", SIZE_MAX},
                 {"", 0},
                 {" ", 1},
                 {"nul", 0},
                 {"1 2", 2},
                 {"[1,]", 3},
                 {"{\"a\"}", 4},
                 {"[1}", 2},
                 {"\"\\x\"", 1},
                 {"\"a", 0},
                 {"{} {}", 3},
                 {"\"\xff\"", 1}};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct cmq_json_error error = {.offset = 99};
        char body[16 + CMQ_JSON_PADDING] = {0};
        size_t bytes = strlen(table[i].body);
        memcpy(body, table[i].body, bytes);
        enum cmq_err err = cmq_json_check(parser, cmq_span_make(body, bytes), &error);
        if (table[i].offset == SIZE_MAX ? err != CMQ_OK
                                        : err != CMQ_ERR_MALFORMED || error.offset != table[i].offset)
            fail_msg("%s: %d at %zu: %s", table[i].body, (int)err, error.offset, error.text);
    }
}

static void utf8_is_told_from_octets(void **state)
{
    (void)state;
    assert_true(cmq_utf8_is_valid(cmq_span_make(NULL, 0)));
    assert_true(cmq_utf8_is_valid(cmq_span_make("a\xc3\xa9\0", 4)));
    assert_false(cmq_utf8_is_valid(cmq_span_make("a\xc3", 2)));
    assert_false(cmq_utf8_is_valid(cmq_span_make("\xed\xa0\x80", 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_of_the_original_bodies_are_kept),
        cmocka_unit_test(ids_against_the_rules_are_refused),
        cmocka_unit_test(a_topic_batch_takes_strings_and_objects),
        cmocka_unit_test(a_topic_batch_is_strict),
        cmocka_unit_test(a_topic_batch_has_limits),
        cmocka_unit_test(large_topic_batches_grow_as_they_must),
        cmocka_unit_test(ids_are_announced),
        cmocka_unit_test(any_value_can_be_checked),
        cmocka_unit_test(utf8_is_told_from_octets),
        cmocka_unit_test(good_single_bodies_become_one_message),
        cmocka_unit_test(good_batches_become_messages),
        cmocka_unit_test(bad_single_bodies_are_refused_where_they_are_wrong),
        cmocka_unit_test(bad_batches_name_the_message),
        cmocka_unit_test(every_cut_of_a_good_body_is_refused),
        cmocka_unit_test(thirty_two_levels_are_read_and_one_more_is_refused),
        cmocka_unit_test(limits_hold_exactly),
        cmocka_unit_test(bodies_and_buffers_have_limits_of_their_own),
        cmocka_unit_test(messages_of_every_length_are_packed),
        cmocka_unit_test(large_batches_come_back_in_order),
        cmocka_unit_test(depth_does_not_add_up_over_messages),
        cmocka_unit_test(changed_bytes_never_give_broken_messages),
        cmocka_unit_test(flaws_are_found_by_the_scan),
        cmocka_unit_test(cut_escapes_are_wrong),
    };
    return cmocka_run_group_tests(tests, make_parser, drop_parser);
}
