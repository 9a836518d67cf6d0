#include "common/proc/cmq_notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"

enum cmq_err cmq_notify(const char *state)
{
    const char *path = secure_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || path[0] == '\0')
        return CMQ_ERR_NOT_FOUND;
    size_t bytes = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || bytes >= sizeof address.sun_path)
        return CMQ_ERR_INVALID;
    memcpy(address.sun_path, path, bytes);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* abstract: the name has no closing NUL, its length says where it ends */
    socklen_t address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return CMQ_ERR_SYSTEM;
    ssize_t sent =
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address, address_bytes);
    (void)close(fd);
    return sent == (ssize_t)strlen(state) ? CMQ_OK : CMQ_ERR_SYSTEM;
}

enum cmq_err cmq_notify_reloading(void)
{
    char state[64];
    (void)snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)(cmq_clock_mono_ns() / CMQ_NS_PER_US));
    return cmq_notify(state);
}

enum cmq_err cmq_notify_alive(void)
{
    const char *wanted = secure_getenv("WATCHDOG_USEC"), *pid = secure_getenv("WATCHDOG_PID");
    if (wanted == NULL || (pid != NULL && strtoul(pid, NULL, 10) != (unsigned long)getpid()))
        return CMQ_ERR_NOT_FOUND;
    return cmq_notify("WATCHDOG=1");
}
