/* Unit tests of the keyring file: whatever happens to its bytes, it is refused or gives the same keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/crypto/cmq_kdf.h"
#include "common/crypto/cmq_keyring_image.h"
#include "common/crypto/cmq_keyring_int.h"
#include "tests/support/keyring_dir.h"

enum { IMAGE_ROOM = 1 << 16 };

static struct keyring_dir dir;
static struct cmq_reason reason;

static int dir_begin(void **state)
{
    (void)state;
    reason.text[0] = '\0';
    keyring_dir_create(&dir);
    return 0;
}

static int dir_end(void **state)
{
    (void)state;
    keyring_dir_end(&dir);
    return 0;
}

static void rotate(struct cmq_keyring *keyring, const char *pattern, bool deliverable)
{
    if (cmq_keyring_rotate(keyring, pattern, deliverable, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
}

/* Every key of `have` must be one of `all`, with everything that is not the count of seals. */
static void check_same_keys(const struct cmq_keyring *all, const struct cmq_keyring *have)
{
    assert_int_equal(have->table->count, all->table->count);
    for (size_t i = 0; i < have->table->count; i++) {
        const struct cmq_key *a = &all->table->keys[i], *b = &have->table->keys[i];
        assert_memory_equal(a->data.key, b->data.key, CMQ_KEYRING_KEY_BYTES);
        assert_memory_equal(a->data.key_id, b->data.key_id, CMQ_KEYRING_ID_BYTES);
        assert_string_equal(a->data.pattern, b->data.pattern);
        assert_int_equal(a->data.epoch, b->data.epoch);
        assert_int_equal(a->deliverable, b->deliverable);
    }
}

static struct cmq_keyring *three_keys(uint8_t *bytes, size_t *ret_bytes)
{
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    rotate(keyring, "orders.>", false);
    rotate(keyring, ">", true);
    *ret_bytes = keyring_dir_read(dir.keyring, bytes, IMAGE_ROOM);
    return keyring;
}

static void keyring_with_any_byte_changed_is_refused(void **state)
{
    (void)state;
    static uint8_t bytes[IMAGE_ROOM];
    size_t count;
    struct cmq_keyring *good = three_keys(bytes, &count), *keyring;
    for (size_t i = 0; i < count; i++) {
        bytes[i] ^= (uint8_t)(1u << i % 8);
        keyring_dir_write(dir.keyring, bytes, count, 0640);
        enum cmq_err err = cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason);
        assert_true(err == CMQ_ERR_MALFORMED || err == CMQ_ERR_VERSION);
        bytes[i] ^= (uint8_t)(1u << i % 8);
    }
    keyring_dir_write(dir.keyring, bytes, count, 0640);
    assert_int_equal(cmq_keyring_reload(good, NULL, &reason), CMQ_OK);
    cmq_keyring_free(good);
}

static void keyring_cut_or_continued_anywhere_is_refused(void **state)
{
    (void)state;
    static uint8_t bytes[IMAGE_ROOM];
    size_t count;
    struct cmq_keyring *good = three_keys(bytes, &count), *keyring;
    for (size_t cut = 0; cut <= count + 3; cut++) {
        if (cut == count)
            continue;
        keyring_dir_write(dir.keyring, bytes, cut, 0640);
        assert_int_equal(cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason),
                         CMQ_ERR_MALFORMED);
    }
    cmq_keyring_free(good);
}

/* Somebody who can write the file makes the SHA-256 right again. */
static void keyring_changed_on_purpose_is_refused_or_has_the_same_keys(void **state)
{
    (void)state;
    static uint8_t bytes[IMAGE_ROOM], changed[IMAGE_ROOM];
    size_t count, refused = 0, same = 0;
    struct cmq_keyring *good = three_keys(bytes, &count), *keyring;
    for (size_t i = 0; i < count - CMQ_IMAGE_TAIL_BYTES; i++) {
        memcpy(changed, bytes, count);
        changed[i] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(cmq_kdf_sha256(cmq_span_make(changed, count - CMQ_IMAGE_TAIL_BYTES),
                                        changed + count - CMQ_IMAGE_TAIL_BYTES),
                         CMQ_OK);
        keyring_dir_write(dir.keyring, changed, count, 0640);
        if (cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason) != CMQ_OK) {
            refused++;
            continue;
        }
        check_same_keys(good, keyring);
        cmq_keyring_free(keyring);
        same++;
    }
    /* Free to change: the id of the delivery KEK (16), and of three keys the counts (low 32 bits, nothing
     * above the limit) and what only the delivery side reads (72 bytes of a wrap that is there). */
    assert_true(same >= 16 + 2 * 72 && same <= 16 + 3 * 4 + 2 * 72);
    assert_true(refused > 400);
    cmq_keyring_free(good);
}

static void delivery_side_refuses_or_has_the_same_keys_too(void **state)
{
    (void)state;
    static uint8_t bytes[IMAGE_ROOM], changed[IMAGE_ROOM];
    size_t count, refused = 0;
    struct cmq_keyring *encryptor = three_keys(bytes, &count), *keyring;
    struct cmq_keyring *good = keyring_dir_open(&dir, CMQ_KEYRING_DELIVERY);
    for (size_t i = 0; i < count - CMQ_IMAGE_TAIL_BYTES; i++) {
        memcpy(changed, bytes, count);
        changed[i] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(cmq_kdf_sha256(cmq_span_make(changed, count - CMQ_IMAGE_TAIL_BYTES),
                                        changed + count - CMQ_IMAGE_TAIL_BYTES),
                         CMQ_OK);
        keyring_dir_write(dir.keyring, changed, count, 0640);
        if (cmq_keyring_open(&dir.delivery, CMQ_KEYRING_DELIVERY, &keyring, &reason) != CMQ_OK) {
            refused++;
            continue;
        }
        check_same_keys(good, keyring);
        cmq_keyring_free(keyring);
    }
    assert_true(refused > 250);
    cmq_keyring_free(good);
    cmq_keyring_free(encryptor);
}

/* A wrap of one side in the place of the other, and a wrap of one epoch in the place of another. */
static void wraps_cannot_change_places(void **state)
{
    (void)state;
    static uint8_t bytes[IMAGE_ROOM], changed[IMAGE_ROOM];
    size_t count, offset = 0;
    struct cmq_image_entry first, second, third;
    struct cmq_keyring *good = three_keys(bytes, &count), *keyring;
    const struct cmq_span image = cmq_span_make(bytes, count);
    assert_true(cmq_image_next(image, &offset, &first) && cmq_image_next(image, &offset, &second) &&
                cmq_image_next(image, &offset, &third));
    const uint8_t *const swap[][2] = {{first.wrap_enc, first.wrap_out},
                                      {first.wrap_enc, third.wrap_enc},
                                      {first.wrap_enc, second.wrap_enc}};
    for (size_t i = 0; i < CMQ_COUNT_OF(swap); i++) {
        memcpy(changed, bytes, count);
        memcpy(changed + (swap[i][0] - bytes), swap[i][1], CMQ_IMAGE_WRAP_BYTES);
        assert_int_equal(cmq_kdf_sha256(cmq_span_make(changed, count - CMQ_IMAGE_TAIL_BYTES),
                                        changed + count - CMQ_IMAGE_TAIL_BYTES),
                         CMQ_OK);
        keyring_dir_write(dir.keyring, changed, count, 0640);
        assert_int_equal(cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason),
                         CMQ_ERR_KEY);
        assert_non_null(strstr(reason.text, "was changed"));
    }
    cmq_keyring_free(good);
}

/* GCM does not commit to its key, so the id has to. Here everything is right, the tag too, except that the id
 * is not the one of the key. The AAD is written out, which also fixes the format of the file. */
static void key_that_its_id_does_not_commit_to_is_refused(void **state)
{
    (void)state;
    static uint8_t bytes[IMAGE_ROOM];
    struct cmq_keyring *good = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR), *keyring;
    const size_t count = keyring_dir_read(dir.keyring, bytes, sizeof bytes), covered = count - 32;
    uint8_t *entry = bytes + 56, aad[20 + 4 + 8 + 1 + 16 + 2 + 1] = "ciphermq wrap enc v1", key[32];
    for (int flip = 0; flip < 2; flip++) { /* first with the right id: the test's own bytes are good */
        entry[24] ^= (uint8_t)flip;
        memcpy(aad + 20, entry + 4, 12); /* epoch, created_ms */
        aad[32] = 0x01;
        memcpy(aad + 33, entry + 24, 16);
        memcpy(aad + 49, "\x01\x00>", 3);
        assert_int_equal(cmq_seal(good->sealer, good->keks->kek, entry + 40, cmq_span_make(aad, sizeof aad),
                                  cmq_span_make(good->table->keys[0].data.key, 32), entry + 64),
                         CMQ_OK);
        assert_int_equal(cmq_kdf_sha256(cmq_span_make(bytes, covered), bytes + covered), CMQ_OK);
        keyring_dir_write(dir.keyring, bytes, count, 0640);
        enum cmq_err err = cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason);
        assert_int_equal(err, flip == 0 ? CMQ_OK : CMQ_ERR_KEY);
        if (err == CMQ_OK)
            cmq_keyring_free(keyring);
    }
    entry[24] ^= 1; /* the other wrap, as create made it: the same but for the label */
    memcpy(aad + 33, entry + 24, 16);
    memcpy(aad, "ciphermq wrap out v1", 20);
    assert_int_equal(cmq_open(good->sealer, good->keks->delivery_kek, entry + 112,
                              cmq_span_make(aad, sizeof aad), cmq_span_make(entry + 136, 48), key),
                     CMQ_OK);
    assert_memory_equal(key, good->table->keys[0].data.key, sizeof key);
    cmq_keyring_free(good);
}

static void keyring_that_has_an_epoch_twice_is_refused(void **state)
{
    (void)state;
    struct cmq_keyring *good = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR), *keyring;
    const struct cmq_image_entry again = {
        .pattern = cmq_span_make(">", 1), .deliverable = true, .epoch = 1, .created_ms = 1};
    struct cmq_buf image;
    cmq_buf_init(&image, IMAGE_ROOM);
    assert_int_equal(cmq_buf_reserve(&image, IMAGE_ROOM), CMQ_OK);
    image.bytes = keyring_dir_read(dir.keyring, image.data, IMAGE_ROOM);
    assert_int_equal(cmq_image_append(&image, good->sealer, good->keks->kek, good->keks->delivery_kek, &again,
                                      good->keks->fresh),
                     CMQ_OK);
    keyring_dir_write(dir.keyring, image.data, image.bytes, 0640);
    assert_int_equal(cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason),
                     CMQ_ERR_MALFORMED);
    assert_non_null(strstr(reason.text, "twice"));
    cmq_buf_fini(&image);
    cmq_keyring_free(good);
}

#define KEYRING_TEST(name) cmocka_unit_test_setup_teardown(name, dir_begin, dir_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KEYRING_TEST(keyring_with_any_byte_changed_is_refused),
        KEYRING_TEST(keyring_cut_or_continued_anywhere_is_refused),
        KEYRING_TEST(keyring_changed_on_purpose_is_refused_or_has_the_same_keys),
        KEYRING_TEST(delivery_side_refuses_or_has_the_same_keys_too),
        KEYRING_TEST(wraps_cannot_change_places),
        KEYRING_TEST(key_that_its_id_does_not_commit_to_is_refused),
        KEYRING_TEST(keyring_that_has_an_epoch_twice_is_refused),
    };
    return cmocka_run_group_tests_name("cmq_keyring_image", tests, NULL, NULL);
}
