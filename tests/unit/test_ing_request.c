#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ingest/ing_request.h"

struct header {
    const char *name;
    const char *value;
};

static struct cmq_span text(const char *chars)
{
    return cmq_span_make(chars, strlen(chars));
}

static void add_all(struct ing_head *head, const struct header *headers)
{
    for (; headers->name != NULL; headers++)
        if (!ing_head_add(head, text(headers->name), text(headers->value)))
            return;
}

static const struct ing_head_limits limits = {
    .headers_max = 40, .meta_bytes_max = 400, .ttl_ms_max = 3600000};
static const struct ing_head_limits gzip_limits = {.headers_max = 40, .gzip = true};

/* Both steps, as the port does it. */
static struct ing_problem judge_head(const struct ing_head *head, const char *method, const char *target,
                                     const char *version, enum ing_format *ret_format)
{
    static struct ing_target where; /* details of problems point into it */
    ing_target_parse(&where, target);
    const struct ing_problem problem = ing_request_judge(head, &where, ing_method_of(method), version);
    if (problem.kind != ING_PROBLEM_NONE || ing_method_of(method) != ING_METHOD_POST)
        return problem;
    return ing_request_judge_content(head, &where, 1000, ret_format);
}

static enum ing_problem_kind judge(const char *method, const char *target, const char *version,
                                   const struct header *headers)
{
    struct ing_head head;
    enum ing_format format;
    ing_head_init(&head, &limits);
    add_all(&head, headers);
    return judge_head(&head, method, target, version, &format).kind;
}

#define HEADERS(...) ((const struct header[]){__VA_ARGS__, {NULL, NULL}})
#define HOST                \
    {                       \
        "Host", "localhost" \
    }
#define JSON                               \
    {                                      \
        "Content-Type", "application/json" \
    }

static void good_requests_pass(void **state)
{
    (void)state;
    assert_int_equal(judge("GET", "/", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_NONE);
    assert_int_equal(judge("HEAD", "/?q=1", "HTTP/1.0", HEADERS(HOST)), ING_PROBLEM_NONE);
    assert_int_equal(judge("POST", "/input", "HTTP/1.1", HEADERS(HOST, JSON, {"Content-Length", "1000"})),
                     ING_PROBLEM_NONE);
    assert_int_equal(
        judge("POST", "/input/batch", "HTTP/1.1", HEADERS(HOST, JSON, {"Transfer-Encoding", "chunked"})),
        ING_PROBLEM_NONE);
    assert_int_equal(
        judge("POST", "http://h/input", "HTTP/1.1",
              HEADERS(HOST, JSON, {"Content-Encoding", "identity"}, {"Accept", "a"}, {"Accept", "b"})),
        ING_PROBLEM_NONE);
}

static void paths_and_methods_are_told_apart(void **state)
{
    (void)state;
    static const char *const unknown[] = {"",           "/x",    "/input/",       "/Input",   "/input%00",
                                          "/%69nput",   "//",    "/input/batchx", "/./input", "*",
                                          "/input/../", "input", "http:/input"};
    for (size_t i = 0; i < CMQ_COUNT_OF(unknown); i++)
        assert_int_equal(judge("POST", unknown[i], "HTTP/1.1", HEADERS(HOST, JSON)), ING_PROBLEM_NOT_FOUND);
    assert_int_equal(judge("POST", "/", "HTTP/1.1", HEADERS(HOST, JSON)), ING_PROBLEM_METHOD);
    assert_int_equal(judge("GET", "/input", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_METHOD);
    assert_int_equal(judge("post", "/input", "HTTP/1.1", HEADERS(HOST, JSON)), ING_PROBLEM_METHOD);
    assert_int_equal(judge("PUT", "/input/batch", "HTTP/1.1", HEADERS(HOST, JSON)), ING_PROBLEM_METHOD);
    assert_string_equal(ing_route_allow(ING_ROUTE_ROOT), "GET, HEAD, OPTIONS");
    assert_string_equal(ing_route_allow(ING_ROUTE_BATCH), "POST, OPTIONS");
}

static void framing_that_two_parsers_could_read_differently_is_refused(void **state)
{
    (void)state;
    const struct header *const bad[] = {
        HEADERS(JSON, {"Content-Length", "1"}),
        HEADERS(HOST, HOST),
        HEADERS(HOST, {"Content-Length", "1"}, {"content-length", "1"}),
        HEADERS(HOST, {"Content-Length", "1"}, {"Transfer-Encoding", "chunked"}),
        HEADERS(HOST, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}),
        HEADERS(HOST, {"Transfer-Encoding", "gzip, chunked"}),
        HEADERS(HOST, {"Transfer-Encoding", "chunked, chunked"}),
        HEADERS(HOST, {"Transfer-Encoding", "xchunked"}),
        HEADERS(HOST, {"Transfer-Encoding", "chunked "}),
        HEADERS(HOST, {"Transfer-Encoding", "chunked\t"}),
        HEADERS(HOST, {"Transfer-Encoding", ""}),
        HEADERS(HOST, JSON, JSON),
        HEADERS(HOST, {"Authorization", "a"}, {"Authorization", "b"}),
        HEADERS(HOST, {"Content-Length ", "1"}),
        HEADERS(HOST, {"X\x01", "1"}),
        HEADERS(HOST, {"Transfer-Encoding", "chunked "}),
        HEADERS(HOST, {"Authorization", "Bearer a"}, {"X-API-Key", "a"}),
        HEADERS(HOST, {"X-API-Key", "a"}, {"X-API-Key", "a"}),
        HEADERS(HOST, {"Origin", "https://a"}, {"Origin", "https://a"}),
        HEADERS({"Host", "a b"}),
        HEADERS({"Host", "a/b"}),
        HEADERS({"Host", "u@h"}),
        HEADERS({"Host", "h,h"}),
        HEADERS({"Host", "h\xc3\xa9"}),
        HEADERS(HOST, {"", "1"}),
        HEADERS(HOST, {"X(y)", "1"}),
        HEADERS(HOST, {"X", "a\x01"}),
        HEADERS(HOST, {"X", "a\x7f"}),
        HEADERS(HOST, {"X", "a\r"}),
        HEADERS(HOST, {"Content-Length", ""}),
        HEADERS(HOST, {"Content-Length", "-1"}),
        HEADERS(HOST, {"Content-Length", "+1"}),
        HEADERS(HOST, {"Content-Length", "1,1"}),
        HEADERS(HOST, {"Content-Length", "0x1"}),
        HEADERS(HOST, {"Content-Length", "1 1"}),
        HEADERS(HOST, {"Content-Length", "18446744073709551616"}),
        HEADERS(HOST, {"Expect", "100-continue"}, {"Expect", "x"}),
        HEADERS(HOST, {"Content-Encoding", "identity"}, {"Content-Encoding", "identity"}),
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        if (judge("POST", "/input", "HTTP/1.1", bad[i]) != ING_PROBLEM_BAD_REQUEST)
            fail_msg("case %zu passed", i);
    assert_int_equal(
        judge("POST", "/input", "HTTP/1.0", HEADERS(HOST, JSON, {"Transfer-Encoding", "chunked"})),
        ING_PROBLEM_BAD_REQUEST);
    assert_int_equal(judge("POST", "/input", "HTTP/2.0", HEADERS(HOST, JSON)), ING_PROBLEM_BAD_REQUEST);
    assert_int_equal(judge("GET", "/", "HTTP/1.1", HEADERS(HOST, {"Content-Length", "1"})),
                     ING_PROBLEM_BAD_REQUEST);
}

static void a_nul_in_a_value_is_refused(void **state)
{
    (void)state;
    struct ing_head head;
    ing_head_init(&head, &limits);
    assert_false(ing_head_add(&head, text("X"), cmq_span_make("a\0b", 3)));
    assert_non_null(head.broken);
    assert_false(ing_head_add(&head, text("Host"), text("h")));
}

static void broken_framing_wins_over_everything_else(void **state)
{
    (void)state;
    assert_int_equal(judge("PUT", "/x", "HTTP/1.1", HEADERS(HOST, HOST)), ING_PROBLEM_BAD_REQUEST);
}

static void content_types(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool good;
    } table[] = {
        {"application/json", true},
        {"Application/JSON", true},
        {" application/json ; charset=utf-8", true},
        {"application/json;charset=\"UTF-8\"", true},
        {"application/json; v=1; charset=utf-8", true},
        {"application/json;", true},
        {"application/json; charset=latin1", false},
        {"application/json; charset=utf-16", false},
        {"application/json; v=1;charset=ascii", false},
        {"application/jsonx", false},
        {"application/x-www-form-urlencoded", false},
        {"text/json", false},
        {"", false},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        enum ing_problem_kind kind =
            judge("POST", "/input", "HTTP/1.1", HEADERS(HOST, {"Content-Type", table[i].value}));
        if (kind != (table[i].good ? ING_PROBLEM_NONE : ING_PROBLEM_MEDIA_TYPE))
            fail_msg("%s: %d", table[i].value, kind);
    }
    assert_int_equal(judge("POST", "/input", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_MEDIA_TYPE);
}

static void limits_and_codings(void **state)
{
    (void)state;
    assert_int_equal(judge("POST", "/input", "HTTP/1.1", HEADERS(HOST, JSON, {"Content-Length", "1001"})),
                     ING_PROBLEM_TOO_LARGE);
    assert_int_equal(
        judge("POST", "/input", "HTTP/1.1", HEADERS(HOST, JSON, {"Content-Length", "18446744073709551615"})),
        ING_PROBLEM_TOO_LARGE);
    assert_int_equal(judge("POST", "/input", "HTTP/1.1", HEADERS(HOST, JSON, {"Content-Encoding", "gzip"})),
                     ING_PROBLEM_CODING);
}

static void announced_bodies_are_seen(void **state)
{
    (void)state;
    struct ing_head head;
    ing_head_init(&head, &limits);
    add_all(&head, HEADERS(HOST, {"Content-Length", "0"}));
    assert_false(ing_head_has_body(&head));
    ing_head_init(&head, &limits);
    add_all(&head, HEADERS(HOST, {"Content-Length", "7"}));
    assert_true(ing_head_has_body(&head));
    assert_int_equal(head.content_length, 7);
    ing_head_init(&head, &limits);
    add_all(&head, HEADERS(HOST, {"Transfer-Encoding", "Chunked"}));
    assert_true(ing_head_has_body(&head));
}

static void topics_are_found_in_the_path(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum ing_route route;
        const char *topic;
    } table[] = {
        {"/v1/topics/orders", ING_ROUTE_TOPIC, "orders"},
        {"/v1/topics/orders.eu.de?x=1", ING_ROUTE_TOPIC, "orders.eu.de"},
        {"http://h/v1/topics/a", ING_ROUTE_TOPIC, "a"},
        {"/v1/topics/orders/batch", ING_ROUTE_TOPIC_BATCH, "orders"},
        {"/v1/topics/batch", ING_ROUTE_TOPIC, "batch"},
        {"/v1/topics/batch/batch?", ING_ROUTE_TOPIC_BATCH, "batch"},
        {"/v1/topics", ING_ROUTE_NONE, ""},
        {"/v1/topicsx/a", ING_ROUTE_NONE, ""},
        {"/v1/topics/a%2eb", ING_ROUTE_NONE, ""},
        {"/V1/topics/a", ING_ROUTE_NONE, ""},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct ing_target target;
        ing_target_parse(&target, table[i].path);
        if (target.route != table[i].route || target.wrong != ING_PROBLEM_NONE ||
            target.topic_bytes != strlen(table[i].topic) ||
            memcmp(target.topic, table[i].topic, target.topic_bytes) != 0)
            fail_msg("%s: route %d, wrong %d", table[i].path, (int)target.route, (int)target.wrong);
    }
}

static void wrong_topics_are_told_with_rule_and_position(void **state)
{
    (void)state;
    char path[400] = "/v1/topics/";
    memset(path + strlen(path), 'a', 256);
    const struct {
        const char *path;
        enum ing_problem_kind kind;
        const char *part;
    } table[] = {
        {"/v1/topics/", ING_PROBLEM_BAD_TOPIC, "empty"},
        {"/v1/topics//batch", ING_PROBLEM_BAD_TOPIC, "empty"},
        {"/v1/topics/a..b", ING_PROBLEM_BAD_TOPIC, "empty level at byte 2"},
        {"/v1/topics/a.*", ING_PROBLEM_BAD_TOPIC, "byte 0x2a at byte 2"},
        {"/v1/topics/orders/eu", ING_PROBLEM_BAD_TOPIC, "byte 0x2f at byte 6"},
        {"/v1/topics/a.$b", ING_PROBLEM_BAD_TOPIC, "byte 0x24 at byte 2"},
        {"/v1/topics/$", ING_PROBLEM_BAD_TOPIC, "nothing behind"},
        {path, ING_PROBLEM_BAD_TOPIC, "256 bytes, at most 255"},
        {"/v1/topics/$dead.orders", ING_PROBLEM_RESERVED_TOPIC, NULL},
        {"/v1/topics/$dead.orders/batch", ING_PROBLEM_RESERVED_TOPIC, NULL},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct ing_head head;
        enum ing_format format;
        ing_head_init(&head, &limits);
        add_all(&head, HEADERS(HOST, JSON));
        struct ing_problem problem = judge_head(&head, "POST", table[i].path, "HTTP/1.1", &format);
        if (problem.kind != table[i].kind || (problem.detail == NULL) != (table[i].part == NULL) ||
            (problem.detail != NULL && strstr(problem.detail, table[i].part) == NULL))
            fail_msg("%s: %d %s", table[i].path, (int)problem.kind, problem.detail);
        assert_int_equal(judge_head(&head, "GET", table[i].path, "HTTP/1.1", &format).kind,
                         ING_PROBLEM_METHOD);
    }
}

static void a_topic_takes_any_content_type(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum ing_problem_kind kind;
        enum cmq_type type;
    } table[] = {
        {"text/plain", ING_PROBLEM_NONE, CMQ_TYPE_TEXT},
        {"image/png", ING_PROBLEM_NONE, CMQ_TYPE_OTHER},
        {"application/json; v=1", ING_PROBLEM_NONE, CMQ_TYPE_JSON},
        {"application/json; charset=utf-16", ING_PROBLEM_MEDIA_TYPE, CMQ_TYPE_JSON_FOREIGN},
        {"image", ING_PROBLEM_BAD_HEADER, CMQ_TYPE_BAD},
        {"", ING_PROBLEM_BAD_HEADER, CMQ_TYPE_BAD},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct ing_head head;
        enum ing_format format;
        ing_head_init(&head, &limits);
        add_all(&head, HEADERS(HOST, {"Content-Type", table[i].value}));
        assert_int_equal(head.type, table[i].type);
        assert_int_equal(judge_head(&head, "POST", "/v1/topics/a", "HTTP/1.1", &format).kind, table[i].kind);
    }
    assert_int_equal(judge("POST", "/v1/topics/a", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_NONE);
    assert_int_equal(judge("POST", "/v1/topics/a/batch", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_MEDIA_TYPE);
    assert_int_equal(
        judge("POST", "/v1/topics/a/batch", "HTTP/1.1", HEADERS(HOST, {"Content-Type", "text/plain"})),
        ING_PROBLEM_MEDIA_TYPE);
}

static void acks_and_keys_are_read(void **state)
{
    (void)state;
    char longest[130];
    memset(longest, 'k', sizeof longest - 1);
    longest[128] = '\0';
    struct ing_head head;
    ing_head_init(&head, &limits);
    add_all(&head, HEADERS(HOST, JSON, {"cmq-ack", " Durable "}, {"IDEMPOTENCY-KEY", longest}));
    assert_int_equal(head.ack, ING_ACK_DURABLE);
    assert_int_equal(head.key.bytes, 128);
    assert_null(head.wrong);
    ing_head_init(&head, &limits);
    add_all(&head, HEADERS(HOST, JSON));
    assert_int_equal(head.ack, ING_ACK_UNSAID);
    assert_int_equal(head.key.bytes, 0);
    add_all(&head, HEADERS({"CMQ-Ack", "accepted"}));
    assert_int_equal(head.ack, ING_ACK_ACCEPTED);
    longest[128] = 'k';
    longest[129] = '\0';
    const struct header bad[] = {{"CMQ-Ack", ""},
                                 {"CMQ-Ack", "yes"},
                                 {"CMQ-Ack", "durable,durable"},
                                 {"Idempotency-Key", ""},
                                 {"Idempotency-Key", "a b"},
                                 {"Idempotency-Key", longest},
                                 {"Idempotency-Key", "\xc3\xa9"}};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        if (judge("POST", "/input", "HTTP/1.1", HEADERS(HOST, JSON, bad[i])) != ING_PROBLEM_BAD_HEADER)
            fail_msg("%s: %s", bad[i].name, bad[i].value);
    assert_int_equal(judge("POST", "/input", "HTTP/1.1",
                           HEADERS(HOST, JSON, {"CMQ-Ack", "durable"}, {"CMQ-Ack", "durable"})),
                     ING_PROBLEM_BAD_REQUEST);
    assert_int_equal(judge("POST", "/input", "HTTP/1.1",
                           HEADERS(HOST, JSON, {"Idempotency-Key", "a"}, {"Idempotency-Key", "a"})),
                     ING_PROBLEM_BAD_REQUEST);
}

static void every_path_takes_options(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "/",        "/input",  "/input/batch",     "/v1/topics/a", "/v1/topics/a/batch",
        "/healthz", "/readyz", "/v1/openapi.json", "/metrics",     "*"};
    for (size_t i = 0; i < CMQ_COUNT_OF(paths); i++) {
        struct ing_target target;
        ing_target_parse(&target, paths[i]);
        assert_int_equal(judge("OPTIONS", paths[i], "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_NONE);
        assert_non_null(strstr(ing_route_allow(target.route), "OPTIONS"));
    }
    assert_int_equal(judge("OPTIONS", "/x", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_NOT_FOUND);
    assert_int_equal(judge("GET", "*", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_NOT_FOUND);
    assert_int_equal(judge("OPTIONS", "/input", "HTTP/1.1", HEADERS(HOST, {"Content-Length", "1"})),
                     ING_PROBLEM_BAD_REQUEST);
    assert_int_equal(judge("HEAD", "/readyz", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_NONE);
    assert_int_equal(judge("POST", "/healthz", "HTTP/1.1", HEADERS(HOST)), ING_PROBLEM_METHOD);
}

static void a_token_in_the_url_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "/input?token=x",  "/input?a=1&access_token=x", "/input?Authorization=x", "/input?a=1;API_KEY=x",
        "/nowhere?token=", "http://h/input?token=x",    "/v1/topics/a?x&token=y", "https://h?token=x"};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        if (judge("POST", bad[i], "HTTP/1.1", HEADERS(HOST, JSON)) != ING_PROBLEM_TOKEN_IN_URL)
            fail_msg("%s", bad[i]);
    assert_int_equal(judge("POST", "/input?tokens=1&x=token=2", "HTTP/1.1", HEADERS(HOST, JSON)),
                     ING_PROBLEM_NONE);
}

static void too_many_headers_are_refused(void **state)
{
    (void)state;
    struct header many[42] = {HOST, JSON};
    for (size_t i = 2; i < 41; i++)
        many[i] = (struct header){"X", "y"};
    assert_int_equal(judge("POST", "/input", "HTTP/1.1", many), ING_PROBLEM_HEADERS);
    many[40] = (struct header){NULL, NULL};
    assert_int_equal(judge("POST", "/input", "HTTP/1.1", many), ING_PROBLEM_NONE);
}

static void tokens_are_found_in_their_headers(void **state)
{
    (void)state;
    static const struct {
        struct header header;
        const char *token;
    } table[] = {{{"Authorization", "Bearer abc"}, "abc"}, {{"authorization", "bearer  abc "}, "abc"},
                 {{"X-API-Key", " abc"}, "abc"},           {{"Authorization", "Basic abc"}, ""},
                 {{"Authorization", "Bearerabc"}, ""},     {{"Authorization", ""}, ""}};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct ing_head head;
        ing_head_init(&head, &limits);
        add_all(&head, HEADERS(HOST, table[i].header));
        assert_null(head.broken);
        assert_int_equal(head.token.bytes, strlen(table[i].token));
        if (head.token.bytes != 0)
            assert_memory_equal(head.token.data, table[i].token, head.token.bytes);
    }
}

static void ttls_are_read_with_their_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1500ms", 1500}, {"30s", 30000}, {"5m", 300000},
                {"1h", 3600000},  {"7", 7000},    {"007s", 7000}};
    static const char *const bad[] = {"",
                                      "0",
                                      "0ms",
                                      "2h",
                                      "1d",
                                      "-1",
                                      "1.5s",
                                      "s",
                                      "1 s",
                                      "1S",
                                      "1w",
                                      "ms",
                                      "+1",
                                      "1e3",
                                      "99999999999999999999",
                                      "18446744073709551615d"};
    uint64_t ms = 0;
    for (size_t i = 0; i < CMQ_COUNT_OF(good); i++) {
        assert_true(ing_ttl_parse(text(good[i].text), 3600000, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        if (ing_ttl_parse(text(bad[i]), 3600000, &ms))
            fail_msg("%s", bad[i]);
    assert_true(ing_ttl_parse(text("2d"), UINT64_MAX, &ms));
    assert_int_equal(ms, 172800000);
    assert_int_equal(judge("POST", "/input", "HTTP/1.1", HEADERS(HOST, JSON, {"CMQ-TTL", "soon"})),
                     ING_PROBLEM_BAD_HEADER);
}

static void formats_follow_from_path_and_type(void **state)
{
    (void)state;
    static const struct {
        const char *path, *type;
        enum ing_problem_kind kind;
        enum ing_format format;
    } table[] = {
        {"/input", "application/json", ING_PROBLEM_NONE, ING_FORMAT_INPUT},
        {"/input/batch", "application/json", ING_PROBLEM_NONE, ING_FORMAT_INPUTS},
        {"/input/batch", "application/x-ndjson", ING_PROBLEM_MEDIA_TYPE, 0},
        {"/v1/topics/a", "application/x-ndjson", ING_PROBLEM_NONE, ING_FORMAT_WHOLE},
        {"/v1/topics/a", "application/cloudevents+json; charset=UTF-8", ING_PROBLEM_NONE, ING_FORMAT_EVENT},
        {"/v1/topics/a", "application/cloudevents+json; charset=latin1", ING_PROBLEM_MEDIA_TYPE, 0},
        {"/v1/topics/a", "application/cloudevents-batch+json", ING_PROBLEM_MEDIA_TYPE, 0},
        {"/v1/topics/a/batch", "application/json", ING_PROBLEM_NONE, ING_FORMAT_JSON},
        {"/v1/topics/a/batch", "Application/X-NDJSON", ING_PROBLEM_NONE, ING_FORMAT_LINES},
        {"/v1/topics/a/batch", "application/jsonl;charset=utf-8", ING_PROBLEM_NONE, ING_FORMAT_LINES},
        {"/v1/topics/a/batch", "application/jsonl;charset=latin1", ING_PROBLEM_MEDIA_TYPE, 0},
        {"/v1/topics/a/batch", "application/msgpack", ING_PROBLEM_NONE, ING_FORMAT_MSGPACK},
        {"/v1/topics/a/batch", "application/x-msgpack", ING_PROBLEM_NONE, ING_FORMAT_MSGPACK},
        {"/v1/topics/a/batch", "application/vnd.msgpack", ING_PROBLEM_NONE, ING_FORMAT_MSGPACK},
        {"/v1/topics/a/batch", "application/cloudevents-batch+json", ING_PROBLEM_NONE, ING_FORMAT_EVENTS},
        {"/v1/topics/a/batch", "application/cloudevents+json", ING_PROBLEM_MEDIA_TYPE, 0},
        {"/v1/topics/a/batch", "text/plain", ING_PROBLEM_MEDIA_TYPE, 0},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct ing_head head;
        enum ing_format format = ING_FORMAT_WHOLE;
        ing_head_init(&head, &limits);
        add_all(&head, HEADERS(HOST, {"Content-Type", table[i].type}));
        struct ing_problem problem = judge_head(&head, "POST", table[i].path, "HTTP/1.1", &format);
        if (problem.kind != table[i].kind || (problem.kind == ING_PROBLEM_NONE && format != table[i].format))
            fail_msg("%s %s: %d, format %d", table[i].path, table[i].type, (int)problem.kind, (int)format);
    }
}

static void a_stream_has_no_length_limit_and_no_key(void **state)
{
    (void)state;
    const struct header lines = {"Content-Type", "application/x-ndjson"};
    assert_int_equal(
        judge("POST", "/v1/topics/a/batch", "HTTP/1.1", HEADERS(HOST, lines, {"Content-Length", "9999999"})),
        ING_PROBLEM_NONE);
    assert_int_equal(
        judge("POST", "/v1/topics/a/batch", "HTTP/1.1", HEADERS(HOST, lines, {"Idempotency-Key", "k"})),
        ING_PROBLEM_BAD_HEADER);
}

static void gzip_is_taken_where_it_is_on(void **state)
{
    (void)state;
    struct ing_head head;
    enum ing_format format;
    ing_head_init(&head, &gzip_limits);
    add_all(&head, HEADERS(HOST, JSON, {"Content-Encoding", "GZIP"}));
    assert_int_equal(head.coding, ING_CODING_GZIP);
    assert_int_equal(judge_head(&head, "POST", "/input", "HTTP/1.1", &format).kind, ING_PROBLEM_NONE);
    ing_head_init(&head, &gzip_limits);
    add_all(&head, HEADERS(HOST, JSON, {"Content-Encoding", "gzip, gzip"}));
    assert_int_equal(judge_head(&head, "POST", "/input", "HTTP/1.1", &format).kind, ING_PROBLEM_CODING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests_pass),
        cmocka_unit_test(paths_and_methods_are_told_apart),
        cmocka_unit_test(framing_that_two_parsers_could_read_differently_is_refused),
        cmocka_unit_test(a_nul_in_a_value_is_refused),
        cmocka_unit_test(broken_framing_wins_over_everything_else),
        cmocka_unit_test(content_types),
        cmocka_unit_test(limits_and_codings),
        cmocka_unit_test(announced_bodies_are_seen),
        cmocka_unit_test(topics_are_found_in_the_path),
        cmocka_unit_test(wrong_topics_are_told_with_rule_and_position),
        cmocka_unit_test(a_topic_takes_any_content_type),
        cmocka_unit_test(acks_and_keys_are_read),
        cmocka_unit_test(every_path_takes_options),
        cmocka_unit_test(a_token_in_the_url_is_refused),
        cmocka_unit_test(too_many_headers_are_refused),
        cmocka_unit_test(tokens_are_found_in_their_headers),
        cmocka_unit_test(ttls_are_read_with_their_units),
        cmocka_unit_test(formats_follow_from_path_and_type),
        cmocka_unit_test(a_stream_has_no_length_limit_and_no_key),
        cmocka_unit_test(gzip_is_taken_where_it_is_on),
    };
    return cmocka_run_group_tests_name("ing_request", tests, NULL, NULL);
}
