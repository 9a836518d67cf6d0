#include "tests/bench/bench_doc.h"

#include <string.h>

struct bench_doc bench_doc_make(struct cmq_span document, bool msgpack)
{
    return (struct bench_doc){.at = document.data, .end = document.data + document.bytes, .msgpack = msgpack};
}

bool bench_span_is(struct cmq_span span, const char *text)
{
    return span.bytes == strlen(text) && memcmp(span.data, text, span.bytes) == 0;
}

static bool fail(struct bench_doc *doc)
{
    doc->bad = true;
    doc->at = doc->end;
    return false;
}

static size_t left(const struct bench_doc *doc)
{
    return (size_t)(doc->end - doc->at);
}

/* ---- MessagePack ---- */

enum mp_kind { MP_PLAIN, MP_UINT, MP_TEXT, MP_BYTES, MP_ARRAY, MP_MAP, MP_BAD };

struct mp_head {
    enum mp_kind kind;
    uint64_t value; /* of a UINT */
    uint64_t count; /* bytes that follow, elements or pairs */
};

static bool mp_big_endian(struct bench_doc *doc, size_t bytes, uint64_t *ret_value)
{
    if (left(doc) < bytes)
        return fail(doc);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | *doc->at++;
    *ret_value = value;
    return true;
}

/* Tags from 0xc0 to 0xdf. */
static struct mp_head mp_wide(struct bench_doc *doc, uint8_t tag)
{
    static const struct {
        uint8_t kind, length_bytes, more;
    } tags[32] = {
        [0x00] = {MP_PLAIN, 0, 0},  [0x01] = {MP_BAD, 0, 0},   [0x02] = {MP_PLAIN, 0, 0},
        [0x03] = {MP_PLAIN, 0, 0},  [0x04] = {MP_BYTES, 1, 0}, [0x05] = {MP_BYTES, 2, 0},
        [0x06] = {MP_BYTES, 4, 0},  [0x07] = {MP_BYTES, 1, 1}, [0x08] = {MP_BYTES, 2, 1},
        [0x09] = {MP_BYTES, 4, 1},  [0x0a] = {MP_PLAIN, 0, 4}, [0x0b] = {MP_PLAIN, 0, 8},
        [0x0c] = {MP_UINT, 1, 0},   [0x0d] = {MP_UINT, 2, 0},  [0x0e] = {MP_UINT, 4, 0},
        [0x0f] = {MP_UINT, 8, 0},   [0x10] = {MP_PLAIN, 0, 1}, [0x11] = {MP_PLAIN, 0, 2},
        [0x12] = {MP_PLAIN, 0, 4},  [0x13] = {MP_PLAIN, 0, 8}, [0x14] = {MP_PLAIN, 0, 2},
        [0x15] = {MP_PLAIN, 0, 3},  [0x16] = {MP_PLAIN, 0, 5}, [0x17] = {MP_PLAIN, 0, 9},
        [0x18] = {MP_PLAIN, 0, 17}, [0x19] = {MP_TEXT, 1, 0},  [0x1a] = {MP_TEXT, 2, 0},
        [0x1b] = {MP_TEXT, 4, 0},   [0x1c] = {MP_ARRAY, 2, 0}, [0x1d] = {MP_ARRAY, 4, 0},
        [0x1e] = {MP_MAP, 2, 0},    [0x1f] = {MP_MAP, 4, 0},
    };
    struct mp_head head = {.kind = (enum mp_kind)tags[tag - 0xc0].kind};
    uint64_t value = 0;
    if (!mp_big_endian(doc, tags[tag - 0xc0].length_bytes, &value))
        head.kind = MP_BAD;
    if (head.kind == MP_UINT)
        head.value = value;
    else
        head.count = value + tags[tag - 0xc0].more;
    return head;
}

static struct mp_head mp_take(struct bench_doc *doc)
{
    struct mp_head head = {.kind = MP_BAD};
    if (left(doc) == 0) {
        (void)fail(doc);
        return head;
    }
    uint8_t tag = *doc->at++;
    if (tag < 0x80)
        head = (struct mp_head){.kind = MP_UINT, .value = tag};
    else if (tag < 0x90)
        head = (struct mp_head){.kind = MP_MAP, .count = tag & 0x0fu};
    else if (tag < 0xa0)
        head = (struct mp_head){.kind = MP_ARRAY, .count = tag & 0x0fu};
    else if (tag < 0xc0)
        head = (struct mp_head){.kind = MP_TEXT, .count = tag & 0x1fu};
    else if (tag >= 0xe0)
        head = (struct mp_head){.kind = MP_PLAIN};
    else
        head = mp_wide(doc, tag);
    bool in_bytes = head.kind == MP_TEXT || head.kind == MP_BYTES || head.kind == MP_PLAIN;
    if (head.kind == MP_BAD || (in_bytes && head.count > left(doc))) {
        (void)fail(doc);
        head.kind = MP_BAD;
    }
    return head;
}

static bool mp_skip(struct bench_doc *doc)
{
    uint64_t values = 1;
    while (values > 0) {
        struct mp_head head = mp_take(doc);
        values--;
        if (head.kind == MP_BAD)
            return false;
        if (head.kind == MP_ARRAY || head.kind == MP_MAP)
            values += head.count * (head.kind == MP_MAP ? 2u : 1u);
        else
            doc->at += head.count;
    }
    return true;
}

/* ---- JSON ---- */

static uint8_t js_peek(struct bench_doc *doc)
{
    while (doc->at < doc->end &&
           (*doc->at == ' ' || *doc->at == '\n' || *doc->at == '\r' || *doc->at == '\t'))
        doc->at++;
    return doc->at < doc->end ? *doc->at : 0;
}

static bool js_take(struct bench_doc *doc, char wanted)
{
    if (js_peek(doc) != (uint8_t)wanted)
        return fail(doc);
    doc->at++;
    return true;
}

static bool js_text(struct bench_doc *doc, struct cmq_span *ret_text)
{
    if (!js_take(doc, '"'))
        return false;
    const uint8_t *begin = doc->at;
    while (doc->at < doc->end && *doc->at != '"')
        doc->at += *doc->at == '\\' ? 2 : 1;
    if (doc->at >= doc->end)
        return fail(doc);
    *ret_text = cmq_span_make(begin, (size_t)(doc->at - begin));
    doc->at++;
    return true;
}

static bool js_skip(struct bench_doc *doc)
{
    size_t depth = 0;
    struct cmq_span text;
    do {
        uint8_t next = js_peek(doc);
        if (next == 0)
            return fail(doc);
        if (next == '"') {
            if (!js_text(doc, &text))
                return false;
            continue;
        }
        bool word = strchr("{}[],:", next) == NULL;
        depth += next == '{' || next == '[';
        if ((next == '}' || next == ']' || next == ',' || next == ':') && depth == 0)
            return fail(doc);
        depth -= next == '}' || next == ']';
        doc->at++;
        while (word && doc->at < doc->end && strchr("{}[],: \"\r\n\t", *doc->at) == NULL)
            doc->at++;
    } while (depth > 0);
    return true;
}

/* ---- both ---- */

bool bench_doc_enter(struct bench_doc *doc, bool map, struct bench_scope *ret_scope)
{
    *ret_scope = (struct bench_scope){.map = map};
    if (!doc->msgpack)
        return js_take(doc, map ? '{' : '[');
    struct mp_head head = mp_take(doc);
    if (head.kind != (map ? MP_MAP : MP_ARRAY))
        return fail(doc);
    ret_scope->left = (uint32_t)head.count;
    return true;
}

bool bench_doc_next(struct bench_doc *doc, struct bench_scope *scope)
{
    if (doc->bad)
        return false;
    if (doc->msgpack) {
        if (scope->left == 0)
            return false;
        scope->left--;
        return true;
    }
    uint8_t next = js_peek(doc);
    if (next == (scope->map ? '}' : ']')) {
        doc->at++;
        return false;
    }
    if (scope->begun)
        return js_take(doc, ',');
    scope->begun = true;
    return true;
}

bool bench_doc_key(struct bench_doc *doc, struct cmq_span *ret_key)
{
    return bench_doc_text(doc, ret_key) && (doc->msgpack || js_take(doc, ':'));
}

bool bench_doc_text(struct bench_doc *doc, struct cmq_span *ret_text)
{
    if (!doc->msgpack)
        return js_text(doc, ret_text);
    struct mp_head head = mp_take(doc);
    if (head.kind != MP_TEXT)
        return fail(doc);
    *ret_text = cmq_span_make(doc->at, head.count);
    doc->at += head.count;
    return true;
}

bool bench_doc_number(struct bench_doc *doc, uint64_t *ret_number)
{
    if (doc->msgpack) {
        struct mp_head head = mp_take(doc);
        *ret_number = head.value;
        return head.kind == MP_UINT || fail(doc);
    }
    uint64_t number = 0;
    uint8_t next = js_peek(doc);
    const uint8_t *begin = doc->at;
    for (; next >= '0' && next <= '9'; next = doc->at < doc->end ? *doc->at : 0) {
        number = number * 10u + (uint64_t)(next - '0');
        doc->at++;
    }
    *ret_number = number;
    return (doc->at > begin && doc->at - begin < 20) || fail(doc);
}

bool bench_doc_skip(struct bench_doc *doc)
{
    return doc->msgpack ? mp_skip(doc) : js_skip(doc);
}

bool bench_doc_ended(struct bench_doc *doc)
{
    return !doc->bad && (doc->msgpack || js_peek(doc) == 0) && doc->at == doc->end;
}
