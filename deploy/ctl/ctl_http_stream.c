#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "ctl_http_int.h"

enum { CONNECT_MS = 10000, SEND_MS = 30000 };

struct ctl_stream {
    CURL *curl;
    int fd;
    char url[256];
};

enum cmq_err ctl_stream_open(const struct ctl *ctl, enum ctl_port port, struct ctl_stream **ret_stream,
                             struct cmq_reason *reason)
{
    struct ctl_stream *stream = calloc(1, sizeof *stream);
    CURL *curl = curl_easy_init();
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (stream == NULL || curl == NULL) {
        if (curl != NULL)
            curl_easy_cleanup(curl);
        free(stream);
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "libcurl does not start");
    }
    ctl_http_url(ctl, port, "", stream->url, sizeof stream->url);
    ctl_http_common(ctl, curl, stream->url);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    /* WebSocket is spoken over HTTP/1.1 only. */
    (void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &fd);
    if (code != CURLE_OK || fd == CURL_SOCKET_BAD) {
        enum cmq_err err =
            cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", stream->url, curl_easy_strerror(code));
        curl_easy_cleanup(curl);
        free(stream);
        return err;
    }
    stream->curl = curl;
    stream->fd = fd;
    *ret_stream = stream;
    return CMQ_OK;
}

void ctl_stream_close(struct ctl_stream *stream)
{
    if (stream == NULL)
        return;
    curl_easy_cleanup(stream->curl);
    free(stream);
}

static enum cmq_err fail(const struct ctl_stream *stream, CURLcode code, struct cmq_reason *reason)
{
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", stream->url, curl_easy_strerror(code));
}

/* false: not within that time. */
static bool wait_for(const struct ctl_stream *stream, short events, uint64_t deadline_ns)
{
    for (;;) {
        struct pollfd one = {.fd = stream->fd, .events = events};
        const uint64_t now_ns = cmq_clock_mono_ns();
        int wait_ms = -1;
        if (deadline_ns != UINT64_MAX)
            wait_ms = now_ns >= deadline_ns ? 0 : (int)((deadline_ns - now_ns) / CMQ_NS_PER_MS + 1u);
        const int ready = poll(&one, 1, wait_ms);
        if (ready != 0 && (ready > 0 || errno != EINTR))
            return true; /* an error is told by the next call of libcurl */
        if (ready == 0)
            return false;
    }
}

enum cmq_err ctl_stream_send(struct ctl_stream *stream, struct cmq_span data, struct cmq_reason *reason)
{
    const uint64_t deadline_ns = cmq_clock_mono_ns() + SEND_MS * CMQ_NS_PER_MS;
    while (data.bytes > 0) {
        size_t sent = 0;
        CURLcode code = curl_easy_send(stream->curl, data.data, data.bytes, &sent);
        if (code == CURLE_AGAIN && wait_for(stream, POLLOUT, deadline_ns))
            continue;
        if (code == CURLE_AGAIN)
            return cmq_reason_set(reason, CMQ_ERR_TIMEOUT, "%s takes nothing", stream->url);
        if (code != CURLE_OK)
            return fail(stream, code, reason);
        data = cmq_span_make(data.data + sent, data.bytes - sent);
    }
    return CMQ_OK;
}

enum cmq_err ctl_stream_receive(struct ctl_stream *stream, void *data, size_t bytes_max, uint64_t deadline_ns,
                                size_t *ret_bytes, struct cmq_reason *reason)
{
    for (;;) {
        size_t bytes = 0;
        /* First the call: TLS may hold bytes that poll does not know of. */
        CURLcode code = curl_easy_recv(stream->curl, data, bytes_max, &bytes);
        if (code == CURLE_OK && bytes == 0)
            return cmq_reason_set(reason, CMQ_ERR_LOST, "%s closed the connection", stream->url);
        if (code == CURLE_OK) {
            *ret_bytes = bytes;
            return CMQ_OK;
        }
        if (code != CURLE_AGAIN)
            return fail(stream, code, reason);
        if (!wait_for(stream, POLLIN, deadline_ns))
            return CMQ_ERR_TIMEOUT;
    }
}
