/*
 * bench-journal: the log on this disk: append and sync in groups, reading back, recovery. No verdict: it prints what it
 * measures.
 * Usage: bench-journal [DIRECTORY, default . [MEBIBYTES a row, 16..4096, default 512]]
 * Works in a directory of its own below DIRECTORY, which is removed again.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "encryptor/log/enc_log.h"

enum {
    PAYLOAD_BYTES_MAX = 1 << 20,
    GROUP_MAX = 1024,
    PATH_BYTES = 512,
    SEGMENT_BYTES = 64 << 20,
    WANT_BYTES = 1 << 20
};

struct bench {
    char path[PATH_BYTES];
    uint8_t *payload;
    struct enc_log_record records[GROUP_MAX];
    uint64_t bytes; /* a row */
};

static void remove_directory(const char *path)
{
    char name[PATH_BYTES + 300];
    DIR *entries = opendir(path);
    for (const struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        (void)unlink(name); /* . and .. are directories: they stay */
    }
    if (entries != NULL)
        closedir(entries);
    (void)rmdir(path);
}

static enum cmq_err open_log(const struct bench *bench, uint64_t retention_bytes, struct enc_log **ret_log)
{
    struct cmq_reason reason = {.text = ""};
    const struct enc_log_setup setup = {.directory = bench->path,
                                        .ops = cmq_file_system(),
                                        .first_seq = 1,
                                        .segment_bytes = SEGMENT_BYTES,
                                        .retention_bytes = retention_bytes};
    enum cmq_err err = enc_log_open(&setup, ret_log, &reason);
    if (err != CMQ_OK)
        fprintf(stderr, "bench-journal: %s: %s\n", cmq_err_text(err), reason.text);
    return err;
}

/* Appends so many bytes of records; returns seconds, or a negative number. */
static double append(struct bench *bench, struct enc_log *log, size_t record_bytes, size_t group, bool sync)
{
    const uint64_t begin_ns = cmq_clock_mono_ns();
    for (uint64_t done = 0; done < bench->bytes; done += record_bytes * group) {
        size_t written;
        for (size_t i = 0; i < group; i++)
            bench->records[i] =
                (struct enc_log_record){.seq = enc_log_next_seq(log) + i,
                                        .payload = cmq_span_make(bench->payload, record_bytes),
                                        .messages = 1,
                                        .type = CMQ_JOURNAL_BATCH};
        if (enc_log_append(log, bench->records, group, 1, &written, NULL) != CMQ_OK ||
            (sync && enc_log_sync(log, NULL) != CMQ_OK))
            return -1;
    }
    return (double)(cmq_clock_mono_ns() - begin_ns) / (double)CMQ_NS_PER_S;
}

static double read_back(const struct bench *bench, uint64_t from, uint64_t end, uint64_t *ret_bytes)
{
    struct cmq_journal_reader *reader = NULL;
    struct cmq_journal_chunk chunk = {0};
    struct cmq_journal_pos next = {0, 0};
    uint64_t told, bytes = 0;
    if (cmq_journal_reader_open(bench->path, cmq_file_system(), &reader, NULL) != CMQ_OK)
        return -1;
    const uint64_t begin_ns = cmq_clock_mono_ns();
    for (uint64_t seq = from; seq < end; seq = chunk.next_seq, next = chunk.next) {
        if (cmq_journal_read(reader, seq, end, &next, WANT_BYTES, &chunk, &told) != CMQ_OK)
            break;
        for (uint32_t i = 0; i < chunk.count; i++)
            bytes += chunk.entries[i].payload_bytes;
    }
    const uint64_t end_ns = cmq_clock_mono_ns();
    const bool whole = chunk.next_seq == end;
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
    *ret_bytes = bytes;
    return whole ? (double)(end_ns - begin_ns) / (double)CMQ_NS_PER_S : -1;
}

/* New segments, then the same again in recycled ones, then reading back and opening again. */
static bool print_row(struct bench *bench, size_t record_bytes, size_t group)
{
    const double mb = (double)bench->bytes / 1e6;
    struct enc_log *log = NULL;
    uint64_t bytes = 0;
    bool good = false;
    if (open_log(bench, bench->bytes, &log) != CMQ_OK)
        return false;
    double fresh_s = append(bench, log, record_bytes, group, true);
    double recycled_s = append(bench, log, record_bytes, group, true);
    double unsynced_s = append(bench, log, record_bytes, group, false);
    double read_s = read_back(bench, enc_log_floor(log), enc_log_next_seq(log), &bytes);
    const uint64_t next = enc_log_next_seq(log);
    enc_log_close(log);
    const uint64_t begin_ns = cmq_clock_mono_ns();
    if (fresh_s > 0 && recycled_s > 0 && unsynced_s > 0 && read_s > 0 &&
        open_log(bench, bench->bytes, &log) == CMQ_OK) {
        const double open_ms = (double)(cmq_clock_mono_ns() - begin_ns) / (double)CMQ_NS_PER_MS;
        good = enc_log_next_seq(log) == next;
        enc_log_close(log);
        printf("%9zu %6zu %12.0f %14.0f %14.0f %10.0f %9.1f\n", record_bytes, group, mb / fresh_s,
               mb / recycled_s, mb / unsynced_s, (double)bytes / 1e6 / read_s, open_ms);
    }
    remove_directory(bench->path);
    return good;
}

int main(int argc, char **argv)
{
    static const struct {
        size_t record_bytes, group;
    } rows[] = {{65536, 1}, {65536, 16}, {65536, 128}, {4096, 64}, {512, 256}, {PAYLOAD_BYTES_MAX, 8}};
    static struct bench bench;
    char *end = NULL;
    const char *directory = argc > 1 ? argv[1] : ".";
    unsigned long mebibytes = argc > 2 ? strtoul(argv[2], &end, 10) : 512;
    if (argc > 3 || (end != NULL && *end != '\0') || mebibytes < 16 || mebibytes > 4096) {
        fprintf(stderr, "usage: bench-journal [DIRECTORY [MEBIBYTES a row, 16..4096]]\n");
        return 64;
    }
    bench.bytes = (uint64_t)mebibytes << 20;
    bench.payload = malloc(PAYLOAD_BYTES_MAX);
    if (bench.payload == NULL)
        return 70;
    for (size_t i = 0; i < PAYLOAD_BYTES_MAX; i++)
        bench.payload[i] = (uint8_t)(i * 2654435761u >> 13);
    (void)snprintf(bench.path, sizeof bench.path, "%s/bench-journal.%ld", directory, (long)getpid());
    printf("MB/s; opening again in ms\n%9s %6s %12s %14s %14s %10s %9s\n", "bytes", "group", "synced, new",
           "synced, reused", "not synced", "read", "open ms");
    bool good = true;
    for (size_t i = 0; i < CMQ_COUNT_OF(rows) && good; i++)
        good = print_row(&bench, rows[i].record_bytes, rows[i].group);
    remove_directory(bench.path);
    free(bench.payload);
    return good ? 0 : 70;
}
