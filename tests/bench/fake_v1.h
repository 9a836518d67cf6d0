/*
 * fake_v1: a broker of the v1 protocol inside the test that can be told to break each of its promises.
 * Ownership: start/stop; threads, sockets and records belong to it.
 * Units: message numbers.
 * Errors: start aborts the test program when there are no sockets or threads.
 * Callers: the test's main thread.
 *
 * It keeps every record, and each connection has a thread with a cursor.
 */
#ifndef FAKE_V1_H
#define FAKE_V1_H

#include <stdbool.h>

enum fake_v1_fault {
    FAKE_V1_NONE,
    FAKE_V1_LOSE,         /* message `at` is not delivered */
    FAKE_V1_DUPLICATE,    /* message `at` is delivered twice, with the same id */
    FAKE_V1_REORDER,      /* message `at` changes places with the next one, ids too */
    FAKE_V1_CORRUPT,      /* message `at` has another content */
    FAKE_V1_SWAP_CONTENT, /* messages `at` and the next one have each other's content */
    FAKE_V1_SWAP_RECORDS, /* the record that begins with `at` comes after the next one */
    FAKE_V1_WRONG_RECORD, /* message `at` has the id of another record */
    FAKE_V1_ATTEMPT,      /* message `at` has attempt 2 */
    FAKE_V1_GAP,          /* the record that begins with `at` is not delivered, but announced as a gap */
    FAKE_V1_BROKEN,       /* the frame of the record that begins with `at` ends too early */
    FAKE_V1_CLOSE,        /* closed with 3002 instead of the record that begins with `at` */
    FAKE_V1_ERROR,        /* an error reply, then the record that begins with `at` */
    FAKE_V1_LEVEL,    /* the POST that begins with `at` is acknowledged as accepted, whatever was asked for */
    FAKE_V1_NO_ID,    /* its reply has no id */
    FAKE_V1_OTHER_ID, /* its reply names another record */
    FAKE_V1_FEWER_ACKS, /* the ack that covers `at` confirms one message less */
    FAKE_V1_STALE,      /* it says that one id is stale */
    FAKE_V1_REFUSE,     /* subscriptions are refused */
    FAKE_V1_PROTOCOL,   /* the handshake agrees on the other subprotocol */
    FAKE_V1_NOISY /* legal, but blanks, other members, another order of keys, fragments, pings, heartbeats */
};

struct fake_v1;

/* victim: which subscription is wronged, counted from 0. */
struct fake_v1 *fake_v1_start(enum fake_v1_fault fault, unsigned long at, unsigned victim);
unsigned fake_v1_http_port(const struct fake_v1 *fake);
unsigned fake_v1_ws_port(const struct fake_v1 *fake);
void fake_v1_stop(struct fake_v1 *fake);

#endif
