/*
 * enc_unit: opens sealed units, and seals a unit again, for the log thread.
 * Ownership: keys and cipher of one thread, apart from the pump's; results go to the caller's memory.
 * Units: bytes.
 * Errors: advice REJECT (CMQ_ERR_AUTH, CMQ_ERR_NOT_FOUND, CMQ_ERR_VERSION): this unit can never be opened; any other: not
 *         now (a key file, the random source), try again later.
 * Callers: the log thread.
 */
#ifndef ENC_UNIT_H
#define ENC_UNIT_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/crypto/cmq_keyring.h"
#include "common/wire/cmq_batch.h"

struct enc_unit_keys;

CMQ_MUST_USE enum cmq_err enc_unit_keys_new(const struct cmq_keyring_paths *paths,
                                            struct enc_unit_keys **ret_keys, struct cmq_reason *reason);
/* NULL is fine. */
void enc_unit_keys_free(struct enc_unit_keys *keys);

/* dst: unit->sealed.bytes - CMQ_TAG_BYTES, private memory. An unknown key is looked for in the file once more. */
CMQ_MUST_USE enum cmq_err enc_unit_open(struct enc_unit_keys *keys, const struct cmq_sealed_head *head,
                                        const struct cmq_sealed_unit *unit, uint8_t *dst);
/* Seals messages under the topic's newest key and a new nonce, as a unit of the batch `head` like `unit` (topic, count, flags).
 * dst: CMQ_SEALED_UNIT_BYTES + topic + messages + CMQ_TAG_BYTES. */
CMQ_MUST_USE enum cmq_err enc_unit_seal(struct enc_unit_keys *keys, const struct cmq_sealed_head *head,
                                        const struct cmq_sealed_unit *unit, struct cmq_span messages,
                                        uint8_t *dst, size_t *ret_bytes);

#endif
