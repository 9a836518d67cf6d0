/*
 * ctl_http: requests to the broker's own ports, as any client would make them. The only user of libcurl.
 * Ownership: an answer's memory is freed by ctl_answer_fini.
 * Units: milliseconds, bytes.
 * Errors: CMQ_ERR_SYSTEM (no connection, time-out, TLS) with a sentence that names the address. A status is no error.
 * Callers: any thread, each with links of its own; the first call is the main thread's.
 */
#ifndef CTL_HTTP_H
#define CTL_HTTP_H

#include "common/base/cmq_buf.h"
#include "ctl.h"

enum ctl_port { CTL_PORT_HTTP, CTL_PORT_WS };

/* A connection that is kept from one request to the next. */
struct ctl_link;

struct ctl_request {
    struct ctl_link *link; /* NULL: a connection of its own */
    enum ctl_port port;
    const char *path; /* with the query */
    bool post;        /* body is sent */
    struct cmq_span body;
    const char *type;       /* Content-Type; NULL: text/plain */
    const char *headers[8]; /* "Name: value", the first NULL ends them */
    uint64_t timeout_ms;    /* of all of it; 0: none */
    size_t bytes_max;       /* of the answer's body */
    /* Instead of keeping the body: its parts as they come; false ends the request. */
    bool (*on_data)(void *context, struct cmq_span data);
    void *context;
};

struct ctl_answer {
    long status;
    char url[256];
    struct cmq_buf body;
    uint64_t took_us;
    uint64_t retry_after_s; /* as the broker says; 0: it does not */
};

/* NULL: no memory. */
struct ctl_link *ctl_link_new(void);
/* NULL is fine. */
void ctl_link_free(struct ctl_link *link);

/* The token of --token-file, if one was given, goes along. TLS as the configuration has it: the certificate must be the
 * broker's (tls.cert_file is what is trusted). */
CMQ_MUST_USE enum cmq_err ctl_http(const struct ctl *ctl, const struct ctl_request *request,
                                   struct ctl_answer *ret_answer, struct cmq_reason *reason);
/* Accepts a zeroed struct. */
void ctl_answer_fini(struct ctl_answer *answer);

/* A bare connection to one of the ports, clear or TLS; what is sent over it is the caller's. */
struct ctl_stream;
CMQ_MUST_USE enum cmq_err ctl_stream_open(const struct ctl *ctl, enum ctl_port port,
                                          struct ctl_stream **ret_stream, struct cmq_reason *reason);
/* NULL is fine. */
void ctl_stream_close(struct ctl_stream *stream);
/* All of it, or an error. */
CMQ_MUST_USE enum cmq_err ctl_stream_send(struct ctl_stream *stream, struct cmq_span data,
                                          struct cmq_reason *reason);
/* At least one byte. CMQ_ERR_TIMEOUT: nothing came up to deadline_ns (CLOCK_MONOTONIC; UINT64_MAX: waits for ever). CMQ_ERR_LOST: the other side closed. */
CMQ_MUST_USE enum cmq_err ctl_stream_receive(struct ctl_stream *stream, void *data, size_t bytes_max,
                                             uint64_t deadline_ns, size_t *ret_bytes,
                                             struct cmq_reason *reason);

#endif
