#include "encryptor/enc_unit.h"

#include <string.h>

#include "common/crypto/cmq_seal.h"
#include "common/log/cmq_log.h"

struct enc_unit_keys {
    struct cmq_keyring *keyring;
    struct cmq_sealer *sealer;
};

enum cmq_err enc_unit_keys_new(const struct cmq_keyring_paths *paths, struct enc_unit_keys **ret_keys,
                               struct cmq_reason *reason)
{
    struct enc_unit_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return CMQ_ERR_NOMEM;
    enum cmq_err err = cmq_keyring_open(paths, CMQ_KEYRING_ENCRYPTOR, &keys->keyring, reason);
    if (err == CMQ_OK)
        err = cmq_sealer_new(&keys->sealer);
    if (err != CMQ_OK) {
        enc_unit_keys_free(keys);
        return err;
    }
    *ret_keys = keys;
    return CMQ_OK;
}

void enc_unit_keys_free(struct enc_unit_keys *keys)
{
    if (keys == NULL)
        return;
    cmq_sealer_free(keys->sealer);
    cmq_keyring_free(keys->keyring);
    free(keys);
}

/* The keyring file again. The old keys stay if it cannot be read. */
static enum cmq_err reload(struct enc_unit_keys *keys, bool *ret_changed)
{
    struct cmq_reason reason = {.text = ""};
    struct cmq_log_quoted_sentence quoted;
    enum cmq_err err = cmq_keyring_reload(keys->keyring, ret_changed, &reason);
    if (err != CMQ_OK)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_KEY_REFUSED, "action=keep_old_keys reason=%s",
                cmq_log_sentence(&quoted, reason.text));
    return err;
}

static enum cmq_err find_key(struct enc_unit_keys *keys, const uint8_t *key_id,
                             const struct cmq_data_key **ret_key)
{
    bool changed = false;
    enum cmq_err err = cmq_keyring_find(keys->keyring, key_id, ret_key);
    if (err != CMQ_ERR_NOT_FOUND)
        return err;
    /* Only a file that was read says that a key does not exist. */
    if (reload(keys, &changed) != CMQ_OK)
        return CMQ_ERR_SYSTEM;
    return changed ? cmq_keyring_find(keys->keyring, key_id, ret_key) : CMQ_ERR_NOT_FOUND;
}

enum cmq_err enc_unit_open(struct enc_unit_keys *keys, const struct cmq_sealed_head *head,
                           const struct cmq_sealed_unit *unit, uint8_t *dst)
{
    const struct cmq_data_key *key = NULL;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    if (unit->suite != CMQ_SUITE_XAES_256_GCM)
        return CMQ_ERR_VERSION;
    enum cmq_err err = find_key(keys, unit->key_id, &key);
    if (err != CMQ_OK)
        return err;
    const size_t aad_bytes = cmq_sealed_aad(aad, head, unit);
    return cmq_open(keys->sealer, key->key, unit->nonce, cmq_span_make(aad, aad_bytes), unit->sealed, dst);
}

enum cmq_err enc_unit_seal(struct enc_unit_keys *keys, const struct cmq_sealed_head *head,
                           const struct cmq_sealed_unit *unit, struct cmq_span messages, uint8_t *dst,
                           size_t *ret_bytes)
{
    struct cmq_sealed_unit fresh = *unit;
    struct cmq_reason reason = {.text = ""};
    const struct cmq_data_key *key = NULL;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    bool changed = false;
    (void)reload(keys, &changed); /* the newest epoch; re-sealing is rare */
    enum cmq_err err =
        cmq_keyring_seal_key(keys->keyring, cmq_span_make(unit->topic, unit->topic_bytes), &key, &reason);
    if (err == CMQ_OK)
        err = cmq_seal_nonce(fresh.nonce);
    if (err != CMQ_OK) {
        struct cmq_log_quoted_sentence quoted;
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "action=waiting reason=%s",
                cmq_log_sentence(&quoted, reason.text));
        return CMQ_ERR_SYSTEM; /* whatever it was: the record is good, and waits */
    }
    memcpy(fresh.key_id, key->key_id, sizeof fresh.key_id);
    fresh.suite = CMQ_SUITE_XAES_256_GCM;
    fresh.sealed = cmq_span_make(NULL, messages.bytes + CMQ_TAG_BYTES);
    const size_t aad_bytes = cmq_sealed_aad(aad, head, &fresh);
    const size_t head_bytes = cmq_sealed_encode_unit(dst, &fresh);
    err = cmq_seal(keys->sealer, key->key, fresh.nonce, cmq_span_make(aad, aad_bytes), messages,
                   dst + head_bytes);
    if (err == CMQ_OK)
        *ret_bytes = head_bytes + fresh.sealed.bytes;
    return err;
}
