#include "dispatcher/dsp_ws_board.h"

#include <stdio.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_state.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_id.h"
#include "common/wire/cmq_json_pack.h"
#include "dispatcher/dsp_http.h"
#include "dispatcher/dsp_letters.h"
#include "dispatcher/dsp_page.h"
#include "dispatcher/dsp_proto.h"
#include "dispatcher/dsp_roll.h"
#include "dispatcher/dsp_ws_door.h"
#include "dispatcher/dsp_ws_operate.h"

enum {
    LOOK_MS = 1000,
    HEAD_BYTES = 2048,
    FIELD_BYTES = 512,
    RECEIVED_BYTES_MAX = 1024,
    TEST_BYTES_MAX = 256,
    TEST_MS = 200,   /* a watcher may send a test message so often, */
    TESTS_BURST = 5, /* and so many at once */
    REPLY_BYTES = 256,
    STATE_BYTES_MAX = 8 << 20,
    PROTOCOLS_BYTES = 1024,
    OPERATIONS_BYTES_MAX = 16384 /* of what the agent said and a watcher has not taken */
};

#define CANARY    "ciphermq.canary"
#define JSON_TYPE "application/json"
/* The page takes nothing from anywhere but from here, and is shown in no frame of others. */
#define PAGE_POLICY                                                                                         \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ws: wss:; " \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

struct watcher {
    struct watcher *next, *prev;
    struct lws *wsi;
    struct cmq_grant grant;
    struct dsp_guard guard;
    struct cmq_buf received;
    uint64_t tests_ns; /* when the tests so far are paid for, at one every TEST_MS */
    uint64_t sent_bytes;
    bool names; /* may see topics, groups, clients and errors */
    bool due;   /* the last look was not sent yet */
    bool joined;
    bool faulty;             /* to be closed for what it sent */
    char reply[REPLY_BYTES]; /* "": none */
    struct dsp_board *board;
    struct dsp_link *link;     /* to the agent; NULL: none */
    struct cmq_buf operations; /* lines for this watcher */
};

struct dsp_board {
    struct dsp_board_setup setup;
    char run_dir[256]; /* where the agent's socket is */
    struct cmq_json_packer *packer;
    struct cmq_buf text;  /* LWS_PRE bytes, then the last look, with names */
    struct cmq_buf plain; /* the same without, if somebody may not see them */
    struct cmq_buf reply; /* the same for replies */
    struct cmq_buf packed;
    struct watcher *watchers;
    lws_sorted_usec_list_t timer;
    uint32_t links;
    bool draining;
};

/* ---- looks ---- */

static enum cmq_err write_look(const struct cmq_sight *sight, bool names, struct cmq_buf *text)
{
    static const uint8_t headroom[LWS_PRE];
    cmq_buf_clear(text, STATE_BYTES_MAX);
    enum cmq_err err = cmq_buf_append(text, headroom, sizeof headroom);
    if (err == CMQ_OK)
        err = cmq_buf_append(text, "{\"state\":", 9);
    if (err == CMQ_OK)
        err = cmq_state_write(sight, CMQ_VERSION, names, text);
    return err == CMQ_OK ? cmq_buf_append(text, "}", 1) : err;
}

static enum cmq_err take_look(struct dsp_board *board, bool names, bool plain)
{
    struct cmq_sight *sight = NULL;
    enum cmq_err err = cmq_sight_take(board->setup.ring, &sight);
    if (err == CMQ_OK && names)
        err = write_look(sight, true, &board->text);
    if (err == CMQ_OK && plain)
        err = write_look(sight, false, &board->plain);
    cmq_sight_free(sight);
    return err;
}

/* Names tell more than how much is going on: they are for who may read the metrics. */
static bool may_see_names(const struct cmq_grant *grant)
{
    return cmq_grant_allows(grant, CMQ_RIGHT_ADMIN, cmq_span_make(NULL, 0));
}

static void look(lws_sorted_usec_list_t *sul);

static void schedule(struct dsp_board *board, struct lws_context *context, uint64_t wait_ms)
{
    lws_sul_schedule(context, 0, &board->timer, look, (lws_usec_t)wait_ms * LWS_US_PER_MS);
}

static void look(lws_sorted_usec_list_t *sul)
{
    struct dsp_board *board = lws_container_of(sul, struct dsp_board, timer);
    if (board->watchers == NULL || board->draining)
        return;
    bool names = false, plain = false;
    for (const struct watcher *watcher = board->watchers; watcher != NULL; watcher = watcher->next) {
        names = names || watcher->names;
        plain = plain || !watcher->names;
    }
    /* Without memory this look is left out. */
    if (take_look(board, names, plain) == CMQ_OK) {
        for (struct watcher *watcher = board->watchers; watcher != NULL; watcher = watcher->next) {
            watcher->faulty = watcher->faulty || !dsp_guard_look(&watcher->guard, &board->setup.guard,
                                                                 watcher->wsi, cmq_clock_mono_ns());
            watcher->due = true;
            lws_callback_on_writable(watcher->wsi);
        }
    }
    schedule(board, lws_get_context(board->watchers->wsi), LOOK_MS);
}

/* ---- test messages ---- */

static void refuse_test(struct watcher *watcher, const char *sentence)
{
    (void)snprintf(watcher->reply, sizeof watcher->reply, "{\"refused\":\"%s\"}", sentence);
}

/* The value of {"name":value} as MessagePack. */
static bool read_command(struct cmq_span packed, const char *name, struct cmq_mp_reader *ret_value)
{
    struct cmq_mp_value map;
    struct cmq_span said;
    cmq_mp_reader_init(ret_value, packed);
    return cmq_mp_read(ret_value, &map) == CMQ_OK && map.type == CMQ_MP_MAP && map.count == 1 &&
           cmq_mp_read_str(ret_value, &said) == CMQ_OK && said.bytes == strlen(name) &&
           memcmp(said.data, name, said.bytes) == 0;
}

static bool read_test(struct cmq_span packed, struct cmq_span *ret_text)
{
    struct cmq_mp_reader value;
    return read_command(packed, "test", &value) && cmq_mp_read_str(&value, ret_text) == CMQ_OK &&
           cmq_mp_left(&value) == 0;
}

static void publish_test(struct dsp_board *board, struct watcher *watcher, struct cmq_span text)
{
    uint8_t message[CMQ_MESSAGE_FULL_BYTES + TEST_BYTES_MAX];
    char id[CMQ_ID_TEXT_BYTES];
    uint64_t seq = 0;
    const struct cmq_span topic = cmq_span_make(CANARY, sizeof CANARY - 1);
    const uint64_t now_ns = cmq_clock_mono_ns();
    if (text.bytes > TEST_BYTES_MAX) {
        refuse_test(watcher, "a test message has at most 256 bytes");
        return;
    }
    if (!cmq_grant_allows(&watcher->grant, CMQ_RIGHT_PUBLISH, topic)) {
        refuse_test(watcher, "this token has no right to publish to " CANARY);
        return;
    }
    if (watcher->tests_ns > now_ns + (TESTS_BURST - 1) * TEST_MS * CMQ_NS_PER_MS) {
        refuse_test(watcher, "too many test messages; wait a moment");
        return;
    }
    watcher->tests_ns = cmq_max_u64(watcher->tests_ns, now_ns) + TEST_MS * CMQ_NS_PER_MS;
    const struct cmq_message_full full = {.text = true, .body = text};
    size_t bytes = cmq_message_write(message, &full);
    enum cmq_err err = dsp_letters_publish(board->setup.letters, topic, cmq_span_make(message, bytes), &seq);
    if (err != CMQ_OK) {
        refuse_test(watcher, "the ring takes nothing now; see the log's state");
        return;
    }
    (void)cmq_id_format(id, (struct cmq_id){.seq = seq});
    (void)snprintf(watcher->reply, sizeof watcher->reply, "{\"published\":\"%s\"}", id);
}

/* ---- operations ---- */

/* What is no JSON comes from no agent. What a watcher does not take is left out: the last line says the result again. */
static void agent_said(void *context, struct cmq_span line)
{
    struct watcher *watcher = context;
    struct cmq_buf *packed = &watcher->board->packed;
    cmq_buf_clear(packed, RECEIVED_BYTES_MAX);
    if (cmq_json_pack(watcher->board->packer, line, packed, NULL) != CMQ_OK ||
        cmq_buf_reserve(&watcher->operations, line.bytes + 1) != CMQ_OK ||
        cmq_buf_append(&watcher->operations, line.data, line.bytes) != CMQ_OK ||
        cmq_buf_append(&watcher->operations, "\n", 1) != CMQ_OK)
        return;
    lws_callback_on_writable(watcher->wsi);
}

static void link_ended(void *context)
{
    struct watcher *watcher = context;
    watcher->link = NULL;
    watcher->board->links--;
}

static void leave_link(struct watcher *watcher)
{
    if (watcher->link == NULL)
        return;
    dsp_link_leave(watcher->link);
    link_ended(watcher);
}

static void tell_operation(struct watcher *watcher, const char *state, const char *sentence)
{
    char line[HEAD_BYTES];
    int bytes = snprintf(line, sizeof line, "{\"state\":\"%s\",\"text\":\"%s\"}", state, sentence);
    agent_said(watcher, cmq_span_make(line, cmq_min_u64((uint64_t)bytes, sizeof line - 1)));
}

/* NULL: it may. Asked at each command: a token may be revoked, or have lost the right, meanwhile. */
static const char *why_denied(struct dsp_board *board, const struct watcher *watcher)
{
    if (watcher->grant.open)
        return "without tokens this page only looks; set tokens.file, and make a token with the right admin";
    if (!cmq_grant_allows(&watcher->grant, CMQ_RIGHT_ADMIN, cmq_span_make(NULL, 0)) ||
        !board->setup.is_live(board->setup.context, &watcher->grant))
        return "this token has no right admin, and so may only look";
    return NULL;
}

static void operate(struct dsp_board *board, struct watcher *watcher, struct cmq_mp_reader *value)
{
    struct cmq_operation operation;
    const char *denied = why_denied(board, watcher);
    const struct dsp_link_setup setup = {.run_dir = board->run_dir,
                                         .vhost = lws_get_vhost(watcher->wsi),
                                         .said = agent_said,
                                         .ended = link_ended,
                                         .context = watcher};
    if (denied != NULL) {
        tell_operation(watcher, "denied", denied);
    } else if (cmq_operation_read(cmq_span_make(value->next, cmq_mp_left(value)), &operation, NULL) !=
               CMQ_OK) {
        tell_operation(watcher, "refused", "restart, scale and watch are understood; see docs/OPERATIONS.md");
    } else {
        leave_link(watcher); /* it does one at a time: the agent says so if it does another */
        (void)snprintf(operation.by, sizeof operation.by, "%s", cmq_grant_name(&watcher->grant));
        const char *sentence = board->links >= board->setup.links_max
                                   ? "too many pages ask the agent (agent.connections_max); try again"
                                   : dsp_link_begin(&setup, &operation, &watcher->link);
        if (sentence != NULL)
            tell_operation(watcher, "absent", sentence);
        else
            board->links++;
    }
}

static void take_message(struct dsp_board *board, struct watcher *watcher, struct cmq_span json)
{
    struct cmq_span text;
    struct cmq_mp_reader value;
    cmq_buf_clear(&board->packed, RECEIVED_BYTES_MAX);
    const bool packed = cmq_json_pack(board->packer, json, &board->packed, NULL) == CMQ_OK;
    if (packed && read_command(cmq_buf_span(&board->packed), "operate", &value))
        operate(board, watcher, &value);
    else if (packed && read_test(cmq_buf_span(&board->packed), &text))
        publish_test(board, watcher, text);
    else
        refuse_test(watcher,
                    "only {\\\"test\\\":\\\"text\\\"} and {\\\"operate\\\":{...}} are understood here");
    lws_callback_on_writable(watcher->wsi);
}

static int close_watcher(struct watcher *watcher, enum dsp_close code)
{
    if (code != DSP_CLOSE_PROTOCOL && code != DSP_CLOSE_TOO_LARGE)
        dsp_guard_end(&watcher->guard);
    lws_close_reason(watcher->wsi, (enum lws_close_status)code, NULL, 0);
    return -1;
}

static int on_received(struct dsp_board *board, struct watcher *watcher, const void *data, size_t bytes)
{
    if (!dsp_guard_received(&watcher->guard, &board->setup.guard, watcher->wsi, bytes))
        return close_watcher(watcher, DSP_CLOSE_TOO_LARGE);
    if (cmq_buf_append(&watcher->received, data, bytes) != CMQ_OK)
        return close_watcher(watcher, DSP_CLOSE_TOO_LARGE);
    if (lws_remaining_packet_payload(watcher->wsi) == 0 && lws_is_final_fragment(watcher->wsi)) {
        take_message(board, watcher, cmq_buf_span(&watcher->received));
        cmq_buf_clear(&watcher->received, RECEIVED_BYTES_MAX);
    }
    return 0;
}

/* ---- connections ---- */

static int send_text(struct watcher *watcher, struct cmq_buf *text)
{
    const size_t bytes = text->bytes - LWS_PRE;
    dsp_guard_sent(&watcher->guard, bytes);
    watcher->sent_bytes += bytes;
    return lws_write(watcher->wsi, text->data + LWS_PRE, bytes, LWS_WRITE_TEXT) < (int)bytes ? -1 : 0;
}

static int send_reply(struct dsp_board *board, struct watcher *watcher)
{
    static const uint8_t headroom[LWS_PRE];
    cmq_buf_clear(&board->reply, HEAD_BYTES);
    if (cmq_buf_append(&board->reply, headroom, sizeof headroom) != CMQ_OK ||
        cmq_buf_append(&board->reply, watcher->reply, strlen(watcher->reply)) != CMQ_OK)
        return -1;
    watcher->reply[0] = '\0';
    return send_text(watcher, &board->reply);
}

static int send_operation(struct dsp_board *board, struct watcher *watcher)
{
    static const uint8_t headroom[LWS_PRE];
    struct cmq_buf *lines = &watcher->operations;
    const uint8_t *end = memchr(lines->data, '\n', lines->bytes);
    cmq_assert(end != NULL);
    const size_t bytes = (size_t)(end - lines->data);
    cmq_buf_clear(&board->reply, HEAD_BYTES);
    if (cmq_buf_append(&board->reply, headroom, sizeof headroom) != CMQ_OK ||
        cmq_buf_append(&board->reply, "{\"operation\":", 13) != CMQ_OK ||
        cmq_buf_append(&board->reply, lines->data, bytes) != CMQ_OK ||
        cmq_buf_append(&board->reply, "}", 1) != CMQ_OK)
        return -1;
    lines->bytes -= bytes + 1;
    memmove(lines->data, end + 1, lines->bytes);
    return send_text(watcher, &board->reply);
}

static int on_writeable(struct dsp_board *board, struct watcher *watcher)
{
    if (watcher->faulty)
        return close_watcher(watcher, DSP_CLOSE_PROTOCOL);
    if (board->draining)
        return close_watcher(watcher, DSP_CLOSE_DRAIN);
    if (!board->setup.is_live(board->setup.context, &watcher->grant))
        return close_watcher(watcher, DSP_CLOSE_REVOKED);
    if (lws_partial_buffered(watcher->wsi) != 0)
        return 0; /* it is called again when that is out */
    if (watcher->reply[0] != '\0') {
        lws_callback_on_writable(watcher->wsi);
        return send_reply(board, watcher);
    }
    if (watcher->operations.bytes > 0) {
        lws_callback_on_writable(watcher->wsi);
        return send_operation(board, watcher);
    }
    if (!watcher->due)
        return 0;
    watcher->due = false;
    return send_text(watcher, watcher->names ? &board->text : &board->plain);
}

static void on_established(struct dsp_board *board, struct watcher *watcher, struct lws *wsi)
{
    *watcher =
        (struct watcher){.wsi = wsi, .grant = dsp_door_take_grant(wsi), .joined = true, .board = board};
    watcher->names = may_see_names(&watcher->grant);
    cmq_buf_init(&watcher->received, RECEIVED_BYTES_MAX);
    cmq_buf_init(&watcher->operations, OPERATIONS_BYTES_MAX);
    dsp_guard_begin(&watcher->guard, wsi);
    watcher->next = board->watchers;
    if (board->watchers != NULL)
        board->watchers->prev = watcher;
    board->watchers = watcher;
    board->setup.joined(board->setup.context);
    schedule(board, lws_get_context(wsi), 0); /* it does not wait for the next second */
}

static void on_closed(struct dsp_board *board, struct watcher *watcher)
{
    if (!watcher->joined)
        return;
    watcher->joined = false;
    if (dsp_guard_is_fault(&watcher->guard, watcher->wsi))
        cmq_ring_count(board->setup.ring, CMQ_COUNT_PROTOCOL_ERRORS, 1);
    if (watcher->prev != NULL)
        watcher->prev->next = watcher->next;
    else
        board->watchers = watcher->next;
    if (watcher->next != NULL)
        watcher->next->prev = watcher->prev;
    if (board->watchers == NULL)
        lws_sul_schedule(lws_get_context(watcher->wsi), 0, &board->timer, NULL, LWS_SET_TIMER_USEC_CANCEL);
    leave_link(watcher);
    cmq_grant_put(&watcher->grant);
    cmq_buf_fini(&watcher->received);
    cmq_buf_fini(&watcher->operations);
    board->setup.left(board->setup.context);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t bytes)
{
    const struct lws_protocols *protocol = lws_get_protocol(wsi);
    struct dsp_board *board = protocol == NULL ? NULL : protocol->user;
    switch ((int)reason) { /* int: the library's list is long and grows */
    case LWS_CALLBACK_ESTABLISHED:
        on_established(board, user, wsi);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return dsp_guard_is_closing(wsi) ? 0 : on_writeable(board, user);
    case LWS_CALLBACK_RECEIVE:
        return on_received(board, user, in, bytes);
    case LWS_CALLBACK_RECEIVE_PONG:
        dsp_guard_pong(&((struct watcher *)user)->guard, bytes);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        dsp_guard_peer_closed(&((struct watcher *)user)->guard);
        return 0;
    case LWS_CALLBACK_CLOSED:
        on_closed(board, user);
        return 0;
    default: /* a timer's is that of dsp_guard_is_closing */
        return reason == LWS_CALLBACK_TIMER ? -1 : 0;
    }
}

/* ---- plain HTTP ---- */

struct file {
    const char *path, *type;
    const unsigned char *data;
    const size_t *bytes;
};
static const struct file files[] = {
    {"/", "text/html; charset=utf-8", dsp_page_html, &dsp_page_html_bytes},
    {"/dashboard.css", "text/css; charset=utf-8", dsp_page_css, &dsp_page_css_bytes},
    {"/dashboard.js", "text/javascript; charset=utf-8", dsp_page_js, &dsp_page_js_bytes}};

static int send_body(struct lws *wsi, const char *type, struct cmq_buf *body)
{
    static const struct {
        const char *name, *value;
    } headers[] = {{"cache-control:", "no-store"},
                   {"content-security-policy:", PAGE_POLICY},
                   {"x-content-type-options:", "nosniff"},
                   {"referrer-policy:", "no-referrer"}};
    uint8_t memory[LWS_PRE + HEAD_BYTES];
    uint8_t *start = memory + LWS_PRE, *next = start, *end = memory + sizeof memory - 1;
    const size_t bytes = body->bytes - LWS_PRE;
    if (lws_add_http_common_headers(wsi, 200 | LWSAHH_FLAG_NO_SERVER_NAME, type, bytes, &next, end) != 0)
        return -1;
    for (size_t i = 0; i < CMQ_COUNT_OF(headers); i++) {
        if (lws_add_http_header_by_name(wsi, (const uint8_t *)headers[i].name,
                                        (const uint8_t *)headers[i].value, (int)strlen(headers[i].value),
                                        &next, end) != 0)
            return -1;
    }
    if (lws_finalize_write_http_header(wsi, start, &next, end) != 0 ||
        lws_write(wsi, body->data + LWS_PRE, bytes, LWS_WRITE_HTTP_FINAL) != (int)bytes)
        return -1;
    return lws_http_transaction_completed(wsi) != 0 ? -1 : 0;
}

static int send_file(struct dsp_board *board, struct lws *wsi, const struct file *file)
{
    static const uint8_t headroom[LWS_PRE];
    cmq_buf_clear(&board->reply, HEAD_BYTES);
    if (cmq_buf_append(&board->reply, headroom, sizeof headroom) != CMQ_OK ||
        cmq_buf_append(&board->reply, file->data, *file->bytes) != CMQ_OK)
        return -1;
    return send_body(wsi, file->type, &board->reply);
}

static int send_problem(struct lws *wsi, const struct dsp_problem *problem)
{
    return dsp_http_send_problem(wsi, problem) != 0 || lws_http_transaction_completed(wsi) != 0 ? -1 : 0;
}

const struct dsp_problem *dsp_board_check(struct dsp_board *board, struct lws *wsi)
{
    const struct dsp_problem *problem = dsp_door_identify(board->setup.ws, wsi);
    return problem != NULL ? problem : dsp_door_somebody(board->setup.ws, wsi);
}

/* At `/` programs get the text that says where to connect. */
static bool wants_page(struct lws *wsi)
{
    char accept[FIELD_BYTES];
    return lws_hdr_copy(wsi, accept, sizeof accept, WSI_TOKEN_HTTP_ACCEPT) > 0 &&
           strstr(accept, "text/html") != NULL;
}

bool dsp_board_answer(struct dsp_board *board, struct lws *wsi, const char *path, int *ret_result)
{
    if (strcmp(path, DSP_BOARD_PATH) == 0) {
        const struct dsp_problem *problem = dsp_board_check(board, wsi);
        const bool names = problem == NULL && may_see_names(&dsp_door_visitor(wsi)->grant);
        if (problem != NULL)
            *ret_result = send_problem(wsi, problem);
        else if (take_look(board, names, !names) != CMQ_OK)
            *ret_result = -1;
        else
            *ret_result = send_body(wsi, JSON_TYPE, names ? &board->text : &board->plain);
        return true;
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(files); i++) {
        if (strcmp(path, files[i].path) != 0 || (i == 0 && !wants_page(wsi)))
            continue;
        *ret_result = send_file(board, wsi, &files[i]);
        return true;
    }
    return false;
}

bool dsp_board_is_named(struct lws *wsi)
{
    char names[PROTOCOLS_BYTES];
    bool found = false, other = false;
    if (lws_hdr_copy(wsi, names, sizeof names, WSI_TOKEN_PROTOCOL) <= 0)
        return false;
    for (char *next = names, *name; (name = strsep(&next, ", \t")) != NULL;) {
        if (strcmp(name, DSP_BOARD_PROTOCOL) == 0)
            found = true;
        else if (strncmp(name, DSP_TOKEN_PROTOCOL, sizeof DSP_TOKEN_PROTOCOL - 1) != 0)
            other = other || name[0] != '\0';
    }
    explicit_bzero(names, sizeof names);
    return found && !other;
}

/* ---- life ---- */

enum cmq_err dsp_board_new(const struct dsp_board_setup *setup, struct dsp_board **ret_board)
{
    struct dsp_board *board = calloc(1, sizeof *board);
    if (board == NULL)
        return CMQ_ERR_NOMEM;
    board->setup = *setup;
    (void)snprintf(board->run_dir, sizeof board->run_dir, "%s", setup->run_dir);
    cmq_buf_init(&board->text, STATE_BYTES_MAX);
    cmq_buf_init(&board->plain, STATE_BYTES_MAX);
    cmq_buf_init(&board->reply, STATE_BYTES_MAX);
    cmq_buf_init(&board->packed, RECEIVED_BYTES_MAX * 4);
    enum cmq_err err = cmq_json_packer_new(RECEIVED_BYTES_MAX, &board->packer);
    if (err == CMQ_OK)
        *ret_board = board;
    else
        dsp_board_free(board);
    return err;
}

void dsp_board_free(struct dsp_board *board)
{
    if (board == NULL)
        return;
    cmq_assert(board->watchers == NULL);
    cmq_json_packer_free(board->packer);
    cmq_buf_fini(&board->packed);
    cmq_buf_fini(&board->reply);
    cmq_buf_fini(&board->text);
    cmq_buf_fini(&board->plain);
    free(board);
}

void dsp_board_protocol(struct dsp_board *board, struct lws_protocols *ret_protocol)
{
    *ret_protocol = (struct lws_protocols){.name = DSP_BOARD_PROTOCOL,
                                           .callback = callback,
                                           .per_session_data_size = sizeof(struct watcher),
                                           .rx_buffer_size = RECEIVED_BYTES_MAX,
                                           .tx_packet_size = STATE_BYTES_MAX,
                                           .user = board};
}

void dsp_board_tell(struct dsp_board *board, struct dsp_roll *roll)
{
    for (const struct watcher *watcher = board->watchers; watcher != NULL; watcher = watcher->next) {
        const struct dsp_visitor *visitor = dsp_door_visitor(watcher->wsi);
        struct cmq_table_client *row = dsp_roll_add(roll, 0, 0, &visitor->address);
        if (row == NULL)
            continue;
        row->kind = CMQ_CLIENT_BOARD;
        row->connected_ms = visitor->since_ms;
        row->bytes = watcher->sent_bytes;
    }
}

void dsp_board_recheck(struct dsp_board *board)
{
    for (struct watcher *watcher = board->watchers; watcher != NULL; watcher = watcher->next)
        lws_callback_on_writable(watcher->wsi);
}

void dsp_board_drain(struct dsp_board *board)
{
    board->draining = true;
    dsp_board_recheck(board);
}
