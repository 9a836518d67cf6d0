/*
 * ing_listen: the listening socket.
 * Ownership: the caller closes the descriptor.
 * Units: port 0 means any free one (tests).
 * Errors: CMQ_ERR_INVALID (not a numeric address), CMQ_ERR_EXISTS (in use), CMQ_ERR_PERMISSION, CMQ_ERR_SYSTEM;
 *         the reason names address, cause and fix.
 * Callers: any thread.
 *
 * SO_REUSEPORT: several instances listen on one port, the kernel spreads connections over them.
 */
#ifndef ING_LISTEN_H
#define ING_LISTEN_H

#include <stdint.h>

#include "common/base/cmq_reason.h"

CMQ_MUST_USE enum cmq_err ing_listen_open(const char *address, uint16_t port, int *ret_fd,
                                          struct cmq_reason *reason);
/* The port that the socket has; 0 if it has none. */
uint16_t ing_listen_port(int fd);

/* Raises the soft limit of descriptors as far as needed and allowed for `connections` sockets. Returns how
 * many sockets fit, at most `connections`. */
unsigned ing_listen_fit(unsigned connections);

#endif
