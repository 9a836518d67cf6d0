/*
 * Fuzz target: the bytes of a keyring file. First byte: bit 0 = side; bit 1 = make size and SHA-256 right, as
 * somebody would who can write the file, so that the input gets past them. Whatever opens must be a key that
 * its id commits to.
 */
#include <string.h>

#include "common/crypto/cmq_kdf.h"
#include "common/crypto/cmq_keyring_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct cmq_keyring *keyring;

/* Without files: a keyring with the key 01 01 .., the table comes from the input. */
static struct cmq_keyring *keyring_make(void)
{
    static char kek_file[] = "kek", keyring_file[] = "keyring";
    struct cmq_keyring *made = calloc(1, sizeof *made);
    if (made == NULL ||
        cmq_secret_init(&made->memory, sizeof *made->keks, CMQ_SECRET_FORK_ABSENT, NULL) != CMQ_OK ||
        cmq_sealer_new(&made->sealer) != CMQ_OK)
        abort();
    made->keks = (struct cmq_keyring_keks *)(void *)made->memory.data;
    memset(made->keks->kek, 0x01, sizeof made->keks->kek);
    made->kek_file = kek_file;
    made->keyring_file = keyring_file;
    return made;
}

static void make_right(uint8_t *image, size_t bytes)
{
    if (bytes < CMQ_IMAGE_HEAD_BYTES + CMQ_IMAGE_TAIL_BYTES)
        return;
    for (size_t i = 0; i < 8; i++)
        image[16 + i] = (uint8_t)((uint64_t)bytes >> (8 * i));
    if (cmq_kdf_sha256(cmq_span_make(image, bytes - CMQ_IMAGE_TAIL_BYTES),
                       image + bytes - CMQ_IMAGE_TAIL_BYTES) != CMQ_OK)
        abort();
}

static void check_table(const struct cmq_key_table *table)
{
    uint8_t id[CMQ_KEYRING_ID_BYTES];
    const struct cmq_span topic = cmq_span_make("orders.eu", 9);
    for (size_t i = 0; i < table->count; i++) {
        const struct cmq_key *key = &table->keys[i];
        cmq_assert(cmq_image_derive_key_id(key->data.key, id) == CMQ_OK);
        cmq_assert(memcmp(id, key->data.key_id, sizeof id) == 0);
        cmq_assert(cmq_key_table_find(table, id) == key);
        cmq_assert(cmq_key_table_newest(table, cmq_span_make(key->data.pattern, key->pattern_bytes)) != NULL);
    }
    const struct cmq_key *match = cmq_key_table_match(table, topic);
    cmq_assert(match == NULL || match->seals_reserved <= CMQ_KEY_SEALS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct cmq_key_table *table = NULL;
    struct cmq_reason reason;
    if (keyring == NULL)
        keyring = keyring_make();
    if (bytes == 0)
        return 0;
    keyring->side = (data[0] & 1) != 0 ? CMQ_KEYRING_DELIVERY : CMQ_KEYRING_ENCRYPTOR;
    uint8_t *image =
        malloc(bytes - 1 + (bytes == 1)); /* as large as the input, so that a read behind it is seen */
    if (image == NULL)
        return 0;
    memcpy(image, data + 1, bytes - 1);
    const struct cmq_span span = cmq_span_make(image, bytes - 1);
    if ((data[0] & 2) != 0)
        make_right(image, span.bytes);
    if (cmq_image_check(span, "keyring", &reason) == CMQ_OK &&
        cmq_key_table_new(keyring, span, NULL, &table, &reason) == CMQ_OK)
        check_table(table);
    cmq_key_table_free(table);
    free(image);
    return 0;
}
