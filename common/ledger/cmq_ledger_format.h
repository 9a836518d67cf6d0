/*
 * cmq_ledger_format: the rows of the two LMDB environments that have the state of consumer groups (dispatcher/dsp_ledger.h
 * explains what they mean, and who may write them when).
 * Ownership: the caller's memory.
 * Units: seq; keys are big-endian, so that they sort as numbers. Rows are as this machine lays out their structs.
 * Errors: LMDB's codes (int); cmq_ledger_err turns one into an enum cmq_err.
 * Callers: common/ledger, dsp_ledger*.c.
 *
 *   acks.mdb          groups  name -> struct cmq_ledger_row; "format\0" -> uint32_t; "next\0" -> uint32_t, once a group was
 *                             moved or removed: the id of the next one. An id is never used again, so what a dispatcher still
 *                             writes under an old one concerns nobody
 *                     done    (group, from) -> to; neighbours are merged, so no two ranges of a group touch
 *                     acked   (group, seq, chunk) -> struct cmq_ledger_acked [1..]
 *   claims-BOOT.mdb   (group, from) -> struct cmq_ledger_claim; (group, UINT64_MAX) -> struct cmq_ledger_front
 *
 * Format 2 is format 1 with a "next": who knows format 1 only would give an id again.
 */
#ifndef CMQ_LEDGER_FORMAT_H
#define CMQ_LEDGER_FORMAT_H

#include <lmdb.h>
#include <string.h>

#include "common/base/cmq_reason.h"
#include "common/ledger/cmq_ledger_row.h"

#define CMQ_LEDGER_FORMAT       1u
#define CMQ_LEDGER_FORMAT_MAX   2u
#define CMQ_LEDGER_FORMAT_KEY   "format" /* these two with their NUL, which no group's name has */
#define CMQ_LEDGER_NEXT_KEY     "next"
#define CMQ_LEDGER_READERS_MAX  256u
#define CMQ_LEDGER_TABLES_MAX   8u
#define CMQ_LEDGER_PATH_BYTES   512u
#define CMQ_LEDGER_CLAIMS_BYTES 80u /* "claims-BOOT.mdb" */

/* ---- keys ---- */

struct cmq_ledger_key {
    uint8_t bytes[16]; /* group, seq[, chunk] */
};

static inline void cmq_ledger_key_put(struct cmq_ledger_key *key, uint32_t group, uint64_t seq,
                                      uint32_t chunk)
{
    for (unsigned i = 0; i < 4; i++)
        key->bytes[i] = (uint8_t)(group >> (24 - 8 * i));
    for (unsigned i = 0; i < 8; i++)
        key->bytes[4 + i] = (uint8_t)(seq >> (56 - 8 * i));
    for (unsigned i = 0; i < 4; i++)
        key->bytes[12 + i] = (uint8_t)(chunk >> (24 - 8 * i));
}

/* Key of done and claims. */
static inline MDB_val cmq_ledger_key_seq(struct cmq_ledger_key *key, uint32_t group, uint64_t seq)
{
    cmq_ledger_key_put(key, group, seq, 0);
    return (MDB_val){.mv_size = 12, .mv_data = key->bytes};
}

static inline MDB_val cmq_ledger_key_chunk(struct cmq_ledger_key *key, uint32_t group, uint64_t seq,
                                           uint32_t chunk)
{
    cmq_ledger_key_put(key, group, seq, chunk);
    return (MDB_val){.mv_size = 16, .mv_data = key->bytes};
}

static inline uint64_t cmq_ledger_key_number(const MDB_val *key, size_t offset, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number = number << 8 | ((const uint8_t *)key->mv_data)[offset + i];
    return number;
}

/* The seq of a key of that group; false: it is another group's. */
static inline bool cmq_ledger_key_is(const MDB_val *key, uint32_t group, uint64_t *ret_seq)
{
    if (key->mv_size < 12 || cmq_ledger_key_number(key, 0, 4) != group)
        return false;
    *ret_seq = cmq_ledger_key_number(key, 4, 8);
    return true;
}

/* Whether a key of `groups` is the name of one. */
static inline bool cmq_ledger_key_is_name(const MDB_val *key)
{
    return key->mv_size > 0 && key->mv_size <= CMQ_LEDGER_GROUP_BYTES_MAX &&
           memchr(key->mv_data, '\0', key->mv_size) == NULL;
}

/* A number of a value; 0: it is none. */
static inline uint64_t cmq_ledger_value_u64(const MDB_val *value)
{
    uint64_t number = 0;
    if (value->mv_size == sizeof number)
        memcpy(&number, value->mv_data, sizeof number);
    return number;
}

/* A row as it is stored, whatever its size; the topic ends with a NUL. */
void cmq_ledger_row_read(const MDB_val *value, struct cmq_ledger_row *ret_row);

/* ---- files ---- */

/* Name of the claims' file of this boot, or of the one that is given (NULL: the kernel's). */
CMQ_MUST_USE enum cmq_err cmq_ledger_claims_name(const char *boot_id, char ret_name[CMQ_LEDGER_CLAIMS_BYTES],
                                                 struct cmq_reason *reason);
/* LMDB maps the file and believes its head: what was cut off would be a SIGBUS later. */
int cmq_ledger_check_size(MDB_env *env);
/* The format that is stored; 0: none yet. An LMDB code. */
int cmq_ledger_format_read(MDB_txn *txn, MDB_dbi groups, uint32_t *ret_format);

enum cmq_err cmq_ledger_err(int code);
/* The sentence of a code, with the fix. Returns its error. */
enum cmq_err cmq_ledger_refuse(struct cmq_reason *reason, const char *path, int code);
/* The same for a format that is not known. */
enum cmq_err cmq_ledger_refuse_format(struct cmq_reason *reason, const char *path);

#endif
