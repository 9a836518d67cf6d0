/*
 * ctl_scale: what scale and restart are going to do, and stopping for drain.
 * Ownership: none.
 * Units: instances.
 * Errors: false: not of that form.
 * Callers: the only thread, tests.
 */
#ifndef CTL_SCALE_H
#define CTL_SCALE_H

#include "ctl_super.h"

struct ctl_target {
    const char *stage; /* literal */
    enum cmq_role role;
    bool one; /* an instance was named */
    unsigned instance;
};
/* "STAGE" or "STAGE:N" with N below CTL_INSTANCES_MAX. */
CMQ_MUST_USE bool ctl_target_parse(const char *text, struct ctl_target *ret_target);
/* 1..CTL_INSTANCES_MAX. */
CMQ_MUST_USE bool ctl_count_parse(const char *text, unsigned *ret_count);

struct ctl_step {
    enum ctl_super_verb verb;
    unsigned instance;
};
/* Starts, lowest first, what of 0..count-1 does not run; then stops, highest first, what runs beyond.
 * Returns the number of steps. */
unsigned ctl_scale_plan(const bool runs[CTL_INSTANCES_MAX], unsigned count,
                        struct ctl_step ret_steps[CTL_INSTANCES_MAX]);
/* Stops the instance, or all that run of the stage, highest first; each is waited for. Nothing is printed with --json. Returns an
 * exit code. */
int ctl_scale_stop(struct ctl *ctl, const struct ctl_target *target);

#endif
