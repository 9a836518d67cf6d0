#include "tests/bench/bench_handshake.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"

/* The example of RFC 6455, section 1.3: with a fixed key the accepting value is known without SHA-1. */
static const char ws_key[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const char ws_accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/* Value of a field in a head that ends in an empty line; NULL when it is not there. */
static const char *field_value(const char *head, const char *name)
{
    size_t bytes = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, bytes) != 0 || line[2 + bytes] != ':')
            continue;
        const char *value = line + 3 + bytes;
        return value + strspn(value, " \t");
    }
    return NULL;
}

static bool value_is(const char *value, const char *wanted, bool ignore_case)
{
    if (value == NULL)
        return false;
    size_t bytes = strlen(wanted);
    int differs = ignore_case ? strncasecmp(value, wanted, bytes) : strncmp(value, wanted, bytes);
    return differs == 0 && strchr("\r \t,", value[bytes]) != NULL;
}

static enum cmq_err check_reply(const struct bench_handshake *shake, const char *head,
                                struct cmq_reason *reason)
{
    const char *from = shake->link->address->text;
    if (strncmp(head, "HTTP/1.1 101", 12) != 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s: no WebSocket there, it says \"%.40s\"", from,
                              head);
    if (!value_is(field_value(head, "Upgrade"), "websocket", true) ||
        !value_is(field_value(head, "Connection"), "upgrade", true) ||
        !value_is(field_value(head, "Sec-WebSocket-Accept"), ws_accept, false))
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s: wrong fields in the WebSocket handshake", from);
    const char *chosen = field_value(head, "Sec-WebSocket-Protocol");
    if (shake->subprotocol == NULL ? chosen != NULL : !value_is(chosen, shake->subprotocol, false))
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s%s: another subprotocol than asked for", from,
                              shake->path);
    return CMQ_OK;
}

static enum cmq_err send_request(const struct bench_handshake *shake, struct cmq_reason *reason)
{
    char request[900];
    const char *protocol = shake->subprotocol, *token = shake->link->address->token;
    int bytes = snprintf(request, sizeof request,
                         "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s%s%s%s%s%s\r\n",
                         shake->path, shake->link->address->text, ws_key,
                         protocol != NULL ? "Sec-WebSocket-Protocol: " : "", protocol != NULL ? protocol : "",
                         protocol != NULL ? "\r\n" : "", token != NULL ? "Authorization: Bearer " : "",
                         token != NULL ? token : "", token != NULL ? "\r\n" : "");
    cmq_assert(bytes > 0 && (size_t)bytes < sizeof request);
    if (bench_link_send(shake->link, request, (size_t)bytes) != bytes)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", shake->link->address->text, strerror(errno));
    return CMQ_OK;
}

enum cmq_err bench_handshake(const struct bench_handshake *shake, uint8_t *memory, size_t *ret_pending_bytes,
                             struct cmq_reason *reason)
{
    enum cmq_err err = send_request(shake, reason);
    if (err != CMQ_OK)
        return err;
    char *text = (char *)memory;
    const char *from = shake->link->address->text;
    size_t have = 0;
    uint64_t deadline_ns = cmq_clock_mono_ns() + shake->timeout_ms * CMQ_NS_PER_MS;
    for (;;) {
        uint64_t now_ns = cmq_clock_mono_ns();
        struct pollfd wanted = {.fd = shake->link->fd, .events = POLLIN};
        if (now_ns >= deadline_ns || poll(&wanted, 1, (int)((deadline_ns - now_ns) / CMQ_NS_PER_MS) + 1) == 0)
            return cmq_reason_set(reason, CMQ_ERR_TIMEOUT, "%s: no WebSocket handshake within %u ms", from,
                                  shake->timeout_ms);
        ssize_t got = bench_link_recv(shake->link, text + have, BENCH_HANDSHAKE_BYTES_MAX - have);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return cmq_reason_set(reason, CMQ_ERR_LOST, "%s: closed during the WebSocket handshake", from);
        have += (size_t)got;
        text[have] = '\0';
        char *gap = memmem(text, have, "\r\n\r\n", 4);
        if (gap != NULL) {
            size_t head_bytes = (size_t)(gap - text) + 4;
            gap[2] = '\0';
            err = check_reply(shake, text, reason);
            *ret_pending_bytes = have - head_bytes;
            memmove(text, text + head_bytes, have - head_bytes);
            return err;
        }
        if (have == BENCH_HANDSHAKE_BYTES_MAX)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s: endless WebSocket handshake", from);
    }
}
