/*
 * What follows of an open line is dropped once it has two bytes more than a line may have: enough to be refused, also if the
 * last of them is a CR.
 */
#include <string.h>

#include "common/wire/cmq_ndjson.h"

void cmq_lines_init(struct cmq_lines *lines, size_t line_bytes_max, size_t held_bytes_max)
{
    *lines = (struct cmq_lines){.line_bytes_max = line_bytes_max, .line = 1};
    cmq_buf_init(&lines->held, held_bytes_max + CMQ_JSON_PADDING);
}

void cmq_lines_fini(struct cmq_lines *lines)
{
    cmq_buf_fini(&lines->held);
    lines->begin = lines->end = 0;
}

/* Moves what was not taken to the front. */
static void compact(struct cmq_lines *lines)
{
    if (lines->begin == 0)
        return;
    struct cmq_buf *held = &lines->held;
    held->bytes -= lines->begin;
    memmove(held->data, held->data + lines->begin, held->bytes);
    lines->end -= lines->begin;
    lines->begin = 0;
}

static size_t open_bytes(const struct cmq_lines *lines)
{
    return lines->held.bytes - lines->end;
}

enum cmq_err cmq_lines_append(struct cmq_lines *lines, struct cmq_span chunk)
{
    size_t enough_bytes = lines->line_bytes_max + 2;
    if (open_bytes(lines) >= enough_bytes) {
        const uint8_t *end = chunk.bytes != 0 ? memchr(chunk.data, '\n', chunk.bytes) : NULL;
        if (end == NULL)
            return CMQ_OK;
        chunk = cmq_span_make(end, chunk.bytes - (size_t)(end - chunk.data));
    }
    if (chunk.bytes == 0)
        return CMQ_OK;
    compact(lines);
    enum cmq_err err = cmq_buf_reserve(&lines->held, chunk.bytes + CMQ_JSON_PADDING);
    if (err != CMQ_OK)
        return err;
    uint8_t *begin = lines->held.data + lines->held.bytes;
    memcpy(begin, chunk.data, chunk.bytes);
    lines->held.bytes += chunk.bytes;
    const uint8_t *last = memrchr(begin, '\n', chunk.bytes);
    if (last != NULL)
        lines->end = (size_t)(last - lines->held.data) + 1;
    return CMQ_OK;
}

void cmq_lines_end(struct cmq_lines *lines)
{
    lines->end = lines->held.bytes;
}
