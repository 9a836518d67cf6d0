/*
 * dsp_ledger_int: the tables of the ledger, shared by its files.
 * Ownership: struct dsp_tables is counted by the ledgers of this process that use it.
 * Units: seq; keys are big-endian, so that they sort as numbers.
 * Errors: LMDB's codes (int) inside, enum cmq_err outside; dsp_ledger_err turns one into the other.
 * Callers: dsp_ledger*.c.
 *
 *   acks   groups  name -> id, start_seq, topic
 *          done    (group, from) -> to; neighbours are merged, so no two ranges of a group touch
 *          acked   (group, seq, chunk) -> struct dsp_acked [1..]
 *   claims rows    (group, from) -> struct dsp_row; (group, UINT64_MAX) -> struct dsp_front
 */
#ifndef DSP_LEDGER_INT_H
#define DSP_LEDGER_INT_H

#include <lmdb.h>
#include <stdatomic.h>

#include "dispatcher/dsp_ledger.h"

#define DSP_NOBODY 0u /* owner of a claim that was given up */

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

struct dsp_row {
    uint64_t to, owner, noted_seq;
    uint32_t noted_index, losses;
};

/* Below `frontier` every record is done or in a row. No row of nobody lies below `given_up`. */
struct dsp_front {
    uint64_t frontier, given_up;
};

struct dsp_key {
    uint8_t bytes[16]; /* group, seq[, chunk] */
};

static inline void dsp_key_put(struct dsp_key *key, uint32_t group, uint64_t seq, uint32_t chunk)
{
    for (unsigned i = 0; i < 4; i++)
        key->bytes[i] = (uint8_t)(group >> (24 - 8 * i));
    for (unsigned i = 0; i < 8; i++)
        key->bytes[4 + i] = (uint8_t)(seq >> (56 - 8 * i));
    for (unsigned i = 0; i < 4; i++)
        key->bytes[12 + i] = (uint8_t)(chunk >> (24 - 8 * i));
}

/* Key of done and rows. */
static inline MDB_val dsp_key_seq(struct dsp_key *key, uint32_t group, uint64_t seq)
{
    dsp_key_put(key, group, seq, 0);
    return (MDB_val){.mv_size = 12, .mv_data = key->bytes};
}

static inline MDB_val dsp_key_chunk(struct dsp_key *key, uint32_t group, uint64_t seq, uint32_t chunk)
{
    dsp_key_put(key, group, seq, chunk);
    return (MDB_val){.mv_size = 16, .mv_data = key->bytes};
}

static inline uint64_t dsp_key_number(const MDB_val *key, size_t offset, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number = number << 8 | ((const uint8_t *)key->mv_data)[offset + i];
    return number;
}

/* The seq of a key of that group; false: it is another group's. */
static inline bool dsp_key_is(const MDB_val *key, uint32_t group, uint64_t *ret_seq)
{
    if (key->mv_size < 12 || dsp_key_number(key, 0, 4) != group)
        return false;
    *ret_seq = dsp_key_number(key, 4, 8);
    return true;
}

enum cmq_err dsp_ledger_err(int code);
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
