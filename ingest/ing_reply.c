#include "ingest/ing_reply.h"

#include <string.h>

#include "ingest/ing_text.h"

static const char root_text[] = "CipherMQ takes messages here.\n"
                                "POST /input                     {\"content\":\"...\"}\n"
                                "POST /input/batch               {\"messages\":[{\"content\":\"...\"},...]}\n"
                                "POST /v1/topics/{topic}         any content\n"
                                "POST /v1/topics/{topic}/batch   [\"...\",{\"data\":...},...]\n"
                                "GET  /v1/openapi.json           all of it\n";

static void begin(struct ing_reply *reply, unsigned status, const char *type)
{
    /* Not the whole struct: this runs for every message. */
    reply->status = status;
    reply->type = type;
    reply->allow = NULL;
    reply->challenge = NULL;
    reply->retry_after_s = 0;
    reply->close = false;
    reply->body_bytes = 0;
    reply->text = NULL;
    reply->lasting = false;
}

void ing_reply_text_of(struct ing_reply *ret_reply, const char *type, struct cmq_span text)
{
    begin(ret_reply, 200, type);
    ret_reply->text = text.data;
    ret_reply->body_bytes = text.bytes;
    ret_reply->lasting = true;
}

void ing_reply_root(struct ing_reply *ret_reply)
{
    ing_reply_text_of(ret_reply, "text/plain; charset=utf-8", cmq_span_make(root_text, sizeof root_text - 1));
}

void ing_reply_status(struct ing_reply *ret_reply, const char *status)
{
    begin(ret_reply, 200, "application/json");
    uint8_t *dst = ing_text_put(ret_reply->body, "{\"status\":\"");
    dst = ing_text_put(ing_text_put(dst, status), "\"}");
    ret_reply->body_bytes = (size_t)(dst - ret_reply->body);
}

void ing_reply_options(struct ing_reply *ret_reply, const char *allow)
{
    begin(ret_reply, 204, NULL);
    ret_reply->allow = allow;
}

void ing_reply_fields(const struct ing_reply *reply, struct ing_fields *fields)
{
    if (reply->type != NULL)
        ing_fields_put(fields, "Content-Type", reply->type);
    if (reply->allow != NULL)
        ing_fields_put(fields, "Allow", reply->allow);
    if (reply->challenge != NULL)
        ing_fields_put(fields, "WWW-Authenticate", reply->challenge);
    if (reply->retry_after_s != 0)
        ing_fields_put_u64(fields, "Retry-After", reply->retry_after_s);
}

void ing_reply_accepted(struct ing_reply *ret_reply, const struct ing_accepted *accepted)
{
    begin(ret_reply, 200, "application/json");
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
    begin(ret_reply, info->status, "application/problem+json");
    ret_reply->allow = problem->kind == ING_PROBLEM_METHOD ? allow : NULL;
    if (info->refusal == ING_REFUSAL_FULL || info->refusal == ING_REFUSAL_RATE)
        ret_reply->retry_after_s = problem->retry_s != 0 ? problem->retry_s : 1;
    ret_reply->close = problem->kind == ING_PROBLEM_BAD_REQUEST || problem->kind == ING_PROBLEM_DRAINING ||
                       problem->kind == ING_PROBLEM_HEADERS;
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
    case 401:
        return " Unauthorized";
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
    case 429:
        return " Too Many Requests";
    case 431:
        return " Request Header Fields Too Large";
    case 503:
        return " Service Unavailable";
    }
    return " Error";
}

size_t ing_reply_text(uint8_t ret_text[ING_REPLY_TEXT_BYTES_MAX], const struct ing_reply *reply,
                      const struct ing_fields *fields, time_t now)
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
    dst = ing_text_put(dst, "\r\nConnection: close");
    for (size_t i = 0; i < fields->count; i++) {
        dst = ing_text_put(ing_text_put(dst, "\r\n"), fields->field[i].name);
        dst = ing_text_put(ing_text_put(dst, ": "), fields->field[i].value);
    }
    dst = ing_text_put(dst, "\r\nContent-Length: ");
    dst = ing_text_put_u64(dst, reply->body_bytes);
    dst = ing_text_put(dst, "\r\n\r\n");
    memcpy(dst, reply->body, reply->body_bytes);
    return (size_t)(dst + reply->body_bytes - ret_text);
}
