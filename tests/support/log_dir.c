#include "tests/support/log_dir.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

void log_dir_open(struct log_dir *dir)
{
    *dir = (struct log_dir){.path = "/dev/shm/cmq-log-test-XXXXXX"};
    assert_non_null(mkdtemp(dir->path));
    dir->setup = (struct enc_log_setup){.directory = dir->path,
                                        .ops = cmq_file_system(),
                                        .first_seq = 1,
                                        .segment_bytes = LOG_DIR_SEGMENT,
                                        .retention_bytes = 1ull << 40,
                                        .retention = ENC_LOG_DISCARD_OLD};
}

void log_dir_faulty(struct log_dir *dir, const struct cmq_file_ops *ops)
{
    *dir = (struct log_dir){.path = "/log"};
    dir->setup = (struct enc_log_setup){.directory = "/log",
                                        .ops = ops,
                                        .first_seq = 1,
                                        .segment_bytes = LOG_DIR_SEGMENT,
                                        .retention_bytes = 1ull << 40,
                                        .retention = ENC_LOG_DISCARD_OLD};
}

void log_dir_close(struct log_dir *dir)
{
    char path[512];
    DIR *entries = opendir(dir->path);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        (void)snprintf(path, sizeof path, "%s/%s", dir->path, entry->d_name);
        (void)unlink(path);
    }
    closedir(entries);
    assert_int_equal(rmdir(dir->path), 0);
}

size_t log_dir_payload(uint64_t seq, uint32_t salt, uint8_t *ret_payload)
{
    uint64_t state = seq * 0x9e3779b97f4a7c15ull ^ salt * 0xd6e8feb86659fd93ull;
    size_t bytes = (size_t)((state >> 20) % 1500);
    if (seq % 16 == 0)
        return 0;
    if (seq % 100 == 37)
        bytes += 20000; /* a segment of its own */
    for (size_t i = 0; i < bytes; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        ret_payload[i] = (uint8_t)(state >> 56);
    }
    return bytes;
}

static uint32_t salt_of(const struct log_dir *dir, uint64_t seq)
{
    return dir->salts == NULL ? 0 : dir->salts[seq];
}

uint64_t log_dir_append(const struct log_dir *dir, struct enc_log *log, uint64_t count, uint64_t group,
                        enum cmq_err *ret_err)
{
    enum { GROUP_MAX = 64 };
    static uint8_t payloads[GROUP_MAX][LOG_DIR_PAYLOAD_MAX];
    struct enc_log_record records[GROUP_MAX];
    uint64_t done = 0;
    enum cmq_err err = CMQ_OK;
    assert_in_range(group, 1, GROUP_MAX);
    while (err == CMQ_OK && done < count) {
        size_t now = (size_t)cmq_min_u64(group, count - done), written = 0;
        for (size_t i = 0; i < now; i++) {
            const uint64_t seq = enc_log_next_seq(log) + i;
            const size_t bytes = log_dir_payload(seq, salt_of(dir, seq), payloads[i]);
            records[i] = (struct enc_log_record){.seq = seq,
                                                 .payload = cmq_span_make(payloads[i], bytes),
                                                 .messages = (uint32_t)seq,
                                                 .type = seq % 16 == 0 ? CMQ_JOURNAL_VOID : CMQ_JOURNAL_BATCH,
                                                 .flags = (uint16_t)(seq & 1)};
        }
        err = enc_log_append(log, records, now, LOG_DIR_NOW_MS + enc_log_next_seq(log), &written, NULL);
        assert_true(err != CMQ_OK || written == now);
        done += written;
    }
    *ret_err = err;
    return done;
}

struct enc_log *log_dir_writer(const struct log_dir *dir)
{
    struct enc_log *log = NULL;
    struct cmq_reason reason = {.text = ""};
    enum cmq_err err = enc_log_open(&dir->setup, &log, &reason);
    if (err != CMQ_OK)
        print_error("enc_log_open: %s: %s\n", cmq_err_text(err), reason.text);
    assert_int_equal(err, CMQ_OK);
    return log;
}

static void check_entry(const struct log_dir *dir, const struct cmq_journal_chunk *chunk,
                        const struct cmq_journal_entry *entry, uint64_t seq)
{
    static uint8_t expected[LOG_DIR_PAYLOAD_MAX];
    const size_t bytes = log_dir_payload(seq, salt_of(dir, seq), expected);
    assert_int_equal(entry->seq, seq);
    assert_int_equal(entry->payload_bytes, bytes);
    assert_int_equal(entry->messages, (uint32_t)seq);
    assert_int_equal(entry->flags, seq & 1);
    assert_int_equal(entry->type, seq % 16 == 0 ? CMQ_JOURNAL_VOID : CMQ_JOURNAL_BATCH);
    assert_memory_equal(chunk->data + entry->payload_offset, expected, bytes);
}

struct log_dir_seen log_dir_read(const struct log_dir *dir, uint64_t from, uint64_t end, size_t want_bytes,
                                 uint8_t *ret_lost)
{
    struct cmq_journal_reader *reader = NULL;
    struct cmq_journal_chunk chunk = {0};
    struct log_dir_seen seen = {0};
    struct cmq_journal_pos next = {0, 0};
    assert_int_equal(cmq_journal_reader_open(dir->setup.directory, dir->setup.ops, &reader, NULL), CMQ_OK);
    for (uint64_t seq = from; seq < end;) {
        uint64_t told = 0;
        enum cmq_err err = cmq_journal_read(reader, seq, end, &next, want_bytes, &chunk, &told);
        if (err == CMQ_OK) {
            assert_true(chunk.count > 0);
            assert_true(chunk.next_seq <= end);
            for (uint32_t i = 0; i < chunk.count; i++)
                check_entry(dir, &chunk, &chunk.entries[i], seq + i);
            assert_int_equal(chunk.next_seq, seq + chunk.count);
            seen.records += chunk.count;
            seq = chunk.next_seq;
            next = chunk.next;
        } else {
            assert_true(err == CMQ_ERR_CORRUPT || err == CMQ_ERR_NOT_FOUND);
            assert_in_range(told, seq + 1, end);
            if (seen.lost == 0)
                seen.lost_from = seq;
            seen.lost += told - seq;
            if (ret_lost != NULL)
                memset(ret_lost + seq, 1, (size_t)(told - seq));
            seen.lost_to = seq = told;
        }
    }
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
    return seen;
}
