#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

static int setup_at(void **state, uint64_t first_seq)
{
    struct world *world = calloc(1, sizeof *world);
    ring_fixture_open(&world->fixture, SLOTS, first_seq, ARENA);
    world->ingest = ring_fixture_join(&world->fixture, CMQ_ROLE_INGEST);
    world->encryptor = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    world->dispatcher = ring_fixture_join(&world->fixture, CMQ_ROLE_DISPATCHER);
    *state = world;
    return 0;
}

static int setup(void **state)
{
    return setup_at(state, 0);
}

static int setup_late(void **state)
{
    return setup_at(state, 1000003);
}

static int teardown(void **state)
{
    struct world *world = *state;
    ring_fixture_close(&world->fixture);
    free(world);
    return 0;
}

static enum cmq_err try_publish(struct cmq_ring *ingest)
{
    uint64_t seq;
    struct cmq_span part = cmq_span_make("x", 1);
    return cmq_ring_publish(ingest, &part, 1, 1, &seq);
}

/* The raw words, as a hostile or buggy peer could write them. */
static void *map_object(struct world *world, const char *suffix, struct cmq_segment *ret_segment)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    cmq_segment_name(name, world->fixture.instance, suffix);
    assert_int_equal(cmq_segment_map(name, 0, true, ret_segment, NULL), CMQ_OK);
    return ret_segment->data;
}

static void ring_carries_records_in_order_over_many_laps(void **state)
{
    struct world *world = *state;
    char text[32];
    for (uint64_t i = 0; i < 100 * SLOTS; i++) {
        (void)snprintf(text, sizeof text, "record %llu", (unsigned long long)i);
        uint64_t seq = ring_fixture_publish(world->ingest, text);
        assert_int_equal(ring_fixture_seal(world->encryptor), seq);
        assert_int_equal(ring_fixture_store(world->encryptor, text), seq);
    }
    struct cmq_ring_state ring_state;
    cmq_ring_state(world->ingest, &ring_state);
    assert_int_equal(ring_state.gate - ring_state.first_seq, 100 * SLOTS);
    assert_int_equal(ring_state.published, ring_state.gate);
}

static void ring_begins_at_the_sequence_it_was_created_with(void **state)
{
    struct world *world = *state;
    assert_int_equal(ring_fixture_publish(world->ingest, "first"), 1000003);
    assert_int_equal(ring_fixture_publish(world->ingest, "second"), 1000004);
    assert_int_equal(ring_fixture_seal(world->encryptor), 1000003);
    assert_int_equal(ring_fixture_store(world->encryptor, "first"), 1000003);
}

static void ring_that_is_full_refuses_and_takes_again_when_something_is_stored(void **state)
{
    struct world *world = *state;
    for (unsigned i = 0; i < SLOTS; i++)
        assert_int_equal(try_publish(world->ingest), CMQ_OK);
    assert_int_equal(try_publish(world->ingest), CMQ_ERR_FULL);
    for (unsigned i = 0; i < SLOTS; i++)
        (void)ring_fixture_seal(world->encryptor);
    assert_int_equal(try_publish(world->ingest), CMQ_ERR_FULL); /* committed is not stored */
    (void)ring_fixture_store(world->encryptor, "x");
    assert_int_equal(try_publish(world->ingest), CMQ_OK);
    assert_int_equal(try_publish(world->ingest), CMQ_ERR_FULL);
}

static void record_larger_than_the_limit_is_refused(void **state)
{
    struct world *world = *state;
    static uint8_t body[4097];
    uint64_t seq;
    struct cmq_span part = cmq_span_make(body, sizeof body);
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_ERR_TOO_BIG);
    part.bytes = 4096;
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_OK);
}

static void draining_ring_takes_no_new_records(void **state)
{
    struct world *world = *state;
    assert_int_equal(cmq_ring_set_draining(world->ingest, true), CMQ_OK);
    assert_int_equal(try_publish(world->ingest), CMQ_ERR_DRAINING);
    assert_int_equal(cmq_ring_set_draining(world->ingest, false), CMQ_OK);
    assert_int_equal(try_publish(world->ingest), CMQ_OK);
}

static void record_that_is_leased_is_not_leased_again_while_its_owner_lives(void **state)
{
    struct world *world = *state;
    struct cmq_ring *other = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    struct cmq_lease lease, second;
    uint64_t seq = ring_fixture_publish(world->ingest, "one");
    assert_int_equal(cmq_ring_lease(world->encryptor, &lease), CMQ_OK);
    assert_int_equal(lease.seq, seq);
    assert_int_equal(cmq_ring_lease(other, &second), CMQ_ERR_AGAIN);
}

static void record_of_a_dead_encryptor_is_taken_over_and_its_late_commit_loses(void **state)
{
    struct world *world = *state;
    struct cmq_ring *other = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    struct cmq_lease slow, thief;
    (void)ring_fixture_publish(world->ingest, "one");
    assert_int_equal(cmq_ring_lease(world->encryptor, &slow), CMQ_OK);
    /* Not dead, only slow: the lease ages past lease_ms. */
    const uint64_t end_ns = cmq_clock_mono_ns() + 5 * CMQ_NS_PER_S;
    while (cmq_ring_lease(other, &thief) != CMQ_OK)
        assert_true(cmq_clock_mono_ns() < end_ns);
    assert_true(thief.stolen);
    assert_int_equal(thief.seq, slow.seq);
    memcpy(thief.dst, "new", 3);
    assert_int_equal(cmq_ring_commit(other, &thief, 3, 1), CMQ_OK);
    memcpy(slow.dst, "old", 3);
    assert_int_equal(cmq_ring_commit(world->encryptor, &slow, 3, 1), CMQ_ERR_LOST);
    (void)ring_fixture_store(world->encryptor, "new");
}

static void encryptor_with_a_full_arena_takes_over_through_its_reserve(void **state)
{
    struct world *world = *state;
    static uint8_t body[4096];
    struct cmq_span part = cmq_span_make(body, sizeof body);
    struct cmq_lease lease;
    uint64_t seq;
    struct cmq_ring *victim = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    world->fixture.setup.arena_bytes = 5 * 4096; /* reserve of 2 pages, room for one result */
    struct cmq_ring *thief = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_OK);
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_OK);
    assert_int_equal(cmq_ring_lease(victim, &lease), CMQ_OK);
    (void)ring_fixture_seal(thief); /* record 1 fills the arena */
    assert_int_equal(cmq_ring_publish(world->ingest, &part, 1, 1, &seq), CMQ_OK);
    assert_int_equal(cmq_ring_lease(thief, &lease), CMQ_ERR_FULL);
    ring_fixture_leave(&world->fixture, victim);
    const uint64_t end_ns = cmq_clock_mono_ns() + 5 * CMQ_NS_PER_S;
    while (cmq_ring_lease(thief, &lease) != CMQ_OK)
        assert_true(cmq_clock_mono_ns() < end_ns);
    assert_int_equal(lease.seq, 0);
    assert_int_equal(cmq_ring_commit(thief, &lease, 1, 1), CMQ_OK);
}

/* Pages that the object of the first member that is not alive takes in memory. */
static uint64_t dead_object_pages(struct world *world, const struct cmq_member_state *members)
{
    struct cmq_segment segment;
    const struct cmq_ctl *ctl = map_object(world, "ctl", &segment);
    char suffix[32], path[128];
    struct stat info;
    while (members->alive)
        members++;
    uint64_t object = atomic_load_explicit(&ctl->entries[members->id].object_random, memory_order_relaxed);
    (void)snprintf(suffix, sizeof suffix, "m%u.%016llx", members->id, (unsigned long long)object);
    (void)snprintf(path, sizeof path, "/dev/shm/cmq.%s.%s", world->fixture.instance, suffix);
    assert_int_equal(stat(path, &info), 0);
    cmq_segment_unmap(&segment);
    return (uint64_t)info.st_blocks * 512u / CMQ_PAGE_BYTES;
}

static void arena_of_a_dead_member_stays_while_its_records_are_not_stored(void **state)
{
    struct world *world = *state;
    struct cmq_member_state members[8];
    struct cmq_ring *other = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    (void)ring_fixture_publish(world->ingest, "kept");
    (void)ring_fixture_seal(other);
    ring_fixture_leave(&world->fixture, other);
    assert_int_equal(cmq_ring_tick(world->ingest, NULL), CMQ_OK);
    assert_int_equal(cmq_ring_members(world->ingest, members, 8), 4);
    assert_true(dead_object_pages(world, members) <
                ARENA / CMQ_PAGE_BYTES); /* only what is live stays in memory */
    (void)ring_fixture_store(world->encryptor, "kept");
    assert_int_equal(cmq_ring_tick(world->ingest, NULL), CMQ_OK);
    assert_int_equal(cmq_ring_members(world->ingest, members, 8), 3);
}

static bool maps_a_deleted_object(void)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL)
        found = found || (strstr(line, "/dev/shm/cmq.unit") != NULL && strstr(line, "(deleted)") != NULL);
    assert_int_equal(fclose(maps), 0);
    return found;
}

static void memory_of_members_that_are_gone_is_given_back_by_those_who_read_it(void **state)
{
    struct world *world = *state;
    struct cmq_lease lease;
    struct cmq_committed record;
    struct cmq_ring *other_ingest = ring_fixture_join(&world->fixture, CMQ_ROLE_INGEST);
    struct cmq_ring *other_encryptor = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    (void)ring_fixture_publish(other_ingest, "x");
    (void)ring_fixture_seal(other_encryptor); /* maps the ingest's object */
    (void)ring_fixture_publish(other_ingest, "y");
    (void)ring_fixture_seal(world->encryptor);
    (void)ring_fixture_store(world->encryptor, "x"); /* maps the encryptors' objects, for the log thread */
    (void)ring_fixture_store(world->encryptor, "y");
    ring_fixture_leave(&world->fixture, other_ingest);
    ring_fixture_leave(&world->fixture, other_encryptor);
    assert_true(maps_a_deleted_object());
    const uint64_t end_ns = cmq_clock_mono_ns() + 10 * CMQ_NS_PER_S;
    while (maps_a_deleted_object()) {
        assert_int_equal(cmq_ring_lease(world->encryptor, &lease), CMQ_ERR_AGAIN);
        assert_int_equal(cmq_ring_committed(world->encryptor, 2, &record), CMQ_ERR_AGAIN);
        assert_true(cmq_clock_mono_ns() < end_ns);
    }
}

static void observer_sees_state_and_members_and_writes_nothing(void **state)
{
    struct world *world = *state;
    struct cmq_member_state members[8];
    struct cmq_ring_state ring_state;
    (void)ring_fixture_publish(world->ingest, "a");
    (void)ring_fixture_publish(world->ingest, "b");
    (void)ring_fixture_seal(world->encryptor);
    struct cmq_ring *observer = ring_fixture_join(&world->fixture, CMQ_ROLE_OBSERVER);
    cmq_ring_state(observer, &ring_state);
    assert_int_equal(ring_state.gate, 0);
    assert_int_equal(ring_state.committed, 1);
    assert_int_equal(ring_state.published, 2);
    assert_int_equal(cmq_ring_members(observer, members, 8), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(members[i].alive);
        assert_int_equal(members[i].pid, getpid());
        if (members[i].role == CMQ_ROLE_INGEST)
            assert_int_equal(members[i].counters[CMQ_COUNT_RECORDS], 2);
    }
    assert_int_equal(cmq_ring_set_draining(observer, true), CMQ_ERR_PERMISSION);
}

static void attach_says_not_yet_until_the_ring_is_complete(void **state)
{
    (void)state;
    struct cmq_ring_setup setup = {
        .instance = "unit-none", .run_dir = "/tmp", .slots = 4, .record_bytes_max = 100};
    struct cmq_ring *ring = NULL;
    struct cmq_reason reason;
    assert_int_equal(cmq_ring_attach(&setup, CMQ_ROLE_OBSERVER, &ring, &reason), CMQ_ERR_AGAIN);
    assert_null(ring);
}

static void ring_of_another_layout_is_refused_and_left_alone(void **state)
{
    struct world *world = *state;
    struct cmq_segment segment;
    struct cmq_ring *ring = NULL;
    struct cmq_reason reason;
    struct cmq_ctl *ctl = map_object(world, "ctl", &segment);
    ctl->header.magic ^= 1;
    assert_int_equal(cmq_ring_attach(&world->fixture.setup, CMQ_ROLE_INGEST, &ring, &reason), CMQ_ERR_LAYOUT);
    assert_non_null(strstr(reason.text, "another layout"));
    assert_int_equal(cmq_ring_create(&world->fixture.setup, &reason), CMQ_ERR_LAYOUT);
    ctl->header.magic ^= 1;
    assert_int_equal(cmq_ring_create(&world->fixture.setup, &reason), CMQ_ERR_EXISTS);
    cmq_segment_unmap(&segment);
}

static void ring_of_another_size_is_refused(void **state)
{
    struct world *world = *state;
    struct cmq_segment segment;
    struct cmq_ring *ring = NULL;
    struct cmq_reason reason;
    struct cmq_ctl *ctl = map_object(world, "ctl", &segment);
    ctl->header.slots = 2 * SLOTS; /* would reach behind the mapped arrays */
    assert_int_equal(cmq_ring_attach(&world->fixture.setup, CMQ_ROLE_INGEST, &ring, &reason), CMQ_ERR_LAYOUT);
    ctl->header.slots = 3;
    assert_int_equal(cmq_ring_attach(&world->fixture.setup, CMQ_ROLE_INGEST, &ring, &reason), CMQ_ERR_LAYOUT);
    ctl->header.slots = SLOTS;
    cmq_segment_unmap(&segment);
}

static void creator_that_died_half_way_is_followed_by_another(void **state)
{
    (void)state;
    struct ring_fixture fixture;
    struct cmq_reason reason;
    ring_fixture_open(&fixture, SLOTS, 0, ARENA);
    assert_int_equal(cmq_ring_destroy(&fixture.setup, &reason), CMQ_OK);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setenv("CMQ_CRASH", "create.part:1", 1);
        _exit(cmq_ring_create(&fixture.setup, &reason) == CMQ_OK ? 3 : 4);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
#ifdef CMQ_CRASH_POINTS
    assert_true(WIFSIGNALED(status));
#else
    assert_int_equal(cmq_ring_destroy(&fixture.setup, &reason), CMQ_OK);
#endif
    assert_int_equal(cmq_ring_create(&fixture.setup, &reason), CMQ_OK);
    struct cmq_ring *ingest = ring_fixture_join(&fixture, CMQ_ROLE_INGEST);
    (void)ring_fixture_publish(ingest, "works");
    ring_fixture_close(&fixture);
}

static void ring_with_living_members_is_not_destroyed(void **state)
{
    struct world *world = *state;
    struct cmq_reason reason;
    assert_int_equal(cmq_ring_destroy(&world->fixture.setup, &reason), CMQ_ERR_EXISTS);
    assert_int_equal(try_publish(world->ingest), CMQ_OK);
}

static void tail_hint_that_lies_makes_no_hole(void **state)
{
    struct world *world = *state;
    static const uint64_t lies[] = {0, 1, SLOTS, 1000000, UINT64_MAX};
    struct cmq_segment segment;
    struct cmq_array_a *a = map_object(world, "a", &segment);
    for (size_t i = 0; i < CMQ_COUNT_OF(lies); i++) {
        atomic_store_explicit(&a->tail.value, lies[i], memory_order_relaxed);
        assert_int_equal(ring_fixture_publish(world->ingest, "x"), i);
        atomic_store_explicit(&a->claim.value, lies[i], memory_order_relaxed);
        assert_int_equal(ring_fixture_seal(world->encryptor), i);
        assert_int_equal(ring_fixture_store(world->encryptor, "x"), i);
    }
    cmq_segment_unmap(&segment);
}

static void damaged_record_heads_become_void_and_the_pipeline_goes_on(void **state)
{
    struct world *world = *state;
    struct cmq_segment segment;
    struct cmq_array_a *a = map_object(world, "a", &segment);
    struct cmq_lease lease;
    struct cmq_committed record;
    static const uint64_t damages[] = {0x00000fffull, 0x3ull << 28, 0x0ffffff000000000ull >> 8,
                                       0xffull << 28};
    for (size_t i = 0; i < CMQ_COUNT_OF(damages); i++) {
        uint64_t seq = ring_fixture_publish(world->ingest, "x");
        _Atomic uint64_t *pub = &a->slots[seq % SLOTS].pub;
        uint64_t word = atomic_load_explicit(pub, memory_order_relaxed);
        uint64_t lap = word & ~((1ull << 36) - 1);
        atomic_store_explicit(pub, lap | ((word ^ damages[i]) & ((1ull << 36) - 1)), memory_order_relaxed);
        assert_int_equal(cmq_ring_lease(world->encryptor, &lease), CMQ_OK);
        assert_true(lease.bad);
        assert_int_equal(cmq_ring_commit_void(world->encryptor, &lease), CMQ_OK);
        assert_int_equal(cmq_ring_committed(world->encryptor, seq, &record), CMQ_OK);
        assert_true(record.void_record);
        cmq_ring_stored(world->encryptor, seq + 1, seq + 1);
    }
    (void)ring_fixture_publish(world->ingest, "fine");
    (void)ring_fixture_seal(world->encryptor);
    (void)ring_fixture_store(world->encryptor, "fine");
    cmq_segment_unmap(&segment);
}

static void gate_that_is_moved_back_is_not_believed(void **state)
{
    struct world *world = *state;
    struct cmq_segment segment;
    struct cmq_array_d *d = map_object(world, "d", &segment);
    for (unsigned i = 0; i < SLOTS; i++) {
        (void)ring_fixture_publish(world->ingest, "x");
        (void)ring_fixture_seal(world->encryptor);
        (void)ring_fixture_store(world->encryptor, "x");
    }
    assert_int_equal(try_publish(world->ingest), CMQ_OK);
    atomic_store_explicit(&d->stored.value, 0, memory_order_relaxed);
    assert_int_equal(try_publish(world->ingest), CMQ_OK);
    cmq_segment_unmap(&segment);
}

static void objects_have_no_rights_for_others(void **state)
{
    struct world *world = *state;
    static const struct {
        const char *suffix;
        mode_t mode;
    } objects[] = {{"ctl", 0660}, {"bell", 0660}, {"a", 0660}, {"b", 0640}, {"d", 0640}};
    char path[128];
    struct stat info;
    for (size_t i = 0; i < CMQ_COUNT_OF(objects); i++) {
        (void)snprintf(path, sizeof path, "/dev/shm/cmq.%s.%s", world->fixture.instance, objects[i].suffix);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 07777, objects[i].mode);
    }
}

static void wait_ends_when_the_condition_holds_or_time_is_up(void **state)
{
    struct world *world = *state;
    atomic_uint stop = 0;
    assert_false(cmq_ring_wait(world->encryptor, CMQ_WAIT_PLAIN, 1, &stop));
    (void)ring_fixture_publish(world->ingest, "x");
    assert_true(cmq_ring_wait(world->encryptor, CMQ_WAIT_PLAIN, 1000, &stop));
    (void)ring_fixture_seal(world->encryptor);
    assert_true(cmq_ring_wait(world->encryptor, CMQ_WAIT_COMMITTED, 1000, &stop));
    assert_true(cmq_ring_wait(world->ingest, CMQ_WAIT_SPACE_INGEST, 1000, &stop));
    atomic_store_explicit(&stop, 1, memory_order_release);
    (void)ring_fixture_store(world->encryptor, "x");
    assert_false(cmq_ring_wait(world->encryptor, CMQ_WAIT_COMMITTED, 60000, &stop));
    assert_false(cmq_ring_wait(world->dispatcher, CMQ_WAIT_STORED, 60000, &stop));
    atomic_store_explicit(&stop, 0, memory_order_release);
    cmq_ring_wake(world->dispatcher, CMQ_WAIT_STORED);
    assert_false(cmq_ring_wait(world->dispatcher, CMQ_WAIT_STORED, 60000, &stop));
}

static void members_of_a_role_have_bits_of_their_own(void **state)
{
    struct world *world = *state;
    struct cmq_segment segment;
    struct cmq_ctl *ctl = map_object(world, "ctl", &segment);
    for (unsigned i = 0; i < 5; i++)
        (void)ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    uint64_t seen = 0;
    for (unsigned id = 0; id < CMQ_MEMBERS_MAX; id++) {
        if (atomic_load(&ctl->entries[id].state) != CMQ_ENTRY_ACTIVE ||
            atomic_load(&ctl->entries[id].role) != CMQ_ROLE_ENCRYPTOR)
            continue;
        uint64_t mask = 1ull << atomic_load(&ctl->entries[id].bit);
        assert_int_equal(seen & mask, 0);
        seen |= mask;
    }
    assert_int_equal(seen, 0x3f);
    cmq_segment_unmap(&segment);
}

static void owners_are_named_once_and_live_as_long_as_they_are_joined(void **state)
{
    struct world *world = *state;
    uint64_t owner = cmq_ring_owner(world->dispatcher);
    assert_true(owner != 0 && owner != cmq_ring_owner(world->ingest));
    assert_true(cmq_ring_owner_is_alive(world->dispatcher, owner));
    assert_true(cmq_ring_owner_is_alive(world->ingest, owner));
    assert_false(cmq_ring_owner_is_alive(world->ingest, owner ^ 1)); /* another incarnation of the same id */
    assert_false(cmq_ring_owner_is_alive(world->ingest, 0));
    assert_false(cmq_ring_owner_is_alive(world->ingest, UINT64_MAX));
    ring_fixture_leave(&world->fixture, world->dispatcher);
    assert_false(cmq_ring_owner_is_alive(world->ingest, owner));
    struct cmq_ring *observer = ring_fixture_join(&world->fixture, CMQ_ROLE_OBSERVER);
    assert_int_equal(cmq_ring_owner(observer), 0);
}

int main(void)
{
#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        RING_TEST(ring_carries_records_in_order_over_many_laps),
        cmocka_unit_test_setup_teardown(ring_carries_records_in_order_over_many_laps, setup_late, teardown),
        cmocka_unit_test_setup_teardown(ring_begins_at_the_sequence_it_was_created_with, setup_late,
                                        teardown),
        RING_TEST(ring_that_is_full_refuses_and_takes_again_when_something_is_stored),
        RING_TEST(record_larger_than_the_limit_is_refused),
        RING_TEST(owners_are_named_once_and_live_as_long_as_they_are_joined),
        RING_TEST(draining_ring_takes_no_new_records),
        RING_TEST(record_that_is_leased_is_not_leased_again_while_its_owner_lives),
        RING_TEST(record_of_a_dead_encryptor_is_taken_over_and_its_late_commit_loses),
        RING_TEST(encryptor_with_a_full_arena_takes_over_through_its_reserve),
        RING_TEST(arena_of_a_dead_member_stays_while_its_records_are_not_stored),
        RING_TEST(memory_of_members_that_are_gone_is_given_back_by_those_who_read_it),
        RING_TEST(observer_sees_state_and_members_and_writes_nothing),
        cmocka_unit_test(attach_says_not_yet_until_the_ring_is_complete),
        RING_TEST(ring_of_another_layout_is_refused_and_left_alone),
        RING_TEST(ring_of_another_size_is_refused),
        cmocka_unit_test(creator_that_died_half_way_is_followed_by_another),
        RING_TEST(ring_with_living_members_is_not_destroyed),
        RING_TEST(tail_hint_that_lies_makes_no_hole),
        RING_TEST(damaged_record_heads_become_void_and_the_pipeline_goes_on),
        RING_TEST(gate_that_is_moved_back_is_not_believed),
        RING_TEST(objects_have_no_rights_for_others),
        RING_TEST(wait_ends_when_the_condition_holds_or_time_is_up),
        RING_TEST(members_of_a_role_have_bits_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
