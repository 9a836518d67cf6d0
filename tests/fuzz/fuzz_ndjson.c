/* Bytes of a body of lines, whole and in chunks whose sizes come from its first byte -> cmq_ndjson. Both ways take and refuse
 * the same lines, and each line fares as it does in a body of its own. */
#include "common/wire/cmq_ndjson.h"

#include "tests/fuzz/fuzz_bodies.h"

enum { LINE_BYTES_MAX = 200, LINES_MAX = 4096 };

/* What became of the lines. */
struct outcome {
    struct cmq_buf messages;
    uint32_t count;
    uint64_t lines;
    uint8_t refused[LINES_MAX];
};

static void refuse(void *context, uint64_t line, const struct cmq_json_error *error)
{
    struct outcome *outcome = context;
    cmq_assert(line >= 1 && error->text[0] != '\0' && error->index == UINT32_MAX);
    cmq_assert(error->offset == SIZE_MAX || error->offset <= LINE_BYTES_MAX + 1);
    if (line < LINES_MAX) {
        cmq_assert(outcome->refused[line] == 0);
        outcome->refused[line] = 1;
    }
}

static void begin(struct outcome *outcome)
{
    memset(outcome, 0, sizeof *outcome);
    cmq_buf_init(&outcome->messages, SIZE_MAX / 4);
}

static void add(struct outcome *outcome, const struct cmq_ndjson_found *found)
{
    outcome->count += found->messages;
    outcome->lines += found->lines;
}

static void parse_whole(struct cmq_json_parser *parser, struct cmq_ndjson_order *order, struct cmq_span body,
                        struct outcome *outcome)
{
    uint8_t *block = fuzz_padded(body.data, body.bytes);
    order->context = outcome;
    order->line = 1;
    for (size_t at = 0; at < body.bytes;) {
        struct cmq_ndjson_found found;
        cmq_assert(cmq_ndjson_parse(parser, cmq_span_make(block + at, body.bytes - at), order,
                                    &outcome->messages, &found) == CMQ_OK);
        cmq_assert(found.lines > 0 && found.bytes > 0 && found.messages <= order->limits->messages_max);
        at += found.bytes;
        order->line += found.lines;
        add(outcome, &found);
    }
    free(block);
}

static void parse_chunks(struct cmq_json_parser *parser, struct cmq_ndjson_order *order, struct cmq_span body,
                         size_t chunk, struct outcome *outcome)
{
    struct cmq_lines lines;
    cmq_lines_init(&lines, LINE_BYTES_MAX, FUZZ_BODY_BYTES_MAX * 2);
    order->context = outcome;
    for (size_t at = 0; at < body.bytes; at += chunk) {
        size_t bytes = body.bytes - at < chunk ? body.bytes - at : chunk;
        cmq_assert(cmq_lines_append(&lines, cmq_span_make(body.data + at, bytes)) == CMQ_OK);
        if (at + chunk >= body.bytes)
            cmq_lines_end(&lines);
        while (cmq_lines_ready(&lines) > 0) {
            struct cmq_ndjson_found found;
            cmq_assert(cmq_ndjson_take(parser, &lines, order, &outcome->messages, &found) == CMQ_OK);
            cmq_assert(found.lines > 0);
            add(outcome, &found);
        }
    }
    cmq_lines_fini(&lines);
}

/* Each line, with brackets around it, is a batch that is taken if the line was: nothing of one line reaches another. */
static void check_lines(struct cmq_json_parser *parser, const struct cmq_ndjson_order *order,
                        struct cmq_span body, const struct outcome *outcome)
{
    uint64_t line = 1;
    for (size_t at = 0; at < body.bytes && line < LINES_MAX; line++) {
        const uint8_t *end = memchr(body.data + at, '\n', body.bytes - at);
        size_t bytes = end != NULL ? (size_t)(end - body.data) - at : body.bytes - at;
        uint8_t *batch = calloc(1, bytes + 2 + CMQ_JSON_PADDING);
        cmq_assert(batch != NULL);
        batch[0] = '[';
        memcpy(batch + 1, body.data + at, bytes);
        batch[bytes + 1] = ']';
        struct cmq_buf messages;
        struct cmq_json_found found = {0};
        struct cmq_json_error error;
        cmq_buf_init(&messages, SIZE_MAX / 4);
        enum cmq_err err = cmq_json_parse_topic_batch(parser, cmq_span_make(batch, bytes + 2), order->limits,
                                                      order->defaults, &messages, &found, &error);
        if (outcome->refused[line] == 0)
            cmq_assert(err == CMQ_OK && found.messages <= 1);
        else
            cmq_assert(err != CMQ_OK || found.messages > 1 || bytes > LINE_BYTES_MAX);
        cmq_buf_fini(&messages);
        free(batch);
        at += bytes + (end != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct outcome whole, chunks;
    struct cmq_json_parser *parser;
    if (bytes < 1 || bytes > FUZZ_BODY_BYTES_MAX)
        return 0;
    cmq_assert(cmq_json_parser_new(FUZZ_BODY_BYTES_MAX, &parser) == CMQ_OK);
    struct cmq_span body = cmq_span_make(data + 1, bytes - 1);
    struct cmq_ndjson_order order = {.limits = &fuzz_carrying,
                                     .defaults = fuzz_defaults_for(body.data, body.bytes),
                                     .line_bytes_max = LINE_BYTES_MAX,
                                     .refused = refuse};
    begin(&whole);
    begin(&chunks);
    parse_whole(parser, &order, body, &whole);
    parse_chunks(parser, &order, body, (size_t)data[0] + 1, &chunks);
    cmq_assert(whole.count == chunks.count && whole.lines == chunks.lines);
    cmq_assert(memcmp(whole.refused, chunks.refused, sizeof whole.refused) == 0);
    cmq_assert(whole.messages.bytes == chunks.messages.bytes);
    cmq_assert(whole.messages.bytes == 0 ||
               memcmp(whole.messages.data, chunks.messages.data, whole.messages.bytes) == 0);
    fuzz_check_carriers(cmq_buf_span(&whole.messages), whole.count, order.defaults);
    check_lines(parser, &order, body, &whole);
    cmq_buf_fini(&whole.messages);
    cmq_buf_fini(&chunks.messages);
    cmq_json_parser_free(parser);
    return 0;
}
