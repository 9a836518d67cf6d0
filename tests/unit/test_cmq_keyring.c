/* Unit tests of the keyring: which key is used for what, and what survives rotation, reload, damage and
 * neighbours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/crypto/cmq_kdf.h"
#include "common/crypto/cmq_keyring_image.h"
#include "common/crypto/cmq_keyring_int.h"
#include "common/crypto/cmq_secret.h"
#include "tests/support/keyring_dir.h"

enum { IMAGE_ROOM = 1 << 16, WRITERS = 4, WRITER_ROUNDS = 6 };

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

static const struct cmq_data_key *seal_key(struct cmq_keyring *keyring, const char *topic)
{
    const struct cmq_data_key *key = NULL;
    if (cmq_keyring_seal_key(keyring, cmq_span_make(topic, strlen(topic)), &key, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
    return key;
}

static void rotate(struct cmq_keyring *keyring, const char *pattern, bool deliverable)
{
    if (cmq_keyring_rotate(keyring, pattern, deliverable, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
}

/* The seals that the file says are reserved, over all epochs of a pattern. */
static uint64_t seals_in_file(const char *pattern)
{
    static uint8_t bytes[IMAGE_ROOM];
    struct cmq_image_entry entry;
    uint64_t seals = 0;
    const struct cmq_span image = cmq_span_make(bytes, keyring_dir_read(dir.keyring, bytes, sizeof bytes));
    assert_int_equal(cmq_image_check(image, "file", NULL), CMQ_OK);
    for (size_t offset = 0; cmq_image_next(image, &offset, &entry);)
        if (entry.pattern.bytes == strlen(pattern) &&
            memcmp(entry.pattern.data, pattern, strlen(pattern)) == 0)
            seals += entry.seals_reserved;
    return seals;
}

static void create_makes_two_key_files_and_a_keyring_with_the_modes_of_the_rules(void **state)
{
    (void)state;
    const char *const path[] = {dir.kek, dir.delivery_kek, dir.keyring};
    const unsigned mode[] = {0400, 0400, 0640};
    struct stat found;
    for (size_t i = 0; i < CMQ_COUNT_OF(path); i++) {
        assert_int_equal(lstat(path[i], &found), 0);
        assert_true(S_ISREG(found.st_mode));
        assert_int_equal(found.st_mode & 07777, mode[i]);
    }
    uint8_t kek[64], delivery_kek[64], derived[32];
    assert_int_equal(keyring_dir_read(dir.kek, kek, sizeof kek), 32);
    assert_int_equal(keyring_dir_read(dir.delivery_kek, delivery_kek, sizeof delivery_kek), 32);
    assert_int_equal(cmq_kdf_hkdf(kek, "ciphermq delivery kek v1", derived, sizeof derived), CMQ_OK);
    assert_memory_equal(derived, delivery_kek, sizeof derived);
}

/* RFC 5869, appendix A.3 has no salt and no info, but a key of 22 bytes; this one was made with Python's
 * hmac: PRK = HMAC(zeros, key), T1 = HMAC(PRK, info | 01), for key = 00 01 .. 1f. */
static void hkdf_gives_a_value_that_was_computed_elsewhere(void **state)
{
    (void)state;
    static const uint8_t expected[16] = {0x0f, 0x17, 0x03, 0x61, 0x0c, 0xbe, 0x4f, 0x4b,
                                         0x71, 0xfb, 0x11, 0xb5, 0x84, 0x3e, 0xce, 0xc3};
    uint8_t key[32], id[16];
    for (uint8_t i = 0; i < sizeof key; i++)
        key[i] = i;
    assert_int_equal(cmq_kdf_hkdf(key, "ciphermq key id v1", id, sizeof id), CMQ_OK);
    assert_memory_equal(id, expected, sizeof id);
}

static void create_again_changes_nothing(void **state)
{
    (void)state;
    static uint8_t before[3][IMAGE_ROOM], after[IMAGE_ROOM];
    const char *const path[] = {dir.kek, dir.delivery_kek, dir.keyring};
    size_t bytes[3];
    for (size_t i = 0; i < 3; i++)
        bytes[i] = keyring_dir_read(path[i], before[i], IMAGE_ROOM);
    assert_int_equal(cmq_keyring_create(&dir.encryptor, &reason), CMQ_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(keyring_dir_read(path[i], after, sizeof after), bytes[i]);
        assert_memory_equal(before[i], after, bytes[i]);
    }
}

static void create_makes_a_lost_delivery_key_again_and_refuses_a_foreign_one(void **state)
{
    (void)state;
    uint8_t before[32], after[33];
    assert_int_equal(keyring_dir_read(dir.delivery_kek, before, sizeof before), 32);
    assert_int_equal(unlink(dir.delivery_kek), 0);
    assert_int_equal(cmq_keyring_create(&dir.encryptor, &reason), CMQ_OK);
    assert_int_equal(keyring_dir_read(dir.delivery_kek, after, sizeof after), 32);
    assert_memory_equal(before, after, 32);
    before[0] ^= 1;
    keyring_dir_write(dir.delivery_kek, before, 32, 0400);
    assert_int_equal(cmq_keyring_create(&dir.encryptor, &reason), CMQ_ERR_KEY);
    assert_non_null(strstr(reason.text, "does not belong to"));
}

static void create_refuses_a_keyring_whose_key_is_gone(void **state)
{
    (void)state;
    struct stat found;
    assert_int_equal(unlink(dir.kek), 0);
    assert_int_equal(cmq_keyring_create(&dir.encryptor, &reason), CMQ_ERR_KEY);
    assert_non_null(strstr(reason.text, "backup"));
    assert_int_equal(stat(dir.kek, &found), -1); /* above all it makes no new one */
}

static void both_sides_have_the_same_key_under_its_id(void **state)
{
    (void)state;
    struct cmq_keyring *encryptor = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    struct cmq_keyring *delivery = keyring_dir_open(&dir, CMQ_KEYRING_DELIVERY);
    const struct cmq_data_key *sealed = seal_key(encryptor, "default"), *found;
    uint8_t id[CMQ_KEYRING_ID_BYTES];
    assert_int_equal(cmq_keyring_find(delivery, sealed->key_id, &found), CMQ_OK);
    assert_memory_equal(sealed->key, found->key, CMQ_KEYRING_KEY_BYTES);
    assert_string_equal(found->pattern, ">");
    assert_int_equal(found->epoch, 1);
    assert_int_equal(cmq_kdf_hkdf(sealed->key, "ciphermq key id v1", id, sizeof id), CMQ_OK);
    assert_memory_equal(id, sealed->key_id, sizeof id);
    id[15] ^= 1;
    assert_int_equal(cmq_keyring_find(delivery, id, &found), CMQ_ERR_NOT_FOUND);
    cmq_keyring_free(delivery);
    cmq_keyring_free(encryptor);
}

static void key_files_of_the_two_sides_cannot_be_exchanged(void **state)
{
    (void)state;
    struct cmq_keyring *keyring;
    const struct cmq_keyring_paths with_kek = {.kek_file = dir.kek, .keyring_file = dir.keyring};
    assert_int_equal(cmq_keyring_open(&dir.delivery, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason), CMQ_ERR_KEY);
    assert_int_equal(cmq_keyring_open(&with_kek, CMQ_KEYRING_DELIVERY, &keyring, &reason), CMQ_ERR_KEY);
}

static void delivery_side_has_no_key_that_may_not_be_delivered(void **state)
{
    (void)state;
    struct cmq_keyring *encryptor = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    rotate(encryptor, "secret.>", false);
    struct cmq_keyring *delivery = keyring_dir_open(&dir, CMQ_KEYRING_DELIVERY);
    const struct cmq_data_key *sealed = seal_key(encryptor, "secret.plan"), *found;
    assert_string_equal(sealed->pattern, "secret.>");
    assert_int_equal(cmq_keyring_find(encryptor, sealed->key_id, &found), CMQ_OK);
    assert_int_equal(cmq_keyring_find(delivery, sealed->key_id, &found), CMQ_ERR_NOT_FOUND);
    assert_int_equal(cmq_keyring_count(encryptor), 2);
    assert_int_equal(cmq_keyring_count(delivery), 1);
    cmq_keyring_free(delivery);
    cmq_keyring_free(encryptor);
}

static void rotation_reaches_the_other_side_by_reload_and_keeps_old_epochs(void **state)
{
    (void)state;
    struct cmq_keyring *encryptor = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    struct cmq_keyring *delivery = keyring_dir_open(&dir, CMQ_KEYRING_DELIVERY);
    const struct cmq_data_key *found;
    uint8_t old_id[CMQ_KEYRING_ID_BYTES];
    bool changed = false;
    memcpy(old_id, seal_key(encryptor, "default")->key_id, sizeof old_id);
    rotate(encryptor, ">", true);
    const struct cmq_data_key *new_key = seal_key(encryptor, "default");
    assert_int_equal(new_key->epoch, 2);
    assert_int_equal(cmq_keyring_find(delivery, new_key->key_id, &found), CMQ_ERR_NOT_FOUND);
    assert_int_equal(cmq_keyring_reload(delivery, &changed, &reason), CMQ_OK);
    assert_true(changed);
    assert_int_equal(cmq_keyring_find(delivery, new_key->key_id, &found), CMQ_OK);
    assert_memory_equal(found->key, new_key->key, CMQ_KEYRING_KEY_BYTES);
    assert_int_equal(cmq_keyring_find(delivery, old_id, &found), CMQ_OK);
    assert_int_equal(cmq_keyring_reload(delivery, &changed, &reason), CMQ_OK);
    assert_false(changed);
    cmq_keyring_free(delivery);
    cmq_keyring_free(encryptor);
}

static void seal_key_takes_the_most_specific_pattern(void **state)
{
    (void)state;
    static const struct {
        const char *topic, *pattern;
    } row[] = {{"default", ">"},
               {"orders", ">"},
               {"orders.eu", "orders.>"},
               {"orders.eu.new", "orders.*.new"},
               {"orders.us.new", "orders.*.new"},
               {"orders.us.new.x", "orders.>"},
               {"ab.cd", "ab.*"}, /* as long and as wild as *.cd, larger bytes */
               {"xy.cd", "*.cd"},
               {"ab.ef", "ab.*"},
               {"a.b.c", "*.b.c"},     /* as long as a.*.*, less wild */
               {"$dead.default", ">"}, /* a dead letter is as secret as what it was */
               {"$dead.orders.eu", "orders.>"}};
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    rotate(keyring, "orders.>", true);
    rotate(keyring, "orders.*.new", true);
    rotate(keyring, "ab.*", true);
    rotate(keyring, "*.cd", true);
    rotate(keyring, "a.*.*", true);
    rotate(keyring, "*.b.c", true);
    rotate(keyring, "orders.>", true);      /* a later epoch is not more specific */
    for (int round = 0; round < 2; round++) /* the second time out of the cache */
        for (size_t i = 0; i < CMQ_COUNT_OF(row); i++)
            assert_string_equal(seal_key(keyring, row[i].topic)->pattern, row[i].pattern);
    assert_int_equal(seal_key(keyring, "orders.eu")->epoch, 2);
    cmq_keyring_free(keyring);
}

static void seal_key_with_more_topics_than_the_cache_holds_is_right_for_each(void **state)
{
    (void)state;
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    char topic[16];
    rotate(keyring, "a.>", true);
    for (int i = 0; i < 20 * CMQ_KEYRING_TOPIC_SLOTS; i++) {
        const char *first = i % 3 == 0 ? "a" : "b";
        (void)snprintf(topic, sizeof topic, "%s.%d", first, i % 500);
        assert_string_equal(seal_key(keyring, topic)->pattern, *first == 'a' ? "a.>" : ">");
    }
    cmq_keyring_free(keyring);
}

static void seal_key_for_a_topic_without_a_pattern_is_refused(void **state)
{
    (void)state;
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    const struct cmq_data_key *key;
    assert_int_equal(cmq_keyring_seal_key(keyring, cmq_span_make("$sys.x", 6), &key, &reason),
                     CMQ_ERR_NOT_FOUND);
    assert_non_null(strstr(reason.text, "ciphermqctl key rotate"));
    assert_int_equal(cmq_keyring_seal_key(keyring, cmq_span_make("", 0), &key, &reason), CMQ_ERR_INVALID);
    cmq_keyring_free(keyring);
}

static void rotation_refuses_what_is_no_pattern(void **state)
{
    (void)state;
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    assert_int_equal(cmq_keyring_rotate(keyring, "a..b", true, &reason), CMQ_ERR_INVALID);
    assert_int_equal(cmq_keyring_rotate(keyring, "", true, &reason), CMQ_ERR_INVALID);
    assert_int_equal(cmq_keyring_count(keyring), 1);
    cmq_keyring_free(keyring);
}

static void seals_are_reserved_in_the_file_before_the_first_is_used(void **state)
{
    (void)state;
    struct cmq_keyring *one = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    struct cmq_keyring *other = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    assert_int_equal(seals_in_file(">"), 0);
    for (int i = 0; i < 1000; i++)
        (void)seal_key(one, "default");
    assert_int_equal(seals_in_file(">"), CMQ_KEY_SEALS_RESERVED);
    (void)seal_key(other, "default"); /* it opened the file before the first reservation */
    assert_int_equal(seals_in_file(">"), 2 * CMQ_KEY_SEALS_RESERVED);
    cmq_keyring_free(other);
    cmq_keyring_free(one);
}

static void reservation_is_renewed_after_its_last_seal(void **state)
{
    (void)state;
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    for (uint64_t i = 0; i < CMQ_KEY_SEALS_RESERVED; i++)
        (void)seal_key(keyring, "default");
    assert_int_equal(seals_in_file(">"), CMQ_KEY_SEALS_RESERVED);
    (void)seal_key(keyring, "default");
    assert_int_equal(seals_in_file(">"), 2 * CMQ_KEY_SEALS_RESERVED);
    cmq_keyring_free(keyring);
}

static void reload_and_rotation_of_other_patterns_keep_the_reservation(void **state)
{
    (void)state;
    struct cmq_keyring *one = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    struct cmq_keyring *other = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    bool changed = false;
    (void)seal_key(one, "default");
    rotate(other, "other", true);
    assert_int_equal(cmq_keyring_reload(one, &changed, &reason), CMQ_OK);
    assert_true(changed);
    rotate(one, "third", true);
    for (int i = 0; i < 10; i++)
        (void)seal_key(one, "default");
    assert_int_equal(seals_in_file(">"), CMQ_KEY_SEALS_RESERVED);
    cmq_keyring_free(other);
    cmq_keyring_free(one);
}

/* Sets the count of the first key in the file. */
static void set_reserved(uint64_t seals)
{
    struct cmq_buf image;
    cmq_buf_init(&image, IMAGE_ROOM);
    assert_int_equal(cmq_buf_reserve(&image, IMAGE_ROOM), CMQ_OK);
    image.bytes = keyring_dir_read(dir.keyring, image.data, IMAGE_ROOM);
    assert_int_equal(cmq_image_set_reserved(&image, CMQ_IMAGE_HEAD_BYTES, seals), CMQ_OK);
    keyring_dir_write(dir.keyring, image.data, image.bytes, 0640);
    cmq_buf_fini(&image);
}

static void key_at_its_limit_is_followed_by_a_new_epoch_that_may_be_delivered_too(void **state)
{
    (void)state;
    set_reserved(CMQ_KEY_SEALS_MAX - 5);
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(cmq_keyring_seals_left(keyring), 5 - i);
        assert_int_equal(seal_key(keyring, "default")->epoch, 1);
    }
    assert_int_equal(cmq_keyring_seals_left(keyring), 0);
    assert_int_equal(seals_in_file(">"), CMQ_KEY_SEALS_MAX);
    const struct cmq_data_key *key = seal_key(keyring, "default"), *found;
    assert_int_equal(key->epoch, 2);
    assert_int_equal(seals_in_file(">"), CMQ_KEY_SEALS_MAX + CMQ_KEY_SEALS_RESERVED);
    assert_int_equal(cmq_keyring_seals_left(keyring), CMQ_KEY_SEALS_MAX - 1);
    struct cmq_keyring *delivery = keyring_dir_open(&dir, CMQ_KEYRING_DELIVERY);
    assert_int_equal(cmq_keyring_find(delivery, key->key_id, &found), CMQ_OK);
    cmq_keyring_free(delivery);
    cmq_keyring_free(keyring);
}

static void reload_of_a_damaged_file_keeps_the_keys_in_use(void **state)
{
    (void)state;
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    const struct cmq_data_key *key = seal_key(keyring, "default");
    uint8_t bytes[32];
    memcpy(bytes, key->key, sizeof bytes);
    keyring_dir_write(dir.keyring, "CMQKRING", 8, 0640);
    assert_int_equal(cmq_keyring_reload(keyring, NULL, &reason), CMQ_ERR_MALFORMED);
    assert_non_null(strstr(reason.text, "truncated"));
    assert_memory_equal(seal_key(keyring, "default")->key, bytes, sizeof bytes);
    assert_int_equal(unlink(dir.keyring), 0);
    assert_int_equal(cmq_keyring_reload(keyring, NULL, &reason), CMQ_ERR_NOT_FOUND);
    assert_memory_equal(seal_key(keyring, "default")->key, bytes, sizeof bytes);
    cmq_keyring_free(keyring);
}

static void full_keyring_is_refused_another_key_and_still_opens(void **state)
{
    (void)state;
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    struct cmq_buf image;
    cmq_buf_init(&image, CMQ_IMAGE_BYTES_MAX);
    assert_int_equal(cmq_buf_reserve(&image, CMQ_IMAGE_BYTES_MAX), CMQ_OK);
    image.bytes = keyring_dir_read(dir.keyring, image.data, CMQ_IMAGE_BYTES_MAX);
    char pattern[CMQ_KEYRING_PATTERN_MAX + 1];
    memset(pattern, 'p', sizeof pattern);
    struct cmq_image_entry entry = {.pattern = cmq_span_make(pattern, CMQ_KEYRING_PATTERN_MAX)};
    for (entry.epoch = 1; entry.epoch < CMQ_KEYRING_KEYS_MAX; entry.epoch++)
        assert_int_equal(cmq_image_append(&image, keyring->sealer, keyring->keks->kek,
                                          keyring->keks->delivery_kek, &entry, keyring->keks->fresh),
                         CMQ_OK);
    keyring_dir_write(dir.keyring, image.data, image.bytes, 0640);
    cmq_buf_fini(&image);
    assert_int_equal(cmq_keyring_reload(keyring, NULL, &reason), CMQ_OK);
    assert_int_equal(cmq_keyring_count(keyring), CMQ_KEYRING_KEYS_MAX);
    assert_int_equal(cmq_keyring_rotate(keyring, ">", true, &reason), CMQ_ERR_EXHAUSTED);
    assert_non_null(strstr(reason.text, "remove old epochs"));
    assert_int_equal(seal_key(keyring, "default")->epoch, 1);
    cmq_keyring_free(keyring);
}

static void in_children(void (*work)(void))
{
    pid_t child[WRITERS];
    int status;
    for (int i = 0; i < WRITERS; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0) {
            work();
            _exit(0);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
}

/* A fresh keyring has no seals, so that each round makes one reservation, and one rotation. */
static void reserve_and_rotate(void)
{
    for (int i = 0; i < WRITER_ROUNDS; i++) {
        struct cmq_keyring *keyring = NULL;
        const struct cmq_data_key *key;
        if (cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason) != CMQ_OK ||
            cmq_keyring_seal_key(keyring, cmq_span_make("default", 7), &key, &reason) != CMQ_OK ||
            cmq_keyring_rotate(keyring, ">", true, &reason) != CMQ_OK) {
            fprintf(stderr, "%s\n", reason.text);
            _exit(1);
        }
        cmq_keyring_free(keyring);
    }
}

static void changes_of_four_processes_at_a_time_add_up(void **state)
{
    (void)state;
    enum { ROUNDS = WRITERS * WRITER_ROUNDS };
    in_children(reserve_and_rotate);
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    bool seen[1 + ROUNDS + 1] = {false};
    assert_int_equal(seals_in_file(">"), ROUNDS * CMQ_KEY_SEALS_RESERVED);
    assert_int_equal(cmq_keyring_count(keyring), 1 + ROUNDS);
    for (size_t i = 0; i < keyring->table->count; i++) {
        uint32_t epoch = keyring->table->keys[i].data.epoch;
        assert_true(epoch >= 1 && epoch <= 1 + ROUNDS && !seen[epoch]);
        seen[epoch] = true;
    }
    cmq_keyring_free(keyring);
}

static void create_one(void)
{
    if (cmq_keyring_create(&dir.encryptor, &reason) == CMQ_OK)
        return;
    fprintf(stderr, "%s\n", reason.text);
    _exit(1);
}

static void four_processes_that_create_at_a_time_make_one_keyring(void **state)
{
    (void)state;
    keyring_dir_end(&dir);
    keyring_dir_begin(&dir);
    in_children(create_one);
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    assert_int_equal(cmq_keyring_count(keyring), 1);
    cmq_keyring_free(keyring);
    cmq_keyring_free(keyring_dir_open(&dir, CMQ_KEYRING_DELIVERY));
}

#define KEYRING_TEST(name) cmocka_unit_test_setup_teardown(name, dir_begin, dir_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KEYRING_TEST(create_makes_two_key_files_and_a_keyring_with_the_modes_of_the_rules),
        KEYRING_TEST(hkdf_gives_a_value_that_was_computed_elsewhere),
        KEYRING_TEST(create_again_changes_nothing),
        KEYRING_TEST(create_makes_a_lost_delivery_key_again_and_refuses_a_foreign_one),
        KEYRING_TEST(create_refuses_a_keyring_whose_key_is_gone),
        KEYRING_TEST(both_sides_have_the_same_key_under_its_id),
        KEYRING_TEST(key_files_of_the_two_sides_cannot_be_exchanged),
        KEYRING_TEST(delivery_side_has_no_key_that_may_not_be_delivered),
        KEYRING_TEST(rotation_reaches_the_other_side_by_reload_and_keeps_old_epochs),
        KEYRING_TEST(seal_key_takes_the_most_specific_pattern),
        KEYRING_TEST(seal_key_with_more_topics_than_the_cache_holds_is_right_for_each),
        KEYRING_TEST(seal_key_for_a_topic_without_a_pattern_is_refused),
        KEYRING_TEST(rotation_refuses_what_is_no_pattern),
        KEYRING_TEST(seals_are_reserved_in_the_file_before_the_first_is_used),
        KEYRING_TEST(reservation_is_renewed_after_its_last_seal),
        KEYRING_TEST(reload_and_rotation_of_other_patterns_keep_the_reservation),
        KEYRING_TEST(key_at_its_limit_is_followed_by_a_new_epoch_that_may_be_delivered_too),
        KEYRING_TEST(reload_of_a_damaged_file_keeps_the_keys_in_use),
        KEYRING_TEST(full_keyring_is_refused_another_key_and_still_opens),
        KEYRING_TEST(changes_of_four_processes_at_a_time_add_up),
        KEYRING_TEST(four_processes_that_create_at_a_time_make_one_keyring),
    };
    return cmocka_run_group_tests_name("cmq_keyring", tests, NULL, NULL);
}
