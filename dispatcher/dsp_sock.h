/*
 * dsp_sock: what the kernel knows about a TCP connection and the WebSocket library does not tell.
 * Ownership: borrows the descriptor.
 * Units: bytes, milliseconds.
 * Errors: false: the kernel would not say (not a TCP socket).
 * Callers: the delivery thread.
 */
#ifndef DSP_SOCK_H
#define DSP_SOCK_H

#include <stdbool.h>
#include <stdint.h>

/* The connection ends when sent data is not acknowledged for so long (RFC 5482): a peer that vanished. */
bool dsp_sock_set_user_timeout(int fd, uint32_t timeout_ms);
/* Bytes that the peer acknowledged since the connection began. */
bool dsp_sock_acked_bytes(int fd, uint64_t *ret_bytes);

#endif
