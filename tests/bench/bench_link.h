/*
 * bench_link: one connection to the broker, in clear text or in TLS (OpenSSL); the same calls for both.
 * Ownership: a link owns its socket; a bench_tls is shared by all links of an address and outlives them.
 * Units: bytes, milliseconds.
 * Errors: start, finish, open: CMQ_ERR_AGAIN, CMQ_ERR_TIMEOUT, CMQ_ERR_SYSTEM, CMQ_ERR_PERMISSION (the certificate is not
 *         the one that was expected), with the sentence. send, recv: as send(2) and recv(2), with errno.
 * Callers: a link: one thread at a time. A bench_tls: any thread; made by the main thread, which ignores SIGPIPE from then on.
 *
 * recv of fewer bytes than there was room for means that nothing is left, neither in the socket nor in the TLS layer. What
 * send took may wait in the TLS layer until flush has returned true.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/bench/bench_net.h"

struct ssl_st;

/* ca_file: certificates that are trusted (PEM); the broker's own is fine. name: whom its certificate must name. */
CMQ_MUST_USE enum cmq_err bench_tls_new(const char *ca_file, const char *name, struct bench_tls **ret_tls,
                                        struct cmq_reason *reason);
/* NULL is fine. */
void bench_tls_free(struct bench_tls *tls);
/* Version and cipher of the first handshake; "" before it. */
const char *bench_tls_text(const struct bench_tls *tls);

struct bench_link {
    int fd; /* -1: closed. Does not block until bench_link_wait. */
    bool connected;
    short wants;        /* poll(2) events that finish waits for */
    bool unflushed;     /* bytes wait in the TLS layer */
    int recv_ms;        /* how long recv waits, TLS only */
    struct ssl_st *ssl; /* NULL: clear text */
    const struct bench_address *address;
};

static inline struct bench_link bench_link_closed(void)
{
    return (struct bench_link){.fd = -1};
}

/* The connection is under way then; finish when the socket is ready for `wants`. */
CMQ_MUST_USE enum cmq_err bench_link_start(struct bench_link *link, const struct bench_address *address,
                                           struct cmq_reason *reason);
/* Connection and TLS handshake as far as they go. CMQ_ERR_AGAIN: not done. */
CMQ_MUST_USE enum cmq_err bench_link_finish(struct bench_link *link, struct cmq_reason *reason);
/* Both, waiting. */
CMQ_MUST_USE enum cmq_err bench_link_open(struct bench_link *link, const struct bench_address *address,
                                          unsigned timeout_ms, struct cmq_reason *reason);
/* A closed one is fine. */
void bench_link_close(struct bench_link *link);

/* From here on recv waits for so long when nothing is there (EAGAIN then), and send may wait for a second. */
CMQ_MUST_USE enum cmq_err bench_link_wait(struct bench_link *link, unsigned recv_ms,
                                          struct cmq_reason *reason);
ssize_t bench_link_send(struct bench_link *link, const void *data, size_t bytes);
bool bench_link_flush(struct bench_link *link);
ssize_t bench_link_recv(struct bench_link *link, void *ret_data, size_t bytes);
/* The socket may be quiet although there is something to recv. */
bool bench_link_has_more(const struct bench_link *link);

#endif
