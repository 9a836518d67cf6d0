#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_cloudevents.h"
#include "tests/support/alloc_faults.h"
#include "tests/unit/wire_bodies.h"
#include "tests/unit/wire_support.h"

static struct cmq_json_parser *parser;
static struct cmq_buf messages;
static struct cmq_json_found found;
static struct cmq_json_error error;
static const struct cmq_json_limits limits = {
    .message_bytes_max = 40, .messages_max = 3, .headers_bytes_max = 200};
#define REQUEST_HEADERS   \
    "\x82\xa5"            \
    "ce-id\xa1r\xa1r\xa1" \
    "1"
static const struct cmq_element_defaults request = {
    .accepted_at_ms = 1000,
    .ttl_ms = 70,
    .headers = {(const uint8_t *)REQUEST_HEADERS, sizeof REQUEST_HEADERS - 1}};

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

static enum cmq_err run(bool batch, const char *body, const struct cmq_element_defaults *defaults)
{
    struct cmq_span span = cmq_span_make(body, strlen(body));
    uint8_t *padded = wire_padded(span, '"');
    messages.bytes = 0;
    found = (struct cmq_json_found){.messages = 77};
    error.text[0] = '\0';
    enum cmq_err err = (batch ? cmq_cloudevents_parse_batch : cmq_cloudevents_parse)(
        parser, cmq_span_make(padded, span.bytes), &limits, defaults, &messages, &found, &error);
    free(padded);
    if (err != CMQ_OK) {
        assert_int_equal(messages.bytes, 0);
        assert_int_equal(found.messages, 77);
        assert_true(error.text[0] != '\0');
    }
    return err;
}

static void expect(bool batch, const char *body, const struct cmq_element_defaults *defaults,
                   const char *expected)
{
    if (run(batch, body, defaults) != CMQ_OK)
        fail_msg("%s: %s at %zu", body, error.text, error.offset);
    const char *described = wire_describe(cmq_buf_span(&messages), found.messages);
    if (strcmp(described, expected) != 0)
        fail_msg("%s: %s", body, described);
    assert_false(found.has_ids);
}

/* An event with the attributes that must be there, in front of more members. */
#define EVENT(more) "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"" more "}"
#define NEEDED      "ce-specversion=1.0,ce-id=1,ce-source=/s,ce-type=t"

static void an_event_becomes_a_message_with_headers(void **state)
{
    (void)state;
    expect(false, EVENT(""), NULL, "t'' - - - {" NEEDED "}");
    expect(false, EVENT(",\"data\":{\"a\" : [1]}"), NULL,
           "t'{\"a\" : [1]}' application/json - - {" NEEDED "}");
    expect(
        false,
        " { \"data\" : null , \"type\":\"t\",\"source\":\"/s\",\"id\":\"\\u00e9\",\"specversion\":\"1.0\" } ",
        NULL, "t'null' application/json - - {ce-type=t,ce-source=/s,ce-id=\xc3\xa9,ce-specversion=1.0}");
    expect(false,
           EVENT(",\"subject\":\"x "
                 "y\",\"time\":\"2024-02-29T23:59:60.5+14:00\",\"dataschema\":\"http://a/b\",\"data\":1"),
           NULL,
           "t'1' application/json - - {" NEEDED
           ",ce-subject=x y,ce-time=2024-02-29T23:59:60.5+14:00,ce-dataschema=http://a/b}");
}

static void extensions_are_strings_booleans_and_integers(void **state)
{
    (void)state;
    expect(false,
           EVENT(",\"e1\":\"\",\"e2\":true,\"e3\":false,\"e4\":0,\"e5\":-2147483648,\"e6\":2147483647"), NULL,
           "t'' - - - {" NEEDED ",ce-e1=,ce-e2=true,ce-e3=false,ce-e4=0,ce-e5=-2147483648,ce-e6=2147483647}");
}

static void null_is_the_same_as_absent(void **state)
{
    (void)state;
    expect(false, EVENT(",\"subject\":null,\"e\":null,\"datacontenttype\":null,\"time\":null"), NULL,
           "t'' - - - {" NEEDED "}");
}

static void data_is_what_its_type_says(void **state)
{
    (void)state;
    static const struct {
        const char *body, *expected;
    } table[] = {
        /* JSON format, 3.1.2: a string of a JSON type is a JSON string */
        {EVENT(",\"data\":\"a\\n\""), "t'\"a\\n\"' application/json - - {" NEEDED "}"},
        {EVENT(",\"datacontenttype\":\"Application/JSON; charset=utf-8\",\"data\":\"a\""),
         "t'\"a\"' application/json - - {" NEEDED "}"},
        {EVENT(",\"data\":[1 ] ,\"datacontenttype\":\"text/json\""), "t'[1 ]' text/json - - {" NEEDED "}"},
        {EVENT(",\"data\":\"a\",\"datacontenttype\":\"application/vnd.x+JSON;v=1\""),
         "t'\"a\"' application/vnd.x+JSON;v=1 - - {" NEEDED "}"},
        {EVENT(",\"data\":\"<a\\u003e\",\"datacontenttype\":\"application/xml\""),
         "t'<a>' application/xml - - {" NEEDED "}"},
        {EVENT(",\"data\":\"a\",\"datacontenttype\":\"text/plain\""), "t'a' - - - {" NEEDED "}"},
        {EVENT(",\"datacontenttype\":\"application/xml\""), "t'' application/xml - - {" NEEDED "}"},
        {EVENT(",\"datacontenttype\":\"application/json\""), "t'' - - - {" NEEDED "}"},
        {EVENT(",\"data_base64\":\"YWJj\""), "b'abc' - - - {" NEEDED "}"},
        {EVENT(",\"data_base64\":\"\""), "b'' - - - {" NEEDED "}"},
        {EVENT(",\"data_base64\":\"YQ==\",\"datacontenttype\":\"image/png\""),
         "b'a' image/png - - {" NEEDED "}"},
        {EVENT(",\"data_base64\":\"YWI=\",\"datacontenttype\":\"application/json\""),
         "b'ab' application/json - - {" NEEDED "}"},
        {EVENT(",\"data_base64\":\"\\u002b\\/+\\/\""), "b'\xfb\xff\xbf' - - - {" NEEDED "}"},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++)
        expect(false, table[i].body, NULL, table[i].expected);
}

static void events_inherit_from_their_request(void **state)
{
    (void)state;
    expect(false, EVENT(""), &request, "t'' - - 1070 {" NEEDED ",r=1}");
}

static void a_batch_is_an_array_of_events(void **state)
{
    (void)state;
    expect(true, "[]", NULL, "");
    expect(true, "[" EVENT(",\"data\":1") ", " EVENT("") "]", NULL,
           "t'1' application/json - - {" NEEDED "} t'' - - - {" NEEDED "}");
}

static void expect_bad(bool batch, const char *body, size_t offset, uint32_t index, const char *part)
{
    enum cmq_err err = run(batch, body, &request);
    if (err != CMQ_ERR_MALFORMED || error.offset != offset || error.index != index ||
        strstr(error.text, part) == NULL)
        fail_msg("%s: %d at %zu, index %u: %s", body, (int)err, error.offset, error.index, error.text);
}

static void needed_attributes_are_named_when_they_are_missing(void **state)
{
    (void)state;
    static const char *const names[] = {"specversion", "id", "source", "type"};
    for (unsigned missing = 0; missing < CMQ_COUNT_OF(names); missing++) {
        static const char *const values[] = {NULL, "null", "\"\"", "1", "true", "{}"};
        for (size_t i = 0; i < CMQ_COUNT_OF(values); i++) {
            char body[200] = "{\"x\":\"\"", named[64];
            for (unsigned n = 0; n < CMQ_COUNT_OF(names); n++) {
                size_t at = strlen(body);
                if (n != missing)
                    (void)snprintf(body + at, sizeof body - at, ",\"%s\":\"1.0\"", names[n]);
            }
            size_t bytes = strlen(body);
            if (values[i] != NULL)
                bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, ",\"%s\":%s", names[missing],
                                          values[i]);
            (void)snprintf(body + bytes, sizeof body - bytes, "}");
            (void)snprintf(named, sizeof named, "CloudEvents attribute \"%s\" %s", names[missing],
                           i < 2                    ? "is missing"
                           : i == 2 && missing == 0 ? "must be \"1.0\""
                           : i == 2                 ? "must not be empty"
                                                    : "must be a string");
            assert_int_equal(run(false, body, &request), CMQ_ERR_MALFORMED);
            assert_string_equal(error.text, named);
        }
    }
}

static void attributes_against_the_rules_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *member;
        size_t offset; /* in it, behind the comma */
        const char *part;
    } table[] = {
        {"\"Subject\":\"a\"", 0, "\"Subject\" must have a name of 1 to 125 of a-z 0-9"},
        {"\"sub_ject\":\"a\"", 0, "\"sub_ject\" must have a name"},
        {"\"\":\"a\"", 0, "\"\" must have a name"},
        {"\"\\u00e9\\n\":\"a\"", 0, "\"???\" must have a name"},
        {"\"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456"
         "78901234567890123456789"
         "012345\":\"a\"",
         0, "\"01234567890123456789012345678901...\" must have a name"},
        {"\"id\":\"2\"", 0, "\"id\" is there twice"},
        {"\"e\":null,\"e\":1", 9, "\"e\" is there twice"},
        {"\"data\":1,\"data\":1", 9, "\"data\" is there twice"},
        {"\"e\":[]", 4, "\"e\" must be a string, a boolean or an integer"},
        {"\"e\":{}", 4, "\"e\" must be a string, a boolean or an integer"},
        {"\"e\":1.0", 4, "\"e\" must be an integer of 32 bits"},
        {"\"e\":1e2", 4, "\"e\" must be an integer of 32 bits"},
        {"\"e\":2147483648", 4, "\"e\" must be an integer of 32 bits"},
        {"\"e\":-2147483649", 4, "\"e\" must be an integer of 32 bits"},
        {"\"e\":99999999999999999999999999999999999", 4, "\"e\" must be an integer of 32 bits"},
        {"\"e\":01", 4, "not a JSON value"},
        {"\"e\":nul", 4, "not a JSON value"},
        {"\"e\":tru", 4, "not a JSON value"},
        {"\"e\":x", 4, "\"e\" must be a string, a boolean or an integer"},
        {"\"e\":\"a\\nb\"", 4, "\"e\" must be UTF-8 without control characters"},
        {"\"e\":\"\\u0000\"", 4, "\"e\" must be UTF-8 without control characters"},
        {"\"e\":\"\\u007f\"", 4, "\"e\" must be UTF-8 without control characters"},
        {"\"e\":\"\\u009f\"", 4, "\"e\" must be UTF-8 without control characters"},
        {"\"e\":\"\\ufdd0\"", 4, "\"e\" must be UTF-8 without control characters"},
        {"\"e\":\"\\uffff\"", 4, "\"e\" must be UTF-8 without control characters"},
        {"\"e\":\"\\ud83f\\udffe\"", 4, "\"e\" must be UTF-8 without control characters"},
        {"\"e\":\"\\ud800\"", 5, "surrogate"},
        {"\"subject\":\"\"", 10, "\"subject\" must not be empty"},
        {"\"subject\":7", 10, "\"subject\" must be a string"},
        {"\"dataschema\":\"\"", 13, "\"dataschema\" must not be empty"},
        {"\"datacontenttype\":\"\"", 18, "\"datacontenttype\" must be a media type"},
        {"\"datacontenttype\":\"a\\q\"", 20, "escape"},
        {"\"datacontenttype\":\"a/"
         "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
         "0123456789012345678901234567890123456789\"",
         18, "\"datacontenttype\" must be a media type"},
        {"\"datacontenttype\":\"html\"", 18, "\"datacontenttype\" must be a media type"},
        {"\"datacontenttype\":1", 18, "\"datacontenttype\" must be a media type"},
        {"\"datacontenttype\":\"application/json;charset=latin1\"", 18,
         "\"datacontenttype\" names a charset"},
        {"\"data\":x", 7, "not a JSON value"},
        {"\"data\":1,\"datacontenttype\":\"text/plain\"", 7, "\"data\" must be a string"},
        {"\"data_base64\":1", 14, "\"data_base64\" must be a string"},
        {"\"data_base64\":null", 14, "\"data_base64\" must be a string"},
        {"\"data_base64\":\"YWJ\"", 14, "is not base64"},
        {"\"data_base64\":\"YW==Jj==\"", 14, "is not base64"},
        {"\"data_base64\":\"Y===\"", 14, "is not base64"},
        {"\"data_base64\":\"YR==\"", 14, "is not base64"},
        {"\"data_base64\":\"YWK=\\u0000\"", 14, "is not base64"},
        {"\"data_base64\":\"YWF=\"", 14, "is not base64"},
        {"\"data_base64\":\"YW-_\"", 14, "is not base64"},
        {"\"data_base64\":\"YW J\"", 14, "is not base64"},
        {"", 0, "member name"},
        {"\"e\" 1", 4, "':'"},
        {"\"e\":1 \"f\":2", 6, "','"},
    };
    static const char begin[] = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",";
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        char body[400];
        (void)snprintf(body, sizeof body, "%s%s}", begin, table[i].member);
        expect_bad(false, body, sizeof begin - 1 + table[i].offset, UINT32_MAX, table[i].part);
    }
    expect_bad(false, EVENT(",\"data\":1,\"data_base64\":\"\""), 0, UINT32_MAX, "not both");
}

static void times_are_those_of_rfc_3339(void **state)
{
    (void)state;
    static const char *const good[] = {"2018-04-05T17:31:00Z", "0000-01-01t00:00:00z",
                                       "2000-02-29T00:00:00.123456789Z", "2024-12-31T23:59:60-23:59"};
    static const char *const bad[] = {"2018-04-05",
                                      "2018-04-05T17:31:00",
                                      "2018-04-05 17:31:00Z",
                                      "2018-4-05T17:31:00Z",
                                      "2018-00-05T17:31:00Z",
                                      "2018-13-05T17:31:00Z",
                                      "2018-04-00T17:31:00Z",
                                      "2018-04-31T17:31:00Z",
                                      "1900-02-29T17:31:00Z",
                                      "2018-04-05T24:00:00Z",
                                      "2018-04-05T17:60:00Z",
                                      "2018-04-05T17:31:61Z",
                                      "2018-04-05T17:31:00.Z",
                                      "2018-04-05T17:31:00+24:00",
                                      "2018-04-05T17:31:00+0100",
                                      "2018-04-05T17:31:00Zx",
                                      "2018-04-05T17:31:00ZZ",
                                      "",
                                      "+018-04-05T17:31:00Z",
                                      "yesterday"};
    char body[200];
    for (size_t i = 0; i < CMQ_COUNT_OF(good); i++) {
        (void)snprintf(body, sizeof body, EVENT(",\"time\":\"%s\""), good[i]);
        assert_int_equal(run(false, body, NULL), CMQ_OK);
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        (void)snprintf(body, sizeof body, EVENT(",\"time\":\"%s\""), bad[i]);
        if (run(false, body, NULL) != CMQ_ERR_MALFORMED ||
            strstr(error.text, "\"time\" must be a time") == NULL)
            fail_msg("%s: %s", bad[i], error.text);
    }
}

static void what_is_no_event_is_refused_where_it_is_wrong(void **state)
{
    (void)state;
    expect_bad(false, "[]", 0, UINT32_MAX, "expected a CloudEvents event");
    expect_bad(false, "\"a\"", 0, UINT32_MAX, "expected a CloudEvents event");
    expect_bad(false, "{}", 0, UINT32_MAX, "\"specversion\" is missing");
    expect_bad(false, EVENT("") "{}", sizeof EVENT("") - 1, UINT32_MAX, "something follows the event");
    expect_bad(false, "{", 1, UINT32_MAX, "ends too early");
    expect_bad(false, "", 0, UINT32_MAX, "empty");
    expect_bad(false, "\xef\xbb\xbf" EVENT(""), 0, UINT32_MAX, "byte order mark");
    expect_bad(true, EVENT(""), 0, UINT32_MAX, "expected an array of CloudEvents");
    expect_bad(true, "[" EVENT("") ",1]", sizeof EVENT("") + 1, 1, "expected a CloudEvents event");
    expect_bad(true, "[" EVENT("") ",{\"specversion\":\"0.3\"}]", sizeof EVENT("") + 16, 1,
               "\"specversion\" must be \"1.0\"");
    expect_bad(true, "[" EVENT("") "]x", sizeof EVENT("") + 1, UINT32_MAX, "something follows");
}

static void every_cut_of_an_event_is_refused(void **state)
{
    (void)state;
    static const char whole[] =
        EVENT(",\"e\":-1,\"data\":{\"a\":[true]},\"datacontenttype\":\"application/json\"");
    char body[sizeof whole];
    for (size_t cut = 0; cut < sizeof whole - 1; cut++) {
        memcpy(body, whole, cut);
        body[cut] = '\0';
        assert_int_equal(run(false, body, NULL), CMQ_ERR_MALFORMED);
        assert_true(error.offset <= cut);
    }
    assert_int_equal(run(false, whole, NULL), CMQ_OK);
}

static void events_have_limits(void **state)
{
    (void)state;
    static const char four[] = "[" EVENT("") "," EVENT("") "," EVENT("") "," EVENT("") "]";
    assert_int_equal(run(true, four, NULL), CMQ_ERR_TOO_BIG);
    assert_int_equal(error.index, 3);
    static const char *const large[] = {
        EVENT(",\"data\":\"012345678901234567890123456789012345678\""),
        EVENT(",\"datacontenttype\":\"a/b\",\"data\":\"01234567890123456789012345678901234567890\""),
        EVENT(",\"data_base64\":\"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\"")};
    for (size_t i = 0; i < CMQ_COUNT_OF(large); i++) {
        assert_int_equal(run(false, large[i], NULL), CMQ_ERR_TOO_BIG);
        assert_string_equal(error.text, "the message has 41 bytes; at most 40 are allowed");
    }
    char body[1000], value[200];
    memset(value, 'v', sizeof value);
    value[154] = '\0'; /* with 42 bytes of the needed attributes, and "ce-e" */
    (void)snprintf(body, sizeof body, EVENT(",\"e\":\"%s\""), value);
    assert_int_equal(run(false, body, NULL), CMQ_OK);
    value[154] = 'v';
    value[155] = '\0';
    (void)snprintf(body, sizeof body, EVENT(",\"e\":\"%s\""), value);
    assert_int_equal(run(false, body, NULL), CMQ_ERR_TOO_BIG);
    assert_non_null(strstr(error.text, "more than 200 bytes"));
    static char huge[60000]; /* more than an event's store */
    size_t bytes = (size_t)snprintf(huge, sizeof huge, "{\"e\":\"");
    memset(huge + bytes, 'v', sizeof huge - bytes - 3);
    memcpy(huge + sizeof huge - 3, "\"}", 3);
    assert_int_equal(run(false, huge, NULL), CMQ_ERR_TOO_BIG);
    bytes = (size_t)snprintf(body, sizeof body, "{\"specversion\":\"1.0\"");
    for (unsigned i = 0; i < 70; i++)
        bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, ",\"e%u\":null", i);
    (void)snprintf(body + bytes, sizeof body - bytes, "}");
    assert_int_equal(run(false, body, NULL), CMQ_ERR_TOO_BIG);
    assert_string_equal(error.text, "more than 64 members in one event");
}

static void messages_have_room_or_are_refused(void **state)
{
    (void)state;
    static const char body[] = "[" EVENT(",\"data_base64\":\"YWJj\"") "," EVENT(",\"data\":[1]") "]";
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    unsigned taken = 0;
    for (size_t room = 0; room < 2500; room += 7) {
        struct cmq_buf buf;
        cmq_buf_init(&buf, room);
        enum cmq_err err = cmq_cloudevents_parse_batch(parser, cmq_span_make(padded, sizeof body - 1),
                                                       &limits, &request, &buf, &found, &error);
        assert_true(err == CMQ_OK || (err == CMQ_ERR_TOO_BIG && buf.bytes == 0));
        taken += err == CMQ_OK;
        cmq_buf_fini(&buf);
    }
    assert_true(taken > 10);
    free(padded);
}

static void no_allocation_that_fails_leaves_anything(void **state)
{
    (void)state;
    static const char body[] = "[" EVENT(",\"data_base64\":\"YWJj\"") "," EVENT(",\"data\":[1]") "]";
    uint8_t *padded = wire_padded(cmq_span_make(body, sizeof body - 1), 0);
    unsigned failures = 0;
    for (uint64_t nth = 1;; nth++) {
        struct cmq_json_parser *fresh;
        struct cmq_buf buf;
        assert_int_equal(cmq_json_parser_new(1 << 12, &fresh), CMQ_OK);
        cmq_buf_init(&buf, 1 << 12);
        alloc_faults_arm(nth, false);
        enum cmq_err err = cmq_cloudevents_parse_batch(fresh, cmq_span_make(padded, sizeof body - 1), &limits,
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

static size_t encode_base64(char *dst, const uint8_t *src, size_t bytes)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t written = 0;
    for (size_t at = 0; at < bytes; at += 3) {
        uint32_t word = 0;
        for (size_t i = 0; i < 3; i++)
            word = word << 8 | (at + i < bytes ? src[at + i] : 0);
        for (size_t i = 0; i < 4; i++)
            dst[written++] = at + i <= bytes ? letters[word >> (18 - 6 * i) & 63] : '=';
    }
    return written;
}

/* Data of every length around the sizes of heads, as text of two types and as octets of all values. */
static void data_of_every_length_comes_back(void **state)
{
    (void)state;
    enum { BYTES_MAX = 70000 };
    static const size_t lengths[] = {0,   1,   2,   3,   4,    5,     31,    32,       33,
                                     254, 255, 256, 257, 1000, 65535, 65536, BYTES_MAX};
    const struct cmq_json_limits wide = {
        .message_bytes_max = BYTES_MAX + 2, .messages_max = 1, .headers_bytes_max = 200};
    struct cmq_json_parser *roomy;
    assert_int_equal(cmq_json_parser_new(2 * BYTES_MAX, &roomy), CMQ_OK);
    uint8_t *octets = malloc(BYTES_MAX);
    char *body = malloc(2 * BYTES_MAX), *value = malloc(2 * BYTES_MAX);
    assert_true(octets != NULL && body != NULL && value != NULL);
    uint64_t random = 1;
    for (size_t i = 0; i < BYTES_MAX; i++)
        octets[i] = (uint8_t)wire_random(&random);
    for (size_t i = 0; i < CMQ_COUNT_OF(lengths); i++) {
        static const char *const members[] = {"data", "datacontenttype\":\"a/b\",\"data", "data_base64"};
        for (unsigned kind = 0; kind < 3; kind++) {
            size_t bytes = lengths[i];
            memset(value, 'x', bytes);
            if (kind == 2)
                bytes = encode_base64(value, octets, lengths[i]);
            value[bytes] = '\0';
            int body_bytes = snprintf(body, 2 * BYTES_MAX, EVENT(",\"%s\":\"%s\""), members[kind], value);
            uint8_t *padded = wire_padded(cmq_span_make(body, (size_t)body_bytes), '"');
            struct cmq_buf buf;
            cmq_buf_init(&buf, 1 << 20);
            assert_int_equal(cmq_cloudevents_parse(roomy, cmq_span_make(padded, (size_t)body_bytes), &wide,
                                                   NULL, &buf, &found, &error),
                             CMQ_OK);
            struct cmq_mp_reader reader;
            struct cmq_message_full message;
            cmq_mp_reader_init(&reader, cmq_buf_span(&buf));
            assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
            assert_int_equal(cmq_mp_left(&reader), 0);
            assert_int_equal(message.text, kind != 2);
            assert_int_equal(message.body.bytes, lengths[i] + (kind == 0 ? 2 : 0));
            if (lengths[i] != 0)
                assert_memory_equal(message.body.data + (kind == 0), kind == 2 ? (const void *)octets : value,
                                    lengths[i]);
            cmq_buf_fini(&buf);
            free(padded);
        }
    }
    free(value);
    free(body);
    free(octets);
    cmq_json_parser_free(roomy);
}

static void the_headers_of_the_request_must_fit_too(void **state)
{
    (void)state;
    char body[400];
    (void)snprintf(body, sizeof body, EVENT(",\"e\":\"%0153u\""), 1u); /* 199 of 200 bytes */
    assert_int_equal(run(false, body, NULL), CMQ_OK);
    assert_int_equal(run(false, body, &request), CMQ_ERR_TOO_BIG);
    assert_int_equal(error.offset, 0);
    assert_non_null(strstr(error.text, "with the request's"));
}

/* ---- binary mode ---- */

static struct cmq_reason reason;
static uint8_t memory[64][300];

static enum cmq_err add(struct cmq_headers *headers, const char *name, const char *value)
{
    uint8_t *exact = malloc(strlen(name) + strlen(value));
    assert_non_null(exact);
    struct cmq_headers copy = *headers;
    enum cmq_err err = cmq_cloudevents_add_header(&copy, cmq_span_make(name, strlen(name)),
                                                  cmq_span_make(value, strlen(value)), exact, &reason);
    free(exact);
    assert_int_equal(cmq_cloudevents_add_header(headers, cmq_span_make(name, strlen(name)),
                                                cmq_span_make(value, strlen(value)), memory[headers->count],
                                                &reason),
                     err);
    return err;
}

static const char *packed(const struct cmq_headers *headers)
{
    static struct wire_text text;
    static uint8_t bytes[CMQ_HEADERS_BYTES_MAX + CMQ_HEADERS_ROOM];
    text.bytes = 0;
    wire_put_headers(&text, cmq_span_make(bytes, cmq_headers_write(bytes, headers)));
    return text.text;
}

static void headers_of_binary_mode_are_told_by_their_prefix(void **state)
{
    (void)state;
    static const char *const yes[] = {"ce-", "ce-id", "CE-ID", "Ce-x"};
    static const char *const no[] = {"", "c", "ce", "ce_id", "cd-id", "xce-id", "be-id"};
    for (size_t i = 0; i < CMQ_COUNT_OF(yes); i++)
        assert_true(cmq_cloudevents_is_header(cmq_span_make(yes[i], strlen(yes[i]))));
    for (size_t i = 0; i < CMQ_COUNT_OF(no); i++)
        assert_false(cmq_cloudevents_is_header(cmq_span_make(no[i], strlen(no[i]))));
}

/* HTTP binding, section 3.1.3.2, with its examples. */
static void values_of_binary_mode_are_unquoted_and_decoded_once(void **state)
{
    (void)state;
    static const struct {
        const char *value, *expected;
    } table[] = {{"plain", "plain"},
                 {"", ""},
                 {"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \xe2\x82\xac \xf0\x9f\x98\x80"},
                 {"%e2%82%ac", "\xe2\x82\xac"},
                 {"%41b", "Ab"},
                 {"%2541", "%41"},
                 {"\"a b\"", "a b"},
                 {"\"a\\\"\\\\b%20\"", "a\"\\b "},
                 {"\"\"", ""},
                 {"a b", "a b"},
                 {"a\"b", "a\"b"},
                 {"a\\b", "a\\b"},
                 {"\xc3\xa9", "\xc3\xa9"}};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct cmq_headers headers;
        cmq_headers_init(&headers, 100);
        if (add(&headers, "CE-Ext", table[i].value) != CMQ_OK)
            fail_msg("%s: %s", table[i].value, reason.text);
        char expected[64];
        (void)snprintf(expected, sizeof expected, " {ce-ext=%s}", table[i].expected);
        assert_string_equal(packed(&headers), expected);
    }
}

static void values_of_binary_mode_against_the_rules_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *part;
    } table[] = {{"ce-e", "%", "\"e\" needs two hexadecimal digits"},
                 {"ce-e", "%2", "\"e\" needs two hexadecimal digits"},
                 {"ce-e", "%2g", "\"e\" needs two hexadecimal digits"},
                 {"ce-e", "%g2", "\"e\" needs two hexadecimal digits"},
                 {"ce-e", "\"a", "\"e\" has a quoted value that is not closed"},
                 {"ce-e", "\"a\"b", "\"e\" has a quoted value that is not closed"},
                 {"ce-e", "\"a\\", "\"e\" has a quoted value that is not closed"},
                 {"ce-e", "\"", "\"e\" has a quoted value that is not closed"},
                 {"ce-e", "%C0%A0", "\"e\" must be UTF-8"},
                 {"ce-e", "%0A", "\"e\" must be UTF-8 without control characters"},
                 {"ce-e", "%00", "\"e\" must be UTF-8 without control characters"},
                 {"ce-e", "%C2%85", "\"e\" must be UTF-8 without control characters"},
                 {"ce-", "a", "name has 1 to 125 of a-z 0-9"},
                 {"ce-a-b", "a", "name has 1 to 125 of a-z 0-9"},
                 {"ce-a_b", "a", "name has 1 to 125 of a-z 0-9"},
                 {"Ce-DataContentType", "a/b", "\"datacontenttype\" comes as Content-Type"},
                 {"ce-data", "a", "\"data\" is no attribute"},
                 {"ce-specversion", "0.3", "\"specversion\" must be \"1.0\""},
                 {"ce-id", "", "\"id\" must not be empty"},
                 {"ce-time", "now", "\"time\" must be a time"}};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct cmq_headers headers;
        cmq_headers_init(&headers, 100);
        enum cmq_err err = add(&headers, table[i].name, table[i].value);
        if (err != CMQ_ERR_MALFORMED || strstr(reason.text, table[i].part) == NULL)
            fail_msg("%s: %s: %d %s", table[i].name, table[i].value, (int)err, reason.text);
        assert_int_equal(headers.count, 0);
    }
    struct cmq_headers headers;
    cmq_headers_init(&headers, 100);
    assert_int_equal(add(&headers, "ce-e", "a"), CMQ_OK);
    assert_int_equal(add(&headers, "CE-E", "a"), CMQ_ERR_MALFORMED);
    assert_string_equal(reason.text, "CloudEvents attribute \"e\" is there twice");
}

static void an_event_of_binary_mode_is_whole_or_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"ce-specversion", "ce-id", "ce-source", "ce-type"};
    for (unsigned missing = 0; missing <= CMQ_COUNT_OF(names); missing++) {
        struct cmq_headers headers;
        cmq_headers_init(&headers, 100);
        for (unsigned i = 0; i < CMQ_COUNT_OF(names); i++)
            if (i != missing)
                assert_int_equal(add(&headers, names[i], "1.0"), CMQ_OK);
        enum cmq_err err = cmq_cloudevents_check(&headers, &reason);
        if (missing == CMQ_COUNT_OF(names)) {
            assert_int_equal(err, CMQ_OK);
            continue;
        }
        char expected[64];
        (void)snprintf(expected, sizeof expected, "CloudEvents attribute \"%s\" is missing",
                       names[missing] + 3);
        assert_int_equal(err, CMQ_ERR_MALFORMED);
        assert_string_equal(reason.text, expected);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_event_becomes_a_message_with_headers),
        TEST(extensions_are_strings_booleans_and_integers),
        TEST(null_is_the_same_as_absent),
        TEST(data_is_what_its_type_says),
        TEST(events_inherit_from_their_request),
        TEST(a_batch_is_an_array_of_events),
        TEST(needed_attributes_are_named_when_they_are_missing),
        TEST(attributes_against_the_rules_are_named),
        TEST(times_are_those_of_rfc_3339),
        TEST(what_is_no_event_is_refused_where_it_is_wrong),
        TEST(every_cut_of_an_event_is_refused),
        TEST(events_have_limits),
        TEST(data_of_every_length_comes_back),
        TEST(the_headers_of_the_request_must_fit_too),
        TEST(messages_have_room_or_are_refused),
        TEST(no_allocation_that_fails_leaves_anything),
        cmocka_unit_test(headers_of_binary_mode_are_told_by_their_prefix),
        cmocka_unit_test(values_of_binary_mode_are_unquoted_and_decoded_once),
        cmocka_unit_test(values_of_binary_mode_against_the_rules_are_named),
        cmocka_unit_test(an_event_of_binary_mode_is_whole_or_refused),
    };
    return cmocka_run_group_tests_name("cmq_cloudevents", tests, NULL, NULL);
}
