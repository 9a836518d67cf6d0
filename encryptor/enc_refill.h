/*
 * enc_refill: brings the table of message ids up to the end of the log.
 * Ownership: borrows everything for the call.
 * Units: as in cmq_journal.h.
 * Errors: as enc_filter.h and cmq_journal.h; damaged records are skipped and said.
 * Callers: the log thread, while it holds the log lock and before it appends.
 */
#ifndef ENC_REFILL_H
#define ENC_REFILL_H

#include <stdatomic.h>

#include "common/journal/cmq_journal.h"
#include "encryptor/enc_filter.h"

struct enc_refill {
    const char *directory;
    const struct cmq_file_ops *ops;
    uint64_t applied; /* as enc_filter_open said */
    uint64_t next_seq;
    uint64_t now_ms;
    const atomic_uint *stop; /* non-zero: end early, with CMQ_ERR_AGAIN; NULL: never */
};
/* *ret_records: how many records with ids were read. */
CMQ_MUST_USE enum cmq_err enc_refill(const struct enc_refill *refill, struct enc_filter *filter,
                                     uint64_t *ret_records, struct cmq_reason *reason);

#endif
