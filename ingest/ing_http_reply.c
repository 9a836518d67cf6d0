#include "ingest/ing_http_int.h"

#include <assert.h>
#include <sys/socket.h>
#include <time.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"

void ing_http_count_refusal(struct ing_http *http, enum ing_problem_kind kind)
{
    static const enum cmq_counter counter[] = {[ING_REFUSAL_BAD] = CMQ_COUNT_REJECTED_BAD,
                                               [ING_REFUSAL_LARGE] = CMQ_COUNT_REJECTED_LARGE,
                                               [ING_REFUSAL_AUTH] = CMQ_COUNT_REJECTED_AUTH,
                                               [ING_REFUSAL_RATE] = CMQ_COUNT_REJECTED_RATE,
                                               [ING_REFUSAL_FULL] = CMQ_COUNT_REJECTED_FULL};
    cmq_ring_count(http->ring, counter[ing_problem_info(kind)->refusal], 1);
}

/* All fields but the framing. */
static void fill_fields(struct conn *conn, const struct ing_reply *reply, struct ing_fields *fields)
{
    ing_fields_init(fields);
    ing_reply_fields(reply, fields);
    ing_http_page_fields(conn, fields);
    ing_http_rate_fields(conn, fields);
}

static bool add_headers(struct conn *conn, struct MHD_Response *response, const struct ing_reply *reply)
{
    struct ing_fields fields;
    bool close = reply->close || atomic_load_explicit(&conn->http->quiet, memory_order_relaxed);
    fill_fields(conn, reply, &fields);
    for (size_t i = 0; i < fields.count; i++)
        if (MHD_add_response_header(response, fields.field[i].name, fields.field[i].value) != MHD_YES)
            return false;
    return !close || MHD_add_response_header(response, "Connection", "close") == MHD_YES;
}

/* Whoever does not read his reply is ended like one who does not send his request. */
static void watch_reply(struct conn *conn, size_t bytes)
{
    const uint64_t now_ns = cmq_clock_mono_ns();
    ing_watch_set(&conn->watched, ing_watch_body_deadline(&conn->http->watch, now_ns, bytes));
    if (conn->method == ING_METHOD_POST)
        cmq_ring_observe(conn->http->ring, CMQ_HIST_REQUEST, now_ns - conn->start_ns);
}

enum MHD_Result ing_http_send(struct conn *conn, const struct ing_reply *reply)
{
    const uint8_t *body = reply->text != NULL ? reply->text : reply->body;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(reply->body_bytes, (void *)(uintptr_t)body,
                                        reply->lasting ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    enum MHD_Result result = MHD_NO;
    if (add_headers(conn, response, reply))
        result = MHD_queue_response(conn->connection, reply->status, response);
    MHD_destroy_response(response);
    conn->phase = PHASE_ANSWERED;
    watch_reply(conn, reply->body_bytes);
    cmq_ring_count(conn->http->ring, CMQ_COUNT_REQUESTS, 1);
    return result;
}

static void fill_refusal(struct conn *conn, const struct ing_problem *problem, struct ing_reply *reply)
{
    ing_reply_problem(reply, problem, ing_route_allow(conn->target.route));
    reply->challenge = ing_http_challenge(conn, problem->kind);
    ing_http_count_refusal(conn->http, problem->kind);
}

enum MHD_Result ing_http_refuse(struct conn *conn, const struct ing_problem *problem)
{
    struct ing_reply reply;
    fill_refusal(conn, problem, &reply);
    return ing_http_send(conn, &reply);
}

bool ing_http_write_last(struct conn *conn, const void *data, size_t bytes)
{
    static_assert(ING_REPLY_TEXT_BYTES_MAX <= 16384, "a TLS record holds it");
    bool written = conn->http->tls != NULL
                       ? ing_tls_write_last(&conn->tls, data, bytes)
                       : send(conn->watched.fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)bytes;
    if (written)
        (void)shutdown(conn->watched.fd, SHUT_WR);
    return written;
}

enum MHD_Result ing_http_send_now(struct conn *conn, const struct ing_reply *reply)
{
    struct ing_fields fields;
    uint8_t text[ING_REPLY_TEXT_BYTES_MAX];
    fill_fields(conn, reply, &fields);
    size_t bytes = ing_reply_text(text, reply, &fields, (time_t)(cmq_clock_wall_ms() / 1000u));
    cmq_ring_count(conn->http->ring, CMQ_COUNT_REQUESTS, 1);
    ing_body_clear(&conn->http->pool, &conn->body);
    if (!ing_http_write_last(conn, text, bytes))
        return MHD_NO;
    conn->phase = PHASE_LINGER;
    conn->lingered_bytes = 0;
    ing_watch_set(&conn->watched, cmq_clock_mono_ns() + ING_WATCH_LINGER_NS);
    return MHD_YES;
}

enum MHD_Result ing_http_refuse_now(struct conn *conn, const struct ing_problem *problem)
{
    struct ing_reply reply;
    fill_refusal(conn, problem, &reply);
    return ing_http_send_now(conn, &reply);
}

enum MHD_Result ing_http_answer_unpublished(struct conn *conn, enum cmq_err err)
{
    struct ing_problem problem = ing_reply_publish_problem(err);
    if (problem.kind == ING_PROBLEM_FULL)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_RING_FULL, "text=\"a request was refused\"");
    return ing_http_refuse(conn, &problem);
}

enum MHD_Result ing_http_answer_accepted(struct conn *conn, uint64_t seq)
{
    const struct ing_accepted accepted = {
        .id = {.seq = seq}, .count = conn->messages, .durable = conn->durable};
    struct ing_reply reply;
    ing_reply_accepted(&reply, &accepted);
    return ing_http_send(conn, &reply);
}

/* The log has passed the record. */
static enum MHD_Result answer_outcome(struct conn *conn)
{
    const struct cmq_outcome *outcome = &conn->wait.outcome;
    struct ing_accepted accepted = {
        .id = {.seq = conn->wait.seq}, .count = conn->messages, .durable = conn->durable};
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_CONFLICT, NULL);
    struct ing_reply reply;
    switch (outcome->kind) {
    case CMQ_OUTCOME_KEPT:
        break;
    case CMQ_OUTCOME_DUPLICATE:
        accepted.id = (struct cmq_id){.seq = outcome->seq, .index = outcome->index};
        accepted.duplicate = true;
        break;
    case CMQ_OUTCOME_PART:
        accepted.duplicates = outcome->index;
        break;
    case CMQ_OUTCOME_CONFLICT:
        problem.index = conn->has_key ? ING_INDEX_NONE : outcome->index;
        return ing_http_refuse(conn, &problem);
    case CMQ_OUTCOME_VOID:
        problem = ing_problem_make(ING_PROBLEM_INTERNAL,
                                   "The broker could not read its own record; nothing of it was kept.");
        return ing_http_refuse(conn, &problem);
    }
    ing_reply_accepted(&reply, &accepted);
    return ing_http_send(conn, &reply);
}

struct ing_problem ing_http_wait_problem(struct conn *conn)
{
    enum ing_problem_kind kind = ING_PROBLEM_NOT_DURABLE;
    switch (conn->wait.end) {
    case ING_WAIT_FULL:
        kind = ING_PROBLEM_LOG_FULL;
        break;
    case ING_WAIT_FAILED:
        kind = ING_PROBLEM_LOG_FAILED;
        break;
    case ING_WAIT_DONE:
    case ING_WAIT_UNKNOWN:
    case ING_WAIT_LATE:
    case ING_WAIT_STOPPED:
        break;
    }
    return ing_problem_make(kind, ING_MAY_BE_KEPT);
}

enum MHD_Result ing_http_answer_waited(struct conn *conn)
{
    cmq_ring_observe(conn->http->ring, CMQ_HIST_LOG_WAIT, cmq_clock_mono_ns() - conn->suspended_ns);
    if (conn->wait.end == ING_WAIT_DONE)
        return answer_outcome(conn);
    const struct ing_problem problem = ing_http_wait_problem(conn);
    return ing_http_refuse(conn, &problem);
}
