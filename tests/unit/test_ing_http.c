#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "ingest/ing_listen.h"
#include "tests/support/http_fixture.h"

static int start_two(void **state)
{
    return fixture_start(state, 2, ING_ACK_ACCEPTED, true);
}

static int start_one(void **state)
{
    return fixture_start(state, 1, ING_ACK_ACCEPTED, true);
}

/* ---- the good cases ---- */

static void root_answers_a_short_text(void **state)
{
    struct client *client = client_dial(*state);
    struct reply reply;
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client_expect(client, 200, "CipherMQ");
    client_say(client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /?x=1 HTTP/1.1\r\nHost: h\r\n\r\n");
    while (strstr(client->text, "\r\n\r\n") == NULL)
        assert_true(client_hear(client));
    client_consume(client, (size_t)(strstr(client->text, "\r\n\r\n") + 4 - client->text));
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 200);
    assert_false(reply.close);
    client_hang_up(client);
}

static void a_single_message_enters_as_one_record(void **state)
{
    struct client *client = client_dial(*state);
    struct reply reply;
    client_ask(client, "/input", "{\"content\":\"hello \\ud83d\\ude00\"}");
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "{\"id\":\"1-0\",\"count\":1,\"ack\":\"accepted\"}");
    assert_non_null(strstr(reply.head, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(reply.head, "Date: "));
    fixture_expect_record(*state, 0, (const char *const[]){"hello \xf0\x9f\x98\x80"}, 1);
    client_hang_up(client);
}

static void a_batch_enters_as_one_record_in_order(void **state)
{
    struct client *client = client_dial(*state);
    client_ask(client, "/input/batch",
               "{\"messages\": [{\"content\": \"a\"}, {\"content\": \"\"}, {\"content\": \"c\"}]}");
    client_expect(client, 200, "{\"id\":\"1-0\",\"count\":3,\"ack\":\"accepted\"}");
    fixture_expect_record(*state, 0, (const char *const[]){"a", "", "c"}, 3);
    client_hang_up(client);
}

static void an_empty_batch_is_accepted_and_enters_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    client_ask(client, "/input/batch", "{\"messages\":[]}");
    client_expect(client, 200, "{\"id\":null,\"count\":0,\"ack\":\"accepted\"}");
    assert_int_equal(fake_ring_records(fixture->ring), 0);
    client_hang_up(client);
}

static void one_connection_carries_many_requests(void **state)
{
    struct client *client = client_dial(*state);
    for (int i = 1; i <= 200; i++) {
        char id[32];
        (void)snprintf(id, sizeof id, "\"id\":\"%d-0\"", i);
        client_ask(client, "/input", "{\"content\":\"m\"}");
        client_expect(client, 200, id);
    }
    client_hang_up(client);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct client *client = client_dial(*state);
    for (int i = 0; i < 20; i++)
        client_ask(client, "/input", "{\"content\":\"m\"}");
    for (int i = 1; i <= 20; i++) {
        char id[32];
        (void)snprintf(id, sizeof id, "\"id\":\"%d-0\"", i);
        client_expect(client, 200, id);
    }
    client_hang_up(client);
}

static void a_body_may_come_in_pieces(void **state)
{
    struct client *client = client_dial(*state);
    const char text[] = "POST /input HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                        "Content-Length: 15\r\n\r\n{\"content\":\"m\"}";
    for (size_t i = 0; i < sizeof text - 1; i++)
        assert_true(client_put(client, text + i, 1));
    client_expect(client, 200, "1-0");
    client_hang_up(client);
}

static void a_chunked_body_is_taken(void **state)
{
    struct client *client = client_dial(*state);
    client_say(client,
               "POST /input HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
               "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"con\r\na;x=y\r\ntent\":\"m\"}\r\n0\r\n\r\n");
    client_expect(client, 200, "1-0");
    client_ask(client, "/input", "{\"content\":\"n\"}");
    client_expect(client, 200, "2-0");
    fixture_expect_record(*state, 0, (const char *const[]){"m"}, 1);
    client_hang_up(client);
}

static void a_client_that_asks_is_told_to_continue(void **state)
{
    struct client *client = client_dial(*state);
    client_say(client, "POST /input HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                       "Content-Length: 15\r\nExpect: 100-continue\r\n\r\n");
    while (strstr(client->text, "\r\n\r\n") == NULL)
        assert_true(client_hear(client));
    assert_non_null(strstr(client->text, "HTTP/1.1 100 "));
    client_consume(client, client->bytes);
    client_say(client, "{\"content\":\"m\"}");
    client_expect(client, 200, "1-0");
    client_hang_up(client);
}

/* A request with a batch body of nearly `bytes` bytes; the caller frees. */
static char *large_request(size_t bytes, size_t *ret_bytes, uint32_t *ret_count)
{
    char *body = malloc(bytes + 64), *text = malloc(bytes + 1024);
    assert_true(body != NULL && text != NULL);
    char *at = stpcpy(body, "{\"messages\":[");
    uint32_t count = 0;
    while ((size_t)(at - body) + 120 < bytes) {
        at = stpcpy(at, count == 0 ? "{\"content\":\"" : ",{\"content\":\"");
        memset(at, 'x', 90);
        at = stpcpy(at + 90, "\"}");
        count++;
    }
    at = stpcpy(at, "]}");
    int head = snprintf(text, 1024,
                        "POST /input/batch HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        (size_t)(at - body));
    memcpy(text + head, body, (size_t)(at - body));
    *ret_bytes = (size_t)head + (size_t)(at - body);
    *ret_count = count;
    free(body);
    return text;
}

static void a_large_body_is_taken_whole(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    size_t bytes;
    uint32_t count, messages;
    char *text = large_request(REQUEST_BYTES_MAX, &bytes, &count);
    assert_true(client_put(client, text, bytes));
    client_expect(client, 200, "1-0");
    (void)fake_ring_record(fixture->ring, 0, &messages);
    assert_int_equal(messages, count);
    free(text);
    client_hang_up(client);
}

/* ---- refusals ---- */

static void wrong_requests_are_refused_and_the_connection_goes_on(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    struct reply reply;
    client_ask(client, "/input/batch", "{\"messages\":[{\"content\":\"a\"},{\"content\":1}]}");
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 400);
    assert_non_null(strstr(reply.head, "Content-Type: application/problem+json"));
    assert_non_null(strstr(reply.body, "\"type\":\"/problems/malformed-json\""));
    assert_non_null(strstr(reply.body, "\"index\":1"));
    assert_non_null(strstr(reply.body, "\"offset\":"));
    client_ask(client, "/input", "");
    client_expect(client, 400, "malformed-json");
    client_say(client, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    client_expect(client, 404, "not-found");
    client_say(client, "GET /input HTTP/1.1\r\nHost: h\r\n\r\n");
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 405);
    assert_non_null(strstr(reply.head, "Allow: POST, OPTIONS\r\n"));
    client_ask(client, "/input", "{\"content\":\"m\"}");
    client_expect(client, 200, "1-0");
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REJECTED_BAD), 4);
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REQUESTS), 5);
    client_hang_up(client);
}

/* Sent as it stands, answered with 400, then closed; nothing enters. */
static void expect_refused(struct fixture *fixture, const char *text)
{
    struct client *client = client_dial(fixture);
    struct reply reply;
    client_say(client, text);
    client_read_reply(client, &reply);
    if (reply.status != 400 || strstr(reply.body, "/problems/bad-request") == NULL)
        fail_msg("got %d %s for:\n%s", reply.status, reply.body, text);
    client_expect_end(client);
    client_hang_up(client);
    assert_int_equal(fake_ring_records(fixture->ring), 0);
}

static void smuggled_requests_are_refused_and_closed(void **state)
{
#define POST "POST /input HTTP/1.1\r\n"
#define HOST "Host: h\r\n"
#define JSON "Content-Type: application/json\r\n"
#define BODY "\r\n{\"content\":\"m\"}"
    static const char *const table[] = {
        POST JSON "Content-Length: 15\r\n" BODY,
        POST HOST HOST JSON "Content-Length: 15\r\n" BODY,
        POST HOST JSON "Content-Length: 15\r\nContent-Length: 15\r\n" BODY,
        POST HOST JSON "Content-Length: 15\r\nContent-Length: 0\r\n" BODY,
        POST HOST JSON "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n" BODY,
        POST HOST JSON "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST HOST JSON "Transfer-Encoding: gzip\r\n" BODY,
        POST HOST JSON "Transfer-Encoding: identity\r\nContent-Length: 15\r\n" BODY,
        POST HOST JSON JSON "Content-Length: 15\r\n" BODY,
        POST HOST JSON "Authorization: a\r\nAuthorization: b\r\nContent-Length: 15\r\n" BODY,
        POST HOST JSON "Content-Length : 15\r\n" BODY,
        POST HOST JSON "X Y: z\r\nContent-Length: 15\r\n" BODY,
        POST HOST JSON "X: a\x01z\r\nContent-Length: 15\r\n" BODY,
        "POST /input HTTP/1.0\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST "Content-Length: 15\r\n" BODY,
        "GET / HTTP/1.1\r\n\r\n",
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++)
        expect_refused(*state, table[i]);
}

static void a_length_that_is_no_number_is_refused_by_the_library(void **state)
{
    struct fixture *fixture = *state;
    static const char *const table[] = {
        POST HOST JSON "Content-Length: 1x\r\n" BODY,
        POST HOST JSON "Content-Length: -1\r\n" BODY,
        POST HOST JSON "Content-Length: 99999999999999999999\r\n" BODY,
        POST HOST JSON "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct client *client = client_dial(fixture);
        struct reply reply;
        client_say(client, table[i]);
        client_read_reply(client, &reply);
        assert_in_range(reply.status, 400, 413);
        while (client_hear(client)) {
        }
        client_hang_up(client);
    }
    assert_int_equal(fake_ring_records(fixture->ring), 0);
}

static void a_request_refused_by_its_head_is_answered_before_its_body(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *text;
        int status;
        const char *body;
    } table[] = {
        {POST HOST JSON "Content-Length: 1048577\r\n\r\n", 413, "too-large"},
        {POST HOST JSON "Content-Length: 99999999999999999\r\nExpect: 100-continue\r\n\r\n", 413,
         "too-large"},
        {POST HOST "Content-Length: 15\r\n\r\n", 415, "Content-Type: application/json"},
        {POST HOST "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 15\r\n" BODY, 415,
         "application"},
        {POST HOST "Content-Type: application/json; charset=latin1\r\nContent-Length: 15\r\n\r\n", 415,
         "charset=utf-8"},
        {POST HOST JSON "Content-Encoding: br\r\nContent-Length: 15\r\n\r\n", 415, "Content-Encoding"},
        {"POST /y HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n", 404, "not-found"},
        {"PUT /input HTTP/1.1\r\n" HOST JSON "Content-Length: 15\r\n\r\n", 405, "Allow"},
        {"PATCH /input HTTP/1.1\r\n" HOST JSON "Content-Length: 15\r\nExpect: 100-continue\r\n\r\n", 405,
         "Allow"},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct client *client = client_dial(fixture);
        struct reply reply;
        client_say(client, table[i].text);
        client_read_reply(client, &reply);
        if (reply.status != table[i].status || strstr(reply.body, table[i].body) == NULL || !reply.close)
            fail_msg("case %zu: %d %s", i, reply.status, reply.body);
        client_hang_up(client);
    }
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REJECTED_LARGE), 2);
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REJECTED_BAD), CMQ_COUNT_OF(table) - 2);
    assert_int_equal(fake_ring_records(fixture->ring), 0);
}

static void a_client_that_sends_on_still_gets_the_refusal(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    char *junk = calloc(1, 1 << 20);
    assert_non_null(junk);
    client_say(client, POST HOST JSON "Content-Length: 20000000\r\n\r\n");
    /* Far more than the sockets hold: only a server that reads on lets this end. */
    for (int i = 0; i < 16; i++)
        assert_true(client_put(client, junk, 1 << 20));
    client_expect(client, 413, "too-large");
    free(junk);
    client_hang_up(client);
}

static void a_chunked_body_over_the_limit_is_refused_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    char *chunk = calloc(1, 65536);
    assert_non_null(chunk);
    client_say(client, POST HOST JSON "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < REQUEST_BYTES_MAX / 65536; i++) {
        client_say(client, "10000\r\n");
        assert_true(client_put(client, chunk, 65536));
        client_say(client, "\r\n");
    }
    /* The body has no end yet. One more byte is too many. */
    client_say(client, "1\r\nx\r\n");
    struct reply reply;
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 413);
    assert_true(reply.close);
    free(chunk);
    client_hang_up(client);
}

static void a_message_over_the_limit_is_refused(void **state)
{
    struct client *client = client_dial(*state);
    char body[MESSAGE_BYTES_MAX + 100] = "{\"content\":\"";
    memset(body + strlen(body), 'x', MESSAGE_BYTES_MAX + 1);
    strncat(body, "\"}", 3);
    client_ask(client, "/input", body);
    client_expect(client, 413, "too-large");
    client_hang_up(client);
}

static void failures_of_the_ring_are_told_apart(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    struct reply reply;
    fake_ring_set_error(fixture->ring, CMQ_ERR_DRAINING);
    client_ask(client, "/input", "{\"content\":\"m\"}");
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 503);
    assert_non_null(strstr(reply.head, "Retry-After: 1\r\n"));
    assert_true(reply.close);
    client_hang_up(client);
    client = client_dial(fixture);
    fake_ring_set_error(fixture->ring, CMQ_ERR_CORRUPT);
    client_ask(client, "/input", "{\"content\":\"m\"}");
    client_expect(client, 500, "internal");
    fake_ring_set_error(fixture->ring, CMQ_ERR_TOO_BIG);
    client_ask(client, "/input", "{\"content\":\"m\"}");
    client_expect(client, 413, "too-large");
    client_hang_up(client);
}

/* ---- a full ring ---- */

static void a_request_waits_until_the_ring_has_room(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    fake_ring_set_room(fixture->ring, 0);
    client_ask(client, "/input", "{\"content\":\"m\"}");
    fake_ring_await_refused(fixture->ring, 2);
    /* The worker is free meanwhile. */
    struct client *other = client_dial(fixture);
    client_say(other, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client_expect(other, 200, "CipherMQ");
    client_hang_up(other);
    fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
    client_expect(client, 200, "1-0");
    client_ask(client, "/input", "{\"content\":\"n\"}");
    client_expect(client, 200, "2-0");
    fixture_expect_record(fixture, 0, (const char *const[]){"m"}, 1);
    client_hang_up(client);
}

static void waiting_again_and_again_on_one_connection(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    for (size_t i = 1; i <= 200; i++) {
        fake_ring_set_room(fixture->ring, 0);
        client_ask(client, "/input", "{\"content\":\"m\"}");
        fake_ring_await_refused(fixture->ring, 2 * i);
        fake_ring_set_room(fixture->ring, 1);
        client_expect(client, 200, "-0");
    }
    assert_int_equal(fake_ring_records(fixture->ring), 200);
    client_hang_up(client);
}

static void a_request_that_waited_too_long_gets_503(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    struct reply reply;
    const struct ing_admit_limits limits = {.wait_ms = 5, .waiting_bytes_max = WAITING_BYTES_MAX};
    ing_admit_set_limits(fixture->admit, &limits);
    fake_ring_set_room(fixture->ring, 0);
    client_ask(client, "/input", "{\"content\":\"m\"}");
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 503);
    assert_non_null(strstr(reply.body, "\"type\":\"/problems/full\""));
    assert_non_null(strstr(reply.head, "Retry-After: 1\r\n"));
    assert_false(reply.close);
    fake_ring_set_room(fixture->ring, 1);
    client_ask(client, "/input", "{\"content\":\"m\"}");
    client_expect(client, 200, "1-0");
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REJECTED_FULL), 1);
    client_hang_up(client);
}

static void no_more_bytes_wait_than_allowed(void **state)
{
    struct fixture *fixture = *state;
    struct client *first = client_dial(fixture), *second = client_dial(fixture);
    const struct ing_admit_limits limits = {.wait_ms = LONG_MS, .waiting_bytes_max = 100};
    ing_admit_set_limits(fixture->admit, &limits);
    fake_ring_set_room(fixture->ring, 0);
    client_ask(first, "/input", "{\"content\":\"m\"}");
    fake_ring_await_refused(fixture->ring, 2);
    client_ask(second, "/input",
               "{\"content\":\"1234567890123456789012345678901234567890123456789012345678901234567890\"}");
    client_expect(second, 503, "/problems/full");
    fake_ring_set_room(fixture->ring, 1);
    client_expect(first, 200, "1-0");
    client_hang_up(first);
    client_hang_up(second);
}

static void a_client_that_goes_away_while_it_waits_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    fake_ring_set_room(fixture->ring, 0);
    for (size_t i = 1; i <= 20; i++) {
        struct client *client = client_dial(fixture);
        client_ask(client, "/input", "{\"content\":\"m\"}");
        fake_ring_await_counter(fixture->ring, CMQ_COUNT_BYTES_IN, 15 * i);
        client_hang_up(client);
    }
    fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
    fake_ring_await_counter(fixture->ring, CMQ_COUNT_CLIENTS, 0);
    /* Accepted or not is open for a client that did not wait for the answer; here all were. */
    assert_int_equal(fake_ring_records(fixture->ring), 20);
    ing_http_quiesce(fixture->http);
    assert_true(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns() + LONG_NS));
}

static void a_client_that_goes_away_within_its_body_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 20; i++) {
        struct client *client = client_dial(fixture);
        char junk[8000] = {0};
        client_say(client, POST HOST JSON "Content-Length: 100000\r\n\r\n");
        assert_true(client_put(client, junk, sizeof junk));
        client_hang_up(client);
    }
    fake_ring_await_counter(fixture->ring, CMQ_COUNT_CLIENTS_TOTAL, 20);
    /* The library alone may miss the end of such a stream. */
    while (fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS) != 0)
        ing_http_tick(fixture->http, cmq_clock_mono_ns());
    assert_int_equal(fake_ring_records(fixture->ring), 0);
}

static void a_request_that_comes_too_slowly_is_cut_off(void **state)
{
    struct fixture *fixture = *state;
    struct client *body = client_dial(fixture), *head = client_dial(fixture), *quiet = client_dial(fixture);
    client_ask(quiet, "/input", "{\"content\":\"a\"}");
    client_expect(quiet, 200, "1-0");
    while (!ing_http_wait_idle(fixture->http, cmq_clock_mono_ns())) {
    } /* the library knows that the reply is gone, too */
    client_say(body, POST HOST JSON "Content-Length: 100000\r\n\r\n{");
    client_say(head, "POST /input HTTP/1.1\r\nHost: h\r\n");
    while (fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS) != 3)
        ing_http_tick(fixture->http, cmq_clock_mono_ns()); /* the workers have all three */
    /* 20 s later; until the first line of each was read, there is nothing to be late with. */
    while (fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS) != 1)
        ing_http_tick(fixture->http, cmq_clock_mono_ns() + 20 * CMQ_NS_PER_S);
    client_expect_end(body);
    client_expect_end(head);
    client_ask(quiet, "/input", "{\"content\":\"b\"}");
    client_expect(quiet, 200, "2-0");
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS_DROPPED), 2);
    client_hang_up(body);
    client_hang_up(head);
    client_hang_up(quiet);
}

static void a_reply_that_nobody_reads_ends_its_connection(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture), *other = client_dial(fixture);
    const struct timeval moment = {.tv_usec = 200000};
    assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &moment, sizeof moment), 0);
    /* Until the server does not read any more, because it cannot write. */
    const char ask[] = "GET /v1/openapi.json HTTP/1.1\r\nHost: h\r\n\r\n";
    while (client_put(client, ask, sizeof ask - 1)) {
    }
    while (fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS) != 1)
        ing_http_tick(fixture->http, cmq_clock_mono_ns() + 20 * CMQ_NS_PER_S);
    client_say(other, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client_expect(other, 200, "CipherMQ");
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS_DROPPED), 1);
    client_hang_up(client);
    client_hang_up(other);
}

/* ---- the end ---- */

static void a_drain_finishes_what_is_in_hand(void **state)
{
    struct fixture *fixture = *state;
    struct client *waits = client_dial(fixture), *kept = client_dial(fixture);
    struct reply reply;
    client_ask(kept, "/input", "{\"content\":\"a\"}");
    client_expect(kept, 200, "1-0");
    fake_ring_set_room(fixture->ring, 0);
    client_ask(waits, "/input", "{\"content\":\"b\"}");
    fake_ring_await_refused(fixture->ring, 2);
    ing_http_quiesce(fixture->http);
    assert_false(ing_http_wait_closed(fixture->http, cmq_clock_mono_ns()));
    assert_false(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns()));
    fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
    client_read_reply(waits, &reply);
    assert_int_equal(reply.status, 200);
    assert_true(reply.close);
    client_expect_end(waits);
    /* A request on a connection that was open is still served, and its connection closed. */
    client_ask(kept, "/input", "{\"content\":\"c\"}");
    client_read_reply(kept, &reply);
    assert_int_equal(reply.status, 200);
    assert_true(reply.close);
    client_expect_end(kept);
    assert_true(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns() + LONG_NS));
    assert_true(ing_http_wait_closed(fixture->http, cmq_clock_mono_ns() + LONG_NS));
    assert_int_equal(fake_ring_records(fixture->ring), 3);
    client_hang_up(waits);
    client_hang_up(kept);
}

static void a_drain_takes_no_new_connections(void **state)
{
    struct fixture *fixture = *state;
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(ing_http_port(fixture->http)),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ing_http_quiesce(fixture->http);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), -1);
    (void)close(fd);
    assert_true(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns()));
}

static void who_still_waits_at_the_end_gets_503(void **state)
{
    struct fixture *fixture = *state;
    struct client *client[10];
    fake_ring_set_room(fixture->ring, 0);
    for (size_t i = 0; i < CMQ_COUNT_OF(client); i++) {
        client[i] = client_dial(fixture);
        client_ask(client[i], "/input", "{\"content\":\"m\"}");
    }
    fake_ring_await_counter(fixture->ring, CMQ_COUNT_BYTES_IN, 15 * CMQ_COUNT_OF(client));
    ing_http_quiesce(fixture->http);
    fixture_stop_waits(fixture);
    assert_true(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns() + LONG_NS));
    for (size_t i = 0; i < CMQ_COUNT_OF(client); i++) {
        client_expect(client[i], 503, "");
        client_hang_up(client[i]);
    }
    assert_int_equal(fake_ring_records(fixture->ring), 0);
}

static void stopping_in_the_middle_of_everything_is_safe(void **state)
{
    struct fixture *fixture = *state;
    struct client *body = client_dial(fixture), *head = client_dial(fixture), *waits = client_dial(fixture),
                  *quiet = client_dial(fixture);
    fake_ring_set_room(fixture->ring, 0);
    client_say(body, POST HOST JSON "Content-Length: 100\r\n\r\n{");
    client_say(head, "POST /input HT");
    client_ask(waits, "/input", "{\"content\":\"m\"}");
    fake_ring_await_refused(fixture->ring, 2);
    fake_ring_await_counter(fixture->ring, CMQ_COUNT_CLIENTS, 4);
    /* Without quiesce and without time for the replies, as after a fatal error. */
    fixture_stop_waits(fixture);
    ing_http_stop(fixture->http);
    fixture->http = NULL;
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS), 0);
    client_hang_up(body);
    client_hang_up(head);
    client_hang_up(waits);
    client_hang_up(quiet);
}

static void a_bad_address_is_refused_with_the_fix(void **state)
{
    (void)state;
    struct cmq_reason reason;
    struct ing_http *http;
    struct ing_http_setup setup = {.listen = "localhost.",
                                   .threads = 1,
                                   .connections_max = 4,
                                   .idle_s = 1,
                                   .body_rate_min = 1,
                                   .cors_origins = ""};
    const struct ing_http_parts parts = {.ring = fake_ring_new()};
    assert_int_equal(ing_http_start(&setup, &parts, &http, &reason), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "127.0.0.1"));
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(fd, 1), 0);
    setup.listen = "127.0.0.1";
    setup.port = ing_listen_port(fd);
    assert_int_equal(ing_http_start(&setup, &parts, &http, &reason), CMQ_ERR_EXISTS);
    assert_non_null(strstr(reason.text, "ingest.port"));
    (void)close(fd);
    setup.listen = "192.0.2.1";
    assert_int_equal(ing_http_start(&setup, &parts, &http, &reason), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "address of this machine"));
    fake_ring_free(parts.ring);
}

#define WITH(test)                                                  \
    cmocka_unit_test_setup_teardown(test, start_two, fixture_stop), \
        cmocka_unit_test_setup_teardown(test, start_one, fixture_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(root_answers_a_short_text),
        WITH(a_single_message_enters_as_one_record),
        WITH(a_batch_enters_as_one_record_in_order),
        WITH(an_empty_batch_is_accepted_and_enters_nothing),
        WITH(one_connection_carries_many_requests),
        WITH(pipelined_requests_are_answered_in_order),
        WITH(a_body_may_come_in_pieces),
        WITH(a_chunked_body_is_taken),
        WITH(a_client_that_asks_is_told_to_continue),
        WITH(a_large_body_is_taken_whole),
        WITH(wrong_requests_are_refused_and_the_connection_goes_on),
        WITH(smuggled_requests_are_refused_and_closed),
        WITH(a_length_that_is_no_number_is_refused_by_the_library),
        WITH(a_request_refused_by_its_head_is_answered_before_its_body),
        WITH(a_client_that_sends_on_still_gets_the_refusal),
        WITH(a_chunked_body_over_the_limit_is_refused_at_once),
        WITH(a_message_over_the_limit_is_refused),
        WITH(failures_of_the_ring_are_told_apart),
        WITH(a_request_waits_until_the_ring_has_room),
        WITH(waiting_again_and_again_on_one_connection),
        WITH(a_request_that_waited_too_long_gets_503),
        WITH(no_more_bytes_wait_than_allowed),
        WITH(a_client_that_goes_away_while_it_waits_costs_nothing),
        WITH(a_client_that_goes_away_within_its_body_leaves_nothing),
        WITH(a_request_that_comes_too_slowly_is_cut_off),
        WITH(a_reply_that_nobody_reads_ends_its_connection),
        WITH(a_drain_finishes_what_is_in_hand),
        WITH(a_drain_takes_no_new_connections),
        WITH(who_still_waits_at_the_end_gets_503),
        WITH(stopping_in_the_middle_of_everything_is_safe),
        cmocka_unit_test(a_bad_address_is_refused_with_the_fix),
    };
    return cmocka_run_group_tests_name("ing_http", tests, NULL, NULL);
}
