/* Segments: a new one, an old one that goes. The table of deaths is in enc_log.c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/shm/cmq_crash.h"
#include "encryptor/log/enc_log_int.h"

enum { SEGMENTS_MIN = 16 };

enum cmq_err enc_log_add_segment(struct enc_log *log, const struct enc_log_segment *segment)
{
    if (log->count == log->capacity) {
        size_t capacity = log->capacity == 0 ? SEGMENTS_MIN : log->capacity * 2;
        struct enc_log_segment *grown = realloc(log->segments, capacity * sizeof *grown);
        if (grown == NULL)
            return CMQ_ERR_NOMEM;
        log->segments = grown;
        log->capacity = capacity;
    }
    log->segments[log->count++] = *segment;
    log->bytes += segment->bytes;
    return CMQ_OK;
}

/* ---- an old one goes ---- */

static enum cmq_err sync_directory(struct enc_log *log, struct cmq_reason *reason)
{
    if (log->setup.ops->fsync(log->setup.ops->context, log->directory_fd) == 0) {
        log->retired = false;
        return CMQ_OK;
    }
    log->poisoned = true; /* also when the disk says that it is full: names may be gone */
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot sync directory %s: %s", log->directory,
                          strerror(errno));
}

/* Removes the oldest segment, or keeps its file for the next new one. */
static enum cmq_err retire(struct enc_log *log, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    const struct enc_log_segment oldest = log->segments[0];
    char path[CMQ_JOURNAL_PATH_BYTES], spare[CMQ_JOURNAL_PATH_BYTES];
    /* One name at a time: if this one's removal were kept and that of the one before were not, a file would be missing. */
    enum cmq_err err = log->retired ? sync_directory(log, reason) : CMQ_OK;
    if (err == CMQ_OK)
        err = cmq_journal_path(path, log->directory, oldest.first_seq, ".idx");
    if (err != CMQ_OK)
        return err;
    /* The index first: one without its segment, or with another, would say that a file is missing. */
    if (ops->unlink(ops->context, path) != 0 && errno != ENOENT)
        return enc_log_failed(log, "remove an index", reason);
    CMQ_CRASH_POINT("retain.unindexed");
    err = cmq_journal_path(path, log->directory, oldest.first_seq, ".log");
    if (err != CMQ_OK)
        return err;
    if (log->spare_bytes == 0 && oldest.bytes == log->setup.segment_bytes) {
        enc_log_path(log, spare, ENC_LOG_SPARE_NAME);
        if (ops->rename(ops->context, path, spare) == 0)
            log->spare_bytes = oldest.bytes;
        else if (errno != ENOENT) /* somebody removed it: that was the aim */
            return enc_log_failed(log, "keep an old segment", reason);
        CMQ_CRASH_POINT("retain.spared");
    } else {
        if (ops->unlink(ops->context, path) != 0 && errno != ENOENT)
            return enc_log_failed(log, "remove an old segment", reason);
        CMQ_CRASH_POINT("retain.unlinked");
    }
    log->retired = true;
    log->bytes -= oldest.bytes;
    log->count--;
    memmove(log->segments, log->segments + 1, log->count * sizeof *log->segments);
    return CMQ_OK;
}

static bool over_bytes(const struct enc_log *log, uint64_t more)
{
    return log->setup.retention == ENC_LOG_DISCARD_OLD && log->bytes + more > log->setup.retention_bytes;
}

/* A segment's youngest record is as old as the segment behind it. */
static bool over_age(const struct enc_log *log, uint64_t now_ms)
{
    const uint64_t finished_ms = log->segments[1].created_at_ms;
    return log->setup.retention_ms != 0 && finished_ms != 0 && finished_ms < now_ms &&
           now_ms - finished_ms >= log->setup.retention_ms;
}

enum cmq_err enc_log_retain(struct enc_log *log, uint64_t now_ms, struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    if (log->poisoned)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the log in %s has failed before", log->directory);
    while (err == CMQ_OK && log->count > 1 && (over_bytes(log, 0) || over_age(log, now_ms)))
        err = retire(log, reason);
    return err;
}

/* ---- a new one comes ---- */

static enum cmq_err write_head(struct enc_log *log, int fd, const struct enc_log_segment *segment,
                               struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    static const uint8_t zeros[CMQ_JOURNAL_HEAD_BYTES];
    struct cmq_journal_segment head = {.version = CMQ_JOURNAL_VERSION,
                                       .first_seq = segment->first_seq,
                                       .created_at_ms = segment->created_at_ms,
                                       .segment_bytes = segment->bytes};
    cmq_journal_segment_finish(&head);
    const struct iovec parts[2] = {
        {.iov_base = &head, .iov_len = sizeof head},
        {.iov_base = (void *)(uintptr_t)zeros, .iov_len = sizeof zeros - sizeof head}};
    ssize_t put = ops->pwritev(ops->context, fd, parts, 2, 0);
    if (put == (ssize_t)sizeof zeros)
        return CMQ_OK;
    if (put >= 0)
        errno = ENOSPC; /* a short write of one page: the next one would say so */
    return enc_log_failed(log, "write the head of a segment", reason);
}

/* The newest segment has no records yet, and is too small for one, or lost its size in a power cut. */
static enum cmq_err enlarge(struct enc_log *log, uint64_t bytes, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    struct enc_log_segment *newest = enc_log_newest(log);
    if (ops->allocate(ops->context, log->fd, 0, (off_t)bytes) != 0)
        return enc_log_failed(log, "enlarge a segment", reason);
    log->bytes += bytes - newest->bytes;
    newest->bytes = bytes;
    return write_head(log, log->fd, newest, reason);
}

/* For readers only; whatever happens, they can do without. */
static void write_index(struct enc_log *log, uint64_t first_seq)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    char path[CMQ_JOURNAL_PATH_BYTES];
    struct cmq_journal_index index = {.segment = first_seq, .next_seq = log->next_seq};
    if (cmq_journal_path(path, log->directory, first_seq, ".idx") != CMQ_OK)
        return;
    int fd = ops->open(ops->context, path, O_WRONLY | O_CREAT | O_TRUNC, ENC_LOG_FILE_MODE);
    if (fd < 0)
        return;
    cmq_journal_index_finish(&index, &log->marks);
    const size_t bytes = index.count * sizeof *log->marks.at;
    const struct iovec parts[2] = {{.iov_base = &index, .iov_len = sizeof index},
                                   {.iov_base = log->marks.at, .iov_len = bytes}};
    ssize_t put = ops->pwritev(ops->context, fd, parts, bytes > 0 ? 2 : 1, 0);
    (void)ops->close(ops->context, fd);
    if (put != (ssize_t)(sizeof index + bytes))
        (void)ops->unlink(ops->context, path);
    CMQ_CRASH_POINT("index.written");
}

/* Opens the spare, or a new file, with the right size and its head; its name is not a segment's yet. */
static enum cmq_err make_file(struct enc_log *log, const struct enc_log_segment *segment,
                              char ret_path[CMQ_JOURNAL_PATH_BYTES], int *ret_fd, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    const bool recycle = log->spare_bytes == segment->bytes;
    enum cmq_err err = CMQ_OK;
    enc_log_path(log, ret_path, recycle ? ENC_LOG_SPARE_NAME : ENC_LOG_NEW_NAME);
    int fd =
        ops->open(ops->context, ret_path, recycle ? O_RDWR : O_RDWR | O_CREAT | O_TRUNC, ENC_LOG_FILE_MODE);
    if (fd < 0) {
        if (recycle && errno == ENOENT) { /* somebody removed it */
            log->spare_bytes = 0;
            return make_file(log, segment, ret_path, ret_fd, reason);
        }
        return enc_log_failed(log, "make a segment", reason);
    }
    if (!recycle && ops->allocate(ops->context, fd, 0, (off_t)segment->bytes) != 0)
        err = enc_log_failed(log, "allocate a segment", reason);
    CMQ_CRASH_POINT("segment.allocated");
    if (err == CMQ_OK)
        err = write_head(log, fd, segment, reason);
    CMQ_CRASH_POINT("segment.headed");
    if (err == CMQ_OK) {
        *ret_fd = fd;
        return CMQ_OK;
    }
    (void)ops->close(ops->context, fd);
    if (!recycle)
        (void)ops->unlink(ops->context, ret_path); /* what it took of the last space */
    return err;
}

static enum cmq_err limit(struct enc_log *log, uint64_t bytes, struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    if (log->count == 0)
        return CMQ_OK;
    if (log->setup.retention == ENC_LOG_REJECT_NEW && log->bytes + bytes > log->setup.retention_bytes)
        return cmq_reason_set(
            reason, CMQ_ERR_FULL,
            "the log in %s has %llu bytes, and another segment would pass its limit of %llu "
            "(log.retention_bytes, with log.retention = reject_new)",
            log->directory, (unsigned long long)log->bytes, (unsigned long long)log->setup.retention_bytes);
    while (err == CMQ_OK && log->count > 1 && over_bytes(log, bytes))
        err = retire(log, reason);
    return err;
}

static enum cmq_err new_segment(struct enc_log *log, uint64_t bytes, uint64_t now_ms,
                                struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    const struct enc_log_segment segment = {
        .first_seq = log->next_seq, .bytes = bytes, .created_at_ms = now_ms};
    char from[CMQ_JOURNAL_PATH_BYTES], to[CMQ_JOURNAL_PATH_BYTES];
    int fd = -1;
    enum cmq_err err = make_file(log, &segment, from, &fd, reason);
    if (err != CMQ_OK)
        return err;
    err = cmq_journal_path(to, log->directory, segment.first_seq, ".log");
    if (err == CMQ_OK && ops->rename(ops->context, from, to) != 0)
        err = enc_log_failed(log, "name a segment", reason);
    CMQ_CRASH_POINT("segment.renamed");
    /* From here on an error poisons: the segment is there, but perhaps not after a power cut. */
    if (err == CMQ_OK)
        err = sync_directory(log, reason);
    CMQ_CRASH_POINT("segment.dirsynced");
    if (err == CMQ_OK) {
        err = enc_log_add_segment(log, &segment);
        log->poisoned = err != CMQ_OK;
    }
    if (err != CMQ_OK) {
        (void)ops->close(ops->context, fd);
        return err;
    }
    if (log->spare_bytes == bytes)
        log->spare_bytes = 0;
    if (log->fd >= 0)
        (void)ops->close(ops->context, log->fd);
    log->fd = fd;
    if (log->count > 1)
        write_index(log, log->segments[log->count - 2].first_seq);
    log->marks.count = 0;
    log->offset = CMQ_JOURNAL_HEAD_BYTES;
    log->dirty = false;
    return CMQ_OK;
}

enum cmq_err enc_log_make_room(struct enc_log *log, uint64_t record_bytes, uint64_t now_ms,
                               struct cmq_reason *reason)
{
    const uint64_t needed = cmq_align_up(CMQ_JOURNAL_HEAD_BYTES + record_bytes, CMQ_JOURNAL_HEAD_BYTES);
    const uint64_t bytes = cmq_max_u64(needed, log->setup.segment_bytes);
    if (log->fd >= 0) {
        const struct enc_log_segment *newest = enc_log_newest(log);
        if (log->offset + record_bytes <= newest->bytes)
            return CMQ_OK;
        if (newest->first_seq == log->next_seq)
            return enlarge(log, bytes, reason);
    }
    enum cmq_err err = limit(log, bytes, reason);
    if (err == CMQ_OK && log->fd >= 0)
        err = enc_log_sync(log, reason);
    CMQ_CRASH_POINT("segment.finished");
    return err == CMQ_OK ? new_segment(log, bytes, now_ms, reason) : err;
}
