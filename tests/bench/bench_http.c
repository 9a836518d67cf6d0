#include "tests/bench/bench_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/bench/bench_push.h"
#include "tests/bench/bench_text.h"

/* Room in front of the body for the request's head, which is written last, when the length is known. */
enum { HEAD_ROOM = 768, FRAME_BYTES = 64 };

enum cmq_err bench_request_init(struct bench_request *request, const struct bench_request_form *form)
{
    size_t bytes = HEAD_ROOM + FRAME_BYTES + ((size_t)form->size + 1) * BENCH_TEXT_BYTES;
    *request = (struct bench_request){.memory = malloc(bytes)};
    return request->memory != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
}

void bench_request_fini(struct bench_request *request)
{
    free(request->memory);
    *request = (struct bench_request){0};
}

static uint8_t *put(uint8_t *dst, const char *text)
{
    while (*text != '\0')
        *dst++ = (uint8_t)*text++;
    return dst;
}

void bench_request_build(struct bench_request *request, const struct bench_request_form *form, uint64_t first,
                         uint32_t count)
{
    uint8_t *body = request->memory + HEAD_ROOM, *at = body;
    struct bench_text text;
    if (form->single) {
        bench_text_init(&text, "{\"content\": \"message_", "\"}", first);
        at = bench_text_store(&text, at);
    } else {
        at = put(at, form->topic != NULL ? "[" : "{\"messages\": [");
        if (form->topic != NULL)
            bench_text_init(&text, "\"message_", "\", ", first);
        else
            bench_text_init(&text, "{\"content\": \"message_", "\"}, ", first);
        for (uint32_t i = 0; i < count; i++) {
            at = bench_text_store(&text, at);
            bench_text_next(&text);
        }
        if (count > 0)
            at -= 2; /* no comma behind the last one */
        at = put(at, form->topic != NULL ? "]" : "]}");
    }
    request->body_bytes = (size_t)(at - body);

    char head[HEAD_ROOM];
    const char *topic = form->topic, *ack = form->ack, *token = form->token;
    int head_bytes = snprintf(head, sizeof head,
                              "POST %s%s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                              "%s%s%s%s%s%sContent-Length: %zu\r\n\r\n",
                              topic != NULL ? "/v1/topics/" : "/input", topic != NULL ? topic : "",
                              form->single ? "" : "/batch", form->host, ack != NULL ? "CMQ-Ack: " : "",
                              ack != NULL ? ack : "", ack != NULL ? "\r\n" : "",
                              token != NULL ? "Authorization: Bearer " : "", token != NULL ? token : "",
                              token != NULL ? "\r\n" : "", request->body_bytes);
    cmq_assert(head_bytes > 0 && head_bytes < HEAD_ROOM);
    uint8_t *start = body - head_bytes;
    memcpy(start, head, (size_t)head_bytes);
    request->whole = cmq_span_make(start, (size_t)(at - start));
}

void bench_receipt_parse(struct cmq_span body, struct bench_receipt *ret_receipt)
{
    struct bench_receipt receipt = {0};
    struct bench_doc doc = bench_doc_make(body, false);
    struct bench_scope map;
    struct cmq_span key, id = {0}, ack = {0};
    struct bench_id first = {0};
    if (bench_doc_enter(&doc, true, &map))
        while (bench_doc_next(&doc, &map) && bench_doc_key(&doc, &key)) {
            if (bench_span_is(key, "id"))
                (void)bench_doc_text(&doc, &id);
            else if (bench_span_is(key, "ack"))
                (void)bench_doc_text(&doc, &ack);
            else
                (void)bench_doc_skip(&doc);
        }
    if (bench_doc_ended(&doc)) {
        receipt.seq = bench_id_parse(id, &first) && first.index == 0 ? first.seq : 0;
        snprintf(receipt.ack, sizeof receipt.ack, "%.*s", (int)ack.bytes, (const char *)ack.data);
    }
    *ret_receipt = receipt;
}

static bool is_field(const uint8_t *line, const uint8_t *end, const char *name, const uint8_t **ret_value)
{
    size_t bytes = strlen(name);
    if ((size_t)(end - line) <= bytes || line[bytes] != ':' ||
        strncasecmp((const char *)line, name, bytes) != 0)
        return false;
    const uint8_t *value = line + bytes + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    *ret_value = value;
    return true;
}

static bool parse_length(const uint8_t *value, const uint8_t *end, size_t *ret_length)
{
    size_t length = 0;
    if (value == end)
        return false;
    for (; value < end; value++) {
        unsigned digit = (unsigned)*value - '0';
        if (digit > 9 || length > BENCH_REPLY_BYTES_MAX)
            return false;
        length = length * 10u + digit;
    }
    *ret_length = length;
    return true;
}

/* "HTTP/1.1 200 OK" */
static bool parse_status(const uint8_t *line, const uint8_t *end, unsigned *ret_status)
{
    if (end - line < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ')
        return false;
    unsigned status = 0;
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return false;
        status = status * 10u + (unsigned)(line[i] - '0');
    }
    if (status < 100 || (end - line > 12 && line[12] != ' '))
        return false;
    *ret_status = status;
    return true;
}

/* The head is whole and ends at `end`, behind its last CRLF. */
static enum cmq_err parse_head(const uint8_t *at, const uint8_t *end, struct bench_reply *reply,
                               size_t *ret_length)
{
    bool has_length = false, first_line = true;
    while (at < end) {
        const uint8_t *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        const uint8_t *value;
        if (line_end == NULL)
            return CMQ_ERR_MALFORMED;
        if (first_line) {
            if (!parse_status(at, line_end, &reply->status))
                return CMQ_ERR_MALFORMED;
            reply->close = at[7] == '0';
            first_line = false;
        } else if (is_field(at, line_end, "Content-Length", &value)) {
            if (has_length || !parse_length(value, line_end, ret_length))
                return CMQ_ERR_MALFORMED;
            has_length = true;
        } else if (is_field(at, line_end, "Transfer-Encoding", &value)) {
            return CMQ_ERR_MALFORMED; /* the broker's replies have a length */
        } else if (is_field(at, line_end, "Connection", &value)) {
            reply->close = line_end - value >= 5 && strncasecmp((const char *)value, "close", 5) == 0;
        }
        at = line_end + 2;
    }
    bool bodyless = reply->status < 200 || reply->status == 204 || reply->status == 304;
    return has_length || bodyless ? CMQ_OK : CMQ_ERR_MALFORMED;
}

enum cmq_err bench_reply_parse(struct cmq_span in, struct bench_reply *ret_reply)
{
    const uint8_t *at = in.data, *end = in.data + in.bytes;
    for (;;) {
        const uint8_t *gap = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
        if (gap == NULL)
            return in.bytes >= BENCH_REPLY_BYTES_MAX ? CMQ_ERR_TOO_BIG : CMQ_ERR_AGAIN;
        struct bench_reply reply = {0};
        size_t length = 0;
        enum cmq_err err = parse_head(at, gap + 2, &reply, &length);
        if (err != CMQ_OK)
            return err;
        at = gap + 4;
        if (reply.status < 200)
            continue;
        if ((size_t)(at - in.data) + length > BENCH_REPLY_BYTES_MAX)
            return CMQ_ERR_TOO_BIG;
        if ((size_t)(end - at) < length)
            return CMQ_ERR_AGAIN;
        reply.body = cmq_span_make(at, length);
        reply.bytes = (size_t)(at - in.data) + length;
        *ret_reply = reply;
        return CMQ_OK;
    }
}
