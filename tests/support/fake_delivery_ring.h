/*
 * fake_delivery_ring: the dispatcher's part of cmq_ring.h in private memory, for tests of the dispatcher.
 * Ownership: new/free. Payloads are copied; the copy is freed when a claim ends, so that a late read is seen by
 *            ASan.
 * Units: as in cmq_ring.h; seq counts from 1.
 * Errors: as in cmq_ring.h; cmq_assert for misuse by the code under test.
 * Callers: one thread.
 */
#ifndef FAKE_DELIVERY_RING_H
#define FAKE_DELIVERY_RING_H

#include "common/shm/cmq_ring.h"

enum fake_delivery_state { FAKE_FREE, FAKE_CLAIMED, FAKE_DONE };

struct cmq_ring *fake_delivery_ring_new(void);
void fake_delivery_ring_free(struct cmq_ring *ring);

uint64_t fake_delivery_ring_add(struct cmq_ring *ring, const void *payload, size_t bytes, uint32_t messages);
uint64_t fake_delivery_ring_add_void(struct cmq_ring *ring);
/* Another dispatcher had the record, noted that progress, and is gone. */
void fake_delivery_ring_set_progress(struct cmq_ring *ring, uint64_t seq, uint32_t progress);
/* Another dispatcher takes the record and finishes it: the holder's next call says LOST. */
void fake_delivery_ring_steal(struct cmq_ring *ring, uint64_t seq);
/* The dispatcher dies: its claims are free again behind their progress, and its later calls say LOST. */
void fake_delivery_ring_kill(struct cmq_ring *ring);

enum fake_delivery_state fake_delivery_ring_state(const struct cmq_ring *ring, uint64_t seq);
uint32_t fake_delivery_ring_progress(const struct cmq_ring *ring, uint64_t seq);
uint64_t fake_delivery_ring_counter(const struct cmq_ring *ring, enum cmq_counter counter);
/* Most records claimed at a time. */
uint32_t fake_delivery_ring_claimed_max(const struct cmq_ring *ring);

#endif
