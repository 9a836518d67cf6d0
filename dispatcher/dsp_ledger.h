/*
 * dsp_ledger: the durable state of consumer groups, and who works on which records now. Shared by all dispatchers.
 * Ownership: two LMDB environments in one directory of the dispatchers' user. `acks` (synced) has groups, the set of done
 *            records and the acked messages of half-done ones: it survives power cuts. `claims` (not synced, begun anew
 *            after a boot, since every claim then is dead) has the ranges of records that dispatchers work on.
 * Units: seq = record number; ranges are [from, to).
 * Errors: CMQ_ERR_FULL (map size), CMQ_ERR_INVALID (another topic than the group has), CMQ_ERR_CORRUPT, CMQ_ERR_SYSTEM, ...
 * Callers: claim, give_up and note: the delivery thread (microseconds, no sync). commit: the ledger thread (waits for the
 *          disk).
 *
 * A record of a group is done, claimed, or free; done and claimed are sets of ranges. What a death leaves: claims of a
 * dead owner are free again (anyone who claims finds them by the owner's liveness); a claim behind a durable "done" is
 * dropped when it is met; a commit is one transaction, whole or not at all.
 */
#ifndef DSP_LEDGER_H
#define DSP_LEDGER_H

#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

#define DSP_GROUP_NAME_BYTES_MAX 64u /* [A-Za-z0-9_.-]+ */

struct dsp_ledger;

struct dsp_ledger_setup {
    const char *directory; /* made (0700) if only its last part is missing */
    uint64_t map_bytes;
    uint64_t owner; /* names this process among the dispatchers; never used again */
    bool (*is_alive)(void *context, uint64_t owner);
    void *context;
};
CMQ_MUST_USE enum cmq_err dsp_ledger_open(const struct dsp_ledger_setup *setup,
                                          struct dsp_ledger **ret_ledger, struct cmq_reason *reason);
void dsp_ledger_close(struct dsp_ledger *ledger); /* gives up all claims of this owner; NULL is fine */

struct dsp_ledger_group {
    uint32_t id;
    char topic[256];    /* pattern */
    uint64_t start_seq; /* records below do not concern the group */
};
/* The group of that name, made if it is new (then start_seq and topic are taken; durable when it returns). CMQ_ERR_INVALID:
 * it exists with another topic, which *ret_group then tells. */
CMQ_MUST_USE enum cmq_err dsp_ledger_group(struct dsp_ledger *ledger, const char *name, struct cmq_span topic,
                                           uint64_t start_seq, struct dsp_ledger_group *ret_group);

struct dsp_claim {
    uint64_t from, to; /* records claimed */
    uint64_t
        noted_seq; /* progress that the last owner noted: all messages below noted_seq-noted_index are delivered */
    uint32_t noted_index;
    bool taken_over; /* from a dead or gone owner: messages may have been delivered before */
};
/* The lowest free records below end_seq, at most records_max of them, consecutive. CMQ_ERR_AGAIN: nothing free. */
CMQ_MUST_USE enum cmq_err dsp_ledger_claim(struct dsp_ledger *ledger, uint32_t group, uint64_t end_seq,
                                           uint32_t records_max, struct dsp_claim *ret_claim);
/* [from, to) of an own claim is free for others at once. noted as in dsp_claim (0, 0: nothing). */
void dsp_ledger_give_up(struct dsp_ledger *ledger, uint32_t group, uint64_t from, uint64_t to,
                        uint64_t noted_seq, uint32_t noted_index);
/* Auto-ack progress of the own claim that contains seq, for whoever takes over. CMQ_ERR_LOST: it is not ours any more. */
CMQ_MUST_USE enum cmq_err dsp_ledger_note(struct dsp_ledger *ledger, uint32_t group, uint64_t seq,
                                          uint32_t index);

/* Acked messages of a record that is not done, and how often its others were delivered. */
struct dsp_acked {
    uint32_t first,
        count; /* messages first .. first + count - 1 are acked (attempts == 0), or were delivered so often */
    uint32_t attempts;
};
/* As stored: at most `max` entries, by rising first; returns how many there are. Delivery thread. */
size_t dsp_ledger_acked(struct dsp_ledger *ledger, uint32_t group, uint64_t seq, struct dsp_acked *ret_acked,
                        size_t max);

/* One change of the durable state. */
struct dsp_ledger_change {
    uint32_t group;
    uint64_t from, to;             /* acked NULL: records [from, to) are done, and no longer claimed */
    const struct dsp_acked *acked; /* else the whole new entry of record `from` */
    size_t acked_count;
};
/* All or nothing, durable when it returns CMQ_OK. */
CMQ_MUST_USE enum cmq_err dsp_ledger_commit(struct dsp_ledger *ledger,
                                            const struct dsp_ledger_change *changes, size_t count);

struct dsp_ledger_state {
    char name[DSP_GROUP_NAME_BYTES_MAX + 1];
    char topic[256];
    uint64_t floor;   /* all records below are done */
    uint64_t claimed; /* records in claims */
};
/* For status; index 0, 1, ...; CMQ_ERR_NOT_FOUND behind the last. */
CMQ_MUST_USE enum cmq_err dsp_ledger_state(struct dsp_ledger *ledger, size_t index,
                                           struct dsp_ledger_state *ret_state);

#endif
