/*
 * fake_groups: one consumer group over a log in memory, for tests of its callers: what dsp_groups.h says, without a ledger.
 * Ownership: new/free; borrows the source.
 * Units: as in dsp_groups.h.
 * Errors: as in dsp_groups.h.
 * Callers: one thread.
 */
#ifndef FAKE_GROUPS_H
#define FAKE_GROUPS_H

#include "dispatcher/dsp_groups.h"

/* Has a group "old" of topic "past", and makes others when they are joined; each hands out the records of its topic in order. */
struct dsp_groups *fake_groups_new(struct dsp_source *source, void (*on_ready)(void *, struct dsp_member *),
                                   void (*on_gap)(void *, struct dsp_member *, uint64_t, uint64_t, bool),
                                   void *context);
void fake_groups_free(struct dsp_groups *groups);
/* The acks so far are durable. */
void fake_groups_commit(struct dsp_groups *groups);
uint32_t fake_groups_members(const struct dsp_groups *groups);
/* How many messages were skipped; or passed, and are done since their gap was told. */
uint32_t fake_groups_skipped(const struct dsp_groups *groups);
/* Options of the last join. */
struct dsp_group_options fake_groups_options(const struct dsp_groups *groups);

#endif
