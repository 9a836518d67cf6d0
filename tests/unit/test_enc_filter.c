/* Unit tests of encryptor/enc_filter: what the log gets of records whose messages have ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "encryptor/enc_filter.h"
#include "encryptor/enc_record.h"
#include "tests/support/enc_batches.h"

enum { WINDOW_MS = 1000 };

struct world {
    struct enc_batches batches;
    char directory[96];
    struct enc_filter *filter;
    struct enc_verdict verdict;
    uint64_t now_ms;
};

static void open_table(struct world *world, uint64_t next_seq)
{
    struct cmq_reason reason = {.text = ""};
    uint64_t applied;
    enum cmq_err err = enc_filter_open(world->filter, next_seq, &applied, &reason);
    if (err != CMQ_OK)
        fail_msg("%s: %s", cmq_err_text(err), reason.text);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    struct cmq_reason reason = {.text = ""};
    if (world == NULL)
        return -1;
    enc_batches_begin(&world->batches);
    (void)snprintf(world->directory, sizeof world->directory, "/tmp/cmq-unit-filter-%d", (int)getpid());
    const struct enc_idem_setup setup = {
        .directory = world->directory, .window_ms = WINDOW_MS, .entries_max = 1000};
    if (enc_filter_new(&world->batches.dir.encryptor, &setup, &world->filter, &reason) != CMQ_OK)
        return -1;
    open_table(world, 1);
    world->now_ms = 5000;
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    enc_filter_discard(world->filter);
    enc_filter_free(world->filter);
    enc_batches_end(&world->batches);
    int failed = rmdir(world->directory);
    free(world);
    return failed;
}

/* Judges one record in the group that is begun. */
static void judge(struct world *world, uint64_t seq, const char *messages, const char *key)
{
    const struct cmq_span sealed = enc_batches_seal(&world->batches, seq, messages, key);
    const struct cmq_committed committed = {.seq = seq, .payload = sealed, .messages = 1};
    assert_int_equal(enc_filter_record(world->filter, &committed, &world->verdict), CMQ_OK);
    assert_int_equal(world->verdict.record.seq, seq);
}

/* A group of one record. */
static void judge_alone(struct world *world, uint64_t seq, const char *messages, const char *key)
{
    enc_filter_begin(world->filter, world->now_ms);
    judge(world, seq, messages, key);
    assert_int_equal(enc_filter_commit(world->filter, seq), CMQ_OK);
}

static void expect_kept(struct world *world, const char *contents)
{
    const struct enc_verdict *verdict = &world->verdict;
    assert_int_equal(verdict->outcome.kind, CMQ_OUTCOME_KEPT);
    assert_int_equal(verdict->record.type, CMQ_JOURNAL_BATCH);
    assert_ptr_equal(verdict->record.payload.data, world->batches.sealed); /* not sealed again */
    assert_string_equal(enc_batches_open(&world->batches, verdict->record.seq, verdict->record.payload),
                        contents);
}

static void expect_void(struct world *world, enum cmq_outcome_kind kind, uint64_t seq, uint32_t index)
{
    const struct enc_verdict *verdict = &world->verdict;
    assert_int_equal(verdict->outcome.kind, kind);
    assert_int_equal(verdict->outcome.seq, seq);
    assert_int_equal(verdict->outcome.index, index);
    assert_true(verdict->told);
    assert_int_equal(verdict->record.type, CMQ_JOURNAL_VOID);
    assert_int_equal(verdict->record.payload.bytes, 0);
    assert_int_equal(verdict->record.messages, 0);
    assert_int_equal(verdict->record.flags, 0);
}

static void filter_leaves_records_without_ids_alone(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "one two", NULL);
    expect_kept(world, "one two");
    assert_false(world->verdict.told);
    assert_int_equal(world->verdict.record.flags, 0);
    assert_int_equal(world->verdict.record.messages, 2);
    judge_alone(world, 2, "one two", NULL);
    expect_kept(world, "one two");
    assert_int_equal(enc_idem_count(enc_filter_table(world->filter)), 0);
}

static void filter_keeps_new_ids_and_voids_a_whole_duplicate(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "a=one b=two", NULL);
    expect_kept(world, "one two");
    assert_true(world->verdict.told);
    assert_int_equal(world->verdict.record.flags, CMQ_JOURNAL_HAS_IDS);
    assert_int_equal(world->verdict.record.messages, 2);
    judge_alone(world, 2, "a=one b=two", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 0);
    judge_alone(world, 3, "b=two", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 1);
}

static void filter_sees_the_same_id_twice_in_one_group(void **state)
{
    struct world *world = *state;
    enc_filter_begin(world->filter, world->now_ms);
    judge(world, 1, "a=one", NULL);
    expect_kept(world, "one");
    judge(world, 2, "a=one", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 0);
    judge(world, 3, "a=other", NULL);
    expect_void(world, CMQ_OUTCOME_CONFLICT, 0, 0);
    assert_int_equal(enc_filter_commit(world->filter, 1), CMQ_OK);
}

static void filter_conflict_keeps_nothing_of_the_record(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "a=one", NULL);
    judge_alone(world, 2, "new=x b=two a=ONE later=y", NULL);
    expect_void(world, CMQ_OUTCOME_CONFLICT, 0, 2);
    judge_alone(world, 3, "new=x b=two later=y", NULL); /* none of them is known */
    expect_kept(world, "x two y");
}

static void filter_leaves_out_the_known_part_and_seals_the_rest_anew(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "a=one b=two", NULL);
    judge_alone(world, 2, "x=new a=one plain b=two", NULL);
    assert_int_equal(world->verdict.outcome.kind, CMQ_OUTCOME_PART);
    assert_int_equal(world->verdict.outcome.index, 2);
    assert_int_equal(world->verdict.record.type, CMQ_JOURNAL_BATCH);
    assert_int_equal(world->verdict.record.flags, CMQ_JOURNAL_HAS_IDS);
    assert_string_equal(enc_batches_open(&world->batches, 2, world->verdict.record.payload), "new - plain -");
    /* The original's nonce is not used for another plaintext. */
    assert_null(memmem(world->verdict.record.payload.data, world->verdict.record.payload.bytes,
                       world->batches.sealed + 40, 16));
    judge_alone(world, 3, "x=new", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 2, 0);
}

static void filter_finds_the_same_id_twice_in_one_batch(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "a=one b=two a=one", NULL);
    assert_int_equal(world->verdict.outcome.kind, CMQ_OUTCOME_PART);
    assert_int_equal(world->verdict.outcome.index, 1);
    assert_string_equal(enc_batches_open(&world->batches, 1, world->verdict.record.payload), "one two -");
    judge_alone(world, 2, "c=one d=x c=other", NULL);
    expect_void(world, CMQ_OUTCOME_CONFLICT, 0, 2);
    judge_alone(world, 3, "c=anything d=x", NULL);
    expect_kept(world, "anything x");
}

static void filter_request_key_covers_the_whole_batch(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "one two", "key-1");
    expect_kept(world, "one two");
    assert_int_equal(world->verdict.record.flags, CMQ_JOURNAL_HAS_IDS);
    judge_alone(world, 2, "one two", "key-1");
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 0);
    judge_alone(world, 3, "one two three", "key-1");
    expect_void(world, CMQ_OUTCOME_CONFLICT, 0, 0);
    judge_alone(world, 4, "one two", "key-2");
    expect_kept(world, "one two");
    judge_alone(world, 5, "key-1=one", NULL); /* a message id is no request key */
    expect_kept(world, "one");
}

static void filter_ids_are_free_again_after_the_window(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "a=one", NULL);
    world->now_ms += WINDOW_MS - 1;
    judge_alone(world, 2, "a=one", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 0);
    world->now_ms += 1; /* a duplicate does not lengthen the window */
    judge_alone(world, 3, "a=other", NULL);
    expect_kept(world, "other");
    judge_alone(world, 4, "a=other", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 3, 0);
}

static void filter_record_judged_again_is_not_its_own_duplicate(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "a=one b=two", NULL); /* the append fails, say: no space */
    world->now_ms += WINDOW_MS - 1;
    judge_alone(world, 1, "a=one b=two", NULL);
    expect_kept(world, "one two");
    world->now_ms += WINDOW_MS - 1; /* from the last attempt on */
    judge_alone(world, 2, "b=two", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 1);
    judge_alone(world, 3, "k", "key");
    judge_alone(world, 3, "k", "key");
    expect_kept(world, "k");
}

static void filter_judges_the_same_after_the_death_of_the_writer(void **state)
{
    struct world *world = *state;
    judge_alone(world, 1, "a=one", NULL);
    judge_alone(world, 2, "b=two", NULL); /* committed, but record 2 does not get into the log */
    enc_filter_close(world->filter);
    open_table(world, 2);
    judge_alone(world, 2, "c=other", NULL);
    expect_kept(world, "other");
    judge_alone(world, 3, "b=two", NULL);
    expect_kept(world, "two");
    judge_alone(world, 4, "a=one", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 0);
}

static void filter_applies_what_the_log_has(void **state)
{
    struct world *world = *state;
    struct cmq_span sealed = enc_batches_seal(&world->batches, 1, "a=one plain b=two", NULL);
    assert_int_equal(enc_filter_apply(world->filter, 1, 4500, sealed), CMQ_OK);
    sealed = enc_batches_seal(&world->batches, 2, "x", "key");
    assert_int_equal(enc_filter_apply(world->filter, 2, 4500, sealed), CMQ_OK);
    assert_int_equal(enc_filter_tidy(world->filter, 3, world->now_ms), CMQ_OK);
    judge_alone(world, 3, "b=two", NULL);
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 1, 2);
    judge_alone(world, 4, "x", "key");
    expect_void(world, CMQ_OUTCOME_DUPLICATE, 2, 0);
    world->now_ms = 4500 + WINDOW_MS; /* counted from the commit, not from now */
    judge_alone(world, 5, "b=two", NULL);
    expect_kept(world, "two");
}

static void filter_voids_what_cannot_be_read(void **state)
{
    struct world *world = *state;
    const struct cmq_committed unreadable = {.seq = 1, .void_record = true};
    enc_filter_begin(world->filter, world->now_ms);
    assert_int_equal(enc_filter_record(world->filter, &unreadable, &world->verdict), CMQ_OK);
    assert_int_equal(world->verdict.record.seq, 1);
    expect_void(world, CMQ_OUTCOME_VOID, 0, 0);
    struct cmq_span sealed = enc_batches_seal(&world->batches, 2, "a=one", NULL);
    struct cmq_committed committed = {.seq = 2, .payload = sealed, .messages = 1};
    world->batches.sealed[sealed.bytes - 1] ^= 1; /* of the tag */
    assert_int_equal(enc_filter_record(world->filter, &committed, &world->verdict), CMQ_OK);
    expect_void(world, CMQ_OUTCOME_VOID, 0, 0);
    sealed = enc_batches_seal(&world->batches, 2, "a=one", NULL);
    committed.seq = 3; /* sealed under another number */
    assert_int_equal(enc_filter_record(world->filter, &committed, &world->verdict), CMQ_OK);
    assert_int_equal(world->verdict.record.seq, 3);
    expect_void(world, CMQ_OUTCOME_VOID, 0, 0);
    for (size_t bytes = 0; bytes < sealed.bytes; bytes++) { /* cut anywhere */
        committed = (struct cmq_committed){.seq = 2, .payload = cmq_span_make(sealed.data, bytes)};
        assert_int_equal(enc_filter_record(world->filter, &committed, &world->verdict), CMQ_OK);
        expect_void(world, CMQ_OUTCOME_VOID, 0, 0);
    }
    judge(world, 4, "a=one", NULL); /* nothing of them is known */
    expect_kept(world, "one");
    assert_int_equal(enc_filter_commit(world->filter, 1), CMQ_OK);
}

static void record_with_ids_that_are_none_is_not_sealed(void **state)
{
    struct world *world = *state;
    struct enc_batches *batches = &world->batches;
    const struct cmq_span plain = enc_batches_plain(batches, "a=one", NULL);
    struct cmq_mp_reader units;
    struct cmq_plain_head head;
    struct cmq_plain_unit unit;
    struct enc_sealed sealed;
    assert_int_equal(cmq_plain_decode(plain, &units, &head), CMQ_OK);
    assert_int_equal(cmq_plain_next(&units, &unit), CMQ_OK);
    const size_t at = (size_t)(unit.messages.data - batches->plain);
    batches->plain[at] = 0x91; /* an array of one value is no message */
    assert_int_equal(enc_record_seal(batches->sealer, batches->keyring, 1, plain, batches->sealed,
                                     sizeof batches->sealed, &sealed, NULL),
                     CMQ_ERR_MALFORMED);
    batches->plain[at] = 0x95;
    assert_int_equal(enc_record_seal(batches->sealer, batches->keyring, 1, plain, batches->sealed,
                                     sizeof batches->sealed, &sealed, NULL),
                     CMQ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(filter_leaves_records_without_ids_alone),
        TEST(filter_keeps_new_ids_and_voids_a_whole_duplicate),
        TEST(filter_sees_the_same_id_twice_in_one_group),
        TEST(filter_conflict_keeps_nothing_of_the_record),
        TEST(filter_leaves_out_the_known_part_and_seals_the_rest_anew),
        TEST(filter_finds_the_same_id_twice_in_one_batch),
        TEST(filter_request_key_covers_the_whole_batch),
        TEST(filter_ids_are_free_again_after_the_window),
        TEST(filter_record_judged_again_is_not_its_own_duplicate),
        TEST(filter_judges_the_same_after_the_death_of_the_writer),
        TEST(filter_applies_what_the_log_has),
        TEST(filter_voids_what_cannot_be_read),
        TEST(record_with_ids_that_are_none_is_not_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
