/*
 * selftest_program: runs cmq-bench for a test and looks at what it says.
 * Ownership: the outcome is the caller's.
 * Units: bytes.
 * Errors: a failed assertion of the test.
 * Callers: the test's main thread.
 */
#ifndef SELFTEST_PROGRAM_H
#define SELFTEST_PROGRAM_H

enum { SELFTEST_OUTPUT_BYTES = 65536, CHECK_FAILED = 1, USAGE = 64, UNAVAILABLE = 69 };

struct outcome {
    int exit_code;
    char text[SELFTEST_OUTPUT_BYTES]; /* both outputs */
};

void run_program(char *const *argv, struct outcome *ret_outcome);
/* more: options separated by single blanks. */
void run_bench_at(unsigned http_port, unsigned ws_port, const char *mode, const char *more,
                  struct outcome *ret_outcome);
void assert_says(const struct outcome *outcome, const char *text);
void assert_does_not_say(const struct outcome *outcome, const char *text);

#endif
