/*
 * ctl_doctor: what the files of the command doctor share: one finding after the other.
 * Ownership: struct doctor lives in ctl_doctor; texts are the caller's.
 * Units: none.
 * Errors: become findings.
 * Callers: the only thread.
 */
#ifndef CTL_DOCTOR_H
#define CTL_DOCTOR_H

#include "ctl.h"

enum doctor_level {
    DOCTOR_OK,
    DOCTOR_NOTE, /* worth knowing, nothing to be done at once */
    DOCTOR_FAIL
};

struct doctor {
    struct ctl *ctl;
    unsigned counts[DOCTOR_FAIL + 1];
    bool listed; /* JSON: something stands before */
};

/* A finding: which check, what was seen, and what to do about it (NULL with DOCTOR_OK). */
void doctor_say(struct doctor *doctor, enum doctor_level level, const char *check, const char *fix,
                const char *fmt, ...) CMQ_PRINTF(5, 6);

/* Directories, keys, log, tables, tokens, certificates. */
void doctor_check_files(struct doctor *doctor);
/* Memory, descriptors, libraries, clock. */
void doctor_check_machine(struct doctor *doctor);
/* Ring, stages, log writer, ports. *ret_running: a message may be sent through. */
void doctor_check_broker(struct doctor *doctor, bool *ret_running);
/* A message from a POST to its delivery. */
void doctor_check_delivery(struct doctor *doctor);

#endif
