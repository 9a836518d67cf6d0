#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_mp_in.h"
#include "common/wire/cmq_mp_out.h"
#include "tests/support/alloc_faults.h"
#include "tests/unit/wire_bodies.h"
#include "tests/unit/wire_support.h"

static struct cmq_json_parser *parser;
static struct cmq_buf messages;
static struct cmq_json_found found;
static struct cmq_json_error error;
static const struct cmq_json_limits limits = {
    .message_bytes_max = 40, .messages_max = 20, .headers_bytes_max = 16, .ttl_ms_max = 5000};
static const struct cmq_element_defaults request = {
    .accepted_at_ms = 1000, .ttl_ms = 70, .headers = {(const uint8_t *)"\x81\xa1r\xa1\x31", 5}};
static const struct cmq_element_defaults clock_only = {.accepted_at_ms = 1000};

static int setup(void **state)
{
    (void)state;
    cmq_buf_init(&messages, 1 << 16);
    return cmq_json_parser_new(1 << 16, &parser) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cmq_buf_fini(&messages);
    cmq_json_parser_free(parser);
    return 0;
}

static enum cmq_err run(struct cmq_span body, const struct cmq_element_defaults *defaults)
{
    uint8_t *padded = wire_padded(body, 0xa5);
    messages.bytes = 0;
    found = (struct cmq_json_found){.messages = 77};
    error.text[0] = '\0';
    enum cmq_err err = cmq_mp_parse_batch(parser, cmq_span_make(padded, body.bytes), &limits, defaults,
                                          &messages, &found, &error);
    free(padded);
    if (err != CMQ_OK) {
        assert_int_equal(messages.bytes, 0);
        assert_int_equal(found.messages, 77);
        assert_true(error.text[0] != '\0');
        assert_true(error.offset <= body.bytes || error.offset == SIZE_MAX);
    }
    return err;
}

struct good {
    const char *body;
    size_t bytes;
    const char *expected;
};
#define GOOD(body, expected)             \
    {                                    \
        body, sizeof(body) - 1, expected \
    }

static void expect_all(const struct good *table, size_t count, const struct cmq_element_defaults *defaults)
{
    for (size_t i = 0; i < count; i++) {
        if (run(cmq_span_make(table[i].body, table[i].bytes), defaults) != CMQ_OK)
            fail_msg("%zu: %s at %zu", i, error.text, error.offset);
        const char *described = wire_describe(cmq_buf_span(&messages), found.messages);
        if (strcmp(described, table[i].expected) != 0)
            fail_msg("%zu: %s", i, described);
    }
}

#define DATA \
    "\xa4"   \
    "data"
#define ID \
    "\xa2" \
    "id"
#define TYPE \
    "\xa4"   \
    "type"
#define TTL \
    "\xa6"  \
    "ttl_ms"
#define HEADER \
    "\xa7"     \
    "headers"
#define JSON \
    "\xb0"   \
    "application/json"

static void str_bin_and_map_become_messages(void **state)
{
    (void)state;
    static const struct good table[] = {
        GOOD("\x90", ""),
        GOOD("\xdc\x00\x00", ""),
        GOOD("\xdd\x00\x00\x00\x00", ""),
        GOOD("\x93\xa1"
             "a\xa0\xa2\xc3\xa9",
             "t'a' t'' t'\xc3\xa9'"),
        GOOD("\x92\xd9\x01"
             "a\xdb\x00\x00\x00\x01"
             "b",
             "t'a' t'b'"),
        GOOD("\x92\xc4\x01\xff\xc4\x00", "b'\xff' b''"),
        GOOD("\x91\xbf"
             "0123456789012345678901234567890",
             "t'0123456789012345678901234567890'"),
        GOOD("\x91\x81" DATA "\xa1"
             "a",
             "t'a'"),
        GOOD("\x91\x81" DATA "\xc4\x01"
             "a",
             "b'a'"),
        GOOD("\x91\x82" ID "\xa1"
             "7" DATA "\xa1"
             "a",
             "t'a' - 7 - -"),
        GOOD("\x91\x82" TYPE "\xa9"
             "text/html" DATA "\xa1"
             "a",
             "t'a' text/html - - -"),
        GOOD("\x91\x82" TYPE "\xaa"
             "text/plain" DATA "\xa1"
             "a",
             "t'a'"),
        GOOD("\x91\x82" TYPE "\xaa"
             "text/plain" DATA "\xc4\x01"
             "a",
             "b'a'"),
        GOOD("\x91\x82" TYPE JSON DATA "\xa2"
             "[]",
             "t'[]' application/json - - -"),
        GOOD("\x91\x82" DATA "\xc4\x04"
             "null" TYPE JSON,
             "t'null' application/json - - -"),
        GOOD("\x91\x82" TTL "\x05" DATA "\xa1"
             "a",
             "t'a' - - 1005 -"),
        GOOD("\x91\x82" TTL "\xcd\x13\x88" DATA "\xa1"
             "a",
             "t'a' - - 6000 -"),
        GOOD("\x91\x82" HEADER "\x80" DATA "\xa1"
             "a",
             "t'a'"),
        GOOD("\x91\x82" HEADER "\x82\xa1"
             "b\xa1"
             "1\xa1"
             "a\xa0" DATA "\xa1"
             "a",
             "t'a' - - - {b=1,a=}"),
        GOOD("\x91\xdf\x00\x00\x00\x01" DATA "\xa1"
             "a",
             "t'a'"),
    };
    expect_all(table, CMQ_COUNT_OF(table), &clock_only);
}

static void elements_inherit_from_their_request(void **state)
{
    (void)state;
    static const struct good table[] = {
        GOOD("\x92\xa1"
             "a\xc4\x01\xff",
             "t'a' - - 1070 {r=1} b'\xff' - - 1070 {r=1}"),
        GOOD("\x91\x83" TTL "\x05" DATA "\xa1"
             "a" HEADER "\x82\xa1"
             "r\xa1"
             "2\xa1"
             "o\xa0",
             "t'a' - - 1005 {r=2,o=}"),
    };
    expect_all(table, CMQ_COUNT_OF(table), &request);
}

static void ids_are_announced(void **state)
{
    (void)state;
    assert_int_equal(run(cmq_span_make("\x91\xa1"
                                       "a",
                                       3),
                         NULL),
                     CMQ_OK);
    assert_false(found.has_ids);
    static const char body[] = "\x92\xa1"
                               "a\x82" ID "\xa1"
                               "7" DATA "\xa1"
                               "a";
    assert_int_equal(run(cmq_span_make(body, sizeof body - 1), NULL), CMQ_OK);
    assert_true(found.has_ids);
}

struct bad {
    const char *body;
    size_t bytes;
    enum cmq_err err;
    size_t offset;
    uint32_t index;
    const char *part;
};
#define BAD(body, offset, index, part)                                 \
    {                                                                  \
        body, sizeof(body) - 1, CMQ_ERR_MALFORMED, offset, index, part \
    }
#define BIG(body, offset, index, part)                               \
    {                                                                \
        body, sizeof(body) - 1, CMQ_ERR_TOO_BIG, offset, index, part \
    }

static void expect_all_bad(const struct bad *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum cmq_err err = run(cmq_span_make(table[i].body, table[i].bytes), &clock_only);
        if (err != table[i].err || error.offset != table[i].offset || error.index != table[i].index ||
            strstr(error.text, table[i].part) == NULL)
            fail_msg("%zu: %d at %zu, index %u: %s", i, (int)err, error.offset, error.index, error.text);
    }
}

static void what_is_no_batch_is_refused_where_it_is_wrong(void **state)
{
    (void)state;
    static const struct bad table[] = {
        BAD("", 0, UINT32_MAX, "empty"),
        BAD("\xa1"
            "a",
            0, UINT32_MAX, "expected a MessagePack array"),
        BAD("\x80", 0, UINT32_MAX, "expected a MessagePack array"),
        BAD("\xc1", 0, UINT32_MAX, "0xc1"),
        BAD("[\"a\"]", 0, UINT32_MAX, "expected a MessagePack array"),
        BAD("\xdd\xff\xff\xff\xff", 0, UINT32_MAX, "ends before"),
        BAD("\xdc\x00", 0, UINT32_MAX, "ends before"),
        BAD("\x92\xa1"
            "a",
            3, 1, "ends before"),
        BAD("\x91\xa2"
            "a",
            1, 0, "ends before"),
        BAD("\x91\xdb\xff\xff\xff\xff"
            "a",
            1, 0, "ends before"),
        BAD("\x91\xa1"
            "a\xa1"
            "b",
            3, UINT32_MAX, "something follows"),
        BAD("\x92\xa1"
            "a\x01",
            3, 1, "an element must be a str"),
        BAD("\x91\xc0", 1, 0, "an element must be a str"),
        BAD("\x91\xc3", 1, 0, "an element must be a str"),
        BAD("\x91\x90", 1, 0, "an element must be a str"),
        BAD("\x91\xd4\x01\x02", 1, 0, "an element must be a str"),
        BAD("\x91\xca\x00\x00\x00\x00", 1, 0, "an element must be a str"),
        BAD("\x91\xa1\xff", 1, 0, "not valid UTF-8"),
        BAD("\x91\xa3\xed\xa0\x80", 1, 0, "not valid UTF-8"),
        BAD("\x91\xa9"
            "12345678\xff",
            1, 0, "not valid UTF-8"),
    };
    expect_all_bad(table, CMQ_COUNT_OF(table));
}

static void members_against_the_rules_are_refused_where_they_stand(void **state)
{
    (void)state;
    static const struct bad table[] = {
        BAD("\x91\x80", 1, 0, "needs \"data\""),
        BAD("\x91\x81" ID "\xa1"
            "7",
            1, 0, "needs \"data\""),
        BAD("\x91\x81\x01\xa0", 2, 0, "names in an element must be str"),
        BAD("\x91\x81\xc4\x04"
            "data\xa0",
            2, 0, "names in an element must be str"),
        BAD("\x91\x81\xa1\xff\xa0", 2, 0, "not valid UTF-8"),
        BAD("\x91\x82" DATA "\xa0"
            "\xa1"
            "x\xa0",
            8, 0, "unknown member \"x\""),
        BAD("\x91\x82" DATA "\xa0"
            "\xa4"
            "Data\xa0",
            8, 0, "unknown member \"Data\""),
        BAD("\x91\x82" DATA "\xa0" DATA "\xa0", 8, 0, "\"data\" is there twice"),
        BAD("\x91\x83" DATA "\xa0" ID "\xa1"
            "1" ID "\xa1"
            "1",
            13, 0, "\"id\" is there twice"),
        BAD("\x91\x81" DATA "\x01", 7, 0, "must be a str or a bin"),
        BAD("\x91\x81" DATA "\x90", 7, 0, "must be a str or a bin"),
        BAD("\x91\x81" DATA "\x80", 7, 0, "must be a str or a bin"),
        BAD("\x91\x81" DATA "\xc0", 7, 0, "must be a str or a bin"),
        BAD("\x91\x81" DATA "\xc2", 7, 0, "must be a str or a bin"),
        BAD("\x91\x81" DATA "\xd6\x01\x00\x00\x00\x00", 7, 0, "must be a str or a bin"),
        BAD("\x91\x81" DATA "\xa1\xff", 7, 0, "not valid UTF-8"),
        BAD("\x91\x82" DATA "\xa0" ID "\xa0", 11, 0, "1 to 128 visible"),
        BAD("\x91\x82" DATA "\xa0" ID "\xa1 ", 11, 0, "1 to 128 visible"),
        BAD("\x91\x82" DATA "\xa0" ID "\x07", 11, 0, "1 to 128 visible"),
        BAD("\x91\x82" DATA "\xa0" ID "\xc0", 11, 0, "1 to 128 visible"),
        BAD("\x91\x82" DATA "\xa0" TYPE "\xa4"
            "html",
            13, 0, "media type"),
        BAD("\x91\x82" DATA "\xa0" TYPE "\xa0", 13, 0, "media type"),
        BAD("\x91\x82" DATA "\xa0" TYPE "\x01", 13, 0, "media type"),
        BAD("\x91\x82" DATA "\xa1"
            "1" TYPE "\xbf"
            "application/json;charset=utf-16",
            14, 0, "charset"),
        BAD("\x91\x82" DATA "\xa2"
            "[1" TYPE JSON,
            10, 0, "ends too early"),
        BAD("\x91\x82" DATA "\xc4\x02"
            "x1" TYPE JSON,
            9, 0, "not a JSON value"),
        BAD("\x91\x82" DATA "\xa0" TYPE JSON, 8, 0, "empty"),
        BAD("\x91\x82" DATA "\xa0" TTL "\x00", 15, 0, "from 1 to 5000"),
        BAD("\x91\x82" DATA "\xa0" TTL "\xff", 15, 0, "from 1 to 5000"),
        BAD("\x91\x82" DATA "\xa0" TTL "\xcd\x13\x89", 15, 0, "from 1 to 5000"),
        BAD("\x91\x82" DATA "\xa0" TTL "\xa1"
            "5",
            15, 0, "from 1 to 5000"),
        BAD("\x91\x82" DATA "\xa0" TTL "\xca\x40\xa0\x00\x00", 15, 0, "from 1 to 5000"),
        BAD("\x91\x82" DATA "\xa0" HEADER "\x90", 16, 0, "map of str to str"),
        BAD("\x91\x82" DATA "\xa0" HEADER "\x81\x01\xa0", 17, 0, "map of str to str"),
        BAD("\x91\x82" DATA "\xa0" HEADER "\x81\xa1"
            "a\xc0",
            19, 0, "map of str to str"),
        BAD("\x91\x82" DATA "\xa0" HEADER "\x81\xa1"
            "a\x80",
            19, 0, "map of str to str"),
        BAD("\x91\x82" DATA "\xa0" HEADER "\x81\xa1"
            "A\xa0",
            17, 0, "lower case"),
        BAD("\x91\x82" DATA "\xa0" HEADER "\x81\xa1"
            "a\xa1\n",
            17, 0, "control characters"),
        BAD("\x91\x82" DATA "\xa0" HEADER "\x82\xa1"
            "a\xa0\xa1"
            "a\xa0",
            20, 0, "\"a\" is there twice"),
    };
    expect_all_bad(table, CMQ_COUNT_OF(table));
}

static void limits_hold_exactly(void **state)
{
    (void)state;
    static const struct bad table[] = {
        BIG("\x91\xd9\x29"
            "01234567890123456789012345678901234567890",
            1, 0, "41 bytes; at most 40"),
        BIG("\x91\xc4\x29"
            "01234567890123456789012345678901234567890",
            1, 0, "41 bytes; at most 40"),
        BIG("\x91\x81" DATA "\xd9\x29"
            "01234567890123456789012345678901234567890",
            7, 0, "41 bytes; at most 40"),
        BIG("\xdc\x00\x15"
            "\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0",
            0, UINT32_MAX, "more than 20 messages"),
        BIG("\x91\x82" DATA "\xa0" HEADER "\x81\xa1"
            "a\xb0"
            "0123456789012345",
            17, 0, "more than 16 bytes"),
    };
    expect_all_bad(table, CMQ_COUNT_OF(table));
    static const char most[] = "\x91\xd9\x28"
                               "0123456789012345678901234567890123456789";
    assert_int_equal(run(cmq_span_make(most, sizeof most - 1), NULL), CMQ_OK);
    /* 15 bytes of its own and 2 of the request */
    static const char merged[] = "\x91\x82" DATA "\xa0" HEADER "\x81\xa1"
                                 "a\xae"
                                 "01234567890123";
    assert_int_equal(run(cmq_span_make(merged, sizeof merged - 1), &clock_only), CMQ_OK);
    assert_int_equal(run(cmq_span_make(merged, sizeof merged - 1), &request), CMQ_ERR_TOO_BIG);
    assert_int_equal(error.offset, 1);
}

static void every_cut_and_every_changed_byte_is_refused_or_whole(void **state)
{
    (void)state;
    static const char whole[] = "\x94\xa2"
                                "ab\xc4\x02\xff\x00\x84" DATA "\xa3"
                                "[1]" TYPE JSON ID "\xa1"
                                "7" HEADER "\x81\xa1"
                                "n\xa1v\x81" DATA "\xa1z";
    char body[sizeof whole - 1];
    static const char lived[] = "\x91\x82" DATA "\xa0" TTL "\xcd\x01\x01";
    for (size_t cut = 0; cut < sizeof lived - 1; cut++)
        assert_int_equal(run(cmq_span_make(lived, cut), NULL), CMQ_ERR_MALFORMED);
    for (size_t cut = 0; cut < sizeof body; cut++)
        assert_int_equal(run(cmq_span_make(whole, cut), &request), CMQ_ERR_MALFORMED);
    unsigned taken = 0;
    for (size_t at = 0; at < sizeof body; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(body, whole, sizeof body);
            body[at] = (char)byte;
            if (run(cmq_span_make(body, sizeof body), &request) != CMQ_OK)
                continue;
            taken++;
            assert_string_not_equal(wire_describe(cmq_buf_span(&messages), found.messages), "not a message");
        }
    }
    assert_true(taken > 100);
}

/* Texts of every length around the sizes of heads and words, with one wrong byte at each place. */
static void texts_of_every_length_are_checked_to_the_last_byte(void **state)
{
    (void)state;
    const struct cmq_json_limits wide = {.message_bytes_max = 1000, .messages_max = 3};
    for (size_t length = 1; length <= 300; length += length < 80 ? 1 : 31) {
        uint8_t body[400];
        uint8_t text[300];
        memset(text, 'x', sizeof text);
        for (size_t wrong = 0; wrong <= length; wrong++) {
            if (wrong < length)
                text[wrong] = 0x80;
            uint8_t *next = cmq_mp_put_array(body, 2);
            next = cmq_mp_put_str(next, cmq_span_make("\xc3\xa9", 2));
            next = cmq_mp_put_str(next, cmq_span_make(text, length)); /* last: what follows it is padding */
            struct cmq_span span = cmq_span_make(body, (size_t)(next - body));
            uint8_t *padded = wire_padded(span, wrong % 2 ? 0xff : 0);
            messages.bytes = 0;
            enum cmq_err err = cmq_mp_parse_batch(parser, cmq_span_make(padded, span.bytes), &wide, NULL,
                                                  &messages, &found, &error);
            assert_int_equal(err, wrong < length ? CMQ_ERR_MALFORMED : CMQ_OK);
            if (err == CMQ_OK)
                assert_memory_equal(messages.data, body + 1, span.bytes - 1);
            free(padded);
            if (wrong < length)
                text[wrong] = 'x';
        }
    }
}

/* Octets and texts in every size of head, alone and as a member. */
static void data_of_every_length_comes_back(void **state)
{
    (void)state;
    enum { BYTES_MAX = 70000 };
    static const size_t lengths[] = {0, 31, 32, 255, 256, 65535, 65536, BYTES_MAX};
    static uint8_t data[BYTES_MAX], body[2 * BYTES_MAX + 64];
    const struct cmq_json_limits wide = {.message_bytes_max = BYTES_MAX, .messages_max = 2};
    struct cmq_buf buf;
    cmq_buf_init(&buf, 1 << 20);
    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < CMQ_COUNT_OF(lengths); i++) {
        for (unsigned text = 0; text < 2; text++) {
            struct cmq_span part = cmq_span_make(data, lengths[i]);
            uint8_t *next = cmq_mp_put_array(body, 2);
            next = text ? cmq_mp_put_str(next, part) : cmq_mp_put_bin(next, part);
            next = cmq_mp_put_str(cmq_mp_put_map(next, 1), cmq_span_make("data", 4));
            next = text ? cmq_mp_put_str(next, part) : cmq_mp_put_bin(next, part);
            uint8_t *padded = wire_padded(cmq_span_make(body, (size_t)(next - body)), 0);
            buf.bytes = 0;
            assert_int_equal(cmq_mp_parse_batch(parser, cmq_span_make(padded, (size_t)(next - body)), &wide,
                                                NULL, &buf, &found, &error),
                             CMQ_OK);
            struct cmq_mp_reader reader;
            cmq_mp_reader_init(&reader, cmq_buf_span(&buf));
            for (unsigned message = 0; message < 2; message++) {
                struct cmq_message read;
                assert_int_equal(cmq_message_next(&reader, &read), CMQ_OK);
                assert_int_equal(read.text, text);
                assert_int_equal(read.body.bytes, lengths[i]);
                if (lengths[i] != 0)
                    assert_memory_equal(read.body.data, data, lengths[i]);
            }
            assert_int_equal(cmq_mp_left(&reader), 0);
            free(padded);
        }
    }
    cmq_buf_fini(&buf);
}

static void messages_have_room_or_are_refused(void **state)
{
    (void)state;
    static const char body[] = "\x93\xa1"
                               "a\x82" ID "\xa1"
                               "7" DATA "\xa1"
                               "a\xa1"
                               "b";
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    unsigned taken = 0;
    for (size_t room = 0; room < 1000; room++) {
        struct cmq_buf buf;
        cmq_buf_init(&buf, room);
        enum cmq_err err = cmq_mp_parse_batch(parser, cmq_span_make(padded, sizeof body - 1), &limits,
                                              &request, &buf, &found, &error);
        assert_true(err == CMQ_OK ||
                    (err == CMQ_ERR_TOO_BIG && buf.bytes == 0 && strstr(error.text, "larger") != NULL));
        taken += err == CMQ_OK;
        cmq_buf_fini(&buf);
    }
    assert_true(taken > 100);
    free(padded);
}

static void no_allocation_that_fails_leaves_anything(void **state)
{
    (void)state;
    static const char body[] = "\x92\xa1"
                               "a\x82" TYPE JSON DATA "\xa2"
                               "[]";
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    unsigned failures = 0;
    for (uint64_t nth = 1;; nth++) {
        struct cmq_json_parser *fresh;
        struct cmq_buf buf;
        assert_int_equal(cmq_json_parser_new(1 << 10, &fresh), CMQ_OK);
        cmq_buf_init(&buf, 1 << 10);
        alloc_faults_arm(nth, false);
        enum cmq_err err = cmq_mp_parse_batch(fresh, cmq_span_make(padded, sizeof body - 1), &limits,
                                              &request, &buf, &found, &error);
        bool failed = alloc_faults_disarm();
        assert_int_equal(err, failed ? CMQ_ERR_NOMEM : CMQ_OK);
        assert_true(!failed || buf.bytes == 0);
        cmq_buf_fini(&buf);
        cmq_json_parser_free(fresh);
        if (!failed)
            break;
        failures++;
    }
    assert_true(failures >= 3);
    free(padded);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(str_bin_and_map_become_messages),
        TEST(elements_inherit_from_their_request),
        TEST(ids_are_announced),
        TEST(what_is_no_batch_is_refused_where_it_is_wrong),
        TEST(members_against_the_rules_are_refused_where_they_stand),
        TEST(limits_hold_exactly),
        TEST(every_cut_and_every_changed_byte_is_refused_or_whole),
        TEST(texts_of_every_length_are_checked_to_the_last_byte),
        TEST(data_of_every_length_comes_back),
        TEST(messages_have_room_or_are_refused),
        TEST(no_allocation_that_fails_leaves_anything),
    };
    return cmocka_run_group_tests_name("cmq_mp_in", tests, NULL, NULL);
}
