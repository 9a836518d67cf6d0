/*
 * dsp_http: plain HTTP on the WebSocket port: the text at `/`, errors as problem+json (RFC 9457), and the decision
 *           about upgrades.
 * Ownership: nothing is kept.
 * Units: none.
 * Errors: none; what cannot be answered is closed.
 * Callers: the delivery thread, from the library's callback. The return values are the library's.
 */
#ifndef DSP_HTTP_H
#define DSP_HTTP_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stddef.h>

#include "dispatcher/dsp_problem.h"

struct dsp_ws;

/* LWS_CALLBACK_HTTP. -1: close the connection. */
int dsp_http_answer(struct dsp_ws *ws, struct lws *wsi, const char *path, size_t path_bytes);
/* NULL: the handshake is one of RFC 6455; the library looks at neither version nor key. Else what to answer. */
const struct dsp_problem *dsp_http_handshake_fault(struct lws *wsi);
/* LWS_CALLBACK_HTTP_CONFIRM_UPGRADE. 0: go on, 1: answered with an error, -1: close. busy_reason: NULL, or
 * why no client is taken now (a literal). */
int dsp_http_check_upgrade(struct dsp_ws *ws, struct lws *wsi, const char *busy_reason);
/* 0: answered, -1: close. */
extern const struct dsp_problem dsp_http_bad_origin;
int dsp_http_send_problem(struct lws *wsi, const struct dsp_problem *problem);

#endif
