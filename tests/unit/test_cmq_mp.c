/* Unit tests of cmq_mp. The reader is held against msgpack-c's unpacker on random and mutated bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <msgpack.h>

#include "common/wire/cmq_mp.h"
#include "tests/unit/wire_support.h"

#define SPAN(literal) cmq_span_make(literal, sizeof(literal) - 1)

static struct cmq_mp_reader reader_of(struct cmq_span span)
{
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, span);
    return reader;
}

static void every_type_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
        enum cmq_mp_type type;
        uint64_t number; /* of scalars; elements; bytes of a body */
    } cases[] = {
#define CASE(literal, type, number) {literal, sizeof(literal) - 1, type, number}
        CASE("\xc0", CMQ_MP_NIL, 0),
        CASE("\xc2", CMQ_MP_BOOL, 0),
        CASE("\xc3", CMQ_MP_BOOL, 1),
        CASE("\x00", CMQ_MP_UINT, 0),
        CASE("\x7f", CMQ_MP_UINT, 127),
        CASE("\xcc\xff", CMQ_MP_UINT, 255),
        CASE("\xcd\x01\x02", CMQ_MP_UINT, 0x0102),
        CASE("\xce\x01\x02\x03\x04", CMQ_MP_UINT, 0x01020304),
        CASE("\xcf\xff\x02\x03\x04\x05\x06\x07\x08", CMQ_MP_UINT, 0xff02030405060708u),
        CASE("\xff", CMQ_MP_INT, UINT64_MAX),
        CASE("\xe0", CMQ_MP_INT, (uint64_t)-32),
        CASE("\xd0\x80", CMQ_MP_INT, (uint64_t)-128),
        CASE("\xd0\x05", CMQ_MP_UINT, 5),
        CASE("\xd1\x80\x00", CMQ_MP_INT, (uint64_t)-32768),
        CASE("\xd2\xff\xff\xff\xfe", CMQ_MP_INT, (uint64_t)-2),
        CASE("\xd3\x80\x00\x00\x00\x00\x00\x00\x00", CMQ_MP_INT, UINT64_C(1) << 63),
        CASE("\xca\x3f\x80\x00\x00", CMQ_MP_FLOAT, 0),
        CASE("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", CMQ_MP_FLOAT, 0),
        CASE("\xa0", CMQ_MP_STR, 0),
        CASE("\xa2xy", CMQ_MP_STR, 2),
        CASE("\xd9\x01x", CMQ_MP_STR, 1),
        CASE("\xda\x00\x01x", CMQ_MP_STR, 1),
        CASE("\xdb\x00\x00\x00\x01x", CMQ_MP_STR, 1),
        CASE("\xc4\x01x", CMQ_MP_BIN, 1),
        CASE("\xc5\x00\x01x", CMQ_MP_BIN, 1),
        CASE("\xc6\x00\x00\x00\x02xy", CMQ_MP_BIN, 2),
        CASE("\x92\xc0\xc0", CMQ_MP_ARRAY, 2),
        CASE("\xdc\x00\x01\xc0", CMQ_MP_ARRAY, 1),
        CASE("\xdd\x00\x00\x00\x01\xc0", CMQ_MP_ARRAY, 1),
        CASE("\x81\xc0\xc0", CMQ_MP_MAP, 1),
        CASE("\xde\x00\x01\xc0\xc0", CMQ_MP_MAP, 1),
        CASE("\xdf\x00\x00\x00\x01\xc0\xc0", CMQ_MP_MAP, 1),
        CASE("\xd4\x07x", CMQ_MP_EXT, 1),
        CASE("\xd5\x07xy", CMQ_MP_EXT, 2),
        CASE("\xd6\x07wxyz", CMQ_MP_EXT, 4),
        CASE("\xd7\x07wxyzwxyz", CMQ_MP_EXT, 8),
        CASE("\xd8\x07wxyzwxyzwxyzwxyz", CMQ_MP_EXT, 16),
        CASE("\xc7\x01\x07x", CMQ_MP_EXT, 1),
        CASE("\xc8\x00\x01\x07x", CMQ_MP_EXT, 1),
        CASE("\xc9\x00\x00\x00\x01\x07x", CMQ_MP_EXT, 1),
#undef CASE
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++) {
        uint8_t *bytes = wire_copy(cases[i].bytes, cases[i].count);
        struct cmq_mp_reader reader = reader_of(cmq_span_make(bytes, cases[i].count));
        struct cmq_mp_value value;
        assert_int_equal(cmq_mp_read(&reader, &value), CMQ_OK);
        assert_int_equal(value.type, cases[i].type);
        uint64_t number = value.number + value.count + value.body.bytes;
        assert_int_equal(number, cases[i].number);
        bool container = value.type == CMQ_MP_ARRAY || value.type == CMQ_MP_MAP;
        assert_true(container || cmq_mp_left(&reader) == 0);
        if (value.body.bytes != 0)
            assert_ptr_equal(value.body.data + value.body.bytes, bytes + cases[i].count);
        free(bytes);
    }
}

static void every_truncation_is_refused_and_the_reader_stays(void **state)
{
    (void)state;
    static const struct cmq_span wholes[] = {
        {(const uint8_t *)"\xcf\1\2\3\4\5\6\7\x08", 9},
        {(const uint8_t *)"\xdb\0\0\0\3xyz", 8},
        {(const uint8_t *)"\xc6\0\0\0\3xyz", 8},
        {(const uint8_t *)"\xc9\0\0\0\3\7xyz", 9},
        {(const uint8_t *)"\xdf\0\0\0\1\xc0\xc0", 7},
        {(const uint8_t *)"\xdd\0\0\0\2\xc0\xc0", 7},
        {(const uint8_t *)"\xa3xyz", 4},
        {(const uint8_t *)"\x92\xc0\xc0", 3},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(wholes); i++) {
        for (size_t bytes = 0; bytes < wholes[i].bytes; bytes++) {
            uint8_t *part = wire_copy(wholes[i].data, bytes);
            struct cmq_mp_reader reader = reader_of(cmq_span_make(part, bytes));
            struct cmq_mp_value value = {.number = 77};
            assert_int_equal(cmq_mp_read(&reader, &value), CMQ_ERR_MALFORMED);
            assert_ptr_equal(reader.next, part);
            assert_int_equal(value.number, 77);
            free(part);
        }
    }
}

static void unused_tag_and_empty_input_are_refused(void **state)
{
    (void)state;
    struct cmq_mp_value value;
    struct cmq_mp_reader reader = reader_of(SPAN("\xc1\xc0"));
    assert_int_equal(cmq_mp_read(&reader, &value), CMQ_ERR_MALFORMED);
    reader = reader_of((struct cmq_span){0});
    assert_int_equal(cmq_mp_read(&reader, &value), CMQ_ERR_MALFORMED);
    assert_int_equal(cmq_mp_skip(&reader), CMQ_ERR_MALFORMED);
}

static void counts_beyond_the_bytes_left_are_refused(void **state)
{
    (void)state;
    struct cmq_mp_value value;
    struct cmq_mp_reader reader = reader_of(SPAN("\xdd\xff\xff\xff\xff\xc0\xc0\xc0\xc0"));
    assert_int_equal(cmq_mp_read(&reader, &value), CMQ_ERR_MALFORMED);
    reader = reader_of(SPAN("\xdf\x80\x00\x00\x02\xc0\xc0\xc0\xc0"));
    assert_int_equal(cmq_mp_read(&reader, &value), CMQ_ERR_MALFORMED);
    reader = reader_of(SPAN("\x82\xc0\xc0\xc0"));
    assert_int_equal(cmq_mp_read(&reader, &value), CMQ_ERR_MALFORMED);
}

static void typed_reads_take_their_type_only(void **state)
{
    (void)state;
    static const char one_of_each[] = "\x05\x91\x05\xa1s\xc4\x01"
                                      "b";
    struct cmq_mp_reader reader = reader_of(SPAN(one_of_each));
    uint64_t number = 0;
    uint32_t count = 0;
    struct cmq_span body = {0};
    const uint8_t *begin = reader.next;
    assert_int_equal(cmq_mp_read_array(&reader, &count), CMQ_ERR_MALFORMED);
    assert_int_equal(cmq_mp_read_str(&reader, &body), CMQ_ERR_MALFORMED);
    assert_int_equal(cmq_mp_read_bin(&reader, &body), CMQ_ERR_MALFORMED);
    assert_ptr_equal(reader.next, begin);
    assert_int_equal(cmq_mp_read_uint(&reader, &number), CMQ_OK);
    assert_int_equal(number, 5);
    assert_int_equal(cmq_mp_read_uint(&reader, &number), CMQ_ERR_MALFORMED);
    assert_int_equal(cmq_mp_read_array(&reader, &count), CMQ_OK);
    assert_int_equal(count, 1);
    assert_int_equal(cmq_mp_skip(&reader), CMQ_OK);
    assert_int_equal(cmq_mp_read_bin(&reader, &body), CMQ_ERR_MALFORMED);
    assert_int_equal(cmq_mp_read_str(&reader, &body), CMQ_OK);
    assert_memory_equal(body.data, "s", 1);
    assert_int_equal(cmq_mp_read_str(&reader, &body), CMQ_ERR_MALFORMED);
    assert_int_equal(cmq_mp_read_bin(&reader, &body), CMQ_OK);
    assert_memory_equal(body.data, "b", 1);
    assert_int_equal(cmq_mp_left(&reader), 0);
    assert_int_equal(cmq_mp_read_uint(&(struct cmq_mp_reader){0}, &number), CMQ_ERR_MALFORMED);
    reader = reader_of(SPAN("\xff"));
    assert_int_equal(cmq_mp_read_uint(&reader, &number), CMQ_ERR_MALFORMED);
}

static void skip_moves_over_one_whole_value(void **state)
{
    (void)state;
    struct cmq_mp_reader reader = reader_of(SPAN("\x82\x01\x92\x02\xa1x\x03\x80\x05"));
    assert_int_equal(cmq_mp_skip(&reader), CMQ_OK);
    assert_int_equal(cmq_mp_left(&reader), 1);
    assert_int_equal(*reader.next, 5);
}

static void skip_takes_32_levels_and_refuses_33(void **state)
{
    (void)state;
    uint8_t nested[34];
    memset(nested, 0x91, sizeof nested);
    nested[32] = 0xc0;
    struct cmq_mp_reader reader = reader_of(cmq_span_make(nested, 33));
    assert_int_equal(cmq_mp_skip(&reader), CMQ_OK);
    assert_int_equal(cmq_mp_left(&reader), 0);
    nested[32] = 0x91;
    nested[33] = 0xc0;
    reader = reader_of(cmq_span_make(nested, 34));
    assert_int_equal(cmq_mp_skip(&reader), CMQ_ERR_MALFORMED);
    assert_ptr_equal(reader.next, nested);
}

static bool type_agrees(const struct cmq_mp_value *value, msgpack_object_type theirs)
{
    switch (value->type) {
    case CMQ_MP_NIL:
        return theirs == MSGPACK_OBJECT_NIL;
    case CMQ_MP_BOOL:
        return theirs == MSGPACK_OBJECT_BOOLEAN;
    case CMQ_MP_UINT:
        return theirs == MSGPACK_OBJECT_POSITIVE_INTEGER;
    case CMQ_MP_INT:
        return theirs == MSGPACK_OBJECT_NEGATIVE_INTEGER;
    case CMQ_MP_FLOAT:
        return theirs == MSGPACK_OBJECT_FLOAT32 || theirs == MSGPACK_OBJECT_FLOAT64;
    case CMQ_MP_STR:
        return theirs == MSGPACK_OBJECT_STR;
    case CMQ_MP_BIN:
        return theirs == MSGPACK_OBJECT_BIN;
    case CMQ_MP_ARRAY:
        return theirs == MSGPACK_OBJECT_ARRAY;
    case CMQ_MP_MAP:
        return theirs == MSGPACK_OBJECT_MAP;
    case CMQ_MP_EXT:
        return theirs == MSGPACK_OBJECT_EXT;
    }
    return false;
}

static void check_head(const struct cmq_mp_value *value, const msgpack_object *object)
{
    assert_true(type_agrees(value, object->type));
    if (value->type == CMQ_MP_UINT || value->type == CMQ_MP_INT)
        assert_int_equal(value->number, object->via.u64);
    if (value->type == CMQ_MP_BOOL)
        assert_int_equal(value->number, object->via.boolean);
    if (value->type == CMQ_MP_ARRAY)
        assert_int_equal(value->count, object->via.array.size);
    if (value->type == CMQ_MP_MAP)
        assert_int_equal(value->count, object->via.map.size);
    if (value->type == CMQ_MP_STR) {
        assert_int_equal(value->body.bytes, object->via.str.size);
        assert_memory_equal(value->body.data, object->via.str.ptr, value->body.bytes);
    }
    if (value->type == CMQ_MP_BIN)
        assert_int_equal(value->body.bytes, object->via.bin.size);
    if (value->type == CMQ_MP_EXT)
        assert_int_equal(value->body.bytes, object->via.ext.size);
}

/* Both take the bytes, over the same length, or both refuse them. */
static bool check_agreement(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = wire_copy(data, bytes);
    struct cmq_mp_reader reader = reader_of(cmq_span_make(exact, bytes));
    struct cmq_mp_reader ahead = reader;
    struct cmq_mp_value value;
    enum cmq_err err = cmq_mp_skip(&reader);
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t offset = 0;
    msgpack_unpack_return theirs = msgpack_unpack_next(&unpacked, (const char *)exact, bytes, &offset);
    bool taken = theirs == MSGPACK_UNPACK_SUCCESS || theirs == MSGPACK_UNPACK_EXTRA_BYTES;
    assert_int_equal(err == CMQ_OK, taken);
    if (taken) {
        assert_int_equal(bytes - cmq_mp_left(&reader), offset);
        assert_int_equal(cmq_mp_read(&ahead, &value), CMQ_OK);
        check_head(&value, &unpacked.data);
    }
    msgpack_unpacked_destroy(&unpacked);
    free(exact);
    return taken;
}

/* The library allocates by declared counts: keep 32-bit counts away from it. Our own reader meets them above.
 */
static void tame(uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] == 0xdd || data[i] == 0xdf)
            data[i]--;
    }
}

/* Few enough containers in one draw that 32 levels, where the two differ on purpose, are out of reach. */
static void reader_agrees_with_the_library_on_random_bytes(void **state)
{
    (void)state;
    uint64_t random = 1;
    unsigned taken = 0;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t data[24];
        size_t bytes = wire_random(&random) % sizeof data;
        for (size_t i = 0; i < bytes; i++)
            data[i] = (uint8_t)wire_random(&random);
        tame(data, bytes);
        taken += check_agreement(data, bytes);
    }
    assert_true(taken > 20000);
}

static void reader_agrees_with_the_library_on_mutated_values(void **state)
{
    (void)state;
    static const uint8_t whole[] =
        "\x95\xa3xyz\x82\x01\xc4\x02yz\xa1k\xcd\x01\x02\xd2\xff\xff\xff\x00\xc7\x02\x05yz"
        "\xdc\x00\x02\xcb\x3f\xf0\0\0\0\0\0\0\xc3";
    uint8_t data[sizeof whole - 1];
    assert_true(check_agreement(whole, sizeof data));
    for (size_t i = 0; i < sizeof data; i++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(data, whole, sizeof data);
            data[i] = (uint8_t)byte;
            tame(data, sizeof data);
            (void)check_agreement(data, sizeof data);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(every_truncation_is_refused_and_the_reader_stays),
        cmocka_unit_test(unused_tag_and_empty_input_are_refused),
        cmocka_unit_test(counts_beyond_the_bytes_left_are_refused),
        cmocka_unit_test(typed_reads_take_their_type_only),
        cmocka_unit_test(skip_moves_over_one_whole_value),
        cmocka_unit_test(skip_takes_32_levels_and_refuses_33),
        cmocka_unit_test(reader_agrees_with_the_library_on_random_bytes),
        cmocka_unit_test(reader_agrees_with_the_library_on_mutated_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
