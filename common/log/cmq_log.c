/*
 * Happy path: the line is built on the stack and leaves in one write(2), so lines of several threads and
 * processes never mix (a pipe takes up to PIPE_BUF bytes whole, and a line is shorter).
 *
 * Repeats: each event has one word {second, count}. The 21st WARN or ERROR line of an event in a second is
 * only counted. The next line of that event in a later second, or cmq_log_tick, takes the word away by one
 * compare-and-swap and reports what was held back; whoever wins it writes the report, so no count is reported
 * twice.
 */
#include "common/log/cmq_log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "common/log/cmq_log_int.h"

#define LINE_BYTES_MAX  1024u
#define REPEATS_PER_S   20u
#define QUOTE_INPUT_MAX 128u
#define COUNT_BITS      24u
#define COUNT_MASK      ((1u << COUNT_BITS) - 1u)
#define CUT_MARK        " cut=1"
#define CUT_MARK_BYTES  (sizeof CUT_MARK - 1u)

static const char *const event_names[] = {
#define X(name, text) text,
    CMQ_LOG_EVENT_MAP(X)
#undef X
};
#define EVENT_COUNT CMQ_COUNT_OF(event_names)

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* All of this is set before other threads start, or is a plain word: relaxed everywhere, nothing is published
 * by it. */
static const char *log_stage = "ciphermq";
static unsigned log_instance;
static cmq_log_keep *log_keep;
static void *log_keep_context;
static uint64_t (*log_mono_ns)(void) = cmq_clock_mono_ns;
static atomic_int log_level = CMQ_LOG_INFO;
static _Atomic uint64_t log_windows[EVENT_COUNT]; /* second << COUNT_BITS | lines in that second; 0 = none */
static _Atomic uint64_t log_lost;

struct line {
    enum cmq_log_level level;
    enum cmq_log_event event;
    size_t head_bytes; /* up to and with the event */
    size_t bytes;
    char text[LINE_BYTES_MAX + 1u]; /* the closing NUL of vsnprintf is not written out */
};

void cmq_log_open(const char *stage, unsigned instance, enum cmq_log_level level)
{
    log_stage = stage;
    log_instance = instance;
    cmq_log_set_level(level);
}

void cmq_log_set_level(enum cmq_log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

void cmq_log_set_mono_clock(uint64_t (*mono_ns)(void))
{
    log_mono_ns = mono_ns;
}

void cmq_log_set_keep(cmq_log_keep *keep, void *context)
{
    log_keep = keep;
    log_keep_context = context;
}

static void line_begin(struct line *line, enum cmq_log_level level, enum cmq_log_event event)
{
    struct timespec now;
    struct tm utc;
    char when[32];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
    int bytes = snprintf(line->text, sizeof line->text,
                         "ts=%s.%03ldZ level=%s stage=%s inst=%u pid=%ld ev=%s", when, now.tv_nsec / 1000000,
                         level_names[level], log_stage, log_instance, (long)getpid(), event_names[event]);
    line->bytes = cmq_min_u64(bytes < 0 ? 0 : (uint64_t)bytes, LINE_BYTES_MAX);
    line->head_bytes = line->bytes;
    line->level = level;
    line->event = event;
}

/* The last place at or before `limit` where a pair ends, so that a cut never leaves an open quote. */
static size_t cut_position(const char *text, size_t begin, size_t limit)
{
    size_t position = begin;
    bool quoted = false;
    for (size_t i = begin; i <= limit; i++) {
        if (text[i] == '"')
            quoted = !quoted;
        else if (text[i] == ' ' && !quoted)
            position = i;
    }
    return position;
}

static void line_add(struct line *line, const char *fmt, va_list args) CMQ_PRINTF(2, 0);
static void line_add(struct line *line, const char *fmt, va_list args)
{
    size_t head = line->bytes;
    size_t room = LINE_BYTES_MAX - 1u - head; /* 1: newline */
    if (fmt[0] == '\0' || room < 2u)
        return;
    line->text[head] = ' ';
    int wanted =
        vsnprintf(line->text + head + 1u, room, fmt, args); /* writes room - 1 characters and the NUL */
    if (wanted < 0)
        return;
    if ((size_t)wanted < room) {
        line->bytes = head + 1u + (size_t)wanted;
    } else {
        line->bytes = cut_position(line->text, head, head + room - CUT_MARK_BYTES);
        memcpy(line->text + line->bytes, CUT_MARK, CUT_MARK_BYTES);
        line->bytes += CUT_MARK_BYTES;
    }
    /* One call is one line whatever the caller passed: a forged line cannot begin inside it. */
    for (size_t i = head; i < line->bytes; i++) {
        if ((unsigned char)line->text[i] < 0x20u)
            line->text[i] = '?';
    }
}

static void line_keep(const struct line *line)
{
    if (log_keep == NULL || line->level < CMQ_LOG_WARN)
        return;
    size_t begin = line->head_bytes;
    if (begin < line->bytes) /* the blank */
        begin++;
    log_keep(log_keep_context, line->level, event_names[line->event], line->text + begin,
             line->bytes - begin);
}

static void line_write(struct line *line)
{
    line_keep(line);
    line->text[line->bytes++] = '\n';
    ssize_t done;
    do {
        done = write(STDERR_FILENO, line->text, line->bytes);
    } while (done < 0 && errno == EINTR);
    if (done != (ssize_t)line->bytes)
        atomic_fetch_add_explicit(&log_lost, 1u, memory_order_relaxed); /* statistics only */
}

static void write_line(enum cmq_log_level level, enum cmq_log_event event, const char *fmt, ...)
    CMQ_PRINTF(3, 4);
static void write_line(enum cmq_log_level level, enum cmq_log_event event, const char *fmt, ...)
{
    struct line line;
    line_begin(&line, level, event);
    va_list args;
    va_start(args, fmt);
    line_add(&line, fmt, args);
    va_end(args);
    line_write(&line);
}

static uint64_t now_second(void)
{
    return log_mono_ns() / CMQ_NS_PER_S + 1u; /* + 1: a window of second 0 is not "none" */
}

static void report_window(enum cmq_log_event event, uint64_t window)
{
    uint64_t count = window & COUNT_MASK;
    if (count > REPEATS_PER_S)
        write_line(CMQ_LOG_WARN, CMQ_EV_REPEATED, "of=%s count=%llu", event_names[event],
                   (unsigned long long)(count - REPEATS_PER_S));
}

/* Counts one line of the event; returns whether it may be written. Relaxed: the word stands for itself. */
static bool repeat_allowed(enum cmq_log_event event)
{
    uint64_t second = now_second();
    uint64_t window = atomic_load_explicit(&log_windows[event], memory_order_relaxed);
    uint64_t next;
    bool same;
    do {
        same = window >> COUNT_BITS >=
               second; /* a thread that read the clock earlier counts in the newer window */
        if (!same)
            next = second << COUNT_BITS | 1u;
        else
            next = (window & COUNT_MASK) == COUNT_MASK ? window : window + 1u;
    } while (!atomic_compare_exchange_weak_explicit(&log_windows[event], &window, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    if (!same)
        report_window(event, window);
    return (next & COUNT_MASK) <= REPEATS_PER_S;
}

void cmq_log(enum cmq_log_level level, enum cmq_log_event event, const char *fmt, ...)
{
    cmq_assert((size_t)event < EVENT_COUNT && (size_t)level < CMQ_COUNT_OF(level_names));
    if ((int)level < atomic_load_explicit(&log_level, memory_order_relaxed))
        return;
    if (level >= CMQ_LOG_WARN && !repeat_allowed(event))
        return;
    struct line line;
    line_begin(&line, level, event);
    va_list args;
    va_start(args, fmt);
    line_add(&line, fmt, args);
    va_end(args);
    line_write(&line);
}

void cmq_log_tick(void)
{
    uint64_t second = now_second();
    for (size_t i = 0; i < EVENT_COUNT; i++) {
        uint64_t window = atomic_load_explicit(&log_windows[i], memory_order_relaxed);
        /* Fails when a line of the event came between: that line's thread then has the word, and reports it.
         */
        if (window != 0 && window >> COUNT_BITS < second &&
            atomic_compare_exchange_strong_explicit(&log_windows[i], &window, 0, memory_order_relaxed,
                                                    memory_order_relaxed))
            report_window((enum cmq_log_event)i, window);
    }
    uint64_t lost = atomic_exchange_explicit(&log_lost, 0u, memory_order_relaxed);
    if (lost != 0)
        write_line(CMQ_LOG_WARN, CMQ_EV_SYSTEM_ERROR, "lost_lines=%llu", (unsigned long long)lost);
}

/* Escapes until the input ends or the next character might not leave room for `..."` and the NUL. */
static void quote_into(char *out, size_t out_bytes, const unsigned char *in, size_t bytes, size_t input_max)
{
    static const char hex[] = "0123456789abcdef";
    const char *const limit = out + out_bytes - sizeof "\\xNN...\"" + 1;
    *out++ = '"';
    size_t i = 0;
    for (; i < bytes && i < input_max && out < limit; i++) {
        if (in[i] < 0x20u || in[i] > 0x7eu || in[i] == '"' || in[i] == '\\') {
            *out++ = '\\';
            *out++ = 'x';
            *out++ = hex[in[i] >> 4];
            *out++ = hex[in[i] & 15u];
        } else {
            *out++ = (char)in[i];
        }
    }
    if (i < bytes) {
        memcpy(out, "...", 3);
        out += 3;
    }
    *out++ = '"';
    *out = '\0';
}

const char *cmq_log_quote(struct cmq_log_quoted *ret_quoted, const void *data, size_t bytes)
{
    static_assert(sizeof ret_quoted->text >= QUOTE_INPUT_MAX * 4u + sizeof "\"...\"", "a cut value fits");
    quote_into(ret_quoted->text, sizeof ret_quoted->text, data, bytes, QUOTE_INPUT_MAX);
    return ret_quoted->text;
}

const char *cmq_log_sentence(struct cmq_log_quoted_sentence *ret_quoted, const char *sentence)
{
    size_t bytes = strlen(sentence);
    quote_into(ret_quoted->text, sizeof ret_quoted->text, (const unsigned char *)sentence, bytes, bytes);
    return ret_quoted->text;
}
