#include "common/wire/cmq_batch.h"

#include <msgpack/pack.h>
#include <string.h>

enum {
    PLAIN_HEAD_VALUES = 4,
    PLAIN_UNIT_VALUES = 3,
    SEALED_HEAD_VALUES = 4,
    SEALED_UNIT_VALUES = 7,
    MESSAGE_VALUES = 5,
};

/* ---- packing: the library writes to the caller's memory, whose size the contract guarantees ---- */

static int write_bytes(void *next, const char *bytes, size_t count)
{
    uint8_t **dst = next;
    memcpy(*dst, bytes, count);
    *dst += count;
    return 0;
}

static void pack_str(msgpack_packer *packer, struct cmq_span text)
{
    (void)msgpack_pack_str(packer, text.bytes);
    if (text.bytes != 0)
        (void)msgpack_pack_str_body(packer, text.data, text.bytes);
}

static void pack_bin(msgpack_packer *packer, const void *data, size_t bytes)
{
    (void)msgpack_pack_bin(packer, bytes);
    if (bytes != 0)
        (void)msgpack_pack_bin_body(packer, data, bytes);
}

size_t cmq_message_head(uint8_t *ret_head, bool text, uint32_t body_bytes)
{
    uint8_t *next = ret_head;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &next, write_bytes);
    if (text)
        (void)msgpack_pack_str(&packer, body_bytes);
    else
        (void)msgpack_pack_bin(&packer, body_bytes);
    return (size_t)(next - ret_head);
}

static bool has_parts(const struct cmq_message_full *message)
{
    return message->type.bytes != 0 || message->id.bytes != 0 || message->expiry_ms != 0 ||
           message->headers.bytes != 0;
}

static void pack_body(msgpack_packer *packer, const struct cmq_message_full *message)
{
    if (message->text)
        pack_str(packer, message->body);
    else
        pack_bin(packer, message->body.data, message->body.bytes);
}

static void pack_str_or_nil(msgpack_packer *packer, struct cmq_span text)
{
    if (text.bytes != 0)
        pack_str(packer, text);
    else
        (void)msgpack_pack_nil(packer);
}

size_t cmq_message_write(uint8_t *dst, const struct cmq_message_full *message)
{
    uint8_t *next = dst;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &next, write_bytes);
    if (message->left_out) {
        (void)msgpack_pack_nil(&packer);
    } else if (!has_parts(message)) {
        pack_body(&packer, message);
    } else {
        cmq_assert(message->type.bytes <= CMQ_MESSAGE_TYPE_BYTES_MAX &&
                   message->id.bytes <= CMQ_MESSAGE_ID_BYTES_MAX);
        (void)msgpack_pack_array(&packer, MESSAGE_VALUES);
        pack_body(&packer, message);
        pack_str_or_nil(&packer, message->type);
        pack_str_or_nil(&packer, message->id);
        if (message->expiry_ms != 0)
            (void)msgpack_pack_uint64(&packer, message->expiry_ms);
        else
            (void)msgpack_pack_nil(&packer);
        if (message->headers.bytes != 0)
            (void)write_bytes(&next, (const char *)message->headers.data, message->headers.bytes);
        else
            (void)msgpack_pack_nil(&packer);
    }
    return (size_t)(next - dst);
}

size_t cmq_message_key_write(uint8_t *dst, struct cmq_span key)
{
    cmq_assert(key.bytes >= 1 && key.bytes <= CMQ_MESSAGE_ID_BYTES_MAX);
    uint8_t *next = dst;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &next, write_bytes);
    pack_str(&packer, key);
    return (size_t)(next - dst);
}

size_t cmq_plain_encode_head(uint8_t *dst, const struct cmq_plain_head *head, struct cmq_span topic,
                             uint32_t count, uint32_t messages_bytes)
{
    cmq_assert(head->unit_count == 1 && topic.bytes >= 1 && topic.bytes <= CMQ_TOPIC_BYTES_MAX);
    uint8_t *next = dst;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &next, write_bytes);
    (void)msgpack_pack_array(&packer, PLAIN_HEAD_VALUES);
    (void)msgpack_pack_uint32(&packer, CMQ_BATCH_VERSION);
    (void)msgpack_pack_uint32(&packer, head->flags);
    (void)msgpack_pack_uint64(&packer, head->accepted_at_ms);
    (void)msgpack_pack_array(&packer, 1);
    (void)msgpack_pack_array(&packer, PLAIN_UNIT_VALUES);
    pack_str(&packer, topic);
    (void)msgpack_pack_uint32(&packer, count);
    (void)msgpack_pack_bin(&packer, messages_bytes);
    return (size_t)(next - dst);
}

size_t cmq_sealed_encode_head(uint8_t *dst, const struct cmq_sealed_head *head)
{
    uint8_t *next = dst;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &next, write_bytes);
    (void)msgpack_pack_array(&packer, SEALED_HEAD_VALUES);
    (void)msgpack_pack_uint32(&packer, CMQ_BATCH_VERSION);
    (void)msgpack_pack_uint64(&packer, head->seq);
    (void)msgpack_pack_uint64(&packer, head->accepted_at_ms);
    (void)msgpack_pack_array(&packer, head->unit_count);
    return (size_t)(next - dst);
}

size_t cmq_sealed_encode_unit(uint8_t *dst, const struct cmq_sealed_unit *unit)
{
    cmq_assert(unit->topic_bytes >= 1 && unit->sealed.bytes <= UINT32_MAX);
    uint8_t *next = dst;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &next, write_bytes);
    (void)msgpack_pack_array(&packer, SEALED_UNIT_VALUES);
    pack_str(&packer, cmq_span_make(unit->topic, unit->topic_bytes));
    (void)msgpack_pack_uint32(&packer, unit->count);
    (void)msgpack_pack_uint32(&packer, unit->flags);
    (void)msgpack_pack_uint32(&packer, unit->suite);
    pack_bin(&packer, unit->key_id, sizeof unit->key_id);
    pack_bin(&packer, unit->nonce, sizeof unit->nonce);
    (void)msgpack_pack_bin(&packer, unit->sealed.bytes);
    return (size_t)(next - dst);
}

/* ---- reading ---- */

enum cmq_err cmq_message_next_any(struct cmq_mp_reader *reader, struct cmq_message *ret_message)
{
    struct cmq_mp_reader ahead = *reader;
    struct cmq_mp_value value;
    enum cmq_err err = cmq_mp_read(&ahead, &value);
    if (err != CMQ_OK)
        return err;
    if (value.type != CMQ_MP_STR && value.type != CMQ_MP_BIN)
        return CMQ_ERR_MALFORMED;
    ret_message->text = value.type == CMQ_MP_STR;
    ret_message->body = value.body;
    *reader = ahead;
    return CMQ_OK;
}

/* str of 1..bytes_max bytes, or nil */
static enum cmq_err read_str_or_nil(struct cmq_mp_reader *reader, size_t bytes_max, struct cmq_span *ret_text)
{
    struct cmq_mp_value value;
    enum cmq_err err = cmq_mp_read(reader, &value);
    if (err != CMQ_OK)
        return err;
    bool good = value.type == CMQ_MP_STR && value.body.bytes >= 1 && value.body.bytes <= bytes_max;
    if (!good && value.type != CMQ_MP_NIL)
        return CMQ_ERR_MALFORMED;
    *ret_text = good ? value.body : cmq_span_make(NULL, 0);
    return CMQ_OK;
}

static enum cmq_err read_expiry(struct cmq_mp_reader *reader, uint64_t *ret_expiry_ms)
{
    struct cmq_mp_value value;
    enum cmq_err err = cmq_mp_read(reader, &value);
    if (err != CMQ_OK)
        return err;
    if (value.type != CMQ_MP_UINT && value.type != CMQ_MP_NIL)
        return CMQ_ERR_MALFORMED;
    *ret_expiry_ms = value.number; /* 0 of nil */
    return CMQ_OK;
}

/* map of str to str or nil, or nil */
static enum cmq_err read_headers(struct cmq_mp_reader *reader, struct cmq_span *ret_headers)
{
    const uint8_t *begin = reader->next;
    struct cmq_mp_value value;
    enum cmq_err err = cmq_mp_read(reader, &value);
    if (err != CMQ_OK)
        return err;
    *ret_headers = cmq_span_make(NULL, 0);
    if (value.type == CMQ_MP_NIL)
        return CMQ_OK;
    if (value.type != CMQ_MP_MAP)
        return CMQ_ERR_MALFORMED;
    for (uint32_t i = 0; i < value.count; i++) {
        struct cmq_mp_value text;
        err = cmq_mp_read(reader, &text);
        if (err == CMQ_OK && text.type == CMQ_MP_STR)
            err = cmq_mp_read(reader, &text);
        else
            err = CMQ_ERR_MALFORMED;
        if (err != CMQ_OK || (text.type != CMQ_MP_STR && text.type != CMQ_MP_NIL))
            return CMQ_ERR_MALFORMED;
    }
    *ret_headers = cmq_span_make(begin, (size_t)(reader->next - begin));
    return CMQ_OK;
}

/* What follows the head of an array message. */
static enum cmq_err read_message_values(struct cmq_mp_reader *reader, struct cmq_message_full *message)
{
    struct cmq_message content;
    enum cmq_err err = cmq_message_next_any(reader, &content);
    if (err == CMQ_OK)
        err = read_str_or_nil(reader, CMQ_MESSAGE_TYPE_BYTES_MAX, &message->type);
    if (err == CMQ_OK)
        err = read_str_or_nil(reader, CMQ_MESSAGE_ID_BYTES_MAX, &message->id);
    if (err == CMQ_OK)
        err = read_expiry(reader, &message->expiry_ms);
    if (err == CMQ_OK)
        err = read_headers(reader, &message->headers);
    if (err != CMQ_OK)
        return err;
    message->text = content.text;
    message->body = content.body;
    return CMQ_OK;
}

enum cmq_err cmq_message_read(struct cmq_mp_reader *reader, struct cmq_message_full *ret_message)
{
    struct cmq_mp_reader ahead = *reader;
    struct cmq_message_full message = {0};
    struct cmq_mp_value value;
    enum cmq_err err = cmq_mp_read(&ahead, &value);
    if (err != CMQ_OK)
        return err;
    message.left_out = value.type == CMQ_MP_NIL;
    if (value.type == CMQ_MP_STR || value.type == CMQ_MP_BIN) {
        message.text = value.type == CMQ_MP_STR;
        message.body = value.body;
    } else if (value.type == CMQ_MP_ARRAY && value.count == MESSAGE_VALUES) {
        err = read_message_values(&ahead, &message);
    } else if (!message.left_out) {
        err = CMQ_ERR_MALFORMED;
    }
    if (err != CMQ_OK)
        return err;
    *ret_message = message;
    *reader = ahead;
    return CMQ_OK;
}

enum cmq_err cmq_message_key_read(struct cmq_mp_reader *reader, uint32_t flags, struct cmq_span *ret_key)
{
    struct cmq_mp_reader ahead = *reader;
    struct cmq_span key = {0};
    if ((flags & CMQ_PLAIN_HAS_KEY) != 0) {
        enum cmq_err err = cmq_mp_read_str(&ahead, &key);
        if (err != CMQ_OK)
            return err;
        if (key.bytes < 1 || key.bytes > CMQ_MESSAGE_ID_BYTES_MAX)
            return CMQ_ERR_MALFORMED;
    }
    *ret_key = key;
    *reader = ahead;
    return CMQ_OK;
}

static enum cmq_err read_array_of(struct cmq_mp_reader *reader, uint32_t count)
{
    uint32_t found;
    enum cmq_err err = cmq_mp_read_array(reader, &found);
    if (err != CMQ_OK)
        return err;
    return found == count ? CMQ_OK : CMQ_ERR_MALFORMED;
}

static enum cmq_err read_u32(struct cmq_mp_reader *reader, uint32_t *ret_number)
{
    uint64_t number;
    enum cmq_err err = cmq_mp_read_uint(reader, &number);
    if (err != CMQ_OK)
        return err;
    if (number > UINT32_MAX)
        return CMQ_ERR_MALFORMED;
    *ret_number = (uint32_t)number;
    return CMQ_OK;
}

static enum cmq_err read_topic(struct cmq_mp_reader *reader, struct cmq_span *ret_topic)
{
    struct cmq_span topic;
    enum cmq_err err = cmq_mp_read_str(reader, &topic);
    if (err != CMQ_OK)
        return err;
    if (topic.bytes < 1 || topic.bytes > CMQ_TOPIC_BYTES_MAX)
        return CMQ_ERR_MALFORMED;
    *ret_topic = topic;
    return CMQ_OK;
}

static enum cmq_err read_exact_bin(struct cmq_mp_reader *reader, uint8_t *ret_bytes, size_t bytes)
{
    struct cmq_span body;
    enum cmq_err err = cmq_mp_read_bin(reader, &body);
    if (err != CMQ_OK)
        return err;
    if (body.bytes != bytes)
        return CMQ_ERR_MALFORMED;
    memcpy(ret_bytes, body.data, bytes);
    return CMQ_OK;
}

/* The version decides what the rest means, so it is looked at before the number of values. */
static enum cmq_err read_version(struct cmq_mp_reader *reader, uint32_t values)
{
    uint32_t found, version;
    enum cmq_err err = cmq_mp_read_array(reader, &found);
    if (err == CMQ_OK)
        err = read_u32(reader, &version);
    if (err != CMQ_OK)
        return err;
    if (version != CMQ_BATCH_VERSION)
        return CMQ_ERR_VERSION;
    return found == values ? CMQ_OK : CMQ_ERR_MALFORMED;
}

static enum cmq_err read_unit_count(struct cmq_mp_reader *reader, uint32_t *ret_count)
{
    uint32_t count;
    enum cmq_err err = cmq_mp_read_array(reader, &count);
    if (err != CMQ_OK)
        return err;
    if (count > CMQ_BATCH_UNITS_MAX)
        return CMQ_ERR_TOO_BIG;
    *ret_count = count;
    return CMQ_OK;
}

enum cmq_err cmq_plain_decode(struct cmq_span batch, struct cmq_mp_reader *ret_units,
                              struct cmq_plain_head *ret_head)
{
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, batch);
    struct cmq_plain_head head;
    enum cmq_err err = read_version(&reader, PLAIN_HEAD_VALUES);
    if (err == CMQ_OK)
        err = read_u32(&reader, &head.flags);
    if (err == CMQ_OK)
        err = cmq_mp_read_uint(&reader, &head.accepted_at_ms);
    if (err == CMQ_OK)
        err = read_unit_count(&reader, &head.unit_count);
    if (err != CMQ_OK)
        return err;
    *ret_head = head;
    *ret_units = reader;
    return CMQ_OK;
}

enum cmq_err cmq_plain_next(struct cmq_mp_reader *units, struct cmq_plain_unit *ret_unit)
{
    struct cmq_mp_reader reader = *units;
    struct cmq_plain_unit unit;
    enum cmq_err err = read_array_of(&reader, PLAIN_UNIT_VALUES);
    if (err == CMQ_OK)
        err = read_topic(&reader, &unit.topic);
    if (err == CMQ_OK)
        err = read_u32(&reader, &unit.count);
    if (err == CMQ_OK)
        err = cmq_mp_read_bin(&reader, &unit.messages);
    if (err != CMQ_OK)
        return err;
    if (unit.count > unit.messages.bytes) /* a message has a byte at least */
        return CMQ_ERR_MALFORMED;
    *ret_unit = unit;
    *units = reader;
    return CMQ_OK;
}

enum cmq_err cmq_sealed_decode(struct cmq_span batch, struct cmq_mp_reader *ret_units,
                               struct cmq_sealed_head *ret_head)
{
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, batch);
    struct cmq_sealed_head head;
    enum cmq_err err = read_version(&reader, SEALED_HEAD_VALUES);
    if (err == CMQ_OK)
        err = cmq_mp_read_uint(&reader, &head.seq);
    if (err == CMQ_OK)
        err = cmq_mp_read_uint(&reader, &head.accepted_at_ms);
    if (err == CMQ_OK)
        err = read_unit_count(&reader, &head.unit_count);
    if (err != CMQ_OK)
        return err;
    *ret_head = head;
    *ret_units = reader;
    return CMQ_OK;
}

static enum cmq_err read_sealed_numbers(struct cmq_mp_reader *reader, struct cmq_sealed_unit *unit)
{
    enum cmq_err err = read_u32(reader, &unit->count);
    if (err == CMQ_OK)
        err = read_u32(reader, &unit->flags);
    if (err == CMQ_OK)
        err = read_u32(reader, &unit->suite);
    return err;
}

enum cmq_err cmq_sealed_next(struct cmq_mp_reader *units, struct cmq_sealed_unit *ret_unit)
{
    struct cmq_mp_reader reader = *units;
    struct cmq_sealed_unit unit;
    struct cmq_span topic;
    enum cmq_err err = read_array_of(&reader, SEALED_UNIT_VALUES);
    if (err == CMQ_OK)
        err = read_topic(&reader, &topic);
    if (err == CMQ_OK)
        err = read_sealed_numbers(&reader, &unit);
    if (err == CMQ_OK)
        err = read_exact_bin(&reader, unit.key_id, sizeof unit.key_id);
    if (err == CMQ_OK)
        err = read_exact_bin(&reader, unit.nonce, sizeof unit.nonce);
    if (err == CMQ_OK)
        err = cmq_mp_read_bin(&reader, &unit.sealed);
    if (err != CMQ_OK)
        return err;
    if (unit.sealed.bytes < CMQ_TAG_BYTES || unit.count > unit.sealed.bytes - CMQ_TAG_BYTES)
        return CMQ_ERR_MALFORMED;
    memcpy(unit.topic, topic.data, topic.bytes);
    unit.topic_bytes = (uint8_t)topic.bytes;
    *ret_unit = unit;
    *units = reader;
    return CMQ_OK;
}

/* ---- AAD ---- */

static uint8_t *put_le(uint8_t *dst, uint64_t number, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        dst[i] = (uint8_t)(number >> (8 * i));
    return dst + bytes;
}

static uint8_t *put_number(uint8_t *dst, uint64_t number)
{
    return put_le(put_le(dst, 8, 4), number, 8);
}

static uint8_t *put_bytes(uint8_t *dst, const uint8_t *data, uint32_t bytes)
{
    dst = put_le(dst, bytes, 4);
    memcpy(dst, data, bytes);
    return dst + bytes;
}

size_t cmq_sealed_aad(uint8_t *dst, const struct cmq_sealed_head *head, const struct cmq_sealed_unit *unit)
{
    uint8_t *next = dst;
    next = put_number(next, CMQ_BATCH_VERSION);
    next = put_number(next, unit->suite);
    next = put_bytes(next, unit->key_id, sizeof unit->key_id);
    next = put_number(next, head->seq);
    next = put_bytes(next, unit->topic, unit->topic_bytes);
    next = put_number(next, unit->count);
    next = put_number(next, head->accepted_at_ms);
    next = put_number(next, unit->flags);
    return (size_t)(next - dst);
}
