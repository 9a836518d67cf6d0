#include "tests/support/enc_batches.h"

#include <string.h>

#include "common/wire/cmq_batch.h"
#include "encryptor/enc_record.h"

void enc_batches_begin(struct enc_batches *batches)
{
    keyring_dir_create(&batches->dir);
    batches->keyring = keyring_dir_open(&batches->dir, CMQ_KEYRING_ENCRYPTOR);
    enum cmq_err err = cmq_sealer_new(&batches->sealer);
    cmq_assert(err == CMQ_OK);
}

void enc_batches_end(struct enc_batches *batches)
{
    cmq_sealer_free(batches->sealer);
    cmq_keyring_free(batches->keyring);
    keyring_dir_end(&batches->dir);
}

struct cmq_span enc_batches_plain(struct enc_batches *batches, const char *messages, const char *key)
{
    uint8_t packed[1 << 15];
    struct cmq_plain_head head = {.unit_count = 1, .accepted_at_ms = 1000};
    size_t bytes = 0;
    uint32_t count = 0;
    if (key != NULL) {
        head.flags |= CMQ_PLAIN_HAS_KEY;
        bytes += cmq_message_key_write(packed, cmq_span_make(key, strlen(key)));
    }
    for (const char *at = messages; *at != '\0'; count++) {
        const size_t word = strcspn(at, " "), id = strcspn(at, "= ");
        struct cmq_message_full message = {.text = true, .body = cmq_span_make(at, word)};
        if (id < word) {
            head.flags |= CMQ_PLAIN_HAS_IDS;
            message.id = cmq_span_make(at, id);
            message.body = cmq_span_make(at + id + 1, word - id - 1);
        }
        bytes += cmq_message_write(packed + bytes, &message);
        cmq_assert(bytes < sizeof packed - 1024);
        at += word + strspn(at + word, " ");
    }
    size_t head_bytes =
        cmq_plain_encode_head(batches->plain, &head, cmq_span_make("orders", 6), count, (uint32_t)bytes);
    memcpy(batches->plain + head_bytes, packed, bytes);
    return cmq_span_make(batches->plain, head_bytes + bytes);
}

struct cmq_span enc_batches_seal(struct enc_batches *batches, uint64_t seq, const char *messages,
                                 const char *key)
{
    struct enc_sealed sealed;
    struct cmq_reason reason = {.text = ""};
    enum cmq_err err =
        enc_record_seal(batches->sealer, batches->keyring, seq, enc_batches_plain(batches, messages, key),
                        batches->sealed, sizeof batches->sealed, &sealed, &reason);
    cmq_assert(err == CMQ_OK);
    return cmq_span_make(batches->sealed, sealed.bytes);
}

const char *enc_batches_open(struct enc_batches *batches, uint64_t seq, struct cmq_span sealed)
{
    static char text[4096];
    struct cmq_mp_reader units, messages;
    struct cmq_sealed_head head;
    struct cmq_sealed_unit unit;
    struct cmq_message_full message;
    struct cmq_span key;
    const struct cmq_data_key *data_key = NULL;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    size_t bytes = 0;
    enum cmq_err err = cmq_sealed_decode(sealed, &units, &head);
    cmq_assert(err == CMQ_OK && head.seq == seq && head.unit_count == 1);
    err = cmq_sealed_next(&units, &unit);
    cmq_assert(err == CMQ_OK && cmq_mp_left(&units) == 0);
    err = cmq_keyring_find(batches->keyring, unit.key_id, &data_key);
    cmq_assert(err == CMQ_OK);
    size_t aad_bytes = cmq_sealed_aad(aad, &head, &unit);
    err = cmq_open(batches->sealer, data_key->key, unit.nonce, cmq_span_make(aad, aad_bytes), unit.sealed,
                   batches->opened);
    cmq_assert(err == CMQ_OK);
    cmq_mp_reader_init(&messages, cmq_span_make(batches->opened, unit.sealed.bytes - CMQ_TAG_BYTES));
    err = cmq_message_key_read(&messages, unit.flags, &key);
    cmq_assert(err == CMQ_OK);
    text[0] = '\0';
    for (uint32_t i = 0; i < unit.count; i++) {
        err = cmq_message_read(&messages, &message);
        cmq_assert(err == CMQ_OK);
        bytes += (size_t)snprintf(text + bytes, sizeof text - bytes, "%s%.*s", i == 0 ? "" : " ",
                                  message.left_out ? 1 : (int)message.body.bytes,
                                  message.left_out ? "-" : (const char *)message.body.data);
        cmq_assert(bytes < sizeof text);
    }
    cmq_assert(cmq_mp_left(&messages) == 0);
    return text;
}
