/* What is in the directory, and where the log ends. The table of deaths is in enc_log.c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/shm/cmq_crash.h"
#include "encryptor/log/enc_log_int.h"

enum { COPY_BYTES = 1 << 20 };

/* ---- the directory ---- */

/* What a segment in the making left, and whether there is a spare of the right size. */
static void clean_up(struct enc_log *log)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    char path[CMQ_JOURNAL_PATH_BYTES];
    uint64_t bytes = 0;
    enc_log_path(log, path, ENC_LOG_NEW_NAME);
    (void)ops->unlink(ops->context, path); /* mostly it is not there; if it stays, it is written over */
    enc_log_path(log, path, ENC_LOG_SPARE_NAME);
    int fd = ops->open(ops->context, path, O_RDONLY, 0);
    if (fd < 0)
        return;
    int sized = ops->size(ops->context, fd, &bytes);
    (void)ops->close(ops->context, fd);
    if (sized == 0 && bytes == log->setup.segment_bytes)
        log->spare_bytes = bytes;
    else
        (void)ops->unlink(ops->context, path);
}

/* Size and age of a segment. */
static enum cmq_err look_at(struct enc_log *log, uint64_t first_seq, struct enc_log_segment *ret_segment,
                            struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    char path[CMQ_JOURNAL_PATH_BYTES];
    struct enc_log_segment segment = {.first_seq = first_seq};
    struct cmq_journal_record record;
    enum cmq_err err = cmq_journal_path(path, log->directory, first_seq, ".log");
    if (err != CMQ_OK)
        return err;
    int fd = ops->open(ops->context, path, O_RDONLY, 0);
    if (fd < 0)
        return cmq_reason_set(reason, cmq_journal_errno(errno), "%s cannot be opened: %s", path,
                              strerror(errno));
    if (ops->size(ops->context, fd, &segment.bytes) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s cannot be examined: %s", path, strerror(errno));
    else
        err = cmq_journal_version_check(ops, fd, path, &segment.created_at_ms, reason);
    /* A damaged head: its first record knows as well. */
    if (err == CMQ_OK && segment.created_at_ms == 0 &&
        cmq_journal_pread(ops, fd, &record, sizeof record, CMQ_JOURNAL_HEAD_BYTES) == CMQ_OK &&
        cmq_journal_record_valid(&record, first_seq))
        segment.created_at_ms = record.stored_at_ms;
    (void)ops->close(ops->context, fd);
    *ret_segment = segment;
    return err;
}

static enum cmq_err find_segments(struct enc_log *log, const struct cmq_journal_list *names,
                                  struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < names->count; i++) {
        struct enc_log_segment segment;
        err = look_at(log, names->first[i], &segment, reason);
        if (err == CMQ_OK)
            err = enc_log_add_segment(log, &segment);
    }
    return err;
}

/* ---- missing files ---- */

static bool accepted(const struct enc_log *log)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    char path[CMQ_JOURNAL_PATH_BYTES];
    enc_log_path(log, path, ENC_LOG_ACCEPT_NAME);
    int fd = ops->open(ops->context, path, O_RDONLY, 0);
    if (fd >= 0)
        (void)ops->close(ops->context, fd);
    return fd >= 0;
}

static void remove_index(const struct enc_log *log, uint64_t first_seq)
{
    char path[CMQ_JOURNAL_PATH_BYTES];
    if (cmq_journal_path(path, log->directory, first_seq, ".idx") == CMQ_OK)
        (void)log->setup.ops->unlink(log->setup.ops->context, path);
}

/* An index names the segment that follows its own. CMQ_ERR_CORRUPT: that is not there, so somebody took it away. */
static enum cmq_err check_next(const struct enc_log *log, size_t at, bool accept, struct cmq_reason *reason)
{
    const uint64_t first_seq = log->segments[at].first_seq;
    uint64_t next_seq;
    if (cmq_journal_index_read(log->directory, log->setup.ops, first_seq, NULL, &next_seq) != CMQ_OK)
        return CMQ_OK;
    if (at + 1 < log->count && log->segments[at + 1].first_seq == next_seq)
        return CMQ_OK;
    if (!accept)
        return cmq_reason_set(
            reason, CMQ_ERR_CORRUPT,
            "%s lacks segment %016llx.log, which follows %016llx.log: bring it back, or, to go on "
            "without its records, make an empty file %s/%s",
            log->directory, (unsigned long long)next_seq, (unsigned long long)first_seq, log->directory,
            ENC_LOG_ACCEPT_NAME);
    remove_index(log, first_seq);
    return CMQ_OK;
}

/* Indexes without a segment are left over; segments without the one that their index names are not. */
static enum cmq_err check_missing(struct enc_log *log, const struct cmq_journal_list *indexes,
                                  struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    const bool accept = accepted(log);
    size_t at = 0;
    for (size_t i = 0; err == CMQ_OK && i < indexes->count; i++) {
        while (at < log->count && log->segments[at].first_seq < indexes->first[i])
            at++;
        if (at < log->count && log->segments[at].first_seq == indexes->first[i])
            err = check_next(log, at, accept, reason);
        else
            remove_index(log, indexes->first[i]);
    }
    if (err == CMQ_OK && accept) {
        char path[CMQ_JOURNAL_PATH_BYTES];
        enc_log_path(log, path, ENC_LOG_ACCEPT_NAME);
        (void)log->setup.ops->unlink(log->setup.ops->context, path);
    }
    return err;
}

/* ---- the newest segment ---- */

/* Reads bytes and writes them to where they were: now they are the kernel's duty again. */
static enum cmq_err rewrite(const struct enc_log *log, uint64_t offset, uint64_t end)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    uint8_t *copy = malloc(COPY_BYTES);
    enum cmq_err err = copy == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
    while (err == CMQ_OK && offset < end) {
        struct iovec part = {.iov_base = copy, .iov_len = (size_t)cmq_min_u64(end - offset, COPY_BYTES)};
        err = cmq_journal_pread(ops, log->fd, copy, part.iov_len, offset);
        if (err != CMQ_OK)
            break;
        ssize_t put = ops->pwritev(ops->context, log->fd, &part, 1, (off_t)offset);
        if (put <= 0)
            err = put == 0 ? CMQ_ERR_SYSTEM : cmq_journal_errno(errno);
        else
            offset += (uint64_t)put;
    }
    free(copy);
    return err;
}

static enum cmq_err cut(const struct enc_log *log, const struct cmq_journal_tail *tail)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    static const uint8_t zeros[sizeof(struct cmq_journal_record)];
    const struct iovec part = {.iov_base = (void *)(uintptr_t)zeros, .iov_len = sizeof zeros};
    for (size_t i = 0; i < tail->cut_count; i++) {
        ssize_t put = ops->pwritev(ops->context, log->fd, &part, 1, (off_t)tail->cut[i]);
        if (put != (ssize_t)sizeof zeros)
            return put < 0 ? cmq_journal_errno(errno) : CMQ_ERR_FULL;
        CMQ_CRASH_POINT("recover.cut");
    }
    return CMQ_OK;
}

/* What a failed sync may have left in memory only. */
static enum cmq_err rewrite_unsynced(const struct enc_log *log, uint64_t first_seq)
{
    struct cmq_journal_tail tail = {0};
    const uint64_t from = log->setup.rewrite_from;
    if (from == 0)
        return CMQ_OK;
    enum cmq_err err = cmq_journal_find_tail(log->setup.ops, log->fd, first_seq, &tail);
    if (err == CMQ_OK && from < tail.next_seq)
        err = rewrite(log, cmq_journal_marks_find(&tail.marks, from), tail.offset);
    CMQ_CRASH_POINT("recover.rewritten");
    cmq_journal_tail_fini(&tail);
    return err;
}

static enum cmq_err read_back(struct enc_log *log, const char *path, struct cmq_reason *reason)
{
    struct enc_log_segment *newest = enc_log_newest(log);
    struct cmq_journal_tail tail = {0};
    bool torn = true;
    enum cmq_err err = rewrite_unsynced(log, newest->first_seq);
    /* Again after a cut: a torn record may lie over one that was torn before it. */
    while (err == CMQ_OK && torn) {
        cmq_journal_tail_fini(&tail);
        err = cmq_journal_find_tail(log->setup.ops, log->fd, newest->first_seq, &tail);
        torn = err == CMQ_OK && tail.cut_count > 0;
        if (torn)
            err = cut(log, &tail);
    }
    if (err != CMQ_OK) {
        err = cmq_reason_set(reason, err, "%s cannot be read back: %s", path, cmq_err_text(err));
    } else {
        log->next_seq = tail.next_seq;
        log->offset = tail.offset;
        log->damaged = tail.damaged;
        log->marks = tail.marks;
        tail.marks = (struct cmq_journal_marks){0};
    }
    cmq_journal_tail_fini(&tail);
    return err;
}

static enum cmq_err recover_newest(struct enc_log *log, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    struct enc_log_segment *newest = enc_log_newest(log);
    char path[CMQ_JOURNAL_PATH_BYTES];
    enum cmq_err err = cmq_journal_path(path, log->directory, newest->first_seq, ".log");
    if (err != CMQ_OK)
        return err;
    log->fd = ops->open(ops->context, path, O_RDWR, 0);
    if (log->fd < 0)
        return cmq_reason_set(reason, cmq_journal_errno(errno), "%s cannot be opened for writing: %s", path,
                              strerror(errno));
    log->dirty = true; /* by the one before us */
    err = read_back(log, path, reason);
    if (err != CMQ_OK)
        return err;
    newest->bytes &= ~(uint64_t)(CMQ_JOURNAL_ALIGN_BYTES - 1);
    /* Its name may not have reached the disk. */
    if (ops->fsync(ops->context, log->directory_fd) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot sync directory %s: %s", log->directory,
                              strerror(errno));
    CMQ_CRASH_POINT("recover.synced");
    return CMQ_OK;
}

enum cmq_err enc_log_recover(struct enc_log *log, struct cmq_reason *reason)
{
    struct cmq_journal_list names = {0}, indexes = {0};
    enum cmq_err err = cmq_journal_list_read(log->directory, log->setup.ops, ".log", &names);
    if (err == CMQ_OK)
        err = cmq_journal_list_read(log->directory, log->setup.ops, ".idx", &indexes);
    if (err != CMQ_OK) {
        err = cmq_reason_set(reason, err, "log directory %s cannot be read: %s", log->directory,
                             strerror(errno));
        goto out;
    }
    err = find_segments(log, &names, reason);
    if (err == CMQ_OK)
        err = check_missing(log, &indexes, reason);
    if (err != CMQ_OK)
        goto out;
    clean_up(log);
    if (log->count > 0)
        err = recover_newest(log, reason);
out:
    cmq_journal_list_fini(&names);
    cmq_journal_list_fini(&indexes);
    return err;
}
