#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl_agent.h"

#define BACKLOG 16

enum cmq_err ctl_agent_user(const struct cmq_conf *conf, uid_t *ret_uid, struct cmq_reason *reason)
{
    if (conf->agent_user[0] == '\0') {
        *ret_uid = geteuid();
        return CMQ_OK;
    }
    const struct passwd *user = getpwnam(conf->agent_user);
    if (user == NULL)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "agent.user: there is no such user; name the one that the dispatchers run as");
    *ret_uid = user->pw_uid;
    return CMQ_OK;
}

/* What nobody listens on any more is in the way of bind(2). */
static bool is_answered(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool answered = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN;
    (void)close(fd);
    return answered;
}

enum cmq_err ctl_agent_open(const struct cmq_conf *conf, int *ret_fd, struct cmq_reason *reason)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int bytes =
        snprintf(address.sun_path, sizeof address.sun_path, "%s/" CMQ_OPERATION_SOCKET, conf->common_run_dir);
    if (bytes < 0 || (size_t)bytes >= sizeof address.sun_path)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "common.run_dir is too long for a socket in it; at most %zu bytes",
                              sizeof address.sun_path - sizeof CMQ_OPERATION_SOCKET - 1);
    if (is_answered(&address))
        return cmq_reason_set(reason, CMQ_ERR_EXISTS, "an agent listens on %s already", address.sun_path);
    (void)unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0117);
    bool open = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
                listen(fd, BACKLOG) == 0;
    const int error = errno;
    (void)umask(mask);
    if (!open) {
        if (fd >= 0)
            (void)close(fd);
        return cmq_reason_set(reason, error == EACCES ? CMQ_ERR_PERMISSION : CMQ_ERR_SYSTEM,
                              "%s: cannot listen there: %s", address.sun_path, strerror(error));
    }
    *ret_fd = fd;
    return CMQ_OK;
}

void ctl_agent_shut(const struct cmq_conf *conf, int fd)
{
    char path[sizeof conf->common_run_dir + sizeof CMQ_OPERATION_SOCKET + 1];
    if (fd < 0)
        return;
    (void)snprintf(path, sizeof path, "%s/" CMQ_OPERATION_SOCKET, conf->common_run_dir);
    (void)unlink(path);
    (void)close(fd);
}

bool ctl_agent_accept(int listener, int *ret_fd, uid_t *ret_uid)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        (void)close(fd);
        return false;
    }
    *ret_fd = fd;
    *ret_uid = peer.uid;
    return true;
}

void ctl_agent_close(struct ctl_agent_peer *peer)
{
    if (peer->fd >= 0)
        (void)close(peer->fd);
    peer->fd = -1;
}

void ctl_agent_send(struct ctl_agent_peer *peer, const char *line, size_t bytes)
{
    if (send(peer->fd, line, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)bytes)
        ctl_agent_close(peer);
}

void ctl_agent_refuse(struct ctl_agent_peer *peer, const char *sentence)
{
    char line[CTL_AGENT_LINE_BYTES];
    int bytes = snprintf(line, sizeof line, "{\"state\":\"refused\",\"text\":\"%s\"}\n", sentence);
    cmq_assert(bytes > 0 && (size_t)bytes < sizeof line);
    ctl_agent_send(peer, line, (size_t)bytes);
    ctl_agent_close(peer);
}
