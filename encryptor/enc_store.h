/*
 * enc_store: the log side of an encryptor, put together from the configuration: filter, log, log thread.
 * Ownership: the store owns all of it; the ring is borrowed and outlives it.
 * Units: none.
 * Errors: at start as a code with a sentence; later cmq_proc_fail.
 * Callers: the main thread (cmq_stage hooks).
 */
#ifndef ENC_STORE_H
#define ENC_STORE_H

#include "common/proc/cmq_proc.h"
#include "common/shm/cmq_ring.h"

struct enc_store;

/* Starts the log thread. */
CMQ_MUST_USE enum cmq_err enc_store_new(struct cmq_proc *proc, struct cmq_ring *ring,
                                        struct enc_store **ret_store, struct cmq_reason *reason);
/* NULL is fine for both. What was committed before is stored, if nobody else writes the log; the log lock is free. */
void enc_store_drain(struct enc_store *store);
void enc_store_free(struct enc_store *store);

#endif
