/*
 * cmq_table_topics: counts what topics get, in the tables of an encryptor's instance (cmq_tables.h).
 * Ownership: new/free; borrows the page, whose rows it alone writes.
 * Units: messages, bytes; nanoseconds of CLOCK_MONOTONIC.
 * Errors: new: CMQ_ERR_NOMEM.
 * Callers: one thread.
 *
 * Every topic that has a row has all that it got since it has it; the rest is counted among the others, so the sum of all rows
 * and the others is what was noted. With all rows in use a topic gets the row of the least active one when it is more than
 * twice as active in about the last seconds, counted in notes: topics that come once do not chase away those that come always.
 * What the row had goes to the others. A note costs a hash, a look and three stores; a row changes hands seldom.
 */
#ifndef CMQ_TABLE_TOPICS_H
#define CMQ_TABLE_TOPICS_H

#include "common/shm/cmq_tables.h"

struct cmq_table_topics;

/* Goes on with what the page has. rows_max: 0 to CMQ_TABLE_TOPICS_MAX; rows beyond go to the others. page NULL is fine. */
CMQ_MUST_USE enum cmq_err cmq_table_topics_new(struct cmq_tables_page *page, unsigned rows_max,
                                               struct cmq_table_topics **ret_topics);
/* NULL is fine. The page keeps what it has. */
void cmq_table_topics_free(struct cmq_table_topics *topics);
/* topic: checked. NULL topics is fine. */
void cmq_table_topics_note(struct cmq_table_topics *topics, struct cmq_span topic, uint64_t messages,
                           uint64_t bytes, uint64_t now_ns);

#endif
