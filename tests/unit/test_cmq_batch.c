/* Unit tests of cmq_batch: round trips, and what happens to every cut and every changed byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "tests/unit/wire_support.h"

enum { BATCH_MAX = 4096 };

static struct cmq_span text_span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

static size_t append_message(uint8_t *dst, bool text, struct cmq_span body)
{
    size_t bytes = cmq_message_head(dst, text, (uint32_t)body.bytes);
    if (body.bytes != 0)
        memcpy(dst + bytes, body.data, body.bytes);
    return bytes + body.bytes;
}

/* ---- messages ---- */

static void messages_of_every_head_size_come_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 9, 31, 32, 255, 256, 65535, 65536, 70000};
    static const size_t text_heads[] = {1, 1, 1, 1, 2, 2, 3, 3, 5, 5};
    static const size_t bin_heads[] = {2, 2, 2, 2, 2, 2, 3, 3, 5, 5};
    uint8_t *body = calloc(1, 70000);
    assert_non_null(body);
    for (size_t i = 0; i < CMQ_COUNT_OF(sizes); i++) {
        for (int text = 0; text < 2; text++) {
            uint8_t *bytes = malloc(sizes[i] + 5);
            assert_non_null(bytes);
            size_t count = append_message(bytes, text, cmq_span_make(body, sizes[i]));
            assert_int_equal(count, sizes[i] + (text ? text_heads[i] : bin_heads[i]));
            uint8_t *exact = wire_copy(bytes, count);
            struct cmq_mp_reader reader;
            cmq_mp_reader_init(&reader, cmq_span_make(exact, count));
            struct cmq_message message;
            assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
            assert_int_equal(message.text, text);
            assert_int_equal(message.body.bytes, sizes[i]);
            assert_ptr_equal(message.body.data + sizes[i], exact + count);
            assert_int_equal(cmq_mp_left(&reader), 0);
            assert_int_equal(cmq_message_next(&reader, &message), CMQ_ERR_MALFORMED);
            free(exact);
            free(bytes);
        }
    }
    free(body);
}

static void cut_messages_are_refused_and_the_reader_stays(void **state)
{
    (void)state;
    static const struct cmq_span wholes[] = {
        {(const uint8_t *)"\xa3xyz", 4},         {(const uint8_t *)"\xd9\x03xyz", 5},
        {(const uint8_t *)"\xda\x00\x03xyz", 6}, {(const uint8_t *)"\xdb\x00\x00\x00\x03xyz", 8},
        {(const uint8_t *)"\xc4\x03xyz", 5},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(wholes); i++) {
        for (size_t bytes = 0; bytes < wholes[i].bytes; bytes++) {
            uint8_t *exact = wire_copy(wholes[i].data, bytes);
            struct cmq_mp_reader reader;
            cmq_mp_reader_init(&reader, cmq_span_make(exact, bytes));
            struct cmq_message message;
            assert_int_equal(cmq_message_next(&reader, &message), CMQ_ERR_MALFORMED);
            assert_ptr_equal(reader.next, exact);
            free(exact);
        }
    }
}

static void values_other_than_str_and_bin_are_no_messages(void **state)
{
    (void)state;
    for (unsigned tag = 0; tag < 256; tag++) {
        uint8_t bytes[40] = {(uint8_t)tag};
        struct cmq_mp_reader reader;
        cmq_mp_reader_init(&reader, cmq_span_make(bytes, sizeof bytes));
        struct cmq_message message;
        bool str = (tag >= 0xa0 && tag <= 0xbf) || (tag >= 0xd9 && tag <= 0xdb);
        bool bin = tag >= 0xc4 && tag <= 0xc6;
        assert_int_equal(cmq_message_next(&reader, &message), str || bin ? CMQ_OK : CMQ_ERR_MALFORMED);
        if (str || bin)
            assert_int_equal(message.text, str);
        else
            assert_ptr_equal(reader.next, bytes);
    }
}

/* ---- messages that are more than content ---- */

static void expect_part(struct cmq_span got, struct cmq_span wanted)
{
    assert_int_equal(got.bytes, wanted.bytes);
    if (wanted.bytes != 0)
        assert_memory_equal(got.data, wanted.data, wanted.bytes);
}

/* Writes the message and reads it again, alone in its memory; returns the bytes that it took. */
static size_t round_trip(const struct cmq_message_full *in)
{
    size_t room = CMQ_MESSAGE_FULL_BYTES + in->body.bytes + in->type.bytes + in->id.bytes + in->headers.bytes;
    uint8_t *dst = malloc(room);
    assert_non_null(dst);
    size_t bytes = cmq_message_write(dst, in);
    assert_true(bytes <= room);
    uint8_t *exact = wire_copy(dst, bytes);
    struct cmq_mp_reader reader;
    struct cmq_message_full out;
    cmq_mp_reader_init(&reader, cmq_span_make(exact, bytes));
    assert_int_equal(cmq_message_read(&reader, &out), CMQ_OK);
    assert_int_equal(cmq_mp_left(&reader), 0);
    assert_int_equal(out.left_out, in->left_out);
    assert_int_equal(out.text, in->text);
    assert_int_equal(out.expiry_ms, in->expiry_ms);
    expect_part(out.body, in->body);
    expect_part(out.type, in->type);
    expect_part(out.id, in->id);
    expect_part(out.headers, in->headers);
    for (size_t cut = 0; cut < bytes; cut++) {
        uint8_t *piece = wire_copy(exact, cut);
        cmq_mp_reader_init(&reader, cmq_span_make(piece, cut));
        assert_int_equal(cmq_message_read(&reader, &out), CMQ_ERR_MALFORMED);
        assert_ptr_equal(reader.next, piece);
        free(piece);
    }
    free(exact);
    free(dst);
    return bytes;
}

static const struct cmq_span some_headers = {(const uint8_t *)"\x82\xa1k\xa1v\xa1n\xc0", 8};

static void messages_with_any_of_their_parts_come_back(void **state)
{
    (void)state;
    char longest[CMQ_MESSAGE_ID_BYTES_MAX];
    memset(longest, 'x', sizeof longest);
    for (unsigned parts = 0; parts < 64; parts++) {
        struct cmq_message_full message = {
            .text = (parts & 1) != 0,
            .body = (parts & 2) != 0 ? text_span("body") : cmq_span_make(NULL, 0),
            .expiry_ms = (parts & 4) != 0 ? UINT64_MAX : 0,
            .headers = (parts & 8) != 0 ? some_headers : cmq_span_make(NULL, 0),
        };
        if ((parts & 16) != 0)
            message.type = cmq_span_make(longest, CMQ_MESSAGE_TYPE_BYTES_MAX);
        if ((parts & 32) != 0)
            message.id = cmq_span_make(longest, CMQ_MESSAGE_ID_BYTES_MAX);
        size_t bytes = round_trip(&message);
        if (parts < 4) /* only a body: as every reader knows it */
            assert_int_equal(bytes, message.body.bytes + (message.text ? 1 : 2));
    }
    assert_int_equal(round_trip(&(struct cmq_message_full){.left_out = true}), 1);
}

static enum cmq_err read_literal(const char *bytes, size_t count)
{
    struct cmq_message_full message;
    struct cmq_mp_reader reader;
    uint8_t *exact = wire_copy(bytes, count);
    cmq_mp_reader_init(&reader, cmq_span_make(exact, count));
    enum cmq_err err = cmq_message_read(&reader, &message);
    assert_ptr_equal(reader.next, err == CMQ_OK ? exact + count : exact);
    free(exact);
    return err;
}

#define MESSAGE(literal) read_literal(literal, sizeof(literal) - 1)

static void messages_against_the_format_are_refused(void **state)
{
    (void)state;
    assert_int_equal(MESSAGE("\x95\xa1"
                             "b\xa1t\xa1i\x05\x81\xa1k\xc0"),
                     CMQ_OK);
    assert_int_equal(MESSAGE("\x95\xc4\x01"
                             "b\xc0\xc0\xc0\xc0"),
                     CMQ_OK);
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xc0\xc0\x80"), CMQ_OK);
    assert_int_equal(MESSAGE("\x90"), CMQ_ERR_MALFORMED);
    assert_int_equal(MESSAGE("\x94\xa0\xc0\xc0\xc0"), CMQ_ERR_MALFORMED);
    assert_int_equal(MESSAGE("\x96\xa0\xc0\xc0\xc0\xc0\xc0"), CMQ_ERR_MALFORMED);
    assert_int_equal(MESSAGE("\x95\xc0\xc0\xc0\xc0\xc0"), CMQ_ERR_MALFORMED); /* no body */
    assert_int_equal(MESSAGE("\x95\x95\xa0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0"), CMQ_ERR_MALFORMED);
    assert_int_equal(MESSAGE("\x95\xa0\xa0\xc0\xc0\xc0"), CMQ_ERR_MALFORMED);      /* empty type */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xa0\xc0\xc0"), CMQ_ERR_MALFORMED);      /* empty id */
    assert_int_equal(MESSAGE("\x95\xa0\xc4\x01t\xc0\xc0\xc0"), CMQ_ERR_MALFORMED); /* type is bin */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\x05\xc0\xc0"), CMQ_ERR_MALFORMED);      /* id is a number */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xc0\xff\xc0"), CMQ_ERR_MALFORMED);      /* expiry < 0 */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xc0\xa1"
                             "5\xc0"),
                     CMQ_ERR_MALFORMED);                                               /* expiry is text */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xc0\xc0\x90"), CMQ_ERR_MALFORMED);          /* headers: array */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xc0\xc0\x81\x01\xa1v"), CMQ_ERR_MALFORMED); /* header name 1 */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xc0\xc0\x81\xa1k\x01"), CMQ_ERR_MALFORMED); /* header value 1 */
    assert_int_equal(MESSAGE("\x95\xa0\xc0\xc0\xc0\x81\xa1k\x80"), CMQ_ERR_MALFORMED); /* nested */
    assert_int_equal(MESSAGE("\x05"), CMQ_ERR_MALFORMED);
}

static void too_long_types_and_ids_are_refused(void **state)
{
    (void)state;
    uint8_t bytes[200] = "\x95\xa0\xd9";
    struct cmq_message_full message;
    for (unsigned id = 0; id < 2; id++) {
        uint8_t max = id ? CMQ_MESSAGE_ID_BYTES_MAX : CMQ_MESSAGE_TYPE_BYTES_MAX;
        size_t at = 2;
        if (id)
            bytes[at++] = 0xc0;
        bytes[at++] = 0xd9;
        for (uint8_t more = 0; more < 2; more++) {
            bytes[at] = (uint8_t)(max + more);
            memset(bytes + at + 1, 'x', max + more);
            memset(bytes + at + 1 + max + more, 0xc0, 3);
            struct cmq_mp_reader reader;
            cmq_mp_reader_init(&reader, cmq_span_make(bytes, sizeof bytes));
            assert_int_equal(cmq_message_read(&reader, &message), more ? CMQ_ERR_MALFORMED : CMQ_OK);
        }
    }
}

static void changed_bytes_of_a_message_never_give_foreign_spans(void **state)
{
    (void)state;
    const struct cmq_message_full whole = {.text = true,
                                           .body = text_span("body"),
                                           .type = text_span("text/html"),
                                           .id = text_span("id"),
                                           .expiry_ms = 1700000000000,
                                           .headers = some_headers};
    uint8_t bytes[128];
    size_t count = cmq_message_write(bytes, &whole);
    unsigned refused = 0;
    for (size_t at = 0; at < count; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t *exact = wire_copy(bytes, count);
            struct cmq_span all = cmq_span_make(exact, count);
            struct cmq_message_full message;
            struct cmq_mp_reader reader;
            exact[at] = (uint8_t)byte;
            cmq_mp_reader_init(&reader, all);
            if (cmq_message_read(&reader, &message) != CMQ_OK)
                refused++;
            else
                assert_true(wire_inside(message.body, all) && wire_inside(message.type, all) &&
                            wire_inside(message.id, all) && wire_inside(message.headers, all));
            free(exact);
        }
    }
    assert_true(refused > 1000);
}

static void a_request_key_stands_before_the_messages(void **state)
{
    (void)state;
    char key[CMQ_MESSAGE_ID_BYTES_MAX + 1];
    memset(key, 'k', sizeof key);
    for (size_t bytes = 1; bytes <= CMQ_MESSAGE_ID_BYTES_MAX; bytes++) {
        uint8_t messages[CMQ_MESSAGE_KEY_BYTES + CMQ_MESSAGE_ID_BYTES_MAX + 2];
        size_t key_bytes = cmq_message_key_write(messages, cmq_span_make(key, bytes));
        assert_true(key_bytes <= bytes + CMQ_MESSAGE_KEY_BYTES);
        size_t count = key_bytes + append_message(messages + key_bytes, true, text_span("m"));
        struct cmq_mp_reader reader;
        struct cmq_span found;
        cmq_mp_reader_init(&reader, cmq_span_make(messages, count));
        assert_int_equal(cmq_message_key_read(&reader, CMQ_PLAIN_HAS_IDS, &found), CMQ_OK);
        assert_int_equal(found.bytes, 0);
        assert_ptr_equal(reader.next, messages);
        assert_int_equal(cmq_message_key_read(&reader, CMQ_PLAIN_HAS_KEY, &found), CMQ_OK);
        expect_part(found, cmq_span_make(key, bytes));
        assert_ptr_equal(reader.next, messages + key_bytes);
    }
    static const struct cmq_span bad[] = {{(const uint8_t *)"\xa0", 1},
                                          {(const uint8_t *)"\xc4\x01k", 3},
                                          {(const uint8_t *)"\xc0", 1},
                                          {(const uint8_t *)"", 0},
                                          {(const uint8_t *)"\xa2k", 2}};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        struct cmq_mp_reader reader;
        struct cmq_span found;
        cmq_mp_reader_init(&reader, bad[i]);
        assert_int_equal(cmq_message_key_read(&reader, CMQ_PLAIN_HAS_KEY, &found), CMQ_ERR_MALFORMED);
        assert_ptr_equal(reader.next, bad[i].data);
    }
    uint8_t too_long[CMQ_MESSAGE_ID_BYTES_MAX + 3] = {0xd9, CMQ_MESSAGE_ID_BYTES_MAX + 1};
    struct cmq_mp_reader reader;
    struct cmq_span found;
    cmq_mp_reader_init(&reader, cmq_span_make(too_long, sizeof too_long));
    assert_int_equal(cmq_message_key_read(&reader, CMQ_PLAIN_HAS_KEY, &found), CMQ_ERR_MALFORMED);
}

/* ---- plain ---- */

static size_t encode_plain(uint8_t *dst, uint64_t accepted_at_ms, const char *topic)
{
    uint8_t messages[64];
    size_t bytes = append_message(messages, true, text_span("one"));
    bytes += append_message(messages + bytes, false, text_span("two"));
    struct cmq_plain_head head = {.flags = 3, .unit_count = 1, .accepted_at_ms = accepted_at_ms};
    size_t head_bytes = cmq_plain_encode_head(dst, &head, text_span(topic), 2, (uint32_t)bytes);
    assert_true(head_bytes <= CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + strlen(topic));
    memcpy(dst + head_bytes, messages, bytes);
    return head_bytes + bytes;
}

/* Reads all of a plain batch; every span must lie inside. */
static enum cmq_err read_plain(struct cmq_span batch, struct cmq_plain_head *ret_head,
                               struct cmq_plain_unit *ret_unit)
{
    struct cmq_mp_reader units;
    enum cmq_err err = cmq_plain_decode(batch, &units, ret_head);
    for (uint32_t i = 0; err == CMQ_OK && i < ret_head->unit_count; i++) {
        err = cmq_plain_next(&units, ret_unit);
        if (err == CMQ_OK) {
            assert_true(wire_inside(ret_unit->topic, batch));
            assert_true(wire_inside(ret_unit->messages, batch));
            assert_true(ret_unit->topic.bytes >= 1 && ret_unit->topic.bytes <= CMQ_TOPIC_BYTES_MAX);
            assert_true(ret_unit->count <= ret_unit->messages.bytes);
        }
    }
    if (err == CMQ_OK && cmq_mp_left(&units) != 0)
        return CMQ_ERR_MALFORMED;
    return err;
}

static void plain_batch_comes_back(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX];
    char longest[CMQ_TOPIC_BYTES_MAX + 1] = {0};
    memset(longest, 't', CMQ_TOPIC_BYTES_MAX);
    const char *const topics[] = {"t", "orders.eu", longest};
    for (size_t i = 0; i < CMQ_COUNT_OF(topics); i++) {
        size_t count = encode_plain(bytes, UINT64_MAX, topics[i]);
        struct cmq_plain_head head = {0};
        struct cmq_plain_unit unit = {0};
        assert_int_equal(read_plain(cmq_span_make(bytes, count), &head, &unit), CMQ_OK);
        assert_int_equal(head.flags, 3);
        assert_int_equal(head.unit_count, 1);
        assert_int_equal(head.accepted_at_ms, UINT64_MAX);
        assert_int_equal(unit.topic.bytes, strlen(topics[i]));
        assert_memory_equal(unit.topic.data, topics[i], unit.topic.bytes);
        assert_int_equal(unit.count, 2);
        struct cmq_mp_reader reader;
        cmq_mp_reader_init(&reader, unit.messages);
        struct cmq_message message;
        assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
        assert_true(message.text && message.body.bytes == 3 && memcmp(message.body.data, "one", 3) == 0);
        assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
        assert_true(!message.text && message.body.bytes == 3 && memcmp(message.body.data, "two", 3) == 0);
        assert_int_equal(cmq_mp_left(&reader), 0);
    }
}

static void largest_plain_head_fits_into_its_room(void **state)
{
    (void)state;
    char topic[CMQ_TOPIC_BYTES_MAX + 1] = {0};
    memset(topic, 't', CMQ_TOPIC_BYTES_MAX);
    uint8_t *dst = malloc(CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + CMQ_TOPIC_BYTES_MAX);
    assert_non_null(dst);
    struct cmq_plain_head head = {.flags = UINT32_MAX, .unit_count = 1, .accepted_at_ms = UINT64_MAX};
    size_t bytes = cmq_plain_encode_head(dst, &head, text_span(topic), UINT32_MAX, UINT32_MAX);
    assert_true(bytes > CMQ_TOPIC_BYTES_MAX);
    free(dst);
}

static void every_cut_of_a_plain_batch_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX];
    size_t count = encode_plain(bytes, 1700000000000, "orders");
    for (size_t cut = 0; cut < count; cut++) {
        uint8_t *exact = wire_copy(bytes, cut);
        struct cmq_plain_head head = {0};
        struct cmq_plain_unit unit;
        assert_int_equal(read_plain(cmq_span_make(exact, cut), &head, &unit), CMQ_ERR_MALFORMED);
        free(exact);
    }
    bytes[count] = 0xc0;
    struct cmq_plain_head head = {0};
    struct cmq_plain_unit unit;
    assert_int_equal(read_plain(cmq_span_make(bytes, count + 1), &head, &unit), CMQ_ERR_MALFORMED);
}

static void changed_bytes_of_a_plain_batch_never_give_foreign_spans(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX];
    size_t count = encode_plain(bytes, 1700000000000, "orders");
    unsigned refused = 0;
    for (size_t at = 0; at < count; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t *exact = wire_copy(bytes, count);
            exact[at] = (uint8_t)byte;
            struct cmq_plain_head head = {0};
            struct cmq_plain_unit unit;
            refused += read_plain(cmq_span_make(exact, count), &head, &unit) != CMQ_OK;
            free(exact);
        }
    }
    assert_true(refused > 1000);
}

static enum cmq_err decode_plain_literal(const char *bytes, size_t count)
{
    struct cmq_plain_head head = {0};
    struct cmq_plain_unit unit;
    uint8_t *exact = wire_copy(bytes, count);
    enum cmq_err err = read_plain(cmq_span_make(exact, count), &head, &unit);
    free(exact);
    return err;
}

#define PLAIN(literal) decode_plain_literal(literal, sizeof(literal) - 1)

static void plain_batches_against_the_format_are_refused(void **state)
{
    (void)state;
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x91\x93\xa1t\x01\xc4\x01\xa0"), CMQ_OK);
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x90"), CMQ_OK);
    assert_int_equal(PLAIN("\x94\x02\x00\x05\x90"), CMQ_ERR_VERSION);
    assert_int_equal(PLAIN("\x95\x02\x00\x05\x90\x90"), CMQ_ERR_VERSION);
    assert_int_equal(PLAIN("\x95\x01\x00\x05\x90\x90"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x93\x01\x00\x05"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x93\x01\x00\x05\x90"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x92\x93\xa1t\x01\xc4\x01\xa0\x93\xa1t\x01\xc4\x01\xa0"), CMQ_OK);
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x92\x94\xa1t\x01\xc4\x01\xa0\x93\xa1t\x01\xc4\x01\xa0"),
                     CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x90"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x94\x01\xcf\0\0\0\1\0\0\0\0\x05\x90"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x91\x93\xa0\x01\xc4\x01\xa0"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x91\x93\xa1t\x02\xc4\x01\xa0"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x91\x93\xa1t\x01\xa1\xa0"), CMQ_ERR_MALFORMED);
    assert_int_equal(PLAIN("\x94\x01\x00\x05\x91\x92\xa1t\x01"), CMQ_ERR_MALFORMED);
}

static void topics_over_255_bytes_and_units_over_1024_are_refused(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX] = "\x94\x01\x00\x05\x91\x93\xda\x01\x00";
    memset(bytes + 9, 't', 256);
    memcpy(bytes + 9 + 256, "\x01\xc4\x01\xa0", 4);
    struct cmq_plain_head head = {0};
    struct cmq_plain_unit unit;
    assert_int_equal(read_plain(cmq_span_make(bytes, 9 + 256 + 4), &head, &unit), CMQ_ERR_MALFORMED);
    memcpy(bytes, "\x94\x01\x00\x05\xdc\x04\x01", 7);
    struct cmq_mp_reader units;
    assert_int_equal(cmq_plain_decode(cmq_span_make(bytes, sizeof bytes), &units, &head), CMQ_ERR_TOO_BIG);
    bytes[6] = 0x00;
    assert_int_equal(cmq_plain_decode(cmq_span_make(bytes, sizeof bytes), &units, &head), CMQ_OK);
    assert_int_equal(head.unit_count, CMQ_BATCH_UNITS_MAX);
}

/* ---- sealed ---- */

static struct cmq_sealed_unit make_unit(uint8_t seed, uint8_t topic_bytes, uint32_t count,
                                        size_t sealed_bytes)
{
    struct cmq_sealed_unit unit = {
        .topic_bytes = topic_bytes, .count = count, .flags = 1, .suite = CMQ_SUITE_XAES_256_GCM};
    memset(unit.topic, 'a' + seed, topic_bytes);
    memset(unit.key_id, 0x10 + seed, sizeof unit.key_id);
    memset(unit.nonce, 0x20 + seed, sizeof unit.nonce);
    unit.sealed.bytes = sealed_bytes;
    return unit;
}

static size_t encode_sealed(uint8_t *dst, const struct cmq_sealed_unit *units, uint32_t count)
{
    struct cmq_sealed_head head = {
        .seq = UINT64_MAX - 1, .accepted_at_ms = 1700000000000, .unit_count = count};
    size_t bytes = cmq_sealed_encode_head(dst, &head);
    assert_true(bytes <= CMQ_BATCH_HEAD_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        size_t unit_bytes = cmq_sealed_encode_unit(dst + bytes, &units[i]);
        assert_true(unit_bytes <= CMQ_SEALED_UNIT_BYTES + units[i].topic_bytes);
        bytes += unit_bytes;
        memset(dst + bytes, 0x90 + (int)i, units[i].sealed.bytes);
        bytes += units[i].sealed.bytes;
    }
    return bytes;
}

static enum cmq_err read_sealed(struct cmq_span batch, struct cmq_sealed_head *ret_head,
                                struct cmq_sealed_unit *ret_units, uint32_t units_max)
{
    struct cmq_mp_reader units;
    enum cmq_err err = cmq_sealed_decode(batch, &units, ret_head);
    for (uint32_t i = 0; err == CMQ_OK && i < ret_head->unit_count; i++) {
        struct cmq_sealed_unit unit = {0};
        err = cmq_sealed_next(&units, &unit);
        if (err == CMQ_OK) {
            assert_true(wire_inside(unit.sealed, batch));
            assert_true(unit.sealed.bytes >= CMQ_TAG_BYTES && unit.topic_bytes >= 1);
            assert_true(unit.count <= unit.sealed.bytes - CMQ_TAG_BYTES);
        }
        if (err == CMQ_OK && i < units_max)
            ret_units[i] = unit;
    }
    if (err == CMQ_OK && cmq_mp_left(&units) != 0)
        return CMQ_ERR_MALFORMED;
    return err;
}

static void sealed_batch_comes_back(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX];
    struct cmq_sealed_unit in[2] = {make_unit(0, 255, 20, 300), make_unit(1, 1, 0, CMQ_TAG_BYTES)};
    struct cmq_sealed_unit out[2];
    size_t count = encode_sealed(bytes, in, 2);
    struct cmq_sealed_head head;
    assert_int_equal(read_sealed(cmq_span_make(bytes, count), &head, out, 2), CMQ_OK);
    assert_int_equal(head.seq, UINT64_MAX - 1);
    assert_int_equal(head.accepted_at_ms, 1700000000000);
    assert_int_equal(head.unit_count, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(out[i].topic_bytes, in[i].topic_bytes);
        assert_memory_equal(out[i].topic, in[i].topic, in[i].topic_bytes);
        assert_int_equal(out[i].count, in[i].count);
        assert_int_equal(out[i].flags, in[i].flags);
        assert_int_equal(out[i].suite, in[i].suite);
        assert_memory_equal(out[i].key_id, in[i].key_id, CMQ_KEY_ID_BYTES);
        assert_memory_equal(out[i].nonce, in[i].nonce, CMQ_NONCE_BYTES);
        assert_int_equal(out[i].sealed.bytes, in[i].sealed.bytes);
        assert_int_equal(out[i].sealed.data[0], 0x90 + i);
    }
    assert_ptr_equal(out[1].sealed.data + out[1].sealed.bytes, bytes + count);
}

static void every_cut_of_a_sealed_batch_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX];
    struct cmq_sealed_unit units[2] = {make_unit(0, 6, 2, 40), make_unit(1, 3, 1, 20)};
    size_t count = encode_sealed(bytes, units, 2);
    for (size_t cut = 0; cut < count; cut++) {
        uint8_t *exact = wire_copy(bytes, cut);
        struct cmq_sealed_head head;
        assert_int_equal(read_sealed(cmq_span_make(exact, cut), &head, NULL, 0), CMQ_ERR_MALFORMED);
        free(exact);
    }
}

static void changed_bytes_of_a_sealed_batch_never_give_foreign_spans(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX];
    struct cmq_sealed_unit units[2] = {make_unit(0, 6, 2, 40), make_unit(1, 3, 1, 20)};
    size_t count = encode_sealed(bytes, units, 2);
    unsigned refused = 0;
    for (size_t at = 0; at < count; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t *exact = wire_copy(bytes, count);
            exact[at] = (uint8_t)byte;
            struct cmq_sealed_head head;
            refused += read_sealed(cmq_span_make(exact, count), &head, NULL, 0) != CMQ_OK;
            free(exact);
        }
    }
    assert_true(refused > 1000);
}

static void sealed_units_against_the_format_are_refused(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_MAX];
    struct cmq_sealed_head head;
    struct cmq_sealed_unit unit = make_unit(0, 1, 0, CMQ_TAG_BYTES - 1);
    size_t count = encode_sealed(bytes, &unit, 1);
    assert_int_equal(read_sealed(cmq_span_make(bytes, count), &head, NULL, 0), CMQ_ERR_MALFORMED);
    unit = make_unit(0, 1, 5, CMQ_TAG_BYTES + 4);
    count = encode_sealed(bytes, &unit, 1);
    assert_int_equal(read_sealed(cmq_span_make(bytes, count), &head, NULL, 0), CMQ_ERR_MALFORMED);
    unit = make_unit(0, 1, 4, CMQ_TAG_BYTES + 4);
    count = encode_sealed(bytes, &unit, 1);
    assert_int_equal(read_sealed(cmq_span_make(bytes, count), &head, NULL, 0), CMQ_OK);
    bytes[1] = CMQ_BATCH_VERSION + 1;
    assert_int_equal(read_sealed(cmq_span_make(bytes, count), &head, NULL, 0), CMQ_ERR_VERSION);
    /* a key id of 15 bytes: shorten the bin and drop its last byte */
    bytes[1] = CMQ_BATCH_VERSION;
    uint8_t *key_id = memchr(bytes, 0xc4, count);
    assert_non_null(key_id);
    key_id[1]--;
    memmove(key_id + 17, key_id + 18, count - (size_t)(key_id + 18 - bytes));
    assert_int_equal(read_sealed(cmq_span_make(bytes, count - 1), &head, NULL, 0), CMQ_ERR_MALFORMED);
}

/* ---- AAD ---- */

static void aad_has_the_documented_bytes(void **state)
{
    (void)state;
    struct cmq_sealed_head head = {.seq = 0x0102030405060708, .accepted_at_ms = 0x1112, .unit_count = 9};
    struct cmq_sealed_unit unit = make_unit(0, 2, 0x2122, 99);
    unit.flags = 0x31;
    static const uint8_t expected[] =
        "\x08\0\0\0\x01\0\0\0\0\0\0\0"
        "\x08\0\0\0\x01\0\0\0\0\0\0\0"
        "\x10\0\0\0\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10"
        "\x08\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01"
        "\x02\0\0\0aa"
        "\x08\0\0\0\x22\x21\0\0\0\0\0\0"
        "\x08\0\0\0\x12\x11\0\0\0\0\0\0"
        "\x08\0\0\0\x31\0\0\0\0\0\0";
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    assert_int_equal(cmq_sealed_aad(aad, &head, &unit), sizeof expected);
    assert_memory_equal(aad, expected, sizeof expected);
    unit = make_unit(0, 255, 1, 99);
    assert_int_equal(cmq_sealed_aad(aad, &head, &unit), CMQ_BATCH_AAD_BYTES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_every_head_size_come_back),
        cmocka_unit_test(cut_messages_are_refused_and_the_reader_stays),
        cmocka_unit_test(values_other_than_str_and_bin_are_no_messages),
        cmocka_unit_test(messages_with_any_of_their_parts_come_back),
        cmocka_unit_test(messages_against_the_format_are_refused),
        cmocka_unit_test(too_long_types_and_ids_are_refused),
        cmocka_unit_test(changed_bytes_of_a_message_never_give_foreign_spans),
        cmocka_unit_test(a_request_key_stands_before_the_messages),
        cmocka_unit_test(plain_batch_comes_back),
        cmocka_unit_test(largest_plain_head_fits_into_its_room),
        cmocka_unit_test(every_cut_of_a_plain_batch_is_refused),
        cmocka_unit_test(changed_bytes_of_a_plain_batch_never_give_foreign_spans),
        cmocka_unit_test(plain_batches_against_the_format_are_refused),
        cmocka_unit_test(topics_over_255_bytes_and_units_over_1024_are_refused),
        cmocka_unit_test(sealed_batch_comes_back),
        cmocka_unit_test(every_cut_of_a_sealed_batch_is_refused),
        cmocka_unit_test(changed_bytes_of_a_sealed_batch_never_give_foreign_spans),
        cmocka_unit_test(sealed_units_against_the_format_are_refused),
        cmocka_unit_test(aad_has_the_documented_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
