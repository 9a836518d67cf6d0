/*
 * dsp_client: one WebSocket connection of the root endpoint: what it gets, when it waits, when it is closed.
 * Ownership: struct dsp_client is the library's per-connection memory, valid from established to gone.
 * Units: bytes, nanoseconds of CLOCK_MONOTONIC.
 * Errors: the int results are the library's: 0 go on, -1 close the connection.
 * Callers: the delivery thread, from the library's callback.
 *
 * Clients are members of consumer group `default` of topic `default`; what their socket took whole is acked. There is no
 * queue: one frame at most is on its way through the library, and the next one is built when the socket can take it. A
 * client that has a frame on its way is closed when it makes no progress for write_timeout_ms.
 */
#ifndef DSP_CLIENT_H
#define DSP_CLIENT_H

#include <libwebsockets.h>

#include "common/auth/cmq_auth.h"
#include "dispatcher/dsp_frame.h"
#include "dispatcher/dsp_groups.h"
#include "dispatcher/dsp_ws_guard.h"

struct dsp_ws;
struct dsp_roll;

struct dsp_client {
    struct dsp_member member;
    struct dsp_client *next, *prev; /* all clients */
    struct lws *wsi;
    uint32_t flight_messages;
    size_t flight_bytes;
    uint64_t acked_bytes;
    uint64_t heard_ns;        /* when the peer last gave a sign of life */
    uint64_t progress_ns;     /* when it last took something, or when a frame was written */
    size_t received_bytes;    /* of the message that it is sending */
    uint64_t messages, bytes; /* delivered so far */
    struct dsp_guard guard;
    struct cmq_grant grant;
    int closing; /* code to close with when its socket takes something; 0: none */
    bool joined;
};

/* 0, or -1: the group cannot be joined now. */
int dsp_client_established(struct dsp_ws *ws, struct dsp_client *client, struct lws *wsi);
int dsp_client_writeable(struct dsp_ws *ws, struct dsp_client *client);
/* Part of a message came in. */
int dsp_client_received(struct dsp_ws *ws, struct dsp_client *client, size_t bytes);
/* The peer answered a ping, with so many bytes. */
void dsp_client_heard(struct dsp_client *client, size_t bytes);
/* Closes clients whose grant is over. */
void dsp_clients_recheck(struct dsp_ws *ws);
/* Closes clients that send too many control frames; once a second. */
void dsp_clients_look(struct dsp_ws *ws, uint64_t now_ns);
/* Puts all on the roll. */
void dsp_clients_tell(struct dsp_ws *ws, struct dsp_roll *roll);
void dsp_client_gone(struct dsp_ws *ws, struct dsp_client *client);

/* Group `default` has something for this member, which is a client's. */
void dsp_client_ready(struct dsp_member *member);

#endif
