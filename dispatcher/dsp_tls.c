#include "dispatcher/dsp_tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <string.h>

/* TLS 1.3 and the AEAD suites of 1.2 with ephemeral keys (RFC 9325). AES-128-GCM first: processors have it. */
static const char suites_12[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char suites_13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256:P-384";

struct keys {
    X509 *certificate;
    STACK_OF(X509) * chain; /* above the certificate */
    EVP_PKEY *key;
    X509_STORE *authorities;          /* as the next one, NULL when no client is asked */
    STACK_OF(X509_NAME) * authorised; /* what clients are told of them */
};

struct dsp_tls {
    struct cmq_tls_setup setup;
    struct cmq_tls_watch watch;
    struct cmq_ring *ring;
    int done_index; /* of a connection's mark that its handshake is done */
    pthread_mutex_t mutex;
    struct keys keys; /* under the mutex */
};

/* ---- certificates ---- */

static void keys_fini(struct keys *keys)
{
    X509_free(keys->certificate);
    sk_X509_pop_free(keys->chain, X509_free);
    EVP_PKEY_free(keys->key);
    X509_STORE_free(keys->authorities);
    sk_X509_NAME_pop_free(keys->authorised, X509_NAME_free);
    *keys = (struct keys){0};
}

static const char *library_reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text != NULL ? text : "it has none";
}

/* The library would ask on the terminal. */
static int no_passphrase(char *text, int size, int rwflag, void *context)
{
    (void)text, (void)size, (void)rwflag, (void)context;
    return -1;
}

/* Certificates of a PEM text, in order. NULL: it has none, or a damaged one. */
static STACK_OF(X509) * read_certificates(const struct cmq_buf *text)
{
    STACK_OF(X509) *certificates = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(text->data, (int)text->bytes);
    X509 *certificate = NULL;
    while (certificates != NULL && bio != NULL &&
           (certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        if (sk_X509_push(certificates, certificate) == 0) {
            X509_free(certificate);
            break;
        }
    }
    BIO_free(bio);
    const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (!at_end || sk_X509_num(certificates) <= 0) {
        sk_X509_pop_free(certificates, X509_free);
        return NULL;
    }
    ERR_clear_error();
    return certificates;
}

static enum cmq_err take_pair(struct keys *keys, const struct cmq_tls_setup *setup,
                              const struct cmq_tls_files *files, struct cmq_reason *reason)
{
    const struct cmq_buf *text = &files->text[CMQ_TLS_KEY];
    keys->chain = read_certificates(&files->text[CMQ_TLS_CERT]);
    if (keys->chain == NULL)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "tls.cert_file: %s is no certificate chain in PEM: %s",
                              setup->path[CMQ_TLS_CERT], library_reason());
    keys->certificate = sk_X509_shift(keys->chain);
    BIO *bio = BIO_new_mem_buf(text->data, (int)text->bytes);
    keys->key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    if (keys->key == NULL)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "tls.key_file: %s is no private key (without passphrase) in PEM: %s",
                              setup->path[CMQ_TLS_KEY], library_reason());
    if (X509_check_private_key(keys->certificate, keys->key) != 1) {
        ERR_clear_error();
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "tls.key_file: %s is not the key of the certificate in %s: bring the two that "
                              "belong together",
                              setup->path[CMQ_TLS_KEY], setup->path[CMQ_TLS_CERT]);
    }
    return CMQ_OK;
}

static enum cmq_err take_client_ca(struct keys *keys, const struct cmq_tls_setup *setup,
                                   const struct cmq_tls_files *files, struct cmq_reason *reason)
{
    if (setup->client_cert == CMQ_CONF_CLIENT_CERT_NONE)
        return CMQ_OK;
    STACK_OF(X509) *found = read_certificates(&files->text[CMQ_TLS_CLIENT_CA]);
    if (found == NULL)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "tls.client_ca_file: %s has no certificate in PEM: %s",
                              setup->path[CMQ_TLS_CLIENT_CA], library_reason());
    keys->authorities = X509_STORE_new();
    keys->authorised = sk_X509_NAME_new_null();
    bool good = keys->authorities != NULL && keys->authorised != NULL;
    /* Who stands in the file is trusted, be it a root or not: as the other port has it. */
    good = good && X509_STORE_set_flags(keys->authorities, X509_V_FLAG_PARTIAL_CHAIN) == 1;
    for (int i = 0; good && i < sk_X509_num(found); i++) {
        X509_NAME *name = X509_NAME_dup(X509_get_subject_name(sk_X509_value(found, i)));
        good = name != NULL && sk_X509_NAME_push(keys->authorised, name) != 0;
        if (!good)
            X509_NAME_free(name);
        good = good && X509_STORE_add_cert(keys->authorities, sk_X509_value(found, i)) == 1;
    }
    sk_X509_pop_free(found, X509_free);
    return good ? CMQ_OK : cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for the certificates of TLS");
}

static enum cmq_err keys_load(const struct cmq_tls_setup *setup, struct keys *ret_keys,
                              struct cmq_reason *reason)
{
    struct keys keys = {0};
    struct cmq_tls_files files;
    enum cmq_err err = cmq_tls_files_read(setup, &files, reason);
    if (err != CMQ_OK)
        return err;
    ERR_clear_error();
    err = take_pair(&keys, setup, &files, reason);
    if (err == CMQ_OK)
        err = take_client_ca(&keys, setup, &files, reason);
    cmq_tls_files_clear(&files);
    if (err == CMQ_OK)
        *ret_keys = keys;
    else
        keys_fini(&keys);
    return err;
}

/* ---- handshakes ---- */

static int give_certificate(SSL *ssl, void *context)
{
    struct dsp_tls *tls = context;
    pthread_mutex_lock(&tls->mutex);
    const struct keys *keys = &tls->keys;
    bool good = SSL_use_cert_and_key(ssl, keys->certificate, keys->key, keys->chain, 1) == 1;
    if (good && keys->authorities != NULL) {
        SSL_set_client_CA_list(ssl, SSL_dup_CA_list(keys->authorised));
        good = SSL_set1_verify_cert_store(ssl, keys->authorities) == 1;
    }
    pthread_mutex_unlock(&tls->mutex);
    return good ? 1 : 0;
}

static void on_info(const SSL *ssl, int where, int value)
{
    (void)value;
    struct dsp_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    if ((where & SSL_CB_HANDSHAKE_DONE) != 0)
        (void)SSL_set_ex_data((SSL *)(uintptr_t)ssl, tls->done_index, tls);
}

/* A connection goes, its mark with it. Who never said anything only looked whether somebody listens. */
static void on_free(void *parent, void *mark, CRYPTO_EX_DATA *data, int index, long number, void *context)
{
    (void)data, (void)index, (void)number;
    const struct dsp_tls *tls = context;
    BIO *bio = SSL_get_rbio(parent);
    if (mark == NULL && bio != NULL && BIO_number_read(bio) != 0)
        cmq_ring_count(tls->ring, CMQ_COUNT_TLS_FAILED, 1);
}

int dsp_tls_limit(struct dsp_tls *tls, void *ssl_ctx)
{
    SSL_CTX *ctx = ssl_ctx;
    if (tls == NULL)
        return 0;
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_set_cipher_list(ctx, suites_12) != 1 || SSL_CTX_set_ciphersuites(ctx, suites_13) != 1 ||
        SSL_CTX_set1_groups_list(ctx, groups) != 1 || SSL_CTX_set_app_data(ctx, tls) != 1)
        return -1;
    const int modes[] = {[CMQ_CONF_CLIENT_CERT_NONE] = SSL_VERIFY_NONE,
                         [CMQ_CONF_CLIENT_CERT_OPTIONAL] = SSL_VERIFY_PEER,
                         [CMQ_CONF_CLIENT_CERT_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT};
    SSL_CTX_set_verify(ctx, modes[tls->setup.client_cert], NULL);
    SSL_CTX_set_cert_cb(ctx, give_certificate, tls);
    SSL_CTX_set_info_callback(ctx, on_info);
    return 0;
}

/*
 * A record is always read whole. As long as something of one is left, the library goes on reading; and if the connection is
 * told meanwhile to take nothing (lws_rx_flow_control), it does so for ever, in vain, and serves nobody else (4.1.6,
 * rops_handle_POLLIN_ws). The buffer of a WebSocket costs memory only when it is used.
 */
void dsp_tls_prepare(const struct dsp_tls *tls, struct lws_context_creation_info *info,
                     struct lws_protocols *protocols)
{
    if (tls == NULL)
        return;
    info->pt_serv_buf_size = SSL3_RT_MAX_PLAIN_LENGTH;
    for (struct lws_protocols *protocol = protocols; protocol->name != NULL; protocol++)
        protocol->rx_buffer_size = SSL3_RT_MAX_PLAIN_LENGTH;
    info->options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX |
                     LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
    info->alpn = "http/1.1"; /* the library would offer HTTP/2 too */
}

/* ---- life ---- */

enum cmq_err dsp_tls_new(const struct cmq_tls_setup *setup, struct cmq_ring *ring, struct dsp_tls **ret_tls,
                         struct cmq_reason *reason)
{
    struct dsp_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for TLS");
    tls->setup = *setup;
    tls->ring = ring;
    cmq_tls_watch_init(&tls->watch, &tls->setup);
    int error = pthread_mutex_init(&tls->mutex, NULL);
    cmq_assert(error == 0);
    tls->done_index = SSL_get_ex_new_index(0, tls, NULL, NULL, on_free);
    enum cmq_err err = tls->done_index < 0 ? cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for TLS")
                                           : keys_load(&tls->setup, &tls->keys, reason);
    if (err == CMQ_OK)
        *ret_tls = tls;
    else
        dsp_tls_free(tls);
    return err;
}

void dsp_tls_free(struct dsp_tls *tls)
{
    if (tls == NULL)
        return;
    if (tls->done_index >= 0)
        (void)CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL, tls->done_index);
    keys_fini(&tls->keys);
    (void)pthread_mutex_destroy(&tls->mutex);
    free(tls);
}

enum cmq_err dsp_tls_refresh(struct dsp_tls *tls, bool must, uint64_t now_ns, bool *ret_read,
                             struct cmq_reason *reason)
{
    struct keys keys;
    *ret_read = cmq_tls_watch_changed(&tls->watch, now_ns) || must;
    if (!*ret_read)
        return CMQ_OK;
    enum cmq_err err = keys_load(&tls->setup, &keys, reason);
    if (err != CMQ_OK)
        return err;
    pthread_mutex_lock(&tls->mutex);
    struct keys before = tls->keys;
    tls->keys = keys;
    pthread_mutex_unlock(&tls->mutex);
    keys_fini(&before);
    return CMQ_OK;
}

/* ---- names ---- */

/* Copies a text of a certificate; 0: it is not plain. */
static size_t take_text(const ASN1_STRING *text, char memory[DSP_TLS_NAME_BYTES_MAX])
{
    unsigned char *utf8 = NULL;
    int bytes = ASN1_STRING_to_UTF8(&utf8, text);
    const bool is_plain = bytes > 0 && cmq_tls_name_is_plain((const char *)utf8, (size_t)bytes);
    if (is_plain)
        memcpy(memory, utf8, (size_t)bytes);
    OPENSSL_free(utf8);
    return is_plain ? (size_t)bytes : 0;
}

static size_t take_dns_name(const X509 *certificate, char memory[DSP_TLS_NAME_BYTES_MAX])
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t bytes = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        bytes = take_text(name->d.dNSName, memory);
        break;
    }
    GENERAL_NAMES_free(names);
    return bytes;
}

/* The common name, or the first DNS name when there is none. Two common names are no name. */
static size_t take_name(const X509 *certificate, char memory[DSP_TLS_NAME_BYTES_MAX])
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int first = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (first < 0)
        return take_dns_name(certificate, memory);
    if (X509_NAME_get_index_by_NID(subject, NID_commonName, first) >= 0)
        return 0;
    return take_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, first)), memory);
}

struct cmq_span dsp_tls_peer_name(struct lws *wsi, char memory[DSP_TLS_NAME_BYTES_MAX])
{
    SSL *ssl = lws_get_ssl(wsi);
    const X509 *certificate = ssl != NULL ? SSL_get0_peer_certificate(ssl) : NULL;
    size_t bytes = 0;
    if (certificate != NULL && SSL_get_verify_result(ssl) == X509_V_OK)
        bytes = take_name(certificate, memory);
    return cmq_span_make(memory, bytes);
}
