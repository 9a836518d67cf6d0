/*
 * bench_net: where a port of the broker is and how it is spoken to; TCP connections to it.
 * Ownership: descriptors belong to the caller, close-on-exec.
 * Units: none.
 * Errors: CMQ_ERR_NOT_FOUND (no such host), with the sentence.
 * Callers: any thread.
 */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <sys/socket.h>

#include "common/base/cmq_reason.h"

struct bench_tls;

struct bench_address {
    struct sockaddr_storage storage;
    socklen_t bytes;
    char text[300];        /* host:port, for sentences and for the Host field */
    char host[256];        /* as it was given */
    struct bench_tls *tls; /* NULL: clear text */
    const char *token;     /* sent with each request and each handshake; NULL: none */
};

CMQ_MUST_USE enum cmq_err bench_net_resolve(const char *host, unsigned port,
                                            struct bench_address *ret_address, struct cmq_reason *reason);
/* Non-blocking socket whose connection is under way; writable when it is decided. -1 and errno on failure. */
int bench_net_connect_start(const struct bench_address *address);
/* 0 or the errno that the connection failed with. */
int bench_net_error(int fd);

#endif
