/* pub, sub: what curl does with the broker's ports, shorter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_topic.h"
#include "ctl.h"
#include "ctl_http.h"

enum {
    REPLY_BYTES_MAX = 64 << 20,
    BODY_BYTES_MAX = 256 << 20,
    READ_BYTES = 65536,
    LINE_BYTES_MAX = 64 << 20
};

/* ---- pub ---- */

static enum cmq_err read_all(FILE *file, struct cmq_buf *body)
{
    enum cmq_err err = CMQ_OK;
    while (err == CMQ_OK) {
        err = cmq_buf_reserve(body, READ_BYTES);
        size_t bytes = err == CMQ_OK ? fread(body->data + body->bytes, 1, READ_BYTES, file) : 0;
        if (bytes == 0)
            break;
        body->bytes += bytes;
    }
    return err == CMQ_OK && ferror(file) ? CMQ_ERR_SYSTEM : err;
}

static int send_body(const struct ctl *ctl, const char *topic, struct cmq_span body)
{
    char path[CMQ_TOPIC_BYTES_MAX + 32], key[192], ack[64], ttl[64];
    struct ctl_answer answer;
    struct cmq_reason reason = {{0}};
    (void)snprintf(path, sizeof path, "/v1/topics/%s%s", topic, ctl->lines ? "/batch" : "");
    struct ctl_request request = {.port = CTL_PORT_HTTP,
                                  .path = path,
                                  .post = true,
                                  .body = body,
                                  .type = ctl->lines ? "application/x-ndjson" : ctl->type,
                                  .bytes_max = REPLY_BYTES_MAX};
    const struct {
        const char *name, *value;
        char *line;
        size_t bytes;
    } headers[] = {{"Idempotency-Key", ctl->key, key, sizeof key},
                   {"CMQ-Ack", ctl->ack, ack, sizeof ack},
                   {"CMQ-TTL", ctl->ttl, ttl, sizeof ttl}};
    for (size_t i = 0, at = 0; i < CMQ_COUNT_OF(headers); i++) {
        if (headers[i].value == NULL)
            continue;
        (void)snprintf(headers[i].line, headers[i].bytes, "%s: %s", headers[i].name, headers[i].value);
        request.headers[at++] = headers[i].line;
    }
    enum cmq_err err = ctl_http(ctl, &request, &answer, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    const bool good = answer.status >= 200 && answer.status < 300;
    (void)fprintf(good ? stdout : stderr, "%.*s\n", (int)answer.body.bytes, (const char *)answer.body.data);
    int code = good                                           ? CMQ_EXIT_OK
               : answer.status >= 500 || answer.status == 429 ? CMQ_EXIT_TEMPORARY
                                                              : CTL_EXIT_FAILED;
    ctl_answer_fini(&answer);
    return code;
}

int ctl_pub(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_buf body;
    const char *topic = ctl->words[0];
    if (cmq_topic_check(cmq_span_make(topic, strlen(topic)), true, &reason) != CMQ_OK)
        return ctl_fail(CMQ_EXIT_USAGE, "pub: %s", reason.text);
    if (ctl->lines && (ctl->word_count == 2 || ctl->type != NULL || ctl->key != NULL))
        return ctl_fail(CMQ_EXIT_USAGE,
                        "pub: --lines reads messages from standard input; a message, --type and --key do not "
                        "go with it");
    if (ctl->word_count == 2)
        return send_body(ctl, topic, cmq_span_make(ctl->words[1], strlen(ctl->words[1])));
    cmq_buf_init(&body, BODY_BYTES_MAX);
    enum cmq_err err = read_all(stdin, &body);
    int code = err == CMQ_OK ? send_body(ctl, topic, cmq_buf_span(&body))
                             : ctl_fail(cmq_proc_exit_of(err), "pub: standard input: %s", cmq_err_text(err));
    cmq_buf_fini(&body);
    return code;
}

/* ---- sub ---- */

struct subscribing {
    struct cmq_buf line;       /* not ended yet */
    struct cmq_buf answer;     /* of a refusal: what is no event */
    uint64_t count, count_max; /* messages; max 0: no end */
    bool full;                 /* out of memory */
};

/* A line of text/event-stream; true while more are wanted. */
static bool take_line(struct subscribing *sub, struct cmq_span line)
{
    static const char data[] = "data:";
    if (line.bytes < sizeof data - 1 || memcmp(line.data, data, sizeof data - 1) != 0)
        return line.bytes == 0 || line.data[0] != '{' ||
               cmq_buf_append(&sub->answer, line.data, line.bytes) == CMQ_OK;
    size_t from = sizeof data - 1;
    if (from < line.bytes && line.data[from] == ' ')
        from++;
    (void)fwrite(line.data + from, 1, line.bytes - from, stdout);
    (void)fputc('\n', stdout);
    if (fflush(stdout) != 0)
        return false;
    sub->count++;
    return sub->count_max == 0 || sub->count < sub->count_max;
}

static bool take_data(void *context, struct cmq_span data)
{
    struct subscribing *sub = context;
    while (data.bytes > 0) {
        const uint8_t *end = memchr(data.data, '\n', data.bytes);
        const size_t bytes = end == NULL ? data.bytes : (size_t)(end - data.data);
        if (cmq_buf_append(&sub->line, data.data, bytes) != CMQ_OK) {
            sub->full = true;
            return false;
        }
        if (end == NULL)
            return true;
        if (!take_line(sub, cmq_buf_span(&sub->line)))
            return false;
        cmq_buf_clear(&sub->line, READ_BYTES);
        data = cmq_span_make(end + 1, data.bytes - bytes - 1);
    }
    return true;
}

int ctl_sub(struct ctl *ctl)
{
    char path[CMQ_TOPIC_BYTES_MAX * 3 + 128];
    struct ctl_answer answer;
    struct cmq_reason reason = {{0}};
    struct subscribing sub = {.count_max = ctl->count};
    const char *pattern = ctl->words[0], *since = ctl->since != NULL ? ctl->since : "latest";
    if (cmq_topic_pattern_check(cmq_span_make(pattern, strlen(pattern)), &reason) != CMQ_OK)
        return ctl_fail(CMQ_EXIT_USAGE, "sub: %s", reason.text);
    if (since[strspn(since, "0123456789-abcdefghijklmnopqrstuvwxyz")] != '\0')
        return ctl_fail(CMQ_EXIT_USAGE, "sub: --since is earliest, latest, or the id of a message");
    /* A pattern has no other letters that a path may not have. */
    size_t at = (size_t)snprintf(path, sizeof path, "/t/");
    for (const char *letter = pattern; *letter != '\0'; letter++)
        at += (size_t)snprintf(path + at, sizeof path - at, *letter == '>' ? "%%3E" : "%c", *letter);
    (void)snprintf(path + at, sizeof path - at, "/sse?since=%s", since);
    cmq_buf_init(&sub.line, LINE_BYTES_MAX);
    cmq_buf_init(&sub.answer, READ_BYTES);
    const struct ctl_request request = {
        .port = CTL_PORT_WS, .path = path, .on_data = take_data, .context = &sub};
    enum cmq_err err = ctl_http(ctl, &request, &answer, &reason);
    int code = CMQ_EXIT_OK;
    if (err != CMQ_OK)
        code = ctl_fail_err(err, &reason);
    else if (sub.full)
        code = ctl_fail(CMQ_EXIT_TEMPORARY, "sub: a message is too large for this machine's memory");
    else if (answer.status != 200)
        code = ctl_fail(CTL_EXIT_FAILED, "sub: %s answers %ld: %.*s", answer.url, answer.status,
                        (int)sub.answer.bytes, (const char *)sub.answer.data);
    if (err == CMQ_OK)
        ctl_answer_fini(&answer);
    cmq_buf_fini(&sub.answer);
    cmq_buf_fini(&sub.line);
    return code;
}
