#include "common/wire/cmq_json_out.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/wire/cmq_json_out_int.h"

/* Copies bytes up to the first one that must be escaped, and returns how many. It may write, but not count,
 * more than that: never past dst + bytes. */
typedef size_t copy_plain(uint8_t *dst, const uint8_t *src, size_t bytes);

static bool must_escape(uint8_t byte)
{
    return byte < 0x20 || byte == '"' || byte == '\\';
}

#define ONES UINT64_C(0x0101010101010101)
#define HIGH UINT64_C(0x8080808080808080)

/* Not zero if any of the eight bytes must be escaped. A byte that is zero after the XOR borrows in the
 * subtraction, as does one below 0x20; a borrow from the byte below may add false hits, never hide one, and
 * needs a true one anyway. */
static uint64_t escapes_in(uint64_t word)
{
    uint64_t quote = word ^ (ONES * '"');
    uint64_t backslash = word ^ (ONES * '\\');
    uint64_t low = (word - ONES * 0x20) & ~word;
    return (low | ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash)) & HIGH;
}

static uint64_t load_u64(const uint8_t *src)
{
    uint64_t word;
    memcpy(&word, src, sizeof word);
    return word;
}

static size_t copy_bytewise(uint8_t *dst, const uint8_t *src, size_t bytes)
{
    size_t count = 0;
    for (; count < bytes && !must_escape(src[count]); count++)
        dst[count] = src[count];
    return count;
}

/* 8 to 15 bytes as two words that overlap, 4 to 7 as the two halves of one, the rest byte by byte. */
static inline size_t copy_short(uint8_t *dst, const uint8_t *src, size_t bytes)
{
    if (bytes >= 8) {
        uint64_t first = load_u64(src), last = load_u64(src + bytes - 8);
        if ((escapes_in(first) | escapes_in(last)) != 0)
            return copy_bytewise(dst, src, bytes);
        memcpy(dst, &first, 8);
        memcpy(dst + bytes - 8, &last, 8);
        return bytes;
    }
    if (bytes >= 4) {
        uint32_t first, last;
        memcpy(&first, src, 4);
        memcpy(&last, src + bytes - 4, 4);
        if (escapes_in((uint64_t)first << 32 | last) != 0)
            return copy_bytewise(dst, src, bytes);
        memcpy(dst, &first, 4);
        memcpy(dst + bytes - 4, &last, 4);
        return bytes;
    }
    return copy_bytewise(dst, src, bytes);
}

static inline size_t copy_plain_portable(uint8_t *dst, const uint8_t *src, size_t bytes)
{
    size_t count = 0;
    for (; bytes - count >= 16; count += 8) {
        uint64_t word = load_u64(src + count);
        if (escapes_in(word) != 0)
            return count + copy_bytewise(dst + count, src + count, 8);
        memcpy(dst + count, &word, 8);
    }
    return count + copy_short(dst + count, src + count, bytes - count);
}

#ifdef __SSE2__
static inline size_t copy_plain_sse2(uint8_t *dst, const uint8_t *src, size_t bytes)
{
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'),
                  control_max = _mm_set1_epi8(0x1f);
    size_t count = 0;
    for (; bytes - count >= 16; count += 16) {
        __m128i chunk = _mm_loadu_si128((const __m128i *)(const void *)(src + count));
        __m128i control = _mm_cmpeq_epi8(_mm_max_epu8(chunk, control_max), control_max);
        __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(chunk, quote), _mm_cmpeq_epi8(chunk, backslash));
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(hits, control));
        _mm_storeu_si128((__m128i *)(void *)(dst + count), chunk);
        if (mask != 0)
            return count + (unsigned)__builtin_ctz(mask);
    }
    return count + copy_short(dst + count, src + count, bytes - count);
}
#endif

static size_t write_escape(uint8_t *dst, uint8_t byte)
{
    static const char letters[0x20] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    static const char hex[] = "0123456789abcdef";
    dst[0] = '\\';
    if (byte >= 0x20 || letters[byte] != 0) {
        dst[1] = byte >= 0x20 ? byte : (uint8_t)letters[byte];
        return 2;
    }
    memcpy(dst + 1, "u00", 3);
    dst[4] = (uint8_t)hex[byte >> 4];
    dst[5] = (uint8_t)hex[byte & 0x0f];
    return 6;
}

/* What is left at src never needs more room than is left at dst: an escape takes six bytes at most. */
static inline __attribute__((always_inline)) size_t write_string(uint8_t *dst, struct cmq_span text,
                                                                 copy_plain *copy)
{
    uint8_t *next = dst;
    size_t done = 0;
    *next++ = '"';
    while (done < text.bytes) {
        size_t count = copy(next, text.data + done, text.bytes - done);
        next += count;
        done += count;
        if (done < text.bytes)
            next += write_escape(next, text.data[done++]);
    }
    *next++ = '"';
    return (size_t)(next - dst);
}

size_t cmq_json_write_string_portable(uint8_t *dst, struct cmq_span text)
{
    return write_string(dst, text, copy_plain_portable);
}

size_t cmq_json_write_string(uint8_t *dst, struct cmq_span text)
{
#ifdef __SSE2__
    return write_string(dst, text, copy_plain_sse2);
#else
    return write_string(dst, text, copy_plain_portable);
#endif
}
