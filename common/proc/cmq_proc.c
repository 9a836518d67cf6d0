/*
 * The life of a process after its start. The main thread waits in one place (wait_events) for signals, for
 * cmq_proc_fail, and for the next tick; everything else is called from there, in order.
 *
 * Failure modes: a fatal condition in another thread reaches us through an eventfd and ends the stage without
 * a drain; a start that fails for good still calls stop; a drain that takes too long is the stage's own
 * deadline, or a second signal.
 */
#include "common/proc/cmq_proc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/proc/cmq_notify.h"
#include "common/proc/cmq_proc_errors.h"
#include "common/proc/cmq_proc_int.h"

#define START_RETRY_MS 100u

struct events {
    bool end;    /* SIGTERM or SIGINT */
    bool reload; /* SIGHUP */
    bool failed; /* cmq_proc_fail */
};

/* Reads what has come; does not block. */
static struct events take_events(struct cmq_proc *proc)
{
    struct events events = {0};
    struct signalfd_siginfo info;
    while (read(proc->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == (uint32_t)SIGHUP)
            events.reload = true;
        else
            events.end = true;
    }
    /* Acquire: pairs with the release in cmq_proc_fail; what the failing thread wrote before it is visible to
     * stop. */
    events.failed = atomic_load_explicit(&proc->fail_code, memory_order_acquire) != 0;
    return events;
}

/* Waits for events, at most until deadline_ns. */
static struct events wait_events(struct cmq_proc *proc, uint64_t deadline_ns)
{
    struct pollfd fds[] = {{.fd = proc->signal_fd, .events = POLLIN},
                           {.fd = proc->fail_fd, .events = POLLIN}};
    uint64_t now_ns = cmq_clock_mono_ns();
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    int timeout_ms = (int)cmq_min_u64((left_ns + CMQ_NS_PER_MS - 1) / CMQ_NS_PER_MS, 3600000u);
    (void)poll(fds, CMQ_COUNT_OF(fds), timeout_ms); /* EINTR and time-outs look the same: nothing has come */
    return take_events(proc);
}

void cmq_proc_fail(struct cmq_proc *proc, int exit_code)
{
    int nobody = 0;
    cmq_assert(exit_code != 0);
    /* Release: pairs with the acquire in take_events. */
    if (atomic_compare_exchange_strong_explicit(&proc->fail_code, &nobody, exit_code, memory_order_release,
                                                memory_order_relaxed))
        (void)eventfd_write(proc->fail_fd, 1);
}

bool cmq_proc_draining_cut(struct cmq_proc *proc)
{
    struct events events = take_events(proc);
    if (events.end || events.failed)
        proc->drain_cut = true;
    return proc->drain_cut;
}

/* stage NULL: it has not started yet. */
static void reload(struct cmq_proc *proc, const struct cmq_stage *stage)
{
    struct cmq_conf conf;
    struct cmq_reason reason = {{0}};
    struct cmq_log_quoted_sentence quoted;
    (void)cmq_notify_reloading();
    enum cmq_err err = cmq_proc_load(&proc->source, &conf, &reason);
    if (err != CMQ_OK || !cmq_conf_reloadable(&proc->conf, &conf, &reason)) {
        cmq_log(CMQ_LOG_WARN, CMQ_EV_REFUSED, "what=reload reason=%s",
                cmq_log_sentence(&quoted, reason.text));
    } else {
        proc->conf = conf;
        cmq_log_set_level((enum cmq_log_level)conf.common_log_level);
        if (stage != NULL && stage->reload != NULL)
            stage->reload(stage->self);
        cmq_log(CMQ_LOG_INFO, CMQ_EV_RELOADED, "drain_ms=%llu", (unsigned long long)conf.common_drain_ms);
    }
    if (stage != NULL)
        (void)cmq_notify("READY=1");
}

/* CMQ_OK: running. CMQ_ERR_DRAINING: told to end before that. Anything else: refused, with the reason. */
static enum cmq_err start(struct cmq_proc *proc, const struct cmq_stage *stage, struct cmq_reason *reason)
{
    struct cmq_reason last = {{0}};
    struct cmq_log_quoted_sentence quoted;
    for (;;) {
        reason->text[0] = '\0';
        enum cmq_err err = stage->start(stage->self, proc, reason);
        if (err != CMQ_ERR_AGAIN)
            return err == CMQ_ERR_DRAINING
                       ? cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the broker is draining; try again later")
                       : err;
        if (reason->text[0] == '\0')
            (void)cmq_reason_set(reason, err, "%s", cmq_err_text(err));
        if (strcmp(last.text, reason->text) != 0) {
            last = *reason;
            cmq_log(CMQ_LOG_INFO, CMQ_EV_WAITING, "reason=%s", cmq_log_sentence(&quoted, reason->text));
        }
        struct events events = wait_events(proc, cmq_clock_mono_ns() + START_RETRY_MS * CMQ_NS_PER_MS);
        if (events.end || events.failed)
            return CMQ_ERR_DRAINING;
        if (events.reload)
            reload(proc, NULL);
        cmq_log_tick();
    }
}

/* Until a signal or cmq_proc_fail ends it. Returns whether the stage is to be drained. */
static bool serve(struct cmq_proc *proc, const struct cmq_stage *stage)
{
    const uint64_t tick_ns = stage->tick_ms * CMQ_NS_PER_MS;
    uint64_t next_ns = cmq_clock_mono_ns() + tick_ns;
    for (;;) {
        struct events events = wait_events(proc, next_ns);
        if (events.failed)
            return false;
        if (events.end)
            return true;
        if (events.reload)
            reload(proc, stage);
        uint64_t now_ns = cmq_clock_mono_ns();
        if (now_ns >= next_ns) {
            stage->tick(stage->self);
            (void)cmq_notify_alive();
            cmq_log_tick();
            next_ns = now_ns + tick_ns; /* ticks that were missed are not made up for */
        }
    }
}

static void drain(struct cmq_proc *proc, const struct cmq_stage *stage)
{
    uint64_t begin_ns = cmq_clock_mono_ns();
    cmq_log(CMQ_LOG_INFO, CMQ_EV_DRAINING, "drain_ms=%llu", (unsigned long long)proc->conf.common_drain_ms);
    (void)cmq_notify("STOPPING=1");
    stage->drain(stage->self, begin_ns + proc->conf.common_drain_ms * CMQ_NS_PER_MS);
    cmq_log(CMQ_LOG_INFO, CMQ_EV_DRAINED, "ms=%llu cut=%d",
            (unsigned long long)((cmq_clock_mono_ns() - begin_ns) / CMQ_NS_PER_MS),
            cmq_proc_draining_cut(proc));
}

int cmq_proc_run(struct cmq_proc *proc, const struct cmq_stage *stage)
{
    struct cmq_reason reason = {{0}};
    cmq_assert(stage->tick_ms > 0);
    enum cmq_err err = start(proc, stage, &reason);
    /* Made when the ring was joined, if they are new. */
    cmq_proc_errors_attach(proc->conf.common_instance, proc->stage, proc->instance);
    if (err == CMQ_OK) {
        cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "tick_ms=%u", stage->tick_ms);
        (void)cmq_notify("READY=1");
        if (serve(proc, stage))
            drain(proc, stage);
        else
            (void)cmq_notify("STOPPING=1");
    }
    int exit_code = err == CMQ_ERR_DRAINING ? CMQ_EXIT_OK : cmq_proc_exit_of(err);
    if (exit_code != CMQ_EXIT_OK) {
        if (reason.text[0] == '\0')
            (void)cmq_reason_set(&reason, err, "%s", cmq_err_text(err));
        cmq_proc_log_refused(&reason, exit_code);
    }
    stage->stop(stage->self);
    int fail_code =
        atomic_load_explicit(&proc->fail_code, memory_order_acquire); /* pairs with cmq_proc_fail */
    if (fail_code != 0 && exit_code == CMQ_EXIT_OK)
        exit_code = fail_code;
    cmq_log_tick();
    cmq_log(exit_code == CMQ_EXIT_OK ? CMQ_LOG_INFO : CMQ_LOG_ERROR, CMQ_EV_STOPPED, "exit=%d", exit_code);
    cmq_proc_close(proc);
    return exit_code;
}
