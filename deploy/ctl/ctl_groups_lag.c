/* How much groups have before them. The log is read once for all groups, from the lowest floor on. */
#include "ctl_groups.h"

#include <stdlib.h>
#include <string.h>

#include "common/wire/cmq_topic.h"
#include "ctl_log.h"

/* Where the walk is in a group's lists: both rise, as the walk does. */
struct place {
    size_t done, partly;
    uint64_t subtracted_seq; /* acked messages of that record were taken off */
};

struct lagging {
    const struct cmq_ledger_look *look;
    struct place *places;
    uint64_t *messages;
};

uint64_t ctl_groups_lag_records(const struct cmq_ledger_group *group, uint64_t log_floor, uint64_t end_seq)
{
    const uint64_t from = cmq_max_u64(group->floor, log_floor);
    if (from >= end_seq)
        return 0;
    uint64_t lag = end_seq - from;
    for (size_t i = 0; i < group->done_count; i++) {
        const uint64_t begin = cmq_max_u64(group->done[i].from, from);
        const uint64_t end = cmq_min_u64(group->done[i].to, end_seq);
        lag -= end > begin ? end - begin : 0;
    }
    return lag;
}

static bool is_done(const struct cmq_ledger_group *group, struct place *place, uint64_t seq)
{
    if (seq < group->floor)
        return true;
    while (place->done < group->done_count && group->done[place->done].to <= seq)
        place->done++;
    return place->done < group->done_count && group->done[place->done].from <= seq;
}

/* Messages of the record that are acked, once a record. */
static uint64_t acked_once(const struct cmq_ledger_group *group, struct place *place, uint64_t seq)
{
    while (place->partly < group->partly_count && group->partly[place->partly].seq < seq)
        place->partly++;
    if (place->partly == group->partly_count || group->partly[place->partly].seq != seq ||
        place->subtracted_seq == seq)
        return 0;
    place->subtracted_seq = seq;
    return group->partly[place->partly].acked;
}

static enum cmq_err take_unit(void *context, const struct ctl_log_unit *unit)
{
    const struct lagging *lagging = context;
    for (size_t i = 0; i < lagging->look->count; i++) {
        const struct cmq_ledger_group *group = &lagging->look->groups[i];
        struct place *place = &lagging->places[i];
        if (is_done(group, place, unit->seq) ||
            !cmq_topic_matches(cmq_span_make(group->row.topic, strlen(group->row.topic)), unit->topic))
            continue;
        uint64_t count = unit->count;
        if (unit->seq == group->row.start_seq && unit->first < group->row.start_index)
            count -= cmq_min_u64(count, group->row.start_index - unit->first);
        lagging->messages[i] += count;
        lagging->messages[i] -= cmq_min_u64(lagging->messages[i], acked_once(group, place, unit->seq));
    }
    return CMQ_OK;
}

enum cmq_err ctl_groups_lag(const struct ctl *ctl, const struct cmq_ledger_look *look, uint64_t end_seq,
                            uint64_t *ret_messages, struct cmq_reason *reason)
{
    struct lagging lagging = {.look = look, .messages = ret_messages};
    struct ctl_log log = {
        .what = "groups", .from_seq = end_seq, .end_seq = end_seq, .on_unit = take_unit, .context = &lagging};
    if (look->count == 0)
        return CMQ_OK;
    lagging.places = calloc(look->count, sizeof *lagging.places);
    if (lagging.places == NULL)
        return CMQ_ERR_NOMEM;
    for (size_t i = 0; i < look->count; i++) {
        ret_messages[i] = 0;
        log.from_seq = cmq_min_u64(log.from_seq, look->groups[i].floor);
    }
    enum cmq_err err = ctl_log_walk(ctl, &log, reason);
    free(lagging.places);
    return err;
}
