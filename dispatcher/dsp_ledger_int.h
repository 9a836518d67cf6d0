/*
 * dsp_ledger_int: the tables of the ledger, shared by its files. Their rows: common/ledger/cmq_ledger_format.h.
 * Ownership: struct dsp_tables is counted by the ledgers of this process that use it.
 * Units: seq.
 * Errors: LMDB's codes (int) inside, enum cmq_err outside.
 * Callers: dsp_ledger*.c.
 */
#ifndef DSP_LEDGER_INT_H
#define DSP_LEDGER_INT_H

#include <stdatomic.h>

#include "common/ledger/cmq_ledger_format.h"
#include "dispatcher/dsp_ledger.h"

struct dsp_tables {
    MDB_env *acks, *claims;
    MDB_dbi groups, done, acked, rows;
    unsigned users;
    atomic_uint commits;
};

/* The last look for claims of the dead. */
struct dsp_scan {
    uint64_t at_ns;
    size_t rows;
};

struct dsp_ledger {
    struct dsp_tables *tables;
    uint64_t owner;
    bool (*is_alive)(void *context, uint64_t owner);
    void *context;
    MDB_txn *acks_read;        /* delivery thread; reset between uses */
    struct dsp_scan scans[64]; /* by group; two groups may share one */
};

/* The delivery thread's view of acks, as it is now; end it with mdb_txn_reset. */
int dsp_acks_begin(struct dsp_ledger *ledger);

/* The range of `done` that holds seq; else 0 and *ret_next = the first seq above that is done (UINT64_MAX: none). */
int dsp_done_find(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t seq,
                  uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_next);
/* Trims the claims that lie in a range of done records. */
int dsp_claims_trim(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t from,
                    uint64_t to);
/* All claims of this owner are free. */
int dsp_claims_free_all(MDB_txn *txn, struct dsp_ledger *ledger);
/* Records in claims of somebody. */
int dsp_claims_count(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t *ret_count);

#endif
