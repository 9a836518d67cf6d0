#include "dispatcher/dsp_item.h"

#include <string.h>

#include "common/wire/cmq_json_out.h"
#include "common/wire/cmq_mp_out.h"

enum {
    DIGITS_MAX = 10,  /* of an index */
    ITEM_BYTES = 192, /* of an item besides body, type and headers: head, index, names, tail */
    PAIRS = 3,        /* id, data, ts */
};

#define JSON_TYPE "application/json"

/* ---- what many items have in common ---- */

void dsp_form_init(struct dsp_form *ret_form, enum dsp_format format, uint64_t seq, uint64_t ts_ms,
                   uint32_t attempt)
{
    struct dsp_form form = {.format = format, .pairs = PAIRS + (attempt != 0)};
    char *head = (char *)form.head, *tail = (char *)form.tail;
    if (format == DSP_FORMAT_JSON) {
        form.head_bytes =
            (size_t)snprintf(head, sizeof(form.head), "{\"id\":\"%llu-", (unsigned long long)seq);
        int bytes = snprintf(tail, sizeof(form.tail), ",\"ts\":%llu", (unsigned long long)ts_ms);
        if (attempt != 0)
            bytes += snprintf(tail + bytes, sizeof(form.tail) - (size_t)bytes, ",\"attempt\":%u", attempt);
        bytes += snprintf(tail + bytes, sizeof(form.tail) - (size_t)bytes, "},");
        form.tail_bytes = (size_t)bytes;
    } else {
        /* The id is a short str: at most 20 digits, a dash, 10 digits. Its head depends on the index. */
        form.head_bytes = form.seq_bytes =
            (size_t)snprintf(head, sizeof(form.head), "%llu-", (unsigned long long)seq);
        uint8_t *next = cmq_mp_put_uint(cmq_mp_put_str(form.tail, cmq_span_make("ts", 2)), ts_ms);
        if (attempt != 0)
            next = cmq_mp_put_uint(cmq_mp_put_str(next, cmq_span_make("attempt", 7)), attempt);
        form.tail_bytes = (size_t)(next - form.tail);
    }
    *ret_form = form;
}

/* ---- the index, counted in decimal ---- */

struct counter {
    uint32_t bytes;
    uint8_t
        digits[DIGITS_MAX + 6]; /* right-aligned in the first DIGITS_MAX; more, so that 16 may be copied */
};

static struct counter counter_of(uint32_t index)
{
    struct counter counter = {0};
    do {
        counter.digits[DIGITS_MAX - ++counter.bytes] = (uint8_t)('0' + index % 10);
        index /= 10;
    } while (index != 0);
    return counter;
}

static inline void count_up(struct counter *counter)
{
    uint32_t at = DIGITS_MAX - 1;
    while (counter->digits[at] == '9') {
        counter->digits[at] = '0';
        if (at == 0)
            return; /* indexes end before */
        at--;
    }
    if (DIGITS_MAX - at > counter->bytes) {
        counter->bytes = DIGITS_MAX - at;
        counter->digits[at] = '1';
    } else {
        counter->digits[at]++;
    }
}

static inline uint8_t *put_counter(uint8_t *dst, const struct counter *counter)
{
    uint8_t copy[DIGITS_MAX + 6 + DIGITS_MAX];
    memcpy(copy, counter->digits, sizeof(counter->digits));
    memcpy(dst, copy + DIGITS_MAX - counter->bytes,
           DIGITS_MAX); /* a fixed size costs one instruction or two */
    return dst + counter->bytes;
}

/* ---- items; the room was checked ---- */

static inline uint8_t *put_literal(uint8_t *dst, const char *text, size_t bytes)
{
    memcpy(dst, text, bytes);
    return dst + bytes;
}
#define PUT(dst, literal) put_literal(dst, literal, sizeof(literal) - 1)

static inline uint8_t *json_begin(uint8_t *dst, const struct dsp_form *form, const struct counter *counter)
{
    memcpy(dst, form->head, sizeof(form->head));
    dst = put_counter(dst + form->head_bytes, counter);
    return PUT(dst, "\",\"data");
}

static inline uint8_t *put_tail(uint8_t *dst, const struct dsp_form *form)
{
    memcpy(dst, form->tail, sizeof(form->tail));
    return dst + form->tail_bytes;
}

static uint8_t *put_base64(uint8_t *dst, struct cmq_span octets)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *src = octets.data;
    size_t left = octets.bytes;
    for (; left >= 3; left -= 3, src += 3) {
        uint32_t word = (uint32_t)src[0] << 16 | (uint32_t)src[1] << 8 | src[2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *dst++ = (uint8_t)letters[word >> shift & 63];
    }
    if (left > 0) {
        uint32_t word = (uint32_t)src[0] << 16 | (left == 2 ? (uint32_t)src[1] << 8 : 0);
        *dst++ = (uint8_t)letters[word >> 18];
        *dst++ = (uint8_t)letters[word >> 12 & 63];
        *dst++ = left == 2 ? (uint8_t)letters[word >> 6 & 63] : '=';
        *dst++ = '=';
    }
    return dst;
}

/* Headers were written by the broker: a map of str to str or nil. Anything else ends the object early. */
static uint8_t *json_headers(uint8_t *dst, struct cmq_span headers)
{
    struct cmq_mp_reader reader;
    struct cmq_mp_value map, value;
    struct cmq_span name;
    cmq_mp_reader_init(&reader, headers);
    *dst++ = '{';
    if (cmq_mp_read(&reader, &map) == CMQ_OK && map.type == CMQ_MP_MAP) {
        for (uint32_t i = 0; i < map.count; i++) {
            if (cmq_mp_read_str(&reader, &name) != CMQ_OK || cmq_mp_read(&reader, &value) != CMQ_OK)
                break;
            if (i > 0)
                *dst++ = ',';
            dst += cmq_json_write_string(dst, name);
            *dst++ = ':';
            if (value.type == CMQ_MP_STR)
                dst += cmq_json_write_string(dst, value.body);
            else
                dst = PUT(dst, "null");
        }
    }
    *dst++ = '}';
    return dst;
}

static bool is_json(const struct cmq_message_full *message)
{
    return message->text && message->type.bytes == sizeof(JSON_TYPE) - 1 &&
           memcmp(message->type.data, JSON_TYPE, sizeof(JSON_TYPE) - 1) == 0;
}

static uint8_t *json_full(uint8_t *dst, const struct dsp_form *form, const struct counter *counter,
                          const struct cmq_message_full *message)
{
    bool json = is_json(message) && message->body.bytes != 0;
    dst = json_begin(dst, form, counter);
    if (json) {
        dst = cmq_mp_put_bytes(PUT(dst, "\":"), message->body);
    } else if (message->text) {
        dst = PUT(dst, "\":");
        dst += cmq_json_write_string(dst, message->body);
    } else {
        dst = PUT(put_base64(PUT(dst, "_base64\":\""), message->body), "\"");
    }
    if (message->type.bytes != 0 && !json) {
        dst = PUT(dst, ",\"type\":");
        dst += cmq_json_write_string(dst, message->type);
    }
    if (message->headers.bytes != 0)
        dst = json_headers(PUT(dst, ",\"headers\":"), message->headers);
    return put_tail(dst, form);
}

static inline uint8_t *msgpack_begin(uint8_t *dst, const struct dsp_form *form, const struct counter *counter,
                                     uint32_t more_pairs)
{
    *dst++ = (uint8_t)(0x80u | (form->pairs + more_pairs));
    dst = PUT(dst, "\xa2id");
    *dst++ = (uint8_t)(0xa0u | (form->seq_bytes + counter->bytes));
    memcpy(dst, form->head, sizeof(form->head));
    dst = put_counter(dst + form->seq_bytes, counter);
    return PUT(dst, "\xa4"
                    "data");
}

static uint8_t *msgpack_full(uint8_t *dst, const struct dsp_form *form, const struct counter *counter,
                             const struct cmq_message_full *message)
{
    uint32_t more = (message->type.bytes != 0 ? 1u : 0u) + (message->headers.bytes != 0 ? 1u : 0u);
    dst = msgpack_begin(dst, form, counter, more);
    dst = message->text ? cmq_mp_put_str(dst, message->body) : cmq_mp_put_bin(dst, message->body);
    if (message->type.bytes != 0)
        dst = cmq_mp_put_str(PUT(dst, "\xa4type"), message->type);
    if (message->headers.bytes != 0)
        dst = cmq_mp_put_bytes(PUT(dst, "\xa7headers"), message->headers);
    return put_tail(dst, form);
}

/* ---- events and lines ---- */

enum { FRAME_BYTES = 64 }; /* of an event besides topic, id and item */

size_t dsp_item_frame_bytes(enum dsp_format format, struct cmq_span topic)
{
    return FRAME_BYTES + topic.bytes + (format == DSP_FORMAT_SSE ? sizeof(((struct dsp_form *)0)->head) : 0);
}

/* Without line breaks. In a JSON text those stand between tokens only. */
static uint8_t *put_line(uint8_t *dst, const uint8_t *src, size_t bytes)
{
    memcpy(dst, src, bytes);
    for (uint8_t *at = dst; (at = memchr(at, '\n', (size_t)(dst + bytes - at))) != NULL;)
        *at = ' ';
    for (uint8_t *at = dst; (at = memchr(at, '\r', (size_t)(dst + bytes - at))) != NULL;)
        *at = ' ';
    return dst + bytes;
}

void dsp_item_frame(struct dsp_text *text, enum dsp_format format, struct cmq_span topic,
                    struct cmq_span item)
{
    static const char before_id[] = "{\"id\":\"";
    const uint8_t *id = item.data + sizeof(before_id) - 1;
    uint8_t *begin = dsp_text_room(text, item.bytes + dsp_item_frame_bytes(format, topic)), *dst = begin;
    if (dst == NULL)
        return;
    if (format == DSP_FORMAT_SSE) {
        const uint8_t *id_end = memchr(id, '"', (size_t)(item.data + item.bytes - id));
        dst = PUT(dst, "id: ");
        dst = put_literal(dst, (const char *)id, (size_t)(id_end - id));
        dst = PUT(dst, "\nevent: message\ndata: ");
    }
    dst = PUT(dst, "{\"topic\":\"");
    dst = put_literal(dst, (const char *)topic.data, topic.bytes); /* a topic needs no escape */
    dst = PUT(dst, "\",");
    dst = put_line(dst, item.data + 1, item.bytes - 2);
    *dst++ = '\n';
    if (format == DSP_FORMAT_SSE)
        *dst++ = '\n';
    text->bytes += (size_t)(dst - begin);
}

/* ---- many ---- */

bool dsp_item_is_over(const struct cmq_message_full *message, uint64_t now_ms)
{
    return message->expiry_ms != 0 && message->expiry_ms <= now_ms;
}

/* Reads a message that is more than a short text, and writes its item. CMQ_ERR_MALFORMED, CMQ_ERR_NOMEM. */
static enum cmq_err write_full(struct dsp_text *text, const struct dsp_form *form,
                               const struct counter *counter, const struct dsp_item_run *run,
                               struct dsp_item_tally *tally)
{
    struct cmq_mp_reader ahead = *run->reader;
    struct cmq_message_full message;
    enum cmq_err err = cmq_message_read(&ahead, &message);
    if (err != CMQ_OK)
        return err;
    const bool over = dsp_item_is_over(&message, run->now_ms);
    tally->expired += over;
    if (!message.left_out && !over) {
        if (message.expiry_ms != 0)
            tally->until_ms = cmq_min_u64(tally->until_ms, message.expiry_ms);
        size_t parts = message.body.bytes + message.type.bytes + message.headers.bytes;
        uint8_t *dst = dsp_text_room(text, ITEM_BYTES + cmq_json_string_bytes_max(parts));
        if (dst == NULL)
            return CMQ_ERR_NOMEM;
        uint8_t *end = form->format == DSP_FORMAT_JSON ? json_full(dst, form, counter, &message)
                                                       : msgpack_full(dst, form, counter, &message);
        text->bytes += (size_t)(end - dst);
    }
    *run->reader = ahead;
    return CMQ_OK;
}

/* The same for a message that is text and nothing else: nearly all are. False: it is not, or there is no memory. */
static inline bool write_short(struct dsp_text *text, const struct dsp_form *form,
                               const struct counter *counter, struct cmq_mp_reader *reader)
{
    const uint8_t *begin = reader->next;
    struct cmq_message message;
    if (cmq_mp_left(reader) == 0 || (*begin & 0xe0u) == 0x80u || *begin == 0xc0 ||
        cmq_message_next(reader, &message) != CMQ_OK)
        return false;
    size_t room = ITEM_BYTES + cmq_json_string_bytes_max(message.body.bytes);
    uint8_t *dst =
        message.text || form->format == DSP_FORMAT_MSGPACK ? dsp_text_start(text) + text->bytes : NULL;
    if (dst != NULL && text->capacity - text->bytes < room)
        dst = dsp_text_room(text, room);
    if (dst == NULL) {
        reader->next = begin;
        return false;
    }
    uint8_t *end;
    if (form->format == DSP_FORMAT_JSON) {
        end = PUT(json_begin(dst, form, counter), "\":");
        end += cmq_json_write_string(end, message.body);
    } else {
        end = msgpack_begin(dst, form, counter, 0);
        end = cmq_mp_put_bytes(end, cmq_span_make(begin, (size_t)(reader->next - begin)));
    }
    text->bytes += (size_t)(put_tail(end, form) - dst);
    return true;
}

enum dsp_item_end dsp_item_write(struct dsp_text *text, const struct dsp_form *form,
                                 const struct dsp_item_run *run, struct dsp_item_tally *ret_tally)
{
    enum dsp_item_end result = DSP_ITEM_ALL;
    struct counter counter = counter_of(run->index);
    struct dsp_item_tally tally = {.until_ms = UINT64_MAX};
    uint32_t read = 0, items = 0;
    while (read < run->count) {
        const uint8_t *begin = run->reader->next;
        size_t before = text->bytes;
        if (items >= run->item_max) {
            result = DSP_ITEM_FULL;
            break;
        }
        if (!write_short(text, form, &counter, run->reader)) {
            enum cmq_err err = write_full(text, form, &counter, run, &tally);
            if (err != CMQ_OK) {
                result = err == CMQ_ERR_NOMEM ? DSP_ITEM_NOMEM : DSP_ITEM_BAD;
                break;
            }
        }
        if (text->bytes > run->bytes_max && (items > 0 || !run->first_goes) && text->bytes > before) {
            text->bytes = before;
            run->reader->next = begin;
            result = DSP_ITEM_FULL;
            break;
        }
        items += text->bytes > before;
        if (run->ends != NULL)
            run->ends[read] = (uint32_t)text->bytes;
        read++;
        count_up(&counter);
    }
    tally.read = read;
    tally.items = items;
    *ret_tally = tally;
    return result;
}
