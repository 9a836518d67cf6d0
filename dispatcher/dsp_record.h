/*
 * dsp_record: the content of a claimed record: decrypted, private, divided into segments of deliverable messages.
 * Ownership: struct dsp_opened is the caller's and owns its buffers; they are used again by the next open. The
 *            opener borrows ring and keyring.
 * Units: bytes; index = number of a message in its record, over all units, so that every dispatcher counts alike.
 * Errors: CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM (OpenSSL). What is wrong with the bytes is no error: those messages are
 *         counted as undeliverable, logged without content, and left out, so that nothing stops behind them.
 * Callers: the delivery thread.
 */
#ifndef DSP_RECORD_H
#define DSP_RECORD_H

#include "common/crypto/cmq_keyring.h"
#include "common/crypto/cmq_seal.h"
#include "common/shm/cmq_ring.h"

struct dsp_opener {
    struct cmq_ring *ring; /* for counters */
    struct cmq_keyring *keyring;
    struct cmq_sealer *sealer;
};

/* Messages first .. first + count - 1 lie back to back, as MessagePack, in plain[offset .. offset + bytes -
 * 1]. */
struct dsp_segment {
    uint32_t first;
    uint32_t count;
    size_t offset;
    size_t bytes;
};

struct dsp_opened {
    uint8_t *plain;
    size_t plain_bytes, plain_capacity;
    struct dsp_segment *segments; /* by rising first; what lies between them is not for delivery */
    uint32_t segment_count, segment_capacity;
    uint32_t message_count; /* all of the record; less than CMQ_PROGRESS_DONE */
};

CMQ_MUST_USE enum cmq_err dsp_opener_init(struct dsp_opener *ret_opener, struct cmq_ring *ring,
                                          struct cmq_keyring *keyring);
/* Accepts a zeroed struct. */
void dsp_opener_fini(struct dsp_opener *opener);

/* Reads claim->payload (shared memory) once; nothing of it is needed afterwards. A zeroed record is an empty
 * one. */
CMQ_MUST_USE enum cmq_err dsp_record_open(struct dsp_opener *opener, const struct cmq_claim *claim,
                                          struct dsp_opened *record);
/* Forgets the content; gives the buffer back when it holds more than keep_bytes. */
void dsp_record_clear(struct dsp_opened *record, size_t keep_bytes);
void dsp_record_fini(struct dsp_opened *record);

#endif
