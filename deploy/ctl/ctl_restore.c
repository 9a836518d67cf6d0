/* restore: puts a backup where a broker that does not run will find it.
 *
 *   - Everything is read and compared with the manifest before anything is changed.
 *   - Files are written beside their names and synced; then they get their names, the oldest first, an index before its
 *     segment: an index names the next segment, so a log that was restored in part is refused by its writer.
 *   - What is in the way is never deleted: --force renames the directory.
 *   - The table of ids is not in a backup. The encryptor makes it anew from the log.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "common/journal/cmq_file.h"
#include "common/shm/cmq_crash.h"
#include "ctl.h"
#include "ctl_backup.h"
#include "ctl_copy.h"

enum { PLACE_LOG, PLACE_GROUPS, PLACE_IDS, PLACES };

/* One of the broker's directories. */
struct place {
    const char *path;
    struct cmq_conf_path storage;
    const struct ctl_owner *owner; /* NULL: nothing is put there */
    unsigned file_mode;
    int fd;
    bool in_the_way;
    char aside[300]; /* where --force has moved it; "": nowhere */
};

struct restore {
    struct ctl *ctl;
    const char *directory;
    int fd;
    struct ctl_manifest manifest;
    struct ctl_copier copier;
    struct place places[PLACES];
};

static struct place *place_of(struct restore *restore, const struct ctl_kept_file *file)
{
    return &restore->places[file->kind == CTL_KEPT_GROUPS ? PLACE_GROUPS : PLACE_LOG];
}

/* ---- may it be done ---- */

static enum cmq_err open_backup(struct restore *restore, struct cmq_reason *reason)
{
    const char *directory = restore->directory;
    restore->fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (restore->fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "%s cannot be opened: %s", directory,
                              strerror(errno));
    enum cmq_err err = ctl_manifest_read(restore->fd, directory, &restore->manifest, reason);
    if (err != CMQ_OK)
        return err;
    ctl_progress_begin(&restore->copier.progress, "check", ctl_manifest_bytes(&restore->manifest),
                       restore->ctl->json);
    for (size_t i = 0; err == CMQ_OK && i < restore->manifest.count; i++)
        err = ctl_copy_check(&restore->copier, restore->fd, directory, &restore->manifest.files[i], reason);
    ctl_progress_end(&restore->copier.progress);
    return err;
}

static enum cmq_err check_stopped(const struct restore *restore, struct cmq_reason *reason)
{
    const struct cmq_file_ops *ops = cmq_file_system();
    const struct cmq_conf *conf = &restore->ctl->conf;
    struct cmq_ring *ring = NULL;
    char path[300];
    const enum cmq_err err = ctl_ring_observe(conf, &ring, NULL);
    cmq_ring_detach(ring);
    if (err != CMQ_ERR_AGAIN)
        return cmq_reason_set(reason, CMQ_ERR_EXISTS,
                              "broker \"%s\" has a ring: stop its stages and run `ciphermqctl destroy` first",
                              conf->common_instance);
    (void)snprintf(path, sizeof path, "%s/lock", restore->places[PLACE_LOG].path);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return CMQ_OK; /* no encryptor has been here */
    const bool locked = ops->lock(ops->context, fd) != 0;
    (void)close(fd);
    return locked ? cmq_reason_set(reason, CMQ_ERR_EXISTS, "an encryptor writes %s: stop all stages first",
                                   restore->places[PLACE_LOG].path)
                  : CMQ_OK;
}

/* What a writer's lock file or an interrupted restore leaves is nothing. */
static bool is_nothing(const char *name)
{
    const size_t bytes = strlen(name);
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lock") == 0 ||
           (bytes > 4 && strcmp(name + bytes - 4, ".tmp") == 0);
}

static enum cmq_err look_at(struct place *place, struct cmq_reason *reason)
{
    DIR *dir = opendir(place->path);
    if (dir == NULL)
        return errno == ENOENT ? CMQ_OK
                               : cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be read: %s",
                                                place->path, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        place->in_the_way = place->in_the_way || !is_nothing(entry->d_name);
    (void)closedir(dir);
    return CMQ_OK;
}

static enum cmq_err check_places(struct restore *restore, struct cmq_reason *reason)
{
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &restore->places[i];
        enum cmq_err err = look_at(place, reason);
        if (err != CMQ_OK)
            return err;
        if (place->in_the_way && !restore->ctl->force)
            return cmq_reason_set(
                reason, CMQ_ERR_EXISTS,
                "%s is not empty; --force moves it aside, and the other directories of the broker "
                "that are not",
                place->path);
    }
    return CMQ_OK;
}

/* ---- doing it ---- */

static enum cmq_err move_aside(struct place *place, uint64_t now_ms, struct cmq_reason *reason)
{
    char aside[sizeof place->aside];
    (void)snprintf(aside, sizeof aside, "%s.before-%" PRIu64, place->path, now_ms);
    if (rename(place->path, aside) != 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be renamed to %s: %s; empty it by hand",
                              place->path, aside, strerror(errno));
    memcpy(place->aside, aside, sizeof aside);
    return CMQ_OK;
}

/* Owner and mode as in the backup, where root does it. */
static enum cmq_err own(int fd, const char *path, const struct ctl_owner *owner, unsigned mode,
                        struct cmq_reason *reason)
{
    uid_t user;
    gid_t group;
    if (geteuid() == 0) {
        enum cmq_err err = ctl_owner_find(owner, &user, &group, reason);
        if (err != CMQ_OK)
            return err;
        if (fchown(fd, user, group) != 0)
            return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be given to %s: %s", path,
                                  owner->user, strerror(errno));
    }
    if (fchmod(fd, (mode_t)mode) != 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "the mode of %s cannot be set: %s", path,
                              strerror(errno));
    return CMQ_OK;
}

static enum cmq_err open_place(struct place *place, struct cmq_reason *reason)
{
    if (place->owner == NULL)
        return CMQ_OK;
    enum cmq_err err = ctl_make_parents(place->path, reason);
    if (err != CMQ_OK)
        return err;
    if (mkdir(place->path, 0700) != 0 && errno != EEXIST)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be made: %s", place->path,
                              strerror(errno));
    place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s cannot be opened: %s", place->path,
                              strerror(errno));
    return own(place->fd, place->path, place->owner, place->owner->mode, reason);
}

/* The rest of a segment is space for its next records. */
static enum cmq_err grow(const struct ctl_target *target, const struct ctl_kept_file *file,
                         struct cmq_reason *reason)
{
    const int error = file->size > file->bytes ? posix_fallocate(target->fd, 0, (off_t)file->size) : 0;
    return error == 0 ? CMQ_OK
                      : cmq_reason_set(reason, CMQ_ERR_FULL, "%s/%s cannot be written: %s", target->directory,
                                       target->name, strerror(error));
}

static enum cmq_err put_file(struct restore *restore, const struct ctl_kept_file *file,
                             struct cmq_reason *reason)
{
    const struct place *place = place_of(restore, file);
    struct ctl_target target;
    uint8_t sha256[CMQ_DIGEST_BYTES];
    const int from = openat(restore->fd, file->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "%s/%s cannot be opened: %s", restore->directory,
                              file->name, strerror(errno));
    enum cmq_err err = ctl_target_open(&target, place->fd, place->path, file->as, reason);
    if (err == CMQ_OK) {
        err = ctl_target_fill(&target, &restore->copier, from, file->bytes, sha256, reason);
        if (err == CMQ_OK && memcmp(sha256, file->sha256, sizeof sha256) != 0)
            err = cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s/%s changed while it was read",
                                 restore->directory, file->name);
        if (err == CMQ_OK)
            err = grow(&target, file, reason);
        if (err == CMQ_OK)
            err = own(target.fd, file->as, place->owner, place->file_mode, reason);
        if (err == CMQ_OK)
            err = ctl_target_sync(&target, reason);
        if (err != CMQ_OK)
            ctl_target_drop(&target);
    }
    (void)close(from);
    CMQ_CRASH_POINT("restore.filled");
    return err;
}

static enum cmq_err name_file(struct restore *restore, const struct ctl_kept_file *file,
                              struct cmq_reason *reason)
{
    const struct place *place = place_of(restore, file);
    struct ctl_target target = {.directory_fd = place->fd, .directory = place->path, .fd = -1};
    (void)snprintf(target.name, sizeof target.name, "%s", file->as);
    enum cmq_err err = ctl_target_rename(&target, reason);
    CMQ_CRASH_POINT("restore.named");
    return err;
}

/* Groups, then each segment behind its index: the manifest has segment, index, ..., groups. */
static enum cmq_err name_files(struct restore *restore, struct cmq_reason *reason)
{
    const struct ctl_manifest *manifest = &restore->manifest;
    enum cmq_err err = CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < manifest->count; i++) {
        if (manifest->files[i].kind == CTL_KEPT_GROUPS)
            err = name_file(restore, &manifest->files[i], reason);
    }
    for (size_t i = 0; err == CMQ_OK && i < manifest->count; i++) {
        const bool has_index = i + 1 < manifest->count && manifest->files[i + 1].kind == CTL_KEPT_INDEX;
        if (manifest->files[i].kind != CTL_KEPT_LOG)
            continue;
        if (has_index)
            err = name_file(restore, &manifest->files[i + 1], reason);
        if (err == CMQ_OK)
            err = name_file(restore, &manifest->files[i], reason);
    }
    for (unsigned i = 0; err == CMQ_OK && i < PLACES; i++) {
        if (restore->places[i].fd >= 0 && fsync(restore->places[i].fd) != 0)
            err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s cannot be synced: %s", restore->places[i].path,
                                 strerror(errno));
    }
    return err;
}

static enum cmq_err run(struct restore *restore, struct cmq_reason *reason)
{
    const uint64_t now_ms = cmq_clock_wall_ms();
    enum cmq_err err = open_backup(restore, reason);
    if (err != CMQ_OK || restore->ctl->check)
        return err;
    restore->places[PLACE_LOG].owner = &restore->manifest.log;
    restore->places[PLACE_GROUPS].owner =
        restore->manifest.groups.mode != 0 ? &restore->manifest.groups : NULL; /* there were none */
    err = check_stopped(restore, reason);
    if (err == CMQ_OK)
        err = check_places(restore, reason);
    for (unsigned i = 0; err == CMQ_OK && i < PLACES; i++) {
        if (restore->places[i].in_the_way)
            err = move_aside(&restore->places[i], now_ms, reason);
    }
    for (unsigned i = 0; err == CMQ_OK && i < PLACES; i++)
        err = open_place(&restore->places[i], reason);
    ctl_progress_begin(&restore->copier.progress, "restore", ctl_manifest_bytes(&restore->manifest),
                       restore->ctl->json);
    for (size_t i = 0; err == CMQ_OK && i < restore->manifest.count; i++)
        err = put_file(restore, &restore->manifest.files[i], reason);
    return err == CMQ_OK ? name_files(restore, reason) : err;
}

/* ---- what is told ---- */

static void report_json(const struct restore *restore)
{
    const struct ctl_manifest *manifest = &restore->manifest;
    (void)printf("{\"directory\":\"%s\",\"instance\":\"%s\",\"made_ms\":%" PRIu64 ",\"first\":%" PRIu64
                 ",\"end\":%" PRIu64 ",\"files\":%zu,\"bytes\":%" PRIu64 ",\"restored\":%s,\"moved_aside\":[",
                 restore->directory, manifest->instance, manifest->made_ms, manifest->first_seq,
                 manifest->end_seq, manifest->count, ctl_manifest_bytes(manifest),
                 restore->ctl->check ? "false" : "true");
    const char *between = "";
    for (unsigned i = 0; i < PLACES; i++) {
        if (restore->places[i].aside[0] == '\0')
            continue;
        (void)printf("%s\"%s\"", between, restore->places[i].aside);
        between = ",";
    }
    (void)printf("]}\n");
}

static void report(const struct restore *restore)
{
    const struct ctl_manifest *manifest = &restore->manifest;
    const struct cmq_conf *conf = &restore->ctl->conf;
    (void)printf("%s: records from %" PRIu64 " up to %" PRIu64 " of broker \"%s\", %zu files, %" PRIu64
                 " bytes: all are as they were copied\n",
                 restore->directory, manifest->first_seq, manifest->end_seq, manifest->instance,
                 manifest->count, ctl_manifest_bytes(manifest));
    if (restore->ctl->check)
        return;
    for (unsigned i = 0; i < PLACES; i++) {
        if (restore->places[i].aside[0] != '\0')
            (void)printf("moved aside: %s\n", restore->places[i].aside);
    }
    (void)printf("restored to %s. Next:\n", restore->places[PLACE_LOG].path);
    if (access(conf->encryptor_keyring_file, F_OK) != 0 || access(conf->encryptor_kek_file, F_OK) != 0)
        (void)printf(
            "  1. put the keys back, owner and mode 0400 as they were: %s, %s, %s; `init` would make new "
            "ones, which open nothing\n",
            conf->encryptor_kek_file, conf->dispatcher_kek_file, conf->encryptor_keyring_file);
    (void)printf("  - ciphermqctl verify     opens every record with the keys that are here\n"
                 "  - ciphermqctl init       a ring that goes on behind record %" PRIu64 "\n"
                 "  - start the stages\n",
                 manifest->end_seq - 1);
}

int ctl_restore(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct restore restore = {.ctl = ctl, .directory = ctl->words[0], .fd = -1};
    for (unsigned i = 0; i < PLACES; i++)
        restore.places[i].fd = -1;
    struct place *places = restore.places;
    places[PLACE_LOG].path = cmq_conf_log_dir(&ctl->conf, &places[PLACE_LOG].storage);
    places[PLACE_LOG].file_mode = 0640;
    places[PLACE_GROUPS].path = cmq_conf_groups_dir(&ctl->conf, &places[PLACE_GROUPS].storage);
    places[PLACE_GROUPS].file_mode = 0600;
    places[PLACE_IDS].path = cmq_conf_idempotency_dir(&ctl->conf, &places[PLACE_IDS].storage);
    enum cmq_err err = ctl_copier_init(&restore.copier);
    if (err == CMQ_OK)
        err = run(&restore, &reason);
    ctl_copier_fini(&restore.copier);
    if (err == CMQ_OK && ctl->json)
        report_json(&restore);
    else if (err == CMQ_OK)
        report(&restore);
    ctl_manifest_fini(&restore.manifest);
    for (unsigned i = 0; i < PLACES; i++) {
        if (restore.places[i].fd >= 0)
            (void)close(restore.places[i].fd);
    }
    if (restore.fd >= 0)
        (void)close(restore.fd);
    return err == CMQ_OK ? CMQ_EXIT_OK : ctl_fail_err(err, &reason);
}
