#include "tests/bench/bench_text.h"

#include "common/base/cmq_base.h"

enum { DIGITS_MAX = 20 };

static const char message_head[] = "message_";

void bench_text_init(struct bench_text *text, const char *head, const char *tail, uint64_t number)
{
    cmq_assert(strlen(head) + strlen(tail) + DIGITS_MAX <= BENCH_TEXT_BYTES);
    text->head = head;
    text->tail = tail;
    bench_text_set(text, number);
}

void bench_text_set(struct bench_text *text, uint64_t number)
{
    uint8_t digits[DIGITS_MAX];
    size_t at = DIGITS_MAX;
    uint64_t rest = number;
    do {
        digits[--at] = (uint8_t)('0' + rest % 10u);
        rest /= 10u;
    } while (rest > 0);

    uint8_t bytes[BENCH_TEXT_BYTES] = {0};
    size_t head_bytes = strlen(text->head), tail_bytes = strlen(text->tail), digit_count = DIGITS_MAX - at;
    memcpy(bytes, text->head, head_bytes);
    memcpy(bytes + head_bytes, digits + at, digit_count);
    memcpy(bytes + head_bytes + digit_count, text->tail, tail_bytes);
    memcpy(text->words, bytes, sizeof bytes);

    size_t last = head_bytes + digit_count - 1;
    text->number = number;
    text->last_digit = (unsigned)(number % 10u);
    text->step_word = (unsigned)(last / 8u);
    text->step = 1ull << (8u * (last % 8u));
    text->bytes = (unsigned)(head_bytes + digit_count + tail_bytes);
    text->word_count = (text->bytes + 7u) / 8u;
    memset(text->masks, 0, sizeof text->masks);
    memset(text->masks, 0xff, text->bytes);
}

bool bench_text_parse(const uint8_t *data, size_t bytes, uint64_t *ret_number)
{
    size_t head_bytes = sizeof message_head - 1;
    /* 19 digits cannot overflow. */
    if (bytes <= head_bytes || bytes > head_bytes + 19u || memcmp(data, message_head, head_bytes) != 0)
        return false;
    if (data[head_bytes] == '0' && bytes > head_bytes + 1)
        return false;
    uint64_t number = 0;
    for (size_t i = head_bytes; i < bytes; i++) {
        unsigned digit = (unsigned)data[i] - '0';
        if (digit > 9)
            return false;
        number = number * 10u + digit;
    }
    *ret_number = number;
    return true;
}
