/* init and destroy: the objects that outlive the stages. Everything here may be run again. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/crypto/cmq_keyring.h"
#include "common/proc/cmq_stage_ring.h"
#include "ctl.h"

enum cmq_err ctl_make_parents(const char *path, struct cmq_reason *reason)
{
    char part[512];
    size_t bytes = strlen(path);
    cmq_assert(path[0] == '/' && bytes < sizeof part); /* cmq_conf has checked it */
    for (size_t i = 1; i < bytes; i++) {
        if (path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            enum cmq_err err =
                errno == EACCES || errno == EPERM || errno == EROFS ? CMQ_ERR_PERMISSION : CMQ_ERR_SYSTEM;
            return cmq_reason_set(reason, err,
                                  "directory %s cannot be made: %s; make it, or name another place for %s",
                                  part, strerror(errno), path);
        }
    }
    return CMQ_OK;
}

/* Gives path the owner and group of `like`, where only root can and needs to. */
static enum cmq_err own_as(const char *path, const char *like, struct cmq_reason *reason)
{
    struct stat found;
    if (geteuid() == 0 && (stat(like, &found) != 0 || chown(path, found.st_uid, found.st_gid) != 0))
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot give %s to the owner of %s: %s", path, like,
                              strerror(errno));
    return CMQ_OK;
}

/* A directory of one stage, which belongs to the owner of `like`. What exists is left as it is. */
static enum cmq_err make_data_directory(const char *path, mode_t mode, const char *like,
                                        struct cmq_reason *reason)
{
    enum cmq_err err = ctl_make_parents(path, reason);
    if (err != CMQ_OK)
        return err;
    if (mkdir(path, mode) == 0)
        return own_as(path, like, reason);
    if (errno == EEXIST)
        return CMQ_OK;
    err = errno == EACCES || errno == EPERM || errno == EROFS ? CMQ_ERR_PERMISSION : CMQ_ERR_SYSTEM;
    return cmq_reason_set(reason, err, "directory %s cannot be made: %s; make it, or name another place",
                          path, strerror(errno));
}

/* After the keys: whoever owns a stage's key owns its directories. The dispatchers' group may read the log. */
static enum cmq_err make_data_directories(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    const char *const kek = conf->encryptor_kek_file;
    struct cmq_conf_path path;
    enum cmq_err err = make_data_directory(cmq_conf_log_dir(conf, &path), 0750, kek, reason);
    if (err == CMQ_OK)
        err = make_data_directory(cmq_conf_idempotency_dir(conf, &path), 0700, kek, reason);
    if (err == CMQ_OK)
        err = make_data_directory(cmq_conf_groups_dir(conf, &path), 0700, conf->dispatcher_kek_file, reason);
    return err;
}

/* A directory that has only files. What is gone already is fine. */
static enum cmq_err remove_directory(const char *path, struct cmq_reason *reason)
{
    DIR *directory = opendir(path);
    if (directory == NULL && errno == ENOENT)
        return CMQ_OK;
    if (directory != NULL) {
        for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
            (void)unlinkat(dirfd(directory), entry->d_name, 0); /* what stays makes rmdir fail */
        (void)closedir(directory);
    }
    if (rmdir(path) == 0 || errno == ENOENT)
        return CMQ_OK;
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "directory %s cannot be removed: %s", path,
                          strerror(errno));
}

/* The log in memory, and the tables that name its records. */
static enum cmq_err remove_memory_store(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    struct cmq_conf_path path;
    enum cmq_err err = remove_directory(cmq_conf_log_dir(conf, &path), reason);
    if (err == CMQ_OK)
        err = remove_directory(cmq_conf_idempotency_dir(conf, &path), reason);
    return err == CMQ_OK ? remove_directory(cmq_conf_groups_dir(conf, &path), reason) : err;
}

static enum cmq_err make_directories(const struct cmq_conf *conf, struct cmq_reason *reason)
{
    const char *const paths[] = {conf->common_run_dir, conf->encryptor_kek_file, conf->dispatcher_kek_file,
                                 conf->encryptor_keyring_file};
    enum cmq_err err = CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < CMQ_COUNT_OF(paths); i++)
        err = ctl_make_parents(paths[i], reason);
    return err == CMQ_OK ? cmq_proc_run_dir(conf->common_run_dir, reason) : err;
}

/* A ring that is there already keeps the sizes it was made with; says so if the settings have others. */
static void report_existing(const struct cmq_conf *conf)
{
    struct cmq_ring *ring = NULL;
    struct cmq_ring_state state;
    if (ctl_ring_observe(conf, &ring, NULL) != CMQ_OK) {
        (void)printf("ring \"%s\": exists\n", conf->common_instance);
        return;
    }
    cmq_ring_state(ring, &state);
    uint64_t record_bytes = cmq_ring_record_bytes_max(ring);
    bool same = state.slots == conf->ring_slots && record_bytes == cmq_conf_record_bytes_max(conf);
    (void)printf("ring \"%s\": exists, %u slots, records up to %llu bytes%s\n", conf->common_instance,
                 state.slots, (unsigned long long)record_bytes,
                 same ? "" : "; the settings have other sizes: they hold after `destroy` and `init`");
    cmq_ring_detach(ring);
}

int ctl_init(struct ctl *ctl)
{
    const struct cmq_conf *conf = &ctl->conf;
    struct cmq_reason reason = {{0}};
    const struct cmq_keyring_paths keys = {.kek_file = conf->encryptor_kek_file,
                                           .delivery_kek_file = conf->dispatcher_kek_file,
                                           .keyring_file = conf->encryptor_keyring_file};
    struct cmq_ring_setup setup;
    cmq_stage_ring_setup(conf, 0, 0, &setup);
    enum cmq_err err = make_directories(conf, &reason);
    if (err == CMQ_OK)
        err = cmq_keyring_create(&keys, &reason);
    if (err == CMQ_OK)
        err = make_data_directories(conf, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    (void)printf("keys: %s, %s, %s\n", keys.kek_file, keys.delivery_kek_file, keys.keyring_file);
    err = cmq_stage_ring_create(conf, &setup, &reason);
    if (err == CMQ_OK)
        (void)printf("ring \"%s\": made, %u slots, records up to %llu bytes\n", setup.instance, setup.slots,
                     (unsigned long long)setup.record_bytes_max);
    else if (err == CMQ_ERR_EXISTS)
        report_existing(conf);
    else
        return ctl_fail_err(err, &reason);
    return CMQ_EXIT_OK;
}

int ctl_destroy(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_ring_setup setup;
    cmq_stage_ring_setup(&ctl->conf, 0, 0, &setup);
    const bool memory = ctl->conf.log_store == CMQ_CONF_STORE_MEMORY;
    enum cmq_err err = cmq_ring_destroy(&setup, &reason);
    if (err == CMQ_OK && memory)
        err = remove_memory_store(&ctl->conf, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    (void)printf("ring \"%s\": removed; %s\n", setup.instance,
                 memory ? "keys are kept" : "keys and log are kept");
    return CMQ_EXIT_OK;
}
