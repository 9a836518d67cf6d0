/*
 * fake_net: sockets and frames of the brokers inside the tests.
 * Ownership: descriptors belong to the caller.
 * Units: bytes.
 * Errors: false when the peer is gone; listening and memory abort the test program.
 * Callers: any thread.
 */
#ifndef FAKE_NET_H
#define FAKE_NET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

int fake_listen(unsigned *ret_port);
/* Waits in short steps; false when *stop is set. */
bool fake_readable(int fd, atomic_uint *stop);
/* In pieces of at most piece_bytes. */
bool fake_send_all(int fd, const void *data, size_t bytes, size_t piece_bytes);
/* A WebSocket frame; first: FIN and opcode bits. */
bool fake_send_frame(int fd, unsigned first, bool masked, const void *data, size_t bytes, size_t piece_bytes);
/* Bytes of the HTTP request at the start of `in`; 0: not whole yet. */
size_t fake_request_bytes(const char *in, size_t bytes, const char **ret_body);
/* Answers the opening handshake with the fixed key of RFC 6455, section 1.3. lines: further fields of the reply, each with
 * its end of line. ret_request: 2048 bytes, the request's head as text. */
bool fake_shake_hands(int fd, atomic_uint *stop, const char *lines, size_t piece_bytes, char *ret_request);

#endif
