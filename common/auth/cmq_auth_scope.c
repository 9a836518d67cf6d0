#include "common/auth/cmq_auth_scope.h"

#include <string.h>

#include "common/wire/cmq_topic.h"

enum { PATTERN_BYTES_MAX = 255 };

static size_t level_end(struct cmq_span name, size_t begin)
{
    const uint8_t *dot = begin == name.bytes ? NULL : memchr(name.data + begin, '.', name.bytes - begin);
    return dot == NULL ? name.bytes : (size_t)(dot - name.data);
}

static bool level_is(struct cmq_span name, size_t begin, size_t end, char byte)
{
    return end - begin == 1 && name.data[begin] == (uint8_t)byte;
}

bool cmq_auth_covers(struct cmq_span outer, struct cmq_span inner)
{
    if (inner.data[0] == '$' && outer.data[0] != '$')
        return false; /* the broker's own topics are given by name only */
    size_t outer_begin = 0, inner_begin = 0;
    for (;;) {
        const size_t outer_end = level_end(outer, outer_begin), inner_end = level_end(inner, inner_begin);
        if (level_is(outer, outer_begin, outer_end, '>'))
            return true;
        if (level_is(inner, inner_begin, inner_end, '>'))
            return false;
        /* `*` is no level's name, so that a plain level never equals it. */
        const size_t bytes = outer_end - outer_begin;
        if (!level_is(outer, outer_begin, outer_end, '*') &&
            (bytes != inner_end - inner_begin ||
             memcmp(outer.data + outer_begin, inner.data + inner_begin, bytes) != 0))
            return false;
        if (outer_end == outer.bytes || inner_end == inner.bytes)
            return outer_end == outer.bytes && inner_end == inner.bytes;
        outer_begin = outer_end + 1;
        inner_begin = inner_end + 1;
    }
}

static bool one_covers(struct cmq_span scope, struct cmq_span inner)
{
    while (scope.bytes > 0) {
        const uint8_t *comma = memchr(scope.data, ',', scope.bytes);
        const size_t bytes = comma == NULL ? scope.bytes : (size_t)(comma - scope.data);
        if (cmq_auth_covers(cmq_span_make(scope.data, bytes), inner))
            return true;
        if (comma == NULL)
            return false;
        scope = cmq_span_make(comma + 1, scope.bytes - bytes - 1);
    }
    return false;
}

bool cmq_auth_scope_covers(struct cmq_span scope, struct cmq_span inner)
{
    if (one_covers(scope, inner))
        return true;
    if (inner.data[inner.bytes - 1] != '>')
        return false;
    /* `>` in the form of 1, 2, 3 ... levels of `*`, as many as a topic can have. */
    uint8_t form[PATTERN_BYTES_MAX];
    unsigned levels = 1;
    for (size_t i = 0; i < inner.bytes; i++)
        levels += inner.data[i] == '.';
    memcpy(form, inner.data, inner.bytes);
    size_t bytes = inner.bytes;
    form[bytes - 1] = '*';
    while (one_covers(scope, cmq_span_make(form, bytes))) {
        if (levels == CMQ_TOPIC_LEVELS_MAX || bytes + 2 > PATTERN_BYTES_MAX)
            return true;
        form[bytes++] = '.';
        form[bytes++] = '*';
        levels++;
    }
    return false;
}
