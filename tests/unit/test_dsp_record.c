#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_record.h"
#include "tests/support/fake_delivery_ring.h"

enum { PATH_BYTES = 256, BATCH_BYTES = 1 << 16, SEQ = 77 };

static char directory[] = "/tmp/cmq-test-XXXXXX";
static char kek[PATH_BYTES], delivery_kek[PATH_BYTES], keyring_file[PATH_BYTES];
static struct cmq_keyring *sealing, *opening;
static struct cmq_sealer *sealer;
static struct cmq_ring *ring;
static struct dsp_opener opener;
static struct dsp_opened record;
static uint8_t batch[BATCH_BYTES];
static size_t batch_bytes;

static void path_of(char *ret_path, const char *name)
{
    int bytes = snprintf(ret_path, PATH_BYTES, "%s/%s", directory, name);
    cmq_assert(bytes > 0 && bytes < PATH_BYTES);
}

static int setup_keys(void **state)
{
    (void)state;
    struct cmq_reason reason = {0};
    if (mkdtemp(directory) == NULL)
        return -1;
    path_of(kek, "kek");
    path_of(delivery_kek, "delivery.kek");
    path_of(keyring_file, "keyring");
    const struct cmq_keyring_paths all = {
        .kek_file = kek, .delivery_kek_file = delivery_kek, .keyring_file = keyring_file};
    const struct cmq_keyring_paths delivery = {.kek_file = delivery_kek, .keyring_file = keyring_file};
    if (cmq_keyring_create(&all, &reason) != CMQ_OK ||
        cmq_keyring_open(&all, CMQ_KEYRING_ENCRYPTOR, &sealing, &reason) != CMQ_OK ||
        cmq_keyring_open(&delivery, CMQ_KEYRING_DELIVERY, &opening, &reason) != CMQ_OK ||
        cmq_sealer_new(&sealer) != CMQ_OK) {
        print_error("%s\n", reason.text);
        return -1;
    }
    return 0;
}

static int teardown_keys(void **state)
{
    (void)state;
    cmq_sealer_free(sealer);
    cmq_keyring_free(opening);
    cmq_keyring_free(sealing);
    unlink(kek);
    unlink(delivery_kek);
    unlink(keyring_file);
    char lock[PATH_BYTES];
    path_of(lock, "keyring.lock");
    unlink(lock);
    return rmdir(directory);
}

static int setup(void **state)
{
    (void)state;
    ring = fake_delivery_ring_new();
    batch_bytes = 0;
    return dsp_opener_init(&opener, ring, opening) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    dsp_record_fini(&record);
    dsp_opener_fini(&opener);
    fake_delivery_ring_free(ring);
    return 0;
}

static struct cmq_sealed_head head_of(uint64_t seq, uint32_t unit_count)
{
    struct cmq_sealed_head head = {.seq = seq, .accepted_at_ms = 1700000000000, .unit_count = unit_count};
    batch_bytes = cmq_sealed_encode_head(batch, &head);
    return head;
}

/* `count` messages of three letters, sealed as the encryptor would, but saying what `claimed` and `suite`
 * say. */
static void add_claiming(const struct cmq_sealed_head *head, const char *topic, uint32_t count, char letter,
                         uint32_t claimed, uint32_t suite)
{
    struct cmq_reason reason = {0};
    const struct cmq_data_key *key = NULL;
    uint8_t plain[4096], aad[CMQ_BATCH_AAD_BYTES_MAX];
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        bytes += cmq_message_head(plain + bytes, true, 3);
        memset(plain + bytes, letter, 3);
        bytes += 3;
    }
    struct cmq_sealed_unit unit = {.topic_bytes = (uint8_t)strlen(topic),
                                   .count = claimed,
                                   .suite = suite,
                                   .sealed = {.bytes = bytes + CMQ_TAG_BYTES}};
    memcpy(unit.topic, topic, unit.topic_bytes);
    assert_int_equal(cmq_keyring_seal_key(sealing, cmq_span_make(topic, strlen(topic)), &key, &reason),
                     CMQ_OK);
    memcpy(unit.key_id, key->key_id, sizeof(unit.key_id));
    assert_int_equal(cmq_seal_nonce(unit.nonce), CMQ_OK);
    size_t aad_bytes = cmq_sealed_aad(aad, head, &unit);
    batch_bytes += cmq_sealed_encode_unit(batch + batch_bytes, &unit);
    assert_int_equal(cmq_seal(sealer, key->key, unit.nonce, cmq_span_make(aad, aad_bytes),
                              cmq_span_make(plain, bytes), batch + batch_bytes),
                     CMQ_OK);
    batch_bytes += unit.sealed.bytes;
}

static void add_unit(const struct cmq_sealed_head *head, const char *topic, uint32_t count, char letter)
{
    add_claiming(head, topic, count, letter, count, CMQ_SUITE_XAES_256_GCM);
}

static enum cmq_err open_batch(uint32_t messages)
{
    const struct cmq_claim claim = {
        .seq = SEQ, .payload = cmq_span_make(batch, batch_bytes), .messages = messages};
    return dsp_record_open(&opener, &claim, &record);
}

static uint64_t counter(enum cmq_counter which)
{
    return fake_delivery_ring_counter(ring, which);
}

static void assert_segment(uint32_t i, uint32_t first, uint32_t count, char letter)
{
    const struct dsp_segment *segment = &record.segments[i];
    struct cmq_mp_reader reader;
    struct cmq_message message;
    assert_true(i < record.segment_count);
    assert_int_equal(segment->first, first);
    assert_int_equal(segment->count, count);
    cmq_mp_reader_init(&reader, cmq_span_make(record.plain + segment->offset, segment->bytes));
    for (uint32_t j = 0; j < count; j++) {
        assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
        assert_int_equal(message.body.bytes, 3);
        assert_int_equal(message.body.data[2], letter);
    }
    assert_int_equal(cmq_mp_left(&reader), 0);
}

static void sealed_record_opens_into_its_messages(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_unit(&head, "default", 5, 'a');
    assert_int_equal(open_batch(5), CMQ_OK);
    assert_int_equal(record.message_count, 5);
    assert_int_equal(record.segment_count, 1);
    assert_segment(0, 0, 5, 'a');
    assert_int_equal(counter(CMQ_COUNT_SEALS), 1);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 0);
}

static void nothing_of_shared_memory_is_needed_after_open(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_unit(&head, "default", 5, 'a');
    assert_int_equal(open_batch(5), CMQ_OK);
    memset(batch, 0xff, sizeof(batch));
    assert_segment(0, 0, 5, 'a');
}

static void other_topics_are_counted_in_but_not_opened(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 4);
    add_unit(&head, "orders", 2, 'o');
    add_unit(&head, "default", 3, 'a');
    add_unit(&head, "defaults", 4, 'o');
    add_unit(&head, "default", 1, 'b');
    assert_int_equal(open_batch(10), CMQ_OK);
    assert_int_equal(record.message_count, 10);
    assert_int_equal(record.segment_count, 2);
    assert_segment(0, 2, 3, 'a');
    assert_segment(1, 9, 1, 'b');
    assert_int_equal(counter(CMQ_COUNT_SEALS), 2);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 0);
}

static void unit_with_a_wrong_tag_is_left_out_and_the_others_are_delivered(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 2);
    add_unit(&head, "default", 2, 'a');
    batch[batch_bytes - 1] ^= 1;
    add_unit(&head, "default", 3, 'b');
    assert_int_equal(open_batch(5), CMQ_OK);
    assert_int_equal(record.message_count, 5);
    assert_int_equal(record.segment_count, 1);
    assert_segment(0, 2, 3, 'b');
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 2);
}

static void record_under_another_seq_is_refused(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ + 1, 1);
    add_unit(&head, "default", 2, 'a');
    assert_int_equal(open_batch(2), CMQ_OK);
    assert_int_equal(record.segment_count, 0);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 2);
}

static void head_that_claims_another_seq_than_was_sealed_is_refused(void **state)
{
    (void)state;
    struct cmq_sealed_head sealed = head_of(SEQ + 1, 1);
    (void)head_of(SEQ, 1);
    add_unit(&sealed, "default", 2, 'a');
    assert_int_equal(open_batch(2), CMQ_OK);
    assert_int_equal(record.segment_count, 0);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 2);
}

/* Cut anywhere, and every byte damaged: never a fault of the process, never a read outside (ASan), and
 * nothing is delivered but what was sealed. */
static void damaged_batches_deliver_nothing_that_was_not_sealed(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 2);
    add_unit(&head, "default", 2, 'a');
    add_unit(&head, "default", 3, 'b');
    size_t whole = batch_bytes;
    for (size_t i = 0; i < whole; i++) {
        uint8_t *exact = malloc(i + 1);
        memcpy(exact, batch, i);
        const struct cmq_claim claim = {.seq = SEQ, .payload = cmq_span_make(exact, i), .messages = 5};
        assert_int_equal(dsp_record_open(&opener, &claim, &record), CMQ_OK);
        assert_true(record.segment_count < 2);
        free(exact);
    }
    for (size_t i = 0; i < whole; i++) {
        batch[i] ^= 0x15;
        assert_int_equal(open_batch(5), CMQ_OK);
        for (uint32_t s = 0; s < record.segment_count; s++) {
            const struct dsp_segment *segment = &record.segments[s];
            assert_segment(s, segment->first, segment->count, segment->count == 2 ? 'a' : 'b');
        }
        batch[i] ^= 0x15;
    }
}

static void count_that_the_bytes_cannot_hold_is_refused(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_claiming(&head, "default", 2, 'a', 1000000, CMQ_SUITE_XAES_256_GCM);
    assert_int_equal(open_batch(1000000), CMQ_OK);
    assert_int_equal(record.segment_count, 0);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 1000000);
}

static void unknown_suite_is_refused(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_claiming(&head, "default", 2, 'a', 2, CMQ_SUITE_XAES_256_GCM + 1);
    assert_int_equal(open_batch(2), CMQ_OK);
    assert_int_equal(record.segment_count, 0);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 2);
}

/* Progress is noted in 28 bits of the ring's word, the last value of which means done. */
static void counts_that_progress_cannot_express_are_refused(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 2);
    add_claiming(&head, "orders", 1, 'o', CMQ_PROGRESS_DONE - 1, CMQ_SUITE_XAES_256_GCM);
    add_claiming(&head, "orders", 1, 'o', 1, CMQ_SUITE_XAES_256_GCM);
    assert_int_equal(open_batch(2), CMQ_OK);
    assert_true(record.message_count < CMQ_PROGRESS_DONE);
}

static void bytes_behind_the_last_unit_are_noticed(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_unit(&head, "default", 2, 'a');
    batch_bytes += 5;
    assert_int_equal(open_batch(7), CMQ_OK);
    assert_segment(0, 0, 2, 'a');
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 5);
}

static void key_made_after_start_is_found_by_reading_the_file_again(void **state)
{
    (void)state;
    struct cmq_reason reason = {0};
    assert_int_equal(cmq_keyring_rotate(sealing, ">", true, &reason), CMQ_OK);
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_unit(&head, "default", 2, 'k');
    assert_int_equal(open_batch(2), CMQ_OK);
    assert_int_equal(record.segment_count, 1);
    assert_segment(0, 0, 2, 'k');
}

static void key_that_is_not_for_delivery_leaves_the_unit_out(void **state)
{
    (void)state;
    struct cmq_reason reason = {0};
    assert_int_equal(cmq_keyring_rotate(sealing, "default", false, &reason), CMQ_OK);
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_unit(&head, "default", 2, 'n');
    assert_int_equal(open_batch(2), CMQ_OK);
    assert_int_equal(record.segment_count, 0);
    assert_int_equal(record.message_count, 2);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 2);
}

static void buffer_is_kept_for_the_next_record_up_to_a_size(void **state)
{
    (void)state;
    struct cmq_sealed_head head = head_of(SEQ, 1);
    add_unit(&head, "default", 100, 'a');
    assert_int_equal(open_batch(100), CMQ_OK);
    dsp_record_clear(&record, record.plain_capacity);
    assert_true(record.plain_capacity > 0);
    dsp_record_clear(&record, record.plain_capacity - 1);
    assert_int_equal(record.plain_capacity, 0);
    assert_int_equal(open_batch(100), CMQ_OK);
    assert_segment(0, 0, 100, 'a');
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sealed_record_opens_into_its_messages),
        TEST(nothing_of_shared_memory_is_needed_after_open),
        TEST(other_topics_are_counted_in_but_not_opened),
        TEST(unit_with_a_wrong_tag_is_left_out_and_the_others_are_delivered),
        TEST(record_under_another_seq_is_refused),
        TEST(head_that_claims_another_seq_than_was_sealed_is_refused),
        TEST(damaged_batches_deliver_nothing_that_was_not_sealed),
        TEST(count_that_the_bytes_cannot_hold_is_refused),
        TEST(unknown_suite_is_refused),
        TEST(counts_that_progress_cannot_express_are_refused),
        TEST(bytes_behind_the_last_unit_are_noticed),
        TEST(key_made_after_start_is_found_by_reading_the_file_again),
        TEST(buffer_is_kept_for_the_next_record_up_to_a_size),
        /* last: it makes a key for `default` that takes precedence from then on */
        TEST(key_that_is_not_for_delivery_leaves_the_unit_out),
    };
    return cmocka_run_group_tests_name("dsp_record", tests, setup_keys, teardown_keys);
}
