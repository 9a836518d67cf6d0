#include "dispatcher/dsp_ws.h"

#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "dispatcher/dsp_http.h"
#include "dispatcher/dsp_loop.h"
#include "dispatcher/dsp_sock.h"
#include "dispatcher/dsp_topics.h"
#include "dispatcher/dsp_ws_board.h"
#include "dispatcher/dsp_ws_door.h"
#include "dispatcher/dsp_ws_int.h"
#include "dispatcher/dsp_ws_operate.h"

enum {
    RX_BYTES = 1024,      /* a client; what clients send is ignored on this endpoint */
    TX_BYTES = 1 << 30,   /* never cut a frame: the library would copy the rest */
    SERVICE_BYTES = 4096, /* the library's buffer for reading */
    HEADER_BYTES = 4096,  /* request head */
    HTTP_S = 10,          /* to send a request, and between requests */
    FDS_SPARE = 64,       /* beside clients: listener, ring, log, connections about to be refused */
    ACCEPTS_MAX = 64,     /* in one go */
    DRAIN_STEP_MS = 50    /* how often a drain looks for the second signal */
};

#define LISTENER_PROTOCOL "cmq-listener"

/* ---- asking the delivery thread ---- */

void dsp_ws_ask(struct dsp_ws *ws, unsigned what)
{
    /* Release: pairs with the exchange in on_asked; what was written before is visible there. */
    atomic_fetch_or_explicit(&ws->asks, what, memory_order_release);
    lws_cancel_service(ws->context);
}

void dsp_ws_follow(struct dsp_ws *ws, uint64_t seq)
{
    if (ws->following)
        return;
    ws->following = true;
    dsp_waiter_arm(&ws->waiter, seq);
}

/* In the waiter's thread. */
static void on_ring(void *context)
{
    dsp_ws_ask(context, DSP_ASK_RANG);
}

void dsp_ws_fail(struct dsp_ws *ws, enum cmq_err err)
{
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "where=delivery err=\"%s\"", cmq_err_text(err));
    cmq_proc_fail(ws->proc, err == CMQ_ERR_CORRUPT ? CMQ_EXIT_INVARIANT : CMQ_EXIT_TEMPORARY);
}

void dsp_ws_check_drained(struct dsp_ws *ws)
{
    if (ws->client_count > 0 || dsp_groups_letters(ws->groups))
        return;
    pthread_mutex_lock(&ws->lock);
    ws->drained = true;
    pthread_cond_signal(&ws->changed);
    pthread_mutex_unlock(&ws->lock);
}

/* New connections go to other instances from here on; each client is closed when its frame is out. */
static void begin_drain(struct dsp_ws *ws)
{
    ws->draining = true;
    if (ws->listener != NULL)
        lws_set_timeout(ws->listener, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    dsp_groups_drain(ws->groups);
    dsp_v1_drain(ws->v1);
    dsp_topics_drain(ws->topics);
    dsp_board_drain(ws->board);
    for (struct dsp_client *client = ws->clients; client != NULL; client = client->next)
        lws_callback_on_writable(client->wsi);
    dsp_ws_check_drained(ws);
}

static void take_settings(struct dsp_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    struct dsp_settings settings = ws->settings;
    pthread_mutex_unlock(&ws->lock);
    ws->write_timeout_ns = settings.write_timeout_ms * CMQ_NS_PER_MS;
    dsp_frame_set_limits(&ws->frame, settings.frame_bytes_max, settings.frame_messages_max);
    const struct dsp_push_limits limits = {.frame_bytes_max = settings.frame_bytes_max,
                                           .frame_messages_max = settings.frame_messages_max};
    dsp_v1_set_limits(ws->v1, &limits, ws->write_timeout_ns);
    dsp_topics_set_limits(ws->topics, &limits, ws->write_timeout_ns);
}

static void on_asked(struct dsp_ws *ws)
{
    /* Acquire: pairs with ask. */
    unsigned asks = atomic_exchange_explicit(&ws->asks, 0, memory_order_acquire);
    if (asks & DSP_ASK_RELOAD)
        take_settings(ws);
    if ((asks & DSP_ASK_DRAIN) && !ws->draining)
        begin_drain(ws);
    if (asks & DSP_ASK_STOP)
        ws->stopped = true;
    if (asks & DSP_ASK_RANG) {
        const uint64_t stored = dsp_source_stored(ws->source);
        ws->following = false;
        struct dsp_hub *hub = dsp_v1_hub(ws->v1);
        dsp_hub_stored(hub);
        dsp_topics_stored(ws->topics);
        dsp_groups_poke(ws->groups);
        if (hub->follow != UINT64_MAX)
            dsp_ws_follow(ws, hub->follow);
        /* Who found nothing while the waiter was on its way relied on it: it goes again. */
        if (ws->clients != NULL)
            dsp_ws_follow(ws, stored);
    }
    if (asks & DSP_ASK_DURABLE)
        dsp_hub_durable(dsp_v1_hub(ws->v1));
    if (asks & DSP_ASK_RECHECK) {
        dsp_access_renew(ws->access);
        dsp_ws_recheck_all(ws);
    }
}

/* ---- the library's callbacks ---- */

static void adopt(struct dsp_ws *ws, int fd, const struct cmq_address *address)
{
    struct dsp_visitor *visitor = dsp_door_enter(ws, address);
    if (visitor == NULL) {
        close(fd);
        return;
    }
    struct lws *wsi = lws_adopt_socket_vhost(ws->vhost, fd); /* closes it when it fails */
    if (wsi == NULL)
        dsp_door_leave(ws, visitor);
    else
        lws_set_opaque_user_data(wsi, visitor);
}

static void accept_some(struct dsp_ws *ws, int listen_fd)
{
    for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
        int fd = -1;
        struct cmq_address address;
        switch (dsp_sock_accept(listen_fd, &fd, &address)) {
        case DSP_ACCEPT_OK:
            adopt(ws, fd, &address);
            break;
        case DSP_ACCEPT_NONE:
            return;
        case DSP_ACCEPT_AGAIN:
            break;
        case DSP_ACCEPT_NO_FDS:
            /* Left in the queue it would wake this thread again and again. */
            dsp_sock_refuse(listen_fd, &ws->spare_fd);
            cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "reason=descriptors");
            return;
        }
    }
}

static int listener_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                             size_t bytes)
{
    (void)user;
    (void)in;
    (void)bytes;
    struct dsp_ws *ws = lws_context_user(lws_get_context(wsi));
    if (reason == LWS_CALLBACK_RAW_RX_FILE)
        accept_some(ws, lws_get_socket_fd(wsi));
    else if (reason == LWS_CALLBACK_RAW_CLOSE_FILE)
        ws->listener = NULL;
    return 0;
}

static int on_upgrade(struct dsp_ws *ws, struct lws *wsi, const char *protocol)
{
    if (protocol == NULL || strcasecmp(protocol, "websocket") != 0)
        return -1;
    const struct dsp_problem *fault = dsp_http_handshake_fault(wsi);
    if (fault != NULL)
        return dsp_http_send_problem(wsi, fault) == 0 ? 1 : -1;
    return dsp_topics_is_path(wsi) ? dsp_topics_check_upgrade(ws->topics, wsi)
                                   : dsp_http_check_upgrade(ws, wsi, dsp_ws_busy(ws));
}

/* Whether a connection of the root protocol is one of /t/. */
static bool is_topic(struct lws *wsi, enum lws_callback_reasons reason)
{
    const struct dsp_visitor *visitor = dsp_door_visitor(wsi);
    if (reason == LWS_CALLBACK_ESTABLISHED)
        return dsp_topics_is_path(wsi);
    return visitor != NULL && visitor->topic != NULL;
}

static int root_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                         size_t bytes)
{
    struct dsp_ws *ws = lws_context_user(lws_get_context(wsi));
    int result = is_topic(wsi, reason) ? dsp_topics_callback(ws->topics, wsi, reason, bytes) : -2;
    if (result != -2 && reason != LWS_CALLBACK_WSI_DESTROY)
        return result;
    switch ((int)reason) { /* int: the library's list is long and grows */
    case LWS_CALLBACK_HTTP:
        return dsp_topics_is_path(wsi) ? dsp_topics_answer(ws->topics, wsi)
                                       : dsp_http_answer(ws, wsi, in, bytes);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(ws, wsi, in);
    case LWS_CALLBACK_ESTABLISHED:
        dsp_ws_start_timers(ws);
        return dsp_client_established(ws, user, wsi);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return dsp_guard_is_closing(wsi) ? 0 : dsp_client_writeable(ws, user);
    case LWS_CALLBACK_TIMER: /* the close was not answered */
        return -1;
    case LWS_CALLBACK_RECEIVE:
        return dsp_client_received(ws, user, bytes);
    case LWS_CALLBACK_RECEIVE_PONG:
        dsp_client_heard(user, bytes);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        dsp_guard_peer_closed(&((struct dsp_client *)user)->guard);
        return 0;
    case LWS_CALLBACK_CLOSED:
        dsp_client_gone(ws, user);
        return 0;
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
        return dsp_tls_limit(ws->tls, user);
    case LWS_CALLBACK_WSI_DESTROY: /* of every connection, whatever it was */
        dsp_door_leave(ws, dsp_door_visitor(wsi));
        lws_set_opaque_user_data(wsi, NULL);
        return 0;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        on_asked(ws);
        return 0;
    default:
        return 0;
    }
}

/* ---- connections of /v1/ws ---- */

void dsp_ws_client_joined(void *context)
{
    struct dsp_ws *ws = context;
    ws->client_count++;
    dsp_ws_start_timers(ws);
    cmq_ring_count(ws->ring, CMQ_COUNT_CLIENTS_TOTAL, 1);
    cmq_ring_gauge(ws->ring, CMQ_COUNT_CLIENTS, ws->client_count);
}

void dsp_ws_client_left(void *context)
{
    struct dsp_ws *ws = context;
    ws->client_count--;
    cmq_ring_gauge(ws->ring, CMQ_COUNT_CLIENTS, ws->client_count);
    if (ws->draining)
        dsp_ws_check_drained(ws);
}

static void v1_fail(void *context, enum cmq_err err)
{
    dsp_ws_fail(context, err);
}

static void v1_follow(void *context, uint64_t seq)
{
    dsp_ws_follow(context, seq);
}

static enum cmq_err open_v1(struct dsp_ws *ws, const struct dsp_parts *parts)
{
    const struct cmq_conf *conf = &ws->proc->conf;
    const struct dsp_v1_setup setup = {
        .ring = parts->ring,
        .source = parts->source,
        .encoder = &ws->encoder,
        .groups = ws->groups,
        .access = ws->access,
        .guard = ws->guard,
        .login_ms = conf->dispatcher_login_ms,
        .frame = &ws->text,
        .session = {.heartbeat_ms = conf->dispatcher_ping_s * 1000,
                    .receive_bytes_max = conf->dispatcher_receive_bytes_max,
                    .ack_wait_ms = conf->dispatcher_ack_wait_ms,
                    .subscriptions_max = (uint32_t)conf->dispatcher_subscriptions_max,
                    .credit = (uint32_t)conf->dispatcher_credit,
                    .max_deliver = (uint32_t)conf->dispatcher_max_deliver,
                    .max_ack_pending = (uint32_t)conf->dispatcher_max_ack_pending},
        .silence_ns = ws->silence_ns,
        .joined = dsp_ws_client_joined,
        .left = dsp_ws_client_left,
        .fail = v1_fail,
        .follow = v1_follow,
        .context = ws};
    enum cmq_err err = dsp_text_init(&ws->text, DSP_TOPICS_HEADROOM, ws->settings.frame_bytes_max);
    if (err == CMQ_OK)
        err = dsp_encoder_init(&ws->encoder, parts->source);
    if (err == CMQ_OK)
        err = dsp_v1_new(&setup, &ws->v1);
    if (err == CMQ_OK)
        err = dsp_ws_open_topics(ws, parts);
    if (err == CMQ_OK)
        err = dsp_ws_open_board(ws, parts);
    return err;
}

/* ---- life ---- */

static void on_library_log(int level, const char *line)
{
    struct cmq_log_quoted quoted;
    size_t bytes = strcspn(line, "\r\n");
    cmq_log(level == LLL_ERR ? CMQ_LOG_ERROR : CMQ_LOG_WARN, CMQ_EV_LIBRARY, "name=libwebsockets text=%s",
            cmq_log_quote(&quoted, line, bytes));
}

static void *run(void *context)
{
    struct dsp_ws *ws = context;
    (void)pthread_setname_np(pthread_self(), "cmq-delivery");
    dsp_loop_begin(ws->loop, ws->context);
    while (!ws->stopped)
        dsp_loop_turn(ws->loop);
    return NULL;
}

static enum cmq_err create_context(struct dsp_ws *ws, struct cmq_reason *reason)
{
    ws->protocols[0] = (struct lws_protocols){.name = "cmq-root",
                                              .callback = root_callback,
                                              .per_session_data_size = sizeof(struct dsp_client),
                                              .rx_buffer_size = RX_BYTES,
                                              .tx_packet_size = TX_BYTES};
    dsp_v1_protocols(ws->v1, &ws->protocols[1]);
    dsp_topics_protocol(ws->topics, &ws->protocols[3]);
    dsp_board_protocol(ws->board, &ws->protocols[4]);
    ws->protocols[5] = (struct lws_protocols){.name = LISTENER_PROTOCOL, .callback = listener_callback};
    dsp_link_protocol(&ws->protocols[6]);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_library_log);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = ws->protocols,
        .user = ws,
        .options = LWS_SERVER_OPTION_VALIDATE_UTF8 | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .retry_and_idle_policy = &ws->retry,
        .pt_serv_buf_size = SERVICE_BYTES,
        .max_http_header_data = HEADER_BYTES,
        .timeout_secs = HTTP_S,
        .keepalive_timeout = HTTP_S,
        .gid = -1,
        .uid = -1,
    };
    dsp_tls_prepare(ws->tls, &info, ws->protocols);
    dsp_loop_prepare(ws->loop, &info);
    ws->context = lws_create_context(&info);
    if (ws->context != NULL)
        ws->vhost = lws_create_vhost(ws->context, &info);
    if (ws->vhost == NULL)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM,
                              "libwebsockets did not start; its own lines are above. If one names evlib_ev: "
                              "install libwebsockets-evlib-ev");
    return CMQ_OK;
}

static enum cmq_err open_listener(struct dsp_ws *ws, const struct cmq_conf *conf, struct cmq_reason *reason)
{
    lws_sock_file_fd_type fd;
    enum cmq_err err = dsp_sock_listen(conf->dispatcher_listen, (uint16_t)conf->dispatcher_port,
                                       (uint32_t)(ws->silence_ns / CMQ_NS_PER_MS), &fd.filefd, reason);
    if (err != CMQ_OK)
        return err;
    ws->listener =
        lws_adopt_descriptor_vhost(ws->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, LISTENER_PROTOCOL, NULL);
    if (ws->listener == NULL) {
        close(fd.filefd);
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "libwebsockets did not take the listening socket");
    }
    cmq_log(CMQ_LOG_INFO, CMQ_EV_LISTENING, "address=%s port=%llu tls=%d", conf->dispatcher_listen,
            (unsigned long long)conf->dispatcher_port, ws->tls != NULL);
    return CMQ_OK;
}

static enum cmq_err start_threads(struct dsp_ws *ws, struct cmq_reason *reason)
{
    enum cmq_err err = dsp_waiter_start(&ws->waiter, ws->ring, on_ring, ws);
    dsp_ws_start_telling(ws);
    if (err == CMQ_OK) {
        ws->thread_started = pthread_create(&ws->thread, NULL, run, ws) == 0;
        err = ws->thread_started ? CMQ_OK : CMQ_ERR_SYSTEM;
    }
    return err == CMQ_OK ? CMQ_OK : cmq_reason_set(reason, err, "cannot start a thread");
}

/* The configuration as it is now; under lock once the delivery thread runs. */
static void take_conf(struct dsp_ws *ws, const struct cmq_conf *conf)
{
    ws->settings = (struct dsp_settings){.write_timeout_ms = conf->dispatcher_write_timeout_ms,
                                         .frame_bytes_max = conf->dispatcher_frame_bytes_max,
                                         .frame_messages_max = (uint32_t)conf->dispatcher_frame_messages_max};
}

static struct dsp_ws *ws_new(struct cmq_proc *proc, struct cmq_ring *ring)
{
    const struct cmq_conf *conf = &proc->conf;
    const uint16_t ping_s = (uint16_t)conf->dispatcher_ping_s;
    pthread_condattr_t attributes;
    struct dsp_ws *ws = calloc(1, sizeof(*ws));
    if (ws == NULL)
        return NULL;
    ws->proc = proc;
    ws->ring = ring;
    ws->clients_max = (uint32_t)conf->dispatcher_clients_max;
    ws->address_clients_max = (uint32_t)conf->dispatcher_address_clients_max;
    ws->receive_bytes_max = conf->dispatcher_receive_bytes_max;
    ws->guard = (struct dsp_guard_limits){.fragments_max = (uint32_t)conf->dispatcher_fragments_max,
                                          .control_rate_max = (uint32_t)conf->dispatcher_control_rate_max};
    (void)snprintf(ws->origins, sizeof(ws->origins), "%s", conf->dispatcher_origins);
    ws->silence_ns = 2 * ping_s * CMQ_NS_PER_S;
    ws->retry =
        (lws_retry_bo_t){.secs_since_valid_ping = ping_s, .secs_since_valid_hangup = (uint16_t)(2 * ping_s)};
    pthread_mutex_init(&ws->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ws->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    take_conf(ws, conf);
    dsp_sock_limit(ws->clients_max + FDS_SPARE); /* the library sizes its tables by it */
    ws->spare_fd = dsp_sock_spare();
    ws->addresses = cmq_address_counts_new(ws->clients_max + FDS_SPARE);
    return ws;
}

enum cmq_err dsp_ws_start(struct cmq_proc *proc, const struct dsp_parts *parts, struct dsp_ws **ret_ws,
                          struct cmq_reason *reason)
{
    struct dsp_ws *ws = ws_new(proc, parts->ring);
    if (ws == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    enum cmq_err err = ws->addresses == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
    ws->tls = parts->tls;
    ws->access = parts->access;
    if (err == CMQ_OK)
        err = dsp_frame_init(&ws->frame, LWS_PRE, ws->settings.frame_bytes_max,
                             ws->settings.frame_messages_max);
    if (err == CMQ_OK)
        err = dsp_ws_open_groups(ws, parts);
    if (err == CMQ_OK)
        err = open_v1(ws, parts);
    if (err != CMQ_OK) {
        (void)cmq_reason_set(reason, err, "cannot prepare delivery: %s", cmq_err_text(err));
        goto out;
    }
    take_settings(ws);
    err = dsp_loop_new(&ws->loop);
    if (err != CMQ_OK) {
        (void)cmq_reason_set(reason, err, "cannot make an event loop: %s", cmq_err_text(err));
        goto out;
    }
    err = create_context(ws, reason);
    if (err == CMQ_OK)
        err = open_listener(ws, &proc->conf, reason);
    if (err == CMQ_OK)
        err = start_threads(ws, reason);
out:
    if (err == CMQ_OK)
        *ret_ws = ws;
    else
        dsp_ws_stop(ws);
    return err;
}

void dsp_ws_reload(struct dsp_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    take_conf(ws, &ws->proc->conf);
    pthread_mutex_unlock(&ws->lock);
    dsp_ws_ask(ws, DSP_ASK_RELOAD);
}

void dsp_ws_recheck(struct dsp_ws *ws)
{
    dsp_ws_ask(ws, DSP_ASK_RECHECK);
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / CMQ_NS_PER_S), .tv_nsec = (long)(ns % CMQ_NS_PER_S)};
}

void dsp_ws_drain(struct dsp_ws *ws, uint64_t deadline_ns)
{
    dsp_ws_ask(ws, DSP_ASK_DRAIN);
    pthread_mutex_lock(&ws->lock);
    for (uint64_t now_ns; !ws->drained && (now_ns = cmq_clock_mono_ns()) < deadline_ns;) {
        if (cmq_proc_draining_cut(ws->proc))
            break;
        struct timespec until = timespec_of(cmq_min_u64(deadline_ns, now_ns + DRAIN_STEP_MS * CMQ_NS_PER_MS));
        (void)pthread_cond_timedwait(&ws->changed, &ws->lock, &until);
    }
    pthread_mutex_unlock(&ws->lock);
}

void dsp_ws_stop(struct dsp_ws *ws)
{
    if (ws == NULL)
        return;
    dsp_waiter_stop(&ws->waiter); /* it calls the library, so it ends first */
    if (ws->thread_started) {
        dsp_ws_ask(ws, DSP_ASK_STOP);
        pthread_join(ws->thread, NULL);
    }
    ws->stopped = true;
    dsp_loop_free(ws->loop, ws->context); /* every client leaves its groups here */
    dsp_v1_free(ws->v1);
    dsp_topics_free(ws->topics);
    dsp_board_free(ws->board);
    dsp_encoder_fini(&ws->encoder);
    dsp_text_fini(&ws->text);
    dsp_groups_free(ws->groups);
    dsp_frame_fini(&ws->frame);
    cmq_address_counts_free(ws->addresses);
    if (ws->spare_fd >= 0)
        close(ws->spare_fd);
    pthread_cond_destroy(&ws->changed);
    pthread_mutex_destroy(&ws->lock);
    free(ws);
}
