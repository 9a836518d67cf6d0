/* backup: a copy of log and groups that a broker can go on from, taken while it runs.
 *
 *   - The groups are copied first, as they are at one moment. What they know of is stored; the end of the backup is where
 *     the log is durable once all that is. So no group is ahead of the log that is restored.
 *   - Segments behind which another one begins never change: copied once, kept by later backups of the same directory.
 *   - Of the newest one only what lies below that end is taken, under a name that says so.
 *   - Files are written aside, synced and renamed; the manifest comes last. Until then the one before describes a directory
 *     whose files are all still there. Only then are files removed that the new one does not name.
 *   - Retention may take a segment while it is copied, and even write over it: what has not its name any more when the copy
 *     is done is dropped, and what is older too.
 */
#include "ctl_backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "common/journal/cmq_journal_format.h"
#include "common/shm/cmq_crash.h"
#include "ctl.h"
#include "ctl_backup_groups.h"
#include "ctl_copy.h"

struct backup {
    struct ctl *ctl;
    const char *directory;
    int fd, lock_fd;
    struct cmq_conf_path log_path, groups_path;
    const char *log_dir, *groups_dir;
    struct ctl_manifest old, now; /* generation 0: there is no old one */
    struct ctl_kept_file groups;
    bool has_groups;
    struct cmq_journal_list segments;
    struct ctl_copier copier;
    uint64_t segment_count, copied_files, copied_bytes;
};

/* ---- the directory of the backup ---- */

static bool is_ours(const char *name)
{
    static const char *const prefixes[] = {"segment-", "index-", "groups-", CTL_MANIFEST_NAME ".tmp"};
    for (size_t i = 0; i < CMQ_COUNT_OF(prefixes); i++) {
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    }
    return false;
}

/* Calls visit with each name; stops when it returns false. */
static enum cmq_err list(const struct backup *backup, bool (*visit)(const struct backup *, const char *))
{
    const int fd = openat(backup->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return CMQ_ERR_SYSTEM;
    }
    bool more = true;
    for (const struct dirent *entry; more && (entry = readdir(dir)) != NULL;)
        more = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
               visit(backup, entry->d_name);
    (void)closedir(dir);
    return more ? CMQ_OK : CMQ_ERR_EXISTS;
}

static bool visit_leftover(const struct backup *backup, const char *name)
{
    (void)backup;
    return is_ours(name) || strcmp(name, "lock") == 0;
}

static bool visit_prune(const struct backup *backup, const char *name)
{
    if (is_ours(name) && ctl_manifest_find(&backup->now, name) == NULL)
        (void)unlinkat(backup->fd, name, 0); /* what stays is removed by the next backup */
    return true;
}

static bool is_same_directory(const struct stat *found, const char *path)
{
    struct stat other;
    return stat(path, &other) == 0 && other.st_dev == found->st_dev && other.st_ino == found->st_ino;
}

static enum cmq_err lock_directory(struct backup *backup, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = cmq_file_system();
    backup->lock_fd = openat(backup->fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (backup->lock_fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s/lock cannot be made: %s", backup->directory,
                              strerror(errno));
    if (ops->lock(ops->context, backup->lock_fd) != 0)
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "another backup into %s runs", backup->directory);
    return CMQ_OK;
}

static enum cmq_err open_directory(struct backup *backup, struct cmq_reason *reason)
{
    struct stat found;
    const char *directory = backup->directory;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be made: %s", directory,
                              strerror(errno));
    backup->fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (backup->fd < 0 || fstat(backup->fd, &found) != 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be opened: %s", directory,
                              strerror(errno));
    if (is_same_directory(&found, backup->log_dir) || is_same_directory(&found, backup->groups_dir))
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s is the broker's own; name another directory",
                              directory);
    enum cmq_err err = ctl_manifest_read(backup->fd, directory, &backup->old, reason);
    if (err == CMQ_ERR_NOT_FOUND) {
        err = list(backup, visit_leftover);
        if (err != CMQ_OK)
            return cmq_reason_set(reason, err,
                                  "%s is not empty and holds no backup; name an empty directory, or "
                                  "one that does not exist",
                                  directory);
    } else if (err == CMQ_OK && strcmp(backup->old.instance, backup->ctl->conf.common_instance) != 0)
        return cmq_reason_set(reason, CMQ_ERR_EXISTS,
                              "%s holds a backup of broker \"%s\", this is \"%s\"; name another directory",
                              directory, backup->old.instance, backup->ctl->conf.common_instance);
    return err == CMQ_OK ? lock_directory(backup, reason) : err;
}

/* ---- the end ---- */

/* Waits until all that is stored now is durable: the end of this backup. */
static enum cmq_err wait_durable(const struct backup *backup, struct cmq_ring *ring, uint64_t *ret_seq,
                                 struct cmq_reason *reason)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    const uint64_t stored = cmq_ring_stored_seq(ring),
                   deadline_ns = cmq_clock_mono_ns() + backup->ctl->timeout_ms * CMQ_NS_PER_MS;
    for (;;) {
        const uint64_t durable = cmq_ring_durable_seq(ring);
        if (durable >= stored) {
            *ret_seq = durable;
            return CMQ_OK;
        }
        if (cmq_clock_mono_ns() >= deadline_ns)
            return cmq_reason_set(reason, CMQ_ERR_TIMEOUT,
                                  "records from %" PRIu64 " to %" PRIu64
                                  " are not durable within --timeout; `ciphermqctl doctor` says why",
                                  durable, stored);
        (void)nanosleep(&pause, NULL);
    }
}

static enum cmq_err find_end(struct backup *backup, struct cmq_reason *reason)
{
    struct cmq_ring *ring = NULL;
    enum cmq_err err = ctl_ring_observe(&backup->ctl->conf, &ring, reason);
    if (err == CMQ_ERR_AGAIN) /* no broker: what is in the files is all */
        err = cmq_journal_next_seq(backup->log_dir, cmq_file_system(), 1, &backup->now.end_seq, reason);
    else if (err == CMQ_OK)
        err = wait_durable(backup, ring, &backup->now.end_seq, reason);
    cmq_ring_detach(ring);
    return err;
}

/* ---- groups ---- */

static enum cmq_err keep_groups(struct backup *backup, struct cmq_reason *reason)
{
    struct ctl_target target;
    struct stat found;
    struct ctl_kept_file *file = &backup->groups;
    *file = (struct ctl_kept_file){.kind = CTL_KEPT_GROUPS};
    (void)snprintf(file->name, sizeof file->name, "groups-%" PRIu64, backup->now.generation);
    (void)snprintf(file->as, sizeof file->as, "%s", CTL_GROUPS_NAME);
    if (stat(backup->groups_dir, &found) == 0)
        ctl_owner_of(&found, &backup->now.groups);
    enum cmq_err err = ctl_target_open(&target, backup->fd, backup->directory, file->name, reason);
    if (err != CMQ_OK)
        return err;
    err = ctl_backup_groups(backup->groups_dir, target.fd, reason);
    if (err == CMQ_OK && fstat(target.fd, &found) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s/%s: %s", backup->directory, file->name,
                             strerror(errno));
    if (err == CMQ_OK) {
        file->bytes = file->size = (uint64_t)found.st_size;
        err = ctl_copy_digest(&backup->copier, target.fd, file->bytes, file->sha256);
    }
    if (err == CMQ_OK)
        err = ctl_target_sync(&target, reason);
    if (err == CMQ_OK)
        err = ctl_target_rename(&target, reason);
    if (err != CMQ_OK)
        ctl_target_drop(&target);
    backup->has_groups = err == CMQ_OK;
    backup->copied_bytes += err == CMQ_OK ? file->bytes : 0;
    return err == CMQ_ERR_NOT_FOUND ? CMQ_OK : err;
}

/* ---- segments ---- */

/* Whether the directory's entry is still the file that was read. */
static bool still_named(const char *path, int fd)
{
    struct stat named, opened;
    return stat(path, &named) == 0 && fstat(fd, &opened) == 0 && named.st_ino == opened.st_ino &&
           named.st_dev == opened.st_dev;
}

/* Where the records below the end of this backup end in a segment. */
static enum cmq_err find_offset(const struct backup *backup, int fd, uint64_t first, uint64_t *ret_offset)
{
    struct cmq_journal_walk walk;
    struct cmq_journal_record record;
    uint64_t offset, end = CMQ_JOURNAL_HEAD_BYTES, next_seq = first;
    enum cmq_err err = cmq_journal_walk_init(&walk, cmq_file_system(), fd, first, end, first);
    if (err != CMQ_OK)
        return err;
    for (;;) {
        err = cmq_journal_walk_next(&walk, CMQ_JOURNAL_OFFSET_MAX, &record, &offset);
        if (err != CMQ_OK || record.seq >= backup->now.end_seq)
            break;
        end = offset + cmq_journal_record_bytes(record.payload_bytes);
        next_seq = record.seq + 1;
    }
    cmq_journal_walk_fini(&walk);
    if (err != CMQ_OK && err != CMQ_ERR_NOT_FOUND)
        return err;
    if (next_seq < backup->now.end_seq)
        (void)ctl_fail(
            0, "note: records from %" PRIu64 " to %" PRIu64 " are not in the log; see `ciphermqctl verify`",
            next_seq, backup->now.end_seq - 1);
    *ret_offset = end;
    return CMQ_OK;
}

/* Copies the first file->bytes of an open file of the log. CMQ_ERR_LOST: retention took it meanwhile. */
static enum cmq_err copy(struct backup *backup, const char *path, int fd, struct ctl_kept_file *file,
                         struct cmq_reason *reason)
{
    struct ctl_target target;
    enum cmq_err err = ctl_target_open(&target, backup->fd, backup->directory, file->name, reason);
    if (err != CMQ_OK)
        return err;
    err = ctl_target_fill(&target, &backup->copier, fd, file->bytes, file->sha256, reason);
    CMQ_CRASH_POINT("backup.filled");
    if (err == CMQ_OK)
        err = ctl_target_sync(&target, reason);
    if ((err == CMQ_OK || err == CMQ_ERR_MALFORMED) && !still_named(path, fd))
        err = CMQ_ERR_LOST;
    if (err == CMQ_OK)
        err = ctl_target_rename(&target, reason);
    if (err != CMQ_OK) {
        ctl_target_drop(&target);
        return err;
    }
    CMQ_CRASH_POINT("backup.copied");
    backup->copied_files++;
    backup->copied_bytes += file->bytes;
    return ctl_manifest_add(&backup->now, file);
}

/* Takes over what the backup before has of that name; false: it must be copied. */
static bool reuse(struct backup *backup, const char *name, enum cmq_err *ret_err)
{
    struct stat found;
    const struct ctl_kept_file *file = ctl_manifest_find(&backup->old, name);
    if (file == NULL || fstatat(backup->fd, name, &found, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(found.st_mode) || (uint64_t)found.st_size != file->bytes)
        return false;
    *ret_err = ctl_manifest_add(&backup->now, file);
    return true;
}

/* Positions of a finished segment. Readers can do without. */
static enum cmq_err keep_index(struct backup *backup, uint64_t first, struct cmq_reason *reason)
{
    struct ctl_kept_file file = {.kind = CTL_KEPT_INDEX, .first = first, .sealed = true};
    char path[CMQ_JOURNAL_PATH_BYTES];
    struct stat found;
    enum cmq_err err = cmq_journal_path(path, backup->log_dir, first, ".idx");
    (void)snprintf(file.name, sizeof file.name, "index-%016" PRIx64, first);
    (void)snprintf(file.as, sizeof file.as, "%016" PRIx64 ".idx", first);
    if (err != CMQ_OK || reuse(backup, file.name, &err))
        return err;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return CMQ_OK;
    if (fstat(fd, &found) == 0) {
        file.bytes = file.size = (uint64_t)found.st_size;
        err = copy(backup, path, fd, &file, reason);
    }
    (void)close(fd);
    return err;
}

/* CMQ_ERR_LOST: it is gone. */
static enum cmq_err open_segment(const struct backup *backup, uint64_t first,
                                 char path[CMQ_JOURNAL_PATH_BYTES], int *ret_fd, struct ctl_kept_file *file,
                                 struct cmq_reason *reason)
{
    struct stat found;
    enum cmq_err err = cmq_journal_path(path, backup->log_dir, first, ".log");
    const int fd = err == CMQ_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return err == CMQ_OK && errno == ENOENT
                   ? CMQ_ERR_LOST
                   : cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be opened: %s", path,
                                    strerror(errno));
    err = cmq_journal_version_check(cmq_file_system(), fd, path, &file->made_ms, reason);
    if (err == CMQ_OK && fstat(fd, &found) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", path, strerror(errno));
    if (err != CMQ_OK) {
        (void)close(fd);
        return err;
    }
    file->size = file->bytes = (uint64_t)found.st_size;
    *ret_fd = fd;
    return CMQ_OK;
}

static enum cmq_err keep_segment(struct backup *backup, size_t at, struct cmq_reason *reason)
{
    const uint64_t first = backup->segments.first[at];
    const bool sealed =
        at + 1 < backup->segments.count && backup->segments.first[at + 1] <= backup->now.end_seq;
    struct ctl_kept_file file = {.kind = CTL_KEPT_LOG, .first = first, .sealed = sealed};
    char path[CMQ_JOURNAL_PATH_BYTES];
    int fd = -1;
    (void)snprintf(file.as, sizeof file.as, "%016" PRIx64 ".log", first);
    if (sealed)
        (void)snprintf(file.name, sizeof file.name, "segment-%016" PRIx64, first);
    else
        (void)snprintf(file.name, sizeof file.name, "segment-%016" PRIx64 "-%016" PRIx64, first,
                       backup->now.end_seq);
    enum cmq_err err = CMQ_OK;
    backup->segment_count++;
    if (!reuse(backup, file.name, &err)) {
        err = open_segment(backup, first, path, &fd, &file, reason);
        if (err == CMQ_OK && !sealed) {
            err = find_offset(backup, fd, first, &file.bytes);
            if (err != CMQ_OK)
                err = cmq_reason_set(reason, err, "%s cannot be read: %s", path, cmq_err_text(err));
        }
        if (err == CMQ_OK)
            err = copy(backup, path, fd, &file, reason);
        if (fd >= 0)
            (void)close(fd);
    }
    return err == CMQ_OK && sealed ? keep_index(backup, first, reason) : err;
}

static enum cmq_err keep_segments(struct backup *backup, struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < backup->segments.count; i++) {
        err = keep_segment(backup, i, reason);
        if (err == CMQ_ERR_LOST) { /* and so is all that is older */
            backup->now.count = 0;
            backup->segment_count = 0;
            err = CMQ_OK;
        }
    }
    if (err == CMQ_OK && backup->segment_count == 0)
        return cmq_reason_set(
            reason, CMQ_ERR_AGAIN,
            "retention took every segment while it was copied: try again, raise log.retention_bytes, "
            "or use a faster disk for %s",
            backup->directory);
    if (err == CMQ_OK)
        backup->now.first_seq = backup->now.files[0].first;
    return err;
}

/* ---- is it the same log, and how much of it is new ---- */

static enum cmq_err refuse(const struct backup *backup, struct cmq_reason *reason)
{
    return cmq_reason_set(
        reason, CMQ_ERR_EXISTS,
        "%s holds a backup of another log than %s (it was begun anew, or lost records that the "
        "backup has); name another directory",
        backup->directory, backup->log_dir);
}

static enum cmq_err compare(struct backup *backup, struct cmq_reason *reason)
{
    uint64_t total = 0;
    if (backup->old.end_seq > backup->now.end_seq)
        return refuse(backup, reason);
    for (size_t i = 0; i < backup->segments.count; i++) {
        struct ctl_kept_file file = {.first = backup->segments.first[i]};
        const struct ctl_kept_file *kept = NULL;
        char path[CMQ_JOURNAL_PATH_BYTES];
        int fd = -1;
        enum cmq_err err = open_segment(backup, file.first, path, &fd, &file, reason);
        if (err == CMQ_ERR_LOST)
            continue;
        if (err != CMQ_OK)
            return err;
        (void)close(fd);
        for (size_t j = 0; j < backup->old.count && kept == NULL; j++) {
            if (backup->old.files[j].kind == CTL_KEPT_LOG && backup->old.files[j].first == file.first)
                kept = &backup->old.files[j];
        }
        if (kept != NULL && kept->made_ms != file.made_ms)
            return refuse(backup, reason);
        total += kept != NULL && kept->sealed ? 0 : file.bytes;
    }
    ctl_progress_begin(&backup->copier.progress, "backup", total, backup->ctl->json);
    return CMQ_OK;
}

/* The segments that have something below the end, and the one that begins there: an index names it. */
static enum cmq_err find_segments(struct backup *backup, struct cmq_reason *reason)
{
    struct stat found;
    struct cmq_journal_list *segments = &backup->segments;
    enum cmq_err err = cmq_journal_list_read(backup->log_dir, cmq_file_system(), ".log", segments);
    if (err != CMQ_OK || stat(backup->log_dir, &found) != 0)
        return cmq_reason_set(reason, err == CMQ_OK ? CMQ_ERR_SYSTEM : err,
                              "the log in %s cannot be read: %s", backup->log_dir, strerror(errno));
    while (segments->count > 0 && segments->first[segments->count - 1] > backup->now.end_seq)
        segments->count--;
    if (segments->count == 0)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "there is no log in %s yet", backup->log_dir);
    ctl_owner_of(&found, &backup->now.log);
    return compare(backup, reason);
}

/* ---- the command ---- */

static enum cmq_err run(struct backup *backup, struct cmq_reason *reason)
{
    struct ctl_manifest *now = &backup->now;
    enum cmq_err err = open_directory(backup, reason);
    if (err != CMQ_OK)
        return err;
    (void)snprintf(now->program, sizeof now->program, "%s", CMQ_VERSION);
    (void)snprintf(now->instance, sizeof now->instance, "%s", backup->ctl->conf.common_instance);
    now->generation = backup->old.generation + 1;
    now->made_ms = cmq_clock_wall_ms();
    now->groups = (struct ctl_owner){.user = "-", .group = "-"};
    err = keep_groups(backup, reason);
    if (err == CMQ_OK)
        err = find_end(backup, reason);
    if (err == CMQ_OK)
        err = find_segments(backup, reason);
    if (err == CMQ_OK)
        err = keep_segments(backup, reason);
    if (err == CMQ_OK && backup->has_groups)
        err = ctl_manifest_add(now, &backup->groups);
    if (err == CMQ_OK && backup->ctl->keys)
        err = ctl_backup_keys(&backup->ctl->conf, backup->fd, backup->directory, reason);
    if (err == CMQ_OK && fsync(backup->fd) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s cannot be synced: %s", backup->directory,
                             strerror(errno));
    if (err == CMQ_OK)
        err = ctl_manifest_write(backup->fd, backup->directory, now, reason);
    if (err == CMQ_OK)
        (void)list(backup, visit_prune);
    return err;
}

static void report(const struct backup *backup, uint64_t took_ms)
{
    const struct cmq_conf *conf = &backup->ctl->conf;
    const struct ctl_manifest *now = &backup->now;
    const uint64_t bytes = ctl_manifest_bytes(now);
    if (backup->ctl->keys)
        (void)fputs(
            "ciphermqctl: warning: keys and log now lie together: who reads this directory can read every "
            "message\n",
            stderr);
    if (backup->ctl->json) {
        (void)printf("{\"directory\":\"%s\",\"instance\":\"%s\",\"generation\":%" PRIu64 ",\"first\":%" PRIu64
                     ",\"end\":%" PRIu64 ",\"segments\":%" PRIu64 ",\"bytes\":%" PRIu64
                     ",\"copied_files\":%" PRIu64 ",\"copied_bytes\":%" PRIu64
                     ",\"groups\":%s,\"keys\":%s,\"took_ms\":%" PRIu64 "}\n",
                     backup->directory, now->instance, now->generation, now->first_seq, now->end_seq,
                     backup->segment_count, bytes, backup->copied_files, backup->copied_bytes,
                     backup->has_groups ? "true" : "false", backup->ctl->keys ? "true" : "false", took_ms);
        return;
    }
    (void)printf("backup %" PRIu64 " in %s: records from %" PRIu64 " up to %" PRIu64 "%s; %" PRIu64
                 " segments, %" PRIu64 " bytes, of which %" PRIu64 " were copied now\n",
                 now->generation, backup->directory, now->first_seq, now->end_seq,
                 backup->has_groups ? ", and the groups" : "; there are no groups", backup->segment_count,
                 bytes, backup->copied_bytes);
    if (!backup->ctl->keys)
        (void)printf("Keys are not in it, and without them it cannot be read. Keep a copy of them apart:\n"
                     "    cp -p %s %s %s ELSEWHERE\n",
                     conf->encryptor_kek_file, conf->dispatcher_kek_file, conf->encryptor_keyring_file);
}

int ctl_backup(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct backup backup = {.ctl = ctl, .directory = ctl->words[0], .fd = -1, .lock_fd = -1};
    const uint64_t begin_ns = cmq_clock_mono_ns();
    backup.log_dir = cmq_conf_log_dir(&ctl->conf, &backup.log_path);
    backup.groups_dir = cmq_conf_groups_dir(&ctl->conf, &backup.groups_path);
    enum cmq_err err = ctl_copier_init(&backup.copier);
    if (err == CMQ_OK)
        err = run(&backup, &reason);
    ctl_copier_fini(&backup.copier);
    if (err == CMQ_OK)
        report(&backup, (cmq_clock_mono_ns() - begin_ns) / CMQ_NS_PER_MS);
    cmq_journal_list_fini(&backup.segments);
    ctl_manifest_fini(&backup.old);
    ctl_manifest_fini(&backup.now);
    if (backup.lock_fd >= 0)
        (void)close(backup.lock_fd);
    if (backup.fd >= 0)
        (void)close(backup.fd);
    return err == CMQ_OK ? CMQ_EXIT_OK : ctl_fail_err(err, &reason);
}
