#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ingest/ing_watch.h"

enum { COUNT = 3 };

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

static void only_late_sockets_are_shut_down(void **state)
{
    (void)state;
    struct fixture fixture;
    open_all(&fixture);
    ing_watch_set(&fixture.entry[0], 1000);
    ing_watch_set(&fixture.entry[1], 2000);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 999), 0);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 1000), 1);
    assert_true(is_shut(fixture.peer[0]));
    assert_false(is_shut(fixture.peer[1]));
    assert_false(is_shut(fixture.peer[2]));
    assert_int_equal(ing_watch_sweep(&fixture.watch, 1500), 0);
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
    ing_watch_init(&watch, CMQ_NS_PER_S, 65536);
    for (size_t i = 0; i < MANY; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        peers[i] = pair[1];
        (void)ing_watch_add(&watch, &entries[i], pair[0]);
        ing_watch_set(&entries[i], 1);
    }
    for (unsigned sweeps = 0; late < MANY; sweeps++) {
        const size_t now = ing_watch_sweep(&watch, 5);
        assert_in_range(now, 1, MANY / 4);
        late += now;
    }
    assert_int_equal(late, MANY);
    assert_int_equal(ing_watch_sweep(&watch, 5), 0);
    for (size_t i = 0; i < MANY; i++) {
        shut += is_shut(peers[i]);
        (void)ing_watch_remove(&watch, &entries[i]);
        (void)close(entries[i].fd);
        (void)close(peers[i]);
    }
    assert_int_equal(shut, MANY);
    ing_watch_fini(&watch);
}

static void entries_leave_in_any_order(void **state)
{
    (void)state;
    struct fixture fixture;
    open_all(&fixture);
    for (size_t i = 0; i < COUNT; i++)
        ing_watch_set(&fixture.entry[i], 1);
    assert_int_equal(ing_watch_remove(&fixture.watch, &fixture.entry[1]), 2);
    assert_int_equal(ing_watch_remove(&fixture.watch, &fixture.entry[2]), 1);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 5), 1);
    assert_true(is_shut(fixture.peer[0]));
    assert_false(is_shut(fixture.peer[1]));
    assert_int_equal(ing_watch_remove(&fixture.watch, &fixture.entry[0]), 0);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 5), 0);
    close_all(&fixture);
}

static void a_socket_at_its_end_is_late_in_the_second_sweep(void **state)
{
    (void)state;
    struct fixture fixture;
    open_all(&fixture);
    ing_watch_set(&fixture.entry[1], 100);
    ing_watch_set(&fixture.entry[2], ING_WATCH_BUSY);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(shutdown(fixture.peer[i], SHUT_WR), 0);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 5), 0);
    /* Something went on meanwhile. */
    ing_watch_set(&fixture.entry[1], 101);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 5), 0);
    assert_true(is_shut(fixture.peer[0]));
    assert_false(is_shut(fixture.peer[1]));
    assert_int_equal(ing_watch_sweep(&fixture.watch, 5), 0);
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
    open_all(&fixture);
    assert_int_equal(write(fixture.peer[0], "x", 1), 1);
    assert_int_equal(shutdown(fixture.peer[0], SHUT_WR), 0);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 5), 0);
    assert_int_equal(ing_watch_sweep(&fixture.watch, 5), 0);
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
        cmocka_unit_test(entries_leave_in_any_order),
        cmocka_unit_test(a_socket_at_its_end_is_late_in_the_second_sweep),
        cmocka_unit_test(bytes_that_are_not_read_yet_keep_a_socket_open),
        cmocka_unit_test(a_body_earns_time_with_its_bytes),
    };
    return cmocka_run_group_tests_name("ing_watch", tests, NULL, NULL);
}
