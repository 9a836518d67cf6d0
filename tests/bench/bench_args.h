/*
 * bench_args: the command line of cmq-bench.
 * Ownership: texts point into argv or are literals.
 * Units: as named in the help.
 * Errors: CMQ_ERR_INVALID with the sentence.
 * Callers: the main thread, once.
 */
#ifndef BENCH_ARGS_H
#define BENCH_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/cmq_reason.h"

enum bench_mode {
    BENCH_REFERENCE,
    BENCH_SUSTAINED,
    BENCH_BATCH,
    BENCH_SINGLE,
    BENCH_LATENCY,
    BENCH_DURABLE,
    BENCH_DURABLE_SINGLE,
    BENCH_REPLAY,
    BENCH_FANOUT,
    BENCH_GROUP,
    BENCH_SLOW,
    BENCH_IDLE,
    BENCH_ALL
};

/* 0 and NULL mean: not given. */
struct bench_args {
    enum bench_mode mode;
    bool help;
    const char *host, *ws_host;
    unsigned port, ws_port;
    const char *config;
    const char *json, *csv, *commit, *ack;
    uint64_t connections, messages, size, rate, seconds, repeat, subscribers, credit, pid;
    bool msgpack, tls;
    const char *tls_ca, *tls_name, *token_file;
    uint64_t timeout_s; /* never 0 */
};

CMQ_MUST_USE enum cmq_err bench_args_parse(int argc, char **argv, struct bench_args *ret_args,
                                           struct cmq_reason *reason);
void bench_args_help(FILE *out);
const char *bench_mode_name(enum bench_mode mode);

#endif
