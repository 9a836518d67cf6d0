/*
 * cmq_keyring_image: the bytes of a keyring file: checking, reading, building; and the wraps in them.
 * Ownership: entries borrow from the image; an image under construction is a cmq_buf of the caller.
 * Units: bytes; all numbers little-endian.
 * Errors: CMQ_ERR_MALFORMED, CMQ_ERR_VERSION with a sentence that begins with the name given;
 *         CMQ_ERR_AUTH (a wrap does not open), CMQ_ERR_NOMEM, CMQ_ERR_EXHAUSTED, CMQ_ERR_SYSTEM.
 * Callers: any thread. Private to common/crypto. No file is touched here.
 *
 *     0  magic "CMQKRING"                      entry:
 *     8  version u32 = 1                         0  pattern bytes u16
 *    12  key count u32                           2  flags u8 (bit 0: deliverable), zero u8
 *    16  bytes of the file u64                   4  epoch u32, from 1
 *    24  id of the KEK, 16                       8  created_ms u64
 *    40  id of the delivery KEK, 16             16  seals_reserved u64
 *    56  entries, one after the other           24  key_id, 16
 *   end  SHA-256 of all before, 32              40  wrap under the KEK: nonce 24, key 32, tag 16
 *                                              112  wrap under the delivery KEK, or 72 zero bytes
 *                                              184  pattern
 *
 * A wrap is XAES-256-GCM. Its AAD is a label for the side, then everything of the entry that never
 * changes: a key can change neither its pattern, nor its epoch, nor who may have it. seals_reserved
 * changes and is outside. The SHA-256 is against truncation and bad disks, not against an attacker;
 * against that one the wraps stand.
 */
#ifndef CMQ_KEYRING_IMAGE_H
#define CMQ_KEYRING_IMAGE_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_buf.h"
#include "common/base/cmq_reason.h"
#include "common/crypto/cmq_keyring.h"
#include "common/crypto/cmq_seal.h"

#define CMQ_IMAGE_VERSION     1u
#define CMQ_IMAGE_HEAD_BYTES  56u
#define CMQ_IMAGE_ENTRY_BYTES 184u
#define CMQ_IMAGE_TAIL_BYTES  32u
#define CMQ_IMAGE_WRAP_BYTES  (CMQ_SEAL_NONCE_BYTES + CMQ_KEYRING_KEY_BYTES + CMQ_SEAL_TAG_BYTES)
#define CMQ_IMAGE_BYTES_MAX                        \
    (CMQ_IMAGE_HEAD_BYTES + CMQ_IMAGE_TAIL_BYTES + \
     CMQ_KEYRING_KEYS_MAX * (CMQ_IMAGE_ENTRY_BYTES + CMQ_KEYRING_PATTERN_MAX))

struct cmq_image_entry {
    size_t offset;
    struct cmq_span pattern;
    bool deliverable;
    uint32_t epoch;
    uint64_t created_ms;
    uint64_t seals_reserved;
    const uint8_t *key_id;              /* CMQ_KEYRING_ID_BYTES */
    const uint8_t *wrap_enc, *wrap_out; /* CMQ_IMAGE_WRAP_BYTES each */
};

/* Checks everything that can be checked without a key. After CMQ_OK the functions below cannot fail on the
 * image. What needs a comparison of entries (twice the same pattern and epoch) is the reader's to check. */
CMQ_MUST_USE enum cmq_err cmq_image_check(struct cmq_span image, const char *name, struct cmq_reason *reason);
uint32_t cmq_image_count(struct cmq_span image);
/* id of the KEK of a side, CMQ_KEYRING_ID_BYTES. */
const uint8_t *cmq_image_kek_id(struct cmq_span image, enum cmq_keyring_side side);
/* *offset is 0 for the first entry and moves on; false after the last. */
bool cmq_image_next(struct cmq_span image, size_t *offset, struct cmq_image_entry *ret_entry);

/* The id that commits to a KEK of either side. */
CMQ_MUST_USE enum cmq_err cmq_image_derive_kek_id(const uint8_t *kek, uint8_t ret_id[CMQ_KEYRING_ID_BYTES]);
/* HKDF, one way: who has the result cannot come back to kek. */
CMQ_MUST_USE enum cmq_err cmq_image_derive_delivery_kek(const uint8_t *kek,
                                                        uint8_t ret_kek[CMQ_KEYRING_KEY_BYTES]);
CMQ_MUST_USE enum cmq_err cmq_image_derive_key_id(const uint8_t *key, uint8_t ret_id[CMQ_KEYRING_ID_BYTES]);

/* Head and trailer, no keys. */
CMQ_MUST_USE enum cmq_err cmq_image_begin(struct cmq_buf *image, const uint8_t *kek_id,
                                          const uint8_t *delivery_kek_id);
/* entry: pattern (not in image), deliverable, epoch, created_ms, seals_reserved are given. After an error
 * image is unusable. A fresh key is made in key (secret memory), wrapped, and forgotten. CMQ_ERR_EXHAUSTED:
 * CMQ_KEYRING_KEYS_MAX keys already. */
CMQ_MUST_USE enum cmq_err cmq_image_append(struct cmq_buf *image, struct cmq_sealer *sealer,
                                           const uint8_t *kek, const uint8_t *delivery_kek,
                                           const struct cmq_image_entry *entry,
                                           uint8_t key[CMQ_KEYRING_KEY_BYTES]);
CMQ_MUST_USE enum cmq_err cmq_image_set_reserved(struct cmq_buf *image, size_t entry_offset,
                                                 uint64_t seals_reserved);

/* Opens the wrap of one side and checks that the key is the one that key_id commits to. CMQ_ERR_AUTH
 * otherwise; ret_key (secret memory) is cleansed then. */
CMQ_MUST_USE enum cmq_err cmq_image_unwrap(struct cmq_sealer *sealer, enum cmq_keyring_side side,
                                           const uint8_t *kek, const struct cmq_image_entry *entry,
                                           uint8_t ret_key[CMQ_KEYRING_KEY_BYTES]);

#endif
