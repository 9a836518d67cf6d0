/*
 * Bytes -> what a request to the WebSocket port shows: lines of path, Origin, Host, Last-Event-ID, dispatcher.origins, then arguments
 * of the query. What passes has a checked pattern, and a limit that is one; a token is seen wherever it stands.
 */
#include <string.h>

#include "common/wire/cmq_topic.h"
#include "dispatcher/dsp_access.h"
#include "dispatcher/dsp_topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { LINES_MAX = 13, ARGS = 5 };

/* Each text in memory of its own, so that a byte too far is found; a zero behind it for those that are strings. */
static struct cmq_span copy_of(struct cmq_span text)
{
    uint8_t *copy = malloc(text.bytes + 1);
    cmq_assert(copy != NULL);
    if (text.bytes != 0)
        memcpy(copy, text.data, text.bytes);
    copy[text.bytes] = 0;
    return cmq_span_make(copy, text.bytes);
}

static size_t cut_lines(struct cmq_span text, struct cmq_span lines[LINES_MAX])
{
    size_t count = 0;
    while (count < LINES_MAX) {
        const uint8_t *end = text.bytes == 0 ? NULL : memchr(text.data, '\n', text.bytes);
        size_t bytes = end == NULL ? text.bytes : (size_t)(end - text.data);
        lines[count++] = copy_of(cmq_span_make(text.data, bytes));
        if (end == NULL)
            break;
        text = cmq_span_make(end + 1, text.bytes - bytes - 1);
    }
    return count;
}

static bool names_a_token(struct cmq_span argument)
{
    static const char name[] = "token=";
    return argument.bytes >= sizeof name - 1 && memcmp(argument.data, name, sizeof name - 1) == 0;
}

static void check_query(const struct cmq_span *lines, size_t count)
{
    struct dsp_topic_request request;
    struct cmq_reason reason = {{0}};
    const struct dsp_topic_query query = {.path = lines[0],
                                          .args = lines + ARGS,
                                          .arg_count = count > ARGS ? count - ARGS : 0,
                                          .last_event_id = count > 3 ? lines[3] : cmq_span_make(NULL, 0)};
    enum cmq_err err = dsp_topic_parse(&query, &request, &reason);
    cmq_assert(err == CMQ_OK || err == CMQ_ERR_NOT_FOUND || err == CMQ_ERR_INVALID);
    cmq_assert(err != CMQ_ERR_INVALID || reason.text[0] != '\0');
    if (err != CMQ_OK)
        return;
    cmq_assert(request.kind == DSP_TOPIC_WS || request.kind == DSP_TOPIC_SSE ||
               request.kind == DSP_TOPIC_JSON);
    cmq_assert(cmq_topic_pattern_check(request.pattern, &reason) == CMQ_OK);
    cmq_assert(request.limit > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct cmq_span lines[LINES_MAX];
    const size_t count = cut_lines(cmq_span_make(data, bytes), lines);
    check_query(lines, count);
    if (count > 4) {
        bool allowed = dsp_access_origin((const char *)lines[4].data, lines[1], lines[2]);
        /* A page without a name is nobody's, unless any may come. */
        cmq_assert(!allowed || lines[1].bytes != 0 || memchr(lines[4].data, '*', lines[4].bytes + 1) != NULL);
    }
    for (size_t i = ARGS; i < count; i++)
        cmq_assert(!names_a_token(lines[i]) || dsp_access_is_token_argument(lines[i]));
    for (size_t i = 0; i < count; i++)
        free((void *)(uintptr_t)lines[i].data);
    return 0;
}
