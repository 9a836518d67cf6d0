/* What the endpoints /t/ and the dashboard borrow from the rest of the server. */
#include "dispatcher/dsp_http.h"
#include "dispatcher/dsp_topics.h"
#include "dispatcher/dsp_ws_board.h"
#include "dispatcher/dsp_ws_door.h"
#include "dispatcher/dsp_ws_int.h"

const char *dsp_ws_busy(const struct dsp_ws *ws)
{
    if (ws->draining)
        return "This instance is going away; connect again.";
    if (ws->client_count >= ws->clients_max)
        return "All client connections are in use (dispatcher.clients_max).";
    return NULL;
}

static const char *busy(void *context)
{
    return dsp_ws_busy(context);
}

static const struct dsp_problem *look_at(void *context, struct lws *wsi)
{
    if (dsp_door_has_token_in_url(wsi))
        return &dsp_access_token_in_url;
    return dsp_door_origin_is_allowed(context, wsi) ? NULL : &dsp_http_bad_origin;
}

static const struct dsp_problem *check(void *context, struct lws *wsi, struct cmq_span pattern)
{
    return dsp_door_check(context, wsi, CMQ_RIGHT_SUBSCRIBE, pattern);
}

static bool is_live(void *context, const struct cmq_grant *grant)
{
    return dsp_access_is_live(((struct dsp_ws *)context)->access, grant);
}

static void fail(void *context, enum cmq_err err)
{
    dsp_ws_fail(context, err);
}

static void follow(void *context, uint64_t seq)
{
    dsp_ws_follow(context, seq);
}

enum cmq_err dsp_ws_open_topics(struct dsp_ws *ws, const struct dsp_parts *parts)
{
    const struct cmq_conf *conf = &ws->proc->conf;
    const struct dsp_topics_setup setup = {.ring = parts->ring,
                                           .source = parts->source,
                                           .encoder = &ws->encoder,
                                           .frame = &ws->text,
                                           .heartbeat_ms = conf->dispatcher_ping_s * 1000,
                                           .retry_ms = conf->dispatcher_sse_retry_ms,
                                           .poll_wait_ms_max = conf->dispatcher_poll_wait_ms_max,
                                           .silence_ns = ws->silence_ns,
                                           .receive_bytes_max = ws->receive_bytes_max,
                                           .guard = ws->guard,
                                           .busy = busy,
                                           .look_at = look_at,
                                           .check = check,
                                           .is_live = is_live,
                                           .joined = dsp_ws_client_joined,
                                           .left = dsp_ws_client_left,
                                           .fail = fail,
                                           .follow = follow,
                                           .context = ws};
    return dsp_topics_new(&setup, &ws->topics);
}

enum cmq_err dsp_ws_open_board(struct dsp_ws *ws, const struct dsp_parts *parts)
{
    const struct dsp_board_setup setup = {.ws = ws,
                                          .ring = parts->ring,
                                          .letters = parts->letters,
                                          .run_dir = ws->proc->conf.common_run_dir,
                                          .links_max = (uint32_t)ws->proc->conf.agent_connections_max,
                                          .guard = ws->guard,
                                          .joined = dsp_ws_client_joined,
                                          .left = dsp_ws_client_left,
                                          .is_live = is_live,
                                          .context = ws};
    return dsp_board_new(&setup, &ws->board);
}
