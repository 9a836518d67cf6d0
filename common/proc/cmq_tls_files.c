#include "common/proc/cmq_tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"

#define LOOK_NS (1u * CMQ_NS_PER_S)

static const char *const key_of[CMQ_TLS_FILE_COUNT] = {"tls.cert_file", "tls.key_file", "tls.client_ca_file"};

bool cmq_tls_setup(const struct cmq_conf *conf, struct cmq_tls_setup *ret_setup)
{
    *ret_setup =
        (struct cmq_tls_setup){.path = {conf->tls_cert_file, conf->tls_key_file, conf->tls_client_ca_file},
                               .client_cert = (enum cmq_conf_client_cert)conf->tls_client_cert};
    return conf->tls_cert_file[0] != '\0';
}

static enum cmq_err refuse_open(const char *key, const char *path, int error, struct cmq_reason *reason)
{
    if (error == ENOENT || error == ENOTDIR)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "%s: there is no file %s: put it there, or correct the path", key, path);
    if (error == EACCES || error == EPERM)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s: %s cannot be read by user %u: give this user's group the right to read it "
                              "(chgrp, chmod 0640), and its directories",
                              key, path, (unsigned)geteuid());
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: cannot open %s: %s", key, path, strerror(error));
}

/* Whoever can write a file here decides whom clients, or we, trust. */
static enum cmq_err check_stat(enum cmq_tls_file file, const char *path, const struct stat *found,
                               struct cmq_reason *reason)
{
    const unsigned mode = (unsigned)found->st_mode & 07777u;
    if (!S_ISREG(found->st_mode))
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "%s: %s is not a regular file: name the PEM file itself", key_of[file], path);
    if ((mode & 0022u) != 0)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s: %s has mode %04o, so that group or others may write it: `chmod go-w %s`",
                              key_of[file], path, mode, path);
    if (file == CMQ_TLS_KEY && (mode & 0007u) != 0)
        return cmq_reason_set(
            reason, CMQ_ERR_PERMISSION,
            "%s: %s has mode %04o, so that everybody may read the key: `chmod o= %s`, and make a "
            "new key if others could read it",
            key_of[file], path, mode, path);
    if (found->st_size == 0 || (uint64_t)found->st_size > CMQ_TLS_FILE_BYTES_MAX)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "%s: %s has %lld bytes; a PEM file has 1 to %u: this is another file, or it was cut",
            key_of[file], path, (long long)found->st_size, CMQ_TLS_FILE_BYTES_MAX);
    return CMQ_OK;
}

/* As much as the file had when it was looked at; what is cut by that is no PEM text. */
static enum cmq_err read_text(const char *key, const char *path, int fd, struct cmq_buf *text,
                              struct cmq_reason *reason)
{
    const size_t room = text->capacity - 1;
    while (text->bytes < room) {
        ssize_t got = read(fd, text->data + text->bytes, room - text->bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: cannot read %s: %s", key, path,
                                  strerror(errno));
        if (got == 0)
            break;
        text->bytes += (size_t)got;
    }
    text->data[text->bytes] = '\0';
    if (memchr(text->data, '\0', text->bytes) != NULL)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s: %s has zero bytes: it is no PEM file", key, path);
    return CMQ_OK;
}

static enum cmq_err read_file(enum cmq_tls_file file, const char *path, struct cmq_buf *text,
                              struct cmq_reason *reason)
{
    struct stat found;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return refuse_open(key_of[file], path, errno, reason);
    enum cmq_err err = fstat(fd, &found) == 0 ? check_stat(file, path, &found, reason)
                                              : refuse_open(key_of[file], path, errno, reason);
    if (err == CMQ_OK && cmq_buf_reserve(text, (size_t)found.st_size + 1) != CMQ_OK)
        err = cmq_reason_set(reason, CMQ_ERR_NOMEM, "%s: no memory for %s", key_of[file], path);
    if (err == CMQ_OK)
        err = read_text(key_of[file], path, fd, text, reason);
    (void)close(fd);
    return err;
}

enum cmq_err cmq_tls_files_read(const struct cmq_tls_setup *setup, struct cmq_tls_files *ret_files,
                                struct cmq_reason *reason)
{
    struct cmq_tls_files files = {0};
    enum cmq_err err = CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < CMQ_TLS_FILE_COUNT; i++) {
        cmq_buf_init(&files.text[i], CMQ_TLS_FILE_BYTES_MAX + 1);
        if (setup->path[i][0] != '\0')
            err = read_file((enum cmq_tls_file)i, setup->path[i], &files.text[i], reason);
    }
    if (err == CMQ_OK)
        *ret_files = files;
    else
        cmq_tls_files_clear(&files);
    return err;
}

void cmq_tls_files_clear(struct cmq_tls_files *files)
{
    for (size_t i = 0; i < CMQ_TLS_FILE_COUNT; i++) {
        struct cmq_buf *text = &files->text[i];
        if (text->data != NULL)
            explicit_bzero(text->data, text->capacity);
        cmq_buf_fini(text);
    }
}

bool cmq_tls_name_is_plain(const char *name, size_t bytes)
{
    static const char quoted[] = ",+\"\\<>;=#";
    for (size_t i = 0; i < bytes; i++) {
        if (name[i] < ' ' || name[i] > '~' || memchr(quoted, name[i], sizeof quoted - 1) != NULL)
            return false;
    }
    return bytes != 0 && bytes <= CMQ_TLS_NAME_BYTES_MAX && name[0] != ' ' && name[bytes - 1] != ' ';
}

/* ---- watching ---- */

static void take_stamps(const struct cmq_tls_setup *setup,
                        struct cmq_tls_stamp ret_stamps[CMQ_TLS_FILE_COUNT])
{
    memset(ret_stamps, 0, CMQ_TLS_FILE_COUNT * sizeof *ret_stamps);
    for (size_t i = 0; i < CMQ_TLS_FILE_COUNT; i++) {
        struct stat found;
        if (setup->path[i][0] == '\0' || stat(setup->path[i], &found) != 0)
            continue;
        ret_stamps[i] = (struct cmq_tls_stamp){.device = (uint64_t)found.st_dev,
                                               .inode = (uint64_t)found.st_ino,
                                               .bytes = (uint64_t)found.st_size,
                                               .changed_s = (int64_t)found.st_ctim.tv_sec,
                                               .changed_ns = (int64_t)found.st_ctim.tv_nsec};
    }
}

void cmq_tls_watch_init(struct cmq_tls_watch *watch, const struct cmq_tls_setup *setup)
{
    *watch = (struct cmq_tls_watch){.setup = setup};
    take_stamps(setup, watch->used);
    memcpy(watch->seen, watch->used, sizeof watch->seen);
}

bool cmq_tls_watch_changed(struct cmq_tls_watch *watch, uint64_t now_ns)
{
    struct cmq_tls_stamp now[CMQ_TLS_FILE_COUNT];
    if (now_ns < watch->look_ns)
        return false;
    watch->look_ns = now_ns + LOOK_NS;
    take_stamps(watch->setup, now);
    const bool is_settled = memcmp(now, watch->seen, sizeof now) == 0;
    memcpy(watch->seen, now, sizeof now);
    if (!is_settled || memcmp(now, watch->used, sizeof now) == 0)
        return false;
    memcpy(watch->used, now, sizeof now);
    return true;
}
