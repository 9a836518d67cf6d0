/* Unit tests of encryptor/enc_logger: the writer of the log on a disk that fails, with a real ring and a real table of ids. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/journal/cmq_journal.h"
#include "encryptor/enc_logger.h"
#include "tests/support/enc_batches.h"
#include "tests/support/file_faults.h"
#include "tests/support/ring_fixture.h"

enum { SLOTS = 64, WINDOW_MS = 1000, SEGMENT_BYTES = 32768, LONG_MS = 10000 };

/* A writer: a member of the ring with its filter. */
struct writer {
    struct cmq_ring *ring;
    struct enc_filter *filter;
    struct enc_logger *logger;
};

struct world {
    struct ring_fixture fixture;
    struct enc_batches batches;
    struct file_faults *disk;
    struct cmq_ring *ingest;
    struct writer a, b;
    char ids_dir[96];
    enum cmq_conf_sync sync;
    uint32_t sync_ms;
    int exit_code; /* of the last call of fail */
};

static uint64_t now_ms;
static uint64_t wall_ms(void)
{
    return now_ms;
}

static void note_failure(void *context, int exit_code)
{
    ((struct world *)context)->exit_code = exit_code;
}

static void writer_open(struct world *world, struct writer *writer)
{
    struct cmq_reason reason = {.text = ""};
    const struct enc_idem_setup ids = {
        .directory = world->ids_dir, .window_ms = WINDOW_MS, .entries_max = 1000};
    writer->ring = ring_fixture_join(&world->fixture, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(enc_filter_new(&world->batches.dir.encryptor, &ids, &writer->filter, &reason), CMQ_OK);
    const struct enc_logger_setup setup = {.ring = writer->ring,
                                           .log = {.directory = FILE_FAULTS_DIRECTORY,
                                                   .ops = file_faults_ops(world->disk),
                                                   .segment_bytes = SEGMENT_BYTES,
                                                   .retention_bytes = 1ull << 30},
                                           .sync = world->sync,
                                           .sync_ms = world->sync_ms,
                                           .filter = writer->filter,
                                           .wall_ms = wall_ms,
                                           .fail = note_failure,
                                           .context = world};
    assert_int_equal(enc_logger_new(&setup, &writer->logger, &reason), CMQ_OK);
}

static void writer_close(struct world *world, struct writer *writer)
{
    if (writer->ring == NULL)
        return;
    enc_logger_free(writer->logger);
    enc_filter_free(writer->filter);
    ring_fixture_leave(&world->fixture, writer->ring);
    *writer = (struct writer){.ring = NULL};
}

/* As by SIGKILL: nothing it still does reaches the disk. */
static void writer_kill(struct world *world, struct writer *writer)
{
    file_faults_die_at(world->disk, file_faults_calls(world->disk), FILE_DEATH_BEFORE);
    writer_close(world, writer);
    file_faults_revive(world->disk);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL)
        return -1;
    ring_fixture_open(&world->fixture, SLOTS, 1, 1 << 20);
    enc_batches_begin(&world->batches);
    world->disk = file_faults_new();
    world->ingest = ring_fixture_join(&world->fixture, CMQ_ROLE_INGEST);
    world->sync_ms = 1;
    (void)snprintf(world->ids_dir, sizeof world->ids_dir, "/tmp/cmq-unit-logger-%d", (int)getpid());
    now_ms = 5000;
    writer_open(world, &world->a);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    writer_close(world, &world->a);
    writer_close(world, &world->b);
    const struct enc_idem_setup ids = {.directory = world->ids_dir};
    enc_idem_discard(&ids);
    (void)rmdir(world->ids_dir);
    ring_fixture_close(&world->fixture);
    enc_batches_end(&world->batches);
    file_faults_free(world->disk);
    free(world);
    return 0;
}

/* Publishes and commits one record; returns its seq. */
static uint64_t seal(struct world *world, const char *messages, const char *key)
{
    struct cmq_lease lease;
    struct cmq_ring *ring = world->a.ring != NULL ? world->a.ring : world->b.ring;
    (void)ring_fixture_publish(world->ingest, "plain");
    assert_int_equal(cmq_ring_lease(ring, &lease), CMQ_OK);
    const struct cmq_span sealed = enc_batches_seal(&world->batches, lease.seq, messages, key);
    assert_true(sealed.bytes <= lease.dst_bytes);
    memcpy(lease.dst, sealed.data, sealed.bytes);
    assert_int_equal(cmq_ring_commit(ring, &lease, sealed.bytes, 1), CMQ_OK);
    return lease.seq;
}

/* Steps until there is nothing to do; returns the last wait. */
static uint32_t work(struct writer *writer)
{
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t ms = enc_logger_step(writer->logger);
        if (ms > 0)
            return ms;
    }
    fail_msg("the writer never comes to an end");
    return 0;
}

static void expect_cursors(struct world *world, uint64_t stored, uint64_t durable)
{
    assert_int_equal(cmq_ring_stored_seq(world->ingest), stored);
    assert_int_equal(cmq_ring_durable_seq(world->ingest), durable);
}

static void expect_health(struct world *world, enum cmq_log_health health)
{
    assert_int_equal(cmq_ring_log_health(world->ingest), health);
}

/* Contents of a record in the log; NULL: VOID. */
static const char *stored_text(struct world *world, uint64_t seq)
{
    struct cmq_journal_reader *reader = NULL;
    struct cmq_journal_chunk chunk = {0};
    struct cmq_reason reason;
    uint64_t other;
    const char *text = NULL;
    assert_int_equal(
        cmq_journal_reader_open(FILE_FAULTS_DIRECTORY, file_faults_ops(world->disk), &reader, &reason),
        CMQ_OK);
    assert_int_equal(cmq_journal_read(reader, seq, seq + 1, NULL, 4096, &chunk, &other), CMQ_OK);
    assert_int_equal(chunk.entries[0].seq, seq);
    if (chunk.entries[0].type == CMQ_JOURNAL_BATCH)
        text = enc_batches_open(
            &world->batches, seq,
            cmq_span_make(chunk.data + chunk.entries[0].payload_offset, chunk.entries[0].payload_bytes));
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
    return text;
}

static void expect_outcome(struct world *world, uint64_t seq, enum cmq_outcome_kind kind, uint64_t original,
                           uint32_t index)
{
    struct cmq_outcome outcome;
    assert_true(cmq_ring_outcome(world->ingest, seq, &outcome));
    assert_int_equal(outcome.kind, kind);
    assert_int_equal(outcome.seq, original);
    assert_int_equal(outcome.index, index);
}

static uint64_t counter(struct world *world, enum cmq_counter which)
{
    struct cmq_member_state members[FIXTURE_MEMBERS_MAX];
    uint64_t sum = 0;
    size_t count = cmq_ring_members(world->ingest, members, FIXTURE_MEMBERS_MAX);
    for (size_t i = 0; i < count; i++)
        sum += members[i].role == CMQ_ROLE_ENCRYPTOR ? members[i].counters[which] : 0;
    return sum;
}

/* ---- writing ---- */

static void logger_stores_what_is_committed_with_one_write_and_one_flush(void **state)
{
    struct world *world = *state;
    assert_true(work(&world->a) > 0);
    assert_true(enc_logger_writes(world->a.logger));
    expect_cursors(world, 1, 1);
    expect_health(world, CMQ_LOG_HEALTH_OK);
    assert_int_equal(seal(world, "one two", NULL), 1);
    assert_int_equal(seal(world, "three", NULL), 2);
    (void)work(&world->a); /* the first one makes a segment */
    (void)seal(world, "four", NULL);
    (void)seal(world, "five", NULL);
    uint64_t writes = file_faults_count(world->disk, FILE_PWRITEV);
    uint64_t syncs = file_faults_count(world->disk, FILE_FDATASYNC);
    (void)work(&world->a);
    expect_cursors(world, 5, 5);
    assert_int_equal(file_faults_count(world->disk, FILE_PWRITEV), writes + 1);
    assert_int_equal(file_faults_count(world->disk, FILE_FDATASYNC), syncs + 1);
    assert_string_equal(stored_text(world, 1), "one two");
    assert_string_equal(stored_text(world, 4), "five");
    expect_outcome(world, 2, CMQ_OUTCOME_KEPT, 0, 0);
}

static void logger_writes_void_for_what_cannot_be_read(void **state)
{
    struct world *world = *state;
    struct cmq_lease lease;
    (void)ring_fixture_publish(world->ingest, "plain");
    assert_int_equal(cmq_ring_lease(world->a.ring, &lease), CMQ_OK);
    assert_int_equal(cmq_ring_commit_void(world->a.ring, &lease), CMQ_OK);
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    expect_cursors(world, 3, 3);
    assert_null(stored_text(world, 1));
    expect_outcome(world, 1, CMQ_OUTCOME_VOID, 0, 0);
    assert_string_equal(stored_text(world, 2), "one");
}

static void logger_with_sync_interval_stores_at_once_and_is_durable_later(void **state)
{
    struct world *world = *state;
    writer_close(world, &world->a);
    world->sync = CMQ_CONF_SYNC_INTERVAL;
    world->sync_ms = 3600000;
    writer_open(world, &world->a);
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    expect_cursors(world, 2, 1);
    (void)seal(world, "two", NULL);
    (void)work(&world->a);
    expect_cursors(world, 3, 1);
    writer_close(world, &world->a); /* a drain flushes */
    expect_cursors(world, 3, 3);
    world->sync_ms = 1;
    writer_open(world, &world->a);
    (void)seal(world, "three", NULL);
    for (unsigned i = 0; i < 100000000 && cmq_ring_durable_seq(world->ingest) != 4; i++)
        assert_in_range(work(&world->a), 1, 1000);
    expect_cursors(world, 4, 4);
}

static void logger_without_sync_never_flushes_and_durable_follows(void **state)
{
    struct world *world = *state;
    writer_close(world, &world->a);
    world->sync = CMQ_CONF_SYNC_NONE;
    writer_open(world, &world->a);
    (void)work(&world->a);
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    (void)seal(world, "two", NULL);
    uint64_t syncs = file_faults_count(world->disk, FILE_FDATASYNC);
    (void)work(&world->a);
    expect_cursors(world, 3, 3);
    assert_int_equal(file_faults_count(world->disk, FILE_FDATASYNC), syncs);
}

/* ---- one writer ---- */

static void logger_waits_for_the_lock_and_takes_over_from_the_dead(void **state)
{
    struct world *world = *state;
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    writer_open(world, &world->b);
    assert_in_range(work(&world->b), 1, 20); /* soon again: a take-over is due within 100 ms */
    assert_false(enc_logger_writes(world->b.logger));
    writer_kill(world, &world->a);
    (void)seal(world, "two", NULL);
    (void)work(&world->b);
    assert_true(enc_logger_writes(world->b.logger));
    expect_cursors(world, 3, 3);
    assert_string_equal(stored_text(world, 1), "one");
    assert_string_equal(stored_text(world, 2), "two");
    assert_int_equal(counter(world, CMQ_COUNT_LOG_TAKEOVERS), 1);
}

static void logger_counts_what_the_dead_wrote_and_does_not_write_it_again(void **state)
{
    struct world *world = *state;
    (void)work(&world->a);
    writer_kill(world, &world->a);
    writer_open(world, &world->b);
    (void)seal(world, "one", NULL);
    (void)seal(world, "two", NULL);
    /* What a writer leaves that dies between append and cursors. */
    const struct enc_log_setup setup = {.directory = FILE_FAULTS_DIRECTORY,
                                        .ops = file_faults_ops(world->disk),
                                        .first_seq = 1,
                                        .segment_bytes = SEGMENT_BYTES,
                                        .retention_bytes = 1ull << 30};
    struct enc_log *log = NULL;
    struct enc_log_record records[2];
    struct cmq_reason reason = {.text = ""};
    size_t written = 0;
    for (size_t i = 0; i < 2; i++) {
        struct cmq_committed committed;
        assert_int_equal(cmq_ring_committed(world->b.ring, i + 1, &committed), CMQ_OK);
        records[i] = (struct enc_log_record){
            .seq = i + 1, .payload = committed.payload, .messages = 1, .type = CMQ_JOURNAL_BATCH};
    }
    assert_int_equal(enc_log_open(&setup, &log, &reason), CMQ_OK);
    assert_int_equal(enc_log_append(log, records, 2, now_ms, &written, &reason), CMQ_OK);
    enc_log_close(log);
    expect_cursors(world, 1, 1);
    uint64_t writes = file_faults_count(world->disk, FILE_PWRITEV);
    uint64_t syncs = file_faults_count(world->disk, FILE_FDATASYNC);
    (void)work(&world->b);
    expect_cursors(world, 3, 3);
    assert_int_equal(file_faults_count(world->disk, FILE_PWRITEV), writes);
    assert_true(file_faults_count(world->disk, FILE_FDATASYNC) > syncs);
    assert_string_equal(stored_text(world, 2), "two");
}

static void logger_drain_stores_what_is_committed_and_frees_the_lock(void **state)
{
    struct world *world = *state;
    (void)work(&world->a);
    writer_open(world, &world->b);
    (void)work(&world->b);
    (void)seal(world, "one", NULL);
    (void)seal(world, "two", NULL);
    (void)ring_fixture_publish(world->ingest, "nobody has sealed this yet");
    enc_logger_drain(world->a.logger);
    expect_cursors(world, 3, 3);
    assert_false(enc_logger_writes(world->a.logger));
    (void)work(&world->b);
    assert_true(enc_logger_writes(world->b.logger));
    enc_logger_drain(world->a.logger); /* once is enough, the lock is another's now */
    assert_true(enc_logger_writes(world->b.logger));
}

/* ---- trouble ---- */

static uint32_t lose_all(void *arg, uint32_t options)
{
    (void)arg;
    return options > 1 ? 1 : 0;
}

static void logger_never_calls_durable_what_a_failed_flush_dropped(void **state)
{
    struct world *world = *state;
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    (void)seal(world, "two", NULL);
    file_faults_fail(world->disk, FILE_FDATASYNC, 0, 1, EIO);
    assert_in_range(work(&world->a), 100, 1000);
    expect_cursors(world, 2, 2);
    expect_health(world, CMQ_LOG_HEALTH_FAILED);
    assert_false(enc_logger_writes(world->a.logger));
    (void)work(&world->a);
    expect_cursors(world, 3, 3);
    expect_health(world, CMQ_LOG_HEALTH_OK);
    writer_kill(world, &world->a);
    file_faults_power_cut(world->disk, lose_all, NULL);
    assert_string_equal(stored_text(world, 1), "one");
    assert_string_equal(stored_text(world, 2), "two");
}

static void logger_successor_knows_of_the_failed_flush(void **state)
{
    struct world *world = *state;
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    (void)seal(world, "two", NULL);
    file_faults_fail(world->disk, FILE_FDATASYNC, 0, 1, EIO);
    (void)work(&world->a);
    writer_open(world, &world->b);
    (void)work(&world->b); /* another encryptor is quicker */
    expect_cursors(world, 3, 3);
    writer_kill(world, &world->b);
    writer_kill(world, &world->a);
    file_faults_power_cut(world->disk, lose_all, NULL);
    assert_string_equal(stored_text(world, 2), "two");
}

static void logger_write_error_is_waited_out(void **state)
{
    struct world *world = *state;
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    file_faults_fail(world->disk, FILE_PWRITEV, 0, 3, EIO);
    (void)seal(world, "two", NULL);
    for (unsigned i = 0; i < 3; i++) {
        (void)work(&world->a);
        expect_cursors(world, 2, 2);
        expect_health(world, CMQ_LOG_HEALTH_FAILED);
    }
    for (unsigned i = 0; i < 10; i++)
        (void)work(&world->a);
    expect_cursors(world, 3, 3);
    expect_health(world, CMQ_LOG_HEALTH_OK);
    assert_int_equal(world->exit_code, 0);
}

static void logger_full_disk_keeps_what_was_written_and_goes_on_with_space(void **state)
{
    struct world *world = *state;
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    file_faults_space(world->disk, SEGMENT_BYTES + SEGMENT_BYTES / 2);
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (unsigned i = 0; i < 20; i++)
        (void)seal(world, text, NULL);
    (void)work(&world->a);
    expect_health(world, CMQ_LOG_HEALTH_FULL);
    uint64_t stored = cmq_ring_stored_seq(world->ingest);
    assert_in_range(stored, 3, 21); /* as many as fit */
    expect_cursors(world, stored, stored);
    assert_in_range(work(&world->a), 1, 100);
    expect_cursors(world, stored, stored);
    assert_true(enc_logger_writes(world->a.logger));
    file_faults_space(world->disk, 1 << 30);
    (void)work(&world->a);
    expect_health(world, CMQ_LOG_HEALTH_OK);
    expect_cursors(world, 22, 22);
    assert_string_equal(stored_text(world, 21), text);
}

static void logger_read_only_disk_is_waited_out_but_refused_at_the_start(void **state)
{
    struct world *world = *state;
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    (void)seal(world, "two", NULL);
    file_faults_fail(world->disk, FILE_PWRITEV, 0, 1, EROFS);
    (void)work(&world->a);
    file_faults_fail(world->disk, FILE_OPEN, 0, 1, EROFS);
    (void)work(&world->a);
    expect_health(world, CMQ_LOG_HEALTH_FAILED);
    assert_int_equal(world->exit_code, 0);
    for (unsigned i = 0; i < 3; i++)
        (void)work(&world->a);
    expect_cursors(world, 3, 3);
    writer_close(world, &world->a);
    writer_open(world, &world->b);
    file_faults_fail(world->disk, FILE_OPEN, 0, 1, EACCES);
    (void)work(&world->b);
    assert_int_equal(world->exit_code, 78);
}

static void logger_refuses_a_ring_that_is_ahead_of_the_log(void **state)
{
    struct world *world = *state;
    (void)seal(world, "one", NULL);
    (void)work(&world->a);
    writer_close(world, &world->a);
    file_faults_free(world->disk); /* the files are gone */
    world->disk = file_faults_new();
    writer_open(world, &world->b);
    (void)work(&world->b);
    assert_int_equal(world->exit_code, 78);
    assert_false(enc_logger_writes(world->b.logger));
    expect_cursors(world, 2, 2);
}

static void logger_refuses_the_log_of_another_ring(void **state)
{
    struct world *world = *state;
    for (unsigned i = 0; i < 3; i++)
        (void)seal(world, "one", NULL);
    (void)work(&world->a);
    writer_close(world, &world->a);
    ring_fixture_leave(&world->fixture, world->ingest);
    ring_fixture_close(&world->fixture);
    ring_fixture_open(&world->fixture, SLOTS, 1, 1 << 20); /* not behind the log, as it should be */
    world->ingest = ring_fixture_join(&world->fixture, CMQ_ROLE_INGEST);
    writer_open(world, &world->b);
    (void)work(&world->b);
    assert_int_equal(world->exit_code, 78);
    expect_cursors(world, 1, 1);
}

/* ---- ids ---- */

static void logger_tells_publishers_of_duplicates_conflicts_and_parts(void **state)
{
    struct world *world = *state;
    (void)seal(world, "a=one b=two", NULL);
    (void)seal(world, "a=one", NULL); /* in the same group */
    (void)seal(world, "x", "key");
    (void)work(&world->a);
    (void)seal(world, "b=other", NULL);
    (void)seal(world, "c=new b=two", NULL);
    (void)seal(world, "x", "key");
    (void)work(&world->a);
    expect_cursors(world, 7, 7);
    expect_outcome(world, 1, CMQ_OUTCOME_KEPT, 0, 0);
    expect_outcome(world, 2, CMQ_OUTCOME_DUPLICATE, 1, 0);
    expect_outcome(world, 4, CMQ_OUTCOME_CONFLICT, 0, 0);
    expect_outcome(world, 5, CMQ_OUTCOME_PART, 0, 1);
    expect_outcome(world, 6, CMQ_OUTCOME_DUPLICATE, 3, 0);
    assert_null(stored_text(world, 2));
    assert_null(stored_text(world, 4));
    assert_string_equal(stored_text(world, 5), "new -");
    assert_null(stored_text(world, 6));
    assert_int_equal(counter(world, CMQ_COUNT_DUPLICATES), 3);
    assert_int_equal(counter(world, CMQ_COUNT_CONFLICTS), 1);
}

static void logger_death_between_table_and_log_loses_no_check_and_no_message(void **state)
{
    struct world *world = *state;
    (void)seal(world, "a=one", NULL);
    (void)work(&world->a);
    (void)seal(world, "b=two", NULL);
    writer_open(world, &world->b);
    file_faults_fail(world->disk, FILE_PWRITEV, 0, 1, EIO); /* the table has b already, the log does not */
    (void)work(&world->a);
    writer_kill(world, &world->a);
    (void)seal(world, "b=two", NULL);
    (void)seal(world, "a=one", NULL);
    (void)work(&world->b);
    expect_cursors(world, 5, 5);
    expect_outcome(world, 2, CMQ_OUTCOME_KEPT, 0, 0);
    assert_string_equal(stored_text(world, 2), "two");
    expect_outcome(world, 3, CMQ_OUTCOME_DUPLICATE, 2, 0);
    expect_outcome(world, 4, CMQ_OUTCOME_DUPLICATE, 1, 0);
}

static void logger_builds_a_lost_table_from_the_window_of_the_log(void **state)
{
    struct world *world = *state;
    const struct enc_idem_setup ids = {.directory = world->ids_dir};
    (void)seal(world, "old=one", NULL);
    (void)work(&world->a);
    now_ms += WINDOW_MS - 1;
    for (unsigned i = 0; i < 40; i++) { /* something to look through */
        (void)seal(world, i % 2 == 0 ? "plain" : "void=1", NULL);
        if (i % 10 == 9)
            (void)work(&world->a);
    }
    (void)seal(world, "young=two", "key");
    (void)seal(world, "young=two", NULL);
    (void)work(&world->a);
    now_ms += 1; /* "old" is as old as the window now */
    writer_kill(world, &world->a);
    enc_idem_discard(&ids);
    writer_open(world, &world->b);
    (void)work(&world->b);
    assert_int_equal(enc_idem_count(enc_filter_table(world->b.filter)), 3);
    uint64_t seq = seal(world, "young=two", NULL);
    (void)seal(world, "young=two", "key");
    (void)seal(world, "old=other", NULL);
    (void)work(&world->b);
    expect_outcome(world, seq, CMQ_OUTCOME_DUPLICATE, 43, 0);
    expect_outcome(world, seq + 1, CMQ_OUTCOME_DUPLICATE, 42, 0);
    expect_outcome(world, seq + 2, CMQ_OUTCOME_KEPT, 0, 0);
}

static void logger_table_that_was_not_committed_is_applied_again_from_the_log(void **state)
{
    struct world *world = *state;
    (void)seal(world, "a=one", NULL);
    (void)work(&world->a);
    (void)seal(world, "b=two", NULL);
    (void)work(&world->a);
    writer_close(world, &world->a);
    /* The table of a writer that died long before: it knows nothing, and says so. */
    struct enc_idem_setup ids = {.directory = world->ids_dir, .window_ms = WINDOW_MS, .entries_max = 1000};
    struct enc_idem *idem = NULL;
    struct cmq_reason reason;
    uint64_t applied;
    enc_idem_discard(&ids);
    assert_int_equal(enc_idem_open(&ids, 1, &idem, &applied, &reason), CMQ_OK);
    assert_int_equal(enc_idem_commit(idem, 2), CMQ_OK); /* record 1 is not its business any more */
    enc_idem_close(idem);
    writer_open(world, &world->b);
    (void)seal(world, "b=two", NULL);
    (void)work(&world->b);
    expect_outcome(world, 3, CMQ_OUTCOME_DUPLICATE, 2, 0);
    assert_int_equal(enc_idem_count(enc_filter_table(world->b.filter)), 1);
}

/* ---- the thread ---- */

static void logger_thread_stores_without_being_asked_and_ends_when_told(void **state)
{
    struct world *world = *state;
    struct cmq_reason reason;
    atomic_uint stop = 0;
    assert_int_equal(enc_logger_start(world->a.logger, &reason), CMQ_OK);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t seq = seal(world, "one", NULL);
        cmq_ring_follow(world->ingest, CMQ_WAIT_DURABLE, seq);
        for (unsigned looks = 0; looks < 1000 && cmq_ring_durable_seq(world->ingest) <= seq; looks++)
            (void)cmq_ring_wait(world->ingest, CMQ_WAIT_DURABLE, LONG_MS, &stop);
        expect_cursors(world, seq + 1, seq + 1);
    }
    enc_logger_drain(world->a.logger);
    assert_false(enc_logger_writes(world->a.logger));
    assert_string_equal(stored_text(world, 200), "one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(logger_stores_what_is_committed_with_one_write_and_one_flush),
        TEST(logger_writes_void_for_what_cannot_be_read),
        TEST(logger_with_sync_interval_stores_at_once_and_is_durable_later),
        TEST(logger_without_sync_never_flushes_and_durable_follows),
        TEST(logger_waits_for_the_lock_and_takes_over_from_the_dead),
        TEST(logger_counts_what_the_dead_wrote_and_does_not_write_it_again),
        TEST(logger_drain_stores_what_is_committed_and_frees_the_lock),
        TEST(logger_never_calls_durable_what_a_failed_flush_dropped),
        TEST(logger_successor_knows_of_the_failed_flush),
        TEST(logger_write_error_is_waited_out),
        TEST(logger_full_disk_keeps_what_was_written_and_goes_on_with_space),
        TEST(logger_read_only_disk_is_waited_out_but_refused_at_the_start),
        TEST(logger_refuses_a_ring_that_is_ahead_of_the_log),
        TEST(logger_refuses_the_log_of_another_ring),
        TEST(logger_tells_publishers_of_duplicates_conflicts_and_parts),
        TEST(logger_death_between_table_and_log_loses_no_check_and_no_message),
        TEST(logger_builds_a_lost_table_from_the_window_of_the_log),
        TEST(logger_table_that_was_not_committed_is_applied_again_from_the_log),
        TEST(logger_thread_stores_without_being_asked_and_ends_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
