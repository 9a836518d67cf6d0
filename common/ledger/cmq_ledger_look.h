/*
 * cmq_ledger_look: a copy of the state of all groups, as it is at one moment, for who looks on.
 * Ownership: heap memory, freed by cmq_ledger_look_free. It grows with what is done above the floors and with the messages that
 *            were acked out of order, which dispatcher.max_ack_pending bounds for each group and dispatcher.
 * Units: seq = record number, messages; ranges are [from, to).
 * Errors: CMQ_ERR_NOT_FOUND (no dispatcher has run yet), CMQ_ERR_PERMISSION, CMQ_ERR_CORRUPT, CMQ_ERR_VERSION, CMQ_ERR_NOMEM.
 * Callers: a process that has not opened the same files otherwise. Reads beside dispatchers, changes nothing, makes no file.
 */
#ifndef CMQ_LEDGER_LOOK_H
#define CMQ_LEDGER_LOOK_H

#include "common/base/cmq_reason.h"
#include "common/ledger/cmq_ledger_row.h"

#define CMQ_LEDGER_OWNERS_MAX 64u

struct cmq_ledger_done {
    uint64_t from, to;
};
struct cmq_ledger_partly {
    uint64_t seq;
    uint64_t acked; /* messages of a record that is not done */
};

struct cmq_ledger_group {
    char name[CMQ_LEDGER_GROUP_BYTES_MAX + 1];
    struct cmq_ledger_row row;
    uint64_t floor;               /* all records below are done, or do not concern it */
    struct cmq_ledger_done *done; /* above the floor, rising */
    size_t done_count, done_capacity;
    struct cmq_ledger_partly *partly; /* rising */
    size_t partly_count, partly_capacity;
    uint64_t claimed;                       /* records in claims of somebody, dead ones included */
    uint64_t owners[CMQ_LEDGER_OWNERS_MAX]; /* of those claims; cmq_ring_owner_is_alive */
    size_t owner_count;
};

struct cmq_ledger_look {
    struct cmq_ledger_group *groups; /* by name */
    size_t count, capacity;
};

CMQ_MUST_USE enum cmq_err cmq_ledger_look(const char *directory, struct cmq_ledger_look *ret_look,
                                          struct cmq_reason *reason);
/* Accepts a zeroed struct. */
void cmq_ledger_look_free(struct cmq_ledger_look *look);
/* NULL: there is no such group. */
const struct cmq_ledger_group *cmq_ledger_find(const struct cmq_ledger_look *look, const char *name);

#endif
