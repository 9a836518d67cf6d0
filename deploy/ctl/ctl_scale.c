/*
 * scale and restart. The supervisor starts and stops; that an instance is there is taken from the ring's
 * member list, where a stage appears only once it holds its arena and serves.
 */
#include "ctl_scale.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"

#define LOOK_AGAIN_MS 20

/* ---- pure part ---- */

bool ctl_target_parse(const char *text, struct ctl_target *ret_target)
{
    static const enum cmq_role roles[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};
    size_t bytes = strcspn(text, ":");
    for (size_t i = 0; i < CMQ_COUNT_OF(roles); i++) {
        const char *stage = cmq_role_name(roles[i]);
        if (strlen(stage) != bytes || memcmp(stage, text, bytes) != 0)
            continue;
        struct ctl_target target = {.stage = stage, .role = roles[i], .one = text[bytes] == ':'};
        if (target.one) {
            const char *number = text + bytes + 1;
            if (number[0] < '0' || number[0] > (char)('0' + CTL_INSTANCES_MAX - 1) || number[1] != '\0')
                return false;
            target.instance = (unsigned)(number[0] - '0');
        }
        *ret_target = target;
        return true;
    }
    return false;
}

bool ctl_count_parse(const char *text, unsigned *ret_count)
{
    if (text[0] < '1' || text[0] > (char)('0' + CTL_INSTANCES_MAX) || text[1] != '\0')
        return false;
    *ret_count = (unsigned)(text[0] - '0');
    return true;
}

unsigned ctl_scale_plan(const bool runs[CTL_INSTANCES_MAX], unsigned count,
                        struct ctl_step ret_steps[CTL_INSTANCES_MAX])
{
    unsigned steps = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!runs[i])
            ret_steps[steps++] = (struct ctl_step){.verb = CTL_SUPER_START, .instance = i};
    }
    for (unsigned i = CTL_INSTANCES_MAX; i-- > count;) {
        if (runs[i])
            ret_steps[steps++] = (struct ctl_step){.verb = CTL_SUPER_STOP, .instance = i};
    }
    return steps;
}

/* ---- doing it ---- */

struct job {
    const struct ctl *ctl;
    struct ctl_super super;
    struct ctl_target target;
    struct cmq_ring *ring;
};

/* Waits until the member list shows the instance live (or gone). `before` NULL: any incarnation will do; else
 * another one than that. CMQ_ERR_TIMEOUT after --timeout. */
static enum cmq_err wait_member(const struct job *job, unsigned instance, bool wanted,
                                const struct cmq_member_state *before, struct cmq_member_state *ret_member)
{
    uint64_t deadline_ns = cmq_clock_mono_ns() + job->ctl->timeout_ms * CMQ_NS_PER_MS;
    for (;;) {
        bool found = ctl_ring_find(job->ring, job->target.role, instance, ret_member);
        if (found && before != NULL && ret_member->id == before->id && ret_member->pid == before->pid &&
            ret_member->start_wall_ms == before->start_wall_ms)
            found = false;
        if (found == wanted)
            return CMQ_OK;
        if (cmq_clock_mono_ns() >= deadline_ns)
            return CMQ_ERR_TIMEOUT;
        (void)poll(NULL, 0, LOOK_AGAIN_MS); /* the ring has no bell for members; bounded by the deadline */
    }
}

static int step_run(const struct job *job, enum ctl_super_verb verb, unsigned instance)
{
    static const char *const done[] = {
        [CTL_SUPER_START] = "started", [CTL_SUPER_STOP] = "stopped", [CTL_SUPER_RESTART] = "restarted"};
    struct cmq_reason reason = {{0}};
    struct cmq_member_state before = {0}, member = {0};
    const char *stage = job->target.stage;
    bool had = ctl_ring_find(job->ring, job->target.role, instance, &before);
    enum cmq_err err = ctl_super_act(&job->super, verb, stage, instance, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    bool wanted = verb != CTL_SUPER_STOP;
    err = wait_member(job, instance, wanted, verb == CTL_SUPER_RESTART && had ? &before : NULL, &member);
    if (err != CMQ_OK)
        return ctl_fail(CMQ_EXIT_TEMPORARY,
                        "%s:%u was not %s within %llu ms; its log says why (ev=waiting, ev=refused)", stage,
                        instance, wanted ? "there" : "gone", (unsigned long long)job->ctl->timeout_ms);
    if (job->ctl->json)
        return CMQ_EXIT_OK;
    if (wanted)
        (void)printf("%s:%u %s, pid %d\n", stage, instance, done[verb], member.pid);
    else
        (void)printf("%s:%u %s\n", stage, instance, done[verb]);
    (void)fflush(stdout);
    return CMQ_EXIT_OK;
}

static int scale(const struct job *job, unsigned count)
{
    bool runs[CTL_INSTANCES_MAX] = {false};
    struct ctl_step steps[CTL_INSTANCES_MAX];
    struct cmq_reason reason = {{0}};
    enum cmq_err err = ctl_super_look(&job->super, job->target.stage, runs, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    unsigned step_count = ctl_scale_plan(runs, count, steps);
    for (unsigned i = 0; i < step_count; i++) {
        int exit_code = step_run(job, steps[i].verb, steps[i].instance);
        if (exit_code != CMQ_EXIT_OK)
            return exit_code;
    }
    /* Those that ran already are looked at too: "running" for the supervisor is not yet "there". */
    for (unsigned i = 0; i < count; i++) {
        struct cmq_member_state member;
        if (wait_member(job, i, true, NULL, &member) != CMQ_OK)
            return ctl_fail(CMQ_EXIT_TEMPORARY, "%s:%u runs but has not joined the ring; its log says why",
                            job->target.stage, i);
    }
    (void)printf("%s: %u running\n", job->target.stage, count);
    return CMQ_EXIT_OK;
}

static int restart(const struct job *job)
{
    bool runs[CTL_INSTANCES_MAX] = {false};
    struct cmq_reason reason = {{0}};
    unsigned count = 0;
    if (job->target.one)
        return step_run(job, CTL_SUPER_RESTART, job->target.instance);
    enum cmq_err err = ctl_super_look(&job->super, job->target.stage, runs, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    for (unsigned i = 0; i < CTL_INSTANCES_MAX; i++) {
        if (!runs[i])
            continue;
        int exit_code = step_run(job, CTL_SUPER_RESTART, i);
        if (exit_code != CMQ_EXIT_OK)
            return exit_code;
        count++;
    }
    if (count == 0)
        return ctl_fail(CMQ_EXIT_TEMPORARY, "no %s runs; start one: ciphermqctl scale %s 1",
                        job->target.stage, job->target.stage);
    return CMQ_EXIT_OK;
}

/* ---- commands ---- */

static int job_open(struct job *job)
{
    struct cmq_reason reason = {{0}};
    enum cmq_err err = ctl_ring_observe(&job->ctl->conf, &job->ring, &reason);
    if (err == CMQ_OK)
        err = ctl_super_open(job->ctl, &job->super, &reason);
    if (err == CMQ_OK)
        return CMQ_EXIT_OK;
    cmq_ring_detach(job->ring);
    return ctl_fail_err(err, &reason);
}

int ctl_scale_stop(struct ctl *ctl, const struct ctl_target *target)
{
    bool runs[CTL_INSTANCES_MAX] = {false};
    struct cmq_reason reason = {{0}};
    struct job job = {.ctl = ctl, .target = *target};
    int exit_code = job_open(&job);
    if (exit_code != CMQ_EXIT_OK)
        return exit_code;
    enum cmq_err err = ctl_super_look(&job.super, target->stage, runs, &reason);
    if (err != CMQ_OK)
        exit_code = ctl_fail_err(err, &reason);
    for (unsigned i = CTL_INSTANCES_MAX; exit_code == CMQ_EXIT_OK && i-- > 0;) {
        if (runs[i] && (!target->one || target->instance == i))
            exit_code = step_run(&job, CTL_SUPER_STOP, i);
    }
    cmq_ring_detach(job.ring);
    return exit_code;
}

int ctl_restart(struct ctl *ctl)
{
    struct job job = {.ctl = ctl};
    if (!ctl_target_parse(ctl->words[0], &job.target))
        return ctl_fail(CMQ_EXIT_USAGE,
                        "restart %s: name a stage (ingest, encryptor, dispatcher), or one instance of it: "
                        "ingest:0 to ingest:%u",
                        ctl->words[0], CTL_INSTANCES_MAX - 1);
    int exit_code = job_open(&job);
    if (exit_code != CMQ_EXIT_OK)
        return exit_code;
    exit_code = restart(&job);
    cmq_ring_detach(job.ring);
    return exit_code;
}

int ctl_scale(struct ctl *ctl)
{
    struct job job = {.ctl = ctl};
    unsigned count = 0;
    if (!ctl_target_parse(ctl->words[0], &job.target) || job.target.one)
        return ctl_fail(CMQ_EXIT_USAGE, "scale %s: name a stage: ingest, encryptor, or dispatcher",
                        ctl->words[0]);
    if (!ctl_count_parse(ctl->words[1], &count))
        return ctl_fail(CMQ_EXIT_USAGE, "scale %s %s: a number of instances from 1 to %u is allowed",
                        ctl->words[0], ctl->words[1], CTL_INSTANCES_MAX);
    int exit_code = job_open(&job);
    if (exit_code != CMQ_EXIT_OK)
        return exit_code;
    exit_code = scale(&job, count);
    cmq_ring_detach(job.ring);
    return exit_code;
}
