/*
 * dsp_client: one WebSocket connection of the root endpoint: what it gets, when it waits, when it is closed.
 * Ownership: struct dsp_client is the library's per-connection memory, valid from established to gone.
 * Units: bytes, nanoseconds of CLOCK_MONOTONIC.
 * Errors: the int results are the library's: 0 go on, -1 close the connection.
 * Callers: the delivery thread, from the library's callback.
 *
 * A client has a cursor, not a queue: one frame at most is on its way through the library, and the next one
 * is built when the socket can take it. Clients whose sockets can take more, while there is nothing, stand in
 * a queue (idle). A client that isn't there is busy, and is closed when it makes no progress for
 * write_timeout_ms.
 */
#ifndef DSP_CLIENT_H
#define DSP_CLIENT_H

#include <libwebsockets.h>

#include "dispatcher/dsp_group.h"

struct dsp_ws;

struct dsp_client {
    struct dsp_consumer share;
    struct dsp_client *next, *prev;           /* all clients */
    struct dsp_client *idle_next, *idle_prev; /* those that can take more now */
    struct lws *wsi;
    uint64_t acked_bytes;
    uint64_t heard_ns;     /* when the peer last gave a sign of life */
    uint64_t progress_ns;  /* when it last took something, or when a frame was written */
    size_t received_bytes; /* of the message that it is sending */
    bool joined, idle;
};

struct dsp_client_list {
    struct dsp_client *head, *tail;
};

void dsp_client_established(struct dsp_ws *ws, struct dsp_client *client, struct lws *wsi);
int dsp_client_writeable(struct dsp_ws *ws, struct dsp_client *client);
/* Part of a message came in. */
int dsp_client_received(struct dsp_ws *ws, struct dsp_client *client, size_t bytes);
/* The peer gave a sign of life. */
void dsp_client_heard(struct dsp_client *client);
void dsp_client_gone(struct dsp_ws *ws, struct dsp_client *client);

/* Sees to it that somebody gets what there is, and that somebody waits for what comes. Call it whenever that
 * may have changed; it wakes one client at a time, in turn. */
void dsp_client_dispatch(struct dsp_ws *ws);

#endif
