#include "ctl.h"

#include <stdarg.h>
#include <stdio.h>

int ctl_fail(int exit_code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fputs("ciphermqctl: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
    return exit_code;
}

int ctl_fail_err(enum cmq_err err, const struct cmq_reason *reason)
{
    return ctl_fail(cmq_proc_exit_of(err), "%s", reason->text[0] == '\0' ? cmq_err_text(err) : reason->text);
}
