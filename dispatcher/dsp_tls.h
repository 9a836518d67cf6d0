/*
 * dsp_tls: TLS of the WebSocket port: certificates, what a connection may negotiate, the name in a client's certificate. The
 *          only user of OpenSSL's TLS besides the WebSocket library.
 * Ownership: struct dsp_tls is heap memory and outlives the library's context; the SSL_CTX is the library's.
 * Units: bytes; nanoseconds (monotonic).
 * Errors: as cmq_tls_files_read, with a sentence; a reload that fails leaves what was there.
 * Callers: new, refresh, free: the main thread. The rest: the delivery thread.
 *
 * The library's SSL_CTX has no certificate: each handshake asks for the present one (SSL_CTX_set_cert_cb), so that a reload
 * takes effect for the next connection and disturbs none that is open. There is no resumption: every connection shows and
 * checks its certificates, and no ticket outlives a change of authorities.
 */
#ifndef DSP_TLS_H
#define DSP_TLS_H

#include <libwebsockets.h>

#include "common/proc/cmq_tls_files.h"
#include "common/shm/cmq_ring.h"

#define DSP_TLS_NAME_BYTES_MAX CMQ_TLS_NAME_BYTES_MAX

struct dsp_tls;

/* setup is copied, its paths are borrowed; handshakes that fail are counted in the ring. */
CMQ_MUST_USE enum cmq_err dsp_tls_new(const struct cmq_tls_setup *setup, struct cmq_ring *ring,
                                      struct dsp_tls **ret_tls, struct cmq_reason *reason);
/* After the library's context. NULL is fine. */
void dsp_tls_free(struct dsp_tls *tls);
/* Reads the files again if they have changed, or must; *ret_read tells whether it did. */
CMQ_MUST_USE enum cmq_err dsp_tls_refresh(struct dsp_tls *tls, bool must, uint64_t now_ns, bool *ret_read,
                                          struct cmq_reason *reason);

/* Makes the vhost, and so the sockets that it adopts, speak TLS. NULL: clear text. protocols: those of the info, up to the one
 * without a name. */
void dsp_tls_prepare(const struct dsp_tls *tls, struct lws_context_creation_info *info,
                     struct lws_protocols *protocols);
/* LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS, which comes for the vhost. The library's return value. */
int dsp_tls_limit(struct dsp_tls *tls, void *ssl_ctx);

/* The name in the client's certificate, copied to memory. Bytes 0: clear text, no certificate, or none with a plain name. */
struct cmq_span dsp_tls_peer_name(struct lws *wsi, char memory[DSP_TLS_NAME_BYTES_MAX]);

#endif
