/*
 * The start of a process: arguments, settings, run directory, instance lock, confinement, signals. In this
 * order, so that a second process of the same number changes nothing that the first one uses.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/log/cmq_log.h"
#include "common/proc/cmq_proc.h"
#include "common/proc/cmq_proc_errors.h"
#include "common/proc/cmq_proc_int.h"

#define CLOSED_FD    (-1)
#define OPTION_CHECK 256 /* no short form */

struct arguments {
    struct cmq_proc *proc;
    bool check;
};

/* ---- arguments ---- */

static error_t instance_parse(struct argp_state *state, const char *text, unsigned *ret_instance)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value >= CMQ_PROC_INSTANCES_MAX) {
        argp_error(state, "--instance %s: a number from 0 to %u is allowed", text,
                   CMQ_PROC_INSTANCES_MAX - 1);
        return EINVAL;
    }
    *ret_instance = (unsigned)value;
    return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'c':
        arguments->proc->source.config_file = text;
        return 0;
    case 'i':
        return instance_parse(state, text, &arguments->proc->instance);
    case 's':
        if (!cmq_proc_source_add(&arguments->proc->source, text))
            argp_error(state, "--set may be given %u times", CMQ_PROC_OVERRIDES_MAX);
        return 0;
    case OPTION_CHECK:
        arguments->check = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument: %s", text);
        return EINVAL;
    default: /* argp's own keys */
        return ARGP_ERR_UNKNOWN;
    }
}

/* --help, --version and usage errors end the process here. */
static void parse_arguments(struct arguments *arguments, const char *stage, const char *about, int argc,
                            char **argv)
{
    static const struct argp_option options[] = {
        {"config", 'c', "FILE", 0, "settings file (default: " CMQ_PROC_CONFIG_FILE " if it exists)", 0},
        {"instance", 'i', "N", 0, "number of this instance among those of the stage, 0 to 63 (default 0)", 0},
        {"set", 's', "section.key=value", 0, "one setting; after the file, may be repeated", 0},
        {"check", OPTION_CHECK, NULL, 0, "check the settings, print \"ok\" or what is wrong, and exit", 0},
        {0}};
    static char version[64];
    static char doc[512];
    (void)snprintf(version, sizeof version, "ciphermq %s %s", stage, CMQ_VERSION);
    (void)snprintf(
        doc, sizeof doc,
        "%s\v`ciphermqctl config --reference` lists all settings. Exit status: 0 drained, 64 usage, 70 "
        "invariant broken, 75 try again, 78 settings or keys.",
        about);
    const struct argp argp = {options, parse_option, NULL, doc, NULL, NULL, NULL};
    argp_program_version = version;
    argp_err_exit_status = CMQ_EXIT_USAGE;
    error_t error = argp_parse(&argp, argc, argv, 0, NULL, arguments);
    if (error != 0) { /* not usage, that has exited: memory */
        (void)fprintf(stderr, "%s: %s\n", stage, strerror(error));
        exit(CMQ_EXIT_TEMPORARY);
    }
}

bool cmq_proc_source_add(struct cmq_proc_source *source, const char *text)
{
    if (source->override_count == CMQ_PROC_OVERRIDES_MAX)
        return false;
    source->overrides[source->override_count++].text = text;
    return true;
}

enum cmq_err cmq_proc_load(const struct cmq_proc_source *source, struct cmq_conf *ret_conf,
                           struct cmq_reason *reason)
{
    const char *path = source->config_file;
    if (path == NULL && access(CMQ_PROC_CONFIG_FILE, F_OK) == 0)
        path = CMQ_PROC_CONFIG_FILE;
    return cmq_conf_load(path, source->overrides, source->override_count, ret_conf, reason);
}

/* ---- run directory and lock ---- */

static enum cmq_err error_of_errno(int error)
{
    if (error == ENOENT || error == ENOTDIR)
        return CMQ_ERR_NOT_FOUND;
    return error == EACCES || error == EPERM || error == EROFS || error == ELOOP ? CMQ_ERR_PERMISSION
                                                                                 : CMQ_ERR_SYSTEM;
}

enum cmq_err cmq_proc_run_dir(const char *run_dir, struct cmq_reason *reason)
{
    struct stat status;
    if (mkdir(run_dir, 0750) == 0 ||
        (errno == EEXIST && stat(run_dir, &status) == 0 && S_ISDIR(status.st_mode)))
        return CMQ_OK;
    int error = errno == EEXIST ? ENOTDIR : errno;
    return cmq_reason_set(
        reason, error_of_errno(error),
        "common.run_dir %s cannot be made: %s; make it, owned by the user of the broker, or set "
        "common.run_dir",
        run_dir, strerror(error));
}

/* The lock is an open-file-description lock, so the kernel frees it on any death. The file stays: removing it
 * would let two processes hold locks on two files of one name. */
static enum cmq_err lock_instance(struct cmq_proc *proc, struct cmq_reason *reason)
{
    char path[sizeof proc->conf.common_run_dir + sizeof proc->conf.common_instance + 32];
    char holder[16] = "?";
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    (void)snprintf(path, sizeof path, "%s/%s.%s.%u.lock", proc->conf.common_run_dir,
                   proc->conf.common_instance, proc->stage, proc->instance);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
    if (fd < 0)
        return cmq_reason_set(reason, error_of_errno(errno),
                              "lock file %s: %s; common.run_dir must be writable", path, strerror(errno));
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        int error = errno;
        ssize_t got = pread(fd, holder, sizeof holder - 1, 0);
        if (got > 0)
            holder[strspn(holder, "0123456789")] = '\0';
        (void)close(fd);
        if (error != EAGAIN && error != EACCES)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "lock file %s: %s", path, strerror(error));
        return cmq_reason_set(
            reason, CMQ_ERR_EXISTS,
            "%s %u of %s runs already (pid %s, lock file %s); stop it, or give another --instance",
            proc->stage, proc->instance, proc->conf.common_instance, holder, path);
    }
    /* The pid is for people only; the lock alone decides. */
    if (ftruncate(fd, 0) != 0 || dprintf(fd, "%ld\n", (long)getpid()) < 0) {
        int error = errno;
        (void)close(fd);
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "lock file %s: %s", path, strerror(error));
    }
    proc->lock_fd = fd;
    return CMQ_OK;
}

/* ---- signals and confinement ---- */

static enum cmq_err confine(struct cmq_reason *reason)
{
    const struct rlimit no_core = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        setrlimit(RLIMIT_CORE, &no_core) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the process cannot be confined: %s", strerror(errno));
    return CMQ_OK;
}

static sigset_t taken_signals(void)
{
    sigset_t taken;
    (void)sigemptyset(&taken);
    (void)sigaddset(&taken, SIGTERM);
    (void)sigaddset(&taken, SIGINT);
    (void)sigaddset(&taken, SIGHUP);
    return taken;
}

/* Before anything else: who is told to end while it begins still ends with 0, later. */
static void hold_signals(void)
{
    const sigset_t taken = taken_signals();
    (void)sigprocmask(SIG_BLOCK, &taken, NULL);
}

static enum cmq_err take_signals(struct cmq_proc *proc, struct cmq_reason *reason)
{
    const sigset_t taken = taken_signals();
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (sigaction(SIGPIPE, &ignore, NULL) == 0 && sigprocmask(SIG_BLOCK, &taken, NULL) == 0) {
        proc->signal_fd = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
        proc->fail_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (proc->signal_fd >= 0 && proc->fail_fd >= 0)
            return CMQ_OK;
    }
    return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "signals cannot be taken: %s", strerror(errno));
}

void cmq_proc_close(struct cmq_proc *proc)
{
    cmq_proc_errors_end();
    int *const fds[] = {&proc->fail_fd, &proc->signal_fd, &proc->lock_fd};
    for (size_t i = 0; i < CMQ_COUNT_OF(fds); i++) {
        if (*fds[i] >= 0)
            (void)close(*fds[i]);
        *fds[i] = CLOSED_FD;
    }
}

int cmq_proc_exit_of(enum cmq_err err)
{
    switch (err) {
    case CMQ_OK:
        return CMQ_EXIT_OK;
    case CMQ_ERR_NOT_FOUND:
    case CMQ_ERR_TOO_BIG:
    case CMQ_ERR_MALFORMED:
    case CMQ_ERR_VERSION:
    case CMQ_ERR_AUTH:
    case CMQ_ERR_INVALID:
    case CMQ_ERR_LAYOUT:
    case CMQ_ERR_PERMISSION:
    case CMQ_ERR_KEY:
        return CMQ_EXIT_CONFIG;
    case CMQ_ERR_AGAIN:
    case CMQ_ERR_FULL:
    case CMQ_ERR_TIMEOUT:
    case CMQ_ERR_NOMEM:
    case CMQ_ERR_LOST:
    case CMQ_ERR_DRAINING:
    case CMQ_ERR_EXISTS:
    case CMQ_ERR_EXHAUSTED:
    case CMQ_ERR_SYSTEM:
        return CMQ_EXIT_TEMPORARY;
    case CMQ_ERR_CORRUPT:
        return CMQ_EXIT_INVARIANT;
    }
    return CMQ_EXIT_INVARIANT;
}

void cmq_proc_log_refused(const struct cmq_reason *reason, int exit_code)
{
    struct cmq_log_quoted_sentence quoted;
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "exit=%d reason=%s", exit_code,
            cmq_log_sentence(&quoted, reason->text));
}

static int check_only(const struct cmq_proc *proc)
{
    struct cmq_conf conf;
    struct cmq_reason reason = {{0}};
    enum cmq_err err = cmq_proc_load(&proc->source, &conf, &reason);
    if (err == CMQ_OK)
        (void)puts("ok");
    else
        (void)fprintf(stderr, "%s\n", reason.text);
    return err == CMQ_OK ? CMQ_EXIT_OK : CMQ_EXIT_CONFIG;
}

static enum cmq_err acquire(struct cmq_proc *proc, struct cmq_reason *reason)
{
    enum cmq_err err = cmq_proc_load(&proc->source, &proc->conf, reason);
    if (err != CMQ_OK)
        return err;
    cmq_log_set_level((enum cmq_log_level)proc->conf.common_log_level);
    err = cmq_proc_run_dir(proc->conf.common_run_dir, reason);
    if (err == CMQ_OK)
        err = lock_instance(proc, reason);
    if (err == CMQ_OK) {
        cmq_proc_errors_attach(proc->conf.common_instance, proc->stage, proc->instance);
        err = confine(reason);
    }
    if (err == CMQ_OK)
        err = take_signals(proc, reason);
    return err;
}

bool cmq_proc_init(struct cmq_proc *ret_proc, const char *stage, const char *about, int argc, char **argv)
{
    struct cmq_proc *proc = ret_proc;
    struct arguments arguments = {.proc = proc};
    struct cmq_reason reason = {{0}};
    memset(proc, 0, sizeof *proc);
    proc->stage = stage;
    proc->signal_fd = proc->lock_fd = proc->fail_fd = CLOSED_FD;
    hold_signals();
    parse_arguments(&arguments, stage, about, argc, argv);
    if (arguments.check) {
        proc->exit_code = check_only(proc);
        return false;
    }
    cmq_log_open(stage, proc->instance, CMQ_LOG_INFO);
    cmq_proc_errors_begin();
    enum cmq_err err = acquire(proc, &reason);
    if (err != CMQ_OK) {
        proc->exit_code = cmq_proc_exit_of(err);
        cmq_proc_log_refused(&reason, proc->exit_code);
        cmq_proc_close(proc);
        return false;
    }
    cmq_log(CMQ_LOG_INFO, CMQ_EV_STARTING, "version=%s instance=%s", CMQ_VERSION, proc->conf.common_instance);
    return true;
}
