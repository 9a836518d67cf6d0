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

static enum ing_problem_kind judge(const char *method, const char *target, const char *version,
                                   const struct header *headers)
{
    struct ing_head head;
    ing_head_init(&head);
    add_all(&head, headers);
    return ing_request_judge(&head, ing_request_route(target), method, version, 1000).kind;
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
    assert_string_equal(ing_request_allow(ING_ROUTE_ROOT), "GET, HEAD");
    assert_string_equal(ing_request_allow(ING_ROUTE_BATCH), "POST");
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
        HEADERS(HOST, {"Transfer-Encoding", ""}),
        HEADERS(HOST, JSON, JSON),
        HEADERS(HOST, {"Authorization", "a"}, {"Authorization", "b"}),
        HEADERS(HOST, {"Content-Length ", "1"}),
        HEADERS(HOST, {"X\x01", "1"}),
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
    ing_head_init(&head);
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
    ing_head_init(&head);
    add_all(&head, HEADERS(HOST, {"Content-Length", "0"}));
    assert_false(ing_request_has_body(&head));
    ing_head_init(&head);
    add_all(&head, HEADERS(HOST, {"Content-Length", "7"}));
    assert_true(ing_request_has_body(&head));
    assert_int_equal(head.content_length, 7);
    ing_head_init(&head);
    add_all(&head, HEADERS(HOST, {"Transfer-Encoding", "Chunked"}));
    assert_true(ing_request_has_body(&head));
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
    };
    return cmocka_run_group_tests_name("ing_request", tests, NULL, NULL);
}
