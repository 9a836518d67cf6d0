#include <string.h>

#include "common/crypto/cmq_keyring_int.h"
#include "common/wire/cmq_topic.h"

static struct cmq_span pattern_of(const struct cmq_key *key)
{
    return cmq_span_make(key->data.pattern, key->pattern_bytes);
}

static int compare_span(struct cmq_span a, struct cmq_span b)
{
    if (a.bytes != b.bytes)
        return a.bytes < b.bytes ? -1 : 1;
    return memcmp(a.data, b.data, a.bytes);
}

static int compare_id(const void *a, const void *b, void *keys)
{
    const struct cmq_key *all = keys;
    return memcmp(all[*(const uint32_t *)a].data.key_id, all[*(const uint32_t *)b].data.key_id,
                  CMQ_KEYRING_ID_BYTES);
}

static int compare_pattern_epoch(const void *a, const void *b, void *keys)
{
    const struct cmq_key *all = keys;
    const struct cmq_key *x = &all[*(const uint32_t *)a], *y = &all[*(const uint32_t *)b];
    int order = compare_span(pattern_of(x), pattern_of(y));
    if (order != 0)
        return order;
    return (x->data.epoch > y->data.epoch) - (x->data.epoch < y->data.epoch);
}

static enum cmq_err unwrap_refused(const struct cmq_keyring *keyring, const struct cmq_image_entry *entry,
                                   enum cmq_err err, struct cmq_reason *reason)
{
    if (err != CMQ_ERR_AUTH)
        return cmq_reason_set(reason, err, "cannot open the keys of %s: %s", keyring->keyring_file,
                              cmq_err_text(err));
    return cmq_reason_set(reason, CMQ_ERR_KEY,
                          "%s was changed: the key of pattern %.*s, epoch %u, does not open although the "
                          "key-encryption key %s is the right one; bring it back from a backup",
                          keyring->keyring_file, (int)entry->pattern.bytes, (const char *)entry->pattern.data,
                          entry->epoch, keyring->kek_file);
}

static enum cmq_err key_take(const struct cmq_keyring *keyring, struct cmq_key_table *table,
                             const struct cmq_image_entry *entry, const struct cmq_key_table *before,
                             struct cmq_reason *reason)
{
    cmq_assert(table->keys != NULL); /* there is room for as many as were counted */
    uint8_t *bytes = table->memory.data + table->count * CMQ_KEYRING_KEY_BYTES;
    enum cmq_err err = cmq_image_unwrap(keyring->sealer, keyring->side, keyring->keks->kek, entry, bytes);
    if (err != CMQ_OK)
        return unwrap_refused(keyring, entry, err, reason);
    const struct cmq_key *known = before != NULL ? cmq_key_table_find(before, entry->key_id) : NULL;
    struct cmq_key *key = &table->keys[table->count];
    *key = (struct cmq_key){.data = {.key = bytes, .epoch = entry->epoch},
                            .pattern_bytes = entry->pattern.bytes,
                            .image_offset = entry->offset,
                            .seals_reserved = entry->seals_reserved,
                            .seals_left = known != NULL ? known->seals_left : 0,
                            .deliverable = entry->deliverable};
    memcpy(key->data.key_id, entry->key_id, CMQ_KEYRING_ID_BYTES);
    memcpy(key->data.pattern, entry->pattern.data, entry->pattern.bytes);
    table->by_id[table->count] = table->newest[table->count] = (uint32_t)table->count;
    table->count++;
    return CMQ_OK;
}

/* Sorts both indexes; refuses what would make a key ambiguous. */
static enum cmq_err table_index(const struct cmq_keyring *keyring, struct cmq_key_table *table,
                                struct cmq_reason *reason)
{
    size_t kept = 0;
    if (table->count == 0)
        return CMQ_OK;
    qsort_r(table->by_id, table->count, sizeof *table->by_id, compare_id, table->keys);
    qsort_r(table->newest, table->count, sizeof *table->newest, compare_pattern_epoch, table->keys);
    for (size_t i = 1; i < table->count; i++)
        if (compare_id(&table->by_id[i - 1], &table->by_id[i], table->keys) == 0 ||
            compare_pattern_epoch(&table->newest[i - 1], &table->newest[i], table->keys) == 0)
            return cmq_reason_set(
                reason, CMQ_ERR_MALFORMED,
                "%s was not written by CipherMQ: it has a key or an epoch twice; bring it back "
                "from a backup",
                keyring->keyring_file);
    for (size_t i = 0; i < table->count; i++) { /* keep the last of each run of one pattern */
        const struct cmq_key *key = &table->keys[table->newest[i]];
        bool is_last = i + 1 == table->count ||
                       compare_span(pattern_of(key), pattern_of(&table->keys[table->newest[i + 1]])) != 0;
        if (is_last)
            table->newest[kept++] = table->newest[i];
    }
    table->newest_count = kept;
    return CMQ_OK;
}

static enum cmq_err table_alloc(size_t count, struct cmq_key_table **ret_table, struct cmq_reason *reason)
{
    struct cmq_key_table *table = calloc(1, sizeof *table);
    enum cmq_err err = CMQ_OK;
    if (table == NULL) {
        (void)cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for %zu keys", count);
        return CMQ_ERR_NOMEM;
    }
    if (count == 0)
        goto out;
    table->keys = calloc(count, sizeof *table->keys);
    table->by_id = calloc(count, sizeof *table->by_id);
    table->newest = calloc(count, sizeof *table->newest);
    if (table->keys == NULL || table->by_id == NULL || table->newest == NULL)
        err = cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for %zu keys", count);
    else
        err = cmq_secret_init(&table->memory, count * CMQ_KEYRING_KEY_BYTES, CMQ_SECRET_FORK_ABSENT, reason);
out:
    if (err != CMQ_OK)
        cmq_key_table_free(table);
    else
        *ret_table = table;
    return err;
}

enum cmq_err cmq_key_table_new(const struct cmq_keyring *keyring, struct cmq_span image,
                               const struct cmq_key_table *before, struct cmq_key_table **ret_table,
                               struct cmq_reason *reason)
{
    struct cmq_image_entry entry;
    struct cmq_key_table *table = NULL;
    size_t count = 0;
    const bool encryptor = keyring->side == CMQ_KEYRING_ENCRYPTOR;
    for (size_t offset = 0; cmq_image_next(image, &offset, &entry);)
        count += encryptor || entry.deliverable;
    enum cmq_err err = table_alloc(count, &table, reason);
    if (err != CMQ_OK)
        return err;
    for (size_t offset = 0; err == CMQ_OK && cmq_image_next(image, &offset, &entry);)
        if (encryptor || entry.deliverable)
            err = key_take(keyring, table, &entry, before, reason);
    if (err == CMQ_OK)
        err = table_index(keyring, table, reason);
    if (err != CMQ_OK) {
        cmq_key_table_free(table);
        return err;
    }
    *ret_table = table;
    return CMQ_OK;
}

void cmq_key_table_free(struct cmq_key_table *table)
{
    if (table == NULL)
        return;
    cmq_secret_fini(&table->memory);
    free(table->newest);
    free(table->by_id);
    free(table->keys);
    free(table);
}

struct cmq_key *cmq_key_table_find(const struct cmq_key_table *table, const uint8_t *key_id)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct cmq_key *key = &table->keys[table->by_id[middle]];
        int order = memcmp(key_id, key->data.key_id, CMQ_KEYRING_ID_BYTES); /* ids are public */
        if (order == 0)
            return key;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

struct cmq_key *cmq_key_table_newest(const struct cmq_key_table *table, struct cmq_span pattern)
{
    for (size_t i = 0; i < table->newest_count; i++) {
        struct cmq_key *key = &table->keys[table->newest[i]];
        if (compare_span(pattern_of(key), pattern) == 0)
            return key;
    }
    return NULL;
}

static unsigned wildcards(struct cmq_span pattern)
{
    unsigned count = 0;
    for (size_t i = 0; i < pattern.bytes; i++)
        count += pattern.data[i] == '*' || pattern.data[i] == '>';
    return count;
}

/* Longest, then fewest wildcards, then the larger bytes: the same order in every process. */
static bool is_more_specific(struct cmq_span a, struct cmq_span b)
{
    if (a.bytes != b.bytes)
        return a.bytes > b.bytes;
    unsigned a_wild = wildcards(a), b_wild = wildcards(b);
    if (a_wild != b_wild)
        return a_wild < b_wild;
    return memcmp(a.data, b.data, a.bytes) > 0;
}

/* The topic that a dead letter was published to: it is as secret as what it was. Other topics are their own. */
static struct cmq_span without_dead(struct cmq_span topic)
{
    static const char dead[] = "$dead.";
    const size_t bytes = sizeof(dead) - 1;
    if (topic.bytes <= bytes || memcmp(topic.data, dead, bytes) != 0)
        return topic;
    return cmq_span_make(topic.data + bytes, topic.bytes - bytes);
}

struct cmq_key *cmq_key_table_match(const struct cmq_key_table *table, struct cmq_span topic)
{
    struct cmq_key *best = NULL;
    topic = without_dead(topic);
    for (size_t i = 0; i < table->newest_count; i++) {
        struct cmq_key *key = &table->keys[table->newest[i]];
        if (cmq_topic_matches(pattern_of(key), topic) &&
            (best == NULL || is_more_specific(pattern_of(key), pattern_of(best))))
            best = key;
    }
    return best;
}
