/*
 * cmq_seal: XAES-256-GCM (C2SP, c2sp.org/XAES-256-GCM): AES-256-GCM under a key derived per nonce from a
 *           256-bit key and the first 12 bytes of a 24-byte random nonce; OpenSSL EVP only.
 * Ownership: a sealer owns its cipher contexts and a locked page. Key bytes are borrowed for a call;
 *            derived keys are cleansed, their schedules stay in OpenSSL's contexts until the next unit.
 * Units: bytes. sealed = plaintext + CMQ_SEAL_TAG_BYTES. At most 2^32 bytes a unit (GCM allows 64 GiB).
 * Errors: CMQ_ERR_AUTH (open: nothing is to be used of dst, it is cleansed), CMQ_ERR_SYSTEM (OpenSSL or
 *         getrandom failed), CMQ_ERR_TOO_BIG, CMQ_ERR_NOMEM.
 * Callers: one thread a sealer.
 */
#ifndef CMQ_SEAL_H
#define CMQ_SEAL_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

#define CMQ_SEAL_KEY_BYTES   32u
#define CMQ_SEAL_NONCE_BYTES 24u
#define CMQ_SEAL_TAG_BYTES   16u

struct cmq_sealer;

CMQ_MUST_USE enum cmq_err cmq_sealer_new(struct cmq_sealer **ret_sealer);
void cmq_sealer_free(struct cmq_sealer *sealer);

/* A fresh nonce straight from getrandom(2), 0.2 us. A stock of them would be four times as fast, but two
 * copies of one memory image (a fork, a VM restored twice) would use it twice. CMQ_ERR_SYSTEM. */
CMQ_MUST_USE enum cmq_err cmq_seal_nonce(uint8_t ret_nonce[CMQ_SEAL_NONCE_BYTES]);

/* dst: plaintext.bytes + CMQ_SEAL_TAG_BYTES, private memory. plaintext may be shared memory that changes
 * meanwhile (the tag then covers what was read); dst must not overlap it. */
CMQ_MUST_USE enum cmq_err cmq_seal(struct cmq_sealer *sealer, const uint8_t key[CMQ_SEAL_KEY_BYTES],
                                   const uint8_t nonce[CMQ_SEAL_NONCE_BYTES], struct cmq_span aad,
                                   struct cmq_span plaintext, uint8_t *dst);
/* sealed.bytes >= CMQ_SEAL_TAG_BYTES; dst: sealed.bytes - CMQ_SEAL_TAG_BYTES, private memory. */
CMQ_MUST_USE enum cmq_err cmq_open(struct cmq_sealer *sealer, const uint8_t key[CMQ_SEAL_KEY_BYTES],
                                   const uint8_t nonce[CMQ_SEAL_NONCE_BYTES], struct cmq_span aad,
                                   struct cmq_span sealed, uint8_t *dst);

#endif
