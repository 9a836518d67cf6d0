#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dispatcher/dsp_groups_int.h"
#include "tests/support/groups_bench.h"

enum { TURNS = 20 };

static void records(struct bench *bench, unsigned count)
{
    while (count-- > 0)
        (void)fake_log_texts(bench->log, "jobs", 10, 'm');
}

/* The last one leaves, and the next one comes before the ledger's thread gave anything up. */
static void what_is_about_to_be_given_up_is_not_passed_by_what_comes_meanwhile(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    struct bench *bench = bench_start();
    struct bench_engine *engine = bench_open(bench, 0);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        uint32_t left = 50;
        records(bench, 3);
        bench_join(engine, &first, "jobs", true);
        assert_int_equal(bench_take_soon(engine, &first, 1).count, 1);
        dsp_group_leave(engine->groups, &first);
        records(bench, 2);
        bench_join(engine, &second, "jobs", true);
        while (left > 0) {
            const struct bench_got got = bench_take_soon(engine, &second, 100);
            assert_true(got.count > 0 && got.count <= left);
            left -= got.count;
            dsp_group_delivered(engine->groups, &second);
        }
        dsp_group_leave(engine->groups, &second);
        bench_commit(engine);
    }
    bench_stop(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_about_to_be_given_up_is_not_passed_by_what_comes_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
