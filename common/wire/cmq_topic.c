#include "common/wire/cmq_topic.h"

#include <string.h>

enum { TOPIC_BYTES_MAX = 255 };

/* What may stand besides plain levels. */
struct rules {
    const char *noun;
    bool system;    /* the first level may begin with '$' */
    bool wildcards; /* a level may be `*`, the last may be `>` */
};

static bool is_level_byte(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '_' || byte == '-';
}

static size_t level_end(struct cmq_span name, size_t begin)
{
    const uint8_t *dot = begin == name.bytes ? NULL : memchr(name.data + begin, '.', name.bytes - begin);
    return dot == NULL ? name.bytes : (size_t)(dot - name.data);
}

static bool level_is(struct cmq_span name, size_t begin, size_t end, char byte)
{
    return end - begin == 1 && name.data[begin] == (uint8_t)byte;
}

static enum cmq_err check_level(struct cmq_span name, size_t begin, size_t end, const struct rules *rules,
                                struct cmq_reason *reason)
{
    if (begin == end)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s has an empty level at byte %zu", rules->noun,
                              begin);
    if (rules->wildcards && level_is(name, begin, end, '*'))
        return CMQ_OK;
    if (rules->wildcards && level_is(name, begin, end, '>')) {
        if (end == name.bytes)
            return CMQ_OK;
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "%s has '>' at byte %zu, but it may only be the last level", rules->noun,
                              begin);
    }
    size_t next = begin;
    if (begin == 0 && name.data[0] == '$') {
        if (!rules->system)
            return cmq_reason_set(reason, CMQ_ERR_INVALID,
                                  "%s begins with '$' at byte 0: those names belong to the broker",
                                  rules->noun);
        next++;
    }
    if (next == end)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s has nothing behind '$' at byte %zu", rules->noun,
                              next);
    for (; next < end; next++) {
        if (!is_level_byte(name.data[next]))
            return cmq_reason_set(reason, CMQ_ERR_INVALID,
                                  "%s has byte 0x%02x at byte %zu; a level is made of A-Z a-z 0-9 _ -",
                                  rules->noun, name.data[next], next);
    }
    return CMQ_OK;
}

static enum cmq_err check_name(struct cmq_span name, const struct rules *rules, struct cmq_reason *reason)
{
    if (name.bytes == 0)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s is empty; it needs 1 to 255 bytes", rules->noun);
    if (name.bytes > TOPIC_BYTES_MAX)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s is too long: %zu bytes, at most 255 are allowed",
                              rules->noun, name.bytes);
    size_t begin = 0;
    for (unsigned level = 1;; level++) {
        if (level > CMQ_TOPIC_LEVELS_MAX)
            return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s has more than %u levels at byte %zu",
                                  rules->noun, CMQ_TOPIC_LEVELS_MAX, begin);
        size_t end = level_end(name, begin);
        enum cmq_err err = check_level(name, begin, end, rules, reason);
        if (err != CMQ_OK || end == name.bytes)
            return err;
        begin = end + 1;
    }
}

enum cmq_err cmq_topic_check(struct cmq_span topic, bool allow_system, struct cmq_reason *reason)
{
    return check_name(topic, &(struct rules){.noun = "topic", .system = allow_system}, reason);
}

enum cmq_err cmq_topic_pattern_check(struct cmq_span pattern, struct cmq_reason *reason)
{
    return check_name(pattern, &(struct rules){.noun = "pattern", .system = true, .wildcards = true}, reason);
}

bool cmq_topic_matches(struct cmq_span pattern, struct cmq_span topic)
{
    if (topic.data[0] == '$' && pattern.data[0] != '$')
        return false;
    size_t pattern_begin = 0, topic_begin = 0;
    for (;;) {
        size_t pattern_end = level_end(pattern, pattern_begin);
        size_t topic_end = level_end(topic, topic_begin);
        if (level_is(pattern, pattern_begin, pattern_end, '>'))
            return true;
        size_t bytes = topic_end - topic_begin;
        if (!level_is(pattern, pattern_begin, pattern_end, '*') &&
            (pattern_end - pattern_begin != bytes ||
             memcmp(pattern.data + pattern_begin, topic.data + topic_begin, bytes) != 0))
            return false;
        if (pattern_end == pattern.bytes || topic_end == topic.bytes)
            return pattern_end == pattern.bytes && topic_end == topic.bytes;
        pattern_begin = pattern_end + 1;
        topic_begin = topic_end + 1;
    }
}
