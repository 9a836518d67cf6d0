/* Tests of dsp_roll: of many clients those are kept that are farthest behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dispatcher/dsp_roll.h"

static const struct cmq_address address = {.bytes = {192, 0, 2, 1}, .length = 4};

/* In an order of its own: 0, step, 2 step, ... modulo count, which are prime to each other. */
static void add_all(struct dsp_roll *roll, uint64_t count, uint64_t step)
{
    dsp_roll_begin(roll, 1000);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t lag = i * step % count;
        struct cmq_table_client *row = dsp_roll_add(roll, lag, 2, &address);
        if (row == NULL)
            continue;
        assert_int_equal(row->lag_records, lag);
        assert_int_equal(row->messages, 0);
        assert_string_equal(row->address, "192.0.2.1");
        row->messages = lag + 1;
    }
}

static void the_clients_that_are_farthest_behind_are_kept(void **state)
{
    (void)state;
    static struct dsp_roll roll;
    static const uint64_t steps[] = {1, 3, 7, 998};
    for (size_t i = 0; i < CMQ_COUNT_OF(steps); i++) {
        bool seen[CMQ_TABLE_CLIENTS_MAX] = {false};
        add_all(&roll, 997, steps[i]);
        assert_int_equal(roll.total, 997);
        assert_int_equal(roll.subscriptions, 2 * 997);
        assert_int_equal(roll.count, CMQ_TABLE_CLIENTS_MAX);
        for (size_t k = 0; k < roll.count; k++) {
            assert_in_range(roll.rows[k].lag_records, 997 - CMQ_TABLE_CLIENTS_MAX, 996);
            assert_int_equal(roll.rows[k].messages, roll.rows[k].lag_records + 1);
            seen[996 - roll.rows[k].lag_records] = true;
        }
        for (size_t k = 0; k < CMQ_TABLE_CLIENTS_MAX; k++)
            assert_true(seen[k]);
    }
}

static void the_largest_lag_of_subscribers_is_kept_without_a_row(void **state)
{
    (void)state;
    static struct dsp_roll roll;
    add_all(&roll, 5, 1);
    assert_int_equal(roll.count, 5);
    assert_int_equal(roll.subscriber_lag, 0);
    dsp_roll_subscriber(&roll, dsp_roll_lag(&roll, 400));
    dsp_roll_subscriber(&roll, dsp_roll_lag(&roll, 900));
    dsp_roll_subscriber(&roll, dsp_roll_lag(&roll, 1001)); /* ahead: the log's end was read before */
    assert_int_equal(roll.subscriber_lag, 600);
    dsp_roll_begin(&roll, 1);
    assert_int_equal(roll.subscriber_lag + roll.count + roll.total, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_clients_that_are_farthest_behind_are_kept),
        cmocka_unit_test(the_largest_lag_of_subscribers_is_kept_without_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
