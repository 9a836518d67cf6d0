/*
 * ctl_ws: a client of the broker's WebSocket (RFC 6455), as small as that can be: text messages, pings answered. libcurl 7.88 has
 * its own only as an experiment that Debian leaves out.
 * Ownership: heap memory; a message is the caller's buffer.
 * Units: bytes, nanoseconds of CLOCK_MONOTONIC.
 * Errors: CMQ_ERR_PERMISSION (the upgrade was refused), CMQ_ERR_LOST (closed), CMQ_ERR_TIMEOUT, CMQ_ERR_MALFORMED,
 *         CMQ_ERR_TOO_BIG, CMQ_ERR_SYSTEM; with a sentence, but for CMQ_ERR_TIMEOUT.
 * Callers: the only thread.
 */
#ifndef CTL_WS_H
#define CTL_WS_H

#include "common/base/cmq_buf.h"
#include "ctl.h"

struct ctl_ws;

/* Connects to the dispatcher's port. The token of --token-file goes along. */
CMQ_MUST_USE enum cmq_err ctl_ws_open(const struct ctl *ctl, const char *path, const char *subprotocol,
                                      struct ctl_ws **ret_ws, struct cmq_reason *reason);
/* Says goodbye, and does not wait for the answer. NULL is fine. */
void ctl_ws_close(struct ctl_ws *ws);
CMQ_MUST_USE enum cmq_err ctl_ws_send(struct ctl_ws *ws, struct cmq_span text, struct cmq_reason *reason);
/* The next whole message. */
CMQ_MUST_USE enum cmq_err ctl_ws_receive(struct ctl_ws *ws, uint64_t deadline_ns, struct cmq_buf *message,
                                         struct cmq_reason *reason);

#endif
