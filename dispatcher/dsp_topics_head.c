/* Requests for /t/... as they came, and the heads of answers to them. */
#include <stdio.h>
#include <string.h>

#include "common/log/cmq_log.h"
#include "common/wire/cmq_json_out.h"
#include "dispatcher/dsp_access.h"
#include "dispatcher/dsp_topics_int.h"

enum {
    HEAD_BYTES_MAX = 2048,
    BODY_BYTES_MAX = 256,
    DETAIL_BYTES_MAX = 512,
    VERSION_BYTES = 16,
    PROTOCOLS_BYTES = 1024
};

#define LAST_EVENT_ID "last-event-id:"
#define METHODS       "GET, HEAD, OPTIONS"

/* ---- reading ---- */

static enum dsp_topics_method method_of(struct lws *wsi, enum lws_token_indexes *ret_uri)
{
    static const struct {
        enum lws_token_indexes uri;
        enum dsp_topics_method method;
    } known[] = {{WSI_TOKEN_GET_URI, DSP_TOPICS_GET},         {WSI_TOKEN_HEAD_URI, DSP_TOPICS_HEAD},
                 {WSI_TOKEN_OPTIONS_URI, DSP_TOPICS_OPTIONS}, {WSI_TOKEN_POST_URI, DSP_TOPICS_OTHER},
                 {WSI_TOKEN_PUT_URI, DSP_TOPICS_OTHER},       {WSI_TOKEN_PATCH_URI, DSP_TOPICS_OTHER},
                 {WSI_TOKEN_DELETE_URI, DSP_TOPICS_OTHER}};
    for (size_t i = 0; i < CMQ_COUNT_OF(known); i++) {
        if (lws_hdr_total_length(wsi, known[i].uri) > 0) {
            *ret_uri = known[i].uri;
            return known[i].method;
        }
    }
    *ret_uri = WSI_TOKEN_GET_URI;
    return DSP_TOPICS_OTHER;
}

bool dsp_topics_is_path(struct lws *wsi)
{
    const size_t prefix = sizeof(DSP_TOPIC_PREFIX) - 1;
    char path[DSP_TOPICS_PATH_BYTES];
    enum lws_token_indexes uri;
    (void)method_of(wsi, &uri);
    return lws_hdr_copy(wsi, path, sizeof(path), uri) > (int)prefix &&
           memcmp(path, DSP_TOPIC_PREFIX, prefix) == 0;
}

static struct dsp_problem problem_of(unsigned status, const char *slug, const char *title, const char *detail)
{
    return (struct dsp_problem){.status = status, .slug = slug, .title = title, .detail = detail};
}

/* False: too long, or too many. */
static bool read_args(struct lws *wsi, struct dsp_topics_asked *asked, struct cmq_span *args,
                      size_t *ret_count)
{
    size_t count = 0;
    for (; lws_hdr_fragment_length(wsi, WSI_TOKEN_HTTP_URI_ARGS, (int)count) > 0; count++) {
        if (count == DSP_TOPICS_ARGS_MAX)
            return false;
        int bytes = lws_hdr_copy_fragment(wsi, asked->args[count], sizeof(asked->args[count]),
                                          WSI_TOKEN_HTTP_URI_ARGS, (int)count);
        if (bytes < 0)
            return false;
        args[count] = cmq_span_make(asked->args[count], (size_t)bytes);
    }
    *ret_count = count;
    return true;
}

/* The id that an EventSource has seen last; a new one sends none, or an empty one. */
static bool read_last_event_id(struct lws *wsi, struct dsp_topics_asked *asked, struct cmq_span *ret_id)
{
    const int name_bytes = (int)sizeof(LAST_EVENT_ID) - 1;
    *ret_id = cmq_span_make(NULL, 0);
    if (lws_hdr_custom_length(wsi, LAST_EVENT_ID, name_bytes) <= 0)
        return true;
    int bytes = lws_hdr_custom_copy(wsi, asked->last_event_id, sizeof(asked->last_event_id), LAST_EVENT_ID,
                                    name_bytes);
    if (bytes < 0)
        return false;
    *ret_id = cmq_span_make(asked->last_event_id, (size_t)bytes);
    return true;
}

static bool has_body(struct lws *wsi)
{
    char length[VERSION_BYTES];
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0)
        return true;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) == 0)
        return false;
    return lws_hdr_copy(wsi, length, sizeof(length), WSI_TOKEN_HTTP_CONTENT_LENGTH) != 1 || length[0] != '0';
}

void dsp_topics_read(struct lws *wsi, struct dsp_topics_asked *ret_asked)
{
    struct cmq_span args[DSP_TOPICS_ARGS_MAX];
    struct dsp_topic_query query = {.args = args};
    enum lws_token_indexes uri;
    char version[VERSION_BYTES];
    struct dsp_topics_asked *asked = ret_asked;
    memset(asked, 0, sizeof(*asked));
    asked->method = method_of(wsi, &uri);
    asked->one_one =
        lws_hdr_copy(wsi, version, sizeof(version), WSI_TOKEN_HTTP) > 0 && strstr(version, "1.1") != NULL;
    int bytes = lws_hdr_copy(wsi, asked->path, sizeof(asked->path), uri);
    query.path = cmq_span_make(asked->path, bytes < 0 ? 0 : (size_t)bytes);
    enum cmq_err err = dsp_topic_parse_path(query.path, &asked->request, &asked->reason);
    if (err == CMQ_ERR_NOT_FOUND)
        asked->problem = problem_of(404, "not-found", "Not Found", asked->reason.text);
    else if (err != CMQ_OK)
        asked->problem = problem_of(400, "bad-topic", "Bad Request", asked->reason.text);
    else if (asked->method == DSP_TOPICS_OTHER)
        asked->problem =
            (struct dsp_problem){405,
                                 "method-not-allowed",
                                 "Method Not Allowed",
                                 "Here messages are read; POST them to /v1/topics/{topic} of the HTTP port.",
                                 "allow:",
                                 METHODS};
    else if (has_body(wsi))
        asked->problem = problem_of(400, "bad-request", "Bad Request", "This request has no body.");
    if (asked->problem.status != 0 || asked->method == DSP_TOPICS_OPTIONS)
        return;
    if (!read_args(wsi, asked, args, &query.arg_count))
        err = cmq_reason_set(&asked->reason, CMQ_ERR_INVALID,
                             "the query is too long; it has since, limit, wait_ms");
    else if (!read_last_event_id(wsi, asked, &query.last_event_id))
        err = cmq_reason_set(&asked->reason, CMQ_ERR_INVALID, "Last-Event-ID is an id like 12-0");
    else
        err = dsp_topic_parse(&query, &asked->request, &asked->reason);
    if (err != CMQ_OK)
        asked->problem = problem_of(400, "bad-query", "Bad Request", asked->reason.text);
}

/* ---- checking ---- */

static const struct dsp_problem needs_upgrade = {
    426,
    "upgrade-required",
    "Upgrade Required",
    "Connect to this path with WebSocket; /t/{topic}/sse and /t/{topic}/json need none.",
    "upgrade:",
    "websocket"};
static const struct dsp_problem no_upgrade = {
    400,           "no-websocket",
    "Bad Request", "This path is read by plain HTTP; /t/{topic}/ws is for WebSocket.",
    NULL,          NULL};
static const struct dsp_problem bad_subprotocol = {
    400,
    "bad-subprotocol",
    "Bad Request",
    "This path has no subprotocol but " DSP_TOPICS_PROTOCOL ", for clients that must name one.",
    NULL,
    NULL};

const struct dsp_problem dsp_topics_sent_ahead = {
    400,           "sent-ahead",
    "Bad Request", "Send nothing behind this request; its answer ends the connection.",
    "connection:", "close"};

/* None, or our own, with a token beside it or not: no token is ever the answer. */
static bool subprotocol_is_right(struct lws *wsi)
{
    char names[PROTOCOLS_BYTES];
    bool found = false, right = true;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) == 0)
        return true;
    if (lws_hdr_copy(wsi, names, sizeof(names), WSI_TOKEN_PROTOCOL) <= 0)
        return false;
    for (char *next = names, *name; (name = strsep(&next, ", \t")) != NULL;) {
        const bool token = strncmp(name, DSP_TOKEN_PROTOCOL, sizeof(DSP_TOKEN_PROTOCOL) - 1) == 0;
        found = found || strcmp(name, DSP_TOPICS_PROTOCOL) == 0;
        right = right && (name[0] == '\0' || token || strcmp(name, DSP_TOPICS_PROTOCOL) == 0);
    }
    explicit_bzero(names, sizeof(names));
    return found && right;
}

static const struct dsp_problem *check_kind(const struct dsp_topics_asked *asked, struct lws *wsi,
                                            bool upgrade)
{
    const bool socket = asked->request.kind == DSP_TOPIC_WS;
    if (asked->problem.status != 0)
        return &asked->problem;
    if (asked->method == DSP_TOPICS_OPTIONS)
        return NULL;
    if (socket != upgrade)
        return upgrade ? &no_upgrade : &needs_upgrade;
    return upgrade && !subprotocol_is_right(wsi) ? &bad_subprotocol : NULL;
}

static const struct dsp_problem *check_place(const struct dsp_topics_setup *setup,
                                             struct dsp_topics_asked *asked, struct dsp_feed *ret_feed)
{
    const char *busy = setup->busy(setup->context);
    if (busy != NULL)
        asked->problem = (struct dsp_problem){503, "busy", "Service Unavailable", busy, "retry-after:", "1"};
    else if (dsp_feed_init(ret_feed, &asked->request, setup->source, &asked->reason) != CMQ_OK)
        asked->problem = problem_of(400, "bad-since", "Bad Request", asked->reason.text);
    else
        return NULL;
    return &asked->problem;
}

const struct dsp_problem *dsp_topics_examine(const struct dsp_topics_setup *setup, struct lws *wsi,
                                             bool upgrade, struct dsp_topics_asked *asked,
                                             struct dsp_feed *ret_feed)
{
    const struct dsp_problem *problem = setup->look_at(setup->context, wsi);
    asked->page = problem == NULL;
    if (problem == NULL)
        problem = check_kind(asked, wsi, upgrade);
    if (problem == NULL && asked->method != DSP_TOPICS_OPTIONS) {
        problem = setup->check(setup->context, wsi, asked->request.pattern);
        if (problem != NULL)
            return problem; /* logged where it was found */
        problem = check_place(setup, asked, ret_feed);
    }
    if (problem != NULL)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "status=%u reason=%s", problem->status, problem->slug);
    return problem;
}

/* ---- writing ---- */

struct head {
    uint8_t memory[LWS_PRE + HEAD_BYTES_MAX];
    uint8_t *next;
    bool failed;
};

static uint8_t *end_of(struct head *head)
{
    return head->memory + sizeof(head->memory) - 1;
}

/* name: with its colon. */
static void add(struct lws *wsi, struct head *head, const char *name, const char *value)
{
    head->failed =
        head->failed || lws_add_http_header_by_name(wsi, (const uint8_t *)name, (const uint8_t *)value,
                                                    (int)strlen(value), &head->next, end_of(head)) != 0;
}

/* A page of an allowed origin may read the answer (Fetch, 3.2). */
static void add_page(struct lws *wsi, struct head *head, bool page)
{
    char origin[DSP_TOPICS_ORIGIN_BYTES];
    add(wsi, head, "vary:", "origin");
    if (!page || lws_hdr_copy(wsi, origin, sizeof(origin), WSI_TOKEN_ORIGIN) <= 0)
        return;
    add(wsi, head, "access-control-allow-origin:", origin);
    add(wsi, head, "access-control-expose-headers:", "cmq-since, retry-after, www-authenticate");
}

static void begin(struct lws *wsi, struct head *head, unsigned status, const char *type,
                  lws_filepos_t body_bytes)
{
    head->next = head->memory + LWS_PRE;
    head->failed = lws_add_http_common_headers(wsi, status | LWSAHH_FLAG_NO_SERVER_NAME, type, body_bytes,
                                               &head->next, end_of(head)) != 0;
}

static int finish(struct lws *wsi, struct head *head)
{
    return head->failed ||
                   lws_finalize_write_http_header(wsi, head->memory + LWS_PRE, &head->next, end_of(head)) != 0
               ? -1
               : 0;
}

int dsp_topics_send_problem(struct lws *wsi, bool head_only, bool page, const struct dsp_problem *problem)
{
    struct head head;
    uint8_t text[LWS_PRE + BODY_BYTES_MAX + 6 * DETAIL_BYTES_MAX + 2];
    uint8_t *body = text + LWS_PRE;
    const size_t detail_bytes = strnlen(problem->detail, DETAIL_BYTES_MAX);
    size_t bytes = (size_t)snprintf((char *)body, BODY_BYTES_MAX,
                                    "{\"type\":\"/problems/%s\",\"title\":\"%s\",\"status\":%u,\"detail\":",
                                    problem->slug, problem->title, problem->status);
    bytes += cmq_json_write_string(body + bytes, cmq_span_make(problem->detail, detail_bytes));
    body[bytes++] = '}';
    body[bytes++] = '\n';
    begin(wsi, &head, problem->status, "application/problem+json", bytes);
    if (problem->extra_name != NULL)
        add(wsi, &head, problem->extra_name, problem->extra_value);
    add_page(wsi, &head, page);
    if (finish(wsi, &head) != 0)
        return -1;
    if (head_only)
        return 0;
    return lws_write(wsi, body, bytes, LWS_WRITE_HTTP_FINAL) == (int)bytes ? 0 : -1;
}

int dsp_topics_send_options(struct lws *wsi)
{
    struct head head = {.next = head.memory + LWS_PRE};
    head.failed = lws_add_http_header_status(wsi, 204, &head.next, end_of(&head)) != 0;
    add(wsi, &head, "allow:", METHODS);
    add_page(wsi, &head, true);
    if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) > 0) {
        add(wsi, &head, "access-control-allow-methods:", METHODS);
        add(wsi, &head,
            "access-control-allow-headers:", "authorization, x-api-key, last-event-id, cache-control");
        add(wsi, &head, "access-control-max-age:", "600");
    }
    return finish(wsi, &head);
}

int dsp_topics_send_head(struct lws *wsi, const struct dsp_feed *feed, bool chunked, bool page)
{
    struct head head;
    char since[CMQ_ID_TEXT_BYTES];
    const bool events = feed->kind == DSP_TOPIC_SSE;
    (void)cmq_id_format(since, dsp_feed_since(feed));
    /* Without a length the library says that the connection closes. */
    begin(wsi, &head, 200, events ? "text/event-stream" : "application/x-ndjson",
          LWS_ILLEGAL_HTTP_CONTENT_LEN);
    if (chunked)
        add(wsi, &head, "transfer-encoding:", "chunked");
    add(wsi, &head, "cache-control:", "no-store");
    add(wsi, &head, "x-accel-buffering:", "no"); /* nginx would collect events */
    add(wsi, &head, "cmq-since:", since);
    add_page(wsi, &head, page);
    return finish(wsi, &head);
}
