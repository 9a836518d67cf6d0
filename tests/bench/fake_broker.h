/*
 * fake_broker: a broker inside the test that can be told to break each of its promises, to test cmq-bench itself.
 * Ownership: start/stop; threads, sockets and queued frames belong to it.
 * Units: message numbers.
 * Errors: start aborts the test program when there are no sockets or threads.
 * Callers: the test's main thread.
 */
#ifndef FAKE_BROKER_H
#define FAKE_BROKER_H

#include <stdbool.h>

enum fake_fault {
    FAKE_NONE,
    FAKE_LOSE,           /* message `at` is not delivered */
    FAKE_DUPLICATE,      /* message `at` is delivered twice */
    FAKE_LATE_DUPLICATE, /* the message at the start of the batch is delivered again, 100 ms later */
    FAKE_REORDER,        /* message `at` changes places with the next one of its batch */
    FAKE_CORRUPT,        /* message `at` has another content */
    FAKE_SPLIT,          /* another batch comes in the middle of the batch that begins with `at` */
    FAKE_SWAP,           /* the batch that begins with `at` comes after the next one */
    FAKE_NOT_JSON,       /* the batch that begins with `at` is no JSON */
    FAKE_BAD_FRAME,      /* the batch that begins with `at` is a masked frame */
    FAKE_HANG_UP,        /* the WebSocket is closed instead of delivering the batch that begins with `at` */
    FAKE_REFUSE_ONCE,    /* the batch that begins with `at` is refused once with 503 */
    FAKE_REFUSE,         /* the batch that begins with `at` is always refused with 503 */
    FAKE_RESET,  /* the batch that begins with `at` is delivered, but the connection breaks before the 200 */
    FAKE_LEVEL,  /* a POST that asks for durable and begins with `at` is told that it was accepted */
    FAKE_SILENT, /* the batch that begins with `at` is never answered */
    FAKE_CLOSE_EACH, /* every reply closes its connection */
    FAKE_NOISY       /* legal, but everything in pieces: fragments, pings, escapes, blanks, short writes */
};

struct fake_broker;

struct fake_broker *fake_broker_start(enum fake_fault fault, unsigned long at);
/* Puts a frame in the queue as if an earlier publisher had left it. */
void fake_broker_leave_frame(struct fake_broker *fake, const char *text);
/* From now on each request and each handshake must carry it as a bearer token. token: outlives the broker. */
void fake_broker_want_token(struct fake_broker *fake, const char *token);
unsigned fake_broker_http_port(const struct fake_broker *fake);
unsigned fake_broker_ws_port(const struct fake_broker *fake);
/* Pongs that carried the payload of the ping, masked. */
unsigned fake_broker_pongs(struct fake_broker *fake);
void fake_broker_stop(struct fake_broker *fake);

#endif
