/*
 * ctl_agent: the parts of the operator's agent, which restarts and scales stages for the dashboard.
 * Ownership: a job owns its child process and pipe; peers own their sockets. The rest is borrowed.
 * Units: milliseconds, nanoseconds of CLOCK_MONOTONIC.
 * Errors: as ctl.h.
 * Callers: the only thread. Only ctl_agent_open may block.
 *
 * Who asks is known by the kernel's word (SO_PEERCRED), and is not trusted further than that: every request is read again here,
 * and what may be asked for is to restart a stage, or to run 1 to 8 of it.
 */
#ifndef CTL_AGENT_H
#define CTL_AGENT_H

#include <sys/types.h>

#include "common/wire/cmq_operation.h"
#include "ctl.h"

#define CTL_AGENT_LINE_BYTES 768u /* of a line that is told, with its newline */
#define CTL_AGENT_TEXT_BYTES 320u /* of a line that the job says */

/* ---- ctl_agent_job.c: one operation, in a child ---- */

struct ctl_agent_job {
    struct cmq_operation operation;
    uint64_t number; /* 0: there was none yet */
    uint64_t time_ms, deadline_ns;
    pid_t child; /* 0: it has ended */
    int fd;      /* what it says */
    const char *state;
    char text[CTL_AGENT_TEXT_BYTES]; /* its last whole line: printable ASCII without quotes */
    char next[CTL_AGENT_TEXT_BYTES]; /* the one that is coming */
    size_t next_bytes;
};

CMQ_MUST_USE enum cmq_err ctl_agent_job_begin(struct ctl_agent_job *job, struct ctl *ctl,
                                              const struct cmq_operation *operation);
/* Called when fd can be read. `tell` gets each line that is whole; the last one after the child has ended. */
void ctl_agent_job_read(struct ctl_agent_job *job, void (*tell)(void *context), void *context);
/* Ends it with all that it started; the job is then over and says why. */
void ctl_agent_job_kill(struct ctl_agent_job *job, const char *why);
/* The job as one line of JSON. Returns its length. */
size_t ctl_agent_job_write(const struct ctl_agent_job *job, char line[CTL_AGENT_LINE_BYTES]);

/* ---- ctl_agent_socket.c ---- */

struct ctl_agent_peer {
    int fd; /* -1: free */
    bool follows;
    uint64_t deadline_ns;
    size_t bytes;
    char request[4096];
};

/* CMQ_ERR_EXISTS: an agent runs already. The socket's file is replaced if nobody listens on it. */
CMQ_MUST_USE enum cmq_err ctl_agent_open(const struct cmq_conf *conf, int *ret_fd, struct cmq_reason *reason);
/* Ends it and removes its file. -1 is fine. */
void ctl_agent_shut(const struct cmq_conf *conf, int fd);
/* The user whom the agent obeys. */
CMQ_MUST_USE enum cmq_err ctl_agent_user(const struct cmq_conf *conf, uid_t *ret_uid,
                                         struct cmq_reason *reason);
/* false: none waits. *ret_uid: of the process that connected. */
CMQ_MUST_USE bool ctl_agent_accept(int listener, int *ret_fd, uid_t *ret_uid);
/* A peer that does not take a line at once is closed: it has stopped reading. */
void ctl_agent_send(struct ctl_agent_peer *peer, const char *line, size_t bytes);
/* {"state":"refused",...}, and the end. sentence: printable ASCII without quotes. */
void ctl_agent_refuse(struct ctl_agent_peer *peer, const char *sentence);
void ctl_agent_close(struct ctl_agent_peer *peer);

#endif
