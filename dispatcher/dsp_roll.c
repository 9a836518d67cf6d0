#include "dispatcher/dsp_roll.h"

#include <stdio.h>

void dsp_roll_begin(struct dsp_roll *ret_roll, uint64_t stored)
{
    ret_roll->stored = stored;
    ret_roll->total = ret_roll->subscriptions = ret_roll->subscriber_lag = 0;
    ret_roll->count = 0;
}

uint64_t dsp_roll_lag(const struct dsp_roll *roll, uint64_t seq)
{
    return seq < roll->stored ? roll->stored - seq : 0;
}

void dsp_roll_subscriber(struct dsp_roll *roll, uint64_t lag_records)
{
    roll->subscriber_lag = cmq_max_u64(roll->subscriber_lag, lag_records);
}

static void find_least(struct dsp_roll *roll)
{
    roll->least = 0;
    for (size_t i = 1; i < roll->count; i++)
        if (roll->rows[i].lag_records < roll->rows[roll->least].lag_records)
            roll->least = i;
}

struct cmq_table_client *dsp_roll_add(struct dsp_roll *roll, uint64_t lag_records, uint32_t subscriptions,
                                      const struct cmq_address *address)
{
    char text[CMQ_ADDRESS_TEXT_BYTES];
    size_t at = roll->count;
    roll->total++;
    roll->subscriptions += subscriptions;
    if (roll->count == CMQ_TABLE_CLIENTS_MAX) {
        at = roll->least;
        if (lag_records <= roll->rows[at].lag_records)
            return NULL;
    } else {
        roll->count++;
    }
    struct cmq_table_client *row = &roll->rows[at];
    *row = (struct cmq_table_client){.lag_records = lag_records, .subscriptions = subscriptions};
    static_assert(sizeof row->address >= sizeof text, "an address fits");
    (void)snprintf(row->address, sizeof row->address, "%s", cmq_address_text(address, text));
    if (roll->count == CMQ_TABLE_CLIENTS_MAX)
        find_least(roll);
    return row;
}
