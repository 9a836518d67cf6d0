/*
 * dsp_sock: sockets as the kernel sees them: listening, accepting, and what the WebSocket library does not tell.
 * Ownership: the caller closes what it gets.
 * Units: bytes, milliseconds.
 * Errors: listen: CMQ_ERR_INVALID (no address of this machine), CMQ_ERR_AGAIN (in use), CMQ_ERR_PERMISSION,
 *         CMQ_ERR_SYSTEM, with a sentence. The others say so in their result.
 * Callers: any thread.
 *
 * Why not the library's own listener: as packaged (one service thread) it never sets SO_REUSEPORT, whatever
 * its option says, so that instances could not share the port.
 */
#ifndef DSP_SOCK_H
#define DSP_SOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cmq_address.h"
#include "common/base/cmq_reason.h"

/* Non-blocking. Accepted sockets end when sent data is not acknowledged for silence_ms (RFC 5482). */
CMQ_MUST_USE enum cmq_err dsp_sock_listen(const char *address, uint16_t port, uint32_t silence_ms,
                                          int *ret_fd, struct cmq_reason *reason);

enum dsp_accept { DSP_ACCEPT_OK, DSP_ACCEPT_NONE, DSP_ACCEPT_AGAIN, DSP_ACCEPT_NO_FDS };
/* Does not block. DSP_ACCEPT_AGAIN: this one went away meanwhile, there may be others. */
enum dsp_accept dsp_sock_accept(int listen_fd, int *ret_fd, struct cmq_address *ret_address);
/* Accepts one connection only to close it, with the descriptor that was kept for this. */
void dsp_sock_refuse(int listen_fd, int *spare_fd);
/* The descriptor to keep. -1: there is none. */
int dsp_sock_spare(void);

/* Bytes that the peer acknowledged since the connection began. */
bool dsp_sock_acked_bytes(int fd, uint64_t *ret_bytes);
/* Bytes that were read from the socket, and that were given to it, since the connection began. */
bool dsp_sock_traffic(int fd, uint64_t *ret_in_bytes, uint64_t *ret_out_bytes);

/* Bytes that the peer sent since the connection began, its end counted as one; and how many of them nobody has read yet. */
bool dsp_sock_received(int fd, uint64_t *ret_bytes, uint64_t *ret_unread_bytes);

/* Lowers or raises the soft limit of descriptors to what is needed; tables are sized by it. */
void dsp_sock_limit(uint32_t fds);

#endif
