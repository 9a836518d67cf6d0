#include "ctl_json.h"

#include <string.h>

#include "common/wire/cmq_json_out.h"

enum { TEXT_BYTES_MAX = 4096 };

void ctl_json_string(FILE *file, struct cmq_span text)
{
    static uint8_t quoted[TEXT_BYTES_MAX * 6 + 2];
    if (text.bytes > TEXT_BYTES_MAX)
        text.bytes = TEXT_BYTES_MAX;
    (void)fwrite(quoted, 1, cmq_json_write_string(quoted, text), file);
}

static struct cmq_span behind(struct cmq_span text, size_t bytes)
{
    return cmq_span_make(text.data + bytes, text.bytes - bytes);
}

static struct cmq_span pass_blanks(struct cmq_span text)
{
    while (text.bytes > 0 &&
           (text.data[0] == ' ' || text.data[0] == '\t' || text.data[0] == '\n' || text.data[0] == '\r'))
        text = behind(text, 1);
    return text;
}

/* Bytes of the string that the text begins with; 0: it has no end. */
static size_t string_bytes(struct cmq_span text)
{
    for (size_t i = 1; i < text.bytes; i++) {
        if (text.data[i] == '"')
            return i + 1;
        i += text.data[i] == '\\';
    }
    return 0;
}

/* Bytes up to the bracket that closes the first one; 0: there is none. */
static size_t nested_bytes(struct cmq_span text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        const uint8_t letter = text.data[i];
        if (letter == '"') {
            const size_t bytes = string_bytes(behind(text, i));
            if (bytes == 0)
                return 0;
            i += bytes - 1;
        } else if (letter == '{' || letter == '[') {
            depth++;
        } else if ((letter == '}' || letter == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

bool ctl_json_value(struct cmq_span text, struct cmq_span *ret_value, struct cmq_span *ret_rest)
{
    size_t bytes = 0;
    text = pass_blanks(text);
    if (text.bytes == 0)
        return false;
    if (text.data[0] == '"')
        bytes = string_bytes(text);
    else if (text.data[0] == '{' || text.data[0] == '[')
        bytes = nested_bytes(text);
    else
        while (bytes < text.bytes && memchr(",]}: \t\r\n", text.data[bytes], 8) == NULL)
            bytes++;
    if (bytes == 0)
        return false;
    *ret_value = cmq_span_make(text.data, bytes);
    *ret_rest = behind(text, bytes);
    return true;
}

/* Over one byte that must be there. */
static bool pass(struct cmq_span *text, char letter)
{
    *text = pass_blanks(*text);
    if (text->bytes == 0 || text->data[0] != (uint8_t)letter)
        return false;
    *text = behind(*text, 1);
    return true;
}

bool ctl_json_member(struct cmq_span object, const char *name, struct cmq_span *ret_value)
{
    struct cmq_span key, plain, value;
    if (!pass(&object, '{'))
        return false;
    do {
        if (!ctl_json_value(object, &key, &object) || !pass(&object, ':') ||
            !ctl_json_value(object, &value, &object))
            return false;
        if (ctl_json_plain(key, &plain) && plain.bytes == strlen(name) &&
            memcmp(plain.data, name, plain.bytes) == 0) {
            *ret_value = value;
            return true;
        }
    } while (pass(&object, ','));
    return false;
}

bool ctl_json_next(struct cmq_span *walk, struct cmq_span *ret_value)
{
    struct cmq_span rest = *walk;
    if (!pass(&rest, '[') && !pass(&rest, ','))
        return false;
    return ctl_json_value(rest, ret_value, walk);
}

bool ctl_json_plain(struct cmq_span value, struct cmq_span *ret_text)
{
    if (value.bytes < 2 || value.data[0] != '"' || memchr(value.data, '\\', value.bytes) != NULL)
        return false;
    *ret_text = cmq_span_make(value.data + 1, value.bytes - 2);
    return true;
}
