/* cmq-bench against a fake broker that keeps its promises, or breaks exactly one of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/fake_broker.h"
#include "tests/bench/selftest_program.h"

static void run_bench(const struct fake_broker *fake, const char *mode, const char *more,
                      struct outcome *ret_outcome)
{
    run_bench_at(fake_broker_http_port(fake), fake_broker_ws_port(fake), mode, more, ret_outcome);
}

/* 10 POSTs of 100 over one connection with a fault at message `at`: must fail, say why, and give no rate. */
static void assert_detected(enum fake_fault fault, unsigned long at, const char *why)
{
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(fault, at);
    run_bench(fake, "batch", "--messages 1000 --size 100 --connections 1 --timeout 3 --json -", &outcome);
    fake_broker_stop(fake);
    assert_int_equal(outcome.exit_code, CHECK_FAILED);
    assert_says(&outcome, "FAILED");
    assert_says(&outcome, why);
    assert_does_not_say(&outcome, "messages/s");
    assert_does_not_say(&outcome, "messages_per_s");
    assert_does_not_say(&outcome, "p50");
}

static void assert_passes(enum fake_fault fault, unsigned long at, const char *mode, const char *options,
                          struct outcome *ret_outcome)
{
    struct fake_broker *fake = fake_broker_start(fault, at);
    run_bench(fake, mode, options, ret_outcome);
    fake_broker_stop(fake);
    if (ret_outcome->exit_code != 0)
        fail_msg("exit %d:\n%s", ret_outcome->exit_code, ret_outcome->text);
    assert_says(ret_outcome, "ok, each message exactly once and in order");
    assert_says(ret_outcome, "messages/s");
}

/* ---- what must pass ---- */

static void reference_load_passes(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "reference", "", &outcome);
    assert_says(&outcome, "reference: 100,000 messages in 5 POSTs of 20,000, 5 connections");
}

static void batches_over_four_connections_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "batch", "--messages 50050 --size 100", &outcome);
}

static void single_messages_over_sixteen_connections_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "single", "--messages 3000", &outcome);
}

static void durable_batches_and_singles_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "durable", "--messages 60000", &outcome);
    assert_says(&outcome, "durable: 60,000 messages in 3 POSTs of 20,000");
    assert_passes(FAKE_NONE, 0, "durable-single", "--messages 1000 --connections 60", &outcome);
    assert_says(&outcome, "durable-single: 1,000 messages in 1,000 POSTs of 1, 60 connections");
}

static void latency_reports_percentiles_of_delivery(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "latency", "--rate 500 --seconds 1", &outcome);
    assert_says(&outcome, "delivery  : p50");
    assert_says(&outcome, "late      : p50");
}

static void fragments_pings_escapes_and_short_writes_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(FAKE_NOISY, 0);
    run_bench(fake, "batch", "--messages 2000 --size 100 --connections 2", &outcome);
    unsigned pongs = fake_broker_pongs(fake);
    fake_broker_stop(fake);
    if (outcome.exit_code != 0)
        fail_msg("%s", outcome.text);
    assert_true(pongs >= 10);
}

static void replies_that_close_the_connection_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_CLOSE_EACH, 0, "batch", "--messages 1000 --size 100 --connections 2", &outcome);
    assert_does_not_say(&outcome, "retries");
}

static void post_refused_once_is_sent_again(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_REFUSE_ONCE, 301, "batch", "--messages 1000 --size 100 --connections 1", &outcome);
    assert_says(&outcome, "1 retries (last: POST 3: status 503)");
}

static void duplicates_of_a_post_whose_connection_broke_are_reported_apart(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_RESET, 301, "batch", "--messages 1000 --size 100 --connections 1", &outcome);
    assert_says(&outcome, "100 duplicates after retry");
}

static void old_messages_are_discarded_before_the_run(void **state)
{
    (void)state;
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(FAKE_NONE, 0);
    fake_broker_leave_frame(fake, "[\"message_1\",\"message_2\", \"other\"]");
    run_bench(fake, "batch", "--messages 1000 --size 100", &outcome);
    fake_broker_stop(fake);
    if (outcome.exit_code != 0)
        fail_msg("%s", outcome.text);
    assert_says(&outcome, "3 old messages waited");
}

/* ---- what must be detected ---- */

static void lost_message_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_LOSE, 550, "1 messages missing (the first is message_550)");
}

static void lost_last_message_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_LOSE, 1000, "1 messages missing (the first is message_1000)");
}

static void duplicate_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_DUPLICATE, 550, "1 duplicates");
}

static void duplicate_of_the_last_message_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_DUPLICATE, 1000, "1 duplicates");
}

static void duplicate_after_all_messages_came_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_LATE_DUPLICATE, 901, "1 duplicates");
}

static void reordered_messages_are_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_REORDER, 550, "out of order at 1 places");
}

static void changed_content_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_CORRUPT, 550, "1 messages with content that nobody sent");
}

static void batch_that_is_not_contiguous_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_SPLIT, 501, "out of order at 1 places");
}

static void swapped_batches_of_one_connection_are_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_SWAP, 501, "out of order at 1 places");
}

static void frame_that_is_no_json_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_NOT_JSON, 501, "1 WebSocket messages that are no JSON array of strings");
}

static void masked_frame_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_BAD_FRAME, 501, "unexpected WebSocket frame, head 0x81");
}

static void closed_websocket_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_HANG_UP, 501, "closed the WebSocket connection");
}

static void level_that_was_not_asked_for_is_detected(void **state)
{
    (void)state;
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(FAKE_LEVEL, 501);
    run_bench(fake, "durable", "--messages 1000 --size 100 --connections 1 --timeout 3", &outcome);
    fake_broker_stop(fake);
    assert_int_equal(outcome.exit_code, CHECK_FAILED);
    assert_says(&outcome, "1 POSTs were not acknowledged as durable (the first one: \"accepted\")");
    assert_does_not_say(&outcome, "messages/s");
}

static void post_that_is_always_refused_fails_after_three_retries(void **state)
{
    (void)state;
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(FAKE_REFUSE, 501);
    run_bench(fake, "batch", "--messages 1000 --size 100 --connections 2 --timeout 20", &outcome);
    fake_broker_stop(fake);
    assert_int_equal(outcome.exit_code, CHECK_FAILED);
    assert_says(&outcome, "1 POSTs failed after 3 retries (last: POST 5: status 503), 100 messages missing");
    assert_does_not_say(&outcome, "messages/s");
}

static void broker_that_never_answers_ends_in_a_timeout(void **state)
{
    (void)state;
    assert_detected(FAKE_SILENT, 501, "timed out after 3 s, 5 POSTs not answered");
}

/* ---- command line and files ---- */

static void unreachable_broker_is_exit_69(void **state)
{
    (void)state;
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(FAKE_NONE, 0);
    char port[16], ws_port[16];
    snprintf(port, sizeof port, "%u", fake_broker_http_port(fake));
    snprintf(ws_port, sizeof ws_port, "%u", fake_broker_ws_port(fake));
    fake_broker_stop(fake);
    char *argv[] = {"cmq-bench", "batch", "--port", port, "--ws-port", ws_port, NULL};
    run_program(argv, &outcome);
    assert_int_equal(outcome.exit_code, UNAVAILABLE);
}

static void wrong_usage_is_exit_64_and_help_is_exit_0(void **state)
{
    (void)state;
    static struct outcome outcome;
    static char *const wrong[][5] = {
        {"cmq-bench", NULL},
        {"cmq-bench", "speed", NULL},
        {"cmq-bench", "batch", "--size", "0", NULL},
        {"cmq-bench", "batch", "--size", "1x", NULL},
        {"cmq-bench", "batch", "--rate", "5", NULL},
        {"cmq-bench", "batch", "--what", NULL},
        {"cmq-bench", "batch", "single", NULL},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        run_program(wrong[i], &outcome);
        assert_int_equal(outcome.exit_code, USAGE);
        assert_says(&outcome, "try --help");
    }
    char *help[] = {"cmq-bench", "--help", NULL};
    run_program(help, &outcome);
    assert_int_equal(outcome.exit_code, 0);
    assert_says(&outcome, "usage: cmq-bench");
}

static unsigned count_lines(const char *path, char *ret_second, size_t bytes)
{
    char line[512];
    unsigned lines = 0;
    FILE *in = fopen(path, "re");
    assert_non_null(in);
    while (fgets(line, sizeof line, in) != NULL)
        if (++lines == 2)
            snprintf(ret_second, bytes, "%s", line);
    fclose(in);
    return lines;
}

static void csv_has_a_row_a_message_and_a_summary(void **state)
{
    (void)state;
    static struct outcome outcome;
    char directory[] = "/tmp/cmq-bench-XXXXXX", options[256], path[128], summary[160], second[512];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/results.csv", directory);
    snprintf(summary, sizeof summary, "%s/results_summary.csv", directory);
    snprintf(options, sizeof options, "--messages 1000 --size 100 --csv %s", path);
    assert_passes(FAKE_NONE, 0, "batch", options, &outcome);
    assert_int_equal(count_lines(path, second, sizeof second), 1001);
    assert_memory_equal(second, "1,200,0.", 8);
    assert_true(strtod(second + 6, NULL) > 0);
    assert_non_null(strstr(second, ",True,\r\n"));
    assert_int_equal(count_lines(summary, second, sizeof second), 8);
    assert_string_equal(second, "Total messages sent,1000\r\n");
    unlink(path);
    unlink(summary);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_load_passes),
        cmocka_unit_test(batches_over_four_connections_pass),
        cmocka_unit_test(single_messages_over_sixteen_connections_pass),
        cmocka_unit_test(durable_batches_and_singles_pass),
        cmocka_unit_test(latency_reports_percentiles_of_delivery),
        cmocka_unit_test(fragments_pings_escapes_and_short_writes_pass),
        cmocka_unit_test(replies_that_close_the_connection_pass),
        cmocka_unit_test(post_refused_once_is_sent_again),
        cmocka_unit_test(duplicates_of_a_post_whose_connection_broke_are_reported_apart),
        cmocka_unit_test(old_messages_are_discarded_before_the_run),
        cmocka_unit_test(lost_message_is_detected),
        cmocka_unit_test(lost_last_message_is_detected),
        cmocka_unit_test(duplicate_is_detected),
        cmocka_unit_test(duplicate_of_the_last_message_is_detected),
        cmocka_unit_test(duplicate_after_all_messages_came_is_detected),
        cmocka_unit_test(reordered_messages_are_detected),
        cmocka_unit_test(changed_content_is_detected),
        cmocka_unit_test(batch_that_is_not_contiguous_is_detected),
        cmocka_unit_test(swapped_batches_of_one_connection_are_detected),
        cmocka_unit_test(frame_that_is_no_json_is_detected),
        cmocka_unit_test(masked_frame_is_detected),
        cmocka_unit_test(closed_websocket_is_detected),
        cmocka_unit_test(level_that_was_not_asked_for_is_detected),
        cmocka_unit_test(post_that_is_always_refused_fails_after_three_retries),
        cmocka_unit_test(broker_that_never_answers_ends_in_a_timeout),
        cmocka_unit_test(unreachable_broker_is_exit_69),
        cmocka_unit_test(wrong_usage_is_exit_64_and_help_is_exit_0),
        cmocka_unit_test(csv_has_a_row_a_message_and_a_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
