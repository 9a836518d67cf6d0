/*
 * fake_tls: speaks TLS in front of a fake broker: one port each for HTTP and WebSocket, with a certificate of its own.
 * Ownership: start/stop; threads, sockets, the key and the certificate's file belong to it.
 * Units: none.
 * Errors: start aborts the test program when there are no sockets, threads or certificates.
 * Callers: the test's main thread.
 */
#ifndef FAKE_TLS_H
#define FAKE_TLS_H

struct fake_tls;

/* names: whom the certificate is for, as subjectAltName: "IP:127.0.0.1". The ports are those of the broker behind it. */
struct fake_tls *fake_tls_start(const char *names, unsigned http_port, unsigned ws_port);
unsigned fake_tls_http_port(const struct fake_tls *fake);
unsigned fake_tls_ws_port(const struct fake_tls *fake);
/* The certificate, PEM. */
const char *fake_tls_file(const struct fake_tls *fake);
/* Ends connections that are still open. */
void fake_tls_stop(struct fake_tls *fake);

#endif
