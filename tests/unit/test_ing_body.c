#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ingest/ing_body.h"

enum { RECEIVED_MAX = 100000, KEPT_MAX = 65536 };

struct fixture {
    struct ing_body_pool pool;
    struct ing_body body, other;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (fixture == NULL)
        return -1;
    ing_body_pool_init(&fixture->pool, RECEIVED_MAX, KEPT_MAX);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    ing_body_clear(&fixture->pool, &fixture->body);
    ing_body_clear(&fixture->pool, &fixture->other);
    ing_body_pool_fini(&fixture->pool);
    free(fixture);
    return 0;
}

/* Byte i of a test body. */
static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 7u + i / 251u);
}

static enum cmq_err append(struct fixture *fixture, struct ing_body *body, size_t bytes)
{
    uint8_t *data = malloc(bytes);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_at(body->bytes + i);
    enum cmq_err err = ing_body_append(&fixture->pool, body, data, bytes);
    free(data);
    return err;
}

static void expect_content(const struct ing_body *body, size_t bytes)
{
    struct cmq_span span = ing_body_span(body);
    assert_int_equal(span.bytes, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (span.data[i] != byte_at(i))
            fail_msg("byte %zu", i);
}

static void a_small_body_takes_no_block(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init(&fixture->body, 0);
    for (size_t i = 0; i < ING_BODY_SMALL_BYTES / 64; i++)
        assert_int_equal(append(fixture, &fixture->body, 64), CMQ_OK);
    assert_null(fixture->body.block);
    assert_int_equal(atomic_load(&fixture->pool.received_bytes), 0);
    expect_content(&fixture->body, ING_BODY_SMALL_BYTES);
}

static void a_growing_body_keeps_its_bytes(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init(&fixture->body, 0);
    size_t bytes = 0;
    for (size_t part = 1; bytes + part < RECEIVED_MAX; bytes += part, part = part * 3 / 2 + 1)
        assert_int_equal(append(fixture, &fixture->body, part), CMQ_OK);
    expect_content(&fixture->body, bytes);
    assert_int_equal(atomic_load(&fixture->pool.received_bytes), bytes);
}

static void an_announced_body_gets_its_block_at_once(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init(&fixture->body, 60000);
    assert_int_equal(append(fixture, &fixture->body, 2000), CMQ_OK);
    assert_int_equal(fixture->body.capacity, 65536);
}

static void all_bodies_together_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init(&fixture->body, 0);
    ing_body_init(&fixture->other, 0);
    assert_int_equal(append(fixture, &fixture->body, 60000), CMQ_OK);
    assert_int_equal(append(fixture, &fixture->other, 40001), CMQ_ERR_FULL);
    assert_int_equal(fixture->other.bytes, 0);
    assert_int_equal(append(fixture, &fixture->other, 40000), CMQ_OK);
    assert_int_equal(append(fixture, &fixture->other, 1), CMQ_ERR_FULL);
    expect_content(&fixture->other, 40000);
    ing_body_clear(&fixture->pool, &fixture->body);
    assert_int_equal(append(fixture, &fixture->other, 1), CMQ_OK);
}

static void blocks_are_used_again_and_given_back(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init(&fixture->body, 0);
    assert_int_equal(append(fixture, &fixture->body, 30000), CMQ_OK);
    const uint8_t *block = fixture->body.block;
    ing_body_clear(&fixture->pool, &fixture->body);
    assert_int_equal(fixture->pool.kept_bytes, 32768);
    ing_body_init(&fixture->other, 0);
    assert_int_equal(append(fixture, &fixture->other, 20000), CMQ_OK);
    assert_ptr_equal(fixture->other.block, block);
    ing_body_clear(&fixture->pool, &fixture->other);
    ing_body_pool_trim(&fixture->pool);
    assert_int_equal(fixture->pool.kept_bytes, 32768);
    ing_body_pool_trim(&fixture->pool);
    assert_int_equal(fixture->pool.kept_bytes, 0);
}

static void no_more_than_the_limit_is_kept(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init(&fixture->body, 0);
    ing_body_init(&fixture->other, 0);
    assert_int_equal(append(fixture, &fixture->body, 40000), CMQ_OK);
    assert_int_equal(append(fixture, &fixture->other, 40000), CMQ_OK);
    ing_body_clear(&fixture->pool, &fixture->body);
    ing_body_clear(&fixture->pool, &fixture->other);
    assert_int_equal(fixture->pool.kept_bytes, 65536);
}

static void a_body_that_is_emptied_in_part_keeps_the_rest(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init_stream(&fixture->body);
    assert_int_equal(append(fixture, &fixture->body, 20000), CMQ_OK);
    ing_body_drop(&fixture->pool, &fixture->body, 251 * 7 * 8, 65536); /* byte_at begins anew there */
    assert_int_equal(fixture->body.bytes, 20000 - 251 * 7 * 8);
    assert_int_equal(ing_body_span(&fixture->body).data[0], byte_at(251 * 7 * 8));
    /* All of its block counts, however little is in it. */
    assert_int_equal(fixture->pool.received_bytes, 32768);
    ing_body_drop(&fixture->pool, &fixture->body, fixture->body.bytes, 65536);
    assert_int_equal(fixture->pool.received_bytes, 32768);
    assert_non_null(fixture->body.block);
    ing_body_clear(&fixture->pool, &fixture->body);
    assert_int_equal(fixture->pool.received_bytes, 0);
}

static void a_large_block_that_is_mostly_empty_is_given_back(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init_stream(&fixture->body);
    assert_int_equal(append(fixture, &fixture->body, 40000), CMQ_OK);
    assert_int_equal(fixture->pool.received_bytes, 65536);
    ing_body_drop(&fixture->pool, &fixture->body, 35000, 16384);
    assert_int_equal(fixture->body.capacity, 8192);
    assert_int_equal(fixture->pool.received_bytes, 8192);
    assert_int_equal(ing_body_span(&fixture->body).data[4999], byte_at(39999));
    ing_body_drop(&fixture->pool, &fixture->body, 4500, 4096);
    assert_null(fixture->body.block);
    assert_int_equal(fixture->pool.received_bytes, 0);
    assert_int_equal(ing_body_span(&fixture->body).data[499], byte_at(39999));
}

static void what_is_reserved_counts_like_bodies(void **state)
{
    struct fixture *fixture = *state;
    ing_body_init(&fixture->body, 0);
    assert_true(ing_body_pool_reserve(&fixture->pool, RECEIVED_MAX - 5000));
    assert_int_equal(append(fixture, &fixture->body, 6000), CMQ_ERR_FULL);
    assert_int_equal(append(fixture, &fixture->body, 5000), CMQ_OK);
    assert_false(ing_body_pool_reserve(&fixture->pool, 1));
    ing_body_pool_release(&fixture->pool, RECEIVED_MAX - 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_small_body_takes_no_block, setup, teardown),
        cmocka_unit_test_setup_teardown(a_growing_body_keeps_its_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(an_announced_body_gets_its_block_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(all_bodies_together_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_are_used_again_and_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_than_the_limit_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_that_is_emptied_in_part_keeps_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_block_that_is_mostly_empty_is_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_reserved_counts_like_bodies, setup, teardown),
    };
    return cmocka_run_group_tests_name("ing_body", tests, NULL, NULL);
}
