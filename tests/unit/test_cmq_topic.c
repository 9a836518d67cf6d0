/* Unit tests of cmq_topic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/wire/cmq_topic.h"
#include "tests/unit/wire_support.h"

static struct cmq_reason reason;

enum kind { TOPIC, SYSTEM, PATTERN };

static enum cmq_err check(enum kind kind, const char *name, size_t bytes)
{
    uint8_t *exact = wire_copy(name, bytes);
    struct cmq_span span = cmq_span_make(exact, bytes);
    reason.text[0] = '\0';
    enum cmq_err err = kind == PATTERN ? cmq_topic_pattern_check(span, &reason)
                                       : cmq_topic_check(span, kind == SYSTEM, &reason);
    free(exact);
    return err;
}

static void expect_good(enum kind kind, const char *name)
{
    assert_int_equal(check(kind, name, strlen(name)), CMQ_OK);
    assert_string_equal(reason.text, "");
}

static void expect_bad(enum kind kind, const char *name, const char *part)
{
    assert_int_equal(check(kind, name, strlen(name)), CMQ_ERR_INVALID);
    if (strstr(reason.text, part) == NULL)
        fail_msg("'%s' does not say '%s'", reason.text, part);
}

static void good_topics_are_taken(void **state)
{
    (void)state;
    expect_good(TOPIC, CMQ_TOPIC_DEFAULT);
    expect_good(TOPIC, "a");
    expect_good(TOPIC, "orders.eu-west_1.0");
    expect_good(TOPIC, "-._.AZaz09");
    expect_good(SYSTEM, "$sys.node");
    expect_good(SYSTEM, "plain");
    assert_int_equal(check(TOPIC, "ab.", 2), CMQ_OK);
}

static void bad_topics_are_refused_with_rule_and_position(void **state)
{
    (void)state;
    expect_bad(TOPIC, "", "empty");
    expect_bad(TOPIC, ".", "empty level at byte 0");
    expect_bad(TOPIC, ".a", "empty level at byte 0");
    expect_bad(TOPIC, "a.", "empty level at byte 2");
    expect_bad(TOPIC, "a..b", "empty level at byte 2");
    expect_bad(TOPIC, "ab c", "byte 0x20 at byte 2");
    expect_bad(TOPIC, "a/b", "byte 0x2f at byte 1");
    expect_bad(TOPIC, "gr\xc3\xbc", "byte 0xc3 at byte 2");
    expect_bad(TOPIC, "$sys", "'$' at byte 0");
    expect_bad(TOPIC, "a.$sys", "byte 0x24 at byte 2");
    expect_bad(SYSTEM, "a.$sys", "byte 0x24 at byte 2");
    expect_bad(SYSTEM, "$", "nothing behind '$' at byte 1");
    expect_bad(SYSTEM, "$.a", "nothing behind '$' at byte 1");
    expect_bad(TOPIC, "a.*", "byte 0x2a at byte 2");
    expect_bad(TOPIC, ">", "byte 0x3e at byte 0");
    assert_int_equal(check(TOPIC, "a\0b", 3), CMQ_ERR_INVALID);
    assert_int_equal(cmq_topic_check((struct cmq_span){0}, false, NULL), CMQ_ERR_INVALID);
}

static void length_and_levels_have_exact_limits(void **state)
{
    (void)state;
    char name[300];
    memset(name, 'x', sizeof name);
    assert_int_equal(check(TOPIC, name, 255), CMQ_OK);
    assert_int_equal(check(TOPIC, name, 256), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "256 bytes"));
    for (size_t i = 1; i < sizeof name; i += 2)
        name[i] = '.';
    assert_int_equal(check(TOPIC, name, 63), CMQ_OK); /* 32 levels */
    assert_int_equal(check(TOPIC, name, 65), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "32 levels at byte 64"));
}

static void patterns_take_wildcards_as_whole_levels_only(void **state)
{
    (void)state;
    expect_good(PATTERN, "a.b");
    expect_good(PATTERN, "*");
    expect_good(PATTERN, ">");
    expect_good(PATTERN, "a.*.c.>");
    expect_good(PATTERN, "$sys.>");
    expect_bad(PATTERN, ">.a", "'>' at byte 0");
    expect_bad(PATTERN, "a.>.*", "'>' at byte 2");
    expect_bad(PATTERN, "a*", "byte 0x2a at byte 1");
    expect_bad(PATTERN, "a.b>", "byte 0x3e at byte 3");
    expect_bad(PATTERN, "**", "byte 0x2a at byte 0");
    expect_bad(PATTERN, "*.", "empty level at byte 2");
    expect_bad(PATTERN, "", "empty");
}

static bool matches(const char *pattern, const char *topic)
{
    uint8_t *exact_pattern = wire_copy(pattern, strlen(pattern));
    uint8_t *exact_topic = wire_copy(topic, strlen(topic));
    bool result = cmq_topic_matches(cmq_span_make(exact_pattern, strlen(pattern)),
                                    cmq_span_make(exact_topic, strlen(topic)));
    free(exact_pattern);
    free(exact_topic);
    return result;
}

static void patterns_match_level_by_level(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *topic;
        bool expected;
    } cases[] = {
        {"a", "a", true},           {"a", "b", false},          {"a", "a.b", false},
        {"a.b", "a", false},        {"a.b", "a.b", true},       {"ab", "a", false},
        {"a", "ab", false},         {"*", "a", true},           {"*", "a.b", false},
        {"a.*", "a.b", true},       {"a.*", "a", false},        {"a.*", "a.b.c", false},
        {"*.b", "a.b", true},       {"*.b", "a.c", false},      {"a.*.c", "a.b.c", true},
        {">", "a", true},           {">", "a.b.c", true},       {"a.>", "a.b", true},
        {"a.>", "a.b.c", true},     {"a.>", "a", false},        {"a.>", "b.c", false},
        {"*.>", "a", false},        {"*.>", "a.b", true},       {">", "$sys.a", false},
        {"*.a", "$sys.a", false},   {"$sys.>", "$sys.a", true}, {"$sys.*", "$sys.a", true},
        {"$sys.>", "sys.a", false},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++) {
        if (matches(cases[i].pattern, cases[i].topic) != cases[i].expected)
            fail_msg("%s and %s", cases[i].pattern, cases[i].topic);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_topics_are_taken),
        cmocka_unit_test(bad_topics_are_refused_with_rule_and_position),
        cmocka_unit_test(length_and_levels_have_exact_limits),
        cmocka_unit_test(patterns_take_wildcards_as_whole_levels_only),
        cmocka_unit_test(patterns_match_level_by_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
