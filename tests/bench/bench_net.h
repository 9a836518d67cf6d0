/*
 * bench_net: TCP connections to the broker.
 * Ownership: descriptors belong to the caller, close-on-exec.
 * Units: milliseconds.
 * Errors: CMQ_ERR_NOT_FOUND (no such host), CMQ_ERR_TIMEOUT, CMQ_ERR_SYSTEM, with the sentence.
 * Callers: any thread.
 */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <sys/socket.h>

#include "common/base/cmq_reason.h"

struct bench_address {
    struct sockaddr_storage storage;
    socklen_t bytes;
    char text[300]; /* host:port, for sentences and for the Host field */
};

CMQ_MUST_USE enum cmq_err bench_net_resolve(const char *host, unsigned port,
                                            struct bench_address *ret_address, struct cmq_reason *reason);
/* Non-blocking socket whose connection is under way; writable when it is decided. -1 and errno on failure. */
int bench_net_connect_start(const struct bench_address *address);
/* Waits; the socket stays non-blocking. */
CMQ_MUST_USE enum cmq_err bench_net_connect(const struct bench_address *address, int timeout_ms, int *ret_fd,
                                            struct cmq_reason *reason);
/* 0 or the errno that the connection failed with. */
int bench_net_error(int fd);

#endif
