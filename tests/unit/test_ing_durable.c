#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <semaphore.h>

#include "ingest/ing_durable.h"
#include "tests/support/fake_ring.h"

enum { LONG_MS = 60000 };

struct fixture {
    struct cmq_ring *ring;
    struct ing_durable *durable;
    bool stopped;
};

/* A wait that can be waited for. */
struct waiter {
    struct ing_wait wait;
    sem_t done;
    unsigned rank; /* how many had ended before */
};

static unsigned ended;

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (fixture == NULL)
        return -1;
    ended = 0;
    fixture->ring = fake_ring_new();
    *state = fixture;
    return ing_durable_start(fixture->ring, LONG_MS, &fixture->durable) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (!fixture->stopped)
        ing_durable_stop(fixture->durable);
    ing_durable_free(fixture->durable);
    fake_ring_free(fixture->ring);
    free(fixture);
    return 0;
}

static void done(struct ing_wait *wait)
{
    struct waiter *waiter = (struct waiter *)(void *)wait;
    waiter->rank = ended++;
    (void)sem_post(&waiter->done);
}

static void add(struct fixture *fixture, struct waiter *waiter, uint64_t seq, enum ing_level level)
{
    memset(waiter, 0, sizeof *waiter);
    (void)sem_init(&waiter->done, 0, 0);
    waiter->wait.seq = seq;
    waiter->wait.level = level;
    waiter->wait.done = done;
    ing_durable_add(fixture->durable, &waiter->wait);
}

static enum ing_wait_end await(struct waiter *waiter)
{
    (void)sem_wait(&waiter->done);
    return waiter->wait.end;
}

static bool is_done(struct waiter *waiter)
{
    int value = 0;
    (void)sem_getvalue(&waiter->done, &value);
    return value != 0;
}

static void waits_end_when_the_log_has_passed_them(void **state)
{
    struct fixture *fixture = *state;
    struct waiter one, two, three;
    add(fixture, &one, 1, ING_LEVEL_DURABLE);
    add(fixture, &three, 3, ING_LEVEL_DURABLE);
    add(fixture, &two, 2, ING_LEVEL_DURABLE);
    fake_ring_set_log(fixture->ring, 4, 2);
    assert_int_equal(await(&one), ING_WAIT_DONE);
    assert_int_equal(one.wait.outcome.kind, CMQ_OUTCOME_KEPT);
    fake_ring_set_log(fixture->ring, 4, 3);
    assert_int_equal(await(&two), ING_WAIT_DONE);
    assert_false(is_done(&three));
    fake_ring_set_log(fixture->ring, 4, 4);
    assert_int_equal(await(&three), ING_WAIT_DONE);
}

static void the_two_levels_are_told_apart(void **state)
{
    struct fixture *fixture = *state;
    struct waiter stored, durable;
    add(fixture, &durable, 1, ING_LEVEL_DURABLE);
    add(fixture, &stored, 1, ING_LEVEL_STORED);
    fake_ring_set_log(fixture->ring, 2, 1);
    assert_int_equal(await(&stored), ING_WAIT_DONE);
    assert_false(is_done(&durable));
    fake_ring_set_log(fixture->ring, 2, 2);
    assert_int_equal(await(&durable), ING_WAIT_DONE);
}

static void one_move_ends_many_in_the_order_in_which_they_came(void **state)
{
    enum { COUNT = 100 };
    struct fixture *fixture = *state;
    static struct waiter waiters[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        add(fixture, &waiters[i], i + 1, ING_LEVEL_DURABLE);
    fake_ring_await_sleeper(fixture->ring);
    size_t before = fake_ring_wakes(fixture->ring);
    fake_ring_set_log(fixture->ring, COUNT + 1, COUNT + 1);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(await(&waiters[i]), ING_WAIT_DONE);
        assert_int_equal(waiters[i].rank, i);
    }
    assert_true(fake_ring_wakes(fixture->ring) <= before + 1);
}

/* The log may be faster than the worker that published. Nothing moves any more then. */
static void a_wait_for_what_is_there_already_ends_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter;
    fake_ring_set_log(fixture->ring, 2, 2);
    add(fixture, &waiter, 1, ING_LEVEL_DURABLE);
    assert_int_equal(await(&waiter), ING_WAIT_DONE);
    fake_ring_await_sleeper(fixture->ring);
    add(fixture, &waiter, 1, ING_LEVEL_DURABLE);
    assert_int_equal(await(&waiter), ING_WAIT_DONE);
    add(fixture, &waiter, 1, ING_LEVEL_STORED);
    assert_int_equal(await(&waiter), ING_WAIT_DONE);
}

/* However the two threads interleave, no wait is forgotten: each is added while the cursor moves over it. */
static void no_wake_up_is_lost(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter;
    for (uint64_t seq = 1; seq <= 3000; seq++) {
        enum ing_level level = seq % 3 == 0 ? ING_LEVEL_STORED : ING_LEVEL_DURABLE;
        if (seq % 2 == 0)
            fake_ring_set_log(fixture->ring, seq + 1, seq + 1);
        add(fixture, &waiter, seq, level);
        fake_ring_set_log(fixture->ring, seq + 1, level == ING_LEVEL_STORED ? 1 : seq + 1);
        assert_int_equal(await(&waiter), ING_WAIT_DONE);
    }
}

/* After a pause the thread sleeps on its condition: neither cursor is followed then. */
static void a_wait_after_a_pause_is_seen(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter;
    for (uint64_t seq = 100; seq <= 500; seq += 100) {
        for (uint64_t i = 0; i < 50; i++) /* moves that nobody waits for */
            fake_ring_set_log(fixture->ring, seq - 50 + i, seq - 50 + i);
        add(fixture, &waiter, seq, seq % 200 == 0 ? ING_LEVEL_STORED : ING_LEVEL_DURABLE);
        fake_ring_set_log(fixture->ring, seq + 1, seq + 1);
        assert_int_equal(await(&waiter), ING_WAIT_DONE);
    }
}

static void the_outcome_is_handed_on(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter;
    const struct cmq_outcome outcome = {CMQ_OUTCOME_DUPLICATE, 77, 5};
    fake_ring_set_outcome(fixture->ring, 1, &outcome);
    add(fixture, &waiter, 1, ING_LEVEL_STORED);
    fake_ring_set_log(fixture->ring, 2, 1);
    assert_int_equal(await(&waiter), ING_WAIT_DONE);
    assert_int_equal(waiter.wait.outcome.kind, CMQ_OUTCOME_DUPLICATE);
    assert_int_equal(waiter.wait.outcome.seq, 77);
    assert_int_equal(waiter.wait.outcome.index, 5);
    fake_ring_forget_outcomes(fixture->ring, 3);
    add(fixture, &waiter, 2, ING_LEVEL_DURABLE);
    fake_ring_set_log(fixture->ring, 3, 3);
    assert_int_equal(await(&waiter), ING_WAIT_UNKNOWN);
}

static void a_wait_has_a_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct waiter patient, waiter;
    add(fixture, &patient, 1, ING_LEVEL_DURABLE);
    fake_ring_await_sleeper(fixture->ring);
    ing_durable_set_wait_ms(fixture->durable, 1);
    add(fixture, &waiter, 2, ING_LEVEL_DURABLE);
    assert_int_equal(await(&waiter), ING_WAIT_LATE);
    assert_false(is_done(&patient));
    fake_ring_set_log(fixture->ring, 3, 3);
    assert_int_equal(await(&patient), ING_WAIT_DONE);
}

static void a_log_that_takes_nothing_ends_all_waits(void **state)
{
    struct fixture *fixture = *state;
    struct waiter there, waiter;
    add(fixture, &waiter, 2, ING_LEVEL_DURABLE);
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_FULL);
    assert_int_equal(await(&waiter), ING_WAIT_FULL);
    add(fixture, &waiter, 2, ING_LEVEL_STORED);
    assert_int_equal(await(&waiter), ING_WAIT_FULL);
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_FAILED);
    add(fixture, &waiter, 2, ING_LEVEL_DURABLE);
    assert_int_equal(await(&waiter), ING_WAIT_FAILED);
    /* What the log had before is there all the same. */
    fake_ring_set_log(fixture->ring, 2, 2);
    add(fixture, &there, 1, ING_LEVEL_DURABLE);
    assert_int_equal(await(&there), ING_WAIT_DONE);
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_NONE); /* its writer starts again: not a failure */
    add(fixture, &waiter, 2, ING_LEVEL_DURABLE);
    fake_ring_set_log(fixture->ring, 3, 3);
    assert_int_equal(await(&waiter), ING_WAIT_DONE);
}

static void a_stop_ends_all_waits(void **state)
{
    struct fixture *fixture = *state;
    struct waiter first, second, late;
    add(fixture, &first, 1, ING_LEVEL_DURABLE);
    add(fixture, &second, 2, ING_LEVEL_STORED);
    ing_durable_stop(fixture->durable);
    fixture->stopped = true;
    assert_true(is_done(&first) && is_done(&second));
    assert_int_equal(first.wait.end, ING_WAIT_STOPPED);
    assert_int_equal(second.wait.end, ING_WAIT_STOPPED);
    add(fixture, &late, 3, ING_LEVEL_DURABLE);
    assert_true(is_done(&late));
    assert_int_equal(late.wait.end, ING_WAIT_STOPPED);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(waits_end_when_the_log_has_passed_them),
        WITH(the_two_levels_are_told_apart),
        WITH(one_move_ends_many_in_the_order_in_which_they_came),
        WITH(a_wait_for_what_is_there_already_ends_at_once),
        WITH(no_wake_up_is_lost),
        WITH(a_wait_after_a_pause_is_seen),
        WITH(the_outcome_is_handed_on),
        WITH(a_wait_has_a_deadline),
        WITH(a_log_that_takes_nothing_ends_all_waits),
        WITH(a_stop_ends_all_waits),
    };
    ing_durable_free(NULL);
    return cmocka_run_group_tests_name("ing_durable", tests, NULL, NULL);
}
