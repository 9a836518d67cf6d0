/* Interleavings that need a scheduler's malice, made certain: chosen functions of common/shm are wrapped by the linker
 * (--wrap), so that a test runs in the middle of a step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_view.h"
#include "tests/support/ring_fixture.h"

enum { SLOTS = 4, ARENA = 65536 };

static struct ring_fixture fixture;
static struct cmq_ring *ingest, *encryptor, *dispatcher;
static uint64_t gate_lag;         /* cmq_gate_load is so many records late */
static void (*before_join)(void); /* runs once, between mapping and joining */
static uint32_t
    watched; /* while the gate is loaded by another one, the dispatcher looks whether this member lives */
static unsigned looks, seen_alive;

uint64_t __real_cmq_gate_load(struct cmq_ring *ring);
uint64_t __wrap_cmq_gate_load(struct cmq_ring *ring);
enum cmq_err __real_cmq_member_join(struct cmq_ring *ring, struct cmq_reason *reason);
enum cmq_err __wrap_cmq_member_join(struct cmq_ring *ring, struct cmq_reason *reason);

uint64_t __wrap_cmq_gate_load(struct cmq_ring *ring)
{
    if (watched != CMQ_NOBODY && ring == ingest) {
        looks++;
        seen_alive += cmq_member_is_alive(dispatcher, watched);
    }
    return __real_cmq_gate_load(ring) - gate_lag;
}

enum cmq_err __wrap_cmq_member_join(struct cmq_ring *ring, struct cmq_reason *reason)
{
    void (*run)(void) = before_join;
    before_join = NULL;
    if (run != NULL)
        run();
    return __real_cmq_member_join(ring, reason);
}

static int setup(void **state)
{
    (void)state;
    gate_lag = 0;
    watched = CMQ_NOBODY;
    ring_fixture_open(&fixture, SLOTS, 0, ARENA);
    ingest = ring_fixture_join(&fixture, CMQ_ROLE_INGEST);
    encryptor = ring_fixture_join(&fixture, CMQ_ROLE_ENCRYPTOR);
    dispatcher = ring_fixture_join(&fixture, CMQ_ROLE_DISPATCHER);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gate_lag = 0;
    ring_fixture_close(&fixture);
    return 0;
}

static void collection_with_a_gate_that_has_moved_on_keeps_live_records(void **state)
{
    (void)state;
    struct cmq_ring *dying = ring_fixture_join(&fixture, CMQ_ROLE_ENCRYPTOR);
    for (unsigned i = 0; i < SLOTS; i++) {
        (void)ring_fixture_publish(ingest, "kept");
        (void)ring_fixture_seal(dying);
    }
    (void)ring_fixture_store(encryptor, "kept");
    (void)ring_fixture_publish(ingest, "next"); /* slot 0 speaks of record 4 now */
    gate_lag = 1;                               /* the collector had loaded the gate just before */
    ring_fixture_leave(&fixture, dying);
    assert_int_equal(cmq_ring_tick(ingest, NULL), CMQ_OK);
    gate_lag = 0;
    for (unsigned i = 1; i < SLOTS; i++)
        (void)ring_fixture_store(encryptor, "kept");
    (void)ring_fixture_seal(encryptor);
    (void)ring_fixture_store(encryptor, "next");
}

/* As a SIGKILL does it: the kernel takes the lock away. */
static uint32_t die(struct cmq_ring *ring)
{
    const uint32_t id = ring->id;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s.members", fixture.run_dir, fixture.instance);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(dup3(fd, ring->lock_fd, O_CLOEXEC), ring->lock_fd);
    (void)close(fd);
    ring->id = CMQ_NOBODY;
    return id;
}

static void a_member_that_is_being_collected_is_not_seen_as_alive(void **state)
{
    (void)state;
    struct cmq_ring *dying = ring_fixture_join(&fixture, CMQ_ROLE_ENCRYPTOR);
    (void)ring_fixture_publish(ingest, "kept");
    (void)ring_fixture_seal(dying);
    assert_true(cmq_member_is_alive(dispatcher, dying->id));
    watched = die(dying);
    looks = seen_alive = 0;
    assert_int_equal(cmq_ring_tick(ingest, NULL), CMQ_OK);
    assert_true(looks > 0);
    assert_int_equal(seen_alive, 0);
    watched = CMQ_NOBODY;
    (void)ring_fixture_store(encryptor, "kept");
}

static struct rlimit leave_no_descriptors(void)
{
    struct rlimit limit, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    return limit;
}

static void records_that_cannot_be_mapped_for_now_are_not_given_up(void **state)
{
    (void)state;
    struct cmq_lease lease;
    struct cmq_committed record;
    (void)ring_fixture_publish(ingest, "precious");
    struct rlimit limit = leave_no_descriptors();
    enum cmq_err lease_err = cmq_ring_lease(encryptor, &lease);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(lease_err, CMQ_ERR_SYSTEM);
    (void)ring_fixture_seal(encryptor);
    limit = leave_no_descriptors();
    enum cmq_err log_err = cmq_ring_committed(encryptor, 0, &record);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(log_err, CMQ_ERR_SYSTEM);
    (void)ring_fixture_store(encryptor, "precious");
}

static void record_behind_a_lying_claim_hint_is_found_although_the_arena_is_full(void **state)
{
    (void)state;
    static uint8_t body[4096];
    struct cmq_span part = cmq_span_make(body, sizeof body);
    struct cmq_lease lease;
    uint64_t seq;
    fixture.setup.arena_bytes = 5 * 4096; /* a reserve, and room for one result */
    struct cmq_ring *small = ring_fixture_join(&fixture, CMQ_ROLE_ENCRYPTOR);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(cmq_ring_publish(ingest, &part, 1, 1, &seq), CMQ_OK);
    atomic_store_explicit(&small->a->claim.value, 1, memory_order_relaxed);
    assert_int_equal(cmq_ring_lease(small, &lease), CMQ_OK);
    assert_int_equal(lease.seq, 0);
    assert_int_equal(cmq_ring_commit(small, &lease, 4096, 1), CMQ_OK);
    atomic_store_explicit(&small->a->claim.value, 2,
                          memory_order_relaxed); /* 1 is hidden, the arena is full */
    assert_int_equal(cmq_ring_lease(small, &lease), CMQ_OK);
    assert_int_equal(lease.seq, 1);
    memset(lease.dst, 1, lease.dst_bytes); /* the reserve holds the largest result */
    assert_int_equal(cmq_ring_commit(small, &lease, lease.dst_bytes, 1), CMQ_OK);
}

static void head_of_the_line_is_taken_over_before_anything_behind_it(void **state)
{
    (void)state;
    struct cmq_ring *dying = ring_fixture_join(&fixture, CMQ_ROLE_ENCRYPTOR);
    struct cmq_lease lease;
    (void)ring_fixture_publish(ingest, "head");
    assert_int_equal(cmq_ring_lease(dying, &lease), CMQ_OK);
    ring_fixture_leave(&fixture, dying);
    (void)ring_fixture_publish(ingest, "behind");
    const uint64_t end_ns =
        cmq_clock_mono_ns() + 30 * CMQ_NS_PER_MS; /* the lease is older than lease_ms then */
    while (cmq_clock_mono_ns() < end_ns)
        assert_int_equal(cmq_ring_tick(ingest, NULL), CMQ_OK);
    assert_int_equal(cmq_ring_lease(encryptor, &lease), CMQ_OK);
    assert_int_equal(lease.seq, 0);
    assert_true(lease.stolen);
    assert_int_equal(cmq_ring_commit(encryptor, &lease, 4, 1), CMQ_OK);
}

static void wait_for_space_sleeps_while_the_reserve_is_taken(void **state)
{
    (void)state;
    static uint8_t body[4096];
    struct cmq_span part = cmq_span_make(body, sizeof body);
    struct cmq_lease lease;
    uint64_t seq;
    fixture.setup.arena_bytes = 5 * 4096;
    struct cmq_ring *small = ring_fixture_join(&fixture, CMQ_ROLE_ENCRYPTOR);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(cmq_ring_publish(ingest, &part, 1, 1, &seq), CMQ_OK);
    atomic_store_explicit(&small->a->claim.value, 3, memory_order_relaxed); /* all are hidden */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(cmq_ring_lease(small, &lease), CMQ_OK);
        assert_int_equal(cmq_ring_commit(small, &lease, 4096, 1), CMQ_OK);
    }
    assert_int_equal(cmq_ring_lease(small, &lease), CMQ_ERR_FULL); /* arena and reserve are taken */
    assert_false(cmq_ring_wait(small, CMQ_WAIT_SPACE_ENCRYPTOR, 1, NULL));
}

static void make_anew(void)
{
    struct cmq_reason reason;
    assert_int_equal(cmq_ring_destroy(&fixture.setup, &reason), CMQ_OK);
    assert_int_equal(cmq_ring_create(&fixture.setup, &reason), CMQ_OK);
}

static void member_does_not_join_a_ring_that_was_removed_meanwhile(void **state)
{
    (void)state;
    struct cmq_ring *ring = NULL;
    struct cmq_reason reason;
    ring_fixture_leave(&fixture, ingest);
    ring_fixture_leave(&fixture, encryptor);
    ring_fixture_leave(&fixture, dispatcher);
    before_join = make_anew;
    assert_int_equal(cmq_ring_attach(&fixture.setup, CMQ_ROLE_INGEST, &ring, &reason), CMQ_ERR_AGAIN);
    assert_int_equal(cmq_ring_attach(&fixture.setup, CMQ_ROLE_INGEST, &ring, &reason), CMQ_OK);
    cmq_ring_detach(ring);
}

static void member_with_another_members_file_is_refused(void **state)
{
    (void)state;
    struct cmq_ring *ring = NULL;
    struct cmq_reason reason;
    char path[128], aside[160];
    (void)snprintf(path, sizeof path, "%s/%s.members", fixture.run_dir, fixture.instance);
    (void)snprintf(aside, sizeof aside, "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(cmq_ring_attach(&fixture.setup, CMQ_ROLE_INGEST, &ring, &reason), CMQ_ERR_LAYOUT);
    assert_non_null(strstr(reason.text, "run_dir"));
    assert_int_equal(rename(aside, path), 0);
    (void)ring_fixture_join(&fixture, CMQ_ROLE_INGEST);
}

int main(void)
{
#define RACE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        RACE_TEST(a_member_that_is_being_collected_is_not_seen_as_alive),
        RACE_TEST(collection_with_a_gate_that_has_moved_on_keeps_live_records),
        RACE_TEST(records_that_cannot_be_mapped_for_now_are_not_given_up),
        RACE_TEST(record_behind_a_lying_claim_hint_is_found_although_the_arena_is_full),
        RACE_TEST(head_of_the_line_is_taken_over_before_anything_behind_it),
        RACE_TEST(wait_for_space_sleeps_while_the_reserve_is_taken),
        RACE_TEST(member_does_not_join_a_ring_that_was_removed_meanwhile),
        RACE_TEST(member_with_another_members_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
