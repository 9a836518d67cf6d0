/*
 * Bytes -> a request head: `METHOD TARGET VERSION` and then `name:value`, each ended by LF. First byte: bit 0 = gzip is taken.
 * What passes has no two readings, goes to a topic that is one, and carries headers that a message may have.
 */
#include <string.h>

#include "common/wire/cmq_headers.h"
#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_mp.h"
#include "common/wire/cmq_topic.h"
#include "ingest/ing_cors.h"
#include "ingest/ing_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { BODY_BYTES_MAX = 1 << 20, LINES_MAX = 128 };

/* What the input becomes. Each text in memory of its own, so that a byte too far is found. */
struct request {
    char *words[3]; /* method, target, version */
    struct cmq_span names[LINES_MAX], values[LINES_MAX];
    size_t count;
};

static void *copy_of(const uint8_t *data, size_t bytes, size_t more)
{
    uint8_t *copy = malloc(bytes + more == 0 ? 1 : bytes + more);
    cmq_assert(copy != NULL);
    if (bytes != 0)
        memcpy(copy, data, bytes);
    memset(copy + bytes, 0, more);
    return copy;
}

static struct cmq_span cut(struct cmq_span *rest, int separator)
{
    struct cmq_span part = *rest;
    const uint8_t *end = rest->bytes == 0 ? NULL : memchr(rest->data, separator, rest->bytes);
    if (end == NULL) {
        *rest = cmq_span_make(NULL, 0);
        return part;
    }
    part.bytes = (size_t)(end - rest->data);
    *rest = cmq_span_make(end + 1, rest->bytes - part.bytes - 1);
    return part;
}

static void read_request(struct request *request, struct cmq_span text)
{
    struct cmq_span line = cut(&text, '\n');
    for (size_t i = 0; i < CMQ_COUNT_OF(request->words); i++) {
        struct cmq_span word = cut(&line, ' ');
        request->words[i] = copy_of(word.data, word.bytes, 1);
    }
    for (request->count = 0; text.bytes != 0 && request->count < LINES_MAX; request->count++) {
        struct cmq_span value = cut(&text, '\n'), name = cut(&value, ':');
        request->names[request->count] = cmq_span_make(copy_of(name.data, name.bytes, 0), name.bytes);
        request->values[request->count] = cmq_span_make(copy_of(value.data, value.bytes, 0), value.bytes);
    }
}

static void free_request(struct request *request)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(request->words); i++)
        free(request->words[i]);
    for (size_t i = 0; i < request->count; i++) {
        free((void *)(uintptr_t)request->names[i].data);
        free((void *)(uintptr_t)request->values[i].data);
    }
}

static bool is_named(struct cmq_span name, const char *lower)
{
    return name.bytes == strlen(lower) && strncasecmp((const char *)name.data, lower, name.bytes) == 0;
}

static unsigned count_of(const struct request *request, const char *lower)
{
    unsigned count = 0;
    for (size_t i = 0; i < request->count; i++)
        count += is_named(request->names[i], lower);
    return count;
}

/* A head that nothing was found wrong with. */
static void check_sound(const struct request *request, const struct ing_head *head)
{
    cmq_assert(count_of(request, "host") == 1 && count_of(request, "content-length") <= 1);
    cmq_assert(count_of(request, "transfer-encoding") <= 1);
    cmq_assert(count_of(request, "content-length") + count_of(request, "transfer-encoding") <= 1);
    cmq_assert(count_of(request, "authorization") + count_of(request, "x-api-key") <= 1);
    cmq_assert(head->chunked == (count_of(request, "transfer-encoding") == 1));
    cmq_assert(strcmp(request->words[2], "HTTP/1.1") == 0 ||
               (strcmp(request->words[2], "HTTP/1.0") == 0 && !head->chunked));
    cmq_assert(head->count <= head->limits->headers_max);
}

static void check_problem(struct cmq_json_parser *parser, const struct ing_problem *problem)
{
    uint8_t body[ING_PROBLEM_BYTES_MAX + CMQ_JSON_PADDING];
    struct cmq_json_error error;
    size_t bytes = ing_problem_write(body, problem);
    cmq_assert(bytes < ING_PROBLEM_BYTES_MAX);
    memset(body + bytes, 0, CMQ_JSON_PADDING);
    cmq_assert(cmq_json_check(parser, cmq_span_make(body, bytes), &error) == CMQ_OK);
}

static void check_carried(const struct ing_head *head)
{
    const size_t bytes = ing_head_carried_bytes(head);
    uint8_t *memory = copy_of(NULL, 0, bytes), *packed = copy_of(NULL, 0, bytes + CMQ_HEADERS_ROOM);
    struct cmq_reason reason;
    size_t packed_bytes = 0;
    if (ing_head_pack_carried(head, memory, packed, &packed_bytes, &reason) == CMQ_OK && packed_bytes != 0) {
        struct cmq_mp_reader reader;
        cmq_assert(packed_bytes <= bytes + CMQ_HEADERS_ROOM);
        cmq_mp_reader_init(&reader, cmq_span_make(packed, packed_bytes));
        cmq_assert(cmq_mp_skip(&reader) == CMQ_OK && cmq_mp_left(&reader) == 0);
        struct cmq_headers set; /* a message takes them */
        cmq_headers_init(&set, head->limits->meta_bytes_max);
        cmq_assert(cmq_headers_inherit(&set, cmq_span_make(packed, packed_bytes), &reason) == CMQ_OK);
    }
    free(memory);
    free(packed);
}

static void check_topic(const struct ing_target *target)
{
    struct cmq_reason reason;
    if (ing_route_takes_messages(target->route) && target->wrong == ING_PROBLEM_NONE)
        cmq_assert(cmq_topic_check(ing_target_topic(target), false, &reason) == CMQ_OK);
    cmq_assert(memchr(target->detail, '\0', sizeof target->detail) != NULL ||
               target->wrong == ING_PROBLEM_NONE);
}

static void judge(struct cmq_json_parser *parser, const struct request *request, const struct ing_head *head)
{
    struct ing_target target;
    enum ing_format format = ING_FORMAT_WHOLE;
    ing_target_parse(&target, request->words[1]);
    check_topic(&target);
    const enum ing_method method = ing_method_of(request->words[0]);
    struct ing_problem problem = ing_request_judge(head, &target, method, request->words[2]);
    if (problem.kind == ING_PROBLEM_NONE) {
        check_sound(request, head);
        cmq_assert(ing_method_fits(target.route, method) && ing_route_allow(target.route) != NULL);
        cmq_assert(!target.has_secret);
        if (ing_route_takes_messages(target.route) && method == ING_METHOD_POST)
            problem = ing_request_judge_content(head, &target, BODY_BYTES_MAX, &format);
    }
    if (problem.kind != ING_PROBLEM_NONE)
        check_problem(parser, &problem);
    else
        check_carried(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct cmq_json_parser *parser;
    struct request request;
    struct ing_head head;
    if (parser == NULL)
        cmq_assert(cmq_json_parser_new(ING_PROBLEM_BYTES_MAX, &parser) == CMQ_OK);
    if (bytes == 0)
        return 0;
    const struct ing_head_limits limits = {
        .headers_max = 100, .meta_bytes_max = 4096, .ttl_ms_max = 1000000000, .gzip = (data[0] & 1u) != 0};
    read_request(&request, cmq_span_make(data + 1, bytes - 1));
    ing_head_init(&head, &limits);
    for (size_t i = 0; i < request.count && ing_head_add(&head, request.names[i], request.values[i]); i++)
        continue;
    judge(parser, &request, &head);
    (void)ing_cors_match("https://a.example http://b.example:8080", head.origin);
    free_request(&request);
    return 0;
}
