#include "ctl_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_NOT_STARTED 127
#define STATUS_SIGNALLED   128

/* Only async-signal-safe calls between fork and exec. */
static _Noreturn void child_run(const char *const *argv, int output)
{
    static const char lead[] = "cannot be started: ";
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
        dup2(output, STDERR_FILENO) >= 0)
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv); /* exec does not write to argv */
    const char *why = errno == ENOENT ? "not installed" : "not permitted, or not a program";
    ssize_t done = write(output, lead, sizeof lead - 1);
    done = write(output, why, strlen(why));
    (void)done;
    _exit(STATUS_NOT_STARTED);
}

/* Reads to the end, so that the program never blocks on a full pipe; keeps the beginning. */
static void output_read(int fd, struct ctl_exec_output *ret_output)
{
    char piece[512];
    size_t kept = 0;
    ssize_t got;
    while ((got = read(fd, piece, sizeof piece)) > 0 || (got < 0 && errno == EINTR)) {
        for (ssize_t i = 0; i < got && kept < sizeof ret_output->text - 1; i++) {
            unsigned char byte = (unsigned char)piece[i];
            ret_output->text[kept++] = byte < 0x20 || byte == 0x7f ? ' ' : piece[i];
        }
    }
    while (kept > 0 && ret_output->text[kept - 1] == ' ')
        kept--;
    ret_output->text[kept] = '\0';
}

enum cmq_err ctl_exec(const char *const *argv, int *ret_status, struct ctl_exec_output *ret_output)
{
    int output[2], status = 0;
    pid_t ended;
    if (pipe2(output, O_CLOEXEC) != 0)
        return CMQ_ERR_SYSTEM;
    pid_t child = fork();
    if (child == 0)
        child_run(argv, output[1]);
    (void)close(output[1]);
    if (child < 0) {
        (void)close(output[0]);
        return CMQ_ERR_SYSTEM;
    }
    output_read(output[0], ret_output);
    (void)close(output[0]);
    do {
        ended = waitpid(child, &status, 0);
    } while (ended < 0 && errno == EINTR);
    if (ended != child)
        return CMQ_ERR_SYSTEM;
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_SIGNALLED + WTERMSIG(status);
    return CMQ_OK;
}
