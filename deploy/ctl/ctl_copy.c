#include "ctl_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_base.h"

enum { BLOCK_BYTES = 1 << 20, TMP_NAME_BYTES = 80 };

static enum cmq_err err_of(int error)
{
    return error == EACCES || error == EPERM || error == EROFS ? CMQ_ERR_PERMISSION
           : error == ENOENT                                   ? CMQ_ERR_NOT_FOUND
                                                               : CMQ_ERR_SYSTEM;
}

enum cmq_err ctl_copier_init(struct ctl_copier *copier)
{
    *copier = (struct ctl_copier){.block = malloc(BLOCK_BYTES)};
    if (copier->block == NULL)
        return CMQ_ERR_NOMEM;
    return cmq_digest_new(&copier->digest);
}

void ctl_copier_fini(struct ctl_copier *copier)
{
    ctl_progress_end(&copier->progress);
    cmq_digest_free(copier->digest);
    free(copier->block);
    *copier = (struct ctl_copier){0};
}

/* ---- targets ---- */

static void tmp_name(const struct ctl_target *target, char ret_name[TMP_NAME_BYTES])
{
    (void)snprintf(ret_name, TMP_NAME_BYTES, "%s.tmp", target->name);
}

static enum cmq_err fail(const struct ctl_target *target, int error, struct cmq_reason *reason)
{
    return cmq_reason_set(reason, err_of(error), "%s/%s cannot be written: %s", target->directory,
                          target->name, strerror(error));
}

enum cmq_err ctl_target_open(struct ctl_target *ret_target, int directory_fd, const char *directory,
                             const char *name, struct cmq_reason *reason)
{
    struct ctl_target target = {.directory_fd = directory_fd, .directory = directory};
    char tmp[TMP_NAME_BYTES];
    (void)snprintf(target.name, sizeof target.name, "%s", name);
    tmp_name(&target, tmp);
    target.fd = openat(directory_fd, tmp, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (target.fd < 0)
        return fail(&target, errno, reason);
    *ret_target = target;
    return CMQ_OK;
}

static bool write_all(int fd, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t put = write(fd, data, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        data += put;
        bytes -= (size_t)put;
    }
    return true;
}

/* The next block of at most `left` bytes at `offset`; 0: the file ends. */
static ssize_t read_block(const struct ctl_copier *copier, int fd, uint64_t left, uint64_t offset)
{
    ssize_t got;
    do
        got = pread(fd, copier->block, (size_t)cmq_min_u64(left, BLOCK_BYTES), (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}

/* to_fd -1: only reads. CMQ_ERR_MALFORMED: the file is shorter. */
static enum cmq_err pass(struct ctl_copier *copier, int from_fd, uint64_t bytes, int to_fd,
                         uint8_t ret_sha256[CMQ_DIGEST_BYTES])
{
    enum cmq_err err = cmq_digest_begin(copier->digest);
    for (uint64_t offset = 0; err == CMQ_OK && offset < bytes;) {
        const ssize_t got = read_block(copier, from_fd, bytes - offset, offset);
        if (got <= 0)
            return got == 0 ? CMQ_ERR_MALFORMED : CMQ_ERR_SYSTEM;
        if (to_fd >= 0 && !write_all(to_fd, copier->block, (size_t)got))
            return CMQ_ERR_FULL;
        err = cmq_digest_add(copier->digest, cmq_span_make(copier->block, (size_t)got));
        offset += (uint64_t)got;
        ctl_progress_add(&copier->progress, (uint64_t)got);
    }
    return err == CMQ_OK ? cmq_digest_end(copier->digest, ret_sha256) : err;
}

enum cmq_err ctl_target_fill(struct ctl_target *target, struct ctl_copier *copier, int source_fd,
                             uint64_t bytes, uint8_t ret_sha256[CMQ_DIGEST_BYTES], struct cmq_reason *reason)
{
    enum cmq_err err = pass(copier, source_fd, bytes, target->fd, ret_sha256);
    if (err == CMQ_ERR_FULL)
        return fail(target, errno, reason);
    if (err == CMQ_ERR_MALFORMED)
        return cmq_reason_set(reason, err, "what is to become %s/%s ends before byte %llu", target->directory,
                              target->name, (unsigned long long)bytes);
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "what is to become %s/%s cannot be read: %s", target->directory,
                              target->name, strerror(errno));
    return CMQ_OK;
}

enum cmq_err ctl_target_sync(struct ctl_target *target, struct cmq_reason *reason)
{
    enum cmq_err err = fsync(target->fd) == 0 ? CMQ_OK : fail(target, errno, reason);
    if (close(target->fd) != 0 && err == CMQ_OK)
        err = fail(target, errno, reason);
    target->fd = -1;
    return err;
}

enum cmq_err ctl_target_rename(const struct ctl_target *target, struct cmq_reason *reason)
{
    char tmp[TMP_NAME_BYTES];
    tmp_name(target, tmp);
    if (renameat(target->directory_fd, tmp, target->directory_fd, target->name) != 0)
        return fail(target, errno, reason);
    return CMQ_OK;
}

void ctl_target_drop(struct ctl_target *target)
{
    char tmp[TMP_NAME_BYTES];
    tmp_name(target, tmp);
    if (target->fd >= 0)
        (void)close(target->fd);
    target->fd = -1;
    (void)unlinkat(target->directory_fd, tmp, 0);
}

/* ---- reading back ---- */

enum cmq_err ctl_copy_digest(struct ctl_copier *copier, int fd, uint64_t bytes,
                             uint8_t ret_sha256[CMQ_DIGEST_BYTES])
{
    return pass(copier, fd, bytes, -1, ret_sha256);
}

enum cmq_err ctl_copy_check(struct ctl_copier *copier, int directory_fd, const char *directory,
                            const struct ctl_kept_file *file, struct cmq_reason *reason)
{
    uint8_t sha256[CMQ_DIGEST_BYTES];
    struct stat found;
    const int fd = openat(directory_fd, file->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return cmq_reason_set(reason, err_of(errno), "%s/%s, which the manifest names, cannot be opened: %s",
                              directory, file->name, strerror(errno));
    enum cmq_err err = CMQ_OK;
    if (fstat(fd, &found) != 0 || (uint64_t)found.st_size != file->bytes)
        err =
            cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                           "%s/%s is damaged: it has not the %llu bytes of the manifest; use another backup",
                           directory, file->name, (unsigned long long)file->bytes);
    if (err == CMQ_OK) {
        err = pass(copier, fd, file->bytes, -1, sha256);
        if (err != CMQ_OK)
            err = cmq_reason_set(reason, err, "%s/%s cannot be read: %s", directory, file->name,
                                 err == CMQ_ERR_SYSTEM ? strerror(errno) : cmq_err_text(err));
        else if (memcmp(sha256, file->sha256, sizeof sha256) != 0)
            err = cmq_reason_set(
                reason, CMQ_ERR_MALFORMED,
                "%s/%s is damaged: its SHA-256 is not that of the manifest; use another backup", directory,
                file->name);
    }
    (void)close(fd);
    return err;
}
