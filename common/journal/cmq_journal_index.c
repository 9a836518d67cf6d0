/* Sparse positions of a segment's records, in memory and beside the segment. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/journal/cmq_journal_format.h"

enum { MARKS_MIN = 64, MARKS_MAX = 1 << 24 };

enum cmq_err cmq_journal_marks_add(struct cmq_journal_marks *marks, uint64_t seq, uint64_t offset)
{
    if (marks->count > 0) {
        const struct cmq_journal_mark *last = &marks->at[marks->count - 1];
        if (seq <= last->seq || offset < last->offset + CMQ_JOURNAL_MARK_BYTES)
            return CMQ_OK;
    }
    if (marks->count == marks->capacity) {
        size_t capacity = marks->capacity == 0 ? MARKS_MIN : marks->capacity * 2;
        struct cmq_journal_mark *grown = realloc(marks->at, capacity * sizeof *grown);
        if (grown == NULL)
            return CMQ_ERR_NOMEM;
        marks->at = grown;
        marks->capacity = capacity;
    }
    marks->at[marks->count++] = (struct cmq_journal_mark){.seq = seq, .offset = offset};
    return CMQ_OK;
}

uint64_t cmq_journal_marks_find(const struct cmq_journal_marks *marks, uint64_t seq)
{
    size_t low = 0, high = marks->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (marks->at[middle].seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? marks->at[low - 1].offset : CMQ_JOURNAL_HEAD_BYTES;
}

void cmq_journal_marks_fini(struct cmq_journal_marks *marks)
{
    free(marks->at);
    *marks = (struct cmq_journal_marks){0};
}

static uint32_t index_crc(const struct cmq_journal_index *index, const struct cmq_journal_mark *marks)
{
    struct cmq_journal_index copy = *index;
    copy.crc = 0;
    uint32_t crc = cmq_journal_crc(0, &copy, sizeof copy);
    return cmq_journal_crc(crc, marks, index->count * sizeof *marks);
}

void cmq_journal_index_finish(struct cmq_journal_index *index, const struct cmq_journal_marks *marks)
{
    index->magic = CMQ_JOURNAL_INDEX_MAGIC;
    index->count = (uint32_t)cmq_min_u64(marks->count, MARKS_MAX);
    index->crc = index_crc(index, marks->at);
}

enum cmq_err cmq_journal_index_read(const char *directory, const struct cmq_file_ops *ops, uint64_t segment,
                                    struct cmq_journal_marks *marks, uint64_t *ret_next_seq)
{
    char path[CMQ_JOURNAL_PATH_BYTES];
    struct cmq_journal_index head;
    struct cmq_journal_mark *at = NULL;
    uint64_t bytes = 0;
    if (cmq_journal_path(path, directory, segment, ".idx") != CMQ_OK)
        return CMQ_ERR_NOT_FOUND;
    int fd = ops->open(ops->context, path, O_RDONLY, 0);
    if (fd < 0)
        return CMQ_ERR_NOT_FOUND;
    enum cmq_err err = CMQ_ERR_NOT_FOUND;
    if (ops->size(ops->context, fd, &bytes) != 0 ||
        cmq_journal_pread(ops, fd, &head, sizeof head, 0) != CMQ_OK ||
        head.magic != CMQ_JOURNAL_INDEX_MAGIC || head.segment != segment || head.count > MARKS_MAX ||
        bytes != sizeof head + (uint64_t)head.count * sizeof *at)
        goto out;
    at = malloc((head.count + 1u) * sizeof *at);
    if (at == NULL || cmq_journal_pread(ops, fd, at, head.count * sizeof *at, sizeof head) != CMQ_OK ||
        head.crc != index_crc(&head, at))
        goto out;
    err = CMQ_OK;
    *ret_next_seq = head.next_seq;
    if (marks != NULL) {
        cmq_journal_marks_fini(marks);
        *marks = (struct cmq_journal_marks){.at = at, .count = head.count, .capacity = head.count + 1u};
        at = NULL;
    }
out:
    free(at);
    (void)ops->close(ops->context, fd);
    return err;
}
