/* The elements of a batch of a topic. They may grow (a number becomes an array with its type), so room is made one by one. */
#include <stdio.h>

#include "common/wire/cmq_json_messages.h"
#include "common/wire/cmq_json_object.h"
#include "common/wire/cmq_mp_out.h"
#include "common/wire/cmq_type.h"

static enum cmq_err read_data(struct cmq_walk *w, struct cmq_json_parts *parts)
{
    uint32_t token = w->next;
    size_t begin = cmq_walk_offset(w, token);
    parts->json = cmq_walk_byte(w, token) != '"';
    if (!parts->json)
        return cmq_json_read_content(w, parts);
    enum cmq_err err = cmq_walk_skip(w);
    if (err != CMQ_OK)
        return err;
    size_t bytes = cmq_walk_value_end(w) - begin;
    if (bytes > w->limits->message_bytes_max)
        return cmq_json_too_large(w, token, bytes);
    err = cmq_json_need_room(w, bytes + CMQ_JSON_PARTS_ROOM - CMQ_JSON_WIDE_BYTES);
    if (err != CMQ_OK)
        return err;
    size_t head = cmq_message_head(w->out + 1, true, (uint32_t)bytes);
    memcpy(w->out + 1 + head, w->body + begin, bytes);
    parts->content_bytes = head + bytes;
    return CMQ_OK;
}

static enum cmq_err read_type(struct cmq_walk *w, struct cmq_json_parts *parts)
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

/* Whole numbers as JSON has them: no sign, point or exponent, no leading zero. 0: it is none, or past max. */
static uint64_t whole_number(struct cmq_span text, uint64_t max)
{
    uint64_t number = 0;
    if (text.bytes == 0 || text.data[0] == '0')
        return 0;
    for (size_t i = 0; i < text.bytes; i++) {
        uint64_t digit = (uint64_t)text.data[i] - '0';
        if (digit > 9 || number > (max - digit) / 10)
            return 0;
        number = number * 10 + digit;
    }
    return number;
}

static enum cmq_err read_ttl(struct cmq_walk *w, struct cmq_json_parts *parts)
{
    uint32_t token = w->next;
    uint64_t max = cmq_element_ttl_ms_max(w->limits);
    enum cmq_err err = cmq_walk_skip(w);
    if (err != CMQ_OK)
        return err;
    size_t begin = cmq_walk_offset(w, token);
    parts->ttl_ms =
        whole_number(cmq_span_make(w->body + begin, cmq_walk_value_end(w) - begin), max < 9 ? 9 : max);
    if (parts->ttl_ms != 0 && parts->ttl_ms <= max)
        return CMQ_OK;
    (void)cmq_walk_malformed(w, token, "");
    (void)snprintf(w->error->text, sizeof w->error->text,
                   "\"ttl_ms\" must be a whole number of milliseconds from 1 to %llu",
                   (unsigned long long)max);
    return CMQ_ERR_MALFORMED;
}

/* Only the grammar; the strings are read when it is known where they go. */
static enum cmq_err read_headers(struct cmq_walk *w, struct cmq_json_parts *parts)
{
    if (cmq_walk_byte(w, w->next) != '{')
        return cmq_walk_malformed(w, w->next, "\"headers\" must be an object of strings");
    parts->headers_token = w->next;
    return cmq_walk_skip(w);
}

static const struct cmq_json_object element = {
    .members = {{"data", 4, read_data},
                {"id", 2, cmq_json_read_id},
                {"type", 4, read_type},
                {"ttl_ms", 6, read_ttl},
                {"headers", 7, read_headers}},
    .count = 5,
    .strict = true,
    .expected = "expected a string or {\"data\": ..., \"id\"?, \"type\"?, \"ttl_ms\"?, \"headers\"?}",
};

/* What the type means for the message: none for text, the one name for JSON. */
static enum cmq_err settle_type(const struct cmq_walk *w, uint32_t begin, struct cmq_json_parts *parts)
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

static enum cmq_err read_full_element(struct cmq_walk *w)
{
    struct cmq_json_parts parts;
    uint32_t begin = w->next;
    cmq_json_parts_init(&parts);
    enum cmq_err err = cmq_walk_byte(w, begin) == '"' ? cmq_json_read_content(w, &parts)
                                                      : cmq_json_read_object(w, &element, &parts);
    if (err == CMQ_OK)
        err = settle_type(w, begin, &parts);
    return err == CMQ_OK ? cmq_json_finish_message(w, &parts) : err;
}

/* Strings are packed where they stay: nearly all elements are strings, and carry nothing. */
static inline enum cmq_err read_element(struct cmq_walk *w)
{
    uint32_t token = w->next;
    if (__builtin_expect(w->inherits || cmq_walk_byte(w, token) != '"', 0))
        return read_full_element(w);
    size_t bytes = cmq_walk_offset(w, token + 1) - w->tokens[token];
    enum cmq_err err = cmq_json_need_room(w, bytes + CMQ_MP_HEAD_BYTES_MAX + CMQ_JSON_WIDE_BYTES);
    if (err == CMQ_OK)
        err = cmq_json_pack_string(w, token, w->out, &bytes);
    if (err != CMQ_OK)
        return err;
    w->out += bytes;
    w->next++;
    return CMQ_OK;
}

enum cmq_err cmq_json_read_element(struct cmq_walk *w)
{
    return read_element(w);
}

enum cmq_err cmq_json_read_topic_batch(struct cmq_walk *w)
{
    w->grows = true;
    enum cmq_err err = cmq_json_reserve(w, 1);
    if (err != CMQ_OK)
        return err;
    if (cmq_walk_byte(w, w->next) != '[')
        return cmq_walk_malformed(w, w->next,
                                  "expected an array of strings or objects: [\"...\", {\"data\": ...}, ...]");
    err = cmq_json_read_list(w, read_element);
    return err == CMQ_OK ? cmq_json_finish_document(w, "something follows the JSON array") : err;
}
