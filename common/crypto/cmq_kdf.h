/*
 * cmq_kdf: HKDF-SHA256 (RFC 5869) and SHA-256, for key ids, derived keys and the trailer of the keyring file.
 * Ownership: borrows for the call.
 * Units: bytes.
 * Errors: CMQ_ERR_SYSTEM: OpenSSL failed; dst is then cleansed.
 * Callers: any thread. Private to common/crypto.
 */
#ifndef CMQ_KDF_H
#define CMQ_KDF_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

#define CMQ_KDF_KEY_BYTES    32u
#define CMQ_KDF_SHA256_BYTES 32u

/* No salt; info is the text without its terminator. bytes <= 255 * 32. */
CMQ_MUST_USE enum cmq_err cmq_kdf_hkdf(const uint8_t key[CMQ_KDF_KEY_BYTES], const char *info, uint8_t *dst,
                                       size_t bytes);
CMQ_MUST_USE enum cmq_err cmq_kdf_sha256(struct cmq_span data, uint8_t ret_digest[CMQ_KDF_SHA256_BYTES]);

#endif
