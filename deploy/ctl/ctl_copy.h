/*
 * ctl_copy: files of a backup: copied so that they are there whole or not at all, and read back.
 * Ownership: a copier owns its buffer and digest; progress and descriptors are borrowed.
 * Units: bytes.
 * Errors: CMQ_ERR_SYSTEM, CMQ_ERR_PERMISSION, CMQ_ERR_NOT_FOUND, CMQ_ERR_MALFORMED (not what the manifest says), CMQ_ERR_NOMEM,
 *         each with a sentence that names the file.
 * Callers: the only thread.
 */
#ifndef CTL_COPY_H
#define CTL_COPY_H

#include "ctl_manifest.h"
#include "ctl_progress.h"

struct ctl_copier {
    struct cmq_digest *digest;
    uint8_t *block;
    struct ctl_progress progress;
};

CMQ_MUST_USE enum cmq_err ctl_copier_init(struct ctl_copier *copier);
/* Accepts a zeroed struct. Takes the progress line away. */
void ctl_copier_fini(struct ctl_copier *copier);

/* A new file that has no name yet. */
struct ctl_target {
    int directory_fd;
    const char *directory; /* for sentences */
    char name[72];         /* what it will be called; until then NAME.tmp */
    int fd;
};
/* What an interrupted run left under the other name is written over. */
CMQ_MUST_USE enum cmq_err ctl_target_open(struct ctl_target *ret_target, int directory_fd,
                                          const char *directory, const char *name, struct cmq_reason *reason);
/* The first `bytes` of source_fd; their digest. */
CMQ_MUST_USE enum cmq_err ctl_target_fill(struct ctl_target *target, struct ctl_copier *copier, int source_fd,
                                          uint64_t bytes, uint8_t ret_sha256[CMQ_DIGEST_BYTES],
                                          struct cmq_reason *reason);
/* Synced, not renamed. Closes it, whatever becomes of it. */
CMQ_MUST_USE enum cmq_err ctl_target_sync(struct ctl_target *target, struct cmq_reason *reason);
CMQ_MUST_USE enum cmq_err ctl_target_rename(const struct ctl_target *target, struct cmq_reason *reason);
/* Removes it. */
void ctl_target_drop(struct ctl_target *target);

/* Reads the first `bytes` of a file. */
CMQ_MUST_USE enum cmq_err ctl_copy_digest(struct ctl_copier *copier, int fd, uint64_t bytes,
                                          uint8_t ret_sha256[CMQ_DIGEST_BYTES]);
/* CMQ_ERR_MALFORMED, CMQ_ERR_NOT_FOUND: the file of the backup is not what the manifest says; the sentence names it. */
CMQ_MUST_USE enum cmq_err ctl_copy_check(struct ctl_copier *copier, int directory_fd, const char *directory,
                                         const struct ctl_kept_file *file, struct cmq_reason *reason);

#endif
