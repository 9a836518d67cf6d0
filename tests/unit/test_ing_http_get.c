/* What is not a message: health, readiness, the document, OPTIONS and pages of other origins; limits of connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/base/cmq_clock.h"
#include "ingest/ing_watch.h"
#include "tests/support/http_fixture.h"

static int start(void **state)
{
    return fixture_start(state, 2, ING_ACK_ACCEPTED, true);
}

static struct reply asked(struct client *client, const char *method, const char *path, const char *headers)
{
    char text[2048];
    struct reply reply;
    (void)snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n", method, path, headers);
    client_say(client, text);
    client_read_reply(client, &reply);
    return reply;
}

/* What only the tick looks at, every 250 ms. */
static void tick(struct fixture *fixture)
{
    for (unsigned i = 0; i < 250 / ING_WATCH_TICK_MS; i++)
        ing_http_tick(fixture->http, cmq_clock_mono_ns());
}

static void health_is_ok_whatever_the_log_does(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_FAILED);
    fake_ring_set_members(fixture->ring, false, true);
    tick(fixture);
    struct reply reply = asked(client, "GET", "/healthz", "");
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "{\"status\":\"ok\"}");
    client_hang_up(client);
}

static void expect_not_ready(struct client *client, const char *why)
{
    struct reply reply = asked(client, "GET", "/readyz", "");
    assert_int_equal(reply.status, 503);
    assert_non_null(strstr(reply.body, "/problems/not-ready"));
    assert_non_null(strstr(reply.head, "Retry-After: 1\r\n"));
    if (strstr(reply.body, why) == NULL)
        fail_msg("%s", reply.body);
}

static void ready_names_what_is_missing(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    struct reply reply = asked(client, "GET", "/readyz", "");
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "{\"status\":\"ready\"}");
    fake_ring_set_members(fixture->ring, false, false);
    tick(fixture);
    expect_not_ready(client, "No encryptor is alive");
    fake_ring_set_members(fixture->ring, true, false);
    tick(fixture);
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_NONE);
    expect_not_ready(client, "opened the log");
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_FULL);
    expect_not_ready(client, "full");
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_FAILED);
    expect_not_ready(client, "cannot be written");
    fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_OK);
    fake_ring_set_members(fixture->ring, true, true);
    expect_not_ready(client, "going down");
    fake_ring_set_members(fixture->ring, true, false);
    assert_int_equal(asked(client, "GET", "/readyz", "").status, 200);
    client_hang_up(client);
}

static void the_document_and_the_metrics_are_served(void **state)
{
    struct client *client = client_dial(*state);
    client_say(client, "GET /v1/openapi.json HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    while (client_hear(client)) {
    }
    assert_non_null(strstr(client->text, "HTTP/1.1 200"));
    assert_non_null(strstr(client->text, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(client->text, "\"openapi\""));
    client_hang_up(client);
    client = client_dial(*state);
    assert_string_equal(asked(client, "GET", "/metrics", "").body, "cmq_test 1\n");
    client_hang_up(client);
}

static void head_has_the_headers_of_get_and_no_body(void **state)
{
    static const char *const paths[] = {"/", "/healthz", "/readyz", "/metrics", "/v1/openapi.json"};
    for (size_t i = 0; i < CMQ_COUNT_OF(paths); i++) {
        struct client *client = client_dial(*state);
        char text[200];
        (void)snprintf(text, sizeof text, "HEAD %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                       paths[i]);
        client_say(client, text);
        while (client_hear(client)) {
        }
        assert_non_null(strstr(client->text, "HTTP/1.1 200"));
        assert_non_null(strstr(client->text, "Content-Length: "));
        assert_int_equal(strlen(strstr(client->text, "\r\n\r\n")), 4);
        client_hang_up(client);
    }
}

static void options_names_the_methods(void **state)
{
    struct client *client = client_dial(*state);
    struct reply reply = asked(client, "OPTIONS", "/v1/topics/a", "");
    assert_int_equal(reply.status, 204);
    assert_non_null(strstr(reply.head, "Allow: POST, OPTIONS\r\n"));
    assert_null(strstr(reply.head, "Access-Control"));
    reply = asked(client, "OPTIONS", "*", "");
    assert_non_null(strstr(reply.head, "Allow: GET, HEAD, POST, OPTIONS\r\n"));
    client_hang_up(client);
}

static void a_preflight_of_an_allowed_origin_is_answered(void **state)
{
    struct client *client = client_dial(*state);
    struct reply reply = asked(client, "OPTIONS", "/v1/topics/a",
                               "Origin: https://b.example:8443\r\nAccess-Control-Request-Method: POST\r\n"
                               "Access-Control-Request-Headers: authorization, cmq-ttl\r\n");
    assert_int_equal(reply.status, 204);
    assert_non_null(strstr(reply.head, "Access-Control-Allow-Origin: https://b.example:8443\r\n"));
    assert_non_null(strstr(reply.head, "Access-Control-Allow-Methods: POST, OPTIONS\r\n"));
    assert_non_null(strstr(reply.head, "Access-Control-Allow-Headers: authorization, cmq-ttl\r\n"));
    assert_non_null(strstr(reply.head, "Access-Control-Max-Age: 600\r\n"));
    assert_non_null(strstr(reply.head, "Vary: Origin\r\n"));
    reply = asked(client, "OPTIONS", "/v1/topics/a",
                  "Origin: https://b.example\r\nAccess-Control-Request-Method: POST\r\n");
    assert_int_equal(reply.status, 204);
    assert_null(strstr(reply.head, "Access-Control"));
    client_hang_up(client);
}

static void pages_of_allowed_origins_see_replies_and_refusals(void **state)
{
    struct client *client = client_dial(*state);
    const char *const origin = "Origin: https://a.example\r\n";
    assert_non_null(strstr(asked(client, "GET", "/healthz", origin).head,
                           "Access-Control-Allow-Origin: https://a.example\r\n"));
    assert_non_null(strstr(asked(client, "GET", "/nowhere", origin).head, "Access-Control-Allow-Origin: "));
    client_say(client, "POST /v1/topics/a HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n"
                       "Content-Encoding: br\r\nContent-Length: 5\r\n\r\n");
    struct reply reply;
    client_read_reply(client, &reply); /* past the library */
    assert_int_equal(reply.status, 415);
    assert_non_null(strstr(reply.head, "Access-Control-Allow-Origin: https://a.example\r\n"));
    client_hang_up(client);
}

static void too_many_headers_are_431_and_the_end(void **state)
{
    struct client *client = client_dial(*state);
    char text[4096] = "GET / HTTP/1.1\r\nHost: h\r\n";
    for (int i = 0; i < 60; i++)
        (void)stpcpy(text + strlen(text), "X: y\r\n");
    (void)stpcpy(text + strlen(text), "\r\n");
    client_say(client, text);
    client_expect(client, 431, "/problems/too-many-headers");
    client_expect_end(client);
    client_hang_up(client);
}

static void an_address_has_only_so_many_connections(void **state)
{
    struct fixture *fixture = *state;
    struct client *clients[ADDRESS_CONNECTIONS_MAX];
    for (size_t i = 0; i < CMQ_COUNT_OF(clients); i++)
        clients[i] = client_dial(fixture);
    fake_ring_await_counter(fixture->ring, CMQ_COUNT_CLIENTS, ADDRESS_CONNECTIONS_MAX);
    struct client *refused = client_dial(fixture);
    client_expect_end(refused);
    client_hang_up(refused);
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REFUSED_ADDRESS), 1);
    client_hang_up(clients[0]);
    while (fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS) != ADDRESS_CONNECTIONS_MAX - 1)
        tick(fixture); /* the library may have missed the end of it */
    clients[0] = client_dial(fixture);
    assert_int_equal(asked(clients[0], "GET", "/", "").status, 200);
    for (size_t i = 0; i < CMQ_COUNT_OF(clients); i++)
        client_hang_up(clients[i]);
}

static void connections_over_the_limit_are_closed_and_the_port_goes_on(void **state)
{
    struct fixture *fixture = *state;
    struct client *clients[2 * ADDRESS_CONNECTIONS_MAX];
    for (unsigned round = 0; round < 20; round++) {
        for (size_t i = 0; i < CMQ_COUNT_OF(clients); i++)
            clients[i] = client_dial_from(fixture, INADDR_LOOPBACK + (uint32_t)(i / ADDRESS_CONNECTIONS_MAX));
        fake_ring_await_counter(fixture->ring, CMQ_COUNT_REFUSED_ADDRESS,
                                (round + 1) * (CMQ_COUNT_OF(clients) - CONNECTIONS_MAX));
        fake_ring_await_counter(fixture->ring, CMQ_COUNT_CLIENTS, CONNECTIONS_MAX);
        for (size_t i = 0; i < CMQ_COUNT_OF(clients); i++)
            client_hang_up(clients[i]);
        while (fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS) != 0)
            tick(fixture);
    }
    /* All workers answer. */
    for (size_t i = 0; i < 8; i++) {
        clients[i] = client_dial(fixture);
        assert_int_equal(asked(clients[i], "GET", "/", "").status, 200);
    }
    for (size_t i = 0; i < 8; i++)
        client_hang_up(clients[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define GET_TEST(name) cmocka_unit_test_setup_teardown(name, start, fixture_stop)
        GET_TEST(health_is_ok_whatever_the_log_does),
        GET_TEST(ready_names_what_is_missing),
        GET_TEST(the_document_and_the_metrics_are_served),
        GET_TEST(head_has_the_headers_of_get_and_no_body),
        GET_TEST(options_names_the_methods),
        GET_TEST(a_preflight_of_an_allowed_origin_is_answered),
        GET_TEST(pages_of_allowed_origins_see_replies_and_refusals),
        GET_TEST(too_many_headers_are_431_and_the_end),
        GET_TEST(an_address_has_only_so_many_connections),
        GET_TEST(connections_over_the_limit_are_closed_and_the_port_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
