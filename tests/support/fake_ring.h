/*
 * fake_ring: the ingest part of cmq_ring.h, log included, without shared memory, for tests of the stage alone.
 * Ownership: records are kept until fake_ring_free; spans stay valid until then.
 * Units: records, bytes, seq from 1.
 * Errors: as told: room for N more records, or one fixed error.
 * Callers: any thread.
 */
#ifndef FAKE_RING_H
#define FAKE_RING_H

#include "common/shm/cmq_ring.h"

#define FAKE_RING_ENDLESS SIZE_MAX

/* Has endless room. */
struct cmq_ring *fake_ring_new(void);
void fake_ring_free(struct cmq_ring *ring);

/* Room for `records` more records; wakes who waits for space. */
void fake_ring_set_room(struct cmq_ring *ring, size_t records);
/* Every publish returns err; CMQ_OK: back to normal. */
void fake_ring_set_error(struct cmq_ring *ring, enum cmq_err err);
/* Only records of at most `bytes` bytes find room; CMQ_WAIT_SPACE_INGEST says that there is some. */
void fake_ring_set_record_room(struct cmq_ring *ring, size_t bytes);

/* The log: what is below stored is in it, what is below durable is safe. At first 1 and 1: nothing. */
void fake_ring_set_log(struct cmq_ring *ring, uint64_t stored, uint64_t durable);
void fake_ring_set_health(struct cmq_ring *ring, enum cmq_log_health health);
/* What cmq_ring_outcome says of seq; records without one were kept. At most 16. */
void fake_ring_set_outcome(struct cmq_ring *ring, uint64_t seq, const struct cmq_outcome *outcome);
/* Whether an encryptor lives, and whether the ring drains. At first yes and no. */
void fake_ring_set_members(struct cmq_ring *ring, bool encryptor, bool draining);
/* Outcomes of records below seq are not known any more. */
void fake_ring_forget_outcomes(struct cmq_ring *ring, uint64_t seq);
/* How often cmq_ring_wait has ended for CMQ_WAIT_DURABLE because a followed cursor had moved. */
size_t fake_ring_wakes(struct cmq_ring *ring);

size_t fake_ring_records(struct cmq_ring *ring);
/* index < fake_ring_records */
struct cmq_span fake_ring_record(struct cmq_ring *ring, size_t index, uint32_t *ret_messages);
uint64_t fake_ring_counter(struct cmq_ring *ring, enum cmq_counter counter);

/* Block until so many publishes in all were refused for want of room, or a counter or gauge has the value. */
void fake_ring_await_refused(struct cmq_ring *ring, size_t refused);
void fake_ring_await_records(struct cmq_ring *ring, size_t records);
/* Until a thread sleeps for CMQ_WAIT_DURABLE. */
void fake_ring_await_sleeper(struct cmq_ring *ring);
void fake_ring_await_counter(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value);

#endif
