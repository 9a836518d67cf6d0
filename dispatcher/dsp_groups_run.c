/* Runs: consecutive messages in one state, and the lists that they wait in. */
#include <stdlib.h>

#include "dispatcher/dsp_groups_int.h"

struct dsp_range *dsp_range_new(struct dsp_groups *groups)
{
    struct dsp_range *range = groups->spare_ranges;
    if (range == NULL)
        return malloc(sizeof *range);
    groups->spare_ranges = range->next;
    return range;
}

void dsp_range_free(struct dsp_groups *groups, struct dsp_range *range)
{
    range->next = groups->spare_ranges;
    groups->spare_ranges = range;
}

void dsp_runs_push(struct dsp_run_list *list, struct dsp_range *range)
{
    range->next = NULL;
    range->prev = list->tail;
    if (list->tail != NULL)
        list->tail->next = range;
    else
        list->head = range;
    list->tail = range;
}

void dsp_runs_remove(struct dsp_run_list *list, struct dsp_range *range)
{
    if (range->prev != NULL)
        range->prev->next = range->next;
    else
        list->head = range->next;
    if (range->next != NULL)
        range->next->prev = range->prev;
    else
        list->tail = range->prev;
}

/* Behind `after`, or in front of all. */
static void runs_insert(struct dsp_run_list *list, struct dsp_range *after, struct dsp_range *range)
{
    range->prev = after;
    range->next = after != NULL ? after->next : list->head;
    if (range->next != NULL)
        range->next->prev = range;
    else
        list->tail = range;
    if (after != NULL)
        after->next = range;
    else
        list->head = range;
}

static bool comes_before(const struct dsp_range *a, const struct dsp_range *b)
{
    return a->hand->seq != b->hand->seq ? a->hand->seq < b->hand->seq : a->first < b->first;
}

/* By rising id. What comes back together comes in order, so the search begins where the last one was put. */
void dsp_returned_add(struct dsp_group *group, struct dsp_range *run)
{
    struct dsp_range *after = group->returned_hint != NULL ? group->returned_hint : group->returned.tail;
    while (after != NULL && comes_before(run, after))
        after = after->prev;
    for (struct dsp_range *next = after != NULL ? after->next : group->returned.head;
         next != NULL && comes_before(next, run); next = next->next)
        after = next;
    runs_insert(&group->returned, after, run);
    group->returned_hint = run;
}

void dsp_delayed_add(struct dsp_group *group, struct dsp_range *run)
{
    struct dsp_range *after = group->delayed.tail;
    while (after != NULL && run->at_ns < after->at_ns)
        after = after->prev;
    runs_insert(&group->delayed, after, run);
}
