/*
 * A frame, both ways (RFC 6455, section 5.2): FIN and opcode | MASK and length | length, 2 or 8 bytes more | mask, 4 bytes, from
 * the client only | payload. The handshake's Sec-WebSocket-Accept is not looked at: it proves to pages that no cache answers, and
 * this is a connection of ours to a port of ours.
 */
#include "ctl_ws.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "ctl_http.h"

enum { READ_BYTES = 65536, HEAD_BYTES_MAX = 16384, MESSAGE_BYTES_MAX = 256 << 20, KEY_BYTES = 16 };
enum opcode { MORE = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { FIN = 0x80, MASK = 0x80, CONTROL = 0x08, LENGTH_2 = 126, LENGTH_8 = 127, CLOSE_NORMAL = 1000 };

struct ctl_ws {
    struct ctl_stream *stream;
    struct cmq_buf in; /* came, and was not taken */
    size_t taken;
    struct cmq_buf out;
};

static enum cmq_err no_memory(struct cmq_reason *reason)
{
    return cmq_reason_set(reason, CMQ_ERR_NOMEM,
                          "a message of the broker is too large for this machine's memory");
}

/* ---- bytes ---- */

static enum cmq_err read_more(struct ctl_ws *ws, uint64_t deadline_ns, struct cmq_reason *reason)
{
    size_t bytes = 0;
    if (ws->taken == ws->in.bytes) {
        cmq_buf_clear(&ws->in, READ_BYTES);
        ws->taken = 0;
    } else if (ws->taken >= READ_BYTES) {
        ws->in.bytes -= ws->taken;
        memmove(ws->in.data, ws->in.data + ws->taken, ws->in.bytes);
        ws->taken = 0;
    }
    if (cmq_buf_reserve(&ws->in, READ_BYTES) != CMQ_OK)
        return no_memory(reason);
    enum cmq_err err =
        ctl_stream_receive(ws->stream, ws->in.data + ws->in.bytes, READ_BYTES, deadline_ns, &bytes, reason);
    ws->in.bytes += err == CMQ_OK ? bytes : 0;
    return err;
}

/* Until so many bytes are there that were not taken. */
static enum cmq_err need(struct ctl_ws *ws, uint64_t bytes, uint64_t deadline_ns, struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    while (err == CMQ_OK && ws->in.bytes - ws->taken < bytes)
        err = read_more(ws, deadline_ns, reason);
    return err;
}

/* ---- frames ---- */

static enum cmq_err send_frame(struct ctl_ws *ws, enum opcode opcode, struct cmq_span payload,
                               struct cmq_reason *reason)
{
    uint8_t head[14], mask[4];
    size_t at = 0;
    if (getrandom(mask, sizeof mask, 0) != (ssize_t)sizeof mask)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the kernel gives no random numbers");
    head[at++] = (uint8_t)(FIN | (unsigned)opcode);
    const unsigned length_bytes = payload.bytes < LENGTH_2 ? 0 : payload.bytes <= UINT16_MAX ? 2 : 8;
    head[at++] = (uint8_t)(MASK | (length_bytes == 0   ? (unsigned)payload.bytes
                                   : length_bytes == 2 ? (unsigned)LENGTH_2
                                                       : (unsigned)LENGTH_8));
    for (unsigned i = length_bytes; i-- > 0;)
        head[at++] = (uint8_t)((uint64_t)payload.bytes >> (8 * i));
    memcpy(head + at, mask, sizeof mask);
    at += sizeof mask;
    cmq_buf_clear(&ws->out, READ_BYTES);
    if (cmq_buf_append(&ws->out, head, at) != CMQ_OK || cmq_buf_reserve(&ws->out, payload.bytes) != CMQ_OK)
        return no_memory(reason);
    for (size_t i = 0; i < payload.bytes; i++)
        ws->out.data[ws->out.bytes++] = payload.data[i] ^ mask[i % sizeof mask];
    return ctl_stream_send(ws->stream, cmq_buf_span(&ws->out), reason);
}

struct frame {
    enum opcode opcode;
    bool fin;
    struct cmq_span payload; /* in ws->in, until the next read */
};

static enum cmq_err read_frame(struct ctl_ws *ws, uint64_t deadline_ns, struct frame *ret_frame,
                               struct cmq_reason *reason)
{
    enum cmq_err err = need(ws, 2, deadline_ns, reason);
    if (err != CMQ_OK)
        return err;
    uint64_t length = ws->in.data[ws->taken + 1];
    const unsigned first = ws->in.data[ws->taken];
    const size_t length_bytes = length == LENGTH_2 ? 2 : length == LENGTH_8 ? 8 : 0;
    err = need(ws, 2 + length_bytes, deadline_ns, reason);
    if (err != CMQ_OK)
        return err;
    if ((length & MASK) != 0 || (first & 0x70u) != 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "the broker's answer is not WebSocket");
    if (length_bytes > 0)
        length = 0;
    for (size_t i = 0; i < length_bytes; i++)
        length = length << 8 | ws->in.data[ws->taken + 2 + i];
    if (length > MESSAGE_BYTES_MAX)
        return cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "the broker sends more than %u bytes at once",
                              (unsigned)MESSAGE_BYTES_MAX);
    err = need(ws, 2 + length_bytes + length, deadline_ns, reason);
    if (err != CMQ_OK)
        return err;
    *ret_frame =
        (struct frame){.opcode = (enum opcode)(first & 0x0fu),
                       .fin = (first & FIN) != 0,
                       .payload = cmq_span_make(ws->in.data + ws->taken + 2 + length_bytes, (size_t)length)};
    ws->taken += 2 + length_bytes + (size_t)length;
    return CMQ_OK;
}

static enum cmq_err closed(const struct frame *frame, struct cmq_reason *reason)
{
    const struct cmq_span data = frame->payload;
    if (data.bytes < 2)
        return cmq_reason_set(reason, CMQ_ERR_LOST, "the broker closed the connection");
    char text[128];
    size_t at = 0;
    for (size_t i = 2; i < data.bytes && at + 1 < sizeof text; i++)
        text[at++] = data.data[i] >= 0x20 && data.data[i] < 0x7f ? (char)data.data[i] : '?';
    text[at] = '\0';
    return cmq_reason_set(reason, CMQ_ERR_LOST, "the broker closed the connection: %u %s",
                          (unsigned)data.data[0] << 8 | data.data[1], text);
}

enum cmq_err ctl_ws_receive(struct ctl_ws *ws, uint64_t deadline_ns, struct cmq_buf *message,
                            struct cmq_reason *reason)
{
    struct frame frame = {.opcode = MORE};
    cmq_buf_clear(message, READ_BYTES);
    for (;;) {
        enum cmq_err err = read_frame(ws, deadline_ns, &frame, reason);
        /* A message that has begun comes whole: its parts are behind each other. */
        if (err != CMQ_OK)
            return err;
        if (frame.opcode == CLOSE)
            return closed(&frame, reason);
        if (frame.opcode == PING)
            err = send_frame(ws, PONG, frame.payload, reason);
        else if (((unsigned)frame.opcode & CONTROL) == 0 &&
                 (message->bytes + frame.payload.bytes > MESSAGE_BYTES_MAX ||
                  cmq_buf_append(message, frame.payload.data, frame.payload.bytes) != CMQ_OK))
            err = no_memory(reason);
        if (err != CMQ_OK)
            return err;
        if (((unsigned)frame.opcode & CONTROL) == 0 && frame.fin)
            return CMQ_OK;
        deadline_ns = message->bytes > 0 ? UINT64_MAX : deadline_ns;
    }
}

enum cmq_err ctl_ws_send(struct ctl_ws *ws, struct cmq_span text, struct cmq_reason *reason)
{
    return send_frame(ws, TEXT, text, reason);
}

/* ---- handshake ---- */

static void make_key(char ret_text[25])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t key[KEY_BYTES + 2] = {0};
    size_t at = 0;
    (void)!getrandom(key, KEY_BYTES, 0);
    for (size_t i = 0; i < KEY_BYTES; i += 3) {
        const unsigned three = (unsigned)key[i] << 16 | (unsigned)key[i + 1] << 8 | key[i + 2];
        for (unsigned shift = 24; shift > 0; shift -= 6)
            ret_text[at++] = letters[three >> (shift - 6) & 63u];
    }
    memcpy(ret_text + 22, "==", 3);
}

static enum cmq_err send_upgrade(struct ctl_ws *ws, const struct ctl *ctl, const char *path,
                                 const char *subprotocol, struct cmq_reason *reason)
{
    char text[1024], key[25], token[128] = "";
    make_key(key);
    if (ctl->bearer[0] != '\0')
        (void)snprintf(token, sizeof token, "Authorization: Bearer %s\r\n", ctl->bearer);
    const int bytes =
        snprintf(text, sizeof text,
                 "GET %s HTTP/1.1\r\nHost: %s:%llu\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Protocol: %s\r\n%s\r\n",
                 path, "localhost", (unsigned long long)ctl->conf.dispatcher_port, key, subprotocol, token);
    cmq_assert(bytes > 0 && (size_t)bytes < sizeof text);
    enum cmq_err err = ctl_stream_send(ws->stream, cmq_span_make(text, (size_t)bytes), reason);
    explicit_bzero(text, sizeof text);
    explicit_bzero(token, sizeof token);
    return err;
}

/* The reply's head; what is behind it stays in ws->in. */
static enum cmq_err read_reply(struct ctl_ws *ws, struct cmq_reason *reason)
{
    for (;;) {
        enum cmq_err err = read_more(ws, UINT64_MAX, reason);
        if (err != CMQ_OK)
            return err;
        const uint8_t *end = memmem(ws->in.data, ws->in.bytes, "\r\n\r\n", 4);
        if (end != NULL) {
            ws->taken = (size_t)(end - ws->in.data) + 4;
            break;
        }
        if (ws->in.bytes > HEAD_BYTES_MAX)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "the broker's answer is not HTTP");
    }
    const char *head = (const char *)ws->in.data;
    if (ws->taken > 12 && memcmp(head, "HTTP/1.1 101", 12) == 0)
        return CMQ_OK;
    (void)(need(ws, HEAD_BYTES_MAX, UINT64_MAX, NULL) ==
           CMQ_OK); /* the body, up to the end of the connection */
    return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "the broker refuses: %.*s: %.*s",
                          (int)cmq_min_u64(strcspn(head, "\r\n"), 60), head,
                          (int)cmq_min_u64(ws->in.bytes - ws->taken, 600), head + ws->taken);
}

enum cmq_err ctl_ws_open(const struct ctl *ctl, const char *path, const char *subprotocol,
                         struct ctl_ws **ret_ws, struct cmq_reason *reason)
{
    struct ctl_ws *ws = calloc(1, sizeof *ws);
    if (ws == NULL)
        return no_memory(reason);
    cmq_buf_init(&ws->in, (size_t)MESSAGE_BYTES_MAX * 2);
    cmq_buf_init(&ws->out, MESSAGE_BYTES_MAX);
    enum cmq_err err = ctl_stream_open(ctl, CTL_PORT_WS, &ws->stream, reason);
    if (err == CMQ_OK)
        err = send_upgrade(ws, ctl, path, subprotocol, reason);
    if (err == CMQ_OK)
        err = read_reply(ws, reason);
    if (err == CMQ_OK) {
        *ret_ws = ws;
        return CMQ_OK;
    }
    ctl_stream_close(ws->stream);
    cmq_buf_fini(&ws->in);
    cmq_buf_fini(&ws->out);
    free(ws);
    return err;
}

void ctl_ws_close(struct ctl_ws *ws)
{
    static const uint8_t normal[] = {CLOSE_NORMAL >> 8, CLOSE_NORMAL & 0xff};
    if (ws == NULL)
        return;
    (void)(send_frame(ws, CLOSE, cmq_span_make(normal, sizeof normal), NULL) == CMQ_OK);
    ctl_stream_close(ws->stream);
    cmq_buf_fini(&ws->in);
    cmq_buf_fini(&ws->out);
    free(ws);
}
