/* Unit tests of cmq_json_out. Both writers are held against a slow one on random text of every length and
 * alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_json_out.h"
#include "common/wire/cmq_json_out_int.h"
#include "tests/unit/wire_support.h"

typedef size_t write_string(uint8_t *dst, struct cmq_span text);

/* Straight from RFC 8259, section 7. */
static size_t write_slowly(uint8_t *dst, struct cmq_span text)
{
    size_t bytes = 0;
    dst[bytes++] = '"';
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t byte = text.data[i];
        const char *short_form = byte == '"'    ? "\\\""
                                 : byte == '\\' ? "\\\\"
                                 : byte == '\b' ? "\\b"
                                 : byte == '\f' ? "\\f"
                                 : byte == '\n' ? "\\n"
                                 : byte == '\r' ? "\\r"
                                 : byte == '\t' ? "\\t"
                                                : NULL;
        char escape[8];
        if (short_form != NULL || byte < 0x20) {
            int length = short_form != NULL ? snprintf(escape, sizeof escape, "%s", short_form)
                                            : snprintf(escape, sizeof escape, "\\u%04x", byte);
            memcpy(dst + bytes, escape, (size_t)length);
            bytes += (size_t)length;
        } else {
            dst[bytes++] = byte;
        }
    }
    dst[bytes++] = '"';
    return bytes;
}

/* dst has exactly the room that the contract asks for. */
static void check_writer(write_string *write, struct cmq_span text, const uint8_t *expected,
                         size_t expected_bytes)
{
    uint8_t *dst = wire_copy(NULL, 0);
    dst = realloc(dst, cmq_json_string_bytes_max(text.bytes));
    assert_non_null(dst);
    assert_int_equal(write(dst, text), expected_bytes);
    assert_memory_equal(dst, expected, expected_bytes);
    free(dst);
}

static void check_text(const void *data, size_t bytes)
{
    uint8_t *exact = wire_copy(data, bytes);
    struct cmq_span text = cmq_span_make(exact, bytes);
    uint8_t expected[2048];
    assert_true(cmq_json_string_bytes_max(bytes) <= sizeof expected);
    size_t expected_bytes = write_slowly(expected, text);
    check_writer(cmq_json_write_string, text, expected, expected_bytes);
    check_writer(cmq_json_write_string_portable, text, expected, expected_bytes);
    free(exact);
}

static void known_texts_are_written_as_expected(void **state)
{
    (void)state;
    uint8_t dst[256];
    struct cmq_span text = cmq_span_make("a\"b\\c\n\0\x1f\x7f/\xe2\x80\xa8", 13);
    static const char expected[] = "\"a\\\"b\\\\c\\n\\u0000\\u001f\x7f/\xe2\x80\xa8\"";
    assert_int_equal(cmq_json_write_string(dst, text), sizeof expected - 1);
    assert_memory_equal(dst, expected, sizeof expected - 1);
    assert_int_equal(cmq_json_write_string(dst, (struct cmq_span){0}), 2);
    assert_memory_equal(dst, "\"\"", 2);
}

static void every_byte_at_every_place_is_written_right(void **state)
{
    (void)state;
    uint8_t text[40];
    for (size_t bytes = 1; bytes <= sizeof text; bytes++) {
        for (size_t at = 0; at < bytes; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                memset(text, 'x', sizeof text);
                text[at] = (uint8_t)byte;
                check_text(text, bytes);
            }
        }
    }
}

static void text_of_escapes_only_fits_into_the_promised_room(void **state)
{
    (void)state;
    uint8_t text[100];
    for (size_t bytes = 0; bytes <= sizeof text; bytes++) {
        memset(text, 1, sizeof text);
        check_text(text, bytes);
        memset(text, '"', sizeof text);
        check_text(text, bytes);
    }
}

static void random_text_is_written_as_by_the_slow_writer(void **state)
{
    (void)state;
    uint64_t random = 9;
    for (unsigned round = 0; round < 50000; round++) {
        uint8_t text[300];
        size_t bytes = wire_random(&random) % sizeof text;
        uint64_t escapes = wire_random(&random) % 64;
        for (size_t i = 0; i < bytes; i++) {
            uint64_t draw = wire_random(&random);
            text[i] = draw % 64 < escapes ? (uint8_t)((draw >> 8) % 0x60) : (uint8_t)(draw >> 8);
        }
        check_text(text, bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts_are_written_as_expected),
        cmocka_unit_test(every_byte_at_every_place_is_written_right),
        cmocka_unit_test(text_of_escapes_only_fits_into_the_promised_room),
        cmocka_unit_test(random_text_is_written_as_by_the_slow_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
