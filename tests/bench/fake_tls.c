#include "tests/bench/fake_tls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "tests/bench/fake_net.h"

enum { CONNECTIONS = 128, LOOK_MS = 20, CHUNK_BYTES = 40000, DAY_S = 86400 };

struct door {
    struct fake_tls *fake;
    int fd;
    unsigned port, behind;
    pthread_t thread;
    pthread_t connections[CONNECTIONS];
    unsigned connection_count;
};

struct fake_tls {
    SSL_CTX *ctx;
    atomic_uint stop; /* relaxed everywhere: a flag */
    struct door http, ws;
    char file[40];
};

struct passage {
    struct fake_tls *fake;
    int client, broker;
};

/* ---- the certificate ---- */

static X509 *make_certificate(EVP_PKEY *key, const char *names)
{
    X509 *certificate = X509_new();
    cmq_assert(certificate != NULL);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, names);
    cmq_assert(san != NULL && X509_set_version(certificate, X509_VERSION_3) == 1 &&
               ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
               X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY_S) != NULL &&
               X509_gmtime_adj(X509_getm_notAfter(certificate), DAY_S) != NULL &&
               X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)"fake", -1, -1,
                                          0) == 1 &&
               X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
               X509_add_ext(certificate, san, -1) == 1 && X509_sign(certificate, key, EVP_sha256()) > 0);
    X509_EXTENSION_free(san);
    return certificate;
}

static void take_certificate(struct fake_tls *fake, const char *names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    cmq_assert(key != NULL);
    X509 *certificate = make_certificate(key, names);
    snprintf(fake->file, sizeof fake->file, "/tmp/cmq-fake-tls-XXXXXX");
    int fd = mkstemp(fake->file);
    cmq_assert(fd >= 0);
    FILE *out = fdopen(fd, "w");
    cmq_assert(out != NULL && PEM_write_X509(out, certificate) == 1 && fclose(out) == 0);
    fake->ctx = SSL_CTX_new(TLS_server_method());
    cmq_assert(fake->ctx != NULL && SSL_CTX_use_certificate(fake->ctx, certificate) == 1 &&
               SSL_CTX_use_PrivateKey(fake->ctx, key) == 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* ---- one connection ---- */

static int connect_behind(unsigned port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cmq_assert(fd >= 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* False: one side is gone. A record that is not whole blocks until it is. */
static bool from_client(SSL *ssl, int broker)
{
    char chunk[CHUNK_BYTES];
    int got = SSL_read(ssl, chunk, sizeof chunk);
    return got > 0 && fake_send_all(broker, chunk, (size_t)got, SIZE_MAX);
}

static bool from_broker(SSL *ssl, int broker)
{
    char chunk[CHUNK_BYTES];
    ssize_t got = recv(broker, chunk, sizeof chunk, 0);
    return got > 0 && SSL_write(ssl, chunk, (int)got) == (int)got;
}

static void pass_on(struct passage *passage, SSL *ssl)
{
    bool open = true;
    while (open && atomic_load_explicit(&passage->fake->stop, memory_order_relaxed) == 0) {
        struct pollfd sides[] = {{.fd = passage->client, .events = POLLIN},
                                 {.fd = passage->broker, .events = POLLIN}};
        bool more = SSL_pending(ssl) > 0;
        (void)poll(sides, 2, more ? 0 : LOOK_MS);
        if (more || sides[0].revents != 0)
            open = from_client(ssl, passage->broker);
        if (open && sides[1].revents != 0)
            open = from_broker(ssl, passage->broker);
    }
}

static void *passage_main(void *arg)
{
    struct passage passage = *(struct passage *)arg;
    free(arg);
    struct timeval limit = {.tv_sec = 5};
    int on = 1;
    (void)setsockopt(passage.client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(passage.client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(passage.client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    SSL *ssl = SSL_new(passage.fake->ctx);
    cmq_assert(ssl != NULL && SSL_set_fd(ssl, passage.client) == 1);
    if (passage.broker >= 0 && SSL_accept(ssl) == 1)
        pass_on(&passage, ssl);
    SSL_free(ssl);
    close(passage.client);
    if (passage.broker >= 0)
        close(passage.broker);
    return NULL;
}

/* ---- life ---- */

static void *door_main(void *arg)
{
    struct door *door = arg;
    while (door->connection_count < CONNECTIONS && fake_readable(door->fd, &door->fake->stop)) {
        struct passage *passage = malloc(sizeof *passage);
        cmq_assert(passage != NULL);
        *passage = (struct passage){.fake = door->fake,
                                    .client = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC),
                                    .broker = connect_behind(door->behind)};
        cmq_assert(passage->client >= 0);
        pthread_t *thread = &door->connections[door->connection_count++];
        cmq_assert(pthread_create(thread, NULL, passage_main, passage) == 0);
    }
    return NULL;
}

static void open_door(struct fake_tls *fake, struct door *door, unsigned behind)
{
    *door = (struct door){.fake = fake, .behind = behind};
    door->fd = fake_listen(&door->port);
    cmq_assert(pthread_create(&door->thread, NULL, door_main, door) == 0);
}

static void close_door(struct door *door)
{
    (void)pthread_join(door->thread, NULL);
    for (unsigned i = 0; i < door->connection_count; i++)
        (void)pthread_join(door->connections[i], NULL);
    close(door->fd);
}

struct fake_tls *fake_tls_start(const char *names, unsigned http_port, unsigned ws_port)
{
    struct fake_tls *fake = calloc(1, sizeof *fake);
    cmq_assert(fake != NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    take_certificate(fake, names);
    open_door(fake, &fake->http, http_port);
    open_door(fake, &fake->ws, ws_port);
    return fake;
}

unsigned fake_tls_http_port(const struct fake_tls *fake)
{
    return fake->http.port;
}

unsigned fake_tls_ws_port(const struct fake_tls *fake)
{
    return fake->ws.port;
}

const char *fake_tls_file(const struct fake_tls *fake)
{
    return fake->file;
}

void fake_tls_stop(struct fake_tls *fake)
{
    atomic_store_explicit(&fake->stop, 1, memory_order_relaxed);
    close_door(&fake->http);
    close_door(&fake->ws);
    SSL_CTX_free(fake->ctx);
    unlink(fake->file);
    free(fake);
}
