#include "tests/bench/bench_ws.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "tests/bench/bench_handshake.h"

enum { RECV_BYTES = 1 << 20 };
enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

_Static_assert(RECV_BYTES > BENCH_HANDSHAKE_BYTES_MAX, "the handshake uses the same memory");

/* ---- opening ---- */

enum cmq_err bench_ws_open(const struct bench_address *address, unsigned timeout_ms, struct bench_ws **ret_ws,
                           struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_ERR_NOMEM;
    struct bench_ws *ws = calloc(1, sizeof *ws);
    if (ws == NULL)
        return cmq_reason_set(reason, err, "out of memory");
    ws->link = bench_link_closed();
    bench_stream_init(&ws->stream, NULL);
    ws->memory = calloc(1, RECV_BYTES + BENCH_STREAM_SLACK);
    if (ws->memory == NULL) {
        err = cmq_reason_set(reason, err, "out of memory");
        goto out;
    }
    err = bench_link_open(&ws->link, address, timeout_ms, reason);
    struct bench_handshake shake = {.link = &ws->link, .path = "/", .timeout_ms = timeout_ms};
    if (err == CMQ_OK)
        err = bench_handshake(&shake, ws->memory, &ws->pending_bytes, reason);
    if (err == CMQ_OK)
        err = bench_link_wait(&ws->link, BENCH_WS_WAIT_MS, reason);
out:
    if (err == CMQ_OK)
        *ret_ws = ws;
    else
        bench_ws_close(ws);
    return err;
}

/* ---- control frames ---- */

/* The mask is zero: it hides nothing from proxies here, and the broker unmasks it all the same. */
static bool send_control(struct bench_ws *ws, unsigned opcode, const uint8_t *data, size_t bytes)
{
    uint8_t frame[6 + sizeof ws->control] = {(uint8_t)(0x80u | opcode), (uint8_t)(0x80u | bytes)};
    memcpy(frame + 6, data, bytes);
    return bench_link_send(&ws->link, frame, 6 + bytes) == (ssize_t)(6 + bytes);
}

void bench_ws_close(struct bench_ws *ws)
{
    if (ws == NULL)
        return;
    if (ws->link.fd >= 0) {
        static const uint8_t normal[] = {0x03, 0xe8}; /* 1000 */
        (void)send_control(ws, OP_CLOSE, normal, sizeof normal);
        bench_link_close(&ws->link);
    }
    free(ws->memory);
    free(ws);
}

static enum cmq_err end_control(struct bench_ws *ws, struct cmq_reason *reason)
{
    if (ws->opcode == OP_CLOSE) {
        unsigned code = ws->control_bytes >= 2 ? (unsigned)(ws->control[0] << 8 | ws->control[1]) : 1005u;
        return cmq_reason_set(reason, CMQ_ERR_LOST, "the broker closed the WebSocket with code %u", code);
    }
    if (ws->opcode == OP_PING) {
        ws->pings++;
        if (!send_control(ws, OP_PONG, ws->control, ws->control_bytes))
            return cmq_reason_set(reason, CMQ_ERR_LOST, "the WebSocket took no pong: %s", strerror(errno));
    }
    return CMQ_OK;
}

/* ---- frames ---- */

static unsigned head_wants(const struct bench_ws *ws)
{
    if (ws->head_bytes < 2)
        return 2;
    unsigned length = ws->head[1] & 0x7fu;
    return length < 126 ? 2 : length == 126 ? 4 : 10;
}

static enum cmq_err end_head(struct bench_ws *ws, struct cmq_reason *reason)
{
    unsigned length = ws->head[1] & 0x7fu, wide = length < 126 ? 0 : length == 126 ? 2 : 8;
    ws->left = wide == 0 ? length : 0;
    for (unsigned i = 0; i < wide; i++)
        ws->left = ws->left << 8 | ws->head[2 + i];
    ws->fin = (ws->head[0] & 0x80u) != 0;
    ws->opcode = ws->head[0] & 0x0fu;
    ws->is_control = ws->opcode >= OP_CLOSE;
    ws->in_payload = true;
    ws->head_bytes = 0;

    bool good = (ws->head[0] & 0x70u) == 0 && (ws->head[1] & 0x80u) == 0 && ws->left < 1ull << 40;
    if (ws->is_control)
        good = good && ws->fin && ws->left <= sizeof ws->control && ws->opcode <= OP_PONG;
    else if (ws->in_message)
        good = good && ws->opcode == OP_CONTINUATION;
    else
        good = good && ws->opcode == OP_TEXT;
    if (!good)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "unexpected WebSocket frame, head 0x%02x 0x%02x",
                              ws->head[0], ws->head[1]);
    if (ws->is_control)
        ws->control_bytes = 0;
    else if (!ws->in_message)
        bench_stream_begin(&ws->stream);
    if (!ws->is_control)
        ws->in_message = true;
    return CMQ_OK;
}

static enum cmq_err end_payload(struct bench_ws *ws, struct cmq_reason *reason)
{
    ws->in_payload = false;
    if (ws->is_control)
        return end_control(ws, reason);
    ws->frames++;
    if (ws->fin) {
        ws->in_message = false;
        bench_stream_end(&ws->stream);
    }
    return CMQ_OK;
}

static enum cmq_err take_bytes(struct bench_ws *ws, size_t bytes, uint64_t now_ns, struct cmq_reason *reason)
{
    const uint8_t *at = ws->memory, *end = at + bytes;
    enum cmq_err err = CMQ_OK;
    while (at < end && err == CMQ_OK) {
        if (!ws->in_payload) {
            ws->head[ws->head_bytes++] = *at++;
            if (ws->head_bytes < 2 || ws->head_bytes < head_wants(ws))
                continue;
            err = end_head(ws, reason);
        } else {
            size_t here = (size_t)cmq_min_u64(ws->left, (uint64_t)(end - at));
            if (ws->is_control) {
                memcpy(ws->control + ws->control_bytes, at, here);
                ws->control_bytes += here;
            } else {
                bench_stream_piece(&ws->stream, at, here, now_ns);
                ws->text_bytes += here;
            }
            at += here;
            ws->left -= here;
        }
        if (err == CMQ_OK && ws->in_payload && ws->left == 0)
            err = end_payload(ws, reason);
    }
    return err;
}

enum cmq_err bench_ws_read(struct bench_ws *ws, uint64_t *ret_now_ns, struct cmq_reason *reason)
{
    ssize_t got = (ssize_t)ws->pending_bytes;
    ws->pending_bytes = 0;
    if (got == 0)
        got = bench_link_recv(&ws->link, ws->memory, RECV_BYTES);
    *ret_now_ns = cmq_clock_mono_ns();
    if (got > 0)
        return take_bytes(ws, (size_t)got, *ret_now_ns, reason);
    if (got == 0)
        return cmq_reason_set(reason, CMQ_ERR_LOST, "the broker closed the WebSocket connection");
    if (errno == EAGAIN || errno == EINTR)
        return CMQ_ERR_TIMEOUT;
    return cmq_reason_set(reason, CMQ_ERR_LOST, "WebSocket: %s", strerror(errno));
}
