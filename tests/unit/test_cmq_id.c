/* Unit tests of cmq_id. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/wire/cmq_id.h"
#include "tests/unit/wire_support.h"

static enum cmq_err parse(const char *text, size_t bytes, struct cmq_id *ret_id)
{
    uint8_t *exact = wire_copy(text, bytes);
    enum cmq_err err = cmq_id_parse(cmq_span_make(exact, bytes), ret_id);
    free(exact);
    return err;
}

static void check_round_trip(uint64_t seq, uint32_t index, const char *expected)
{
    char text[CMQ_ID_TEXT_BYTES];
    size_t bytes = cmq_id_format(text, (struct cmq_id){.seq = seq, .index = index});
    if (expected != NULL)
        assert_string_equal(text, expected);
    assert_int_equal(bytes, strlen(text));
    struct cmq_id id = {0};
    assert_int_equal(parse(text, bytes, &id), CMQ_OK);
    assert_int_equal(id.seq, seq);
    assert_int_equal(id.index, index);
}

static void ids_survive_formatting_and_parsing(void **state)
{
    (void)state;
    check_round_trip(0, 0, "0-0");
    check_round_trip(12, 7, "12-7");
    check_round_trip(UINT64_MAX, UINT32_MAX, "18446744073709551615-4294967295");
    check_round_trip(10000000000000000000u, 1000000000, "10000000000000000000-1000000000");
    uint64_t random = 3;
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t seq = wire_random(&random) >> (wire_random(&random) % 64);
        check_round_trip(seq, (uint32_t)wire_random(&random) >> (wire_random(&random) % 32), NULL);
    }
}

static void anything_else_is_refused_and_the_id_is_untouched(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "-",
        "1",
        "1-",
        "-1",
        "01-1",
        "1-01",
        "00-0",
        "1-00",
        "+1-1",
        "1-+1",
        " 1-1",
        "1-1 ",
        "1 -1",
        "1--1",
        "-1-1",
        "1-1-1",
        "a-1",
        "1-a",
        "1_1",
        "0x1-1",
        "1.0-1",
        "1-4294967296",
        "18446744073709551616-0",
        "99999999999999999999-0",
        "18446744073709551615-42949672950",
        "100000000000000000000-0",
        "1-1\n",
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        struct cmq_id id = {.seq = 5, .index = 6};
        assert_int_equal(parse(bad[i], strlen(bad[i]), &id), CMQ_ERR_MALFORMED);
        assert_true(id.seq == 5 && id.index == 6);
    }
    struct cmq_id id;
    assert_int_equal(parse("1-1\0", 4, &id), CMQ_ERR_MALFORMED);
    assert_int_equal(cmq_id_parse((struct cmq_span){0}, &id), CMQ_ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_survive_formatting_and_parsing),
        cmocka_unit_test(anything_else_is_refused_and_the_id_is_untouched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
