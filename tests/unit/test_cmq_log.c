/* Unit tests of common/log. stderr is a pipe while a test runs; the clock of the repeats is moved by hand. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/log/cmq_log_int.h"

static int read_fd = -1, saved_stderr = -1;
static uint64_t fake_ns;
static char captured[256 * 1024];

static uint64_t fake_clock(void)
{
    return fake_ns;
}

static int capture_begin(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    assert_true(fcntl(fds[1], F_SETPIPE_SZ, 512 * 1024) > 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    (void)close(fds[1]);
    read_fd = fds[0];
    fake_ns += 100 * CMQ_NS_PER_S; /* a fresh second for every test */
    cmq_log_set_mono_clock(fake_clock);
    cmq_log_open("ingest", 3, CMQ_LOG_INFO);
    return 0;
}

static int capture_end(void **state)
{
    (void)state;
    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved_stderr);
    (void)close(read_fd);
    return 0;
}

/* Everything written so far, as one string. */
static const char *capture_take(void)
{
    size_t bytes = 0;
    ssize_t got;
    while ((got = read(read_fd, captured + bytes, sizeof captured - 1u - bytes)) > 0)
        bytes += (size_t)got;
    captured[bytes] = '\0';
    return captured;
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

static void log_line_has_the_fixed_fields_in_order(void **state)
{
    (void)state;
    cmq_log(CMQ_LOG_INFO, CMQ_EV_LISTENING, "port=%d", 3000);
    const char *text = capture_take();
    unsigned year, month, day, hour, minute, second, milli, inst;
    char level[16], stage[16], ev[32];
    long pid;
    int port;
    assert_int_equal(
        sscanf(text,
               "ts=%4u-%2u-%2uT%2u:%2u:%2u.%3uZ level=%15s stage=%15s inst=%u pid=%ld ev=%31s port=%d\n",
               &year, &month, &day, &hour, &minute, &second, &milli, level, stage, &inst, &pid, ev, &port),
        13);
    assert_string_equal(level, "info");
    assert_string_equal(stage, "ingest");
    assert_int_equal(inst, 3);
    assert_int_equal(pid, getpid());
    assert_string_equal(ev, "listening");
    assert_int_equal(port, 3000);
    assert_int_equal(count_of(text, "\n"), 1);
}

static void log_line_without_pairs_has_no_trailing_blank(void **state)
{
    (void)state;
    cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "%s", "");
    const char *text = capture_take();
    assert_non_null(strstr(text, "ev=ready"));
    assert_int_equal(count_of(text, "\n"), 1);
}

static void log_below_the_level_is_not_written(void **state)
{
    (void)state;
    cmq_log(CMQ_LOG_DEBUG, CMQ_EV_READY, "n=1");
    assert_string_equal(capture_take(), "");
    cmq_log_set_level(CMQ_LOG_DEBUG);
    cmq_log(CMQ_LOG_DEBUG, CMQ_EV_READY, "n=2");
    assert_int_equal(count_of(capture_take(), "n=2\n"), 1);
    cmq_log_set_level(CMQ_LOG_ERROR);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_READY, "n=3");
    assert_string_equal(capture_take(), "");
}

static void log_control_characters_cannot_forge_a_line(void **state)
{
    (void)state;
    cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "a=%s", "x\nts=forged\r\x1b[2J");
    const char *text = capture_take();
    assert_int_equal(count_of(text, "\n"), 1);
    assert_non_null(strstr(text, "a=x?ts=forged??[2J\n"));
}

static void log_long_line_is_cut_between_pairs_and_marked(void **state)
{
    (void)state;
    char big[2000];
    memset(big, 'v', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "first=1 second=\"two words\" third=\"a b %s x\" fourth=4", big);
    const char *text = capture_take();
    assert_true(strlen(text) <= 1024);
    const char *tail = "first=1 second=\"two words\" cut=1\n";
    assert_string_equal(text + strlen(text) - strlen(tail), tail);
}

static void log_line_of_every_length_up_to_the_limit_is_whole(void **state)
{
    (void)state;
    char big[1200];
    for (size_t length = 800; length < 1100; length++) {
        memset(big, 'v', length);
        big[length] = '\0';
        cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "x=1 y=%s", big);
        const char *text = capture_take();
        size_t bytes = strlen(text);
        assert_true(bytes <= 1024);
        assert_int_equal(text[bytes - 1], '\n');
        bool whole = strstr(text, big) != NULL;
        assert_int_equal(whole, strstr(text, " cut=1\n") == NULL);
        assert_true(whole || (size_t)(strstr(text, " x=1") - text) + strlen(" x=1 y=\n") + length > 1024);
    }
}

static void log_line_cut_anywhere_stays_within_the_limit(void **state)
{
    (void)state;
    char big[1200], long_one[1200];
    memset(long_one, 'w', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    for (size_t length = 800; length < 1000; length++) {
        memset(big, 'v', length);
        big[length] = '\0';
        cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "x=1 y=%s z=%s", big, long_one);
        const char *text = capture_take();
        assert_true(strlen(text) <= 1024);
        assert_string_equal(text + strlen(text) - strlen(" cut=1\n"), " cut=1\n");
        assert_null(strchr(text, 'w'));
    }
}

static void log_repeats_are_counted_and_reported_once_by_the_next_line(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_RING_FULL, "i=%d", i);
    const char *text = capture_take();
    assert_int_equal(count_of(text, "ev=ring_full"), 20);
    assert_non_null(strstr(text, "i=19\n"));
    fake_ns += CMQ_NS_PER_S;
    cmq_log(CMQ_LOG_WARN, CMQ_EV_RING_FULL, "i=100");
    text = capture_take();
    assert_int_equal(count_of(text, "ev=repeated of=ring_full count=80\n"), 1);
    assert_int_equal(count_of(text, "ev=ring_full i=100\n"), 1);
    cmq_log_tick();
    fake_ns += CMQ_NS_PER_S;
    cmq_log_tick();
    assert_string_equal(capture_take(), "");
}

static void log_repeats_are_reported_by_the_tick_when_the_event_stops(void **state)
{
    (void)state;
    for (int i = 0; i < 21; i++)
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_RECORD_BAD, "i=%d", i);
    (void)capture_take();
    cmq_log_tick();
    assert_string_equal(capture_take(), ""); /* the second is not over */
    fake_ns += CMQ_NS_PER_S;
    cmq_log_tick();
    assert_int_equal(count_of(capture_take(), "ev=repeated of=record_bad count=1\n"), 1);
    cmq_log_tick();
    assert_string_equal(capture_take(), "");
}

static void log_repeats_of_one_event_do_not_hide_another_or_info(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        cmq_log(CMQ_LOG_WARN, CMQ_EV_RING_FULL, "i=%d", i);
        cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "i=%d", i);
    }
    cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_SLOW, "n=1");
    const char *text = capture_take();
    assert_int_equal(count_of(text, "ev=ring_full"), 20);
    assert_int_equal(count_of(text, "ev=ready"), 50);
    assert_int_equal(count_of(text, "ev=client_slow"), 1);
}

static void *log_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < 5000; i++)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_RING_CORRUPT, "i=%d", i);
    return NULL;
}

static void log_repeats_of_several_threads_are_counted_exactly(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (size_t i = 0; i < CMQ_COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, NULL), 0);
    for (size_t i = 0; i < CMQ_COUNT_OF(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(count_of(capture_take(), "ev=ring_corrupt"), 20);
    fake_ns += CMQ_NS_PER_S;
    cmq_log_tick();
    assert_int_equal(count_of(capture_take(), "of=ring_corrupt count=19980\n"), 1);
}

static void log_lost_lines_are_counted_and_reported(void **state)
{
    (void)state;
    int full[2];
    assert_int_equal(pipe2(full, O_NONBLOCK | O_CLOEXEC), 0);
    char page[4096] = {0};
    while (write(full[1], page, sizeof page) > 0) {
    }
    int before = dup(STDERR_FILENO);
    assert_int_equal(dup2(full[1], STDERR_FILENO), STDERR_FILENO);
    for (int i = 0; i < 3; i++)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "i=%d", i);
    assert_int_equal(dup2(before, STDERR_FILENO), STDERR_FILENO);
    (void)close(before);
    (void)close(full[0]);
    (void)close(full[1]);
    cmq_log_tick();
    assert_int_equal(count_of(capture_take(), "lost_lines=3\n"), 1);
    cmq_log_tick();
    assert_string_equal(capture_take(), "");
}

static void log_quote_escapes_all_but_printable_ascii(void **state)
{
    (void)state;
    struct cmq_log_quoted quoted;
    assert_string_equal(cmq_log_quote(&quoted, "plain text=1", 12), "\"plain text=1\"");
    assert_string_equal(cmq_log_quote(&quoted, "a\"b\\c\n\0\x7f\xc3\xa9", 10),
                        "\"a\\x22b\\x5cc\\x0a\\x00\\x7f\\xc3\\xa9\"");
    assert_string_equal(cmq_log_quote(&quoted, NULL, 0), "\"\"");
    assert_string_equal(cmq_log_quote(&quoted, " ~", 2), "\" ~\"");
}

static void log_quote_cuts_at_128_input_bytes(void **state)
{
    (void)state;
    struct cmq_log_quoted quoted;
    unsigned char data[129];
    memset(data, 0xff, sizeof data);
    assert_int_equal(strlen(cmq_log_quote(&quoted, data, 128)), 128 * 4 + 2);
    const char *text = cmq_log_quote(&quoted, data, 129);
    assert_int_equal(strlen(text), 128 * 4 + 5);
    assert_string_equal(text + strlen(text) - 8, "\\xff...\"");
}

static void log_sentence_of_any_kind_fits_its_buffer(void **state)
{
    (void)state;
    struct cmq_log_quoted_sentence quoted;
    assert_string_equal(cmq_log_sentence(&quoted, "do this: x"), "\"do this: x\"");
    char text[1200];
    for (size_t length = 0; length < sizeof text; length++) {
        for (size_t i = 0; i < length; i++)
            text[i] = (i + length) % 3 == 0 ? '\n' : 'a';
        text[length] = '\0';
        const char *out = cmq_log_sentence(&quoted, text);
        size_t bytes = strlen(out);
        assert_true(bytes < sizeof quoted.text);
        assert_int_equal(out[bytes - 1], '"');
        assert_true(length > 511 || length < 390 || bytes > 390);
    }
}

static struct {
    unsigned lines;
    enum cmq_log_level level;
    char event[32], text[1200];
} given;

static void keep(void *context, enum cmq_log_level level, const char *event, const char *text, size_t bytes)
{
    assert_ptr_equal(context, &given);
    assert_true(bytes < sizeof given.text);
    given.lines++;
    given.level = level;
    (void)snprintf(given.event, sizeof given.event, "%s", event);
    (void)snprintf(given.text, sizeof given.text, "%.*s", (int)bytes, text);
}

static void log_gives_warnings_and_errors_as_they_are_written(void **state)
{
    (void)state;
    memset(&given, 0, sizeof given);
    cmq_log_set_keep(keep, &given);
    cmq_log(CMQ_LOG_INFO, CMQ_EV_READY, "a=1");
    assert_int_equal(given.lines, 0);
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "exit=%d reason=\"%s\"", 78, "a\nb");
    assert_int_equal(given.lines, 1);
    assert_int_equal(given.level, CMQ_LOG_ERROR);
    assert_string_equal(given.event, "refused");
    assert_string_equal(given.text, "exit=78 reason=\"a?b\"");
    cmq_log(CMQ_LOG_WARN, CMQ_EV_READY, "%s", "");
    assert_int_equal(given.level, CMQ_LOG_WARN);
    assert_string_equal(given.text, "");
    for (unsigned i = 0; i < 50; i++) /* those that are only counted are not given */
        cmq_log(CMQ_LOG_WARN, CMQ_EV_WAITING, "n=%u", i);
    assert_int_equal(given.lines, 22);
    fake_ns += CMQ_NS_PER_S;
    cmq_log_tick();
    assert_string_equal(given.event, "repeated");
    assert_string_equal(given.text, "of=waiting count=30");
    cmq_log_set_keep(NULL, NULL);
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "a=2");
    assert_int_equal(given.lines, 23);
    (void)capture_take();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, capture_begin, capture_end)
    const struct CMUnitTest tests[] = {
        T(log_line_has_the_fixed_fields_in_order),
        T(log_line_without_pairs_has_no_trailing_blank),
        T(log_below_the_level_is_not_written),
        T(log_control_characters_cannot_forge_a_line),
        T(log_long_line_is_cut_between_pairs_and_marked),
        T(log_line_of_every_length_up_to_the_limit_is_whole),
        T(log_line_cut_anywhere_stays_within_the_limit),
        T(log_repeats_are_counted_and_reported_once_by_the_next_line),
        T(log_repeats_are_reported_by_the_tick_when_the_event_stops),
        T(log_repeats_of_one_event_do_not_hide_another_or_info),
        T(log_repeats_of_several_threads_are_counted_exactly),
        T(log_lost_lines_are_counted_and_reported),
        T(log_quote_escapes_all_but_printable_ascii),
        T(log_quote_cuts_at_128_input_bytes),
        T(log_sentence_of_any_kind_fits_its_buffer),
        T(log_gives_warnings_and_errors_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
