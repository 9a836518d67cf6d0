/*
 * http_fixture: the HTTP port of ingest over a fake ring, and a client on a raw socket.
 * Ownership: start fills *state, stop frees it; a client is heap memory until hang_up.
 * Units: bytes, milliseconds.
 * Errors: cmocka failures of the running test.
 * Callers: unit tests, one thread.
 */
#ifndef HTTP_FIXTURE_H
#define HTTP_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/cmq_clock.h"
#include "ingest/ing_http.h"
#include "tests/support/fake_ring.h"

enum {
    CONNECTIONS_MAX = 64,
    ADDRESS_CONNECTIONS_MAX = 48,
    STREAM_RECORD_BYTES = 4096,
    STREAM_ERRORS_MAX = 3
};
enum { REQUEST_BYTES_MAX = 1 << 20, MESSAGE_BYTES_MAX = 1000, WAITING_BYTES_MAX = 1 << 16, LONG_MS = 60000 };
#define LONG_NS (LONG_MS * CMQ_NS_PER_MS)

struct fixture {
    struct cmq_ring *ring;
    struct ing_admit *admit;
    struct ing_durable *durable;
    struct cmq_auth *auth;
    struct ing_http *http;
    bool stopped;
};

struct client {
    int fd;
    size_t bytes; /* received and not yet consumed */
    char text[65536];
};

struct reply {
    int status;
    bool close;
    char head[4096];
    char body[65536];
};

int fixture_start(void **state, unsigned threads, enum ing_ack ack, bool can_be_durable);
/* For cmocka's teardown. A client that hangs must not hang the test: every stop is also a test that nothing is left. */
int fixture_stop(void **state);
void fixture_stop_waits(struct fixture *fixture);
/* Record `index` holds exactly these messages. */
void fixture_expect_record(struct fixture *fixture, size_t index, const char *const *want, uint32_t count);

struct client *client_dial(struct fixture *fixture);
/* From another address of loopback. */
struct client *client_dial_from(struct fixture *fixture, uint32_t source);
void client_hang_up(struct client *client);
bool client_put(struct client *client, const void *data, size_t bytes);
void client_say(struct client *client, const char *text);
/* Receives more; false at the end of the stream. A time-out fails the test. */
bool client_hear(struct client *client);
void client_consume(struct client *client, size_t bytes);
void client_read_reply(struct client *client, struct reply *ret_reply);
void client_expect_end(struct client *client);
/* POSTs a JSON body. */
void client_ask(struct client *client, const char *path, const char *body);
/* The next reply has the status, and its body has the text somewhere. */
void client_expect(struct client *client, int status, const char *body);

#endif
