#include "common/journal/cmq_journal_format.h"

#include <errno.h>
#include <isa-l.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_DIGITS = 16, LIST_MIN = 16 };

uint32_t cmq_journal_crc(uint32_t crc, const void *data, size_t bytes)
{
    /* The library takes an int and does not invert. */
    const uint8_t *next = data;
    crc = ~crc;
    while (bytes > 0) {
        int part = bytes > INT_MAX ? INT_MAX : (int)bytes;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)next, part, crc);
        next += part;
        bytes -= (size_t)part;
    }
    return ~crc;
}

static uint32_t record_crc(const struct cmq_journal_record *record)
{
    const size_t skip = offsetof(struct cmq_journal_record, seq);
    return cmq_journal_crc(0, (const uint8_t *)record + skip, sizeof *record - skip);
}

void cmq_journal_record_finish(struct cmq_journal_record *record)
{
    record->magic = CMQ_JOURNAL_RECORD_MAGIC;
    record->head_crc = record_crc(record);
}

static uint32_t segment_crc(const struct cmq_journal_segment *segment)
{
    /* The version too: a flipped bit in it must not look like the future. */
    struct cmq_journal_segment copy = *segment;
    copy.head_crc = 0;
    return cmq_journal_crc(0, &copy, sizeof copy);
}

void cmq_journal_segment_finish(struct cmq_journal_segment *segment)
{
    segment->magic = CMQ_JOURNAL_SEGMENT_MAGIC;
    segment->head_crc = segment_crc(segment);
}

bool cmq_journal_record_valid(const struct cmq_journal_record *record, uint64_t segment)
{
    return record->magic == CMQ_JOURNAL_RECORD_MAGIC && record->segment == segment &&
           record->seq >= segment && record->seq < UINT64_MAX && /* so that there is a next one */
           record->head_crc == record_crc(record) &&
           (record->type == CMQ_JOURNAL_BATCH || record->type == CMQ_JOURNAL_VOID);
}

enum cmq_err cmq_journal_path(char ret_path[CMQ_JOURNAL_PATH_BYTES], const char *directory,
                              uint64_t first_seq, const char *suffix)
{
    int bytes = snprintf(ret_path, CMQ_JOURNAL_PATH_BYTES, "%s/%016llx%s", directory,
                         (unsigned long long)first_seq, suffix);
    return bytes > 0 && (unsigned)bytes < CMQ_JOURNAL_PATH_BYTES ? CMQ_OK : CMQ_ERR_INVALID;
}

bool cmq_journal_name_parse(const char *name, const char *suffix, uint64_t *ret_first_seq)
{
    uint64_t first = 0;
    if (strlen(name) != NAME_DIGITS + strlen(suffix) || strcmp(name + NAME_DIGITS, suffix) != 0)
        return false;
    for (size_t i = 0; i < NAME_DIGITS; i++) {
        const char *digit = strchr("0123456789abcdef", name[i]);
        if (digit == NULL)
            return false;
        first = first << 4 | (uint64_t)(digit - "0123456789abcdef");
    }
    *ret_first_seq = first;
    return true;
}

struct listing {
    const char *suffix;
    struct cmq_journal_list *list;
    enum cmq_err err;
};

static int add_name(void *arg, const char *name)
{
    struct listing *listing = arg;
    struct cmq_journal_list *list = listing->list;
    uint64_t first;
    if (!cmq_journal_name_parse(name, listing->suffix, &first))
        return 1;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? LIST_MIN : list->capacity * 2;
        uint64_t *grown = realloc(list->first, capacity * sizeof *grown);
        if (grown == NULL) {
            listing->err = CMQ_ERR_NOMEM;
            return 0;
        }
        list->first = grown;
        list->capacity = capacity;
    }
    list->first[list->count++] = first;
    return 1;
}

static int compare(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

enum cmq_err cmq_journal_list_read(const char *directory, const struct cmq_file_ops *ops, const char *suffix,
                                   struct cmq_journal_list *list)
{
    struct listing listing = {.suffix = suffix, .list = list, .err = CMQ_OK};
    list->count = 0;
    if (ops->list(ops->context, directory, add_name, &listing) != 0)
        return cmq_journal_errno(errno);
    if (list->count > 1)
        qsort(list->first, list->count, sizeof *list->first, compare);
    return listing.err;
}

void cmq_journal_list_fini(struct cmq_journal_list *list)
{
    free(list->first);
    *list = (struct cmq_journal_list){0};
}

enum cmq_err cmq_journal_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return CMQ_ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return CMQ_ERR_PERMISSION;
    case ENOMEM:
        return CMQ_ERR_NOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return CMQ_ERR_FULL;
    }
    return CMQ_ERR_SYSTEM;
}

enum cmq_err cmq_journal_pread(const struct cmq_file_ops *ops, int fd, void *data, size_t bytes,
                               uint64_t offset)
{
    uint8_t *next = data;
    while (bytes > 0) {
        ssize_t got = ops->pread(ops->context, fd, next, bytes, (off_t)offset);
        if (got < 0)
            return cmq_journal_errno(errno);
        if (got == 0)
            return CMQ_ERR_NOT_FOUND;
        next += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return CMQ_OK;
}

enum cmq_err cmq_journal_version_check(const struct cmq_file_ops *ops, int fd, const char *path,
                                       uint64_t *ret_created_at_ms, struct cmq_reason *reason)
{
    struct cmq_journal_segment head;
    enum cmq_err err = cmq_journal_pread(ops, fd, &head, sizeof head, 0);
    *ret_created_at_ms = 0;
    if (err == CMQ_ERR_NOT_FOUND)
        return CMQ_OK; /* not allocated yet: an empty segment */
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "%s cannot be read: %s", path, strerror(errno));
    if (head.magic != CMQ_JOURNAL_SEGMENT_MAGIC || head.head_crc != segment_crc(&head))
        return CMQ_OK; /* damaged: name and record heads tell the same */
    *ret_created_at_ms = head.created_at_ms;
    if (head.version == CMQ_JOURNAL_VERSION)
        return CMQ_OK;
    return cmq_reason_set(
        reason, CMQ_ERR_VERSION,
        "%s has format version %u, this build knows %u; start the build that wrote it, or move the "
        "log directory away",
        path, head.version, CMQ_JOURNAL_VERSION);
}
