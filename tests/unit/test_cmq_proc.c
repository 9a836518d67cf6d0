/*
 * Unit tests of common/proc. Each test forks children that run cmq_proc with a fake stage. The stage writes
 * one letter a call into a pipe (S start, T first tick, R reload, D drain, X stop, ...), so that nothing
 * waits by the clock.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "common/proc/cmq_proc.h"

#define WAIT_MS 20000 /* only ever reached when a test fails */

static char dir[64], conf_file[96], run_dir_set[128];

/* ---- the fake stage, in the child ---- */

struct fake {
    struct cmq_proc *proc;
    unsigned again;         /* so many starts say AGAIN first */
    enum cmq_err start_err; /* what start says then */
    int fail_from_thread;   /* exit code, 0: never */
    int fail_in_drain;
    bool drain_waits; /* until the deadline or the cut */
    bool look;        /* 'O' if the process is confined as promised, else 'o' */
    bool ticked;
    int events;
    pthread_t thread;
    bool thread_runs;
};

static void tell(const struct fake *fake, char letter)
{
    ssize_t done = write(fake->events, &letter, 1);
    (void)done;
}

static void *fail_thread(void *self)
{
    struct fake *fake = self;
    cmq_proc_fail(fake->proc, fake->fail_from_thread);
    cmq_proc_fail(fake->proc, 99); /* the first call wins */
    return NULL;
}

static bool confined(const struct cmq_proc *proc)
{
    struct rlimit core;
    struct sigaction pipe_action;
    sigset_t blocked;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
           getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 && core.rlim_max == 0 &&
           sigaction(SIGPIPE, NULL, &pipe_action) == 0 && pipe_action.sa_handler == SIG_IGN &&
           pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0 && sigismember(&blocked, SIGTERM) == 1 &&
           sigismember(&blocked, SIGINT) == 1 && sigismember(&blocked, SIGHUP) == 1 &&
           fcntl(proc->lock_fd, F_GETFD) == FD_CLOEXEC && fcntl(proc->signal_fd, F_GETFD) == FD_CLOEXEC &&
           fcntl(proc->fail_fd, F_GETFD) == FD_CLOEXEC;
}

static enum cmq_err fake_start(void *self, struct cmq_proc *proc, struct cmq_reason *reason)
{
    struct fake *fake = self;
    fake->proc = proc;
    tell(fake, 'S');
    if (fake->again > 0) {
        fake->again--;
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "the ring is \"not\" there yet");
    }
    if (fake->start_err != CMQ_OK)
        return cmq_reason_set(reason, fake->start_err, "the fix: do this");
    if (fake->look)
        tell(fake, confined(proc) ? 'O' : 'o');
    if (fake->fail_from_thread != 0)
        fake->thread_runs = pthread_create(&fake->thread, NULL, fail_thread, fake) == 0;
    return CMQ_OK;
}

static void fake_tick(void *self)
{
    struct fake *fake = self;
    if (!fake->ticked)
        tell(fake, 'T');
    fake->ticked = true;
}

static void fake_reload(void *self)
{
    struct fake *fake = self;
    tell(fake, fake->proc->conf.common_drain_ms == 1234 ? 'R' : 'r');
}

static void fake_drain(void *self, uint64_t deadline_ns)
{
    struct fake *fake = self;
    tell(fake, 'D');
    if (fake->fail_in_drain != 0)
        cmq_proc_fail(fake->proc, fake->fail_in_drain);
    if (!fake->drain_waits)
        return;
    struct pollfd signals = {.fd = fake->proc->signal_fd, .events = POLLIN};
    for (;;) {
        if (cmq_proc_draining_cut(fake->proc)) {
            tell(fake, 'c');
            return;
        }
        uint64_t now_ns = cmq_clock_mono_ns();
        if (now_ns >= deadline_ns) {
            tell(fake, 'd');
            return;
        }
        (void)poll(&signals, 1, (int)((deadline_ns - now_ns) / CMQ_NS_PER_MS + 1));
    }
}

static void fake_stop(void *self)
{
    struct fake *fake = self;
    if (fake->thread_runs)
        (void)pthread_join(fake->thread, NULL);
    tell(fake, 'X');
}

static int child_main(const char *stage_name, struct fake *fake, int argc, char **argv)
{
    struct cmq_proc proc;
    const struct cmq_stage stage = {.start = fake_start,
                                    .tick = fake_tick,
                                    .reload = fake_reload,
                                    .drain = fake_drain,
                                    .stop = fake_stop,
                                    .self = fake,
                                    .tick_ms = 1};
    if (!cmq_proc_init(&proc, stage_name, "A stage for tests.", argc, argv))
        return proc.exit_code;
    return cmq_proc_run(&proc, &stage);
}

/* ---- children, seen from the parent ---- */

struct child {
    pid_t pid;
    int events, out, err;
    char err_text[16384];
    size_t err_bytes;
};

static void child_spawn(struct child *child, const char *stage, struct fake fake, const char *const *extra)
{
    int events[2], out[2], err[2];
    char *argv[16] = {(char *)(uintptr_t)stage, (char *)(uintptr_t) "--set", run_dir_set};
    int argc = 3;
    for (; extra != NULL && extra[argc - 3] != NULL; argc++)
        argv[argc] = (char *)(uintptr_t)extra[argc - 3];
    assert_true(pipe2(events, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    (void)fflush(NULL);
    memset(child, 0, sizeof *child);
    child->pid = fork();
    assert_true(child->pid >= 0);
    if (child->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(err[1], STDERR_FILENO);
        fake.events = events[1];
        exit(child_main(stage, &fake, argc, argv));
    }
    (void)close(events[1]);
    (void)close(out[1]);
    (void)close(err[1]);
    child->events = events[0];
    child->out = out[0];
    child->err = err[0];
}

/* Reads what is there, or waits for it; false at end of file. */
static bool child_read_err(struct child *child)
{
    struct pollfd fd = {.fd = child->err, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    ssize_t got =
        read(child->err, child->err_text + child->err_bytes, sizeof child->err_text - 1 - child->err_bytes);
    if (got > 0)
        child->err_bytes += (size_t)got;
    return got > 0;
}

static void expect_err(struct child *child, const char *part)
{
    while (strstr(child->err_text, part) == NULL) {
        if (!child_read_err(child))
            fail_msg("'%s' is not in: %s", part, child->err_text);
    }
}

static char next_event(struct child *child)
{
    struct pollfd fd = {.fd = child->events, .events = POLLIN};
    char got = '?';
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    if (read(child->events, &got, 1) != 1) {
        while (child_read_err(child)) {
        }
        fail_msg("the child has ended early: %s", child->err_text);
    }
    return got;
}

static void expect_event(struct child *child, char letter)
{
    char got = next_event(child);
    if (got != letter)
        fail_msg("expected event %c, got %c", letter, got);
}

/* The first event that is not `skipped`. */
static void expect_event_after(struct child *child, char skipped, char letter)
{
    char got;
    do {
        got = next_event(child);
    } while (got == skipped);
    if (got != letter)
        fail_msg("expected event %c after %c, got %c", letter, skipped, got);
}

/* Nothing more comes, and the exit code is this. err_text is complete afterwards. */
static void expect_exit(struct child *child, int exit_code)
{
    char letter;
    int status = 0;
    while (child_read_err(child)) {
    }
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != exit_code)
        fail_msg("expected exit %d, status is %#x: %s", exit_code, (unsigned)status, child->err_text);
    assert_int_equal(read(child->events, &letter, 1), 0);
    (void)close(child->events);
    (void)close(child->out);
    (void)close(child->err);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

static void write_conf(const char *text)
{
    char aside[128];
    (void)snprintf(aside, sizeof aside, "%s.new", conf_file);
    FILE *file = fopen(aside, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(aside, conf_file), 0);
}

#define ARGS(...) ((const char *const[]){"--config", conf_file, __VA_ARGS__, NULL})
#define NO_ARGS   ((const char *const[]){"--config", conf_file, NULL})

/* ---- life ---- */

static void proc_starts_ticks_drains_and_stops_in_order(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "ingest", (struct fake){0}, NO_ARGS);
    expect_event(&child, 'S');
    expect_event(&child, 'T');
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'D');
    expect_event(&child, 'X');
    expect_exit(&child, 0);
    const char *at = child.err_text;
    const char *const events[] = {"ev=starting ", "ev=ready ", "ev=draining ", "ev=drained ",
                                  "ev=stopped exit=0\n"};
    for (size_t i = 0; i < CMQ_COUNT_OF(events); i++) {
        at = strstr(at, events[i]);
        if (at == NULL)
            fail_msg("%s is missing or early in: %s", events[i], child.err_text);
    }
    assert_non_null(strstr(child.err_text, "stage=ingest inst=0 "));
}

static void proc_sigint_drains_too(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "ingest", (struct fake){0}, ARGS("--instance", "63"));
    expect_event(&child, 'S');
    assert_int_equal(kill(child.pid, SIGINT), 0);
    expect_event_after(&child, 'T', 'D'); /* a tick may come first */
    expect_event(&child, 'X');
    expect_exit(&child, 0);
    assert_non_null(strstr(child.err_text, "inst=63 "));
}

static void proc_is_confined_before_start(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "ingest", (struct fake){.look = true}, NO_ARGS);
    expect_event(&child, 'S');
    expect_event(&child, 'O');
    expect_event(&child, 'T');
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'D');
    expect_event(&child, 'X');
    expect_exit(&child, 0);
}

static void proc_start_is_retried_and_logged_once(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "encryptor", (struct fake){.again = 3}, NO_ARGS);
    for (int i = 0; i < 4; i++)
        expect_event(&child, 'S');
    expect_event(&child, 'T');
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'D');
    expect_event(&child, 'X');
    expect_exit(&child, 0);
    assert_int_equal(count_of(child.err_text, "ev=waiting"), 1);
    expect_err(&child, "ev=waiting reason=\"the ring is \\x22not\\x22 there yet\"\n");
}

static void proc_waiting_for_another_stage_ends_on_sigterm(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "encryptor", (struct fake){.again = 1000000}, NO_ARGS);
    expect_event(&child, 'S');
    expect_err(&child, "ev=waiting");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event_after(&child, 'S', 'X');
    expect_exit(&child, 0);
    assert_null(strstr(child.err_text, "ev=refused"));
}

static void proc_refused_start_stops_and_says_why(void **state)
{
    (void)state;
    const struct {
        enum cmq_err err;
        int exit_code;
    } cases[] = {{CMQ_ERR_KEY, 78}, {CMQ_ERR_LAYOUT, 78}, {CMQ_ERR_SYSTEM, 75}, {CMQ_ERR_CORRUPT, 70}};
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++) {
        struct child child;
        child_spawn(&child, "dispatcher", (struct fake){.start_err = cases[i].err}, NO_ARGS);
        expect_event(&child, 'S');
        expect_event(&child, 'X');
        expect_exit(&child, cases[i].exit_code);
        char line[80];
        (void)snprintf(line, sizeof line, "ev=refused exit=%d reason=\"the fix: do this\"\n",
                       cases[i].exit_code);
        assert_non_null(strstr(child.err_text, line));
    }
}

static void proc_every_error_has_its_exit_code(void **state)
{
    (void)state;
    const enum cmq_err config[] = {CMQ_ERR_INVALID,   CMQ_ERR_KEY,       CMQ_ERR_PERMISSION, CMQ_ERR_LAYOUT,
                                   CMQ_ERR_NOT_FOUND, CMQ_ERR_MALFORMED, CMQ_ERR_VERSION};
    const enum cmq_err temporary[] = {CMQ_ERR_FULL, CMQ_ERR_NOMEM, CMQ_ERR_EXISTS, CMQ_ERR_SYSTEM,
                                      CMQ_ERR_AGAIN};
    for (size_t i = 0; i < CMQ_COUNT_OF(config); i++)
        assert_int_equal(cmq_proc_exit_of(config[i]), 78);
    for (size_t i = 0; i < CMQ_COUNT_OF(temporary); i++)
        assert_int_equal(cmq_proc_exit_of(temporary[i]), 75);
    assert_int_equal(cmq_proc_exit_of(CMQ_ERR_CORRUPT), 70);
    assert_int_equal(cmq_proc_exit_of(CMQ_OK), 0);
}

/* ---- drain ---- */

static void proc_second_signal_cuts_the_drain(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "ingest", (struct fake){.drain_waits = true},
                ARGS("--set", "common.drain_ms=600000"));
    expect_event(&child, 'S');
    expect_event(&child, 'T');
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'D');
    assert_int_equal(kill(child.pid, SIGHUP), 0); /* must not count */
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'c');
    expect_event(&child, 'X');
    expect_exit(&child, 0);
    assert_non_null(strstr(child.err_text, " cut=1\n"));
}

static void proc_drain_gets_the_configured_deadline(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "ingest", (struct fake){.drain_waits = true}, ARGS("--set", "common.drain_ms=20"));
    expect_event(&child, 'S');
    expect_event(&child, 'T');
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'D');
    expect_event(&child, 'd');
    expect_event(&child, 'X');
    expect_exit(&child, 0);
    const char *ms = strstr(child.err_text, "ev=drained ms=");
    assert_non_null(ms);
    assert_true(strtoul(ms + strlen("ev=drained ms="), NULL, 10) >= 20);
    assert_non_null(strstr(ms, " cut=0\n"));
}

/* ---- fail ---- */

static void proc_failure_in_a_thread_stops_without_draining(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "ingest", (struct fake){.fail_from_thread = 70}, NO_ARGS);
    expect_event(&child, 'S');
    expect_event_after(&child, 'T', 'X');
    expect_exit(&child, 70);
    assert_non_null(strstr(child.err_text, "ev=stopped exit=70\n"));
}

static void proc_failure_during_the_drain_cuts_it_and_decides_the_exit_code(void **state)
{
    (void)state;
    struct child child;
    child_spawn(&child, "ingest", (struct fake){.fail_in_drain = 75, .drain_waits = true},
                ARGS("--set", "common.drain_ms=600000"));
    expect_event(&child, 'S');
    expect_event(&child, 'T');
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'D');
    expect_event(&child, 'c');
    expect_event(&child, 'X');
    expect_exit(&child, 75);
}

/* ---- reload ---- */

static void proc_sighup_reloads_what_can_be_and_refuses_the_rest(void **state)
{
    (void)state;
    struct child child;
    write_conf("[common]\ndrain_ms = 1000\n");
    child_spawn(&child, "ingest", (struct fake){0}, ARGS("--set", "ring.slots=64"));
    expect_event(&child, 'S');
    expect_event(&child, 'T');
    write_conf("[common]\ndrain_ms = 1234\n");
    assert_int_equal(kill(child.pid, SIGHUP), 0);
    expect_event(&child, 'R'); /* --set ring.slots held */
    expect_err(&child, "ev=reloaded");
    write_conf("[common]\ndrain_ms = 5\n[ingest]\nport = 3001\n");
    assert_int_equal(kill(child.pid, SIGHUP), 0);
    expect_err(&child, "ev=refused what=reload reason=\"ingest.port has changed and needs a restart");
    write_conf("[common]\ndrain_ms = never\n");
    assert_int_equal(kill(child.pid, SIGHUP), 0);
    expect_err(&child, "common.drain_ms = never");
    write_conf("[common]\ndrain_ms = 77\n");
    assert_int_equal(kill(child.pid, SIGHUP), 0);
    expect_event(&child, 'r');
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event(&child, 'D');
    expect_event(&child, 'X');
    expect_exit(&child, 0);
    assert_non_null(strstr(child.err_text, "ev=draining drain_ms=77\n"));
    write_conf("");
}

static void proc_sighup_while_waiting_changes_the_settings_only(void **state)
{
    (void)state;
    struct child child;
    write_conf("[common]\ndrain_ms = 1000\n");
    child_spawn(&child, "ingest", (struct fake){.again = 1000000}, NO_ARGS);
    expect_err(&child, "ev=waiting");
    write_conf("[common]\ndrain_ms = 1234\n");
    assert_int_equal(kill(child.pid, SIGHUP), 0);
    expect_err(&child, "ev=reloaded drain_ms=1234");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_event_after(&child, 'S', 'X');
    expect_exit(&child, 0);
    write_conf("");
}

/* ---- arguments ---- */

static void expect_output(const char *const *args, int exit_code, const char *out_part, const char *err_part)
{
    struct child child;
    char out[8192] = {0};
    size_t bytes = 0;
    ssize_t got;
    child_spawn(&child, "ingest", (struct fake){0}, args);
    while ((got = read(child.out, out + bytes, sizeof out - 1 - bytes)) > 0)
        bytes += (size_t)got;
    expect_exit(&child, exit_code);
    if (strstr(out, out_part) == NULL)
        fail_msg("'%s' is not in the output: %s", out_part, out);
    if (strstr(child.err_text, err_part) == NULL)
        fail_msg("'%s' is not in: %s", err_part, child.err_text);
    assert_true(err_part[0] != '\0' || child.err_text[0] == '\0');
}

static void proc_usage_errors_exit_with_64(void **state)
{
    (void)state;
    expect_output(ARGS("--no-such-option"), 64, "", "unrecognized option");
    expect_output(ARGS("surplus"), 64, "", "unexpected argument: surplus");
    expect_output(ARGS("--instance", "64"), 64, "", "--instance 64: a number from 0 to 63");
    expect_output(ARGS("--instance", "-1"), 64, "", "--instance -1");
    expect_output(ARGS("--instance", "1x"), 64, "", "--instance 1x");
    expect_output(ARGS("--instance", ""), 64, "", "--instance");
    expect_output(ARGS("--instance"), 64, "", "requires an argument");
}

static void proc_help_and_version_exit_with_0(void **state)
{
    (void)state;
    expect_output(ARGS("--help"), 0, "--set=section.key=value", "");
    expect_output(ARGS("--help"), 0, "A stage for tests.", "");
    expect_output(ARGS("--version"), 0, "ciphermq ingest ", "");
}

static void proc_check_prints_ok_or_the_sentence(void **state)
{
    (void)state;
    expect_output(ARGS("--check"), 0, "ok\n", "");
    expect_output(ARGS("--check", "--set", "ring.slots=3"), 78, "",
                  "ring.slots = 3: it must be a power of two");
    expect_output(((const char *const[]){"--config", "/tmp/cmq-no-such", "--check", NULL}), 78, "",
                  "/tmp/cmq-no-such: cannot be read");
}

static void proc_wrong_settings_exit_with_78_and_a_line(void **state)
{
    (void)state;
    expect_output(ARGS("--set", "ingest.prot=1"), 78, "",
                  "ev=refused exit=78 reason=\"--set: unknown key ingest.prot");
}

/* ---- run directory and lock ---- */

static void proc_makes_the_run_directory_but_not_its_parents(void **state)
{
    (void)state;
    char path[128], set[160];
    struct stat status;
    struct child child;
    mode_t mask = umask(022);
    (void)snprintf(path, sizeof path, "%s/made", dir);
    (void)snprintf(set, sizeof set, "common.run_dir=%s", path);
    child_spawn(&child, "ingest", (struct fake){.start_err = CMQ_ERR_SYSTEM}, ARGS("--set", set));
    expect_event(&child, 'S');
    expect_event(&child, 'X');
    expect_exit(&child, 75);
    (void)umask(mask);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0750);
    (void)snprintf(set, sizeof set, "common.run_dir=%s/no/such", dir);
    expect_output(ARGS("--set", set), 78, "", "cannot be made: No such file or directory; make it");
    (void)snprintf(set, sizeof set, "common.run_dir=%s", conf_file);
    expect_output(ARGS("--set", set), 78, "", "cannot be made: Not a directory");
}

static void proc_second_process_of_one_number_exits_with_75(void **state)
{
    (void)state;
    struct child first, other;
    char who[64];
    child_spawn(&first, "ingest", (struct fake){0}, NO_ARGS);
    expect_event(&first, 'S');
    expect_event(&first, 'T');
    (void)snprintf(who, sizeof who, "ingest 0 of default runs already (pid %ld,", (long)first.pid);
    expect_output(NO_ARGS, 75, "", who);
    /* Another number, stage, or broker is no conflict. */
    const struct {
        const char *stage;
        const char *const *args;
    } free_ones[] = {{"ingest", ARGS("--instance", "1")},
                     {"encryptor", NO_ARGS},
                     {"ingest", ARGS("--set", "common.instance=blue")}};
    for (size_t i = 0; i < CMQ_COUNT_OF(free_ones); i++) {
        child_spawn(&other, free_ones[i].stage, (struct fake){.start_err = CMQ_ERR_KEY}, free_ones[i].args);
        expect_event(&other, 'S');
        expect_event(&other, 'X');
        expect_exit(&other, 78);
    }
    /* Death frees the number, without a trace to clean up. */
    assert_int_equal(kill(first.pid, SIGKILL), 0);
    assert_int_equal(waitpid(first.pid, NULL, 0), first.pid);
    (void)close(first.events);
    (void)close(first.out);
    (void)close(first.err);
    child_spawn(&other, "ingest", (struct fake){.start_err = CMQ_ERR_KEY}, NO_ARGS);
    expect_event(&other, 'S');
    expect_event(&other, 'X');
    expect_exit(&other, 78);
}

static void proc_lock_file_that_is_a_symlink_is_refused(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/default.linked.0.lock", dir);
    assert_int_equal(symlink(conf_file, path), 0);
    struct child child;
    child_spawn(&child, "linked", (struct fake){0}, NO_ARGS);
    expect_exit(&child, 78);
    assert_non_null(strstr(child.err_text, "default.linked.0.lock"));
    assert_int_equal(unlink(path), 0);
}

/* ---- notification ---- */

static void expect_datagram(int fd, const char *text)
{
    char got[256] = {0};
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
    assert_true(recv(fd, got, sizeof got - 1, 0) > 0);
    if (strncmp(got, text, strlen(text)) != 0)
        fail_msg("expected datagram %s, got %s", text, got);
}

/* What a service manager listens on: a path, or an abstract name that begins with @. */
static int notify_socket(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(name);
    memcpy(address.sun_path, name, bytes);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes)),
                     0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static void notify_round(const char *name)
{
    struct child child;
    int fd = notify_socket(name);
    child_spawn(&child, "ingest", (struct fake){.again = 1}, NO_ARGS);
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    expect_datagram(fd, "READY=1");
    expect_event(&child, 'S'); /* both starts came before readiness */
    expect_event(&child, 'S');
    assert_int_equal(kill(child.pid, SIGHUP), 0);
    expect_datagram(fd, "RELOADING=1\nMONOTONIC_USEC=");
    expect_datagram(fd, "READY=1");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    expect_datagram(fd, "STOPPING=1");
    expect_event_after(&child, 'T', 'r');
    expect_event_after(&child, 'T', 'D');
    expect_event(&child, 'X');
    expect_exit(&child, 0);
    (void)close(fd);
}

static void proc_tells_the_service_manager(void **state)
{
    (void)state;
    char name[96];
    (void)snprintf(name, sizeof name, "%s/notify", dir);
    notify_round(name);
    (void)snprintf(name, sizeof name, "@%s/notify", dir);
    notify_round(name);
}

static void child_end(struct child *child)
{
    assert_int_equal(kill(child->pid, SIGTERM), 0);
    expect_event_after(child, 'T', 'D');
    expect_event(child, 'X');
    expect_exit(child, 0);
}

static void proc_tells_the_service_manager_that_it_lives_if_asked(void **state)
{
    (void)state;
    char name[96];
    struct child child;
    (void)snprintf(name, sizeof name, "%s/watchdog", dir);
    int fd = notify_socket(name);
    assert_int_equal(setenv("WATCHDOG_USEC", "20000000", 1), 0);
    child_spawn(&child, "ingest", (struct fake){0}, NO_ARGS);
    expect_datagram(fd, "READY=1");
    expect_datagram(fd, "WATCHDOG=1");
    expect_datagram(fd, "WATCHDOG=1");
    expect_event(&child, 'S');
    child_end(&child);
    (void)close(fd);

    (void)snprintf(name, sizeof name, "%s/watchdog2", dir);
    fd = notify_socket(name);
    assert_int_equal(setenv("WATCHDOG_PID", "1", 1), 0); /* somebody else was asked */
    child_spawn(&child, "ingest", (struct fake){0}, NO_ARGS);
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    assert_int_equal(unsetenv("WATCHDOG_USEC"), 0);
    assert_int_equal(unsetenv("WATCHDOG_PID"), 0);
    expect_datagram(fd, "READY=1");
    expect_event(&child, 'S');
    expect_event(&child, 'T');
    child_end(&child);
    expect_datagram(fd, "STOPPING=1");
    (void)close(fd);
}

/* ---- the group ---- */

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/cmq_test_proc.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(conf_file, sizeof conf_file, "%s/conf", dir);
    (void)snprintf(run_dir_set, sizeof run_dir_set, "common.run_dir=%s", dir);
    write_conf("");
    return 0;
}

static int remove_tree(const char *path)
{
    DIR *open_dir = opendir(path);
    struct dirent *entry;
    while (open_dir != NULL && (entry = readdir(open_dir)) != NULL) {
        char name[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name) != 0 && strcmp(entry->d_name, "made") == 0)
            (void)remove_tree(name); /* one level */
    }
    if (open_dir != NULL)
        (void)closedir(open_dir);
    return rmdir(path);
}

static int remove_dir(void **state)
{
    (void)state;
    return remove_tree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proc_starts_ticks_drains_and_stops_in_order),
        cmocka_unit_test(proc_sigint_drains_too),
        cmocka_unit_test(proc_is_confined_before_start),
        cmocka_unit_test(proc_start_is_retried_and_logged_once),
        cmocka_unit_test(proc_waiting_for_another_stage_ends_on_sigterm),
        cmocka_unit_test(proc_refused_start_stops_and_says_why),
        cmocka_unit_test(proc_every_error_has_its_exit_code),
        cmocka_unit_test(proc_second_signal_cuts_the_drain),
        cmocka_unit_test(proc_drain_gets_the_configured_deadline),
        cmocka_unit_test(proc_failure_in_a_thread_stops_without_draining),
        cmocka_unit_test(proc_failure_during_the_drain_cuts_it_and_decides_the_exit_code),
        cmocka_unit_test(proc_sighup_reloads_what_can_be_and_refuses_the_rest),
        cmocka_unit_test(proc_sighup_while_waiting_changes_the_settings_only),
        cmocka_unit_test(proc_usage_errors_exit_with_64),
        cmocka_unit_test(proc_help_and_version_exit_with_0),
        cmocka_unit_test(proc_check_prints_ok_or_the_sentence),
        cmocka_unit_test(proc_wrong_settings_exit_with_78_and_a_line),
        cmocka_unit_test(proc_makes_the_run_directory_but_not_its_parents),
        cmocka_unit_test(proc_second_process_of_one_number_exits_with_75),
        cmocka_unit_test(proc_lock_file_that_is_a_symlink_is_refused),
        cmocka_unit_test(proc_tells_the_service_manager),
        cmocka_unit_test(proc_tells_the_service_manager_that_it_lives_if_asked),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
