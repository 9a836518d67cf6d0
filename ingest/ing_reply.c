#include "ingest/ing_reply.h"

#include <string.h>

#include "ingest/ing_text.h"

static const char root_text[] = "CipherMQ takes messages here.\n"
                                "POST /input                     {\"content\":\"...\"}\n"
                                "POST /input/batch               {\"messages\":[{\"content\":\"...\"},...]}\n"
                                "POST /v1/topics/{topic}         any content\n"
                                "POST /v1/topics/{topic}/batch   [\"...\",{\"data\":...},...]\n";

void ing_reply_root(struct ing_reply *ret_reply)
{
    *ret_reply = (struct ing_reply){.status = 200, .type = "text/plain; charset=utf-8"};
    ret_reply->body_bytes = sizeof root_text - 1;
    memcpy(ret_reply->body, root_text, sizeof root_text - 1);
}

void ing_reply_accepted(struct ing_reply *ret_reply, const struct ing_accepted *accepted)
{
    /* Not the whole struct: this runs for every message. */
    ret_reply->status = 200;
    ret_reply->type = "application/json";
    ret_reply->allow = NULL;
    ret_reply->retry_after = false;
    ret_reply->close = false;
    uint8_t *dst = ing_text_put(ret_reply->body, "{\"id\":");
    if (accepted->count == 0) {
        dst = ing_text_put(dst, "null");
    } else {
        char id[CMQ_ID_TEXT_BYTES];
        size_t bytes = cmq_id_format(id, accepted->id);
        *dst++ = '"';
        memcpy(dst, id, bytes);
        dst += bytes;
        *dst++ = '"';
    }
    dst = ing_text_put(dst, ",\"count\":");
    dst = ing_text_put_u64(dst, accepted->count);
    dst = ing_text_put(dst, accepted->durable ? ",\"ack\":\"durable\"" : ",\"ack\":\"accepted\"");
    if (accepted->duplicate)
        dst = ing_text_put(dst, ",\"duplicate\":true");
    if (accepted->duplicates != 0) {
        dst = ing_text_put(dst, ",\"duplicates\":");
        dst = ing_text_put_u64(dst, accepted->duplicates);
    }
    *dst++ = '}';
    ret_reply->body_bytes = (size_t)(dst - ret_reply->body);
}

void ing_reply_problem(struct ing_reply *ret_reply, const struct ing_problem *problem, const char *allow)
{
    const struct ing_problem_info *info = ing_problem_info(problem->kind);
    ret_reply->status = info->status;
    ret_reply->type = "application/problem+json";
    ret_reply->allow = problem->kind == ING_PROBLEM_METHOD ? allow : NULL;
    ret_reply->retry_after = info->refusal == ING_REFUSAL_FULL;
    ret_reply->close = problem->kind == ING_PROBLEM_BAD_REQUEST || problem->kind == ING_PROBLEM_DRAINING;
    ret_reply->body_bytes = ing_problem_write(ret_reply->body, problem);
}

struct ing_problem ing_reply_publish_problem(enum cmq_err err)
{
    switch (err) {
    case CMQ_ERR_FULL:
    case CMQ_ERR_AGAIN:
    case CMQ_ERR_TIMEOUT:
        return ing_problem_make(ING_PROBLEM_FULL, NULL);
    case CMQ_ERR_NOMEM:
        return ing_problem_make(ING_PROBLEM_BUSY, NULL);
    case CMQ_ERR_DRAINING:
        return ing_problem_make(ING_PROBLEM_DRAINING, NULL);
    case CMQ_ERR_TOO_BIG:
        return ing_problem_make(ING_PROBLEM_TOO_LARGE, NULL);
    case CMQ_OK:
    case CMQ_ERR_LOST:
    case CMQ_ERR_NOT_FOUND:
    case CMQ_ERR_EXISTS:
    case CMQ_ERR_MALFORMED:
    case CMQ_ERR_VERSION:
    case CMQ_ERR_AUTH:
    case CMQ_ERR_INVALID:
    case CMQ_ERR_LAYOUT:
    case CMQ_ERR_CORRUPT:
    case CMQ_ERR_PERMISSION:
    case CMQ_ERR_KEY:
    case CMQ_ERR_EXHAUSTED:
    case CMQ_ERR_SYSTEM:
        break;
    }
    return ing_problem_make(ING_PROBLEM_INTERNAL, NULL);
}

static const char *reason_phrase(unsigned status)
{
    switch (status) {
    case 400:
        return " Bad Request";
    case 403:
        return " Forbidden";
    case 404:
        return " Not Found";
    case 405:
        return " Method Not Allowed";
    case 409:
        return " Conflict";
    case 413:
        return " Content Too Large";
    case 415:
        return " Unsupported Media Type";
    case 503:
        return " Service Unavailable";
    }
    return " Error";
}

size_t ing_reply_text(uint8_t ret_text[ING_REPLY_TEXT_BYTES_MAX], const struct ing_reply *reply, time_t now)
{
    char date[40];
    struct tm parts;
    (void)gmtime_r(&now, &parts);
    /* IMF-fixdate (RFC 9110 section 5.6.7); the process stays in the C locale. */
    date[strftime(date, sizeof date - 1, "%a, %d %b %Y %H:%M:%S GMT", &parts)] = '\0';
    uint8_t *dst = ing_text_put(ret_text, "HTTP/1.1 ");
    dst = ing_text_put_u64(dst, reply->status);
    dst = ing_text_put(dst, reason_phrase(reply->status));
    dst = ing_text_put(dst, "\r\nDate: ");
    dst = ing_text_put(dst, date);
    dst = ing_text_put(dst, "\r\nConnection: close\r\nContent-Type: ");
    dst = ing_text_put(dst, reply->type);
    if (reply->allow != NULL)
        dst = ing_text_put(ing_text_put(dst, "\r\nAllow: "), reply->allow);
    if (reply->retry_after)
        dst = ing_text_put(dst, "\r\nRetry-After: 1");
    dst = ing_text_put(dst, "\r\nContent-Length: ");
    dst = ing_text_put_u64(dst, reply->body_bytes);
    dst = ing_text_put(dst, "\r\n\r\n");
    memcpy(dst, reply->body, reply->body_bytes);
    return (size_t)(dst + reply->body_bytes - ret_text);
}
