#include "dispatcher/dsp_client.h"

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/shm/cmq_crash.h"
#include "dispatcher/dsp_sock.h"
#include "dispatcher/dsp_ws_int.h"

enum {
    SWEEP_MS_MIN = 20, /* how often stuck clients are looked for, while any client is busy */
    SWEEP_MS_MAX = 1000,
    SWEEPS_A_TIMEOUT = 8
};

/* ---- lists ---- */

static void idle_add(struct dsp_ws *ws, struct dsp_client *client)
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

static void idle_remove(struct dsp_ws *ws, struct dsp_client *client)
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

static void clients_add(struct dsp_ws *ws, struct dsp_client *client)
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

static void clients_remove(struct dsp_ws *ws, struct dsp_client *client)
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

void dsp_client_dispatch(struct dsp_ws *ws)
{
    struct dsp_client *client = ws->idle.head;
    if (client == NULL || ws->draining || ws->stopped)
        return;
    switch (dsp_share_want(&ws->group)) {
    case DSP_WANT_CLIENT:
        idle_remove(ws, client);
        client->progress_ns = cmq_clock_mono_ns();
        lws_callback_on_writable(client->wsi);
        break;
    case DSP_WANT_RING:
        dsp_ws_follow(ws, cmq_ring_stored_seq(ws->ring));
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

/* Closes a client that takes nothing of what is on its way. What the peer acknowledges counts as taken. */
static void check_client(struct dsp_ws *ws, struct dsp_client *client, uint64_t now_ns)
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
    for (struct dsp_client *client = ws->clients; client != NULL; client = client->next) {
        if (client->idle)
            continue;
        busy = true;
        check_client(ws, client, now_ns);
    }
    ws->sweeping = false;
    if (busy)
        schedule_sweep(ws);
}

static int send_frame(struct dsp_ws *ws, struct dsp_client *client, uint64_t start_ns)
{
    size_t bytes;
    uint8_t *text = dsp_frame_end(&ws->frame, &bytes);
    client->share.flight_bytes = bytes;
    if (lws_write(client->wsi, text, bytes, LWS_WRITE_TEXT) < (int)bytes)
        return -1;
    CMQ_CRASH_POINT("frame.written");
    if (lws_partial_buffered(client->wsi) == 0)
        dsp_share_delivered(&ws->group, &client->share);
    client->progress_ns = cmq_clock_mono_ns();
    cmq_ring_count(ws->ring, CMQ_COUNT_WORK_NS, client->progress_ns - start_ns);
    if (!ws->sweeping)
        schedule_sweep(ws);
    lws_callback_on_writable(client->wsi);
    return 0;
}

static int close_client(struct dsp_client *client, enum lws_close_status status)
{
    lws_close_reason(client->wsi, status, NULL, 0);
    return -1;
}

int dsp_client_writeable(struct dsp_ws *ws, struct dsp_client *client)
{
    if (lws_partial_buffered(client->wsi) != 0) {
        lws_callback_on_writable(client->wsi);
        return 0;
    }
    idle_remove(ws, client);
    dsp_share_delivered(&ws->group, &client->share);
    if (ws->draining)
        return close_client(client, LWS_CLOSE_STATUS_GOINGAWAY);
    uint64_t start_ns = cmq_clock_mono_ns();
    enum cmq_err err = CMQ_OK;
    switch (dsp_share_fill(&ws->group, &client->share, &ws->frame, &err)) {
    case DSP_FILL_FAILED:
        dsp_ws_fail(ws, err);
        return -1;
    case DSP_FILL_FRAME:
        if (send_frame(ws, client, start_ns) != 0)
            return -1;
        break;
    case DSP_FILL_NOTHING:
        idle_add(ws, client);
        break;
    }
    dsp_client_dispatch(ws);
    return 0;
}

void dsp_client_established(struct dsp_ws *ws, struct dsp_client *client, struct lws *wsi)
{
    uint64_t now_ns = cmq_clock_mono_ns();
    *client = (struct dsp_client){.wsi = wsi, .heard_ns = now_ns, .progress_ns = now_ns, .joined = true};
    dsp_share_join(&ws->group, &client->share);
    clients_add(ws, client);
    lws_callback_on_writable(wsi);
}

void dsp_client_gone(struct dsp_ws *ws, struct dsp_client *client)
{
    if (!client->joined)
        return;
    client->joined = false;
    /* The library does not say why it closed: silence for that long means that pings were not answered. */
    if (cmq_clock_mono_ns() - client->heard_ns + CMQ_NS_PER_S >= ws->silence_ns)
        cmq_ring_count(ws->ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
    clients_remove(ws, client);
    dsp_share_leave(&ws->group, &client->share);
    dsp_client_dispatch(ws);
    if (ws->draining)
        dsp_ws_check_drained(ws);
}

void dsp_client_heard(struct dsp_client *client)
{
    client->heard_ns = cmq_clock_mono_ns();
}

/* What clients send means nothing here; but it must end somewhere. */
int dsp_client_received(struct dsp_ws *ws, struct dsp_client *client, size_t bytes)
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
