#include "tests/bench/fake_net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/cmq_base.h"

enum { BACKLOG = 128, LOOK_MS = 20, REQUEST_BYTES_MAX = 2048 };

int fake_listen(unsigned *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cmq_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, bytes) == 0 && listen(fd, BACKLOG) == 0 &&
               getsockname(fd, (struct sockaddr *)&address, &bytes) == 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

bool fake_readable(int fd, atomic_uint *stop)
{
    /* Relaxed: a flag. */
    while (atomic_load_explicit(stop, memory_order_relaxed) == 0) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        if (poll(&wanted, 1, LOOK_MS) > 0)
            return true;
    }
    return false;
}

bool fake_send_all(int fd, const void *data, size_t bytes, size_t piece_bytes)
{
    const char *at = data;
    while (bytes > 0) {
        size_t here = bytes < piece_bytes ? bytes : piece_bytes;
        ssize_t got = send(fd, at, here, MSG_NOSIGNAL);
        if (got <= 0)
            return false;
        at += got;
        bytes -= (size_t)got;
    }
    return true;
}

bool fake_send_frame(int fd, unsigned first, bool masked, const void *data, size_t bytes, size_t piece_bytes)
{
    uint8_t head[14] = {(uint8_t)first};
    size_t head_bytes = 2;
    unsigned wide = bytes < 126 ? 0 : bytes < 65536 ? 2 : 8;
    head[1] = (uint8_t)((wide == 0 ? bytes : wide == 2 ? 126 : 127) | (masked ? 0x80u : 0));
    for (unsigned i = 0; i < wide; i++)
        head[head_bytes++] = (uint8_t)((uint64_t)bytes >> (8u * (wide - 1 - i)));
    head_bytes += masked ? 4 : 0; /* a mask of zeros */
    return fake_send_all(fd, head, head_bytes, piece_bytes) && fake_send_all(fd, data, bytes, piece_bytes);
}

size_t fake_request_bytes(const char *in, size_t bytes, const char **ret_body)
{
    const char *gap = memmem(in, bytes, "\r\n\r\n", 4);
    const char *length = memmem(in, bytes, "Content-Length: ", 16);
    if (gap == NULL)
        return 0;
    cmq_assert(length != NULL && length < gap);
    *ret_body = gap + 4;
    size_t whole = (size_t)(gap + 4 - in) + strtoul(length + 16, NULL, 10);
    return whole <= bytes ? whole : 0;
}

bool fake_shake_hands(int fd, atomic_uint *stop, const char *lines, size_t piece_bytes, char *ret_request)
{
    char reply[512];
    size_t have = 0;
    while (memmem(ret_request, have, "\r\n\r\n", 4) == NULL) {
        if (!fake_readable(fd, stop))
            return false;
        ssize_t got = recv(fd, ret_request + have, REQUEST_BYTES_MAX - 1 - have, 0);
        if (got <= 0)
            return false;
        have += (size_t)got;
    }
    ret_request[have] = '\0';
    int bytes = snprintf(reply, sizeof reply,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n%s\r\n",
                         lines);
    /* The key that belongs to the accepting value above. */
    return strstr(ret_request, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n") != NULL &&
           fake_send_all(fd, reply, (size_t)bytes, piece_bytes);
}
