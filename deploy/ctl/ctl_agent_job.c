#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "ctl_agent.h"

/* The child is this program: no exec, and so no arguments that could be taken for something else. */
static _Noreturn void child_run(struct ctl *ctl, const struct cmq_operation *operation, int output)
{
    char target[32], count[8];
    sigset_t none;
    sigemptyset(&none);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0 || close_range(3, ~0u, 0) != 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        _exit(CMQ_EXIT_TEMPORARY);
    if (operation->verb == CMQ_OPERATION_RESTART && operation->one)
        (void)snprintf(target, sizeof target, "%s:%u", operation->stage, operation->number);
    else
        (void)snprintf(target, sizeof target, "%s", operation->stage);
    (void)snprintf(count, sizeof count, "%u", operation->number);
    ctl->words[0] = target;
    ctl->words[1] = count;
    int exit_code = operation->verb == CMQ_OPERATION_SCALE ? ctl_scale(ctl) : ctl_restart(ctl);
    (void)fflush(stdout);
    _exit(exit_code);
}

enum cmq_err ctl_agent_job_begin(struct ctl_agent_job *job, struct ctl *ctl,
                                 const struct cmq_operation *operation)
{
    int output[2];
    if (pipe2(output, O_CLOEXEC) != 0)
        return CMQ_ERR_SYSTEM;
    pid_t child = fcntl(output[0], F_SETFL, O_NONBLOCK) == 0 ? fork() : -1;
    if (child == 0)
        child_run(ctl, operation, output[1]);
    (void)close(output[1]);
    if (child < 0) {
        (void)close(output[0]);
        return CMQ_ERR_SYSTEM;
    }
    (void)setpgid(child, child); /* it does so itself, too: whoever is first */
    *job = (struct ctl_agent_job){.operation = *operation,
                                  .number = job->number + 1,
                                  .time_ms = cmq_clock_wall_ms(),
                                  .deadline_ns = cmq_clock_mono_ns() + ctl->conf.agent_job_ms * CMQ_NS_PER_MS,
                                  .child = child,
                                  .fd = output[0],
                                  .state = "running"};
    return CMQ_OK;
}

/* The child has ended, or was killed. */
static void reap(struct ctl_agent_job *job)
{
    int status = 0;
    while (waitpid(job->child, &status, 0) < 0 && errno == EINTR)
        ;
    (void)close(job->fd);
    job->child = 0;
    job->fd = -1;
    job->time_ms = cmq_clock_wall_ms();
    job->state = WIFEXITED(status) && WEXITSTATUS(status) == CMQ_EXIT_OK ? "done" : "failed";
}

static void take_byte(struct ctl_agent_job *job, char byte)
{
    if (job->next_bytes == sizeof job->next - 1)
        return; /* the line is cut */
    if (byte < 0x20 || byte >= 0x7f)
        byte = ' ';
    job->next[job->next_bytes++] = byte == '"' || byte == '\\' ? '\'' : byte;
}

void ctl_agent_job_read(struct ctl_agent_job *job, void (*tell)(void *context), void *context)
{
    char piece[512];
    ssize_t got = read(job->fd, piece, sizeof piece);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    for (ssize_t i = 0; i < got; i++) {
        if (piece[i] != '\n') {
            take_byte(job, piece[i]);
            continue;
        }
        job->next[job->next_bytes] = '\0';
        memcpy(job->text, job->next, sizeof job->text);
        job->next_bytes = 0;
        tell(context);
    }
    if (got > 0)
        return;
    reap(job);
    tell(context);
}

void ctl_agent_job_kill(struct ctl_agent_job *job, const char *why)
{
    (void)kill(-job->child, SIGKILL);
    reap(job);
    (void)snprintf(job->text, sizeof job->text, "%s", why);
}

size_t ctl_agent_job_write(const struct ctl_agent_job *job, char line[CTL_AGENT_LINE_BYTES])
{
    const struct cmq_operation *operation = &job->operation;
    char what[64];
    if (job->number == 0) {
        int idle = snprintf(line, CTL_AGENT_LINE_BYTES, "{\"state\":\"idle\",\"text\":\"\"}\n");
        return (size_t)idle;
    }
    if (operation->verb == CMQ_OPERATION_SCALE)
        (void)snprintf(what, sizeof what, "\"count\":%u", operation->number);
    else if (operation->one)
        (void)snprintf(what, sizeof what, "\"instance\":%u", operation->number);
    else
        (void)snprintf(what, sizeof what, "\"instance\":null");
    int bytes =
        snprintf(line, CTL_AGENT_LINE_BYTES,
                 "{\"job\":%llu,\"do\":\"%s\",\"stage\":\"%s\",%s,\"by\":\"%s\",\"state\":\"%s\","
                 "\"time_ms\":%llu,\"text\":\"%s\"}\n",
                 (unsigned long long)job->number, cmq_operation_verb_name(operation->verb), operation->stage,
                 what, operation->by, job->state, (unsigned long long)job->time_ms, job->text);
    cmq_assert(bytes > 0 && (size_t)bytes < CTL_AGENT_LINE_BYTES);
    return (size_t)bytes;
}
