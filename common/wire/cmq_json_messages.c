/*
 * /input and /input/batch: the output fits into as many bytes as the body has, so room is made once. A message takes at
 * least `{"content":"` before its text, 12 bytes, for a head of at most 5 and, if it has an id, one byte for its array; what
 * `"id":""` takes covers the rest; text never grows when it is decoded. So the write position stays behind the read
 * position, and a 16-byte store is safe wherever a 16-byte load is.
 * With defaults a message may grow, so room is made message by message.
 */
#include "common/wire/cmq_json_messages.h"

#include "common/wire/cmq_json_object.h"

static const struct cmq_json_object input_message = {
    .members = {{"content", 7, cmq_json_read_content}, {"id", 2, cmq_json_read_id}},
    .count = 2,
    .expected = "expected {\"content\": \"...\"} with a string",
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
    struct cmq_json_parts parts;
    cmq_json_parts_init(&parts);
    enum cmq_err err = cmq_json_read_object(w, &input_message, &parts);
    return err == CMQ_OK ? cmq_json_finish_message(w, &parts) : err;
}

static inline enum cmq_err read_message(struct cmq_walk *w)
{
    if (__builtin_expect(w->inherits || !is_plain_message(w), 0))
        return read_full_message(w);
    size_t bytes = 0;
    enum cmq_err err = cmq_json_pack_string(w, w->next + 3, w->out, &bytes);
    if (err != CMQ_OK)
        return err;
    w->out += bytes;
    w->next += 5;
    return CMQ_OK;
}

/* Reads the value of "messages". */
static enum cmq_err read_messages(struct cmq_walk *w, struct cmq_json_parts *parts)
{
    (void)parts;
    if (cmq_walk_byte(w, w->next) != '[')
        return cmq_walk_malformed(w, w->next, "\"messages\" must be an array");
    return cmq_json_read_list(w, read_message);
}

static const char behind_object[] = "something follows the JSON object";

static enum cmq_err begin_document(struct cmq_walk *w)
{
    w->grows = w->inherits;
    return cmq_json_reserve(w, w->bytes);
}

enum cmq_err cmq_json_read_single(struct cmq_walk *w)
{
    enum cmq_err err = begin_document(w);
    if (err == CMQ_OK)
        err = read_message(w);
    w->messages = 1;
    return err == CMQ_OK ? cmq_json_finish_document(w, behind_object) : err;
}

enum cmq_err cmq_json_read_batch(struct cmq_walk *w)
{
    static const struct cmq_json_object root = {
        .members = {{"messages", 8, read_messages}},
        .count = 1,
        .expected = "expected {\"messages\": [{\"content\": \"...\"}, ...]}",
    };
    enum cmq_err err = begin_document(w);
    if (err == CMQ_OK)
        err = cmq_json_read_object(w, &root, NULL);
    return err == CMQ_OK ? cmq_json_finish_document(w, behind_object) : err;
}

enum cmq_err cmq_json_read_any(struct cmq_walk *w)
{
    enum cmq_err err = cmq_walk_skip(w);
    return err == CMQ_OK ? cmq_json_finish_document(w, "something follows the JSON value") : err;
}
