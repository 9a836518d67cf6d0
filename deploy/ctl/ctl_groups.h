/*
 * ctl_groups: what the files of the command `groups` share.
 * Ownership: lags are the caller's array, one for each group of the look.
 * Units: messages, records.
 * Errors: as ctl_log.h.
 * Callers: the only thread.
 */
#ifndef CTL_GROUPS_H
#define CTL_GROUPS_H

#include "common/ledger/cmq_ledger_look.h"
#include "ctl.h"

/* Records below end_seq that are not done for the group; those below log_floor are not there any more. */
uint64_t ctl_groups_lag_records(const struct cmq_ledger_group *group, uint64_t log_floor, uint64_t end_seq);
/* Messages of its topic that are not done for each group, by one walk over the log. */
CMQ_MUST_USE enum cmq_err ctl_groups_lag(const struct ctl *ctl, const struct cmq_ledger_look *look,
                                         uint64_t end_seq, uint64_t *ret_messages, struct cmq_reason *reason);

#endif
