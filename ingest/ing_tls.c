#include "ingest/ing_tls.h"

#include <assert.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* TLS 1.3 and the AEAD suites of 1.2 with ephemeral keys (RFC 9325). AES-128-GCM first: processors have it. */
static const char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:"
                                 "-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:-MAC-ALL:+AEAD:"
                                 "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"
                                 "-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1:%SERVER_PRECEDENCE";

struct ing_tls_keys {
    atomic_uint users; /* peers, and one for being the present ones */
    gnutls_certificate_credentials_t credentials;
    gnutls_certificate_request_t request;
};

struct ing_tls {
    struct cmq_tls_setup setup;
    struct cmq_tls_watch watch;
    pthread_mutex_t mutex;
    struct ing_tls_keys *keys; /* under the mutex: the present ones */
};

/* ---- certificates ---- */

static void keys_put(struct ing_tls_keys *keys)
{
    /* Acquire and release: the last one sees what all others did before they let go. */
    if (keys == NULL || atomic_fetch_sub_explicit(&keys->users, 1, memory_order_acq_rel) != 1)
        return;
    gnutls_certificate_free_credentials(keys->credentials);
    free(keys);
}

static gnutls_datum_t datum_of(const struct cmq_buf *text)
{
    return (gnutls_datum_t){.data = text->data, .size = (unsigned)text->bytes};
}

static enum cmq_err take_pair(struct ing_tls_keys *keys, const struct cmq_tls_setup *setup,
                              const struct cmq_tls_files *files, struct cmq_reason *reason)
{
    const gnutls_datum_t cert = datum_of(&files->text[CMQ_TLS_CERT]);
    const gnutls_datum_t key = datum_of(&files->text[CMQ_TLS_KEY]);
    int code =
        gnutls_certificate_set_x509_key_mem2(keys->credentials, &cert, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "tls.key_file: %s is not the key of the certificate in %s: bring the two that belong "
            "together",
            setup->path[CMQ_TLS_KEY], setup->path[CMQ_TLS_CERT]);
    if (code < 0)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "tls.cert_file, tls.key_file: %s and %s are no certificate chain and key (without "
            "passphrase) in PEM: %s",
            setup->path[CMQ_TLS_CERT], setup->path[CMQ_TLS_KEY], gnutls_strerror(code));
    return CMQ_OK;
}

static enum cmq_err take_client_ca(struct ing_tls_keys *keys, const struct cmq_tls_setup *setup,
                                   const struct cmq_tls_files *files, struct cmq_reason *reason)
{
    keys->request = GNUTLS_CERT_IGNORE;
    if (setup->client_cert == CMQ_CONF_CLIENT_CERT_NONE)
        return CMQ_OK;
    keys->request =
        setup->client_cert == CMQ_CONF_CLIENT_CERT_REQUIRED ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST;
    const gnutls_datum_t text = datum_of(&files->text[CMQ_TLS_CLIENT_CA]);
    int count = gnutls_certificate_set_x509_trust_mem(keys->credentials, &text, GNUTLS_X509_FMT_PEM);
    if (count <= 0)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "tls.client_ca_file: %s has no certificate in PEM: %s",
                              setup->path[CMQ_TLS_CLIENT_CA],
                              count < 0 ? gnutls_strerror(count) : "there is nothing in it");
    return CMQ_OK;
}

static enum cmq_err keys_load(const struct cmq_tls_setup *setup, struct ing_tls_keys **ret_keys,
                              struct cmq_reason *reason)
{
    struct cmq_tls_files files;
    enum cmq_err err = cmq_tls_files_read(setup, &files, reason);
    if (err != CMQ_OK)
        return err;
    struct ing_tls_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL || gnutls_certificate_allocate_credentials(&keys->credentials) != GNUTLS_E_SUCCESS) {
        free(keys);
        cmq_tls_files_clear(&files);
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for the certificates of TLS");
    }
    atomic_init(&keys->users, 1);
    err = take_pair(keys, setup, &files, reason);
    if (err == CMQ_OK)
        err = take_client_ca(keys, setup, &files, reason);
    cmq_tls_files_clear(&files);
    if (err == CMQ_OK)
        *ret_keys = keys;
    else
        keys_put(keys);
    return err;
}

/* ---- life ---- */

enum cmq_err ing_tls_new(const struct cmq_tls_setup *setup, struct ing_tls **ret_tls,
                         struct cmq_reason *reason)
{
    struct ing_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for TLS");
    tls->setup = *setup;
    cmq_tls_watch_init(&tls->watch, &tls->setup);
    int error = pthread_mutex_init(&tls->mutex, NULL);
    cmq_assert(error == 0);
    enum cmq_err err = keys_load(&tls->setup, &tls->keys, reason);
    if (err == CMQ_OK)
        *ret_tls = tls;
    else
        ing_tls_free(tls);
    return err;
}

void ing_tls_free(struct ing_tls *tls)
{
    if (tls == NULL)
        return;
    keys_put(tls->keys);
    (void)pthread_mutex_destroy(&tls->mutex);
    free(tls);
}

enum cmq_err ing_tls_refresh(struct ing_tls *tls, bool must, uint64_t now_ns, bool *ret_read,
                             struct cmq_reason *reason)
{
    struct ing_tls_keys *keys = NULL;
    *ret_read = cmq_tls_watch_changed(&tls->watch, now_ns) || must;
    if (!*ret_read)
        return CMQ_OK;
    enum cmq_err err = keys_load(&tls->setup, &keys, reason);
    if (err != CMQ_OK)
        return err;
    pthread_mutex_lock(&tls->mutex);
    struct ing_tls_keys *before = tls->keys;
    tls->keys = keys;
    pthread_mutex_unlock(&tls->mutex);
    keys_put(before);
    return CMQ_OK;
}

const char *ing_tls_priorities(void)
{
    return priorities;
}

static int no_certificate(gnutls_session_t session, const gnutls_datum_t *authorities, int authority_count,
                          const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
                          gnutls_pcert_st **chain, unsigned *chain_length, gnutls_privkey_t *key)
{
    (void)session, (void)authorities, (void)authority_count, (void)algorithms, (void)algorithm_count;
    (void)chain, (void)chain_length, (void)key;
    return -1;
}

void *ing_tls_certificate_callback(void)
{
    gnutls_certificate_retrieve_function2 *const function = no_certificate;
    void *pointer;
    static_assert(sizeof pointer == sizeof function, "the library takes functions as pointers to objects");
    memcpy(&pointer, &function, sizeof pointer);
    return pointer;
}

/* ---- sessions ---- */

/* Whether the client's certificate is from one of our authorities and is for clients. None at all is none of this
 * function's business: the request says whether that will do. */
static int verify_client(gnutls_session_t session)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned count = 0, status = 0;
    if (gnutls_certificate_get_peers(session, &count) == NULL || count == 0)
        return 0;
    int code = gnutls_certificate_verify_peers(session, &purpose, 1, &status);
    if (code == GNUTLS_E_SUCCESS && status == 0)
        return 0;
    (void)gnutls_alert_send(session, GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE); /* the library sends none */
    return GNUTLS_E_CERTIFICATE_ERROR;
}

static int on_finished(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                       const gnutls_datum_t *message)
{
    (void)type, (void)when, (void)incoming, (void)message;
    struct ing_tls_peer *peer = gnutls_session_get_ptr(session);
    if (++peer->finished == 2)
        peer->on_secure(peer);
    return 0;
}

void ing_tls_begin(struct ing_tls *tls, struct ing_tls_peer *peer, void *session,
                   void (*on_secure)(struct ing_tls_peer *))
{
    pthread_mutex_lock(&tls->mutex);
    peer->keys = tls->keys;
    /* Relaxed: the one that the present keys hold keeps them while the mutex is held. */
    atomic_fetch_add_explicit(&peer->keys->users, 1, memory_order_relaxed);
    pthread_mutex_unlock(&tls->mutex);
    peer->session = session;
    peer->on_secure = on_secure;
    (void)gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, peer->keys->credentials);
    gnutls_certificate_server_set_request(session, peer->keys->request);
    if (peer->keys->request != GNUTLS_CERT_IGNORE)
        gnutls_session_set_verify_function(session, verify_client);
    gnutls_session_set_ptr(session, peer); /* the HTTP library uses it with pre-shared keys only */
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_FINISHED, GNUTLS_HOOK_POST, on_finished);
}

bool ing_tls_end(struct ing_tls_peer *peer)
{
    const bool failed = peer->keys != NULL && peer->finished < 2;
    keys_put(peer->keys);
    peer->keys = NULL;
    peer->session = NULL;
    return failed;
}

/* The common name, or the first DNS name when there is none. Two common names are no name. */
static size_t find_name(gnutls_x509_crt_t certificate, char ret_name[ING_TLS_NAME_BYTES_MAX + 1])
{
    size_t bytes = ING_TLS_NAME_BYTES_MAX + 1, more_bytes = 0;
    int code =
        gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, ret_name, &bytes);
    if (code == GNUTLS_E_SUCCESS)
        return gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 1, 0, NULL,
                                             &more_bytes) == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE
                   ? bytes
                   : 0;
    if (code != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
        return 0;
    for (unsigned i = 0;; i++) {
        bytes = ING_TLS_NAME_BYTES_MAX + 1;
        code = gnutls_x509_crt_get_subject_alt_name(certificate, i, ret_name, &bytes, NULL);
        if (code == GNUTLS_SAN_DNSNAME)
            return bytes;
        if (code < 0 && code != GNUTLS_E_SHORT_MEMORY_BUFFER)
            return 0;
    }
}

static void take_name(struct ing_tls_peer *peer)
{
    char name[ING_TLS_NAME_BYTES_MAX + 1];
    gnutls_x509_crt_t certificate;
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(peer->session, &count);
    /* What was not asked for was not verified. */
    if (chain == NULL || count == 0 || peer->keys->request == GNUTLS_CERT_IGNORE ||
        gnutls_x509_crt_init(&certificate) != GNUTLS_E_SUCCESS)
        return;
    size_t bytes = 0;
    if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS)
        bytes = find_name(certificate, name);
    gnutls_x509_crt_deinit(certificate);
    if (!cmq_tls_name_is_plain(name, bytes))
        return;
    memcpy(peer->name, name, bytes);
    peer->name_bytes = (uint8_t)bytes;
}

struct cmq_span ing_tls_peer_name(struct ing_tls_peer *peer)
{
    if (peer->keys != NULL && !peer->has_name)
        take_name(peer);
    peer->has_name = true;
    return cmq_span_make(peer->name, peer->name_bytes);
}

bool ing_tls_write_last(struct ing_tls_peer *peer, const void *data, size_t bytes)
{
    if (gnutls_record_send(peer->session, data, bytes) != (ssize_t)bytes)
        return false;
    (void)gnutls_bye(peer->session, GNUTLS_SHUT_WR);
    return true;
}
