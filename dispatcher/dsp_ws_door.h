/*
 * dsp_ws_door: who stands at the door of the WebSocket port: every connection from accept to its end, and what its request shows.
 * Ownership: a visitor belongs to its connection (the library's opaque pointer) from enter to leave.
 * Units: connections.
 * Errors: enter: NULL, counted and logged. check: the answer to send.
 * Callers: the delivery thread.
 */
#ifndef DSP_WS_DOOR_H
#define DSP_WS_DOOR_H

#include <libwebsockets.h>

#include "common/base/cmq_address.h"
#include "dispatcher/dsp_access.h"

struct dsp_ws;

struct dsp_visitor {
    struct cmq_address address;
    uint64_t since_ms;      /* when it came, in Unix time */
    struct cmq_grant grant; /* that the request showed, until an endpoint takes it */
    void *topic;            /* dsp_topics's connection; NULL: it is none */
};

/* A connection that was accepted. NULL: its address has enough (dispatcher.address_clients_max), close it. */
struct dsp_visitor *dsp_door_enter(struct dsp_ws *ws, const struct cmq_address *address);
/* Its end: at LWS_CALLBACK_WSI_DESTROY, or when the library did not take it. NULL is fine. */
void dsp_door_leave(struct dsp_ws *ws, struct dsp_visitor *visitor);
struct dsp_visitor *dsp_door_visitor(struct lws *wsi);

/* Whether the query of the request brings a token; of every request, whatever its path. */
bool dsp_door_has_token_in_url(struct lws *wsi);
/* What the request's headers show goes into its visitor's grant. NULL, or what to answer: counted and logged. A request that
 * shows nothing is nobody's; that is no fault here. */
const struct dsp_problem *dsp_door_identify(struct dsp_ws *ws, struct lws *wsi);
/* The same, and it must have the right. pattern: checked. */
const struct dsp_problem *dsp_door_check(struct dsp_ws *ws, struct lws *wsi, enum cmq_right right,
                                         struct cmq_span pattern);
/* After identify: NULL if the request showed who sent it (or nobody needs to), else what to answer. */
const struct dsp_problem *dsp_door_somebody(struct dsp_ws *ws, struct lws *wsi);
/* The grant becomes the caller's. */
struct cmq_grant dsp_door_take_grant(struct lws *wsi);
/* Whether a page of this origin may connect, or no page sent the request. */
bool dsp_door_origin_is_allowed(struct dsp_ws *ws, struct lws *wsi);

#endif
