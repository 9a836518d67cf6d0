#include "common/crypto/cmq_keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/crypto/cmq_secret.h"

enum { LOCK_POLL_MS = 2, SUFFIX_BYTES_MAX = 8 };

struct path {
    char text[CMQ_KEYFILE_PATH_MAX + SUFFIX_BYTES_MAX];
};

static int real_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

static int real_rename(const char *from, const char *to, unsigned flags)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static const struct cmq_keyfile_sys real_sys = {.open = real_open,
                                                .fstat = fstat,
                                                .pread = pread,
                                                .write = write,
                                                .fchmod = fchmod,
                                                .fchown = fchown,
                                                .fsync = fsync,
                                                .close = close,
                                                .unlink = unlink,
                                                .rename = real_rename};
static const struct cmq_keyfile_sys *sys = &real_sys;

void cmq_keyfile_set_sys(const struct cmq_keyfile_sys *other)
{
    sys = other != NULL ? other : &real_sys;
}

const struct cmq_keyfile_sys *cmq_keyfile_real_sys(void)
{
    return &real_sys;
}

static enum cmq_err path_make(struct path *ret_path, const char *path, const char *suffix,
                              struct cmq_reason *reason)
{
    if (path[0] == '\0' || strlen(path) > CMQ_KEYFILE_PATH_MAX)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "the path of a key file has 1 to %u bytes, this one %zu", CMQ_KEYFILE_PATH_MAX,
                              strlen(path));
    (void)snprintf(ret_path->text, sizeof ret_path->text, "%s%s", path, suffix);
    return CMQ_OK;
}

static enum cmq_err open_refused(const char *path, int error, struct cmq_reason *reason)
{
    if (error == ENOENT)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "%s does not exist: make it with `ciphermqctl init`",
                              path);
    if (error == ELOOP)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s is a symbolic link: name the file itself in the configuration", path);
    if (error == EACCES || error == EPERM)
        return cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "%s may not be opened by user %u: give the file to this user, or start the stage as "
            "the owner of the file",
            path, (unsigned)geteuid());
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot open %s: %s", path, strerror(error));
}

/* Opens for reading what has to be a regular file. O_NONBLOCK: a FIFO must not stop us before it is refused.
 */
static enum cmq_err open_regular(const char *path, int *ret_fd, struct stat *ret_stat,
                                 struct cmq_reason *reason)
{
    int fd = sys->open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return open_refused(path, errno, reason);
    enum cmq_err err = CMQ_OK;
    if (sys->fstat(fd, ret_stat) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot examine %s: %s", path, strerror(errno));
    else if (!S_ISREG(ret_stat->st_mode))
        err = cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "%s is not a regular file: remove it, then make the file with `ciphermqctl init`", path);
    if (err != CMQ_OK) {
        (void)sys->close(fd);
        return err;
    }
    *ret_fd = fd;
    return CMQ_OK;
}

/* Exactly `bytes` bytes from the beginning. */
static enum cmq_err read_all(const char *path, int fd, uint8_t *dst, size_t bytes, struct cmq_reason *reason)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = sys->pread(fd, dst + done, bytes - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                                  "%s was cut to %zu bytes while it was read: bring it back from a backup",
                                  path, done);
        done += (size_t)got;
    }
    return CMQ_OK;
}

static enum cmq_err key_refused(const char *path, const struct stat *found, enum cmq_keyfile_owner owner,
                                struct cmq_reason *reason)
{
    const unsigned mode = (unsigned)found->st_mode & 07777u;
    if (owner == CMQ_KEYFILE_OWNER_SELF_OR_ROOT && found->st_uid != geteuid() && found->st_uid != 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s belongs to user %u, this process runs as user %u: `chown %u %s`", path,
                              (unsigned)found->st_uid, (unsigned)geteuid(), (unsigned)geteuid(), path);
    if (mode != CMQ_KEYFILE_MODE_KEY)
        return cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "%s has mode %04o, a key file must have 0400: `chmod 0400 %s`, and make a new key if "
            "others could read it",
            path, mode, path);
    if (found->st_size < (off_t)CMQ_KEYFILE_KEY_BYTES)
        return cmq_reason_set(reason, CMQ_ERR_KEY,
                              "%s is truncated: it has %lld bytes, a key has %u; bring it back from a backup",
                              path, (long long)found->st_size, CMQ_KEYFILE_KEY_BYTES);
    if (found->st_size > (off_t)CMQ_KEYFILE_KEY_BYTES)
        return cmq_reason_set(
            reason, CMQ_ERR_KEY,
            "%s is too long: it has %lld bytes, a key has %u raw bytes (no text, no line end); "
            "bring it back from a backup",
            path, (long long)found->st_size, CMQ_KEYFILE_KEY_BYTES);
    return CMQ_OK;
}

enum cmq_err cmq_keyfile_read_key(const char *path, enum cmq_keyfile_owner owner,
                                  uint8_t ret_key[CMQ_KEYFILE_KEY_BYTES], struct cmq_reason *reason)
{
    struct stat found = {0};
    int fd = -1;
    enum cmq_err err = open_regular(path, &fd, &found, reason);
    if (err != CMQ_OK)
        return err;
    err = key_refused(path, &found, owner, reason);
    if (err == CMQ_OK)
        err = read_all(path, fd, ret_key, CMQ_KEYFILE_KEY_BYTES, reason);
    if (err == CMQ_OK && cmq_secret_is_zero(ret_key, CMQ_KEYFILE_KEY_BYTES))
        err = cmq_reason_set(reason, CMQ_ERR_KEY,
                             "%s holds zero bytes only, which is no key: bring it back from a backup", path);
    if (err != CMQ_OK)
        cmq_secret_cleanse(ret_key, CMQ_KEYFILE_KEY_BYTES);
    (void)sys->close(fd);
    return err;
}

static struct cmq_keyfile_stamp stamp_of(const struct stat *found)
{
    return (struct cmq_keyfile_stamp){.device = (uint64_t)found->st_dev,
                                      .inode = (uint64_t)found->st_ino,
                                      .bytes = (uint64_t)found->st_size,
                                      .changed_s = (int64_t)found->st_mtim.tv_sec,
                                      .changed_ns = (int64_t)found->st_mtim.tv_nsec};
}

bool cmq_keyfile_stamp_equal(const struct cmq_keyfile_stamp *a, const struct cmq_keyfile_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->changed_s == b->changed_s && a->changed_ns == b->changed_ns;
}

enum cmq_err cmq_keyfile_stamp(const char *path, struct cmq_keyfile_stamp *ret_stamp,
                               struct cmq_reason *reason)
{
    struct stat found = {0};
    int fd = -1;
    enum cmq_err err = open_regular(path, &fd, &found, reason);
    if (err != CMQ_OK)
        return err;
    (void)sys->close(fd);
    *ret_stamp = stamp_of(&found);
    return CMQ_OK;
}

enum cmq_err cmq_keyfile_load(const char *path, struct cmq_buf *content, struct cmq_keyfile_stamp *ret_stamp,
                              struct cmq_reason *reason)
{
    struct stat found = {0};
    int fd = -1;
    enum cmq_err err = open_regular(path, &fd, &found, reason);
    if (err != CMQ_OK)
        return err;
    const unsigned mode = (unsigned)found.st_mode & 07777u;
    const uint64_t bytes = (uint64_t)found.st_size;
    content->bytes = 0;
    if ((mode & 0022u) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                             "%s has mode %04o, so that group or others may write it: `chmod 0640 %s`", path,
                             mode, path);
    else if (bytes > content->bytes_max)
        err = cmq_reason_set(
            reason, CMQ_ERR_MALFORMED,
            "%s has %llu bytes, a keyring at most %zu: this is another file, bring the keyring back "
            "from a backup",
            path, (unsigned long long)bytes, content->bytes_max);
    else if (cmq_buf_reserve(content, (size_t)bytes) != CMQ_OK)
        err = cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for the %llu bytes of %s",
                             (unsigned long long)bytes, path);
    else
        err = read_all(path, fd, content->data, (size_t)bytes, reason);
    (void)sys->close(fd);
    if (err != CMQ_OK)
        return err;
    content->bytes = (size_t)bytes;
    *ret_stamp = stamp_of(&found);
    return CMQ_OK;
}

bool cmq_keyfile_exists(const char *path)
{
    struct stat found = {0};
    return lstat(path, &found) == 0 || errno != ENOENT;
}

/* The directory that path is in, open for fsync. */
static int directory_open(const char *path)
{
    struct path directory;
    if (path_make(&directory, path, "", NULL) != CMQ_OK)
        return -1;
    char *slash = strrchr(directory.text, '/');
    if (slash == NULL)
        return sys->open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    slash[slash == directory.text ? 1 : 0] = '\0';
    return sys->open(directory.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

/* Gives the file behind fd the owner (only root can) and the group of `like`. A keyring that its dispatchers
 * can no longer read is an outage, so a group that cannot be kept is refused. */
static enum cmq_err owner_keep(const char *path, int fd, const struct stat *like, struct cmq_reason *reason)
{
    struct stat now;
    if (sys->fstat(fd, &now) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot examine the new %s: %s", path, strerror(errno));
    const uid_t owner = geteuid() == 0 ? like->st_uid : now.st_uid;
    if ((now.st_uid == owner && now.st_gid == like->st_gid) || sys->fchown(fd, owner, like->st_gid) == 0)
        return CMQ_OK;
    if (errno == EPERM)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "user %u may not keep group %u of %s: make the user a member of that group",
                              (unsigned)geteuid(), (unsigned)like->st_gid, path);
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot set the owner of the new %s: %s", path,
                          strerror(errno));
}

/* The file that is replaced, else the directory if root makes a file for its user. */
static enum cmq_err owner_choose(const char *path, int fd, int directory_fd, struct cmq_reason *reason)
{
    struct stat like;
    if (lstat(path, &like) == 0)
        return owner_keep(path, fd, &like, reason);
    if (geteuid() != 0)
        return CMQ_OK;
    if (sys->fstat(directory_fd, &like) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot examine the directory of %s: %s", path,
                              strerror(errno));
    return owner_keep(path, fd, &like, reason);
}

static enum cmq_err write_all(const char *path, int fd, struct cmq_span content, struct cmq_reason *reason)
{
    while (content.bytes > 0) {
        ssize_t put = sys->write(fd, content.data, content.bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot write %s.new: %s", path,
                                  strerror(put == 0 ? ENOSPC : errno));
        content = cmq_span_make(content.data + put, content.bytes - (size_t)put);
    }
    return CMQ_OK;
}

/* Makes "<path>.new", whole and on disk. */
static enum cmq_err write_aside(const char *path, const char *aside, int directory_fd,
                                struct cmq_span content, mode_t mode, struct cmq_reason *reason)
{
    if (sys->unlink(aside) != 0 && errno != ENOENT)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot remove %s, left by a crash: %s", aside,
                              strerror(errno));
    int fd = sys->open(aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "cannot make %s: user %u may not write its directory: give the directory to this user", aside,
            (unsigned)geteuid());
    if (fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot make %s: %s", aside, strerror(errno));
    enum cmq_err err = write_all(path, fd, content, reason);
    if (err == CMQ_OK)
        err = owner_choose(path, fd, directory_fd, reason);
    if (err == CMQ_OK && sys->fchmod(fd, mode) != 0) /* after fchown, before the file has its name */
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot set the mode of %s: %s", aside, strerror(errno));
    if (err == CMQ_OK && sys->fsync(fd) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot sync %s: %s", aside, strerror(errno));
    if (sys->close(fd) != 0 && err == CMQ_OK)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot close %s: %s", aside, strerror(errno));
    if (err != CMQ_OK)
        (void)sys->unlink(aside);
    return err;
}

static enum cmq_err put_in_place(const char *path, const char *aside, bool must_be_new,
                                 struct cmq_reason *reason)
{
    int result = sys->rename(aside, path, must_be_new ? RENAME_NOREPLACE : 0);
    /* Some file systems know no flags. We hold the lock, and path was just seen missing. */
    if (result != 0 && must_be_new && errno == EINVAL && !cmq_keyfile_exists(path))
        result = sys->rename(aside, path, 0);
    if (result == 0)
        return CMQ_OK;
    const int error = errno;
    (void)sys->unlink(aside);
    if (error == EEXIST)
        return cmq_reason_set(reason, CMQ_ERR_EXISTS, "%s exists already and was not touched", path);
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot rename %s to %s: %s", aside, path, strerror(error));
}

enum cmq_err cmq_keyfile_write(const char *path, struct cmq_span content, mode_t mode, bool must_be_new,
                               struct cmq_reason *reason)
{
    struct path aside;
    enum cmq_err err = path_make(&aside, path, ".new", reason);
    if (err != CMQ_OK)
        return err;
    int directory_fd = directory_open(path); /* before anything is written: an error then leaves nothing */
    if (directory_fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot open the directory of %s: %s", path,
                              strerror(errno));
    err = write_aside(path, aside.text, directory_fd, content, mode, reason);
    if (err == CMQ_OK)
        err = put_in_place(path, aside.text, must_be_new, reason);
    if (err == CMQ_OK && sys->fsync(directory_fd) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot sync the directory of %s: %s", path,
                             strerror(errno));
    (void)sys->close(directory_fd);
    return err;
}

static enum cmq_err lock_open_refused(const char *lock, int error, struct cmq_reason *reason)
{
    if (error == ENOENT)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "the directory of %s does not exist: make it first",
                              lock);
    if (error == ELOOP)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s is a symbolic link: remove it", lock);
    if (error == EACCES || error == EPERM)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "user %u may not write %s: give the file and its directory to this user",
                              (unsigned)geteuid(), lock);
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot open %s: %s", lock, strerror(error));
}

/* A lock file that root makes is for the user of the directory, who has to open it later. */
static enum cmq_err lock_give(const char *path, const char *lock, int fd, struct cmq_reason *reason)
{
    struct stat now, like;
    if (geteuid() != 0 || sys->fstat(fd, &now) != 0 || now.st_uid != 0)
        return CMQ_OK;
    int directory_fd = directory_open(path);
    bool known = directory_fd >= 0 && sys->fstat(directory_fd, &like) == 0;
    if (directory_fd >= 0)
        (void)sys->close(directory_fd);
    return known ? owner_keep(lock, fd, &like, reason) : CMQ_OK;
}

/* F_OFD_SETLKW would wait without end for a holder that is stopped. */
static enum cmq_err lock_wait(const char *lock, int fd, struct cmq_reason *reason)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const uint64_t end_ns = cmq_clock_mono_ns() + CMQ_KEYFILE_LOCK_WAIT_MS * CMQ_NS_PER_MS;
    while (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot lock %s: %s", lock, strerror(errno));
        if (cmq_clock_mono_ns() >= end_ns)
            return cmq_reason_set(reason, CMQ_ERR_TIMEOUT,
                                  "%s is held by another process for over %d s: find it with `lslocks`", lock,
                                  CMQ_KEYFILE_LOCK_WAIT_MS / 1000);
        (void)poll(NULL, 0, LOCK_POLL_MS);
    }
    return CMQ_OK;
}

enum cmq_err cmq_keyfile_lock(const char *path, int *ret_fd, struct cmq_reason *reason)
{
    struct path lock;
    enum cmq_err err = path_make(&lock, path, ".lock", reason);
    if (err != CMQ_OK)
        return err;
    int fd = sys->open(lock.text, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd < 0)
        return lock_open_refused(lock.text, errno, reason);
    err = lock_give(path, lock.text, fd, reason);
    if (err == CMQ_OK)
        err = lock_wait(lock.text, fd, reason);
    if (err != CMQ_OK) {
        (void)sys->close(fd);
        return err;
    }
    *ret_fd = fd;
    return CMQ_OK;
}

void cmq_keyfile_unlock(int fd)
{
    (void)sys->close(fd); /* this descriptor was never shared, so the lock ends with it */
}
