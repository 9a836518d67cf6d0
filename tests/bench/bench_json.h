/*
 * bench_json: writes JSON objects and arrays to a stream.
 * Ownership: borrows the stream and every text.
 * Units: none; numbers are written as they are.
 * Errors: none here; the caller checks the stream at the end (ferror).
 * Callers: one thread at a time.
 */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct bench_json {
    FILE *out;
    bool comma; /* something stands before the next value at this depth */
};

/* key NULL: an element of an array, or the outermost value. bracket: '{' or '['; close takes '}' or ']'. */
void bench_json_open(struct bench_json *json, const char *key, char bracket);
void bench_json_close(struct bench_json *json, char bracket);
void bench_json_u64(struct bench_json *json, const char *key, uint64_t value);
void bench_json_f64(struct bench_json *json, const char *key, double value);
void bench_json_bool(struct bench_json *json, const char *key, bool value);
void bench_json_text(struct bench_json *json, const char *key, const char *text);

#endif
