/*
 * cmq_auth_table: the lines of one version of the file of tokens, to be looked up. Immutable, but for counts and buckets.
 * Ownership: a table has one reference to each entry, a grant has one more; an entry goes with its last reference.
 * Units: milliseconds since 1970.
 * Errors: as cmq_token_file; a name, token or subject that is there twice, and too many lines, are CMQ_ERR_MALFORMED.
 * Callers: find, get, put: any thread; new, retire, free: one thread. Private to common/auth.
 */
#ifndef CMQ_AUTH_TABLE_H
#define CMQ_AUTH_TABLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/auth/cmq_auth_bucket.h"
#include "common/auth/cmq_token_file.h"

#define CMQ_AUTH_KEY_BYTES 32u

struct cmq_auth_entry {
    atomic_uint refs;
    /* No table has it any more: set by the reloading thread, read by whoever holds a grant. */
    atomic_bool retired;
    enum cmq_token_kind kind;
    bool admin;
    bool bound; /* a token that is good only with the certificate of subject_key */
    uint8_t subject_key[CMQ_AUTH_KEY_BYTES];
    uint8_t key[CMQ_AUTH_KEY_BYTES]; /* the digest of the token, or of the subject: what it is looked up by */
    uint8_t line_digest[CMQ_AUTH_KEY_BYTES]; /* tells whether a reload found it unchanged */
    uint64_t expires_ms, messages_rate, bytes_rate;
    pthread_mutex_t lock; /* of the buckets */
    struct cmq_auth_bucket messages, bytes;
    char name[CMQ_AUTH_NAME_BYTES_MAX + 1];
    struct cmq_span scopes[CMQ_TOKEN_SCOPES]; /* of text */
    uint8_t text[];
};

struct cmq_auth_table;

void cmq_auth_key_of_token(struct cmq_span token, uint8_t ret_key[CMQ_AUTH_KEY_BYTES]);
void cmq_auth_key_of_subject(struct cmq_span subject, uint8_t ret_key[CMQ_AUTH_KEY_BYTES]);

/* path: for sentences. old: entries whose lines are the same are taken over from it, with buckets and grants; may be NULL,
 * and is unchanged. */
CMQ_MUST_USE enum cmq_err cmq_auth_table_new(const char *path, struct cmq_span content,
                                             const struct cmq_auth_table *old,
                                             struct cmq_auth_table **ret_table, struct cmq_reason *reason);
/* Marks the entries that `next` (NULL: nothing) does not have. */
void cmq_auth_table_retire(const struct cmq_auth_table *table, const struct cmq_auth_table *next);
/* NULL is fine. */
void cmq_auth_table_free(struct cmq_auth_table *table);
/* Borrowed, or NULL. The key is compared in constant time. */
struct cmq_auth_entry *cmq_auth_table_find(const struct cmq_auth_table *table, enum cmq_token_kind kind,
                                           const uint8_t key[CMQ_AUTH_KEY_BYTES]);

void cmq_auth_entry_get(struct cmq_auth_entry *entry);
/* NULL is fine. */
void cmq_auth_entry_put(struct cmq_auth_entry *entry);

#endif
