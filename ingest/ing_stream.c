#include "ingest/ing_stream.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/cmq_json_out.h"
#include "ingest/ing_text.h"

/* Of one element of the lists, and of the numbers of a reply. */
#define CUT ",\"records_cut\":true"
enum { ELEMENT_BYTES = 1200, NUMBERS_BYTES = 400 };

struct ing_stream *ing_stream_new(struct ing_body_pool *pool, uint32_t errors_max)
{
    struct ing_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    stream->pool = pool;
    stream->errors_max = errors_max;
    stream->line = 1;
    stream->stop = ing_problem_make(ING_PROBLEM_NONE, NULL);
    return stream;
}

void ing_stream_free(struct ing_stream *stream)
{
    if (stream == NULL)
        return;
    ing_body_clear(stream->pool, &stream->records);
    ing_body_clear(stream->pool, &stream->errors);
    ing_body_clear(stream->pool, &stream->reply);
    free(stream);
}

static bool put(struct ing_stream *stream, struct ing_body *list, const void *data, size_t bytes)
{
    return ing_body_append(stream->pool, list, data, bytes) == CMQ_OK;
}

void ing_stream_refuse_line(void *context, uint64_t line, const struct cmq_json_error *error)
{
    struct ing_stream *stream = context;
    uint8_t text[ELEMENT_BYTES];
    stream->rejected++;
    if (stream->errors_named == stream->errors_max || stream->errors_cut) {
        stream->errors_cut = true;
        return;
    }
    uint8_t *dst = ing_text_put(text, stream->errors_named == 0 ? "{\"line\":" : ",{\"line\":");
    dst = ing_text_put_u64(dst, line);
    dst = ing_text_put(dst, ",\"detail\":");
    dst += cmq_json_write_string(dst, cmq_span_make(error->text, strnlen(error->text, sizeof error->text)));
    if (error->offset != SIZE_MAX)
        dst = ing_text_put_u64(ing_text_put(dst, ",\"offset\":"), error->offset);
    dst = ing_text_put(dst, "}");
    stream->errors_cut = !put(stream, &stream->errors, text, (size_t)(dst - text));
    stream->errors_named += !stream->errors_cut;
}

void ing_stream_keep(struct ing_stream *stream, uint64_t seq, uint32_t messages,
                     const struct cmq_outcome *outcome)
{
    uint8_t text[ELEMENT_BYTES];
    char id[CMQ_ID_TEXT_BYTES];
    struct cmq_id first = {.seq = seq};
    const bool duplicate = outcome->kind == CMQ_OUTCOME_DUPLICATE;
    const uint32_t duplicates = duplicate ? messages : outcome->kind == CMQ_OUTCOME_PART ? outcome->index : 0;
    if (duplicate)
        first = (struct cmq_id){.seq = outcome->seq, .index = outcome->index};
    stream->count += messages;
    stream->duplicates += duplicates;
    if (stream->records_named == ING_STREAM_RECORDS_MAX || stream->records_cut) {
        stream->records_cut = true;
        return;
    }
    const size_t bytes = cmq_id_format(id, first);
    uint8_t *dst = ing_text_put(text, stream->records_named == 0 ? "{\"id\":\"" : ",{\"id\":\"");
    memcpy(dst, id, bytes);
    dst = ing_text_put_u64(ing_text_put(dst + bytes, "\",\"count\":"), messages);
    if (duplicate)
        dst = ing_text_put(dst, ",\"duplicate\":true");
    else if (duplicates != 0)
        dst = ing_text_put_u64(ing_text_put(dst, ",\"duplicates\":"), duplicates);
    dst = ing_text_put(dst, "}");
    stream->records_cut = !put(stream, &stream->records, text, (size_t)(dst - text));
    stream->records_named += !stream->records_cut;
}

void ing_stream_stop(struct ing_stream *stream, const struct ing_problem *problem)
{
    if (stream->stop.kind != ING_PROBLEM_NONE)
        return;
    stream->stop = *problem;
    if (problem->detail == NULL)
        return;
    (void)snprintf(stream->stop_detail, sizeof stream->stop_detail, "%.*s",
                   (int)sizeof stream->stop_detail - 1, problem->detail);
    stream->stop.detail = stream->stop_detail;
}

/* 200, 207, or the status of a problem, which is written to reply->body without its last brace. */
static void begin_reply(const struct ing_stream *stream, struct ing_reply *reply)
{
    struct ing_problem problem = stream->stop;
    if (problem.kind == ING_PROBLEM_NONE && stream->rejected != 0 && stream->count == 0)
        problem = ing_problem_make(ING_PROBLEM_MALFORMED_LINES, NULL);
    if (problem.kind != ING_PROBLEM_NONE) {
        ing_reply_problem(reply, &problem, NULL);
        reply->body[reply->body_bytes - 1] = ',';
        return;
    }
    ing_reply_status(reply, "");
    reply->status = stream->rejected == 0 ? 200 : 207;
    reply->body_bytes = (size_t)(ing_text_put(reply->body, "{") - reply->body);
}

static uint8_t *put_numbers(uint8_t *dst, const struct ing_stream *stream, bool durable)
{
    dst = ing_text_put_u64(ing_text_put(dst, "\"count\":"), stream->count);
    dst = ing_text_put_u64(ing_text_put(dst, ",\"rejected\":"), stream->rejected);
    dst = ing_text_put_u64(ing_text_put(dst, ",\"lines\":"), stream->settled);
    if (stream->duplicates != 0)
        dst = ing_text_put_u64(ing_text_put(dst, ",\"duplicates\":"), stream->duplicates);
    return ing_text_put(dst, durable ? ",\"ack\":\"durable\"" : ",\"ack\":\"accepted\"");
}

void ing_stream_short_reply(const struct ing_stream *stream, bool durable, struct ing_reply *ret_reply)
{
    begin_reply(stream, ret_reply);
    cmq_assert(ret_reply->body_bytes + NUMBERS_BYTES <= sizeof ret_reply->body);
    uint8_t *dst = put_numbers(ret_reply->body + ret_reply->body_bytes, stream, durable);
    if (stream->records_named != 0 || stream->records_cut)
        dst = ing_text_put(dst, ",\"records_cut\":true");
    if (stream->errors_named != 0 || stream->errors_cut)
        dst = ing_text_put(dst, ",\"errors_cut\":true");
    ret_reply->body_bytes = (size_t)(ing_text_put(dst, "}") - ret_reply->body);
}

static bool put_list(struct ing_stream *stream, const char *begin, const struct ing_body *list,
                     const char *end)
{
    const struct cmq_span text = ing_body_span(list);
    return put(stream, &stream->reply, begin, strlen(begin)) &&
           put(stream, &stream->reply, text.data, text.bytes) &&
           put(stream, &stream->reply, end, strlen(end));
}

void ing_stream_reply(struct ing_stream *stream, bool durable, struct ing_reply *ret_reply)
{
    begin_reply(stream, ret_reply);
    cmq_assert(ret_reply->body_bytes + NUMBERS_BYTES <= sizeof ret_reply->body);
    const uint8_t *end = put_numbers(ret_reply->body + ret_reply->body_bytes, stream, durable);
    bool whole = put(stream, &stream->reply, ret_reply->body, (size_t)(end - ret_reply->body)) &&
                 put_list(stream, ",\"records\":[", &stream->records, "]") &&
                 (!stream->records_cut || put(stream, &stream->reply, CUT, sizeof CUT - 1)) &&
                 put_list(stream, ",\"errors\":[", &stream->errors,
                          stream->errors_cut ? "],\"errors_cut\":true}" : "]}");
    ing_body_clear(stream->pool, &stream->records);
    ing_body_clear(stream->pool, &stream->errors);
    if (!whole) {
        ing_body_clear(stream->pool, &stream->reply);
        ing_stream_short_reply(stream, durable, ret_reply);
        return;
    }
    const struct cmq_span text = ing_body_span(&stream->reply);
    ret_reply->text = text.data;
    ret_reply->body_bytes = text.bytes;
    ret_reply->lasting = true;
}
