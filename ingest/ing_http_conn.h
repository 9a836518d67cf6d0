/*
 * ing_http_conn: the port, its connections, and the request that each carries at a time.
 * Ownership: a connection is made and freed by ing_http; its request belongs to the library's worker, or to the thread at
 *            which it waits while it is suspended.
 * Units: as ing_http.h.
 * Errors: none, types only.
 * Callers: the files named ing_http_.
 */
#ifndef ING_HTTP_CONN_H
#define ING_HTTP_CONN_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/base/cmq_address.h"
#include "ingest/ing_accept.h"
#include "ingest/ing_batch.h"
#include "ingest/ing_body.h"
#include "ingest/ing_gzip.h"
#include "ingest/ing_http.h"
#include "ingest/ing_reply.h"
#include "ingest/ing_stream.h"
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
    uint64_t gzip_ratio_max;
    size_t stream_record_bytes;
    uint32_t stream_errors_max;
    enum ing_ack ack; /* when the request says nothing */
    bool can_be_durable;
    struct ing_body_pool pool;
    struct ing_watch watch;
    pthread_key_t packer_key; /* one struct ing_packer a worker */
    unsigned ticks;           /* as the next one, of ing_http_tick */
    size_t late;              /* connections, since the last line about them */
    atomic_bool quiet;        /* replies close their connection */
    atomic_uint in_hand;      /* requests between first line and end */
    size_t connections_max;
    pthread_mutex_t mutex;    /* for what follows */
    pthread_cond_t gone;      /* while quiet: in_hand became 0, or a connection closed; CLOCK_MONOTONIC */
    size_t open;              /* connections */
    size_t adding;            /* given to the library, which has not begun with them */
    size_t given, given_seen; /* in all; when it was last looked at */
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
    struct ing_stream *stream; /* NULL: the body is taken whole */
    struct ing_gzip *gzip;     /* NULL: the body is not compressed */
    uint64_t suspended_ns;     /* when it was, last */
    atomic_bool waits;         /* suspended; the library may look nevertheless if more of a body is here */
    struct ing_ticket ticket;  /* in PHASE_ROOM */
    struct ing_wait wait;      /* in PHASE_LOG */
    uint32_t messages;         /* of the request, as the next three; known when it was packed */
    bool has_ids, has_key;
    bool durable; /* what the reply will say */
    struct ing_body body;
};

#endif
