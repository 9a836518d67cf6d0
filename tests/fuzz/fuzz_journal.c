/*
 * Fuzz target: the bytes of two segments and an index. First byte: bit 0 = make the checksums of heads right, bit 1 = those of
 * payloads too, as somebody would who can write the files; bit 2 = the input begins with the segment's head; bit 3 = its last
 * part is an index. Second byte: where the second segment begins, and its number.
 * Readers must end, stay inside, and return what has the right checksum; a writer must find an end and go on behind it.
 */
#include <fcntl.h>
#include <string.h>

#include "common/journal/cmq_journal_format.h"
#include "encryptor/log/enc_log.h"
#include "tests/support/file_faults.h"

enum { CHECKSUMS = 1, PAYLOADS = 2, HEAD = 4, INDEX = 8, END_SEQ = 40, FILE_BYTES = 12288, STEPS_MAX = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void put_file(struct file_faults *faults, const char *name, const uint8_t *data, size_t bytes)
{
    const struct cmq_file_ops *ops = file_faults_ops(faults);
    char path[64];
    const struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    (void)snprintf(path, sizeof path, "%s/%s", FILE_FAULTS_DIRECTORY, name);
    int fd = ops->open(ops->context, path, O_RDWR | O_CREAT, 0600);
    cmq_assert(fd >= 0 && ops->pwritev(ops->context, fd, &part, 1, 0) == (ssize_t)bytes);
    (void)ops->close(ops->context, fd);
}

static void make_right(uint8_t *file, size_t bytes, uint8_t flags)
{
    struct cmq_journal_record record;
    for (size_t at = CMQ_JOURNAL_HEAD_BYTES; (flags & CHECKSUMS) != 0 && at + sizeof record <= bytes;
         at += CMQ_JOURNAL_ALIGN_BYTES) {
        memcpy(&record, file + at, sizeof record);
        if (record.magic != CMQ_JOURNAL_RECORD_MAGIC)
            continue;
        if ((flags & PAYLOADS) != 0 && record.payload_bytes <= bytes - at - sizeof record)
            record.payload_crc = cmq_journal_crc(0, file + at + sizeof record, record.payload_bytes);
        cmq_journal_record_finish(&record);
        memcpy(file + at, &record, sizeof record);
    }
}

static void put_segment(struct file_faults *faults, uint64_t first_seq, struct cmq_span input, uint8_t flags)
{
    uint8_t file[FILE_BYTES] = {0};
    char name[CMQ_JOURNAL_NAME_BYTES + 8];
    struct cmq_journal_segment head = {
        .version = CMQ_JOURNAL_VERSION, .first_seq = first_seq, .segment_bytes = sizeof file};
    const size_t from = (flags & HEAD) != 0 ? 0 : CMQ_JOURNAL_HEAD_BYTES;
    const size_t count = cmq_min_u64(input.bytes, sizeof file - from);
    cmq_journal_segment_finish(&head);
    memcpy(file, &head, sizeof head);
    if (count > 0)
        memcpy(file + from, input.data, count);
    make_right(file, sizeof file, flags);
    (void)snprintf(name, sizeof name, "%016llx.log", (unsigned long long)first_seq);
    put_file(faults, name, file, sizeof file);
}

static void put_index(struct file_faults *faults, struct cmq_span input)
{
    struct cmq_journal_marks marks = {0};
    struct cmq_journal_index head = {.segment = 1};
    uint8_t file[sizeof head + 4096];
    marks.count = cmq_min_u64(input.bytes, sizeof file - sizeof head) / sizeof *marks.at;
    marks.at = malloc((marks.count + 1) * sizeof *marks.at);
    cmq_assert(marks.at != NULL);
    memcpy(marks.at, input.data, marks.count * sizeof *marks.at);
    head.next_seq = marks.count > 0 ? marks.at[0].seq : 0;
    cmq_journal_index_finish(&head, &marks);
    memcpy(file, &head, sizeof head);
    memcpy(file + sizeof head, marks.at, marks.count * sizeof *marks.at);
    put_file(faults, "0000000000000001.idx", file, sizeof head + marks.count * sizeof *marks.at);
    cmq_journal_marks_fini(&marks);
}

static void check_chunk(const struct cmq_journal_chunk *chunk, uint64_t seq)
{
    cmq_assert(chunk->count > 0 && chunk->next_seq == seq + chunk->count && chunk->next_seq <= END_SEQ);
    for (uint32_t i = 0; i < chunk->count; i++) {
        const struct cmq_journal_entry *entry = &chunk->entries[i];
        struct cmq_journal_record record;
        cmq_assert(entry->seq == seq + i && entry->payload_offset >= sizeof record);
        cmq_assert(entry->payload_bytes <= chunk->bytes - entry->payload_offset);
        memcpy(&record, chunk->data + entry->payload_offset - sizeof record, sizeof record);
        cmq_assert(record.seq == entry->seq);
        cmq_assert(cmq_journal_crc(0, chunk->data + entry->payload_offset, entry->payload_bytes) ==
                   record.payload_crc);
    }
}

static void read_all(const struct cmq_file_ops *ops, size_t want_bytes)
{
    struct cmq_journal_reader *reader = NULL;
    struct cmq_journal_chunk chunk = {0};
    struct cmq_journal_pos next = {0, 0}, found;
    unsigned steps = 0;
    cmq_assert(cmq_journal_reader_open(FILE_FAULTS_DIRECTORY, ops, &reader, NULL) == CMQ_OK);
    for (uint64_t seq = 0; seq < END_SEQ;) {
        uint64_t told = 0;
        cmq_assert(steps++ < STEPS_MAX);
        enum cmq_err err = cmq_journal_read(reader, seq, END_SEQ, &next, want_bytes, &chunk, &told);
        if (err == CMQ_OK) {
            check_chunk(&chunk, seq);
            /* Two segments may claim the same record: the hint finds the one, its number the other. */
            err = cmq_journal_locate(reader, seq, END_SEQ, &found, &told);
            cmq_assert(err == CMQ_OK || told > seq);
            seq = chunk.next_seq;
            next = chunk.next;
        } else if (err == CMQ_ERR_VERSION) {
            break;
        } else {
            cmq_assert(err == CMQ_ERR_CORRUPT || err == CMQ_ERR_NOT_FOUND);
            cmq_assert(told > seq && told <= END_SEQ);
            seq = told;
        }
    }
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
}

static void write_on(const struct cmq_file_ops *ops)
{
    struct enc_log *log = NULL;
    size_t written;
    uint64_t next = 0;
    const struct enc_log_setup setup = {.directory = FILE_FAULTS_DIRECTORY,
                                        .ops = ops,
                                        .first_seq = 1,
                                        .segment_bytes = FILE_BYTES,
                                        .retention_bytes = 1 << 20};
    if (enc_log_open(&setup, &log, NULL) != CMQ_OK)
        return;
    const uint64_t seq = enc_log_next_seq(log);
    const struct enc_log_record record = {
        .seq = seq, .payload = cmq_span_make("payload", 7), .messages = 1, .type = CMQ_JOURNAL_BATCH};
    if (seq < UINT64_MAX - 1) {
        cmq_assert(enc_log_append(log, &record, 1, 1, &written, NULL) == CMQ_OK);
        cmq_assert(cmq_journal_next_seq(FILE_FAULTS_DIRECTORY, ops, 1, &next, NULL) == CMQ_OK);
        cmq_assert(next == seq + 1);
    }
    enc_log_close(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 2)
        return 0;
    const uint8_t flags = data[0], second = data[1];
    struct file_faults *faults = file_faults_new();
    size_t left = bytes - 2;
    data += 2;
    if ((flags & INDEX) != 0 && left >= 64) {
        put_index(faults, cmq_span_make(data + left - 64, 64));
        left -= 64;
    }
    const size_t split = left * (second & 15u) / 16;
    put_segment(faults, 1, cmq_span_make(data, left - split), flags);
    if ((second & 15u) != 0)
        put_segment(faults, 2 + (second >> 4), cmq_span_make(data + left - split, split), flags);
    read_all(file_faults_ops(faults), 1);
    read_all(file_faults_ops(faults), 100000);
    write_on(file_faults_ops(faults));
    file_faults_free(faults);
    return 0;
}
