/*
 * dsp_groups_gap: records that nobody can have any more, from found to told. For the files of dsp_groups.
 * Ownership: a group owns its gaps.
 * Units: records.
 * Errors: none; want of memory is noted in the groups and ends the process.
 * Callers: the delivery thread.
 */
#ifndef DSP_GROUPS_GAP_H
#define DSP_GROUPS_GAP_H

#include "dispatcher/dsp_groups_int.h"

/* Records that members are to be told of before they are done. */
enum dsp_gap_kind {
    DSP_GAP_CLAIMED, /* not in the log, or damaged; claimed, and not in hand */
    DSP_GAP_FLOOR,   /* below the log's floor, whoever has claims there */
    DSP_GAP_PASSED   /* in hand, with messages that were passed */
};
struct dsp_gap {
    struct dsp_gap *next;
    uint64_t from, to;
    enum dsp_gap_kind kind;
    bool damaged;
};

/* Tells every member; done when one of them was told. Auto-ack groups: done at once. */
void dsp_gap_add(struct dsp_groups *groups, struct dsp_group *group, uint64_t from, uint64_t to, bool damaged,
                 enum dsp_gap_kind kind);
/* A member left, who may have been the only one that knows. */
void dsp_gaps_tell_again(struct dsp_groups *groups, const struct dsp_group *group);
/* Whoever claims these records next finds the gaps again. */
void dsp_gaps_let_go(struct dsp_groups *groups, struct dsp_group *group);

/* The record is gone from under a hand: nothing of it can be delivered any more. */
void dsp_gap_of_hand(struct dsp_groups *groups, struct dsp_hand *hand, bool damaged);
/* For that, in dsp_groups_hand.c: commits its acks and takes it out of the group without calling it done. */
void dsp_hand_lose(struct dsp_groups *groups, struct dsp_hand *hand);
/* Retention may have overtaken the group. */
void dsp_group_check_floor(struct dsp_groups *groups, struct dsp_group *group);

#endif
