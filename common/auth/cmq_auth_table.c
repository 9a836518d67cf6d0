#include "common/auth/cmq_auth_table.h"

#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <string.h>

/* Open addressing, at most half full. An index is a place in entries plus 1; 0 is free. */
struct index {
    uint32_t *places;
    size_t mask;
};

struct cmq_auth_table {
    size_t count;
    struct cmq_auth_entry **entries;
    struct index keys;
};

/* What is needed while a file is read. */
struct building {
    struct cmq_auth_table *table;
    const struct cmq_auth_table *old;
    struct index names;
    size_t *numbers; /* of the entries' lines, for sentences */
};

void cmq_auth_key_of_token(struct cmq_span token, uint8_t ret_key[CMQ_AUTH_KEY_BYTES])
{
    cmq_token_digest(token, ret_key);
}

void cmq_auth_key_of_subject(struct cmq_span subject, uint8_t ret_key[CMQ_AUTH_KEY_BYTES])
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, 8, (const uint8_t *)"subject:"); /* no token begins so */
    sha256_update(&sha, subject.bytes, subject.data);
    sha256_digest(&sha, CMQ_AUTH_KEY_BYTES, ret_key);
}

/* The digests are as good as random, and nobody chooses them. */
static uint64_t hash_key(const uint8_t key[CMQ_AUTH_KEY_BYTES])
{
    uint64_t hash;
    memcpy(&hash, key, sizeof hash);
    return hash;
}

/* FNV-1a. Names are the operator's. */
static uint64_t hash_name(struct cmq_span name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.bytes; i++)
        hash = (hash ^ name.data[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

static bool index_make(struct index *ret_index, size_t count_max)
{
    size_t size = 8;
    while (size < 2 * count_max)
        size *= 2;
    *ret_index = (struct index){.places = calloc(size, sizeof *ret_index->places), .mask = size - 1};
    return ret_index->places != NULL;
}

static size_t find_key(const struct cmq_auth_table *table, const uint8_t key[CMQ_AUTH_KEY_BYTES])
{
    size_t at = hash_key(key) & table->keys.mask;
    while (table->keys.places[at] != 0 &&
           memeql_sec(table->entries[table->keys.places[at] - 1]->key, key, CMQ_AUTH_KEY_BYTES) == 0)
        at = (at + 1) & table->keys.mask;
    return at;
}

static size_t find_name(const struct building *building, struct cmq_span name)
{
    const struct index *names = &building->names;
    size_t at = hash_name(name) & names->mask;
    for (; names->places[at] != 0; at = (at + 1) & names->mask) {
        const char *const other = building->table->entries[names->places[at] - 1]->name;
        if (strlen(other) == name.bytes && memcmp(other, name.data, name.bytes) == 0)
            break;
    }
    return at;
}

static struct cmq_auth_entry *entry_new(const struct cmq_token_line *line,
                                        const uint8_t key[CMQ_AUTH_KEY_BYTES],
                                        const uint8_t line_digest[CMQ_AUTH_KEY_BYTES])
{
    size_t text_bytes = 0;
    for (unsigned i = 0; i < CMQ_TOKEN_SCOPES; i++)
        text_bytes += line->scopes[i].bytes;
    struct cmq_auth_entry *entry = calloc(1, sizeof *entry + text_bytes);
    if (entry == NULL)
        return NULL;
    atomic_init(&entry->refs, 1);
    atomic_init(&entry->retired, false);
    entry->kind = line->kind;
    entry->admin = line->admin;
    entry->bound = line->kind == CMQ_TOKEN_BEARER && line->subject_bytes > 0;
    if (entry->bound)
        cmq_auth_key_of_subject(cmq_span_make(line->subject, line->subject_bytes), entry->subject_key);
    entry->expires_ms = line->expires_ms;
    entry->messages_rate = line->messages_rate;
    entry->bytes_rate = line->bytes_rate;
    memcpy(entry->key, key, CMQ_AUTH_KEY_BYTES);
    memcpy(entry->line_digest, line_digest, CMQ_AUTH_KEY_BYTES);
    memcpy(entry->name, line->name.data, line->name.bytes);
    (void)pthread_mutex_init(&entry->lock, NULL);
    uint8_t *text = entry->text;
    for (unsigned i = 0; i < CMQ_TOKEN_SCOPES; i++) {
        const struct cmq_span scope = line->scopes[i];
        if (scope.bytes == 0)
            continue;
        memcpy(text, scope.data, scope.bytes);
        entry->scopes[i] = cmq_span_make(text, scope.bytes);
        text += scope.bytes;
    }
    return entry;
}

void cmq_auth_entry_get(struct cmq_auth_entry *entry)
{
    /* The caller knows of a reference that lasts, so nothing has to be ordered. */
    (void)atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
}

void cmq_auth_entry_put(struct cmq_auth_entry *entry)
{
    /* Pairs with itself: whoever frees sees what the others did before they let go. */
    if (entry == NULL || atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) != 1)
        return;
    (void)pthread_mutex_destroy(&entry->lock);
    free(entry);
}

struct cmq_auth_entry *cmq_auth_table_find(const struct cmq_auth_table *table, enum cmq_token_kind kind,
                                           const uint8_t key[CMQ_AUTH_KEY_BYTES])
{
    const uint32_t place = table->keys.places[find_key(table, key)];
    struct cmq_auth_entry *entry = place == 0 ? NULL : table->entries[place - 1];
    return entry != NULL && entry->kind == kind ? entry : NULL;
}

/* The entry of the same line in the old table, or a new one. */
static struct cmq_auth_entry *take_over(const struct building *building, struct cmq_span raw,
                                        const struct cmq_token_line *line,
                                        const uint8_t key[CMQ_AUTH_KEY_BYTES])
{
    uint8_t line_digest[CMQ_AUTH_KEY_BYTES];
    cmq_token_digest(raw, line_digest);
    struct cmq_auth_entry *same =
        building->old == NULL ? NULL : cmq_auth_table_find(building->old, line->kind, key);
    if (same == NULL || memcmp(same->line_digest, line_digest, sizeof line_digest) != 0)
        return entry_new(line, key, line_digest);
    cmq_auth_entry_get(same);
    return same;
}

static enum cmq_err add_line(void *context, size_t number, struct cmq_span raw,
                             const struct cmq_token_line *line, struct cmq_reason *reason)
{
    struct building *building = context;
    struct cmq_auth_table *table = building->table;
    uint8_t key[CMQ_AUTH_KEY_BYTES];
    if (line->kind == CMQ_TOKEN_BEARER)
        memcpy(key, line->digest, sizeof key);
    else
        cmq_auth_key_of_subject(cmq_span_make(line->subject, line->subject_bytes), key);
    const size_t name_at = find_name(building, line->name), key_at = find_key(table, key);
    if (building->names.places[name_at] != 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "the name %.*s is used in line %zu already",
                              (int)line->name.bytes, (const char *)line->name.data,
                              building->numbers[building->names.places[name_at] - 1]);
    if (table->keys.places[key_at] != 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s is that of line %zu",
                              line->kind == CMQ_TOKEN_BEARER ? "sha256:" : "subject:",
                              building->numbers[table->keys.places[key_at] - 1]);
    struct cmq_auth_entry *entry = take_over(building, raw, line, key);
    if (entry == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for the table of tokens");
    building->numbers[table->count] = number;
    table->entries[table->count++] = entry;
    building->names.places[name_at] = table->keys.places[key_at] = (uint32_t)table->count;
    return CMQ_OK;
}

/* Every line could be a token. */
static size_t count_lines(struct cmq_span content)
{
    size_t count = 0;
    for (size_t i = 0; i < content.bytes; i++) {
        const bool first = i == 0 || content.data[i - 1] == '\n';
        count += first && content.data[i] != '#' && content.data[i] != '\n';
    }
    return count;
}

enum cmq_err cmq_auth_table_new(const char *path, struct cmq_span content, const struct cmq_auth_table *old,
                                struct cmq_auth_table **ret_table, struct cmq_reason *reason)
{
    const size_t count_max = count_lines(content);
    if (count_max > CMQ_AUTH_TOKENS_MAX)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s has %zu lines of tokens, at most %u are allowed",
                              path, count_max, CMQ_AUTH_TOKENS_MAX);
    struct building building = {.old = old, .table = calloc(1, sizeof *building.table)};
    enum cmq_err err = CMQ_ERR_NOMEM;
    if (building.table != NULL) {
        building.table->entries = calloc(count_max + 1, sizeof *building.table->entries);
        building.numbers = calloc(count_max + 1, sizeof *building.numbers);
        if (building.table->entries != NULL && building.numbers != NULL &&
            index_make(&building.names, count_max) && index_make(&building.table->keys, count_max))
            err = CMQ_OK;
    }
    err = err == CMQ_OK ? cmq_token_file_walk(path, content, add_line, &building, reason)
                        : cmq_reason_set(reason, err, "no memory for the table of tokens");
    free(building.names.places);
    free(building.numbers);
    if (err == CMQ_OK)
        *ret_table = building.table;
    else
        cmq_auth_table_free(building.table);
    return err;
}

void cmq_auth_table_retire(const struct cmq_auth_table *table, const struct cmq_auth_table *next)
{
    for (size_t i = 0; i < table->count; i++) {
        struct cmq_auth_entry *entry = table->entries[i];
        if (next == NULL || cmq_auth_table_find(next, entry->kind, entry->key) != entry)
            /* Pairs with the load in cmq_grant_is_live; there is nothing else to see. */
            atomic_store_explicit(&entry->retired, true, memory_order_relaxed);
    }
}

void cmq_auth_table_free(struct cmq_auth_table *table)
{
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->count; i++)
        cmq_auth_entry_put(table->entries[i]);
    free(table->keys.places);
    free(table->entries);
    free(table);
}
