#include "common/wire/cmq_cloudevents.h"

#include <string.h>

#include "common/wire/cmq_cloudevents_int.h"
#include "common/wire/cmq_json_text.h"

static bool equals(struct cmq_span text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

/* ---- names and values ---- */

bool cmq_ce_name_is_good(struct cmq_span name)
{
    for (size_t i = 0; i < name.bytes; i++) {
        uint8_t byte = name.data[i];
        if (!(byte >= 'a' && byte <= 'z') && !(byte >= '0' && byte <= '9'))
            return false;
    }
    return name.bytes >= 1 && name.bytes <= CMQ_CE_NAME_BYTES_MAX;
}

static const char *const needed[] = {"specversion", "id", "source", "type"};

static bool is_needed(struct cmq_span name)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(needed); i++)
        if (equals(name, needed[i]))
            return true;
    return false;
}

bool cmq_ce_is_core(struct cmq_span name)
{
    return is_needed(name) || equals(name, "subject") || equals(name, "time") || equals(name, "dataschema");
}

/* The code point of a sequence that is right. */
static uint32_t code_point(const uint8_t *src, size_t bytes)
{
    if (bytes == 1)
        return src[0];
    uint32_t point = src[0] & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++)
        point = point << 6 | (src[i] & 0x3fu);
    return point;
}

static bool may_be_in_string(uint32_t point)
{
    bool control = point < 0x20 || (point >= 0x7f && point <= 0x9f);
    bool noncharacter = (point >= 0xfdd0 && point <= 0xfdef) || (point & 0xfffeu) == 0xfffe;
    return !control && !noncharacter;
}

/* Core, type system, String. */
static bool value_is_string(struct cmq_span value)
{
    const uint8_t *end = value.bytes == 0 ? value.data : value.data + value.bytes;
    for (size_t at = 0, step; at < value.bytes; at += step) {
        step = cmq_utf8_sequence_bytes(value.data + at, end);
        if (step == 0 || !may_be_in_string(code_point(value.data + at, step)))
            return false;
    }
    return true;
}

/* ---- time ---- */

/* Moves over exactly `digits` digits; returns their number, or 1000000. */
static uint32_t take_digits(struct cmq_span *text, size_t digits)
{
    uint32_t number = 0;
    if (text->bytes < digits)
        return 1000000;
    for (size_t i = 0; i < digits; i++) {
        uint32_t digit = (uint32_t)text->data[i] - '0';
        if (digit > 9)
            return 1000000;
        number = number * 10 + digit;
    }
    *text = cmq_span_make(text->data + digits, text->bytes - digits);
    return number;
}

/* Moves over one of the bytes. */
static bool take_byte(struct cmq_span *text, const char *bytes)
{
    if (text->bytes == 0 || text->data[0] == '\0' || strchr(bytes, text->data[0]) == NULL)
        return false;
    *text = cmq_span_make(text->data + 1, text->bytes - 1);
    return true;
}

static bool take_date(struct cmq_span *text)
{
    static const uint32_t days[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint32_t year = take_digits(text, 4);
    if (year > 9999 || !take_byte(text, "-"))
        return false;
    uint32_t month = take_digits(text, 2);
    if (month < 1 || month > 12 || !take_byte(text, "-"))
        return false;
    uint32_t day = take_digits(text, 2);
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day >= 1 && day <= days[month] && (month != 2 || leap || day <= 28);
}

static bool take_clock(struct cmq_span *text)
{
    if (take_digits(text, 2) > 23 || !take_byte(text, ":") || take_digits(text, 2) > 59 ||
        !take_byte(text, ":") || take_digits(text, 2) > 60)
        return false;
    if (!take_byte(text, "."))
        return true;
    bool any = false;
    while (take_byte(text, "0123456789"))
        any = true;
    return any;
}

/* RFC 3339, section 5.6: date-time */
static bool is_time(struct cmq_span text)
{
    if (!take_date(&text) || !take_byte(&text, "Tt") || !take_clock(&text))
        return false;
    if (!take_byte(&text, "Zz") && (!take_byte(&text, "+-") || take_digits(&text, 2) > 23 ||
                                    !take_byte(&text, ":") || take_digits(&text, 2) > 59))
        return false;
    return text.bytes == 0;
}

/* ---- attributes ---- */

static enum cmq_err refuse(struct cmq_reason *reason, struct cmq_span name, const char *text)
{
    return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "CloudEvents attribute \"%.*s\" %s", (int)name.bytes,
                          (const char *)name.data, text);
}

enum cmq_err cmq_ce_add(struct cmq_headers *headers, struct cmq_span header_name, struct cmq_span value,
                        struct cmq_reason *reason)
{
    struct cmq_span name =
        cmq_span_make(header_name.data + CMQ_CE_PREFIX_BYTES, header_name.bytes - CMQ_CE_PREFIX_BYTES);
    if (!value_is_string(value))
        return refuse(reason, name, "must be UTF-8 without control characters and noncharacters");
    if (equals(name, "specversion") && !equals(value, "1.0"))
        return refuse(reason, name, "must be \"1.0\"");
    if (equals(name, "time") && !is_time(value))
        return refuse(reason, name, "must be a time of RFC 3339, like \"2024-11-25T08:30:00Z\"");
    if (value.bytes == 0 && cmq_ce_is_core(name))
        return refuse(reason, name, "must not be empty");
    if (cmq_headers_find(headers, header_name) != NULL)
        return refuse(reason, name, "is there twice");
    return cmq_headers_add(headers, header_name, value, reason);
}

enum cmq_err cmq_cloudevents_check(const struct cmq_headers *headers, struct cmq_reason *reason)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(needed); i++) {
        char name[CMQ_CE_PREFIX_BYTES + 16] = CMQ_CE_PREFIX;
        size_t bytes = strlen(needed[i]);
        memcpy(name + CMQ_CE_PREFIX_BYTES, needed[i], bytes);
        if (cmq_headers_find(headers, cmq_span_make(name, CMQ_CE_PREFIX_BYTES + bytes)) == NULL)
            return refuse(reason, cmq_span_make(needed[i], bytes), "is missing");
    }
    return CMQ_OK;
}

/* ---- binary mode ---- */

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20u) : byte;
}

bool cmq_cloudevents_is_header(struct cmq_span name)
{
    return name.bytes >= CMQ_CE_PREFIX_BYTES && lower(name.data[0]) == 'c' && lower(name.data[1]) == 'e' &&
           name.data[2] == '-';
}

static int hex_digit(uint8_t byte)
{
    uint8_t letter = lower(byte);
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* Without the quotes of a quoted-string, if it is one (RFC 9110, section 5.6.4). False: it is not closed. */
static bool unquote(struct cmq_span value, uint8_t *dst, size_t *ret_bytes)
{
    size_t bytes = 0, at = 0;
    bool quoted = value.bytes > 0 && value.data[0] == '"';
    for (at = quoted ? 1 : 0; at < value.bytes; at++) {
        if (quoted && value.data[at] == '"')
            break;
        if (quoted && value.data[at] == '\\' && ++at == value.bytes)
            return false;
        dst[bytes++] = value.data[at];
    }
    *ret_bytes = bytes;
    return !quoted || at + 1 == value.bytes;
}

/* In place. False: '%' without two hexadecimal digits. */
static bool percent_decode(uint8_t *text, size_t *bytes)
{
    size_t written = 0;
    for (size_t at = 0; at < *bytes; at++) {
        if (text[at] != '%') {
            text[written++] = text[at];
            continue;
        }
        if (*bytes - at < 3)
            return false;
        int high = hex_digit(text[at + 1]), low = hex_digit(text[at + 2]);
        if (high < 0 || low < 0)
            return false;
        text[written++] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *bytes = written;
    return true;
}

enum cmq_err cmq_cloudevents_add_header(struct cmq_headers *headers, struct cmq_span name,
                                        struct cmq_span value, uint8_t *memory, struct cmq_reason *reason)
{
    cmq_assert(cmq_cloudevents_is_header(name));
    for (size_t i = 0; i < name.bytes; i++)
        memory[i] = lower(name.data[i]);
    struct cmq_span header_name = cmq_span_make(memory, name.bytes);
    struct cmq_span attribute = cmq_span_make(memory + CMQ_CE_PREFIX_BYTES, name.bytes - CMQ_CE_PREFIX_BYTES);
    if (!cmq_ce_name_is_good(attribute))
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                              "a CloudEvents attribute's name has 1 to %u of a-z 0-9 behind \"ce-\"",
                              CMQ_CE_NAME_BYTES_MAX);
    if (equals(attribute, "datacontenttype"))
        return refuse(reason, attribute, "comes as Content-Type in binary mode");
    if (equals(attribute, "data"))
        return refuse(reason, attribute, "is no attribute: the body is the data");
    uint8_t *text = memory + name.bytes;
    size_t bytes;
    if (!unquote(value, text, &bytes))
        return refuse(reason, attribute, "has a quoted value that is not closed");
    if (!percent_decode(text, &bytes))
        return refuse(reason, attribute, "needs two hexadecimal digits behind '%'");
    return cmq_ce_add(headers, header_name, cmq_span_make(text, bytes), reason);
}
