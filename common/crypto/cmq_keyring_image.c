#include "common/crypto/cmq_keyring_image.h"

#include <string.h>

#include "common/crypto/cmq_kdf.h"
#include "common/crypto/cmq_secret.h"
#include "common/wire/cmq_topic.h"

enum { FLAG_DELIVERABLE = 0x01, LABEL_BYTES = 20 };
enum { AAD_BYTES_MAX = LABEL_BYTES + 4 + 8 + 1 + CMQ_KEYRING_ID_BYTES + 2 + CMQ_KEYRING_PATTERN_MAX };

static const uint8_t magic[8] = {'C', 'M', 'Q', 'K', 'R', 'I', 'N', 'G'};

static uint64_t load_le(const uint8_t *src, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = bytes; i > 0; i--)
        value = value << 8 | src[i - 1];
    return value;
}

static void store_le(uint8_t *dst, size_t bytes, uint64_t value)
{
    for (size_t i = 0; i < bytes; i++)
        dst[i] = (uint8_t)(value >> (8 * i));
}

uint32_t cmq_image_count(struct cmq_span image)
{
    return (uint32_t)load_le(image.data + 12, 4);
}

const uint8_t *cmq_image_kek_id(struct cmq_span image, enum cmq_keyring_side side)
{
    return image.data + (side == CMQ_KEYRING_ENCRYPTOR ? 24 : 40);
}

bool cmq_image_next(struct cmq_span image, size_t *offset, struct cmq_image_entry *ret_entry)
{
    size_t at = *offset == 0 ? CMQ_IMAGE_HEAD_BYTES : *offset;
    if (at >= image.bytes - CMQ_IMAGE_TAIL_BYTES)
        return false;
    const uint8_t *src = image.data + at;
    *ret_entry = (struct cmq_image_entry){
        .offset = at,
        .pattern = cmq_span_make(src + CMQ_IMAGE_ENTRY_BYTES, (size_t)load_le(src, 2)),
        .deliverable = (src[2] & FLAG_DELIVERABLE) != 0,
        .epoch = (uint32_t)load_le(src + 4, 4),
        .created_ms = load_le(src + 8, 8),
        .seals_reserved = load_le(src + 16, 8),
        .key_id = src + 24,
        .wrap_enc = src + 40,
        .wrap_out = src + 40 + CMQ_IMAGE_WRAP_BYTES};
    *offset = at + CMQ_IMAGE_ENTRY_BYTES + ret_entry->pattern.bytes;
    return true;
}

static const char *entry_fault(const uint8_t *src, size_t bytes_left)
{
    if (bytes_left < CMQ_IMAGE_ENTRY_BYTES)
        return "an entry that is cut off";
    const size_t pattern_bytes = (size_t)load_le(src, 2);
    if (pattern_bytes > CMQ_KEYRING_PATTERN_MAX || bytes_left - CMQ_IMAGE_ENTRY_BYTES < pattern_bytes)
        return "a pattern that is too long";
    if (cmq_topic_pattern_check(cmq_span_make(src + CMQ_IMAGE_ENTRY_BYTES, pattern_bytes), NULL) != CMQ_OK)
        return "a pattern that is no topic pattern";
    if ((src[2] & ~FLAG_DELIVERABLE) != 0 || src[3] != 0)
        return "unknown flags";
    if (load_le(src + 4, 4) == 0)
        return "an epoch of 0";
    if (load_le(src + 16, 8) > CMQ_KEY_SEALS_MAX)
        return "more seals than a key may make";
    const bool has_wrap_out = !cmq_secret_is_zero(src + 40 + CMQ_IMAGE_WRAP_BYTES, CMQ_IMAGE_WRAP_BYTES);
    if (has_wrap_out != ((src[2] & FLAG_DELIVERABLE) != 0))
        return "a delivery wrap that does not fit its flags";
    return NULL;
}

static enum cmq_err entries_check(struct cmq_span image, const char *name, struct cmq_reason *reason)
{
    const size_t end = image.bytes - CMQ_IMAGE_TAIL_BYTES;
    const uint32_t count = cmq_image_count(image);
    size_t offset = CMQ_IMAGE_HEAD_BYTES;
    const char *fault = count > CMQ_KEYRING_KEYS_MAX ? "more keys than a keyring may have" : NULL;
    for (uint32_t i = 0; i < count && fault == NULL; i++) {
        fault = entry_fault(image.data + offset, end - offset);
        if (fault == NULL)
            offset += CMQ_IMAGE_ENTRY_BYTES + (size_t)load_le(image.data + offset, 2);
    }
    if (fault == NULL && offset != end)
        fault = "bytes behind its last key";
    if (fault == NULL)
        return CMQ_OK;
    return cmq_reason_set(
        reason, CMQ_ERR_MALFORMED,
        "%s was not written by CipherMQ: it has %s (at byte %zu); bring it back from a backup", name, fault,
        offset);
}

static enum cmq_err digest_check(struct cmq_span image, const char *name, struct cmq_reason *reason)
{
    uint8_t digest[CMQ_KDF_SHA256_BYTES];
    const size_t covered = image.bytes - CMQ_IMAGE_TAIL_BYTES;
    if (cmq_kdf_sha256(cmq_span_make(image.data, covered), digest) != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot check %s: SHA-256 failed in OpenSSL", name);
    if (memcmp(digest, image.data + covered, sizeof digest) != 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                              "%s is damaged: its SHA-256 does not match; bring it back from a backup", name);
    return CMQ_OK;
}

enum cmq_err cmq_image_check(struct cmq_span image, const char *name, struct cmq_reason *reason)
{
    const size_t bytes_min = CMQ_IMAGE_HEAD_BYTES + CMQ_IMAGE_TAIL_BYTES;
    if (image.bytes == 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s is empty: bring it back from a backup", name);
    if (memcmp(image.data, magic, image.bytes < sizeof magic ? image.bytes : sizeof magic) != 0)
        return cmq_reason_set(
            reason, CMQ_ERR_MALFORMED,
            "%s is no keyring: check the path in the configuration, or bring it back from a backup", name);
    if (image.bytes < bytes_min)
        return cmq_reason_set(
            reason, CMQ_ERR_MALFORMED,
            "%s is truncated: it has %zu bytes of at least %zu; bring it back from a backup", name,
            image.bytes, bytes_min);
    /* Before everything else: a later version may have another size and another trailer. */
    const uint32_t version = (uint32_t)load_le(image.data + 8, 4);
    if (version > CMQ_IMAGE_VERSION)
        return cmq_reason_set(reason, CMQ_ERR_VERSION,
                              "%s has version %u, this program knows version %u: upgrade this program", name,
                              version, CMQ_IMAGE_VERSION);
    if (version != CMQ_IMAGE_VERSION)
        return cmq_reason_set(reason, CMQ_ERR_VERSION,
                              "%s has version %u, which never was: bring the file back from a backup", name,
                              version);
    const uint64_t bytes = load_le(image.data + 16, 8);
    if (image.bytes < bytes)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                              "%s is truncated: it has %zu of its %llu bytes; bring it back from a backup",
                              name, image.bytes, (unsigned long long)bytes);
    if (image.bytes > bytes)
        return cmq_reason_set(
            reason, CMQ_ERR_MALFORMED,
            "%s is longer than it was written: it has %zu bytes in place of %llu; bring it back "
            "from a backup",
            name, image.bytes, (unsigned long long)bytes);
    enum cmq_err err = digest_check(image, name, reason);
    return err != CMQ_OK ? err : entries_check(image, name, reason);
}

enum cmq_err cmq_image_derive_kek_id(const uint8_t *kek, uint8_t ret_id[CMQ_KEYRING_ID_BYTES])
{
    return cmq_kdf_hkdf(kek, "ciphermq kek id v1", ret_id, CMQ_KEYRING_ID_BYTES);
}

enum cmq_err cmq_image_derive_delivery_kek(const uint8_t *kek, uint8_t ret_kek[CMQ_KEYRING_KEY_BYTES])
{
    return cmq_kdf_hkdf(kek, "ciphermq delivery kek v1", ret_kek, CMQ_KEYRING_KEY_BYTES);
}

enum cmq_err cmq_image_derive_key_id(const uint8_t *key, uint8_t ret_id[CMQ_KEYRING_ID_BYTES])
{
    return cmq_kdf_hkdf(key, "ciphermq key id v1", ret_id, CMQ_KEYRING_ID_BYTES);
}

/* Label, epoch u32, created_ms u64, flags u8, key_id, pattern bytes u16, pattern. */
static size_t wrap_aad(enum cmq_keyring_side side, const struct cmq_image_entry *entry,
                       uint8_t dst[AAD_BYTES_MAX])
{
    const char *label = side == CMQ_KEYRING_ENCRYPTOR ? "ciphermq wrap enc v1" : "ciphermq wrap out v1";
    size_t bytes = LABEL_BYTES;
    memcpy(dst, label, LABEL_BYTES);
    store_le(dst + bytes, 4, entry->epoch);
    store_le(dst + bytes + 4, 8, entry->created_ms);
    dst[bytes + 12] = entry->deliverable ? FLAG_DELIVERABLE : 0;
    bytes += 13;
    memcpy(dst + bytes, entry->key_id, CMQ_KEYRING_ID_BYTES);
    bytes += CMQ_KEYRING_ID_BYTES;
    store_le(dst + bytes, 2, entry->pattern.bytes);
    memcpy(dst + bytes + 2, entry->pattern.data, entry->pattern.bytes);
    return bytes + 2 + entry->pattern.bytes;
}

static enum cmq_err wrap(struct cmq_sealer *sealer, enum cmq_keyring_side side, const uint8_t *kek,
                         const struct cmq_image_entry *entry, const uint8_t *key, uint8_t *dst)
{
    uint8_t aad[AAD_BYTES_MAX];
    const size_t aad_bytes = wrap_aad(side, entry, aad);
    enum cmq_err err = cmq_seal_nonce(dst);
    if (err != CMQ_OK)
        return err;
    return cmq_seal(sealer, kek, dst, cmq_span_make(aad, aad_bytes),
                    cmq_span_make(key, CMQ_KEYRING_KEY_BYTES), dst + CMQ_SEAL_NONCE_BYTES);
}

enum cmq_err cmq_image_unwrap(struct cmq_sealer *sealer, enum cmq_keyring_side side, const uint8_t *kek,
                              const struct cmq_image_entry *entry, uint8_t ret_key[CMQ_KEYRING_KEY_BYTES])
{
    uint8_t aad[AAD_BYTES_MAX], id[CMQ_KEYRING_ID_BYTES];
    const uint8_t *from = side == CMQ_KEYRING_ENCRYPTOR ? entry->wrap_enc : entry->wrap_out;
    const size_t aad_bytes = wrap_aad(side, entry, aad);
    enum cmq_err err = cmq_open(
        sealer, kek, from, cmq_span_make(aad, aad_bytes),
        cmq_span_make(from + CMQ_SEAL_NONCE_BYTES, CMQ_IMAGE_WRAP_BYTES - CMQ_SEAL_NONCE_BYTES), ret_key);
    if (err == CMQ_OK)
        err = cmq_image_derive_key_id(ret_key, id);
    if (err == CMQ_OK && !cmq_secret_equal(id, entry->key_id, sizeof id))
        err = CMQ_ERR_AUTH;
    if (err != CMQ_OK)
        cmq_secret_cleanse(ret_key, CMQ_KEYRING_KEY_BYTES);
    return err;
}

/* Sizes and trailer; image->data has room. */
static enum cmq_err finish(struct cmq_buf *image)
{
    const size_t covered = image->bytes - CMQ_IMAGE_TAIL_BYTES;
    store_le(image->data + 16, 8, image->bytes);
    return cmq_kdf_sha256(cmq_span_make(image->data, covered), image->data + covered);
}

enum cmq_err cmq_image_begin(struct cmq_buf *image, const uint8_t *kek_id, const uint8_t *delivery_kek_id)
{
    const size_t bytes = CMQ_IMAGE_HEAD_BYTES + CMQ_IMAGE_TAIL_BYTES;
    image->bytes = 0;
    enum cmq_err err = cmq_buf_reserve(image, bytes);
    if (err != CMQ_OK)
        return err;
    memset(image->data, 0, bytes);
    memcpy(image->data, magic, sizeof magic);
    store_le(image->data + 8, 4, CMQ_IMAGE_VERSION);
    memcpy(image->data + 24, kek_id, CMQ_KEYRING_ID_BYTES);
    memcpy(image->data + 40, delivery_kek_id, CMQ_KEYRING_ID_BYTES);
    image->bytes = bytes;
    return finish(image);
}

/* Makes the key, and the entry's bytes at dst. */
static enum cmq_err entry_write(uint8_t *dst, struct cmq_sealer *sealer, const uint8_t *kek,
                                const uint8_t *delivery_kek, const struct cmq_image_entry *entry,
                                uint8_t *key)
{
    memset(dst, 0, CMQ_IMAGE_ENTRY_BYTES);
    store_le(dst, 2, entry->pattern.bytes);
    dst[2] = entry->deliverable ? FLAG_DELIVERABLE : 0;
    store_le(dst + 4, 4, entry->epoch);
    store_le(dst + 8, 8, entry->created_ms);
    store_le(dst + 16, 8, entry->seals_reserved);
    memcpy(dst + CMQ_IMAGE_ENTRY_BYTES, entry->pattern.data, entry->pattern.bytes);
    struct cmq_image_entry made = *entry;
    made.key_id = dst + 24;
    enum cmq_err err = cmq_secret_random(key, CMQ_KEYRING_KEY_BYTES);
    if (err == CMQ_OK)
        err = cmq_image_derive_key_id(key, dst + 24);
    if (err == CMQ_OK)
        err = wrap(sealer, CMQ_KEYRING_ENCRYPTOR, kek, &made, key, dst + 40);
    if (err == CMQ_OK && entry->deliverable)
        err = wrap(sealer, CMQ_KEYRING_DELIVERY, delivery_kek, &made, key, dst + 40 + CMQ_IMAGE_WRAP_BYTES);
    cmq_secret_cleanse(key, CMQ_KEYRING_KEY_BYTES);
    return err;
}

enum cmq_err cmq_image_append(struct cmq_buf *image, struct cmq_sealer *sealer, const uint8_t *kek,
                              const uint8_t *delivery_kek, const struct cmq_image_entry *entry,
                              uint8_t key[CMQ_KEYRING_KEY_BYTES])
{
    const size_t entry_bytes = CMQ_IMAGE_ENTRY_BYTES + entry->pattern.bytes;
    const uint32_t count = cmq_image_count(cmq_buf_span(image));
    if (count >= CMQ_KEYRING_KEYS_MAX)
        return CMQ_ERR_EXHAUSTED;
    enum cmq_err err = cmq_buf_reserve(image, entry_bytes);
    if (err != CMQ_OK)
        return err;
    err =
        entry_write(image->data + image->bytes - CMQ_IMAGE_TAIL_BYTES, sealer, kek, delivery_kek, entry, key);
    if (err != CMQ_OK)
        return err;
    image->bytes += entry_bytes;
    store_le(image->data + 12, 4, count + 1u);
    return finish(image);
}

enum cmq_err cmq_image_set_reserved(struct cmq_buf *image, size_t entry_offset, uint64_t seals_reserved)
{
    store_le(image->data + entry_offset + 16, 8, seals_reserved);
    return finish(image);
}
