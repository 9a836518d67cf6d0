/*
 * bench_text: the text of message N, ready to be stored or compared as whole words and cheap to count up.
 * Ownership: plain caller's memory; head and tail are literals.
 * Units: bytes; at most BENCH_TEXT_BYTES of text.
 * Errors: none; a head and tail that leave no room for 20 digits are a programmer's error.
 * Callers: one thread at a time.
 *
 * Nine times out of ten the next text differs by one in one byte, so counting up is one addition to one word.
 */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BENCH_TEXT_WORDS 6u
#define BENCH_TEXT_BYTES ((size_t)BENCH_TEXT_WORDS * 8u)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bench_text counts up bytes inside words");

struct bench_text {
    uint64_t words[BENCH_TEXT_WORDS];
    uint64_t masks[BENCH_TEXT_WORDS]; /* all ones where words has text */
    uint64_t number;
    uint64_t step; /* one, at the last digit's place in its word */
    const char *head, *tail;
    unsigned bytes;
    unsigned word_count; /* words that hold text */
    unsigned step_word;
    unsigned last_digit;
};

/* The text is head, number, tail. */
void bench_text_init(struct bench_text *text, const char *head, const char *tail, uint64_t number);
void bench_text_set(struct bench_text *text, uint64_t number);

static inline void bench_text_next(struct bench_text *text)
{
    if (text->last_digit == 9) {
        bench_text_set(text, text->number + 1);
        return;
    }
    text->number++;
    text->last_digit++;
    text->words[text->step_word] += text->step;
}

/* Writes text->bytes bytes and, behind them, up to BENCH_TEXT_BYTES of zeros. Returns the place behind the
 * text. */
static inline uint8_t *bench_text_store(const struct bench_text *text, uint8_t *dst)
{
    memcpy(dst, text->words, BENCH_TEXT_BYTES);
    return dst + text->bytes;
}

/* BENCH_TEXT_BYTES at src must be readable. */
static inline bool bench_text_matches(const struct bench_text *text, const uint8_t *src)
{
    uint64_t differs = 0;
    for (unsigned i = 0; i < text->word_count; i++) {
        uint64_t word;
        memcpy(&word, src + (size_t)i * 8u, sizeof word);
        differs |= (word ^ text->words[i]) & text->masks[i];
    }
    return differs == 0;
}

/* "message_" and a number without leading zeros, as Python's f"message_{n}" makes it. */
bool bench_text_parse(const uint8_t *data, size_t bytes, uint64_t *ret_number);

#endif
