/*
 * dsp_groups_tell: how groups do, for the tables of this instance. Private to dsp_groups.
 * Ownership: part of the groups.
 * Units: records, messages.
 * Errors: none: what cannot be read now is told later.
 * Callers: the delivery thread.
 */
#ifndef DSP_GROUPS_TELL_H
#define DSP_GROUPS_TELL_H

#include "dispatcher/dsp_groups.h"

/* Of a group. */
struct dsp_telling {
    uint64_t redelivered, dead_letters; /* messages, not told yet */
    uint64_t done;                      /* records, as told last; 0: nothing was told */
};

/* The group that was told of last; "": all were. */
struct dsp_tell_turn {
    char name[DSP_GROUP_NAME_BYTES_MAX + 1];
};

/* A group that goes: what was counted for it is told. */
void dsp_group_tell_last(struct dsp_groups *groups, struct dsp_group *group);

#endif
