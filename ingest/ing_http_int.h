/*
 * ing_http_int: what the files of ing_http share: connections and the life of a request.
 * Ownership: a connection is made and freed by ing_http; its request belongs to the library's worker, or to the thread at
 *            which it waits while it is suspended.
 * Units: as ing_http.h.
 * Errors: MHD_NO closes the connection.
 * Callers: the files named ing_http_.
 */
#ifndef ING_HTTP_INT_H
#define ING_HTTP_INT_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/base/cmq_address.h"
#include "ingest/ing_accept.h"
#include "ingest/ing_batch.h"
#include "ingest/ing_body.h"
#include "ingest/ing_http.h"
#include "ingest/ing_reply.h"
#include "ingest/ing_tls.h"
#include "ingest/ing_watch.h"

enum phase {
    PHASE_IDLE,    /* between requests */
    PHASE_HEAD,    /* the first line is here */
    PHASE_BODY,    /* the body is coming, if there is one */
    PHASE_REFUSED, /* refused, without a body: the answer waits for the end of the request */
    PHASE_LINGER,  /* refused and answered, the body is thrown away */
    PHASE_ROOM,    /* suspended, its ticket waits for room in the ring; or resumed because there was none */
    PHASE_LOG,     /* suspended, its record waits for the log; or resumed */
    PHASE_ANSWERED /* the reply is the library's business */
};

/* Of CMQ_AUTH_LIMITED: failures are counted by the minute. */
#define ING_FAILURES_RETRY_S  60u
#define ING_METRICS_BYTES_MAX ((size_t)16 << 20)

struct ing_http {
    struct MHD_Daemon *daemon;
    struct cmq_ring *ring;
    struct ing_admit *admit;
    struct ing_durable *durable;
    struct cmq_auth *auth;
    struct ing_head_limits head_limits;
    uint32_t address_connections_max;
    uint64_t messages_rate, bytes_rate;
    char *cors_origins;
    enum cmq_err (*metrics)(struct cmq_ring *ring, struct cmq_buf *text);
    const char *metrics_type;
    atomic_bool encryptor_alive; /* when it was last looked at */
    struct ing_acceptor *acceptor;
    struct ing_tls *tls; /* borrowed; NULL: clear text */
    size_t request_bytes_max;
    struct cmq_json_limits message_limits;
    enum ing_ack ack; /* when the request says nothing */
    bool can_be_durable;
    struct ing_body_pool pool;
    struct ing_watch watch;
    pthread_key_t packer_key; /* one struct ing_packer a worker */
    unsigned ticks;
    atomic_bool quiet;     /* replies close their connection */
    atomic_uint in_hand;   /* requests between first line and end */
    pthread_mutex_t mutex; /* for the next four */
    pthread_cond_t gone;   /* while quiet: in_hand became 0, or a connection closed; CLOCK_MONOTONIC */
    size_t open;           /* connections; under the mutex, as the next two */
    struct cmq_address_counts *addresses;
    uint64_t refused; /* connections, for their address, since the last line about it */
};

/* What the head of a request asked for. */
struct ing_wish {
    enum ing_ack ack;
    enum cmq_type type;
    uint8_t key_bytes, type_bytes;
    uint64_t ttl_ms;  /* 0: none */
    uint8_t *headers; /* packed, on the heap; NULL: none */
    size_t headers_bytes;
    uint8_t key[CMQ_MESSAGE_ID_BYTES_MAX];
    uint8_t type_text[CMQ_MESSAGE_TYPE_BYTES_MAX];
};

/* One TCP connection and the one request that it carries at a time. */
struct conn {
    struct ing_watched watched;
    struct ing_http *http;
    struct MHD_Connection *connection;
    struct ing_tls_peer tls;
    enum phase phase;
    uint64_t start_ns;
    struct cmq_address address;
    bool counted;           /* in http->addresses; else its address has too many, and it is ended */
    enum ing_method method; /* of the request, as everything that follows */
    enum ing_format format; /* of one that brings messages */
    bool token_sent;
    struct cmq_grant grant;
    struct cmq_rate rate;   /* limit 0: none applies */
    struct cmq_span origin; /* of a page that may use the port; "*"; or bytes 0 */
    size_t lingered_bytes;
    struct ing_problem problem; /* in PHASE_REFUSED */
    struct ing_target target;
    struct ing_wish wish;
    struct ing_ticket ticket; /* in PHASE_ROOM */
    struct ing_wait wait;     /* in PHASE_LOG */
    uint32_t messages;        /* of the request, as the next three; known when it was packed */
    bool has_ids, has_key;
    bool durable; /* what the reply will say */
    struct ing_body body;
};

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

/* ---- ing_http_take ---- */

void ing_http_free_packer(void *packer);
/* A whole body: pack, publish, and answer or wait. */
enum MHD_Result ing_http_take_messages(struct conn *conn);

#endif
