#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/shm/cmq_arena.h"

static uint64_t history; /* records below are history */

static bool is_history(void *context, uint64_t seq)
{
    (void)context;
    return seq < history;
}

static int setup(void **state)
{
    static struct cmq_arena arena;
    history = 0;
    assert_int_equal(cmq_arena_init(&arena, 1024, 16, is_history, NULL), CMQ_OK);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    cmq_arena_fini(*state);
    return 0;
}

static uint64_t take(struct cmq_arena *arena, uint64_t bytes, uint64_t seq)
{
    uint64_t extent, pos;
    assert_int_equal(cmq_arena_alloc(arena, bytes, &extent, &pos), CMQ_OK);
    cmq_arena_published(arena, extent, seq);
    return pos;
}

static void extent_that_would_wrap_starts_at_the_beginning(void **state)
{
    struct cmq_arena *arena = *state;
    assert_int_equal(take(arena, 640, 0), 0);
    history = 1;
    assert_int_equal(take(arena, 640, 1) % 1024, 0);
}

static void arena_is_full_until_the_oldest_record_is_history(void **state)
{
    struct cmq_arena *arena = *state;
    uint64_t extent, pos;
    (void)take(arena, 512, 0);
    (void)take(arena, 512, 1);
    assert_int_equal(cmq_arena_alloc(arena, 64, &extent, &pos), CMQ_ERR_FULL);
    assert_false(cmq_arena_has_room(arena, 64));
    history = 1;
    assert_true(cmq_arena_has_room(arena, 512));
    assert_int_equal(cmq_arena_alloc(arena, 512, &extent, &pos), CMQ_OK);
    assert_int_equal(pos, 1024);
    assert_int_equal(cmq_arena_alloc(arena, 1, &extent, &pos), CMQ_ERR_FULL);
}

static void extent_larger_than_the_arena_is_too_big(void **state)
{
    uint64_t extent, pos;
    assert_int_equal(cmq_arena_alloc(*state, 1025, &extent, &pos), CMQ_ERR_TOO_BIG);
    assert_int_equal(cmq_arena_alloc(*state, UINT64_MAX, &extent, &pos), CMQ_ERR_TOO_BIG);
    assert_int_equal(cmq_arena_alloc(*state, 1024, &extent, &pos), CMQ_OK);
}

static void newest_extent_shrinks_and_older_ones_keep_their_room(void **state)
{
    struct cmq_arena *arena = *state;
    uint64_t first, second, pos;
    assert_int_equal(cmq_arena_alloc(arena, 256, &first, &pos), CMQ_OK);
    assert_int_equal(cmq_arena_alloc(arena, 256, &second, &pos), CMQ_OK);
    cmq_arena_shrink(arena, first, 64);
    cmq_arena_shrink(arena, second, 65);
    assert_int_equal(take(arena, 64, 2), 256 + 128);
}

static void aborted_extents_are_room_again(void **state)
{
    struct cmq_arena *arena = *state;
    uint64_t first, second, pos;
    assert_int_equal(cmq_arena_alloc(arena, 512, &first, &pos), CMQ_OK);
    assert_int_equal(cmq_arena_alloc(arena, 512, &second, &pos), CMQ_OK);
    cmq_arena_abort(arena, first);
    assert_true(cmq_arena_has_room(arena, 512)); /* the oldest is free */
    cmq_arena_abort(arena, second);
    assert_int_equal(cmq_arena_reclaim(arena), 0);
    assert_true(cmq_arena_has_room(arena, 1024));
}

static void empty_arena_begins_at_the_bottom_again(void **state)
{
    struct cmq_arena *arena = *state;
    (void)take(arena, 64, 0);
    (void)take(arena, 64, 1);
    history = 1;
    assert_int_equal(take(arena, 64, 2) % 1024, 128);
    history = 3;
    uint64_t pos = take(arena, 64, 3);
    assert_int_equal(pos % 1024, 0);
    assert_int_equal(pos, 1024); /* positions never repeat */
}

static void live_extents_never_overlap(void **state)
{
    struct cmq_arena *arena = *state;
    struct {
        uint64_t begin, end;
    } live[64];
    uint64_t seq = 0, random = 12345;
    for (unsigned step = 0; step < 200000; step++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t bytes = 1 + (random >> 33) % 400, extent, pos;
        if (cmq_arena_alloc(arena, bytes, &extent, &pos) == CMQ_OK) {
            assert_true(pos % 64 == 0 && pos % 1024 + bytes <= 1024);
            for (uint64_t other = history; other < seq; other++)
                assert_true(pos + bytes <= live[other % 64].begin + 1024 && pos >= live[other % 64].end);
            live[seq % 64].begin = pos;
            live[seq % 64].end = pos + bytes;
            cmq_arena_published(arena, extent, seq++);
        } else {
            assert_true(history < seq);
            history++;
        }
    }
}

int main(void)
{
#define ARENA_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ARENA_TEST(extent_that_would_wrap_starts_at_the_beginning),
        ARENA_TEST(arena_is_full_until_the_oldest_record_is_history),
        ARENA_TEST(extent_larger_than_the_arena_is_too_big),
        ARENA_TEST(newest_extent_shrinks_and_older_ones_keep_their_room),
        ARENA_TEST(aborted_extents_are_room_again),
        ARENA_TEST(empty_arena_begins_at_the_bottom_again),
        ARENA_TEST(live_extents_never_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
