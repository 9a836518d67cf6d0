/*
 * fake_log: the log as the dispatcher sees it, in private memory, for tests: cmq_journal's reader, what the ring says about
 *           it, and the encryptor that seals into it.
 * Ownership: new/free; the log owns a keyring of its own in a temporary directory. One at a time: the reader's functions
 *            have nothing else to find it by.
 * Units: as in cmq_journal.h; seq counts from 1.
 * Errors: as in cmq_journal.h; cmq_assert for misuse.
 * Callers: one thread.
 */
#ifndef FAKE_LOG_H
#define FAKE_LOG_H

#include "common/crypto/cmq_keyring.h"
#include "common/shm/cmq_ring.h"

struct fake_log {
    struct cmq_ring *ring;
    struct cmq_keyring *sealing, *opening;
    unsigned reads;      /* of the log */
    size_t read_bytes;   /* that the last one wanted */
    unsigned hints_used; /* reads that were told the right place */
    enum cmq_err fail;   /* what the next read says instead */
};

struct fake_log *fake_log_new(void);
void fake_log_free(struct fake_log *log);

struct fake_unit {
    const char *topic;
    struct cmq_span messages; /* MessagePack */
    uint32_t count;
    uint32_t flags, suite; /* suite 0: the right one */
};
/* One record of these units, sealed for the next seq, which is returned. */
uint64_t fake_log_seal(struct fake_log *log, const struct fake_unit *units, uint32_t count);
/* One record of `count` messages "<letter><index>". */
uint64_t fake_log_texts(struct fake_log *log, const char *topic, uint32_t count, char letter);
uint64_t fake_log_add(struct fake_log *log, const void *payload, size_t bytes, uint32_t messages);
uint64_t fake_log_add_void(struct fake_log *log);

/* Flips a bit of the stored payload, as a disk might behind the checksums. */
void fake_log_flip(struct fake_log *log, uint64_t seq, size_t offset);
size_t fake_log_payload_bytes(const struct fake_log *log, uint64_t seq);
/* Checksums of these records do not fit any more. */
void fake_log_damage(struct fake_log *log, uint64_t seq);
/* Retention has taken what is below. */
void fake_log_set_floor(struct fake_log *log, uint64_t seq);
/* Only records below are stored yet; UINT64_MAX: all. */
void fake_log_set_stored(struct fake_log *log, uint64_t seq);
/* Only records below survive a power cut yet; UINT64_MAX: all that are stored. */
void fake_log_set_durable(struct fake_log *log, uint64_t seq);
uint64_t fake_log_counter(const struct fake_log *log, enum cmq_counter counter);

#endif
