/*
 * enc_filter: decides for each sealed record what the log gets of it: all, a part, or nothing (idempotent publish).
 * Ownership: keys, cipher, table and buffers of one thread; the table is open between open and close only. Payloads that
 *            it makes anew are its own, until the next begin.
 * Units: as in enc_idem.h.
 * Errors: CMQ_ERR_FULL, CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM, CMQ_ERR_PERMISSION: not now; the group ends before this record.
 *         CMQ_ERR_CORRUPT: the table; close, discard, open. What is wrong with a record is no error: the record is VOID.
 * Callers: the log thread.
 *
 * Happy path of a group: begin, record for each in order, commit, then the caller appends. The table is written first: what
 * it has beyond the end of the log is cut off when it is opened, and a record that is judged again after a failed append
 * finds itself, which is no duplicate.
 */
#ifndef ENC_FILTER_H
#define ENC_FILTER_H

#include "common/shm/cmq_ring.h"
#include "encryptor/enc_idem.h"
#include "encryptor/enc_unit.h"
#include "encryptor/log/enc_log.h"

struct enc_filter;

CMQ_MUST_USE enum cmq_err enc_filter_new(const struct cmq_keyring_paths *paths,
                                         const struct enc_idem_setup *setup, struct enc_filter **ret_filter,
                                         struct cmq_reason *reason);
/* NULL is fine. */
void enc_filter_free(struct enc_filter *filter);

/* Opens the table of a log that ends before next_seq. *ret_applied as in enc_idem_open: the caller applies what follows. */
CMQ_MUST_USE enum cmq_err enc_filter_open(struct enc_filter *filter, uint64_t next_seq, uint64_t *ret_applied,
                                          struct cmq_reason *reason);
void enc_filter_close(struct enc_filter *filter);
/* Closes the table and removes its files, as far as that works: what is left is refused again. */
void enc_filter_discard(struct enc_filter *filter);

/* Notes the ids of a record that is in the log. Damage is skipped. */
CMQ_MUST_USE enum cmq_err enc_filter_apply(struct enc_filter *filter, uint64_t seq, uint64_t stored_at_ms,
                                           struct cmq_span payload);

struct enc_verdict {
    struct enc_log_record record;
    struct cmq_outcome outcome;
    bool told; /* the outcome is to be set even if it is KEPT: an earlier judge may have said otherwise */
};
void enc_filter_begin(struct enc_filter *filter, uint64_t now_ms);
CMQ_MUST_USE enum cmq_err enc_filter_record(struct enc_filter *filter, const struct cmq_committed *committed,
                                            struct enc_verdict *ret_verdict);
/* applied: the log has everything below it. Cheap when no record of the group had ids. */
CMQ_MUST_USE enum cmq_err enc_filter_commit(struct enc_filter *filter, uint64_t applied);
/* Between groups: removes entries that are too old, a bounded number at a time, and notes `applied`. */
CMQ_MUST_USE enum cmq_err enc_filter_tidy(struct enc_filter *filter, uint64_t applied, uint64_t now_ms);
/* NULL when the table is not open. */
const struct enc_idem *enc_filter_table(const struct enc_filter *filter);
uint64_t enc_filter_window_ms(const struct enc_filter *filter);

#endif
