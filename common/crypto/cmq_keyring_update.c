#include <string.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/crypto/cmq_keyring_int.h"
#include "common/wire/cmq_topic.h"

/*
 * Every change of a keyring file, in this order:
 *   lock -> read and check the file as it is now -> change the image -> unwrap it, as a reader would -> write
 * aside, sync, rename, sync the directory -> use the new table -> unlock A death before the rename leaves the
 * old file and litter ("<keyring>.new", removed by the next change); a death after it leaves the new file.
 * The lock ends with the process. Seals are counted in the file before the first of them is used, so a death
 * wastes at most one reservation.
 */
struct change {
    int lock_fd;
    struct cmq_buf image;
    struct cmq_key_table *table; /* of the image as it was read */
};

static void change_end(struct change *change)
{
    cmq_key_table_free(change->table);
    cmq_buf_fini(&change->image);
    if (change->lock_fd >= 0)
        cmq_keyfile_unlock(change->lock_fd);
}

/* change_end is due also after an error. */
static enum cmq_err change_begin(const struct cmq_keyring *keyring, struct change *change,
                                 struct cmq_reason *reason)
{
    struct cmq_keyfile_stamp stamp;
    *change = (struct change){.lock_fd = -1};
    cmq_buf_init(&change->image, CMQ_IMAGE_BYTES_MAX);
    enum cmq_err err = cmq_keyfile_lock(keyring->keyring_file, &change->lock_fd, reason);
    if (err == CMQ_OK)
        err = cmq_keyring_load(keyring, &change->image, &stamp, reason);
    if (err == CMQ_OK)
        err =
            cmq_key_table_new(keyring, cmq_buf_span(&change->image), keyring->table, &change->table, reason);
    return err;
}

/* What cannot be read back is not written. */
static enum cmq_err change_commit(struct cmq_keyring *keyring, struct change *change,
                                  struct cmq_reason *reason)
{
    struct cmq_key_table *table;
    const struct cmq_span image = cmq_buf_span(&change->image);
    enum cmq_err err = cmq_image_check(image, keyring->keyring_file, reason);
    if (err == CMQ_OK)
        err = cmq_key_table_new(keyring, image, keyring->table, &table, reason);
    if (err != CMQ_OK)
        return err;
    err = cmq_keyfile_write(keyring->keyring_file, image, CMQ_KEYFILE_MODE_KEYRING, false, reason);
    if (err == CMQ_OK)
        err = cmq_keyfile_stamp(keyring->keyring_file, &table->stamp, reason);
    if (err != CMQ_OK) {
        cmq_key_table_free(table);
        return err;
    }
    cmq_keyring_adopt(keyring, table);
    return CMQ_OK;
}

static enum cmq_err append_refused(const char *path, enum cmq_err err, struct cmq_reason *reason)
{
    if (err == CMQ_ERR_EXHAUSTED)
        return cmq_reason_set(reason, err, "%s has %u keys, which is the most it can have: remove old epochs",
                              path, CMQ_KEYRING_KEYS_MAX);
    return cmq_reason_set(reason, err, "cannot make a key for %s: %s", path, cmq_err_text(err));
}

static enum cmq_err append_key(const struct cmq_keyring *keyring, struct cmq_buf *image,
                               struct cmq_span pattern, uint32_t epoch, bool deliverable,
                               uint64_t seals_reserved, struct cmq_reason *reason)
{
    const struct cmq_image_entry entry = {.pattern = pattern,
                                          .deliverable = deliverable,
                                          .epoch = epoch,
                                          .created_ms = cmq_clock_wall_ms(),
                                          .seals_reserved = seals_reserved};
    enum cmq_err err = epoch == 0
                           ? CMQ_ERR_EXHAUSTED
                           : cmq_image_append(image, keyring->sealer, keyring->keks->kek,
                                              keyring->keks->delivery_kek, &entry, keyring->keks->fresh);
    return err == CMQ_OK ? CMQ_OK : append_refused(keyring->keyring_file, err, reason);
}

enum cmq_err cmq_keyring_renew(struct cmq_keyring *keyring, struct cmq_span pattern,
                               struct cmq_reason *reason)
{
    char copy[CMQ_KEYRING_PATTERN_MAX]; /* the table that pattern is in goes away */
    struct change change;
    memcpy(copy, pattern.data, pattern.bytes);
    const struct cmq_span name = cmq_span_make(copy, pattern.bytes);
    enum cmq_err err = change_begin(keyring, &change, reason);
    if (err != CMQ_OK)
        goto out;
    const struct cmq_key *key = cmq_key_table_newest(change.table, name);
    if (key == NULL) { /* somebody removed the pattern: go on with what the file has */
        cmq_keyring_adopt(keyring, change.table);
        change.table = NULL;
        goto out;
    }
    uint64_t seals = cmq_min_u64(CMQ_KEY_SEALS_RESERVED, CMQ_KEY_SEALS_MAX - key->seals_reserved);
    if (seals > 0) {
        if (cmq_image_set_reserved(&change.image, key->image_offset, key->seals_reserved + seals) != CMQ_OK)
            err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot change %s: SHA-256 failed in OpenSSL",
                                 keyring->keyring_file);
    } else {
        seals = CMQ_KEY_SEALS_RESERVED;
        err = append_key(keyring, &change.image, name, key->data.epoch + 1, key->deliverable, seals, reason);
    }
    if (err == CMQ_OK)
        err = change_commit(keyring, &change, reason);
    if (err == CMQ_OK)
        cmq_key_table_newest(keyring->table, name)->seals_left += seals;
out:
    change_end(&change);
    return err;
}

enum cmq_err cmq_keyring_rotate(struct cmq_keyring *keyring, const char *pattern, bool deliverable,
                                struct cmq_reason *reason)
{
    cmq_assert(keyring->side == CMQ_KEYRING_ENCRYPTOR);
    struct change change;
    const struct cmq_span name = cmq_span_make(pattern, strlen(pattern));
    enum cmq_err err = cmq_topic_pattern_check(name, reason);
    if (err != CMQ_OK)
        return err;
    err = change_begin(keyring, &change, reason);
    if (err == CMQ_OK) {
        const struct cmq_key *key = cmq_key_table_newest(change.table, name);
        err = append_key(keyring, &change.image, name, key != NULL ? key->data.epoch + 1 : 1, deliverable, 0,
                         reason);
    }
    if (err == CMQ_OK)
        err = change_commit(keyring, &change, reason);
    change_end(&change);
    return err;
}

static enum cmq_err key_file_make(const char *path, const uint8_t *bytes, struct cmq_reason *reason)
{
    return cmq_keyfile_write(path, cmq_span_make(bytes, CMQ_KEYFILE_KEY_BYTES), CMQ_KEYFILE_MODE_KEY, true,
                             reason);
}

static enum cmq_err create_kek(const struct cmq_keyring_paths *paths, enum cmq_keyfile_owner owner,
                               uint8_t *ret_kek, struct cmq_reason *reason)
{
    enum cmq_err err = cmq_keyfile_read_key(paths->kek_file, owner, ret_kek, reason);
    if (err != CMQ_ERR_NOT_FOUND)
        return err;
    if (cmq_keyfile_exists(paths->keyring_file))
        return cmq_reason_set(
            reason, CMQ_ERR_KEY,
            "%s exists but its key-encryption key %s does not: bring the key back from a backup; "
            "without it the keyring and everything sealed under it is lost",
            paths->keyring_file, paths->kek_file);
    err = cmq_secret_random(ret_kek, CMQ_KEYFILE_KEY_BYTES);
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "cannot make %s: getrandom failed", paths->kek_file);
    return key_file_make(paths->kek_file, ret_kek, reason);
}

/* It is the dispatchers' user's by now, and only compared: whoever owns it, a wrong one is refused. */
static enum cmq_err create_delivery_kek(const struct cmq_keyring_paths *paths, struct cmq_keyring_keks *keks,
                                        struct cmq_reason *reason)
{
    if (cmq_image_derive_delivery_kek(keks->kek, keks->delivery_kek) != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot derive from %s: HKDF failed in OpenSSL",
                              paths->kek_file);
    enum cmq_err err =
        cmq_keyfile_read_key(paths->delivery_kek_file, CMQ_KEYFILE_OWNER_ANY, keks->fresh, reason);
    if (err == CMQ_ERR_NOT_FOUND)
        return key_file_make(paths->delivery_kek_file, keks->delivery_kek, reason);
    if (err != CMQ_OK)
        return err;
    if (cmq_secret_equal(keks->fresh, keks->delivery_kek, CMQ_KEYFILE_KEY_BYTES))
        return CMQ_OK;
    return cmq_reason_set(
        reason, CMQ_ERR_KEY,
        "%s does not belong to %s: remove it and run `ciphermqctl init` again, which derives it anew",
        paths->delivery_kek_file, paths->kek_file);
}

static enum cmq_err create_image(const struct cmq_keyring_paths *paths, struct cmq_keyring_keks *keks,
                                 struct cmq_reason *reason)
{
    uint8_t kek_id[CMQ_KEYRING_ID_BYTES], delivery_kek_id[CMQ_KEYRING_ID_BYTES];
    const struct cmq_image_entry entry = {
        .pattern = cmq_span_make(">", 1), .deliverable = true, .epoch = 1, .created_ms = cmq_clock_wall_ms()};
    struct cmq_sealer *sealer = NULL;
    struct cmq_buf image;
    cmq_buf_init(&image, CMQ_IMAGE_BYTES_MAX);
    enum cmq_err err = cmq_sealer_new(&sealer);
    if (err == CMQ_OK)
        err = cmq_image_derive_kek_id(keks->kek, kek_id);
    if (err == CMQ_OK)
        err = cmq_image_derive_kek_id(keks->delivery_kek, delivery_kek_id);
    if (err == CMQ_OK)
        err = cmq_image_begin(&image, kek_id, delivery_kek_id);
    if (err == CMQ_OK)
        err = cmq_image_append(&image, sealer, keks->kek, keks->delivery_kek, &entry, keks->fresh);
    err = err != CMQ_OK ? append_refused(paths->keyring_file, err, reason)
                        : cmq_keyfile_write(paths->keyring_file, cmq_buf_span(&image),
                                            CMQ_KEYFILE_MODE_KEYRING, true, reason);
    cmq_buf_fini(&image);
    cmq_sealer_free(sealer);
    return err;
}

static enum cmq_err create_locked(const struct cmq_keyring_paths *paths, struct cmq_keyring_keks *keks,
                                  struct cmq_reason *reason)
{
    /* root makes the files of the stages' users, and finds them theirs when it is run again. */
    const enum cmq_keyfile_owner owner =
        geteuid() == 0 ? CMQ_KEYFILE_OWNER_ANY : CMQ_KEYFILE_OWNER_SELF_OR_ROOT;
    struct cmq_keyring *keyring;
    enum cmq_err err = create_kek(paths, owner, keks->kek, reason);
    if (err == CMQ_OK)
        err = create_delivery_kek(paths, keks, reason);
    if (err == CMQ_OK && !cmq_keyfile_exists(paths->keyring_file))
        err = create_image(paths, keks, reason);
    if (err == CMQ_OK)
        err = cmq_keyring_open_as(paths, CMQ_KEYRING_ENCRYPTOR, owner, &keyring, reason);
    if (err == CMQ_OK)
        cmq_keyring_free(keyring);
    return err;
}

enum cmq_err cmq_keyring_create(const struct cmq_keyring_paths *paths, struct cmq_reason *reason)
{
    struct cmq_secret memory;
    int lock_fd;
    enum cmq_err err =
        cmq_secret_init(&memory, sizeof(struct cmq_keyring_keks), CMQ_SECRET_FORK_ABSENT, reason);
    if (err != CMQ_OK)
        return err;
    err = cmq_keyfile_lock(paths->keyring_file, &lock_fd, reason);
    if (err == CMQ_OK) {
        err = create_locked(paths, (struct cmq_keyring_keks *)(void *)memory.data, reason);
        cmq_keyfile_unlock(lock_fd);
    }
    cmq_secret_fini(&memory);
    return err;
}
