/*
 * cmq_proc_int: what the two files of cmq_proc share.
 * Ownership: as in cmq_proc.h.
 * Units: none.
 * Errors: none.
 * Callers: common/proc only, main thread.
 */
#ifndef CMQ_PROC_INT_H
#define CMQ_PROC_INT_H

#include "common/proc/cmq_proc.h"

void cmq_proc_log_refused(const struct cmq_reason *reason, int exit_code);
/* Closes what cmq_proc_init opened, the instance lock last. */
void cmq_proc_close(struct cmq_proc *proc);

#endif
