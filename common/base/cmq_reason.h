/*
 * cmq_reason: the sentence that goes with an error at start-up: what was refused, and the fix.
 * Ownership: caller's memory, no heap.
 * Units: at most CMQ_REASON_BYTES - 1 bytes of text; longer text is cut.
 * Errors: none. NULL is accepted everywhere and means that nobody wants the sentence.
 * Callers: any thread; the struct is not shared.
 */
#ifndef CMQ_REASON_H
#define CMQ_REASON_H

#include "common/base/cmq_err.h"

#define CMQ_REASON_BYTES 512

struct cmq_reason {
    char text[CMQ_REASON_BYTES];
};

/* Stores the sentence and returns err, so that `return cmq_reason_set(reason, err, ...)` reads well.
 * Never pass key bytes, tokens or payloads. */
enum cmq_err cmq_reason_set(struct cmq_reason *reason, enum cmq_err err, const char *fmt, ...)
    CMQ_PRINTF(3, 4);

#endif
