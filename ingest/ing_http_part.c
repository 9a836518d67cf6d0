/* A body that is taken whole, while it comes. */
#include "ingest/ing_http_int.h"

/* Inflated at a time. */
enum { CHUNK_BYTES = 16 * 1024 };

static struct ing_problem append(struct conn *conn, const void *data, size_t bytes)
{
    if (bytes > conn->http->request_bytes_max - conn->body.bytes)
        return ing_problem_make(ING_PROBLEM_TOO_LARGE, NULL);
    if (ing_body_append(&conn->http->pool, &conn->body, data, bytes) != CMQ_OK)
        return ing_problem_make(ING_PROBLEM_BUSY, NULL);
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}

struct ing_problem ing_http_gzip_problem(enum cmq_err err)
{
    if (err == CMQ_ERR_TOO_BIG)
        return ing_problem_make(ING_PROBLEM_TOO_LARGE,
                                "The body grows more than ingest.gzip_ratio_max times.");
    return ing_problem_make(err == CMQ_ERR_NOMEM ? ING_PROBLEM_BUSY : ING_PROBLEM_MALFORMED_GZIP, NULL);
}

static struct ing_problem append_inflated(struct conn *conn, struct cmq_span in)
{
    struct ing_problem problem = ing_problem_make(ING_PROBLEM_NONE, NULL);
    uint8_t chunk[CHUNK_BYTES];
    size_t made;
    do {
        enum cmq_err err = ing_gzip_step(conn->gzip, &in, chunk, sizeof chunk, &made);
        problem = err == CMQ_OK ? append(conn, chunk, made) : ing_http_gzip_problem(err);
    } while (problem.kind == ING_PROBLEM_NONE && made == sizeof chunk);
    return problem;
}

enum MHD_Result ing_http_take_part(struct conn *conn, const char *data, size_t bytes)
{
    const struct ing_problem problem =
        conn->gzip == NULL ? append(conn, data, bytes) : append_inflated(conn, cmq_span_make(data, bytes));
    if (problem.kind != ING_PROBLEM_NONE)
        return ing_http_refuse_now(conn, &problem);
    if (conn->body.block != NULL)
        ing_watch_set(&conn->watched,
                      ing_watch_body_deadline(&conn->http->watch, conn->start_ns, conn->body.bytes));
    return MHD_YES;
}

enum MHD_Result ing_http_end_body(struct conn *conn)
{
    if (conn->gzip == NULL || ing_gzip_is_whole(conn->gzip))
        return ing_http_take_messages(conn);
    const struct ing_problem problem = ing_problem_make(ING_PROBLEM_MALFORMED_GZIP, NULL);
    return ing_http_refuse(conn, &problem);
}
