#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl_bench.h"

static void numbers(struct ctl_judge *judge, const uint64_t (*pairs)[2], size_t count)
{
    assert_int_equal(ctl_judge_init(judge, 2), CMQ_OK);
    for (size_t i = 0; i < count; i++)
        ctl_judge_take(judge, pairs[i][0], pairs[i][1]);
}

static void messages_in_the_order_of_each_publisher_are_good(void **state)
{
    (void)state;
    static const uint64_t pairs[][2] = {{0, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}};
    const uint64_t acked[] = {3, 2};
    struct ctl_judge judge;
    numbers(&judge, pairs, 5);
    assert_true(ctl_judge_is_good(&judge, acked));
    assert_int_equal(judge.received, 5);
    ctl_judge_fini(&judge);
}

static void a_message_that_never_comes_is_missing(void **state)
{
    (void)state;
    static const uint64_t pairs[][2] = {{0, 0}, {0, 2}, {1, 0}};
    const uint64_t acked[] = {4, 1}; /* 0-1 in the middle, 0-3 at the end */
    struct ctl_judge judge;
    numbers(&judge, pairs, 3);
    assert_int_equal(ctl_judge_missing(&judge, acked), 2);
    assert_false(ctl_judge_is_good(&judge, acked));
    ctl_judge_fini(&judge);
}

static void a_message_that_comes_twice_or_late_is_told(void **state)
{
    (void)state;
    static const uint64_t twice[][2] = {{0, 0}, {0, 1}, {0, 1}}, late[][2] = {{0, 1}, {0, 0}};
    const uint64_t acked[] = {2, 0};
    struct ctl_judge judge;
    numbers(&judge, twice, 3);
    assert_int_equal(judge.repeated, 1);
    assert_int_equal(ctl_judge_missing(&judge, acked), 0);
    assert_false(ctl_judge_is_good(&judge, acked));
    ctl_judge_fini(&judge);
    numbers(&judge, late, 2);
    assert_int_equal(judge.repeated, 1);
    assert_false(ctl_judge_is_good(&judge, acked));
    ctl_judge_fini(&judge);
}

static void a_message_of_nobody_is_a_stranger(void **state)
{
    (void)state;
    static const uint64_t pairs[][2] = {{2, 0}};
    const uint64_t acked[] = {0, 0};
    struct ctl_judge judge;
    numbers(&judge, pairs, 1);
    assert_int_equal(judge.strangers, 1);
    assert_int_equal(judge.received, 0);
    assert_false(ctl_judge_is_good(&judge, acked));
    ctl_judge_fini(&judge);
}

static void times_are_at_most_a_sixteenth_too_large(void **state)
{
    (void)state;
    static const uint64_t samples[] = {0, 1, 15, 16, 17, 31, 32, 1000, 123456789, UINT64_MAX / 3, UINT64_MAX};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        static struct ctl_times times;
        times = (struct ctl_times){.count = 0};
        ctl_times_add(&times, samples[i], 1);
        times.max_ns = UINT64_MAX; /* so that the bucket's end is seen */
        const uint64_t at = ctl_times_at(&times, 0.5);
        assert_true(at >= samples[i]);
        assert_true(at - samples[i] <= samples[i] / 16);
    }
}

static void shares_of_times(void **state)
{
    (void)state;
    static struct ctl_times times, more;
    assert_int_equal(ctl_times_at(&times, 0.99), 0);
    ctl_times_add(&times, 8, 98);
    ctl_times_add(&more, 14, 2);
    ctl_times_sum(&times, &more);
    assert_int_equal(times.count, 100);
    assert_int_equal(ctl_times_at(&times, 0.5), 8);
    assert_int_equal(ctl_times_at(&times, 0.98), 8);
    assert_int_equal(ctl_times_at(&times, 0.99), 14);
    assert_int_equal(times.max_ns, 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_in_the_order_of_each_publisher_are_good),
        cmocka_unit_test(a_message_that_never_comes_is_missing),
        cmocka_unit_test(a_message_that_comes_twice_or_late_is_told),
        cmocka_unit_test(a_message_of_nobody_is_a_stranger),
        cmocka_unit_test(times_are_at_most_a_sixteenth_too_large),
        cmocka_unit_test(shares_of_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
