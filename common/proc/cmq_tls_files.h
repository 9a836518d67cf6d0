/*
 * cmq_tls_files: the certificate, key and client authorities of [tls]: read and checked as files, and watched.
 * Ownership: struct cmq_tls_files holds heap memory until clear, which wipes the key. The paths are borrowed from the
 *            configuration and must outlive the watch.
 * Units: bytes; nanoseconds (monotonic).
 * Errors: CMQ_ERR_INVALID (not there, no regular file, empty, too large), CMQ_ERR_PERMISSION, CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM,
 *         each with a sentence: file, fault, fix.
 * Callers: one thread a struct.
 *
 * One pair serves both ports, but each stage has another TLS library; what the PEM says is theirs to judge. Symlinks are
 * followed: tools that renew certificates use them.
 */
#ifndef CMQ_TLS_FILES_H
#define CMQ_TLS_FILES_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_buf.h"
#include "common/base/cmq_reason.h"
#include "common/conf/cmq_conf.h"

#define CMQ_TLS_FILE_BYTES_MAX (1u << 20)
#define CMQ_TLS_NAME_BYTES_MAX 255u

enum cmq_tls_file { CMQ_TLS_CERT, CMQ_TLS_KEY, CMQ_TLS_CLIENT_CA, CMQ_TLS_FILE_COUNT };

/* PEM texts, each with a zero byte behind it that is not counted. The last one is empty when no client is asked. */
struct cmq_tls_files {
    struct cmq_buf text[CMQ_TLS_FILE_COUNT];
};

/* [tls] as a stage uses it. path "": none. */
struct cmq_tls_setup {
    const char *path[CMQ_TLS_FILE_COUNT];
    enum cmq_conf_client_cert client_cert;
};
/* False: no TLS. The paths are conf's memory. */
bool cmq_tls_setup(const struct cmq_conf *conf, struct cmq_tls_setup *ret_setup);

/* Nothing is held after an error. */
CMQ_MUST_USE enum cmq_err cmq_tls_files_read(const struct cmq_tls_setup *setup,
                                             struct cmq_tls_files *ret_files, struct cmq_reason *reason);
/* Wipes and frees. A zeroed struct is fine. */
void cmq_tls_files_clear(struct cmq_tls_files *files);

/* Whether a name found in a client's certificate can be one of the names in the file of tokens: 1 to
 * CMQ_TLS_NAME_BYTES_MAX printable ASCII characters, no blanks at the ends, and none of those that the text form of a
 * subject quotes (RFC 4514), about which TLS libraries differ. */
bool cmq_tls_name_is_plain(const char *name, size_t bytes);

/* Names one version of a file; all zero: it is not there. */
struct cmq_tls_stamp {
    uint64_t device, inode, bytes;
    int64_t changed_s, changed_ns;
};

struct cmq_tls_watch {
    const struct cmq_tls_setup *setup; /* borrowed */
    struct cmq_tls_stamp used[CMQ_TLS_FILE_COUNT], seen[CMQ_TLS_FILE_COUNT];
    uint64_t look_ns;
};
/* Call it before the files are read for the first time. */
void cmq_tls_watch_init(struct cmq_tls_watch *watch, const struct cmq_tls_setup *setup);
/* Whether the files are to be read: they have changed, and then stayed as they are from one look to the next, so that a
 * certificate is not read before its key is there too. Looks about once a second. True once a version. */
bool cmq_tls_watch_changed(struct cmq_tls_watch *watch, uint64_t now_ns);

#endif
