/*
 * dsp_ws_v1: the connections of /v1/ws as the WebSocket library sees them: frames in and out, heartbeats, slow clients.
 * Ownership: new/free; a connection is the library's per-connection memory. Borrows everything in the setup.
 * Units: bytes, milliseconds, nanoseconds of CLOCK_MONOTONIC.
 * Errors: new: CMQ_ERR_NOMEM; later ones are told by setup.fail.
 * Callers: the delivery thread (new and free: while it does not run).
 *
 * At most one frame of a connection is on its way through the library; the next one is built when the kernel has that whole.
 * So a client that reads nothing costs one frame, and is closed when it takes nothing for write_timeout_ns.
 */
#ifndef DSP_WS_V1_H
#define DSP_WS_V1_H

#include <libwebsockets.h>

#include "dispatcher/dsp_session.h"
#include "dispatcher/dsp_ws_guard.h"

#define DSP_V1_JSON    "ciphermq.v1.json"
#define DSP_V1_MSGPACK "ciphermq.v1.msgpack"

struct dsp_v1;
struct dsp_roll;

struct dsp_v1_setup {
    struct cmq_ring *ring; /* for counters */
    struct dsp_source *source;
    struct dsp_encoder *encoder;
    struct dsp_groups *groups; /* NULL: there are none */
    struct dsp_access *access;
    struct dsp_text *frame; /* with LWS_PRE of headroom */
    struct dsp_session_settings session;
    struct dsp_guard_limits guard;
    uint64_t silence_ns, login_ms;
    /* A connection came or went; what is left of the process's life. */
    void (*joined)(void *context);
    void (*left)(void *context);
    void (*fail)(void *context, enum cmq_err err);
    /* Somebody waits for record seq: dsp_hub_stored is to be called when it is stored. */
    void (*follow)(void *context, uint64_t seq);
    void *context;
};
CMQ_MUST_USE enum cmq_err dsp_v1_new(const struct dsp_v1_setup *setup, struct dsp_v1 **ret_v1);
/* No connection may be left. NULL is fine. */
void dsp_v1_free(struct dsp_v1 *v1);

/* The library's descriptions of both subprotocols. */
void dsp_v1_protocols(struct dsp_v1 *v1, struct lws_protocols ret_protocols[2]);
void dsp_v1_set_limits(struct dsp_v1 *v1, const struct dsp_push_limits *limits, uint64_t write_timeout_ns);
struct dsp_hub *dsp_v1_hub(struct dsp_v1 *v1);
/* Closes connections whose grant is over. */
void dsp_v1_recheck(struct dsp_v1 *v1);
/* Closes connections that send too many control frames; once a second. */
void dsp_v1_look(struct dsp_v1 *v1, uint64_t now_ns);
/* Puts all connections on the roll. */
void dsp_v1_tell(struct dsp_v1 *v1, struct dsp_roll *roll);
/* As dsp_session_unread, of all connections. */
uint64_t dsp_v1_unread(const struct dsp_v1 *v1);
/* Every connection is closed when its frame is out and its acks are durable. */
void dsp_v1_drain(struct dsp_v1 *v1);

#endif
