#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_ndjson.h"
#include "tests/support/alloc_faults.h"
#include "tests/unit/wire_bodies.h"
#include "tests/unit/wire_support.h"

enum { LINE_BYTES_MAX = 64, HELD_BYTES_MAX = 1 << 20, REFUSED_MAX = 64 };

static struct cmq_json_parser *parser;
static struct cmq_buf messages;
static struct cmq_ndjson_found found;
static const struct cmq_json_limits limits = {
    .message_bytes_max = 32, .messages_max = 100000, .headers_bytes_max = 64};

static struct {
    uint32_t count;
    uint64_t lines[REFUSED_MAX];
    struct cmq_json_error errors[REFUSED_MAX];
} refused;

static void remember(void *context, uint64_t line, const struct cmq_json_error *error)
{
    assert_ptr_equal(context, &refused);
    if (refused.count < REFUSED_MAX) {
        refused.lines[refused.count] = line;
        refused.errors[refused.count] = *error;
    }
    refused.count++;
    assert_int_equal(error->index, UINT32_MAX);
    assert_true(error->text[0] != '\0');
}

static struct cmq_ndjson_order order = {
    .limits = &limits, .line_bytes_max = LINE_BYTES_MAX, .line = 1, .refused = remember, .context = &refused};

static int setup(void **state)
{
    (void)state;
    cmq_buf_init(&messages, HELD_BYTES_MAX);
    return cmq_json_parser_new(1 << 16, &parser) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cmq_buf_fini(&messages);
    cmq_json_parser_free(parser);
    return 0;
}

static void parse(const char *block, size_t bytes)
{
    uint8_t *padded = wire_padded(cmq_span_make(block, bytes), '"');
    messages.bytes = 0;
    refused.count = 0;
    assert_int_equal(cmq_ndjson_parse(parser, cmq_span_make(padded, bytes), &order, &messages, &found),
                     CMQ_OK);
    assert_int_equal(found.bytes, bytes);
    assert_int_equal(found.refused, refused.count);
    free(padded);
}

static void expect(const char *block, size_t bytes, uint64_t lines, const char *expected)
{
    parse(block, bytes);
    for (uint32_t i = 0; i < refused.count; i++)
        fail_msg("line %llu of %s: %s", (unsigned long long)refused.lines[i], block, refused.errors[i].text);
    const char *described = wire_describe(cmq_buf_span(&messages), found.messages);
    if (strcmp(described, expected) != 0)
        fail_msg("%s: %s", block, described);
    assert_int_equal(found.lines, lines);
}
#define EXPECT(block, lines, expected) expect(block, sizeof(block) - 1, lines, expected)

static void a_line_is_an_element(void **state)
{
    (void)state;
    EXPECT("", 0, "");
    EXPECT("\"a\"", 1, "t'a'");
    EXPECT("\"a\"\n", 1, "t'a'");
    EXPECT("\"a\"\n\"b\"\n\"\"\n", 3, "t'a' t'b' t''");
    EXPECT("{\"data\":1,\"id\":\"7\"}\n\"\\u00e9\\n\"", 2, "t'1' application/json 7 - - t'\xc3\xa9\n'");
    assert_true(found.has_ids);
    EXPECT(" \t{ \"data\" : [1, {\"a\":null}] }\t \n\"b\"", 2,
           "t'[1, {\"a\":null}]' application/json - - - t'b'");
    assert_false(found.has_ids);
}

static void blank_lines_and_carriage_returns_are_white_space(void **state)
{
    (void)state;
    EXPECT("\n", 1, "");
    EXPECT("\r\n\r\n", 2, "");
    EXPECT(" \n\t\n  ", 3, "");
    EXPECT("\"a\"\r\n\r\n\n\"b\"\r\n", 4, "t'a' t'b'");
    EXPECT("\r\"a\"\r\r\n{\r\"data\"\r:\r2}\r", 2, "t'a' t'2' application/json - - -");
}

static void lines_inherit_from_their_request(void **state)
{
    (void)state;
    const struct cmq_element_defaults defaults = {
        .accepted_at_ms = 1000, .ttl_ms = 5, .headers = {(const uint8_t *)"\x81\xa1h\xa1\x31", 5}};
    order.defaults = &defaults;
    EXPECT("\"a\"\n{\"data\":2,\"ttl_ms\":9,\"headers\":{\"h\":\"2\"}}\n", 2,
           "t'a' - - 1005 {h=1} t'2' application/json - 1009 {h=2}");
    order.defaults = NULL;
}

static void a_bad_line_fails_alone_with_its_number_and_place(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t bytes;
        size_t offset;
        const char *part;
    } table[] = {
#define BAD(line, offset, part) {line, sizeof(line) - 1, offset, part}
        BAD("1", 0, "expected a string or"),
        BAD("[\"a\"]", 0, "expected a string or"),
        BAD("\"a\" \"b\"", 4, "something follows"),
        BAD("\"a\",", 3, "something follows"),
        BAD("{\"data\":1}{\"data\":2}", 10, "something follows"),
        BAD("{\"data\":1", 9, "ends too early"),
        BAD("{\"data\":", 8, "ends too early"),
        BAD("{\"data\"", 7, "ends too early"),
        BAD("{", 1, "ends too early"),
        BAD("}", 0, "expected a string or"),
        BAD("{\"data\":[1,2}", 12, "',' or ']'"),
        BAD("{\"data\":tru}", 8, "not a JSON value"),
        BAD("{\"data\":1,\"data\":1}", 10, "\"data\" is there twice"),
        BAD("{\"data\":1,\"x\":1}", 10, "unknown member \"x\""),
        BAD("{\"id\":\"1\"}", 0, "expected a string or"),
        BAD("{\"data\":1,\"ttl_ms\":0}", 19, "ttl_ms"),
        BAD("{\"data\":1,\"headers\":{\"A\":\"\"}}", 21, "lower case"),
        BAD("\"a", 0, "not closed"),
        BAD("a\"", 1, "not closed"),
        BAD("\"a\\\"", 0, "not closed"),
        BAD("\"a\\q\"", 2, "escape"),
        BAD("\"\\ud800\"", 1, "surrogate"),
        BAD("\"a\tb\"", 2, "control character"),
        BAD("\"a\0b\"", 2, "control character"),
        BAD("\0", 0, "expected a string or"),
        BAD("\"\xff\"", 1, "UTF-8"),
        BAD("\xff", 0, "UTF-8"),
        BAD("\\", 0, ""),
        BAD("\xef\xbb\xbf\"a\"", 0, "byte order mark"),
        BAD("\xef\xbb\xbf\"\xff\"", 0, "byte order mark"),
        BAD("\"012345678901234567890123456789012\"", 0, "33 bytes; at most 32"),
#undef BAD
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        char block[256];
        size_t bytes = 0;
        bytes += (size_t)snprintf(block, sizeof block, "\"one\"\r\n\n");
        memcpy(block + bytes, table[i].line, table[i].bytes);
        bytes += table[i].bytes;
        bytes += (size_t)snprintf(block + bytes, sizeof block - bytes, "\n\"two\"");
        parse(block, bytes);
        assert_string_equal(wire_describe(cmq_buf_span(&messages), found.messages), "t'one' t'two'");
        assert_int_equal(found.lines, 4);
        if (refused.count != 1 || refused.lines[0] != 3 || refused.errors[0].offset != table[i].offset ||
            strstr(refused.errors[0].text, table[i].part) == NULL)
            fail_msg("%s: %u, line %llu, at %zu: %s", table[i].line, refused.count,
                     (unsigned long long)refused.lines[0], refused.errors[0].offset, refused.errors[0].text);
    }
}

static void every_line_may_be_bad(void **state)
{
    (void)state;
    static const char *const bad[] = {"\"a", "1", "\"\xff\"", "{\"data\":1,\"id\":1}"};
    char block[2000] = "";
    for (unsigned i = 0; i < 40; i++)
        (void)snprintf(block + strlen(block), 64, "%s%s", bad[i % 4], i % 2 ? "\r\n" : "\n");
    parse(block, strlen(block));
    assert_int_equal(found.messages, 0);
    assert_int_equal(messages.bytes, 0);
    assert_int_equal(refused.count, 40);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(refused.lines[i], i + 1);
    assert_false(found.has_ids);
}

/* A line of bytes in quotes, of `bytes` in all. */
static size_t put_line(char *dst, size_t bytes, const char *end)
{
    memset(dst, 'x', bytes);
    dst[0] = dst[bytes - 1] = '"';
    memcpy(dst + bytes, end, strlen(end));
    return bytes + strlen(end);
}

static void a_line_has_a_longest_length(void **state)
{
    (void)state;
    const struct cmq_json_limits wide = {.message_bytes_max = 1000, .messages_max = 100};
    static const char *const ends[] = {"\n", "\r\n", ""};
    order.limits = &wide;
    for (size_t i = 0; i < CMQ_COUNT_OF(ends); i++) {
        char block[200];
        size_t bytes = put_line(block, LINE_BYTES_MAX, ends[i]);
        parse(block, bytes);
        assert_int_equal(found.messages, 1);
        bytes = put_line(block, LINE_BYTES_MAX + 1, ends[i]);
        parse(block, bytes);
        assert_int_equal(found.messages, 0);
        assert_int_equal(refused.count, 1);
        assert_string_equal(refused.errors[0].text, "the line has more than 64 bytes");
        assert_int_equal(refused.errors[0].offset, SIZE_MAX);
    }
    order.limits = &limits;
}

/* Feeds the text in chunks of that size, and takes whenever something is ready. */
static void feed(struct cmq_lines *lines, const char *text, size_t bytes, size_t chunk, bool take_late)
{
    messages.bytes = 0;
    refused.count = 0;
    uint32_t count = 0;
    for (size_t at = 0; at <= bytes; at += chunk) {
        size_t part = bytes - at < chunk ? bytes - at : chunk;
        uint8_t *exact = wire_copy(text + at, part);
        assert_int_equal(cmq_lines_append(lines, cmq_span_make(exact, part)), CMQ_OK);
        free(exact);
        if (at + chunk > bytes)
            cmq_lines_end(lines);
        else if (take_late)
            continue;
        assert_int_equal(cmq_ndjson_take(parser, lines, &order, &messages, &found), CMQ_OK);
        assert_int_equal(cmq_lines_ready(lines), 0);
        count += found.messages;
    }
    found.messages = count;
}

static void lines_may_span_chunks_of_any_size(void **state)
{
    (void)state;
    static const char text[] =
        "\"one\"\r\n\n{\"data\":[1,2],\"id\":\"i\"}\n\"tw\\u006f\"\n1\n \r\n\"\xc3\xa9\"";
    static const char expected[] = "t'one' t'[1,2]' application/json i - - t'two' t'\xc3\xa9'";
    for (size_t chunk = 1; chunk <= sizeof text; chunk++) {
        for (unsigned late = 0; late < 2; late++) {
            struct cmq_lines lines;
            cmq_lines_init(&lines, LINE_BYTES_MAX, HELD_BYTES_MAX);
            feed(&lines, text, sizeof text - 1, chunk, late != 0);
            assert_string_equal(wire_describe(cmq_buf_span(&messages), found.messages), expected);
            assert_int_equal(refused.count, 1);
            assert_int_equal(refused.lines[0], 5);
            assert_int_equal(lines.line, 8);
            cmq_lines_fini(&lines);
        }
    }
}

static void a_line_that_is_too_long_takes_no_memory_and_fails_alone(void **state)
{
    (void)state;
    enum { LONG = 100000 };
    static char text[LONG + 100];
    size_t bytes = (size_t)snprintf(text, sizeof text, "\"a\"\n{\"data\":1}");
    memset(text + bytes, ' ', LONG); /* cut anywhere it would look like a good line */
    bytes += LONG;
    bytes += (size_t)snprintf(text + bytes, sizeof text - bytes, "x\n\"b\"\n");
    static const size_t chunks[] = {1, 7, 50, 66, 67, 1000, LONG};
    for (size_t i = 0; i < CMQ_COUNT_OF(chunks); i++) {
        struct cmq_lines lines;
        cmq_lines_init(&lines, LINE_BYTES_MAX, 2 * LONG);
        feed(&lines, text, bytes, chunks[i], false);
        assert_string_equal(wire_describe(cmq_buf_span(&messages), found.messages), "t'a' t'b'");
        assert_int_equal(refused.count, 1);
        assert_int_equal(refused.lines[0], 2);
        assert_true(chunks[i] >= 1000 || lines.held.capacity <= 1024);
        cmq_lines_fini(&lines);
    }
    /* White space is a line, too. */
    memset(text, ' ', LONG);
    struct cmq_lines lines;
    cmq_lines_init(&lines, LINE_BYTES_MAX, 2 * LONG);
    feed(&lines, text, LONG, 100, false);
    assert_int_equal(refused.count, 1);
    cmq_lines_fini(&lines);
}

/* The longest line and the shortest that is too long, at every cut, with either end. */
static void the_longest_line_holds_whatever_the_chunks(void **state)
{
    (void)state;
    const struct cmq_json_limits wide = {.message_bytes_max = 1000, .messages_max = 100};
    order.limits = &wide;
    for (unsigned variant = 0; variant < 4; variant++) {
        char text[200];
        size_t bytes = put_line(text, LINE_BYTES_MAX + variant % 2, variant / 2 ? "\r\n" : "\n");
        bytes += put_line(text + bytes, 3, "\n");
        for (size_t chunk = 1; chunk <= bytes; chunk++) {
            struct cmq_lines lines;
            cmq_lines_init(&lines, LINE_BYTES_MAX, HELD_BYTES_MAX);
            feed(&lines, text, bytes, chunk, false);
            assert_int_equal(found.messages, variant % 2 ? 1 : 2);
            assert_int_equal(refused.count, variant % 2);
            cmq_lines_fini(&lines);
        }
    }
    order.limits = &limits;
}

/* A CR inside is no end: what stands behind it may not be cut off. */
static void a_line_is_not_cut_at_a_carriage_return(void **state)
{
    (void)state;
    const struct cmq_json_limits wide = {.message_bytes_max = 1000, .messages_max = 100};
    order.limits = &wide;
    char text[200];
    size_t bytes = put_line(text, LINE_BYTES_MAX, "\rx\n");
    for (size_t chunk = 1; chunk <= bytes; chunk++) {
        struct cmq_lines lines;
        cmq_lines_init(&lines, LINE_BYTES_MAX, HELD_BYTES_MAX);
        feed(&lines, text, bytes, chunk, false);
        assert_int_equal(found.messages, 0);
        assert_int_equal(refused.count, 1);
        cmq_lines_fini(&lines);
    }
    order.limits = &limits;
}

static void a_call_ends_before_the_message_that_is_one_too_many(void **state)
{
    (void)state;
    const struct cmq_json_limits two = {.message_bytes_max = 32, .messages_max = 2};
    static const char text[] = "\"a\"\n1\n\"b\"\n\n2\n\"c\"\n\"d\"\n\"e\"\n";
    struct cmq_lines lines;
    cmq_lines_init(&lines, LINE_BYTES_MAX, HELD_BYTES_MAX);
    order.limits = &two;
    refused.count = 0;
    static const char *const expected[] = {"t'a' t'b'", "t'c' t'd'", "t'e'"};
    static const uint64_t next_lines[] = {5, 8, 9};
    assert_int_equal(cmq_lines_append(&lines, cmq_span_make(text, sizeof text - 1)), CMQ_OK);
    for (size_t i = 0; i < CMQ_COUNT_OF(expected); i++) {
        assert_true(cmq_lines_ready(&lines) > 0);
        messages.bytes = 0;
        assert_int_equal(cmq_ndjson_take(parser, &lines, &order, &messages, &found), CMQ_OK);
        assert_string_equal(wire_describe(cmq_buf_span(&messages), found.messages), expected[i]);
        assert_int_equal(lines.line, next_lines[i]);
    }
    assert_int_equal(cmq_lines_ready(&lines), 0);
    assert_int_equal(refused.count, 2);
    assert_int_equal(refused.lines[1], 5);
    order.limits = &limits;
    cmq_lines_fini(&lines);
}

/* The buffer's limit ends a call; what does not fit into an empty one is refused. */
static void a_call_ends_where_the_messages_are_full(void **state)
{
    (void)state;
    const struct cmq_json_limits wide = {
        .message_bytes_max = 1000, .messages_max = 100, .headers_bytes_max = 3000};
    uint8_t packed[3000] = {0x81, 0xa1, 'h', 0xda, 600 >> 8, 600 & 0xff};
    memset(packed + 6, 'v', 600);
    const struct cmq_element_defaults large = {.accepted_at_ms = 1, .headers = {packed, 606}};
    static const char text[] = "\"a\"\n\"b\"\n1\n\"c\"\n\"d\"\n\"e\"\n";
    struct cmq_lines lines;
    struct cmq_buf small;
    cmq_lines_init(&lines, LINE_BYTES_MAX, HELD_BYTES_MAX);
    cmq_buf_init(&small, 1700);
    order.limits = &wide;
    order.defaults = &large;
    refused.count = 0;
    unsigned calls = 0, count = 0;
    assert_int_equal(cmq_lines_append(&lines, cmq_span_make(text, sizeof text - 1)), CMQ_OK);
    for (; cmq_lines_ready(&lines) > 0; calls++) {
        small.bytes = 0;
        assert_int_equal(cmq_ndjson_take(parser, &lines, &order, &small, &found), CMQ_OK);
        assert_true(found.messages > 0);
        count += found.messages;
    }
    assert_int_equal(count, 5);
    assert_int_equal(calls, 3);
    assert_int_equal(refused.count, 1);
    assert_int_equal(refused.lines[0], 3);
    cmq_buf_fini(&small);
    cmq_buf_init(&small, 600);
    assert_int_equal(cmq_lines_append(&lines, cmq_span_make("\"a\"\n\"b\"\n", 8)), CMQ_OK);
    assert_int_equal(cmq_ndjson_take(parser, &lines, &order, &small, &found), CMQ_OK);
    assert_int_equal(found.refused, 2);
    assert_string_equal(refused.errors[1].text, "the messages are larger than the limit");
    order.limits = &limits;
    order.defaults = NULL;
    cmq_buf_fini(&small);
    cmq_lines_fini(&lines);
}

static void held_bytes_are_bounded(void **state)
{
    (void)state;
    struct cmq_lines lines;
    cmq_lines_init(&lines, LINE_BYTES_MAX, 100);
    static const char line[] = "\"0123456789012345678901234567890123456789\"\n";
    struct cmq_span span = cmq_span_make(line, sizeof line - 1);
    assert_int_equal(cmq_lines_append(&lines, span), CMQ_OK);
    assert_int_equal(cmq_lines_append(&lines, span), CMQ_OK);
    assert_int_equal(cmq_lines_append(&lines, span), CMQ_ERR_TOO_BIG);
    assert_int_equal(cmq_lines_ready(&lines), 2 * span.bytes);
    const struct cmq_json_limits wide = {.message_bytes_max = 1000, .messages_max = 1};
    order.limits = &wide;
    assert_int_equal(cmq_ndjson_take(parser, &lines, &order, &messages, &found), CMQ_OK);
    assert_int_equal(cmq_lines_append(&lines, span), CMQ_OK);
    assert_int_equal(cmq_lines_ready(&lines), 2 * span.bytes);
    order.limits = &limits;
    cmq_lines_fini(&lines);
    cmq_lines_fini(&lines);
}

/* Many pieces, with bad lines of both kinds at places of all kinds; the order and the numbers hold. */
static void large_blocks_come_back_in_order(void **state)
{
    (void)state;
    enum { COUNT = 60000 };
    char *text = malloc(COUNT * 32);
    assert_non_null(text);
    uint64_t random = 7;
    size_t bytes = 0;
    uint32_t bad = 0;
    uint64_t *bad_lines = malloc(COUNT * sizeof *bad_lines);
    for (unsigned i = 0; i < COUNT; i++) {
        uint64_t dice = wire_random(&random) % 2000;
        bool dense = i > 20000 && i < 21000;
        if (dice < 2 || (dense && dice < 1000)) {
            bytes += (size_t)snprintf(text + bytes, 32, "%s\n", dice % 2 ? "\"\xff\"" : "nonsense");
            bad_lines[bad++] = i + 1;
        } else {
            bytes += (size_t)snprintf(text + bytes, 32, i % 3 ? "\"%u\"\n" : "{\"data\":%u}\n", i);
        }
    }
    refused.count = 0;
    messages.bytes = 0;
    uint8_t *padded = wire_padded(cmq_span_make(text, bytes), 0);
    assert_int_equal(cmq_ndjson_parse(parser, cmq_span_make(padded, bytes), &order, &messages, &found),
                     CMQ_OK);
    assert_int_equal(found.lines, COUNT);
    assert_int_equal(found.messages, COUNT - bad);
    assert_int_equal(refused.count, bad);
    for (uint32_t i = 0; i < bad && i < REFUSED_MAX; i++)
        assert_int_equal(refused.lines[i], bad_lines[i]);
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, cmq_buf_span(&messages));
    for (unsigned i = 0, next_bad = 0; i < COUNT; i++) {
        char expected[16];
        struct cmq_message_full message;
        if (next_bad < bad && bad_lines[next_bad] == i + 1) {
            next_bad++;
            continue;
        }
        int length = snprintf(expected, sizeof expected, "%u", i);
        assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
        assert_int_equal(message.body.bytes, length);
        assert_memory_equal(message.body.data, expected, message.body.bytes);
    }
    assert_int_equal(cmq_mp_left(&reader), 0);
    free(bad_lines);
    free(padded);
    free(text);
}

/* Each allocation fails once; what was taken before it is kept, and going on gives all lines once. */
static void an_allocation_that_fails_loses_and_doubles_no_line(void **state)
{
    (void)state;
    static const char text[] = "\"a\"\n1\n{\"data\":1,\"headers\":{\"a\":\"1\"}}\n\"\xff\"\n\"b\"\n";
    unsigned failures = 0;
    for (uint64_t nth = 1;; nth++) {
        struct cmq_json_parser *fresh;
        struct cmq_lines lines;
        struct cmq_buf buf;
        assert_int_equal(cmq_json_parser_new(1 << 16, &fresh), CMQ_OK);
        cmq_lines_init(&lines, LINE_BYTES_MAX, HELD_BYTES_MAX);
        cmq_buf_init(&buf, 1 << 16);
        refused.count = 0;
        alloc_faults_arm(nth, false);
        uint32_t count = 0;
        if (cmq_lines_append(&lines, cmq_span_make(text, sizeof text - 1)) == CMQ_ERR_NOMEM)
            assert_int_equal(cmq_lines_append(&lines, cmq_span_make(text, sizeof text - 1)), CMQ_OK);
        for (unsigned tries = 0; cmq_lines_ready(&lines) > 0; tries++) {
            enum cmq_err err = cmq_ndjson_take(fresh, &lines, &order, &buf, &found);
            assert_true(err == CMQ_OK || err == CMQ_ERR_NOMEM);
            assert_true(tries < 2);
            count += found.messages;
        }
        bool failed = alloc_faults_disarm();
        assert_string_equal(wire_describe(cmq_buf_span(&buf), count),
                            "t'a' t'1' application/json - - {a=1} t'b'");
        assert_int_equal(refused.count, 2);
        cmq_buf_fini(&buf);
        cmq_lines_fini(&lines);
        cmq_json_parser_free(fresh);
        if (!failed)
            break;
        failures++;
    }
    assert_true(failures >= 4);
}

/* An element nests as deep in a line as in an array: 32 levels with the array's. */
static void a_line_nests_as_deep_as_an_element(void **state)
{
    (void)state;
    const struct cmq_json_limits wide = {.message_bytes_max = 1000, .messages_max = 1};
    const struct cmq_ndjson_order deep = {
        .limits = &wide, .line_bytes_max = 1000, .line = 1, .refused = remember, .context = &refused};
    for (unsigned levels = 30; levels <= 31; levels++) {
        char line[200] = "";
        for (unsigned i = 0; i < 2 * levels; i++)
            line[i] = i < levels ? '[' : ']';
        char text[300] = {0}, batch[300] = {0};
        int bytes = snprintf(text, 200, "{\"data\":%s}", line);
        int batch_bytes = snprintf(batch, 200, "[{\"data\":%s}]", line);
        struct cmq_json_found ignored;
        struct cmq_json_error error;
        messages.bytes = 0;
        refused.count = 0;
        assert_int_equal(
            cmq_ndjson_parse(parser, cmq_span_make(text, (size_t)bytes), &deep, &messages, &found), CMQ_OK);
        assert_int_equal(found.messages, levels == 30);
        assert_int_equal(cmq_json_parse_topic_batch(parser, cmq_span_make(batch, (size_t)batch_bytes), &wide,
                                                    NULL, &messages, &ignored, &error),
                         levels == 30 ? CMQ_OK : CMQ_ERR_MALFORMED);
    }
    assert_non_null(strstr(refused.errors[0].text, "32 levels"));
}

/* A parser for small bodies takes blocks of any size; a line must fit into it. */
static void the_block_may_be_larger_than_the_parser(void **state)
{
    (void)state;
    struct cmq_json_parser *small;
    assert_int_equal(cmq_json_parser_new(12, &small), CMQ_OK);
    static const char text[] = "\"a\"\n\"b\"\n\"c\"\n\"d\"\n\"01234567890\"\n\"0123456789\"\n\"e\"";
    uint8_t *padded = wire_padded(cmq_span_make(text, sizeof text - 1), 0);
    messages.bytes = 0;
    refused.count = 0;
    assert_int_equal(
        cmq_ndjson_parse(small, cmq_span_make(padded, sizeof text - 1), &order, &messages, &found), CMQ_OK);
    assert_string_equal(wire_describe(cmq_buf_span(&messages), found.messages), "t'a' t'b' t'c' t'd' t'e'");
    assert_int_equal(refused.count, 2);
    assert_int_equal(refused.lines[0], 5);
    assert_string_equal(refused.errors[0].text, "the line has more than 12 bytes");
    free(padded);
    cmq_json_parser_free(small);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_is_an_element),
        TEST(blank_lines_and_carriage_returns_are_white_space),
        TEST(lines_inherit_from_their_request),
        TEST(a_bad_line_fails_alone_with_its_number_and_place),
        TEST(every_line_may_be_bad),
        TEST(a_line_has_a_longest_length),
        TEST(lines_may_span_chunks_of_any_size),
        TEST(a_line_that_is_too_long_takes_no_memory_and_fails_alone),
        TEST(the_longest_line_holds_whatever_the_chunks),
        TEST(a_line_is_not_cut_at_a_carriage_return),
        TEST(a_call_ends_before_the_message_that_is_one_too_many),
        TEST(a_call_ends_where_the_messages_are_full),
        TEST(held_bytes_are_bounded),
        TEST(large_blocks_come_back_in_order),
        TEST(an_allocation_that_fails_loses_and_doubles_no_line),
        TEST(a_line_nests_as_deep_as_an_element),
        TEST(the_block_may_be_larger_than_the_parser),
    };
    return cmocka_run_group_tests_name("cmq_ndjson", tests, NULL, NULL);
}
