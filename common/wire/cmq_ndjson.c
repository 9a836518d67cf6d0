/*
 * The tokens of many lines are found at once, as if the block were one text: no token spans lines, since a line's end is
 * white space outside of strings and not allowed inside. Then each line is walked by itself.
 * - A byte that cannot be part of JSON fails the tokens of its whole piece. The piece is then halved until it is the one line
 *   that is to blame, and grows again behind it: a bad line costs about four times its piece, many of them a few calls a line.
 * - A piece is small enough for its tokens to stay in the cache.
 */
#include "common/wire/cmq_ndjson.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/cmq_json_in_int.h"
#include "common/wire/cmq_json_text.h"

enum { PIECE_BYTES = 1 << 16 };

struct run {
    struct cmq_json_parser *parser;
    const struct cmq_ndjson_order *order;
    struct cmq_ndjson_found *found;
    struct cmq_buf *messages;
    struct cmq_json_error error;
    size_t line_bytes_max;
    bool stopped; /* the next line belongs to another call */
};

static void refuse(struct run *run)
{
    run->order->refused(run->order->context, run->order->line + run->found->lines, &run->error);
    run->found->refused++;
}

/* A line is behind us: bytes with its end. */
static void pass(struct run *run, size_t bytes)
{
    run->found->lines++;
    run->found->bytes += bytes;
}

static void say(struct run *run, size_t offset, const char *text)
{
    run->error.offset = offset;
    run->error.index = CMQ_JSON_NO_INDEX;
    (void)snprintf(run->error.text, sizeof run->error.text, "%s", text);
}

static void say_too_long(struct run *run)
{
    say(run, SIZE_MAX, "");
    (void)snprintf(run->error.text, sizeof run->error.text, "the line has more than %zu bytes",
                   run->line_bytes_max);
}

/* Without the CR of its end. */
static bool is_too_long(const struct run *run, struct cmq_span line)
{
    if (line.bytes > 0 && line.data[line.bytes - 1] == '\r')
        line.bytes--;
    return line.bytes > run->line_bytes_max;
}

/* Up to the first LF, without it. */
static struct cmq_span first_line(struct cmq_span lines)
{
    const uint8_t *end = memchr(lines.data, '\n', lines.bytes);
    return end == NULL ? lines : cmq_span_make(lines.data, (size_t)(end - lines.data));
}

/* Reads the element of the line whose tokens are w->next up to w->count. */
static enum cmq_err read_line(struct cmq_walk *w)
{
    enum cmq_err err = cmq_json_read_element(w);
    if (err == CMQ_OK && w->next != w->count)
        err = cmq_walk_malformed(w, w->next, "something follows the JSON value of the line");
    return err;
}

/* A line that failed: refused, or the end of this call. begin: of the line in w->body. */
static enum cmq_err line_failed(struct run *run, const struct cmq_walk *w, enum cmq_err err, size_t begin)
{
    if (err == CMQ_ERR_NOMEM || (w->full && run->messages->bytes != 0)) {
        run->stopped = true;
        return err == CMQ_ERR_NOMEM ? err : CMQ_OK;
    }
    if (cmq_json_has_byte_order_mark(cmq_span_make(w->body + begin, w->bytes - begin)))
        say(run, begin, CMQ_JSON_BYTE_ORDER_MARK);
    if (run->error.offset != SIZE_MAX)
        run->error.offset -= begin;
    refuse(run);
    return CMQ_OK;
}

/* Takes the line at begin, which has the tokens from w->next up to w->count. */
static enum cmq_err take_line(struct run *run, struct cmq_walk *w, size_t begin)
{
    if (is_too_long(run, cmq_span_make(w->body + begin, w->bytes - begin))) {
        say_too_long(run);
        refuse(run);
        return CMQ_OK;
    }
    if (w->next == w->count)
        return CMQ_OK; /* blank */
    if (run->found->messages == run->order->limits->messages_max) {
        run->stopped = true;
        return CMQ_OK;
    }
    w->depth = 1; /* as if it stood in an array: the same element, the same answer */
    w->full = false;
    w->out = run->messages->data + run->messages->bytes; /* of a line that failed nothing stays */
    enum cmq_err err = read_line(w);
    if (err != CMQ_OK)
        return line_failed(run, w, err, begin);
    run->messages->bytes = (size_t)(w->out - run->messages->data);
    run->found->messages++;
    run->found->has_ids = run->found->has_ids || w->has_ids;
    return CMQ_OK;
}

/* Takes the lines of a piece that has tokens. */
static enum cmq_err take_lines(struct run *run, struct cmq_walk *w)
{
    const size_t bytes = w->bytes;
    const uint32_t count = w->count;
    uint32_t token = 0;
    for (size_t begin = 0; begin < bytes;) {
        w->bytes = begin + first_line(cmq_span_make(w->body + begin, bytes - begin)).bytes;
        w->next = token;
        while (token < count && w->tokens[token] < w->bytes)
            token++;
        w->count = token;
        enum cmq_err err = take_line(run, w, begin);
        if (err != CMQ_OK || run->stopped)
            return err;
        size_t next = w->bytes + (w->bytes < bytes);
        pass(run, next - begin);
        begin = next;
    }
    return CMQ_OK;
}

/* Where a piece of at most `bytes` ends that has whole lines, but one at least; rest is not empty. */
static struct cmq_span cut_piece(struct cmq_span rest, size_t bytes)
{
    if (bytes >= rest.bytes)
        return rest;
    const uint8_t *last = memrchr(rest.data, '\n', bytes);
    if (last != NULL)
        return cmq_span_make(rest.data, (size_t)(last - rest.data) + 1);
    struct cmq_span line = first_line(rest);
    return cmq_span_make(rest.data, line.bytes + (line.bytes < rest.bytes));
}

/* The line whose tokens cannot be found. */
static void refuse_line(struct run *run, struct cmq_span line)
{
    struct cmq_json_flaw flaw = cmq_json_find_flaw(line);
    say(run, flaw.offset, flaw.text);
    if (cmq_json_has_byte_order_mark(line))
        say(run, 0, CMQ_JSON_BYTE_ORDER_MARK);
    if (is_too_long(run, line))
        say_too_long(run);
    refuse(run);
}

/* Takes the lines of a piece, or makes *piece_bytes smaller. */
static enum cmq_err take_piece(struct run *run, struct cmq_span piece, size_t *piece_bytes)
{
    struct cmq_walk w;
    enum cmq_err err = CMQ_ERR_MALFORMED;
    struct cmq_span line = first_line(piece);
    if (piece.bytes <= cmq_json_body_bytes_max(run->parser)) {
        cmq_json_begin_walk(&w, piece, run->order->limits, run->order->defaults, run->messages, &run->error);
        w.grows = true;
        err = cmq_json_tokenize(run->parser, &w);
    } else if (line.bytes + 1 < piece.bytes) {
        *piece_bytes = cmq_json_body_bytes_max(run->parser);
        return CMQ_OK;
    }
    if (err == CMQ_OK)
        err = take_lines(run, &w);
    if (err == CMQ_OK)
        *piece_bytes = *piece_bytes < PIECE_BYTES ? *piece_bytes * 2 : PIECE_BYTES;
    if (err != CMQ_ERR_MALFORMED)
        return err;
    if (line.bytes + 1 < piece.bytes) {
        *piece_bytes = piece.bytes / 2;
        return CMQ_OK;
    }
    refuse_line(run, line);
    pass(run, piece.bytes);
    return CMQ_OK;
}

enum cmq_err cmq_ndjson_parse(struct cmq_json_parser *parser, struct cmq_span block,
                              const struct cmq_ndjson_order *order, struct cmq_buf *messages,
                              struct cmq_ndjson_found *ret_found)
{
    size_t body_bytes_max = cmq_json_body_bytes_max(parser);
    struct run run = {.parser = parser, .order = order, .found = ret_found, .messages = messages};
    run.line_bytes_max = (size_t)cmq_min_u64(order->line_bytes_max, body_bytes_max);
    *ret_found = (struct cmq_ndjson_found){0};
    size_t piece_bytes = PIECE_BYTES;
    enum cmq_err err = cmq_buf_reserve(messages, 1); /* data is not NULL from here on */
    while (err == CMQ_OK && !run.stopped && ret_found->bytes < block.bytes) {
        struct cmq_span rest = cmq_span_make(block.data + ret_found->bytes, block.bytes - ret_found->bytes);
        err = take_piece(&run, cut_piece(rest, piece_bytes), &piece_bytes);
    }
    cmq_json_trim(parser);
    return err;
}

enum cmq_err cmq_ndjson_take(struct cmq_json_parser *parser, struct cmq_lines *lines,
                             const struct cmq_ndjson_order *order, struct cmq_buf *messages,
                             struct cmq_ndjson_found *ret_found)
{
    struct cmq_ndjson_order own = *order;
    own.line_bytes_max = lines->line_bytes_max;
    own.line = lines->line;
    struct cmq_span ready = cmq_span_make(NULL, 0);
    if (cmq_lines_ready(lines) != 0)
        ready = cmq_span_make(lines->held.data + lines->begin, cmq_lines_ready(lines));
    enum cmq_err err = cmq_ndjson_parse(parser, ready, &own, messages, ret_found);
    lines->begin += ret_found->bytes;
    lines->line += ret_found->lines;
    return err;
}
