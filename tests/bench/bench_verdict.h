/*
 * bench_verdict: everything that forbids a rate, in one sentence.
 * Ownership: caller's memory; a zeroed verdict has no faults.
 * Units: messages.
 * Errors: none; a sentence that is too long is cut.
 * Callers: the main thread.
 */
#ifndef BENCH_VERDICT_H
#define BENCH_VERDICT_H

#include "common/base/cmq_base.h"
#include "tests/bench/bench_load.h"

struct bench_verdict {
    bool failed;
    char text[600]; /* the faults; bench_verdict_end: or that there are none */
};

void bench_verdict_add(struct bench_verdict *verdict, const char *fmt, ...) CMQ_PRINTF(2, 3);
void bench_verdict_load(struct bench_verdict *verdict, const struct bench_load *load);
/* who: in front of each fault, "" for the only one. */
void bench_verdict_verify(struct bench_verdict *verdict, const struct bench_verify *verify, const char *who);
void bench_verdict_end(struct bench_verdict *verdict);

#endif
