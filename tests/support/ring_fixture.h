/*
 * ring_fixture: a private ring for a test, with any number of members in this process.
 * Ownership: open/close on the caller's memory; members that the test does not detach are detached by close.
 * Units: as in cmq_ring.h.
 * Errors: a failed call ends the test.
 * Callers: one test at a time.
 */
#ifndef RING_FIXTURE_H
#define RING_FIXTURE_H

#include "common/shm/cmq_ring.h"

enum { FIXTURE_MEMBERS_MAX = 16 };

struct ring_fixture {
    char instance[32];
    char run_dir[64];
    struct cmq_ring_setup setup;
    struct cmq_ring *members[FIXTURE_MEMBERS_MAX];
};

/* Creates a ring of `slots` slots whose first record is first_seq. */
void ring_fixture_open(struct ring_fixture *fixture, uint32_t slots, uint64_t first_seq,
                       uint64_t arena_bytes);
void ring_fixture_close(struct ring_fixture *fixture);
/* With the fixture's setup as it is now. */
struct cmq_ring *ring_fixture_join(struct ring_fixture *fixture, enum cmq_role role);
void ring_fixture_leave(struct ring_fixture *fixture, struct cmq_ring *ring);

/* Publishes `text` as a record of one message; CMQ_OK is asserted; returns its seq. */
uint64_t ring_fixture_publish(struct cmq_ring *ingest, const char *text);
/* Leases the next record, commits its bytes unchanged; returns its seq. */
uint64_t ring_fixture_seal(struct cmq_ring *encryptor);
/* As the log writer: the record at `stored` holds just `expected`; it is stored and durable then. Returns its seq. */
uint64_t ring_fixture_store(struct cmq_ring *encryptor, const char *expected);

#endif
