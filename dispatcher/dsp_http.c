#include "dispatcher/dsp_http.h"

#include <stdio.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "common/log/cmq_log.h"
#include "common/wire/cmq_topic.h"
#include "dispatcher/dsp_topics.h"
#include "dispatcher/dsp_ws_board.h"
#include "dispatcher/dsp_ws_door.h"
#include "dispatcher/dsp_ws_int.h"
#include "dispatcher/dsp_ws_v1.h"

enum { BODY_BYTES_MAX = 512, RESPONSE_BYTES_MAX = 2048, PROTOCOLS_BYTES_MAX = 1024, PATH_BYTES_MAX = 16 };
enum { KEY_BYTES = 24, FIELD_BYTES = 16 }; /* of a handshake */

#define V1_PATH "/v1/ws"

#define PROBLEM_TYPE "application/problem+json"

static const char welcome[] =
    "CipherMQ dispatcher.\n"
    "Connect with WebSocket to this address: each text frame is a JSON array of messages.\n"
    "/v1/ws with subprotocol " DSP_V1_JSON " or " DSP_V1_MSGPACK
    " has topics, subscriptions and consumer groups; /t/{topic}/ws, /sse and /json need no library.\n"
    "In a browser this address is the dashboard.\n";

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

int dsp_http_send_problem(struct lws *wsi, const struct dsp_problem *problem)
{
    char body[BODY_BYTES_MAX];
    int bytes = snprintf(body, sizeof(body),
                         "{\"type\":\"/problems/%s\",\"title\":\"%s\",\"status\":%u,\"detail\":\"%s\"}\n",
                         problem->slug, problem->title, problem->status, problem->detail);
    cmq_assert(bytes > 0 && (size_t)bytes < sizeof(body));
    return send_response(wsi, problem->status, PROBLEM_TYPE, problem->extra_name, problem->extra_value, body,
                         (size_t)bytes);
}

static const struct dsp_problem not_found = {
    404,         "not-found",
    "Not Found", "There is nothing at this path; clients connect to /, /v1/ws or /t/{topic}/ws, sse, json.",
    NULL,        NULL};
static const struct dsp_problem needs_upgrade = {
    426,
    "upgrade-required",
    "Upgrade Required",
    "Connect to this path with WebSocket and one of the subprotocols " DSP_V1_JSON " and " DSP_V1_MSGPACK ".",
    "upgrade:",
    "websocket"};
static const struct dsp_problem needs_subprotocol = {400,
                                                     "bad-subprotocol",
                                                     "Bad Request",
                                                     "Sec-WebSocket-Protocol must name one of " DSP_V1_JSON
                                                     " and " DSP_V1_MSGPACK ", and no other of this broker.",
                                                     NULL,
                                                     NULL};
static const struct dsp_problem needs_board_subprotocol = {
    400,
    "bad-subprotocol",
    "Bad Request",
    "Sec-WebSocket-Protocol must name " DSP_BOARD_PROTOCOL ", and no other of this broker but a token's.",
    NULL,
    NULL};
static const struct dsp_problem bad_method = {
    405, "method-not-allowed", "Method Not Allowed", "This port knows GET only.", "allow:", "GET"};
static const struct dsp_problem bad_subprotocol = {
    400,           "bad-subprotocol",
    "Bad Request", "The endpoint / has no subprotocols; connect without Sec-WebSocket-Protocol.",
    NULL,          NULL};
const struct dsp_problem dsp_http_bad_origin = {403,
                                                "bad-origin",
                                                "Forbidden",
                                                "Pages of other sites may not connect; serve the page from "
                                                "this host or from localhost, or name its origin in "
                                                "dispatcher.origins.",
                                                NULL,
                                                NULL};

int dsp_http_answer(struct dsp_ws *ws, struct lws *wsi, const char *path, size_t path_bytes)
{
    int result;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) == 0)
        result = dsp_http_send_problem(wsi, &bad_method);
    else if (dsp_door_has_token_in_url(wsi))
        result = dsp_http_send_problem(wsi, &dsp_access_token_in_url);
    else if (dsp_board_answer(ws->board, wsi, path, &result))
        return result;
    else if (path_bytes == sizeof(V1_PATH) - 1 && memcmp(path, V1_PATH, path_bytes) == 0)
        result = dsp_http_send_problem(wsi, &needs_upgrade);
    else if (path_bytes != 1 || path[0] != '/')
        result = dsp_http_send_problem(wsi, &not_found);
    else
        result =
            send_response(wsi, 200, "text/plain", "cache-control:", "no-store", welcome, sizeof(welcome) - 1);
    return result != 0 || lws_http_transaction_completed(wsi) != 0 ? -1 : 0;
}

static const struct dsp_problem bad_version = {426,
                                               "websocket-version",
                                               "Upgrade Required",
                                               "Only version 13 of the WebSocket protocol is spoken here.",
                                               "sec-websocket-version:",
                                               "13"};
static const struct dsp_problem bad_handshake = {
    400,           "bad-handshake",
    "Bad Request", "An upgrade is HTTP/1.1 with a Sec-WebSocket-Key of 16 bytes in base64.",
    NULL,          NULL};

/* 16 bytes in base64, as RFC 6455, 4.1 wants them: the answer to any text would look as right to the client. */
static bool key_is_good(struct lws *wsi)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[KEY_BYTES + 1];
    return lws_hdr_copy(wsi, key, sizeof(key), WSI_TOKEN_KEY) == KEY_BYTES &&
           strspn(key, alphabet) == KEY_BYTES - 2 && key[KEY_BYTES - 2] == '=' && key[KEY_BYTES - 1] == '=';
}

static bool header_is(struct lws *wsi, enum lws_token_indexes header, const char *wanted)
{
    char value[FIELD_BYTES];
    return lws_hdr_copy(wsi, value, sizeof(value), header) > 0 && strcmp(value, wanted) == 0;
}

const struct dsp_problem *dsp_http_handshake_fault(struct lws *wsi)
{
    if (!header_is(wsi, WSI_TOKEN_VERSION, "13"))
        return &bad_version;
    return header_is(wsi, WSI_TOKEN_HTTP, "HTTP/1.1") && key_is_good(wsi) ? NULL : &bad_handshake;
}

/* The library takes the first name in the client's list that it knows, and answers with it: never with that of a token, which
 * is no subprotocol of ours. It also knows names of our own, which no client may ask for. */
static bool subprotocol_is_v1(struct lws *wsi)
{
    char names[PROTOCOLS_BYTES_MAX];
    bool found = false;
    if (lws_hdr_copy(wsi, names, sizeof(names), WSI_TOKEN_PROTOCOL) <= 0)
        return false;
    for (char *next = names, *name; (name = strsep(&next, ", \t")) != NULL;) {
        if (strncmp(name, "cmq-", 4) == 0 || strcmp(name, DSP_TOPICS_PROTOCOL) == 0 ||
            strcmp(name, DSP_BOARD_PROTOCOL) == 0)
            return false;
        found = found || strcmp(name, DSP_V1_JSON) == 0 || strcmp(name, DSP_V1_MSGPACK) == 0;
    }
    return found;
}

static bool is_root(const char *path)
{
    return strcmp(path, "/") == 0;
}

/* NULL: nothing is wrong with the request itself. */
static const struct dsp_problem *find_fault(struct dsp_ws *ws, struct lws *wsi, const char *path)
{
    if (strcmp(path, V1_PATH) == 0) {
        if (!subprotocol_is_v1(wsi))
            return &needs_subprotocol;
    } else if (strcmp(path, DSP_BOARD_PATH) == 0) {
        if (!dsp_board_is_named(wsi))
            return &needs_board_subprotocol;
    } else if (!is_root(path)) {
        return &not_found;
    } else if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) != 0) {
        return &bad_subprotocol;
    }
    return dsp_door_origin_is_allowed(ws, wsi) ? NULL : &dsp_http_bad_origin;
}

int dsp_http_check_upgrade(struct dsp_ws *ws, struct lws *wsi, const char *busy_reason)
{
    char path[PATH_BYTES_MAX]; /* anything longer is refused by the library's length check */
    const struct dsp_problem busy = {503, "busy", "Service Unavailable", busy_reason, "retry-after:", "1"};
    const struct dsp_problem *fault = &not_found;
    if (dsp_door_has_token_in_url(wsi))
        fault = &dsp_access_token_in_url;
    else if (lws_hdr_copy(wsi, path, sizeof(path), WSI_TOKEN_GET_URI) > 0)
        fault = find_fault(ws, wsi, path);
    if (fault == NULL && busy_reason != NULL)
        fault = &busy;
    if (fault != NULL)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "status=%u reason=%s", fault->status, fault->slug);
    else if (is_root(path)) /* its clients cannot say who they are later */
        fault = dsp_door_check(ws, wsi, CMQ_RIGHT_CONSUME,
                               cmq_span_make(CMQ_TOPIC_DEFAULT, sizeof(CMQ_TOPIC_DEFAULT) - 1));
    else if (strcmp(path, DSP_BOARD_PATH) == 0)
        fault = dsp_board_check(ws->board, wsi);
    else
        fault = dsp_door_identify(ws, wsi);
    if (fault == NULL)
        return 0;
    return dsp_http_send_problem(wsi, fault) == 0 ? 1 : -1;
}
