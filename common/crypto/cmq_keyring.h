/*
 * cmq_keyring: data keys by topic pattern and epoch, wrapped in one file under two key-encryption keys.
 * Ownership: a keyring is heap memory; its key bytes live in locked, non-dumpable pages, cleansed on free.
 *            Data keys returned are borrowed until the next seal_key, rotate, reload or free.
 * Units: epochs count from 1. After CMQ_KEY_SEALS_MAX seals a data key is followed by a new epoch.
 * Errors: CMQ_ERR_NOT_FOUND, CMQ_ERR_KEY, CMQ_ERR_MALFORMED, CMQ_ERR_VERSION, CMQ_ERR_PERMISSION,
 *         CMQ_ERR_INVALID, CMQ_ERR_EXHAUSTED, CMQ_ERR_TIMEOUT, CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM, each with a
 *         sentence that names the file, the fault and the fix, never key bytes.
 * Callers: one thread a keyring; not a forked child, which has no key memory (it may free). Several
 *          processes may use one file: writers hold a lock file beside it.
 *
 * Two sides. The encryptor's key-encryption key (KEK) wraps every data key. The delivery KEK is derived
 * from it (HKDF-SHA256, one way), is given to the dispatcher only, and wraps the data keys that may be
 * delivered in clear. So the dispatcher's user cannot open the encryptor's wraps, and ingest can open
 * nothing.
 * key_id = first 16 bytes of HKDF-SHA256(data key, "ciphermq key id v1"): it commits to the key, and is
 * checked at load.
 * File update: write aside, fsync, rename, fsync the directory, before the first seal under a new key.
 */
#ifndef CMQ_KEYRING_H
#define CMQ_KEYRING_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

#define CMQ_KEYRING_KEY_BYTES   32u
#define CMQ_KEYRING_ID_BYTES    16u
#define CMQ_KEYRING_PATTERN_MAX 255u
#define CMQ_KEYRING_KEYS_MAX    4096u
#define CMQ_KEY_SEALS_MAX       3865470566ull
/* An encryptor reserves this many seals of a key in the file (durably) before it uses them, so that the count
 * survives crashes: a crash can only waste seals, never repeat them. */
#define CMQ_KEY_SEALS_RESERVED 16777216ull

enum cmq_keyring_side { CMQ_KEYRING_ENCRYPTOR, CMQ_KEYRING_DELIVERY };

struct cmq_keyring;

struct cmq_data_key {
    const uint8_t *key; /* CMQ_KEYRING_KEY_BYTES, in locked memory */
    uint8_t key_id[CMQ_KEYRING_ID_BYTES];
    char pattern[CMQ_KEYRING_PATTERN_MAX + 1];
    uint32_t epoch;
};

struct cmq_keyring_paths {
    const char *kek_file;          /* encryptor side: the KEK; delivery side: the delivery KEK */
    const char *delivery_kek_file; /* only for create */
    const char *keyring_file;
};

/* Makes what is missing of KEK (getrandom), delivery KEK, and a keyring with one key for pattern ">" that may
 * be delivered; existing files are checked and kept. Idempotent; two at a time are serialised by the lock
 * file. Missing directories are not made. Refuses (CMQ_ERR_KEY) a keyring without its KEK. Run by root, new
 * files get owner and group of their directory, and existing key files may belong to any user (those of the
 * stages). */
CMQ_MUST_USE enum cmq_err cmq_keyring_create(const struct cmq_keyring_paths *paths,
                                             struct cmq_reason *reason);

/* Key file rules: regular file, no symlink (O_NOFOLLOW), owner = effective user or root, mode exactly 0400,
 * exactly 32 bytes, not all zero. Keyring file: regular, no symlink, not writable by group or others,
 * complete (length and SHA-256 trailer), version known, every wrap of this side opens, every key_id matches.
 */
CMQ_MUST_USE enum cmq_err cmq_keyring_open(const struct cmq_keyring_paths *paths, enum cmq_keyring_side side,
                                           struct cmq_keyring **ret_keyring, struct cmq_reason *reason);
/* The same for an operator's command: run by root, key files may belong to any user (those of the stages). */
CMQ_MUST_USE enum cmq_err cmq_keyring_open_operator(const struct cmq_keyring_paths *paths,
                                                    enum cmq_keyring_side side,
                                                    struct cmq_keyring **ret_keyring,
                                                    struct cmq_reason *reason);
void cmq_keyring_free(struct cmq_keyring *keyring);
/* Reads the file again if it changed; on error the old keys stay in use. *ret_changed may be NULL. */
CMQ_MUST_USE enum cmq_err cmq_keyring_reload(struct cmq_keyring *keyring, bool *ret_changed,
                                             struct cmq_reason *reason);

/* Encryptor side: the newest epoch of the most specific (longest, then fewest wildcards) pattern that matches
 * the topic (checked by the caller), with one seal taken from the reservation, which is renewed, durably,
 * when used up; a key whose limit is reached gets a new epoch first. CMQ_ERR_NOT_FOUND: no pattern matches.
 * $dead.T is sealed under the keys of T. */
CMQ_MUST_USE enum cmq_err cmq_keyring_seal_key(struct cmq_keyring *keyring, struct cmq_span topic,
                                               const struct cmq_data_key **ret_key,
                                               struct cmq_reason *reason);
/* Either side: any epoch. CMQ_ERR_NOT_FOUND: reload once, then count the unit as undeliverable. */
CMQ_MUST_USE enum cmq_err cmq_keyring_find(const struct cmq_keyring *keyring,
                                           const uint8_t key_id[CMQ_KEYRING_ID_BYTES],
                                           const struct cmq_data_key **ret_key);
/* Encryptor side: new epoch for an existing pattern, or a first key for a new one, on disk before it returns.
 * After an error the file is unchanged, or (last step only) already changed; the keys in use are unchanged.
 */
CMQ_MUST_USE enum cmq_err cmq_keyring_rotate(struct cmq_keyring *keyring, const char *pattern,
                                             bool deliverable, struct cmq_reason *reason);
/* Seals that the most used of the newest keys may still make, by all encryptors, as of the last load, before it gets a new
 * epoch. */
uint64_t cmq_keyring_seals_left(const struct cmq_keyring *keyring);
size_t cmq_keyring_count(const struct cmq_keyring *keyring);

struct cmq_key_info {
    char pattern[CMQ_KEYRING_PATTERN_MAX + 1];
    uint8_t key_id[CMQ_KEYRING_ID_BYTES];
    uint32_t epoch;
    bool deliverable;
    uint64_t seals_reserved; /* of CMQ_KEY_SEALS_MAX, by all encryptors ever, as of the last load */
};
/* What may be shown of key number `index` < count, in the file's order. No key bytes. */
void cmq_keyring_info(const struct cmq_keyring *keyring, size_t index, struct cmq_key_info *ret_info);

#endif
