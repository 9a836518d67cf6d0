#include "ingest/ing_accept.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "ingest/ing_listen.h"

/* Without descriptors or memory the queue cannot be emptied: look again after this, and do not spin meanwhile. */
enum { EXHAUSTED_MS = 100 };

struct ing_acceptor {
    int listen_fd; /* -1: stopped */
    int stop_fd;
    uint16_t port;
    ing_accept_take *take;
    void *context;
    pthread_t thread;
};

/* Empties the queue. False: descriptors or memory ran out before. */
static bool take_queued(struct ing_acceptor *acceptor)
{
    for (;;) {
        struct sockaddr_storage address;
        socklen_t bytes = sizeof address;
        int fd =
            accept4(acceptor->listen_fd, (struct sockaddr *)&address, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            acceptor->take(acceptor->context, fd, (const struct sockaddr *)&address, bytes);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            return false;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return true;
        /* Anything else is about one connection that is gone already (accept(2)). */
    }
}

static void *run(void *context)
{
    struct ing_acceptor *acceptor = context;
    struct pollfd fds[] = {{.fd = acceptor->stop_fd, .events = POLLIN},
                           {.fd = acceptor->listen_fd, .events = POLLIN}};
    bool exhausted = false;
    for (;;) {
        (void)poll(fds, exhausted ? 1 : 2, exhausted ? EXHAUSTED_MS : -1);
        exhausted = !take_queued(acceptor);
        if ((fds[0].revents & POLLIN) != 0)
            return NULL;
    }
}

enum cmq_err ing_accept_start(const char *address, uint16_t port, ing_accept_take *take, void *context,
                              struct ing_acceptor **ret_acceptor, struct cmq_reason *reason)
{
    struct ing_acceptor *acceptor = malloc(sizeof *acceptor);
    if (acceptor == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for the HTTP port");
    *acceptor = (struct ing_acceptor){.listen_fd = -1, .stop_fd = -1, .take = take, .context = context};
    enum cmq_err err = ing_listen_open(address, port, &acceptor->listen_fd, reason);
    if (err != CMQ_OK)
        goto out;
    acceptor->port = ing_listen_port(acceptor->listen_fd);
    acceptor->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (acceptor->stop_fd < 0 || pthread_create(&acceptor->thread, NULL, run, acceptor) != 0) {
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the thread that accepts connections does not start");
        goto out;
    }
    *ret_acceptor = acceptor;
    return CMQ_OK;
out:
    if (acceptor->stop_fd >= 0)
        (void)close(acceptor->stop_fd);
    if (acceptor->listen_fd >= 0)
        (void)close(acceptor->listen_fd);
    free(acceptor);
    return err;
}

uint16_t ing_accept_port(const struct ing_acceptor *acceptor)
{
    return acceptor->port;
}

void ing_accept_stop(struct ing_acceptor *acceptor)
{
    const uint64_t one = 1;
    if (acceptor->listen_fd < 0)
        return;
    ssize_t written = write(acceptor->stop_fd, &one, sizeof one);
    cmq_assert(written == (ssize_t)sizeof one);
    (void)pthread_join(acceptor->thread, NULL);
    (void)close(acceptor->listen_fd);
    acceptor->listen_fd = -1;
}

void ing_accept_free(struct ing_acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    ing_accept_stop(acceptor);
    (void)close(acceptor->stop_fd);
    free(acceptor);
}
