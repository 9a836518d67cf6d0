#include "ingest/ing_target.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/wire/cmq_topic.h"

/* absolute-form (RFC 9112 section 3.2.2) -> path */
static const char *target_path(const char *target)
{
    size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                    : strncasecmp(target, "https://", 8) == 0 ? 8
                                                              : 0;
    if (scheme == 0)
        return target;
    const char *path = strpbrk(target + scheme, "/?");
    return path != NULL && *path == '/' ? path : "/";
}

static bool is_path(struct cmq_span path, const char *wanted)
{
    size_t bytes = strlen(wanted);
    return path.bytes == bytes && memcmp(path.data, wanted, bytes) == 0;
}

static void take_topic(struct ing_target *target, struct cmq_span topic)
{
    struct cmq_reason reason;
    if (cmq_topic_check(topic, true, &reason) != CMQ_OK) {
        target->wrong = ING_PROBLEM_BAD_TOPIC;
        (void)snprintf(target->detail, sizeof target->detail, "The %.*s.", (int)sizeof target->detail - 8,
                       reason.text);
        return;
    }
    if (topic.data[0] == '$')
        target->wrong = ING_PROBLEM_RESERVED_TOPIC;
    target->detail[0] = '\0';
    target->topic_bytes = (uint8_t)topic.bytes;
    memcpy(target->topic, topic.data, topic.bytes);
}

static void parse_topic_path(struct ing_target *target, struct cmq_span rest)
{
    static const char batch[] = "/batch";
    const size_t batch_bytes = sizeof batch - 1;
    target->route = ING_ROUTE_TOPIC;
    if (rest.bytes >= batch_bytes && memcmp(rest.data + rest.bytes - batch_bytes, batch, batch_bytes) == 0) {
        target->route = ING_ROUTE_TOPIC_BATCH;
        rest.bytes -= batch_bytes;
    }
    if (rest.bytes != 0 && memchr(rest.data, '%', rest.bytes) != NULL)
        target->route = ING_ROUTE_NONE;
    else
        take_topic(target, rest);
}

/* Whoever sends a token there has it in the logs of every proxy on the way (RFC 6750 section 5.3). */
static bool query_has_secret(const char *query)
{
    static const char *const names[] = {
        "token=", "access_token=", "authorization=", "api_key=", "x-api-key="};
    while (*query != '\0') {
        query++; /* ? or & or ; */
        for (size_t i = 0; i < CMQ_COUNT_OF(names); i++)
            if (strncasecmp(query, names[i], strlen(names[i])) == 0)
                return true;
        query += strcspn(query, "&;");
    }
    return false;
}

static enum ing_route fixed_route(struct cmq_span path)
{
    static const struct {
        const char *path;
        enum ing_route route;
    } table[] = {{"/input", ING_ROUTE_SINGLE}, {"/input/batch", ING_ROUTE_BATCH},
                 {"/", ING_ROUTE_ROOT},        {"/healthz", ING_ROUTE_HEALTH},
                 {"/readyz", ING_ROUTE_READY}, {"/metrics", ING_ROUTE_METRICS},
                 {"*", ING_ROUTE_ANY},         {"/v1/openapi.json", ING_ROUTE_OPENAPI}};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++)
        if (is_path(path, table[i].path))
            return table[i].route;
    return ING_ROUTE_NONE;
}

void ing_target_parse(struct ing_target *ret_target, const char *text)
{
    static const char topics[] = "/v1/topics/";
    const char *begin = target_path(text);
    const struct cmq_span path = cmq_span_make(begin, strcspn(begin, "?"));
    ret_target->wrong = ING_PROBLEM_NONE;
    ret_target->topic_bytes = 0;
    ret_target->has_secret = query_has_secret(text + strcspn(text, "?"));
    if (path.bytes >= sizeof topics - 1 && memcmp(begin, topics, sizeof topics - 1) == 0) {
        parse_topic_path(ret_target,
                         cmq_span_make(begin + sizeof topics - 1, path.bytes - (sizeof topics - 1)));
        return;
    }
    ret_target->route = fixed_route(path);
    if (ing_route_takes_messages(ret_target->route)) {
        ret_target->topic_bytes = sizeof CMQ_TOPIC_DEFAULT - 1;
        memcpy(ret_target->topic, CMQ_TOPIC_DEFAULT, sizeof CMQ_TOPIC_DEFAULT - 1);
    }
}

enum ing_method ing_method_of(const char *method)
{
    static const char *const names[] = {[ING_METHOD_GET] = "GET",
                                        [ING_METHOD_HEAD] = "HEAD",
                                        [ING_METHOD_POST] = "POST",
                                        [ING_METHOD_OPTIONS] = "OPTIONS"};
    for (unsigned i = 0; i < CMQ_COUNT_OF(names); i++)
        if (strcmp(method, names[i]) == 0)
            return (enum ing_method)i;
    return ING_METHOD_OTHER;
}

bool ing_method_fits(enum ing_route route, enum ing_method method)
{
    if (method == ING_METHOD_OPTIONS)
        return true;
    if (ing_route_takes_messages(route))
        return method == ING_METHOD_POST;
    return route != ING_ROUTE_ANY && (method == ING_METHOD_GET || method == ING_METHOD_HEAD);
}

const char *ing_route_allow(enum ing_route route)
{
    switch (route) {
    case ING_ROUTE_ROOT:
    case ING_ROUTE_HEALTH:
    case ING_ROUTE_READY:
    case ING_ROUTE_METRICS:
    case ING_ROUTE_OPENAPI:
        return "GET, HEAD, OPTIONS";
    case ING_ROUTE_SINGLE:
    case ING_ROUTE_BATCH:
    case ING_ROUTE_TOPIC:
    case ING_ROUTE_TOPIC_BATCH:
        return "POST, OPTIONS";
    case ING_ROUTE_ANY:
        return "GET, HEAD, POST, OPTIONS";
    case ING_ROUTE_NONE:
        return NULL;
    }
    return NULL;
}
