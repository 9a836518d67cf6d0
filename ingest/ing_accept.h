/*
 * ing_accept: the thread that takes connections from the listening socket.
 * Ownership: the acceptor owns the listening socket; sockets taken go to the callback, which owns them then.
 * Units: none.
 * Errors: as ing_listen_open; CMQ_ERR_SYSTEM.
 * Callers: the main thread; the callback runs in the acceptor's thread.
 *
 * Not left to the HTTP library: when it is told to stop listening while its thread does the same, it aborts the process.
 */
#ifndef ING_ACCEPT_H
#define ING_ACCEPT_H

#include <stdint.h>
#include <sys/socket.h>

#include "common/base/cmq_reason.h"

typedef void ing_accept_take(void *context, int fd, const struct sockaddr *address, socklen_t address_bytes);

struct ing_acceptor;

CMQ_MUST_USE enum cmq_err ing_accept_start(const char *address, uint16_t port, ing_accept_take *take,
                                           void *context, struct ing_acceptor **ret_acceptor,
                                           struct cmq_reason *reason);
uint16_t ing_accept_port(const struct ing_acceptor *acceptor);
/* Takes what the kernel has queued already, which would be reset else, and closes the listening socket. May be called
 * again. */
void ing_accept_stop(struct ing_acceptor *acceptor);
/* Stops first. NULL is fine. */
void ing_accept_free(struct ing_acceptor *acceptor);

#endif
