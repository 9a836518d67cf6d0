#include "common/wire/cmq_json_text.h"

#include <string.h>

/* ---- escapes ---- */

static bool hex4(const uint8_t *src, const uint8_t *end, uint32_t *ret_unit)
{
    if (end - src < 4)
        return false;
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t byte = src[i], letter = byte | 0x20u;
        if (byte >= '0' && byte <= '9')
            unit = unit << 4 | (byte - '0');
        else if (letter >= 'a' && letter <= 'f')
            unit = unit << 4 | (letter - 'a' + 10);
        else
            return false;
    }
    *ret_unit = unit;
    return true;
}

static size_t put_utf8(uint8_t *dst, uint32_t point)
{
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    if (point < 0x80) {
        dst[0] = (uint8_t)point;
        return 1;
    }
    size_t bytes = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = bytes - 1; i > 0; i--, point >>= 6)
        dst[i] = (uint8_t)(0x80u | (point & 0x3fu));
    dst[0] = (uint8_t)(leads[bytes] | point);
    return bytes;
}

static struct cmq_json_escape wrong(const char *text)
{
    return (struct cmq_json_escape){.wrong = text};
}

/* src is behind `\u`. */
static struct cmq_json_escape unescape_unicode(const uint8_t *src, const uint8_t *end)
{
    uint32_t point, low;
    struct cmq_json_escape escape = {.taken = 6};
    if (!hex4(src, end, &point))
        return wrong("wrong escape: \\u needs four hexadecimal digits");
    if (point >= 0xdc00 && point <= 0xdfff)
        return wrong("lone low surrogate: \\udc00 to \\udfff may only follow a high one");
    if (point >= 0xd800 && point <= 0xdbff) {
        if (end - src < 6 || src[4] != '\\' || src[5] != 'u' || !hex4(src + 6, end, &low) || low < 0xdc00 ||
            low > 0xdfff)
            return wrong("lone high surrogate: \\ud800 to \\udbff needs \\udc00 to \\udfff behind it");
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        escape.taken = 12;
    }
    escape.bytes = put_utf8(escape.utf8, point);
    return escape;
}

struct cmq_json_escape cmq_json_unescape(const uint8_t *src, const uint8_t *end)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (end - src < 2)
        return wrong("wrong escape: nothing behind the backslash");
    if (src[1] == 'u')
        return unescape_unicode(src + 2, end);
    const char *letter = memchr(letters, src[1], sizeof letters - 1);
    if (letter == NULL)
        return wrong("wrong escape: JSON has \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u");
    return (struct cmq_json_escape){.taken = 2, .bytes = 1, .utf8 = {(uint8_t)meanings[letter - letters]}};
}

/* ---- numbers and words ---- */

/* Moves over digits; false if there are none. */
static bool skip_digits(const uint8_t **src, const uint8_t *end)
{
    const uint8_t *begin = *src;
    while (*src < end && **src >= '0' && **src <= '9')
        (*src)++;
    return *src != begin;
}

static bool is_number(const uint8_t *src, const uint8_t *end)
{
    if (src < end && *src == '-')
        src++;
    const uint8_t *digits = src;
    if (!skip_digits(&src, end) || (*digits == '0' && src - digits > 1))
        return false;
    if (src < end && *src == '.') {
        src++;
        if (!skip_digits(&src, end))
            return false;
    }
    if (src < end && (*src == 'e' || *src == 'E')) {
        src++;
        if (src < end && (*src == '+' || *src == '-'))
            src++;
        if (!skip_digits(&src, end))
            return false;
    }
    return src == end;
}

static bool is_word(struct cmq_span text, const char *word, size_t bytes)
{
    return text.bytes == bytes && memcmp(text.data, word, bytes) == 0;
}

bool cmq_json_is_scalar(struct cmq_span text)
{
    if (text.bytes == 0)
        return false;
    return is_word(text, "true", 4) || is_word(text, "false", 5) || is_word(text, "null", 4) ||
           is_number(text.data, text.data + text.bytes);
}

bool cmq_json_has_byte_order_mark(struct cmq_span text)
{
    return text.bytes >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0;
}

/* ---- flaws ---- */

size_t cmq_utf8_sequence_bytes(const uint8_t *src, const uint8_t *end)
{
    uint8_t lead = src[0];
    if (lead < 0x80)
        return 1;
    size_t bytes = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (bytes == 0 || (size_t)(end - src) < bytes)
        return 0;
    uint8_t second_min = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t second_max = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (src[1] < second_min || src[1] > second_max)
        return 0;
    for (size_t i = 2; i < bytes; i++) {
        if ((src[i] & 0xc0u) != 0x80u)
            return 0;
    }
    return bytes;
}

/* Follows strings and nesting just well enough to name the message. */
struct scan {
    struct cmq_span body;
    size_t string_offset; /* of the last opening quote */
    uint64_t depth;
    uint64_t list_depth; /* inside the list of messages: the root, or its "messages" */
    uint32_t index;
    bool in_string, in_messages;
};

static bool last_string_is_messages(const struct scan *scan)
{
    static const char messages[] = "\"messages\"";
    size_t bytes = sizeof messages - 1;
    return scan->body.bytes - scan->string_offset >= bytes &&
           memcmp(scan->body.data + scan->string_offset, messages, bytes) == 0;
}

static void scan_outside(struct scan *scan, size_t offset)
{
    switch (scan->body.data[offset]) {
    case '"':
        scan->string_offset = offset;
        scan->in_string = true;
        break;
    case '[':
        scan->depth++;
        if (!scan->in_messages && (scan->depth == 1 || (scan->depth == 2 && last_string_is_messages(scan)))) {
            scan->in_messages = true;
            scan->list_depth = scan->depth;
        }
        break;
    case '{':
        scan->depth++;
        break;
    case ']':
    case '}':
        scan->depth -= scan->depth > 0;
        scan->in_messages = scan->in_messages && scan->depth >= scan->list_depth;
        break;
    case ',':
        scan->index += scan->in_messages && scan->depth == scan->list_depth;
        break;
    default:
        break;
    }
}

static struct cmq_json_flaw flaw(const struct scan *scan, size_t offset, const char *text)
{
    uint32_t index = scan->in_messages ? scan->index : UINT32_MAX;
    return (struct cmq_json_flaw){.offset = offset, .index = index, .text = text};
}

struct cmq_json_flaw cmq_json_find_flaw(struct cmq_span body)
{
    struct scan scan = {.body = body};
    const uint8_t *end = body.bytes == 0 ? body.data : body.data + body.bytes;
    for (size_t offset = 0, step; offset < body.bytes; offset += step) {
        uint8_t byte = body.data[offset];
        step = cmq_utf8_sequence_bytes(body.data + offset, end);
        if (step == 0)
            return flaw(&scan, offset, "not valid UTF-8");
        if (!scan.in_string) {
            if (byte == '\\')
                return flaw(&scan, offset, "a backslash outside of a string");
            scan_outside(&scan, offset);
            continue;
        }
        if (byte < 0x20)
            return flaw(&scan, offset, "a control character in a string must be escaped");
        if (byte == '"')
            scan.in_string = false;
        if (byte == '\\') {
            struct cmq_json_escape escape = cmq_json_unescape(body.data + offset, end);
            if (escape.taken == 0)
                return flaw(&scan, offset, escape.wrong);
            step = escape.taken;
        }
    }
    if (scan.in_string)
        return flaw(&scan, scan.string_offset, "a string is not closed");
    return (struct cmq_json_flaw){.offset = SIZE_MAX, .index = UINT32_MAX, .text = "not JSON"};
}
