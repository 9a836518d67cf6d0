/*
 * enc_record: one plain batch -> one sealed batch.
 * Ownership: borrows keyring and sealer.
 * Units: bytes, messages.
 * Errors: CMQ_ERR_MALFORMED, CMQ_ERR_VERSION, CMQ_ERR_TOO_BIG: the record is to become VOID; any other: no key or no
 *         cipher now (a file, the random source, a lock), the record stays for later.
 * Callers: the pump thread.
 */
#ifndef ENC_RECORD_H
#define ENC_RECORD_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/crypto/cmq_keyring.h"
#include "common/crypto/cmq_seal.h"
#include "common/wire/cmq_batch.h"

struct enc_sealed {
    size_t bytes;
    uint32_t messages;
    uint32_t units;
    uint32_t epoch;       /* newest key epoch used */
    uint64_t plain_bytes; /* of all messages */
    uint8_t topic_bytes;  /* of the last unit, which mostly is the only one */
    uint8_t topic[CMQ_TOPIC_BYTES_MAX];
};

/* plain may be shared memory that its producer changes meanwhile: it is read once, checked, and whatever was
 * read is what the tags cover. dst is private until the commit. */
CMQ_MUST_USE enum cmq_err enc_record_seal(struct cmq_sealer *sealer, struct cmq_keyring *keyring,
                                          uint64_t seq, struct cmq_span plain, uint8_t *dst, size_t dst_bytes,
                                          struct enc_sealed *ret_sealed, struct cmq_reason *reason);

#endif
