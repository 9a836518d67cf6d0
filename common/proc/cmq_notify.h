/*
 * cmq_notify: tells the service manager what this process is doing (sd_notify(3) protocol).
 * Ownership: none; a socket lives for one call.
 * Units: none.
 * Errors: CMQ_ERR_NOT_FOUND: $NOTIFY_SOCKET is not set; CMQ_ERR_INVALID, CMQ_ERR_SYSTEM. None matters.
 * Callers: the main thread. Does not block.
 */
#ifndef CMQ_NOTIFY_H
#define CMQ_NOTIFY_H

#include "common/base/cmq_err.h"

/* state: "READY=1", "STOPPING=1", ... */
enum cmq_err cmq_notify(const char *state);
/* RELOADING=1 with the time stamp that the protocol asks for; READY=1 must follow. */
enum cmq_err cmq_notify_reloading(void);
/* WATCHDOG=1, if the service manager asked this process for it ($WATCHDOG_USEC, $WATCHDOG_PID). */
enum cmq_err cmq_notify_alive(void);

#endif
