/*
 * An event is walked twice: its attributes are read and its data is skipped, since only datacontenttype, which may come last,
 * says what the data is. Then the data is copied.
 */
#include <stdio.h>

#include "common/wire/cmq_cloudevents_int.h"
#include "common/wire/cmq_json_in_int.h"
#include "common/wire/cmq_json_object.h"
#include "common/wire/cmq_mp_out.h"
#include "common/wire/cmq_type.h"

enum { NAMES_MAX = 64 };

struct event {
    uint32_t begin;             /* its first token */
    uint32_t data, data_base64; /* tokens, or CMQ_JSON_NO_TOKEN */
    size_t data_end;            /* of data in the body */
    size_t type_bytes;
    uint8_t type[CMQ_MESSAGE_TYPE_BYTES_MAX];
    struct cmq_headers headers;
    struct cmq_reason reason;
    uint32_t name_count;
    struct cmq_span names[NAMES_MAX]; /* of all members, also of those that are null */
    uint8_t *next;                    /* in the store */
    uint8_t store[CMQ_HEADERS_BYTES_MAX + NAMES_MAX * CMQ_HEADER_NAME_BYTES_MAX];
};

static void init_event(struct event *event, const struct cmq_walk *w)
{
    event->begin = w->next;
    event->data = event->data_base64 = CMQ_JSON_NO_TOKEN;
    event->data_end = 0;
    event->type_bytes = 0;
    event->name_count = 0;
    event->next = event->store;
    cmq_headers_init(&event->headers, w->limits->headers_bytes_max);
}

static bool equals(struct cmq_span text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

static enum cmq_err fail_at(const struct cmq_walk *w, uint32_t token, enum cmq_err err, const char *text)
{
    (void)cmq_walk_fail(w, err, cmq_walk_offset(w, token), "");
    (void)snprintf(w->error->text, sizeof w->error->text, "%.*s", (int)sizeof w->error->text - 1, text);
    return err;
}

static enum cmq_err fail_attribute(const struct cmq_walk *w, uint32_t token, struct cmq_span name,
                                   const char *text)
{
    char shown[CMQ_JSON_NAME_BYTES_MAX + 4];
    (void)cmq_walk_malformed(w, token, "");
    (void)snprintf(w->error->text, sizeof w->error->text, "CloudEvents attribute \"%s\" %s",
                   cmq_json_show_name(shown, name.data, name.bytes), text);
    return CMQ_ERR_MALFORMED;
}

/* ---- attributes ---- */

static enum cmq_err read_type(struct cmq_walk *w, struct event *event, struct cmq_span name)
{
    static const char expected[] = "must be a media type of at most 127 bytes, like \"text/html\"";
    uint32_t token = w->next;
    if (cmq_walk_byte(w, token) == 'n')
        return cmq_walk_skip(w);
    if (cmq_walk_byte(w, token) != '"')
        return fail_attribute(w, token, name, expected);
    enum cmq_err err = cmq_walk_string(w, event->type, sizeof event->type, &event->type_bytes);
    if (err != CMQ_OK)
        return err;
    if (event->type_bytes > sizeof event->type)
        return fail_attribute(w, token, name, expected);
    switch (cmq_type_of(cmq_span_make(event->type, event->type_bytes))) {
    case CMQ_TYPE_BAD:
        return fail_attribute(w, token, name, expected);
    case CMQ_TYPE_JSON_FOREIGN:
        return fail_attribute(w, token, name, "names a charset, but JSON is UTF-8 here");
    case CMQ_TYPE_TEXT:
    case CMQ_TYPE_JSON:
    case CMQ_TYPE_OTHER:
        break;
    }
    return CMQ_OK;
}

static enum cmq_err read_data(struct cmq_walk *w, struct event *event)
{
    event->data = w->next;
    enum cmq_err err = cmq_walk_skip(w);
    event->data_end = cmq_walk_value_end(w);
    return err;
}

static enum cmq_err read_data_base64(struct cmq_walk *w, struct event *event)
{
    if (cmq_walk_byte(w, w->next) != '"')
        return cmq_walk_malformed(w, w->next, "\"data_base64\" must be a string");
    event->data_base64 = w->next;
    return cmq_walk_skip(w);
}

/* Core, type system, Integer: 32 bits with sign; here its text. */
static bool is_integer(struct cmq_span text)
{
    uint64_t number = 0;
    size_t at = text.data[0] == '-' ? 1 : 0;
    if (text.bytes - at > 10)
        return false;
    for (size_t i = at; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        number = number * 10 + (text.data[i] - (uint64_t)'0');
    }
    return number <= (uint64_t)INT32_MAX + at;
}

/* A boolean or a number: kept as its text. */
static enum cmq_err read_scalar(struct cmq_walk *w, struct event *event, struct cmq_span name,
                                struct cmq_span *ret_value)
{
    uint32_t token = w->next;
    uint8_t byte = cmq_walk_byte(w, token);
    bool number = byte == '-' || (byte >= '0' && byte <= '9');
    if (!number && byte != 't' && byte != 'f')
        return fail_attribute(w, token, name, "must be a string, a boolean or an integer");
    enum cmq_err err = cmq_walk_skip(w);
    if (err != CMQ_OK)
        return err;
    size_t begin = cmq_walk_offset(w, token);
    *ret_value = cmq_span_make(w->body + begin, cmq_walk_value_end(w) - begin);
    if (number && !is_integer(*ret_value))
        return fail_attribute(w, token, name, "must be an integer of 32 bits, without point or exponent");
    (void)event;
    return CMQ_OK;
}

/* Decodes a string to the store. */
static enum cmq_err read_string(struct cmq_walk *w, struct event *event, struct cmq_span *ret_value)
{
    size_t left = event->headers.bytes_max - event->headers.bytes, bytes;
    uint32_t token = w->next;
    enum cmq_err err = cmq_walk_string(w, event->next, left, &bytes);
    if (err != CMQ_OK)
        return err;
    if (bytes > left) {
        err = cmq_headers_too_big(&event->headers, &event->reason);
        return fail_at(w, token, err, event->reason.text);
    }
    *ret_value = cmq_span_make(event->next, bytes);
    event->next += bytes;
    return CMQ_OK;
}

/* header_name: with the prefix. */
static enum cmq_err read_attribute(struct cmq_walk *w, struct event *event, struct cmq_span header_name)
{
    struct cmq_span value = {0};
    struct cmq_span name =
        cmq_span_make(header_name.data + CMQ_CE_PREFIX_BYTES, header_name.bytes - CMQ_CE_PREFIX_BYTES);
    uint32_t token = w->next;
    uint8_t byte = cmq_walk_byte(w, token);
    if (byte == 'n') /* null: as if it were not there */
        return cmq_walk_skip(w);
    enum cmq_err err;
    if (byte == '"')
        err = read_string(w, event, &value);
    else if (cmq_ce_is_core(name))
        err = fail_attribute(w, token, name, "must be a string");
    else
        err = read_scalar(w, event, name, &value);
    if (err != CMQ_OK)
        return err;
    err = cmq_ce_add(&event->headers, header_name, value, &event->reason);
    return err == CMQ_OK ? err : fail_at(w, token, err, event->reason.text);
}

static bool is_there(const struct event *event, struct cmq_span name)
{
    for (uint32_t i = 0; i < event->name_count; i++)
        if (event->names[i].bytes == name.bytes && memcmp(event->names[i].data, name.data, name.bytes) == 0)
            return true;
    return false;
}

/* Reads one `"name":value`. */
static enum cmq_err read_member(struct cmq_walk *w, struct event *event)
{
    static const char data_base64[] = "data_base64";
    uint32_t token = w->next;
    size_t bytes;
    if (event->name_count == NAMES_MAX)
        return fail_at(w, token, CMQ_ERR_TOO_BIG, "more than 64 members in one event");
    memcpy(event->next, CMQ_CE_PREFIX, CMQ_CE_PREFIX_BYTES);
    uint8_t *begin = event->next + CMQ_CE_PREFIX_BYTES;
    enum cmq_err err = cmq_walk_key(w, begin, CMQ_CE_NAME_BYTES_MAX, &bytes);
    if (err != CMQ_OK)
        return err;
    bool too_long = bytes > CMQ_CE_NAME_BYTES_MAX;
    struct cmq_span name = cmq_span_make(begin, too_long ? CMQ_CE_NAME_BYTES_MAX : bytes);
    if (too_long || (!cmq_ce_name_is_good(name) && !equals(name, data_base64)))
        return fail_attribute(w, token, name, "must have a name of 1 to 125 of a-z 0-9");
    if (is_there(event, name))
        return fail_attribute(w, token, name, "is there twice");
    event->names[event->name_count++] = name;
    event->next = begin + bytes;
    if (equals(name, "data"))
        return read_data(w, event);
    if (equals(name, data_base64))
        return read_data_base64(w, event);
    if (equals(name, "datacontenttype"))
        return read_type(w, event, name);
    return read_attribute(w, event, cmq_span_make(begin - CMQ_CE_PREFIX_BYTES, CMQ_CE_PREFIX_BYTES + bytes));
}

/* Reads the members from behind '{' to behind '}'. */
static enum cmq_err read_members(struct cmq_walk *w, struct event *event)
{
    while (cmq_walk_byte(w, w->next) != '}') {
        enum cmq_err err = read_member(w, event);
        if (err != CMQ_OK)
            return err;
        uint8_t byte = cmq_walk_byte(w, w->next);
        if (byte == ',' && cmq_walk_byte(w, w->next + 1) == '"')
            w->next++;
        else if (byte == ',')
            return cmq_walk_malformed(w, w->next + 1, "expected a member name in quotes");
        else if (byte != '}')
            return cmq_walk_malformed(w, w->next, "expected ',' or '}'");
    }
    w->next++;
    return CMQ_OK;
}

/* ---- data ---- */

static bool ends_with(struct cmq_span text, const char *word)
{
    size_t bytes = strlen(word);
    return text.bytes >= bytes && strncasecmp((const char *)text.data + text.bytes - bytes, word, bytes) == 0;
}

/* JSON format, section 3.1.1: the subtype is json or ends with +json. */
static bool type_is_json(struct cmq_span type)
{
    const uint8_t *end = memchr(type.data, ';', type.bytes);
    if (end != NULL)
        type.bytes = (size_t)(end - type.data);
    type = cmq_type_trim(type);
    return ends_with(type, "/json") || ends_with(type, "+json");
}

/* Value of a letter, or 64. RFC 4648, section 4 */
static uint32_t base64_value(uint8_t letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return letter - (uint32_t)'A';
    if (letter >= 'a' && letter <= 'z')
        return letter - (uint32_t)'a' + 26;
    if (letter >= '0' && letter <= '9')
        return letter - (uint32_t)'0' + 52;
    return letter == '+' ? 62 : letter == '/' ? 63 : 64;
}

/* In place. False: it is none, has no padding, or bits behind the last octet. */
static bool base64_decode(uint8_t *text, size_t *bytes)
{
    size_t written = 0, padding = 0;
    if (*bytes % 4 != 0)
        return false;
    while (padding < 2 && padding < *bytes && text[*bytes - 1 - padding] == '=')
        padding++;
    for (size_t at = 0; at < *bytes; at += 4) {
        size_t letters = at + 4 == *bytes ? 4 - padding : 4;
        uint32_t word = 0;
        for (size_t i = 0; i < 4; i++) {
            uint32_t value = i < letters ? base64_value(text[at + i]) : 0;
            if (value == 64)
                return false;
            word = word << 6 | value;
        }
        if ((letters == 3 && (word & 0xffu) != 0) || (letters == 2 && (word & 0xffffu) != 0))
            return false;
        for (size_t i = 0; i + 1 < letters; i++)
            text[written++] = (uint8_t)(word >> (16 - 8 * i));
    }
    *bytes = written;
    return true;
}

/* Packs octets behind *dst. */
static enum cmq_err pack_base64(struct cmq_walk *w, uint32_t token, uint8_t **dst)
{
    uint8_t *text = *dst + CMQ_MP_HEAD_BYTES_MAX;
    size_t bytes = 0;
    enum cmq_err err = cmq_json_copy_string(w, token, text, &bytes);
    if (err != CMQ_OK)
        return err;
    if (!base64_decode(text, &bytes))
        return cmq_walk_malformed(w, token,
                                  "\"data_base64\" is not base64 of RFC 4648, section 4, with padding");
    if (bytes > w->limits->message_bytes_max)
        return cmq_json_too_large(w, token, bytes);
    size_t head = cmq_message_head(*dst, false, (uint32_t)bytes);
    memmove(*dst + head, text, bytes);
    *dst += head + bytes;
    return CMQ_OK;
}

/* Packs the JSON value as it stands in the body. */
static enum cmq_err pack_value(struct cmq_walk *w, const struct event *event, uint8_t **dst)
{
    size_t begin = w->tokens[event->data], bytes = event->data_end - begin;
    if (bytes > w->limits->message_bytes_max)
        return cmq_json_too_large(w, event->data, bytes);
    *dst = cmq_mp_put_str(*dst, cmq_span_make(w->body + begin, bytes));
    return CMQ_OK;
}

/* Packs what the event carries, and settles the type that the message gets. Room is there. */
static enum cmq_err pack_data(struct cmq_walk *w, struct event *event, uint8_t **dst)
{
    bool none = event->type_bytes == 0;
    struct cmq_span type = cmq_span_make(event->type, event->type_bytes);
    enum cmq_type kind = none ? CMQ_TYPE_JSON : cmq_type_of(type);
    if (kind == CMQ_TYPE_TEXT)
        event->type_bytes = 0;
    if (event->data_base64 != CMQ_JSON_NO_TOKEN)
        return pack_base64(w, event->data_base64, dst);
    if (event->data == CMQ_JSON_NO_TOKEN) { /* nothing is no JSON, so it is not called that */
        event->type_bytes = kind == CMQ_TYPE_JSON ? 0 : event->type_bytes;
        *dst = cmq_mp_put_str(*dst, cmq_span_make(NULL, 0));
        return CMQ_OK;
    }
    if (kind == CMQ_TYPE_JSON) {
        event->type_bytes = sizeof CMQ_TYPE_JSON_TEXT - 1;
        memcpy(event->type, CMQ_TYPE_JSON_TEXT, event->type_bytes);
    }
    if (none || type_is_json(type))
        return pack_value(w, event, dst);
    if (cmq_walk_byte(w, event->data) != '"')
        return cmq_walk_malformed(w, event->data,
                                  "\"data\" must be a string, since datacontenttype is no JSON type");
    size_t bytes = 0;
    enum cmq_err err = cmq_json_pack_string(w, event->data, *dst, &bytes);
    *dst += bytes;
    return err;
}

/* What the data takes at most. */
static size_t data_room(const struct cmq_walk *w, const struct event *event)
{
    if (event->data_base64 != CMQ_JSON_NO_TOKEN)
        return cmq_walk_offset(w, event->data_base64 + 1) - w->tokens[event->data_base64];
    return event->data != CMQ_JSON_NO_TOKEN ? event->data_end - w->tokens[event->data] : 0;
}

static enum cmq_err finish_event(struct cmq_walk *w, struct event *event)
{
    enum cmq_err err =
        cmq_json_need_room(w, data_room(w, event) + CMQ_JSON_PARTS_ROOM + CMQ_MP_HEAD_BYTES_MAX +
                                  event->headers.bytes + CMQ_HEADERS_ROOM);
    if (err != CMQ_OK)
        return err;
    uint8_t *dst = cmq_mp_put_array(w->out, 5); /* see cmq_batch.h */
    err = pack_data(w, event, &dst);
    if (err != CMQ_OK)
        return err;
    uint64_t expiry_ms = cmq_element_expiry_ms(w->defaults, 0);
    dst = event->type_bytes != 0 ? cmq_mp_put_str(dst, cmq_span_make(event->type, event->type_bytes))
                                 : cmq_mp_put_nil(dst);
    dst = cmq_mp_put_nil(dst); /* no id: a source's ids are its own */
    dst = expiry_ms != 0 ? cmq_mp_put_uint(dst, expiry_ms) : cmq_mp_put_nil(dst);
    w->out = dst + cmq_headers_write(dst, &event->headers);
    return CMQ_OK;
}

/* ---- events ---- */

static enum cmq_err read_event(struct cmq_walk *w)
{
    struct event event;
    init_event(&event, w);
    if (cmq_walk_byte(w, w->next) != '{')
        return cmq_walk_malformed(w, w->next,
                                  "expected a CloudEvents event: {\"specversion\": \"1.0\", ...}");
    w->next++;
    w->depth++;
    enum cmq_err err = read_members(w, &event);
    if (err != CMQ_OK)
        return err;
    w->depth--;
    err = cmq_cloudevents_check(&event.headers, &event.reason);
    if (err != CMQ_OK)
        return fail_at(w, event.begin, err, event.reason.text);
    if (event.data != CMQ_JSON_NO_TOKEN && event.data_base64 != CMQ_JSON_NO_TOKEN)
        return fail_at(w, event.begin, CMQ_ERR_MALFORMED,
                       "an event has \"data\" or \"data_base64\", not both");
    if (w->defaults != NULL)
        err = cmq_headers_inherit(&event.headers, w->defaults->headers, &event.reason);
    if (err != CMQ_OK)
        return fail_at(w, event.begin, err, event.reason.text);
    return finish_event(w, &event);
}

static enum cmq_err read_one(struct cmq_walk *w)
{
    enum cmq_err err = cmq_json_reserve(w, 1);
    if (err == CMQ_OK)
        err = read_event(w);
    w->messages = 1;
    return err == CMQ_OK ? cmq_json_finish_document(w, "something follows the event") : err;
}

static enum cmq_err read_batch(struct cmq_walk *w)
{
    enum cmq_err err = cmq_json_reserve(w, 1);
    if (err != CMQ_OK)
        return err;
    if (cmq_walk_byte(w, w->next) != '[')
        return cmq_walk_malformed(w, w->next, "expected an array of CloudEvents events");
    err = cmq_json_read_list(w, read_event);
    return err == CMQ_OK ? cmq_json_finish_document(w, "something follows the JSON array") : err;
}

enum cmq_err cmq_cloudevents_parse(struct cmq_json_parser *parser, struct cmq_span body,
                                   const struct cmq_json_limits *limits,
                                   const struct cmq_element_defaults *defaults, struct cmq_buf *messages,
                                   struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    const struct cmq_json_order order = {
        .body = body, .limits = limits, .defaults = defaults, .read = read_one, .list = false};
    return cmq_json_parse_document(parser, &order, messages, ret_found, ret_error);
}

enum cmq_err cmq_cloudevents_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                         const struct cmq_json_limits *limits,
                                         const struct cmq_element_defaults *defaults,
                                         struct cmq_buf *messages, struct cmq_json_found *ret_found,
                                         struct cmq_json_error *ret_error)
{
    const struct cmq_json_order order = {
        .body = body, .limits = limits, .defaults = defaults, .read = read_batch, .list = true};
    return cmq_json_parse_document(parser, &order, messages, ret_found, ret_error);
}
