/*
 * dsp_ws_board: the dashboard: its files by plain HTTP, and /v1/status, which tells once a second how the broker does.
 * Ownership: new/free; a connection is the library's memory. Borrows everything in the setup.
 * Units: bytes; a look a second.
 * Errors: new: CMQ_ERR_NOMEM. Later ones are told by setup.fail. The int results are the library's: 0 go on, -1 close.
 * Callers: the delivery thread (new and free: while it does not run).
 *
 * One look serves all who watch; without watchers nobody looks. A watcher that takes nothing skips looks: none is kept for it.
 * Watchers may send {"test":"text"}: the text is published to ciphermq.canary, if their token may do that.
 * {"operate":{...}} of cmq_operation.h goes to the operator's agent, if their token has the right admin at that moment; what the
 * agent says comes as {"operation":{...}}.
 */
#ifndef DSP_WS_BOARD_H
#define DSP_WS_BOARD_H

#include <libwebsockets.h>

#include "common/auth/cmq_auth.h"
#include "common/base/cmq_err.h"
#include "common/shm/cmq_ring.h"
#include "dispatcher/dsp_ws_guard.h"

#define DSP_BOARD_PATH     "/v1/status"
#define DSP_BOARD_PROTOCOL "ciphermq.status.json"

struct dsp_board;
struct dsp_roll;
struct dsp_letters;
struct dsp_ws;

struct dsp_board_setup {
    struct dsp_ws *ws;
    struct cmq_ring *ring;
    struct dsp_letters *letters;
    const char *run_dir; /* where the agent's socket is; copied */
    uint32_t links_max;  /* to the agent */
    struct dsp_guard_limits guard;
    /* A connection came or went. */
    void (*joined)(void *context);
    void (*left)(void *context);
    bool (*is_live)(void *context, const struct cmq_grant *grant);
    void *context;
};
CMQ_MUST_USE enum cmq_err dsp_board_new(const struct dsp_board_setup *setup, struct dsp_board **ret_board);
/* No connection may be left. NULL is fine. */
void dsp_board_free(struct dsp_board *board);
void dsp_board_protocol(struct dsp_board *board, struct lws_protocols *ret_protocol);

/* LWS_CALLBACK_HTTP: whether the request is for a file of the dashboard or for /v1/status, and then the answer. */
bool dsp_board_answer(struct dsp_board *board, struct lws *wsi, const char *path, int *ret_result);
/* Whether an upgrade's subprotocols name the board's, and no other but a token's. */
bool dsp_board_is_named(struct lws *wsi);
/* NULL: who sent the request may watch, which everybody may who is somebody. Else what to answer. */
const struct dsp_problem *dsp_board_check(struct dsp_board *board, struct lws *wsi);
/* Puts all who watch on the roll. */
void dsp_board_tell(struct dsp_board *board, struct dsp_roll *roll);
/* Grants may have ended: whose did is closed. */
void dsp_board_recheck(struct dsp_board *board);
void dsp_board_drain(struct dsp_board *board);

#endif
