#include "dispatcher/dsp_loop.h"

#include <ev.h>
#include <stdlib.h>

/*
 * The library (4.1) looks at its timers when the loop is idle, which under load it never is, and when its own timer of the loop
 * ends, which it cannot bring forward. So one of its timers is always due this soon, and each is at most this late.
 */
#define TICK_MS 20u

struct dsp_loop {
    struct ev_loop *ev;
    void *foreign[1];
    struct lws_context *context; /* NULL: before dsp_loop_begin */
    lws_sorted_usec_list_t tick;
};

enum cmq_err dsp_loop_new(struct dsp_loop **ret_loop)
{
    struct dsp_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return CMQ_ERR_NOMEM;
    loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (loop->ev == NULL) {
        free(loop);
        return CMQ_ERR_SYSTEM;
    }
    loop->foreign[0] = loop->ev;
    *ret_loop = loop;
    return CMQ_OK;
}

void dsp_loop_prepare(struct dsp_loop *loop, struct lws_context_creation_info *info)
{
    info->options |= LWS_SERVER_OPTION_LIBEV;
    info->foreign_loops = loop->foreign;
}

static void on_tick(lws_sorted_usec_list_t *sul)
{
    struct dsp_loop *loop = lws_container_of(sul, struct dsp_loop, tick);
    lws_sul_schedule(loop->context, 0, &loop->tick, on_tick, (lws_usec_t)TICK_MS * LWS_US_PER_MS);
}

void dsp_loop_begin(struct dsp_loop *loop, struct lws_context *context)
{
    loop->context = context;
    on_tick(&loop->tick);
    lws_cancel_service(context); /* it begins to look after the first event */
}

void dsp_loop_turn(struct dsp_loop *loop)
{
    (void)ev_run(loop->ev, EVRUN_ONCE);
}

void dsp_loop_free(struct dsp_loop *loop, struct lws_context *context)
{
    if (loop == NULL)
        return;
    if (loop->context != NULL)
        lws_sul_schedule(loop->context, 0, &loop->tick, NULL, LWS_SET_TIMER_USEC_CANCEL);
    if (context != NULL)
        lws_context_destroy(context);
    ev_loop_destroy(loop->ev);
    free(loop);
}
