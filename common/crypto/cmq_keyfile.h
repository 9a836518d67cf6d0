/*
 * cmq_keyfile: the file system under keys and keyring: checked reading, atomic durable writing, the lock.
 * Ownership: a lock is a file descriptor, closed by unlock. Buffers are the caller's.
 * Units: bytes, milliseconds.
 * Errors: CMQ_ERR_NOT_FOUND, CMQ_ERR_PERMISSION, CMQ_ERR_KEY, CMQ_ERR_MALFORMED, CMQ_ERR_EXISTS,
 *         CMQ_ERR_INVALID, CMQ_ERR_TIMEOUT, CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM, each with a sentence: file,
 *         fault, fix.
 * Callers: any thread. Private to common/crypto.
 */
#ifndef CMQ_KEYFILE_H
#define CMQ_KEYFILE_H

#include <sys/stat.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_buf.h"
#include "common/base/cmq_reason.h"

#define CMQ_KEYFILE_KEY_BYTES    32u
#define CMQ_KEYFILE_LOCK_WAIT_MS 10000
#define CMQ_KEYFILE_PATH_MAX     4000u
#define CMQ_KEYFILE_MODE_KEY     0400u
#define CMQ_KEYFILE_MODE_KEYRING 0640u

/* Whose key file is accepted. ANY only while root makes the files of other users. */
enum cmq_keyfile_owner { CMQ_KEYFILE_OWNER_SELF_OR_ROOT, CMQ_KEYFILE_OWNER_ANY };

/* Names one version of a file: it changes with every replacement. */
struct cmq_keyfile_stamp {
    uint64_t device, inode, bytes;
    int64_t changed_s, changed_ns;
};

/* Regular file, no symlink, owner as said, mode exactly 0400, exactly 32 bytes, not all zero. ret_key should
 * be secret memory; it is cleansed on failure. */
CMQ_MUST_USE enum cmq_err cmq_keyfile_read_key(const char *path, enum cmq_keyfile_owner owner,
                                               uint8_t ret_key[CMQ_KEYFILE_KEY_BYTES],
                                               struct cmq_reason *reason);
/* Regular file, no symlink, not writable by group or others, at most content->bytes_max bytes. Replaces
 * content. */
CMQ_MUST_USE enum cmq_err cmq_keyfile_load(const char *path, struct cmq_buf *content,
                                           struct cmq_keyfile_stamp *ret_stamp, struct cmq_reason *reason);
CMQ_MUST_USE enum cmq_err cmq_keyfile_stamp(const char *path, struct cmq_keyfile_stamp *ret_stamp,
                                            struct cmq_reason *reason);
bool cmq_keyfile_stamp_equal(const struct cmq_keyfile_stamp *a, const struct cmq_keyfile_stamp *b);
/* True also for what is there but cannot be used. */
bool cmq_keyfile_exists(const char *path);

/* Written aside as "<path>.new", synced, renamed, directory synced: after a crash at any moment path is the
 * old file or the new one, whole. The caller holds the lock, so a "<path>.new" that is there is litter of a
 * crash. A replaced file keeps its owner and group; a new one gets those of its directory if root makes it.
 * CMQ_ERR_EXISTS: must_be_new, and it is there. After an error the old file, or in the last step already the
 * new one, is in place. */
CMQ_MUST_USE enum cmq_err cmq_keyfile_write(const char *path, struct cmq_span content, mode_t mode,
                                            bool must_be_new, struct cmq_reason *reason);

/* Exclusive between processes and between descriptors of one process; ends with the process. Waits, bounded.
 */
CMQ_MUST_USE enum cmq_err cmq_keyfile_lock(const char *path, int *ret_fd, struct cmq_reason *reason);
void cmq_keyfile_unlock(int fd);

/* Every system call of this file that can fail; tests make the n-th one fail, or end there. NULL brings the
 * real ones back. */
struct cmq_keyfile_sys {
    int (*open)(const char *path, int flags, mode_t mode);
    int (*fstat)(int fd, struct stat *ret_stat);
    ssize_t (*pread)(int fd, void *dst, size_t bytes, off_t offset);
    ssize_t (*write)(int fd, const void *src, size_t bytes);
    int (*fchmod)(int fd, mode_t mode);
    int (*fchown)(int fd, uid_t owner, gid_t group);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*unlink)(const char *path);
    int (*rename)(const char *from, const char *to, unsigned flags);
};
void cmq_keyfile_set_sys(const struct cmq_keyfile_sys *sys);
/* The real ones, for a test's table that passes most calls on. */
const struct cmq_keyfile_sys *cmq_keyfile_real_sys(void);

#endif
