#include "tests/bench/selftest_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 24 };

extern char **environ;

static void read_all(int fd, char *ret_text)
{
    size_t have = 0;
    ssize_t got = 0;
    do {
        have += (size_t)got;
        got = read(fd, ret_text + have, SELFTEST_OUTPUT_BYTES - 1 - have);
    } while (got > 0);
    ret_text[have] = '\0';
}

void run_program(char *const *argv, struct outcome *ret_outcome)
{
    int ends[2];
    posix_spawn_file_actions_t actions;
    pid_t pid;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO), 0);
    assert_int_equal(posix_spawn(&pid, CMQ_BENCH_PROGRAM, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    read_all(ends[0], ret_outcome->text);
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    ret_outcome->exit_code = WEXITSTATUS(status);
}

void run_bench_at(unsigned http_port, unsigned ws_port, const char *mode, const char *more,
                  struct outcome *ret_outcome)
{
    char port[16], listen_port[16], options[1024];
    char *argv[ARGS_MAX] = {"cmq-bench", (char *)(uintptr_t)mode, "--port", port, "--ws-port", listen_port};
    size_t count = 6;
    snprintf(port, sizeof port, "%u", http_port);
    snprintf(listen_port, sizeof listen_port, "%u", ws_port);
    snprintf(options, sizeof options, "%s", more);
    for (char *rest = options, *word; (word = strtok_r(rest, " ", &rest)) != NULL;) {
        assert_true(count < ARGS_MAX - 1);
        argv[count++] = word;
    }
    run_program(argv, ret_outcome);
}

void assert_says(const struct outcome *outcome, const char *text)
{
    if (strstr(outcome->text, text) == NULL)
        fail_msg("\"%s\" is not in:\n%s", text, outcome->text);
}

void assert_does_not_say(const struct outcome *outcome, const char *text)
{
    if (strstr(outcome->text, text) != NULL)
        fail_msg("\"%s\" is in:\n%s", text, outcome->text);
}
