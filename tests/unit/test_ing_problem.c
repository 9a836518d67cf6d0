#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ingest/ing_problem.h"
#include "ingest/ing_reply.h"
#include "ingest/ing_text.h"

static const char *write_problem(const struct ing_problem *problem)
{
    static uint8_t body[ING_PROBLEM_BYTES_MAX];
    size_t bytes = ing_problem_write(body, problem);
    body[bytes] = '\0';
    return (const char *)body;
}

static void a_problem_has_the_members_of_rfc_9457(void **state)
{
    (void)state;
    const struct ing_problem problem = ing_problem_make(ING_PROBLEM_NOT_FOUND, NULL);
    assert_string_equal(
        write_problem(&problem),
        "{\"type\":\"/problems/not-found\",\"title\":\"Not found\",\"status\":404,"
        "\"detail\":\"POST one message to /v1/topics/{topic} or /input, or many to the same path "
        "with /batch behind it.\"}");
}

static void offset_and_index_are_added_when_they_are_known(void **state)
{
    (void)state;
    const struct ing_problem problem = {
        .kind = ING_PROBLEM_MALFORMED, .detail = "x", .offset = 0, .index = 17};
    const char *text = write_problem(&problem);
    assert_non_null(strstr(text, "\"detail\":\"x\",\"offset\":0,\"index\":17}"));
    const struct ing_problem bare = ing_problem_make(ING_PROBLEM_MALFORMED, "x");
    assert_null(strstr(write_problem(&bare), "offset"));
    assert_null(strstr(write_problem(&bare), "index"));
}

static void details_are_escaped_and_cut(void **state)
{
    (void)state;
    const struct ing_problem quote = ing_problem_make(ING_PROBLEM_MALFORMED, "a\"b\\c\n\x01");
    assert_non_null(strstr(write_problem(&quote), "\"detail\":\"a\\\"b\\\\c\\n\\u0001\"}"));
    char detail[1000];
    memset(detail, 1, sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
    const struct ing_problem problem = {
        .kind = ING_PROBLEM_MEDIA_TYPE, .detail = detail, .offset = SIZE_MAX - 1, .index = UINT32_MAX - 1};
    assert_in_range(strlen(write_problem(&problem)), 200 * 6, ING_PROBLEM_BYTES_MAX - 1);
}

static void every_kind_names_the_fix(void **state)
{
    (void)state;
    for (enum ing_problem_kind kind = ING_PROBLEM_BAD_REQUEST; kind < ING_PROBLEM_COUNT; kind++) {
        const struct ing_problem_info *info = ing_problem_info(kind);
        assert_in_range(info->status, 400, 503);
        assert_true(strlen(info->slug) > 0 && strlen(info->title) > 0 && strlen(info->detail) > 20);
        assert_true(strlen(info->detail) <= 200); /* else it would be cut */
        assert_true(strspn(info->slug, "abcdefghijklmnopqrstuvwxyz-") == strlen(info->slug));
    }
}

static void expect_accepted(struct ing_accepted accepted, const char *want)
{
    struct ing_reply reply;
    ing_reply_accepted(&reply, &accepted);
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body_bytes, strlen(want));
    assert_memory_equal(reply.body, want, strlen(want));
}

static void accepted_replies(void **state)
{
    (void)state;
    expect_accepted((struct ing_accepted){.id = {.seq = UINT64_MAX}, .count = 20000},
                    "{\"id\":\"18446744073709551615-0\",\"count\":20000,\"ack\":\"accepted\"}");
    expect_accepted((struct ing_accepted){.id = {.seq = 7}},
                    "{\"id\":null,\"count\":0,\"ack\":\"accepted\"}");
    expect_accepted((struct ing_accepted){.id = {.seq = 7}, .count = 1, .durable = true},
                    "{\"id\":\"7-0\",\"count\":1,\"ack\":\"durable\"}");
    expect_accepted(
        (struct ing_accepted){.id = {.seq = 7, .index = 3}, .count = 1, .durable = true, .duplicate = true},
        "{\"id\":\"7-3\",\"count\":1,\"ack\":\"durable\",\"duplicate\":true}");
    expect_accepted((struct ing_accepted){.id = {.seq = 7}, .count = 5, .duplicates = 2},
                    "{\"id\":\"7-0\",\"count\":5,\"ack\":\"accepted\",\"duplicates\":2}");
}

static void every_status_has_its_phrase(void **state)
{
    (void)state;
    for (enum ing_problem_kind kind = ING_PROBLEM_BAD_REQUEST; kind < ING_PROBLEM_COUNT; kind++) {
        struct ing_reply reply;
        uint8_t text[ING_REPLY_TEXT_BYTES_MAX + 1];
        const struct ing_problem problem = ing_problem_make(kind, NULL);
        ing_reply_problem(&reply, &problem, "POST");
        struct ing_fields fields;
        ing_fields_init(&fields);
        ing_reply_fields(&reply, &fields);
        text[ing_reply_text(text, &reply, &fields, 0)] = '\0';
        bool unknown = strstr((const char *)text, " Error\r\n") != NULL;
        assert_int_equal(unknown, kind == ING_PROBLEM_INTERNAL);
        assert_int_equal(reply.retry_after_s, reply.status >= 500 || reply.status == 429);
    }
}

static void a_reply_as_text_is_whole_http(void **state)
{
    (void)state;
    struct ing_reply reply;
    uint8_t text[ING_REPLY_TEXT_BYTES_MAX + 1];
    const struct ing_problem problem = ing_problem_make(ING_PROBLEM_METHOD, "d");
    ing_reply_problem(&reply, &problem, "POST");
    struct ing_fields fields;
    ing_fields_init(&fields);
    ing_reply_fields(&reply, &fields);
    text[ing_reply_text(text, &reply, &fields, 784111777)] = '\0';
    const char want[] =
        "HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        "Connection: close\r\nContent-Type: application/problem+json\r\nAllow: POST\r\n"
        "Content-Length: 94\r\n\r\n"
        "{\"type\":\"/problems/method-not-allowed\",\"title\":\"Method not allowed\",\"status\":405,"
        "\"detail\":\"d\"}";
    assert_int_equal(reply.body_bytes, strlen(strstr(want, "\r\n\r\n") + 4));
    assert_string_equal((const char *)text + strlen("HTTP/1.1 405"), want + strlen("HTTP/1.1 405"));
}

static void errors_of_publishing_become_problems(void **state)
{
    (void)state;
    assert_int_equal(ing_reply_publish_problem(CMQ_ERR_FULL).kind, ING_PROBLEM_FULL);
    assert_int_equal(ing_reply_publish_problem(CMQ_ERR_DRAINING).kind, ING_PROBLEM_DRAINING);
    assert_int_equal(ing_reply_publish_problem(CMQ_ERR_TOO_BIG).kind, ING_PROBLEM_TOO_LARGE);
    assert_int_equal(ing_reply_publish_problem(CMQ_ERR_CORRUPT).kind, ING_PROBLEM_INTERNAL);
    struct ing_reply reply;
    const struct ing_problem problem = ing_problem_make(ING_PROBLEM_FULL, NULL);
    ing_reply_problem(&reply, &problem, NULL);
    assert_int_equal(reply.status, 503);
    assert_true(reply.retry_after_s == 1);
    assert_false(reply.close);
}

static void numbers_are_written_whole(void **state)
{
    (void)state;
    uint8_t text[ING_U64_BYTES_MAX];
    assert_int_equal(ing_text_put_u64(text, 0) - text, 1);
    assert_memory_equal(text, "0", 1);
    assert_int_equal(ing_text_put_u64(text, UINT64_MAX) - text, 20);
    assert_memory_equal(text, "18446744073709551615", 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_problem_has_the_members_of_rfc_9457),
        cmocka_unit_test(offset_and_index_are_added_when_they_are_known),
        cmocka_unit_test(details_are_escaped_and_cut),
        cmocka_unit_test(every_kind_names_the_fix),
        cmocka_unit_test(accepted_replies),
        cmocka_unit_test(every_status_has_its_phrase),
        cmocka_unit_test(a_reply_as_text_is_whole_http),
        cmocka_unit_test(errors_of_publishing_become_problems),
        cmocka_unit_test(numbers_are_written_whole),
    };
    return cmocka_run_group_tests_name("ing_problem", tests, NULL, NULL);
}
