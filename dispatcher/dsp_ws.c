#include "dispatcher/dsp_ws.h"

#include <libwebsockets.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "dispatcher/dsp_group.h"
#include "dispatcher/dsp_http.h"
#include "dispatcher/dsp_sock.h"
#include "dispatcher/dsp_waiter.h"

enum {
    RX_BYTES = 1024,      /* a client; what clients send is ignored on this endpoint */
    TX_BYTES = 1 << 30,   /* never cut a frame: the library would copy the rest */
    SERVICE_BYTES = 4096, /* the library's buffer for reading */
    HEADER_BYTES = 4096,  /* request head */
    HTTP_S = 10,          /* to send a request, and between requests */
    FDS_SPARE = 64,       /* beside clients: listener, ring, log, connections about to be refused */
    SWEEP_MS_MIN = 20,    /* how often stuck clients are looked for, while any client is busy */
    SWEEP_MS_MAX = 1000,
    SWEEPS_A_TIMEOUT = 8,
    DRAIN_STEP_MS = 50 /* how often a drain looks for the second signal */
};

/* What other threads ask of the delivery thread. */
enum { ASK_STOP = 1, ASK_DRAIN = 2, ASK_RELOAD = 4, ASK_RANG = 8 };

struct client {
    struct dsp_client share;
    struct client *next, *prev;           /* all clients */
    struct client *idle_next, *idle_prev; /* those that could take more */
    struct lws *wsi;
    uint64_t acked_bytes;
    uint64_t heard_ns; /* when the peer last gave a sign of life */
    uint64_t
        progress_ns; /* when it last took something of the frame that is stuck, or when that was written */
    size_t received_bytes; /* of the message that it is sending */
    bool joined, idle;
};

struct client_list {
    struct client *head, *tail;
};

struct dsp_ws {
    struct cmq_proc *proc;
    struct cmq_ring *ring;
    struct lws_context *context;
    struct dsp_opener opener;
    struct dsp_group group;
    struct dsp_frame frame;
    struct dsp_waiter waiter;
    pthread_t thread;
    bool thread_started;
    atomic_uint asks;

    /* delivery thread */
    struct client *clients;
    struct client_list idle;
    uint32_t client_count, clients_max;
    size_t receive_bytes_max;
    uint64_t write_timeout_ns, silence_ns;
    lws_sorted_usec_list_t sweep;
    bool sweeping, draining, stopped;

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool drained;
    struct dsp_reload {
        uint64_t write_timeout_ms, frame_bytes_max;
        uint32_t frame_messages_max;
    } reload;

    lws_retry_bo_t retry;
    struct lws_protocols protocols[2];
    char server_name[1];
};

/* ---- asking the delivery thread ---- */

static void ask(struct dsp_ws *ws, unsigned what)
{
    /* Release: pairs with the exchange in on_asked; what was written before is visible there. */
    atomic_fetch_or_explicit(&ws->asks, what, memory_order_release);
    lws_cancel_service(ws->context);
}

/* In the waiter's thread. */
static void on_ring(void *context)
{
    ask(context, ASK_RANG);
}

/* ---- lists ---- */

static void idle_add(struct dsp_ws *ws, struct client *client)
{
    if (client->idle)
        return;
    client->idle = true;
    client->idle_next = NULL;
    client->idle_prev = ws->idle.tail;
    if (ws->idle.tail != NULL)
        ws->idle.tail->idle_next = client;
    else
        ws->idle.head = client;
    ws->idle.tail = client;
}

static void idle_remove(struct dsp_ws *ws, struct client *client)
{
    if (!client->idle)
        return;
    client->idle = false;
    if (client->idle_prev != NULL)
        client->idle_prev->idle_next = client->idle_next;
    else
        ws->idle.head = client->idle_next;
    if (client->idle_next != NULL)
        client->idle_next->idle_prev = client->idle_prev;
    else
        ws->idle.tail = client->idle_prev;
}

static void clients_add(struct dsp_ws *ws, struct client *client)
{
    client->prev = NULL;
    client->next = ws->clients;
    if (ws->clients != NULL)
        ws->clients->prev = client;
    ws->clients = client;
    ws->client_count++;
    cmq_ring_count(ws->ring, CMQ_COUNT_CLIENTS_TOTAL, 1);
    cmq_ring_gauge(ws->ring, CMQ_COUNT_CLIENTS, ws->client_count);
}

static void clients_remove(struct dsp_ws *ws, struct client *client)
{
    idle_remove(ws, client);
    if (client->prev != NULL)
        client->prev->next = client->next;
    else
        ws->clients = client->next;
    if (client->next != NULL)
        client->next->prev = client->prev;
    ws->client_count--;
    cmq_ring_gauge(ws->ring, CMQ_COUNT_CLIENTS, ws->client_count);
}

/* ---- delivery ---- */

/* Sees to it that somebody gets what there is, and that somebody waits for what comes. Called whenever that
 * may have changed; wakes one client at a time, in turn. */
static void dispatch(struct dsp_ws *ws)
{
    struct client *client = ws->idle.head;
    if (client == NULL || ws->draining || ws->stopped)
        return;
    switch (dsp_group_want(&ws->group)) {
    case DSP_WANT_CLIENT:
        idle_remove(ws, client);
        lws_callback_on_writable(client->wsi);
        break;
    case DSP_WANT_RING:
        dsp_waiter_arm(&ws->waiter);
        break;
    case DSP_WANT_DELIVERY:
        break;
    }
}

static void sweep(lws_sorted_usec_list_t *sul);

static void schedule_sweep(struct dsp_ws *ws)
{
    uint64_t sweep_ms = ws->write_timeout_ns / CMQ_NS_PER_MS / SWEEPS_A_TIMEOUT;
    sweep_ms = cmq_min_u64(cmq_max_u64(sweep_ms, SWEEP_MS_MIN), SWEEP_MS_MAX);
    ws->sweeping = true;
    lws_sul_schedule(ws->context, 0, &ws->sweep, sweep, (lws_usec_t)sweep_ms * LWS_US_PER_MS);
}

/* Closes a client that takes nothing of its frame. Whatever the peer acknowledges counts as taking. */
static void check_client(struct dsp_ws *ws, struct client *client, uint64_t now_ns)
{
    uint64_t acked_bytes;
    if (dsp_sock_acked_bytes(lws_get_socket_fd(client->wsi), &acked_bytes) &&
        acked_bytes != client->acked_bytes) {
        client->acked_bytes = acked_bytes;
        client->progress_ns = now_ns;
        client->heard_ns = now_ns;
        lws_validity_confirmed(client->wsi);
    } else if (now_ns - client->progress_ns > ws->write_timeout_ns) {
        cmq_log(CMQ_LOG_INFO, CMQ_EV_CLIENT_SLOW, "frame_bytes=%zu", client->share.flight_bytes);
        cmq_ring_count(ws->ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
        client->heard_ns = now_ns; /* counted already */
        lws_set_timeout(client->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    }
}

static void sweep(lws_sorted_usec_list_t *sul)
{
    struct dsp_ws *ws = lws_container_of(sul, struct dsp_ws, sweep);
    uint64_t now_ns = cmq_clock_mono_ns();
    bool busy = false;
    for (struct client *client = ws->clients; client != NULL; client = client->next) {
        if (client->share.flight.head == NULL)
            continue;
        busy = true;
        check_client(ws, client, now_ns);
    }
    ws->sweeping = false;
    if (busy)
        schedule_sweep(ws);
}

static void fail(struct dsp_ws *ws, enum cmq_err err)
{
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "where=delivery err=\"%s\"", cmq_err_text(err));
    cmq_proc_fail(ws->proc,
                  err == CMQ_ERR_CORRUPT || err == CMQ_ERR_LAYOUT ? CMQ_EXIT_INVARIANT : CMQ_EXIT_TEMPORARY);
}

static int send_frame(struct dsp_ws *ws, struct client *client, uint64_t start_ns)
{
    size_t bytes;
    uint8_t *text = dsp_frame_end(&ws->frame, &bytes);
    client->share.flight_bytes = bytes;
    if (lws_write(client->wsi, text, bytes, LWS_WRITE_TEXT) < (int)bytes)
        return -1;
    bool taken = lws_partial_buffered(client->wsi) == 0;
    if (taken)
        dsp_group_delivered(&ws->group, &client->share);
    uint64_t now_ns = cmq_clock_mono_ns();
    cmq_ring_count(ws->ring, CMQ_COUNT_WORK_NS, now_ns - start_ns);
    if (!taken) {
        client->progress_ns = now_ns;
        if (!ws->sweeping)
            schedule_sweep(ws);
    }
    return taken ? 0 : 1;
}

static int close_client(struct client *client, enum lws_close_status status)
{
    lws_close_reason(client->wsi, status, NULL, 0);
    return -1;
}

static int on_writeable(struct dsp_ws *ws, struct client *client)
{
    if (lws_partial_buffered(client->wsi) != 0) {
        lws_callback_on_writable(client->wsi);
        return 0;
    }
    idle_remove(ws, client);
    dsp_group_delivered(&ws->group, &client->share);
    if (ws->draining)
        return close_client(client, LWS_CLOSE_STATUS_GOINGAWAY);
    uint64_t start_ns = cmq_clock_mono_ns();
    enum cmq_err err = CMQ_OK;
    int sent = 0;
    switch (dsp_group_fill(&ws->group, &client->share, &ws->frame, &err)) {
    case DSP_FILL_FAILED:
        fail(ws, err);
        return -1;
    case DSP_FILL_FRAME:
        sent = send_frame(ws, client, start_ns);
        if (sent < 0)
            return -1;
        break;
    case DSP_FILL_NOTHING:
        break;
    }
    /* Whoever could take more stands in the queue; one that is stuck is called when its frame is out. */
    if (sent == 0)
        idle_add(ws, client);
    dispatch(ws);
    return 0;
}

static void on_established(struct dsp_ws *ws, struct client *client, struct lws *wsi)
{
    *client = (struct client){.wsi = wsi, .heard_ns = cmq_clock_mono_ns(), .joined = true};
    dsp_group_join(&ws->group, &client->share);
    clients_add(ws, client);
    (void)dsp_sock_set_user_timeout(lws_get_socket_fd(wsi), (uint32_t)(ws->silence_ns / CMQ_NS_PER_MS));
    lws_callback_on_writable(wsi);
}

static void on_gone(struct dsp_ws *ws, struct client *client)
{
    if (!client->joined)
        return;
    client->joined = false;
    /* The library does not say why it closed: silence for that long means that pings were not answered. */
    if (cmq_clock_mono_ns() - client->heard_ns + CMQ_NS_PER_S >= ws->silence_ns)
        cmq_ring_count(ws->ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
    clients_remove(ws, client);
    dsp_group_leave(&ws->group, &client->share);
    dispatch(ws);
    if (ws->draining && ws->client_count == 0) {
        pthread_mutex_lock(&ws->lock);
        ws->drained = true;
        pthread_cond_signal(&ws->changed);
        pthread_mutex_unlock(&ws->lock);
    }
}

/* What clients send means nothing here; but it must end somewhere. */
static int on_receive(struct dsp_ws *ws, struct client *client, size_t bytes)
{
    client->heard_ns = cmq_clock_mono_ns();
    client->received_bytes += bytes;
    size_t announced = lws_remaining_packet_payload(client->wsi);
    if (client->received_bytes > ws->receive_bytes_max ||
        announced > ws->receive_bytes_max - client->received_bytes)
        return close_client(client, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE);
    if (announced == 0 && lws_is_final_fragment(client->wsi))
        client->received_bytes = 0;
    return 0;
}

static void begin_drain(struct dsp_ws *ws)
{
    ws->draining = true;
    dsp_group_drain(&ws->group);
    for (struct client *client = ws->clients; client != NULL; client = client->next)
        lws_callback_on_writable(client->wsi);
    if (ws->client_count == 0) {
        pthread_mutex_lock(&ws->lock);
        ws->drained = true;
        pthread_cond_signal(&ws->changed);
        pthread_mutex_unlock(&ws->lock);
    }
}

static void take_settings(struct dsp_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    struct dsp_reload reload = ws->reload;
    pthread_mutex_unlock(&ws->lock);
    ws->write_timeout_ns = reload.write_timeout_ms * CMQ_NS_PER_MS;
    dsp_frame_set_limits(&ws->frame, reload.frame_bytes_max, reload.frame_messages_max);
}

static void on_asked(struct dsp_ws *ws)
{
    /* Acquire: pairs with ask. */
    unsigned asks = atomic_exchange_explicit(&ws->asks, 0, memory_order_acquire);
    if (asks & ASK_RELOAD)
        take_settings(ws);
    if ((asks & ASK_DRAIN) && !ws->draining)
        begin_drain(ws);
    if (asks & ASK_STOP)
        ws->stopped = true;
    if (asks & ASK_RANG) {
        dsp_group_ring_rang(&ws->group);
        dispatch(ws);
    }
}

static int on_upgrade(struct dsp_ws *ws, struct lws *wsi, const char *protocol)
{
    if (protocol == NULL || strcmp(protocol, "websocket") != 0)
        return -1;
    if (ws->draining)
        return dsp_http_check_upgrade(wsi, "This instance is going away; connect again.");
    if (ws->client_count >= ws->clients_max)
        return dsp_http_check_upgrade(wsi, "All client connections are in use (dispatcher.clients_max).");
    return dsp_http_check_upgrade(wsi, NULL);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t bytes)
{
    struct dsp_ws *ws = lws_context_user(lws_get_context(wsi));
    struct client *client = user;
    switch ((int)reason) { /* the library's list is long and grows */
    case LWS_CALLBACK_HTTP:
        return dsp_http_answer(wsi, in, bytes);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(ws, wsi, in);
    case LWS_CALLBACK_ESTABLISHED:
        on_established(ws, client, wsi);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writeable(ws, client);
    case LWS_CALLBACK_RECEIVE:
        return on_receive(ws, client, bytes);
    case LWS_CALLBACK_RECEIVE_PONG:
        client->heard_ns = cmq_clock_mono_ns();
        return 0;
    case LWS_CALLBACK_CLOSED:
        on_gone(ws, client);
        return 0;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        on_asked(ws);
        return 0;
    default:
        return 0;
    }
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
    while (!ws->stopped) {
        if (lws_service(ws->context, 0) < 0 && !ws->stopped) {
            fail(ws, CMQ_ERR_SYSTEM);
            break;
        }
    }
    return NULL;
}

/* The library makes its table of connections as large as this limit. */
static void limit_descriptors(uint32_t clients_max)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = cmq_min_u64(clients_max + FDS_SPARE, limit.rlim_max);
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static enum cmq_err create_context(struct dsp_ws *ws, const struct cmq_conf *conf, struct cmq_reason *reason)
{
    uint16_t ping_s = (uint16_t)conf->dispatcher_ping_s;
    ws->retry =
        (lws_retry_bo_t){.secs_since_valid_ping = ping_s, .secs_since_valid_hangup = (uint16_t)(2 * ping_s)};
    ws->protocols[0] = (struct lws_protocols){.name = "cmq-root",
                                              .callback = callback,
                                              .per_session_data_size = sizeof(struct client),
                                              .rx_buffer_size = RX_BYTES,
                                              .tx_packet_size = TX_BYTES};
    limit_descriptors(ws->clients_max);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_library_log);
    const struct lws_context_creation_info info = {
        .iface = conf->dispatcher_listen,
        .port = (int)conf->dispatcher_port,
        .protocols = ws->protocols,
        .user = ws,
        .options = LWS_SERVER_OPTION_VALIDATE_UTF8 | LWS_SERVER_OPTION_ALLOW_LISTEN_SHARE |
                   LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   (strchr(conf->dispatcher_listen, ':') == NULL ? LWS_SERVER_OPTION_DISABLE_IPV6 : 0),
        .retry_and_idle_policy = &ws->retry,
        .pt_serv_buf_size = SERVICE_BYTES,
        .max_http_header_data = HEADER_BYTES,
        .timeout_secs = HTTP_S,
        .keepalive_timeout = HTTP_S,
        .server_string = ws->server_name,
        .gid = -1,
        .uid = -1,
    };
    ws->context = lws_create_context(&info);
    if (ws->context == NULL)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "libwebsockets did not start; its own lines are above");
    if (lws_create_vhost(ws->context, &info) == NULL)
        return cmq_reason_set(
            reason, CMQ_ERR_SYSTEM,
            "cannot listen on %s port %llu: change dispatcher.listen or dispatcher.port, or end what "
            "uses the port",
            conf->dispatcher_listen, (unsigned long long)conf->dispatcher_port);
    cmq_log(CMQ_LOG_INFO, CMQ_EV_LISTENING, "address=%s port=%llu", conf->dispatcher_listen,
            (unsigned long long)conf->dispatcher_port);
    return CMQ_OK;
}

static void take_conf(struct dsp_ws *ws, const struct cmq_conf *conf)
{
    ws->reload = (struct dsp_reload){.write_timeout_ms = conf->dispatcher_write_timeout_ms,
                                     .frame_bytes_max = conf->dispatcher_frame_bytes_max,
                                     .frame_messages_max = (uint32_t)conf->dispatcher_frame_messages_max};
}

static enum cmq_err start_threads(struct dsp_ws *ws, struct cmq_reason *reason)
{
    enum cmq_err err = dsp_waiter_start(&ws->waiter, ws->ring, on_ring, ws);
    if (err == CMQ_OK) {
        ws->thread_started = pthread_create(&ws->thread, NULL, run, ws) == 0;
        err = ws->thread_started ? CMQ_OK : CMQ_ERR_SYSTEM;
    }
    return err == CMQ_OK ? CMQ_OK : cmq_reason_set(reason, err, "cannot start a thread");
}

enum cmq_err dsp_ws_start(struct cmq_proc *proc, struct cmq_ring *ring, struct cmq_keyring *keyring,
                          struct dsp_ws **ret_ws, struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &proc->conf;
    const struct dsp_limits limits = {.open_records_max = (uint32_t)conf->dispatcher_open_records_max,
                                      .open_bytes_max = conf->dispatcher_open_bytes_max};
    struct dsp_ws *ws = calloc(1, sizeof(*ws));
    if (ws == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    ws->proc = proc;
    ws->ring = ring;
    ws->clients_max = (uint32_t)conf->dispatcher_clients_max;
    ws->receive_bytes_max = conf->dispatcher_receive_bytes_max;
    ws->silence_ns = 2 * conf->dispatcher_ping_s * CMQ_NS_PER_S;
    pthread_mutex_init(&ws->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ws->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    dsp_group_init(&ws->group, ring, &ws->opener, &limits);
    take_conf(ws, conf);

    enum cmq_err err = dsp_frame_init(&ws->frame, LWS_PRE, conf->dispatcher_frame_bytes_max,
                                      (uint32_t)conf->dispatcher_frame_messages_max);
    if (err == CMQ_OK)
        err = dsp_opener_init(&ws->opener, ring, keyring);
    if (err != CMQ_OK) {
        (void)cmq_reason_set(reason, err, "cannot prepare delivery: %s", cmq_err_text(err));
        goto out;
    }
    take_settings(ws);
    err = create_context(ws, conf, reason);
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
    ask(ws, ASK_RELOAD);
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / CMQ_NS_PER_S), .tv_nsec = (long)(ns % CMQ_NS_PER_S)};
}

void dsp_ws_drain(struct dsp_ws *ws, uint64_t deadline_ns)
{
    ask(ws, ASK_DRAIN);
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
        ask(ws, ASK_STOP);
        pthread_join(ws->thread, NULL);
    }
    ws->stopped = true;
    if (ws->context != NULL)
        lws_context_destroy(ws->context); /* every client leaves the group here */
    dsp_group_fini(&ws->group);
    dsp_frame_fini(&ws->frame);
    dsp_opener_fini(&ws->opener);
    pthread_cond_destroy(&ws->changed);
    pthread_mutex_destroy(&ws->lock);
    free(ws);
}
