/*
 * Deaths and power cuts at every file call. CMQ_LOG_IMAGES in the environment: how many random images of the disk to try
 * (20,000 if it is not set).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/file_faults.h"
#include "tests/support/log_dir.h"

enum { SEQS = 2048, RETAIN_SEGMENTS = 6, RECORDS = 500, COMPOUND = 50, IMAGES = 20000 };

/* What a writer was told before it ended. */
struct run {
    uint64_t acked;      /* the last sync covered what is below */
    uint8_t kept[SEQS];  /* 1: this record was written, and then synced */
    uint8_t salts[SEQS]; /* what was written last under this number: numbers that got lost are used again */
    uint8_t writers;
    uint64_t tried;  /* records below it were given to the log */
    uint64_t target; /* the run ends here */
    uint64_t group, sync_every;
};

static struct log_dir dir_of(struct file_faults *faults)
{
    struct log_dir dir;
    log_dir_faulty(&dir, file_faults_ops(faults));
    dir.setup.retention_bytes = RETAIN_SEGMENTS * LOG_DIR_SEGMENT;
    return dir;
}

/* Writes until the target is reached or a call fails. */
static void run_log(struct file_faults *faults, struct run *run)
{
    struct log_dir dir = dir_of(faults);
    struct enc_log *log = NULL;
    enum cmq_err err = enc_log_open(&dir.setup, &log, NULL);
    if (err != CMQ_OK)
        return;
    dir.salts = run->salts;
    run->writers++;
    const uint64_t first = enc_log_next_seq(log);
    for (uint64_t groups = 1; err == CMQ_OK && enc_log_next_seq(log) < run->target; groups++) {
        const uint64_t count = cmq_min_u64(run->group, run->target - enc_log_next_seq(log));
        run->tried = cmq_max_u64(run->tried, enc_log_next_seq(log) + count);
        memset(run->salts + enc_log_next_seq(log), run->writers, count);
        (void)log_dir_append(&dir, log, count, count, &err);
        if (err == CMQ_OK && groups % run->sync_every == 0) {
            err = enc_log_sync(log, NULL);
            if (err == CMQ_OK) {
                run->acked = enc_log_next_seq(log);
                memset(run->kept + first, 1, (size_t)(run->acked - first));
            }
        }
        if (err == CMQ_OK && groups % 5 == 0)
            err = enc_log_retain(log, LOG_DIR_NOW_MS, NULL);
    }
    enc_log_close(log);
}

/* All that was promised is there, nothing is wrong, and a second recovery changes nothing. */
static void verify(struct file_faults *faults, struct run *run, bool power)
{
    struct log_dir dir = dir_of(faults);
    dir.salts = run->salts;
    struct enc_log *log = log_dir_writer(&dir);
    const uint64_t floor = enc_log_floor(log), next = enc_log_next_seq(log);
    assert_true(next >= run->acked);
    assert_true(next <= cmq_max_u64(run->tried, 1));
    if (floor > 1 && !power) /* retention has taken no more than it may; a power cut takes sizes */
        assert_true(enc_log_bytes(log) >= (RETAIN_SEGMENTS - 2) * LOG_DIR_SEGMENT);
    uint8_t lost[SEQS] = {0};
    struct log_dir_seen seen = log_dir_read(&dir, floor, next, 20000, lost);
    assert_int_equal(seen.records + seen.lost, next - floor);
    assert_true(power || seen.lost == 0);
    for (uint64_t seq = floor; seq < next; seq++)
        assert_false(lost[seq] && run->kept[seq]);
    if (!power)
        assert_int_equal(enc_log_damaged(log), 0);
    enc_log_close(log);
    const uint32_t digest = file_faults_digest(faults);
    enc_log_close(log_dir_writer(&dir));
    assert_int_equal(file_faults_digest(faults), digest);
}

/* And it goes on. */
static void go_on(struct file_faults *faults, struct run *run)
{
    run->target = run->tried + 20;
    run_log(faults, run);
    assert_int_equal(run->tried, run->target);
    verify(faults, run, true);
}

static uint64_t calls_of(struct run run)
{
    struct file_faults *faults = file_faults_new();
    run_log(faults, &run);
    const uint64_t calls = file_faults_calls(faults);
    assert_int_equal(run.tried, run.target);
    file_faults_free(faults);
    return calls;
}

static void a_death_at_any_file_call_loses_nothing_that_was_synced(void **state)
{
    (void)state;
    const struct run start = {.target = RECORDS + 1, .group = 9, .sync_every = 2};
    const uint64_t calls = calls_of(start);
    assert_in_range(calls, 300, 2000);
    for (uint64_t call = 0; call < calls; call++)
        for (unsigned death = FILE_DEATH_BEFORE; death <= FILE_DEATH_AFTER; death++) {
            struct file_faults *faults = file_faults_new();
            struct run run = start;
            file_faults_die_at(faults, call, (enum file_death)death);
            run_log(faults, &run);
            assert_true(file_faults_dead(faults));
            file_faults_revive(faults);
            verify(faults, &run, false);
            go_on(faults, &run);
            file_faults_free(faults);
        }
}

/* A log of some segments whose last write was cut by a death. */
static struct file_faults *torn_at(uint64_t call, enum file_death death, struct run *run)
{
    struct file_faults *faults = file_faults_new();
    file_faults_die_at(faults, call, death);
    run_log(faults, run);
    file_faults_revive(faults);
    return faults;
}

static void a_death_in_the_recovery_from_a_death_changes_nothing(void **state)
{
    (void)state;
    const struct run start = {.target = 100, .group = 4, .sync_every = 1};
    for (uint64_t first = 0; first < COMPOUND; first++) {
        struct run run = start;
        struct file_faults *torn = torn_at(first, FILE_DEATH_HALF, &run);
        for (uint64_t second = 0; second < COMPOUND; second++) {
            struct file_faults *faults = file_faults_clone(torn);
            struct run again = run;
            again.target = run.tried + 8; /* recovery, and the first calls behind it */
            file_faults_die_at(faults, second, FILE_DEATH_HALF);
            run_log(faults, &again);
            const bool died = file_faults_dead(faults);
            file_faults_revive(faults);
            verify(faults, &again, false);
            file_faults_free(faults);
            if (!died)
                break;
        }
        file_faults_free(torn);
    }
}

static void every_image_that_a_power_cut_can_leave_of_a_small_run_has_what_was_synced(void **state)
{
    (void)state;
    const struct run start = {.target = 41, .group = 4, .sync_every = 2};
    const uint64_t calls = calls_of(start);
    uint64_t images = 0;
    for (uint64_t call = 0; call < calls; call++) {
        struct run run = start;
        struct file_faults *dead = torn_at(call, FILE_DEATH_AFTER, &run);
        struct file_faults_all all = {.depth = 0};
        do {
            struct file_faults *faults = file_faults_clone(dead);
            file_faults_power_cut(faults, file_faults_choose_all, &all);
            assert_true(all.known < CMQ_COUNT_OF(all.taken)); /* else it was not all of them */
            verify(faults, &run, true);
            file_faults_free(faults);
            images++;
        } while (file_faults_all_next(&all));
        file_faults_free(dead);
    }
    assert_in_range(images, 1000, 100000);
}

static uint64_t images_wanted(void)
{
    const char *text = getenv("CMQ_LOG_IMAGES");
    return text == NULL ? IMAGES : strtoull(text, NULL, 10);
}

static void random_images_of_long_runs_have_what_was_synced_also_after_a_second_cut(void **state)
{
    (void)state;
    uint64_t seed = 1;
    const uint64_t wanted = images_wanted();
    for (uint64_t images = 0; images < wanted;) {
        struct run run = {.target = 2 + file_faults_choose_random(&seed, RECORDS),
                          .group = 1 + file_faults_choose_random(&seed, 12),
                          .sync_every = 1 + file_faults_choose_random(&seed, 4)};
        const uint64_t call = file_faults_choose_random(&seed, 900);
        struct file_faults *dead = torn_at(call, (enum file_death)file_faults_choose_random(&seed, 3), &run);
        for (int cut = 0; cut < 40; cut++, images++) {
            struct file_faults *faults = file_faults_clone(dead);
            struct run again = run;
            file_faults_power_cut(faults, file_faults_choose_random, &seed);
            if (cut % 4 == 0) { /* recovery and a little more, then the next cut */
                again.target = run.tried + file_faults_choose_random(&seed, 30);
                file_faults_die_at(faults, file_faults_choose_random(&seed, 80), FILE_DEATH_HALF);
                run_log(faults, &again);
                file_faults_power_cut(faults, file_faults_choose_random, &seed);
            }
            verify(faults, &again, true);
            if (cut % 8 == 1)
                go_on(faults, &again);
            file_faults_free(faults);
        }
        file_faults_free(dead);
    }
}

static uint32_t choose_lost(void *arg, uint32_t options)
{
    (void)arg;
    (void)options;
    return 1;
}

/* A sync fails, the log is opened again, and the power goes after the next sync that returned. */
static uint64_t end_after_failed_sync(bool rewrite)
{
    struct file_faults *faults = file_faults_new();
    struct log_dir dir = dir_of(faults);
    struct enc_log *log = log_dir_writer(&dir);
    enum cmq_err err;
    assert_int_equal(log_dir_append(&dir, log, 10, 10, &err), 10);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_OK);
    assert_int_equal(log_dir_append(&dir, log, 5, 5, &err), 5);
    file_faults_fail(faults, FILE_FDATASYNC, 0, 1, EIO);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_ERR_SYSTEM);
    /* For good: the kernel would say that all is well now. */
    assert_int_equal(enc_log_sync(log, NULL), CMQ_ERR_SYSTEM);
    assert_int_equal(log_dir_append(&dir, log, 1, 1, &err), 0);
    assert_int_equal(err, CMQ_ERR_SYSTEM);
    assert_int_equal(enc_log_retain(log, LOG_DIR_NOW_MS, NULL), CMQ_ERR_SYSTEM);
    enc_log_close(log);
    dir.setup.rewrite_from = rewrite ? 11 : 0;
    log = log_dir_writer(&dir);
    assert_int_equal(enc_log_next_seq(log), 16);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_OK);
    enc_log_close(log);
    file_faults_power_cut(faults, choose_lost, NULL);
    dir.setup.rewrite_from = 0;
    log = log_dir_writer(&dir);
    const uint64_t end = enc_log_next_seq(log);
    assert_int_equal(log_dir_read(&dir, 1, end, 4096, NULL).records, end - 1);
    enc_log_close(log);
    file_faults_free(faults);
    return end;
}

static void what_a_failed_sync_left_is_written_again(void **state)
{
    (void)state;
    assert_int_equal(end_after_failed_sync(true), 16);
    assert_int_equal(end_after_failed_sync(false), 11); /* what it is for */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_death_at_any_file_call_loses_nothing_that_was_synced),
        cmocka_unit_test(a_death_in_the_recovery_from_a_death_changes_nothing),
        cmocka_unit_test(every_image_that_a_power_cut_can_leave_of_a_small_run_has_what_was_synced),
        cmocka_unit_test(random_images_of_long_runs_have_what_was_synced_also_after_a_second_cut),
        cmocka_unit_test(what_a_failed_sync_left_is_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
