/*
 * ctl: what the files of ciphermqctl share.
 * Ownership: struct ctl lives in main(); texts are argv's or literals.
 * Units: milliseconds.
 * Errors: commands return an exit code (sysexits.h); a sentence on stderr then names the fix.
 * Callers: the only thread.
 */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cmq_reason.h"
#include "common/proc/cmq_proc.h"
#include "common/shm/cmq_sight.h"

#define CTL_EXIT_NOT_RUNNING 1 /* status: a stage has no live instance */
#define CTL_EXIT_DAMAGED     1 /* verify: records cannot be read */
#define CTL_EXIT_FAILED      1 /* doctor: something is wrong */
#define CTL_EXIT_WAITING     1 /* drain: the time was over */

#define CTL_SCOPE_OPTIONS_MAX 32u /* of one right; each may name several patterns */

/* What `token create` was given; NULL: not. */
struct ctl_token_options {
    const char *scopes[3][CTL_SCOPE_OPTIONS_MAX]; /* index: enum cmq_right */
    unsigned scope_counts[3];
    bool admin;
    const char *expires, *messages_rate, *bytes_rate, *certificate, *bound_to;
};

struct ctl {
    struct cmq_proc_source source; /* --config, --set */
    struct cmq_conf conf;          /* loaded before a command runs, unless it needs none */
    bool json;
    bool sample, reference;      /* config */
    const char *supervisor_conf; /* NULL: not given */
    bool systemd;
    uint64_t timeout_ms;
    uint64_t interval_ms, count;        /* top, sub; count 0: no end */
    const char *since;                  /* sub, consume */
    const char *sort;                   /* topics */
    uint64_t max;                       /* topics; 0: not given */
    const char *group;                  /* consume */
    uint64_t idle_ms;                   /* consume; 0: no end */
    bool records;                       /* groups: lag in records only */
    const char *to;                     /* groups reset */
    const char *type, *key, *ack, *ttl; /* pub */
    bool lines;                         /* pub */
    bool keys;                          /* backup */
    struct {
        uint64_t seconds, connections, batch, bytes, rate, messages; /* rate 0: as fast as it goes */
    } bench;
    bool check, force; /* restore */
    char bearer[64];   /* of --token-file; "": none */
    struct ctl_token_options token;
    const char *words[4]; /* the command's own arguments */
    unsigned word_count;
};

/* One sentence on stderr, "ciphermqctl: ...". Returns exit_code. */
int ctl_fail(int exit_code, const char *fmt, ...) CMQ_PRINTF(2, 3);
/* The sentence of a failed call; returns the exit code of err. */
int ctl_fail_err(enum cmq_err err, const struct cmq_reason *reason);

/* ---- commands, see ctl_commands.c ---- */

int ctl_init(struct ctl *ctl);
int ctl_destroy(struct ctl *ctl);
int ctl_config(struct ctl *ctl);
int ctl_status(struct ctl *ctl);
int ctl_restart(struct ctl *ctl);
int ctl_scale(struct ctl *ctl);
int ctl_key(struct ctl *ctl);
int ctl_token(struct ctl *ctl);
int ctl_verify(struct ctl *ctl);
int ctl_metrics(struct ctl *ctl);
int ctl_doctor(struct ctl *ctl);
int ctl_top(struct ctl *ctl);
int ctl_pub(struct ctl *ctl);
int ctl_sub(struct ctl *ctl);
int ctl_backup(struct ctl *ctl);
int ctl_restore(struct ctl *ctl);
int ctl_completion(struct ctl *ctl);
int ctl_man(struct ctl *ctl);
int ctl_topics(struct ctl *ctl);
int ctl_groups(struct ctl *ctl);
int ctl_consume(struct ctl *ctl);
int ctl_drain(struct ctl *ctl);
int ctl_agent(struct ctl *ctl);
int ctl_bench(struct ctl *ctl);

/* Groups, the largest lag first, and the newest warnings and errors, as text; nothing where there are none. */
CMQ_MUST_USE enum cmq_err ctl_print_names(const struct cmq_sight *sight, size_t groups_max,
                                          size_t errors_max);

/* Makes the missing directories above path with mode 0700. What exists is left as it is. */
CMQ_MUST_USE enum cmq_err ctl_make_parents(const char *path, struct cmq_reason *reason);

/* ---- the ring, seen by an observer ---- */

CMQ_MUST_USE enum cmq_err ctl_ring_observe(const struct cmq_conf *conf, struct cmq_ring **ret_ring,
                                           struct cmq_reason *reason);
/* The newest live member of that role and number; false: there is none. */
CMQ_MUST_USE bool ctl_ring_find(struct cmq_ring *ring, enum cmq_role role, uint32_t instance,
                                struct cmq_member_state *ret_member);

#endif
