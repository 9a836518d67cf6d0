/*
 * dsp_ws: the WebSocket server and its delivery thread, which owns group, frame and clients.
 * Ownership: start/stop on the caller's memory. Borrows the parts.
 * Units: milliseconds, bytes, nanoseconds of CLOCK_MONOTONIC.
 * Errors: start: CMQ_ERR_SYSTEM (port in use, ...), CMQ_ERR_NOMEM, with a sentence. Later faults: cmq_proc_fail.
 * Callers: the main thread.
 *
 * Threads: delivery (poll loop of the library, everything of delivery), waiter (dsp_waiter). Others speak to
 * the delivery thread by flags and lws_cancel_service, the library's only call that is allowed from another
 * thread.
 *
 * A frame is delivered when nothing of it is left in the library: the kernel's socket buffer has it whole.
 * What the kernel did not take, the library copies; so a slow client costs at most one frame of memory here.
 */
#ifndef DSP_WS_H
#define DSP_WS_H

#include "common/crypto/cmq_keyring.h"
#include "common/proc/cmq_proc.h"
#include "common/shm/cmq_ring.h"

struct dsp_ws;
struct dsp_access;
struct dsp_source;
struct dsp_ledger;
struct dsp_letters;
struct dsp_tls;

/* What it delivers from; all belongs to the delivery thread between start and stop. */
struct dsp_parts {
    struct cmq_ring *ring;
    struct cmq_keyring *keyring;
    struct dsp_source *source;
    struct dsp_ledger *ledger;
    struct dsp_letters *letters; /* where dead letters go */
    struct dsp_tls *tls;         /* NULL: clear text */
    struct dsp_access *access;   /* the parts for the delivery thread */
};

/* Listens when it returns. */
CMQ_MUST_USE enum cmq_err dsp_ws_start(struct cmq_proc *proc, const struct dsp_parts *parts,
                                       struct dsp_ws **ret_ws, struct cmq_reason *reason);
/* Takes what may change of proc->conf. */
void dsp_ws_reload(struct dsp_ws *ws);
/* dsp_access_refresh found something: connections whose grant is over are closed. */
void dsp_ws_recheck(struct dsp_ws *ws);
/* No new clients or records; waits until all frames are out and all clients are gone, at most until
 * deadline_ns or a second signal. */
void dsp_ws_drain(struct dsp_ws *ws, uint64_t deadline_ns);
/* Ends the threads, closes what is open, releases the records in hand. NULL is fine. */
void dsp_ws_stop(struct dsp_ws *ws);

#endif
