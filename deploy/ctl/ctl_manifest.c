#include "ctl_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_buf.h"
#include "common/shm/cmq_crash.h"

enum { TEXT_BYTES_MAX = 256 << 20, LINE_BYTES = 512, HEX_BYTES = 2 * CMQ_DIGEST_BYTES };

static const char *const kinds[] = {"log", "index", "groups"};
static const char digest_line[] = "\"sha256\":\"";

/* ---- hexadecimal ---- */

static void to_hex(const uint8_t *bytes, char ret_hex[HEX_BYTES + 1])
{
    for (size_t i = 0; i < CMQ_DIGEST_BYTES; i++)
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", bytes[i]);
}

static bool from_hex(const char *hex, uint8_t ret_bytes[CMQ_DIGEST_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < HEX_BYTES; i++) {
        const char *digit = hex[i] == '\0' ? NULL : strchr(digits, hex[i]);
        if (digit == NULL)
            return false;
        const uint8_t half = (uint8_t)(digit - digits);
        ret_bytes[i / 2] = (uint8_t)(i % 2 == 0 ? half << 4 : ret_bytes[i / 2] | half);
    }
    return true;
}

static enum cmq_err digest_of(struct cmq_span text, uint8_t ret_bytes[CMQ_DIGEST_BYTES])
{
    struct cmq_digest *digest = NULL;
    enum cmq_err err = cmq_digest_new(&digest);
    if (err == CMQ_OK)
        err = cmq_digest_sha256(digest, &text, 1, ret_bytes);
    cmq_digest_free(digest);
    return err;
}

/* ---- the list ---- */

void ctl_manifest_fini(struct ctl_manifest *manifest)
{
    free(manifest->files);
    *manifest = (struct ctl_manifest){0};
}

enum cmq_err ctl_manifest_add(struct ctl_manifest *manifest, const struct ctl_kept_file *file)
{
    if (manifest->count == manifest->capacity) {
        const size_t capacity = manifest->capacity == 0 ? 64 : manifest->capacity * 2;
        struct ctl_kept_file *files = realloc(manifest->files, capacity * sizeof *files);
        if (files == NULL)
            return CMQ_ERR_NOMEM;
        manifest->files = files;
        manifest->capacity = capacity;
    }
    manifest->files[manifest->count++] = *file;
    return CMQ_OK;
}

const struct ctl_kept_file *ctl_manifest_find(const struct ctl_manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->count; i++) {
        if (strcmp(manifest->files[i].name, name) == 0)
            return &manifest->files[i];
    }
    return NULL;
}

uint64_t ctl_manifest_bytes(const struct ctl_manifest *manifest)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < manifest->count; i++)
        bytes += manifest->files[i].bytes;
    return bytes;
}

/* ---- owners ---- */

/* A name that needs no escaping; else the number, which getpwnam does not find but chown takes. */
static void put_name(char *ret_name, size_t bytes, const char *name, unsigned id)
{
    if (name != NULL && name[0] != '\0' && strlen(name) < bytes &&
        name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")] == '\0')
        (void)snprintf(ret_name, bytes, "%s", name);
    else
        (void)snprintf(ret_name, bytes, "%u", id);
}

void ctl_owner_of(const struct stat *found, struct ctl_owner *ret_owner)
{
    const struct passwd *user = getpwuid(found->st_uid);
    put_name(ret_owner->user, sizeof ret_owner->user, user != NULL ? user->pw_name : NULL, found->st_uid);
    const struct group *group = getgrgid(found->st_gid);
    put_name(ret_owner->group, sizeof ret_owner->group, group != NULL ? group->gr_name : NULL, found->st_gid);
    ret_owner->mode = (unsigned)found->st_mode & 07777u;
}

static bool as_number(const char *text, unsigned *ret_id)
{
    if (text[strspn(text, "0123456789")] != '\0')
        return false;
    *ret_id = (unsigned)strtoul(text, NULL, 10);
    return true;
}

enum cmq_err ctl_owner_find(const struct ctl_owner *owner, uid_t *ret_user, gid_t *ret_group,
                            struct cmq_reason *reason)
{
    unsigned user_id = 0, group_id = 0;
    const struct passwd *user = getpwnam(owner->user);
    if (user != NULL)
        user_id = user->pw_uid;
    else if (!as_number(owner->user, &user_id))
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND,
                              "the files belong to user %s, whom this machine does not know: install the "
                              "package here first",
                              owner->user);
    const struct group *group = getgrnam(owner->group);
    if (group != NULL)
        group_id = group->gr_gid;
    else if (!as_number(owner->group, &group_id))
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND,
                              "the files belong to group %s, which this machine does not know: install the "
                              "package here first",
                              owner->group);
    *ret_user = user_id;
    *ret_group = group_id;
    return CMQ_OK;
}

/* ---- writing ---- */

static enum cmq_err put(struct cmq_buf *text, const char *fmt, ...) CMQ_PRINTF(2, 3);
static enum cmq_err put(struct cmq_buf *text, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    const int bytes = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    cmq_assert(bytes >= 0 && (size_t)bytes < sizeof line);
    return cmq_buf_append(text, line, (size_t)bytes);
}

static enum cmq_err put_file(struct cmq_buf *text, const struct ctl_kept_file *file, bool last)
{
    char hex[HEX_BYTES + 1];
    to_hex(file->sha256, hex);
    return put(text,
               "{\"kind\":\"%s\",\"file\":\"%s\",\"as\":\"%s\",\"first\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"size\":%" PRIu64 ",\"made_ms\":%" PRIu64 ",\"sealed\":%s,\"sha256\":\"%s\"}%s\n",
               kinds[file->kind], file->name, file->as, file->first, file->bytes, file->size, file->made_ms,
               file->sealed ? "true" : "false", hex, last ? "" : ",");
}

static enum cmq_err put_all(struct cmq_buf *text, const struct ctl_manifest *manifest)
{
    const struct ctl_owner *log = &manifest->log, *groups = &manifest->groups;
    char at[32] = "";
    struct tm utc;
    const time_t seconds = (time_t)(manifest->made_ms / 1000);
    if (gmtime_r(&seconds, &utc) != NULL)
        (void)strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &utc);
    enum cmq_err err =
        put(text,
            "{\"format\":%u,\n\"ciphermq\":\"%s\",\n\"instance\":\"%s\",\n\"generation\":%" PRIu64
            ",\n\"made_ms\":%" PRIu64 ",\n\"made\":\"%s\",\n\"first\":%" PRIu64 ",\n\"end\":%" PRIu64 ",\n",
            CTL_MANIFEST_FORMAT, manifest->program, manifest->instance, manifest->generation,
            manifest->made_ms, at, manifest->first_seq, manifest->end_seq);
    if (err == CMQ_OK)
        err = put(text,
                  "\"log\":{\"user\":\"%s\",\"group\":\"%s\",\"mode\":%u},\n"
                  "\"groups\":{\"user\":\"%s\",\"group\":\"%s\",\"mode\":%u},\n\"files\":[\n",
                  log->user, log->group, log->mode, groups->user, groups->group, groups->mode);
    for (size_t i = 0; err == CMQ_OK && i < manifest->count; i++)
        err = put_file(text, &manifest->files[i], i + 1 == manifest->count);
    return err == CMQ_OK ? put(text, "],\n") : err;
}

static enum cmq_err write_text(int directory_fd, struct cmq_span text)
{
    static const char aside[] = CTL_MANIFEST_NAME ".tmp";
    const int fd = openat(directory_fd, aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return CMQ_ERR_SYSTEM;
    bool good = true;
    while (good && text.bytes > 0) {
        const ssize_t put_bytes = write(fd, text.data, text.bytes);
        good = put_bytes > 0 || (put_bytes < 0 && errno == EINTR);
        if (put_bytes > 0)
            text = cmq_span_make(text.data + put_bytes, text.bytes - (size_t)put_bytes);
    }
    good = good && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    CMQ_CRASH_POINT("backup.manifest");
    good = good && renameat(directory_fd, aside, directory_fd, CTL_MANIFEST_NAME) == 0;
    CMQ_CRASH_POINT("backup.renamed");
    return good && fsync(directory_fd) == 0 ? CMQ_OK : CMQ_ERR_SYSTEM;
}

enum cmq_err ctl_manifest_write(int directory_fd, const char *directory, const struct ctl_manifest *manifest,
                                struct cmq_reason *reason)
{
    struct cmq_buf text;
    uint8_t sha256[CMQ_DIGEST_BYTES];
    char hex[HEX_BYTES + 1];
    cmq_buf_init(&text, TEXT_BYTES_MAX);
    enum cmq_err err = put_all(&text, manifest);
    if (err == CMQ_OK)
        err = digest_of(cmq_buf_span(&text), sha256);
    if (err == CMQ_OK) {
        to_hex(sha256, hex);
        err = put(&text, "%s%s\"}\n", digest_line, hex);
    }
    if (err != CMQ_OK)
        err = cmq_reason_set(reason, err, "the manifest of %s cannot be made: %s", directory,
                             cmq_err_text(err));
    else if (write_text(directory_fd, cmq_buf_span(&text)) != CMQ_OK)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s/%s cannot be written: %s", directory,
                             CTL_MANIFEST_NAME, strerror(errno));
    cmq_buf_fini(&text);
    return err;
}

/* ---- reading ---- */

static enum cmq_err read_text(int directory_fd, struct cmq_buf *text)
{
    const int fd = openat(directory_fd, CTL_MANIFEST_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? CMQ_ERR_NOT_FOUND : errno == EACCES ? CMQ_ERR_PERMISSION : CMQ_ERR_SYSTEM;
    enum cmq_err err = CMQ_OK;
    ssize_t got = 1;
    while (err == CMQ_OK && got > 0) {
        err = cmq_buf_reserve(text, 65536);
        got = err == CMQ_OK ? read(fd, text->data + text->bytes, 65535) : 0; /* room for a NUL stays */
        if (got < 0)
            err = CMQ_ERR_SYSTEM;
        else
            text->bytes += (size_t)got;
    }
    (void)close(fd);
    if (err == CMQ_OK)
        text->data[text->bytes] = '\0';
    return err;
}

/* Whether the last line is the digest of those before it. */
static bool is_whole(const struct cmq_buf *text)
{
    uint8_t said[CMQ_DIGEST_BYTES], is[CMQ_DIGEST_BYTES];
    const size_t tail = sizeof digest_line - 1 + HEX_BYTES + 3; /* "}\n */
    if (text->bytes <= tail || memchr(text->data, '\0', text->bytes) != NULL)
        return false;
    const char *last = (const char *)text->data + text->bytes - tail;
    return strncmp(last, digest_line, sizeof digest_line - 1) == 0 &&
           from_hex(last + sizeof digest_line - 1, said) && strcmp(last + tail - 3, "\"}\n") == 0 &&
           digest_of(cmq_span_make(text->data, text->bytes - tail), is) == CMQ_OK &&
           memcmp(said, is, sizeof is) == 0;
}

static bool parse_file(const char *line, struct ctl_kept_file *ret_file)
{
    char kind[8], sealed[8], hex[HEX_BYTES + 1];
    struct ctl_kept_file file = {.kind = CTL_KEPT_LOG};
    if (sscanf(line,
               "{\"kind\":\"%7[a-z]\",\"file\":\"%63[^\"/]\",\"as\":\"%39[^\"/]\",\"first\":%" SCNu64
               ",\"bytes\":%" SCNu64 ",\"size\":%" SCNu64 ",\"made_ms\":%" SCNu64
               ",\"sealed\":%7[a-z],\"sha256\":\"%64[0-9a-f]\"}",
               kind, file.name, file.as, &file.first, &file.bytes, &file.size, &file.made_ms, sealed,
               hex) != 9 ||
        !from_hex(hex, file.sha256))
        return false;
    file.sealed = strcmp(sealed, "true") == 0;
    for (unsigned i = 0; i < CMQ_COUNT_OF(kinds); i++) {
        if (strcmp(kind, kinds[i]) == 0) {
            file.kind = (enum ctl_kept)i;
            *ret_file = file;
            return true;
        }
    }
    return false;
}

static enum cmq_err parse(const char *text, struct ctl_manifest *manifest)
{
    unsigned format;
    if (sscanf(text, "{\"format\":%u,", &format) != 1)
        return CMQ_ERR_MALFORMED;
    if (format != CTL_MANIFEST_FORMAT)
        return CMQ_ERR_VERSION;
    if (sscanf(text,
               "{\"format\":%*u,\n\"ciphermq\":\"%31[^\"]\",\n\"instance\":\"%39[^\"]\",\n\"generation\":"
               "%" SCNu64 ",\n\"made_ms\":%" SCNu64 ",\n\"made\":\"%*[^\"]\",\n\"first\":%" SCNu64
               ",\n\"end\":%" SCNu64 ",\n\"log\":{\"user\":\"%39[^\"]\",\"group\":\"%39[^\"]\",\"mode\":%u},"
               "\n\"groups\":{\"user\":\"%39[^\"]\",\"group\":\"%39[^\"]\",\"mode\":%u}",
               manifest->program, manifest->instance, &manifest->generation, &manifest->made_ms,
               &manifest->first_seq, &manifest->end_seq, manifest->log.user, manifest->log.group,
               &manifest->log.mode, manifest->groups.user, manifest->groups.group,
               &manifest->groups.mode) != 12)
        return CMQ_ERR_MALFORMED;
    enum cmq_err err = CMQ_OK;
    const char *line = strstr(text, "\"files\":[\n");
    line = line == NULL ? NULL : strchr(line, '\n');
    for (; err == CMQ_OK && line != NULL && line[1] == '{'; line = strchr(line + 1, '\n')) {
        struct ctl_kept_file file;
        err = parse_file(line + 1, &file) ? ctl_manifest_add(manifest, &file) : CMQ_ERR_MALFORMED;
    }
    return err == CMQ_OK && line == NULL ? CMQ_ERR_MALFORMED : err;
}

enum cmq_err ctl_manifest_read(int directory_fd, const char *directory, struct ctl_manifest *ret_manifest,
                               struct cmq_reason *reason)
{
    struct ctl_manifest manifest = {.count = 0};
    struct cmq_buf text;
    cmq_buf_init(&text, TEXT_BYTES_MAX);
    enum cmq_err err = read_text(directory_fd, &text);
    if (err == CMQ_ERR_NOT_FOUND)
        err = cmq_reason_set(reason, err, "%s has no %s: it is no finished backup", directory,
                             CTL_MANIFEST_NAME);
    else if (err != CMQ_OK)
        err = cmq_reason_set(reason, err, "%s/%s cannot be read: %s", directory, CTL_MANIFEST_NAME,
                             strerror(errno));
    else
        err = is_whole(&text) ? parse((const char *)text.data, &manifest) : CMQ_ERR_MALFORMED;
    if (err == CMQ_ERR_MALFORMED)
        (void)cmq_reason_set(reason, err, "%s/%s is damaged: use another backup", directory,
                             CTL_MANIFEST_NAME);
    else if (err == CMQ_ERR_VERSION)
        (void)cmq_reason_set(reason, err, "%s/%s was written by a newer version: use that one", directory,
                             CTL_MANIFEST_NAME);
    cmq_buf_fini(&text);
    if (err == CMQ_OK)
        *ret_manifest = manifest;
    else
        ctl_manifest_fini(&manifest);
    return err;
}
