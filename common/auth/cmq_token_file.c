#include "common/auth/cmq_token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The directory that path is in, and the file's name there. */
struct place {
    char directory[CMQ_TOKEN_FILE_PATH_MAX + 1];
    const char *name;
};

static enum cmq_err place_of(const char *path, struct place *ret_place, struct cmq_reason *reason)
{
    const size_t bytes = strlen(path);
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    if (bytes > CMQ_TOKEN_FILE_PATH_MAX || name[0] == '\0')
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "tokens.file has to name a file, in at most %u bytes",
                              CMQ_TOKEN_FILE_PATH_MAX);
    const size_t kept = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    memcpy(ret_place->directory, kept == 0 ? "." : path, kept == 0 ? 1 : kept);
    ret_place->directory[kept == 0 ? 1 : kept] = '\0';
    ret_place->name = name;
    return CMQ_OK;
}

void cmq_token_file_stamp(const char *path, struct cmq_token_stamp *ret_stamp)
{
    struct place place;
    struct stat file, directory;
    *ret_stamp = (struct cmq_token_stamp){0};
    if (place_of(path, &place, NULL) != CMQ_OK || lstat(path, &file) != 0 ||
        stat(place.directory, &directory) != 0)
        return;
    ret_stamp->device = (uint64_t)file.st_dev;
    ret_stamp->inode = (uint64_t)file.st_ino;
    ret_stamp->bytes = (uint64_t)file.st_size;
    ret_stamp->mode = (uint64_t)file.st_mode;
    ret_stamp->directory_mode = (uint64_t)directory.st_mode;
    ret_stamp->modified = file.st_mtim;
    ret_stamp->changed = file.st_ctim;
}

static bool time_equal(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool cmq_token_stamp_equal(const struct cmq_token_stamp *a, const struct cmq_token_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes && a->mode == b->mode &&
           a->directory_mode == b->directory_mode && time_equal(a->modified, b->modified) &&
           time_equal(a->changed, b->changed);
}

static enum cmq_err open_refused(const char *path, int error, struct cmq_reason *reason)
{
    if (error == ENOENT || error == ENOTDIR)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND,
                              "%s does not exist: make it with `ciphermqctl token create`", path);
    if (error == ELOOP)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s is a symbolic link: name the file itself in the configuration", path);
    if (error == EACCES || error == EPERM)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s may not be read by user %u: make its group one of this user's, mode 0640",
                              path, (unsigned)geteuid());
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot open %s: %s", path, strerror(error));
}

static enum cmq_err check_modes(const char *path, const char *directory_path, const struct stat *file,
                                const struct stat *directory, struct cmq_reason *reason)
{
    const unsigned mode = (unsigned)file->st_mode & 07777u;
    const unsigned directory_mode = (unsigned)directory->st_mode & 07777u;
    if (!S_ISREG(file->st_mode))
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s is not a regular file", path);
    if ((mode & 0022u) != 0)
        return cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "%s has mode %04o, so that group or others may write it and give themselves rights: "
            "look at what is in it, then `chmod 0640 %s`",
            path, mode, path);
    if ((mode & 0004u) != 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s has mode %04o, so that everybody may read it: `chmod 0640 %s`", path, mode,
                              path);
    if ((directory_mode & 0022u) != 0 && (directory_mode & 01000u) == 0)
        return cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "the directory of %s has mode %04o, so that group or others may put another file "
            "there: `chmod go-w %s`",
            path, directory_mode, directory_path);
    /* Who owns the directory can replace the file anyway. */
    if (file->st_uid != 0 && file->st_uid != geteuid() && file->st_uid != directory->st_uid)
        return cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "%s belongs to user %u, who is not root, not this user (%u) and not the owner of the "
            "directory: `chown root %s`",
            path, (unsigned)file->st_uid, (unsigned)geteuid(), path);
    return CMQ_OK;
}

/* Up to the end, which may have moved since the size was taken. */
static enum cmq_err read_all(const char *path, int fd, struct cmq_buf *content, struct cmq_reason *reason)
{
    for (;;) {
        if (content->bytes == content->bytes_max)
            return cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "%s has more than %u bytes: this is another file",
                                  path, CMQ_TOKEN_FILE_BYTES_MAX);
        if (cmq_buf_reserve(content, 1) != CMQ_OK)
            return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for %s", path);
        const size_t room = content->capacity - content->bytes;
        const ssize_t got = read(fd, content->data + content->bytes, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            return CMQ_OK;
        content->bytes += (size_t)got;
    }
}

enum cmq_err cmq_token_file_load(const char *path, struct cmq_buf *content, struct cmq_reason *reason)
{
    struct place place;
    struct stat file, directory;
    enum cmq_err err = place_of(path, &place, reason);
    if (err != CMQ_OK)
        return err;
    cmq_buf_init(content, CMQ_TOKEN_FILE_BYTES_MAX + 1);
    const int directory_fd = open(place.directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0)
        return open_refused(path, errno, reason);
    int fd = -1;
    /* O_NONBLOCK: a FIFO must not stop us before it is refused. */
    if (fstat(directory_fd, &directory) != 0)
        err =
            cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot examine %s: %s", place.directory, strerror(errno));
    else if ((fd = openat(directory_fd, place.name,
                          O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) < 0)
        err = open_refused(path, errno, reason);
    else if (fstat(fd, &file) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot examine %s: %s", path, strerror(errno));
    else
        err = check_modes(path, place.directory, &file, &directory, reason);
    if (err == CMQ_OK)
        err = read_all(path, fd, content, reason);
    if (fd >= 0)
        (void)close(fd);
    (void)close(directory_fd);
    if (err != CMQ_OK)
        cmq_buf_fini(content);
    return err;
}

static enum cmq_err walk_line(struct cmq_span raw, size_t number, cmq_token_file_visit *visit, void *context,
                              struct cmq_reason *reason)
{
    struct cmq_token_line line;
    if (raw.bytes == 0 || raw.data[0] == '#')
        return CMQ_OK;
    enum cmq_err err = cmq_token_line_parse(raw, &line, reason);
    return err == CMQ_OK ? visit(context, number, raw, &line, reason) : err;
}

enum cmq_err cmq_token_file_walk(const char *path, struct cmq_span content, cmq_token_file_visit *visit,
                                 void *context, struct cmq_reason *reason)
{
    struct cmq_reason flaw = {{0}};
    for (size_t number = 1; content.bytes > 0; number++) {
        const uint8_t *end = memchr(content.data, '\n', content.bytes);
        if (end == NULL)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                                  "%s:%zu: the last line has no end; the file may have been cut: complete it",
                                  path, number);
        const struct cmq_span raw = cmq_span_make(content.data, (size_t)(end - content.data));
        enum cmq_err err = walk_line(raw, number, visit, context, &flaw);
        if (err != CMQ_OK)
            return cmq_reason_set(reason, err, "%s:%zu: %.300s", path, number, flaw.text);
        content = cmq_span_make(end + 1, content.bytes - raw.bytes - 1);
    }
    return CMQ_OK;
}
