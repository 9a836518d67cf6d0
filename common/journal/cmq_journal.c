/*
 * The reader. Segments are found by their names, records by a hint, the segment's index, or a walk over its heads.
 *
 * Happy path: the caller names where the record lies (the end of the last chunk), one pread brings it and what follows,
 * and every record is checked on the private copy.
 * What can be different: the record begins the next segment (a file has its number); the hint is old; the segment was
 * removed, or recycled under an open descriptor (the heads name another segment: asked again, then below the floor); the
 * record is damaged (looked for behind it, and told).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/journal/cmq_journal_format.h"

enum { OPEN_MAX = 16, REFRESH_MS = 100, READ_MIN = 4096, ENTRIES_MIN = 64 };

/* An open segment, and what is known of where its records lie. */
struct segment {
    uint64_t first; /* 0 and fd -1: free */
    int fd;
    uint64_t used; /* for the choice of the one to close */
    struct cmq_journal_marks marks;
};

struct cmq_journal_reader {
    const struct cmq_file_ops *ops;
    char *directory;
    struct cmq_journal_list list;
    uint64_t listed_ns;
    uint64_t uses;
    struct segment open[OPEN_MAX];
};

/* ---- segments ---- */

static enum cmq_err refresh(struct cmq_journal_reader *reader)
{
    reader->listed_ns = cmq_clock_mono_ns();
    enum cmq_err err = cmq_journal_list_read(reader->directory, reader->ops, ".log", &reader->list);
    return err == CMQ_ERR_NOT_FOUND ? CMQ_OK : err; /* removed: nothing is there */
}

/* Index in the list of the segment that would hold seq; count: none. */
static size_t find_segment(const struct cmq_journal_list *list, uint64_t seq)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->first[middle] <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : list->count;
}

static void close_segment(struct cmq_journal_reader *reader, struct segment *segment)
{
    if (segment->fd >= 0)
        (void)reader->ops->close(reader->ops->context, segment->fd);
    cmq_journal_marks_fini(&segment->marks);
    *segment = (struct segment){.fd = -1};
}

/* CMQ_ERR_NOT_FOUND: no such file (any more). */
static enum cmq_err open_segment(struct cmq_journal_reader *reader, uint64_t first,
                                 struct segment **ret_segment)
{
    char path[CMQ_JOURNAL_PATH_BYTES];
    struct segment *oldest = &reader->open[0];
    uint64_t created_at_ms, next_seq;
    for (size_t i = 0; i < OPEN_MAX; i++) {
        struct segment *segment = &reader->open[i];
        if (segment->fd >= 0 && segment->first == first) {
            segment->used = ++reader->uses;
            *ret_segment = segment;
            return CMQ_OK;
        }
        if (segment->used < oldest->used)
            oldest = segment;
    }
    enum cmq_err err = cmq_journal_path(path, reader->directory, first, ".log");
    if (err != CMQ_OK)
        return err;
    int fd = reader->ops->open(reader->ops->context, path, O_RDONLY, 0);
    if (fd < 0)
        return cmq_journal_errno(errno);
    close_segment(reader, oldest);
    *oldest = (struct segment){.first = first, .fd = fd, .used = ++reader->uses};
    err = cmq_journal_version_check(reader->ops, fd, path, &created_at_ms, NULL);
    if (err != CMQ_OK) {
        close_segment(reader, oldest);
        return err;
    }
    /* A wrong mark does no harm: what lies there is checked. */
    if (cmq_journal_index_read(reader->directory, reader->ops, first, &oldest->marks, &next_seq) != CMQ_OK)
        oldest->marks = (struct cmq_journal_marks){0};
    *ret_segment = oldest;
    return CMQ_OK;
}

/* Forgets an open segment whose name may be gone or mean another file by now. */
static void forget_segment(struct cmq_journal_reader *reader, uint64_t first)
{
    for (size_t i = 0; i < OPEN_MAX; i++)
        if (reader->open[i].fd >= 0 && reader->open[i].first == first)
            close_segment(reader, &reader->open[i]);
}

enum cmq_err cmq_journal_reader_open(const char *directory, const struct cmq_file_ops *ops,
                                     struct cmq_journal_reader **ret_reader, struct cmq_reason *reason)
{
    struct cmq_journal_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return CMQ_ERR_NOMEM;
    reader->ops = ops;
    reader->directory = strdup(directory);
    for (size_t i = 0; i < OPEN_MAX; i++)
        reader->open[i].fd = -1;
    enum cmq_err err = reader->directory == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
    if (err == CMQ_OK) {
        err = cmq_journal_list_read(directory, ops, ".log", &reader->list);
        if (err == CMQ_ERR_NOT_FOUND)
            err = cmq_reason_set(reason, CMQ_ERR_AGAIN, "log directory %s is not there yet", directory);
        else if (err != CMQ_OK)
            err = cmq_reason_set(reason, err, "log directory %s cannot be read: %s", directory,
                                 strerror(errno));
    }
    if (err != CMQ_OK) {
        cmq_journal_reader_close(reader);
        return err;
    }
    *ret_reader = reader;
    return CMQ_OK;
}

void cmq_journal_reader_close(struct cmq_journal_reader *reader)
{
    if (reader == NULL)
        return;
    for (size_t i = 0; i < OPEN_MAX; i++)
        close_segment(reader, &reader->open[i]);
    cmq_journal_list_fini(&reader->list);
    free(reader->directory);
    free(reader);
}

uint64_t cmq_journal_floor(struct cmq_journal_reader *reader, uint64_t end_seq)
{
    /* An old list may be empty although the first record is there: then its floor would be the end. */
    if ((reader->list.count == 0 && end_seq > 0) ||
        cmq_clock_mono_ns() - reader->listed_ns > REFRESH_MS * CMQ_NS_PER_MS)
        (void)refresh(reader); /* the old list is as good as can be had */
    return reader->list.count > 0 ? cmq_min_u64(reader->list.first[0], end_seq) : end_seq;
}

/* ---- finding a record ---- */

/* Walks from the nearest mark to record seq. CMQ_ERR_CORRUPT: it has no readable head; *ret_seq = the next that has one,
 * or the first behind this segment. */
static enum cmq_err walk_to(struct cmq_journal_reader *reader, struct segment *segment, uint64_t seq,
                            uint64_t behind_seq, uint64_t *ret_offset, uint64_t *ret_seq)
{
    struct cmq_journal_walk walk;
    struct cmq_journal_record record;
    uint64_t offset = cmq_journal_marks_find(&segment->marks, seq), found;
    enum cmq_err err =
        cmq_journal_walk_init(&walk, reader->ops, segment->fd, segment->first, offset, segment->first);
    while (err == CMQ_OK) {
        err = cmq_journal_walk_next(&walk, CMQ_JOURNAL_OFFSET_MAX, &record, &found);
        if (err != CMQ_OK)
            break;
        err = cmq_journal_marks_add(&segment->marks, record.seq, found);
        if (err != CMQ_OK || record.seq < seq)
            continue;
        *ret_offset = found;
        *ret_seq = record.seq;
        err = record.seq == seq ? CMQ_OK : CMQ_ERR_CORRUPT;
        break;
    }
    cmq_journal_walk_fini(&walk);
    if (err != CMQ_ERR_NOT_FOUND)
        return err;
    *ret_seq = behind_seq;
    return CMQ_ERR_CORRUPT;
}

/* One try with the list as it is. CMQ_ERR_AGAIN: the segment is gone, the list is old. */
static enum cmq_err locate_once(struct cmq_journal_reader *reader, uint64_t seq, uint64_t end_seq,
                                struct cmq_journal_pos *ret_pos, uint64_t *ret_seq)
{
    struct segment *segment;
    size_t index = find_segment(&reader->list, seq);
    if (index == reader->list.count) {
        *ret_seq = index > 0 ? cmq_min_u64(reader->list.first[0], end_seq) : end_seq;
        return CMQ_ERR_NOT_FOUND;
    }
    const uint64_t first = reader->list.first[index];
    const uint64_t behind =
        index + 1 < reader->list.count ? cmq_min_u64(reader->list.first[index + 1], end_seq) : end_seq;
    enum cmq_err err = open_segment(reader, first, &segment);
    if (err == CMQ_ERR_NOT_FOUND)
        return CMQ_ERR_AGAIN;
    if (err != CMQ_OK)
        return err;
    *ret_pos = (struct cmq_journal_pos){.segment = first};
    err = walk_to(reader, segment, seq, behind, &ret_pos->offset, ret_seq);
    if (err == CMQ_ERR_CORRUPT)
        *ret_seq = cmq_max_u64(cmq_min_u64(*ret_seq, end_seq), seq + 1);
    return err;
}

enum cmq_err cmq_journal_locate(struct cmq_journal_reader *reader, uint64_t seq, uint64_t end_seq,
                                struct cmq_journal_pos *ret_pos, uint64_t *ret_seq)
{
    if (seq >= end_seq)
        return CMQ_ERR_AGAIN;
    enum cmq_err err = locate_once(reader, seq, end_seq, ret_pos, ret_seq);
    if (err == CMQ_OK)
        return err;
    /* The list may be old: a new segment, or one that was removed, perhaps recycled under an open descriptor. */
    size_t index = find_segment(&reader->list, seq);
    if (index < reader->list.count)
        forget_segment(reader, reader->list.first[index]);
    enum cmq_err listed = refresh(reader);
    if (listed != CMQ_OK)
        return listed;
    err = locate_once(reader, seq, end_seq, ret_pos, ret_seq);
    return err == CMQ_ERR_AGAIN ? CMQ_ERR_SYSTEM
                                : err; /* listed a moment ago, and gone: the caller asks again */
}

/* ---- reading ---- */

static enum cmq_err reserve(struct cmq_journal_chunk *chunk, size_t bytes)
{
    if (bytes <= chunk->capacity)
        return CMQ_OK;
    uint8_t *grown = realloc(chunk->data, bytes);
    if (grown == NULL)
        return CMQ_ERR_NOMEM;
    chunk->data = grown;
    chunk->capacity = bytes;
    return CMQ_OK;
}

/* Makes the chunk have `bytes` bytes: at least `need` of them, unless the file ends. */
static enum cmq_err fill(const struct cmq_journal_reader *reader, int fd, uint64_t offset, size_t bytes,
                         size_t need, struct cmq_journal_chunk *chunk)
{
    enum cmq_err err = reserve(chunk, bytes);
    while (err == CMQ_OK && chunk->bytes < need) {
        ssize_t got = reader->ops->pread(reader->ops->context, fd, chunk->data + chunk->bytes,
                                         bytes - chunk->bytes, (off_t)(offset + chunk->bytes));
        if (got < 0)
            err = cmq_journal_errno(errno);
        if (got <= 0)
            break;
        chunk->bytes += (size_t)got;
    }
    return err;
}

static enum cmq_err add_entry(struct cmq_journal_chunk *chunk, const struct cmq_journal_record *record,
                              size_t at, struct cmq_journal_pos pos)
{
    if (chunk->count == chunk->entry_capacity) {
        uint32_t capacity = chunk->entry_capacity == 0 ? ENTRIES_MIN : chunk->entry_capacity * 2;
        struct cmq_journal_entry *grown = realloc(chunk->entries, capacity * sizeof *grown);
        if (grown == NULL)
            return CMQ_ERR_NOMEM;
        chunk->entries = grown;
        chunk->entry_capacity = capacity;
    }
    chunk->entries[chunk->count++] = (struct cmq_journal_entry){.seq = record->seq,
                                                                .stored_at_ms = record->stored_at_ms,
                                                                .type = (enum cmq_journal_type)record->type,
                                                                .messages = record->messages,
                                                                .flags = record->flags,
                                                                .payload_offset = at + sizeof *record,
                                                                .payload_bytes = record->payload_bytes,
                                                                .pos = pos};
    return CMQ_OK;
}

/* The head of record seq at `at` in the chunk; false: something else is there. */
static bool head_at(const struct cmq_journal_chunk *chunk, size_t at, uint64_t segment, uint64_t seq,
                    struct cmq_journal_record *ret_record)
{
    if (chunk->bytes - at < sizeof *ret_record)
        return false;
    memcpy(ret_record, chunk->data + at, sizeof *ret_record);
    return ret_record->seq == seq && cmq_journal_record_valid(ret_record, segment);
}

/* Makes entries of the records from `at` on. CMQ_ERR_CORRUPT: the first one's payload is damaged. */
static enum cmq_err parse(struct segment *segment, uint64_t offset, uint64_t seq, uint64_t end_seq,
                          struct cmq_journal_chunk *chunk)
{
    struct cmq_journal_record record;
    size_t at = 0;
    for (; seq < end_seq && at < chunk->bytes && head_at(chunk, at, segment->first, seq, &record); seq++) {
        const struct cmq_journal_pos pos = {.segment = segment->first, .offset = offset + at};
        if (record.payload_bytes > chunk->bytes - at - sizeof record)
            break;
        if (cmq_journal_crc(0, chunk->data + at + sizeof record, record.payload_bytes) != record.payload_crc)
            return chunk->count > 0 ? CMQ_OK : CMQ_ERR_CORRUPT;
        enum cmq_err err = add_entry(chunk, &record, at, pos);
        if (err == CMQ_OK)
            err = cmq_journal_marks_add(&segment->marks, seq, pos.offset);
        if (err != CMQ_OK)
            return err;
        at += (size_t)cmq_journal_record_bytes(record.payload_bytes);
        chunk->next_seq = seq + 1;
        chunk->next = (struct cmq_journal_pos){.segment = segment->first, .offset = offset + at};
    }
    return CMQ_OK;
}

/* Reads at a place. CMQ_ERR_NOT_FOUND: record seq does not begin there. */
static enum cmq_err read_at(struct cmq_journal_reader *reader, const struct cmq_journal_pos *pos,
                            uint64_t seq, uint64_t end_seq, size_t want_bytes,
                            struct cmq_journal_chunk *chunk)
{
    struct segment *segment;
    struct cmq_journal_record record;
    chunk->bytes = 0;
    chunk->count = 0;
    enum cmq_err err = open_segment(reader, pos->segment, &segment);
    if (err == CMQ_OK)
        err = fill(reader, segment->fd, pos->offset, want_bytes < READ_MIN ? READ_MIN : want_bytes,
                   sizeof record, chunk);
    if (err != CMQ_OK)
        return err;
    if (!head_at(chunk, 0, segment->first, seq, &record))
        return CMQ_ERR_NOT_FOUND;
    const size_t whole = sizeof record + (size_t)record.payload_bytes;
    if (whole > chunk->bytes) {
        uint64_t file_bytes;
        if (reader->ops->size(reader->ops->context, segment->fd, &file_bytes) != 0)
            return cmq_journal_errno(errno);
        if (pos->offset > file_bytes || whole > file_bytes - pos->offset)
            return CMQ_ERR_CORRUPT; /* the file is shorter than its record */
        err = fill(reader, segment->fd, pos->offset, whole, whole, chunk);
    }
    if (err == CMQ_OK && whole > chunk->bytes)
        return CMQ_ERR_CORRUPT; /* and was cut a moment ago */
    return err == CMQ_OK ? parse(segment, pos->offset, seq, end_seq, chunk) : err;
}

/* Where the caller says, or at the beginning of the segment that has the record's number. CMQ_ERR_NOT_FOUND: neither. */
static enum cmq_err read_hinted(struct cmq_journal_reader *reader, uint64_t seq, uint64_t end_seq,
                                const struct cmq_journal_pos *from, size_t want_bytes,
                                struct cmq_journal_chunk *chunk)
{
    if (from == NULL || from->offset < CMQ_JOURNAL_HEAD_BYTES || from->offset > CMQ_JOURNAL_OFFSET_MAX)
        return CMQ_ERR_NOT_FOUND;
    enum cmq_err err = read_at(reader, from, seq, end_seq, want_bytes, chunk);
    if (err == CMQ_ERR_NOT_FOUND && from->segment != seq) {
        const struct cmq_journal_pos first = {.segment = seq, .offset = CMQ_JOURNAL_HEAD_BYTES};
        err = read_at(reader, &first, seq, end_seq, want_bytes, chunk);
    }
    return err == CMQ_ERR_CORRUPT ? CMQ_ERR_NOT_FOUND : err; /* perhaps it lies elsewhere */
}

static enum cmq_err read_located(struct cmq_journal_reader *reader, uint64_t seq, uint64_t end_seq,
                                 size_t want_bytes, struct cmq_journal_pos *ret_pos,
                                 struct cmq_journal_chunk *chunk, uint64_t *ret_seq)
{
    enum cmq_err err = cmq_journal_locate(reader, seq, end_seq, ret_pos, ret_seq);
    if (err != CMQ_OK)
        return err;
    *ret_seq = seq + 1;
    err = read_at(reader, ret_pos, seq, end_seq, want_bytes, chunk);
    return err == CMQ_ERR_NOT_FOUND ? CMQ_ERR_CORRUPT : err; /* changed since the walk */
}

enum cmq_err cmq_journal_read(struct cmq_journal_reader *reader, uint64_t seq, uint64_t end_seq,
                              const struct cmq_journal_pos *from, size_t want_bytes,
                              struct cmq_journal_chunk *chunk, uint64_t *ret_seq)
{
    struct cmq_journal_pos pos = {0, 0};
    if (seq >= end_seq)
        return CMQ_ERR_AGAIN;
    enum cmq_err err = read_hinted(reader, seq, end_seq, from, want_bytes, chunk);
    if (err == CMQ_ERR_NOT_FOUND)
        err = read_located(reader, seq, end_seq, want_bytes, &pos, chunk, ret_seq);
    if (err != CMQ_ERR_CORRUPT || refresh(reader) != CMQ_OK)
        return err;
    /* Damaged, or the list was old: recycled under the open descriptor, or cut there and written to a new segment. */
    const size_t index = find_segment(&reader->list, seq);
    if (index == reader->list.count) {
        *ret_seq = index > 0 ? cmq_min_u64(reader->list.first[0], end_seq) : end_seq;
        return CMQ_ERR_NOT_FOUND;
    }
    if (reader->list.first[index] != pos.segment)
        err = read_located(reader, seq, end_seq, want_bytes, &pos, chunk, ret_seq);
    return err;
}

void cmq_journal_chunk_fini(struct cmq_journal_chunk *chunk)
{
    free(chunk->data);
    free(chunk->entries);
    *chunk = (struct cmq_journal_chunk){0};
}
