#include "ingest/ing_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* A peer that vanished is noticed after this, also while a reply to it is under way. Accepted sockets inherit
 * it. */
enum { USER_TIMEOUT_MS = 30000, KEEPALIVE_IDLE_S = 30, KEEPALIVE_INTERVAL_S = 10, KEEPALIVE_COUNT = 3 };
/* Descriptors for everything that isn't a connection: log, rings, signals, epoll, locks. */
enum { OTHER_FDS = 64 };

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value);
}

static int set_options(int fd)
{
    if (set(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 || set(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0)
        return -1;
    /* These only make things better; a kernel without one of them serves as well. */
    (void)set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    (void)set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    (void)set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    (void)set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
    (void)set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
    (void)set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return 0;
}

static enum cmq_err refuse(const char *address, uint16_t port, int error, struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_ERR_SYSTEM;
    const char *fix = "";
    if (error == EADDRINUSE) {
        err = CMQ_ERR_EXISTS;
        fix = "; another program listens there: stop it, or set another ingest.port";
    } else if (error == EACCES) {
        err = CMQ_ERR_PERMISSION;
        fix = "; ports below 1024 need CAP_NET_BIND_SERVICE: set another ingest.port";
    } else if (error == EADDRNOTAVAIL) {
        err = CMQ_ERR_INVALID;
        fix = "; ingest.listen must be an address of this machine";
    }
    return cmq_reason_set(reason, err, "cannot listen on %s port %u: %s%s", address, port, strerror(error),
                          fix);
}

enum cmq_err ing_listen_open(const char *address, uint16_t port, int *ret_fd, struct cmq_reason *reason)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *info = NULL;
    char service[8];
    (void)snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(address, service, &hints, &info) != 0)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "ingest.listen is not an IPv4 or IPv6 address: use for example 127.0.0.1 or ::1");
    enum cmq_err err = CMQ_OK;
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, info->ai_protocol);
    if (fd < 0 || set_options(fd) != 0 || bind(fd, info->ai_addr, info->ai_addrlen) != 0 ||
        listen(fd, SOMAXCONN) != 0)
        err = refuse(address, port, errno, reason);
    freeaddrinfo(info);
    if (err == CMQ_OK)
        *ret_fd = fd;
    else if (fd >= 0)
        (void)close(fd);
    return err;
}

uint16_t ing_listen_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &bytes) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

unsigned ing_listen_fit(unsigned connections)
{
    struct rlimit limit;
    rlim_t need = (rlim_t)connections + OTHER_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need)
        return connections;
    limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 && getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return connections;
    if (limit.rlim_cur >= need)
        return connections;
    return limit.rlim_cur > OTHER_FDS ? (unsigned)(limit.rlim_cur - OTHER_FDS) : 1u;
}
