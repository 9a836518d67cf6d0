/*
 * cmq_proc: the life of one stage process: arguments, configuration, signals, readiness, drain, exit code.
 * Ownership: struct cmq_proc lives in main(); conf is valid for the life of the process.
 * Units: milliseconds.
 * Errors: become exit codes (sysexits.h): 0 drained, 64 usage, 78 config, 75 try again, 70 invariant broken.
 * Callers: the main thread only, unless said otherwise.
 *
 * Happy path:
 *   - cmq_proc_init reads arguments and configuration, answers --help/--check/--version itself, takes the
 *     instance lock, blocks the signals, opens the log;
 *   - cmq_proc_run calls stage->start (again every 100 ms while that says CMQ_ERR_AGAIN), then announces readiness;
 *   - the main thread then only waits for signals, and calls stage->tick every tick_ms;
 *   - SIGHUP: configuration is read again, and given to stage->reload if nothing needs a restart; before start has
 *     succeeded it only changes proc->conf;
 *   - SIGTERM or SIGINT: stage->drain(deadline), then stage->stop, exit 0. A second one ends the drain at once.
 * The stage's own threads inherit blocked signals. They report a fatal condition with cmq_proc_fail. They take what they
 * need of proc->conf in start and reload; they do not read it later, because SIGHUP writes it.
 */
#ifndef CMQ_PROC_H
#define CMQ_PROC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/cmq_reason.h"
#include "common/conf/cmq_conf.h"

enum cmq_exit {
    CMQ_EXIT_OK = 0,
    CMQ_EXIT_USAGE = 64,
    CMQ_EXIT_INVARIANT = 70,
    CMQ_EXIT_TEMPORARY = 75,
    CMQ_EXIT_CONFIG = 78
};

#define CMQ_PROC_CONFIG_FILE   "/etc/ciphermq/ciphermq.conf" /* read if it exists and --config is not given */
#define CMQ_PROC_INSTANCES_MAX 64u
#define CMQ_PROC_OVERRIDES_MAX 64u

/* --config and --set as given; the strings are argv's. */
struct cmq_proc_source {
    const char *config_file; /* NULL: not given */
    struct cmq_conf_override overrides[CMQ_PROC_OVERRIDES_MAX];
    size_t override_count;
};

struct cmq_proc {
    const char *stage; /* "ingest", "encryptor", "dispatcher" */
    unsigned instance; /* --instance N, 0..63 */
    struct cmq_conf conf;
    int signal_fd;
    int lock_fd;
    int fail_fd;          /* eventfd, written by cmq_proc_fail */
    int exit_code;        /* valid when cmq_proc_init returns false */
    atomic_int fail_code; /* 0: nobody called cmq_proc_fail; the first call wins */
    bool drain_cut;       /* a second signal came */
    struct cmq_proc_source source;
};

struct cmq_stage {
    /* Acquire and start threads. CMQ_ERR_AGAIN: call me again (another stage is not there yet). */
    enum cmq_err (*start)(void *self, struct cmq_proc *proc, struct cmq_reason *reason);
    /* Heartbeat and housekeeping, every tick_ms. */
    void (*tick)(void *self);
    /* New configuration, already in proc->conf. */
    void (*reload)(void *self);
    /* Take no new work, finish what is in hand, return when done or when deadline_ns (CLOCK_MONOTONIC) has passed.
     * May block; cmq_proc_draining_cut tells whether a second signal came. */
    void (*drain)(void *self, uint64_t deadline_ns);
    /* Release everything. Also called when start failed half way. */
    void (*stop)(void *self);
    void *self;
    uint32_t tick_ms;
};

/* Returns true when the caller should go on to cmq_proc_run; false when it should return proc->exit_code now. */
CMQ_MUST_USE bool cmq_proc_init(struct cmq_proc *ret_proc, const char *stage, const char *about, int argc,
                                char **argv);
/* Returns the exit code of the process. */
CMQ_MUST_USE int cmq_proc_run(struct cmq_proc *proc, const struct cmq_stage *stage);
/* Any thread: logs nothing itself; makes cmq_proc_run stop the stage without draining and return exit_code. */
void cmq_proc_fail(struct cmq_proc *proc, int exit_code);
/* During drain, main thread: true once a second SIGTERM/SIGINT came or cmq_proc_fail was called. */
bool cmq_proc_draining_cut(struct cmq_proc *proc);

/* The settings that this command line and file give; what every program of the broker does with --config and --set. */
CMQ_MUST_USE enum cmq_err cmq_proc_load(const struct cmq_proc_source *source, struct cmq_conf *ret_conf,
                                        struct cmq_reason *reason);
/* Adds one --set; false: more than CMQ_PROC_OVERRIDES_MAX. */
CMQ_MUST_USE bool cmq_proc_source_add(struct cmq_proc_source *source, const char *text);
/* Makes common.run_dir (mode 0750) if only its last part is missing. */
CMQ_MUST_USE enum cmq_err cmq_proc_run_dir(const char *run_dir, struct cmq_reason *reason);
/* What a program that cannot go on because of err exits with: 78 when a human must change something, 75 when a restart
 * may help, 70 when shared state is broken. */
int cmq_proc_exit_of(enum cmq_err err);

#endif
