#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_layout.h"
#include "common/shm/cmq_segment.h"
#include "tests/support/ring_fixture.h"

enum { SLOTS = 4, ARENA = 65536 };

struct world {
    struct ring_fixture fixture;
    struct cmq_ring *ingest, *encryptor, *dispatcher;
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    ring_fixture_open(&world->fixture, SLOTS, 5, ARENA);
    world->ingest = ring_fixture_join(&world->fixture, CMQ_ROLE_INGEST);
    world->encryptor = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    world->dispatcher = ring_fixture_join(&world->fixture, CMQ_ROLE_DISPATCHER);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    ring_fixture_close(&world->fixture);
    free(world);
    return 0;
}

static void *map_object(struct world *world, const char *suffix, struct cmq_segment *ret_segment)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    cmq_segment_name(name, world->fixture.instance, suffix);
    assert_int_equal(cmq_segment_map(name, 0, true, ret_segment, NULL), CMQ_OK);
    return ret_segment->data;
}

static uint64_t commit(struct world *world, const char *text)
{
    uint64_t seq = ring_fixture_publish(world->ingest, text);
    assert_int_equal(ring_fixture_seal(world->encryptor), seq);
    return seq;
}

static void read_committed(struct world *world, uint64_t seq, const char *expected)
{
    struct cmq_committed record;
    assert_int_equal(cmq_ring_committed(world->encryptor, seq, &record), CMQ_OK);
    assert_int_equal(record.seq, seq);
    assert_false(record.void_record);
    assert_int_equal(record.messages, 1);
    assert_int_equal(record.payload.bytes, strlen(expected));
    assert_memory_equal(record.payload.data, expected, record.payload.bytes);
}

static void records_are_read_in_place_until_they_are_stored(void **state)
{
    struct world *world = *state;
    struct cmq_committed record;
    char text[32];
    for (uint64_t i = 5; i < 5 + 100 * SLOTS; i++) {
        (void)snprintf(text, sizeof text, "record %llu", (unsigned long long)i);
        assert_int_equal(cmq_ring_committed(world->encryptor, i, &record), CMQ_ERR_AGAIN);
        assert_int_equal(commit(world, text), i);
        read_committed(world, i, text);
        assert_int_equal(cmq_ring_stored_seq(world->dispatcher), i);
        cmq_ring_stored(world->encryptor, i + 1, i);
        assert_int_equal(cmq_ring_stored_seq(world->dispatcher), i + 1);
        assert_int_equal(cmq_ring_durable_seq(world->ingest), i);
        assert_int_equal(cmq_ring_committed(world->encryptor, i, &record), CMQ_ERR_NOT_FOUND);
        assert_int_equal(cmq_ring_tick(world->dispatcher, NULL), CMQ_OK);
    }
}

static void slots_are_reused_only_when_they_are_stored(void **state)
{
    struct world *world = *state;
    struct cmq_span part = cmq_span_make("x", 1);
    uint64_t seq;
    for (unsigned i = 0; i < SLOTS; i++)
        (void)commit(world, "x");
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_ERR_FULL);
    cmq_ring_stored(world->encryptor, 7, 5);
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_OK);
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_OK);
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_ERR_FULL);
}

static void cursors_never_move_back_nor_beyond_what_is_committed(void **state)
{
    struct world *world = *state;
    (void)commit(world, "a");
    (void)commit(world, "b");
    (void)ring_fixture_publish(world->ingest, "c");
    cmq_ring_stored(world->encryptor, 1000, 1000);
    assert_int_equal(cmq_ring_stored_seq(world->encryptor), 7);
    assert_int_equal(cmq_ring_durable_seq(world->encryptor), 7);
    cmq_ring_stored(world->encryptor, 5, 5);
    assert_int_equal(cmq_ring_stored_seq(world->encryptor), 7);
    assert_int_equal(cmq_ring_durable_seq(world->encryptor), 7);
}

static void unreadable_and_void_records_are_void(void **state)
{
    struct world *world = *state;
    struct cmq_segment segment;
    struct cmq_array_b *b = map_object(world, "b", &segment);
    struct cmq_committed record;
    struct cmq_lease lease;
    uint64_t seq = commit(world, "a");
    atomic_fetch_xor_explicit(&b->slots[seq % SLOTS].out, 0xff, memory_order_relaxed);
    assert_int_equal(cmq_ring_committed(world->encryptor, seq, &record), CMQ_OK);
    assert_true(record.void_record);
    (void)ring_fixture_publish(world->ingest, "b");
    assert_int_equal(cmq_ring_lease(world->encryptor, &lease), CMQ_OK);
    assert_int_equal(cmq_ring_commit_void(world->encryptor, &lease), CMQ_OK);
    assert_int_equal(cmq_ring_committed(world->encryptor, lease.seq, &record), CMQ_OK);
    assert_true(record.void_record);
    cmq_segment_unmap(&segment);
}

static void outcomes_are_told_from_stored_on_until_the_slot_is_used_again(void **state)
{
    struct world *world = *state;
    static const struct cmq_outcome set[] = {{CMQ_OUTCOME_DUPLICATE, UINT64_MAX - 1, UINT32_MAX},
                                             {CMQ_OUTCOME_CONFLICT, 0, 7},
                                             {CMQ_OUTCOME_PART, 0, 3}};
    struct cmq_outcome outcome;
    for (unsigned i = 0; i < SLOTS; i++) {
        uint64_t seq = commit(world, "x");
        if (i < CMQ_COUNT_OF(set))
            cmq_ring_outcome_set(world->encryptor, seq, &set[i]);
        assert_false(cmq_ring_outcome(world->ingest, seq, &outcome));
    }
    cmq_ring_stored(world->encryptor, 9, 9);
    for (unsigned i = 0; i < CMQ_COUNT_OF(set); i++) {
        assert_true(cmq_ring_outcome(world->ingest, 5 + i, &outcome));
        assert_int_equal(outcome.kind, set[i].kind);
        assert_int_equal(outcome.seq, set[i].seq);
        assert_int_equal(outcome.index, set[i].index);
    }
    assert_true(cmq_ring_outcome(world->ingest, 8, &outcome));
    assert_int_equal(outcome.kind, CMQ_OUTCOME_KEPT);
    (void)commit(world, "next lap"); /* in the slot of record 5 */
    cmq_ring_stored(world->encryptor, 10, 10);
    assert_false(cmq_ring_outcome(world->ingest, 5, &outcome));
    assert_true(cmq_ring_outcome(world->ingest, 9, &outcome));
    assert_int_equal(outcome.kind, CMQ_OUTCOME_KEPT);
}

static void outcome_that_is_half_written_is_not_told_and_the_next_writer_finishes_it(void **state)
{
    struct world *world = *state;
    struct cmq_segment segment;
    struct cmq_array_d *d = map_object(world, "d", &segment);
    struct cmq_outcome outcome = {.kind = CMQ_OUTCOME_CONFLICT};
    for (unsigned i = 0; i < SLOTS; i++)
        cmq_ring_outcome_set(world->encryptor, commit(world, "x"), &outcome);
    cmq_ring_stored(world->encryptor, 9, 9);
    (void)commit(world, "next lap");
    /* The writer died between its two words of record 9: neither 9 nor 5 may be told anything. */
    const uint64_t open = cmq_outcome_encode(cmq_lap_of(9, 2), CMQ_OUTCOME_OPEN, 0);
    atomic_store_explicit(&d->slots[9 % SLOTS].outcome, open, memory_order_relaxed);
    assert_false(cmq_ring_outcome(world->ingest, 5, &outcome));
    cmq_ring_stored(world->encryptor, 10, 10);
    assert_true(cmq_ring_outcome(world->ingest, 9, &outcome));
    assert_int_equal(outcome.kind, CMQ_OUTCOME_KEPT);
    cmq_segment_unmap(&segment);
}

static void health_is_seen_by_all(void **state)
{
    struct world *world = *state;
    assert_int_equal(cmq_ring_log_health(world->ingest), CMQ_LOG_HEALTH_NONE);
    cmq_ring_log_health_set(world->encryptor, CMQ_LOG_HEALTH_FULL);
    assert_int_equal(cmq_ring_log_health(world->ingest), CMQ_LOG_HEALTH_FULL);
    assert_int_equal(cmq_ring_log_health(world->dispatcher), CMQ_LOG_HEALTH_FULL);
}

static void waits_end_when_the_cursor_is_above_what_is_followed(void **state)
{
    struct world *world = *state;
    assert_false(cmq_ring_wait(world->encryptor, CMQ_WAIT_COMMITTED, 1, NULL));
    uint64_t seq = commit(world, "x");
    assert_true(cmq_ring_wait(world->encryptor, CMQ_WAIT_COMMITTED, 1, NULL));
    cmq_ring_follow(world->dispatcher, CMQ_WAIT_STORED, seq);
    cmq_ring_follow(world->ingest, CMQ_WAIT_DURABLE, seq);
    assert_false(cmq_ring_wait(world->dispatcher, CMQ_WAIT_STORED, 1, NULL));
    assert_false(cmq_ring_wait(world->ingest, CMQ_WAIT_DURABLE, 1, NULL));
    cmq_ring_stored(world->encryptor, seq + 1, seq);
    assert_false(cmq_ring_wait(world->encryptor, CMQ_WAIT_COMMITTED, 1, NULL));
    assert_true(cmq_ring_wait(world->dispatcher, CMQ_WAIT_STORED, 1, NULL));
    assert_false(cmq_ring_wait(world->ingest, CMQ_WAIT_DURABLE, 1, NULL));
    cmq_ring_follow(world->ingest, CMQ_WAIT_STORED, seq); /* an ingest may follow both */
    assert_true(cmq_ring_wait(world->ingest, CMQ_WAIT_DURABLE, 1, NULL));
    cmq_ring_follow(world->ingest, CMQ_WAIT_STORED, UINT64_MAX);
    cmq_ring_stored(world->encryptor, seq + 1, seq + 1);
    assert_true(cmq_ring_wait(world->ingest, CMQ_WAIT_DURABLE, 1, NULL));
}

static void dispatcher_process_may_publish_as_an_ingest_too(void **state)
{
    struct world *world = *state;
    struct cmq_ring *dead_letters = ring_fixture_join(&world->fixture, CMQ_ROLE_INGEST);
    uint64_t seq = ring_fixture_publish(dead_letters, "given up");
    assert_int_equal(ring_fixture_seal(world->encryptor), seq);
    read_committed(world, seq, "given up");
    cmq_ring_stored(world->encryptor, seq + 1, seq + 1);
    assert_int_equal(cmq_ring_tick(dead_letters, NULL), CMQ_OK);
    assert_int_equal(cmq_ring_tick(world->dispatcher, NULL), CMQ_OK);
}

/* ---- fencing ---- */

/* A member in a process of its own, which has joined and stopped itself. */
static pid_t stopped_member(struct world *world, enum cmq_role role)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct cmq_ring *ring = NULL;
        struct cmq_reason reason;
        if (cmq_ring_attach(&world->fixture.setup, role, &ring, &reason) != CMQ_OK)
            _exit(1);
        (void)raise(SIGSTOP);
        _exit(2);
    }
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

static void tick_for(struct cmq_ring *ring, uint64_t ms)
{
    const uint64_t end_ns = cmq_clock_mono_ns() + ms * CMQ_NS_PER_MS;
    while (cmq_clock_mono_ns() < end_ns)
        assert_int_equal(cmq_ring_tick(ring, NULL), CMQ_OK);
}

static bool is_dead(pid_t pid)
{
    int status;
    return waitpid(pid, &status, WNOHANG) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void end_child(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static uint64_t fenced(struct world *world)
{
    struct cmq_member_state members[16];
    uint64_t sum = 0;
    size_t count = cmq_ring_members(world->ingest, members, 16);
    for (size_t i = 0; i < count; i++)
        sum += members[i].counters[CMQ_COUNT_FENCED];
    return sum;
}

static void member_that_is_stopped_is_killed_by_one_of_its_own_role(void **state)
{
    struct world *world = *state;
    world->fixture.setup.stall_ms = 50;
    struct cmq_ring *guard = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    struct cmq_ring *stranger = ring_fixture_join(&world->fixture, CMQ_ROLE_INGEST);
    pid_t pid = stopped_member(world, CMQ_ROLE_ENCRYPTOR);
    tick_for(stranger, 200);
    assert_false(is_dead(pid));
    const uint64_t end_ns = cmq_clock_mono_ns() + 10 * CMQ_NS_PER_S;
    while (!is_dead(pid)) {
        assert_int_equal(cmq_ring_tick(guard, NULL), CMQ_OK);
        assert_true(cmq_clock_mono_ns() < end_ns);
    }
    assert_true(fenced(world) >= 1);
}

static void nobody_is_killed_after_a_pause_of_the_killer_itself(void **state)
{
    struct world *world = *state;
    world->fixture.setup.stall_ms = 10000;
    struct cmq_ring *guard = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    pid_t pid = stopped_member(world, CMQ_ROLE_ENCRYPTOR);
    struct cmq_segment segment;
    struct cmq_ctl *ctl = map_object(world, "ctl", &segment);
    for (unsigned id = 0; id < CMQ_MEMBERS_MAX; id++) /* as if all had been silent for an hour */
        atomic_store_explicit(&ctl->entries[id].beat_ns, 1, memory_order_relaxed);
    tick_for(guard, 100);
    assert_false(is_dead(pid));
    cmq_segment_unmap(&segment);
    end_child(pid);
}

static void process_that_only_has_the_pid_of_a_member_is_not_killed(void **state)
{
    struct world *world = *state;
    world->fixture.setup.stall_ms = 50;
    struct cmq_ring *guard = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    pid_t pid = stopped_member(world, CMQ_ROLE_ENCRYPTOR);
    struct cmq_segment segment;
    struct cmq_ctl *ctl = map_object(world, "ctl", &segment);
    for (unsigned id = 0; id < CMQ_MEMBERS_MAX; id++) {
        if (atomic_load(&ctl->entries[id].pid) ==
            (int32_t)pid) /* of a process that started at another time */
            atomic_fetch_xor(&ctl->entries[id].process, 1);
    }
    tick_for(guard, 300);
    assert_false(is_dead(pid));
    cmq_segment_unmap(&segment);
    end_child(pid);
}

int main(void)
{
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        LOG_TEST(records_are_read_in_place_until_they_are_stored),
        LOG_TEST(slots_are_reused_only_when_they_are_stored),
        LOG_TEST(cursors_never_move_back_nor_beyond_what_is_committed),
        LOG_TEST(unreadable_and_void_records_are_void),
        LOG_TEST(outcomes_are_told_from_stored_on_until_the_slot_is_used_again),
        LOG_TEST(outcome_that_is_half_written_is_not_told_and_the_next_writer_finishes_it),
        LOG_TEST(health_is_seen_by_all),
        LOG_TEST(waits_end_when_the_cursor_is_above_what_is_followed),
        LOG_TEST(dispatcher_process_may_publish_as_an_ingest_too),
        LOG_TEST(member_that_is_stopped_is_killed_by_one_of_its_own_role),
        LOG_TEST(nobody_is_killed_after_a_pause_of_the_killer_itself),
        LOG_TEST(process_that_only_has_the_pid_of_a_member_is_not_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
