/*
 * The writer of the log: the lock, records, syncs. Segments come and go in enc_log_segment.c, enc_log_recover.c reads back.
 *
 * Happy path: records are laid behind each other in the newest segment, whose bytes are allocated already: one pwritev for
 * up to 341 of them, one fdatasync for all that was written since the last. When a record does not fit, the segment is
 * synced and the next one is made under another name, renamed to its first seq, and the directory is synced, all before its
 * first record is written. So every segment but the newest is whole on the disk, and recovery looks at the newest only.
 *
 * What a death (or a power cut) after each step leaves, and who repairs it. Labels are the crash points of the tests.
 *
 *   step                a death here leaves                     repaired by
 *   append.part         some whole records, one torn            enc_log_open: whole ones count, the torn one is cut
 *   append.written      whole records, not synced               enc_log_open finds them; the new writer syncs them
 *   sync.done           nothing open                            -
 *   segment.finished    a synced segment without a next one     the next append
 *   segment.allocated   new.tmp of any content                  enc_log_open removes it
 *   segment.headed      new.tmp, or a spare with a new head     the same; a spare's head is written again
 *   segment.renamed     an empty newest segment                 enc_log_open syncs the directory, goes on in it; if a power
 *                                                               cut took the name, the number was not used yet
 *   segment.dirsynced   an empty newest segment                 enc_log_open goes on in it
 *   index.written       a part of an index, or all of it        its checksum: without it readers scan
 *   retain.unindexed    a segment without its index             readers scan; retention comes back to it
 *   retain.unlinked     an older floor after a power cut        retention comes back to it; names go one by one, each synced
 *                                                               before the next, so nothing is missing in between
 *   retain.spared       the same; a spare                       the same; a spare of the wrong size is removed
 *   open.made           a directory whose name may be lost      the next one makes it again: nothing was in it
 *   open.locked         a lock that the kernel frees            -
 *   recover.rewritten   the same bytes, not synced              the next one does it again
 *   recover.cut         some torn heads zeroed                  the next one zeroes the others: all were behind the end
 *   recover.synced      nothing open                            -
 *
 * Old bytes: a segment may be recycled, so behind its end lie records of another one. Their heads name that other segment,
 * and a segment's number is used once: the directory is synced before its first record is written. A torn record's
 * head is zeroed, so that it does not come back when shorter records take its place.
 *
 * A failed write or sync poisons the log: the kernel may have dropped what it could not write and call it clean. Whoever
 * opens the log next believes only what can be read and has the right checksum, and writes it again (rewrite_from).
 */
#include "encryptor/log/enc_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/shm/cmq_crash.h"
#include "encryptor/log/enc_log_int.h"

static const uint8_t padding[CMQ_JOURNAL_ALIGN_BYTES];

void enc_log_path(const struct enc_log *log, char ret_path[CMQ_JOURNAL_PATH_BYTES], const char *name)
{
    (void)snprintf(ret_path, CMQ_JOURNAL_PATH_BYTES, "%s/%s", log->directory, name);
}

enum cmq_err enc_log_failed(struct enc_log *log, const char *what, struct cmq_reason *reason)
{
    const int error = errno;
    enum cmq_err err = cmq_journal_errno(error);
    if (err == CMQ_ERR_FULL)
        return cmq_reason_set(reason, err, "cannot %s in %s: %s; publishers wait until there is space", what,
                              log->directory, strerror(error));
    if (err == CMQ_ERR_NOMEM)
        return cmq_reason_set(reason, err, "cannot %s in %s: %s", what, log->directory, strerror(error));
    log->poisoned = true;
    return cmq_reason_set(
        reason, CMQ_ERR_SYSTEM,
        "cannot %s in %s: %s; the log is closed and read back before anything else is written", what,
        log->directory, strerror(error));
}

static enum cmq_err refused(const struct enc_log *log, struct cmq_reason *reason)
{
    return cmq_reason_set(
        reason, CMQ_ERR_SYSTEM,
        "the log in %s has failed before: it must be opened again, which reads back what is there",
        log->directory);
}

/* ---- the lock ---- */

/* A directory whose name is lost in a power cut takes the log with it. Best effort: not everybody may open it. */
static void sync_parent(const struct enc_log *log)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    char path[CMQ_JOURNAL_PATH_BYTES + 4];
    (void)snprintf(path, sizeof path, "%s/..", log->directory);
    int fd = ops->open(ops->context, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return;
    (void)ops->fsync(ops->context, fd);
    (void)ops->close(ops->context, fd);
}

static enum cmq_err open_refused(const struct enc_log *log, const char *path, struct cmq_reason *reason)
{
    enum cmq_err err = cmq_journal_errno(errno);
    if (err == CMQ_ERR_NOT_FOUND)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM,
                              "%s cannot be made: the directory above it does not exist", log->directory);
    return cmq_reason_set(reason, err, "%s cannot be opened: %s", path, strerror(errno));
}

static enum cmq_err open_directory(struct enc_log *log, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    log->directory_fd = ops->open(ops->context, log->directory, O_RDONLY | O_DIRECTORY, 0);
    if (log->directory_fd < 0 && errno == ENOENT) {
        if (ops->mkdir(ops->context, log->directory, ENC_LOG_DIRECTORY_MODE) != 0 && errno != EEXIST)
            return open_refused(log, log->directory, reason);
        CMQ_CRASH_POINT("open.made");
        log->directory_fd = ops->open(ops->context, log->directory, O_RDONLY | O_DIRECTORY, 0);
    }
    return log->directory_fd >= 0 ? CMQ_OK : open_refused(log, log->directory, reason);
}

static enum cmq_err take_lock(struct enc_log *log, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    char path[CMQ_JOURNAL_PATH_BYTES];
    enc_log_path(log, path, ENC_LOG_LOCK_NAME);
    log->lock_fd = ops->open(ops->context, path, O_RDWR | O_CREAT, ENC_LOG_FILE_MODE);
    if (log->lock_fd < 0)
        return open_refused(log, path, reason);
    if (ops->lock(ops->context, log->lock_fd) == 0) {
        CMQ_CRASH_POINT("open.locked");
        return CMQ_OK;
    }
    if (errno == EAGAIN)
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "%s is held by another encryptor", path);
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s cannot be locked: %s", path, strerror(errno));
}

enum cmq_err enc_log_open(const struct enc_log_setup *setup, struct enc_log **ret_log,
                          struct cmq_reason *reason)
{
    char path[CMQ_JOURNAL_PATH_BYTES];
    enum cmq_err err = cmq_journal_path(path, setup->directory, 0, ".log");
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "the name of the log directory is too long: %s", setup->directory);
    struct enc_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        return CMQ_ERR_NOMEM;
    log->setup = *setup;
    log->fd = log->lock_fd = log->directory_fd = -1;
    log->next_seq = setup->first_seq;
    log->setup.segment_bytes = cmq_align_up(cmq_max_u64(setup->segment_bytes, 2ull * CMQ_JOURNAL_HEAD_BYTES),
                                            CMQ_JOURNAL_HEAD_BYTES);
    log->directory = strdup(setup->directory);
    log->setup.directory = log->directory;
    err = log->directory == NULL ? CMQ_ERR_NOMEM : open_directory(log, reason);
    if (err == CMQ_OK)
        err = take_lock(log, reason);
    if (err == CMQ_OK)
        err = enc_log_recover(log, reason);
    if (err != CMQ_OK) {
        enc_log_close(log);
        return err;
    }
    if (log->count == 0)
        sync_parent(log);
    *ret_log = log;
    return CMQ_OK;
}

void enc_log_close(struct enc_log *log)
{
    if (log == NULL)
        return;
    const struct cmq_file_ops *ops = log->setup.ops;
    if (log->fd >= 0)
        (void)ops->close(ops->context, log->fd);
    if (log->directory_fd >= 0)
        (void)ops->close(ops->context, log->directory_fd);
    if (log->lock_fd >= 0) /* last: nothing of ours is open when somebody else begins */
        (void)ops->close(ops->context, log->lock_fd);
    cmq_journal_marks_fini(&log->marks);
    free(log->segments);
    free(log->directory);
    free(log);
}

/* ---- records ---- */

/* Prepares as many records as fit into one call and the newest segment. *ret_parts: how many parts they have. */
static size_t prepare(struct enc_log *log, const struct enc_log_record *records, size_t count,
                      uint64_t now_ms, int *ret_parts)
{
    uint64_t room = enc_log_newest(log)->bytes - log->offset;
    size_t taken = 0;
    int parts = 0;
    for (; taken < count && taken < ENC_LOG_BATCH; taken++) {
        const struct enc_log_record *record = &records[taken];
        const uint64_t bytes = cmq_journal_record_bytes(record->payload.bytes);
        cmq_assert(record->seq == log->next_seq + taken);
        if (bytes > room)
            break;
        room -= bytes;
        struct cmq_journal_record *head = &log->heads[taken];
        *head = (struct cmq_journal_record){
            .seq = record->seq,
            .segment = enc_log_newest(log)->first_seq,
            .stored_at_ms = now_ms,
            .payload_bytes = (uint32_t)record->payload.bytes,
            .payload_crc = cmq_journal_crc(0, record->payload.data, record->payload.bytes),
            .messages = record->messages,
            .type = (uint16_t)record->type,
            .flags = record->flags};
        cmq_journal_record_finish(head);
        log->parts[parts++] = (struct iovec){.iov_base = head, .iov_len = sizeof *head};
        if (record->payload.bytes > 0)
            log->parts[parts++] = (struct iovec){.iov_base = (void *)(uintptr_t)record->payload.data,
                                                 .iov_len = record->payload.bytes};
        const size_t pad = (size_t)(bytes - sizeof *head - record->payload.bytes);
        if (pad > 0)
            log->parts[parts++] = (struct iovec){.iov_base = (void *)(uintptr_t)padding, .iov_len = pad};
    }
    *ret_parts = parts;
    return taken;
}

/* Writes all parts, however many calls the system makes of it. Returns bytes; fewer than there are: errno says why. */
static uint64_t write_parts(struct enc_log *log, int count, uint64_t bytes)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    struct iovec *next = log->parts;
    uint64_t done = 0;
    while (done < bytes) {
        ssize_t put = ops->pwritev(ops->context, log->fd, next, count, (off_t)(log->offset + done));
        if (put <= 0) {
            errno = put == 0 ? EIO : errno;
            break;
        }
        done += (uint64_t)put;
        CMQ_CRASH_POINT("append.part");
        for (size_t left = (size_t)put; left > 0 && count > 0;) {
            const size_t part = (size_t)cmq_min_u64(left, next->iov_len);
            next->iov_base = (uint8_t *)next->iov_base + part;
            next->iov_len -= part;
            left -= part;
            if (next->iov_len == 0) {
                next++;
                count--;
            }
        }
    }
    return done;
}

/* Moves the end of the log over the whole records among `done` bytes; returns how many. */
static size_t move_end(struct enc_log *log, const struct enc_log_record *records, size_t count, uint64_t done)
{
    size_t whole = 0;
    for (; whole < count; whole++) {
        const uint64_t bytes = cmq_journal_record_bytes(records[whole].payload.bytes);
        if (bytes > done)
            break;
        done -= bytes;
        /* Out of memory: an index with fewer marks is an index. */
        if (cmq_journal_marks_add(&log->marks, log->next_seq, log->offset) != CMQ_OK)
            log->marks.count = 0;
        log->offset += bytes;
        log->next_seq++;
    }
    return whole;
}

enum cmq_err enc_log_append(struct enc_log *log, const struct enc_log_record *records, size_t count,
                            uint64_t now_ms, size_t *ret_written, struct cmq_reason *reason)
{
    size_t written = 0;
    enum cmq_err err = log->poisoned ? refused(log, reason) : CMQ_OK;
    while (err == CMQ_OK && written < count) {
        const struct enc_log_record *from = &records[written];
        int parts;
        if (from->payload.bytes > UINT32_MAX) {
            err = cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "a record of %zu bytes is too large for the log",
                                 from->payload.bytes);
            break;
        }
        err = enc_log_make_room(log, cmq_journal_record_bytes(from->payload.bytes), now_ms, reason);
        if (err != CMQ_OK)
            break;
        const size_t taken = prepare(log, from, count - written, now_ms, &parts);
        uint64_t bytes = 0;
        for (size_t i = 0; i < taken; i++)
            bytes += cmq_journal_record_bytes(from[i].payload.bytes);
        const uint64_t done = write_parts(log, parts, bytes);
        if (done < bytes)
            err = enc_log_failed(log, "write records", reason);
        log->dirty = log->dirty || done > 0;
        written += move_end(log, from, taken, done);
    }
    if (written > 0)
        CMQ_CRASH_POINT("append.written");
    *ret_written = written;
    return err;
}

enum cmq_err enc_log_sync(struct enc_log *log, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = log->setup.ops;
    if (log->poisoned)
        return refused(log, reason);
    if (!log->dirty)
        return CMQ_OK;
    if (ops->fdatasync(ops->context, log->fd) != 0) {
        enum cmq_err err = enc_log_failed(log, "sync records", reason);
        log->poisoned = true; /* also when the disk says that it is full: what was written may be gone */
        return err == CMQ_ERR_SYSTEM ? err : CMQ_ERR_SYSTEM;
    }
    CMQ_CRASH_POINT("sync.done");
    log->dirty = false;
    return CMQ_OK;
}

/* ---- state ---- */

uint64_t enc_log_next_seq(const struct enc_log *log)
{
    return log->next_seq;
}

uint64_t enc_log_floor(const struct enc_log *log)
{
    return log->count > 0 ? log->segments[0].first_seq : log->next_seq;
}

uint64_t enc_log_bytes(const struct enc_log *log)
{
    return log->bytes;
}

uint64_t enc_log_damaged(const struct enc_log *log)
{
    return log->damaged;
}
