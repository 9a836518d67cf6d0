#include "common/wire/cmq_mp_in.h"

#include <stdarg.h>
#include <string.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_headers.h"
#include "common/wire/cmq_json_object.h"
#include "common/wire/cmq_mp_out.h"
#include "common/wire/cmq_type.h"

struct run {
    struct cmq_json_parser *parser;
    struct cmq_span body;
    const struct cmq_json_limits *limits;
    const struct cmq_element_defaults *defaults;
    bool inherits; /* the defaults give every message something */
    bool has_ids;
    uint32_t index; /* of the element, or CMQ_JSON_NO_INDEX */
    struct cmq_mp_reader reader;
    struct cmq_buf *messages;
    struct cmq_json_error *error;
};

/* One element. Texts have bytes 0 when they are absent. */
struct element {
    bool text;
    const uint8_t *begin; /* of the element */
    struct cmq_span data, type, id;
    uint64_t ttl_ms;
    struct cmq_headers headers;
};

typedef enum cmq_err read_value(struct run *run, struct element *element);

/* ---- errors ---- */

static enum cmq_err fail(const struct run *run, enum cmq_err err, const uint8_t *at, const char *format, ...)
    CMQ_PRINTF(4, 5);

static enum cmq_err fail(const struct run *run, enum cmq_err err, const uint8_t *at, const char *format, ...)
{
    va_list args;
    run->error->offset = at != NULL ? (size_t)(at - run->body.data) : SIZE_MAX;
    run->error->index = run->index;
    va_start(args, format);
    (void)vsnprintf(run->error->text, sizeof run->error->text, format, args);
    va_end(args);
    return err;
}

static enum cmq_err too_large(const struct run *run, const uint8_t *at, size_t bytes)
{
    return fail(run, CMQ_ERR_TOO_BIG, at, "the message has %zu bytes; at most %zu are allowed", bytes,
                run->limits->message_bytes_max);
}

static enum cmq_err need_room(struct run *run, size_t bytes)
{
    enum cmq_err err = cmq_buf_reserve(run->messages, bytes);
    if (err == CMQ_ERR_TOO_BIG)
        return fail(run, err, NULL, "the messages are larger than the limit");
    return err == CMQ_OK ? err : fail(run, err, NULL, "out of memory");
}

/* ---- values ---- */

static enum cmq_err read_any(struct run *run, struct cmq_mp_value *ret_value)
{
    const uint8_t *begin = run->reader.next;
    if (cmq_mp_read(&run->reader, ret_value) == CMQ_OK)
        return CMQ_OK;
    if (cmq_mp_left(&run->reader) != 0 && *begin == 0xc1)
        return fail(run, CMQ_ERR_MALFORMED, begin, "the byte 0xc1 is no MessagePack");
    return fail(run, CMQ_ERR_MALFORMED, begin, "the body ends before this value does");
}

/* Nearly all text is ASCII and short. */
static bool is_utf8(struct cmq_span text)
{
    uint8_t all = 0;
    if (text.bytes > 64)
        return cmq_utf8_is_valid(text);
    for (size_t i = 0; i < text.bytes; i++)
        all |= text.data[i];
    return all < 0x80 || cmq_utf8_is_valid(text);
}

static enum cmq_err check_text(const struct run *run, const uint8_t *begin, const struct cmq_mp_value *value)
{
    if (value->type != CMQ_MP_STR || is_utf8(value->body))
        return CMQ_OK;
    return fail(run, CMQ_ERR_MALFORMED, begin, "a str is not valid UTF-8; send octets as bin");
}

static enum cmq_err read_text(struct run *run, const char *expected, struct cmq_span *ret_text)
{
    const uint8_t *begin = run->reader.next;
    struct cmq_mp_value value;
    enum cmq_err err = read_any(run, &value);
    if (err != CMQ_OK)
        return err;
    if (value.type != CMQ_MP_STR)
        return fail(run, CMQ_ERR_MALFORMED, begin, "%s", expected);
    *ret_text = value.body;
    return check_text(run, begin, &value);
}

static enum cmq_err keep_data(const struct run *run, const uint8_t *begin, const struct cmq_mp_value *value,
                              struct element *element)
{
    if (value->body.bytes > run->limits->message_bytes_max)
        return too_large(run, begin, value->body.bytes);
    element->text = value->type == CMQ_MP_STR;
    element->data = value->body;
    return check_text(run, begin, value);
}

/* ---- members ---- */

static enum cmq_err read_data(struct run *run, struct element *element)
{
    const uint8_t *begin = run->reader.next;
    struct cmq_mp_value value;
    enum cmq_err err = read_any(run, &value);
    if (err != CMQ_OK)
        return err;
    if (value.type != CMQ_MP_STR && value.type != CMQ_MP_BIN)
        return fail(run, CMQ_ERR_MALFORMED, begin,
                    "\"data\" must be a str or a bin; send other values as JSON text in a str, with the "
                    "type application/json");
    return keep_data(run, begin, &value, element);
}

static enum cmq_err read_id(struct run *run, struct element *element)
{
    static const char expected[] = "\"id\" must be a str of 1 to 128 visible ASCII characters";
    const uint8_t *begin = run->reader.next;
    enum cmq_err err = read_text(run, expected, &element->id);
    if (err == CMQ_OK && !cmq_message_id_is_good(element->id))
        err = fail(run, CMQ_ERR_MALFORMED, begin, "%s", expected);
    return err;
}

static enum cmq_err read_type(struct run *run, struct element *element)
{
    static const char expected[] = "\"type\" must be a media type of at most 127 bytes, like \"text/html\"";
    const uint8_t *begin = run->reader.next;
    enum cmq_err err = read_text(run, expected, &element->type);
    if (err != CMQ_OK)
        return err;
    enum cmq_type type =
        element->type.bytes <= CMQ_MESSAGE_TYPE_BYTES_MAX ? cmq_type_of(element->type) : CMQ_TYPE_BAD;
    if (type == CMQ_TYPE_JSON_FOREIGN)
        return fail(run, CMQ_ERR_MALFORMED, begin, "\"type\" names a charset, but JSON is UTF-8 here");
    return type != CMQ_TYPE_BAD ? CMQ_OK : fail(run, CMQ_ERR_MALFORMED, begin, "%s", expected);
}

static enum cmq_err read_ttl(struct run *run, struct element *element)
{
    const uint8_t *begin = run->reader.next;
    struct cmq_mp_value value;
    uint64_t max = cmq_element_ttl_ms_max(run->limits);
    enum cmq_err err = read_any(run, &value);
    if (err != CMQ_OK)
        return err;
    if (value.type != CMQ_MP_UINT || value.number < 1 || value.number > max)
        return fail(run, CMQ_ERR_MALFORMED, begin,
                    "\"ttl_ms\" must be a whole number of milliseconds from 1 to %llu",
                    (unsigned long long)max);
    element->ttl_ms = value.number;
    return CMQ_OK;
}

static enum cmq_err read_header(struct run *run, struct element *element)
{
    static const char expected[] = "\"headers\" must be a map of str to str";
    const uint8_t *begin = run->reader.next;
    struct cmq_span name, value;
    struct cmq_reason reason;
    enum cmq_err err = read_text(run, expected, &name);
    if (err == CMQ_OK)
        err = read_text(run, expected, &value);
    if (err != CMQ_OK)
        return err;
    err = cmq_headers_add(&element->headers, name, value, &reason);
    return err == CMQ_OK ? err : fail(run, err, begin, "%s", reason.text);
}

static enum cmq_err read_headers(struct run *run, struct element *element)
{
    const uint8_t *begin = run->reader.next;
    struct cmq_mp_value map;
    enum cmq_err err = read_any(run, &map);
    if (err == CMQ_OK && map.type != CMQ_MP_MAP)
        err = fail(run, CMQ_ERR_MALFORMED, begin, "\"headers\" must be a map of str to str");
    for (uint32_t i = 0; err == CMQ_OK && i < map.count; i++)
        err = read_header(run, element);
    return err;
}

/* ---- elements ---- */

#define MEMBERS "\"data\", \"id\"?, \"type\"?, \"ttl_ms\"?, \"headers\"?"

static enum cmq_err read_member(struct run *run, struct element *element, unsigned *seen)
{
    static const struct {
        const char *name;
        read_value *read;
    } members[] = {{"data", read_data},
                   {"id", read_id},
                   {"type", read_type},
                   {"ttl_ms", read_ttl},
                   {"headers", read_headers}};
    const uint8_t *begin = run->reader.next;
    struct cmq_span name;
    enum cmq_err err = read_text(run, "the names in an element must be str", &name);
    if (err != CMQ_OK)
        return err;
    for (unsigned i = 0; i < CMQ_COUNT_OF(members); i++) {
        if (strlen(members[i].name) != name.bytes || memcmp(members[i].name, name.data, name.bytes) != 0)
            continue;
        if ((*seen & 1u << i) != 0)
            return fail(run, CMQ_ERR_MALFORMED, begin, "\"%s\" is there twice", members[i].name);
        *seen |= 1u << i;
        return members[i].read(run, element);
    }
    char shown[CMQ_JSON_NAME_BYTES_MAX + 4];
    return fail(run, CMQ_ERR_MALFORMED, begin, "unknown member \"%s\"; expected " MEMBERS,
                cmq_json_show_name(shown, name.data, name.bytes));
}

/* JSON must be JSON, whether it came as str or bin; plain text carries no type. */
static enum cmq_err settle_type(struct run *run, struct element *element)
{
    if (element->type.bytes == 0)
        return CMQ_OK;
    enum cmq_type type = cmq_type_of(element->type);
    if (type == CMQ_TYPE_TEXT)
        element->type.bytes = 0;
    if (type != CMQ_TYPE_JSON)
        return CMQ_OK;
    element->type = cmq_span_make(CMQ_TYPE_JSON_TEXT, sizeof CMQ_TYPE_JSON_TEXT - 1);
    element->text = true;
    enum cmq_err err = cmq_json_check(run->parser, element->data, run->error);
    if (err == CMQ_OK)
        return err;
    if (run->error->offset != SIZE_MAX)
        run->error->offset += (size_t)(element->data.data - run->body.data);
    run->error->index = run->index;
    return err;
}

static uint8_t *put_or_nil(uint8_t *dst, struct cmq_span text)
{
    return text.bytes != 0 ? cmq_mp_put_str(dst, text) : cmq_mp_put_nil(dst);
}

static uint8_t *put_content(uint8_t *dst, const struct element *element)
{
    return element->text ? cmq_mp_put_str(dst, element->data) : cmq_mp_put_bin(dst, element->data);
}

/* Makes a message of the parts, with the defaults. */
static enum cmq_err finish(struct run *run, struct element *element)
{
    struct cmq_reason reason;
    enum cmq_err err = CMQ_OK;
    if (run->defaults != NULL)
        err = cmq_headers_inherit(&element->headers, run->defaults->headers, &reason);
    if (err != CMQ_OK)
        return fail(run, err, element->begin, "%s", reason.text);
    err = need_room(run, CMQ_MESSAGE_FULL_BYTES + element->data.bytes + element->type.bytes +
                             element->id.bytes + element->headers.bytes + CMQ_HEADERS_ROOM);
    if (err != CMQ_OK)
        return err;
    uint64_t expiry_ms = cmq_element_expiry_ms(run->defaults, element->ttl_ms);
    uint8_t *begin = run->messages->data + run->messages->bytes, *dst = begin;
    if (element->type.bytes == 0 && element->id.bytes == 0 && expiry_ms == 0 && element->headers.count == 0) {
        dst = put_content(dst, element);
    } else {
        dst = put_content(cmq_mp_put_array(dst, 5), element); /* see cmq_batch.h */
        dst = put_or_nil(dst, element->type);
        dst = put_or_nil(dst, element->id);
        dst = expiry_ms != 0 ? cmq_mp_put_uint(dst, expiry_ms) : cmq_mp_put_nil(dst);
        size_t bytes = cmq_headers_write(dst, &element->headers);
        dst = bytes != 0 ? dst + bytes : cmq_mp_put_nil(dst);
    }
    run->has_ids = run->has_ids || element->id.bytes != 0;
    run->messages->bytes += (size_t)(dst - begin);
    return CMQ_OK;
}

static enum cmq_err take_map(struct run *run, const uint8_t *begin, uint32_t count, struct element *element)
{
    unsigned seen = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum cmq_err err = read_member(run, element, &seen);
        if (err != CMQ_OK)
            return err;
    }
    if ((seen & 1u) == 0)
        return fail(run, CMQ_ERR_MALFORMED, begin, "an element that is a map needs " MEMBERS);
    return settle_type(run, element);
}

/* An element that is more than a str or bin alone. */
static __attribute__((noinline)) enum cmq_err take_full(struct run *run, const uint8_t *begin,
                                                        const struct cmq_mp_value *value)
{
    struct element element;
    element.text = false;
    element.begin = begin;
    element.data = element.type = element.id = cmq_span_make(NULL, 0);
    element.ttl_ms = 0;
    cmq_headers_init(&element.headers, run->limits->headers_bytes_max);
    enum cmq_err err;
    if (value->type == CMQ_MP_STR || value->type == CMQ_MP_BIN)
        err = keep_data(run, begin, value, &element);
    else if (value->type == CMQ_MP_MAP)
        err = take_map(run, begin, value->count, &element);
    else
        err = fail(run, CMQ_ERR_MALFORMED, begin, "an element must be a str, a bin or a map of " MEMBERS);
    return err == CMQ_OK ? finish(run, &element) : err;
}

enum { FIXSTR_BYTES_MAX = 31 };

/* The bits of a word's first bytes in memory, 1 to 7 of them. */
static inline uint64_t first_bytes(size_t bytes)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return ~(UINT64_MAX << 8 * bytes);
#else
    return ~(UINT64_MAX >> 8 * bytes);
#endif
}

/* ASCII in 1 to FIXSTR_BYTES_MAX bytes, behind which as many may be read again. */
static inline bool is_short_ascii(const uint8_t *text, size_t bytes)
{
    uint64_t all = 0;
    for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, text + i, sizeof word);
        if (bytes - i < sizeof word)
            word &= first_bytes(bytes - i);
        all |= word;
    }
    return (all & UINT64_C(0x8080808080808080)) == 0;
}

/* Takes the element if it is short ASCII text alone, as nearly all are: its bytes are the message's. */
static inline bool take_short(struct run *run)
{
    const uint8_t *begin = run->reader.next;
    size_t bytes = cmq_mp_left(&run->reader) != 0 && (*begin & 0xe0u) == 0xa0u ? *begin & 0x1fu : 0;
    struct cmq_buf *messages = run->messages;
    if (bytes == 0 || run->inherits || bytes >= cmq_mp_left(&run->reader) ||
        bytes > run->limits->message_bytes_max ||
        messages->capacity - messages->bytes < FIXSTR_BYTES_MAX + 1 || !is_short_ascii(begin + 1, bytes))
        return false;
    memcpy(messages->data + messages->bytes, begin, FIXSTR_BYTES_MAX + 1);
    messages->bytes += bytes + 1;
    run->reader.next = begin + bytes + 1;
    return true;
}

static enum cmq_err take_element(struct run *run)
{
    if (take_short(run))
        return CMQ_OK;
    const uint8_t *begin = run->reader.next;
    struct cmq_mp_value value;
    enum cmq_err err = read_any(run, &value);
    if (err != CMQ_OK)
        return err;
    if (run->inherits || value.type != CMQ_MP_STR || value.body.bytes > run->limits->message_bytes_max ||
        !is_utf8(value.body))
        return take_full(run, begin, &value);
    err = need_room(run, value.body.bytes + FIXSTR_BYTES_MAX + CMQ_MP_HEAD_BYTES_MAX);
    if (err != CMQ_OK)
        return err;
    uint8_t *dst = run->messages->data + run->messages->bytes;
    run->messages->bytes += (size_t)(cmq_mp_put_str(dst, value.body) - dst);
    return CMQ_OK;
}

static enum cmq_err take_all(struct run *run, uint32_t *ret_count)
{
    struct cmq_mp_value array;
    if (run->body.bytes == 0)
        return fail(run, CMQ_ERR_MALFORMED, run->body.data,
                    "the body is empty; expected a MessagePack array");
    enum cmq_err err = read_any(run, &array);
    if (err != CMQ_OK)
        return err;
    if (array.type != CMQ_MP_ARRAY)
        return fail(run, CMQ_ERR_MALFORMED, run->body.data,
                    "expected a MessagePack array of str, bin, or maps of " MEMBERS);
    if (array.count > run->limits->messages_max)
        return fail(run, CMQ_ERR_TOO_BIG, run->body.data,
                    "more than %u messages; send them in several requests", run->limits->messages_max);
    for (run->index = 0; run->index < array.count; run->index++) {
        err = take_element(run);
        if (err != CMQ_OK)
            return err;
    }
    run->index = CMQ_JSON_NO_INDEX;
    if (cmq_mp_left(&run->reader) != 0)
        return fail(run, CMQ_ERR_MALFORMED, run->reader.next, "something follows the array");
    *ret_count = array.count;
    return CMQ_OK;
}

enum cmq_err cmq_mp_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                const struct cmq_json_limits *limits,
                                const struct cmq_element_defaults *defaults, struct cmq_buf *messages,
                                struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    struct run run = {.parser = parser,
                      .body = body,
                      .limits = limits,
                      .defaults = defaults,
                      .inherits = defaults != NULL && (defaults->ttl_ms != 0 || defaults->headers.bytes != 0),
                      .index = CMQ_JSON_NO_INDEX,
                      .messages = messages,
                      .error = ret_error};
    size_t bytes_before = messages->bytes;
    uint32_t count = 0;
    cmq_mp_reader_init(&run.reader, body);
    enum cmq_err err = take_all(&run, &count);
    if (err != CMQ_OK) {
        messages->bytes = bytes_before;
        return err;
    }
    *ret_found = (struct cmq_json_found){.messages = count, .has_ids = run.has_ids};
    return CMQ_OK;
}
