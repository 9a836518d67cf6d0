/*
 * consume: the messages of a group on standard output, one a line, acknowledged when they were written there.
 *
 *   - a frame's messages are written and flushed, then acknowledged in one command; the reply comes when that is durable;
 *   - the credit is lowered before an acknowledgement makes room, so that never more messages come than --count;
 *   - output that fails ends it without the acknowledgement: the broker gives the messages to somebody else, or later;
 *   - at the end the replies that are missing are waited for. Dying before that: what has no reply may come again.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/wire/cmq_id.h"
#include "common/wire/cmq_topic.h"
#include "ctl_json.h"
#include "ctl_ws.h"

enum {
    MESSAGE_BYTES_MAX = 256 << 20,
    COMMAND_BYTES = 16384,
    CREDIT_MAX = 64,           /* what a slow reader of the output keeps from others */
    CREDIT_UNACKED_MAX = 1000, /* --ack none: all that is ever shown without --count */
    ID_CONSUME = 2,
    GROUP_BYTES_MAX = 64
};

struct consuming {
    struct ctl_ws *ws;
    const char *group;
    bool ack;
    uint64_t count_max, count, credit; /* count_max 0: no end */
    uint64_t command_id, acks_open, late;
    uint64_t idle_ns, idle_at_ns; /* 0, UINT64_MAX: never */
    struct cmq_reason *reason;
};

/* What ends it: CMQ_ERR_PERMISSION: the broker said no; CMQ_ERR_SYSTEM without a reason: the output failed. */
static enum cmq_err send_text(struct consuming *consuming, const char *text, size_t bytes)
{
    return ctl_ws_send(consuming->ws, cmq_span_make(text, bytes), consuming->reason);
}

/* ---- acknowledging ---- */

static enum cmq_err lower_credit(struct consuming *consuming)
{
    char text[160];
    if (consuming->count_max == 0 || consuming->count_max - consuming->count >= consuming->credit)
        return CMQ_OK;
    consuming->credit = consuming->count_max - consuming->count;
    const int bytes = snprintf(text, sizeof text, "{\"credit\":{\"group\":\"%s\",\"credit\":%llu}}",
                               consuming->group, (unsigned long long)consuming->credit);
    return send_text(consuming, text, (size_t)bytes);
}

/* Acknowledges items; `walk` is their array. */
static enum cmq_err ack_items(struct consuming *consuming, struct cmq_span walk)
{
    char text[COMMAND_BYTES];
    struct cmq_span item, value, id, attempt;
    size_t at = 0, in_command = 0;
    enum cmq_err err = CMQ_OK;
    bool more = true;
    while (err == CMQ_OK && more) {
        more = ctl_json_next(&walk, &item);
        if (more) {
            if (!ctl_json_member(item, "id", &value) || !ctl_json_plain(value, &id) ||
                !ctl_json_member(item, "attempt", &attempt) || id.bytes > CMQ_ID_TEXT_BYTES ||
                attempt.bytes > 10)
                return cmq_reason_set(consuming->reason, CMQ_ERR_MALFORMED,
                                      "a message of the broker has no id");
            if (in_command == 0)
                at = (size_t)snprintf(text, sizeof text, "{\"id\":%llu,\"ack\":{\"group\":\"%s\",\"ids\":[",
                                      (unsigned long long)++consuming->command_id, consuming->group);
            at += (size_t)snprintf(text + at, sizeof text - at, "%s\"%.*s:%.*s\"", in_command == 0 ? "" : ",",
                                   (int)id.bytes, (const char *)id.data, (int)attempt.bytes,
                                   (const char *)attempt.data);
            in_command++;
        }
        if (in_command > 0 && (!more || at > sizeof text - 128)) {
            at += (size_t)snprintf(text + at, sizeof text - at, "]}}");
            err = send_text(consuming, text, at);
            consuming->acks_open++;
            in_command = 0;
        }
    }
    return err;
}

/* ---- what comes ---- */

/* A line: what stands in front, then the object without its first brace. */
static bool print_object(struct cmq_span topic, struct cmq_span object)
{
    (void)fputs("{\"topic\":", stdout);
    (void)fwrite(topic.data, 1, topic.bytes, stdout);
    (void)fputc(',', stdout);
    for (size_t i = 1; i < object.bytes; i++) { /* line breaks are between the tokens of JSON contents only */
        const uint8_t letter = object.data[i];
        (void)fputc(letter == '\n' || letter == '\r' ? ' ' : letter, stdout);
    }
    return fputc('\n', stdout) != EOF && !ferror(stdout);
}

static enum cmq_err take_messages(struct consuming *consuming, struct cmq_span messages)
{
    struct cmq_span topic, items, walk, item;
    uint64_t count = 0;
    if (!ctl_json_member(messages, "topic", &topic) || !ctl_json_member(messages, "items", &items))
        return cmq_reason_set(consuming->reason, CMQ_ERR_MALFORMED,
                              "the broker sends messages without a topic");
    walk = items;
    while (ctl_json_next(&walk, &item)) {
        if (!print_object(topic, item))
            return CMQ_ERR_SYSTEM;
        count++;
    }
    if (fflush(stdout) != 0)
        return CMQ_ERR_SYSTEM;
    consuming->count += count;
    if (consuming->idle_ns != 0)
        consuming->idle_at_ns = cmq_clock_mono_ns() + consuming->idle_ns;
    if (!consuming->ack)
        return CMQ_OK;
    enum cmq_err err = lower_credit(consuming);
    return err == CMQ_OK ? ack_items(consuming, items) : err;
}

static enum cmq_err take_gap(const struct cmq_span gap)
{
    (void)fputs("{\"gap\":", stdout);
    (void)fwrite(gap.data, 1, gap.bytes, stdout);
    return fputs("}\n", stdout) != EOF && fflush(stdout) == 0 ? CMQ_OK : CMQ_ERR_SYSTEM;
}

static enum cmq_err take_reply(struct consuming *consuming, struct cmq_span reply, struct cmq_span ok)
{
    struct cmq_span id, stale, one;
    char text[24] = "";
    if (!ctl_json_member(reply, "id", &id) || id.bytes >= sizeof text)
        return CMQ_OK;
    memcpy(text, id.data, id.bytes);
    const unsigned long long number = strtoull(text, NULL, 10);
    if (number <= ID_CONSUME)
        return CMQ_OK;
    consuming->acks_open--;
    if (ctl_json_member(ok, "stale", &stale)) {
        while (ctl_json_next(&stale, &one))
            consuming->late++;
    }
    return CMQ_OK;
}

static enum cmq_err take(struct consuming *consuming, struct cmq_span frame)
{
    struct cmq_span value;
    if (ctl_json_member(frame, "msgs", &value))
        return take_messages(consuming, value);
    if (ctl_json_member(frame, "gap", &value))
        return take_gap(value);
    if (ctl_json_member(frame, "error", &value))
        return cmq_reason_set(consuming->reason, CMQ_ERR_PERMISSION, "the broker refuses: %.*s",
                              (int)cmq_min_u64(value.bytes, 400), (const char *)value.data);
    return ctl_json_member(frame, "ok", &value) ? take_reply(consuming, frame, value) : CMQ_OK;
}

/* ---- all of it ---- */

static bool is_over(const struct consuming *consuming, uint64_t now_ns)
{
    return (consuming->count_max != 0 && consuming->count >= consuming->count_max) ||
           now_ns >= consuming->idle_at_ns;
}

static enum cmq_err run(struct consuming *consuming, struct cmq_buf *frame, uint64_t reply_ns)
{
    enum cmq_err err = CMQ_OK;
    uint64_t end_ns = 0; /* when it is over: how long replies are waited for */
    while (err == CMQ_OK) {
        const uint64_t now_ns = cmq_clock_mono_ns();
        if (end_ns == 0 && is_over(consuming, now_ns))
            end_ns = now_ns + reply_ns;
        if (end_ns != 0 && consuming->acks_open == 0)
            return CMQ_OK;
        err = ctl_ws_receive(consuming->ws, end_ns != 0 ? end_ns : consuming->idle_at_ns, frame,
                             consuming->reason);
        if (err == CMQ_ERR_TIMEOUT && end_ns == 0)
            err = CMQ_OK;
        else if (err == CMQ_ERR_TIMEOUT)
            err = cmq_reason_set(consuming->reason, err,
                                 "no reply to an acknowledgement came; its messages may come again");
        else if (err == CMQ_OK)
            err = take(consuming, cmq_buf_span(frame));
    }
    return err;
}

static enum cmq_err join(struct consuming *consuming, const char *topic, const char *since)
{
    static const char connect[] = "{\"id\":1,\"connect\":{\"client\":\"ciphermqctl\"}}";
    char text[1024];
    enum cmq_err err = send_text(consuming, connect, sizeof connect - 1);
    const int bytes = snprintf(
        text, sizeof text, "{\"id\":2,\"consume\":{\"topic\":\"%s\",\"group\":\"%s\",\"credit\":%llu%s%s%s}}",
        topic, consuming->group, (unsigned long long)consuming->credit, since != NULL ? ",\"since\":\"" : "",
        since != NULL ? since : "", since != NULL ? "\"" : "");
    cmq_assert(bytes > 0 && (size_t)bytes < sizeof text);
    consuming->command_id = ID_CONSUME;
    return err == CMQ_OK ? send_text(consuming, text, (size_t)bytes) : err;
}

/* 0: the arguments are good. */
static int check_arguments(const struct ctl *ctl)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    struct cmq_reason reason = {{0}};
    const char *topic = ctl->words[0];
    if (ctl->group == NULL)
        return ctl_fail(CMQ_EXIT_USAGE,
                        "consume: name the group: --group NAME; for messages without a group: sub");
    const size_t bytes = strlen(ctl->group);
    if (bytes == 0 || bytes > GROUP_BYTES_MAX || strspn(ctl->group, allowed) != bytes)
        return ctl_fail(CMQ_EXIT_USAGE, "consume: a group's name is 1 to %d of A-Z a-z 0-9 _ . -",
                        GROUP_BYTES_MAX);
    if (cmq_topic_pattern_check(cmq_span_make(topic, strlen(topic)), &reason) != CMQ_OK)
        return ctl_fail(CMQ_EXIT_USAGE, "consume: %s", reason.text);
    if (ctl->ack != NULL && strcmp(ctl->ack, "auto") != 0 && strcmp(ctl->ack, "none") != 0)
        return ctl_fail(CMQ_EXIT_USAGE, "consume: --ack is auto or none");
    if (ctl->since != NULL &&
        (strlen(ctl->since) > CMQ_ID_TEXT_BYTES ||
         ctl->since[strspn(ctl->since, "0123456789-abcdefghijklmnopqrstuvwxyz")] != '\0'))
        return ctl_fail(CMQ_EXIT_USAGE, "consume: --since is earliest, latest, or the id of a message");
    return 0;
}

int ctl_consume(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_buf frame;
    int code = check_arguments(ctl);
    if (code != 0)
        return code;
    struct consuming consuming = {.group = ctl->group,
                                  .ack = ctl->ack == NULL || strcmp(ctl->ack, "auto") == 0,
                                  .count_max = ctl->count,
                                  .idle_ns = ctl->idle_ms * CMQ_NS_PER_MS,
                                  .idle_at_ns = UINT64_MAX,
                                  .reason = &reason};
    consuming.credit = consuming.ack ? CREDIT_MAX : CREDIT_UNACKED_MAX;
    if (ctl->count != 0 && (ctl->count < consuming.credit || !consuming.ack))
        consuming.credit = cmq_min_u64(ctl->count, UINT32_MAX);
    if (ctl->idle_ms != 0)
        consuming.idle_at_ns = cmq_clock_mono_ns() + consuming.idle_ns;
    (void)signal(SIGPIPE, SIG_IGN); /* output that is closed is an error as others */
    cmq_buf_init(&frame, MESSAGE_BYTES_MAX);
    enum cmq_err err = ctl_ws_open(ctl, "/v1/ws", "ciphermq.v1.json", &consuming.ws, &reason);
    if (err == CMQ_OK)
        err = join(&consuming, ctl->words[0], ctl->since);
    if (err == CMQ_OK)
        err = run(&consuming, &frame, ctl->timeout_ms * CMQ_NS_PER_MS);
    ctl_ws_close(consuming.ws);
    cmq_buf_fini(&frame);
    if (consuming.late > 0)
        (void)ctl_fail(0, "consume: %llu messages were acknowledged too late, and come again",
                       (unsigned long long)consuming.late);
    if (err == CMQ_OK)
        return CMQ_EXIT_OK;
    if (err == CMQ_ERR_SYSTEM && ferror(stdout) != 0)
        return CMQ_EXIT_TEMPORARY; /* main() says it */
    return err == CMQ_ERR_PERMISSION ? ctl_fail(CTL_EXIT_FAILED, "consume: %s", reason.text)
                                     : ctl_fail(CMQ_EXIT_TEMPORARY, "consume: %s", reason.text);
}
