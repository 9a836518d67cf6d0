#include "dispatcher/dsp_topics.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/shm/cmq_crash.h"
#include "dispatcher/dsp_proto.h"
#include "dispatcher/dsp_sock.h"
#include "dispatcher/dsp_topics_int.h"
#include "dispatcher/dsp_ws_door.h"

enum {
    RX_BYTES = 1024,    /* a client; what clients send is ignored here */
    TX_BYTES = 1 << 30, /* never cut a frame: the library would copy the rest */
    SWEEP_MS_MIN = 20,  /* how often stuck clients are looked for, while any client is busy */
    SWEEP_MS_MAX = 1000,
    SWEEPS_A_TIMEOUT = 8
};

/* Asks for the callback that may write.
 *
 * While an answer by HTTP is not over, the library neither takes what the client sends behind its request nor sleeps because of
 * it; told not to read, it does not write either. So it is told while there is nothing to write, and dsp_topics_look ends who
 * sends more. What it read together with the request it would call back for whenever it is told, which is how that is known
 * before the answer begins: by the probe. */
static void want(struct dsp_topics_conn *conn)
{
    if (conn->probing)
        return; /* it goes on when that is over */
    if (conn->quiet)
        (void)lws_rx_flow_control(conn->wsi, 1);
    conn->quiet = false;
    lws_callback_on_writable(conn->wsi);
}

static void keep_quiet(struct dsp_topics_conn *conn)
{
    if (conn->http && !conn->quiet)
        (void)lws_rx_flow_control(conn->wsi, 0);
    conn->quiet = conn->http;
}

static void close_soon(struct dsp_topics_conn *conn, int code)
{
    if (conn->closing == 0)
        conn->closing = code;
    want(conn);
}

/* ---- waiting for the log ---- */

static void fall_asleep(struct dsp_topics_conn *conn)
{
    struct dsp_topics *topics = conn->topics;
    conn->asleep = true;
    conn->sleep_prev = NULL;
    conn->sleep_next = topics->sleeping;
    if (topics->sleeping != NULL)
        topics->sleeping->sleep_prev = conn;
    topics->sleeping = conn;
    topics->setup.follow(topics->setup.context, conn->feed.sub.cursor.next.seq);
}

static void wake(struct dsp_topics_conn *conn)
{
    if (!conn->asleep)
        return;
    conn->asleep = false;
    if (conn->sleep_prev != NULL)
        conn->sleep_prev->sleep_next = conn->sleep_next;
    else
        conn->topics->sleeping = conn->sleep_next;
    if (conn->sleep_next != NULL)
        conn->sleep_next->sleep_prev = conn->sleep_prev;
}

void dsp_topics_stored(struct dsp_topics *topics)
{
    const struct dsp_topics_setup *setup = &topics->setup;
    struct dsp_topics_conn *next;
    for (struct dsp_topics_conn *conn = topics->sleeping; conn != NULL; conn = next) {
        next = conn->sleep_next;
        if (dsp_sub_pass(&conn->feed.sub, setup->source)) {
            setup->follow(setup->context, conn->feed.sub.cursor.next.seq);
        } else {
            wake(conn);
            want(conn);
        }
    }
}

/* ---- slow clients, as in dsp_ws_v1.c ---- */

static void check_slow(struct dsp_topics_conn *conn, uint64_t now_ns)
{
    struct dsp_topics *topics = conn->topics;
    uint64_t acked_bytes;
    if (dsp_sock_acked_bytes(lws_get_socket_fd(conn->wsi), &acked_bytes) &&
        acked_bytes != conn->acked_bytes) {
        conn->acked_bytes = acked_bytes;
        conn->progress_ns = conn->heard_ns = now_ns;
        if (!conn->http)
            lws_validity_confirmed(conn->wsi);
    } else if (now_ns - conn->progress_ns > topics->write_timeout_ns) {
        cmq_log(CMQ_LOG_INFO, CMQ_EV_CLIENT_SLOW, "endpoint=topic");
        cmq_ring_count(topics->setup.ring, CMQ_COUNT_CLIENTS_DROPPED, 1);
        conn->heard_ns = now_ns; /* counted already */
        conn->busy = false;
        dsp_guard_end(&conn->guard);
        lws_set_timeout(conn->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    }
}

static void sweep(lws_sorted_usec_list_t *sul);

static void schedule_sweep(struct dsp_topics *topics, struct lws_context *context)
{
    uint64_t sweep_ms = topics->write_timeout_ns / CMQ_NS_PER_MS / SWEEPS_A_TIMEOUT;
    sweep_ms = cmq_min_u64(cmq_max_u64(sweep_ms, SWEEP_MS_MIN), SWEEP_MS_MAX);
    topics->sweeping = true;
    lws_sul_schedule(context, 0, &topics->sweep, sweep, (lws_usec_t)sweep_ms * LWS_US_PER_MS);
}

static void sweep(lws_sorted_usec_list_t *sul)
{
    struct dsp_topics *topics = lws_container_of(sul, struct dsp_topics, sweep);
    struct lws_context *context = NULL;
    uint64_t now_ns = cmq_clock_mono_ns();
    for (struct dsp_topics_conn *conn = topics->conns; conn != NULL; conn = conn->next) {
        if (!conn->busy)
            continue;
        context = lws_get_context(conn->wsi);
        check_slow(conn, now_ns);
    }
    topics->sweeping = false;
    if (context != NULL)
        schedule_sweep(topics, context);
}

/* ---- timers ---- */

static void set_timer(struct dsp_topics_conn *conn, sul_cb_t callback, uint64_t in_ns)
{
    lws_sul_schedule(lws_get_context(conn->wsi), 0, &conn->timer, callback,
                     (lws_usec_t)(in_ns / CMQ_NS_PER_US) + 1);
}

static void on_beat(lws_sorted_usec_list_t *sul)
{
    struct dsp_topics_conn *conn = lws_container_of(sul, struct dsp_topics_conn, timer);
    const uint64_t beat_ns = conn->topics->setup.heartbeat_ms * CMQ_NS_PER_MS;
    uint64_t silent_ns = cmq_clock_mono_ns() - conn->written_ns;
    if (silent_ns >= beat_ns) {
        conn->beat_due = true;
        want(conn);
        silent_ns = 0;
    }
    set_timer(conn, on_beat, beat_ns - silent_ns);
}

static void on_waited(lws_sorted_usec_list_t *sul)
{
    struct dsp_topics_conn *conn = lws_container_of(sul, struct dsp_topics_conn, timer);
    dsp_feed_hurry(&conn->feed);
    wake(conn);
    want(conn);
}

static void start_timer(struct dsp_topics_conn *conn)
{
    const struct dsp_topics_setup *setup = &conn->topics->setup;
    if (conn->feed.kind != DSP_TOPIC_JSON)
        set_timer(conn, on_beat, setup->heartbeat_ms * CMQ_NS_PER_MS);
    else if (conn->wait_ms > 0)
        set_timer(conn, on_waited, cmq_min_u64(conn->wait_ms, setup->poll_wait_ms_max) * CMQ_NS_PER_MS);
}

/* ---- sending ---- */

static int fail(const struct dsp_topics_conn *conn, enum cmq_err err)
{
    conn->topics->setup.fail(conn->topics->setup.context, err);
    return -1;
}

static int write_text(struct dsp_topics_conn *conn)
{
    struct dsp_text *text = conn->topics->setup.frame;
    const size_t head_bytes = conn->chunked ? dsp_topic_chunk(text) : 0;
    const size_t bytes = head_bytes + text->bytes;
    uint8_t *start = dsp_text_start(text) - head_bytes;
    if (text->err != CMQ_OK)
        return fail(conn, text->err);
    if (lws_write(conn->wsi, start, bytes, conn->http ? LWS_WRITE_HTTP : LWS_WRITE_TEXT) < (int)bytes)
        return -1;
    CMQ_CRASH_POINT("frame.written");
    if (!conn->http)
        dsp_guard_sent(&conn->guard, bytes);
    conn->busy = true;
    conn->written_ns = conn->progress_ns = cmq_clock_mono_ns();
    if (!conn->topics->sweeping)
        schedule_sweep(conn->topics, lws_get_context(conn->wsi));
    want(conn);
    return 0;
}

static int send_text(struct dsp_topics_conn *conn, uint64_t start_ns)
{
    struct dsp_topics *topics = conn->topics;
    struct cmq_ring *ring = topics->setup.ring;
    conn->beat_due = false;
    if (write_text(conn) != 0)
        return -1;
    cmq_ring_count(ring, CMQ_COUNT_FRAMES, 1);
    cmq_ring_count(ring, CMQ_COUNT_BYTES_OUT, topics->setup.frame->bytes);
    conn->sent_bytes += topics->setup.frame->bytes;
    cmq_ring_count(ring, CMQ_COUNT_WORK_NS, conn->written_ns - start_ns);
    return 0;
}

/* The last of an answer. Without chunks its end is that of the connection. */
static int end(struct dsp_topics_conn *conn)
{
    dsp_guard_end(&conn->guard);
    if (!conn->http)
        lws_close_reason(conn->wsi, (enum lws_close_status)conn->closing, NULL, 0);
    if (!conn->chunked)
        return -1;
    static const char last_chunk[] = "0\r\n\r\n";
    struct dsp_text *text = conn->topics->setup.frame;
    conn->ended = true;
    conn->chunked = false; /* it is one as it stands */
    dsp_text_begin(text);
    dsp_text_add(text, last_chunk, sizeof(last_chunk) - 1);
    return write_text(conn);
}

static int rest(struct dsp_topics_conn *conn)
{
    if (!conn->beat_due)
        return 0;
    dsp_feed_beat(&conn->feed, conn->topics->setup.frame);
    return send_text(conn, cmq_clock_mono_ns());
}

static int send_next(struct dsp_topics_conn *conn)
{
    struct dsp_topics *topics = conn->topics;
    const uint64_t start_ns = cmq_clock_mono_ns();
    enum cmq_err err = CMQ_OK;
    if (conn->hello_due) {
        conn->hello_due = false;
        dsp_feed_hello(&conn->feed, topics->setup.retry_ms, topics->setup.frame);
        return send_text(conn, start_ns);
    }
    switch (conn->asleep ? DSP_FEED_TAIL
                         : dsp_feed_next(&conn->feed, topics->setup.encoder, &topics->limits,
                                         topics->setup.frame, &err)) {
    case DSP_FEED_TEXT:
        cmq_ring_count(topics->setup.ring, CMQ_COUNT_MESSAGES, conn->feed.sub.frame_messages);
        conn->messages += conn->feed.sub.frame_messages;
        return send_text(conn, start_ns);
    case DSP_FEED_TAIL:
        if (!conn->asleep)
            fall_asleep(conn);
        if (!conn->beat_due)
            keep_quiet(conn);
        return rest(conn);
    case DSP_FEED_LATER:
        want(conn);
        return rest(conn);
    case DSP_FEED_END:
        return end(conn);
    case DSP_FEED_FAILED:
        break;
    }
    return fail(conn, err);
}

static void on_probed(lws_sorted_usec_list_t *sul)
{
    struct dsp_topics_conn *conn = lws_container_of(sul, struct dsp_topics_conn, timer);
    conn->probing = false;
    if (dsp_topics_send_head(conn->wsi, &conn->feed, conn->chunked, conn->page) != 0) {
        lws_set_timeout(conn->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
        return;
    }
    (void)lws_http_headers_detach(conn->wsi); /* 5 KiB that are not needed any more */
    start_timer(conn);
    want(conn);
}

/* The loop goes round once more, and then calls back: timers come before or after the sockets of a round. */
static void next_round(struct dsp_topics_conn *conn, sul_cb_t callback)
{
    set_timer(conn, callback, 0);
    lws_cancel_service(lws_get_context(conn->wsi));
}

static void on_asked(lws_sorted_usec_list_t *sul)
{
    next_round(lws_container_of(sul, struct dsp_topics_conn, timer), on_probed);
}

/* See want(). */
static void on_probe(lws_sorted_usec_list_t *sul)
{
    struct dsp_topics_conn *conn = lws_container_of(sul, struct dsp_topics_conn, timer);
    (void)lws_rx_flow_control(conn->wsi, 0);
    (void)lws_rx_flow_control(conn->wsi, 1);
    next_round(conn, on_asked);
}

static int on_writeable(struct dsp_topics_conn *conn)
{
    if (conn->probing)
        return dsp_topics_send_problem(conn->wsi, false, conn->page, &dsp_topics_sent_ahead) - 1;
    if (lws_partial_buffered(conn->wsi) != 0) {
        want(conn);
        return 0;
    }
    conn->busy = false;
    if (conn->ended)
        return -1;
    if (conn->topics->draining && conn->closing == 0)
        conn->closing = DSP_CLOSE_DRAIN;
    return conn->closing != 0 ? end(conn) : send_next(conn);
}

/* ---- receiving ---- */

/* What clients send means nothing here; but it must end somewhere. */
static int on_received(struct dsp_topics_conn *conn, size_t bytes)
{
    const struct dsp_topics_setup *setup = &conn->topics->setup;
    const size_t announced = lws_remaining_packet_payload(conn->wsi);
    conn->heard_ns = cmq_clock_mono_ns();
    if (conn->closing != 0)
        return 0;
    conn->received_bytes += bytes;
    if (!dsp_guard_received(&conn->guard, &setup->guard, conn->wsi, bytes) ||
        conn->received_bytes > setup->receive_bytes_max ||
        announced > setup->receive_bytes_max - conn->received_bytes) {
        cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "where=topic close=%d", DSP_CLOSE_TOO_LARGE);
        close_soon(conn, DSP_CLOSE_TOO_LARGE);
        return 0;
    }
    if (announced == 0 && lws_is_final_fragment(conn->wsi))
        conn->received_bytes = 0;
    return 0;
}

/* Whether it went on sending, or ended that, after its request. */
static bool sent_more(const struct dsp_topics_conn *conn)
{
    uint64_t bytes, unread_bytes;
    return dsp_sock_received(lws_get_socket_fd(conn->wsi), &bytes, &unread_bytes) && bytes > conn->head_bytes;
}

uint64_t dsp_topics_unread(const struct dsp_topics *topics)
{
    uint64_t lowest = UINT64_MAX;
    for (const struct dsp_topics_conn *conn = topics->conns; conn != NULL; conn = conn->next)
        lowest = cmq_min_u64(lowest, conn->feed.sub.cursor.next.seq);
    return lowest;
}

void dsp_topics_look(struct dsp_topics *topics, uint64_t now_ns)
{
    for (struct dsp_topics_conn *conn = topics->conns; conn != NULL; conn = conn->next) {
        if (conn->http && sent_more(conn))
            lws_set_timeout(conn->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
        if (conn->http || conn->closing != 0 ||
            dsp_guard_look(&conn->guard, &topics->setup.guard, conn->wsi, now_ns))
            continue;
        cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "where=topic close=%d", DSP_CLOSE_PROTOCOL);
        close_soon(conn, DSP_CLOSE_PROTOCOL);
    }
}

/* ---- life of a connection ---- */

static struct dsp_topics_conn *conn_of(struct lws *wsi)
{
    const struct dsp_visitor *visitor = dsp_door_visitor(wsi);
    return visitor == NULL ? NULL : visitor->topic;
}

/* The feed is not looked at before the connection's first callback. NULL: no memory. */
static struct dsp_topics_conn *open_conn(struct dsp_topics *topics, struct lws *wsi,
                                         const struct dsp_feed *feed)
{
    const uint64_t now_ns = cmq_clock_mono_ns();
    struct dsp_topics_conn *conn = malloc(sizeof(*conn));
    if (conn == NULL)
        return NULL;
    *conn = (struct dsp_topics_conn){.feed = *feed,
                                     .next = topics->conns,
                                     .topics = topics,
                                     .wsi = wsi,
                                     .heard_ns = now_ns,
                                     .progress_ns = now_ns,
                                     .written_ns = now_ns,
                                     .grant = dsp_door_take_grant(wsi)};
    if (topics->conns != NULL)
        topics->conns->prev = conn;
    topics->conns = conn;
    dsp_door_visitor(wsi)->topic = conn;
    topics->setup.joined(topics->setup.context);
    return conn;
}

static void close_conn(struct dsp_topics_conn *conn)
{
    struct dsp_topics *topics = conn->topics;
    const struct dsp_topics_setup *setup = &topics->setup;
    if (!conn->http && cmq_clock_mono_ns() - conn->heard_ns + CMQ_NS_PER_S >= setup->silence_ns)
        cmq_ring_count(setup->ring, CMQ_COUNT_CLIENTS_DROPPED, 1); /* pings were not answered */
    else if (!conn->http && dsp_guard_is_fault(&conn->guard, conn->wsi))
        cmq_ring_count(setup->ring, CMQ_COUNT_PROTOCOL_ERRORS, 1);
    lws_sul_schedule(lws_get_context(conn->wsi), 0, &conn->timer, NULL, LWS_SET_TIMER_USEC_CANCEL);
    wake(conn);
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        topics->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    dsp_door_visitor(conn->wsi)->topic = NULL;
    cmq_grant_put(&conn->grant);
    free(conn);
    setup->left(setup->context);
}

/* ---- requests ---- */

static int begin_answer(struct dsp_topics *topics, struct lws *wsi, const struct dsp_topics_asked *asked,
                        const struct dsp_feed *feed)
{
    uint64_t unread_bytes;
    struct dsp_topics_conn *conn = open_conn(topics, wsi, feed);
    if (conn == NULL)
        return -1;
    conn->http = true;
    conn->head_bytes = UINT64_MAX; /* an old kernel does not say */
    if (dsp_sock_received(lws_get_socket_fd(wsi), &conn->head_bytes, &unread_bytes))
        conn->head_bytes -= unread_bytes;
    conn->chunked = asked->one_one;
    conn->hello_due = feed->kind == DSP_TOPIC_SSE;
    conn->wait_ms = asked->request.wait_ms;
    conn->page = asked->page;
    conn->probing = true;
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
    set_timer(conn, on_probe, 0);
    return 0;
}

int dsp_topics_answer(struct dsp_topics *topics, struct lws *wsi)
{
    struct dsp_topics_asked asked;
    struct dsp_feed feed;
    int result;
    dsp_topics_read(wsi, &asked);
    const struct dsp_problem *problem = dsp_topics_examine(&topics->setup, wsi, false, &asked, &feed);
    if (problem != NULL)
        result = dsp_topics_send_problem(wsi, asked.method == DSP_TOPICS_HEAD, asked.page, problem);
    else if (asked.method == DSP_TOPICS_OPTIONS)
        result = dsp_topics_send_options(wsi);
    else if (asked.method == DSP_TOPICS_GET)
        return begin_answer(topics, wsi, &asked, &feed);
    else
        result = dsp_topics_send_head(wsi, &feed, asked.one_one, asked.page);
    return result != 0 || lws_http_transaction_completed(wsi) != 0 ? -1 : 0;
}

int dsp_topics_check_upgrade(struct dsp_topics *topics, struct lws *wsi)
{
    struct dsp_topics_asked asked;
    struct dsp_feed feed;
    dsp_topics_read(wsi, &asked);
    const struct dsp_problem *problem = dsp_topics_examine(&topics->setup, wsi, true, &asked, &feed);
    if (problem == NULL)
        return 0;
    return dsp_topics_send_problem(wsi, false, asked.page, problem) == 0 ? 1 : -1;
}

static int on_established(struct dsp_topics *topics, struct lws *wsi)
{
    struct dsp_topics_asked asked;
    struct dsp_feed feed;
    dsp_topics_read(wsi, &asked); /* it was found to be right */
    if (asked.problem.status != 0 ||
        dsp_feed_init(&feed, &asked.request, topics->setup.source, &asked.reason) != CMQ_OK)
        return -1;
    struct dsp_topics_conn *conn = open_conn(topics, wsi, &feed);
    if (conn == NULL)
        return -1;
    dsp_guard_begin(&conn->guard, wsi);
    start_timer(conn);
    lws_callback_on_writable(wsi);
    return 0;
}

int dsp_topics_callback(struct dsp_topics *topics, struct lws *wsi, enum lws_callback_reasons reason,
                        size_t bytes)
{
    struct dsp_topics_conn *conn = conn_of(wsi);
    if (conn == NULL)
        return reason == LWS_CALLBACK_ESTABLISHED ? on_established(topics, wsi) : 0;
    switch ((int)reason) { /* int: the library's list is long and grows */
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return on_writeable(conn);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return dsp_guard_is_closing(wsi) ? 0 : on_writeable(conn);
    case LWS_CALLBACK_TIMER: /* the close was not answered */
        return -1;
    case LWS_CALLBACK_RECEIVE:
        return on_received(conn, bytes);
    case LWS_CALLBACK_RECEIVE_PONG:
        conn->heard_ns = cmq_clock_mono_ns();
        dsp_guard_pong(&conn->guard, bytes);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        dsp_guard_peer_closed(&conn->guard);
        return 0;
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_WSI_DESTROY:
        close_conn(conn);
        return 0;
    default:
        return 0;
    }
}

/* ---- life of all ---- */

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t bytes)
{
    const struct lws_protocols *protocol = lws_get_protocol(wsi);
    (void)user;
    (void)in;
    return protocol == NULL || protocol->user == NULL
               ? 0
               : dsp_topics_callback(protocol->user, wsi, reason, bytes);
}

void dsp_topics_protocol(struct dsp_topics *topics, struct lws_protocols *ret_protocol)
{
    *ret_protocol = (struct lws_protocols){.name = DSP_TOPICS_PROTOCOL,
                                           .callback = callback,
                                           .rx_buffer_size = RX_BYTES,
                                           .tx_packet_size = TX_BYTES,
                                           .user = topics};
}

enum cmq_err dsp_topics_new(const struct dsp_topics_setup *setup, struct dsp_topics **ret_topics)
{
    struct dsp_topics *topics = calloc(1, sizeof(*topics));
    if (topics == NULL)
        return CMQ_ERR_NOMEM;
    topics->setup = *setup;
    *ret_topics = topics;
    return CMQ_OK;
}

void dsp_topics_free(struct dsp_topics *topics)
{
    cmq_assert(topics == NULL || topics->conns == NULL);
    free(topics);
}

void dsp_topics_set_limits(struct dsp_topics *topics, const struct dsp_push_limits *limits,
                           uint64_t write_timeout_ns)
{
    topics->limits = *limits;
    topics->write_timeout_ns = write_timeout_ns;
}

void dsp_topics_recheck(struct dsp_topics *topics)
{
    const struct dsp_topics_setup *setup = &topics->setup;
    for (struct dsp_topics_conn *conn = topics->conns; conn != NULL; conn = conn->next)
        if (!setup->is_live(setup->context, &conn->grant))
            close_soon(conn, DSP_CLOSE_REVOKED);
}

void dsp_topics_drain(struct dsp_topics *topics)
{
    topics->draining = true;
    for (struct dsp_topics_conn *conn = topics->conns; conn != NULL; conn = conn->next)
        want(conn);
}
