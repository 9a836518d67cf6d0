/* Requests that bring no message: what is answered to GET, HEAD and OPTIONS. */
#include "ingest/ing_http_int.h"

#include <string.h>

#include "common/base/cmq_buf.h"
#include "ingest/ing_cors.h"
#include "ingest/ing_openapi.h"

/* Not at each request: the question costs system calls. A "no" is asked again, so that a start is seen at once. */
void ing_http_look_around(struct ing_http *http)
{
    bool alive = cmq_ring_role_is_alive(http->ring, CMQ_ROLE_ENCRYPTOR);
    atomic_store_explicit(&http->encryptor_alive, alive, memory_order_relaxed);
}

/* NULL: messages are taken. */
static const char *not_ready(struct ing_http *http)
{
    struct cmq_ring_state state;
    cmq_ring_state(http->ring, &state);
    if (state.draining || atomic_load_explicit(&http->quiet, memory_order_relaxed))
        return "The broker, or this instance of it, is going down.";
    switch (cmq_ring_log_health(http->ring)) {
    case CMQ_LOG_HEALTH_FULL:
        return "The log is full.";
    case CMQ_LOG_HEALTH_FAILED:
        return "The log cannot be written; see the encryptor's log.";
    case CMQ_LOG_HEALTH_NONE:
        return "No encryptor has opened the log yet.";
    case CMQ_LOG_HEALTH_OK:
        break;
    }
    if (!atomic_load_explicit(&http->encryptor_alive, memory_order_relaxed))
        ing_http_look_around(http);
    bool alive = atomic_load_explicit(&http->encryptor_alive, memory_order_relaxed);
    return alive ? NULL : "No encryptor is alive.";
}

static enum MHD_Result answer_ready(struct conn *conn)
{
    const char *why = not_ready(conn->http);
    if (why != NULL) {
        const struct ing_problem problem = ing_problem_make(ING_PROBLEM_NOT_READY, why);
        return ing_http_refuse(conn, &problem);
    }
    struct ing_reply reply;
    ing_reply_status(&reply, "ready");
    return ing_http_send(conn, &reply);
}

/* ---- the others ---- */

static enum MHD_Result answer_metrics(struct conn *conn)
{
    struct cmq_buf text;
    struct ing_reply reply;
    cmq_buf_init(&text, ING_METRICS_BYTES_MAX);
    enum cmq_err err = CMQ_ERR_SYSTEM;
    if (conn->http->metrics != NULL)
        err = conn->http->metrics(conn->http->ring, &text);
    if (err != CMQ_OK) {
        cmq_buf_fini(&text);
        const struct ing_problem problem = ing_problem_make(ING_PROBLEM_INTERNAL, NULL);
        return ing_http_refuse(conn, &problem);
    }
    ing_reply_text_of(&reply, conn->http->metrics_type, cmq_buf_span(&text));
    reply.lasting = false;
    enum MHD_Result result = ing_http_send(conn, &reply);
    cmq_buf_fini(&text);
    return result;
}

static enum MHD_Result answer_options(struct conn *conn)
{
    struct ing_reply reply;
    ing_reply_options(&reply, ing_route_allow(conn->target.route));
    return ing_http_send(conn, &reply);
}

enum MHD_Result ing_http_answer_get(struct conn *conn)
{
    struct ing_reply reply;
    if (conn->method == ING_METHOD_OPTIONS)
        return answer_options(conn);
    switch (conn->target.route) {
    case ING_ROUTE_ROOT:
        ing_reply_root(&reply);
        return ing_http_send(conn, &reply);
    case ING_ROUTE_HEALTH:
        ing_reply_status(&reply, "ok");
        return ing_http_send(conn, &reply);
    case ING_ROUTE_READY:
        return answer_ready(conn);
    case ING_ROUTE_METRICS:
        return answer_metrics(conn);
    case ING_ROUTE_OPENAPI:
        ing_reply_text_of(&reply, "application/json", cmq_span_make(ing_openapi, ing_openapi_bytes));
        return ing_http_send(conn, &reply);
    case ING_ROUTE_NONE:
    case ING_ROUTE_ANY:
    case ING_ROUTE_SINGLE:
    case ING_ROUTE_BATCH:
    case ING_ROUTE_TOPIC:
    case ING_ROUTE_TOPIC_BATCH:
        break;
    }
    return MHD_NO; /* ing_request_judge lets none of them through */
}

/* The headers of a request without a body are there until it has ended. */
static struct cmq_span header_of(struct conn *conn, const char *name)
{
    const char *value = MHD_lookup_connection_value(conn->connection, MHD_HEADER_KIND, name);
    return cmq_span_make(value, value == NULL ? 0 : strlen(value));
}

void ing_http_page_fields(struct conn *conn, struct ing_fields *fields)
{
    if (conn->origin.bytes == 0)
        return;
    ing_cors_fields(conn->origin, fields);
    if (conn->method == ING_METHOD_OPTIONS && header_of(conn, "Access-Control-Request-Method").bytes != 0)
        ing_cors_preflight(ing_route_allow(conn->target.route),
                           header_of(conn, "Access-Control-Request-Headers"), fields);
}
