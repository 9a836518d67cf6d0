#include "ingest/ing_batch.h"

#include <string.h>

#include "common/base/cmq_buf.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_topic.h"

/* Memory of the parser and the messages stays for the next request unless a body was larger than this. */
enum { KEEP_BYTES = 1 << 20 };
/* Room behind the messages for wide stores. */
enum { MESSAGES_EXTRA = 64 };

#define TOPIC_BYTES (sizeof CMQ_TOPIC_DEFAULT - 1)

struct ing_packer {
    size_t body_bytes_max;
    struct cmq_json_limits limits;
    struct cmq_json_parser *parser; /* NULL: made at the next use */
    struct cmq_buf messages;
    struct cmq_json_error error;
    uint8_t head[CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + TOPIC_BYTES];
};

enum cmq_err ing_packer_new(size_t body_bytes_max, const struct cmq_json_limits *limits,
                            struct ing_packer **ret_packer)
{
    struct ing_packer *packer = calloc(1, sizeof *packer);
    if (packer == NULL)
        return CMQ_ERR_NOMEM;
    packer->body_bytes_max = body_bytes_max;
    packer->limits = *limits;
    /* A packed message is shorter than its JSON: at most 5 bytes stand for at least 14 of `{"content":""}`.
     */
    cmq_buf_init(&packer->messages, body_bytes_max + MESSAGES_EXTRA);
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

static enum cmq_err parse(struct ing_packer *packer, enum ing_route route, struct cmq_span body,
                          uint32_t *ret_count)
{
    if (packer->parser == NULL) {
        enum cmq_err err = cmq_json_parser_new(packer->body_bytes_max, &packer->parser);
        if (err != CMQ_OK)
            return err;
    }
    if (route == ING_ROUTE_BATCH)
        return cmq_json_parse_batch(packer->parser, body, &packer->limits, &packer->messages, ret_count,
                                    &packer->error);
    *ret_count = 1;
    return cmq_json_parse_single(packer->parser, body, &packer->limits, &packer->messages, &packer->error);
}

static struct ing_problem problem_of(const struct ing_packer *packer, enum cmq_err err)
{
    enum ing_problem_kind kind = ING_PROBLEM_INTERNAL;
    if (err == CMQ_ERR_NOMEM)
        return ing_problem_make(ING_PROBLEM_BUSY, NULL);
    if (err == CMQ_ERR_MALFORMED)
        kind = ING_PROBLEM_MALFORMED;
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

struct ing_problem ing_batch_pack(struct ing_packer *packer, enum ing_route route, struct cmq_span body,
                                  uint64_t accepted_at_ms, struct ing_batch *ret_batch)
{
    cmq_assert(route == ING_ROUTE_SINGLE || route == ING_ROUTE_BATCH);
    forget_last(packer);
    uint32_t count = 0;
    enum cmq_err err = parse(packer, route, body, &count);
    if (err != CMQ_OK)
        return problem_of(packer, err);
    struct cmq_span messages = cmq_buf_span(&packer->messages);
    const struct cmq_plain_head head = {.unit_count = 1, .accepted_at_ms = accepted_at_ms};
    size_t head_bytes = cmq_plain_encode_head(
        packer->head, &head, cmq_span_make(CMQ_TOPIC_DEFAULT, TOPIC_BYTES), count, (uint32_t)messages.bytes);
    *ret_batch =
        (struct ing_batch){.parts = {cmq_span_make(packer->head, head_bytes), messages}, .count = count};
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}
