/*
 * The way of a check:
 * - the digest of the token (or certificate name) is looked up in the table, which never changes,
 * - the entry gets one reference more, the grant is that reference,
 * - only a failure looks at the address, and only it takes a lock that others may want.
 * A reload builds a second table beside the first and puts it in its place. Readers hold the lock for a look-up, so when the
 * writer has had it, nobody is in the old table and it can go; entries that grants hold stay until these are put.
 */
#include "common/auth/cmq_auth.h"

#include <string.h>

#include "common/auth/cmq_auth_failures.h"
#include "common/auth/cmq_auth_int.h"
#include "common/auth/cmq_auth_scope.h"
#include "common/auth/cmq_auth_table.h"
#include "common/base/cmq_clock.h"

/* A file that was changed this long before it was read may be changed again with the same time stamp. */
#define FRESH_NS (100 * CMQ_NS_PER_MS)

struct cmq_auth {
    bool open; /* no file: everybody may do everything */
    char *file;
    struct cmq_auth_failures *failures;
    pthread_rwlock_t lock; /* of the pointer table; held for a look-up */
    struct cmq_auth_table *table;

    /* The rest belongs to the thread that reloads. */
    struct cmq_token_stamp stamp; /* of the last look, good or bad */
    bool fresh, bad;
    uint8_t content_digest[CMQ_TOKEN_DIGEST_BYTES]; /* of what table was made from */
};

/* Writers first: a reload must not wait for a moment without requests. */
static enum cmq_err lock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attr;
    if (pthread_rwlockattr_init(&attr) != 0)
        return CMQ_ERR_NOMEM;
    (void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    const int failed = pthread_rwlock_init(lock, &attr);
    (void)pthread_rwlockattr_destroy(&attr);
    return failed == 0 ? CMQ_OK : CMQ_ERR_NOMEM;
}

static bool is_fresh(const struct cmq_token_stamp *stamp)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const int64_t age_ns = (now.tv_sec - stamp->modified.tv_sec) * (int64_t)CMQ_NS_PER_S +
                           (now.tv_nsec - stamp->modified.tv_nsec);
    /* A time that is yet to come (somebody set the clock back) says nothing, and would say so at every tick. */
    return age_ns < (int64_t)FRESH_NS && age_ns > -(int64_t)FRESH_NS;
}

static void put_in_place(struct cmq_auth *auth, struct cmq_auth_table *table)
{
    struct cmq_auth_table *old = auth->table;
    (void)pthread_rwlock_wrlock(&auth->lock);
    auth->table = table;
    (void)pthread_rwlock_unlock(&auth->lock);
    if (old != NULL)
        cmq_auth_table_retire(old, table);
    cmq_auth_table_free(old);
}

static enum cmq_err read_file(struct cmq_auth *auth, bool *ret_changed, struct cmq_reason *reason)
{
    struct cmq_buf content;
    struct cmq_auth_table *table = NULL;
    uint8_t digest[CMQ_TOKEN_DIGEST_BYTES];
    enum cmq_err err = cmq_token_file_load(auth->file, &content, reason);
    if (err != CMQ_OK)
        return err;
    cmq_token_digest(cmq_buf_span(&content), digest);
    const bool changed = auth->table == NULL || memcmp(digest, auth->content_digest, sizeof digest) != 0;
    if (changed)
        err = cmq_auth_table_new(auth->file, cmq_buf_span(&content), auth->table, &table, reason);
    cmq_buf_fini(&content);
    if (err != CMQ_OK)
        return err;
    if (changed) {
        memcpy(auth->content_digest, digest, sizeof digest);
        put_in_place(auth, table);
    }
    *ret_changed = changed;
    return CMQ_OK;
}

/* The codes that the header promises. */
static enum cmq_err public_err(enum cmq_err err)
{
    if (err == CMQ_OK || err == CMQ_ERR_PERMISSION || err == CMQ_ERR_SYSTEM || err == CMQ_ERR_NOMEM)
        return err;
    return CMQ_ERR_INVALID;
}

enum cmq_err cmq_auth_reload(struct cmq_auth *auth, bool force, bool *ret_changed, struct cmq_reason *reason)
{
    *ret_changed = false;
    if (auth->open)
        return CMQ_OK;
    struct cmq_token_stamp stamp; /* before the reading: what changes in between is seen the next time */
    cmq_token_file_stamp(auth->file, &stamp);
    const bool same = cmq_token_stamp_equal(&stamp, &auth->stamp);
    if (!force && same && !auth->fresh)
        return CMQ_OK;
    auth->fresh = is_fresh(&stamp);
    auth->stamp = stamp;
    const enum cmq_err err = read_file(auth, ret_changed, reason);
    const bool told = auth->bad && same && !force; /* a second look, only because of the time stamp */
    auth->bad = err != CMQ_OK;
    return told ? CMQ_OK : public_err(err);
}

enum cmq_err cmq_auth_new(const char *file, uint32_t failures_max, struct cmq_auth **ret_auth,
                          struct cmq_reason *reason)
{
    struct cmq_auth *auth = calloc(1, sizeof *auth);
    enum cmq_err err = auth == NULL ? CMQ_ERR_NOMEM : lock_init(&auth->lock);
    if (err != CMQ_OK) {
        free(auth);
        return cmq_reason_set(reason, err, "no memory for the table of tokens");
    }
    auth->open = file[0] == '\0';
    auth->file = strdup(file);
    err = auth->file == NULL ? CMQ_ERR_NOMEM : cmq_auth_failures_new(failures_max, &auth->failures);
    if (err != CMQ_OK) {
        err = cmq_reason_set(reason, err, "no memory or no random bytes for the table of failed attempts");
    } else if (!auth->open) {
        bool changed = false;
        err = cmq_auth_reload(auth, true, &changed, reason);
    }
    if (err != CMQ_OK) {
        cmq_auth_free(auth);
        return err;
    }
    *ret_auth = auth;
    return CMQ_OK;
}

void cmq_auth_free(struct cmq_auth *auth)
{
    if (auth == NULL)
        return;
    if (auth->table != NULL)
        cmq_auth_table_retire(auth->table, NULL);
    cmq_auth_table_free(auth->table);
    cmq_auth_failures_free(auth->failures);
    (void)pthread_rwlock_destroy(&auth->lock);
    free(auth->file);
    free(auth);
}

bool cmq_auth_is_open(const struct cmq_auth *auth)
{
    return auth->open;
}

/* Referenced, or NULL. */
static struct cmq_auth_entry *look_up(struct cmq_auth *auth, const struct cmq_auth_credentials *credentials)
{
    uint8_t key[CMQ_AUTH_KEY_BYTES];
    enum cmq_token_kind kind = CMQ_TOKEN_BEARER;
    if (credentials->token.bytes == CMQ_TOKEN_BYTES) {
        cmq_auth_key_of_token(credentials->token, key);
    } else if (credentials->token.bytes == 0) {
        kind = CMQ_TOKEN_CERTIFICATE;
        cmq_auth_key_of_subject(credentials->certificate, key);
    } else {
        return NULL;
    }
    (void)pthread_rwlock_rdlock(&auth->lock);
    struct cmq_auth_entry *entry = cmq_auth_table_find(auth->table, kind, key);
    if (entry != NULL)
        cmq_auth_entry_get(entry);
    (void)pthread_rwlock_unlock(&auth->lock);
    return entry;
}

/* Whether the certificate is the one that the token is bound to. */
static bool is_shown(const struct cmq_auth_entry *entry, struct cmq_span certificate)
{
    uint8_t key[CMQ_AUTH_KEY_BYTES];
    if (certificate.bytes == 0)
        return false;
    cmq_auth_key_of_subject(certificate, key);
    return memcmp(key, entry->subject_key, sizeof key) == 0;
}

enum cmq_auth_result cmq_auth_check_at(struct cmq_auth *auth, const struct cmq_auth_credentials *credentials,
                                       uint64_t wall_ms, uint64_t mono_ns, struct cmq_grant *ret_grant)
{
    *ret_grant = (struct cmq_grant){.open = auth->open};
    if (auth->open)
        return CMQ_AUTH_OK;
    if (credentials->token.bytes == 0 && credentials->certificate.bytes == 0)
        return CMQ_AUTH_MISSING;
    struct cmq_auth_entry *entry = look_up(auth, credentials);
    if (entry != NULL && entry->bound && !is_shown(entry, credentials->certificate)) {
        cmq_auth_entry_put(entry);
        entry = NULL; /* to somebody who has only the token, it is none */
    }
    if (entry != NULL && wall_ms < entry->expires_ms) {
        ret_grant->entry = entry;
        return CMQ_AUTH_OK;
    }
    const enum cmq_auth_result result = entry == NULL ? CMQ_AUTH_UNKNOWN : CMQ_AUTH_EXPIRED;
    cmq_auth_entry_put(entry);
    return cmq_auth_failures_add(auth->failures, credentials->address, mono_ns) ? CMQ_AUTH_LIMITED : result;
}

enum cmq_auth_result cmq_auth_check(struct cmq_auth *auth, struct cmq_span token, struct cmq_span certificate,
                                    struct cmq_span address, struct cmq_grant *ret_grant)
{
    const struct cmq_auth_credentials credentials = {
        .token = token, .certificate = certificate, .address = address};
    return cmq_auth_check_at(auth, &credentials, cmq_clock_wall_ms(), cmq_clock_mono_ns(), ret_grant);
}

void cmq_grant_put(struct cmq_grant *grant)
{
    cmq_auth_entry_put(grant->entry);
    *grant = (struct cmq_grant){0};
}

bool cmq_grant_allows(const struct cmq_grant *grant, enum cmq_right right, struct cmq_span pattern)
{
    if (grant->open || grant->entry == NULL)
        return grant->open;
    switch (right) {
    case CMQ_RIGHT_PUBLISH:
    case CMQ_RIGHT_SUBSCRIBE:
    case CMQ_RIGHT_CONSUME:
        return cmq_auth_scope_covers(grant->entry->scopes[right], pattern);
    case CMQ_RIGHT_ADMIN:
        return grant->entry->admin;
    }
    return false;
}

bool cmq_grant_is_live_at(const struct cmq_auth *auth, const struct cmq_grant *grant, uint64_t wall_ms)
{
    if (grant->entry == NULL)
        return grant->open && auth->open;
    /* Pairs with the store in cmq_auth_table_retire. */
    return !atomic_load_explicit(&grant->entry->retired, memory_order_relaxed) &&
           wall_ms < grant->entry->expires_ms;
}

bool cmq_grant_is_live(struct cmq_auth *auth, const struct cmq_grant *grant)
{
    return cmq_grant_is_live_at(auth, grant, cmq_clock_wall_ms());
}

const char *cmq_grant_name(const struct cmq_grant *grant)
{
    return grant->entry == NULL ? "" : grant->entry->name;
}

void cmq_grant_take(const struct cmq_grant *grant, uint64_t messages, uint64_t bytes, uint64_t messages_rate,
                    uint64_t bytes_rate, uint64_t now_ns, struct cmq_rate *ret_rate)
{
    struct cmq_auth_entry *entry = grant->entry;
    *ret_rate = (struct cmq_rate){.ok = true};
    if (entry == NULL)
        return;
    const uint64_t counts[2] = {messages, bytes};
    const uint64_t rates[2] = {entry->messages_rate != 0 ? entry->messages_rate : messages_rate,
                               entry->bytes_rate != 0 ? entry->bytes_rate : bytes_rate};
    if (rates[0] == 0 && rates[1] == 0)
        return;
    (void)pthread_mutex_lock(&entry->lock);
    cmq_auth_bucket_take(&entry->messages, &entry->bytes, counts, rates, now_ns, ret_rate);
    (void)pthread_mutex_unlock(&entry->lock);
}
