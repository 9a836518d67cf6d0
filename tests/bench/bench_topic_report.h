/*
 * bench_topic_report: results of bench_topic as text, JSON, Markdown and CSV.
 * Ownership: borrows everything.
 * Units: printed beside each figure.
 * Errors: CSV: CMQ_ERR_SYSTEM with the sentence. The others leave errors in the stream.
 * Callers: the main thread.
 *
 * A result whose check failed is reported without any rate or latency.
 */
#ifndef BENCH_TOPIC_REPORT_H
#define BENCH_TOPIC_REPORT_H

#include "tests/bench/bench_json.h"
#include "tests/bench/bench_topic.h"

/* One result, not those behind it. */
void bench_topic_text(FILE *out, const struct bench_topic_result *result);
void bench_topic_json(struct bench_json *json, const struct bench_topic_result *result);
void bench_topic_table_head(FILE *out);
void bench_topic_table_row(FILE *out, const struct bench_topic_result *result);
/* A row a result, with a head; results behind it too. */
CMQ_MUST_USE enum cmq_err bench_topic_csv(const char *path, const struct bench_topic_result *const *results,
                                          size_t count, struct cmq_reason *reason);

#endif
