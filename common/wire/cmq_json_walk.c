#include "common/wire/cmq_json_walk.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/cmq_json_text.h"

enum cmq_err cmq_walk_fail(const struct cmq_walk *w, enum cmq_err err, size_t offset, const char *text)
{
    w->error->offset = offset;
    w->error->index = w->index;
    (void)snprintf(w->error->text, sizeof w->error->text, "%s", text);
    return err;
}

enum cmq_err cmq_walk_malformed(const struct cmq_walk *w, uint32_t token, const char *text)
{
    return cmq_walk_fail(w, CMQ_ERR_MALFORMED, cmq_walk_offset(w, token),
                         token < w->count ? text : "the body ends too early");
}

enum cmq_err cmq_walk_string(struct cmq_walk *w, uint8_t *dst, size_t bytes_max, size_t *ret_bytes)
{
    const uint8_t *src = w->body + w->tokens[w->next] + 1;
    const uint8_t *end = w->body + cmq_walk_offset(w, w->next + 1);
    size_t bytes = 0;
    while (src < end && *src != '"') {
        struct cmq_json_escape piece = {.taken = 1, .bytes = 1, .utf8 = {*src}};
        if (*src == '\\')
            piece = cmq_json_unescape(src, end);
        if (piece.taken == 0)
            return cmq_walk_fail(w, CMQ_ERR_MALFORMED, (size_t)(src - w->body), piece.wrong);
        for (size_t i = 0; i < piece.bytes; i++, bytes++)
            if (bytes < bytes_max)
                dst[bytes] = piece.utf8[i];
        src += piece.taken;
    }
    if (src >= end)
        return cmq_walk_fail(w, CMQ_ERR_MALFORMED, w->tokens[w->next], "a string is not closed");
    *ret_bytes = bytes;
    w->next++;
    return CMQ_OK;
}

static bool is_white(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

size_t cmq_walk_value_end(const struct cmq_walk *w)
{
    size_t end = cmq_walk_offset(w, w->next);
    while (end > 0 && is_white(w->body[end - 1]))
        end--;
    return end;
}

/* A number, true, false or null, alone between its token and the next. */
static enum cmq_err skip_scalar(struct cmq_walk *w)
{
    const uint8_t *begin = w->body + cmq_walk_offset(w, w->next);
    const uint8_t *end = w->body + cmq_walk_offset(w, w->next + 1);
    while (end > begin && is_white(end[-1]))
        end--;
    if (!cmq_json_is_scalar(cmq_span_make(begin, (size_t)(end - begin))))
        return cmq_walk_malformed(w, w->next, "not a JSON value");
    w->next++;
    return CMQ_OK;
}

enum cmq_err cmq_walk_key(struct cmq_walk *w, uint8_t *dst, size_t bytes_max, size_t *ret_bytes)
{
    if (cmq_walk_byte(w, w->next) != '"')
        return cmq_walk_malformed(w, w->next, "expected a member name in quotes");
    enum cmq_err err = cmq_walk_string(w, dst, bytes_max, ret_bytes);
    if (err != CMQ_OK)
        return err;
    if (cmq_walk_byte(w, w->next) != ':')
        return cmq_walk_malformed(w, w->next, "expected ':' behind the member name");
    w->next++;
    return CMQ_OK;
}

/* Moves over values and separators inside an array or object until the next value begins, or until the
 * container in which all began is closed. */
struct skipper {
    uint64_t objects; /* bit per open container, the innermost lowest: an object? */
    unsigned level;   /* open containers */
};

static enum cmq_err skip_key(struct cmq_walk *w)
{
    size_t bytes;
    return cmq_walk_key(w, NULL, 0, &bytes);
}

/* Opens the container at w->next; closes it at once if it is empty. */
static enum cmq_err skip_open(struct cmq_walk *w, struct skipper *s, bool *ret_closed)
{
    bool object = cmq_walk_byte(w, w->next) == '{';
    if (w->depth + s->level >= CMQ_JSON_DEPTH_MAX)
        return cmq_walk_malformed(w, w->next, "nested too deeply: at most 32 levels are read");
    w->next++;
    *ret_closed = cmq_walk_byte(w, w->next) == (object ? '}' : ']');
    if (*ret_closed) {
        w->next++;
        return CMQ_OK;
    }
    s->objects = s->objects << 1 | (object ? 1u : 0u);
    s->level++;
    return object ? skip_key(w) : CMQ_OK;
}

/* Behind a value: closes what ends here, or goes on to the next value. */
static enum cmq_err skip_onwards(struct cmq_walk *w, struct skipper *s)
{
    while (s->level > 0) {
        bool object = (s->objects & 1u) != 0;
        uint8_t byte = cmq_walk_byte(w, w->next);
        if (byte == ',') {
            w->next++;
            return object ? skip_key(w) : CMQ_OK;
        }
        if (byte != (object ? '}' : ']'))
            return cmq_walk_malformed(w, w->next, object ? "expected ',' or '}'" : "expected ',' or ']'");
        w->next++;
        s->objects >>= 1;
        s->level--;
    }
    return CMQ_OK;
}

enum cmq_err cmq_walk_skip(struct cmq_walk *w)
{
    struct skipper s = {0, 0};
    do {
        enum cmq_err err;
        bool ended = true;
        size_t bytes;
        uint8_t byte = cmq_walk_byte(w, w->next);
        if (byte == '{' || byte == '[')
            err = skip_open(w, &s, &ended);
        else if (byte == '"')
            err = cmq_walk_string(w, NULL, 0, &bytes);
        else
            err = skip_scalar(w);
        if (err == CMQ_OK && ended)
            err = skip_onwards(w, &s);
        if (err != CMQ_OK)
            return err;
    } while (s.level > 0);
    return CMQ_OK;
}
