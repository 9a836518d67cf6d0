/*
 * dsp_ws_operate: the way from the dashboard to the operator's agent: a connection to its socket, for one request.
 * Ownership: a link is heap memory of its own; it ends itself when the agent closes, or after dsp_link_leave.
 * Units: bytes.
 * Errors: begin: what to tell, a literal that names the fix.
 * Callers: the delivery thread. Nothing here waits: connect(2) to a Unix socket does not, and the rest is the loop's.
 */
#ifndef DSP_WS_OPERATE_H
#define DSP_WS_OPERATE_H

#include <libwebsockets.h>

#include "common/wire/cmq_operation.h"

struct dsp_link;

struct dsp_link_setup {
    const char *run_dir; /* where the agent's socket is */
    struct lws_vhost *vhost;
    /* A line that the agent said, without its newline: not looked at. One of state "lost" is ours: the agent died. */
    void (*said)(void *context, struct cmq_span line);
    /* The link is gone. Not called after dsp_link_leave. */
    void (*ended)(void *context);
    void *context;
};
/* NULL: *ret_link is on its way. Else why not. Logs the operation. */
CMQ_MUST_USE const char *dsp_link_begin(const struct dsp_link_setup *setup,
                                        const struct cmq_operation *operation, struct dsp_link **ret_link);
/* Nobody wants to hear of it any more. The operation goes on. */
void dsp_link_leave(struct dsp_link *link);
void dsp_link_protocol(struct lws_protocols *ret_protocol);

#endif
