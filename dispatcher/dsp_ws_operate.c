#include "dispatcher/dsp_ws_operate.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log/cmq_log.h"

#define PROTOCOL "cmq-agent"

enum { LINE_BYTES_MAX = 1000 };

struct dsp_link {
    struct dsp_link_setup setup;
    struct cmq_operation operation;
    struct lws *wsi;
    bool left;
    size_t bytes;
    char line[LINE_BYTES_MAX];
    size_t last_bytes;
    char last[LINE_BYTES_MAX]; /* what the agent said in the end, for the log */
};

static void log_operation(const struct dsp_link *link, const char *state, const char *text, size_t bytes)
{
    struct cmq_log_quoted name, quoted;
    const struct cmq_operation *operation = &link->operation;
    if (operation->verb == CMQ_OPERATION_WATCH)
        return;
    const bool number = operation->verb == CMQ_OPERATION_SCALE || operation->one;
    cmq_log(CMQ_LOG_INFO, CMQ_EV_OPERATION, "by=%s do=%s stage=%s %s=%d state=%s said=%s",
            cmq_log_quote(&name, operation->by, strlen(operation->by)),
            cmq_operation_verb_name(operation->verb), operation->stage,
            operation->verb == CMQ_OPERATION_SCALE ? "count" : "instance",
            number ? (int)operation->number : -1, state, cmq_log_quote(&quoted, text, bytes));
}

/* ---- the agent's words ---- */

static void take_line(struct dsp_link *link, struct cmq_span line)
{
    memcpy(link->last, line.data, line.bytes);
    link->last_bytes = line.bytes;
    if (!link->left)
        link->setup.said(link->setup.context, line);
}

/* 0: go on, -1: close. */
static int read_some(struct dsp_link *link)
{
    ssize_t got = recv(lws_get_socket_fd(link->wsi), link->line + link->bytes,
                       sizeof link->line - link->bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        return -1;
    link->bytes += (size_t)got;
    const char *end;
    while ((end = memchr(link->line, '\n', link->bytes)) != NULL) {
        const size_t bytes = (size_t)(end - link->line);
        take_line(link, cmq_span_make(link->line, bytes));
        link->bytes -= bytes + 1;
        memmove(link->line, end + 1, link->bytes);
    }
    return link->bytes < sizeof link->line ? 0 : -1; /* no line is so long */
}

/* The agent says how an operation ends before it closes. */
static bool has_ended(const struct dsp_link *link)
{
    static const char running[] = "\"state\":\"running\"";
    return link->last_bytes > 0 && memmem(link->last, link->last_bytes, running, sizeof running - 1) == NULL;
}

static void end(struct dsp_link *link)
{
    static const char lost[] = "{\"state\":\"lost\",\"text\":\"the agent ended before the operation did; "
                               "look whether all stages run, "
                               "and ask again\"}";
    if (!has_ended(link))
        take_line(link, cmq_span_make(lost, sizeof lost - 1));
    log_operation(link, "heard", link->last, link->last_bytes);
    if (!link->left)
        link->setup.ended(link->setup.context);
    free(link);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t bytes)
{
    (void)user;
    (void)in;
    (void)bytes;
    struct dsp_link *link = lws_get_opaque_user_data(wsi);
    if (link == NULL)
        return 0;
    if (reason == LWS_CALLBACK_RAW_RX_FILE)
        return read_some(link);
    if (reason == LWS_CALLBACK_RAW_CLOSE_FILE) {
        lws_set_opaque_user_data(wsi, NULL);
        end(link);
    }
    return 0;
}

void dsp_link_protocol(struct lws_protocols *ret_protocol)
{
    *ret_protocol = (struct lws_protocols){.name = PROTOCOL, .callback = callback};
}

/* ---- life ---- */

static const char *why_not(int error)
{
    switch (error) {
    case ENOENT:
    case ECONNREFUSED:
        return "no agent runs, which restarts and scales stages for this page; start it: sudo systemctl "
               "enable "
               "--now ciphermq-agent, or without systemd deploy/up";
    case EACCES:
        return "the agent's socket is closed to this dispatcher; agent.user must be its user";
    case ENAMETOOLONG:
        return "common.run_dir is too long for the agent's socket";
    default:
        return "the agent takes nothing now; try again";
    }
}

/* 0, or errno. */
static int reach(const char *run_dir, const char *request, size_t bytes, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/" CMQ_OPERATION_SOCKET, run_dir);
    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int error = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
    /* A socket that is new has room for a line. One that was refused by the agent already says so when it is read. */
    if (error == 0 && send(fd, request, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE)
        error = errno;
    if (error != 0)
        (void)close(fd);
    else
        *ret_fd = fd;
    return error;
}

const char *dsp_link_begin(const struct dsp_link_setup *setup, const struct cmq_operation *operation,
                           struct dsp_link **ret_link)
{
    char request[CMQ_OPERATION_TEXT_BYTES];
    lws_sock_file_fd_type fd = {.filefd = -1};
    struct dsp_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return why_not(ENOMEM);
    link->setup = *setup;
    link->operation = *operation;
    const size_t bytes = cmq_operation_write(request, operation);
    const int error = reach(setup->run_dir, request, bytes, &fd.filefd);
    if (error != 0) {
        log_operation(link, "not_asked", strerror(error), strlen(strerror(error)));
        free(link);
        return why_not(error);
    }
    link->wsi = lws_adopt_descriptor_vhost(setup->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, PROTOCOL, NULL);
    if (link->wsi == NULL) {
        (void)close(fd.filefd);
        free(link);
        return why_not(ENOMEM);
    }
    lws_set_opaque_user_data(link->wsi, link);
    log_operation(link, "asked", "", 0);
    *ret_link = link;
    return NULL;
}

void dsp_link_leave(struct dsp_link *link)
{
    if (link == NULL)
        return;
    link->left = true;
    lws_set_timeout(link->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
}
