#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_json_pack.h"
#include "common/wire/cmq_mp.h"

enum { TEXT_BYTES_MAX = 65536 };

static struct cmq_json_packer *packer;
static struct cmq_buf packed;
static struct cmq_reason reason;

static int setup(void **state)
{
    (void)state;
    cmq_buf_init(&packed, 1 << 20);
    return cmq_json_packer_new(TEXT_BYTES_MAX, &packer) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cmq_buf_fini(&packed);
    cmq_json_packer_free(packer);
    return 0;
}

static enum cmq_err pack(const char *text)
{
    packed.bytes = 0;
    return cmq_json_pack(packer, cmq_span_make(text, strlen(text)), &packed, &reason);
}

static void assert_packs(const char *text, const char *expected, size_t bytes)
{
    assert_int_equal(pack(text), CMQ_OK);
    assert_int_equal(packed.bytes, bytes);
    assert_memory_equal(packed.data, expected, bytes);
}
#define PACKS(text, expected) assert_packs(text, expected, sizeof(expected) - 1)

static void every_kind_of_value_is_packed(void **state)
{
    (void)state;
    PACKS("null", "\xc0");
    PACKS(" true ", "\xc3");
    PACKS("false", "\xc2");
    PACKS("7", "\x07");
    PACKS("300", "\xcd\x01\x2c");
    PACKS("18446744073709551615", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    PACKS("-1", "\xd3\xff\xff\xff\xff\xff\xff\xff\xff");
    PACKS("1.5", "\xcb\x3f\xf8\0\0\0\0\0\0");
    PACKS("\"a\\u00e9\"", "\xa3"
                          "a\xc3\xa9");
    PACKS("[]", "\x90");
    PACKS("[1,[2]]", "\x92\x01\x91\x02");
    PACKS("{\"a\":{\"b\":[]},\"a\":1}", "\x82\xa1"
                                        "a\x81\xa1"
                                        "b\x90\xa1"
                                        "a\x01");
}

static void values_are_appended(void **state)
{
    (void)state;
    assert_int_equal(pack("1"), CMQ_OK);
    assert_int_equal(cmq_json_pack(packer, cmq_span_make("2", 1), &packed, &reason), CMQ_OK);
    assert_int_equal(packed.bytes, 2);
    assert_memory_equal(packed.data, "\1\2", 2);
}

static void what_is_not_json_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",    " ",        "{",           "{\"a\"}",  "[1,]",
                                        "01",  "nul",      "\"\x01\"",    "\"\xff\"", "\"\\x\"",
                                        "1 2", "{\"a\":1", "{} trailing", "1e999"};
    for (unsigned i = 0; i < CMQ_COUNT_OF(wrong); i++) {
        assert_int_equal(pack(wrong[i]), CMQ_ERR_MALFORMED);
        assert_int_equal(packed.bytes, 0);
        assert_true(strlen(reason.text) > 0);
    }
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    char text[256];
    memset(text, '[', 30);
    memset(text + 30, ']', 30);
    text[60] = 0;
    assert_int_equal(pack(text), CMQ_OK);
    memset(text, '[', 100);
    memset(text + 100, ']', 100);
    text[200] = 0;
    assert_int_equal(pack(text), CMQ_ERR_MALFORMED);
}

static void size_is_bounded(void **state)
{
    (void)state;
    char *text = malloc(TEXT_BYTES_MAX + 2);
    memset(text, ' ', TEXT_BYTES_MAX + 1);
    text[TEXT_BYTES_MAX + 1] = 0;
    text[0] = '1';
    assert_int_equal(pack(text), CMQ_ERR_TOO_BIG);
    text[TEXT_BYTES_MAX] = 0;
    assert_int_equal(pack(text), CMQ_OK);
    free(text);
}

/* The densest texts for the room that is reserved: many floats, empty strings, small objects. */
static void largest_results_have_room(void **state)
{
    (void)state;
    static const char *const parts[] = {"1e1,", "\"\",", "{},", "-1,", "1.0,"};
    for (unsigned i = 0; i < CMQ_COUNT_OF(parts); i++) {
        char *text = malloc(TEXT_BYTES_MAX);
        size_t bytes = 1;
        text[0] = '[';
        for (; bytes + strlen(parts[i]) + 1 < 60000; bytes += strlen(parts[i]))
            memcpy(text + bytes, parts[i], strlen(parts[i]));
        text[bytes - 1] = ']';
        text[bytes] = 0;
        cmq_buf_fini(&packed);
        cmq_buf_init(&packed, 1 << 20);
        assert_int_equal(pack(text), CMQ_OK);
        assert_true(packed.bytes <= packed.capacity);
        struct cmq_mp_reader reader;
        cmq_mp_reader_init(&reader, cmq_buf_span(&packed));
        assert_int_equal(cmq_mp_skip(&reader), CMQ_OK);
        assert_int_equal(cmq_mp_left(&reader), 0);
        free(text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kind_of_value_is_packed),
        TEST(values_are_appended),
        TEST(what_is_not_json_is_refused_and_leaves_nothing),
        TEST(nesting_is_bounded),
        TEST(size_is_bounded),
        TEST(largest_results_have_room),
    };
    return cmocka_run_group_tests_name("cmq_json_pack", tests, NULL, NULL);
}
