#include "tests/bench/bench_net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum cmq_err bench_net_resolve(const char *host, unsigned port, struct bench_address *ret_address,
                               struct cmq_reason *reason)
{
    char service[16];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, service, &hints, &found);
    if (rc != 0)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "host \"%s\": %s", host, gai_strerror(rc));
    struct bench_address address = {.bytes = found->ai_addrlen};
    memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
    snprintf(address.host, sizeof address.host, "%.255s", host);
    freeaddrinfo(found);
    bool v6 = strchr(host, ':') != NULL;
    snprintf(address.text, sizeof address.text, "%s%.255s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
    *ret_address = address;
    return CMQ_OK;
}

int bench_net_connect_start(const struct bench_address *address)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0)
        return -1;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&address->storage, address->bytes) == 0 || errno == EINPROGRESS)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int bench_net_error(int fd)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 ? error : errno;
}
