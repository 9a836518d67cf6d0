/* What the delivery thread does besides the library: hooks of the groups, and timers. */
#include "common/base/cmq_clock.h"
#include "dispatcher/dsp_access.h"
#include "dispatcher/dsp_letters.h"
#include "dispatcher/dsp_roll.h"
#include "dispatcher/dsp_topics.h"
#include "dispatcher/dsp_ws_board.h"
#include "dispatcher/dsp_ws_int.h"

enum {
    TIMER_MS = 20, /* how exact ack waits and delays are */
    TIMER_IDLE_MS = 250,
    TELL_MS = 500, /* how old the tables may be */
    TELL_IDLE_MS = 1000,
    WATCH_MS = 1000
};

/* ---- groups ---- */

static void on_ready(void *context, struct dsp_member *member)
{
    struct dsp_ws *ws = context;
    if (dsp_group_is_auto_ack(member->group))
        dsp_client_ready(member);
    else
        dsp_hub_ready(dsp_v1_hub(ws->v1), member);
}

static void on_gap(void *context, struct dsp_member *member, uint64_t from, uint64_t to, bool damaged)
{
    struct dsp_ws *ws = context;
    if (!dsp_group_is_auto_ack(
            member->group)) /* the root endpoint has no frames but messages: the log says it */
        dsp_hub_gap(dsp_v1_hub(ws->v1), member, from, to, damaged);
}

/* In the ledger's thread, as the next one. */
static void on_durable(void *context)
{
    dsp_ws_ask(context, DSP_ASK_DURABLE);
}

static void on_ledger_failed(void *context, enum cmq_err err)
{
    dsp_ws_fail(context, err);
}

static enum cmq_err publish_dead(void *context, struct cmq_span topic, struct cmq_span message,
                                 uint64_t *ret_seq)
{
    return dsp_letters_publish(((struct dsp_ws *)context)->letters, topic, message, ret_seq);
}

enum cmq_err dsp_ws_open_groups(struct dsp_ws *ws, const struct dsp_parts *parts)
{
    const struct dsp_groups_setup setup = {.ring = parts->ring,
                                           .source = parts->source,
                                           .ledger = parts->ledger,
                                           .tables = cmq_tables_of(parts->ring),
                                           .on_ready = on_ready,
                                           .on_durable = on_durable,
                                           .on_failed = on_ledger_failed,
                                           .on_gap = on_gap,
                                           .publish_dead = publish_dead,
                                           .context = ws,
                                           .commit_ms = ws->proc->conf.dispatcher_commit_ms};
    ws->source = parts->source;
    ws->letters = parts->letters;
    return dsp_groups_new(&setup, &ws->groups);
}

/* ---- timers ---- */

static void on_timer(lws_sorted_usec_list_t *sul);

/* While anybody is connected: deadlines, and claims of dispatchers that died meanwhile. */
static void start_timer(struct dsp_ws *ws)
{
    if (ws->timing || ws->stopped)
        return;
    ws->timing = true;
    bool deadlines = dsp_groups_due(ws->groups) != UINT64_MAX;
    lws_sul_schedule(ws->context, 0, &ws->timer, on_timer,
                     (lws_usec_t)(deadlines ? TIMER_MS : TIMER_IDLE_MS) * LWS_US_PER_MS);
}

static void on_timer(lws_sorted_usec_list_t *sul)
{
    struct dsp_ws *ws = lws_container_of(sul, struct dsp_ws, timer);
    const uint64_t now_ns = cmq_clock_mono_ns();
    ws->timing = false;
    if (dsp_groups_due(ws->groups) <= now_ns)
        (void)dsp_groups_tick(ws->groups, now_ns);
    else
        dsp_groups_poke(ws->groups);
    if (ws->client_count > 0 || dsp_groups_due(ws->groups) != UINT64_MAX)
        start_timer(ws);
    if (ws->draining)
        dsp_ws_check_drained(ws);
}

void dsp_ws_recheck_all(struct dsp_ws *ws)
{
    dsp_clients_recheck(ws);
    dsp_v1_recheck(ws->v1);
    dsp_topics_recheck(ws->topics);
    dsp_board_recheck(ws->board);
}

/* How many records of the log the slowest reader here has not read. */
static void tell_lag(struct dsp_ws *ws)
{
    const uint64_t stored = dsp_source_stored(ws->source);
    uint64_t lowest = cmq_min_u64(dsp_groups_unread(ws->groups), dsp_v1_unread(ws->v1));
    lowest = cmq_min_u64(lowest, dsp_topics_unread(ws->topics));
    cmq_ring_gauge(ws->ring, CMQ_COUNT_LAG, lowest < stored ? stored - lowest : 0);
}

static void on_watch(lws_sorted_usec_list_t *sul);

static void start_watch(struct dsp_ws *ws)
{
    if (ws->watching || ws->stopped)
        return;
    ws->watching = true;
    lws_sul_schedule(ws->context, 0, &ws->watch, on_watch, (lws_usec_t)WATCH_MS * LWS_US_PER_MS);
}

static void on_watch(lws_sorted_usec_list_t *sul)
{
    struct dsp_ws *ws = lws_container_of(sul, struct dsp_ws, watch);
    const uint64_t now_ns = cmq_clock_mono_ns();
    ws->watching = false;
    dsp_clients_look(ws, now_ns);
    dsp_v1_look(ws->v1, now_ns);
    dsp_topics_look(ws->topics, now_ns);
    tell_lag(ws);
    if (!dsp_access_is_open(ws->access)) /* a grant ends by itself, too */
        dsp_ws_recheck_all(ws);
    if (ws->client_count > 0)
        start_watch(ws);
}

/* ---- tables ---- */

static void tell(lws_sorted_usec_list_t *sul)
{
    struct dsp_ws *ws = lws_container_of(sul, struct dsp_ws, teller);
    struct dsp_roll roll;
    if (ws->stopped)
        return;
    dsp_groups_tell(ws->groups);
    dsp_roll_begin(&roll, dsp_source_stored(ws->source));
    dsp_clients_tell(ws, &roll);
    dsp_v1_tell(ws->v1, &roll);
    dsp_topics_tell(ws->topics, &roll);
    dsp_board_tell(ws->board, &roll);
    cmq_ring_gauge(ws->ring, CMQ_COUNT_SUBSCRIPTIONS, roll.subscriptions);
    cmq_tables_clients(ws->tables, roll.rows, roll.count, roll.total, roll.subscriber_lag);
    lws_sul_schedule(ws->context, 0, &ws->teller, tell,
                     (lws_usec_t)(ws->client_count > 0 ? TELL_MS : TELL_IDLE_MS) * LWS_US_PER_MS);
}

void dsp_ws_start_telling(struct dsp_ws *ws)
{
    ws->tables = cmq_tables_of(ws->ring);
    lws_sul_schedule(ws->context, 0, &ws->teller, tell, 1);
}

void dsp_ws_start_timers(struct dsp_ws *ws)
{
    start_timer(ws);
    start_watch(ws);
}
