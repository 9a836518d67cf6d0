#include "dispatcher/dsp_ws_v1.h"

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/shm/cmq_crash.h"
#include "dispatcher/dsp_roll.h"
#include "dispatcher/dsp_sock.h"
#include "dispatcher/dsp_ws_door.h"

enum {
    RX_BYTES = 4096,
    TX_BYTES = 1 << 30,   /* never cut a frame: the library would copy the rest */
    RECEIVED_KEPT = 4096, /* of memory for messages that come in pieces */
    SWEEP_MS_MIN = 20,    /* how often stuck clients are looked for, while any client is busy */
    SWEEP_MS_MAX = 1000,
    SWEEPS_A_TIMEOUT = 8
};

struct client {
    struct dsp_session session; /* first */
    struct client *next, *prev;
    struct lws *wsi;
    struct cmq_buf received; /* pieces of a message */
    struct dsp_guard guard;
    lws_sorted_usec_list_t beat, login;
    uint64_t acked_bytes;
    uint64_t sent_bytes;  /* of frames */
    uint64_t heard_ns;    /* when the peer last gave a sign of life */
    uint64_t progress_ns; /* when it last took something, or when a frame was written */
    uint64_t written_ns;
    bool joined;
    bool busy; /* a frame may be on its way */
    bool beat_due;
    bool stopped; /* nothing is read from it */
};

struct dsp_v1 {
    struct dsp_v1_setup setup;
    struct dsp_hub hub; /* its sessions find the rest through it */
    struct client *clients;
    lws_sorted_usec_list_t sweep;
    uint64_t write_timeout_ns;
    bool sweeping;
};

static struct client *client_of(struct dsp_session *session)
{
    return (struct client *)session;
}

static struct dsp_v1 *v1_of(const struct dsp_session *session)
{
    return lws_container_of(session->hub, struct dsp_v1, hub);
}

static void want(struct dsp_session *session)
{
    lws_callback_on_writable(client_of(session)->wsi);
}

/* ---- slow clients ---- */

/* Closes a client that takes nothing of what is on its way. What the peer acknowledges counts as taken. A close frame
 * would have to stand behind what it does not take. */
static void check_client(struct dsp_v1 *v1, struct client *client, uint64_t now_ns)
{
    uint64_t acked_bytes;
    if (dsp_sock_acked_bytes(lws_get_socket_fd(client->wsi), &acked_bytes) &&
        acked_bytes != client->acked_bytes) {
        client->acked_bytes = acked_bytes;
        client->progress_ns = now_ns;
        client->heard_ns = now_ns;
        lws_validity_confirmed(client->wsi);
    } else if (now_ns - client->progress_ns > v1->write_timeout_ns) {
        cmq_log(CMQ_LOG_INFO, CMQ_EV_CLIENT_SLOW, "endpoint=v1");
        cmq_ring_count(v1->setup.ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
        client->heard_ns = now_ns; /* counted already */
        client->busy = false;
        dsp_guard_end(&client->guard);
        lws_set_timeout(client->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    }
}

static void sweep(lws_sorted_usec_list_t *sul);

static void schedule_sweep(struct dsp_v1 *v1, struct lws_context *context)
{
    uint64_t sweep_ms = v1->write_timeout_ns / CMQ_NS_PER_MS / SWEEPS_A_TIMEOUT;
    sweep_ms = cmq_min_u64(cmq_max_u64(sweep_ms, SWEEP_MS_MIN), SWEEP_MS_MAX);
    v1->sweeping = true;
    lws_sul_schedule(context, 0, &v1->sweep, sweep, (lws_usec_t)sweep_ms * LWS_US_PER_MS);
}

static void sweep(lws_sorted_usec_list_t *sul)
{
    struct dsp_v1 *v1 = lws_container_of(sul, struct dsp_v1, sweep);
    struct lws_context *context = NULL;
    uint64_t now_ns = cmq_clock_mono_ns();
    for (struct client *client = v1->clients; client != NULL; client = client->next) {
        if (!client->busy)
            continue;
        context = lws_get_context(client->wsi);
        check_client(v1, client, now_ns);
    }
    v1->sweeping = false;
    if (context != NULL)
        schedule_sweep(v1, context);
}

/* ---- heartbeat ---- */

static void beat(lws_sorted_usec_list_t *sul)
{
    struct client *client = lws_container_of(sul, struct client, beat);
    const uint64_t beat_ns = v1_of(&client->session)->hub.settings.heartbeat_ms * CMQ_NS_PER_MS;
    uint64_t silent_ns = cmq_clock_mono_ns() - client->written_ns;
    if (silent_ns >= beat_ns) {
        client->beat_due = true;
        lws_callback_on_writable(client->wsi);
        silent_ns = 0;
    }
    lws_sul_schedule(lws_get_context(client->wsi), 0, &client->beat, beat,
                     (lws_usec_t)((beat_ns - silent_ns) / CMQ_NS_PER_US));
}

static void make_beat(struct client *client)
{
    struct dsp_text *frame = client->session.hub->frame;
    dsp_text_begin(frame);
    struct dsp_writer writer = dsp_writer_of(frame, client->session.format);
    dsp_write_map(&writer, 0);
    dsp_write_map_end(&writer);
}

/* ---- sending ---- */

static int close_client(struct client *client, enum dsp_close code)
{
    if (client->session.turned_away)
        dsp_guard_end(&client->guard); /* counted as what it is */
    lws_close_reason(client->wsi, (enum lws_close_status)code, NULL, 0);
    return -1;
}

static int send_frame(struct dsp_v1 *v1, struct client *client, uint64_t start_ns)
{
    struct dsp_text *frame = v1->hub.frame;
    enum lws_write_protocol kind =
        client->session.format == DSP_FORMAT_JSON ? LWS_WRITE_TEXT : LWS_WRITE_BINARY;
    if (lws_write(client->wsi, dsp_text_start(frame), frame->bytes, kind) < (int)frame->bytes)
        return -1;
    CMQ_CRASH_POINT("frame.written");
    dsp_guard_sent(&client->guard, frame->bytes);
    client->sent_bytes += frame->bytes;
    client->busy = true;
    client->beat_due = false;
    client->written_ns = client->progress_ns = cmq_clock_mono_ns();
    cmq_ring_count(v1->setup.ring, CMQ_COUNT_FRAMES, 1);
    cmq_ring_count(v1->setup.ring, CMQ_COUNT_BYTES_OUT, frame->bytes);
    cmq_ring_count(v1->setup.ring, CMQ_COUNT_WORK_NS, client->written_ns - start_ns);
    if (!v1->sweeping)
        schedule_sweep(v1, lws_get_context(client->wsi));
    lws_callback_on_writable(client->wsi);
    return 0;
}

static int rest(struct dsp_v1 *v1, struct client *client)
{
    if (client->beat_due) {
        make_beat(client);
        return send_frame(v1, client, cmq_clock_mono_ns());
    }
    return 0;
}

static int on_writeable(struct dsp_v1 *v1, struct client *client)
{
    enum cmq_err err = CMQ_OK;
    if (lws_partial_buffered(client->wsi) != 0) {
        lws_callback_on_writable(client->wsi);
        return 0;
    }
    client->busy = false;
    uint64_t start_ns = cmq_clock_mono_ns();
    enum dsp_send send = dsp_session_next(&client->session, &err);
    if (v1->hub.follow != UINT64_MAX)
        v1->setup.follow(v1->setup.context, v1->hub.follow);
    if (client->stopped && !dsp_session_is_congested(&client->session)) {
        client->stopped = false;
        (void)lws_rx_flow_control(client->wsi, 1);
    }
    switch (send) {
    case DSP_SEND_FRAME:
        return send_frame(v1, client, start_ns);
    case DSP_SEND_NOTHING:
        return rest(v1, client);
    case DSP_SEND_LATER:
        lws_callback_on_writable(client->wsi);
        return rest(v1, client);
    case DSP_SEND_CLOSE:
        return close_client(client, client->session.closing);
    case DSP_SEND_FAILED:
        break;
    }
    v1->setup.fail(v1->setup.context, err);
    return close_client(client, DSP_CLOSE_INTERNAL);
}

/* ---- receiving ---- */

/* It is closed when its socket takes the frame that says so; nothing more is read of it. */
static void refuse(struct client *client, enum dsp_close code, const char *reason)
{
    char text[CMQ_ADDRESS_TEXT_BYTES];
    if (client->session.closing != DSP_CLOSE_NONE)
        return;
    cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "where=v1 close=%d reason=%s address=%s", code, reason,
            cmq_address_text(&client->session.address, text));
    cmq_buf_clear(&client->received, 0);
    client->session.closing = code;
    lws_callback_on_writable(client->wsi);
}

static int on_received(struct client *client, const void *data, size_t bytes)
{
    struct cmq_buf *received = &client->received;
    size_t left = lws_remaining_packet_payload(client->wsi);
    bool last = left == 0 && lws_is_final_fragment(client->wsi);
    client->heard_ns = cmq_clock_mono_ns();
    if (!dsp_guard_received(&client->guard, &v1_of(&client->session)->setup.guard, client->wsi, bytes))
        refuse(client, DSP_CLOSE_TOO_LARGE, "fragments_max");
    if (client->session.closing != DSP_CLOSE_NONE)
        return 0;
    if (bytes > received->bytes_max - received->bytes ||
        left > received->bytes_max - received->bytes - bytes) {
        refuse(client, DSP_CLOSE_TOO_LARGE, "receive_bytes_max");
        return 0;
    }
    if (last && received->bytes == 0) {
        dsp_session_receive(&client->session, cmq_span_make(data, bytes));
    } else {
        if (cmq_buf_append(received, data, bytes) != CMQ_OK)
            return close_client(client, DSP_CLOSE_INTERNAL);
        if (last) {
            dsp_session_receive(&client->session, cmq_buf_span(received));
            cmq_buf_clear(received, RECEIVED_KEPT);
        }
    }
    if (!client->stopped && dsp_session_is_congested(&client->session)) {
        client->stopped = true;
        (void)lws_rx_flow_control(client->wsi, 0);
    }
    return 0;
}

/* ---- life of a connection ---- */

static void on_login_late(lws_sorted_usec_list_t *sul)
{
    struct client *client = lws_container_of(sul, struct client, login);
    if (!client->session.connected)
        refuse(client, DSP_CLOSE_PROTOCOL, "login_ms");
}

static void on_established(struct dsp_v1 *v1, struct client *client, struct lws *wsi, enum dsp_format format)
{
    uint64_t now_ns = cmq_clock_mono_ns();
    *client = (struct client){
        .wsi = wsi, .heard_ns = now_ns, .progress_ns = now_ns, .written_ns = now_ns, .joined = true};
    dsp_session_init(&client->session, &v1->hub, format);
    const struct cmq_grant grant = dsp_door_take_grant(wsi);
    dsp_session_identify(&client->session, &grant, &dsp_door_visitor(wsi)->address);
    dsp_guard_begin(&client->guard, wsi);
    cmq_buf_init(&client->received, v1->hub.settings.receive_bytes_max);
    client->next = v1->clients;
    if (v1->clients != NULL)
        v1->clients->prev = client;
    v1->clients = client;
    lws_sul_schedule(lws_get_context(wsi), 0, &client->beat, beat,
                     (lws_usec_t)v1->hub.settings.heartbeat_ms * LWS_US_PER_MS);
    lws_sul_schedule(lws_get_context(wsi), 0, &client->login, on_login_late,
                     (lws_usec_t)v1->setup.login_ms * LWS_US_PER_MS);
    v1->setup.joined(v1->setup.context);
    if (v1->hub.draining)
        lws_callback_on_writable(wsi);
}

static void on_closed(struct dsp_v1 *v1, struct client *client)
{
    if (!client->joined)
        return;
    client->joined = false;
    /* The library does not say why it closed: silence for that long means that pings were not answered. */
    if (cmq_clock_mono_ns() - client->heard_ns + CMQ_NS_PER_S >= v1->setup.silence_ns)
        cmq_ring_count(v1->setup.ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
    else if (dsp_guard_is_fault(&client->guard, client->wsi))
        cmq_ring_count(v1->setup.ring, CMQ_COUNT_PROTOCOL_ERRORS, 1);
    lws_sul_schedule(lws_get_context(client->wsi), 0, &client->beat, NULL, LWS_SET_TIMER_USEC_CANCEL);
    lws_sul_schedule(lws_get_context(client->wsi), 0, &client->login, NULL, LWS_SET_TIMER_USEC_CANCEL);
    if (client->prev != NULL)
        client->prev->next = client->next;
    else
        v1->clients = client->next;
    if (client->next != NULL)
        client->next->prev = client->prev;
    dsp_session_fini(&client->session);
    cmq_buf_fini(&client->received);
    v1->setup.left(v1->setup.context);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, struct client *client, void *in,
                    size_t bytes, enum dsp_format format)
{
    const struct lws_protocols *protocol = lws_get_protocol(wsi);
    struct dsp_v1 *v1 = protocol == NULL ? NULL : protocol->user;
    switch ((int)reason) { /* int: the library's list is long and grows */
    case LWS_CALLBACK_ESTABLISHED:
        on_established(v1, client, wsi, format);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return dsp_guard_is_closing(wsi) ? 0 : on_writeable(v1, client);
    case LWS_CALLBACK_TIMER: /* the close was not answered */
        return -1;
    case LWS_CALLBACK_RECEIVE:
        return on_received(client, in, bytes);
    case LWS_CALLBACK_RECEIVE_PONG:
        client->heard_ns = cmq_clock_mono_ns();
        dsp_guard_pong(&client->guard, bytes);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        dsp_guard_peer_closed(&client->guard);
        return 0;
    case LWS_CALLBACK_CLOSED:
        on_closed(v1, client);
        return 0;
    default:
        return 0;
    }
}

static int json_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                         size_t bytes)
{
    return callback(wsi, reason, user, in, bytes, DSP_FORMAT_JSON);
}

static int msgpack_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                            size_t bytes)
{
    return callback(wsi, reason, user, in, bytes, DSP_FORMAT_MSGPACK);
}

/* ---- life of all ---- */

enum cmq_err dsp_v1_new(const struct dsp_v1_setup *setup, struct dsp_v1 **ret_v1)
{
    struct dsp_v1 *v1 = calloc(1, sizeof(*v1));
    if (v1 == NULL)
        return CMQ_ERR_NOMEM;
    v1->setup = *setup;
    v1->hub = (struct dsp_hub){.ring = setup->ring,
                               .source = setup->source,
                               .groups = setup->groups,
                               .access = setup->access,
                               .encoder = setup->encoder,
                               .frame = setup->frame,
                               .settings = setup->session,
                               .follow = UINT64_MAX,
                               .want = want};
    cmq_buf_init(&v1->hub.packed, SIZE_MAX / 2);
    enum cmq_err err = cmq_json_packer_new(setup->session.receive_bytes_max, &v1->hub.packer);
    if (err == CMQ_OK)
        *ret_v1 = v1;
    else
        dsp_v1_free(v1);
    return err;
}

void dsp_v1_free(struct dsp_v1 *v1)
{
    if (v1 == NULL)
        return;
    cmq_assert(v1->clients == NULL);
    dsp_hub_fini(&v1->hub);
    cmq_json_packer_free(v1->hub.packer);
    free(v1);
}

void dsp_v1_protocols(struct dsp_v1 *v1, struct lws_protocols ret_protocols[2])
{
    const struct lws_protocols common = {.per_session_data_size = sizeof(struct client),
                                         .rx_buffer_size = RX_BYTES,
                                         .tx_packet_size = TX_BYTES,
                                         .user = v1};
    ret_protocols[0] = ret_protocols[1] = common;
    ret_protocols[0].name = DSP_V1_JSON;
    ret_protocols[0].callback = json_callback;
    ret_protocols[1].name = DSP_V1_MSGPACK;
    ret_protocols[1].callback = msgpack_callback;
}

void dsp_v1_set_limits(struct dsp_v1 *v1, const struct dsp_push_limits *limits, uint64_t write_timeout_ns)
{
    v1->hub.limits = *limits;
    v1->write_timeout_ns = write_timeout_ns;
}

struct dsp_hub *dsp_v1_hub(struct dsp_v1 *v1)
{
    return &v1->hub;
}

void dsp_v1_recheck(struct dsp_v1 *v1)
{
    for (struct client *client = v1->clients; client != NULL; client = client->next)
        dsp_session_recheck(&client->session);
}

void dsp_v1_look(struct dsp_v1 *v1, uint64_t now_ns)
{
    for (struct client *client = v1->clients; client != NULL; client = client->next)
        if (!client->stopped && !dsp_guard_look(&client->guard, &v1->setup.guard, client->wsi, now_ns))
            refuse(client, DSP_CLOSE_PROTOCOL, "control_rate_max");
}

void dsp_v1_tell(struct dsp_v1 *v1, struct dsp_roll *roll)
{
    for (struct client *client = v1->clients; client != NULL; client = client->next) {
        struct cmq_table_client *row = dsp_session_tell(&client->session, roll);
        if (row == NULL)
            continue;
        row->connected_ms = dsp_door_visitor(client->wsi)->since_ms;
        row->bytes = client->sent_bytes;
    }
}

uint64_t dsp_v1_unread(const struct dsp_v1 *v1)
{
    uint64_t lowest = UINT64_MAX;
    for (const struct client *client = v1->clients; client != NULL; client = client->next)
        lowest = cmq_min_u64(lowest, dsp_session_unread(&client->session));
    return lowest;
}

void dsp_v1_drain(struct dsp_v1 *v1)
{
    v1->hub.draining = true;
    for (struct client *client = v1->clients; client != NULL; client = client->next)
        lws_callback_on_writable(client->wsi);
}
