/*
 * dsp_roll: who is connected, for the tables of this instance (cmq_tables.h): the clients that are farthest behind, and how many
 *           there are.
 * Ownership: the caller's memory. The spans of a row are borrowed until it is told.
 * Units: records, messages, bytes, milliseconds since 1970.
 * Errors: none.
 * Callers: the delivery thread.
 */
#ifndef DSP_ROLL_H
#define DSP_ROLL_H

#include "common/base/cmq_address.h"
#include "common/shm/cmq_tables.h"

struct dsp_roll {
    uint64_t stored; /* the end of the log */
    uint64_t total, subscriptions, subscriber_lag;
    size_t count, least; /* full: the row with the smallest lag */
    struct cmq_table_client rows[CMQ_TABLE_CLIENTS_MAX];
};

void dsp_roll_begin(struct dsp_roll *ret_roll, uint64_t stored);
/* Records from seq to the end of the log. */
uint64_t dsp_roll_lag(const struct dsp_roll *roll, uint64_t seq);
/* One more client. Its row, zeroed but for what is given here, to be filled; NULL: others are farther behind. */
struct cmq_table_client *dsp_roll_add(struct dsp_roll *roll, uint64_t lag_records, uint32_t subscriptions,
                                      const struct cmq_address *address);
/* A subscriber's lag, whether or not it has a row. */
void dsp_roll_subscriber(struct dsp_roll *roll, uint64_t lag_records);

#endif
