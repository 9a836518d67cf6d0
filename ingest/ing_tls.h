/*
 * ing_tls: TLS of the HTTP port: certificates, what a session may negotiate, the name in a client's certificate. The only
 *          user of GnuTLS besides the HTTP library.
 * Ownership: struct ing_tls is heap memory and outlives every peer; a peer lives in its connection and holds the certificates
 *            that it began with. The session is the HTTP library's.
 * Units: bytes; nanoseconds (monotonic).
 * Errors: as cmq_tls_files_read, with a sentence; a reload that fails leaves what was there.
 * Callers: new, refresh, free: the main thread. Peers: the thread of their connection.
 *
 * Each session gets the credentials of the moment when it begins, counted, so that a reload takes effect for the next
 * connection and disturbs none that is open. There is no resumption: every connection shows and checks its certificates, and
 * no ticket outlives a change of authorities.
 */
#ifndef ING_TLS_H
#define ING_TLS_H

#include "common/proc/cmq_tls_files.h"

#define ING_TLS_NAME_BYTES_MAX CMQ_TLS_NAME_BYTES_MAX

struct ing_tls;
struct ing_tls_keys;

struct ing_tls_peer {
    struct ing_tls_keys *keys; /* NULL: no TLS */
    void *session;
    void (*on_secure)(struct ing_tls_peer *); /* the handshake is done */
    unsigned finished;                        /* messages of that name: one each way */
    bool has_name;                            /* name was looked for */
    uint8_t name_bytes;
    char name[ING_TLS_NAME_BYTES_MAX];
};

/* setup is copied, its paths are borrowed. */
CMQ_MUST_USE enum cmq_err ing_tls_new(const struct cmq_tls_setup *setup, struct ing_tls **ret_tls,
                                      struct cmq_reason *reason);
/* No peer may be left. NULL is fine. */
void ing_tls_free(struct ing_tls *tls);
/* Reads the files again if they have changed, or must; *ret_read tells whether it did. */
CMQ_MUST_USE enum cmq_err ing_tls_refresh(struct ing_tls *tls, bool must, uint64_t now_ns, bool *ret_read,
                                          struct cmq_reason *reason);

/* For the HTTP library's daemon: what is negotiated, and its own source of certificates, which has none: sessions that
 * ing_tls_begin has not seen fail. */
const char *ing_tls_priorities(void);
void *ing_tls_certificate_callback(void);

/* A session that has not begun its handshake. peer: zeroed. */
void ing_tls_begin(struct ing_tls *tls, struct ing_tls_peer *peer, void *session,
                   void (*on_secure)(struct ing_tls_peer *));
/* The session is gone. True: its handshake did not come to an end. A zeroed peer is fine. */
bool ing_tls_end(struct ing_tls_peer *peer);
/* After the handshake. Bytes 0: no certificate, or none with a plain name. Lives as long as peer. */
struct cmq_span ing_tls_peer_name(struct ing_tls_peer *peer);
/* The last that the peer gets: all of it at once and then the end, or false. bytes: less than a TLS record. */
CMQ_MUST_USE bool ing_tls_write_last(struct ing_tls_peer *peer, const void *data, size_t bytes);

#endif
