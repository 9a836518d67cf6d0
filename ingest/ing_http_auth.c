/* Who asks, what that one may do, and how much. */
#include "ingest/ing_http_int.h"

#include "common/base/cmq_clock.h"

#define NO_METRICS "this token has no right to read the metrics: it needs admin"

static bool may(const struct conn *conn)
{
    if (conn->target.route == ING_ROUTE_METRICS)
        return cmq_grant_allows(&conn->grant, CMQ_RIGHT_ADMIN, cmq_span_make(NULL, 0));
    /* A topic that is wrong is refused for that, later; there is nothing to have a right to. */
    return conn->target.topic_bytes == 0 ||
           cmq_grant_allows(&conn->grant, CMQ_RIGHT_PUBLISH, ing_target_topic(&conn->target));
}

/* A token whose allowance is used up is told so before it sends a body. */
static struct ing_problem judge_rate(struct conn *conn)
{
    const struct ing_http *http = conn->http;
    cmq_grant_take(&conn->grant, 0, 0, http->messages_rate, http->bytes_rate, conn->start_ns, &conn->rate);
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_NONE, NULL);
    if (conn->rate.limit != 0 && conn->rate.remaining == 0) {
        problem.kind = ING_PROBLEM_RATE;
        problem.retry_s = conn->rate.reset_s;
    }
    return problem;
}

struct ing_problem ing_http_authorize(struct conn *conn, const struct ing_head *head)
{
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_NONE, NULL);
    const enum ing_route route = conn->target.route;
    if (route != ING_ROUTE_METRICS && !ing_route_takes_messages(route))
        return problem;
    conn->token_sent = head->token.bytes != 0;
    switch (cmq_auth_check(conn->http->auth, head->token, ing_http_peer_name(conn),
                           cmq_address_span(&conn->address), &conn->grant)) {
    case CMQ_AUTH_OK:
        break;
    case CMQ_AUTH_MISSING:
    case CMQ_AUTH_UNKNOWN:
        problem.kind = ING_PROBLEM_UNAUTHORIZED;
        return problem;
    case CMQ_AUTH_EXPIRED:
        return ing_problem_make(ING_PROBLEM_UNAUTHORIZED, "This token has expired.");
    case CMQ_AUTH_LIMITED:
        problem.kind = ING_PROBLEM_TOO_MANY_FAILURES;
        problem.retry_s = ING_FAILURES_RETRY_S;
        return problem;
    }
    if (conn->grant.open)
        return problem;
    if (!may(conn))
        return ing_problem_make(ING_PROBLEM_FORBIDDEN, route == ING_ROUTE_METRICS ? NO_METRICS : NULL);
    return judge_rate(conn);
}

struct ing_problem ing_http_take_rate(struct conn *conn, uint32_t messages, size_t bytes)
{
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_NONE, NULL);
    const struct ing_http *http = conn->http;
    if (conn->grant.entry == NULL)
        return problem;
    cmq_grant_take(&conn->grant, messages, bytes, http->messages_rate, http->bytes_rate, cmq_clock_mono_ns(),
                   &conn->rate);
    if (!conn->rate.ok) {
        problem.kind = ING_PROBLEM_RATE;
        problem.retry_s = conn->rate.reset_s;
    }
    return problem;
}

/* draft-ietf-httpapi-ratelimit-headers-06, section 3 */
void ing_http_rate_fields(const struct conn *conn, struct ing_fields *fields)
{
    if (conn->rate.limit == 0)
        return;
    ing_fields_put_u64(fields, "RateLimit-Limit", conn->rate.limit);
    ing_fields_put_u64(fields, "RateLimit-Remaining", conn->rate.remaining);
    ing_fields_put_u64(fields, "RateLimit-Reset", conn->rate.reset_s);
}

/* RFC 6750 section 3: without an error code when the request had no token at all. */
const char *ing_http_challenge(const struct conn *conn, enum ing_problem_kind kind)
{
    if (kind == ING_PROBLEM_FORBIDDEN)
        return "Bearer realm=\"ciphermq\", error=\"insufficient_scope\"";
    if (kind != ING_PROBLEM_UNAUTHORIZED)
        return NULL;
    return conn->token_sent ? "Bearer realm=\"ciphermq\", error=\"invalid_token\""
                            : "Bearer realm=\"ciphermq\"";
}
