/*
 * ctl_manifest: what a backup's directory holds, as its manifest.json says. Written last, by rename: a directory is the backup
 * that its manifest describes, whatever else lies there.
 * Ownership: a manifest's files are heap memory until ctl_manifest_fini. A zeroed one is empty.
 * Units: bytes; milliseconds since 1970; seq = record number.
 * Errors: CMQ_ERR_NOT_FOUND (no manifest), CMQ_ERR_MALFORMED (damaged), CMQ_ERR_VERSION, CMQ_ERR_SYSTEM, CMQ_ERR_NOMEM,
 *         each with a sentence.
 * Callers: the only thread.
 *
 * The file is JSON with a fixed order of lines; its last line is the SHA-256 of all lines before it, so that what is read is
 * what was written.
 */
#ifndef CTL_MANIFEST_H
#define CTL_MANIFEST_H

#include <stddef.h>
#include <sys/stat.h>

#include "common/base/cmq_reason.h"
#include "common/crypto/cmq_digest.h"

#define CTL_MANIFEST_NAME   "manifest.json"
#define CTL_MANIFEST_FORMAT 1u

enum ctl_kept { CTL_KEPT_LOG, CTL_KEPT_INDEX, CTL_KEPT_GROUPS };

/* One file of the backup. Files never change under their name while a manifest names them. */
struct ctl_kept_file {
    enum ctl_kept kind;
    char name[64];    /* in the backup */
    char as[40];      /* in the broker's directory */
    uint64_t first;   /* seq of the segment; 0 for groups */
    uint64_t bytes;   /* that are kept */
    uint64_t size;    /* that the broker's file has; the rest is zeros */
    uint64_t made_ms; /* as the segment's head says: with first it names the segment */
    bool sealed;      /* a segment that never changes again */
    uint8_t sha256[CMQ_DIGEST_BYTES];
};

/* Names, so that a restore on another machine finds the right users. */
struct ctl_owner {
    char user[40], group[40];
    unsigned mode; /* of the directory */
};

struct ctl_manifest {
    char program[32]; /* version that wrote it */
    char instance[40];
    uint64_t generation; /* 1: the first backup of this directory */
    uint64_t made_ms;
    uint64_t first_seq, end_seq; /* records from, and up to but not this one */
    struct ctl_owner log, groups;
    struct ctl_kept_file *files;
    size_t count, capacity;
};

CMQ_MUST_USE enum cmq_err ctl_manifest_read(int directory_fd, const char *directory,
                                            struct ctl_manifest *ret_manifest, struct cmq_reason *reason);
/* Aside, synced, renamed, the directory synced. */
CMQ_MUST_USE enum cmq_err ctl_manifest_write(int directory_fd, const char *directory,
                                             const struct ctl_manifest *manifest, struct cmq_reason *reason);
void ctl_manifest_fini(struct ctl_manifest *manifest);

CMQ_MUST_USE enum cmq_err ctl_manifest_add(struct ctl_manifest *manifest, const struct ctl_kept_file *file);
/* NULL: it names no such file. */
const struct ctl_kept_file *ctl_manifest_find(const struct ctl_manifest *manifest, const char *name);
uint64_t ctl_manifest_bytes(const struct ctl_manifest *manifest);

void ctl_owner_of(const struct stat *found, struct ctl_owner *ret_owner);
/* CMQ_ERR_NOT_FOUND: this machine has no such user or group. */
CMQ_MUST_USE enum cmq_err ctl_owner_find(const struct ctl_owner *owner, uid_t *ret_user, gid_t *ret_group,
                                         struct cmq_reason *reason);

#endif
