/*
 * ing_http: the HTTP port: connections, the life of a request, replies. The only user of libmicrohttpd,
 *           with the other files named ing_http_.
 * Ownership: struct ing_http is heap memory; its parts are borrowed and must outlive it.
 * Units: bytes, messages, seconds, nanoseconds (monotonic).
 * Errors: at start only, with a reason; clients get replies.
 * Callers: one thread (the stage's main thread); the workers are private.
 *
 * The life of a request:
 *   - its first line arrives: the time that it may take begins;
 *   - the head is judged (ing_request), and who asks (ing_http_auth); a refusal is answered at once;
 *   - the body is collected (ing_body), then parsed and packed whole (ing_batch); NDJSON becomes a record whenever there
 *     are lines enough for one, and a record waits while the rest of the body waits in the socket (ing_http_stream);
 *   - the record is published (ing_admit): 200 with its id if `accepted` is enough;
 *   - no room: the connection is suspended, so that no worker waits, and goes on when its ticket is done;
 *   - `durable`, or ids: it is suspended (or stays so) until the log has the record (ing_durable).
 * A refused request whose body is still coming is answered at once, over the socket itself because the
 * library can't, and then read on for a while: closing at once would reset the connection and the client
 * would not see the reply.
 */
#ifndef ING_HTTP_H
#define ING_HTTP_H

#include "common/auth/cmq_auth.h"
#include "common/base/cmq_buf.h"
#include "common/base/cmq_reason.h"
#include "common/shm/cmq_ring.h"
#include "common/wire/cmq_json_in.h"
#include "ingest/ing_admit.h"
#include "ingest/ing_durable.h"
#include "ingest/ing_request.h"

struct ing_http;
struct ing_tls;

struct ing_http_setup {
    const char *listen; /* numeric address; used during ing_http_start only */
    uint16_t port;      /* 0: any free one */
    unsigned threads;
    unsigned connections_max;
    unsigned idle_s;
    size_t request_bytes_max;
    size_t receive_bytes_max; /* of all bodies in receipt; at least request_bytes_max */
    uint64_t head_ms;
    uint64_t body_rate_min; /* bytes a second, > 0 */
    struct cmq_json_limits message_limits;
    struct ing_head_limits head_limits;
    uint64_t gzip_ratio_max;
    size_t stream_record_bytes;
    uint32_t stream_errors_max;
    uint32_t address_connections_max;
    uint64_t messages_rate, bytes_rate; /* of a token without own limits; 0: none */
    const char *cors_origins;           /* used during ing_http_start only */
    /* GET /metrics; NULL: refused. */
    enum cmq_err (*metrics)(struct cmq_ring *ring, struct cmq_buf *text);
    const char *metrics_type;
    enum ing_ack ack;    /* for requests that ask for nothing */
    struct ing_tls *tls; /* borrowed, must outlive the port; NULL: clear text */
    bool can_be_durable; /* the log is flushed; else the reply to a request for durable says accepted */
};

/* What it uses and does not own. */
struct ing_http_parts {
    struct cmq_ring *ring;
    struct ing_admit *admit;
    struct ing_durable *durable;
    struct cmq_auth *auth;
};

CMQ_MUST_USE enum cmq_err ing_http_start(const struct ing_http_setup *setup,
                                         const struct ing_http_parts *parts, struct ing_http **ret_http,
                                         struct cmq_reason *reason);
uint16_t ing_http_port(const struct ing_http *http);
/* Housekeeping, every ING_WATCH_TICK_MS. */
void ing_http_tick(struct ing_http *http, uint64_t now_ns);

/* Takes no new connections; from now on every reply closes its connection. Call once. */
void ing_http_quiesce(struct ing_http *http);
/* Waits until no request is in hand or until_ns has passed; returns true if none is. */
bool ing_http_wait_idle(struct ing_http *http, uint64_t until_ns);
/* The same for connections. Those in use close with their next reply. */
bool ing_http_wait_closed(struct ing_http *http, uint64_t until_ns);
/* Call after ing_admit_stop and ing_durable_stop: no request may be waiting. Closes what is open. NULL is fine. */
void ing_http_stop(struct ing_http *http);

#endif
