#include "tests/bench/bench_stream.h"

#include "common/base/cmq_base.h"

void bench_stream_init(struct bench_stream *stream, struct bench_verify *verify)
{
    *stream = (struct bench_stream){.verify = verify, .phase = BENCH_STREAM_DONE};
    bench_text_init(&stream->expected, "\"message_", "\"", verify != NULL ? verify->first : 1);
}

void bench_stream_begin(struct bench_stream *stream)
{
    stream->phase = BENCH_STREAM_START;
}

void bench_stream_end(struct bench_stream *stream)
{
    if (stream->phase != BENCH_STREAM_DONE && stream->phase != BENCH_STREAM_BAD)
        stream->corrupt++;
    stream->phase = BENCH_STREAM_DONE;
}

static void turn_bad(struct bench_stream *stream)
{
    stream->corrupt++;
    stream->phase = BENCH_STREAM_BAD;
}

static void add_content_byte(struct bench_stream *stream, uint8_t byte)
{
    if (stream->content_bytes < sizeof stream->content)
        stream->content[stream->content_bytes] = byte;
    stream->content_bytes++;
}

static void add_content_code(struct bench_stream *stream, uint32_t code)
{
    if (code < 0x80u) {
        add_content_byte(stream, (uint8_t)code);
        return;
    }
    unsigned more = code < 0x800u ? 1u : code < 0x10000u ? 2u : 3u;
    static const uint8_t heads[] = {0, 0xc0, 0xe0, 0xf0};
    add_content_byte(stream, (uint8_t)(heads[more] | (code >> (6u * more))));
    while (more-- > 0)
        add_content_byte(stream, (uint8_t)(0x80u | ((code >> (6u * more)) & 0x3fu)));
}

static void end_string(struct bench_stream *stream, uint64_t now_ns)
{
    uint64_t number;
    stream->messages++;
    stream->phase = BENCH_STREAM_AFTER;
    if (stream->verify == NULL)
        return;
    if (stream->content_bytes > sizeof stream->content ||
        !bench_text_parse(stream->content, stream->content_bytes, &number)) {
        bench_verify_add_foreign(stream->verify);
        return;
    }
    bench_verify_add(stream->verify, number, 1, now_ns);
    bench_text_set(&stream->expected, number + 1);
}

static void take_string_byte(struct bench_stream *stream, uint8_t byte, uint64_t now_ns)
{
    if (byte < 0x20 || (stream->high_surrogate != 0 && byte != '\\'))
        turn_bad(stream);
    else if (byte == '"')
        end_string(stream, now_ns);
    else if (byte == '\\')
        stream->phase = BENCH_STREAM_ESCAPE;
    else
        add_content_byte(stream, byte);
}

static void take_escape_byte(struct bench_stream *stream, uint8_t byte)
{
    static const char names[] = "\"\\/bfnrt";
    static const char codes[] = "\"\\/\b\f\n\r\t";
    if (byte == 'u') {
        stream->phase = BENCH_STREAM_HEX;
        stream->hex_left = 4;
        stream->hex = 0;
        return;
    }
    const char *found = byte != 0 ? strchr(names, byte) : NULL;
    if (found == NULL || stream->high_surrogate != 0) {
        turn_bad(stream);
        return;
    }
    add_content_byte(stream, (uint8_t)codes[found - names]);
    stream->phase = BENCH_STREAM_STRING;
}

/* A whole \uXXXX is there. */
static void end_hex(struct bench_stream *stream)
{
    uint32_t code = stream->hex, high = stream->high_surrogate;
    bool is_low = code >= 0xdc00u && code <= 0xdfffu;
    stream->phase = BENCH_STREAM_STRING;
    stream->high_surrogate = 0;
    if (is_low != (high != 0))
        turn_bad(stream);
    else if (is_low)
        add_content_code(stream, 0x10000u + ((high - 0xd800u) << 10) + (code - 0xdc00u));
    else if (code >= 0xd800u && code <= 0xdbffu)
        stream->high_surrogate = code;
    else
        add_content_code(stream, code);
}

static void take_hex_byte(struct bench_stream *stream, uint8_t byte)
{
    uint32_t digit;
    if (byte >= '0' && byte <= '9')
        digit = (uint32_t)byte - '0';
    else if ((byte | 0x20u) >= 'a' && (byte | 0x20u) <= 'f')
        digit = (byte | 0x20u) - 'a' + 10u;
    else {
        turn_bad(stream);
        return;
    }
    stream->hex = stream->hex << 4 | digit;
    if (--stream->hex_left == 0)
        end_hex(stream);
}

/* Between strings. */
static void take_outer_byte(struct bench_stream *stream, uint8_t byte)
{
    enum bench_stream_phase phase = stream->phase;
    if (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r')
        return;
    if (byte == '[' && phase == BENCH_STREAM_START) {
        stream->phase = BENCH_STREAM_FIRST;
    } else if (byte == '"' && (phase == BENCH_STREAM_FIRST || phase == BENCH_STREAM_VALUE)) {
        stream->phase = BENCH_STREAM_STRING;
        stream->content_bytes = 0;
        stream->high_surrogate = 0;
    } else if (byte == ',' && phase == BENCH_STREAM_AFTER) {
        stream->phase = BENCH_STREAM_VALUE;
    } else if (byte == ']' && (phase == BENCH_STREAM_FIRST || phase == BENCH_STREAM_AFTER)) {
        stream->phase = BENCH_STREAM_DONE;
    } else {
        turn_bad(stream);
    }
}

static void take_byte(struct bench_stream *stream, uint8_t byte, uint64_t now_ns)
{
    switch (stream->phase) {
    case BENCH_STREAM_STRING:
        take_string_byte(stream, byte, now_ns);
        break;
    case BENCH_STREAM_ESCAPE:
        take_escape_byte(stream, byte);
        break;
    case BENCH_STREAM_HEX:
        take_hex_byte(stream, byte);
        break;
    case BENCH_STREAM_START:
    case BENCH_STREAM_FIRST:
    case BENCH_STREAM_VALUE:
    case BENCH_STREAM_AFTER:
    case BENCH_STREAM_DONE:
        take_outer_byte(stream, byte);
        break;
    case BENCH_STREAM_BAD:
        break;
    }
}

/* As many expected strings in a row as there are, each with the comma behind it. Returns where it stopped. */
static const uint8_t *take_expected(struct bench_stream *stream, const uint8_t *at, const uint8_t *end,
                                    uint64_t now_ns)
{
    struct bench_text *expected = &stream->expected;
    uint64_t first = expected->number;
    while ((size_t)(end - at) > expected->bytes && at[expected->bytes] == ',' &&
           bench_text_matches(expected, at)) {
        at += expected->bytes + 1;
        bench_text_next(expected);
    }
    uint64_t count = expected->number - first;
    if (count == 0)
        return at;
    stream->messages += count;
    stream->phase = BENCH_STREAM_VALUE;
    if (stream->verify != NULL)
        bench_verify_add(stream->verify, first, count, now_ns);
    return at;
}

/* A whole string that is not the expected one but has no escape in it. NULL: take it byte by byte. */
static const uint8_t *take_plain(struct bench_stream *stream, const uint8_t *at, const uint8_t *end,
                                 uint64_t now_ns)
{
    const uint8_t *p = at + 1;
    const uint8_t *limit = (size_t)(end - p) > sizeof stream->content ? p + sizeof stream->content : end;
    while (p < limit && *p != '"' && *p != '\\' && *p >= 0x20)
        p++;
    if (p == limit || *p != '"')
        return NULL;
    stream->content_bytes = (size_t)(p - at) - 1;
    memcpy(stream->content, at + 1, stream->content_bytes);
    end_string(stream, now_ns);
    return p + 1;
}

void bench_stream_piece(struct bench_stream *stream, const uint8_t *data, size_t bytes, uint64_t now_ns)
{
    const uint8_t *at = data, *end = data + bytes;
    while (at < end) {
        bool value = stream->phase == BENCH_STREAM_FIRST || stream->phase == BENCH_STREAM_VALUE;
        if (value && *at == '"') {
            const uint8_t *behind = take_expected(stream, at, end, now_ns);
            if (behind == at)
                behind = take_plain(stream, at, end, now_ns);
            if (behind != NULL) {
                at = behind;
                continue;
            }
        }
        take_byte(stream, *at++, now_ns);
        if (stream->phase == BENCH_STREAM_BAD)
            return;
    }
}
