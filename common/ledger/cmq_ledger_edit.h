/*
 * cmq_ledger_edit: what an operator changes in the state of a group: where it is, or that there is one.
 * Ownership: none.
 * Units: seq = record number.
 * Errors: CMQ_ERR_NOT_FOUND (no such group), CMQ_ERR_EXISTS (it has another topic), CMQ_ERR_FULL, CMQ_ERR_PERMISSION, ...
 * Callers: a process that has not opened the same files otherwise; root, or the dispatchers' user. Waits for the disk.
 *
 * A group begins anew as another group of the same name: its row gets an id that no group ever had, and the rows of the old id
 * go, all in one synced transaction. So it needs nothing from the dispatchers: what one of them has in mind or still commits is
 * under the old id and concerns nobody, and whoever claims for it finds that the name has another id (CMQ_ERR_LOST), ends what
 * it has in hand and goes on with the new one (dsp_groups_hand.c).
 *
 *   step                                         a death there leaves               who repairs it
 *   new row, "next", format 2, old rows removed, the group as it was                nobody needs to
 *   one synced commit
 *     groups.changed                             the group at its new place, and    nobody needs to: an id is not used
 *   claims of the old id removed, one commit     claims under an id of nobody       again, and claims end with the boot
 */
#ifndef CMQ_LEDGER_EDIT_H
#define CMQ_LEDGER_EDIT_H

#include "common/base/cmq_reason.h"
#include "common/ledger/cmq_ledger_row.h"

/* The next message that the group gets is the first of its topic at or behind start_seq-start_index. */
CMQ_MUST_USE enum cmq_err cmq_ledger_move(const char *directory, const char *name, const char *topic,
                                          uint64_t start_seq, uint32_t start_index, uint32_t *ret_old_id,
                                          struct cmq_reason *reason);
/* As if nobody had ever consumed with that name. */
CMQ_MUST_USE enum cmq_err cmq_ledger_remove(const char *directory, const char *name, const char *topic,
                                            uint32_t *ret_old_id, struct cmq_reason *reason);
/* The second step. What fails here is left: nobody asks for it. */
void cmq_ledger_forget_claims(const char *directory, uint32_t old_id);

#endif
