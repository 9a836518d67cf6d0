/*
 * dsp_ledger: the durable state of consumer groups, and who works on which records now. Shared by all dispatchers.
 * Ownership: two LMDB environments in one directory of the dispatchers' user. `acks` (synced) has groups, the set of done
 *            records and the acked messages of half-done ones: it survives power cuts. `claims` (not synced, begun anew
 *            after a boot, since every claim then is dead) has the ranges of records that dispatchers work on.
 * Units: seq = record number; ranges are [from, to).
 * Errors: CMQ_ERR_FULL (map size), CMQ_ERR_INVALID (owner, directory), CMQ_ERR_CORRUPT, CMQ_ERR_SYSTEM, ...
 * Callers: claim, give_up and note: the delivery thread (microseconds, no sync). commit: the ledger thread (waits for the
 *          disk).
 *
 * A record of a group is done, claimed, or free; done and claimed are sets of ranges. Below a group's frontier every record
 * is done or in a claim; a claim of nobody (given up) or of a dead owner is free. Two environments are two commits, in an
 * order that never leaves a record neither done nor claimed:
 *
 *   step                                        a death there leaves                    who repairs it
 *   claim:   row and frontier, one commit       a claim of a dead owner                 who claims next takes it over
 *     ledger.claimed
 *   note:    progress into the row, one commit  as before; what is noted is not         the taker skips what was noted
 *     ledger.noted                              delivered again
 *   commit:  "done" into acks, one synced       nothing, or all of it, done; the claim  who claims next: done goes before
 *     ledger.committed (commit)                 behind it still there                   claims, such a claim is dropped
 *            claims trimmed, one commit
 *     ledger.unclaimed
 * A claimer reads acks after it has the claims' writer lock, so a claim that it does not find any more is done there.
 * LMDB's lock is robust: a writer that dies leaves the state before its transaction. Files of claims are named by the boot.
 */
#ifndef DSP_LEDGER_H
#define DSP_LEDGER_H

#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/ledger/cmq_ledger_row.h"

#define DSP_GROUP_NAME_BYTES_MAX CMQ_LEDGER_GROUP_BYTES_MAX

struct dsp_ledger;

struct dsp_ledger_setup {
    const char *directory; /* made (0700) if only its last part is missing */
    uint64_t map_bytes;
    uint64_t owner; /* names this process among the dispatchers; not 0; never used again */
    bool (*is_alive)(void *context, uint64_t owner);
    void *context;
    const char *boot_id; /* NULL: the kernel's */
    /* Another ledger of this process in that directory, or NULL: LMDB must not be open twice in a process. */
    struct dsp_ledger *beside;
};
CMQ_MUST_USE enum cmq_err dsp_ledger_open(const struct dsp_ledger_setup *setup,
                                          struct dsp_ledger **ret_ledger, struct cmq_reason *reason);
void dsp_ledger_close(struct dsp_ledger *ledger); /* gives up all claims of this owner; NULL is fine */
/* As a death would: the claims stay. For tests. */
void dsp_ledger_abandon(struct dsp_ledger *ledger);

struct dsp_ledger_group {
    uint32_t id;
    char name[DSP_GROUP_NAME_BYTES_MAX + 1];
    char topic[256];      /* pattern */
    uint64_t start_seq;   /* records below do not concern the group */
    uint32_t start_index; /* nor do this record's messages below */
};
/* The group of that name, made if it is new (then start and topic are taken; durable when it returns). CMQ_ERR_EXISTS:
 * with another topic, which *ret_group then tells. An empty topic means the one it has; CMQ_ERR_NOT_FOUND: there is no such
 * group. The name was checked. Waits for the disk if the group is new. */
CMQ_MUST_USE enum cmq_err dsp_ledger_group(struct dsp_ledger *ledger, const char *name, struct cmq_span topic,
                                           uint64_t start_seq, uint32_t start_index,
                                           struct dsp_ledger_group *ret_group);

struct dsp_claim {
    uint64_t from, to; /* records claimed */
    /* Progress that an owner before noted: all messages below noted_seq-noted_index are delivered. */
    uint64_t noted_seq;
    uint32_t noted_index;
    uint32_t losses; /* owners that had it before and died: deliveries that nobody knows about */
};
/* The lowest free records of [begin_seq, end_seq), at most records_max of them, consecutive. Records below begin_seq are gone
 * from the log. CMQ_ERR_AGAIN: nothing free. CMQ_ERR_LOST: the group was moved or removed (common/ledger/cmq_ledger_edit.h): this
 * group is over. */
CMQ_MUST_USE enum cmq_err dsp_ledger_claim(struct dsp_ledger *ledger, const struct dsp_ledger_group *group,
                                           uint64_t begin_seq, uint64_t end_seq, uint32_t records_max,
                                           struct dsp_claim *ret_claim);
/* [from, to) of own claims is free for others at once. noted as in dsp_claim (0, 0: nothing). What was delivered of it
 * without an ack is in `acked` (commit it first). Any thread. */
CMQ_MUST_USE enum cmq_err dsp_ledger_give_up(struct dsp_ledger *ledger, uint32_t group, uint64_t from,
                                             uint64_t to, uint64_t noted_seq, uint32_t noted_index);
/* Auto-ack progress, for whoever takes over: all messages of the own claim below seq-index are delivered. The claim is that
 * of seq; with index 0 that of seq - 1. CMQ_ERR_LOST: it is not ours any more. */
CMQ_MUST_USE enum cmq_err dsp_ledger_note(struct dsp_ledger *ledger, uint32_t group, uint64_t seq,
                                          uint32_t index);

/* As stored: at most `max` entries, by rising first; returns how many there are. Delivery thread. */
size_t dsp_ledger_acked(struct dsp_ledger *ledger, uint32_t group, uint64_t seq,
                        struct cmq_ledger_acked *ret_acked, size_t max);

/* One change of the durable state. */
struct dsp_ledger_change {
    uint32_t group;
    uint64_t from, to; /* chunk_count 0: records [from, to) are done, and no longer claimed */
    /* Else: entries of record `from`, all that there are now in these chunks; none spans two chunks. */
    uint32_t chunk_first, chunk_count;
    const struct cmq_ledger_acked *acked; /* by rising first */
    size_t acked_count;
};
/* All or nothing, durable when it returns CMQ_OK. One thread at a time. */
CMQ_MUST_USE enum cmq_err dsp_ledger_commit(struct dsp_ledger *ledger,
                                            const struct dsp_ledger_change *changes, size_t count);

/* All records of the group below are done; 0 when that cannot be read now. Delivery thread. */
uint64_t dsp_ledger_floor(struct dsp_ledger *ledger, const struct dsp_ledger_group *group);

struct dsp_ledger_state {
    char name[DSP_GROUP_NAME_BYTES_MAX + 1];
    char topic[256];
    uint64_t floor;   /* all records below are done */
    uint64_t claimed; /* records in claims of somebody */
};
/* For status; index 0, 1, ...; CMQ_ERR_NOT_FOUND behind the last. Delivery thread. */
CMQ_MUST_USE enum cmq_err dsp_ledger_state(struct dsp_ledger *ledger, size_t index,
                                           struct dsp_ledger_state *ret_state);

/* How far a group is, for the tables of this instance. */
struct dsp_ledger_progress {
    char name[DSP_GROUP_NAME_BYTES_MAX + 1];
    struct dsp_ledger_group group;
    uint64_t floor;      /* all records below are done */
    uint64_t done_above; /* records that are done above: of the first ranges of them, if there are many */
};
/* The group whose name comes next behind `name` ("": the first one). CMQ_ERR_NOT_FOUND: that was the last one. Delivery
 * thread. */
CMQ_MUST_USE enum cmq_err dsp_ledger_next(struct dsp_ledger *ledger, const char *name,
                                          struct dsp_ledger_progress *ret_progress);

#endif
