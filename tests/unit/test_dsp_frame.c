#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_frame.h"

enum { HEADROOM = 16, BYTES_MAX = 4096, MESSAGES_MAX = 1000, CONTENT_BYTES = 1 << 20, NOW_MS = 5000 };

static struct dsp_frame frame;
static uint8_t *content;
static size_t content_bytes;

static int setup(void **state)
{
    (void)state;
    content = malloc(CONTENT_BYTES);
    content_bytes = 0;
    return dsp_frame_init(&frame, HEADROOM, BYTES_MAX, MESSAGES_MAX) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(content);
    dsp_frame_fini(&frame);
    return 0;
}

static void add(bool text, const void *body, size_t bytes)
{
    content_bytes += cmq_message_head(content + content_bytes, text, (uint32_t)bytes);
    memcpy(content + content_bytes, body, bytes);
    content_bytes += bytes;
}

static void add_filled(uint8_t byte, size_t bytes)
{
    uint8_t *body = malloc(bytes + 1);
    memset(body, byte, bytes);
    add(true, body, bytes);
    free(body);
}

static struct cmq_mp_reader reader_of_content(void)
{
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, cmq_span_make(content, content_bytes));
    return reader;
}

static enum dsp_take take(struct cmq_mp_reader *reader, uint32_t count, uint32_t *ret_taken)
{
    assert_int_equal(dsp_frame_begin(&frame, NOW_MS), CMQ_OK);
    return dsp_frame_take(&frame, reader, count, ret_taken);
}

static void assert_text(const char *expected)
{
    size_t bytes;
    uint8_t *text = dsp_frame_end(&frame, &bytes);
    memset(text - HEADROOM, 0xaa, HEADROOM); /* the transport's */
    assert_int_equal(bytes, strlen(expected));
    assert_memory_equal(text, expected, bytes);
}

static void messages_become_a_json_array_of_strings(void **state)
{
    (void)state;
    uint32_t taken;
    add(true, "message_1", 9);
    add(true, "", 0);
    add(true, "a\"b\\c\n\x01", 7);
    struct cmq_mp_reader reader = reader_of_content();
    assert_int_equal(take(&reader, 3, &taken), DSP_TAKE_ALL);
    assert_int_equal(taken, 3);
    assert_int_equal(frame.messages, 3);
    assert_text("[\"message_1\",\"\",\"a\\\"b\\\\c\\n\\u0001\"]");
}

static void several_sources_share_a_frame(void **state)
{
    (void)state;
    uint32_t taken;
    add(true, "x", 1);
    struct cmq_mp_reader first = reader_of_content(), second = first;
    assert_int_equal(take(&first, 1, &taken), DSP_TAKE_ALL);
    assert_int_equal(dsp_frame_take(&frame, &second, 1, &taken), DSP_TAKE_ALL);
    assert_text("[\"x\",\"x\"]");
}

static void empty_frame_is_an_empty_array(void **state)
{
    (void)state;
    assert_int_equal(dsp_frame_begin(&frame, NOW_MS), CMQ_OK);
    assert_text("[]");
}

static void only_so_many_messages_are_taken_as_asked_for(void **state)
{
    (void)state;
    uint32_t taken;
    add(true, "a", 1);
    add(true, "b", 1);
    struct cmq_mp_reader reader = reader_of_content();
    assert_int_equal(take(&reader, 1, &taken), DSP_TAKE_ALL);
    assert_text("[\"a\"]");
    assert_int_equal(take(&reader, 1, &taken), DSP_TAKE_ALL);
    assert_text("[\"b\"]");
}

static void frame_is_full_at_its_message_limit(void **state)
{
    (void)state;
    uint32_t taken;
    dsp_frame_set_limits(&frame, BYTES_MAX, 2);
    for (unsigned i = 0; i < 5; i++)
        add(true, "m", 1);
    struct cmq_mp_reader reader = reader_of_content();
    assert_int_equal(take(&reader, 5, &taken), DSP_TAKE_FULL);
    assert_int_equal(taken, 2);
    assert_text("[\"m\",\"m\"]");
    assert_int_equal(take(&reader, 3, &taken), DSP_TAKE_FULL);
    assert_int_equal(take(&reader, 1, &taken), DSP_TAKE_ALL);
}

/* Whatever must be escaped, the text never passes the limit, and no room is left that one more message would
 * fit. */
static void frame_is_filled_to_its_byte_limit_and_not_beyond(void **state)
{
    (void)state;
    const uint8_t fills[] = {'a', '"', 0x01};
    const size_t grown[] = {1, 2, 6};
    for (size_t f = 0; f < sizeof(fills); f++) {
        for (size_t bytes = 1; bytes <= 1200; bytes += 37) {
            content_bytes = 0;
            size_t item = bytes * grown[f] + 3;
            for (unsigned i = 0; i < 700 && content_bytes + bytes + 5 < CONTENT_BYTES; i++)
                add_filled(fills[f], bytes);
            struct cmq_mp_reader reader = reader_of_content();
            uint32_t taken;
            size_t text_bytes;
            assert_int_equal(take(&reader, 700, &taken),
                             item * 700 + 1 > BYTES_MAX ? DSP_TAKE_FULL : DSP_TAKE_ALL);
            (void)dsp_frame_end(&frame, &text_bytes);
            assert_int_equal(text_bytes, item * taken + 1);
            if (taken > 1)
                assert_true(text_bytes <= BYTES_MAX);
            if (taken < 700)
                assert_true(text_bytes + item > BYTES_MAX);
        }
    }
}

static void message_larger_than_a_frame_goes_alone_and_the_memory_is_given_back(void **state)
{
    (void)state;
    uint32_t taken;
    add(true, "small", 5);
    add_filled('"', 100000);
    add(true, "small", 5);
    struct cmq_mp_reader reader = reader_of_content();
    assert_int_equal(take(&reader, 3, &taken), DSP_TAKE_FULL);
    assert_text("[\"small\"]");
    assert_int_equal(take(&reader, 2, &taken), DSP_TAKE_FULL);
    assert_int_equal(taken, 1);
    assert_int_equal(frame.bytes, 200004);
    assert_true(frame.capacity > BYTES_MAX);
    assert_int_equal(take(&reader, 1, &taken), DSP_TAKE_ALL);
    assert_text("[\"small\"]");
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(dsp_frame_begin(&frame, NOW_MS), CMQ_OK);
    assert_int_equal(frame.capacity, BYTES_MAX);
}

static void octets_are_skipped_and_counted(void **state)
{
    (void)state;
    uint32_t taken;
    add(true, "a", 1);
    add(false, "\xff", 1);
    add(true, "b", 1);
    struct cmq_mp_reader reader = reader_of_content();
    assert_int_equal(take(&reader, 3, &taken), DSP_TAKE_ALL);
    assert_int_equal(taken, 3);
    assert_int_equal(frame.skipped, 1);
    assert_text("[\"a\",\"b\"]");
}

static void bytes_that_are_no_message_stop_it_behind_the_last_good_one(void **state)
{
    (void)state;
    uint32_t taken;
    add(true, "a", 1);
    content[content_bytes++] = 0xc1; /* never used in MessagePack */
    struct cmq_mp_reader reader = reader_of_content();
    assert_int_equal(take(&reader, 2, &taken), DSP_TAKE_BAD);
    assert_int_equal(taken, 1);
    assert_ptr_equal(reader.next, content + content_bytes - 1);
    assert_int_equal(take(&reader, 1, &taken), DSP_TAKE_BAD);
    assert_int_equal(taken, 0);
}

static void new_limits_hold_from_the_next_frame(void **state)
{
    (void)state;
    uint32_t taken;
    for (unsigned i = 0; i < 20; i++)
        add_filled('a', 1000);
    struct cmq_mp_reader reader = reader_of_content();
    dsp_frame_set_limits(&frame, 4 * BYTES_MAX, MESSAGES_MAX);
    assert_int_equal(take(&reader, 20, &taken), DSP_TAKE_FULL);
    assert_int_equal(taken, 16);
}

static void add_until(const char *body, uint64_t expiry_ms)
{
    const struct cmq_message_full message = {
        .text = true, .body = cmq_span_make(body, strlen(body)), .expiry_ms = expiry_ms};
    content_bytes += cmq_message_write(content + content_bytes, &message);
}

static void messages_whose_time_is_over_are_taken_and_counted(void **state)
{
    (void)state;
    uint32_t taken;
    add_until("over", NOW_MS);
    add_until("not yet", NOW_MS + 1);
    add(true, "never", 5);
    struct cmq_mp_reader reader = reader_of_content();
    assert_int_equal(take(&reader, 3, &taken), DSP_TAKE_ALL);
    assert_int_equal(taken, 3);
    assert_int_equal(frame.expired, 1);
    assert_int_equal(frame.skipped, 0);
    assert_text("[\"not yet\",\"never\"]");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_become_a_json_array_of_strings),
        TEST(several_sources_share_a_frame),
        TEST(empty_frame_is_an_empty_array),
        TEST(only_so_many_messages_are_taken_as_asked_for),
        TEST(frame_is_full_at_its_message_limit),
        TEST(frame_is_filled_to_its_byte_limit_and_not_beyond),
        TEST(message_larger_than_a_frame_goes_alone_and_the_memory_is_given_back),
        TEST(octets_are_skipped_and_counted),
        TEST(messages_whose_time_is_over_are_taken_and_counted),
        TEST(bytes_that_are_no_message_stop_it_behind_the_last_good_one),
        TEST(new_limits_hold_from_the_next_frame),
    };
    return cmocka_run_group_tests_name("dsp_frame", tests, NULL, NULL);
}
