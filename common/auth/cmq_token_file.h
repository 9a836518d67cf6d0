/*
 * cmq_token_file: the file of tokens: checked reading, line by line; the lock and the atomic writing of ciphermqctl.
 * Ownership: buffers are the caller's; a lock is a file descriptor, closed by unlock.
 * Units: bytes, milliseconds.
 * Errors: a sentence that names file (and line), fault and fix: CMQ_ERR_NOT_FOUND (there is no file), CMQ_ERR_PERMISSION,
 *         CMQ_ERR_MALFORMED, CMQ_ERR_TOO_BIG, CMQ_ERR_TIMEOUT, CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM.
 * Callers: any thread. For common/auth and ciphermqctl.
 */
#ifndef CMQ_TOKEN_FILE_H
#define CMQ_TOKEN_FILE_H

#include <sys/stat.h>

#include "common/auth/cmq_token_line.h"

#define CMQ_TOKEN_FILE_BYTES_MAX    (64u << 20)
#define CMQ_TOKEN_FILE_PATH_MAX     4000u
#define CMQ_TOKEN_FILE_MODE         0640u
#define CMQ_TOKEN_FILE_LOCK_WAIT_MS 10000

/* Names one version of a file. Zeroed: there is none. */
struct cmq_token_stamp {
    uint64_t device, inode, bytes, mode, directory_mode;
    struct timespec modified, changed;
};

/* Never fails: what cannot be looked at has a stamp of zeros. */
void cmq_token_file_stamp(const char *path, struct cmq_token_stamp *ret_stamp);
bool cmq_token_stamp_equal(const struct cmq_token_stamp *a, const struct cmq_token_stamp *b);

/* A regular file, no symlink, not writable by group or others, not readable by others; nor may the directory be writable
 * by them (unless sticky), who could put another file there. Replaces the content. */
CMQ_MUST_USE enum cmq_err cmq_token_file_load(const char *path, struct cmq_buf *content,
                                              struct cmq_reason *reason);

/* Called for each line that is no comment; raw is the line without its newline. An error of it ends the walk, and its
 * sentence gets file and line in front. */
typedef enum cmq_err cmq_token_file_visit(void *context, size_t number, struct cmq_span raw,
                                          const struct cmq_token_line *line, struct cmq_reason *reason);
/* path: for sentences. */
CMQ_MUST_USE enum cmq_err cmq_token_file_walk(const char *path, struct cmq_span content,
                                              cmq_token_file_visit *visit, void *context,
                                              struct cmq_reason *reason);

/* Exclusive between processes; waits, bounded. The directory must exist. */
CMQ_MUST_USE enum cmq_err cmq_token_file_lock(const char *path, int *ret_fd, struct cmq_reason *reason);
void cmq_token_file_unlock(int fd);
/* Written aside as "<path>.new", synced, renamed, directory synced: after a crash at any moment path is the old file or the
 * new one, whole. The caller holds the lock. Mode 0640; owner (if root) and group stay, a new file has the directory's
 * group where this user may give it. */
CMQ_MUST_USE enum cmq_err cmq_token_file_write(const char *path, struct cmq_span content,
                                               struct cmq_reason *reason);

/* Under the lock: reads, changes one line, writes. The rest of the file, comments too, stays as it is, and has to be right.
 * add makes a file that is not there. CMQ_ERR_EXISTS: the name is used; remove: CMQ_ERR_NOT_FOUND: it is not. */
CMQ_MUST_USE enum cmq_err cmq_token_file_add(const char *path, const struct cmq_token_line *line,
                                             struct cmq_reason *reason);
CMQ_MUST_USE enum cmq_err cmq_token_file_remove(const char *path, struct cmq_span name,
                                                struct cmq_reason *reason);

/* A new token and its digest. CMQ_ERR_SYSTEM: no random bytes. */
CMQ_MUST_USE enum cmq_err cmq_token_make(char ret_token[CMQ_TOKEN_BYTES + 1],
                                         uint8_t ret_digest[CMQ_TOKEN_DIGEST_BYTES]);
void cmq_token_digest(struct cmq_span token, uint8_t ret_digest[CMQ_TOKEN_DIGEST_BYTES]);

#endif
