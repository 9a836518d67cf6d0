#include "common/wire/cmq_mp.h"

enum { SKIP_DEPTH_MAX = 32 };

/* Where the next value comes from. A copy of the reader: it is committed only when the value is whole. */
struct cursor {
    const uint8_t *next;
    size_t left;
};

static bool take_number(struct cursor *cursor, unsigned bytes, uint64_t *ret_number)
{
    if (cursor->left < bytes)
        return false;
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number = number << 8 | cmq_mp_load(cursor->next + i);
    cursor->next += bytes;
    cursor->left -= bytes;
    *ret_number = number;
    return true;
}

static bool take_body(struct cursor *cursor, uint64_t bytes, struct cmq_span *ret_body)
{
    if (cursor->left < bytes)
        return false;
    *ret_body = cmq_span_make(cursor->next, (size_t)bytes);
    cursor->next += bytes;
    cursor->left -= (size_t)bytes;
    return true;
}

static bool take_sized(struct cursor *cursor, enum cmq_mp_type type, unsigned size_bytes,
                       struct cmq_mp_value *value)
{
    uint64_t bytes;
    value->type = type;
    return take_number(cursor, size_bytes, &bytes) && take_body(cursor, bytes, &value->body);
}

static bool take_ext(struct cursor *cursor, uint64_t bytes, struct cmq_mp_value *value)
{
    uint64_t ext_type;
    value->type = CMQ_MP_EXT;
    return take_number(cursor, 1, &ext_type) && take_body(cursor, bytes, &value->body);
}

static bool take_sized_ext(struct cursor *cursor, unsigned size_bytes, struct cmq_mp_value *value)
{
    uint64_t bytes;
    return take_number(cursor, size_bytes, &bytes) && take_ext(cursor, bytes, value);
}

/* Every element takes a byte at least, so a count beyond what is left is a lie. */
static bool set_count(const struct cursor *cursor, enum cmq_mp_type type, uint64_t count,
                      struct cmq_mp_value *value)
{
    value->type = type;
    value->count = (uint32_t)count;
    return count <= (type == CMQ_MP_MAP ? cursor->left / 2 : cursor->left);
}

static bool take_count(struct cursor *cursor, enum cmq_mp_type type, unsigned size_bytes,
                       struct cmq_mp_value *value)
{
    uint64_t count;
    return take_number(cursor, size_bytes, &count) && set_count(cursor, type, count, value);
}

static bool take_uint(struct cursor *cursor, unsigned bytes, struct cmq_mp_value *value)
{
    value->type = CMQ_MP_UINT;
    return take_number(cursor, bytes, &value->number);
}

static bool take_int(struct cursor *cursor, unsigned bytes, struct cmq_mp_value *value)
{
    uint64_t number;
    if (!take_number(cursor, bytes, &number))
        return false;
    uint64_t sign = UINT64_C(1) << (bytes * 8 - 1);
    value->number = (number ^ sign) - sign;
    value->type = (number & sign) != 0 ? CMQ_MP_INT : CMQ_MP_UINT;
    return true;
}

static bool take_float(struct cursor *cursor, unsigned bytes, struct cmq_mp_value *value)
{
    uint64_t bits;
    value->type = CMQ_MP_FLOAT;
    return take_number(cursor, bytes, &bits);
}

static bool set_number(enum cmq_mp_type type, uint64_t number, struct cmq_mp_value *value)
{
    value->type = type;
    value->number = number;
    return true;
}

/* Tags 0xc0 to 0xdf. The table is the one of the specification. */
static bool take_tagged(struct cursor *cursor, uint8_t tag, struct cmq_mp_value *value)
{
    unsigned low = tag & 3u;
    switch (tag) {
    case 0xc0:
        return set_number(CMQ_MP_NIL, 0, value);
    case 0xc2:
    case 0xc3:
        return set_number(CMQ_MP_BOOL, tag & 1u, value);
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return take_sized(cursor, CMQ_MP_BIN, 1u << low, value);
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return take_sized_ext(cursor, 1u << (tag - 0xc7u), value);
    case 0xca:
    case 0xcb:
        return take_float(cursor, tag == 0xca ? 4 : 8, value);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return take_uint(cursor, 1u << low, value);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return take_int(cursor, 1u << low, value);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return take_ext(cursor, 1u << (tag - 0xd4u), value);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_sized(cursor, CMQ_MP_STR, 1u << (tag - 0xd9u), value);
    case 0xdc:
    case 0xdd:
        return take_count(cursor, CMQ_MP_ARRAY, 2u << (tag - 0xdcu), value);
    case 0xde:
    case 0xdf:
        return take_count(cursor, CMQ_MP_MAP, 2u << (tag - 0xdeu), value);
    default: /* 0xc1 is never used */
        return false;
    }
}

static bool take_value(struct cursor *cursor, struct cmq_mp_value *value)
{
    uint64_t number;
    if (!take_number(cursor, 1, &number))
        return false;
    uint8_t tag = (uint8_t)number;
    if (tag < 0x80)
        return set_number(CMQ_MP_UINT, tag, value);
    if (tag < 0x90)
        return set_count(cursor, CMQ_MP_MAP, tag & 0x0fu, value);
    if (tag < 0xa0)
        return set_count(cursor, CMQ_MP_ARRAY, tag & 0x0fu, value);
    if (tag < 0xc0) {
        value->type = CMQ_MP_STR;
        return take_body(cursor, tag & 0x1fu, &value->body);
    }
    if (tag >= 0xe0)
        return set_number(CMQ_MP_INT, (uint64_t)(int64_t)(int8_t)tag, value);
    return take_tagged(cursor, tag, value);
}

enum cmq_err cmq_mp_read(struct cmq_mp_reader *reader, struct cmq_mp_value *ret_value)
{
    struct cursor cursor = {.next = reader->next, .left = cmq_mp_left(reader)};
    struct cmq_mp_value value = {0};
    if (!take_value(&cursor, &value))
        return CMQ_ERR_MALFORMED;
    reader->next = cursor.next;
    *ret_value = value;
    return CMQ_OK;
}

/* Reads a value of the wanted type, or leaves the reader where it was. */
static enum cmq_err read_typed(struct cmq_mp_reader *reader, enum cmq_mp_type type,
                               struct cmq_mp_value *ret_value)
{
    struct cmq_mp_reader ahead = *reader;
    enum cmq_err err = cmq_mp_read(&ahead, ret_value);
    if (err != CMQ_OK)
        return err;
    if (ret_value->type != type)
        return CMQ_ERR_MALFORMED;
    *reader = ahead;
    return CMQ_OK;
}

enum cmq_err cmq_mp_read_uint(struct cmq_mp_reader *reader, uint64_t *ret_number)
{
    struct cmq_mp_value value;
    enum cmq_err err = read_typed(reader, CMQ_MP_UINT, &value);
    if (err == CMQ_OK)
        *ret_number = value.number;
    return err;
}

enum cmq_err cmq_mp_read_array(struct cmq_mp_reader *reader, uint32_t *ret_count)
{
    struct cmq_mp_value value;
    enum cmq_err err = read_typed(reader, CMQ_MP_ARRAY, &value);
    if (err == CMQ_OK)
        *ret_count = value.count;
    return err;
}

enum cmq_err cmq_mp_read_str(struct cmq_mp_reader *reader, struct cmq_span *ret_body)
{
    struct cmq_mp_value value;
    enum cmq_err err = read_typed(reader, CMQ_MP_STR, &value);
    if (err == CMQ_OK)
        *ret_body = value.body;
    return err;
}

enum cmq_err cmq_mp_read_bin(struct cmq_mp_reader *reader, struct cmq_span *ret_body)
{
    struct cmq_mp_value value;
    enum cmq_err err = read_typed(reader, CMQ_MP_BIN, &value);
    if (err == CMQ_OK)
        *ret_body = value.body;
    return err;
}

enum cmq_err cmq_mp_skip(struct cmq_mp_reader *reader)
{
    struct cmq_mp_reader ahead = *reader;
    uint64_t values_left[SKIP_DEPTH_MAX + 1]; /* per level; level 0 is the value itself */
    unsigned level = 0;
    values_left[0] = 1;
    for (;;) {
        while (values_left[level] == 0) {
            if (level == 0) {
                *reader = ahead;
                return CMQ_OK;
            }
            level--;
        }
        values_left[level]--;
        struct cmq_mp_value value;
        enum cmq_err err = cmq_mp_read(&ahead, &value);
        if (err != CMQ_OK)
            return err;
        if (value.type != CMQ_MP_ARRAY && value.type != CMQ_MP_MAP)
            continue;
        if (level == SKIP_DEPTH_MAX)
            return CMQ_ERR_MALFORMED;
        values_left[++level] = value.type == CMQ_MP_MAP ? 2ull * value.count : value.count;
    }
}
