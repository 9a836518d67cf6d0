#include "tests/support/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/wire/cmq_batch.h"

/* ---- the port under test ---- */

static enum cmq_err write_metrics(struct cmq_ring *ring, struct cmq_buf *text)
{
    (void)ring;
    return cmq_buf_append(text, "cmq_test 1\n", 11);
}

int fixture_start(void **state, unsigned threads, enum ing_ack ack, bool can_be_durable)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (fixture == NULL)
        return -1;
    *state = fixture;
    const struct ing_admit_limits limits = {.wait_ms = LONG_MS, .waiting_bytes_max = WAITING_BYTES_MAX};
    const struct ing_http_setup setup = {
        .listen = "127.0.0.1",
        .threads = threads,
        .connections_max = CONNECTIONS_MAX,
        .idle_s = 60,
        .request_bytes_max = REQUEST_BYTES_MAX,
        .receive_bytes_max = 64u << 20,
        .head_ms = 10000,
        .body_rate_min = 65536,
        .message_limits = {.message_bytes_max = MESSAGE_BYTES_MAX,
                           .messages_max = 20000,
                           .headers_bytes_max = 400,
                           .ttl_ms_max = 3600000},
        .head_limits = {.headers_max = 40, .meta_bytes_max = 400, .ttl_ms_max = 3600000, .gzip = true},
        .gzip_ratio_max = 50,
        .stream_record_bytes = STREAM_RECORD_BYTES,
        .stream_errors_max = STREAM_ERRORS_MAX,
        .address_connections_max = ADDRESS_CONNECTIONS_MAX,
        .cors_origins = "https://a.example https://b.example:8443",
        .metrics = write_metrics,
        .metrics_type = "text/plain",
        .ack = ack,
        .can_be_durable = can_be_durable,
    };
    fixture->ring = fake_ring_new();
    struct cmq_reason reason;
    if (ing_admit_start(fixture->ring, &limits, &fixture->admit) != CMQ_OK)
        return -1;
    if (ing_durable_start(fixture->ring, LONG_MS, &fixture->durable) != CMQ_OK)
        return -1;
    if (cmq_auth_new("", 20, &fixture->auth, &reason) != CMQ_OK)
        return -1;
    const struct ing_http_parts parts = {
        .ring = fixture->ring, .admit = fixture->admit, .durable = fixture->durable, .auth = fixture->auth};
    return ing_http_start(&setup, &parts, &fixture->http, &reason) == CMQ_OK ? 0 : -1;
}

void fixture_stop_waits(struct fixture *fixture)
{
    ing_admit_stop(fixture->admit);
    ing_durable_stop(fixture->durable);
    fixture->stopped = true;
}

/* A client that hangs must not hang the test: every stop is also a test that nothing is left. */
int fixture_stop(void **state)
{
    struct fixture *fixture = *state;
    if (!fixture->stopped)
        fixture_stop_waits(fixture);
    ing_http_stop(fixture->http);
    cmq_auth_free(fixture->auth);
    ing_durable_free(fixture->durable);
    ing_admit_free(fixture->admit);
    uint64_t clients = fake_ring_counter(fixture->ring, CMQ_COUNT_CLIENTS);
    fake_ring_free(fixture->ring);
    free(fixture);
    return clients == 0 ? 0 : -1;
}

/* ---- a client on a raw socket ---- */

struct client *client_dial(struct fixture *fixture)
{
    return client_dial_from(fixture, INADDR_LOOPBACK);
}

struct client *client_dial_from(struct fixture *fixture, uint32_t source)
{
    const struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    struct client *client = calloc(1, sizeof *client);
    assert_non_null(client);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(ing_http_port(fixture->http)),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {.tv_sec = 30};
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->fd >= 0);
    assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(bind(client->fd, (const struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(connect(client->fd, (const struct sockaddr *)&address, sizeof address), 0);
    return client;
}

void client_hang_up(struct client *client)
{
    (void)close(client->fd);
    free(client);
}

bool client_put(struct client *client, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes != 0) {
        ssize_t sent = send(client->fd, at, bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        bytes -= (size_t)sent;
    }
    return true;
}

void client_say(struct client *client, const char *text)
{
    assert_true(client_put(client, text, strlen(text)));
}

/* Receives more; false at the end of the stream. A time-out fails the test. */
bool client_hear(struct client *client)
{
    assert_true(client->bytes + 1 < sizeof client->text);
    ssize_t got = recv(client->fd, client->text + client->bytes, sizeof client->text - 1 - client->bytes, 0);
    if (got < 0)
        fail_msg("no answer");
    client->bytes += (size_t)got;
    client->text[client->bytes] = '\0';
    return got != 0;
}

void client_consume(struct client *client, size_t bytes)
{
    client->bytes -= bytes;
    memmove(client->text, client->text + bytes, client->bytes + 1);
}

void client_read_reply(struct client *client, struct reply *ret_reply)
{
    const char *end;
    while ((end = strstr(client->text, "\r\n\r\n")) == NULL)
        if (!client_hear(client))
            fail_msg("closed without an answer: \"%s\"", client->text);
    size_t head_bytes = (size_t)(end + 4 - client->text);
    assert_true(head_bytes < sizeof ret_reply->head);
    memcpy(ret_reply->head, client->text, head_bytes);
    ret_reply->head[head_bytes] = '\0';
    client_consume(client, head_bytes);
    assert_int_equal(sscanf(ret_reply->head, "HTTP/1.%*c %d", &ret_reply->status), 1);
    ret_reply->close = strstr(ret_reply->head, "Connection: close") != NULL;
    const char *length = strstr(ret_reply->head, "Content-Length: ");
    size_t bytes = length == NULL ? 0 : (size_t)strtoul(length + 16, NULL, 10);
    assert_true(bytes < sizeof ret_reply->body);
    while (client->bytes < bytes)
        assert_true(client_hear(client));
    memcpy(ret_reply->body, client->text, bytes);
    ret_reply->body[bytes] = '\0';
    client_consume(client, bytes);
}

void client_expect_end(struct client *client)
{
    while (client_hear(client)) {
    }
    if (client->bytes != 0)
        fail_msg("unexpected: %s", client->text);
}

void client_ask(struct client *client, const char *path, const char *body)
{
    char text[4096];
    (void)snprintf(
        text, sizeof text,
        "POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        path, strlen(body), body);
    client_say(client, text);
}

void client_expect(struct client *client, int status, const char *body)
{
    struct reply reply;
    client_read_reply(client, &reply);
    if (reply.status != status || strstr(reply.body, body) == NULL)
        fail_msg("want %d %s, got %d %s", status, body, reply.status, reply.body);
}

/* Record `index` holds exactly these messages. */
void fixture_expect_record(struct fixture *fixture, size_t index, const char *const *want, uint32_t count)
{
    uint32_t messages = 0;
    struct cmq_span record = fake_ring_record(fixture->ring, index, &messages);
    struct cmq_mp_reader units, reader;
    struct cmq_plain_head head;
    struct cmq_plain_unit unit;
    assert_int_equal(cmq_plain_decode(record, &units, &head), CMQ_OK);
    assert_int_equal(cmq_plain_next(&units, &unit), CMQ_OK);
    assert_int_equal(messages, count);
    assert_int_equal(unit.count, count);
    cmq_mp_reader_init(&reader, unit.messages);
    for (uint32_t i = 0; i < count; i++) {
        struct cmq_message message;
        assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
        assert_int_equal(message.body.bytes, strlen(want[i]));
        assert_memory_equal(message.body.data, want[i], message.body.bytes);
    }
    assert_int_equal(cmq_mp_left(&reader), 0);
}
