/* Calls that fail, one at a time and for a while. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/file_faults.h"
#include "tests/support/log_dir.h"

enum { RECORDS = 90, GROUP = 6 };

static struct file_faults *faults;
static struct log_dir dir;

static int set_up(void **state)
{
    (void)state;
    faults = file_faults_new();
    log_dir_faulty(&dir, file_faults_ops(faults));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    file_faults_free(faults);
    return 0;
}

static void append_all(struct enc_log *log, uint64_t count)
{
    enum cmq_err err;
    assert_int_equal(log_dir_append(&dir, log, count, GROUP, &err), count);
    assert_int_equal(err, CMQ_OK);
}

static void all_is_there(uint64_t end)
{
    assert_int_equal(log_dir_read(&dir, 1, end, 10000, NULL).records, end - 1);
}

/* ---- any call fails once ---- */

/* As the log thread does it: FULL is tried again, anything else closes the log and opens it again. */
static unsigned write_all_whatever_fails(uint64_t end, uint64_t durable_before)
{
    struct enc_log *log = NULL;
    unsigned troubles = 0;
    uint64_t durable = durable_before;
    while (durable < end) {
        enum cmq_err err = CMQ_OK;
        assert_true(troubles < 10);
        if (log == NULL) {
            dir.setup.rewrite_from = troubles > 0 ? durable : 0;
            err = enc_log_open(&dir.setup, &log, NULL);
        }
        if (err == CMQ_OK) {
            assert_in_range(enc_log_next_seq(log), durable, end);
            const uint64_t left = end - enc_log_next_seq(log);
            (void)log_dir_append(&dir, log, cmq_min_u64(left, GROUP), GROUP, &err);
        }
        if (err == CMQ_OK)
            err = enc_log_sync(log, NULL);
        if (err == CMQ_OK)
            durable = enc_log_next_seq(log);
        if (err == CMQ_OK)
            err = enc_log_retain(log, LOG_DIR_NOW_MS, NULL);
        if (err == CMQ_OK)
            continue;
        troubles++;
        assert_int_not_equal(err, CMQ_ERR_CORRUPT);
        if (err != CMQ_ERR_FULL) {
            enc_log_close(log);
            log = NULL;
        }
    }
    enc_log_close(log);
    return troubles;
}

static uint32_t choose_lost(void *arg, uint32_t options)
{
    (void)arg;
    (void)options;
    return 1;
}

static void try_every(enum file_op op, int error, uint64_t times)
{
    bool happened = true;
    for (uint64_t skip = 0; happened; skip++) {
        struct file_faults *once = file_faults_new();
        log_dir_faulty(&dir, file_faults_ops(once));
        dir.setup.retention_bytes = 4 * LOG_DIR_SEGMENT;
        file_faults_fail(once, op, skip, times, error);
        (void)write_all_whatever_fails(RECORDS + 1, 1);
        happened = file_faults_count(once, op) > skip;
        file_faults_power_cut(once, choose_lost, NULL);
        struct enc_log *log = log_dir_writer(&dir);
        const uint64_t floor = enc_log_floor(log);
        assert_int_equal(enc_log_next_seq(log), RECORDS + 1);
        assert_int_equal(log_dir_read(&dir, floor, RECORDS + 1, 10000, NULL).records, RECORDS + 1 - floor);
        enc_log_close(log);
        file_faults_free(once);
    }
}

static void any_call_that_fails_once_costs_nothing(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EROFS, ENOMEM};
    for (unsigned op = 0; op < FILE_OPS; op++)
        for (size_t i = 0; i < CMQ_COUNT_OF(errors); i++)
            try_every((enum file_op)op, errors[i], 1);
}

static void any_call_that_fails_for_a_while_costs_nothing(void **state)
{
    (void)state;
    for (unsigned op = 0; op < FILE_OPS; op++)
        try_every((enum file_op)op, op % 2 == 0 ? EIO : ENOSPC, 3);
}

/* ---- a full disk ---- */

static void a_full_disk_is_told_and_service_goes_on_when_there_is_space(void **state)
{
    (void)state;
    enum cmq_err err;
    struct enc_log *log = log_dir_writer(&dir);
    file_faults_space(faults, 3 * LOG_DIR_SEGMENT + 1000);
    const uint64_t first = log_dir_append(&dir, log, 400, GROUP, &err);
    assert_int_equal(err, CMQ_ERR_FULL);
    assert_in_range(first, 20, 100);
    const uint32_t digest = file_faults_digest(faults);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(log_dir_append(&dir, log, 1, 1, &err), 0);
        assert_int_equal(err, CMQ_ERR_FULL);
        assert_int_equal(file_faults_digest(faults), digest); /* it leaves nothing behind */
    }
    all_is_there(first + 1); /* readers go on */
    file_faults_space(faults, UINT64_MAX);
    append_all(log, 50);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_OK);
    all_is_there(first + 51);
    enc_log_close(log);
}

static void a_write_that_finds_the_disk_full_leaves_whole_records_only(void **state)
{
    (void)state;
    enum cmq_err err;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 3);
    file_faults_write_max(faults, 1000); /* some short writes, then none */
    file_faults_fail(faults, FILE_PWRITEV, 2, 1, ENOSPC);
    const uint64_t next = 4 + log_dir_append(&dir, log, 6, 6, &err);
    assert_int_equal(err, CMQ_ERR_FULL);
    assert_int_equal(enc_log_next_seq(log), next);
    assert_in_range(next, 4, 9);
    all_is_there(next);
    file_faults_write_max(faults, 0);
    append_all(log, 10);
    all_is_there(next + 10);
    enc_log_close(log);
    log = log_dir_writer(&dir);
    assert_int_equal(enc_log_next_seq(log), next + 10);
    enc_log_close(log);
}

/* ---- the others ---- */

static void short_writes_are_continued(void **state)
{
    (void)state;
    for (size_t most = 1; most < 40000; most = most * 5 + 2) {
        struct file_faults *slow = file_faults_new();
        log_dir_faulty(&dir, file_faults_ops(slow));
        struct enc_log *log = log_dir_writer(&dir);
        append_all(log, 1); /* a head page is written whole, or not at all */
        file_faults_write_max(slow, most);
        append_all(log, 8);
        file_faults_write_max(slow, 0);
        append_all(log, 20);
        all_is_there(30);
        enc_log_close(log);
        file_faults_free(slow);
    }
}

static void a_group_is_one_write(void **state)
{
    (void)state;
    struct enc_log_record records[1000];
    size_t written;
    dir.setup.segment_bytes = 1 << 20;
    struct enc_log *log = log_dir_writer(&dir);
    for (size_t i = 0; i < CMQ_COUNT_OF(records); i++)
        records[i] = (struct enc_log_record){
            .seq = 1 + i, .payload = cmq_span_make("payload", 7), .messages = 1, .type = CMQ_JOURNAL_BATCH};
    assert_int_equal(enc_log_append(log, records, 1, 1, &written, NULL), CMQ_OK);
    uint64_t before = file_faults_count(faults, FILE_PWRITEV);
    assert_int_equal(enc_log_append(log, records + 1, 128, 1, &written, NULL), CMQ_OK);
    assert_int_equal(file_faults_count(faults, FILE_PWRITEV) - before, 1);
    before = file_faults_count(faults, FILE_PWRITEV);
    assert_int_equal(enc_log_append(log, records + 129, 871, 1, &written, NULL), CMQ_OK);
    assert_int_equal(file_faults_count(faults, FILE_PWRITEV) - before, 3); /* 1024 parts a call */
    assert_int_equal(written, 871);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_OK);
    const uint64_t synced = file_faults_count(faults, FILE_FDATASYNC);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_OK); /* nothing new: nothing to do */
    assert_int_equal(file_faults_count(faults, FILE_FDATASYNC), synced);
    enc_log_close(log);
}

static void a_failed_write_poisons_until_it_is_opened_again(void **state)
{
    (void)state;
    enum cmq_err err;
    struct cmq_reason reason;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 10);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_OK);
    file_faults_fail(faults, FILE_PWRITEV, 0, 1, EIO);
    assert_int_equal(log_dir_append(&dir, log, 3, 3, &err), 0);
    assert_int_equal(err, CMQ_ERR_SYSTEM);
    assert_int_equal(log_dir_append(&dir, log, 3, 3, &err), 0);
    assert_int_equal(err, CMQ_ERR_SYSTEM);
    assert_int_equal(enc_log_sync(log, &reason), CMQ_ERR_SYSTEM);
    assert_non_null(strstr(reason.text, "opened again"));
    enc_log_close(log);
    log = log_dir_writer(&dir);
    assert_int_equal(enc_log_next_seq(log), 11);
    append_all(log, 5);
    all_is_there(16);
    enc_log_close(log);
}

static void a_sync_that_finds_the_disk_full_poisons_too(void **state)
{
    (void)state;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 3);
    file_faults_fail(faults, FILE_FDATASYNC, 0, 1, ENOSPC);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_ERR_SYSTEM);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_ERR_SYSTEM);
    enc_log_close(log);
}

static void a_read_only_file_system_is_told(void **state)
{
    (void)state;
    enum cmq_err err;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 3);
    file_faults_fail(faults, FILE_PWRITEV, 0, UINT64_MAX, EROFS);
    file_faults_fail(faults, FILE_OPEN, 1, UINT64_MAX, EROFS);
    assert_int_equal(log_dir_append(&dir, log, 3, 3, &err), 0);
    assert_int_equal(err, CMQ_ERR_SYSTEM);
    enc_log_close(log);
    log = NULL;
    assert_int_equal(enc_log_open(&dir.setup, &log, NULL), CMQ_ERR_PERMISSION); /* the lock file */
    file_faults_revive(faults);
    all_is_there(4);
}

int main(void)
{
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LOG_TEST(any_call_that_fails_once_costs_nothing),
        LOG_TEST(any_call_that_fails_for_a_while_costs_nothing),
        LOG_TEST(a_full_disk_is_told_and_service_goes_on_when_there_is_space),
        LOG_TEST(a_write_that_finds_the_disk_full_leaves_whole_records_only),
        LOG_TEST(short_writes_are_continued),
        LOG_TEST(a_group_is_one_write),
        LOG_TEST(a_failed_write_poisons_until_it_is_opened_again),
        LOG_TEST(a_sync_that_finds_the_disk_full_poisons_too),
        LOG_TEST(a_read_only_file_system_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
