#include "tests/bench/bench_v1.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "tests/bench/bench_handshake.h"

enum { RECV_BYTES = 1 << 20, FRAME_BYTES_MAX = 64 << 20 };
enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

void bench_scratch_fini(struct bench_scratch *scratch)
{
    free(scratch->data);
    *scratch = (struct bench_scratch){0};
}

static bool reserve(struct bench_scratch *scratch, size_t bytes)
{
    if (scratch->capacity >= bytes)
        return true;
    size_t capacity = cmq_max_u64(bytes, scratch->capacity * 2u);
    uint8_t *data = realloc(scratch->data, capacity);
    if (data == NULL)
        return false;
    *scratch = (struct bench_scratch){data, capacity};
    return true;
}

/* ---- commands ---- */

static uint8_t *put_bytes(uint8_t *dst, const void *data, size_t bytes)
{
    memcpy(dst, data, bytes);
    return dst + bytes;
}

static uint8_t *mp_text(uint8_t *dst, const char *text)
{
    size_t bytes = strlen(text);
    cmq_assert(bytes < 256);
    *dst++ = 0xd9;
    *dst++ = (uint8_t)bytes;
    return put_bytes(dst, text, bytes);
}

static uint8_t *mp_number(uint8_t *dst, uint64_t number)
{
    *dst++ = 0xcf;
    for (unsigned i = 0; i < 8; i++)
        *dst++ = (uint8_t)(number >> (56u - 8u * i));
    return dst;
}

size_t bench_v1_command_text(uint8_t ret_text[BENCH_V1_COMMAND_BYTES_MAX], bool msgpack, uint64_t id,
                             const char *name, const struct bench_field *fields, size_t count)
{
    cmq_assert(count < 16 && strlen(name) < 32);
    if (!msgpack) {
        char *text = (char *)ret_text;
        size_t most = BENCH_V1_COMMAND_BYTES_MAX;
        size_t at = (size_t)snprintf(text, most, "{\"id\":%" PRIu64 ",\"%s\":{", id, name);
        for (size_t i = 0; i < count && at < most; i++) {
            const struct bench_field *field = &fields[i];
            at += (size_t)snprintf(text + at, most - at, "%s\"%s\":", i > 0 ? "," : "", field->key);
            if (at < most && field->text != NULL)
                at += (size_t)snprintf(text + at, most - at, "\"%s\"", field->text);
            else if (at < most)
                at += (size_t)snprintf(text + at, most - at, "%" PRIu64, field->number);
        }
        if (at < most)
            at += (size_t)snprintf(text + at, most - at, "}}");
        cmq_assert(at < most);
        return at;
    }
    uint8_t *dst = ret_text;
    *dst++ = 0x82;
    dst = mp_number(mp_text(dst, "id"), id);
    dst = mp_text(dst, name);
    *dst++ = (uint8_t)(0x80u | count);
    for (size_t i = 0; i < count; i++) {
        cmq_assert((size_t)(dst - ret_text) + strlen(fields[i].key) + 300u < BENCH_V1_COMMAND_BYTES_MAX);
        dst = mp_text(dst, fields[i].key);
        dst = fields[i].text != NULL ? mp_text(dst, fields[i].text) : mp_number(dst, fields[i].number);
    }
    return (size_t)(dst - ret_text);
}

bool bench_v1_flush(struct bench_v1 *v1)
{
    size_t sent = 0;
    while (sent < v1->out_bytes) {
        ssize_t got = bench_link_send(&v1->link, v1->out + sent, v1->out_bytes - sent);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break; /* a broken connection shows in the next read */
        sent += (size_t)got;
    }
    memmove(v1->out, v1->out + sent, v1->out_bytes - sent);
    v1->out_bytes -= sent;
    return v1->out_bytes == 0;
}

/* The mask is zero: it hides nothing from proxies here, and the broker unmasks it all the same. */
static bool send_frame(struct bench_v1 *v1, unsigned opcode, const uint8_t *data, size_t bytes)
{
    size_t wide = bytes < 126 ? 0 : 2;
    if (bytes + 8u > sizeof v1->out - v1->out_bytes)
        return false;
    uint8_t *at = v1->out + v1->out_bytes;
    *at++ = (uint8_t)(0x80u | opcode);
    *at++ = (uint8_t)(0x80u | (wide == 0 ? bytes : 126u));
    if (wide > 0) {
        *at++ = (uint8_t)(bytes >> 8);
        *at++ = (uint8_t)bytes;
    }
    memset(at, 0, 4);
    memcpy(at + 4, data, bytes);
    v1->out_bytes += 2 + wide + 4 + bytes;
    (void)bench_v1_flush(v1);
    return true;
}

enum cmq_err bench_v1_command(struct bench_v1 *v1, const char *name, const struct bench_field *fields,
                              size_t count, struct cmq_reason *reason)
{
    uint8_t text[BENCH_V1_COMMAND_BYTES_MAX];
    size_t bytes = bench_v1_command_text(text, v1->msgpack, v1->last_id + 1, name, fields, count);
    if (!send_frame(v1, v1->msgpack ? OP_BINARY : OP_TEXT, text, bytes))
        return cmq_reason_set(reason, CMQ_ERR_FULL, "the broker takes no commands");
    v1->last_id++;
    return CMQ_OK;
}

/* ---- reading ---- */

struct frame {
    unsigned first, second; /* head bytes */
    size_t head_bytes, payload_bytes;
};

/* False: the head is not whole. */
static bool frame_head(const uint8_t *at, size_t bytes, struct frame *ret_frame)
{
    if (bytes < 2)
        return false;
    size_t length = at[1] & 0x7fu, wide = length < 126 ? 0 : length == 126 ? 2 : 8;
    if (bytes < 2 + wide)
        return false;
    uint64_t payload = wide == 0 ? length : 0;
    for (size_t i = 0; i < wide; i++)
        payload = payload << 8 | at[2 + i];
    *ret_frame = (struct frame){.first = at[0],
                                .second = at[1],
                                .head_bytes = 2 + wide,
                                .payload_bytes = (size_t)cmq_min_u64(payload, SIZE_MAX / 2)};
    return true;
}

static enum cmq_err take_control(struct bench_v1 *v1, unsigned opcode, const uint8_t *data, size_t bytes,
                                 struct cmq_reason *reason)
{
    if (opcode == OP_CLOSE) {
        v1->close_code = bytes >= 2 ? (unsigned)(data[0] << 8 | data[1]) : 1005u;
        return cmq_reason_set(reason, CMQ_ERR_LOST, "the broker closed a v1 connection with code %u %.*s",
                              v1->close_code, bytes > 2 ? (int)bytes - 2 : 0, (const char *)data + 2);
    }
    if (opcode == OP_PING && !send_frame(v1, OP_PONG, data, bytes))
        return cmq_reason_set(reason, CMQ_ERR_LOST, "a v1 connection took no pong");
    return CMQ_OK;
}

/* A whole frame. */
static enum cmq_err take_frame(struct bench_v1 *v1, const struct frame *frame, const uint8_t *data,
                               bench_v1_message *on_message, void *context, uint64_t now_ns,
                               struct cmq_reason *reason)
{
    unsigned opcode = frame->first & 0x0fu, wanted = v1->msgpack ? OP_BINARY : OP_TEXT;
    bool fin = (frame->first & 0x80u) != 0, control = opcode >= OP_CLOSE;
    bool good = (frame->first & 0x70u) == 0 && (frame->second & 0x80u) == 0;
    if (control)
        good = good && fin && frame->payload_bytes < 126 && opcode <= OP_PONG;
    else
        good = good && opcode == (v1->in_parts ? OP_CONTINUATION : wanted);
    if (!good)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "unexpected WebSocket frame, head 0x%02x 0x%02x",
                              frame->first, frame->second);
    if (control)
        return take_control(v1, opcode, data, frame->payload_bytes, reason);
    v1->payload_bytes += frame->payload_bytes;
    if (fin && !v1->in_parts) {
        v1->frames++;
        return on_message(context, cmq_span_make(data, frame->payload_bytes), now_ns, reason);
    }
    if (!reserve(&v1->parts, v1->parts_bytes + frame->payload_bytes + 1))
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    memcpy(v1->parts.data + v1->parts_bytes, data, frame->payload_bytes);
    v1->parts_bytes += frame->payload_bytes;
    v1->in_parts = !fin;
    if (!fin)
        return CMQ_OK;
    size_t whole = v1->parts_bytes;
    v1->parts_bytes = 0;
    v1->frames++;
    return on_message(context, cmq_span_make(v1->parts.data, whole), now_ns, reason);
}

enum cmq_err bench_v1_read(struct bench_v1 *v1, struct bench_scratch *scratch, bench_v1_message *on_message,
                           void *context, struct cmq_reason *reason)
{
    if (!reserve(scratch, v1->kept_bytes + RECV_BYTES))
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    ssize_t got = bench_link_recv(&v1->link, scratch->data + v1->kept_bytes, RECV_BYTES);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return CMQ_ERR_AGAIN;
    if (got <= 0)
        return cmq_reason_set(reason, CMQ_ERR_LOST, "the broker closed a v1 connection%s%s",
                              got < 0 ? ": " : "", got < 0 ? strerror(errno) : "");
    uint64_t now_ns = cmq_clock_mono_ns();
    if (v1->kept_bytes > 0)
        memcpy(scratch->data, v1->kept.data, v1->kept_bytes);
    const uint8_t *at = scratch->data;
    size_t left = v1->kept_bytes + (size_t)got;
    v1->kept_bytes = 0;
    struct frame frame;
    while (frame_head(at, left, &frame)) {
        if (frame.payload_bytes > FRAME_BYTES_MAX)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "WebSocket frame of %zu bytes",
                                  frame.payload_bytes);
        if (left - frame.head_bytes < frame.payload_bytes)
            break;
        enum cmq_err err = take_frame(v1, &frame, at + frame.head_bytes, on_message, context, now_ns, reason);
        if (err != CMQ_OK)
            return err;
        at += frame.head_bytes + frame.payload_bytes;
        left -= frame.head_bytes + frame.payload_bytes;
    }
    if (left > 0 && !reserve(&v1->kept, left))
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    if (left > 0)
        memcpy(v1->kept.data, at, left);
    v1->kept_bytes = left;
    return CMQ_OK;
}

/* ---- commands that are waited for ---- */

struct wait {
    struct bench_v1 *v1;
    bool done;
};

static enum cmq_err on_reply(void *context, struct cmq_span message, uint64_t now_ns,
                             struct cmq_reason *reason)
{
    struct wait *wait = context;
    struct bench_push push;
    (void)now_ns;
    bench_push_parse(message, wait->v1->msgpack, &push);
    if (push.kind == BENCH_PUSH_ERROR)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "the broker refused a command: %.*s: %.*s",
                              (int)push.code.bytes, (const char *)push.code.data, (int)push.reason.bytes,
                              (const char *)push.reason.data);
    if (push.kind == BENCH_PUSH_OK && push.id == wait->v1->last_id)
        wait->done = true;
    else if (push.kind != BENCH_PUSH_HEARTBEAT)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "unexpected message instead of a reply: %.*s",
                              (int)cmq_min_u64(message.bytes, 100), (const char *)message.data);
    return CMQ_OK;
}

enum cmq_err bench_v1_wait(struct bench_v1 *v1, struct bench_scratch *scratch, unsigned timeout_ms,
                           struct cmq_reason *reason)
{
    struct wait wait = {.v1 = v1};
    uint64_t deadline_ns = cmq_clock_mono_ns() + timeout_ms * CMQ_NS_PER_MS;
    enum cmq_err err = CMQ_OK;
    while (!wait.done) {
        uint64_t now_ns = cmq_clock_mono_ns();
        struct pollfd wanted = {.fd = v1->link.fd, .events = POLLIN};
        int left_ms = now_ns < deadline_ns ? (int)((deadline_ns - now_ns) / CMQ_NS_PER_MS) + 1 : 0;
        if (left_ms == 0 || (!bench_link_has_more(&v1->link) && poll(&wanted, 1, left_ms) == 0))
            return cmq_reason_set(reason, CMQ_ERR_TIMEOUT, "no reply to a v1 command within %u ms",
                                  timeout_ms);
        err = bench_v1_read(v1, scratch, on_reply, &wait, reason);
        if (err != CMQ_OK && err != CMQ_ERR_AGAIN)
            return err;
    }
    return CMQ_OK;
}

/* ---- life ---- */

enum cmq_err bench_v1_open(const struct bench_address *address, bool msgpack, unsigned timeout_ms,
                           struct bench_v1 **ret_v1, struct cmq_reason *reason)
{
    struct bench_scratch scratch = {0};
    struct bench_v1 *v1 = calloc(1, sizeof *v1);
    if (v1 == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    v1->link = bench_link_closed();
    v1->msgpack = msgpack;
    enum cmq_err err = reserve(&v1->kept, BENCH_HANDSHAKE_BYTES_MAX + 1)
                           ? bench_link_open(&v1->link, address, timeout_ms, reason)
                           : cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    struct bench_handshake shake = {.link = &v1->link,
                                    .path = "/v1/ws",
                                    .subprotocol = msgpack ? "ciphermq.v1.msgpack" : "ciphermq.v1.json",
                                    .timeout_ms = timeout_ms};
    if (err == CMQ_OK)
        err = bench_handshake(&shake, v1->kept.data, &v1->kept_bytes, reason);
    struct bench_field client = {.key = "client", .text = "cmq-bench"};
    if (err == CMQ_OK)
        err = bench_v1_command(v1, "connect", &client, 1, reason);
    if (err == CMQ_OK)
        err = bench_v1_wait(v1, &scratch, timeout_ms, reason);
    bench_scratch_fini(&scratch);
    if (err == CMQ_OK)
        *ret_v1 = v1;
    else
        bench_v1_close(v1);
    return err;
}

void bench_v1_close(struct bench_v1 *v1)
{
    if (v1 == NULL)
        return;
    if (v1->link.fd >= 0) {
        static const uint8_t normal[] = {0x03, 0xe8}; /* 1000 */
        (void)send_frame(v1, OP_CLOSE, normal, sizeof normal);
        bench_link_close(&v1->link);
    }
    bench_scratch_fini(&v1->kept);
    bench_scratch_fini(&v1->parts);
    free(v1);
}
