#include "common/wire/cmq_id.h"

#include <string.h>

enum { DIGITS_MAX = 20 }; /* of 2^64 - 1 */

static size_t format_number(char *dst, uint64_t number)
{
    char digits[DIGITS_MAX];
    size_t count = 0;
    do {
        digits[DIGITS_MAX - ++count] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    memcpy(dst, digits + DIGITS_MAX - count, count);
    return count;
}

size_t cmq_id_format(char ret_text[CMQ_ID_TEXT_BYTES], struct cmq_id id)
{
    size_t bytes = format_number(ret_text, id.seq);
    ret_text[bytes++] = '-';
    bytes += format_number(ret_text + bytes, id.index);
    ret_text[bytes] = '\0';
    return bytes;
}

/* The whole span is one number without a leading zero. */
static bool parse_number(struct cmq_span digits, uint64_t number_max, uint64_t *ret_number)
{
    if (digits.bytes == 0 || (digits.data[0] == '0' && digits.bytes > 1))
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < digits.bytes; i++) {
        unsigned digit = (unsigned)digits.data[i] - '0';
        if (digit > 9 || number > number_max / 10 || number * 10 > number_max - digit)
            return false;
        number = number * 10 + digit;
    }
    *ret_number = number;
    return true;
}

enum cmq_err cmq_id_parse(struct cmq_span text, struct cmq_id *ret_id)
{
    const uint8_t *dash = text.bytes == 0 ? NULL : memchr(text.data, '-', text.bytes);
    if (dash == NULL)
        return CMQ_ERR_MALFORMED;
    size_t seq_bytes = (size_t)(dash - text.data);
    uint64_t seq, index;
    if (!parse_number(cmq_span_make(text.data, seq_bytes), UINT64_MAX, &seq) ||
        !parse_number(cmq_span_make(dash + 1, text.bytes - seq_bytes - 1), UINT32_MAX, &index))
        return CMQ_ERR_MALFORMED;
    *ret_id = (struct cmq_id){.seq = seq, .index = (uint32_t)index};
    return CMQ_OK;
}
