/*
 * ctl_exec: runs a program and keeps what it says.
 * Ownership: argv is borrowed.
 * Units: exit status 0..255; 128 + number when a signal ended it; 127 when it could not be started.
 * Errors: CMQ_ERR_SYSTEM: no process could be made.
 * Callers: the only thread; blocks until the program has ended.
 */
#ifndef CTL_EXEC_H
#define CTL_EXEC_H

#include "common/base/cmq_err.h"

/* The beginning of stdout and stderr together, control characters as blanks, without trailing blanks. */
struct ctl_exec_output {
    char text[2048];
};
/* argv[0] is looked up in PATH; there is no shell between. */
CMQ_MUST_USE enum cmq_err ctl_exec(const char *const *argv, int *ret_status,
                                   struct ctl_exec_output *ret_output);

#endif
