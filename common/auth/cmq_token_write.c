/* The side of cmq_token_file that only ciphermqctl uses: new tokens, the lock, the writing. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <nettle/sha2.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/auth/cmq_auth_table.h"
#include "common/auth/cmq_token_file.h"
#include "common/base/cmq_clock.h"

enum { RANDOM_BYTES = 32, LOCK_POLL_MS = 2, SUFFIX_BYTES_MAX = 8 };

struct path {
    char text[CMQ_TOKEN_FILE_PATH_MAX + SUFFIX_BYTES_MAX];
};

void cmq_token_digest(struct cmq_span token, uint8_t ret_digest[CMQ_TOKEN_DIGEST_BYTES])
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, token.bytes, token.data);
    sha256_digest(&sha, CMQ_TOKEN_DIGEST_BYTES, ret_digest);
    explicit_bzero(&sha, sizeof sha); /* it had the token in its block */
}

/* RFC 4648, section 5, without padding: 32 bytes are 43 letters. */
static void encode(const uint8_t random[RANDOM_BYTES], char *dst)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t bit = 0; bit < 8u * RANDOM_BYTES; bit += 6) {
        const size_t byte = bit / 8;
        const unsigned pair = (unsigned)random[byte] << 8 | (byte + 1 < RANDOM_BYTES ? random[byte + 1] : 0u);
        *dst++ = letters[pair >> (10 - bit % 8) & 63u];
    }
    *dst = '\0';
}

enum cmq_err cmq_token_make(char ret_token[CMQ_TOKEN_BYTES + 1], uint8_t ret_digest[CMQ_TOKEN_DIGEST_BYTES])
{
    uint8_t random[RANDOM_BYTES];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return CMQ_ERR_SYSTEM;
    memcpy(ret_token, "cmq_", 4);
    encode(random, ret_token + 4);
    explicit_bzero(random, sizeof random);
    cmq_token_digest(cmq_span_make(ret_token, CMQ_TOKEN_BYTES), ret_digest);
    return CMQ_OK;
}

static enum cmq_err path_make(struct path *ret_path, const char *path, const char *suffix,
                              struct cmq_reason *reason)
{
    if (path[0] == '\0' || strlen(path) > CMQ_TOKEN_FILE_PATH_MAX)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "tokens.file has to name a file, in at most %u bytes",
                              CMQ_TOKEN_FILE_PATH_MAX);
    (void)snprintf(ret_path->text, sizeof ret_path->text, "%s%s", path, suffix);
    return CMQ_OK;
}

static enum cmq_err refused(const char *what, const char *path, int error, struct cmq_reason *reason)
{
    if (error == ENOENT || error == ENOTDIR)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "the directory of %s does not exist: make it first",
                              path);
    if (error == ELOOP)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "%s is a symbolic link: remove it", path);
    if (error == EACCES || error == EPERM || error == EROFS)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "cannot %s %s as user %u (%s): do it as the owner of the directory, or as root",
                              what, path, (unsigned)geteuid(), strerror(error));
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot %s %s: %s", what, path, strerror(error));
}

enum cmq_err cmq_token_file_lock(const char *path, int *ret_fd, struct cmq_reason *reason)
{
    struct path lock;
    enum cmq_err err = path_make(&lock, path, ".lock", reason);
    if (err != CMQ_OK)
        return err;
    const int fd = open(lock.text, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd < 0)
        return refused("open", lock.text, errno, reason);
    /* F_OFD_SETLKW would wait without end for a holder that is stopped. */
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const uint64_t end_ns = cmq_clock_mono_ns() + CMQ_TOKEN_FILE_LOCK_WAIT_MS * CMQ_NS_PER_MS;
    while (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
        const int error = errno;
        const bool held = error == EAGAIN || error == EACCES;
        if (error == EINTR || (held && cmq_clock_mono_ns() < end_ns)) {
            (void)poll(NULL, 0, LOCK_POLL_MS);
            continue;
        }
        (void)close(fd);
        if (!held)
            return refused("lock", lock.text, error, reason);
        return cmq_reason_set(reason, CMQ_ERR_TIMEOUT,
                              "%s is held by another process for over %d s: find it with `lslocks`",
                              lock.text, CMQ_TOKEN_FILE_LOCK_WAIT_MS / 1000);
    }
    *ret_fd = fd;
    return CMQ_OK;
}

void cmq_token_file_unlock(int fd)
{
    (void)close(fd); /* this descriptor was never shared, so the lock ends with it */
}

/* A file that the stages can no longer read is an outage, so a group that cannot be kept is refused. */
static enum cmq_err keep_owner(const char *path, int fd, int directory_fd, struct cmq_reason *reason)
{
    struct stat like;
    const bool replaced = lstat(path, &like) == 0;
    if (!replaced && fstat(directory_fd, &like) != 0)
        return refused("examine the directory of", path, errno, reason);
    const uid_t owner = replaced && geteuid() == 0 ? like.st_uid : (uid_t)-1;
    if (fchown(fd, owner, like.st_gid) == 0 || (!replaced && errno == EPERM))
        return CMQ_OK;
    if (errno == EPERM)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "user %u may not keep group %u of %s: make the user a member of that group",
                              (unsigned)geteuid(), (unsigned)like.st_gid, path);
    return refused("set the owner of", path, errno, reason);
}

static enum cmq_err write_all(const char *aside, int fd, struct cmq_span content, struct cmq_reason *reason)
{
    while (content.bytes > 0) {
        const ssize_t put = write(fd, content.data, content.bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return refused("write", aside, put == 0 ? ENOSPC : errno, reason);
        content = cmq_span_make(content.data + put, content.bytes - (size_t)put);
    }
    return CMQ_OK;
}

/* Makes "<path>.new", whole and on disk. What a crash left there goes. */
static enum cmq_err write_aside(const char *path, const char *aside, int directory_fd,
                                struct cmq_span content, struct cmq_reason *reason)
{
    if (unlink(aside) != 0 && errno != ENOENT)
        return refused("remove", aside, errno, reason);
    const int fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return refused("make", aside, errno, reason);
    enum cmq_err err = write_all(aside, fd, content, reason);
    if (err == CMQ_OK)
        err = keep_owner(path, fd, directory_fd, reason);
    if (err == CMQ_OK && fchmod(fd, CMQ_TOKEN_FILE_MODE) != 0) /* behind fchown, which takes bits away */
        err = refused("set the mode of", aside, errno, reason);
    if (err == CMQ_OK && fsync(fd) != 0)
        err = refused("sync", aside, errno, reason);
    if (close(fd) != 0 && err == CMQ_OK)
        err = refused("close", aside, errno, reason);
    if (err != CMQ_OK)
        (void)unlink(aside);
    return err;
}

enum cmq_err cmq_token_file_write(const char *path, struct cmq_span content, struct cmq_reason *reason)
{
    struct path aside, directory;
    enum cmq_err err = path_make(&aside, path, ".new", reason);
    if (err == CMQ_OK)
        err = path_make(&directory, path, "", reason);
    if (err != CMQ_OK)
        return err;
    /* Before anything is written: an error then leaves nothing. dirname changes its argument. */
    const int directory_fd = open(dirname(directory.text), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0)
        return refused("open the directory of", path, errno, reason);
    err = write_aside(path, aside.text, directory_fd, content, reason);
    if (err == CMQ_OK && rename(aside.text, path) != 0) {
        err = refused("rename to", path, errno, reason);
        (void)unlink(aside.text);
    }
    if (err == CMQ_OK && fsync(directory_fd) != 0)
        err = refused("sync the directory of", path, errno, reason);
    (void)close(directory_fd);
    return err;
}

struct search {
    struct cmq_span name;
    struct cmq_span raw; /* of the line with that name; bytes 0: there is none */
};

static enum cmq_err search_line(void *context, size_t number, struct cmq_span raw,
                                const struct cmq_token_line *line, struct cmq_reason *reason)
{
    (void)number, (void)reason;
    struct search *search = context;
    if (line->name.bytes == search->name.bytes &&
        memcmp(line->name.data, search->name.data, line->name.bytes) == 0)
        search->raw = raw;
    return CMQ_OK;
}

/* What the stages would not take is not written. */
static enum cmq_err write_checked(const char *path, const struct cmq_buf *content, struct cmq_reason *reason)
{
    struct cmq_auth_table *table = NULL;
    enum cmq_err err = cmq_auth_table_new(path, cmq_buf_span(content), NULL, &table, reason);
    cmq_auth_table_free(table);
    return err == CMQ_OK ? cmq_token_file_write(path, cmq_buf_span(content), reason) : err;
}

static enum cmq_err load_or_begin(const char *path, struct cmq_buf *content, struct cmq_reason *reason)
{
    static const char head[] =
        "# Tokens of CipherMQ: their digests and rights. Written by `ciphermqctl token`.\n";
    enum cmq_err err = cmq_token_file_load(path, content, reason);
    if (err != CMQ_ERR_NOT_FOUND)
        return err;
    err = cmq_buf_append(content, head, sizeof head - 1);
    return err == CMQ_OK ? err : cmq_reason_set(reason, err, "no memory for %s", path);
}

enum cmq_err cmq_token_file_add(const char *path, const struct cmq_token_line *line,
                                struct cmq_reason *reason)
{
    struct search search = {.name = line->name};
    struct cmq_buf content;
    int lock = -1;
    enum cmq_err err = cmq_token_file_lock(path, &lock, reason);
    if (err != CMQ_OK)
        return err;
    cmq_buf_init(&content, CMQ_TOKEN_FILE_BYTES_MAX);
    err = load_or_begin(path, &content, reason);
    if (err == CMQ_OK)
        err = cmq_token_file_walk(path, cmq_buf_span(&content), search_line, &search, reason);
    if (err == CMQ_OK && search.raw.bytes != 0)
        err = cmq_reason_set(reason, CMQ_ERR_EXISTS,
                             "the name %.*s is used already: revoke it first, or take another",
                             (int)line->name.bytes, (const char *)line->name.data);
    if (err == CMQ_OK && (err = cmq_token_line_format(line, &content)) != CMQ_OK)
        err = cmq_reason_set(reason, err, "no room for one line more in %s", path);
    if (err == CMQ_OK)
        err = write_checked(path, &content, reason);
    cmq_buf_fini(&content);
    cmq_token_file_unlock(lock);
    return err;
}

enum cmq_err cmq_token_file_remove(const char *path, struct cmq_span name, struct cmq_reason *reason)
{
    struct search search = {.name = name};
    struct cmq_buf content;
    int lock = -1;
    enum cmq_err err = cmq_token_file_lock(path, &lock, reason);
    if (err != CMQ_OK)
        return err;
    cmq_buf_init(&content, CMQ_TOKEN_FILE_BYTES_MAX);
    err = cmq_token_file_load(path, &content, reason);
    if (err == CMQ_OK)
        err = cmq_token_file_walk(path, cmq_buf_span(&content), search_line, &search, reason);
    if (err == CMQ_OK && search.raw.bytes == 0)
        err = cmq_reason_set(reason, CMQ_ERR_NOT_FOUND,
                             "nothing in %s has that name: `ciphermqctl token list` shows the names", path);
    if (err == CMQ_OK) {
        const size_t begin = (size_t)(search.raw.data - content.data), end = begin + search.raw.bytes + 1;
        memmove(content.data + begin, content.data + end, content.bytes - end);
        content.bytes -= end - begin;
        err = write_checked(path, &content, reason);
    }
    cmq_buf_fini(&content);
    cmq_token_file_unlock(lock);
    return err;
}
