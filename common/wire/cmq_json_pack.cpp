/*
 * The library's own tree is right here: commands are small, and it checks all of the text before anything is packed.
 * No value takes more bytes packed than as text, but for floats (2 characters and a separator become 9 bytes) and the
 * empty text that a number alone is; so three times the text and a head is room for all.
 */
#include <cstdint>
#include <cstring>
#include <new>

#include <simdjson.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* compound literals are C */
extern "C" {
#include "common/wire/cmq_json_pack.h"
#include "common/wire/cmq_mp_out.h"
}
#pragma GCC diagnostic pop

struct cmq_json_packer {
    simdjson::dom::parser parser;
    size_t text_bytes_max;
};

namespace
{

constexpr size_t DEPTH_MAX = 32;
constexpr size_t TEXT_FACTOR = 3;

uint8_t *put(uint8_t *dst, simdjson::dom::element value);

uint8_t *put_string(uint8_t *dst, std::string_view text)
{
    return cmq_mp_put_str(dst, cmq_span_make(text.data(), text.size()));
}

uint8_t *put_float(uint8_t *dst, double number)
{
    uint64_t bits;
    static_assert(sizeof bits == sizeof number, "64-bit floats");
    memcpy(&bits, &number, sizeof bits);
    return cmq_mp_put_tagged(dst, 0xcb, bits, 8);
}

/* Negative, or small enough for both. */
uint8_t *put_int(uint8_t *dst, int64_t number)
{
    if (number >= 0)
        return cmq_mp_put_uint(dst, static_cast<uint64_t>(number));
    return cmq_mp_put_tagged(dst, 0xd3, static_cast<uint64_t>(number), 8);
}

uint8_t *put_array(uint8_t *dst, simdjson::dom::array array)
{
    uint32_t count = 0;
    for (simdjson::dom::element value : array) {
        (void)value;
        count++;
    }
    dst = cmq_mp_put_array(dst, count);
    for (simdjson::dom::element value : array)
        dst = put(dst, value);
    return dst;
}

uint8_t *put_object(uint8_t *dst, simdjson::dom::object object)
{
    uint32_t count = 0;
    for (simdjson::dom::key_value_pair pair : object) {
        (void)pair;
        count++;
    }
    dst = cmq_mp_put_map(dst, count);
    for (simdjson::dom::key_value_pair pair : object)
        dst = put(put_string(dst, pair.key), pair.value);
    return dst;
}

/* Recursion ends at DEPTH_MAX: the parser refuses what is deeper. */
uint8_t *put(uint8_t *dst, simdjson::dom::element value)
{
    using simdjson::dom::element_type;
    switch (value.type()) {
    case element_type::ARRAY:
        return put_array(dst, value.get_array().value_unsafe());
    case element_type::OBJECT:
        return put_object(dst, value.get_object().value_unsafe());
    case element_type::INT64:
        return put_int(dst, value.get_int64().value_unsafe());
    case element_type::UINT64:
        return cmq_mp_put_uint(dst, value.get_uint64().value_unsafe());
    case element_type::DOUBLE:
        return put_float(dst, value.get_double().value_unsafe());
    case element_type::STRING:
        return put_string(dst, value.get_string().value_unsafe());
    case element_type::BOOL:
        return cmq_mp_put_bool(dst, value.get_bool().value_unsafe());
    case element_type::NULL_VALUE:
        break;
    }
    return cmq_mp_put_nil(dst);
}

cmq_err explain(simdjson::error_code failed, cmq_reason *reason)
{
    if (failed == simdjson::MEMALLOC)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    if (failed == simdjson::CAPACITY)
        return cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "the text is larger than the limit");
    return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "not JSON: %s", simdjson::error_message(failed));
}

} // namespace

enum cmq_err cmq_json_packer_new(size_t text_bytes_max, struct cmq_json_packer **ret_packer)
{
    if (text_bytes_max == 0 || text_bytes_max > UINT32_MAX / 2)
        return CMQ_ERR_INVALID;
    cmq_json_packer *packer =
        new (std::nothrow) cmq_json_packer{simdjson::dom::parser(text_bytes_max), text_bytes_max};
    if (packer == nullptr)
        return CMQ_ERR_NOMEM;
    *ret_packer = packer;
    return CMQ_OK;
}

void cmq_json_packer_free(struct cmq_json_packer *packer)
{
    delete packer;
}

enum cmq_err cmq_json_pack(struct cmq_json_packer *packer, struct cmq_span text, struct cmq_buf *dst,
                           struct cmq_reason *reason)
{
    if (text.bytes > packer->text_bytes_max)
        return explain(simdjson::CAPACITY, reason);
    if (text.bytes == 0)
        return explain(simdjson::EMPTY, reason);
    if (text.bytes > packer->parser.capacity() || packer->parser.max_depth() != DEPTH_MAX) {
        simdjson::error_code failed = packer->parser.allocate(
            text.bytes > packer->parser.capacity() ? text.bytes : packer->parser.capacity(), DEPTH_MAX);
        if (failed != simdjson::SUCCESS)
            return explain(failed, reason);
    }
    simdjson::dom::element root;
    simdjson::error_code failed = packer->parser.parse(text.data, text.bytes, true).get(root);
    if (failed != simdjson::SUCCESS)
        return explain(failed, reason);
    cmq_err err = cmq_buf_reserve(dst, text.bytes * TEXT_FACTOR + CMQ_MP_HEAD_BYTES_MAX);
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "%s", cmq_err_text(err));
    uint8_t *begin = dst->data + dst->bytes;
    dst->bytes += static_cast<size_t>(put(begin, root) - begin);
    return CMQ_OK;
}
