#include "ingest/ing_http_int.h"

#include <string.h>

#include "common/base/cmq_clock.h"

void ing_http_free_packer(void *packer)
{
    ing_packer_free(packer);
}

struct ing_packer *ing_http_packer(struct ing_http *http)
{
    struct ing_packer *packer = pthread_getspecific(http->packer_key);
    if (packer != NULL || ing_packer_new(http->request_bytes_max, &http->message_limits, &packer) != CMQ_OK)
        return packer;
    if (pthread_setspecific(http->packer_key, packer) == 0)
        return packer;
    ing_packer_free(packer);
    return NULL;
}

static void suspend(struct conn *conn)
{
    ing_watch_set(&conn->watched, ING_WATCH_BUSY);
    conn->suspended_ns = cmq_clock_mono_ns();
    atomic_store_explicit(&conn->waits, true, memory_order_relaxed); /* by the worker itself */
    MHD_suspend_connection(conn->connection);
}

static void resume(struct conn *conn)
{
    /* Pairs with the acquire load of ing_http_take_stream: what the wait has found is seen there. */
    atomic_store_explicit(&conn->waits, false, memory_order_release);
    MHD_resume_connection(conn->connection);
}

/* ---- waiting: the connection is suspended and not touched by its worker until it is resumed ---- */

static void wait_done(struct ing_wait *wait)
{
    resume((struct conn *)(void *)((char *)wait - offsetof(struct conn, wait)));
}

/* Whether the reply has to wait for the log: for its promise, or to know what became of ids. */
static bool must_wait(const struct conn *conn)
{
    return conn->durable || conn->has_ids;
}

/* The connection is suspended. */
static void wait_for_log(struct conn *conn, uint64_t seq)
{
    conn->phase = PHASE_LOG;
    conn->wait.seq = seq;
    conn->wait.level = conn->durable ? ING_LEVEL_DURABLE : ING_LEVEL_STORED;
    conn->wait.done = wait_done;
    ing_durable_add(conn->http->durable, &conn->wait);
}

/* Runs on the thread that waits for room. One suspension serves both waits. */
static void ticket_done(struct ing_ticket *ticket)
{
    struct conn *conn = (struct conn *)(void *)((char *)ticket - offsetof(struct conn, ticket));
    if (ticket->err == CMQ_OK && must_wait(conn))
        wait_for_log(conn, ticket->seq);
    else
        resume(conn);
}

static enum cmq_err wait_for_room(struct conn *conn, const struct ing_batch *batch)
{
    struct ing_admit *admit = conn->http->admit;
    conn->ticket.done = ticket_done;
    enum cmq_err err =
        ing_ticket_fill(admit, &conn->ticket, batch->parts, CMQ_COUNT_OF(batch->parts), batch->count);
    if (err != CMQ_OK)
        return err;
    conn->phase = PHASE_ROOM;
    /* Suspended first: the ticket may be done before the next line returns. */
    suspend(conn);
    ing_admit_queue(admit, &conn->ticket);
    return CMQ_OK;
}

enum ing_published ing_http_publish(struct conn *conn, const struct ing_batch *batch, enum cmq_err *ret_err)
{
    uint64_t seq = 0;
    *ret_err =
        ing_admit_publish(conn->http->admit, batch->parts, CMQ_COUNT_OF(batch->parts), batch->count, &seq);
    if (*ret_err == CMQ_ERR_AGAIN) {
        *ret_err = wait_for_room(conn, batch);
        return *ret_err == CMQ_OK ? ING_PUBLISH_WAITS : ING_UNPUBLISHED;
    }
    if (*ret_err != CMQ_OK)
        return ING_UNPUBLISHED;
    conn->ticket.seq = seq;
    if (!must_wait(conn))
        return ING_PUBLISHED;
    suspend(conn);
    wait_for_log(conn, seq);
    return ING_PUBLISH_WAITS;
}

/* ---- a whole body ---- */

static bool wants_durable(const struct ing_http *http, const struct conn *conn)
{
    enum ing_ack ack = conn->wish.ack != ING_ACK_UNSAID ? conn->wish.ack : http->ack;
    return ack == ING_ACK_DURABLE && http->can_be_durable;
}

struct ing_order ing_http_order(const struct conn *conn)
{
    return (struct ing_order){
        .format = conn->format,
        .topic = ing_target_topic(&conn->target),
        .key = cmq_span_make(conn->wish.key, conn->wish.key_bytes),
        .type = conn->wish.type,
        .type_text = cmq_span_make(conn->wish.type_text, conn->wish.type_bytes),
        .accepted_at_ms = cmq_clock_wall_ms(),
        .ttl_ms = conn->wish.ttl_ms,
        .headers = cmq_span_make(conn->wish.headers, conn->wish.headers_bytes),
    };
}

/* While the log takes nothing nobody is let in: the record would fill the ring and wait in vain. */
struct ing_problem ing_http_log_problem(struct ing_http *http)
{
    switch (cmq_ring_log_health(http->ring)) {
    case CMQ_LOG_HEALTH_FULL:
        return ing_problem_make(ING_PROBLEM_LOG_FULL, NULL);
    case CMQ_LOG_HEALTH_FAILED:
        return ing_problem_make(ING_PROBLEM_LOG_FAILED, NULL);
    case CMQ_LOG_HEALTH_NONE:
    case CMQ_LOG_HEALTH_OK:
        break;
    }
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}

static struct ing_problem pack(struct conn *conn, struct ing_packer *packer, struct ing_batch *ret_batch)
{
    struct cmq_span body = ing_body_span(&conn->body);
    memset((uint8_t *)(uintptr_t)body.data + body.bytes, 0, CMQ_JSON_PADDING);
    cmq_ring_count(conn->http->ring, CMQ_COUNT_BYTES_IN, body.bytes);
    const struct ing_order order = ing_http_order(conn);
    const size_t bytes = body.bytes;
    struct ing_problem problem = ing_batch_pack(packer, &order, body, ret_batch);
    ing_body_clear(&conn->http->pool, &conn->body);
    ing_http_expect(conn, ret_batch);
    return problem.kind == ING_PROBLEM_NONE ? ing_http_take_rate(conn, conn->messages, bytes) : problem;
}

void ing_http_expect(struct conn *conn, const struct ing_batch *batch)
{
    conn->messages = batch->count;
    conn->has_ids = batch->has_ids;
    conn->has_key = batch->has_key;
    conn->durable = wants_durable(conn->http, conn);
}

enum MHD_Result ing_http_take_messages(struct conn *conn)
{
    struct ing_http *http = conn->http;
    struct ing_packer *packer = ing_http_packer(http);
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_BUSY, NULL);
    if (packer == NULL)
        return ing_http_refuse(conn, &problem);
    uint64_t begin_ns = cmq_clock_mono_ns();
    struct ing_batch batch = {.count = 0};
    enum ing_published published = ING_PUBLISHED;
    enum cmq_err err = CMQ_OK;
    problem = pack(conn, packer, &batch);
    if (problem.kind == ING_PROBLEM_NONE)
        problem = ing_http_log_problem(http);
    if (problem.kind == ING_PROBLEM_NONE && batch.count != 0)
        published = ing_http_publish(conn, &batch, &err);
    cmq_ring_count(http->ring, CMQ_COUNT_WORK_NS, cmq_clock_mono_ns() - begin_ns);
    if (problem.kind != ING_PROBLEM_NONE)
        return ing_http_refuse(conn, &problem);
    switch (published) {
    case ING_PUBLISH_WAITS:
        return MHD_YES;
    case ING_UNPUBLISHED:
        return ing_http_answer_unpublished(conn, err);
    case ING_PUBLISHED:
        break;
    }
    return ing_http_answer_accepted(conn, conn->ticket.seq);
}
