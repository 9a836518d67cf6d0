#include "ctl_progress.h"

#include <stdio.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"

enum { BAR_CELLS = 24, DRAW_NS = 100000000 };
static const double mib = 1048576.0;

void ctl_progress_begin(struct ctl_progress *progress, const char *what, uint64_t total, bool json)
{
    *progress = (struct ctl_progress){.what = what,
                                      .total = total,
                                      .begin_ns = cmq_clock_mono_ns(),
                                      .shown = !json && isatty(STDERR_FILENO) == 1};
}

static void draw(struct ctl_progress *progress, uint64_t now_ns)
{
    char bar[BAR_CELLS + 1];
    const uint64_t done = cmq_min_u64(progress->done, progress->total);
    const double part = progress->total == 0 ? 0.0 : (double)done / (double)progress->total;
    const double seconds = (double)(now_ns - progress->begin_ns) / 1e9;
    const double rate = seconds > 0.0 ? (double)progress->done / seconds : 0.0;
    const uint64_t left_s = rate > 0.0 ? (uint64_t)((double)(progress->total - done) / rate + 0.5) : 0;
    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = (double)i < part * BAR_CELLS ? '#' : '.';
    bar[BAR_CELLS] = '\0';
    if (progress->total == 0)
        (void)fprintf(stderr, "\r%s  %.1f MiB  %.1f MiB/s\033[K", progress->what,
                      (double)progress->done / mib, rate / mib);
    else
        (void)fprintf(stderr, "\r%s [%s] %3.0f %%  %.1f of %.1f MiB  %.1f MiB/s  %llu:%02llu left\033[K",
                      progress->what, bar, part * 100.0, (double)progress->done / mib,
                      (double)progress->total / mib, rate / mib, (unsigned long long)(left_s / 60),
                      (unsigned long long)(left_s % 60));
    (void)fflush(stderr);
    progress->drawn_ns = now_ns;
}

void ctl_progress_add(struct ctl_progress *progress, uint64_t bytes)
{
    progress->done += bytes;
    if (!progress->shown)
        return;
    const uint64_t now_ns = cmq_clock_mono_ns();
    if (progress->drawn_ns == 0 || now_ns - progress->drawn_ns >= DRAW_NS)
        draw(progress, now_ns);
}

void ctl_progress_clear(struct ctl_progress *progress)
{
    if (progress->shown && progress->drawn_ns != 0)
        (void)fputs("\r\033[K", stderr);
    progress->drawn_ns = 0;
}

void ctl_progress_end(struct ctl_progress *progress)
{
    ctl_progress_clear(progress);
    progress->shown = false;
}
