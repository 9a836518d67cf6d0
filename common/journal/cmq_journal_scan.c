/* Walking over a segment's heads: what readers do without an index, and the writer after a death. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/journal/cmq_journal_format.h"

enum { WINDOW_BYTES = 256 * 1024, CHECK_BYTES = 256 * 1024, HEADS_MIN = 256 };

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

/* Makes the window hold the head at walk->offset. CMQ_ERR_NOT_FOUND: the file ends before. */
static enum cmq_err load_window(struct cmq_journal_walk *walk)
{
    const uint64_t end = walk->offset + sizeof(struct cmq_journal_record);
    if (walk->offset >= walk->window_offset && end <= walk->window_offset + walk->window_bytes)
        return CMQ_OK;
    if (end > walk->file_bytes)
        return CMQ_ERR_NOT_FOUND;
    size_t want = (size_t)cmq_min_u64(walk->window_capacity, walk->file_bytes - walk->offset);
    walk->window_bytes = 0;
    enum cmq_err err = cmq_journal_pread(walk->ops, walk->fd, walk->window, want, walk->offset);
    if (err != CMQ_OK)
        return err;
    walk->window_offset = walk->offset;
    walk->window_bytes = want;
    return CMQ_OK;
}

enum cmq_err cmq_journal_walk_next(struct cmq_journal_walk *walk, uint64_t offset_end,
                                   struct cmq_journal_record *ret_record, uint64_t *ret_offset)
{
    for (; walk->offset < offset_end; walk->offset += CMQ_JOURNAL_ALIGN_BYTES) {
        struct cmq_journal_record record;
        enum cmq_err err = load_window(walk);
        if (err != CMQ_OK)
            return err;
        const uint8_t *data = walk->window + (walk->offset - walk->window_offset);
        memcpy(&record, data, sizeof record);
        if (record.magic != CMQ_JOURNAL_RECORD_MAGIC || record.seq < walk->seq_min ||
            !cmq_journal_record_valid(&record, walk->segment, walk->file_bytes - walk->offset))
            continue;
        *ret_record = record;
        *ret_offset = walk->offset;
        walk->offset += cmq_journal_record_bytes(record.payload_bytes);
        walk->seq_min = record.seq + 1;
        return CMQ_OK;
    }
    return CMQ_ERR_NOT_FOUND;
}

enum cmq_err cmq_journal_payload_check(const struct cmq_file_ops *ops, int fd,
                                       const struct cmq_journal_record *record, uint64_t offset,
                                       bool *ret_good)
{
    uint8_t *part = malloc(CHECK_BYTES);
    enum cmq_err err = part == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
    uint64_t left = record->payload_bytes;
    uint32_t crc = 0;
    offset += sizeof *record;
    while (err == CMQ_OK && left > 0) {
        size_t bytes = (size_t)cmq_min_u64(left, CHECK_BYTES);
        err = cmq_journal_pread(ops, fd, part, bytes, offset);
        if (err == CMQ_OK)
            crc = cmq_journal_crc(crc, part, bytes);
        offset += bytes;
        left -= bytes;
    }
    free(part);
    *ret_good = err == CMQ_OK && crc == record->payload_crc;
    return err == CMQ_ERR_NOT_FOUND ? CMQ_OK : err; /* the file is too short: not whole */
}

/* ---- the tail ---- */

struct heads {
    struct {
        struct cmq_journal_record record;
        uint64_t offset;
    } * at;
    size_t count, capacity;
};

static enum cmq_err heads_add(struct heads *heads, const struct cmq_journal_record *record, uint64_t offset)
{
    if (heads->count == heads->capacity) {
        size_t capacity = heads->capacity == 0 ? HEADS_MIN : heads->capacity * 2;
        void *grown = realloc(heads->at, capacity * sizeof *heads->at);
        if (grown == NULL)
            return CMQ_ERR_NOMEM;
        heads->at = grown;
        heads->capacity = capacity;
    }
    heads->at[heads->count].record = *record;
    heads->at[heads->count].offset = offset;
    heads->count++;
    return CMQ_OK;
}

static enum cmq_err read_heads(const struct cmq_file_ops *ops, int fd, uint64_t segment, struct heads *heads)
{
    struct cmq_journal_walk walk;
    struct cmq_journal_record record;
    uint64_t offset;
    enum cmq_err err = cmq_journal_walk_init(&walk, ops, fd, segment, CMQ_JOURNAL_HEAD_BYTES, segment);
    while (err == CMQ_OK) {
        err = cmq_journal_walk_next(&walk, UINT64_MAX, &record, &offset);
        if (err == CMQ_OK)
            err = heads_add(heads, &record, offset);
    }
    cmq_journal_walk_fini(&walk);
    return err == CMQ_ERR_NOT_FOUND ? CMQ_OK : err;
}

static enum cmq_err set_tail(const struct heads *heads, size_t whole, uint64_t segment,
                             struct cmq_journal_tail *ret_tail)
{
    struct cmq_journal_tail tail = {.next_seq = segment, .offset = CMQ_JOURNAL_HEAD_BYTES};
    if (whole > 0) {
        const struct cmq_journal_record *last = &heads->at[whole - 1].record;
        tail.next_seq = last->seq + 1;
        tail.offset = heads->at[whole - 1].offset + cmq_journal_record_bytes(last->payload_bytes);
        tail.damaged = tail.next_seq - segment - whole;
    }
    if (heads->count > whole) {
        tail.cut = malloc((heads->count - whole) * sizeof *tail.cut);
        if (tail.cut == NULL)
            return CMQ_ERR_NOMEM;
        for (size_t i = whole; i < heads->count; i++)
            tail.cut[tail.cut_count++] = heads->at[i].offset;
    }
    *ret_tail = tail;
    return CMQ_OK;
}

enum cmq_err cmq_journal_find_tail(const struct cmq_file_ops *ops, int fd, uint64_t segment,
                                   struct cmq_journal_tail *ret_tail)
{
    struct heads heads = {0};
    bool good = false;
    enum cmq_err err = read_heads(ops, fd, segment, &heads);
    size_t whole = heads.count;
    while (err == CMQ_OK && whole > 0) {
        err = cmq_journal_payload_check(ops, fd, &heads.at[whole - 1].record, heads.at[whole - 1].offset,
                                        &good);
        if (err != CMQ_OK || good)
            break;
        whole--;
    }
    if (err == CMQ_OK)
        err = set_tail(&heads, whole, segment, ret_tail);
    free(heads.at);
    return err;
}

enum cmq_err cmq_journal_next_seq(const char *directory, const struct cmq_file_ops *ops, uint64_t none,
                                  uint64_t *ret_seq, struct cmq_reason *reason)
{
    struct cmq_journal_list list = {0};
    struct cmq_journal_tail tail = {0};
    char path[CMQ_JOURNAL_PATH_BYTES];
    uint64_t created_at_ms;
    int fd = -1;
    enum cmq_err err = cmq_journal_list_read(directory, ops, &list);
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
    free(tail.cut);
    if (fd >= 0)
        (void)ops->close(ops->context, fd);
    cmq_journal_list_fini(&list);
    return err;
}
