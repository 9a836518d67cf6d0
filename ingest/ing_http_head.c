/* The head of a request: judged, and what of it is needed later is kept. */
#include "ingest/ing_http_int.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/cmq_headers.h"
#include "ingest/ing_cors.h"

static enum MHD_Result see_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_bytes,
                                  const char *value, size_t value_bytes)
{
    (void)kind;
    bool more = ing_head_add(cls, cmq_span_make(name, name_bytes),
                             cmq_span_make(value, value == NULL ? 0 : value_bytes));
    return more ? MHD_YES : MHD_NO;
}

/* The carried headers, checked and packed, on the heap. */
static struct ing_problem take_carried(struct conn *conn, const struct ing_head *head)
{
    struct cmq_reason reason;
    const size_t bytes = ing_head_carried_bytes(head);
    uint8_t *packed = malloc(bytes + CMQ_HEADERS_ROOM), *memory = malloc(bytes + 1);
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_BUSY, NULL);
    if (packed != NULL && memory != NULL) {
        enum cmq_err err = ing_head_pack_carried(head, memory, packed, &conn->wish.headers_bytes, &reason);
        (void)snprintf(conn->target.detail, sizeof conn->target.detail, "%.*s",
                       (int)sizeof conn->target.detail - 1, err == CMQ_OK ? "" : reason.text);
        problem = err == CMQ_OK ? ing_problem_make(ING_PROBLEM_NONE, NULL)
                                : ing_problem_make(ING_PROBLEM_BAD_HEADER, conn->target.detail);
    }
    free(memory);
    if (problem.kind == ING_PROBLEM_NONE)
        conn->wish.headers = packed;
    else
        free(packed);
    return problem;
}

/* The headers are the library's and go away with the body. */
static struct ing_problem take_wish(struct conn *conn, const struct ing_head *head)
{
    struct ing_wish *wish = &conn->wish;
    wish->ack = head->ack;
    wish->type = head->type;
    wish->ttl_ms = head->ttl_ms;
    wish->key_bytes = (uint8_t)head->key.bytes;
    if (head->key.bytes != 0)
        memcpy(wish->key, head->key.data, head->key.bytes);
    wish->type_bytes = 0;
    if (head->type == CMQ_TYPE_OTHER) {
        wish->type_bytes = (uint8_t)head->type_text.bytes;
        memcpy(wish->type_text, head->type_text.data, head->type_text.bytes);
    }
    return head->carried_count == 0 ? ing_problem_make(ING_PROBLEM_NONE, NULL) : take_carried(conn, head);
}

static struct ing_problem judge(struct conn *conn, const struct ing_head *head, const char *version)
{
    struct ing_problem problem = ing_request_judge(head, &conn->target, conn->method, version);
    if (problem.kind == ING_PROBLEM_NONE && conn->method != ING_METHOD_OPTIONS)
        problem = ing_http_authorize(conn, head);
    if (problem.kind != ING_PROBLEM_NONE || conn->method != ING_METHOD_POST)
        return problem;
    problem = ing_request_judge_content(head, &conn->target, conn->http->request_bytes_max, &conn->format);
    return problem.kind == ING_PROBLEM_NONE ? take_wish(conn, head) : problem;
}

/* What the body needs beside the connection. */
static struct ing_problem prepare_body(struct conn *conn, const struct ing_head *head)
{
    struct ing_body_pool *pool = &conn->http->pool;
    const struct ing_problem busy = ing_problem_make(ING_PROBLEM_BUSY, NULL);
    const bool known = head->has_length && head->coding == ING_CODING_NONE;
    const bool streamed = conn->method == ING_METHOD_POST && conn->format == ING_FORMAT_LINES;
    if (streamed)
        ing_body_init_stream(&conn->body);
    else
        ing_body_init(&conn->body, known ? (size_t)head->content_length : 0);
    if (head->coding == ING_CODING_GZIP && conn->method == ING_METHOD_POST) {
        if (!ing_body_pool_reserve(pool, ING_GZIP_BYTES))
            return busy;
        if (ing_gzip_new(conn->http->gzip_ratio_max, &conn->gzip) != CMQ_OK) {
            ing_body_pool_release(pool, ING_GZIP_BYTES);
            return busy;
        }
    }
    ing_http_expect(conn, &(struct ing_batch){.count = 0});
    if (streamed && (conn->stream = ing_stream_new(pool, conn->http->stream_errors_max)) == NULL)
        return busy;
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}

enum MHD_Result ing_http_take_head(struct conn *conn, const char *method, const char *version)
{
    struct ing_head head;
    ing_head_init(&head, &conn->http->head_limits);
    (void)MHD_get_connection_values_n(conn->connection, MHD_HEADER_KIND, see_header, &head);
    conn->method = ing_method_of(method);
    conn->origin = ing_cors_match(conn->http->cors_origins, head.origin);
    struct ing_problem problem = judge(conn, &head, version);
    if (problem.kind == ING_PROBLEM_NONE)
        problem = prepare_body(conn, &head);
    /* A reply now would make the library close the connection, as if a body were unread. */
    bool unread = ing_head_has_body(&head) || problem.kind == ING_PROBLEM_BAD_REQUEST ||
                  problem.kind == ING_PROBLEM_HEADERS;
    if (problem.kind != ING_PROBLEM_NONE && unread)
        return ing_http_refuse_now(conn, &problem);
    if (problem.kind != ING_PROBLEM_NONE) {
        conn->phase = PHASE_REFUSED;
        conn->problem = problem;
        return MHD_YES;
    }
    conn->phase = PHASE_BODY;
    return MHD_YES;
}

void ing_http_forget(struct conn *conn)
{
    free(conn->wish.headers);
    conn->wish.headers = NULL;
    conn->wish.headers_bytes = 0;
    if (conn->gzip != NULL)
        ing_body_pool_release(&conn->http->pool, ING_GZIP_BYTES);
    ing_gzip_free(conn->gzip);
    conn->gzip = NULL;
    ing_stream_free(conn->stream);
    conn->stream = NULL;
    cmq_grant_put(&conn->grant);
    conn->rate.limit = 0;
    conn->token_sent = false;
}
