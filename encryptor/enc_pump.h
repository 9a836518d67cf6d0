/*
 * enc_pump: the encryptor's thread: lease, seal, commit, sleep.
 * Ownership: the pump owns its ring attachment, keyring and sealer; proc is borrowed and outlives it.
 * Units: as in cmq_ring.h.
 * Errors: at start as a code with a sentence; later cmq_proc_fail.
 * Callers: the main thread (cmq_stage hooks); the pump runs a thread of its own.
 */
#ifndef ENC_PUMP_H
#define ENC_PUMP_H

#include "common/proc/cmq_proc.h"

struct enc_pump;

CMQ_MUST_USE enum cmq_err enc_pump_new(struct cmq_proc *proc, struct enc_pump **ret_pump,
                                       struct cmq_reason *reason);
/* Every 250 ms: heartbeat of the ring; now and then a look whether the keyring file has changed. */
void enc_pump_tick(struct enc_pump *pump);
/* Asks the pump to read the keyring again. */
void enc_pump_reload(struct enc_pump *pump);
/* The record in hand is committed; no other is leased. Returns when the thread has stopped. */
void enc_pump_drain(struct enc_pump *pump);
/* NULL is fine. */
void enc_pump_free(struct enc_pump *pump);

#endif
