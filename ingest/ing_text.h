/*
 * ing_text: putting texts and numbers behind each other, for replies; much cheaper than snprintf.
 * Ownership: writes to the caller's memory.
 * Units: bytes; no closing NUL is written.
 * Errors: none; the caller gives enough room.
 * Callers: any thread.
 */
#ifndef ING_TEXT_H
#define ING_TEXT_H

#include <stdint.h>
#include <string.h>

#define ING_U64_BYTES_MAX 20u

/* Each returns the end of what was written. */
static inline uint8_t *ing_text_put(uint8_t *dst, const char *text)
{
    size_t bytes = strlen(text);
    memcpy(dst, text, bytes);
    return dst + bytes;
}

static inline uint8_t *ing_text_put_u64(uint8_t *dst, uint64_t number)
{
    uint8_t digits[ING_U64_BYTES_MAX];
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)('0' + number % 10u);
        number /= 10u;
    } while (number != 0);
    memcpy(dst, digits + at, sizeof digits - at);
    return dst + (sizeof digits - at);
}

#endif
