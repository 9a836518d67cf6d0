#include "common/wire/cmq_json_object.h"

#include <stdio.h>

#include "common/wire/cmq_headers.h"
#include "common/wire/cmq_mp_out.h"
#include "common/wire/cmq_type.h"

/* ---- room ---- */

enum cmq_err cmq_json_grow_room(struct cmq_walk *w, size_t bytes)
{
    size_t written = (size_t)(w->out - w->buf->data);
    enum cmq_err err = cmq_buf_reserve(w->buf, written - w->buf->bytes + bytes);
    w->out = w->buf->data + written;
    w->full = err == CMQ_ERR_TOO_BIG;
    if (w->full)
        return cmq_walk_fail(w, err, SIZE_MAX, "the messages are larger than the limit");
    return err == CMQ_OK ? err : cmq_walk_fail(w, err, SIZE_MAX, "out of memory");
}

enum cmq_err cmq_json_reserve(struct cmq_walk *w, size_t bytes)
{
    enum cmq_err err = cmq_buf_reserve(w->buf, bytes);
    if (err == CMQ_ERR_TOO_BIG)
        return cmq_walk_fail(w, err, SIZE_MAX, "the body is larger than the limit");
    if (err != CMQ_OK)
        return cmq_walk_fail(w, err, SIZE_MAX, "out of memory");
    w->out = w->buf->data + w->buf->bytes;
    return CMQ_OK;
}

enum cmq_err cmq_json_finish_document(struct cmq_walk *w, const char *wrong)
{
    if (w->next != w->count)
        return cmq_walk_malformed(w, w->next, wrong);
    if (w->buf != NULL)
        w->buf->bytes = (size_t)(w->out - w->buf->data);
    return CMQ_OK;
}

/* ---- limits ---- */

enum cmq_err cmq_json_too_large(const struct cmq_walk *w, uint32_t token, size_t bytes)
{
    (void)cmq_walk_fail(w, CMQ_ERR_TOO_BIG, w->tokens[token], "");
    (void)snprintf(w->error->text, sizeof w->error->text,
                   "the message has %zu bytes; at most %zu are allowed", bytes, w->limits->message_bytes_max);
    return CMQ_ERR_TOO_BIG;
}

enum cmq_err cmq_json_too_many(const struct cmq_walk *w)
{
    (void)cmq_walk_malformed(w, w->next, "");
    (void)snprintf(w->error->text, sizeof w->error->text,
                   "more than %u messages; send them in several requests", w->limits->messages_max);
    return CMQ_ERR_TOO_BIG;
}

uint64_t cmq_element_ttl_ms_max(const struct cmq_json_limits *limits)
{
    return limits->ttl_ms_max != 0 ? limits->ttl_ms_max : CMQ_TTL_MS_MAX;
}

uint64_t cmq_element_expiry_ms(const struct cmq_element_defaults *defaults, uint64_t ttl_ms)
{
    uint64_t accepted_at_ms = defaults != NULL ? defaults->accepted_at_ms : 0;
    if (ttl_ms == 0 && defaults != NULL)
        ttl_ms = defaults->ttl_ms;
    if (ttl_ms == 0)
        return 0;
    return accepted_at_ms <= UINT64_MAX - ttl_ms ? accepted_at_ms + ttl_ms : UINT64_MAX;
}

/* ---- members ---- */

enum cmq_err cmq_json_read_content(struct cmq_walk *w, struct cmq_json_parts *parts)
{
    uint32_t token = w->next;
    if (cmq_walk_byte(w, token) != '"')
        return cmq_walk_malformed(w, token, "\"content\" must be a string");
    enum cmq_err err = CMQ_OK;
    if (w->grows)
        err = cmq_json_need_room(w, cmq_walk_offset(w, token + 1) - w->tokens[token] + CMQ_JSON_PARTS_ROOM);
    if (err == CMQ_OK)
        err = cmq_json_pack_string(w, token, w->out + 1, &parts->content_bytes);
    if (err == CMQ_OK)
        w->next++;
    return err;
}

enum cmq_err cmq_json_read_id(struct cmq_walk *w, struct cmq_json_parts *parts)
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

/* ---- headers ---- */

/* The strings of one object, decoded. */
struct store {
    struct cmq_headers headers;
    uint8_t *next;
    uint8_t bytes[CMQ_HEADERS_BYTES_MAX];
};

static enum cmq_err fail_header(const struct cmq_walk *w, uint32_t token, enum cmq_err err,
                                const struct cmq_reason *reason)
{
    (void)cmq_walk_fail(w, err, cmq_walk_offset(w, token), "");
    (void)snprintf(w->error->text, sizeof w->error->text, "%.*s", (int)sizeof w->error->text - 1,
                   reason->text);
    return err;
}

/* Reads one `"name":"value"`. */
static enum cmq_err read_header(struct cmq_walk *w, struct store *store)
{
    struct cmq_reason reason;
    uint32_t token = w->next;
    size_t left = store->headers.bytes_max - store->headers.bytes, name_bytes, value_bytes;
    enum cmq_err err = cmq_walk_key(w, store->next, left, &name_bytes);
    if (err != CMQ_OK)
        return err;
    if (cmq_walk_byte(w, w->next) != '"')
        return cmq_walk_malformed(w, w->next, "the value of a header must be a string");
    size_t kept = (size_t)cmq_min_u64(name_bytes, left);
    err = cmq_walk_string(w, store->next + kept, left - kept, &value_bytes);
    if (err != CMQ_OK)
        return err;
    if (name_bytes > left || value_bytes > left - name_bytes) {
        err = cmq_headers_too_big(&store->headers, &reason);
        return fail_header(w, token, err, &reason);
    }
    err = cmq_headers_add(&store->headers, cmq_span_make(store->next, name_bytes),
                          cmq_span_make(store->next + name_bytes, value_bytes), &reason);
    if (err != CMQ_OK)
        return fail_header(w, token, err, &reason);
    store->next += name_bytes + value_bytes;
    return CMQ_OK;
}

/* Reads the object at w->next, whose grammar was checked. */
static enum cmq_err read_headers(struct cmq_walk *w, struct store *store)
{
    w->next++;
    while (cmq_walk_byte(w, w->next) != '}') {
        if (cmq_walk_byte(w, w->next) == ',')
            w->next++;
        enum cmq_err err = read_header(w, store);
        if (err != CMQ_OK)
            return err;
    }
    w->next++;
    return CMQ_OK;
}

/* Packs the element's own headers and those of the request that it has not behind *dst, which may move with w->out. */
static __attribute__((noinline)) enum cmq_err pack_own_headers(struct cmq_walk *w, uint32_t token,
                                                               uint8_t **dst)
{
    struct store store;
    struct cmq_reason reason;
    uint32_t next = w->next;
    cmq_headers_init(&store.headers, w->limits->headers_bytes_max);
    store.next = store.bytes;
    w->next = token;
    enum cmq_err err = read_headers(w, &store);
    w->next = next;
    if (err != CMQ_OK)
        return err;
    if (w->defaults != NULL)
        err = cmq_headers_inherit(&store.headers, w->defaults->headers, &reason);
    if (err != CMQ_OK)
        return fail_header(w, token, err, &reason);
    size_t written = (size_t)(*dst - w->out);
    err = cmq_json_need_room(w, written + store.headers.bytes + CMQ_HEADERS_ROOM);
    if (err != CMQ_OK)
        return err;
    *dst = w->out + written;
    size_t bytes = cmq_headers_write(*dst, &store.headers);
    *dst = bytes != 0 ? *dst + bytes : cmq_mp_put_nil(*dst);
    return CMQ_OK;
}

static enum cmq_err pack_headers(struct cmq_walk *w, const struct cmq_json_parts *parts, uint8_t **dst)
{
    if (parts->headers_token != CMQ_JSON_NO_TOKEN)
        return pack_own_headers(w, parts->headers_token, dst);
    if (w->defaults == NULL || w->defaults->headers.bytes == 0) {
        *dst = cmq_mp_put_nil(*dst);
        return CMQ_OK;
    }
    size_t written = (size_t)(*dst - w->out);
    enum cmq_err err = cmq_json_need_room(w, written + w->defaults->headers.bytes);
    if (err == CMQ_OK)
        *dst = cmq_mp_put_bytes(w->out + written, w->defaults->headers);
    return err;
}

/* ---- messages ---- */

static uint8_t *put_or_nil(uint8_t *dst, const uint8_t *text, size_t bytes)
{
    return bytes != 0 ? cmq_mp_put_str(dst, cmq_span_make(text, bytes)) : cmq_mp_put_nil(dst);
}

enum cmq_err cmq_json_finish_message(struct cmq_walk *w, const struct cmq_json_parts *parts)
{
    uint8_t *content = w->out + 1;
    bool own = parts->id_bytes != 0 || parts->type_bytes != 0 || parts->ttl_ms != 0 ||
               parts->headers_token != CMQ_JSON_NO_TOKEN;
    if (!own && !w->inherits) {
        memmove(w->out, content, parts->content_bytes);
        w->out += parts->content_bytes;
        return CMQ_OK;
    }
    *w->out = 0x95; /* array of 5, see cmq_batch.h */
    uint64_t expiry_ms = cmq_element_expiry_ms(w->defaults, parts->ttl_ms);
    uint8_t *dst = put_or_nil(content + parts->content_bytes, parts->type, parts->type_bytes);
    dst = put_or_nil(dst, parts->id, parts->id_bytes);
    dst = expiry_ms != 0 ? cmq_mp_put_uint(dst, expiry_ms) : cmq_mp_put_nil(dst);
    enum cmq_err err = pack_headers(w, parts, &dst);
    if (err != CMQ_OK)
        return err;
    w->has_ids = w->has_ids || parts->id_bytes != 0;
    w->out = dst;
    return CMQ_OK;
}

/* ---- objects ---- */

const char *cmq_json_show_name(char shown[CMQ_JSON_NAME_BYTES_MAX + 4], const uint8_t *name, size_t bytes)
{
    size_t count = bytes < CMQ_JSON_NAME_BYTES_MAX ? bytes : CMQ_JSON_NAME_BYTES_MAX;
    for (size_t i = 0; i < count; i++)
        shown[i] = (char)(name[i] >= 0x20 && name[i] < 0x7f ? name[i] : '?');
    memcpy(shown + count, "...", 4);
    if (bytes == count)
        shown[count] = '\0';
    return shown;
}

static enum cmq_err unknown_member(const struct cmq_walk *w, const struct cmq_json_object *object,
                                   uint32_t token, const uint8_t *name, size_t bytes)
{
    char shown[CMQ_JSON_NAME_BYTES_MAX + 4];
    (void)cmq_walk_malformed(w, token, "");
    (void)snprintf(w->error->text, sizeof w->error->text, "unknown member \"%s\"; %s",
                   cmq_json_show_name(shown, name, bytes), object->expected);
    return CMQ_ERR_MALFORMED;
}

/* Reads one `"name":value`. seen: bit per member of the object. */
static enum cmq_err read_member(struct cmq_walk *w, const struct cmq_json_object *object,
                                struct cmq_json_parts *parts, unsigned *seen)
{
    uint8_t name[CMQ_JSON_NAME_BYTES_MAX];
    size_t bytes;
    uint32_t token = w->next;
    enum cmq_err err = cmq_walk_key(w, name, sizeof name, &bytes);
    if (err != CMQ_OK)
        return err;
    for (unsigned i = 0; i < object->count; i++) {
        const struct cmq_json_member *member = &object->members[i];
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
static enum cmq_err read_members(struct cmq_walk *w, const struct cmq_json_object *object,
                                 struct cmq_json_parts *parts, unsigned *seen)
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

enum cmq_err cmq_json_read_object(struct cmq_walk *w, const struct cmq_json_object *object,
                                  struct cmq_json_parts *parts)
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
