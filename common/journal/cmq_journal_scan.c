/* Walking over a segment's heads: what readers do without an index, and the writer after a death. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/journal/cmq_journal_format.h"

enum { WINDOW_BYTES = 256 * 1024, CUT_MIN = 16 };

enum cmq_err cmq_journal_walk_init(struct cmq_journal_walk *walk, const struct cmq_file_ops *ops, int fd,
                                   uint64_t segment, uint64_t offset, uint64_t seq_min)
{
    *walk = (struct cmq_journal_walk){.ops = ops,
                                      .fd = fd,
                                      .segment = segment,
                                      .offset = cmq_max_u64(offset, CMQ_JOURNAL_HEAD_BYTES),
                                      .seq_min = cmq_max_u64(seq_min, segment)};
    if (ops->size(ops->context, fd, &walk->file_bytes) != 0)
        return cmq_journal_errno(errno);
    walk->window = malloc(WINDOW_BYTES);
    if (walk->window == NULL)
        return CMQ_ERR_NOMEM;
    walk->window_capacity = WINDOW_BYTES;
    return CMQ_OK;
}

void cmq_journal_walk_fini(struct cmq_journal_walk *walk)
{
    free(walk->window);
    walk->window = NULL;
}

/* Makes the window hold so many bytes from offset on, at most its capacity. CMQ_ERR_NOT_FOUND: the file ends before. */
static enum cmq_err load_window(struct cmq_journal_walk *walk, uint64_t offset, size_t bytes)
{
    if (offset >= walk->window_offset && offset - walk->window_offset <= walk->window_bytes &&
        bytes <= walk->window_bytes - (offset - walk->window_offset))
        return CMQ_OK;
    if (offset > walk->file_bytes || bytes > walk->file_bytes - offset)
        return CMQ_ERR_NOT_FOUND;
    size_t want = (size_t)cmq_min_u64(walk->window_capacity, walk->file_bytes - offset);
    walk->window_bytes = 0;
    enum cmq_err err = cmq_journal_pread(walk->ops, walk->fd, walk->window, want, offset);
    if (err != CMQ_OK)
        return err;
    walk->window_offset = offset;
    walk->window_bytes = want;
    return CMQ_OK;
}

enum cmq_err cmq_journal_walk_next(struct cmq_journal_walk *walk, uint64_t offset_end,
                                   struct cmq_journal_record *ret_record, uint64_t *ret_offset)
{
    for (; walk->offset < offset_end; walk->offset += CMQ_JOURNAL_ALIGN_BYTES) {
        struct cmq_journal_record record;
        enum cmq_err err = load_window(walk, walk->offset, sizeof record);
        if (err != CMQ_OK)
            return err;
        const uint8_t *data = walk->window + (walk->offset - walk->window_offset);
        memcpy(&record, data, sizeof record);
        if (record.magic != CMQ_JOURNAL_RECORD_MAGIC || record.seq < walk->seq_min ||
            !cmq_journal_record_valid(&record, walk->segment))
            continue;
        *ret_record = record;
        *ret_offset = walk->offset;
        walk->offset += cmq_journal_record_bytes(record.payload_bytes);
        walk->seq_min = record.seq + 1;
        return CMQ_OK;
    }
    return CMQ_ERR_NOT_FOUND;
}

enum cmq_err cmq_journal_walk_payload(struct cmq_journal_walk *walk, const struct cmq_journal_record *record,
                                      uint64_t offset, bool *ret_good)
{
    enum cmq_err err = CMQ_OK;
    uint64_t left = record->payload_bytes;
    uint32_t crc = 0;
    offset += sizeof *record;
    while (left > 0) {
        size_t bytes = (size_t)cmq_min_u64(left, walk->window_capacity);
        err = load_window(walk, offset, bytes);
        if (err != CMQ_OK)
            break;
        crc = cmq_journal_crc(crc, walk->window + (offset - walk->window_offset), bytes);
        offset += bytes;
        left -= bytes;
    }
    *ret_good = err == CMQ_OK && crc == record->payload_crc;
    return err == CMQ_ERR_NOT_FOUND ? CMQ_OK : err; /* the file is too short: not whole */
}

/* ---- the tail ---- */

static enum cmq_err cut_add(struct cmq_journal_tail *tail, uint64_t offset)
{
    if (tail->cut_count == tail->cut_capacity) {
        size_t capacity = tail->cut_capacity == 0 ? CUT_MIN : tail->cut_capacity * 2;
        uint64_t *grown = realloc(tail->cut, capacity * sizeof *grown);
        if (grown == NULL)
            return CMQ_ERR_NOMEM;
        tail->cut = grown;
        tail->cut_capacity = capacity;
    }
    tail->cut[tail->cut_count++] = offset;
    return CMQ_OK;
}

static enum cmq_err walk_tail(struct cmq_journal_walk *walk, struct cmq_journal_tail *tail)
{
    struct cmq_journal_record record;
    uint64_t offset, whole = 0;
    bool good;
    for (;;) {
        enum cmq_err err = cmq_journal_walk_next(walk, CMQ_JOURNAL_OFFSET_MAX, &record, &offset);
        if (err == CMQ_OK)
            err = cmq_journal_walk_payload(walk, &record, offset, &good);
        if (err == CMQ_ERR_NOT_FOUND)
            break;
        if (err != CMQ_OK)
            return err;
        if (!good) {
            err = cut_add(tail, offset); /* torn, if nothing whole follows */
        } else {
            whole++;
            tail->next_seq = record.seq + 1;
            tail->offset = walk->offset;
            tail->cut_count = 0;
            err = cmq_journal_marks_add(&tail->marks, record.seq, offset);
        }
        if (err != CMQ_OK)
            return err;
    }
    tail->damaged = tail->next_seq - walk->segment - whole;
    return CMQ_OK;
}

enum cmq_err cmq_journal_find_tail(const struct cmq_file_ops *ops, int fd, uint64_t segment,
                                   struct cmq_journal_tail *ret_tail)
{
    struct cmq_journal_walk walk;
    struct cmq_journal_tail tail = {.next_seq = segment, .offset = CMQ_JOURNAL_HEAD_BYTES};
    enum cmq_err err = cmq_journal_walk_init(&walk, ops, fd, segment, CMQ_JOURNAL_HEAD_BYTES, segment);
    if (err == CMQ_OK)
        err = walk_tail(&walk, &tail);
    cmq_journal_walk_fini(&walk);
    if (err == CMQ_OK)
        *ret_tail = tail;
    else
        cmq_journal_tail_fini(&tail);
    return err;
}

void cmq_journal_tail_fini(struct cmq_journal_tail *tail)
{
    free(tail->cut);
    cmq_journal_marks_fini(&tail->marks);
    *tail = (struct cmq_journal_tail){0};
}

enum cmq_err cmq_journal_next_seq(const char *directory, const struct cmq_file_ops *ops, uint64_t none,
                                  uint64_t *ret_seq, struct cmq_reason *reason)
{
    struct cmq_journal_list list = {0};
    struct cmq_journal_tail tail = {0};
    char path[CMQ_JOURNAL_PATH_BYTES];
    uint64_t created_at_ms;
    int fd = -1;
    enum cmq_err err = cmq_journal_list_read(directory, ops, ".log", &list);
    if (err == CMQ_ERR_NOT_FOUND || (err == CMQ_OK && list.count == 0)) {
        *ret_seq = none;
        err = CMQ_OK;
        goto out;
    }
    if (err == CMQ_OK)
        err = cmq_journal_path(path, directory, list.first[list.count - 1], ".log");
    if (err != CMQ_OK) {
        err = cmq_reason_set(reason, err, "log directory %s cannot be read: %s", directory, strerror(errno));
        goto out;
    }
    fd = ops->open(ops->context, path, O_RDONLY, 0);
    if (fd < 0)
        err = cmq_reason_set(reason, cmq_journal_errno(errno), "%s cannot be opened: %s", path,
                             strerror(errno));
    if (err == CMQ_OK)
        err = cmq_journal_version_check(ops, fd, path, &created_at_ms, reason);
    if (err == CMQ_OK) {
        err = cmq_journal_find_tail(ops, fd, list.first[list.count - 1], &tail);
        if (err != CMQ_OK)
            err = cmq_reason_set(reason, err, "%s cannot be read", path);
    }
    if (err == CMQ_OK)
        *ret_seq = tail.next_seq;
out:
    cmq_journal_tail_fini(&tail);
    if (fd >= 0)
        (void)ops->close(ops->context, fd);
    cmq_journal_list_fini(&list);
    return err;
}
