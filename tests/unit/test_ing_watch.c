#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ingest/ing_watch.h"

enum { COUNT = 3 };
#define LATER_NS (3600 * CMQ_NS_PER_S)

struct fixture {
    struct ing_watch watch;
    struct ing_watched entry[COUNT];
    int own[COUNT], peer[COUNT];
};

static void open_all(struct fixture *fixture)
{
    ing_watch_init(&fixture->watch, CMQ_NS_PER_S, 65536);
    for (size_t i = 0; i < COUNT; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        fixture->own[i] = pair[0];
        fixture->peer[i] = pair[1];
        assert_int_equal(ing_watch_add(&fixture->watch, &fixture->entry[i], pair[0]), i + 1);
    }
}

static void close_all(struct fixture *fixture)
{
    ing_watch_fini(&fixture->watch);
    for (size_t i = 0; i < COUNT; i++) {
        (void)close(fixture->own[i]);
        (void)close(fixture->peer[i]);
    }
}

static bool is_shut(int peer)
{
    char byte;
    return read(peer, &byte, 1) == 0;
}

/* The clock goes on by a tick with each sweep. */
static size_t sweep_round(struct ing_watch *watch, uint64_t *now_ns)
{
    size_t late = 0;
    for (uint64_t end_ns = *now_ns + ING_WATCH_ROUND_NS; *now_ns < end_ns;
         *now_ns += ING_WATCH_TICK_MS * CMQ_NS_PER_MS)
        late += ing_watch_sweep(watch, *now_ns);
    return late;
}

static void only_late_sockets_are_shut_down(void **state)
{
    (void)state;
    struct fixture fixture;
    uint64_t now_ns = CMQ_NS_PER_S;
    open_all(&fixture);
    ing_watch_set(&fixture.entry[0], 2 * CMQ_NS_PER_S);
    ing_watch_set(&fixture.entry[1], LATER_NS);
    assert_int_equal(sweep_round(&fixture.watch, &now_ns), 0);
    assert_int_equal(sweep_round(&fixture.watch, &now_ns), 1);
    assert_true(is_shut(fixture.peer[0]));
    assert_false(is_shut(fixture.peer[1]));
    assert_false(is_shut(fixture.peer[2]));
    assert_int_equal(sweep_round(&fixture.watch, &now_ns), 0);
    for (size_t i = 0; i < COUNT; i++)
        (void)ing_watch_remove(&fixture.watch, &fixture.entry[i]);
    close_all(&fixture);
}

static void very_many_late_sockets_are_shut_down_in_parts(void **state)
{
    (void)state;
    enum { MANY = 320 };
    static struct ing_watched entries[MANY];
    static int peers[MANY];
    struct ing_watch watch;
    size_t late = 0, shut = 0;
    uint64_t now_ns = CMQ_NS_PER_S;
    ing_watch_init(&watch, CMQ_NS_PER_S, 65536);
    for (size_t i = 0; i < MANY; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        peers[i] = pair[1];
        (void)ing_watch_add(&watch, &entries[i], pair[0]);
        ing_watch_set(&entries[i], 1);
    }
    for (unsigned sweeps = 0; sweeps < MANY; sweeps++, now_ns += ING_WATCH_TICK_MS * CMQ_NS_PER_MS) {
        const size_t now = ing_watch_sweep(&watch, now_ns);
        assert_in_range(now, 0, MANY / 100);
        late += now;
    }
    assert_int_equal(late, MANY);
    assert_int_equal(sweep_round(&watch, &now_ns), 0);
    for (size_t i = 0; i < MANY; i++) {
        shut += is_shut(peers[i]);
        (void)ing_watch_remove(&watch, &entries[i]);
        (void)close(entries[i].fd);
        (void)close(peers[i]);
    }
    assert_int_equal(shut, MANY);
    ing_watch_fini(&watch);
}

static void each_of_many_sockets_is_looked_at_in_every_round(void **state)
{
    (void)state;
    enum { MANY = 300 };
    static struct ing_watched entries[MANY];
    struct ing_watch watch;
    uint64_t now_ns = CMQ_NS_PER_S;
    int pair[2];
    ing_watch_init(&watch, CMQ_NS_PER_S, 65536);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    for (size_t i = 0; i < MANY; i++)
        (void)ing_watch_add(&watch, &entries[i], pair[0]);
    for (uint64_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++) {
            ing_watch_set(&entries[i], LATER_NS + round);
            entries[i].swept_ns = 0;
        }
        assert_int_equal(sweep_round(&watch, &now_ns), 0);
        for (size_t i = 0; i < MANY; i++)
            assert_int_equal(entries[i].swept_ns, LATER_NS + round);
    }
    for (size_t i = 0; i < MANY; i++)
        (void)ing_watch_remove(&watch, &entries[i]);
    (void)close(pair[0]);
    (void)close(pair[1]);
    ing_watch_fini(&watch);
}

static void entries_leave_in_any_order(void **state)
{
    (void)state;
    struct fixture fixture;
    uint64_t now_ns = CMQ_NS_PER_S;
    open_all(&fixture);
    for (size_t i = 0; i < COUNT; i++)
        ing_watch_set(&fixture.entry[i], 1);
    assert_int_equal(ing_watch_sweep(&fixture.watch, now_ns), 1); /* the newest one */
    assert_true(is_shut(fixture.peer[2]));
    assert_int_equal(ing_watch_remove(&fixture.watch, &fixture.entry[1]), 2); /* whose turn it is */
    assert_int_equal(ing_watch_sweep(&fixture.watch, now_ns), 1);
    assert_true(is_shut(fixture.peer[0]));
    assert_false(is_shut(fixture.peer[1]));
    assert_int_equal(ing_watch_remove(&fixture.watch, &fixture.entry[2]), 1);
    assert_int_equal(ing_watch_remove(&fixture.watch, &fixture.entry[0]), 0);
    assert_int_equal(sweep_round(&fixture.watch, &now_ns), 0);
    close_all(&fixture);
}

static void a_socket_at_its_end_is_late_in_the_second_round(void **state)
{
    (void)state;
    struct fixture fixture;
    uint64_t now_ns = CMQ_NS_PER_S;
    open_all(&fixture);
    ing_watch_set(&fixture.entry[1], LATER_NS);
    ing_watch_set(&fixture.entry[2], ING_WATCH_BUSY);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(shutdown(fixture.peer[i], SHUT_WR), 0);
    assert_int_equal(sweep_round(&fixture.watch, &now_ns), 0);
    for (size_t i = 0; i < COUNT; i++)
        assert_false(fixture.entry[i].shut);
    /* Something went on meanwhile. */
    ing_watch_set(&fixture.entry[1], LATER_NS + 1);
    assert_int_equal(sweep_round(&fixture.watch, &now_ns), 0);
    assert_true(is_shut(fixture.peer[0]));
    assert_false(is_shut(fixture.peer[1]));
    assert_int_equal(sweep_round(&fixture.watch, &now_ns), 0);
    assert_true(is_shut(fixture.peer[1]));
    assert_false(is_shut(fixture.peer[2]));
    for (size_t i = 0; i < COUNT; i++)
        (void)ing_watch_remove(&fixture.watch, &fixture.entry[i]);
    close_all(&fixture);
}

static void bytes_that_are_not_read_yet_keep_a_socket_open(void **state)
{
    (void)state;
    struct fixture fixture;
    uint64_t now_ns = CMQ_NS_PER_S;
    open_all(&fixture);
    assert_int_equal(write(fixture.peer[0], "x", 1), 1);
    assert_int_equal(shutdown(fixture.peer[0], SHUT_WR), 0);
    for (unsigned rounds = 0; rounds < 3; rounds++)
        assert_int_equal(sweep_round(&fixture.watch, &now_ns), 0);
    assert_false(fixture.entry[0].shut);
    for (size_t i = 0; i < COUNT; i++)
        (void)ing_watch_remove(&fixture.watch, &fixture.entry[i]);
    close_all(&fixture);
}

static void a_body_earns_time_with_its_bytes(void **state)
{
    (void)state;
    const struct ing_watch watch = {.grace_ns = 7, .body_bytes_per_s = 65536};
    assert_int_equal(ing_watch_body_deadline(&watch, 5, 0), 5 + 7);
    assert_int_equal(ing_watch_body_deadline(&watch, 0, 3 * 65536), 7 + 3 * CMQ_NS_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_late_sockets_are_shut_down),
        cmocka_unit_test(very_many_late_sockets_are_shut_down_in_parts),
        cmocka_unit_test(each_of_many_sockets_is_looked_at_in_every_round),
        cmocka_unit_test(entries_leave_in_any_order),
        cmocka_unit_test(a_socket_at_its_end_is_late_in_the_second_round),
        cmocka_unit_test(bytes_that_are_not_read_yet_keep_a_socket_open),
        cmocka_unit_test(a_body_earns_time_with_its_bytes),
    };
    return cmocka_run_group_tests_name("ing_watch", tests, NULL, NULL);
}
