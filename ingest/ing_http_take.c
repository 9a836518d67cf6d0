#include "ingest/ing_http_int.h"

#include <string.h>

#include "common/base/cmq_clock.h"

void ing_http_free_packer(void *packer)
{
    ing_packer_free(packer);
}

static struct ing_packer *own_packer(struct ing_http *http)
{
    struct ing_packer *packer = pthread_getspecific(http->packer_key);
    if (packer != NULL || ing_packer_new(http->request_bytes_max, &http->message_limits, &packer) != CMQ_OK)
        return packer;
    if (pthread_setspecific(http->packer_key, packer) == 0)
        return packer;
    ing_packer_free(packer);
    return NULL;
}

static void resume(struct conn *conn)
{
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

static enum MHD_Result wait_for_room(struct conn *conn, const struct ing_batch *batch)
{
    struct ing_admit *admit = conn->http->admit;
    conn->ticket.done = ticket_done;
    enum cmq_err err =
        ing_ticket_fill(admit, &conn->ticket, batch->parts, CMQ_COUNT_OF(batch->parts), batch->count);
    if (err != CMQ_OK)
        return ing_http_answer_unpublished(conn, err);
    conn->phase = PHASE_ROOM;
    ing_watch_set(&conn->watched, ING_WATCH_BUSY);
    /* Suspended first: the ticket may be done before the next line returns. */
    MHD_suspend_connection(conn->connection);
    ing_admit_queue(admit, &conn->ticket);
    return MHD_YES;
}

static enum MHD_Result published(struct conn *conn, uint64_t seq)
{
    if (!must_wait(conn))
        return ing_http_answer_accepted(conn, seq);
    ing_watch_set(&conn->watched, ING_WATCH_BUSY);
    MHD_suspend_connection(conn->connection);
    wait_for_log(conn, seq);
    return MHD_YES;
}

/* ---- a whole body ---- */

static bool wants_durable(const struct ing_http *http, const struct conn *conn)
{
    enum ing_ack ack = conn->wish.ack != ING_ACK_UNSAID ? conn->wish.ack : http->ack;
    return ack == ING_ACK_DURABLE && http->can_be_durable;
}

static struct ing_order order_of(const struct conn *conn)
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
static struct ing_problem log_problem(struct ing_http *http)
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
    const struct ing_order order = order_of(conn);
    const size_t bytes = body.bytes;
    struct ing_problem problem = ing_batch_pack(packer, &order, body, ret_batch);
    ing_body_clear(&conn->http->pool, &conn->body);
    conn->messages = ret_batch->count;
    conn->has_ids = ret_batch->has_ids;
    conn->has_key = ret_batch->has_key;
    conn->durable = wants_durable(conn->http, conn);
    return problem.kind == ING_PROBLEM_NONE ? ing_http_take_rate(conn, conn->messages, bytes) : problem;
}

enum MHD_Result ing_http_take_messages(struct conn *conn)
{
    struct ing_http *http = conn->http;
    struct ing_packer *packer = own_packer(http);
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_BUSY, NULL);
    if (packer == NULL)
        return ing_http_refuse(conn, &problem);
    uint64_t begin_ns = cmq_clock_mono_ns();
    struct ing_batch batch = {.count = 0};
    problem = pack(conn, packer, &batch);
    if (problem.kind == ING_PROBLEM_NONE)
        problem = log_problem(http);
    enum cmq_err err = CMQ_OK;
    uint64_t seq = 0;
    if (problem.kind == ING_PROBLEM_NONE && batch.count != 0)
        err = ing_admit_publish(http->admit, batch.parts, CMQ_COUNT_OF(batch.parts), batch.count, &seq);
    cmq_ring_count(http->ring, CMQ_COUNT_WORK_NS, cmq_clock_mono_ns() - begin_ns);
    if (problem.kind != ING_PROBLEM_NONE)
        return ing_http_refuse(conn, &problem);
    if (err == CMQ_ERR_AGAIN)
        return wait_for_room(conn, &batch);
    if (err != CMQ_OK)
        return ing_http_answer_unpublished(conn, err);
    return batch.count == 0 ? ing_http_answer_accepted(conn, 0) : published(conn, seq);
}
