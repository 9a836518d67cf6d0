#include "encryptor/enc_record.h"

#include <string.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_topic.h"

struct writer {
    uint8_t *next;
    size_t left;
};

enum { ID_FLAGS = CMQ_PLAIN_HAS_IDS | CMQ_PLAIN_HAS_KEY };

/* Ids are looked for behind the seal, by the log's writer, who has nobody to ask back: what it will read is checked here. */
static enum cmq_err check_messages(const struct cmq_plain_unit *plain, uint32_t flags)
{
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    struct cmq_span key;
    cmq_mp_reader_init(&reader, plain->messages);
    enum cmq_err err = cmq_message_key_read(&reader, flags, &key);
    for (uint32_t i = 0; err == CMQ_OK && i < plain->count; i++)
        err = cmq_message_read(&reader, &message);
    if (err == CMQ_OK && cmq_mp_left(&reader) != 0)
        err = CMQ_ERR_MALFORMED;
    return err;
}

static enum cmq_err describe_unit(struct cmq_keyring *keyring, const struct cmq_plain_unit *plain,
                                  uint32_t flags, struct cmq_sealed_unit *ret_unit,
                                  const struct cmq_data_key **ret_key, struct cmq_reason *reason)
{
    if (plain->topic.bytes == 0 || plain->topic.bytes > CMQ_TOPIC_BYTES_MAX)
        return CMQ_ERR_MALFORMED;
    *ret_unit = (struct cmq_sealed_unit){.topic_bytes = (uint8_t)plain->topic.bytes,
                                         .count = plain->count,
                                         .flags = flags,
                                         .suite = CMQ_SUITE_XAES_256_GCM};
    memcpy(ret_unit->topic, plain->topic.data, plain->topic.bytes); /* from here on only the copy is used */
    struct cmq_span topic = cmq_span_make(ret_unit->topic, ret_unit->topic_bytes);
    if (cmq_topic_check(topic, true, NULL) != CMQ_OK)
        return CMQ_ERR_MALFORMED;
    enum cmq_err err = cmq_keyring_seal_key(keyring, topic, ret_key, reason);
    if (err != CMQ_OK)
        return err;
    memcpy(ret_unit->key_id, (*ret_key)->key_id, sizeof ret_unit->key_id);
    return CMQ_OK;
}

static enum cmq_err seal_unit(struct cmq_sealer *sealer, struct cmq_keyring *keyring,
                              const struct cmq_sealed_head *head, const struct cmq_plain_unit *plain,
                              uint32_t flags, struct writer *writer, struct enc_sealed *sealed,
                              struct cmq_reason *reason)
{
    struct cmq_sealed_unit unit;
    const struct cmq_data_key *key;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    enum cmq_err err = flags != 0 ? check_messages(plain, flags) : CMQ_OK;
    if (err == CMQ_OK)
        err = describe_unit(keyring, plain, flags, &unit, &key, reason);
    if (err != CMQ_OK)
        return err;
    const size_t sealed_bytes = plain->messages.bytes + CMQ_TAG_BYTES;
    if (writer->left < CMQ_SEALED_UNIT_BYTES + unit.topic_bytes + sealed_bytes)
        return CMQ_ERR_TOO_BIG;
    err = cmq_seal_nonce(unit.nonce);
    if (err != CMQ_OK)
        return err;
    unit.sealed = cmq_span_make(NULL, sealed_bytes);
    const size_t aad_bytes = cmq_sealed_aad(aad, head, &unit);
    const size_t head_bytes = cmq_sealed_encode_unit(writer->next, &unit);
    err = cmq_seal(sealer, key->key, unit.nonce, cmq_span_make(aad, aad_bytes), plain->messages,
                   writer->next + head_bytes);
    if (err != CMQ_OK)
        return err;
    writer->next += head_bytes + sealed_bytes;
    writer->left -= head_bytes + sealed_bytes;
    sealed->epoch = key->epoch > sealed->epoch ? key->epoch : sealed->epoch;
    sealed->topic_bytes = unit.topic_bytes;
    memcpy(sealed->topic, unit.topic, unit.topic_bytes);
    return CMQ_OK;
}

enum cmq_err enc_record_seal(struct cmq_sealer *sealer, struct cmq_keyring *keyring, uint64_t seq,
                             struct cmq_span plain, uint8_t *dst, size_t dst_bytes,
                             struct enc_sealed *ret_sealed, struct cmq_reason *reason)
{
    struct cmq_mp_reader units;
    struct cmq_plain_head plain_head;
    struct cmq_plain_unit unit;
    struct enc_sealed result = {0};
    struct writer writer = {.next = dst, .left = dst_bytes};
    enum cmq_err err = cmq_plain_decode(plain, &units, &plain_head);
    if (err != CMQ_OK)
        return err;
    const struct cmq_sealed_head head = {
        .seq = seq, .accepted_at_ms = plain_head.accepted_at_ms, .unit_count = plain_head.unit_count};
    if ((plain_head.flags & CMQ_PLAIN_HAS_KEY) != 0 && plain_head.unit_count != 1)
        return CMQ_ERR_MALFORMED;
    if (writer.left < CMQ_BATCH_HEAD_BYTES)
        return CMQ_ERR_TOO_BIG;
    const size_t head_bytes = cmq_sealed_encode_head(writer.next, &head);
    writer.next += head_bytes;
    writer.left -= head_bytes;
    for (uint32_t i = 0; i < plain_head.unit_count; i++) {
        err = cmq_plain_next(&units, &unit);
        if (err == CMQ_OK)
            err = seal_unit(sealer, keyring, &head, &unit, plain_head.flags & ID_FLAGS, &writer, &result,
                            reason);
        if (err != CMQ_OK)
            return err;
        result.messages += unit.count;
        result.units++;
        result.plain_bytes += unit.messages.bytes;
    }
    if (cmq_mp_left(&units) != 0)
        return CMQ_ERR_MALFORMED;
    result.bytes = (size_t)(writer.next - dst);
    *ret_sealed = result;
    return CMQ_OK;
}
