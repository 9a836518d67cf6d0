/*
 * cmq_proc_errors: the last warnings and errors of this process, for whoever looks at the broker. Private to common/proc.
 * Ownership: one for the process, since the log is; begin and end.
 * Units: lines.
 * Errors: none: without shared memory the lines are only in the log.
 * Callers: begin, attach, end: the main thread; lines come from any.
 *
 * Until the instance has its tables (cmq_tables.h), or if they do not come, the newest lines wait here. A process that is refused
 * before it has joined the ring finds those that the one before left.
 */
#ifndef CMQ_PROC_ERRORS_H
#define CMQ_PROC_ERRORS_H

/* Lines are kept from now on. */
void cmq_proc_errors_begin(void);
/* Uses the tables that there are now, if any. The caller has the instance's lock. stage: as struct cmq_proc has it. */
void cmq_proc_errors_attach(const char *broker, const char *stage, unsigned instance);
void cmq_proc_errors_end(void);

#endif
