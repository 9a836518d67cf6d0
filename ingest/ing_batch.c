#include "ingest/ing_batch.h"

#include <stdio.h>
#include <string.h>

#include "common/base/cmq_buf.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_cloudevents.h"
#include "common/wire/cmq_mp_in.h"

/* Memory of the parser and the messages stays for the next request unless a body was larger than this. */
enum { KEEP_BYTES = 1 << 20 };
/* What messages with ids and types may have besides the body's bytes; the ring takes as much. */
enum { MESSAGES_EXTRA = 2048, EXTRA_SHARE = 1024 };

struct ing_packer {
    size_t body_bytes_max;
    struct cmq_json_limits limits;
    struct cmq_json_parser *parser; /* NULL: made at the next use */
    struct cmq_buf messages;
    struct cmq_json_error error;
    uint8_t head[CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + CMQ_TOPIC_BYTES_MAX + CMQ_MESSAGE_KEY_BYTES +
                 CMQ_MESSAGE_ID_BYTES_MAX];
};

enum cmq_err ing_packer_new(size_t body_bytes_max, const struct cmq_json_limits *limits,
                            struct ing_packer **ret_packer)
{
    struct ing_packer *packer = calloc(1, sizeof *packer);
    if (packer == NULL)
        return CMQ_ERR_NOMEM;
    packer->body_bytes_max = body_bytes_max;
    packer->limits = *limits;
    cmq_buf_init(&packer->messages, body_bytes_max + body_bytes_max / EXTRA_SHARE + MESSAGES_EXTRA);
    *ret_packer = packer;
    return CMQ_OK;
}

void ing_packer_free(struct ing_packer *packer)
{
    if (packer == NULL)
        return;
    cmq_json_parser_free(packer->parser);
    cmq_buf_fini(&packer->messages);
    free(packer);
}

static enum cmq_err need_parser(struct ing_packer *packer)
{
    return packer->parser != NULL ? CMQ_OK : cmq_json_parser_new(packer->body_bytes_max, &packer->parser);
}

/* The body as it is: text if it is UTF-8, else octets. */
static enum cmq_err take_whole(struct ing_packer *packer, const struct ing_order *order, struct cmq_span body)
{
    struct cmq_message_full message = {.body = body, .text = true, .headers = order->headers};
    enum cmq_err err = CMQ_OK;
    message.expiry_ms = order->ttl_ms != 0 ? order->accepted_at_ms + order->ttl_ms : 0;
    if (body.bytes > packer->limits.message_bytes_max) {
        (void)snprintf(packer->error.text, sizeof packer->error.text,
                       "the message has %zu bytes; at most %zu are allowed", body.bytes,
                       packer->limits.message_bytes_max);
        return CMQ_ERR_TOO_BIG;
    }
    if (order->type == CMQ_TYPE_JSON) {
        err = cmq_json_check(packer->parser, body, &packer->error);
        message.type = cmq_span_make(CMQ_TYPE_JSON_TEXT, sizeof CMQ_TYPE_JSON_TEXT - 1);
    } else {
        message.text = cmq_utf8_is_valid(body);
        if (order->type == CMQ_TYPE_OTHER)
            message.type = order->type_text;
    }
    if (err == CMQ_OK)
        err = cmq_buf_reserve(&packer->messages, CMQ_MESSAGE_FULL_BYTES + body.bytes + message.type.bytes +
                                                     message.headers.bytes);
    if (err == CMQ_OK)
        packer->messages.bytes = cmq_message_write(packer->messages.data, &message);
    return err;
}

static enum cmq_err parse(struct ing_packer *packer, const struct ing_order *order, struct cmq_span body,
                          struct cmq_json_found *ret_found)
{
    const struct cmq_element_defaults defaults = {
        .accepted_at_ms = order->accepted_at_ms, .ttl_ms = order->ttl_ms, .headers = order->headers};
    /* Without them the messages of the original API are written in one pass. */
    const struct cmq_element_defaults *given =
        order->ttl_ms != 0 || order->headers.bytes != 0 ? &defaults : NULL;
    struct cmq_json_parser *parser;
    struct cmq_buf *messages = &packer->messages;
    struct cmq_json_error *error = &packer->error;
    enum cmq_err err = need_parser(packer);
    if (err != CMQ_OK)
        return err;
    parser = packer->parser;
    switch (order->format) {
    case ING_FORMAT_INPUT:
        return cmq_json_parse_single(parser, body, &packer->limits, given, messages, ret_found, error);
    case ING_FORMAT_INPUTS:
        return cmq_json_parse_batch(parser, body, &packer->limits, given, messages, ret_found, error);
    case ING_FORMAT_JSON:
        return cmq_json_parse_topic_batch(parser, body, &packer->limits, &defaults, messages, ret_found,
                                          error);
    case ING_FORMAT_WHOLE:
        *ret_found = (struct cmq_json_found){.messages = 1};
        return take_whole(packer, order, body);
    case ING_FORMAT_MSGPACK:
        return cmq_mp_parse_batch(parser, body, &packer->limits, &defaults, messages, ret_found, error);
    case ING_FORMAT_EVENT:
        return cmq_cloudevents_parse(parser, body, &packer->limits, &defaults, messages, ret_found, error);
    case ING_FORMAT_EVENTS:
        return cmq_cloudevents_parse_batch(parser, body, &packer->limits, &defaults, messages, ret_found,
                                           error);
    case ING_FORMAT_LINES:
        break;
    }
    return CMQ_ERR_INVALID;
}

static enum ing_problem_kind malformed(enum ing_format format)
{
    if (format == ING_FORMAT_MSGPACK)
        return ING_PROBLEM_MALFORMED_MSGPACK;
    return format == ING_FORMAT_EVENT || format == ING_FORMAT_EVENTS ? ING_PROBLEM_MALFORMED_EVENT
                                                                     : ING_PROBLEM_MALFORMED;
}

static struct ing_problem problem_of(const struct ing_packer *packer, enum ing_format format,
                                     enum cmq_err err)
{
    enum ing_problem_kind kind = ING_PROBLEM_INTERNAL;
    if (err == CMQ_ERR_NOMEM)
        return ing_problem_make(ING_PROBLEM_BUSY, NULL);
    if (err == CMQ_ERR_MALFORMED)
        kind = malformed(format);
    if (err == CMQ_ERR_TOO_BIG)
        kind = ING_PROBLEM_TOO_LARGE;
    return (struct ing_problem){.kind = kind,
                                .detail = packer->error.text[0] != '\0' ? packer->error.text : NULL,
                                .offset = packer->error.offset,
                                .index = packer->error.index};
}

/* Before the buffers are used again, so that the last batch stayed valid. */
static void forget_last(struct ing_packer *packer)
{
    if (packer->messages.capacity > KEEP_BYTES) {
        cmq_json_parser_free(packer->parser);
        packer->parser = NULL;
    }
    cmq_buf_clear(&packer->messages, KEEP_BYTES);
    packer->error.offset = ING_OFFSET_NONE;
    packer->error.index = ING_INDEX_NONE;
    packer->error.text[0] = '\0';
}

/* The head of the batch and the request's key; returns their bytes. */
static size_t put_head(struct ing_packer *packer, const struct ing_order *order,
                       const struct cmq_json_found *found)
{
    uint8_t key[CMQ_MESSAGE_KEY_BYTES + CMQ_MESSAGE_ID_BYTES_MAX];
    size_t key_bytes = order->key.bytes != 0 ? cmq_message_key_write(key, order->key) : 0;
    const struct cmq_plain_head head = {
        .unit_count = 1,
        .accepted_at_ms = order->accepted_at_ms,
        .flags = (found->has_ids ? CMQ_PLAIN_HAS_IDS : 0u) | (key_bytes != 0 ? CMQ_PLAIN_HAS_KEY : 0u),
    };
    size_t bytes = cmq_plain_encode_head(packer->head, &head, order->topic, found->messages,
                                         (uint32_t)(key_bytes + packer->messages.bytes));
    if (key_bytes != 0)
        memcpy(packer->head + bytes, key, key_bytes);
    return bytes + key_bytes;
}

struct ing_problem ing_batch_pack(struct ing_packer *packer, const struct ing_order *order,
                                  struct cmq_span body, struct ing_batch *ret_batch)
{
    forget_last(packer);
    struct cmq_json_found found = {0};
    enum cmq_err err = parse(packer, order, body, &found);
    if (err != CMQ_OK)
        return problem_of(packer, order->format, err);
    bool has_key = order->key.bytes != 0;
    if (has_key && found.has_ids)
        return ing_problem_make(ING_PROBLEM_BAD_HEADER, "Idempotency-Key covers the whole request: send it, "
                                                        "or ids in the messages, but not both.");
    size_t head_bytes = put_head(packer, order, &found);
    *ret_batch = (struct ing_batch){
        .parts = {cmq_span_make(packer->head, head_bytes), cmq_buf_span(&packer->messages)},
        .count = found.messages,
        .has_ids = has_key || found.has_ids,
        .has_key = has_key,
    };
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}

struct ing_problem ing_batch_pack_lines(struct ing_packer *packer, const struct ing_order *order,
                                        struct cmq_span block, struct ing_lines *lines,
                                        struct ing_batch *ret_batch)
{
    forget_last(packer);
    const struct cmq_element_defaults defaults = {
        .accepted_at_ms = order->accepted_at_ms, .ttl_ms = order->ttl_ms, .headers = order->headers};
    const struct cmq_ndjson_order ndjson = {.limits = &packer->limits,
                                            .defaults = &defaults,
                                            .line_bytes_max = packer->body_bytes_max,
                                            .line = lines->line,
                                            .refused = lines->refused,
                                            .context = lines->context};
    enum cmq_err err = need_parser(packer);
    if (err == CMQ_OK)
        err = cmq_ndjson_parse(packer->parser, block, &ndjson, &packer->messages, &lines->found);
    if (err != CMQ_OK)
        return problem_of(packer, ING_FORMAT_LINES, err);
    const struct cmq_json_found found = {.messages = lines->found.messages, .has_ids = lines->found.has_ids};
    size_t head_bytes = put_head(packer, order, &found);
    *ret_batch = (struct ing_batch){
        .parts = {cmq_span_make(packer->head, head_bytes), cmq_buf_span(&packer->messages)},
        .count = found.messages,
        .has_ids = found.has_ids,
    };
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}
