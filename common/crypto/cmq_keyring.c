#include "common/crypto/cmq_keyring.h"

#include <string.h>
#include <unistd.h>

#include "common/crypto/cmq_keyring_int.h"

enum { RENEWALS_MAX = 4 };

enum cmq_err cmq_keyring_load(const struct cmq_keyring *keyring, struct cmq_buf *content,
                              struct cmq_keyfile_stamp *ret_stamp, struct cmq_reason *reason)
{
    const char *path = keyring->keyring_file;
    uint8_t id[CMQ_KEYRING_ID_BYTES];
    enum cmq_err err = cmq_keyfile_load(path, content, ret_stamp, reason);
    if (err == CMQ_OK)
        err = cmq_image_check(cmq_buf_span(content), path, reason);
    if (err != CMQ_OK)
        return err;
    if (cmq_image_derive_kek_id(keyring->keks->kek, id) != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot check %s: HKDF failed in OpenSSL",
                              keyring->kek_file);
    if (memcmp(id, cmq_image_kek_id(cmq_buf_span(content), keyring->side), sizeof id) == 0)
        return CMQ_OK;
    return cmq_reason_set(
        reason, CMQ_ERR_KEY,
        "%s is not the %s of %s: bring back the key file and the keyring that belong together",
        keyring->kek_file, keyring->side == CMQ_KEYRING_ENCRYPTOR ? "key-encryption key" : "delivery key",
        path);
}

void cmq_keyring_adopt(struct cmq_keyring *keyring, struct cmq_key_table *table)
{
    cmq_key_table_free(keyring->table);
    keyring->table = table;
    for (size_t i = 0; i < CMQ_KEYRING_TOPIC_SLOTS; i++)
        keyring->slots[i].topic_bytes = 0;
}

static enum cmq_err load_table(struct cmq_keyring *keyring, struct cmq_reason *reason)
{
    struct cmq_buf content;
    struct cmq_keyfile_stamp stamp;
    struct cmq_key_table *table;
    cmq_buf_init(&content, CMQ_IMAGE_BYTES_MAX);
    enum cmq_err err = cmq_keyring_load(keyring, &content, &stamp, reason);
    if (err == CMQ_OK)
        err = cmq_key_table_new(keyring, cmq_buf_span(&content), keyring->table, &table, reason);
    if (err == CMQ_OK) {
        table->stamp = stamp;
        cmq_keyring_adopt(keyring, table);
    }
    cmq_buf_fini(&content);
    return err;
}

static enum cmq_err open_parts(struct cmq_keyring *keyring, const struct cmq_keyring_paths *paths,
                               enum cmq_keyfile_owner owner, struct cmq_reason *reason)
{
    keyring->kek_file = strdup(paths->kek_file);
    keyring->keyring_file = strdup(paths->keyring_file);
    if (keyring->kek_file == NULL || keyring->keyring_file == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for a keyring");
    enum cmq_err err =
        cmq_secret_init(&keyring->memory, sizeof *keyring->keks, CMQ_SECRET_FORK_ABSENT, reason);
    if (err != CMQ_OK)
        return err;
    keyring->keks = (struct cmq_keyring_keks *)(void *)keyring->memory.data;
    err = cmq_sealer_new(&keyring->sealer);
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "cannot start the cipher for %s: %s", paths->keyring_file,
                              cmq_err_text(err));
    err = cmq_keyfile_read_key(paths->kek_file, owner, keyring->keks->kek, reason);
    if (err != CMQ_OK || keyring->side == CMQ_KEYRING_DELIVERY)
        return err;
    if (cmq_image_derive_delivery_kek(keyring->keks->kek, keyring->keks->delivery_kek) != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot derive from %s: HKDF failed in OpenSSL",
                              paths->kek_file);
    return CMQ_OK;
}

enum cmq_err cmq_keyring_open_as(const struct cmq_keyring_paths *paths, enum cmq_keyring_side side,
                                 enum cmq_keyfile_owner owner, struct cmq_keyring **ret_keyring,
                                 struct cmq_reason *reason)
{
    struct cmq_keyring *keyring = calloc(1, sizeof *keyring);
    if (keyring == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for a keyring");
    keyring->side = side;
    enum cmq_err err = open_parts(keyring, paths, owner, reason);
    if (err == CMQ_OK)
        err = load_table(keyring, reason);
    if (err != CMQ_OK) {
        cmq_keyring_free(keyring);
        return err;
    }
    *ret_keyring = keyring;
    return CMQ_OK;
}

enum cmq_err cmq_keyring_open(const struct cmq_keyring_paths *paths, enum cmq_keyring_side side,
                              struct cmq_keyring **ret_keyring, struct cmq_reason *reason)
{
    return cmq_keyring_open_as(paths, side, CMQ_KEYFILE_OWNER_SELF_OR_ROOT, ret_keyring, reason);
}

enum cmq_err cmq_keyring_open_operator(const struct cmq_keyring_paths *paths, enum cmq_keyring_side side,
                                       struct cmq_keyring **ret_keyring, struct cmq_reason *reason)
{
    const enum cmq_keyfile_owner owner =
        geteuid() == 0 ? CMQ_KEYFILE_OWNER_ANY : CMQ_KEYFILE_OWNER_SELF_OR_ROOT;
    return cmq_keyring_open_as(paths, side, owner, ret_keyring, reason);
}

void cmq_keyring_free(struct cmq_keyring *keyring)
{
    if (keyring == NULL)
        return;
    cmq_key_table_free(keyring->table);
    cmq_sealer_free(keyring->sealer);
    cmq_secret_fini(&keyring->memory);
    free(keyring->keyring_file);
    free(keyring->kek_file);
    free(keyring);
}

/* Every change is a new file, so a stamp could only repeat if the inode came back within one tick of the file
 * clock and the size were the same; a change that adds a key also changes the size. */
enum cmq_err cmq_keyring_reload(struct cmq_keyring *keyring, bool *ret_changed, struct cmq_reason *reason)
{
    struct cmq_keyfile_stamp stamp;
    enum cmq_err err = cmq_keyfile_stamp(keyring->keyring_file, &stamp, reason);
    if (err != CMQ_OK)
        return err;
    const bool changed = !cmq_keyfile_stamp_equal(&stamp, &keyring->table->stamp);
    if (changed)
        err = load_table(keyring, reason);
    if (err == CMQ_OK && ret_changed != NULL)
        *ret_changed = changed;
    return err;
}

/* FNV-1a, 32 bits: topics are short, and a collision costs a search only. */
static struct cmq_topic_slot *slot_for(struct cmq_keyring *keyring, struct cmq_span topic)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < topic.bytes; i++)
        hash = (hash ^ topic.data[i]) * 16777619u;
    return &keyring->slots[(hash ^ hash >> 16) % CMQ_KEYRING_TOPIC_SLOTS];
}

static struct cmq_key *key_for(struct cmq_keyring *keyring, struct cmq_span topic)
{
    struct cmq_topic_slot *slot = slot_for(keyring, topic);
    if (slot->topic_bytes == topic.bytes && memcmp(slot->topic, topic.data, topic.bytes) == 0)
        return &keyring->table->keys[slot->key_index];
    struct cmq_key *key = cmq_key_table_match(keyring->table, topic);
    if (key == NULL)
        return NULL;
    slot->key_index = (uint32_t)(key - keyring->table->keys);
    slot->topic_bytes = (uint8_t)topic.bytes;
    memcpy(slot->topic, topic.data, topic.bytes);
    return key;
}

enum cmq_err cmq_keyring_seal_key(struct cmq_keyring *keyring, struct cmq_span topic,
                                  const struct cmq_data_key **ret_key, struct cmq_reason *reason)
{
    cmq_assert(keyring->side == CMQ_KEYRING_ENCRYPTOR);
    if (topic.bytes == 0 || topic.bytes > CMQ_KEYRING_PATTERN_MAX)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "a topic has 1 to %u bytes, this one %zu",
                              CMQ_KEYRING_PATTERN_MAX, topic.bytes);
    /* After a renewal another process's new pattern may match better, and that key then needs one too. */
    for (int renewals = 0; renewals <= RENEWALS_MAX; renewals++) {
        struct cmq_key *key = key_for(keyring, topic);
        if (key == NULL)
            return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND,
                                  "%s has no key for a topic: add one with `ciphermqctl key rotate PATTERN`",
                                  keyring->keyring_file);
        if (key->seals_left > 0) {
            key->seals_left--;
            *ret_key = &key->data;
            return CMQ_OK;
        }
        enum cmq_err err =
            cmq_keyring_renew(keyring, cmq_span_make(key->data.pattern, key->pattern_bytes), reason);
        if (err != CMQ_OK)
            return err;
    }
    return cmq_reason_set(reason, CMQ_ERR_AGAIN, "%s changes faster than it can be read",
                          keyring->keyring_file);
}

enum cmq_err cmq_keyring_find(const struct cmq_keyring *keyring, const uint8_t key_id[CMQ_KEYRING_ID_BYTES],
                              const struct cmq_data_key **ret_key)
{
    const struct cmq_key *key = cmq_key_table_find(keyring->table, key_id);
    if (key == NULL)
        return CMQ_ERR_NOT_FOUND;
    *ret_key = &key->data;
    return CMQ_OK;
}

uint64_t cmq_keyring_seals_left(const struct cmq_keyring *keyring)
{
    const struct cmq_key_table *table = keyring->table;
    uint64_t least = CMQ_KEY_SEALS_MAX;
    for (size_t i = 0; i < table->newest_count; i++) {
        const struct cmq_key *key = &table->keys[table->newest[i]];
        least = cmq_min_u64(least, CMQ_KEY_SEALS_MAX - key->seals_reserved + key->seals_left);
    }
    return least;
}

size_t cmq_keyring_count(const struct cmq_keyring *keyring)
{
    return keyring->table->count;
}

void cmq_keyring_info(const struct cmq_keyring *keyring, size_t index, struct cmq_key_info *ret_info)
{
    cmq_assert(index < keyring->table->count);
    const struct cmq_key *key = &keyring->table->keys[index];
    *ret_info = (struct cmq_key_info){
        .epoch = key->data.epoch, .deliverable = key->deliverable, .seals_reserved = key->seals_reserved};
    memcpy(ret_info->pattern, key->data.pattern, sizeof ret_info->pattern);
    memcpy(ret_info->key_id, key->data.key_id, sizeof ret_info->key_id);
}
