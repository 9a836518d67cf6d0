#include "common/base/cmq_reason.h"

#include <stdarg.h>
#include <stdio.h>

enum cmq_err cmq_reason_set(struct cmq_reason *reason, enum cmq_err err, const char *fmt, ...)
{
    if (reason != NULL) {
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(reason->text, sizeof reason->text, fmt, args);
        va_end(args);
    }
    return err;
}
