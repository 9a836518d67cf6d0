/*
 * ctl_progress: one line on a terminal about work that takes long.
 * Ownership: the caller's memory; what is borrowed.
 * Units: bytes.
 * Errors: none. Where stderr is no terminal, or JSON was asked for, nothing is shown.
 * Callers: the only thread.
 */
#ifndef CTL_PROGRESS_H
#define CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct ctl_progress {
    const char *what;
    uint64_t done, total;
    uint64_t begin_ns, drawn_ns;
    bool shown;
};

/* total 0: not known. */
void ctl_progress_begin(struct ctl_progress *progress, const char *what, uint64_t total, bool json);
/* Draws ten times a second at most. */
void ctl_progress_add(struct ctl_progress *progress, uint64_t bytes);
/* Takes the line away until the next ctl_progress_add: something else is to be written. */
void ctl_progress_clear(struct ctl_progress *progress);
/* Takes the line away. Harmless on a zeroed struct. */
void ctl_progress_end(struct ctl_progress *progress);

#endif
