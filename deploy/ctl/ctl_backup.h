/*
 * ctl_backup: what backup and restore share besides the manifest.
 * Ownership: none.
 * Units: none.
 * Errors: CMQ_ERR_SYSTEM, CMQ_ERR_PERMISSION with a sentence.
 * Callers: the only thread.
 */
#ifndef CTL_BACKUP_H
#define CTL_BACKUP_H

#include "common/conf/cmq_conf.h"

#define CTL_BACKUP_KEYS "keys" /* a directory in that of the backup */

/* Copies KEK, delivery KEK and keyring to CTL_BACKUP_KEYS, mode 0400. */
CMQ_MUST_USE enum cmq_err ctl_backup_keys(const struct cmq_conf *conf, int directory_fd,
                                          const char *directory, struct cmq_reason *reason);

#endif
