#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_headers.h"
#include "tests/unit/wire_bodies.h"
#include "tests/unit/wire_support.h"

static struct cmq_reason reason;

static struct cmq_span text(const char *string)
{
    return cmq_span_make(string, strlen(string));
}

static enum cmq_err add(struct cmq_headers *headers, const char *name, const char *value)
{
    return cmq_headers_add(headers, text(name), text(value), &reason);
}

/* The packed set, in memory with nothing behind it. */
static struct cmq_span pack(const struct cmq_headers *headers)
{
    static uint8_t packed[CMQ_HEADERS_BYTES_MAX + CMQ_HEADERS_ROOM];
    uint8_t *exact = malloc(headers->bytes + CMQ_HEADERS_ROOM);
    assert_non_null(exact);
    size_t bytes = cmq_headers_write(exact, headers);
    assert_true(bytes <= headers->bytes + CMQ_HEADERS_ROOM);
    memcpy(packed, exact, bytes);
    free(exact);
    return cmq_span_make(packed, bytes);
}

static void a_set_is_packed_as_a_map_in_its_order(void **state)
{
    (void)state;
    struct cmq_headers headers;
    cmq_headers_init(&headers, 100);
    assert_int_equal(pack(&headers).bytes, 0);
    assert_int_equal(add(&headers, "b", "1"), CMQ_OK);
    assert_int_equal(add(&headers, "a", ""), CMQ_OK);
    struct cmq_span packed = pack(&headers);
    static const char expected[] = "\x82\xa1"
                                   "b\xa1"
                                   "1\xa1"
                                   "a\xa0";
    assert_int_equal(packed.bytes, sizeof expected - 1);
    assert_memory_equal(packed.data, expected, packed.bytes);
    assert_int_equal(headers.bytes, 3);
    assert_ptr_equal(cmq_headers_find(&headers, text("a")), &headers.entries[1]);
    assert_null(cmq_headers_find(&headers, text("c")));
}

static void names_are_tokens_in_lower_case(void **state)
{
    (void)state;
    char longest[CMQ_HEADER_NAME_BYTES_MAX + 2];
    memset(longest, 'a', sizeof longest);
    assert_true(cmq_header_name_is_good(cmq_span_make(longest, CMQ_HEADER_NAME_BYTES_MAX)));
    assert_false(cmq_header_name_is_good(cmq_span_make(longest, CMQ_HEADER_NAME_BYTES_MAX + 1)));
    static const char *const good[] = {"a", "ce-id", "x_1", "!#$%&'*+-.^_`|~09az"};
    static const char *const bad[] = {"",         "A",   "aB",    "a b", "a:", "a\"",
                                      "\xc3\xa9", "a\n", "a\x7f", "a/b", "a@b"};
    for (size_t i = 0; i < CMQ_COUNT_OF(good); i++)
        assert_true(cmq_header_name_is_good(text(good[i])));
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        struct cmq_headers headers;
        cmq_headers_init(&headers, 1000);
        assert_false(cmq_header_name_is_good(text(bad[i])));
        assert_int_equal(add(&headers, bad[i], "v"), CMQ_ERR_MALFORMED);
        assert_non_null(strstr(reason.text, "name must be"));
        assert_int_equal(headers.count, 0);
    }
    assert_false(cmq_header_name_is_good(cmq_span_make("a\0b", 3)));
}

static void values_are_utf8_without_control_characters(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 128; byte++) {
        struct cmq_headers headers;
        char value[3] = {'a', (char)byte, 'b'};
        cmq_headers_init(&headers, 1000);
        enum cmq_err err = cmq_headers_add(&headers, text("n"), cmq_span_make(value, 3), &reason);
        assert_int_equal(err, byte < 0x20 || byte == 0x7f ? CMQ_ERR_MALFORMED : CMQ_OK);
    }
    struct cmq_headers headers;
    cmq_headers_init(&headers, 1000);
    assert_int_equal(add(&headers, "n", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"), CMQ_OK);
    assert_int_equal(add(&headers, "m", "\xff"), CMQ_ERR_MALFORMED);
    assert_int_equal(add(&headers, "m", "\xed\xa0\x80"), CMQ_ERR_MALFORMED);
    assert_string_equal(reason.text,
                        "the value of the header \"m\" must be UTF-8 without control characters");
}

static void a_name_is_there_once(void **state)
{
    (void)state;
    struct cmq_headers headers;
    cmq_headers_init(&headers, 1000);
    assert_int_equal(add(&headers, "a", "1"), CMQ_OK);
    assert_int_equal(add(&headers, "ab", "1"), CMQ_OK);
    assert_int_equal(add(&headers, "a", "2"), CMQ_ERR_MALFORMED);
    assert_string_equal(reason.text, "the header \"a\" is there twice");
    assert_int_equal(headers.count, 2);
}

static void thirty_two_headers_are_taken_and_no_more(void **state)
{
    (void)state;
    struct cmq_headers headers;
    char names[CMQ_HEADERS_MAX + 1][8];
    cmq_headers_init(&headers, 1000);
    for (unsigned i = 0; i <= CMQ_HEADERS_MAX; i++) {
        (void)snprintf(names[i], sizeof names[i], "n%u", i);
        assert_int_equal(add(&headers, names[i], ""), i < CMQ_HEADERS_MAX ? CMQ_OK : CMQ_ERR_TOO_BIG);
    }
    assert_string_equal(reason.text, "more than 32 headers, with the request's");
    assert_int_equal(pack(&headers).data[0], 0xde);
}

static void bytes_are_bounded_exactly(void **state)
{
    (void)state;
    struct cmq_headers headers;
    cmq_headers_init(&headers, 6);
    assert_int_equal(add(&headers, "ab", "cd"), CMQ_OK);
    assert_int_equal(add(&headers, "c", "12"), CMQ_ERR_TOO_BIG);
    assert_int_equal(add(&headers, "cde", ""), CMQ_ERR_TOO_BIG);
    assert_int_equal(headers.bytes, 4);
    assert_int_equal(add(&headers, "c", "1"), CMQ_OK);
    assert_int_equal(add(&headers, "d", ""), CMQ_ERR_TOO_BIG);
    assert_string_equal(reason.text, "the headers of a message, with the request's, have more than 6 bytes");
    cmq_headers_init(&headers, 0);
    assert_int_equal(add(&headers, "d", ""), CMQ_ERR_TOO_BIG);
    assert_string_equal(reason.text, "no headers are taken here");
    static char big[CMQ_HEADERS_BYTES_MAX + 1];
    memset(big, 'x', sizeof big - 1);
    cmq_headers_init(&headers, SIZE_MAX);
    assert_int_equal(add(&headers, "d", big), CMQ_ERR_TOO_BIG);
    assert_int_equal(cmq_headers_add(&headers, text("d"), cmq_span_make(big, sizeof big - 2), &reason),
                     CMQ_OK);
    assert_int_equal(pack(&headers).bytes, 1 + 2 + 3 + CMQ_HEADERS_BYTES_MAX - 1);
}

static void own_headers_win_over_inherited_ones(void **state)
{
    (void)state;
    struct cmq_headers request, own;
    cmq_headers_init(&request, 100);
    assert_int_equal(add(&request, "a", "request"), CMQ_OK);
    assert_int_equal(add(&request, "b", "request"), CMQ_OK);
    struct cmq_span packed = pack(&request);
    cmq_headers_init(&own, 100);
    assert_int_equal(add(&own, "b", "own"), CMQ_OK);
    assert_int_equal(cmq_headers_inherit(&own, cmq_span_make(NULL, 0), &reason), CMQ_OK);
    assert_int_equal(cmq_headers_inherit(&own, packed, &reason), CMQ_OK);
    assert_int_equal(own.count, 2);
    assert_memory_equal(cmq_headers_find(&own, text("b"))->value.data, "own", 3);
    assert_memory_equal(cmq_headers_find(&own, text("a"))->value.data, "request", 7);
}

static void an_inheritance_that_does_not_fit_leaves_the_set_as_it_was(void **state)
{
    (void)state;
    struct cmq_headers request, own;
    cmq_headers_init(&request, 100);
    assert_int_equal(add(&request, "a", "1"), CMQ_OK);
    assert_int_equal(add(&request, "b", "2345"), CMQ_OK);
    struct cmq_span packed = pack(&request);
    cmq_headers_init(&own, 6);
    assert_int_equal(add(&own, "o", ""), CMQ_OK);
    assert_int_equal(cmq_headers_inherit(&own, packed, &reason), CMQ_ERR_TOO_BIG);
    assert_int_equal(own.count, 1);
    assert_int_equal(own.bytes, 1);
    static const char *const broken[] = {"\xa1"
                                         "a",
                                         "\x81\xa1"
                                         "a\x01",
                                         "\x82\xa1"
                                         "a\xa0"};
    for (size_t i = 0; i < CMQ_COUNT_OF(broken); i++) {
        assert_int_equal(cmq_headers_inherit(&own, text(broken[i]), &reason), CMQ_ERR_MALFORMED);
        assert_int_equal(own.count, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_is_packed_as_a_map_in_its_order),
        cmocka_unit_test(names_are_tokens_in_lower_case),
        cmocka_unit_test(values_are_utf8_without_control_characters),
        cmocka_unit_test(a_name_is_there_once),
        cmocka_unit_test(thirty_two_headers_are_taken_and_no_more),
        cmocka_unit_test(bytes_are_bounded_exactly),
        cmocka_unit_test(own_headers_win_over_inherited_ones),
        cmocka_unit_test(an_inheritance_that_does_not_fit_leaves_the_set_as_it_was),
    };
    return cmocka_run_group_tests_name("cmq_headers", tests, NULL, NULL);
}
