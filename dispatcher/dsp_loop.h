/*
 * dsp_loop: the event loop of the delivery thread: libev's, on epoll, so that a socket that is idle costs nothing.
 * Ownership: the loop belongs to the caller; dsp_loop_free also ends the context of libwebsockets that runs in it.
 * Units: none.
 * Errors: CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM.
 * Callers: one thread at a time.
 *
 * libwebsockets by itself gives poll(2) all sockets, about three times a message. Its libev loop is a module
 * (libwebsockets-evlib-ev in Debian), and is given a loop of ours: then it leaves the signals alone, and can be left.
 * Not its libuv loop: as built by Debian 12 that one closes each connection twice, the second time without a close frame.
 */
#ifndef DSP_LOOP_H
#define DSP_LOOP_H

#include <libwebsockets.h>

#include "common/base/cmq_err.h"

struct dsp_loop;

CMQ_MUST_USE enum cmq_err dsp_loop_new(struct dsp_loop **ret_loop);
/* A context that is made with this info runs in the loop. */
void dsp_loop_prepare(struct dsp_loop *loop, struct lws_context_creation_info *info);
/* From here on the context's timers are looked at. */
void dsp_loop_begin(struct dsp_loop *loop, struct lws_context *context);
/* Waits until something happens, and answers it. */
void dsp_loop_turn(struct dsp_loop *loop);
/* Destroys the context, which ends all its connections, if there is one. NULL is fine. */
void dsp_loop_free(struct dsp_loop *loop, struct lws_context *context);

#endif
