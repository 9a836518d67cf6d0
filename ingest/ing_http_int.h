/*
 * ing_http_int: what the files of ing_http do for each other.
 * Ownership: as ing_http_conn.h.
 * Units: as ing_http.h.
 * Errors: MHD_NO closes the connection.
 * Callers: the files named ing_http_.
 */
#ifndef ING_HTTP_INT_H
#define ING_HTTP_INT_H

#include "ingest/ing_http_conn.h"

/* The name in the client's certificate; bytes 0: it has none. Lives as long as the connection. */
static inline struct cmq_span ing_http_peer_name(struct conn *conn)
{
    return ing_tls_peer_name(&conn->tls);
}

/* ---- ing_http_auth ---- */

/* Whether the request may go on, by its token, certificate, address and allowance. Fills conn->grant. */
struct ing_problem ing_http_authorize(struct conn *conn, const struct ing_head *head);
/* Takes so much from the allowance, or says that it is used up. */
struct ing_problem ing_http_take_rate(struct conn *conn, uint32_t messages, size_t bytes);
void ing_http_rate_fields(const struct conn *conn, struct ing_fields *fields);
/* For WWW-Authenticate; NULL: not with this problem. */
const char *ing_http_challenge(const struct conn *conn, enum ing_problem_kind kind);

/* ---- ing_http_get ---- */

/* For /readyz. The main thread, now and then. */
void ing_http_look_around(struct ing_http *http);
enum MHD_Result ing_http_answer_get(struct conn *conn);
/* For browsers. */
void ing_http_page_fields(struct conn *conn, struct ing_fields *fields);

/* ---- ing_http_head ---- */

enum MHD_Result ing_http_take_head(struct conn *conn, const char *method, const char *version);
/* Gives back what a request holds beside its body. */
void ing_http_forget(struct conn *conn);

/* ---- ing_http_reply ---- */

enum MHD_Result ing_http_send(struct conn *conn, const struct ing_reply *reply);
/* A refusal of a request that has no body, or whose body was read. */
enum MHD_Result ing_http_refuse(struct conn *conn, const struct ing_problem *problem);
/* A refusal of a request whose body is still coming. The library takes no reply then; nothing of it is under way on this
 * socket, and nothing will be, for the socket is shut down for writing. */
enum MHD_Result ing_http_refuse_now(struct conn *conn, const struct ing_problem *problem);
/* The same with any reply that has its text in reply->body. */
enum MHD_Result ing_http_send_now(struct conn *conn, const struct ing_reply *reply);
/* The last bytes that this client gets, past the library and through TLS if that is spoken: all or false; then the end of
 * the stream. */
CMQ_MUST_USE bool ing_http_write_last(struct conn *conn, const void *data, size_t bytes);
/* The record could not be published. */
enum MHD_Result ing_http_answer_unpublished(struct conn *conn, enum cmq_err err);
/* The record is in the ring and nothing more was asked for. */
enum MHD_Result ing_http_answer_accepted(struct conn *conn, uint64_t seq);
/* conn->wait is done. */
enum MHD_Result ing_http_answer_waited(struct conn *conn);
/* What an end of conn->wait other than ING_WAIT_DONE means. */
struct ing_problem ing_http_wait_problem(struct conn *conn);
void ing_http_count_refusal(struct ing_http *http, enum ing_problem_kind kind);

/* ---- ing_http_part ---- */

/* The next bytes of a body that is taken whole. */
enum MHD_Result ing_http_take_part(struct conn *conn, const char *data, size_t bytes);
/* Why ing_gzip_step failed. */
struct ing_problem ing_http_gzip_problem(enum cmq_err err);
/* The body is at its end. */
enum MHD_Result ing_http_end_body(struct conn *conn);

/* ---- ing_http_stream ---- */

/* The next bytes of a streamed body, none at its end, or what came after a wait. Fewer may be taken: *bytes are left. */
enum MHD_Result ing_http_take_stream(struct conn *conn, const char *data, size_t *bytes);

/* ---- ing_http_take ---- */

void ing_http_free_packer(void *packer);
/* The calling worker's; NULL: no memory. */
struct ing_packer *ing_http_packer(struct ing_http *http);
struct ing_order ing_http_order(const struct conn *conn);
/* Notes what the batch needs and what will be promised. */
void ing_http_expect(struct conn *conn, const struct ing_batch *batch);
struct ing_problem ing_http_log_problem(struct ing_http *http);

enum ing_published { ING_PUBLISHED /* as conn->ticket.seq */, ING_PUBLISH_WAITS, ING_UNPUBLISHED };
/* Publishes a batch that ing_http_expect was told of. If it has to wait, for room or for the log, the connection is suspended:
 * in PHASE_ROOM or PHASE_LOG when it goes on. */
enum ing_published ing_http_publish(struct conn *conn, const struct ing_batch *batch, enum cmq_err *ret_err);
/* A whole body: pack, publish, and answer or wait. */
enum MHD_Result ing_http_take_messages(struct conn *conn);

#endif
