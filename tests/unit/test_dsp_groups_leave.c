#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/cmq_clock.h"
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

/* A dispatcher that drains begins no letter: its messages are dead all the same for whoever comes next, also those that die
 * while the ledger's thread has not taken the note of the ones before. */
static void what_is_dead_stays_dead_when_its_dispatcher_leaves_before_the_letter(void **unused)
{
    (void)unused;
    static struct dsp_member first, second, other;
    struct bench *bench = bench_start();
    struct bench_engine *b = bench_open(bench, 1);
    uint64_t seq = 1;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        struct bench_engine *a = bench_open(bench, 0);
        (void)fake_log_texts(bench->log, "jobs", 2, 'm');
        bench_consume(a, &first, "w", 1);
        bench_consume(a, &second, "w", 1);
        assert_got(bench_take_soon(a, &first, 1), seq, 0, 1, 1);
        assert_got(bench_take(a, &second, 1), seq, 1, 1, 1);
        dsp_groups_drain(a->groups);
        dsp_group_leave(a->groups, &first);
        dsp_group_leave(a->groups, &second);
        bench_close(a);
        assert_int_equal(a->letter_count, 0);
        bench_consume(b, &other, "w", 1);
        (void)fake_log_texts(bench->log, "jobs", 1, 'n');
        assert_got(bench_take_soon(b, &other, 9), seq + 1, 0, 1, 1);
        assert_int_equal(bench_ack(b, &other, seq + 1, 0), DSP_ACK_OK);
        (void)dsp_groups_tick(b->groups, cmq_clock_mono_ns());
        (void)dsp_groups_tick(b->groups, cmq_clock_mono_ns());
        assert_int_equal(b->letter_count, 2 * (turn + 1));
        dsp_group_leave(b->groups, &other);
        bench_commit(b);
        seq += 4; /* these two, and two letters */
    }
    bench_stop(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_about_to_be_given_up_is_not_passed_by_what_comes_meanwhile),
        cmocka_unit_test(what_is_dead_stays_dead_when_its_dispatcher_leaves_before_the_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
