#include "tests/bench/bench_push.h"

#include <string.h>

#include "tests/bench/bench_text.h"

/* Longest item that is compared whole; longer ones are none of ours. */
enum { ITEM_BYTES_MAX = 256 };

static bool parse_digits(const uint8_t *at, size_t bytes, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (bytes == 0 || bytes > 19)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        number = number * 10u + (uint64_t)(at[i] - '0');
    }
    *ret_number = number;
    return true;
}

bool bench_id_parse(struct cmq_span text, struct bench_id *ret_id)
{
    const uint8_t *dash = text.bytes > 0 ? memchr(text.data, '-', text.bytes) : NULL;
    return dash != NULL && parse_digits(text.data, (size_t)(dash - text.data), &ret_id->seq) &&
           parse_digits(dash + 1, (size_t)(text.data + text.bytes - dash) - 1, &ret_id->index);
}

/* ---- one message ---- */

static void parse_ok(struct bench_push *push)
{
    struct bench_doc *doc = &push->doc;
    struct bench_scope map, list;
    struct cmq_span key;
    if (!bench_doc_enter(doc, true, &map))
        return;
    while (bench_doc_next(doc, &map) && bench_doc_key(doc, &key)) {
        if (bench_span_is(key, "acked")) {
            (void)bench_doc_number(doc, &push->acked);
        } else if (bench_span_is(key, "stale") && bench_doc_enter(doc, false, &list)) {
            for (; bench_doc_next(doc, &list); push->stale++)
                (void)bench_doc_skip(doc);
        } else if (!bench_span_is(key, "stale")) {
            (void)bench_doc_skip(doc);
        }
    }
}

static void parse_error(struct bench_push *push)
{
    struct bench_doc *doc = &push->doc;
    struct bench_scope map;
    struct cmq_span key;
    if (!bench_doc_enter(doc, true, &map))
        return;
    while (bench_doc_next(doc, &map) && bench_doc_key(doc, &key)) {
        if (bench_span_is(key, "code"))
            (void)bench_doc_text(doc, &push->code);
        else if (bench_span_is(key, "message"))
            (void)bench_doc_text(doc, &push->reason);
        else
            (void)bench_doc_skip(doc);
    }
}

static void parse_gap(struct bench_push *push)
{
    struct bench_doc *doc = &push->doc;
    struct bench_scope map;
    struct cmq_span key, from = {0}, to = {0};
    if (!bench_doc_enter(doc, true, &map))
        return;
    while (bench_doc_next(doc, &map) && bench_doc_key(doc, &key)) {
        if (bench_span_is(key, "sub"))
            (void)bench_doc_number(doc, &push->id);
        else if (bench_span_is(key, "from"))
            (void)bench_doc_text(doc, &from);
        else if (bench_span_is(key, "to"))
            (void)bench_doc_text(doc, &to);
        else if (bench_span_is(key, "reason"))
            (void)bench_doc_text(doc, &push->reason);
        else
            (void)bench_doc_skip(doc);
    }
    doc->bad = doc->bad || !bench_id_parse(from, &push->from) || !bench_id_parse(to, &push->to);
}

/* Stops behind the bracket of the items, which are read by bench_push_next. */
static void parse_msgs(struct bench_push *push)
{
    struct bench_doc *doc = &push->doc;
    struct cmq_span key;
    if (!bench_doc_enter(doc, true, &push->msgs))
        return;
    while (bench_doc_next(doc, &push->msgs) && bench_doc_key(doc, &key)) {
        if (bench_span_is(key, "items")) {
            if (bench_doc_enter(doc, false, &push->items))
                push->kind = BENCH_PUSH_MSGS;
            return;
        }
        if (bench_span_is(key, "sub"))
            (void)bench_doc_number(doc, &push->id);
        else if (bench_span_is(key, "topic"))
            (void)bench_doc_text(doc, &push->topic);
        else
            (void)bench_doc_skip(doc);
    }
}

static enum bench_push_kind parse_member(struct bench_push *push, struct cmq_span key)
{
    if (bench_span_is(key, "ok")) {
        parse_ok(push);
        return BENCH_PUSH_OK;
    }
    if (bench_span_is(key, "error")) {
        parse_error(push);
        return BENCH_PUSH_ERROR;
    }
    if (bench_span_is(key, "gap")) {
        parse_gap(push);
        return BENCH_PUSH_GAP;
    }
    (void)bench_doc_skip(&push->doc);
    return BENCH_PUSH_BAD;
}

void bench_push_parse(struct cmq_span message, bool msgpack, struct bench_push *ret_push)
{
    struct bench_push push = {.doc = bench_doc_make(message, msgpack)};
    struct cmq_span key;
    enum bench_push_kind kind = BENCH_PUSH_HEARTBEAT;
    if (!bench_doc_enter(&push.doc, true, &push.whole))
        kind = BENCH_PUSH_BAD;
    while (bench_doc_next(&push.doc, &push.whole) && bench_doc_key(&push.doc, &key)) {
        if (bench_span_is(key, "msgs")) {
            parse_msgs(&push);
            *ret_push = push;
            return;
        }
        bool known = bench_span_is(key, "id");
        if (known && (push.doc.at < push.doc.end && (*push.doc.at == 'n' || *push.doc.at == 0xc0)))
            (void)bench_doc_skip(&push.doc); /* null: a command without id */
        else if (known)
            (void)bench_doc_number(&push.doc, &push.id);
        else
            kind = parse_member(&push, key);
    }
    push.kind = bench_doc_ended(&push.doc) ? kind : BENCH_PUSH_BAD;
    *ret_push = push;
}

/* ---- items ---- */

/* Where the digits that count up are, in the bytes of an item. */
struct digits {
    const uint8_t *at;
    size_t bytes;
};

struct item {
    struct bench_item_run run;
    struct digits index, number;
};

static bool parse_item(struct bench_doc *doc, struct item *ret_item)
{
    static const char head[] = "message_";
    struct item item = {.run = {.count = 1}};
    struct bench_scope map;
    struct cmq_span key, id = {0}, data = {0};
    if (!bench_doc_enter(doc, true, &map))
        return false;
    while (bench_doc_next(doc, &map) && bench_doc_key(doc, &key)) {
        if (bench_span_is(key, "id"))
            (void)bench_doc_text(doc, &id);
        else if (bench_span_is(key, "data"))
            (void)bench_doc_text(doc, &data);
        else if (bench_span_is(key, "attempt"))
            (void)bench_doc_number(doc, &item.run.attempt);
        else
            (void)bench_doc_skip(doc);
    }
    item.run.ours = !doc->bad && bench_id_parse(id, &item.run.id) && data.bytes > 0 &&
                    bench_text_parse(data.data, data.bytes, &item.run.number);
    if (item.run.ours) {
        const uint8_t *dash = memchr(id.data, '-', id.bytes);
        item.index = (struct digits){dash + 1, (size_t)(id.data + id.bytes - dash) - 1};
        item.number = (struct digits){data.data + sizeof head - 1, data.bytes - (sizeof head - 1)};
    }
    *ret_item = item;
    return !doc->bad;
}

/* False when there is no room: 99. */
static inline bool count_up(uint8_t *digits, size_t bytes)
{
    while (bytes > 0) {
        if (digits[--bytes] != '9') {
            digits[bytes]++;
            return true;
        }
        digits[bytes] = '0';
    }
    return false;
}

/* Items behind `item`, which are the same but counted up. */
static void take_alike(struct bench_push *push, const uint8_t *begin, struct item *item)
{
    struct bench_doc *doc = &push->doc;
    uint8_t expected[ITEM_BYTES_MAX + 1];
    size_t comma = doc->msgpack ? 0 : 1, bytes = (size_t)(doc->at - begin) + comma;
    if (bytes > sizeof expected)
        return;
    expected[0] = ',';
    memcpy(expected + comma, begin, bytes - comma);
    uint8_t *index = expected + comma + (item->index.at - begin);
    uint8_t *number = expected + comma + (item->number.at - begin);
    uint32_t most = doc->msgpack ? push->items.left : UINT32_MAX, count = 0;
    const uint8_t *at = doc->at;
    while (count < most && (size_t)(doc->end - at) >= bytes && count_up(index, item->index.bytes) &&
           count_up(number, item->number.bytes) && memcmp(at, expected, bytes) == 0) {
        at += bytes;
        count++;
    }
    doc->at = at;
    push->items.left -= doc->msgpack ? count : 0;
    item->run.count += count;
}

static void skip_rest(struct bench_doc *doc, struct bench_scope *map)
{
    struct cmq_span key;
    while (bench_doc_next(doc, map) && bench_doc_key(doc, &key))
        (void)bench_doc_skip(doc);
}

bool bench_push_next(struct bench_push *push, struct bench_item_run *ret_run)
{
    struct bench_doc *doc = &push->doc;
    struct item item;
    if (bench_doc_next(doc, &push->items)) {
        const uint8_t *begin = doc->at;
        if (!parse_item(doc, &item))
            return false;
        if (item.run.ours)
            take_alike(push, begin, &item);
        *ret_run = item.run;
        return true;
    }
    skip_rest(doc, &push->msgs);
    skip_rest(doc, &push->whole);
    doc->bad = !bench_doc_ended(doc);
    return false;
}
