/*
 * cmq_file: the one table through which the log makes its file calls, so that tests count, fail, tear or kill at the n-th.
 * Ownership: a table is static or the test's; descriptors belong to whoever opened them.
 * Units: bytes, as in the system calls of the same names.
 * Errors: as the system calls: -1 and errno. EINTR is retried by the real table; short reads and writes are the caller's.
 * Callers: any thread; context is the table's own business.
 */
#ifndef CMQ_FILE_H
#define CMQ_FILE_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct cmq_file_ops {
    void *context;
    int (*open)(void *context, const char *path, int flags, mode_t mode);
    int (*close)(void *context, int fd);
    ssize_t (*pread)(void *context, int fd, void *data, size_t bytes, off_t offset);
    ssize_t (*pwritev)(void *context, int fd, const struct iovec *parts, int count, off_t offset);
    int (*fdatasync)(void *context, int fd);
    int (*fsync)(void *context, int fd);
    int (*allocate)(void *context, int fd, off_t offset, off_t bytes); /* posix_fallocate, but -1 and errno */
    int (*truncate)(void *context, int fd, off_t bytes);
    int (*rename)(void *context, const char *from, const char *to);
    int (*unlink)(void *context, const char *path);
    int (*mkdir)(void *context, const char *path, mode_t mode);
    int (*size)(void *context, int fd, uint64_t *ret_bytes); /* fstat's st_size */
    /* A write lock on the open file description, without waiting; EAGAIN: somebody else has it. Freed by close. */
    int (*lock)(void *context, int fd);
    /* Names of the directory's entries but . and .., one call a name; stops when it returns false. */
    int (*list)(void *context, const char *path, int (*name)(void *arg, const char *entry), void *arg);
};

/* The system's own calls. */
const struct cmq_file_ops *cmq_file_system(void);

#endif
