#include "dispatcher/dsp_sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/cmq_base.h"

/* What the kernel takes beyond the peer's window. Without this it takes megabytes for a client that reads
 * nothing; those messages count as delivered, and other clients do not get them. Measured: no cost for a
 * client that reads. */
enum { UNSENT_BYTES = 256 * 1024 };

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value));
}

/* Accepted sockets inherit these. */
static int set_options(int fd, uint32_t silence_ms)
{
    if (set(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 || set(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0)
        return -1;
    /* Better with them; a kernel without serves as well. */
    (void)set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    (void)set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES);
    (void)set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)silence_ms);
    return 0;
}

static enum cmq_err refuse(const char *address, uint16_t port, int error, struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_ERR_SYSTEM;
    const char *fix = "";
    if (error == EADDRINUSE) {
        err = CMQ_ERR_AGAIN;
        fix = "; another program listens there: stop it, or set another dispatcher.port";
    } else if (error == EACCES) {
        err = CMQ_ERR_PERMISSION;
        fix = "; ports below 1024 need CAP_NET_BIND_SERVICE: set another dispatcher.port";
    } else if (error == EADDRNOTAVAIL) {
        err = CMQ_ERR_INVALID;
        fix = "; dispatcher.listen must be an address of this machine";
    }
    return cmq_reason_set(reason, err, "cannot listen on %s port %u: %s%s", address, port, strerror(error),
                          fix);
}

enum cmq_err dsp_sock_listen(const char *address, uint16_t port, uint32_t silence_ms, int *ret_fd,
                             struct cmq_reason *reason)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *info = NULL;
    char service[8];
    (void)snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(address, service, &hints, &info) != 0)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "dispatcher.listen: \"%s\" is not a numeric address; 127.0.0.1 is one",
                              address);
    enum cmq_err err = CMQ_OK;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0 || set_options(fd, silence_ms) != 0 || bind(fd, info->ai_addr, info->ai_addrlen) != 0 ||
        listen(fd, SOMAXCONN) != 0)
        err = refuse(address, port, errno, reason);
    freeaddrinfo(info);
    if (err == CMQ_OK)
        *ret_fd = fd;
    else if (fd >= 0)
        close(fd);
    return err;
}

enum dsp_accept dsp_sock_accept(int listen_fd, int *ret_fd, struct cmq_address *ret_address)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t bytes = sizeof(peer);
    int fd = accept4(listen_fd, (struct sockaddr *)&peer, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        *ret_fd = fd;
        *ret_address = cmq_address_of((const struct sockaddr *)&peer);
        return DSP_ACCEPT_OK;
    }
    switch (errno) {
    case EAGAIN:
        return DSP_ACCEPT_NONE;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return DSP_ACCEPT_NO_FDS;
    default:
        return DSP_ACCEPT_AGAIN;
    }
}

int dsp_sock_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void dsp_sock_refuse(int listen_fd, int *spare_fd)
{
    if (*spare_fd >= 0)
        close(*spare_fd);
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    *spare_fd = dsp_sock_spare();
}

/* An older kernel tells less; needed_bytes is the end of what the caller reads. */
static bool ask_kernel(int fd, struct tcp_info *ret_info, size_t needed_bytes)
{
    socklen_t bytes = sizeof(*ret_info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret_info, &bytes) == 0 && bytes >= needed_bytes;
}

bool dsp_sock_acked_bytes(int fd, uint64_t *ret_bytes)
{
    struct tcp_info info;
    if (!ask_kernel(fd, &info, offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked)))
        return false;
    *ret_bytes = info.tcpi_bytes_acked;
    return true;
}

bool dsp_sock_received(int fd, uint64_t *ret_bytes, uint64_t *ret_unread_bytes)
{
    struct tcp_info info;
    int unread_bytes = 0;
    if (!ask_kernel(fd, &info,
                    offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received)) ||
        ioctl(fd, FIONREAD, &unread_bytes) != 0)
        return false;
    *ret_bytes = info.tcpi_bytes_received;
    *ret_unread_bytes = (uint64_t)unread_bytes;
    return true;
}

bool dsp_sock_traffic(int fd, uint64_t *ret_in_bytes, uint64_t *ret_out_bytes)
{
    struct tcp_info info;
    if (!ask_kernel(fd, &info,
                    offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(info.tcpi_bytes_retrans)))
        return false;
    int waiting_bytes = 0;
    if (ioctl(fd, FIONREAD, &waiting_bytes) != 0)
        return false;
    const uint64_t received = info.tcpi_bytes_received, sent = info.tcpi_bytes_sent,
                   again = info.tcpi_bytes_retrans;
    *ret_in_bytes = received - (uint64_t)waiting_bytes;
    *ret_out_bytes = sent - again + info.tcpi_notsent_bytes;
    return true;
}

void dsp_sock_limit(uint32_t fds)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = cmq_min_u64(fds, limit.rlim_max);
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}
