#include "tests/bench/bench_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"

/* What one system call takes: records of TLS have 16 KiB at most. */
enum { TLS_READ_BYTES = 128 * 1024, TLS_WRITE_BYTES = 128 * 1024 };

struct bench_tls {
    SSL_CTX *ctx;
    char name[256];
    bool name_is_address;
    atomic_bool seen; /* whoever sets it writes text */
    char text[80];
};

/* ---- what all links share ---- */

static enum cmq_err tls_error(struct cmq_reason *reason, const char *what)
{
    char text[160];
    ERR_error_string_n(ERR_peek_last_error(), text, sizeof text);
    return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s: %s", what, text);
}

static bool set_up(SSL_CTX *ctx)
{
    X509_VERIFY_PARAM *verify = SSL_CTX_get0_param(ctx);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* A connection that ends without a word is a lost one, and is counted as that. */
    SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, TLS_READ_BYTES);
    /* The broker's own certificate may be what is trusted, whoever signed it. */
    return X509_VERIFY_PARAM_set_flags(verify, X509_V_FLAG_PARTIAL_CHAIN) == 1 &&
           SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1;
}

enum cmq_err bench_tls_new(const char *ca_file, const char *name, struct bench_tls **ret_tls,
                           struct cmq_reason *reason)
{
    uint8_t address[16];
    struct bench_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    snprintf(tls->name, sizeof tls->name, "%s", name);
    tls->name_is_address = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
    enum cmq_err err = CMQ_OK;
    tls->ctx = SSL_CTX_new(TLS_client_method());
    if (tls->ctx == NULL || !set_up(tls->ctx))
        err = tls_error(reason, "TLS");
    else if (SSL_CTX_load_verify_file(tls->ctx, ca_file) != 1)
        err = tls_error(reason, ca_file);
    /* OpenSSL writes to sockets without MSG_NOSIGNAL. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (err == CMQ_OK)
        *ret_tls = tls;
    else
        bench_tls_free(tls);
    return err;
}

void bench_tls_free(struct bench_tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->ctx);
    free(tls);
}

const char *bench_tls_text(const struct bench_tls *tls)
{
    return tls->text;
}

/* ---- opening ---- */

/* Small records of one request go out together: writes are gathered, reads are not, for read ahead does that. */
static enum cmq_err add_tls(struct bench_link *link, struct cmq_reason *reason)
{
    const struct bench_tls *tls = link->address->tls;
    SSL *ssl = SSL_new(tls->ctx);
    BIO *sock = BIO_new_socket(link->fd, BIO_NOCLOSE), *gather = BIO_new(BIO_f_buffer());
    bool good = ssl != NULL && sock != NULL && gather != NULL &&
                BIO_set_write_buffer_size(gather, TLS_WRITE_BYTES) == 1 && BIO_up_ref(sock) == 1;
    if (!good) {
        SSL_free(ssl);
        BIO_free(sock);
        BIO_free(gather);
        return tls_error(reason, "TLS");
    }
    SSL_set0_rbio(ssl, sock);
    SSL_set0_wbio(ssl, BIO_push(gather, sock));
    link->ssl = ssl;
    if (tls->name_is_address)
        good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), tls->name) == 1;
    else
        good = SSL_set1_host(ssl, tls->name) == 1 && SSL_set_tlsext_host_name(ssl, tls->name) == 1;
    return good ? CMQ_OK : tls_error(reason, "TLS");
}

enum cmq_err bench_link_start(struct bench_link *link, const struct bench_address *address,
                              struct cmq_reason *reason)
{
    *link = (struct bench_link){.fd = bench_net_connect_start(address), .wants = POLLOUT, .address = address};
    if (link->fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", address->text, strerror(errno));
    return address->tls != NULL ? add_tls(link, reason) : CMQ_OK;
}

static void note_cipher(struct bench_tls *tls, const SSL *ssl)
{
    /* Relaxed: the text is read when all links are closed. */
    if (!atomic_exchange_explicit(&tls->seen, true, memory_order_relaxed))
        snprintf(tls->text, sizeof tls->text, "%s, %s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
}

static enum cmq_err shake_hands(struct bench_link *link, struct cmq_reason *reason)
{
    const char *from = link->address->text;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_connect(link->ssl), error = SSL_get_error(link->ssl, rc);
    long verified = SSL_get_verify_result(link->ssl);
    if (rc == 1) {
        note_cipher(link->address->tls, link->ssl);
        return CMQ_OK;
    }
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        link->wants = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return CMQ_ERR_AGAIN;
    }
    if (verified != X509_V_OK)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s: the certificate is not accepted for \"%s\": %s", from,
                              link->address->tls->name, X509_verify_cert_error_string(verified));
    if (error == SSL_ERROR_SSL)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: no TLS handshake: %s", from,
                              ERR_reason_error_string(ERR_peek_error()));
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: closed during the TLS handshake%s%s", from,
                          errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
}

enum cmq_err bench_link_finish(struct bench_link *link, struct cmq_reason *reason)
{
    if (!link->connected) {
        struct pollfd wanted = {.fd = link->fd, .events = POLLOUT};
        int error = bench_net_error(link->fd);
        if (error == 0 && poll(&wanted, 1, 0) == 0)
            return CMQ_ERR_AGAIN;
        /* An error that came between the two is seen now or by the first write. */
        error = error != 0 ? error : bench_net_error(link->fd);
        if (error != 0)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", link->address->text, strerror(error));
        link->connected = true;
    }
    return link->ssl != NULL ? shake_hands(link, reason) : CMQ_OK;
}

enum cmq_err bench_link_open(struct bench_link *link, const struct bench_address *address,
                             unsigned timeout_ms, struct cmq_reason *reason)
{
    uint64_t deadline_ns = cmq_clock_mono_ns() + timeout_ms * CMQ_NS_PER_MS;
    enum cmq_err err = bench_link_start(link, address, reason);
    if (err == CMQ_OK)
        err = bench_link_finish(link, reason);
    while (err == CMQ_ERR_AGAIN) {
        uint64_t now_ns = cmq_clock_mono_ns();
        struct pollfd wanted = {.fd = link->fd, .events = link->wants};
        if (now_ns >= deadline_ns)
            err = cmq_reason_set(reason, CMQ_ERR_TIMEOUT, "%s: no connection within %u ms", address->text,
                                 timeout_ms);
        else if (poll(&wanted, 1, (int)((deadline_ns - now_ns) / CMQ_NS_PER_MS) + 1) != 0)
            err = bench_link_finish(link, reason);
    }
    if (err != CMQ_OK)
        bench_link_close(link);
    return err;
}

void bench_link_close(struct bench_link *link)
{
    /* No close alert: every end is told by HTTP or WebSocket. */
    SSL_free(link->ssl);
    link->ssl = NULL;
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    link->unflushed = false;
}

enum cmq_err bench_link_wait(struct bench_link *link, unsigned recv_ms, struct cmq_reason *reason)
{
    struct timeval in = {.tv_sec = recv_ms / 1000, .tv_usec = (long)(recv_ms % 1000) * 1000};
    struct timeval out = {.tv_sec = 1};
    int flags = fcntl(link->fd, F_GETFL);
    link->recv_ms = (int)recv_ms;
    /* A blocking socket costs one system call a read. TLS reads until nothing is left, so it must not block. */
    if (link->ssl != NULL)
        return CMQ_OK;
    if (flags < 0 || fcntl(link->fd, F_SETFL, flags & ~O_NONBLOCK) != 0 ||
        setsockopt(link->fd, SOL_SOCKET, SO_RCVTIMEO, &in, sizeof in) != 0 ||
        setsockopt(link->fd, SOL_SOCKET, SO_SNDTIMEO, &out, sizeof out) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "socket options: %s", strerror(errno));
    return CMQ_OK;
}

/* ---- bytes ---- */

/* errno for what the TLS layer said; 0 bytes from the peer are no error. */
static ssize_t tls_result(const struct bench_link *link, int rc)
{
    int error = SSL_get_error(link->ssl, rc);
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (error != SSL_ERROR_SYSCALL || errno == 0 || errno == EAGAIN)
        errno = EPROTO;
    return -1;
}

bool bench_link_flush(struct bench_link *link)
{
    if (!link->unflushed)
        return true;
    link->unflushed = BIO_flush(SSL_get_wbio(link->ssl)) != 1;
    return !link->unflushed;
}

ssize_t bench_link_send(struct bench_link *link, const void *data, size_t bytes)
{
    if (link->ssl == NULL)
        return send(link->fd, data, bytes, MSG_NOSIGNAL);
    size_t sent = 0;
    while (sent < bytes) {
        size_t here = 0;
        ERR_clear_error();
        errno = 0;
        int rc = SSL_write_ex(link->ssl, (const uint8_t *)data + sent, bytes - sent, &here);
        link->unflushed = true;
        if (rc != 1 && sent == 0)
            return tls_result(link, rc) == 0 ? (errno = EPIPE, -1) : -1;
        if (rc != 1)
            break; /* an error shows again in the next call */
        sent += here;
    }
    (void)bench_link_flush(link);
    return (ssize_t)sent;
}

static ssize_t recv_tls(struct bench_link *link, uint8_t *data, size_t bytes)
{
    size_t have = 0;
    while (have < bytes) {
        size_t here = 0;
        ERR_clear_error();
        errno = 0;
        int rc = SSL_read_ex(link->ssl, data + have, bytes - have, &here);
        if (rc != 1)
            return have > 0 ? (ssize_t)have : tls_result(link, rc);
        have += here;
    }
    return (ssize_t)have;
}

ssize_t bench_link_recv(struct bench_link *link, void *ret_data, size_t bytes)
{
    if (link->ssl == NULL)
        return recv(link->fd, ret_data, bytes, 0);
    (void)bench_link_flush(link);
    ssize_t got = recv_tls(link, ret_data, bytes);
    if (got >= 0 || errno != EAGAIN || link->recv_ms == 0)
        return got;
    struct pollfd wanted = {.fd = link->fd, .events = POLLIN};
    (void)poll(&wanted, 1, link->recv_ms);
    return recv_tls(link, ret_data, bytes);
}

bool bench_link_has_more(const struct bench_link *link)
{
    return link->ssl != NULL && SSL_has_pending(link->ssl) == 1;
}
