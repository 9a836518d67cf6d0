/*
 * bench_report: results as text, JSON, Markdown and CSV.
 * Ownership: borrows everything.
 * Units: printed beside each figure.
 * Errors: CSV: CMQ_ERR_SYSTEM with the sentence. The others leave errors in the stream.
 * Callers: the main thread.
 *
 * A result whose check failed is reported without any rate or latency.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "tests/bench/bench_json.h"
#include "tests/bench/bench_run.h"

struct bench_machine {
    char cpu[128];
    char kernel[80];
    char compiler[160];
    char commit[64];
    char store[32], sync[32]; /* of the broker's configuration; "" without one */
    unsigned cores;
};
/* commit NULL: the one that the build was configured at. conf NULL: not known. */
void bench_machine_read(const char *commit, const struct cmq_conf *conf, struct bench_machine *ret_machine);
void bench_machine_text(FILE *out, const struct bench_machine *machine);
void bench_machine_json(struct bench_json *json, const struct bench_machine *machine);

/* Delivered times of repeated runs; the result that is shown is the median's. */
struct bench_spread {
    unsigned runs;
    uint64_t least_ns, most_ns;
};

void bench_result_text(FILE *out, const struct bench_target *target, const struct bench_result *result,
                       const struct bench_spread *spread);
void bench_result_json(struct bench_json *json, const struct bench_result *result,
                       const struct bench_spread *spread);
void bench_idle_text(FILE *out, const struct bench_idle *idle);
void bench_idle_json(struct bench_json *json, const struct bench_idle *idle);

/* Pieces of reports. */
#define BENCH_NUMBER_BYTES 32u
/* 1234567 -> "1,234,567" */
const char *bench_grouped(char ret_text[BENCH_NUMBER_BYTES], uint64_t value);
double bench_per_second(uint64_t count, uint64_t ns);
void bench_hist_text(FILE *out, const char *name, const struct bench_hist *hist);
void bench_hist_json(struct bench_json *json, const char *key, const struct bench_hist *hist);
void bench_use_json(struct bench_json *json, const struct bench_use use[BENCH_STAGE_COUNT],
                    uint64_t messages);

/* The tables of the README. */
void bench_table_head(FILE *out);
void bench_table_row(FILE *out, const struct bench_result *result, const char *goal);
void bench_table_latency(FILE *out, const struct bench_result *result, const char *goal);
void bench_table_idle(FILE *out, const struct bench_idle *idle, const char *goal);
void bench_cpu_head(FILE *out);
void bench_cpu_row(FILE *out, const struct bench_result *result);

/* path: a row a message, with the columns of the original script; path without .csv + _summary.csv: its
 * summary. */
CMQ_MUST_USE enum cmq_err bench_csv_write(const char *path, const struct bench_result *result,
                                          struct cmq_reason *reason);

#endif
