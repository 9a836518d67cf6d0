#include "dispatcher/dsp_client.h"

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/shm/cmq_crash.h"
#include "common/wire/cmq_topic.h"
#include "dispatcher/dsp_roll.h"
#include "dispatcher/dsp_sock.h"
#include "dispatcher/dsp_ws_door.h"
#include "dispatcher/dsp_ws_int.h"

enum {
    SWEEP_MS_MIN = 20, /* how often stuck clients are looked for, while any client is busy */
    SWEEP_MS_MAX = 1000,
    SWEEPS_A_TIMEOUT = 8,
    BATCHES_MAX = 65536 /* one frame looks at */
};

#define DSP_ROOT_GROUP "default"

/* ---- lists ---- */

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
        cmq_log(CMQ_LOG_INFO, CMQ_EV_CLIENT_SLOW, "frame_bytes=%zu", client->flight_bytes);
        cmq_ring_count(ws->ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
        client->heard_ns = now_ns; /* counted already */
        dsp_guard_end(&client->guard);
        lws_set_timeout(client->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    }
}

static void sweep(lws_sorted_usec_list_t *sul)
{
    struct dsp_ws *ws = lws_container_of(sul, struct dsp_ws, sweep);
    uint64_t now_ns = cmq_clock_mono_ns();
    bool busy = false;
    for (struct dsp_client *client = ws->clients; client != NULL; client = client->next) {
        if (client->member.flight == NULL)
            continue;
        busy = true;
        check_client(ws, client, now_ns);
    }
    ws->sweeping = false;
    if (busy)
        schedule_sweep(ws);
}

/* The socket took all of the last frame. */
static void delivered(struct dsp_ws *ws, struct dsp_client *client)
{
    dsp_group_delivered(ws->groups, &client->member);
    if (client->flight_messages == 0)
        return;
    cmq_ring_count(ws->ring, CMQ_COUNT_MESSAGES, client->flight_messages);
    cmq_ring_count(ws->ring, CMQ_COUNT_FRAMES, 1);
    cmq_ring_count(ws->ring, CMQ_COUNT_BYTES_OUT, client->flight_bytes);
    client->messages += client->flight_messages;
    client->bytes += client->flight_bytes;
    client->flight_messages = 0;
}

static int send_frame(struct dsp_ws *ws, struct dsp_client *client, uint64_t start_ns)
{
    size_t bytes;
    client->flight_messages = ws->frame.messages;
    uint8_t *text = dsp_frame_end(&ws->frame, &bytes);
    client->flight_bytes = bytes;
    if (lws_write(client->wsi, text, bytes, LWS_WRITE_TEXT) < (int)bytes)
        return -1;
    CMQ_CRASH_POINT("frame.written");
    dsp_guard_sent(&client->guard, bytes);
    if (lws_partial_buffered(client->wsi) == 0)
        delivered(ws, client);
    client->progress_ns = cmq_clock_mono_ns();
    cmq_ring_count(ws->ring, CMQ_COUNT_WORK_NS, client->progress_ns - start_ns);
    if (!ws->sweeping)
        schedule_sweep(ws);
    lws_callback_on_writable(client->wsi);
    return 0;
}

/* One batch into the frame. CMQ_ERR_FULL: the frame takes no more. */
static enum cmq_err take_batch(struct dsp_ws *ws, struct dsp_client *client, const struct dsp_batch *batch)
{
    struct cmq_mp_reader reader;
    uint32_t taken = 0;
    if (!batch->unit->readable) /* counted where it was opened */
        return dsp_group_take(ws->groups, &client->member, batch, batch->count, 0);
    cmq_mp_reader_init(&reader, batch->messages);
    enum dsp_take take = dsp_frame_take(&ws->frame, &reader, batch->count, &taken);
    if (take == DSP_TAKE_NOMEM)
        return CMQ_ERR_NOMEM;
    enum cmq_err err = CMQ_OK;
    if (taken > 0)
        err = dsp_group_take(ws->groups, &client->member, batch, taken,
                             (size_t)(reader.next - batch->messages.data));
    else if (take == DSP_TAKE_BAD) {
        /* What cannot be read as messages is as good as delivered. */
        cmq_ring_count(ws->ring, CMQ_COUNT_UNDELIVERABLE, batch->count);
        err = dsp_group_take(ws->groups, &client->member, batch, batch->count, 0);
    }
    return err == CMQ_OK && take == DSP_TAKE_FULL ? CMQ_ERR_FULL : err;
}

/* Puts messages into the frame until it is full or nothing is there. */
static enum cmq_err fill_frame(struct dsp_ws *ws, struct dsp_client *client)
{
    const uint64_t stored = dsp_source_stored(ws->source);
    struct dsp_batch batch;
    enum cmq_err err = dsp_frame_begin(&ws->frame, cmq_clock_wall_ms());
    for (unsigned i = 0; err == CMQ_OK && i < BATCHES_MAX; i++) {
        err = dsp_group_peek(ws->groups, &client->member, &batch);
        if (err == CMQ_OK)
            err = take_batch(ws, client, &batch);
    }
    if (err == CMQ_ERR_AGAIN)
        dsp_ws_follow(ws, stored);
    if (ws->frame.skipped > 0)
        cmq_ring_count(ws->ring, CMQ_COUNT_UNDELIVERABLE, ws->frame.skipped);
    if (ws->frame.expired > 0)
        cmq_ring_count(ws->ring, CMQ_COUNT_EXPIRED, ws->frame.expired);
    return err == CMQ_ERR_AGAIN || err == CMQ_ERR_FULL ? CMQ_OK : err;
}

static int close_client(struct dsp_client *client, int code)
{
    lws_close_reason(client->wsi, (enum lws_close_status)code, NULL, 0);
    return -1;
}

int dsp_client_writeable(struct dsp_ws *ws, struct dsp_client *client)
{
    if (lws_partial_buffered(client->wsi) != 0) {
        lws_callback_on_writable(client->wsi);
        return 0;
    }
    delivered(ws, client);
    if (client->closing != 0)
        return close_client(client, client->closing);
    if (ws->draining)
        return close_client(client, LWS_CLOSE_STATUS_GOINGAWAY);
    uint64_t start_ns = cmq_clock_mono_ns();
    enum cmq_err err = fill_frame(ws, client);
    if (err != CMQ_OK) {
        dsp_ws_fail(ws, err);
        return -1;
    }
    if (ws->frame.messages > 0)
        return send_frame(ws, client, start_ns);
    /* Only what is not for delivery here: there is nothing to send for it. */
    if (client->member.flight != NULL)
        delivered(ws, client);
    if (!client->member.waiting)
        lws_callback_on_writable(client->wsi);
    return 0;
}

void dsp_client_ready(struct dsp_member *member)
{
    struct dsp_client *client = lws_container_of(member, struct dsp_client, member);
    lws_callback_on_writable(client->wsi);
}

int dsp_client_established(struct dsp_ws *ws, struct dsp_client *client, struct lws *wsi)
{
    const uint64_t now_ns = cmq_clock_mono_ns();
    const struct dsp_group_options options = {
        .start_seq = dsp_source_floor(ws->source), .max_ack_pending = UINT32_MAX, .auto_ack = true};
    struct cmq_reason reason = {.text = ""};
    *client = (struct dsp_client){
        .wsi = wsi, .heard_ns = now_ns, .progress_ns = now_ns, .grant = dsp_door_take_grant(wsi)};
    dsp_guard_begin(&client->guard, wsi);
    enum cmq_err err = dsp_group_join(ws->groups, DSP_ROOT_GROUP,
                                      cmq_span_make(CMQ_TOPIC_DEFAULT, sizeof CMQ_TOPIC_DEFAULT - 1),
                                      &options, &client->member, &reason);
    if (err != CMQ_OK) {
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "where=root_group reason=\"%s\"", reason.text);
        cmq_grant_put(&client->grant);
        return close_client(client, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION);
    }
    client->joined = true;
    clients_add(ws, client);
    lws_callback_on_writable(wsi);
    return 0;
}

void dsp_client_gone(struct dsp_ws *ws, struct dsp_client *client)
{
    if (!client->joined)
        return;
    client->joined = false;
    /* The library does not say why it closed: silence for that long means that pings were not answered. */
    if (cmq_clock_mono_ns() - client->heard_ns + CMQ_NS_PER_S >= ws->silence_ns)
        cmq_ring_count(ws->ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
    else if (dsp_guard_is_fault(&client->guard, client->wsi))
        cmq_ring_count(ws->ring, CMQ_COUNT_PROTOCOL_ERRORS, 1);
    clients_remove(ws, client);
    cmq_grant_put(&client->grant);
    dsp_group_leave(ws->groups, &client->member);
    if (ws->draining)
        dsp_ws_check_drained(ws);
}

void dsp_client_heard(struct dsp_client *client, size_t bytes)
{
    client->heard_ns = cmq_clock_mono_ns();
    dsp_guard_pong(&client->guard, bytes);
}

/* Says the reason; the caller closes. */
static int refuse(const struct dsp_client *client, int code, const char *reason)
{
    char text[CMQ_ADDRESS_TEXT_BYTES];
    cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "where=root close=%d reason=%s address=%s", code, reason,
            cmq_address_text(&dsp_door_visitor(client->wsi)->address, text));
    return code;
}

static void close_soon(struct dsp_client *client, int code, const char *reason)
{
    if (client->closing != 0)
        return;
    client->closing = refuse(client, code, reason);
    lws_callback_on_writable(client->wsi);
}

void dsp_clients_recheck(struct dsp_ws *ws)
{
    for (struct dsp_client *client = ws->clients; client != NULL; client = client->next)
        if (!dsp_access_is_live(ws->access, &client->grant))
            close_soon(client, DSP_CLOSE_REVOKED, "revoked");
}

void dsp_clients_look(struct dsp_ws *ws, uint64_t now_ns)
{
    for (struct dsp_client *client = ws->clients; client != NULL; client = client->next)
        if (!dsp_guard_look(&client->guard, &ws->guard, client->wsi, now_ns))
            close_soon(client, LWS_CLOSE_STATUS_POLICY_VIOLATION, "control_rate_max");
}

void dsp_clients_tell(struct dsp_ws *ws, struct dsp_roll *roll)
{
    for (struct dsp_client *client = ws->clients; client != NULL; client = client->next) {
        const struct dsp_visitor *visitor = dsp_door_visitor(client->wsi);
        const struct dsp_group *group = client->member.group;
        struct cmq_table_client *row =
            dsp_roll_add(roll, dsp_group_lag(ws->groups, group), 1, &visitor->address);
        if (row == NULL)
            continue;
        row->kind = CMQ_CLIENT_ROOT;
        row->subject = dsp_group_topic(group);
        row->group = dsp_group_name(group);
        row->connected_ms = visitor->since_ms;
        row->messages = client->messages;
        row->bytes = client->bytes;
    }
}

/* What clients send means nothing here; but it must end somewhere. */
int dsp_client_received(struct dsp_ws *ws, struct dsp_client *client, size_t bytes)
{
    client->heard_ns = cmq_clock_mono_ns();
    client->received_bytes += bytes;
    size_t announced = lws_remaining_packet_payload(client->wsi);
    if (client->closing != 0)
        return 0;
    if (!dsp_guard_received(&client->guard, &ws->guard, client->wsi, bytes))
        return close_client(client, refuse(client, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "fragments_max"));
    if (client->received_bytes > ws->receive_bytes_max ||
        announced > ws->receive_bytes_max - client->received_bytes)
        return close_client(client, refuse(client, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "receive_bytes_max"));
    if (announced == 0 && lws_is_final_fragment(client->wsi))
        client->received_bytes = 0;
    return 0;
}
