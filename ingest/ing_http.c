#include "ingest/ing_http.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "ingest/ing_http_int.h"
#include "ingest/ing_listen.h"

/* Head and read buffer of one connection; a head may have about half of it. The library clears it for every
 * request: for single messages 64 KiB cost 1 to 2 us more than 32 KiB, and for large bodies nothing is
 * gained. */
enum { CONNECTION_BYTES = 32 * 1024 };
/* Blocks for bodies that are kept while there is traffic: the reference load needs five of 1 MiB. */
enum { KEPT_BODY_BYTES = 8 << 20 };
/* A client that goes on sending after it was refused is read for this many bytes at most. */
enum { LINGER_BYTES_MAX = 64 << 20 };
enum { TICKS_PER_LOOK = 10, TICKS_PER_TELL = 40, TICKS_PER_TRIM = 200 };

/* ---- the request as it comes ---- */

static enum MHD_Result linger(struct conn *conn, size_t bytes)
{
    conn->lingered_bytes += bytes;
    return bytes != 0 && conn->lingered_bytes <= LINGER_BYTES_MAX ? MHD_YES : MHD_NO;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data, size_t *bytes,
                                 void **context)
{
    (void)cls, (void)connection, (void)url;
    struct conn *conn = *context;
    if (conn == NULL)
        return MHD_NO;
    size_t here = *bytes;
    if (conn->stream != NULL &&
        (conn->phase == PHASE_BODY || conn->phase == PHASE_ROOM || conn->phase == PHASE_LOG))
        return ing_http_take_stream(conn, data, bytes);
    switch (conn->phase) {
    case PHASE_HEAD:
        return ing_http_take_head(conn, method, version);
    case PHASE_BODY:
        *bytes = 0;
        if (here != 0)
            return ing_http_take_part(conn, data, here);
        return conn->method == ING_METHOD_POST ? ing_http_end_body(conn) : ing_http_answer_get(conn);
    case PHASE_REFUSED:
        return ing_http_refuse(conn, &conn->problem);
    case PHASE_LINGER:
        *bytes = 0;
        return linger(conn, here);
    case PHASE_ROOM:
        return conn->ticket.err == CMQ_OK ? ing_http_answer_accepted(conn, conn->ticket.seq)
                                          : ing_http_answer_unpublished(conn, conn->ticket.err);
    case PHASE_LOG:
        return ing_http_answer_waited(conn);
    case PHASE_ANSWERED:
        *bytes = 0;
        return MHD_YES;
    case PHASE_IDLE:
        return MHD_NO;
    }
    return MHD_NO;
}

/* ---- connections ---- */

static struct conn *conn_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* The request line is here; the target is still as it was sent. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct ing_http *http = cls;
    struct conn *conn = conn_of(connection);
    if (conn == NULL || !conn->counted)
        return NULL;
    conn->phase = PHASE_HEAD;
    ing_target_parse(&conn->target, target);
    conn->start_ns = cmq_clock_mono_ns();
    ing_watch_set(&conn->watched, conn->start_ns + http->watch.grace_ns);
    atomic_fetch_add_explicit(&http->in_hand, 1, memory_order_relaxed);
    return conn;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    (void)connection, (void)code;
    struct ing_http *http = cls;
    struct conn *conn = *context;
    if (conn == NULL)
        return;
    *context = NULL;
    ing_body_clear(&http->pool, &conn->body);
    ing_http_forget(conn);
    ing_watch_set(&conn->watched, ING_WATCH_IDLE);
    conn->phase = PHASE_IDLE;
    /* seq_cst on both sides with quiet: either ing_http_wait_idle sees 0 or we see quiet and signal. */
    unsigned before = atomic_fetch_sub_explicit(&http->in_hand, 1, memory_order_seq_cst);
    if (before != 1 || !atomic_load_explicit(&http->quiet, memory_order_seq_cst))
        return;
    pthread_mutex_lock(&http->mutex);
    pthread_cond_broadcast(&http->gone);
    pthread_mutex_unlock(&http->mutex);
}

/* The handshake is done; from now on it is a connection between requests. */
static void on_secure(struct ing_tls_peer *peer)
{
    struct conn *conn = (struct conn *)(void *)((char *)peer - offsetof(struct conn, tls));
    ing_watch_set(&conn->watched, ING_WATCH_IDLE);
}

/* The handshake has as long as a head. */
static void begin_tls(struct conn *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    cmq_assert(info != NULL && info->tls_session != NULL);
    ing_tls_begin(conn->http->tls, &conn->tls, info->tls_session, on_secure);
    ing_watch_set(&conn->watched, cmq_clock_mono_ns() + conn->http->watch.grace_ns);
}

static void open_connection(struct ing_http *http, struct MHD_Connection *connection, void **socket_context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct conn *conn = info != NULL ? calloc(1, sizeof *conn) : NULL;
    *socket_context = conn;
    if (conn == NULL)
        return;
    const int fd = info->connect_fd;
    const union MHD_ConnectionInfo *peer =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    conn->http = http;
    conn->connection = connection;
    if (peer != NULL && peer->client_addr != NULL)
        conn->address = cmq_address_of(peer->client_addr);
    /* Under one mutex, so that the last value written is the last count. */
    pthread_mutex_lock(&http->mutex);
    http->open = ing_watch_add(&http->watch, &conn->watched, fd);
    cmq_ring_gauge(http->ring, CMQ_COUNT_CLIENTS, http->open);
    conn->counted = cmq_address_counts_add(http->addresses, &conn->address, http->address_connections_max);
    http->refused += !conn->counted;
    http->adding -= http->adding != 0;
    pthread_mutex_unlock(&http->mutex);
    cmq_ring_count(http->ring, conn->counted ? CMQ_COUNT_CLIENTS_TOTAL : CMQ_COUNT_REFUSED_ADDRESS, 1);
    /* Ends it: the library reads the end of the stream, and on_target lets nothing through that came before. */
    if (!conn->counted)
        (void)shutdown(fd, SHUT_RDWR);
    if (http->tls != NULL)
        begin_tls(conn);
}

/* The end of a stream counts as a byte there. */
static bool has_sent(int fd)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 && info.tcpi_bytes_received > 1;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct ing_http *http = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        open_connection(http, connection, socket_context);
        return;
    }
    struct conn *conn = *socket_context;
    *socket_context = NULL;
    if (conn == NULL)
        return;
    /* Who never said anything only looked whether somebody listens. */
    if (ing_tls_end(&conn->tls) && has_sent(conn->watched.fd))
        cmq_ring_count(http->ring, CMQ_COUNT_TLS_FAILED, 1);
    pthread_mutex_lock(&http->mutex);
    http->open = ing_watch_remove(&http->watch, &conn->watched);
    if (conn->counted)
        cmq_address_counts_remove(http->addresses, &conn->address);
    cmq_ring_gauge(http->ring, CMQ_COUNT_CLIENTS, http->open);
    pthread_cond_broadcast(&http->gone);
    pthread_mutex_unlock(&http->mutex);
    free(conn);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list args)
{
    (void)cls;
    char text[256];
    int bytes = vsnprintf(text, sizeof text, fmt, args);
    if (bytes <= 0)
        return;
    size_t length = strcspn(text, "\n");
    struct cmq_log_quoted quoted;
    cmq_log(CMQ_LOG_DEBUG, CMQ_EV_LIBRARY, "text=%s", cmq_log_quote(&quoted, text, length));
}

/* ---- start and stop ---- */

/* Whether there is room for one more, in all and of this address. The limit is not left to the library: when it finds its own
 * reached while it adds a connection, it keeps a mutex for ever, and the worker stands still. */
static bool let_in(struct ing_http *http, const struct sockaddr *peer)
{
    const struct cmq_address address = cmq_address_of(peer);
    pthread_mutex_lock(&http->mutex);
    bool room = http->open + http->adding < http->connections_max &&
                cmq_address_counts_of(http->addresses, &address) < http->address_connections_max;
    http->adding += room;
    http->given += room;
    http->refused += !room;
    pthread_mutex_unlock(&http->mutex);
    return room;
}

/* In the acceptor's thread. The library closes the socket if it does not want it. */
static void take_connection(void *context, int fd, const struct sockaddr *address, socklen_t address_bytes)
{
    struct ing_http *http = context;
    if (!let_in(http, address)) {
        cmq_ring_count(http->ring, CMQ_COUNT_REFUSED_ADDRESS, 1);
        (void)close(fd);
        return;
    }
    (void)MHD_add_connection(http->daemon, fd, address, address_bytes);
}

static size_t fit_connections(unsigned connections_max)
{
    unsigned connections = ing_listen_fit(connections_max);
    if (connections < connections_max)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_LISTENING,
                "connections_max=%u text=\"lowered to the limit of open files\"", connections);
    return connections;
}

static struct MHD_Daemon *start_daemon(struct ing_http *http, const struct ing_http_setup *setup)
{
    unsigned pool = setup->threads > 1 ? setup->threads : 0;
    /* More than let_in ever lets in, for each worker, whatever their shares are. */
    unsigned connections = ((unsigned)http->connections_max + 1) * (pool + 1);
    struct MHD_OptionItem pool_option[] = {{MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)pool, NULL},
                                           {MHD_OPTION_END, 0, NULL}};
    if (pool == 0)
        pool_option[0] = pool_option[1];
    struct MHD_OptionItem tls_options[] = {
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)ing_tls_priorities()},
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, ing_tls_certificate_callback()},
        {MHD_OPTION_END, 0, NULL}};
    if (setup->tls == NULL)
        tls_options[0] = tls_options[2];
    return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                                MHD_USE_NO_LISTEN_SOCKET | (setup->tls != NULL ? MHD_USE_TLS : 0u),
                            0, NULL, NULL, on_access, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
                            MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT,
                            setup->idle_s, MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_URI_LOG_CALLBACK,
                            on_target, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_ARRAY, pool_option,
                            MHD_OPTION_ARRAY, tls_options, MHD_OPTION_END);
}

static void init_sync(struct ing_http *http)
{
    pthread_condattr_t attr;
    int error = pthread_mutex_init(&http->mutex, NULL) | pthread_condattr_init(&attr);
    error |= pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) | pthread_cond_init(&http->gone, &attr);
    cmq_assert(error == 0);
    (void)pthread_condattr_destroy(&attr);
}

static void release(struct ing_http *http)
{
    ing_accept_free(http->acceptor);
    cmq_address_counts_free(http->addresses);
    free(http->cors_origins);
    (void)pthread_cond_destroy(&http->gone);
    (void)pthread_mutex_destroy(&http->mutex);
    ing_watch_fini(&http->watch);
    ing_body_pool_fini(&http->pool);
    (void)pthread_key_delete(http->packer_key);
    free(http);
}

static struct ing_http *make(const struct ing_http_setup *setup, const struct ing_http_parts *parts)
{
    struct ing_http *http = calloc(1, sizeof *http);
    if (http == NULL)
        return NULL;
    if (pthread_key_create(&http->packer_key, ing_http_free_packer) != 0) {
        free(http);
        return NULL;
    }
    http->ring = parts->ring;
    http->admit = parts->admit;
    http->durable = parts->durable;
    http->auth = parts->auth;
    http->tls = setup->tls;
    http->head_limits = setup->head_limits;
    http->address_connections_max = setup->address_connections_max;
    http->connections_max = fit_connections(setup->connections_max);
    http->messages_rate = setup->messages_rate;
    http->bytes_rate = setup->bytes_rate;
    http->metrics = setup->metrics;
    http->metrics_type = setup->metrics_type;
    http->ack = setup->ack;
    http->can_be_durable = setup->can_be_durable;
    http->request_bytes_max = setup->request_bytes_max;
    http->gzip_ratio_max = setup->gzip_ratio_max;
    http->stream_record_bytes = setup->stream_record_bytes;
    http->stream_errors_max = setup->stream_errors_max;
    http->message_limits = setup->message_limits;
    http->cors_origins = strdup(setup->cors_origins);
    http->addresses = cmq_address_counts_new(setup->connections_max);
    init_sync(http);
    ing_watch_init(&http->watch, setup->head_ms * CMQ_NS_PER_MS, setup->body_rate_min);
    ing_body_pool_init(&http->pool, setup->receive_bytes_max, KEPT_BODY_BYTES);
    if (http->cors_origins != NULL && http->addresses != NULL)
        return http;
    release(http);
    return NULL;
}

enum cmq_err ing_http_start(const struct ing_http_setup *setup, const struct ing_http_parts *parts,
                            struct ing_http **ret_http, struct cmq_reason *reason)
{
    struct ing_http *http = make(setup, parts);
    if (http == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for the HTTP port");
    enum cmq_err err = CMQ_OK;
    ing_http_look_around(http);
    http->daemon = start_daemon(http, setup);
    if (http->daemon == NULL)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the HTTP library does not start: %s", strerror(errno));
    else
        err = ing_accept_start(setup->listen, setup->port, take_connection, http, &http->acceptor, reason);
    if (err == CMQ_OK) {
        *ret_http = http;
        return CMQ_OK;
    }
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    release(http);
    return err;
}

uint16_t ing_http_port(const struct ing_http *http)
{
    return ing_accept_port(http->acceptor);
}

static void tell_refused(struct ing_http *http)
{
    pthread_mutex_lock(&http->mutex);
    const uint64_t refused = http->refused;
    http->refused = 0;
    /* The library drops one for want of memory without a word. Within a second it has begun with all others. */
    if (http->given == http->given_seen)
        http->adding = 0;
    http->given_seen = http->given;
    pthread_mutex_unlock(&http->mutex);
    if (refused != 0)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED,
                "count=%" PRIu64 " text=\"connections refused: ingest.connections_max, or "
                "address_connections_max of one address\"",
                refused);
}

static void tell_late(struct ing_http *http)
{
    if (http->late != 0)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_CLIENT_SLOW, "count=%zu text=\"sent a request too slowly\"", http->late);
    http->late = 0;
}

void ing_http_tick(struct ing_http *http, uint64_t now_ns)
{
    http->ticks++;
    const size_t late = ing_watch_sweep(&http->watch, now_ns);
    if (late != 0)
        cmq_ring_count(http->ring, CMQ_COUNT_CLIENTS_DROPPED, late);
    http->late += late;
    if (http->ticks % TICKS_PER_LOOK == 0)
        ing_http_look_around(http);
    if (http->ticks % TICKS_PER_TELL == 0) {
        tell_refused(http);
        tell_late(http);
    }
    if (http->ticks % TICKS_PER_TRIM == 0)
        ing_body_pool_trim(&http->pool);
}

void ing_http_quiesce(struct ing_http *http)
{
    atomic_store_explicit(&http->quiet, true, memory_order_seq_cst);
    ing_accept_stop(http->acceptor);
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / CMQ_NS_PER_S), .tv_nsec = (long)(ns % CMQ_NS_PER_S)};
}

bool ing_http_wait_idle(struct ing_http *http, uint64_t until_ns)
{
    const struct timespec until = timespec_of(until_ns);
    int error = 0;
    pthread_mutex_lock(&http->mutex);
    /* seq_cst: pairs with on_completed. */
    while (atomic_load_explicit(&http->in_hand, memory_order_seq_cst) != 0 && error == 0)
        error = pthread_cond_timedwait(&http->gone, &http->mutex, &until);
    pthread_mutex_unlock(&http->mutex);
    return atomic_load_explicit(&http->in_hand, memory_order_seq_cst) == 0;
}

bool ing_http_wait_closed(struct ing_http *http, uint64_t until_ns)
{
    const struct timespec until = timespec_of(until_ns);
    int error = 0;
    pthread_mutex_lock(&http->mutex);
    while (http->open != 0 && error == 0)
        error = pthread_cond_timedwait(&http->gone, &http->mutex, &until);
    bool closed = http->open == 0;
    pthread_mutex_unlock(&http->mutex);
    return closed;
}

void ing_http_stop(struct ing_http *http)
{
    if (http == NULL)
        return;
    ing_accept_stop(http->acceptor);
    MHD_stop_daemon(http->daemon);
    release(http);
}
