/*
 * cmq_ledger_row: what the rows of the groups' state hold.
 * Ownership: the caller's memory; rows are stored as they are.
 * Units: seq = record number; messages.
 * Errors: none.
 * Callers: common/ledger, the dispatcher.
 */
#ifndef CMQ_LEDGER_ROW_H
#define CMQ_LEDGER_ROW_H

#include "common/base/cmq_base.h"

#define CMQ_LEDGER_GROUP_BYTES_MAX 64u /* of a name: [A-Za-z0-9_.-]+ */
#define CMQ_LEDGER_NOBODY          0u  /* owner of a claim that was given up */

struct cmq_ledger_row {
    uint64_t start_seq;
    uint32_t id;
    char topic[256];
    uint32_t start_index;
};

/* Acked messages of a record that is not done, and how often its others were delivered. */
struct cmq_ledger_acked {
    uint32_t first, count; /* messages first .. first + count - 1 are acked, or ... */
    uint32_t
        attempts; /* ... if not 0, were delivered so often (CMQ_LEDGER_ACKED_DEAD added: and never will be again) */
};
#define CMQ_LEDGER_ACKED_DEAD  0x80000000u
#define CMQ_LEDGER_ACKED_CHUNK 4096u /* messages; acks of a record are stored in pieces of so many */

struct cmq_ledger_claim {
    uint64_t to, owner, noted_seq;
    uint32_t noted_index, losses;
};

/* Below `frontier` every record is done or in a claim. No claim of nobody lies below `given_up`. */
struct cmq_ledger_front {
    uint64_t frontier, given_up;
};

#endif
