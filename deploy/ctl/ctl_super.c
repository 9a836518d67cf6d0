#include "ctl_super.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/cmq_base.h"
#include "ctl_exec.h"

/* Exit statuses of the two programs (Linux Standard Base; systemctl(1)). */
#define STATUS_RUNS         0
#define STATUS_DOES_NOT_RUN 3

const char *ctl_super_name(struct ctl_super_name *ret_name, enum ctl_super_kind kind, const char *stage,
                           unsigned instance)
{
    switch (kind) {
    case CTL_SUPER_SUPERVISORD:
        (void)snprintf(ret_name->text, sizeof ret_name->text, "%s%s:%s-%u", stage,
                       instance == 0 ? "" : "-more", stage, instance);
        break;
    case CTL_SUPER_SYSTEMD:
        (void)snprintf(ret_name->text, sizeof ret_name->text, "ciphermq-%s@%u.service", stage, instance);
        break;
    }
    return ret_name->text;
}

/* word: the program's own; runs `supervisorctl -c CONF WORD NAME` or `systemctl WORD NAME`. */
static enum cmq_err super_call(const struct ctl_super *super, const char *word, const char *name,
                               int *ret_status, struct ctl_exec_output *ret_output, struct cmq_reason *reason)
{
    const char *const supervisord[] = {"supervisorctl", "-c", super->conf, word, name, NULL};
    const char *const systemd[] = {"systemctl", word, name, NULL};
    const char *const *argv = super->kind == CTL_SUPER_SYSTEMD ? systemd : supervisord;
    enum cmq_err err = ctl_exec(argv, ret_status, ret_output);
    return err == CMQ_OK ? CMQ_OK : cmq_reason_set(reason, err, "%s: no process could be made", argv[0]);
}

static const char *super_program(const struct ctl_super *super)
{
    return super->kind == CTL_SUPER_SYSTEMD ? "systemctl" : "supervisorctl";
}

enum cmq_err ctl_super_runs(const struct ctl_super *super, const char *stage, unsigned instance,
                            bool *ret_runs, struct cmq_reason *reason)
{
    struct ctl_super_name name;
    struct ctl_exec_output output = {{0}};
    int status = 0;
    (void)ctl_super_name(&name, super->kind, stage, instance);
    const char *word = super->kind == CTL_SUPER_SYSTEMD ? "is-active" : "status";
    enum cmq_err err = super_call(super, word, name.text, &status, &output, reason);
    if (err != CMQ_OK)
        return err;
    if (status != STATUS_RUNS && status != STATUS_DOES_NOT_RUN)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM,
                              "%s %s %s ended with %d: %s; is the supervisor running?", super_program(super),
                              word, name.text, status, output.text);
    *ret_runs = status == STATUS_RUNS;
    return CMQ_OK;
}

enum cmq_err ctl_super_act(const struct ctl_super *super, enum ctl_super_verb verb, const char *stage,
                           unsigned instance, struct cmq_reason *reason)
{
    static const char *const words[] = {
        [CTL_SUPER_START] = "start", [CTL_SUPER_STOP] = "stop", [CTL_SUPER_RESTART] = "restart"};
    struct ctl_super_name name;
    struct ctl_exec_output output = {{0}};
    int status = 0;
    (void)ctl_super_name(&name, super->kind, stage, instance);
    enum cmq_err err = super_call(super, words[verb], name.text, &status, &output, reason);
    if (err == CMQ_OK && status != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s %s %s ended with %d: %s", super_program(super),
                             words[verb], name.text, status, output.text);
    return err;
}

/* systemd is taken unasked only if it runs our units: a machine may have it and use supervisord for the
 * broker. */
static bool systemd_has_units(void)
{
    static const char *const stages[] = {"ingest", "encryptor", "dispatcher"};
    const struct ctl_super systemd = {.kind = CTL_SUPER_SYSTEMD};
    bool runs = false;
    for (size_t i = 0; i < CMQ_COUNT_OF(stages) && !runs; i++) {
        if (ctl_super_runs(&systemd, stages[i], 0, &runs, NULL) != CMQ_OK)
            runs = false;
    }
    return runs;
}

enum cmq_err ctl_super_open(const struct ctl *ctl, struct ctl_super *ret_super, struct cmq_reason *reason)
{
    const char *conf =
        ctl->supervisor_conf != NULL ? ctl->supervisor_conf : getenv("CIPHERMQ_SUPERVISOR_CONF");
    if (ctl->systemd) {
        *ret_super = (struct ctl_super){.kind = CTL_SUPER_SYSTEMD};
    } else if (conf != NULL && conf[0] != '\0') {
        *ret_super = (struct ctl_super){.kind = CTL_SUPER_SUPERVISORD, .conf = conf};
    } else if (systemd_has_units()) {
        *ret_super = (struct ctl_super){.kind = CTL_SUPER_SYSTEMD};
    } else {
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND,
                              "no supervisor is known: name its configuration by --supervisor-conf FILE or "
                              "$CIPHERMQ_SUPERVISOR_CONF, or give --systemd");
    }
    return CMQ_OK;
}
