#include <string.h>

#include "common/shm/cmq_tables.h"
#include "dispatcher/dsp_groups_int.h"

enum { GROUPS_AT_A_TIME = 256 };

static struct dsp_group *find(const struct dsp_groups *groups, const char *name)
{
    struct dsp_group *group = groups->groups;
    while (group != NULL && strcmp(group->name, name) != 0)
        group = group->next;
    return group;
}

/* What retention took waits for nobody. The log is only asked for groups that are behind. */
static void raise_floor(struct dsp_groups *groups, struct dsp_ledger_progress *progress)
{
    const uint64_t done = progress->floor + progress->done_above;
    if (done >= dsp_source_stored(groups->setup.source))
        return;
    const uint64_t log_floor = dsp_source_floor(groups->setup.source);
    if (done >= log_floor)
        return;
    progress->floor = log_floor;
    progress->done_above = 0;
}

/* group NULL: it has no members here. */
static void tell(struct dsp_groups *groups, struct dsp_group *group,
                 const struct dsp_ledger_progress *progress)
{
    struct cmq_table_group told = {.name = cmq_span_make(progress->name, strlen(progress->name)),
                                   .topic =
                                       cmq_span_make(progress->group.topic, strlen(progress->group.topic)),
                                   .floor = progress->floor,
                                   .done_above = progress->done_above};
    if (group != NULL) {
        told.members = group->member_count;
        told.pending = group->pending;
        told.redelivered = group->telling.redelivered;
        told.dead_letters = group->telling.dead_letters;
        group->telling.redelivered = group->telling.dead_letters = 0;
        group->telling.done = told.floor + told.done_above;
    }
    cmq_tables_group(groups->setup.tables, &told);
}

/* The ledger has them by name, so that all get their turn however many there are and come. */
void dsp_groups_tell(struct dsp_groups *groups)
{
    struct dsp_ledger_progress progress;
    enum cmq_err err = CMQ_OK;
    for (unsigned i = 0; i < GROUPS_AT_A_TIME && err == CMQ_OK; i++) {
        err = dsp_ledger_next(groups->setup.ledger, groups->tell_turn.name, &progress);
        if (err != CMQ_OK)
            break;
        raise_floor(groups, &progress);
        tell(groups, find(groups, progress.name), &progress);
        memcpy(groups->tell_turn.name, progress.name, sizeof groups->tell_turn.name);
    }
    if (err != CMQ_OK) /* that was the last one; or the ledger cannot be read now, and all begin again */
        groups->tell_turn.name[0] = '\0';
}

void dsp_group_tell_last(struct dsp_groups *groups, struct dsp_group *group)
{
    struct dsp_ledger_progress progress = {.group = group->ledger, .floor = group->telling.done};
    if (group->telling.done == 0)
        progress.floor = group->ledger.start_seq;
    memcpy(progress.name, group->name, sizeof group->name);
    tell(groups, group, &progress);
}

uint64_t dsp_group_lag(const struct dsp_groups *groups, const struct dsp_group *group)
{
    const uint64_t stored = dsp_source_stored(groups->setup.source);
    return group->telling.done != 0 && group->telling.done < stored ? stored - group->telling.done : 0;
}
