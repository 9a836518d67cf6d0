/*
 * ciphermqctl agent: one thread, one loop over the listening socket, its peers, the job's output and the signals.
 *   - a peer of the right user sends one line; a job begins, or the peer follows the one that runs, or hears of the last;
 *   - every line that the job says goes to all who follow; after its end they are closed;
 *   - a job that is too old is killed with what it started. A peer that goes away stops no job: the dispatcher that asked may
 *     be the one that is restarted, and its page asks again.
 */
#include "ctl_agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/cmq_buf.h"
#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/proc/cmq_notify.h"
#include "common/wire/cmq_json_pack.h"
#include "ctl_super.h"

enum { FIXED = 3, PACKED_BYTES_MAX = 16384, MINUTE_MS = 60000 };

struct agent {
    struct ctl *ctl;
    uid_t uid;
    int listener, signals;
    struct ctl_agent_job job;
    struct ctl_agent_peer *peers;
    struct pollfd *polls; /* FIXED, then the peers */
    size_t peers_max;
    uint64_t paid_ns; /* when the operations so far are paid for */
    struct cmq_json_packer *packer;
    struct cmq_buf packed;
    bool ended;
};

/* ---- the job ---- */

static void log_job(const struct ctl_agent_job *job)
{
    struct cmq_log_quoted_sentence quoted;
    const struct cmq_operation *operation = &job->operation;
    cmq_log(CMQ_LOG_INFO, CMQ_EV_OPERATION, "job=%llu by=%s do=%s stage=%s %s=%d state=%s text=%s",
            (unsigned long long)job->number, operation->by, cmq_operation_verb_name(operation->verb),
            operation->stage, operation->verb == CMQ_OPERATION_SCALE ? "count" : "instance",
            operation->verb == CMQ_OPERATION_SCALE || operation->one ? (int)operation->number : -1,
            job->state, cmq_log_sentence(&quoted, job->text));
}

/* To all who follow; if the job is over they hear no more. */
static void tell(void *context)
{
    struct agent *agent = context;
    char line[CTL_AGENT_LINE_BYTES];
    size_t bytes = ctl_agent_job_write(&agent->job, line);
    for (size_t i = 0; i < agent->peers_max; i++) {
        struct ctl_agent_peer *peer = &agent->peers[i];
        if (peer->fd < 0 || !peer->follows)
            continue;
        ctl_agent_send(peer, line, bytes);
        if (agent->job.child == 0)
            ctl_agent_close(peer);
    }
    if (agent->job.child == 0)
        log_job(&agent->job);
}

static bool is_due(struct agent *agent)
{
    const uint64_t rate = agent->ctl->conf.agent_jobs_rate_max;
    const uint64_t step_ns = MINUTE_MS * CMQ_NS_PER_MS / rate, now_ns = cmq_clock_mono_ns();
    if (agent->paid_ns > now_ns + (rate - 1) * step_ns)
        return false;
    agent->paid_ns = cmq_max_u64(agent->paid_ns, now_ns) + step_ns;
    return true;
}

/* ---- peers ---- */

static void obey(struct agent *agent, struct ctl_agent_peer *peer, const struct cmq_operation *operation)
{
    char line[CTL_AGENT_LINE_BYTES];
    if (operation->verb != CMQ_OPERATION_WATCH) {
        if (agent->job.child != 0) {
            ctl_agent_refuse(peer, "another operation is under way; ask again when it has ended");
            return;
        }
        if (!is_due(agent)) {
            ctl_agent_refuse(peer, "too many operations (agent.jobs_rate_max); wait a minute");
            return;
        }
        if (ctl_agent_job_begin(&agent->job, agent->ctl, operation) != CMQ_OK) {
            ctl_agent_refuse(peer, "no process could be made");
            return;
        }
        log_job(&agent->job);
    }
    peer->follows = true;
    ctl_agent_send(peer, line, ctl_agent_job_write(&agent->job, line));
    if (agent->job.child == 0)
        ctl_agent_close(peer);
}

static void take_request(struct agent *agent, struct ctl_agent_peer *peer, size_t bytes)
{
    static const char wrong[] =
        "one line of JSON is understood: do restart, scale or watch, with stage ingest, "
        "encryptor or dispatcher, and instance null or 0 to 7, or count 1 to 8";
    struct cmq_operation operation;
    cmq_buf_clear(&agent->packed, PACKED_BYTES_MAX);
    if (cmq_json_pack(agent->packer, cmq_span_make(peer->request, bytes), &agent->packed, NULL) != CMQ_OK ||
        cmq_operation_read(cmq_buf_span(&agent->packed), &operation, NULL) != CMQ_OK)
        ctl_agent_refuse(peer, wrong);
    else
        obey(agent, peer, &operation);
}

static void read_peer(struct agent *agent, struct ctl_agent_peer *peer)
{
    const size_t room = agent->ctl->conf.agent_request_bytes_max - peer->bytes;
    ssize_t got = recv(peer->fd, peer->request + peer->bytes, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || peer->follows) { /* gone, or it says more than one line */
        ctl_agent_close(peer);
        return;
    }
    peer->bytes += (size_t)got;
    const char *end = memchr(peer->request, '\n', peer->bytes);
    if (end != NULL)
        take_request(agent, peer, (size_t)(end - peer->request));
    else if (peer->bytes == agent->ctl->conf.agent_request_bytes_max)
        ctl_agent_refuse(peer, "the request is longer than agent.request_bytes_max");
}

static void take_peer(struct agent *agent)
{
    int fd;
    uid_t uid;
    if (!ctl_agent_accept(agent->listener, &fd, &uid))
        return;
    struct ctl_agent_peer rest = {.fd = fd}, *peer = &rest;
    for (size_t i = 0; i < agent->peers_max && peer == &rest; i++) {
        if (agent->peers[i].fd < 0)
            peer = &agent->peers[i];
    }
    peer->fd = fd;
    peer->follows = false;
    peer->bytes = 0;
    peer->deadline_ns = cmq_clock_mono_ns() + agent->ctl->conf.agent_request_ms * CMQ_NS_PER_MS;
    if (uid != agent->uid) {
        cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "reason=user uid=%u", (unsigned)uid);
        ctl_agent_refuse(peer, "this agent obeys another user; set agent.user to the one of the dispatchers");
    } else if (peer == &rest) {
        ctl_agent_refuse(peer, "too many connections (agent.connections_max)");
    }
}

/* ---- loop ---- */

/* Milliseconds to the next deadline, -1: none. */
static int wait_ms(const struct agent *agent)
{
    uint64_t next_ns = agent->job.child != 0 ? agent->job.deadline_ns : UINT64_MAX;
    for (size_t i = 0; i < agent->peers_max; i++) {
        if (agent->peers[i].fd >= 0 && !agent->peers[i].follows)
            next_ns = cmq_min_u64(next_ns, agent->peers[i].deadline_ns);
    }
    if (next_ns == UINT64_MAX)
        return -1;
    const uint64_t now_ns = cmq_clock_mono_ns();
    return next_ns <= now_ns ? 0 : (int)((next_ns - now_ns) / CMQ_NS_PER_MS + 1);
}

static void look_at_deadlines(struct agent *agent)
{
    const uint64_t now_ns = cmq_clock_mono_ns();
    for (size_t i = 0; i < agent->peers_max; i++) {
        struct ctl_agent_peer *peer = &agent->peers[i];
        if (peer->fd >= 0 && !peer->follows && peer->deadline_ns <= now_ns)
            ctl_agent_refuse(peer, "the request did not come in time (agent.request_ms)");
    }
    if (agent->job.child != 0 && agent->job.deadline_ns <= now_ns) {
        ctl_agent_job_kill(&agent->job,
                           "it took longer than agent.job_ms and was ended; see the status of the "
                           "stage, and its log");
        tell(agent);
    }
}

static void turn(struct agent *agent)
{
    struct pollfd *polls = agent->polls;
    polls[0] = (struct pollfd){.fd = agent->signals, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = agent->listener, .events = POLLIN};
    polls[2] = (struct pollfd){.fd = agent->job.child != 0 ? agent->job.fd : -1, .events = POLLIN};
    for (size_t i = 0; i < agent->peers_max; i++)
        polls[FIXED + i] = (struct pollfd){.fd = agent->peers[i].fd, .events = POLLIN};
    if (poll(polls, FIXED + agent->peers_max, wait_ms(agent)) < 0)
        return; /* a signal; the next turn */
    agent->ended = polls[0].revents != 0;
    if (polls[2].revents != 0)
        ctl_agent_job_read(&agent->job, tell, agent);
    for (size_t i = 0; i < agent->peers_max; i++) {
        if (polls[FIXED + i].revents != 0 && agent->peers[i].fd >= 0)
            read_peer(agent, &agent->peers[i]);
    }
    if (polls[1].revents != 0)
        take_peer(agent);
    look_at_deadlines(agent);
    cmq_log_tick();
}

/* ---- life ---- */

static enum cmq_err agent_open(struct agent *agent, struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &agent->ctl->conf;
    struct ctl_super super;
    sigset_t mask;
    enum cmq_err err = ctl_agent_user(conf, &agent->uid, reason);
    if (err == CMQ_OK)
        err = ctl_super_open(agent->ctl, &super, reason); /* each job does so itself; here for its sentence */
    if (err == CMQ_OK)
        err = cmq_json_packer_new(sizeof agent->peers[0].request, &agent->packer);
    agent->peers_max = conf->agent_connections_max;
    agent->peers = calloc(agent->peers_max, sizeof *agent->peers);
    agent->polls = calloc(FIXED + agent->peers_max, sizeof *agent->polls);
    if (err == CMQ_OK && (agent->peers == NULL || agent->polls == NULL))
        err = CMQ_ERR_NOMEM;
    if (err != CMQ_OK)
        return err;
    for (size_t i = 0; i < agent->peers_max; i++)
        agent->peers[i].fd = -1;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    if (sigprocmask(SIG_BLOCK, &mask, NULL) != 0 ||
        (agent->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "no descriptor for signals: %s", strerror(errno));
    err = cmq_proc_run_dir(conf->common_run_dir, reason);
    return err == CMQ_OK ? ctl_agent_open(conf, &agent->listener, reason) : err;
}

static void agent_close(struct agent *agent)
{
    if (agent->job.child != 0) {
        ctl_agent_job_kill(&agent->job, "the agent was ended");
        tell(agent);
    }
    for (size_t i = 0; agent->peers != NULL && i < agent->peers_max; i++) {
        if (agent->peers[i].fd > 0)
            ctl_agent_close(&agent->peers[i]);
    }
    ctl_agent_shut(&agent->ctl->conf, agent->listener);
    if (agent->signals >= 0)
        (void)close(agent->signals);
    cmq_json_packer_free(agent->packer);
    cmq_buf_fini(&agent->packed);
    free(agent->peers);
    free(agent->polls);
}

int ctl_agent(struct ctl *ctl)
{
    struct agent agent = {.ctl = ctl, .listener = -1, .signals = -1, .job = {.fd = -1, .state = "idle"}};
    struct cmq_reason reason = {{0}};
    cmq_log_open("agent", 0, (enum cmq_log_level)ctl->conf.common_log_level);
    cmq_buf_init(&agent.packed, PACKED_BYTES_MAX);
    enum cmq_err err = agent_open(&agent, &reason);
    if (err == CMQ_OK) {
        cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "uid=%u", (unsigned)agent.uid);
        (void)cmq_notify("READY=1");
        while (!agent.ended)
            turn(&agent);
        (void)cmq_notify("STOPPING=1");
        cmq_log(CMQ_LOG_INFO, CMQ_EV_STOPPED, "jobs=%llu", (unsigned long long)agent.job.number);
    }
    agent_close(&agent);
    return err == CMQ_OK ? CMQ_EXIT_OK : ctl_fail_err(err, &reason);
}
