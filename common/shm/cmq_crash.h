/*
 * cmq_crash: named crash points, for tests.
 * Ownership: none.
 * Units: CMQ_CRASH=label:count in the environment kills this process (SIGKILL) when `label` is reached the
 *        count-th time; CMQ_CRASH=label:every:mean kills with chance 1/mean each time.
 * Errors: none. Without CMQ_CRASH_POINTS the macro is empty.
 * Callers: any thread. Every label in the tree is listed in tests/crash; a test checks that the list is complete.
 */
#ifndef CMQ_CRASH_H
#define CMQ_CRASH_H

#ifdef CMQ_CRASH_POINTS
void cmq_crash_point(const char *label);
#define CMQ_CRASH_POINT(label) cmq_crash_point(label)
#else
#define CMQ_CRASH_POINT(label) ((void)0)
#endif

#endif
