/*
 * fake_ring: the ingest part of cmq_ring.h without shared memory, for tests of the stage alone.
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

size_t fake_ring_records(struct cmq_ring *ring);
/* index < fake_ring_records */
struct cmq_span fake_ring_record(struct cmq_ring *ring, size_t index, uint32_t *ret_messages);
uint64_t fake_ring_counter(struct cmq_ring *ring, enum cmq_counter counter);

/* Block until so many publishes in all were refused for want of room, or a counter or gauge has the value. */
void fake_ring_await_refused(struct cmq_ring *ring, size_t refused);
void fake_ring_await_counter(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value);

#endif
