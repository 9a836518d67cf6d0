/*
 * cmq_keyring_int: what the keyring's own files share: the table of keys in memory, and the keyring.
 * Ownership: a table owns its locked memory; a keyring owns one table, replaced whole.
 * Units: indexes into keys[].
 * Errors: as cmq_keyring.h.
 * Callers: as cmq_keyring.h. Private to common/crypto.
 */
#ifndef CMQ_KEYRING_INT_H
#define CMQ_KEYRING_INT_H

#include "common/crypto/cmq_keyfile.h"
#include "common/crypto/cmq_keyring.h"
#include "common/crypto/cmq_keyring_image.h"
#include "common/crypto/cmq_secret.h"

enum { CMQ_KEYRING_TOPIC_SLOTS = 64 };

struct cmq_key {
    struct cmq_data_key data;
    size_t pattern_bytes;
    size_t image_offset;
    uint64_t seals_reserved; /* in the file, by everybody */
    uint64_t seals_left;     /* of what this process has reserved */
    bool deliverable;
};

struct cmq_key_table {
    struct cmq_secret memory; /* the key bytes; not there while there are no keys */
    struct cmq_key *keys;
    size_t count;
    uint32_t *by_id;  /* sorted by key_id */
    uint32_t *newest; /* the newest epoch of each pattern */
    size_t newest_count;
    struct cmq_keyfile_stamp stamp;
};

/* In locked memory. */
struct cmq_keyring_keks {
    uint8_t kek[CMQ_KEYRING_KEY_BYTES]; /* of this side */
    uint8_t delivery_kek[CMQ_KEYRING_KEY_BYTES];
    uint8_t fresh[CMQ_KEYRING_KEY_BYTES]; /* a data key while it is made */
};

/* topic_bytes 0: empty. */
struct cmq_topic_slot {
    uint32_t key_index;
    uint8_t topic_bytes;
    uint8_t topic[CMQ_KEYRING_PATTERN_MAX];
};

struct cmq_keyring {
    enum cmq_keyring_side side;
    char *kek_file, *keyring_file;
    struct cmq_secret memory;
    struct cmq_keyring_keks *keks;
    struct cmq_sealer *sealer;
    struct cmq_key_table *table;
    struct cmq_topic_slot
        slots[CMQ_KEYRING_TOPIC_SLOTS]; /* direct-mapped cache, emptied with every new table */
};

/* Keys of this side of a checked image. before (may be NULL): its unused reservations are taken over. */
CMQ_MUST_USE enum cmq_err cmq_key_table_new(const struct cmq_keyring *keyring, struct cmq_span image,
                                            const struct cmq_key_table *before,
                                            struct cmq_key_table **ret_table, struct cmq_reason *reason);
void cmq_key_table_free(struct cmq_key_table *table);
/* NULL: not there. */
struct cmq_key *cmq_key_table_find(const struct cmq_key_table *table, const uint8_t *key_id);
/* The newest key of exactly this pattern, or NULL. */
struct cmq_key *cmq_key_table_newest(const struct cmq_key_table *table, struct cmq_span pattern);
/* The newest key of the most specific pattern that matches, or NULL. */
struct cmq_key *cmq_key_table_match(const struct cmq_key_table *table, struct cmq_span topic);

/* Reads and checks the file; content is the image. */
CMQ_MUST_USE enum cmq_err cmq_keyring_load(const struct cmq_keyring *keyring, struct cmq_buf *content,
                                           struct cmq_keyfile_stamp *ret_stamp, struct cmq_reason *reason);
/* Takes the table over and frees the one before. */
void cmq_keyring_adopt(struct cmq_keyring *keyring, struct cmq_key_table *table);
/* open with a choice of whose key files are accepted. */
CMQ_MUST_USE enum cmq_err cmq_keyring_open_as(const struct cmq_keyring_paths *paths,
                                              enum cmq_keyring_side side, enum cmq_keyfile_owner owner,
                                              struct cmq_keyring **ret_keyring, struct cmq_reason *reason);
/* Takes more seals of the newest key of pattern into the file and into this process, under a new epoch if
 * that key has none left. pattern may point into the present table. */
CMQ_MUST_USE enum cmq_err cmq_keyring_renew(struct cmq_keyring *keyring, struct cmq_span pattern,
                                            struct cmq_reason *reason);

#endif
