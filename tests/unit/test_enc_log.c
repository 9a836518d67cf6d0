#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/log_dir.h"

static struct log_dir dir;

static int set_up(void **state)
{
    (void)state;
    log_dir_open(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_dir_close(&dir);
    return 0;
}

static void append_all(struct enc_log *log, uint64_t count, uint64_t group)
{
    enum cmq_err err;
    assert_int_equal(log_dir_append(&dir, log, count, group, &err), count);
    assert_int_equal(err, CMQ_OK);
}

static void in_directory(char *ret_path, size_t bytes, const char *name)
{
    (void)snprintf(ret_path, bytes, "%s/%s", dir.path, name);
}

static bool exists(const char *name)
{
    char path[128];
    in_directory(path, sizeof path, name);
    return access(path, F_OK) == 0;
}

static size_t count_files(const char *suffix)
{
    size_t count = 0;
    DIR *entries = opendir(dir.path);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        const char *dot = strrchr(entry->d_name, '.');
        count += dot != NULL && strcmp(dot, suffix) == 0;
    }
    closedir(entries);
    return count;
}

static void what_was_appended_is_read_back_over_segments(void **state)
{
    (void)state;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 500, 64);
    assert_int_equal(enc_log_sync(log, NULL), CMQ_OK);
    assert_int_equal(enc_log_next_seq(log), 501);
    assert_int_equal(enc_log_floor(log), 1);
    assert_true(count_files(".log") > 20);
    assert_int_equal(count_files(".idx"), count_files(".log") - 1);
    for (size_t want = 1; want < 300000; want = want * 7 + 1) {
        struct log_dir_seen seen = log_dir_read(&dir, 1, 501, want, NULL);
        assert_int_equal(seen.records, 500);
    }
    enc_log_close(log);
}

static void a_log_that_is_opened_again_goes_on_behind_its_end(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < 20; run++) {
        struct enc_log *log = log_dir_writer(&dir);
        assert_int_equal(enc_log_next_seq(log), 1 + run * 17);
        assert_int_equal(enc_log_damaged(log), 0);
        append_all(log, 17, 5);
        enc_log_close(log);
        uint64_t next;
        assert_int_equal(cmq_journal_next_seq(dir.path, cmq_file_system(), 1, &next, NULL), CMQ_OK);
        assert_int_equal(next, 1 + (run + 1) * 17);
    }
    assert_int_equal(log_dir_read(&dir, 1, 341, 4096, NULL).records, 340);
}

static void only_one_writer_has_the_log(void **state)
{
    (void)state;
    struct enc_log *log = log_dir_writer(&dir), *second = NULL;
    struct cmq_reason reason;
    assert_int_equal(enc_log_open(&dir.setup, &second, &reason), CMQ_ERR_AGAIN);
    assert_non_null(strstr(reason.text, "held by another"));
    enc_log_close(log);
    enc_log_close(log_dir_writer(&dir));
}

static void a_missing_directory_is_made_but_not_the_one_above_it(void **state)
{
    (void)state;
    char path[128];
    struct enc_log *log = NULL;
    struct stat info;
    struct enc_log_setup setup = dir.setup;
    setup.directory = path;
    in_directory(path, sizeof path, "a/b");
    assert_int_equal(enc_log_open(&setup, &log, NULL), CMQ_ERR_SYSTEM);
    in_directory(path, sizeof path, "a");
    assert_int_equal(enc_log_open(&setup, &log, NULL), CMQ_OK);
    enc_log_close(log);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777u, 0750);
    in_directory(path, sizeof path, "a/lock");
    assert_int_equal(unlink(path), 0);
    in_directory(path, sizeof path, "a");
    assert_int_equal(rmdir(path), 0);
}

static void segments_beyond_the_limit_are_recycled_and_their_records_never_come_back(void **state)
{
    (void)state;
    enum { LIMIT = 5 * LOG_DIR_SEGMENT };
    dir.setup.retention_bytes = LIMIT;
    struct enc_log *log = log_dir_writer(&dir);
    for (uint64_t run = 0; run < 30; run++) {
        append_all(log, 20, 7);
        assert_true(enc_log_bytes(log) <= LIMIT + LOG_DIR_SEGMENT);
        const uint64_t floor = enc_log_floor(log), end = enc_log_next_seq(log);
        struct log_dir_seen seen = log_dir_read(&dir, 1, end, 8000, NULL);
        assert_int_equal(seen.records, end - floor);
        assert_int_equal(seen.lost, floor - 1);
        enc_log_close(log); /* what lies behind the end is old records: they must not count */
        log = log_dir_writer(&dir);
        assert_int_equal(enc_log_next_seq(log), end);
        assert_int_equal(enc_log_damaged(log), 0);
    }
    assert_true(enc_log_floor(log) > 400);
    enc_log_close(log);
}

static void reject_new_refuses_before_it_writes_and_goes_on_when_age_made_room(void **state)
{
    (void)state;
    enum cmq_err err;
    dir.setup.retention = ENC_LOG_REJECT_NEW;
    dir.setup.retention_bytes = 4 * LOG_DIR_SEGMENT;
    dir.setup.retention_ms = 1000;
    struct enc_log *log = log_dir_writer(&dir);
    const uint64_t done = log_dir_append(&dir, log, 500, 10, &err);
    assert_int_equal(err, CMQ_ERR_FULL);
    assert_in_range(done, 40, 200);
    assert_int_equal(log_dir_append(&dir, log, 1, 1, &err), 0);
    assert_int_equal(enc_log_next_seq(log), 1 + done);
    assert_int_equal(enc_log_retain(log, LOG_DIR_NOW_MS, NULL), CMQ_OK);
    assert_int_equal(enc_log_floor(log), 1);
    assert_int_equal(log_dir_read(&dir, 1, 1 + done, 4096, NULL).records, done);
    assert_int_equal(enc_log_retain(log, LOG_DIR_NOW_MS + 100000, NULL), CMQ_OK);
    assert_true(enc_log_floor(log) > 1);
    assert_true(log_dir_append(&dir, log, 20, 10, &err) > 0);
    enc_log_close(log);
}

static void age_takes_whole_segments_but_never_the_newest(void **state)
{
    (void)state;
    dir.setup.retention_ms = 50;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 200, 10); /* one a millisecond */
    assert_int_equal(enc_log_retain(log, LOG_DIR_NOW_MS + 200, NULL), CMQ_OK);
    assert_in_range(enc_log_floor(log), 120, 152);
    enc_log_close(log);
    log = log_dir_writer(&dir); /* ages are read back */
    assert_int_equal(enc_log_retain(log, LOG_DIR_NOW_MS + 220, NULL), CMQ_OK);
    assert_in_range(enc_log_floor(log), 145, 172);
    assert_int_equal(enc_log_retain(log, LOG_DIR_NOW_MS + 100000, NULL), CMQ_OK);
    assert_int_equal(count_files(".log"), 1);
    assert_int_equal(count_files(".idx"), 0);
    const uint64_t floor = enc_log_floor(log);
    assert_int_equal(log_dir_read(&dir, floor, 201, 4096, NULL).records, 201 - floor);
    enc_log_close(log);
}

static void a_spare_of_another_size_is_removed(void **state)
{
    (void)state;
    dir.setup.retention_bytes = 3 * LOG_DIR_SEGMENT;
    dir.setup.retention_ms = 1;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 60, 10);
    assert_int_equal(enc_log_retain(log, LOG_DIR_NOW_MS + 100000, NULL), CMQ_OK);
    enc_log_close(log);
    assert_true(exists("spare.tmp"));
    enc_log_close(log_dir_writer(&dir));
    assert_true(exists("spare.tmp"));
    dir.setup.segment_bytes *= 2;
    enc_log_close(log_dir_writer(&dir));
    assert_false(exists("spare.tmp"));
}

static void flip_in(const char *name, off_t offset, uint8_t bits)
{
    char path[128];
    uint8_t byte;
    in_directory(path, sizeof path, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* So that it does not come back when something shorter takes its place. */
static void the_head_of_what_is_cut_is_zeroed(void **state)
{
    (void)state;
    char path[128];
    struct cmq_journal_pos pos;
    struct cmq_journal_record heads[2], zero = {0};
    uint64_t told;
    struct cmq_journal_reader *reader = NULL;
    in_directory(path, sizeof path, "0000000000000001.log");
    for (int short_file = 0; short_file < 2; short_file++) {
        struct enc_log *log = log_dir_writer(&dir);
        append_all(log, 5 - enc_log_next_seq(log), 3);
        enc_log_close(log);
        assert_int_equal(cmq_journal_reader_open(dir.path, cmq_file_system(), &reader, NULL), CMQ_OK);
        assert_int_equal(cmq_journal_locate(reader, 4, 5, &pos, &told), CMQ_OK);
        cmq_journal_reader_close(reader);
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &heads[0], sizeof heads[0], (off_t)pos.offset), sizeof heads[0]);
        if (short_file) /* its size was lost */
            assert_int_equal(ftruncate(fd, (off_t)(pos.offset + sizeof heads[0])), 0);
        else
            flip_in("0000000000000001.log", (off_t)(pos.offset + sizeof heads[0]), 1);
        log = log_dir_writer(&dir);
        assert_int_equal(enc_log_next_seq(log), 4);
        enc_log_close(log);
        assert_int_equal(pread(fd, &heads[1], sizeof heads[1], (off_t)pos.offset), sizeof heads[1]);
        assert_int_equal(heads[0].seq, 4);
        assert_memory_equal(&heads[1], &zero, sizeof zero);
        close(fd);
    }
}

static void a_future_version_is_refused_and_not_touched(void **state)
{
    (void)state;
    struct enc_log *log = log_dir_writer(&dir);
    struct cmq_journal_reader *reader = NULL;
    struct cmq_journal_chunk chunk = {0};
    struct cmq_reason reason;
    uint64_t told, next;
    char path[128];
    append_all(log, 5, 5);
    enc_log_close(log);
    in_directory(path, sizeof path, "0000000000000001.log");
    struct cmq_journal_segment head = {.version = 2, .first_seq = 1};
    cmq_journal_segment_finish(&head);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, &head, sizeof head, 0), sizeof head);
    close(fd);
    assert_int_equal(enc_log_open(&dir.setup, &log, &reason), CMQ_ERR_VERSION);
    assert_non_null(strstr(reason.text, "version 2"));
    assert_int_equal(cmq_journal_next_seq(dir.path, cmq_file_system(), 1, &next, &reason), CMQ_ERR_VERSION);
    assert_int_equal(cmq_journal_reader_open(dir.path, cmq_file_system(), &reader, NULL), CMQ_OK);
    assert_int_equal(cmq_journal_read(reader, 1, 6, NULL, 4096, &chunk, &told), CMQ_ERR_VERSION);
    cmq_journal_reader_close(reader);
    cmq_journal_chunk_fini(&chunk);
    struct cmq_journal_segment after;
    fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &after, sizeof after, 0), sizeof after);
    close(fd);
    assert_memory_equal(&after, &head, sizeof head);
}

static void a_segment_that_somebody_removed_is_missed_unless_accepted(void **state)
{
    (void)state;
    struct enc_log *log = log_dir_writer(&dir);
    struct cmq_reason reason;
    char name[32], path[128];
    append_all(log, 100, 10);
    const uint64_t last = 101;
    struct cmq_journal_list list = {0};
    enc_log_close(log);
    assert_int_equal(cmq_journal_list_read(dir.path, cmq_file_system(), ".log", &list), CMQ_OK);
    const uint64_t gone = list.first[2], behind = list.first[3];
    cmq_journal_list_fini(&list);
    (void)snprintf(name, sizeof name, "%016llx.log", (unsigned long long)gone);
    in_directory(path, sizeof path, name);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(enc_log_open(&dir.setup, &log, &reason), CMQ_ERR_CORRUPT);
    assert_non_null(strstr(reason.text, name));
    struct log_dir_seen seen = log_dir_read(&dir, 1, last, 4096, NULL);
    assert_int_equal(seen.lost_from, gone);
    assert_int_equal(seen.lost_to, behind);
    assert_int_equal(seen.records, 100 - (behind - gone));
    in_directory(path, sizeof path, "accept-missing");
    close(open(path, O_CREAT | O_WRONLY, 0600));
    enc_log_close(log_dir_writer(&dir));
    assert_false(exists("accept-missing"));
    log = log_dir_writer(&dir);
    assert_int_equal(enc_log_next_seq(log), last);
    enc_log_close(log);
}

static void the_newest_segment_too_is_missed(void **state)
{
    (void)state;
    struct enc_log *log = log_dir_writer(&dir);
    struct cmq_journal_list list = {0};
    char name[32], path[128];
    append_all(log, 60, 10);
    enc_log_close(log);
    assert_int_equal(cmq_journal_list_read(dir.path, cmq_file_system(), ".log", &list), CMQ_OK);
    (void)snprintf(name, sizeof name, "%016llx.log", (unsigned long long)list.first[list.count - 1]);
    cmq_journal_list_fini(&list);
    in_directory(path, sizeof path, name);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(enc_log_open(&dir.setup, &log, NULL), CMQ_ERR_CORRUPT);
}

static void a_damaged_index_costs_nothing(void **state)
{
    (void)state;
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, 60, 10);
    enc_log_close(log);
    for (off_t offset = 0; offset < 48; offset++) {
        flip_in("0000000000000001.idx", offset, 0x10);
        assert_int_equal(log_dir_read(&dir, 1, 61, 3000, NULL).records, 60);
        enc_log_close(log_dir_writer(&dir));
        flip_in("0000000000000001.idx", offset, 0x10);
    }
}

int main(void)
{
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LOG_TEST(what_was_appended_is_read_back_over_segments),
        LOG_TEST(a_log_that_is_opened_again_goes_on_behind_its_end),
        LOG_TEST(only_one_writer_has_the_log),
        LOG_TEST(a_missing_directory_is_made_but_not_the_one_above_it),
        LOG_TEST(segments_beyond_the_limit_are_recycled_and_their_records_never_come_back),
        LOG_TEST(reject_new_refuses_before_it_writes_and_goes_on_when_age_made_room),
        LOG_TEST(age_takes_whole_segments_but_never_the_newest),
        LOG_TEST(a_spare_of_another_size_is_removed),
        LOG_TEST(the_head_of_what_is_cut_is_zeroed),
        LOG_TEST(a_future_version_is_refused_and_not_touched),
        LOG_TEST(a_segment_that_somebody_removed_is_missed_unless_accepted),
        LOG_TEST(the_newest_segment_too_is_missed),
        LOG_TEST(a_damaged_index_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
