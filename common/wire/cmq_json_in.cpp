/*
 * How a body becomes messages:
 * - simdjson's first stage (vector code chosen for this CPU) checks UTF-8, control characters and open
 * strings, and writes the offset of every token: { } [ ] : , the opening quote of a string, the first byte of
 * anything else.
 * - The walk below holds the tokens against the grammar, every one of them, and copies each content out on
 * the way.
 * - Messages are written behind *messages, which grows by them only when the last token was right.
 * Why the walk is ours: simdjson's tape costs 8 bytes a token and one more copy and gives no offset of an
 * error; its On-Demand reader does not check what it skips. What fails: a first stage that refuses gives no
 * offset, so a slow scan finds it. The walk knows its own.
 *
 * The output fits into as many bytes as the body has. A message takes at least `{"content":"` before its
 * text, 12 bytes, for a head of at most 5; text never grows when it is decoded. So the write position stays
 * at least 7 bytes behind the read position, and a 16-byte store is safe wherever a 16-byte load is.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include <simdjson.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* compound literals are C */
extern "C" {
#include "common/base/cmq_buf.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_json_text.h"
}
#pragma GCC diagnostic pop

struct cmq_json_parser {
    std::unique_ptr<simdjson::internal::dom_parser_implementation> stage1;
    size_t body_bytes_max;
};

namespace
{

constexpr unsigned DEPTH_MAX = 32;
constexpr size_t CAPACITY_MIN = 4096;
constexpr size_t CAPACITY_KEEP_MAX = 1u << 20; /* body bytes; a parser keeps at most four times as much */
constexpr uint32_t NO_INDEX = UINT32_MAX;

struct walk {
    const uint8_t *body;
    size_t bytes;
    const uint32_t *tokens;
    uint32_t count; /* of tokens */
    uint32_t next;  /* token */
    uint32_t index; /* message that is being read, or NO_INDEX */
    uint32_t messages;
    unsigned depth; /* containers that are open */
    bool batch;
    const cmq_json_limits *limits;
    uint8_t *out; /* end of what is written */
    cmq_json_error *error;
};

typedef cmq_err read_value(walk &w);

/* A constant string that knows its length. */
struct name {
    const char *text;
    size_t bytes;
};
constexpr name CONTENT = {"content", 7};
constexpr name MESSAGES = {"messages", 8};

cmq_err fail(const walk &w, cmq_err err, size_t offset, const char *text)
{
    w.error->offset = offset;
    w.error->index = w.index;
    (void)snprintf(w.error->text, sizeof w.error->text, "%s", text);
    return err;
}

inline size_t token_offset(const walk &w, uint32_t token)
{
    return token < w.count ? w.tokens[token] : w.bytes;
}

/* 0 behind the last token; no token begins with it, since the grammar has no NUL. */
inline uint8_t token_byte(const walk &w, uint32_t token)
{
    return token < w.count ? w.body[w.tokens[token]] : uint8_t{0};
}

cmq_err malformed(const walk &w, uint32_t token, const char *text)
{
    return fail(w, CMQ_ERR_MALFORMED, token_offset(w, token),
                token < w.count ? text : "the body ends too early");
}

/* ---- what is checked but not copied ---- */

/* Checks the string at w.next and moves behind it; tells whether it says `wanted`. */
cmq_err read_string(walk &w, name wanted, bool *ret_equal)
{
    const uint8_t *src = w.body + w.tokens[w.next] + 1;
    const uint8_t *end = w.body + token_offset(w, w.next + 1);
    size_t bytes = 0;
    bool equal = true;
    while (src < end && *src != '"') {
        cmq_json_escape piece = {1, 1, {*src}, nullptr};
        if (*src == '\\')
            piece = cmq_json_unescape(src, end);
        if (piece.taken == 0)
            return fail(w, CMQ_ERR_MALFORMED, static_cast<size_t>(src - w.body), piece.wrong);
        equal = equal && piece.bytes <= wanted.bytes - bytes &&
                memcmp(wanted.text + bytes, piece.utf8, piece.bytes) == 0;
        bytes += equal ? piece.bytes : 0;
        src += piece.taken;
    }
    if (src >= end)
        return fail(w, CMQ_ERR_MALFORMED, w.tokens[w.next], "a string is not closed");
    *ret_equal = equal && bytes == wanted.bytes;
    w.next++;
    return CMQ_OK;
}

bool is_white(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* A number, true, false or null, alone between its token and the next. */
cmq_err read_scalar(walk &w)
{
    const uint8_t *begin = w.body + token_offset(w, w.next);
    const uint8_t *end = w.body + token_offset(w, w.next + 1);
    while (end > begin && is_white(end[-1]))
        end--;
    if (!cmq_json_is_scalar({begin, static_cast<size_t>(end - begin)}))
        return malformed(w, w.next, "not a JSON value");
    w.next++;
    return CMQ_OK;
}

cmq_err too_deep(const walk &w)
{
    return malformed(w, w.next, "nested too deeply: at most 32 levels are read");
}

/* Reads `"key":`. */
cmq_err read_key(walk &w, name wanted, bool *ret_equal)
{
    if (token_byte(w, w.next) != '"')
        return malformed(w, w.next, "expected a member name in quotes");
    cmq_err err = read_string(w, wanted, ret_equal);
    if (err != CMQ_OK)
        return err;
    if (token_byte(w, w.next) != ':')
        return malformed(w, w.next, "expected ':' behind the member name");
    w.next++;
    return CMQ_OK;
}

/* Moves over values and separators inside an array or object until the next value begins, or until the
 * container in which all began is closed. */
struct skipper {
    uint64_t objects; /* bit per open container, the innermost lowest: an object? */
    unsigned level;   /* open containers */
};

cmq_err skip_key(walk &w)
{
    bool equal;
    return read_key(w, CONTENT, &equal);
}

/* Opens the container at w.next; closes it at once if it is empty. */
cmq_err skip_open(walk &w, skipper &s, bool *ret_closed)
{
    bool object = token_byte(w, w.next) == '{';
    if (w.depth + s.level >= DEPTH_MAX)
        return too_deep(w);
    w.next++;
    *ret_closed = token_byte(w, w.next) == (object ? '}' : ']');
    if (*ret_closed) {
        w.next++;
        return CMQ_OK;
    }
    s.objects = s.objects << 1 | (object ? 1u : 0u);
    s.level++;
    return object ? skip_key(w) : CMQ_OK;
}

/* Behind a value: closes what ends here, or goes on to the next value. */
cmq_err skip_onwards(walk &w, skipper &s)
{
    while (s.level > 0) {
        bool object = (s.objects & 1u) != 0;
        uint8_t byte = token_byte(w, w.next);
        if (byte == ',') {
            w.next++;
            return object ? skip_key(w) : CMQ_OK;
        }
        if (byte != (object ? '}' : ']'))
            return malformed(w, w.next, object ? "expected ',' or '}'" : "expected ',' or ']'");
        w.next++;
        s.objects >>= 1;
        s.level--;
    }
    return CMQ_OK;
}

/* Checks the value at w.next and moves behind it. */
cmq_err skip_value(walk &w)
{
    skipper s = {0, 0};
    do {
        cmq_err err;
        bool ended = true, equal;
        uint8_t byte = token_byte(w, w.next);
        if (byte == '{' || byte == '[')
            err = skip_open(w, s, &ended);
        else if (byte == '"')
            err = read_string(w, CONTENT, &equal);
        else
            err = read_scalar(w);
        if (err == CMQ_OK && ended)
            err = skip_onwards(w, s);
        if (err != CMQ_OK)
            return err;
    } while (s.level > 0);
    return CMQ_OK;
}

/* ---- what is copied ---- */

/* Copies up to the next quote or backslash; returns how many bytes. end: where the token must have ended. */
inline size_t copy_plain(const walk &w, uint8_t *dst, const uint8_t *src, const uint8_t *end)
{
    const uint8_t *begin = src;
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    const uint8_t *body_end = w.body + w.bytes;
    while (src < end && body_end - src >= 16) {
        __m128i chunk = _mm_loadu_si128(reinterpret_cast<const __m128i *>(src));
        __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(chunk, quote), _mm_cmpeq_epi8(chunk, backslash));
        unsigned mask = static_cast<unsigned>(_mm_movemask_epi8(hits));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(dst), chunk);
        if (mask != 0)
            return static_cast<size_t>(src - begin) + static_cast<unsigned>(__builtin_ctz(mask));
        src += 16;
        dst += 16;
    }
#else
    (void)w;
#endif
    while (src < end && *src != '"' && *src != '\\')
        *dst++ = *src++;
    return static_cast<size_t>(src - begin);
}

/* Decodes the string of the token to dst. */
inline cmq_err copy_string(const walk &w, uint32_t token, uint8_t *dst, size_t *ret_bytes)
{
    const uint8_t *src = w.body + w.tokens[token] + 1;
    const uint8_t *end = w.body + token_offset(w, token + 1);
    const uint8_t *begin = dst;
    for (;;) {
        size_t count = copy_plain(w, dst, src, end);
        src += count;
        dst += count;
        if (src >= end)
            return fail(w, CMQ_ERR_MALFORMED, w.tokens[token], "a string is not closed");
        if (*src == '"')
            break;
        cmq_json_escape piece = cmq_json_unescape(src, end);
        if (piece.taken == 0)
            return fail(w, CMQ_ERR_MALFORMED, static_cast<size_t>(src - w.body), piece.wrong);
        memcpy(dst, piece.utf8, piece.bytes);
        src += piece.taken;
        dst += piece.bytes;
    }
    *ret_bytes = static_cast<size_t>(dst - begin);
    return CMQ_OK;
}

inline size_t head_bytes(size_t bytes)
{
    return bytes < 32 ? 1 : bytes < 256 ? 2 : bytes < 65536 ? 3 : 5;
}

cmq_err too_large(const walk &w, uint32_t token, size_t bytes)
{
    (void)fail(w, CMQ_ERR_TOO_BIG, w.tokens[token], "");
    (void)snprintf(w.error->text, sizeof w.error->text, "the message has %zu bytes; at most %zu are allowed",
                   bytes, w.limits->message_bytes_max);
    return CMQ_ERR_TOO_BIG;
}

/* Appends the string of the token as a message. */
inline cmq_err append_message(walk &w, uint32_t token)
{
    /* The distance to the next token is the length if there are no escapes and no blanks: nearly always. */
    size_t head = head_bytes(token_offset(w, token + 1) - w.tokens[token] - 2);
    size_t bytes = 0;
    cmq_err err = copy_string(w, token, w.out + head, &bytes);
    if (err != CMQ_OK)
        return err;
    if (bytes > w.limits->message_bytes_max)
        return too_large(w, token, bytes);
    if (__builtin_expect(head_bytes(bytes) != head, 0))
        memmove(w.out + head_bytes(bytes), w.out + head, bytes);
    w.out += cmq_message_head(w.out, true, static_cast<uint32_t>(bytes)) + bytes;
    return CMQ_OK;
}

cmq_err read_content(walk &w)
{
    if (token_byte(w, w.next) != '"')
        return malformed(w, w.next, "\"content\" must be a string");
    cmq_err err = append_message(w, w.next);
    if (err == CMQ_OK)
        w.next++;
    return err;
}

cmq_err duplicate(const walk &w, name wanted)
{
    return malformed(w, w.next - 2,
                     wanted.bytes == CONTENT.bytes ? "\"content\" is there twice"
                                                   : "\"messages\" is there twice");
}

/* Reads the members of an object from behind its '{' to behind its '}'. */
cmq_err read_members(walk &w, name wanted, read_value *read, bool *ret_found)
{
    bool found = false;
    for (;;) {
        bool equal;
        cmq_err err = read_key(w, wanted, &equal);
        if (err != CMQ_OK)
            return err;
        if (equal && found)
            return duplicate(w, wanted);
        found = found || equal;
        err = equal ? read(w) : skip_value(w);
        if (err != CMQ_OK)
            return err;
        uint8_t byte = token_byte(w, w.next);
        if (byte != ',' && byte != '}')
            return malformed(w, w.next, "expected ',' or '}'");
        w.next++;
        if (byte == '}')
            break;
    }
    *ret_found = found;
    return CMQ_OK;
}

/* Reads the object at w.next, which must have the wanted member once. */
cmq_err read_object(walk &w, name wanted, read_value *read, const char *expected)
{
    uint32_t begin = w.next;
    bool found = false;
    if (token_byte(w, w.next) != '{')
        return malformed(w, w.next, expected);
    w.next++;
    w.depth++;
    if (token_byte(w, w.next) == '}') {
        w.next++;
    } else {
        cmq_err err = read_members(w, wanted, read, &found);
        if (err != CMQ_OK)
            return err;
    }
    w.depth--;
    return found ? CMQ_OK : malformed(w, begin, expected);
}

/* Whether `{ "content" : " }` lies at w.next. The name is compared as it stands in the body, closing quote
 * included. */
inline bool is_plain_message(const walk &w)
{
    static const char key[] = "\"content\"";
    if (w.count - w.next < 5)
        return false;
    const uint32_t *t = w.tokens + w.next;
    const uint8_t *b = w.body;
    return b[t[0]] == '{' && t[2] - t[1] >= sizeof key - 1 && memcmp(b + t[1], key, sizeof key - 1) == 0 &&
           b[t[2]] == ':' && b[t[3]] == '"' && b[t[4]] == '}';
}

inline cmq_err read_message(walk &w)
{
    if (__builtin_expect(!is_plain_message(w), 0))
        return read_object(w, CONTENT, read_content, "expected {\"content\": \"...\"} with a string");
    cmq_err err = append_message(w, w.next + 3);
    if (err == CMQ_OK)
        w.next += 5;
    return err;
}

cmq_err too_many(const walk &w)
{
    (void)malformed(w, w.next, "");
    (void)snprintf(w.error->text, sizeof w.error->text,
                   "more than %u messages; send them in several requests", w.limits->messages_max);
    return CMQ_ERR_TOO_BIG;
}

/* Reads the value of "messages". */
cmq_err read_messages(walk &w)
{
    if (token_byte(w, w.next) != '[')
        return malformed(w, w.next, "\"messages\" must be an array");
    w.next++;
    if (token_byte(w, w.next) == ']') {
        w.next++;
        return CMQ_OK;
    }
    w.depth++;
    for (;;) {
        w.index = w.messages;
        if (w.messages == w.limits->messages_max)
            return too_many(w);
        cmq_err err = read_message(w);
        if (err != CMQ_OK)
            return err;
        w.messages++;
        w.index = NO_INDEX;
        uint8_t byte = token_byte(w, w.next);
        if (byte != ',' && byte != ']')
            return malformed(w, w.next, "expected ',' or ']' behind a message");
        w.next++;
        if (byte == ']')
            break;
    }
    w.depth--;
    return CMQ_OK;
}

/* ---- documents ---- */

cmq_err grow(cmq_json_parser &parser, size_t bytes)
{
    if (parser.stage1 != nullptr && bytes <= parser.stage1->capacity())
        return CMQ_OK;
    size_t capacity = CAPACITY_MIN;
    while (capacity < bytes)
        capacity *= 2;
    capacity = capacity < parser.body_bytes_max ? capacity : parser.body_bytes_max;
    parser.stage1.reset(); /* before the new one is there: at most one at a time */
    simdjson::error_code failed = simdjson::get_active_implementation()->create_dom_parser_implementation(
        capacity, DEPTH_MAX, parser.stage1);
    if (failed == simdjson::SUCCESS)
        return CMQ_OK;
    parser.stage1.reset();
    return CMQ_ERR_NOMEM;
}

/* The first stage says what, but neither where nor in which message. */
cmq_err refused_by_stage1(walk &w)
{
    cmq_json_flaw flaw = cmq_json_find_flaw({w.body, w.bytes});
    w.index = w.batch ? flaw.index : NO_INDEX;
    return fail(w, CMQ_ERR_MALFORMED, flaw.offset, flaw.text);
}

/* Fills w's tokens. */
cmq_err tokenize(cmq_json_parser &parser, walk &w)
{
    if (w.bytes > parser.body_bytes_max)
        return fail(w, CMQ_ERR_TOO_BIG, SIZE_MAX, "the body is larger than the limit");
    if (w.bytes == 0)
        return fail(w, CMQ_ERR_MALFORMED, 0, "the body is empty; expected a JSON object");
    static const uint8_t byte_order_mark[] = {0xef, 0xbb, 0xbf};
    if (w.bytes >= 3 && memcmp(w.body, byte_order_mark, 3) == 0)
        return fail(w, CMQ_ERR_MALFORMED, 0, "byte order mark before the JSON text; send UTF-8 without one");
    if (grow(parser, w.bytes) != CMQ_OK)
        return fail(w, CMQ_ERR_NOMEM, SIZE_MAX, "out of memory");
    simdjson::error_code failed = parser.stage1->stage1(w.body, w.bytes, simdjson::stage1_mode::regular);
    if (failed == simdjson::EMPTY)
        return fail(w, CMQ_ERR_MALFORMED, w.bytes, "the body is blank; expected a JSON object");
    if (failed != simdjson::SUCCESS)
        return refused_by_stage1(w);
    w.tokens = parser.stage1->structural_indexes.get();
    w.count = parser.stage1->n_structural_indexes;
    return CMQ_OK;
}

cmq_err reserve(const walk &w, cmq_buf *messages)
{
    cmq_err err = cmq_buf_reserve(messages, w.bytes);
    if (err == CMQ_ERR_TOO_BIG)
        return fail(w, err, SIZE_MAX, "the body is larger than the limit");
    if (err != CMQ_OK)
        return fail(w, err, SIZE_MAX, "out of memory");
    return CMQ_OK;
}

/* What a document must have at its root. */
struct root {
    name wanted;
    read_value *read;
    const char *expected;
};

cmq_err read_document(walk &w, const root &root, cmq_buf *messages)
{
    w.out = messages->data + messages->bytes;
    cmq_err err = read_object(w, root.wanted, root.read, root.expected);
    if (err == CMQ_OK && w.next != w.count)
        err = malformed(w, w.next, "something follows the JSON object");
    if (err == CMQ_OK)
        messages->bytes = static_cast<size_t>(w.out - messages->data);
    return err;
}

cmq_err parse(cmq_json_parser &parser, walk &w, const root &root, cmq_buf *messages)
{
    cmq_err err = tokenize(parser, w);
    if (err == CMQ_OK)
        err = reserve(w, messages);
    if (err == CMQ_OK)
        err = read_document(w, root, messages);
    if (parser.stage1 != nullptr && parser.stage1->capacity() > CAPACITY_KEEP_MAX)
        parser.stage1.reset();
    return err;
}

walk begin_walk(bool batch, cmq_span body, const cmq_json_limits *limits, cmq_json_error *error)
{
    walk w = {};
    w.batch = batch;
    w.body = body.data;
    w.bytes = body.bytes;
    w.index = NO_INDEX;
    w.limits = limits;
    w.error = error;
    return w;
}

} // namespace

enum cmq_err cmq_json_parser_new(size_t body_bytes_max, struct cmq_json_parser **ret_parser)
{
    if (body_bytes_max == 0 || body_bytes_max > simdjson::SIMDJSON_MAXSIZE_BYTES)
        return CMQ_ERR_INVALID;
    cmq_json_parser *parser = new (std::nothrow) cmq_json_parser{nullptr, body_bytes_max};
    if (parser == nullptr)
        return CMQ_ERR_NOMEM;
    *ret_parser = parser;
    return CMQ_OK;
}

void cmq_json_parser_free(struct cmq_json_parser *parser)
{
    delete parser;
}

enum cmq_err cmq_json_parse_single(struct cmq_json_parser *parser, struct cmq_span body,
                                   const struct cmq_json_limits *limits, struct cmq_buf *messages,
                                   struct cmq_json_error *ret_error)
{
    static const root single = {CONTENT, read_content, "expected {\"content\": \"...\"} with a string"};
    walk w = begin_walk(false, body, limits, ret_error);
    return parse(*parser, w, single, messages);
}

enum cmq_err cmq_json_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                  const struct cmq_json_limits *limits, struct cmq_buf *messages,
                                  uint32_t *ret_count, struct cmq_json_error *ret_error)
{
    static const root batch = {MESSAGES, read_messages,
                               "expected {\"messages\": [{\"content\": \"...\"}, ...]}"};
    walk w = begin_walk(true, body, limits, ret_error);
    cmq_err err = parse(*parser, w, batch, messages);
    if (err == CMQ_OK)
        *ret_count = w.messages;
    return err;
}
