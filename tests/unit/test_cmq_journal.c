#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/file_faults.h"
#include "tests/support/log_dir.h"

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
    assert_int_equal(log_dir_append(&dir, log, count, 7, &err), count);
    assert_int_equal(err, CMQ_OK);
}

static void write_log(uint64_t count)
{
    struct enc_log *log = log_dir_writer(&dir);
    append_all(log, count);
    enc_log_close(log);
}

static struct cmq_journal_reader *open_reader(void)
{
    struct cmq_journal_reader *reader = NULL;
    assert_int_equal(cmq_journal_reader_open(dir.setup.directory, dir.setup.ops, &reader, NULL), CMQ_OK);
    return reader;
}

/* ---- bytes ---- */

static void the_checksum_is_crc32c(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(cmq_journal_crc(0, bytes, sizeof bytes), 0x8a9136aau); /* RFC 3720, B.4 */
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(cmq_journal_crc(0, bytes, sizeof bytes), 0x62a8ab43u);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(cmq_journal_crc(0, bytes, sizeof bytes), 0x46dd794eu);
    assert_int_equal(cmq_journal_crc(cmq_journal_crc(0, bytes, 5), bytes + 5, 27), 0x46dd794eu);
}

static void only_names_that_we_write_are_segments(void **state)
{
    (void)state;
    uint64_t seq = 0;
    assert_true(cmq_journal_name_parse("00000000000000ff.log", ".log", &seq));
    assert_int_equal(seq, 255);
    static const char *const others[] = {
        "00000000000000FF.log", "ff.log", "00000000000000ff.idx", "new.tmp", "00000000000000ff.log.bak",
        "0x000000000000ff.log", ""};
    for (size_t i = 0; i < CMQ_COUNT_OF(others); i++)
        assert_false(cmq_journal_name_parse(others[i], ".log", &seq));
}

/* A golden segment: what a build before this one wrote must be read by this one. */
static void the_bytes_of_a_record_are_as_they_always_were(void **state)
{
    (void)state;
    static const uint8_t head[64] = {0x43, 0x4d, 0x51, 0x4c, 0x09, 0x51, 0x3f, 0xf9, 1, 0, 0, 0,
                                     0,    0,    0,    0,    1,    0,    0,    0,    0, 0, 0, 0,
                                     0x41, 0x42, 0x0f, 0,    0,    0,    0,    0,    3, 0, 0, 0,
                                     0xb7, 0x3f, 0x4b, 0x36, 2,    0,    0,    0,    1, 0, 1, 0};
    struct enc_log *log = log_dir_writer(&dir);
    size_t written, bytes;
    const struct enc_log_record record = {.seq = 1,
                                          .payload = cmq_span_make("abc", 3),
                                          .messages = 2,
                                          .type = CMQ_JOURNAL_BATCH,
                                          .flags = CMQ_JOURNAL_HAS_IDS};
    assert_int_equal(enc_log_append(log, &record, 1, 1000001, &written, NULL), CMQ_OK);
    const uint8_t *data = file_faults_bytes(faults, "0000000000000001.log", &bytes);
    assert_memory_equal(data + CMQ_JOURNAL_HEAD_BYTES, head, sizeof head);
    assert_memory_equal(data + CMQ_JOURNAL_HEAD_BYTES + 64, "abc", 4);
    assert_memory_equal(data,
                        "\x01"
                        "CMQ-LOG\x01\0\0\0",
                        12);
    enc_log_close(log);
}

/* ---- damage ---- */

/* What one flipped byte costs readers, and the next writer. */
static void check_flip(struct file_faults *whole, const char *name, size_t at, uint64_t end)
{
    size_t bytes;
    struct file_faults *flipped = file_faults_clone(whole);
    struct log_dir there;
    log_dir_faulty(&there, file_faults_ops(flipped));
    file_faults_bytes(flipped, name, &bytes)[at] ^= (uint8_t)(1u << at % 8);
    struct log_dir_seen seen = log_dir_read(&there, 1, end, 3000, NULL);
    assert_true(seen.lost <= 1);
    assert_int_equal(seen.records + seen.lost, end - 1);
    struct enc_log *log = log_dir_writer(&there);
    const uint64_t next = enc_log_next_seq(log);
    assert_in_range(next, end - 1, end); /* the last record of all looks like a torn one */
    assert_true(enc_log_damaged(log) <= 1);
    append_all(log, 3);
    enc_log_close(log);
    seen = log_dir_read(&there, 1, next + 3, 3000, NULL);
    assert_true(seen.lost <= 1);
    assert_int_equal(seen.records + seen.lost, next + 2);
    file_faults_free(flipped);
}

static void a_flipped_byte_costs_at_most_its_record_and_never_what_follows(void **state)
{
    (void)state;
    enum { RECORDS = 23 }; /* over two segments */
    char name[64];
    size_t bytes, flips = 0;
    write_log(RECORDS);
    for (size_t i = 0; file_faults_name(faults, ".log", i, name); i++) {
        assert_non_null(file_faults_bytes(faults, name, &bytes));
        for (size_t at = 0; at < bytes; at++, flips++)
            check_flip(faults, name, at, RECORDS + 1);
    }
    assert_int_equal(flips, 2 * LOG_DIR_SEGMENT);
    for (size_t i = 0; file_faults_name(faults, ".idx", i, name); i++) {
        assert_non_null(file_faults_bytes(faults, name, &bytes));
        for (size_t at = 0; at < bytes; at++)
            check_flip(faults, name, at, RECORDS + 1);
    }
}

static void blocks_that_are_zeroed_or_misplaced_are_noticed(void **state)
{
    (void)state;
    enum { BLOCK = 4096, RECORDS = 60 };
    char name[64];
    size_t bytes;
    write_log(RECORDS);
    for (size_t i = 0; file_faults_name(faults, ".log", i, name); i++) {
        (void)file_faults_bytes(faults, name, &bytes);
        for (size_t at = 0; at + BLOCK <= bytes; at += BLOCK)
            for (int kind = 0, zeroed = 0; kind < 3; kind++) {
                struct file_faults *hurt = file_faults_clone(faults);
                struct log_dir there;
                log_dir_faulty(&there, file_faults_ops(hurt));
                uint8_t *data = file_faults_bytes(hurt, name, &bytes);
                char other[64];
                size_t other_bytes;
                if (kind == 2 && file_faults_name(hurt, ".log", i + 1, other))
                    memcpy(data + at, file_faults_bytes(hurt, other, &other_bytes) + BLOCK, BLOCK);
                else if (kind == 1)
                    memcpy(data + at, data + (at + 2 * BLOCK) % (bytes - BLOCK + 1), BLOCK);
                else
                    memset(data + at, 0, BLOCK);
                struct log_dir_seen seen = log_dir_read(&there, 1, RECORDS + 1, 5000, NULL);
                assert_int_equal(seen.records + seen.lost, RECORDS);
                if (kind == 0)
                    zeroed = (int)seen.lost;
                /* From another segment: the block, and nothing else. From this one: what lies between, too. */
                assert_true(seen.lost <= (kind == 1 ? 30 : (uint64_t)zeroed));
                file_faults_free(hurt);
            }
    }
}

/* ---- reading while things change ---- */

static void nothing_at_or_behind_the_end_is_returned(void **state)
{
    (void)state;
    struct cmq_journal_chunk chunk = {0};
    uint64_t told = 0;
    write_log(60);
    struct cmq_journal_reader *reader = open_reader();
    assert_int_equal(cmq_journal_read(reader, 5, 5, NULL, 4096, &chunk, &told), CMQ_ERR_AGAIN);
    for (uint64_t end = 2; end < 62; end++) {
        assert_int_equal(cmq_journal_read(reader, 1, end, NULL, 1 << 20, &chunk, &told), CMQ_OK);
        assert_true(chunk.count <= end - 1);
        assert_true(chunk.next_seq <= end);
        assert_int_equal(log_dir_read(&dir, 1, end, 1 << 20, NULL).records, end - 1);
    }
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
}

static void a_chunk_is_one_read_of_about_what_was_wanted(void **state)
{
    (void)state;
    struct cmq_journal_chunk chunk = {0};
    uint64_t told = 0;
    write_log(36);
    struct cmq_journal_reader *reader = open_reader();
    assert_int_equal(cmq_journal_read(reader, 1, 37, NULL, 8192, &chunk, &told), CMQ_OK);
    const struct cmq_journal_pos next = chunk.next;
    const uint64_t seq = chunk.next_seq, before = file_faults_count(faults, FILE_PREAD);
    assert_in_range(chunk.bytes, 4096, 8192);
    assert_int_equal(cmq_journal_read(reader, seq, 37, &next, 8192, &chunk, &told), CMQ_OK);
    assert_int_equal(file_faults_count(faults, FILE_PREAD) - before, 1);
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
}

static void a_reader_follows_a_writer_over_segments(void **state)
{
    (void)state;
    struct cmq_journal_reader *reader = open_reader();
    struct cmq_journal_chunk chunk = {0};
    struct cmq_journal_pos next = {0, 0};
    uint64_t seq = 1, told = 0;
    struct enc_log *log = log_dir_writer(&dir);
    assert_int_equal(cmq_journal_floor(reader, 1), 1);
    while (seq < 300) {
        append_all(log, 1 + seq % 5);
        while (seq < enc_log_next_seq(log)) {
            assert_int_equal(cmq_journal_read(reader, seq, enc_log_next_seq(log), &next, 9000, &chunk, &told),
                             CMQ_OK);
            assert_int_equal(chunk.entries[0].seq, seq);
            seq = chunk.next_seq;
            next = chunk.next;
        }
    }
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
    enc_log_close(log);
}

static void a_position_from_long_ago_or_nowhere_is_only_a_hint(void **state)
{
    (void)state;
    struct cmq_journal_chunk chunk = {0};
    uint64_t told = 0;
    write_log(60);
    struct cmq_journal_reader *reader = open_reader();
    const struct cmq_journal_pos hints[] = {{1, 0},           {1, 4096},  {1, 4097},      {1, 1ull << 40},
                                            {1, UINT64_MAX},  {99, 4096}, {0, 64},        {40, 4096},
                                            {UINT64_MAX, 64}, {1, 16384}, {1, 1ull << 63}};
    for (size_t i = 0; i < CMQ_COUNT_OF(hints); i++) {
        assert_int_equal(cmq_journal_read(reader, 40, 61, &hints[i], 4096, &chunk, &told), CMQ_OK);
        assert_int_equal(chunk.entries[0].seq, 40);
    }
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
}

/* Retention takes and recycles what a reader has open and has hints for. */
static void what_retention_took_is_not_found_and_never_wrong(void **state)
{
    (void)state;
    enum { SEQS = 400 };
    struct cmq_journal_pos hints[SEQS];
    struct cmq_journal_chunk chunk = {0};
    uint64_t told = 0;
    dir.setup.retention_bytes = 4 * LOG_DIR_SEGMENT;
    struct enc_log *log = log_dir_writer(&dir);
    struct cmq_journal_reader *reader = open_reader();
    append_all(log, 60);
    const uint64_t old_end = enc_log_next_seq(log), old_floor = enc_log_floor(log);
    for (uint64_t seq = old_floor; seq < old_end; seq++)
        assert_int_equal(cmq_journal_locate(reader, seq, old_end, &hints[seq], &told), CMQ_OK);
    for (unsigned round = 0; round < 20; round++) {
        append_all(log, 10);
        const uint64_t floor = enc_log_floor(log), end = enc_log_next_seq(log);
        for (uint64_t seq = old_floor; seq < old_end; seq++) {
            enum cmq_err err = cmq_journal_read(reader, seq, end, &hints[seq], 4096, &chunk, &told);
            if (err == CMQ_OK) { /* perhaps from an open file that has no name any more */
                uint8_t expected[LOG_DIR_PAYLOAD_MAX];
                const struct cmq_journal_entry *entry = &chunk.entries[0];
                assert_int_equal(entry->seq, seq);
                assert_int_equal(entry->payload_bytes, log_dir_payload(seq, 0, expected));
                assert_memory_equal(chunk.data + entry->payload_offset, expected, entry->payload_bytes);
            } else {
                assert_int_equal(err, CMQ_ERR_NOT_FOUND);
                assert_true(seq < floor);
                assert_int_equal(told, floor);
            }
        }
    }
    assert_true(enc_log_floor(log) > old_end);
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
    enc_log_close(log);
}

static void what_a_new_ring_begins_with(void **state)
{
    (void)state;
    uint64_t next = 0;
    assert_int_equal(cmq_journal_next_seq("/nowhere/at/all", cmq_file_system(), 7, &next, NULL), CMQ_OK);
    assert_int_equal(next, 7);
    assert_int_equal(cmq_journal_next_seq("/log", dir.setup.ops, 9, &next, NULL), CMQ_OK);
    assert_int_equal(next, 9);
    for (uint64_t end = 2; end < 60; end++) {
        write_log(1);
        assert_int_equal(cmq_journal_next_seq("/log", dir.setup.ops, 9, &next, NULL), CMQ_OK);
        assert_int_equal(next, end);
    }
    assert_int_equal(cmq_journal_reader_open("/nowhere/at/all", cmq_file_system(),
                                             &(struct cmq_journal_reader *){NULL}, NULL),
                     CMQ_ERR_AGAIN);
}

int main(void)
{
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LOG_TEST(the_checksum_is_crc32c),
        LOG_TEST(only_names_that_we_write_are_segments),
        LOG_TEST(the_bytes_of_a_record_are_as_they_always_were),
        LOG_TEST(a_flipped_byte_costs_at_most_its_record_and_never_what_follows),
        LOG_TEST(blocks_that_are_zeroed_or_misplaced_are_noticed),
        LOG_TEST(nothing_at_or_behind_the_end_is_returned),
        LOG_TEST(a_chunk_is_one_read_of_about_what_was_wanted),
        LOG_TEST(a_reader_follows_a_writer_over_segments),
        LOG_TEST(a_position_from_long_ago_or_nowhere_is_only_a_hint),
        LOG_TEST(what_retention_took_is_not_found_and_never_wrong),
        LOG_TEST(what_a_new_ring_begins_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
