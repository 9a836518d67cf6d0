#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>

#include "ingest/ing_admit.h"
#include "tests/support/fake_ring.h"

enum { LONG_MS = 60000 };

struct fixture {
    struct cmq_ring *ring;
    struct ing_admit *admit;
    bool stopped;
};

/* A ticket that can be waited for. */
struct waiter {
    struct ing_ticket ticket;
    sem_t done;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (fixture == NULL)
        return -1;
    const struct ing_admit_limits limits = {.wait_ms = LONG_MS, .waiting_bytes_max = 100};
    fixture->ring = fake_ring_new();
    *state = fixture;
    return ing_admit_start(fixture->ring, &limits, &fixture->admit) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (!fixture->stopped)
        ing_admit_stop(fixture->admit);
    ing_admit_free(fixture->admit);
    fake_ring_free(fixture->ring);
    free(fixture);
    return 0;
}

static void done(struct ing_ticket *ticket)
{
    (void)sem_post(&((struct waiter *)(void *)ticket)->done);
}

static enum cmq_err publish(struct fixture *fixture, const char *text, uint64_t *ret_seq)
{
    const struct cmq_span part = cmq_span_make(text, strlen(text));
    return ing_admit_publish(fixture->admit, &part, 1, 1, ret_seq);
}

static enum cmq_err fill(struct fixture *fixture, struct waiter *waiter, const char *text)
{
    const struct cmq_span parts[2] = {cmq_span_make(text, 1), cmq_span_make(text + 1, strlen(text) - 1)};
    memset(waiter, 0, sizeof *waiter);
    (void)sem_init(&waiter->done, 0, 0);
    waiter->ticket.done = done;
    return ing_ticket_fill(fixture->admit, &waiter->ticket, parts, 2, 1);
}

static void queue(struct fixture *fixture, struct waiter *waiter, const char *text)
{
    assert_int_equal(fill(fixture, waiter, text), CMQ_OK);
    ing_admit_queue(fixture->admit, &waiter->ticket);
}

static enum cmq_err await(struct waiter *waiter)
{
    (void)sem_wait(&waiter->done);
    (void)sem_destroy(&waiter->done);
    return waiter->ticket.err;
}

static void expect_record(struct fixture *fixture, size_t index, const char *want)
{
    uint32_t messages;
    struct cmq_span record = fake_ring_record(fixture->ring, index, &messages);
    assert_int_equal(record.bytes, strlen(want));
    assert_memory_equal(record.data, want, record.bytes);
}

static void with_room_a_record_enters_at_once(void **state)
{
    uint64_t seq = 0;
    assert_int_equal(publish(*state, "a", &seq), CMQ_OK);
    assert_int_equal(seq, 1);
    expect_record(*state, 0, "a");
}

static void who_waits_enters_in_order_when_there_is_room(void **state)
{
    struct fixture *fixture = *state;
    uint64_t seq;
    struct waiter first, second, third;
    fake_ring_set_room(fixture->ring, 0);
    assert_int_equal(publish(fixture, "a", &seq), CMQ_ERR_AGAIN);
    queue(fixture, &first, "first");
    queue(fixture, &second, "second");
    queue(fixture, &third, "third");
    fake_ring_set_room(fixture->ring, 2);
    assert_int_equal(await(&first), CMQ_OK);
    assert_int_equal(await(&second), CMQ_OK);
    fake_ring_set_room(fixture->ring, 1);
    assert_int_equal(await(&third), CMQ_OK);
    assert_int_equal(third.ticket.seq, 3);
    expect_record(fixture, 0, "first");
    expect_record(fixture, 1, "second");
    expect_record(fixture, 2, "third");
}

static void nobody_overtakes_who_waits(void **state)
{
    struct fixture *fixture = *state;
    struct waiter large, small;
    uint64_t seq;
    fake_ring_set_record_room(fixture->ring, 5);
    queue(fixture, &large, "too large");
    fake_ring_await_refused(fixture->ring, 1);
    assert_int_equal(publish(fixture, "small", &seq), CMQ_ERR_AGAIN);
    queue(fixture, &small, "small");
    fake_ring_await_refused(fixture->ring, 3);
    assert_int_equal(fake_ring_records(fixture->ring), 0);
    fake_ring_set_record_room(fixture->ring, 100);
    assert_int_equal(await(&large), CMQ_OK);
    assert_int_equal(await(&small), CMQ_OK);
    expect_record(fixture, 0, "too large");
    expect_record(fixture, 1, "small");
}

static void the_queue_ends_when_it_was_served(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter;
    for (int i = 0; i < 1000; i++) {
        fake_ring_set_room(fixture->ring, 0);
        queue(fixture, &waiter, "wait");
        fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
        assert_int_equal(await(&waiter), CMQ_OK);
        uint64_t seq;
        assert_int_equal(publish(fixture, "now", &seq), CMQ_OK);
    }
    assert_int_equal(fake_ring_records(fixture->ring), 2000);
}

static void waiting_ends_at_the_limit(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter;
    uint64_t seq;
    fake_ring_set_room(fixture->ring, 0);
    queue(fixture, &waiter, "long");
    fake_ring_await_refused(fixture->ring, 1);
    /* A shorter limit holds for those who wait already. */
    const struct ing_admit_limits limits = {.wait_ms = 1, .waiting_bytes_max = 100};
    ing_admit_set_limits(fixture->admit, &limits);
    assert_int_equal(await(&waiter), CMQ_ERR_FULL);
    const struct ing_admit_limits none = {.wait_ms = 0, .waiting_bytes_max = 100};
    ing_admit_set_limits(fixture->admit, &none);
    assert_int_equal(publish(fixture, "a", &seq), CMQ_ERR_FULL);
    assert_int_equal(fake_ring_records(fixture->ring), 0);
}

static void waiting_bytes_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct waiter first, second;
    char text[92] = "";
    memset(text, 'x', 91);
    fake_ring_set_room(fixture->ring, 0);
    queue(fixture, &first, text);
    assert_int_equal(fill(fixture, &second, "0123456789"), CMQ_ERR_FULL);
    assert_int_equal(fill(fixture, &second, "012345678"), CMQ_OK);
    ing_admit_queue(fixture->admit, &second.ticket);
    fake_ring_set_room(fixture->ring, 2);
    assert_int_equal(await(&first), CMQ_OK);
    assert_int_equal(await(&second), CMQ_OK);
    fake_ring_set_room(fixture->ring, 0);
    queue(fixture, &first, text);
    fake_ring_set_room(fixture->ring, 1);
    assert_int_equal(await(&first), CMQ_OK);
}

static void stopping_ends_all_waiting(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter[3], late;
    uint64_t seq;
    fake_ring_set_room(fixture->ring, 0);
    for (size_t i = 0; i < CMQ_COUNT_OF(waiter); i++)
        queue(fixture, &waiter[i], "wait");
    assert_int_equal(fill(fixture, &late, "late"), CMQ_OK);
    ing_admit_stop(fixture->admit);
    fixture->stopped = true;
    for (size_t i = 0; i < CMQ_COUNT_OF(waiter); i++)
        assert_int_equal(await(&waiter[i]), CMQ_ERR_DRAINING);
    ing_admit_queue(fixture->admit, &late.ticket);
    assert_int_equal(await(&late), CMQ_ERR_DRAINING);
    fake_ring_set_room(fixture->ring, 9);
    assert_int_equal(publish(fixture, "a", &seq), CMQ_ERR_DRAINING);
    assert_int_equal(fake_ring_records(fixture->ring), 0);
}

static void a_draining_ring_ends_the_waiting(void **state)
{
    struct fixture *fixture = *state;
    struct waiter waiter;
    uint64_t seq;
    fake_ring_set_room(fixture->ring, 0);
    queue(fixture, &waiter, "wait");
    fake_ring_await_refused(fixture->ring, 1);
    fake_ring_set_error(fixture->ring, CMQ_ERR_DRAINING);
    assert_int_equal(await(&waiter), CMQ_ERR_DRAINING);
    assert_int_equal(publish(fixture, "a", &seq), CMQ_ERR_DRAINING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(with_room_a_record_enters_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_enters_in_order_when_there_is_room, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_overtakes_who_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(the_queue_ends_when_it_was_served, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_ends_at_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_bytes_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(stopping_ends_all_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(a_draining_ring_ends_the_waiting, setup, teardown),
    };
    return cmocka_run_group_tests_name("ing_admit", tests, NULL, NULL);
}
