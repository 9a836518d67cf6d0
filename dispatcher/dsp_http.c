#include "dispatcher/dsp_http.h"

#include <stdio.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "common/log/cmq_log.h"
#include "dispatcher/dsp_ws_v1.h"

enum { BODY_BYTES_MAX = 512, RESPONSE_BYTES_MAX = 2048, FIELD_BYTES_MAX = 256, PATH_BYTES_MAX = 8 };

#define V1_PATH "/v1/ws"

#define PROBLEM_TYPE "application/problem+json"

static const char welcome[] =
    "CipherMQ dispatcher.\n"
    "Connect with WebSocket to this address: each text frame is a JSON array of messages.\n"
    "/v1/ws with subprotocol " DSP_V1_JSON " or " DSP_V1_MSGPACK
    " has topics, subscriptions and consumer groups.\n";

/* Status, headers and body in two writes. 0 or -1. */
static int send_response(struct lws *wsi, unsigned status, const char *type, const char *extra_name,
                         const char *extra_value, const char *body, size_t body_bytes)
{
    uint8_t memory[LWS_PRE + RESPONSE_BYTES_MAX], text[LWS_PRE + BODY_BYTES_MAX];
    uint8_t *start = memory + LWS_PRE, *next = start, *end = memory + sizeof(memory) - 1;
    if (lws_add_http_common_headers(wsi, status | LWSAHH_FLAG_NO_SERVER_NAME, type, body_bytes, &next, end) !=
        0)
        return -1;
    if (extra_name != NULL &&
        lws_add_http_header_by_name(wsi, (const uint8_t *)extra_name, (const uint8_t *)extra_value,
                                    (int)strlen(extra_value), &next, end) != 0)
        return -1;
    if (lws_finalize_write_http_header(wsi, start, &next, end) != 0)
        return -1;
    cmq_assert(body_bytes <= BODY_BYTES_MAX);
    memcpy(text + LWS_PRE, body, body_bytes);
    return lws_write(wsi, text + LWS_PRE, body_bytes, LWS_WRITE_HTTP_FINAL) == (int)body_bytes ? 0 : -1;
}

struct problem {
    unsigned status;
    const char *title;
    const char *detail; /* literal: nothing of the client's goes into it */
    const char *extra_name, *extra_value;
};

static int send_problem(struct lws *wsi, const struct problem *problem)
{
    char body[BODY_BYTES_MAX];
    int bytes = snprintf(body, sizeof(body), "{\"title\":\"%s\",\"status\":%u,\"detail\":\"%s\"}\n",
                         problem->title, problem->status, problem->detail);
    cmq_assert(bytes > 0 && (size_t)bytes < sizeof(body));
    return send_response(wsi, problem->status, PROBLEM_TYPE, problem->extra_name, problem->extra_value, body,
                         (size_t)bytes);
}

static const struct problem not_found = {
    404, "Not Found", "There is nothing at this path; WebSocket clients connect to / or /v1/ws.", NULL, NULL};
static const struct problem needs_upgrade = {
    426, "Upgrade Required",
    "Connect to this path with WebSocket and one of the subprotocols " DSP_V1_JSON " and " DSP_V1_MSGPACK ".",
    "upgrade:", "websocket"};
static const struct problem needs_subprotocol = {400, "Bad Request",
                                                 "Sec-WebSocket-Protocol must name one of " DSP_V1_JSON
                                                 " and " DSP_V1_MSGPACK ", and no other of this broker.",
                                                 NULL, NULL};
static const struct problem bad_method = {405, "Method Not Allowed", "This port knows GET only.",
                                          "allow:", "GET"};
static const struct problem bad_subprotocol = {
    400, "Bad Request", "The endpoint / has no subprotocols; connect without Sec-WebSocket-Protocol.", NULL,
    NULL};
static const struct problem bad_origin = {
    403, "Forbidden",
    "Pages of other sites may not connect; serve the page from this host or from localhost.", NULL, NULL};

int dsp_http_answer(struct lws *wsi, const char *path, size_t path_bytes)
{
    int result;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) == 0)
        result = send_problem(wsi, &bad_method);
    else if (path_bytes == sizeof(V1_PATH) - 1 && memcmp(path, V1_PATH, path_bytes) == 0)
        result = send_problem(wsi, &needs_upgrade);
    else if (path_bytes != 1 || path[0] != '/')
        result = send_problem(wsi, &not_found);
    else
        result =
            send_response(wsi, 200, "text/plain", "cache-control:", "no-store", welcome, sizeof(welcome) - 1);
    return result != 0 || lws_http_transaction_completed(wsi) != 0 ? -1 : 0;
}

/* Length of the host in `host[:port]`. */
static size_t host_bytes(const char *text)
{
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        return end == NULL ? strlen(text) : (size_t)(end - text) + 1;
    }
    return strcspn(text, ":/");
}

static bool host_is(const char *text, size_t bytes, const char *name)
{
    return bytes == strlen(name) && strncasecmp(text, name, bytes) == 0;
}

/* Browsers send Origin, and let any page connect anywhere (RFC 6455, 10.2): a page of another site must not
 * take messages away from the real consumers. Same host or loopback is fine; programs send none. */
static bool origin_is_allowed(struct lws *wsi)
{
    char origin[FIELD_BYTES_MAX], host[FIELD_BYTES_MAX];
    if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) == 0)
        return true;
    if (lws_hdr_copy(wsi, origin, sizeof(origin), WSI_TOKEN_ORIGIN) <= 0)
        return false;
    const char *scheme_end = strstr(origin, "://");
    if (scheme_end == NULL)
        return false;
    const char *name = scheme_end + 3;
    size_t bytes = host_bytes(name);
    if (host_is(name, bytes, "localhost") || host_is(name, bytes, "127.0.0.1") ||
        host_is(name, bytes, "[::1]"))
        return true;
    if (lws_hdr_copy(wsi, host, sizeof(host), WSI_TOKEN_HOST) <= 0)
        return false;
    return bytes == host_bytes(host) && strncasecmp(name, host, bytes) == 0;
}

/* The library takes the first name in the client's list that it knows. It also knows names of our own, which no client may
 * ask for. */
static bool subprotocol_is_v1(struct lws *wsi)
{
    char names[FIELD_BYTES_MAX];
    bool found = false;
    if (lws_hdr_copy(wsi, names, sizeof(names), WSI_TOKEN_PROTOCOL) <= 0)
        return false;
    for (char *next = names, *name; (name = strsep(&next, ", \t")) != NULL;) {
        if (strncmp(name, "cmq-", 4) == 0)
            return false;
        found = found || strcmp(name, DSP_V1_JSON) == 0 || strcmp(name, DSP_V1_MSGPACK) == 0;
    }
    return found;
}

/* NULL: the upgrade may go on. */
static const struct problem *find_fault(struct lws *wsi)
{
    char path[PATH_BYTES_MAX]; /* anything longer is refused by the library's length check */
    int bytes = lws_hdr_copy(wsi, path, sizeof(path), WSI_TOKEN_GET_URI);
    if (bytes <= 0)
        return &not_found;
    if (strcmp(path, V1_PATH) == 0) {
        if (!subprotocol_is_v1(wsi))
            return &needs_subprotocol;
    } else if (strcmp(path, "/") != 0) {
        return &not_found;
    } else if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) != 0) {
        return &bad_subprotocol;
    }
    return origin_is_allowed(wsi) ? NULL : &bad_origin;
}

int dsp_http_check_upgrade(struct lws *wsi, const char *busy_reason)
{
    const struct problem *fault = find_fault(wsi);
    const struct problem busy = {503, "Service Unavailable", busy_reason, "retry-after:", "1"};
    if (fault == NULL && busy_reason != NULL)
        fault = &busy;
    if (fault == NULL)
        return 0;
    cmq_log(CMQ_LOG_INFO, CMQ_EV_CLIENT_REFUSED, "status=%u", fault->status);
    return send_problem(wsi, fault) == 0 ? 1 : -1;
}
