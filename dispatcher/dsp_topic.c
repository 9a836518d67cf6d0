#include "dispatcher/dsp_topic.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/cmq_topic.h"

enum { SUB = 1, LINE_BYTES = 96 };

/* ---- requests ---- */

static const struct {
    const char *name, *since; /* since: unless it says so */
    enum dsp_format format;
} kinds[] = {
    [DSP_TOPIC_WS] = {"ws", "latest", DSP_FORMAT_JSON},
    [DSP_TOPIC_SSE] = {"sse", "latest", DSP_FORMAT_SSE},
    [DSP_TOPIC_JSON] = {"json", "earliest", DSP_FORMAT_LINES},
};

static struct cmq_span span_of(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

static bool is(struct cmq_span text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

enum cmq_err dsp_topic_parse_path(struct cmq_span path, struct dsp_topic_request *ret_request,
                                  struct cmq_reason *reason)
{
    const size_t prefix = sizeof(DSP_TOPIC_PREFIX) - 1;
    struct cmq_span topic = {0}, last = {0};
    if (path.bytes > prefix && memcmp(path.data, DSP_TOPIC_PREFIX, prefix) == 0) {
        const uint8_t *begin = path.data + prefix, *slash = memchr(begin, '/', path.bytes - prefix);
        if (slash != NULL) {
            topic = cmq_span_make(begin, (size_t)(slash - begin));
            last = cmq_span_make(slash + 1, path.bytes - prefix - topic.bytes - 1);
        }
    }
    for (size_t kind = 0; kind < CMQ_COUNT_OF(kinds); kind++) {
        if (!is(last, kinds[kind].name))
            continue;
        enum cmq_err err = cmq_topic_pattern_check(topic, reason);
        if (err == CMQ_OK)
            *ret_request = (struct dsp_topic_request){.kind = (enum dsp_topic_kind)kind, .pattern = topic};
        return err;
    }
    return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND,
                          "There are /t/{topic}/ws, /t/{topic}/sse and /t/{topic}/json.");
}

static bool parse_number(struct cmq_span text, uint64_t number_max, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (text.bytes == 0 || text.bytes > 18)
        return false;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret_number = number;
    return number <= number_max;
}

static enum cmq_err parse_arg(struct cmq_span arg, struct dsp_topic_request *request,
                              struct cmq_reason *reason)
{
    const bool json = request->kind == DSP_TOPIC_JSON;
    const uint8_t *equals = arg.bytes == 0 ? NULL : memchr(arg.data, '=', arg.bytes);
    const size_t name_bytes = equals == NULL ? arg.bytes : (size_t)(equals - arg.data);
    const struct cmq_span name = cmq_span_make(arg.data, name_bytes);
    const struct cmq_span value =
        equals == NULL ? cmq_span_make(NULL, 0) : cmq_span_make(equals + 1, arg.bytes - name_bytes - 1);
    if (is(name, "since") && value.bytes > 0) {
        request->since = value;
        return CMQ_OK;
    }
    if (json && is(name, "limit")) {
        if (parse_number(value, UINT64_MAX, &request->limit) && request->limit > 0)
            return CMQ_OK;
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "limit is a number of messages, at least 1");
    }
    if (json && is(name, "wait_ms")) {
        if (parse_number(value, UINT64_MAX, &request->wait_ms))
            return CMQ_OK;
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "wait_ms is a number of milliseconds");
    }
    return cmq_reason_set(
        reason, CMQ_ERR_INVALID,
        json ? "the query may have since=earliest, since=latest or since=<id>, limit=<messages> "
               "and wait_ms=<milliseconds>, and nothing else"
             : "the query may have since=earliest, since=latest or since=<id>, and nothing else");
}

enum cmq_err dsp_topic_parse(const struct dsp_topic_query *query, struct dsp_topic_request *ret_request,
                             struct cmq_reason *reason)
{
    struct dsp_topic_request request;
    enum cmq_err err = dsp_topic_parse_path(query->path, &request, reason);
    if (err != CMQ_OK)
        return err;
    request.since = span_of(kinds[request.kind].since);
    request.limit = UINT64_MAX;
    for (size_t i = 0; err == CMQ_OK && i < query->arg_count; i++)
        err = parse_arg(query->args[i], &request, reason);
    if (query->last_event_id.bytes != 0)
        request.since = query->last_event_id;
    if (err == CMQ_OK)
        *ret_request = request;
    return err;
}

/* ---- the stream ---- */

enum cmq_err dsp_feed_init(struct dsp_feed *ret_feed, const struct dsp_topic_request *request,
                           struct dsp_source *source, struct cmq_reason *reason)
{
    struct dsp_cursor cursor;
    enum cmq_err err = dsp_cursor_parse(source, request->since, &cursor, reason);
    if (err != CMQ_OK)
        return err;
    *ret_feed =
        (struct dsp_feed){.kind = request->kind,
                          .format = kinds[request->kind].format,
                          .left = request->limit,
                          .end_seq = request->kind == DSP_TOPIC_JSON ? dsp_source_stored(source) : UINT64_MAX,
                          .waits = request->wait_ms > 0,
                          .said = cursor.next};
    dsp_sub_init(&ret_feed->sub, SUB, request->pattern, &cursor);
    return CMQ_OK;
}

/* json: nothing more is to come of it. */
static bool is_over(const struct dsp_feed *feed)
{
    return feed->left == 0 || (feed->sub.cursor.next.seq >= feed->end_seq && (feed->found || !feed->waits));
}

enum dsp_feed_result dsp_feed_next(struct dsp_feed *feed, struct dsp_encoder *encoder,
                                   const struct dsp_push_limits *limits, struct dsp_text *text,
                                   enum cmq_err *ret_err)
{
    struct dsp_push_limits mine = *limits;
    mine.frame_messages_max = (uint32_t)cmq_min_u64(mine.frame_messages_max, feed->left);
    if (feed->kind == DSP_TOPIC_JSON && is_over(feed))
        return DSP_FEED_END;
    switch (dsp_sub_fill(&feed->sub, encoder, feed->format, &mine, text, ret_err)) {
    case DSP_SUB_FRAME:
        feed->found = true;
        feed->said = feed->sub.cursor.next;
        if (feed->left != UINT64_MAX)
            feed->left -= feed->sub.frame_messages;
        return DSP_FEED_TEXT;
    case DSP_SUB_TAIL:
        return feed->kind == DSP_TOPIC_JSON && is_over(feed) ? DSP_FEED_END : DSP_FEED_TAIL;
    case DSP_SUB_MORE:
        return DSP_FEED_LATER;
    case DSP_SUB_FAILED:
        break;
    }
    return DSP_FEED_FAILED;
}

void dsp_feed_hurry(struct dsp_feed *feed)
{
    feed->waits = false;
}

struct cmq_id dsp_feed_since(const struct dsp_feed *feed)
{
    return dsp_push_before(feed->sub.cursor.next);
}

static void add_place(struct dsp_feed *feed, struct dsp_text *text)
{
    char id[CMQ_ID_TEXT_BYTES], line[LINE_BYTES];
    (void)cmq_id_format(id, dsp_feed_since(feed));
    int bytes = snprintf(line, sizeof(line), "id: %s\n", id);
    dsp_text_add(text, line, (size_t)bytes);
    feed->said = feed->sub.cursor.next;
}

/* An event without data is not shown to the page, but its id is kept (WHATWG HTML, 9.2.6). */
void dsp_feed_hello(struct dsp_feed *feed, uint64_t retry_ms, struct dsp_text *text)
{
    char line[LINE_BYTES];
    dsp_text_begin(text);
    int bytes = snprintf(line, sizeof(line), "retry: %llu\n", (unsigned long long)retry_ms);
    dsp_text_add(text, line, (size_t)bytes);
    add_place(feed, text);
    dsp_text_add(text, "\n", 1);
}

void dsp_feed_beat(struct dsp_feed *feed, struct dsp_text *text)
{
    const struct cmq_id *next = &feed->sub.cursor.next;
    dsp_text_begin(text);
    if (feed->kind == DSP_TOPIC_WS) {
        dsp_text_add(text, "{}", 2);
        return;
    }
    dsp_text_add(text, ": \n", 3);
    if (next->seq != feed->said.seq || next->index != feed->said.index)
        add_place(feed, text);
    dsp_text_add(text, "\n", 1);
}

size_t dsp_topic_chunk(struct dsp_text *text)
{
    char head[2 * DSP_TOPIC_CHUNK_HEAD_BYTES];
    const size_t bytes = (size_t)snprintf(head, sizeof(head), "%zx\r\n", text->bytes);
    cmq_assert(bytes <= DSP_TOPIC_CHUNK_HEAD_BYTES && bytes <= text->headroom);
    dsp_text_add(text, "\r\n", 2);
    memcpy(dsp_text_start(text) - bytes, head, bytes);
    return bytes;
}
