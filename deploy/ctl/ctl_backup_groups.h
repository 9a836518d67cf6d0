/*
 * ctl_backup_groups: the state of consumer groups, as it is at one moment, while dispatchers go on.
 * Ownership: none.
 * Units: bytes.
 * Errors: CMQ_ERR_NOT_FOUND (there are no groups yet), CMQ_ERR_SYSTEM, CMQ_ERR_CORRUPT, with a sentence.
 * Callers: the only thread.
 */
#ifndef CTL_BACKUP_GROUPS_H
#define CTL_BACKUP_GROUPS_H

#include "common/base/cmq_reason.h"

#define CTL_GROUPS_NAME "acks.mdb" /* of dispatcher/dsp_ledger.c; claims are made anew */

/* Writes a compact copy to fd. */
CMQ_MUST_USE enum cmq_err ctl_backup_groups(const char *groups_directory, int fd, struct cmq_reason *reason);

#endif
