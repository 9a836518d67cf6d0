#include "ingest/ing_request.h"

#include <string.h>
#include <strings.h>

#define SINGLE_EVENTS_DETAIL                                                                             \
    "This path takes one message. Send application/cloudevents-batch+json to the same path with /batch " \
    "behind it."
#define BATCH_DETAIL                                                                                         \
    "Send application/json (an array), application/x-ndjson, application/msgpack or application/cloudevents" \
    "-batch+json, in UTF-8."

static const char *broken_framing(const struct ing_head *head, const char *version)
{
    bool is_http10 = strcmp(version, "HTTP/1.0") == 0;
    if (!is_http10 && strcmp(version, "HTTP/1.1") != 0)
        return "Only HTTP/1.1 and HTTP/1.0 are spoken here.";
    if (head->broken != NULL)
        return head->broken;
    if (head->too_many) /* not all were looked at; refused for that */
        return NULL;
    if (!ing_head_has_host(head))
        return "The header Host is missing.";
    if (head->chunked && head->has_length)
        return "Send either Content-Length or Transfer-Encoding, not both.";
    if (head->chunked && is_http10)
        return "HTTP/1.0 has no Transfer-Encoding.";
    return NULL;
}

struct ing_problem ing_request_judge(const struct ing_head *head, const struct ing_target *target,
                                     enum ing_method method, const char *version)
{
    const char *broken = broken_framing(head, version);
    if (broken != NULL)
        return ing_problem_make(ING_PROBLEM_BAD_REQUEST, broken);
    if (head->too_many)
        return ing_problem_make(ING_PROBLEM_HEADERS, NULL);
    if (target->has_secret)
        return ing_problem_make(ING_PROBLEM_TOKEN_IN_URL, NULL);
    if (target->route == ING_ROUTE_NONE || (target->route == ING_ROUTE_ANY && method != ING_METHOD_OPTIONS))
        return ing_problem_make(ING_PROBLEM_NOT_FOUND, NULL);
    if (!ing_method_fits(target->route, method))
        return ing_problem_make(ING_PROBLEM_METHOD, NULL);
    if (method != ING_METHOD_POST && ing_head_has_body(head))
        return ing_problem_make(ING_PROBLEM_BAD_REQUEST, "This method takes no request body here.");
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}

/* The media type alone, without parameters. */
static struct cmq_span media_of(struct cmq_span type)
{
    const uint8_t *end = type.bytes == 0 ? NULL : memchr(type.data, ';', type.bytes);
    if (end != NULL)
        type.bytes = (size_t)(end - type.data);
    return cmq_type_trim(type);
}

/* A charset is given and isn't UTF-8. */
static bool is_foreign(struct cmq_span type)
{
    static const char name[] = "charset=";
    const size_t name_bytes = sizeof name - 1;
    for (size_t i = 0; i + name_bytes <= type.bytes; i++) {
        if (strncasecmp((const char *)type.data + i, name, name_bytes) != 0)
            continue;
        const struct cmq_span rest = cmq_span_make(type.data + i + name_bytes, type.bytes - i - name_bytes);
        const struct cmq_span value = media_of(rest);
        const bool utf8 = (value.bytes == 5 && strncasecmp((const char *)value.data, "utf-8", 5) == 0) ||
                          (value.bytes == 7 && strncasecmp((const char *)value.data, "\"utf-8\"", 7) == 0);
        if (!utf8)
            return true;
    }
    return false;
}

/* False: none of the formats that have more than one message, or an event. */
static bool named_format(struct cmq_span type, enum ing_format *ret_format)
{
    static const struct {
        const char *media;
        enum ing_format format;
    } table[] = {{"application/x-ndjson", ING_FORMAT_LINES},
                 {"application/ndjson", ING_FORMAT_LINES},
                 {"application/jsonl", ING_FORMAT_LINES},
                 {"application/msgpack", ING_FORMAT_MSGPACK},
                 {"application/x-msgpack", ING_FORMAT_MSGPACK},
                 {"application/vnd.msgpack", ING_FORMAT_MSGPACK},
                 {"application/cloudevents+json", ING_FORMAT_EVENT},
                 {"application/cloudevents-batch+json", ING_FORMAT_EVENTS}};
    const struct cmq_span media = media_of(type);
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        size_t bytes = strlen(table[i].media);
        if (media.bytes == bytes && strncasecmp((const char *)media.data, table[i].media, bytes) == 0) {
            *ret_format = table[i].format;
            return true;
        }
    }
    return false;
}

/* By path and Content-Type. ret_detail: of a problem with the type. */
static bool find_format(const struct ing_head *head, enum ing_route route, enum ing_format *ret_format,
                        const char **ret_detail)
{
    *ret_detail = route == ING_ROUTE_TOPIC_BATCH ? BATCH_DETAIL : NULL;
    const bool is_json = head->type == CMQ_TYPE_JSON;
    if (head->type == CMQ_TYPE_JSON_FOREIGN)
        return false;
    if (route == ING_ROUTE_SINGLE || route == ING_ROUTE_BATCH) {
        *ret_format = route == ING_ROUTE_SINGLE ? ING_FORMAT_INPUT : ING_FORMAT_INPUTS;
        return is_json;
    }
    enum ing_format named = ING_FORMAT_WHOLE;
    const bool known = head->type == CMQ_TYPE_OTHER && named_format(head->type_text, &named);
    if (known && named != ING_FORMAT_MSGPACK && is_foreign(head->type_text))
        return false;
    if (route == ING_ROUTE_TOPIC_BATCH) {
        *ret_format = is_json ? ING_FORMAT_JSON : named;
        return is_json || (known && named != ING_FORMAT_EVENT);
    }
    *ret_format = named == ING_FORMAT_EVENT ? ING_FORMAT_EVENT : ING_FORMAT_WHOLE;
    *ret_detail = SINGLE_EVENTS_DETAIL;
    return named != ING_FORMAT_EVENTS;
}

struct ing_problem ing_request_judge_content(const struct ing_head *head, const struct ing_target *target,
                                             uint64_t body_bytes_max, enum ing_format *ret_format)
{
    enum ing_format format;
    const char *detail;
    if (target->wrong != ING_PROBLEM_NONE)
        return ing_problem_make(target->wrong, target->detail[0] != '\0' ? target->detail : NULL);
    const bool fits = find_format(head, target->route, &format, &detail);
    const bool streamed = fits && format == ING_FORMAT_LINES;
    if (head->has_length && head->content_length > body_bytes_max && !streamed)
        return ing_problem_make(ING_PROBLEM_TOO_LARGE, NULL);
    if (head->coding == ING_CODING_OTHER)
        return ing_problem_make(ING_PROBLEM_CODING, NULL);
    if (!fits)
        return ing_problem_make(ING_PROBLEM_MEDIA_TYPE, detail);
    if (head->type == CMQ_TYPE_BAD)
        return ing_problem_make(ING_PROBLEM_BAD_HEADER,
                                "Content-Type must be a media type of at most 127 bytes, like text/html.");
    if (head->wrong != NULL)
        return ing_problem_make(ING_PROBLEM_BAD_HEADER, head->wrong);
    if (streamed && head->key.bytes != 0)
        return ing_problem_make(
            ING_PROBLEM_BAD_HEADER,
            "Idempotency-Key covers one record, and NDJSON becomes several: give the lines ids.");
    *ret_format = format;
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}
