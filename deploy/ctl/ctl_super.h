/*
 * ctl_super: the supervisor that runs the stages, supervisord or systemd, by its own command-line program.
 * Ownership: struct ctl_super borrows its texts.
 * Units: instances 0..CTL_INSTANCES_MAX - 1, as the supervisor's configuration declares them.
 * Errors: CMQ_ERR_NOT_FOUND: none is named; CMQ_ERR_SYSTEM: it is not there or refused, in its words.
 * Callers: the only thread. Calls block until the supervisor's program has ended.
 */
#ifndef CTL_SUPER_H
#define CTL_SUPER_H

#include "ctl.h"

#define CTL_INSTANCES_MAX 8u

enum ctl_super_kind { CTL_SUPER_SUPERVISORD, CTL_SUPER_SYSTEMD };
enum ctl_super_verb { CTL_SUPER_START, CTL_SUPER_STOP, CTL_SUPER_RESTART };

struct ctl_super {
    enum ctl_super_kind kind;
    const char *conf; /* supervisord: -c */
};

/* --systemd; else --supervisor-conf or $CIPHERMQ_SUPERVISOR_CONF; else systemd if it runs instance 0 of a
 * stage. */
CMQ_MUST_USE enum cmq_err ctl_super_open(const struct ctl *ctl, struct ctl_super *ret_super,
                                         struct cmq_reason *reason);
/* What the supervisor calls the instance: ingest:ingest-0, ingest-more:ingest-3, ciphermq-ingest@3.service.
 */
struct ctl_super_name {
    char text[96];
};
const char *ctl_super_name(struct ctl_super_name *ret_name, enum ctl_super_kind kind, const char *stage,
                           unsigned instance);
/* Which instances of a stage the supervisor means to run (they may be on their way up). One call of its program. */
CMQ_MUST_USE enum cmq_err ctl_super_look(const struct ctl_super *super, const char *stage,
                                         bool ret_runs[CTL_INSTANCES_MAX], struct cmq_reason *reason);
/* start of what runs and stop of what does not are fine. */
CMQ_MUST_USE enum cmq_err ctl_super_act(const struct ctl_super *super, enum ctl_super_verb verb,
                                        const char *stage, unsigned instance, struct cmq_reason *reason);

#endif
