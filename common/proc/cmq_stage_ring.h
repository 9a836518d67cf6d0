/*
 * cmq_stage_ring: configuration -> what cmq_ring_attach and cmq_ring_create want. Used by every stage and by ctl.
 * Ownership: the setup borrows instance and run_dir from conf, which must outlive it.
 * Units: as in cmq_conf_table.h.
 * Errors: conf is validated; create: as cmq_ring_create and cmq_journal_next_seq.
 * Callers: any thread.
 */
#ifndef CMQ_STAGE_RING_H
#define CMQ_STAGE_RING_H

#include "common/conf/cmq_conf.h"
#include "common/shm/cmq_ring.h"

/* arena_bytes: conf->ingest_arena_bytes or conf->encryptor_arena_bytes, by the stage; 0 for dispatchers,
 * observers and creators, who have no arena. */
void cmq_stage_ring_setup(const struct cmq_conf *conf, unsigned instance_number, uint64_t arena_bytes,
                          struct cmq_ring_setup *ret_setup);
/* Makes the ring as cmq_ring_create does; a new one begins behind the last record of the log. */
CMQ_MUST_USE enum cmq_err cmq_stage_ring_create(const struct cmq_conf *conf,
                                                const struct cmq_ring_setup *setup,
                                                struct cmq_reason *reason);

#endif
