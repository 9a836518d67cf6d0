/* The rows of the table, and single values: text -> field, number -> text. */
#include <stdio.h>
#include <string.h>

#include "common/conf/cmq_conf_int.h"

#define U64(sec, key, preset_value, low, high, unit_text, when_read, help_text) \
    {.kind = CMQ_CONF_U64,                                                      \
     .when = CMQ_CONF_##when_read,                                              \
     .section = #sec,                                                           \
     .name = #key,                                                              \
     .help = help_text,                                                         \
     .offset = offsetof(struct cmq_conf, sec##_##key),                          \
     .field_bytes = sizeof(uint64_t),                                           \
     .preset = preset_value,                                                    \
     .min = low,                                                                \
     .max = high,                                                               \
     .unit = unit_text},
#define TEXT(sec, key, preset_value, most, when_read, help_text) \
    {.kind = CMQ_CONF_TEXT,                                      \
     .when = CMQ_CONF_##when_read,                               \
     .section = #sec,                                            \
     .name = #key,                                               \
     .help = help_text,                                          \
     .offset = offsetof(struct cmq_conf, sec##_##key),           \
     .field_bytes = (most) + 1,                                  \
     .preset_text = preset_value,                                \
     .bytes_max = most},
#define WORD(sec, key, preset_value, word_list, when_read, help_text) \
    {.kind = CMQ_CONF_WORD,                                           \
     .when = CMQ_CONF_##when_read,                                    \
     .section = #sec,                                                 \
     .name = #key,                                                    \
     .help = help_text,                                               \
     .offset = offsetof(struct cmq_conf, sec##_##key),                \
     .field_bytes = sizeof(uint32_t),                                 \
     .preset_text = preset_value,                                     \
     .words = word_list},
const struct cmq_conf_row cmq_conf_rows[] = {CMQ_CONF_MAP(U64, TEXT, WORD)};
#undef U64
#undef TEXT
#undef WORD
const size_t cmq_conf_row_count = CMQ_COUNT_OF(cmq_conf_rows);

struct suffix {
    const char *text;
    uint64_t factor; /* bytes, or microseconds */
};
static const struct suffix size_suffixes[] = {{"K", CMQ_KIB(1)}, {"M", CMQ_MIB(1)}, {"G", CMQ_MIB(1024)}};
static const struct suffix time_suffixes[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}};

static const struct suffix *suffix_find(const struct suffix *suffixes, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(suffixes[i].text, text) == 0)
            return &suffixes[i];
    }
    return NULL;
}

static bool unit_is_size(const char *unit)
{
    return strcmp(unit, "bytes") == 0;
}

static bool unit_is_time(const char *unit)
{
    return suffix_find(time_suffixes, CMQ_COUNT_OF(time_suffixes), unit) != NULL;
}

const char *cmq_conf_number(struct cmq_conf_number *ret_number, uint64_t value, const char *unit)
{
    const char *suffix = "";
    if (unit_is_size(unit) && value != 0) {
        for (size_t i = CMQ_COUNT_OF(size_suffixes); i-- > 0 && suffix[0] == '\0';) {
            if (value % size_suffixes[i].factor == 0) {
                value /= size_suffixes[i].factor;
                suffix = size_suffixes[i].text;
            }
        }
    }
    (void)snprintf(ret_number->text, sizeof ret_number->text, "%llu%s", (unsigned long long)value, suffix);
    return ret_number->text;
}

const char *cmq_conf_preset(struct cmq_conf_number *storage, const struct cmq_conf_row *row)
{
    return row->kind == CMQ_CONF_U64 ? cmq_conf_number(storage, row->preset, row->unit) : row->preset_text;
}

const char *cmq_conf_shown(struct cmq_conf_shown *ret_shown, const char *text)
{
    size_t bytes = strnlen(text, 61);
    for (size_t i = 0; i < bytes && i < 60; i++) {
        unsigned char byte = (unsigned char)text[i];
        ret_shown->text[i] = byte < 0x20 || byte == 0x7f ? '?' : text[i];
    }
    memcpy(ret_shown->text + cmq_min_u64(bytes, 60), bytes > 60 ? "..." : "", bytes > 60 ? 4 : 1);
    return ret_shown->text;
}

/* Digits and perhaps a suffix -> number in the row's unit. False: not of that form, or not exact, or past
 * 2^64. */
static bool number_parse(const char *text, const char *unit, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    }
    if (at == text)
        return false;
    if (*at != '\0') {
        uint64_t divisor = 1;
        const struct suffix *suffix = NULL;
        if (unit_is_size(unit)) {
            suffix = suffix_find(size_suffixes, CMQ_COUNT_OF(size_suffixes), at);
        } else {
            const struct suffix *own = suffix_find(time_suffixes, CMQ_COUNT_OF(time_suffixes), unit);
            if (own != NULL) {
                suffix = suffix_find(time_suffixes, CMQ_COUNT_OF(time_suffixes), at);
                divisor = own->factor;
            }
        }
        if (suffix == NULL || __builtin_mul_overflow(value, suffix->factor, &value) || value % divisor != 0)
            return false;
        value /= divisor;
    }
    *ret_value = value;
    return true;
}

static enum cmq_err parse_u64(const struct cmq_conf_row *row, const char *text, uint64_t *ret_value,
                              struct cmq_reason *reason)
{
    uint64_t value;
    bool number = number_parse(text, row->unit, &value);
    if (number && value >= row->min && value <= row->max) {
        *ret_value = value;
        return CMQ_OK;
    }
    struct cmq_conf_number low, high;
    struct cmq_conf_shown shown;
    const char *form = unit_is_size(row->unit)   ? "a whole number, which may end in K, M or G, "
                       : unit_is_time(row->unit) ? "a whole number, which may end in us, ms, s or m, "
                                                 : "a whole number ";
    return cmq_reason_set(
        reason, CMQ_ERR_INVALID, "%s.%s = %s: %sfrom %s to %s%s%s is allowed", row->section, row->name,
        cmq_conf_shown(&shown, text), number ? "" : form, cmq_conf_number(&low, row->min, row->unit),
        cmq_conf_number(&high, row->max, row->unit), row->unit[0] == '\0' ? "" : " ", row->unit);
}

static enum cmq_err parse_text(const struct cmq_conf_row *row, const char *text, char *ret_text,
                               struct cmq_reason *reason)
{
    size_t bytes = strlen(text);
    if (bytes == 0 && row->preset_text[0] != '\0')
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "%s.%s is empty: give 1 to %zu characters, or leave the line out", row->section,
                              row->name, row->bytes_max);
    if (bytes > row->bytes_max)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s.%s has %zu characters: at most %zu are allowed",
                              row->section, row->name, bytes, row->bytes_max);
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s.%s has a control character at position %zu",
                                  row->section, row->name, i + 1);
    }
    memset(ret_text, 0, row->field_bytes);
    memcpy(ret_text, text, bytes);
    return CMQ_OK;
}

static enum cmq_err parse_word(const struct cmq_conf_row *row, const char *text, uint32_t *ret_index,
                               struct cmq_reason *reason)
{
    size_t bytes = strlen(text);
    uint32_t index = 0;
    for (const char *word = row->words;; index++) {
        size_t word_bytes = strcspn(word, "|");
        if (word_bytes == bytes && memcmp(word, text, bytes) == 0) {
            *ret_index = index;
            return CMQ_OK;
        }
        if (word[word_bytes] == '\0')
            break;
        word += word_bytes + 1;
    }
    struct cmq_conf_shown shown;
    return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s.%s = %s: one of these words is allowed: %s",
                          row->section, row->name, cmq_conf_shown(&shown, text), row->words);
}

enum cmq_err cmq_conf_value_parse(const struct cmq_conf_row *row, const char *text, struct cmq_conf *conf,
                                  struct cmq_reason *reason)
{
    void *field = (char *)conf + row->offset;
    switch (row->kind) {
    case CMQ_CONF_U64:
        return parse_u64(row, text, field, reason);
    case CMQ_CONF_TEXT:
        return parse_text(row, text, field, reason);
    case CMQ_CONF_WORD:
        return parse_word(row, text, field, reason);
    }
    cmq_assert(false); /* a row of an unknown kind */
    return CMQ_ERR_INVALID;
}
