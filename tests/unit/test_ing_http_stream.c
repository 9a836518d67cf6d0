/* NDJSON bodies: records while they come, lines that fail alone, waits in the middle, and what stops them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "tests/support/http_fixture.h"

static int start_accepted(void **state)
{
    return fixture_start(state, 1, ING_ACK_ACCEPTED, true);
}

static int start_durable(void **state)
{
    return fixture_start(state, 2, ING_ACK_DURABLE, true);
}

static void begin_with(struct client *client, const char *headers)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "POST /v1/topics/a/batch HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n%s"
                   "Transfer-Encoding: chunked\r\n\r\n",
                   headers);
    client_say(client, text);
}

static void begin(struct client *client)
{
    begin_with(client, "");
}

static void send_chunk(struct client *client, const void *data, size_t bytes)
{
    char size[20];
    (void)snprintf(size, sizeof size, "%zx\r\n", bytes);
    client_say(client, size);
    assert_true(client_put(client, data, bytes));
    client_say(client, "\r\n");
}

static void send_text(struct client *client, const char *text)
{
    send_chunk(client, text, strlen(text));
}

static void end(struct client *client)
{
    client_say(client, "0\r\n\r\n");
}

static struct reply stream_of(struct client *client, const char *text)
{
    struct reply reply;
    begin(client);
    send_text(client, text);
    end(client);
    client_read_reply(client, &reply);
    return reply;
}

/* count lines of 104 bytes each, "000...<number>". */
static char *many_lines(unsigned count)
{
    char *text = malloc(count * 104u + 1), *at = text;
    assert_non_null(text);
    for (unsigned i = 0; i < count; i++)
        at += snprintf(at, 105, "\"%0101u\"\n", i);
    return text;
}

static uint32_t messages_in_all(struct fixture *fixture)
{
    uint32_t all = 0, messages = 0;
    for (size_t i = 0; i < fake_ring_records(fixture->ring); i++) {
        (void)fake_ring_record(fixture->ring, i, &messages);
        all += messages;
    }
    return all;
}

/* ---- the good cases ---- */

static void lines_become_one_record(void **state)
{
    struct client *client = client_dial(*state);
    struct reply reply = stream_of(client, "\"a\"\r\n\n{\"data\":\"b\"}\n\"c\"");
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr(reply.head, "Content-Type: application/json\r\n"));
    assert_string_equal(reply.body, "{\"count\":3,\"rejected\":0,\"lines\":4,\"ack\":\"accepted\","
                                    "\"records\":[{\"id\":\"1-0\",\"count\":3}],\"errors\":[]}");
    fixture_expect_record(*state, 0, (const char *const[]){"a", "b", "c"}, 3);
    client_hang_up(client);
}

static void an_empty_stream_is_taken(void **state)
{
    struct client *client = client_dial(*state);
    begin(client);
    end(client);
    client_expect(
        client, 200,
        "{\"count\":0,\"rejected\":0,\"lines\":0,\"ack\":\"accepted\",\"records\":[],\"errors\":[]}");
    client_say(client, "POST /v1/topics/a/batch HTTP/1.1\r\nHost: h\r\nContent-Type: application/jsonl\r\n"
                       "Content-Length: 0\r\n\r\n");
    client_expect(client, 200, "\"count\":0");
    client_hang_up(client);
}

static void bad_lines_are_named_and_the_others_kept(void **state)
{
    struct client *client = client_dial(*state);
    struct reply reply = stream_of(client, "\"a\"\n{\n\"b\"\n7\n{\"data\":1,\"novel\":2}\n\"c\"\nx\n");
    assert_int_equal(reply.status, 207);
    assert_non_null(strstr(reply.body, "{\"count\":3,\"rejected\":4,\"lines\":7,"));
    assert_non_null(strstr(reply.body, "\"errors\":[{\"line\":2,\"detail\":\""));
    assert_non_null(strstr(reply.body, "{\"line\":5,\"detail\":\"unknown member"));
    assert_null(strstr(reply.body, "{\"line\":7")); /* STREAM_ERRORS_MAX */
    assert_non_null(strstr(reply.body, "],\"errors_cut\":true}"));
    fixture_expect_record(*state, 0, (const char *const[]){"a", "b", "c"}, 3);
    reply = stream_of(client, "x\ny\n");
    assert_int_equal(reply.status, 400);
    assert_non_null(strstr(reply.head, "Content-Type: application/problem+json\r\n"));
    assert_non_null(strstr(reply.body, "\"type\":\"/problems/malformed-lines\""));
    assert_non_null(strstr(reply.body, "\"count\":0,\"rejected\":2,\"lines\":2,"));
    assert_non_null(strstr(reply.body, "{\"line\":2,"));
    client_hang_up(client);
}

static void a_stream_may_be_larger_than_any_body(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    enum { LINES = 30000 }; /* 3 MiB */
    char *text = many_lines(LINES);
    begin(client);
    for (size_t at = 0; at < LINES * 104u; at += 10000)
        send_chunk(client, text + at, cmq_min_u64(10000, LINES * 104u - at));
    end(client);
    struct reply reply;
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr(reply.body, "{\"count\":30000,\"rejected\":0,\"lines\":30000,"));
    assert_true(fake_ring_records(fixture->ring) > 30);
    assert_int_equal(messages_in_all(fixture), LINES);
    free(text);
    client_hang_up(client);
}

static void bytes_may_come_one_by_one(void **state)
{
    struct client *client = client_dial(*state);
    const char text[] = "\"a\"\n{\"data\":\"b\"}\n";
    begin(client);
    for (size_t i = 0; i < sizeof text - 1; i++)
        send_chunk(client, text + i, 1);
    end(client);
    client_expect(client, 200, "\"count\":2");
    fixture_expect_record(*state, 0, (const char *const[]){"a", "b"}, 2);
    client_hang_up(client);
}

static void a_line_that_is_too_long_is_refused_alone(void **state)
{
    struct client *client = client_dial(*state);
    char *junk = malloc(65536);
    assert_non_null(junk);
    memset(junk, 'x', 65536);
    begin(client);
    send_text(client, "\"a\"\n");
    for (int i = 0; i < 2 * REQUEST_BYTES_MAX / 65536; i++)
        send_chunk(client, junk, 65536);
    send_text(client, "\n\"b\"\n");
    end(client);
    struct reply reply;
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 207);
    assert_non_null(strstr(reply.body, "\"count\":2,\"rejected\":1,\"lines\":3,"));
    assert_non_null(strstr(reply.body, "{\"line\":2,\"detail\":\"the line is too long\"}"));
    free(junk);
    client_hang_up(client);
}

static void a_key_is_not_for_streams(void **state)
{
    struct client *client = client_dial(*state);
    begin_with(client, "Idempotency-Key: k\r\n");
    client_expect(client, 400, "/problems/bad-header");
    client_hang_up(client);
}

/* ---- waiting ---- */

static void a_stream_waits_for_room_and_goes_on(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    char *text = many_lines(200); /* 5 records at least */
    fake_ring_set_room(fixture->ring, 1);
    begin(client);
    for (size_t at = 0; at < 200 * 104u; at += 2080)
        send_chunk(client, text + at, 2080);
    end(client);
    fake_ring_await_refused(fixture->ring, 2);
    /* The worker is free. */
    struct client *other = client_dial(fixture);
    client_say(other, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client_expect(other, 200, "CipherMQ");
    client_hang_up(other);
    assert_int_equal(fake_ring_records(fixture->ring), 1);
    for (size_t i = 0; i < 3; i++) {
        fake_ring_set_room(fixture->ring, 1);
        fake_ring_await_records(fixture->ring, i + 2);
    }
    fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
    client_expect(client, 200, "\"count\":200,\"rejected\":0,\"lines\":200");
    assert_int_equal(messages_in_all(fixture), 200);
    free(text);
    client_hang_up(client);
}

static void who_goes_away_while_his_stream_waits_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    char *text = many_lines(100);
    fake_ring_set_room(fixture->ring, 0);
    begin(client);
    send_chunk(client, text, 100 * 104u);
    send_text(client, "\"more\"\n");
    fake_ring_await_refused(fixture->ring, 2);
    client_hang_up(client);
    fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
    fake_ring_await_counter(fixture->ring, CMQ_COUNT_CLIENTS, 0);
    free(text);
}

static void every_record_is_in_the_log_before_the_next(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    char *text = many_lines(100);
    begin(client);
    for (size_t at = 0; at < 100 * 104u; at += 2080)
        send_chunk(client, text + at, 2080);
    end(client);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        fake_ring_await_records(fixture->ring, seq);
        assert_int_equal(fake_ring_records(fixture->ring), seq);
        fake_ring_set_log(fixture->ring, seq + 1, seq + 1);
    }
    fake_ring_set_log(fixture->ring, 100, 100);
    client_expect(client, 200, "\"ack\":\"durable\"");
    assert_int_equal(messages_in_all(fixture), 100);
    free(text);
    client_hang_up(client);
}

static void known_ids_are_told_by_record(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    const struct cmq_outcome duplicate = {.kind = CMQ_OUTCOME_DUPLICATE, .seq = 77, .index = 3};
    fake_ring_set_outcome(fixture->ring, 1, &duplicate);
    fake_ring_set_outcome(fixture->ring, 2, &(struct cmq_outcome){.kind = CMQ_OUTCOME_PART, .index = 1});
    fake_ring_set_outcome(fixture->ring, 3, &(struct cmq_outcome){.kind = CMQ_OUTCOME_CONFLICT, .index = 0});
    fake_ring_set_log(fixture->ring, 100, 100);
    const char *const lines = "{\"data\":\"a\",\"id\":\"1\"}\n{\"data\":\"b\",\"id\":\"2\"}\n";
    assert_non_null(strstr(stream_of(client, lines).body,
                           "\"duplicates\":2,\"ack\":\"durable\",\"records\":[{\"id\":\"77-3\",\"count\":2,"
                           "\"duplicate\":true}]"));
    assert_non_null(strstr(stream_of(client, lines).body, "[{\"id\":\"2-0\",\"count\":2,\"duplicates\":1}]"));
    struct reply reply = stream_of(client, lines);
    assert_int_equal(reply.status, 409);
    assert_non_null(strstr(reply.body, "\"type\":\"/problems/idempotency-conflict\""));
    assert_non_null(strstr(reply.body, "\"count\":0,\"rejected\":0,\"lines\":0,"));
    client_hang_up(client);
}

/* ---- what stops it ---- */

static void a_log_that_fails_midway_is_told_at_once_with_what_was_kept(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    char *text = many_lines(100);
    begin(client);
    send_chunk(client, text, 60 * 104u);
    send_chunk(client, text, 104u);
    fake_ring_await_records(fixture->ring, 1);
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_FAILED);
    send_chunk(client, text, 60 * 104u);
    send_chunk(client, text, 104u); /* the body has no end */
    struct reply reply;
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 503);
    assert_true(reply.close);
    assert_non_null(strstr(reply.body, "\"type\":\"/problems/log-failed\""));
    uint32_t kept = messages_in_all(fixture);
    char want[100];
    assert_true(kept >= 60);
    (void)snprintf(want, sizeof want, "\"count\":%u,\"rejected\":0,\"lines\":%u,", kept, kept);
    assert_non_null(strstr(reply.body, want));
    assert_non_null(strstr(reply.body, "\"records_cut\":true"));
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REJECTED_FULL), 1);
    free(text);
    client_hang_up(client);
}

static void a_ring_that_drains_ends_it_with_what_was_kept(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    fake_ring_set_error(fixture->ring, CMQ_ERR_DRAINING);
    struct reply reply = stream_of(client, "\"a\"\nx\n");
    assert_int_equal(reply.status, 503);
    assert_true(reply.close);
    assert_non_null(strstr(reply.body, "\"type\":\"/problems/draining\""));
    assert_non_null(strstr(reply.body, "\"count\":0,\"rejected\":1,\"lines\":0,"));
    client_hang_up(client);
}

/* ---- gzip ---- */

/* The caller frees. */
static uint8_t *gzip(const void *data, size_t bytes, size_t *ret_bytes)
{
    z_stream stream = {0};
    uint8_t *out = malloc(bytes + 1000);
    assert_non_null(out);
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)data;
    stream.avail_in = (uInt)bytes;
    stream.next_out = out;
    stream.avail_out = (uInt)(bytes + 1000);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    *ret_bytes = stream.total_out;
    (void)deflateEnd(&stream);
    return out;
}

static void ask_gzip(struct client *client, const char *type, const uint8_t *body, size_t bytes)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "POST /v1/topics/a/batch HTTP/1.1\r\nHost: h\r\nContent-Type: application/%s\r\n"
                   "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
                   type, bytes);
    client_say(client, text);
    assert_true(client_put(client, body, bytes));
}

static void a_compressed_body_is_taken(void **state)
{
    struct client *client = client_dial(*state);
    size_t bytes;
    uint8_t *body = gzip("[\"a\",\"b\"]", 9, &bytes);
    ask_gzip(client, "json", body, bytes);
    client_expect(client, 200, "\"count\":2");
    fixture_expect_record(*state, 0, (const char *const[]){"a", "b"}, 2);
    ask_gzip(client, "json", body, bytes - 1);
    client_expect(client, 400, "/problems/malformed-gzip");
    ask_gzip(client, "json", (const uint8_t *)"[\"a\"]", 5);
    client_expect(client, 400, "/problems/malformed-gzip");
    free(body);
    client_hang_up(client);
}

static void a_compressed_stream_is_taken_with_waits(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    size_t bytes;
    char *text = many_lines(5000);
    uint8_t *body = gzip(text, 5000 * 104u, &bytes);
    fake_ring_set_room(fixture->ring, 0);
    ask_gzip(client, "x-ndjson", body, bytes);
    for (size_t i = 0; i < 5; i++) {
        fake_ring_set_room(fixture->ring, 1);
        fake_ring_await_records(fixture->ring, i + 1);
    }
    fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
    client_expect(client, 200, "\"count\":5000,\"rejected\":0,\"lines\":5000,");
    assert_int_equal(messages_in_all(fixture), 5000);
    ask_gzip(client, "x-ndjson", body, bytes - 1);
    client_expect(client, 400, "/problems/malformed-gzip");
    free(body);
    free(text);
    client_hang_up(client);
}

static void a_bomb_is_refused_before_it_has_grown(void **state)
{
    struct client *client = client_dial(*state);
    size_t bytes;
    char *text = calloc(1, 8 << 20);
    assert_non_null(text);
    uint8_t *body = gzip(text, 8 << 20, &bytes);
    ask_gzip(client, "json", body, bytes);
    client_expect(client, 413, "gzip_ratio_max");
    client_hang_up(client);
    client = client_dial(*state);
    ask_gzip(client, "x-ndjson", body, bytes);
    client_expect(client, 413, "gzip_ratio_max");
    client_hang_up(client);
    free(body);
    /* Within the ratio, but over the limit of a body. */
    char *lines = many_lines(12000);
    body = gzip(lines, 12000 * 104u, &bytes);
    client = client_dial(*state);
    ask_gzip(client, "json", body, bytes);
    client_expect(client, 413, "/problems/too-large");
    client_hang_up(client);
    free(lines);
    free(body);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define STREAM_TEST(name)  cmocka_unit_test_setup_teardown(name, start_accepted, fixture_stop)
#define DURABLE_TEST(name) cmocka_unit_test_setup_teardown(name, start_durable, fixture_stop)
        STREAM_TEST(lines_become_one_record),
        STREAM_TEST(an_empty_stream_is_taken),
        STREAM_TEST(bad_lines_are_named_and_the_others_kept),
        STREAM_TEST(a_stream_may_be_larger_than_any_body),
        STREAM_TEST(bytes_may_come_one_by_one),
        STREAM_TEST(a_line_that_is_too_long_is_refused_alone),
        STREAM_TEST(a_key_is_not_for_streams),
        STREAM_TEST(a_stream_waits_for_room_and_goes_on),
        STREAM_TEST(who_goes_away_while_his_stream_waits_costs_nothing),
        DURABLE_TEST(every_record_is_in_the_log_before_the_next),
        DURABLE_TEST(known_ids_are_told_by_record),
        STREAM_TEST(a_log_that_fails_midway_is_told_at_once_with_what_was_kept),
        STREAM_TEST(a_ring_that_drains_ends_it_with_what_was_kept),
        STREAM_TEST(a_compressed_body_is_taken),
        STREAM_TEST(a_compressed_stream_is_taken_with_waits),
        STREAM_TEST(a_bomb_is_refused_before_it_has_grown),
    };
    return cmocka_run_group_tests_name("ing_http_stream", tests, NULL, NULL);
}
