/* The files of the keys are copied as they are: wrapped or not, nobody here looks at them. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "ctl_backup.h"

enum { KEYRING_BYTES_MAX = 4 << 20 };

static enum cmq_err fail(const char *path, struct cmq_reason *reason)
{
    return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "key file %s cannot be copied: %s", path,
                          strerror(errno));
}

static enum cmq_err write_key(int fd, const char *name, const uint8_t *data, size_t bytes,
                              struct cmq_reason *reason)
{
    char aside[32];
    (void)snprintf(aside, sizeof aside, "%s.tmp", name);
    (void)unlinkat(fd, aside, 0); /* 0400 cannot be opened for writing again */
    const int to = openat(fd, aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
    if (to < 0)
        return fail(name, reason);
    bool good = write(to, data, bytes) == (ssize_t)bytes && fsync(to) == 0;
    good = close(to) == 0 && good && renameat(fd, aside, fd, name) == 0;
    return good ? CMQ_OK : fail(name, reason);
}

static enum cmq_err copy_key(const char *path, int fd, const char *name, struct cmq_reason *reason)
{
    struct stat found;
    const int from = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return fail(path, reason);
    enum cmq_err err = fstat(from, &found) == 0 && found.st_size > 0 && found.st_size <= KEYRING_BYTES_MAX
                           ? CMQ_OK
                           : fail(path, reason);
    uint8_t *data = err == CMQ_OK ? malloc((size_t)found.st_size) : NULL;
    if (err == CMQ_OK && data == NULL)
        err = CMQ_ERR_NOMEM;
    if (err == CMQ_OK && read(from, data, (size_t)found.st_size) != found.st_size)
        err = fail(path, reason);
    if (err == CMQ_OK)
        err = write_key(fd, name, data, (size_t)found.st_size, reason);
    if (data != NULL)
        explicit_bzero(data, (size_t)found.st_size);
    free(data);
    (void)close(from);
    return err;
}

enum cmq_err ctl_backup_keys(const struct cmq_conf *conf, int directory_fd, const char *directory,
                             struct cmq_reason *reason)
{
    const struct {
        const char *path, *name;
    } keys[] = {{conf->encryptor_kek_file, "kek"},
                {conf->dispatcher_kek_file, "delivery.kek"},
                {conf->encryptor_keyring_file, "keyring"}};
    if (mkdirat(directory_fd, CTL_BACKUP_KEYS, 0700) != 0 && errno != EEXIST)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s/%s cannot be made: %s", directory,
                              CTL_BACKUP_KEYS, strerror(errno));
    const int fd = openat(directory_fd, CTL_BACKUP_KEYS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s/%s cannot be opened: %s", directory,
                              CTL_BACKUP_KEYS, strerror(errno));
    enum cmq_err err = CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < CMQ_COUNT_OF(keys); i++)
        err = copy_key(keys[i].path, fd, keys[i].name, reason);
    if (err == CMQ_OK && fsync(fd) != 0)
        err =
            cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s/%s: %s", directory, CTL_BACKUP_KEYS, strerror(errno));
    (void)close(fd);
    return err;
}
