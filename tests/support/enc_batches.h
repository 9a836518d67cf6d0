/*
 * enc_batches: sealed batches of messages with ids, made and read as the encryptor does, for tests of its log side.
 * Ownership: begin/end on the caller's memory; a batch that is returned is valid until the next one is made.
 * Units: bytes.
 * Errors: a failure ends the test.
 * Callers: the test thread.
 */
#ifndef ENC_BATCHES_H
#define ENC_BATCHES_H

#include "common/crypto/cmq_seal.h"
#include "tests/support/keyring_dir.h"

struct enc_batches {
    struct keyring_dir dir;
    struct cmq_keyring *keyring;
    struct cmq_sealer *sealer;
    uint8_t plain[1 << 16], sealed[1 << 16], opened[1 << 16];
};

void enc_batches_begin(struct enc_batches *batches);
void enc_batches_end(struct enc_batches *batches);

/* "id=content" or "content", separated by blanks: one message each, on topic "orders". key NULL: none. Returns the plain batch. */
struct cmq_span enc_batches_plain(struct enc_batches *batches, const char *messages, const char *key);
/* The same, sealed as record seq. */
struct cmq_span enc_batches_seal(struct enc_batches *batches, uint64_t seq, const char *messages,
                                 const char *key);
/* The contents of a sealed batch, separated by blanks, "-" for one that was left out. */
const char *enc_batches_open(struct enc_batches *batches, uint64_t seq, struct cmq_span sealed);

#endif
