#include "ctl_super.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Runs `supervisorctl -c CONF WORD NAME...` or `systemctl WORD NAME...`; word is the program's own. */
static enum cmq_err super_call(const struct ctl_super *super, const char *word,
                               const struct ctl_super_name *names, unsigned count, int *ret_status,
                               struct ctl_exec_output *ret_output, struct cmq_reason *reason)
{
    const char *argv[4 + CTL_INSTANCES_MAX + 1] = {"systemctl", word};
    unsigned at = 2;
    if (super->kind == CTL_SUPER_SUPERVISORD) {
        const char *const lead[] = {"supervisorctl", "-c", super->conf, word};
        for (at = 0; at < CMQ_COUNT_OF(lead); at++)
            argv[at] = lead[at];
    }
    for (unsigned i = 0; i < count; i++)
        argv[at++] = names[i].text;
    enum cmq_err err = ctl_exec(argv, ret_status, ret_output);
    return err == CMQ_OK ? CMQ_OK : cmq_reason_set(reason, err, "%s: no process could be made", argv[0]);
}

static const char *super_program(const struct ctl_super *super)
{
    return super->kind == CTL_SUPER_SYSTEMD ? "systemctl" : "supervisorctl";
}

/* The next word of a text of words and blanks; "" at the end. */
static const char *word_next(const char **text, size_t *ret_bytes)
{
    const char *word = *text + strspn(*text, " ");
    *ret_bytes = strcspn(word, " ");
    *text = word + *ret_bytes;
    return word;
}

static bool word_is(const char *word, size_t bytes, const char *wanted)
{
    return strlen(wanted) == bytes && memcmp(word, wanted, bytes) == 0;
}

/* "NAME STATE ..." for each, in any order. */
static bool supervisord_runs(const char *text, const char *name, bool *ret_runs)
{
    size_t bytes;
    for (const char *word = word_next(&text, &bytes); bytes > 0; word = word_next(&text, &bytes)) {
        if (!word_is(word, bytes, name))
            continue;
        word = word_next(&text, &bytes);
        *ret_runs = word_is(word, bytes, "RUNNING") || word_is(word, bytes, "STARTING");
        return bytes > 0;
    }
    return false;
}

/* A state for each, in the order asked for. */
static bool systemd_runs(const char **text, bool *ret_runs)
{
    size_t bytes;
    const char *word = word_next(text, &bytes);
    *ret_runs = word_is(word, bytes, "active") || word_is(word, bytes, "activating") ||
                word_is(word, bytes, "reloading");
    return bytes > 0;
}

enum cmq_err ctl_super_look(const struct ctl_super *super, const char *stage,
                            bool ret_runs[CTL_INSTANCES_MAX], struct cmq_reason *reason)
{
    const bool systemd = super->kind == CTL_SUPER_SYSTEMD;
    struct ctl_super_name names[CTL_INSTANCES_MAX];
    struct ctl_exec_output output = {{0}};
    bool runs[CTL_INSTANCES_MAX] = {false};
    int status = 0;
    for (unsigned i = 0; i < CTL_INSTANCES_MAX; i++)
        (void)ctl_super_name(&names[i], super->kind, stage, i);
    const char *word = systemd ? "is-active" : "status";
    enum cmq_err err = super_call(super, word, names, CTL_INSTANCES_MAX, &status, &output, reason);
    if (err != CMQ_OK)
        return err;
    const char *rest = output.text;
    bool known = status == STATUS_RUNS || status == STATUS_DOES_NOT_RUN;
    for (unsigned i = 0; known && i < CTL_INSTANCES_MAX; i++)
        known =
            systemd ? systemd_runs(&rest, &runs[i]) : supervisord_runs(output.text, names[i].text, &runs[i]);
    if (!known)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM,
                              "%s %s %s ... ended with %d: %.200s; is the supervisor running?",
                              super_program(super), word, names[0].text, status, output.text);
    memcpy(ret_runs, runs, sizeof runs);
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
    enum cmq_err err = super_call(super, words[verb], &name, 1, &status, &output, reason);
    if (err == CMQ_OK && status != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s %s %s ended with %d: %.300s", super_program(super),
                             words[verb], name.text, status, output.text);
    return err;
}

/* systemd is taken unasked only if it runs our units: a machine may have it and use supervisord for the
 * broker. */
static bool systemd_has_units(void)
{
    static const char *const stages[] = {"ingest", "encryptor", "dispatcher"};
    const struct ctl_super systemd = {.kind = CTL_SUPER_SYSTEMD};
    bool runs[CTL_INSTANCES_MAX] = {false};
    for (size_t i = 0; i < CMQ_COUNT_OF(stages) && !runs[0]; i++) {
        if (ctl_super_look(&systemd, stages[i], runs, NULL) != CMQ_OK)
            runs[0] = false;
    }
    return runs[0];
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
