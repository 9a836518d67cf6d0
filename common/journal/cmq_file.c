#include "common/journal/cmq_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_open(void *context, const char *path, int flags, mode_t mode)
{
    (void)context;
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int file_close(void *context, int fd)
{
    (void)context;
    return close(fd);
}

static ssize_t file_pread(void *context, int fd, void *data, size_t bytes, off_t offset)
{
    (void)context;
    ssize_t got;
    do
        got = pread(fd, data, bytes, offset);
    while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t file_pwritev(void *context, int fd, const struct iovec *parts, int count, off_t offset)
{
    (void)context;
    ssize_t got;
    do
        got = pwritev(fd, parts, count, offset);
    while (got < 0 && errno == EINTR);
    return got;
}

static int file_fdatasync(void *context, int fd)
{
    (void)context;
    return fdatasync(fd); /* never again after a failure: the caller decides */
}

static int file_fsync(void *context, int fd)
{
    (void)context;
    return fsync(fd);
}

static int file_allocate(void *context, int fd, off_t offset, off_t bytes)
{
    (void)context;
    int error;
    do
        error = posix_fallocate(fd, offset, bytes);
    while (error == EINTR);
    errno = error;
    return error == 0 ? 0 : -1;
}

static int file_truncate(void *context, int fd, off_t bytes)
{
    (void)context;
    return ftruncate(fd, bytes);
}

static int file_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return rename(from, to);
}

static int file_unlink(void *context, const char *path)
{
    (void)context;
    return unlink(path);
}

static int file_mkdir(void *context, const char *path, mode_t mode)
{
    (void)context;
    return mkdir(path, mode);
}

static int file_size(void *context, int fd, uint64_t *ret_bytes)
{
    (void)context;
    struct stat info;
    if (fstat(fd, &info) != 0)
        return -1;
    *ret_bytes = (uint64_t)info.st_size;
    return 0;
}

static int file_lock(void *context, int fd)
{
    (void)context;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int done = fcntl(fd, F_OFD_SETLK, &lock);
    if (done != 0 && errno == EACCES)
        errno = EAGAIN; /* POSIX allows both */
    return done;
}

static int file_list(void *context, const char *path, int (*name)(void *arg, const char *entry), void *arg)
{
    (void)context;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    int error = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        error = errno;
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !name(arg, entry->d_name))
            break;
    }
    closedir(directory);
    errno = error;
    return error == 0 ? 0 : -1;
}

const struct cmq_file_ops *cmq_file_system(void)
{
    static const struct cmq_file_ops ops = {.open = file_open,
                                            .close = file_close,
                                            .pread = file_pread,
                                            .pwritev = file_pwritev,
                                            .fdatasync = file_fdatasync,
                                            .fsync = file_fsync,
                                            .allocate = file_allocate,
                                            .truncate = file_truncate,
                                            .rename = file_rename,
                                            .unlink = file_unlink,
                                            .mkdir = file_mkdir,
                                            .size = file_size,
                                            .lock = file_lock,
                                            .list = file_list};
    return &ops;
}
