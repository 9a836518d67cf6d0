/*
 * /input and /input/batch: the output fits into as many bytes as the body has, so room is made once. A message takes at
 * least `{"content":"` before its text, 12 bytes, for a head of at most 5 and, if it has an id, one byte for its array; what
 * `"id":""` takes covers the rest; text never grows when it is decoded. So the write position stays behind the read
 * position, and a 16-byte store is safe wherever a 16-byte load is.
 * A batch of a topic may grow (a number becomes an array with its type), so room is made message by message.
 */
#include "common/wire/cmq_json_messages.h"

#include <stdio.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_text.h"
#include "common/wire/cmq_type.h"

/* What copy_plain may write too much. */
enum { WIDE_BYTES = 16 };
enum { NAME_BYTES_MAX = 32 };

/* The parts of one message that are not plain content. The content stands packed at w->out + 1 meanwhile. */
struct parts {
    size_t content_bytes; /* packed, with its head */
    bool json;            /* it is the text of a value that is no string */
    size_t id_bytes, type_bytes;
    uint8_t id[CMQ_MESSAGE_ID_BYTES_MAX];
    uint8_t type[CMQ_MESSAGE_TYPE_BYTES_MAX];
};

typedef enum cmq_err read_value(struct cmq_walk *w, struct parts *parts);

struct member {
    const char *name;
    size_t bytes;
    read_value *read;
};

/* An object of which some members matter; the first of them must be there. */
struct object {
    struct member members[3];
    unsigned count;
    bool strict; /* others are an error */
    const char *expected;
};

static enum cmq_err need_room(struct cmq_walk *w, size_t bytes)
{
    size_t written = (size_t)(w->out - w->buf->data);
    enum cmq_err err = cmq_buf_reserve(w->buf, written - w->buf->bytes + bytes);
    w->out = w->buf->data + written;
    if (err == CMQ_ERR_TOO_BIG)
        return cmq_walk_fail(w, err, SIZE_MAX, "the messages are larger than the limit");
    return err == CMQ_OK ? err : cmq_walk_fail(w, err, SIZE_MAX, "out of memory");
}

/* ---- contents ---- */

/* Copies up to the next quote or backslash; returns how many bytes. end: where the token must have ended. */
static inline size_t copy_plain(const struct cmq_walk *w, uint8_t *dst, const uint8_t *src,
                                const uint8_t *end)
{
    const uint8_t *begin = src;
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    const uint8_t *body_end = w->body + w->bytes;
    while (src < end && body_end - src >= WIDE_BYTES) {
        __m128i chunk = _mm_loadu_si128((const __m128i *)(const void *)src);
        __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(chunk, quote), _mm_cmpeq_epi8(chunk, backslash));
        unsigned mask = (unsigned)_mm_movemask_epi8(hits);
        _mm_storeu_si128((__m128i *)(void *)dst, chunk);
        if (mask != 0)
            return (size_t)(src - begin) + (unsigned)__builtin_ctz(mask);
        src += WIDE_BYTES;
        dst += WIDE_BYTES;
    }
#else
    (void)w;
#endif
    while (src < end && *src != '"' && *src != '\\')
        *dst++ = *src++;
    return (size_t)(src - begin);
}

/* Decodes the string of the token to dst. */
__attribute__((always_inline)) static inline enum cmq_err
copy_string(const struct cmq_walk *w, uint32_t token, uint8_t *dst, size_t *ret_bytes)
{
    const uint8_t *src = w->body + w->tokens[token] + 1;
    const uint8_t *end = w->body + cmq_walk_offset(w, token + 1);
    const uint8_t *begin = dst;
    for (;;) {
        size_t count = copy_plain(w, dst, src, end);
        src += count;
        dst += count;
        if (src >= end)
            return cmq_walk_fail(w, CMQ_ERR_MALFORMED, w->tokens[token], "a string is not closed");
        if (*src == '"')
            break;
        struct cmq_json_escape piece = cmq_json_unescape(src, end);
        if (piece.taken == 0)
            return cmq_walk_fail(w, CMQ_ERR_MALFORMED, (size_t)(src - w->body), piece.wrong);
        memcpy(dst, piece.utf8, piece.bytes);
        src += piece.taken;
        dst += piece.bytes;
    }
    *ret_bytes = (size_t)(dst - begin);
    return CMQ_OK;
}

static inline size_t head_bytes(size_t bytes)
{
    return bytes < 32 ? 1 : bytes < 256 ? 2 : bytes < 65536 ? 3 : 5;
}

/* The head of a fixstr is written here: nearly all messages are that short. */
static inline size_t put_head(uint8_t *dst, size_t bytes)
{
    if (bytes >= 32)
        return cmq_message_head(dst, true, (uint32_t)bytes);
    *dst = (uint8_t)(0xa0u | bytes);
    return 1;
}

static enum cmq_err too_large(const struct cmq_walk *w, uint32_t token, size_t bytes)
{
    (void)cmq_walk_fail(w, CMQ_ERR_TOO_BIG, w->tokens[token], "");
    (void)snprintf(w->error->text, sizeof w->error->text,
                   "the message has %zu bytes; at most %zu are allowed", bytes, w->limits->message_bytes_max);
    return CMQ_ERR_TOO_BIG;
}

/* Packs the string of the token to dst. */
__attribute__((always_inline)) static inline enum cmq_err
pack_string(const struct cmq_walk *w, uint32_t token, uint8_t *dst, size_t *ret_bytes)
{
    /* The distance to the next token is the length if there are no escapes and no blanks: nearly always. */
    size_t head = head_bytes(cmq_walk_offset(w, token + 1) - w->tokens[token] - 2);
    size_t bytes = 0;
    enum cmq_err err = copy_string(w, token, dst + head, &bytes);
    if (err != CMQ_OK)
        return err;
    if (bytes > w->limits->message_bytes_max)
        return too_large(w, token, bytes);
    if (__builtin_expect(head_bytes(bytes) != head, 0))
        memmove(dst + head_bytes(bytes), dst + head, bytes);
    *ret_bytes = put_head(dst, bytes) + bytes;
    return CMQ_OK;
}

static enum cmq_err read_content(struct cmq_walk *w, struct parts *parts)
{
    if (cmq_walk_byte(w, w->next) != '"')
        return cmq_walk_malformed(w, w->next, "\"content\" must be a string");
    enum cmq_err err = pack_string(w, w->next, w->out + 1, &parts->content_bytes);
    if (err == CMQ_OK)
        w->next++;
    return err;
}

static enum cmq_err read_data(struct cmq_walk *w, struct parts *parts)
{
    uint32_t token = w->next;
    size_t begin = cmq_walk_offset(w, token);
    parts->json = cmq_walk_byte(w, token) != '"';
    if (!parts->json) {
        enum cmq_err err = need_room(w, cmq_walk_offset(w, token + 1) - begin + CMQ_MESSAGE_FULL_BYTES +
                                            sizeof parts->id + sizeof parts->type + WIDE_BYTES);
        return err == CMQ_OK ? read_content(w, parts) : err;
    }
    enum cmq_err err = cmq_walk_skip(w);
    if (err != CMQ_OK)
        return err;
    size_t bytes = cmq_walk_value_end(w) - begin;
    if (bytes > w->limits->message_bytes_max)
        return too_large(w, token, bytes);
    err = need_room(w, bytes + CMQ_MESSAGE_FULL_BYTES + sizeof parts->id + sizeof parts->type);
    if (err != CMQ_OK)
        return err;
    size_t head = cmq_message_head(w->out + 1, true, (uint32_t)bytes);
    memcpy(w->out + 1 + head, w->body + begin, bytes);
    parts->content_bytes = head + bytes;
    return CMQ_OK;
}

static enum cmq_err read_id(struct cmq_walk *w, struct parts *parts)
{
    static const char expected[] = "\"id\" must be a string of 1 to 128 visible ASCII characters";
    uint32_t token = w->next;
    if (cmq_walk_byte(w, token) != '"')
        return cmq_walk_malformed(w, token, expected);
    enum cmq_err err = cmq_walk_string(w, parts->id, sizeof parts->id, &parts->id_bytes);
    if (err != CMQ_OK)
        return err;
    if (parts->id_bytes > sizeof parts->id ||
        !cmq_message_id_is_good(cmq_span_make(parts->id, parts->id_bytes)))
        return cmq_walk_malformed(w, token, expected);
    return CMQ_OK;
}

static enum cmq_err read_type(struct cmq_walk *w, struct parts *parts)
{
    static const char expected[] = "\"type\" must be a media type of at most 127 bytes, like \"text/html\"";
    uint32_t token = w->next;
    if (cmq_walk_byte(w, token) != '"')
        return cmq_walk_malformed(w, token, expected);
    enum cmq_err err = cmq_walk_string(w, parts->type, sizeof parts->type, &parts->type_bytes);
    if (err != CMQ_OK)
        return err;
    if (parts->type_bytes > sizeof parts->type)
        return cmq_walk_malformed(w, token, expected);
    switch (cmq_type_of(cmq_span_make(parts->type, parts->type_bytes))) {
    case CMQ_TYPE_BAD:
        return cmq_walk_malformed(w, token, expected);
    case CMQ_TYPE_JSON_FOREIGN:
        return cmq_walk_malformed(w, token, "\"type\" names a charset, but JSON is UTF-8 here");
    case CMQ_TYPE_TEXT:
    case CMQ_TYPE_JSON:
    case CMQ_TYPE_OTHER:
        break;
    }
    return CMQ_OK;
}

static uint8_t *put_or_nil(uint8_t *dst, const uint8_t *text, size_t bytes)
{
    if (bytes == 0) {
        *dst = 0xc0;
        return dst + 1;
    }
    dst += cmq_message_head(dst, true, (uint32_t)bytes);
    memcpy(dst, text, bytes);
    return dst + bytes;
}

/* Makes a message of the parts: plain content if there is nothing else. */
static void finish_message(struct cmq_walk *w, const struct parts *parts)
{
    uint8_t *content = w->out + 1;
    if (parts->id_bytes == 0 && parts->type_bytes == 0) {
        memmove(w->out, content, parts->content_bytes);
        w->out += parts->content_bytes;
        return;
    }
    w->has_ids = w->has_ids || parts->id_bytes != 0;
    *w->out = 0x95; /* array of 5, see cmq_batch.h */
    uint8_t *dst = put_or_nil(content + parts->content_bytes, parts->type, parts->type_bytes);
    dst = put_or_nil(dst, parts->id, parts->id_bytes);
    dst = put_or_nil(dst, NULL, 0);
    w->out = put_or_nil(dst, NULL, 0);
}

/* ---- objects ---- */

static enum cmq_err unknown_member(const struct cmq_walk *w, const struct object *object, uint32_t token,
                                   const char *name, size_t bytes)
{
    char shown[NAME_BYTES_MAX + 1];
    size_t count = bytes < NAME_BYTES_MAX ? bytes : NAME_BYTES_MAX;
    for (size_t i = 0; i < count; i++)
        shown[i] = name[i] >= 0x20 && name[i] < 0x7f ? name[i] : '?';
    shown[count] = '\0';
    (void)cmq_walk_malformed(w, token, "");
    (void)snprintf(w->error->text, sizeof w->error->text, "unknown member \"%s\"%s; %s", shown,
                   bytes > count ? "..." : "", object->expected);
    return CMQ_ERR_MALFORMED;
}

/* Reads one `"name":value`. seen: bit per member of the object. */
static enum cmq_err read_member(struct cmq_walk *w, const struct object *object, struct parts *parts,
                                unsigned *seen)
{
    char name[NAME_BYTES_MAX];
    size_t bytes;
    uint32_t token = w->next;
    enum cmq_err err = cmq_walk_key(w, (uint8_t *)name, sizeof name, &bytes);
    if (err != CMQ_OK)
        return err;
    for (unsigned i = 0; i < object->count; i++) {
        const struct member *member = &object->members[i];
        if (bytes != member->bytes || memcmp(name, member->name, bytes) != 0)
            continue;
        if ((*seen & 1u << i) == 0) {
            *seen |= 1u << i;
            return member->read(w, parts);
        }
        (void)cmq_walk_malformed(w, token, "");
        (void)snprintf(w->error->text, sizeof w->error->text, "\"%s\" is there twice", member->name);
        return CMQ_ERR_MALFORMED;
    }
    return object->strict ? unknown_member(w, object, token, name, bytes) : cmq_walk_skip(w);
}

/* Reads the members of an object from behind its '{' to behind its '}'. */
static enum cmq_err read_members(struct cmq_walk *w, const struct object *object, struct parts *parts,
                                 unsigned *seen)
{
    for (;;) {
        enum cmq_err err = read_member(w, object, parts, seen);
        if (err != CMQ_OK)
            return err;
        uint8_t byte = cmq_walk_byte(w, w->next);
        if (byte != ',' && byte != '}')
            return cmq_walk_malformed(w, w->next, "expected ',' or '}'");
        w->next++;
        if (byte == '}')
            return CMQ_OK;
    }
}

/* Reads the object at w->next, which must have its first member. */
static enum cmq_err read_object(struct cmq_walk *w, const struct object *object, struct parts *parts)
{
    uint32_t begin = w->next;
    unsigned seen = 0;
    if (cmq_walk_byte(w, w->next) != '{')
        return cmq_walk_malformed(w, w->next, object->expected);
    w->next++;
    w->depth++;
    if (cmq_walk_byte(w, w->next) == '}') {
        w->next++;
    } else {
        enum cmq_err err = read_members(w, object, parts, &seen);
        if (err != CMQ_OK)
            return err;
    }
    w->depth--;
    return (seen & 1u) != 0 ? CMQ_OK : cmq_walk_malformed(w, begin, object->expected);
}

/* ---- messages ---- */

static const struct object input_message = {
    .members = {{"content", 7, read_content}, {"id", 2, read_id}},
    .count = 2,
    .expected = "expected {\"content\": \"...\"} with a string",
};

static const struct object topic_message = {
    .members = {{"data", 4, read_data}, {"id", 2, read_id}, {"type", 4, read_type}},
    .count = 3,
    .strict = true,
    .expected = "expected a string or {\"data\": ..., \"id\"?: \"...\", \"type\"?: \"...\"}",
};

/* Whether `{ "content" : " }` lies at w->next. The name is compared as it stands in the body, closing quote
 * included. */
static inline bool is_plain_message(const struct cmq_walk *w)
{
    static const char key[] = "\"content\"";
    if (w->count - w->next < 5)
        return false;
    const uint32_t *t = w->tokens + w->next;
    const uint8_t *b = w->body;
    return b[t[0]] == '{' && t[2] - t[1] >= sizeof key - 1 && memcmp(b + t[1], key, sizeof key - 1) == 0 &&
           b[t[2]] == ':' && b[t[3]] == '"' && b[t[4]] == '}';
}

static enum cmq_err read_full_message(struct cmq_walk *w)
{
    struct parts parts;
    parts.id_bytes = parts.type_bytes = 0;
    enum cmq_err err = read_object(w, &input_message, &parts);
    if (err == CMQ_OK)
        finish_message(w, &parts);
    return err;
}

static inline enum cmq_err read_message(struct cmq_walk *w)
{
    if (__builtin_expect(!is_plain_message(w), 0))
        return read_full_message(w);
    size_t bytes = 0;
    enum cmq_err err = pack_string(w, w->next + 3, w->out, &bytes);
    if (err != CMQ_OK)
        return err;
    w->out += bytes;
    w->next += 5;
    return CMQ_OK;
}

/* What the type means for the message: none for text, the one name for JSON. */
static enum cmq_err settle_type(const struct cmq_walk *w, uint32_t begin, struct parts *parts)
{
    enum cmq_type type = parts->json ? CMQ_TYPE_JSON : CMQ_TYPE_TEXT;
    if (parts->type_bytes != 0)
        type = cmq_type_of(cmq_span_make(parts->type, parts->type_bytes));
    if (type == CMQ_TYPE_JSON && !parts->json)
        return cmq_walk_malformed(
            w, begin, "\"data\" of the type application/json must be the value itself, not a string");
    if (type == CMQ_TYPE_TEXT)
        parts->type_bytes = 0;
    if (type == CMQ_TYPE_JSON) {
        parts->type_bytes = sizeof CMQ_TYPE_JSON_TEXT - 1;
        memcpy(parts->type, CMQ_TYPE_JSON_TEXT, parts->type_bytes);
    }
    return CMQ_OK;
}

static enum cmq_err read_topic_message(struct cmq_walk *w)
{
    struct parts parts = {.json = false};
    uint32_t begin = w->next;
    enum cmq_err err =
        cmq_walk_byte(w, begin) == '"' ? read_data(w, &parts) : read_object(w, &topic_message, &parts);
    if (err == CMQ_OK)
        err = settle_type(w, begin, &parts);
    if (err == CMQ_OK)
        finish_message(w, &parts);
    return err;
}

static enum cmq_err too_many(const struct cmq_walk *w)
{
    (void)cmq_walk_malformed(w, w->next, "");
    (void)snprintf(w->error->text, sizeof w->error->text,
                   "more than %u messages; send them in several requests", w->limits->messages_max);
    return CMQ_ERR_TOO_BIG;
}

/* Reads the array at w->next; read is constant where this is inlined. */
__attribute__((always_inline)) static inline enum cmq_err read_list(struct cmq_walk *w,
                                                                    cmq_json_document *read)
{
    w->next++;
    if (cmq_walk_byte(w, w->next) == ']') {
        w->next++;
        return CMQ_OK;
    }
    w->depth++;
    for (;;) {
        w->index = w->messages;
        if (w->messages == w->limits->messages_max)
            return too_many(w);
        enum cmq_err err = read(w);
        if (err != CMQ_OK)
            return err;
        w->messages++;
        w->index = CMQ_JSON_NO_INDEX;
        uint8_t byte = cmq_walk_byte(w, w->next);
        if (byte != ',' && byte != ']')
            return cmq_walk_malformed(w, w->next, "expected ',' or ']' behind a message");
        w->next++;
        if (byte == ']')
            break;
    }
    w->depth--;
    return CMQ_OK;
}

/* Reads the value of "messages". */
static enum cmq_err read_messages(struct cmq_walk *w, struct parts *parts)
{
    (void)parts;
    if (cmq_walk_byte(w, w->next) != '[')
        return cmq_walk_malformed(w, w->next, "\"messages\" must be an array");
    return read_list(w, read_message);
}

/* ---- documents ---- */

static enum cmq_err reserve(struct cmq_walk *w, size_t bytes)
{
    enum cmq_err err = cmq_buf_reserve(w->buf, bytes);
    if (err == CMQ_ERR_TOO_BIG)
        return cmq_walk_fail(w, err, SIZE_MAX, "the body is larger than the limit");
    if (err != CMQ_OK)
        return cmq_walk_fail(w, err, SIZE_MAX, "out of memory");
    w->out = w->buf->data + w->buf->bytes;
    return CMQ_OK;
}

/* Behind the document. */
static enum cmq_err finish(struct cmq_walk *w, const char *wrong)
{
    if (w->next != w->count)
        return cmq_walk_malformed(w, w->next, wrong);
    if (w->buf != NULL)
        w->buf->bytes = (size_t)(w->out - w->buf->data);
    return CMQ_OK;
}

static const char behind_object[] = "something follows the JSON object";

enum cmq_err cmq_json_read_single(struct cmq_walk *w)
{
    enum cmq_err err = reserve(w, w->bytes);
    if (err == CMQ_OK)
        err = read_message(w);
    w->messages = 1;
    return err == CMQ_OK ? finish(w, behind_object) : err;
}

enum cmq_err cmq_json_read_batch(struct cmq_walk *w)
{
    static const struct object root = {
        .members = {{"messages", 8, read_messages}},
        .count = 1,
        .expected = "expected {\"messages\": [{\"content\": \"...\"}, ...]}",
    };
    enum cmq_err err = reserve(w, w->bytes);
    if (err == CMQ_OK)
        err = read_object(w, &root, NULL);
    return err == CMQ_OK ? finish(w, behind_object) : err;
}

enum cmq_err cmq_json_read_topic_batch(struct cmq_walk *w)
{
    enum cmq_err err = reserve(w, 1);
    if (err != CMQ_OK)
        return err;
    if (cmq_walk_byte(w, w->next) != '[')
        return cmq_walk_malformed(w, w->next,
                                  "expected an array of strings or objects: [\"...\", {\"data\": ...}, ...]");
    err = read_list(w, read_topic_message);
    return err == CMQ_OK ? finish(w, "something follows the JSON array") : err;
}

enum cmq_err cmq_json_read_any(struct cmq_walk *w)
{
    enum cmq_err err = cmq_walk_skip(w);
    return err == CMQ_OK ? finish(w, "something follows the JSON value") : err;
}
