/* cmq-bench's v1 loads against a fake broker that keeps its promises, or breaks exactly one of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/fake_v1.h"
#include "tests/bench/selftest_program.h"

static const char ok[] = "ok, each message exactly once and in order";

static void run_v1(enum fake_v1_fault fault, unsigned long at, unsigned victim, const char *mode,
                   const char *options, struct outcome *ret_outcome)
{
    struct fake_v1 *fake = fake_v1_start(fault, at, victim);
    run_bench_at(fake_v1_http_port(fake), fake_v1_ws_port(fake), mode, options, ret_outcome);
    fake_v1_stop(fake);
}

static void assert_passes(enum fake_v1_fault fault, const char *mode, const char *options,
                          struct outcome *ret_outcome)
{
    run_v1(fault, 0, 0, mode, options, ret_outcome);
    if (ret_outcome->exit_code != 0)
        fail_msg("exit %d:\n%s", ret_outcome->exit_code, ret_outcome->text);
    assert_says(ret_outcome, ok);
    assert_says(ret_outcome, "deliveries/s");
}

static void assert_fails_with(const struct outcome *outcome, const char *why)
{
    if (outcome->exit_code != CHECK_FAILED)
        fail_msg("exit %d:\n%s", outcome->exit_code, outcome->text);
    assert_says(outcome, "FAILED");
    assert_says(outcome, why);
    assert_does_not_say(outcome, "deliveries/s");
    assert_does_not_say(outcome, "per_s");
    assert_does_not_say(outcome, "p50");
}

/* 10 POSTs of 100 to three subscribers, of whom the last one is wronged. */
static void assert_detected(enum fake_v1_fault fault, unsigned long at, const char *why)
{
    static struct outcome outcome;
    run_v1(fault, at, 2, "fanout",
           "--subscribers 3 --messages 1000 --size 100 --connections 1 --timeout 3 --json -", &outcome);
    assert_fails_with(&outcome, why);
}

static void assert_detected_in_a_group(enum fake_v1_fault fault, unsigned long at, const char *why)
{
    static struct outcome outcome;
    run_v1(fault, at, 0, "group",
           "--subscribers 3 --messages 1000 --size 100 --connections 1 --timeout 3 --json -", &outcome);
    assert_fails_with(&outcome, why);
}

/* ---- what must pass ---- */

static void fanout_to_fifty_subscribers_passes(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NONE, "fanout", "--subscribers 50 --messages 20000", &outcome);
    assert_says(&outcome, "fanout: 20,000 messages, 100 a POST, to 50 subscribers (JSON), live");
    assert_says(&outcome, "id and content of each item at every subscriber");
}

static void fanout_in_messagepack_passes(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NONE, "fanout", "--subscribers 5 --messages 20000 --msgpack", &outcome);
}

static void fanout_at_a_rate_passes(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NONE, "fanout", "--subscribers 2 --messages 2000 --rate 200 --ack durable",
                  &outcome);
}

static void replay_reads_twice_in_both_formats(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NONE, "replay", "--messages 100050 --size 1000", &outcome);
    assert_says(&outcome, "to 1 subscriber (JSON), JSON");
    assert_says(&outcome, "to 1 subscriber (MessagePack), MessagePack");
}

static void group_of_eight_passes(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NONE, "group", "--messages 20000", &outcome);
    assert_says(&outcome, "acks      : 20,000 messages confirmed");
}

static void group_in_messagepack_passes(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NONE, "group", "--messages 5000 --subscribers 3 --msgpack", &outcome);
}

static void slow_subscriber_catches_up(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NONE, "slow", "--messages 20000 --size 1000", &outcome);
    assert_says(&outcome, "2 subscribers (JSON), alone");
    assert_says(&outcome, "2 subscribers (JSON), beside one that reads nothing");
    assert_says(&outcome, "1 subscribers (JSON), the one that read nothing catches up");
}

static void slow_subscriber_may_be_told_of_a_gap(void **state)
{
    (void)state;
    static struct outcome outcome;
    run_v1(FAKE_V1_GAP, 501, 2, "slow", "--messages 1000 --size 100 --timeout 3", &outcome);
    if (outcome.exit_code != 0)
        fail_msg("exit %d:\n%s", outcome.exit_code, outcome.text);
    assert_says(&outcome, "100 messages were announced as missing in 1 gaps");
}

static void slow_subscriber_that_was_closed_goes_on_behind_its_last_message(void **state)
{
    (void)state;
    static struct outcome outcome;
    run_v1(FAKE_V1_CLOSE, 501, 2, "slow", "--messages 1000 --size 100 --timeout 3", &outcome);
    if (outcome.exit_code != 0)
        fail_msg("exit %d:\n%s", outcome.exit_code, outcome.text);
    assert_says(&outcome, "connected again 1 times");
}

static void slow_subscriber_that_loses_a_message_in_silence_is_detected(void **state)
{
    (void)state;
    static struct outcome outcome;
    run_v1(FAKE_V1_LOSE, 550, 2, "slow", "--messages 1000 --size 100 --timeout 3", &outcome);
    assert_int_equal(outcome.exit_code, CHECK_FAILED);
    assert_says(&outcome, "1 messages missing (the first is message_550)");
}

static void fragments_pings_blanks_and_unknown_members_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_V1_NOISY, "fanout", "--subscribers 2 --messages 2000 --connections 2", &outcome);
}

static void csv_has_a_row_a_result(void **state)
{
    (void)state;
    static struct outcome outcome;
    char path[] = "/tmp/cmq-bench-XXXXXX", options[128], line[256] = "";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(options, sizeof options, "--messages 2000 --size 100 --csv %s", path);
    assert_passes(FAKE_V1_NONE, "replay", options, &outcome);
    FILE *in = fopen(path, "re");
    assert_non_null(in);
    unsigned lines = 0;
    while (fgets(line, sizeof line, in) != NULL)
        lines++;
    fclose(in);
    unlink(path);
    assert_int_equal(lines, 3);
    assert_memory_equal(line, "replay,MessagePack,msgpack,False,2000,100,1,True,2000,", 54);
}

/* ---- what must be detected ---- */

static void lost_message_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_LOSE, 550, "subscriber 2: 1 messages missing (the first is message_550)");
}

static void lost_last_message_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_LOSE, 1000, "subscriber 2: 1 messages missing (the first is message_1000)");
}

static void duplicate_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_DUPLICATE, 550, "subscriber 2: 1 duplicates");
}

static void reordered_messages_are_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_REORDER, 550, "subscriber 2: out of order at 1 places, wrong ids at");
}

static void changed_content_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_CORRUPT, 550, "1 messages with content that nobody sent");
}

static void contents_under_each_others_ids_are_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_SWAP_CONTENT, 550, "wrong ids at");
}

static void swapped_records_are_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_SWAP_RECORDS, 501, "subscriber 2: out of order at 1 places");
}

static void id_of_another_record_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_WRONG_RECORD, 550, "wrong ids at");
}

static void attempt_without_need_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_ATTEMPT, 550, "1 messages came with attempt > 1");
}

static void gap_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_GAP, 501, "1 gaps (last: from 7-0 to 8-0, retention)");
}

static void broken_frame_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_BROKEN, 501, "1 messages of the broker that are not of the protocol");
}

static void closed_connection_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_CLOSE, 501, "the broker closed a v1 connection with code 3002");
}

static void error_reply_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_ERROR, 501, "1 commands refused (last: limit: not you)");
}

static void reply_without_an_id_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_NO_ID, 501, "1 replies without an id");
}

static void reply_that_names_another_record_is_detected(void **state)
{
    (void)state;
    assert_detected(FAKE_V1_OTHER_ID, 501, "wrong ids at 1 places");
}

static void wrong_level_is_detected(void **state)
{
    (void)state;
    static struct outcome outcome;
    run_v1(FAKE_V1_LEVEL, 501, 0, "fanout",
           "--subscribers 1 --messages 1000 --size 100 --timeout 3 --ack durable", &outcome);
    assert_fails_with(&outcome, "1 POSTs were not acknowledged as durable (the first one: \"accepted\")");
}

static void lost_message_of_a_group_is_detected(void **state)
{
    (void)state;
    assert_detected_in_a_group(FAKE_V1_LOSE, 550, "1 messages missing (the first is message_550)");
}

static void message_at_two_members_is_detected(void **state)
{
    (void)state;
    assert_detected_in_a_group(FAKE_V1_DUPLICATE, 550, "1 duplicates");
}

static void ack_that_is_not_confirmed_is_detected(void **state)
{
    (void)state;
    assert_detected_in_a_group(FAKE_V1_FEWER_ACKS, 550, "999 acks confirmed and 0 stale of 1000 messages");
}

static void stale_ack_is_detected(void **state)
{
    (void)state;
    assert_detected_in_a_group(FAKE_V1_STALE, 550, "1000 acks confirmed and 1 stale of 1000 messages");
}

static void assert_unavailable(enum fake_v1_fault fault, const char *why)
{
    static struct outcome outcome;
    run_v1(fault, 0, 0, "fanout", "--subscribers 1 --messages 1000", &outcome);
    assert_int_equal(outcome.exit_code, UNAVAILABLE);
    assert_says(&outcome, why);
}

static void refused_subscription_is_exit_69(void **state)
{
    (void)state;
    assert_unavailable(FAKE_V1_REFUSE, "the broker refused a command: limit: not you");
}

static void another_subprotocol_is_exit_69(void **state)
{
    (void)state;
    assert_unavailable(FAKE_V1_PROTOCOL, "another subprotocol than asked for");
}

static void options_that_a_load_does_not_know_are_refused(void **state)
{
    (void)state;
    static struct outcome outcome;
    static char *const wrong[][5] = {
        {"cmq-bench", "replay", "--subscribers", "3", NULL}, {"cmq-bench", "fanout", "--credit", "5", NULL},
        {"cmq-bench", "durable", "--ack", "durable", NULL},  {"cmq-bench", "group", "--ack", "maybe", NULL},
        {"cmq-bench", "batch", "--msgpack", NULL},           {"cmq-bench", "group", "--pid", "1", NULL},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        run_program(wrong[i], &outcome);
        assert_int_equal(outcome.exit_code, USAGE);
        assert_says(&outcome, "try --help");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fanout_to_fifty_subscribers_passes),
        cmocka_unit_test(fanout_in_messagepack_passes),
        cmocka_unit_test(fanout_at_a_rate_passes),
        cmocka_unit_test(replay_reads_twice_in_both_formats),
        cmocka_unit_test(group_of_eight_passes),
        cmocka_unit_test(group_in_messagepack_passes),
        cmocka_unit_test(slow_subscriber_catches_up),
        cmocka_unit_test(slow_subscriber_may_be_told_of_a_gap),
        cmocka_unit_test(slow_subscriber_that_was_closed_goes_on_behind_its_last_message),
        cmocka_unit_test(slow_subscriber_that_loses_a_message_in_silence_is_detected),
        cmocka_unit_test(fragments_pings_blanks_and_unknown_members_pass),
        cmocka_unit_test(csv_has_a_row_a_result),
        cmocka_unit_test(lost_message_is_detected),
        cmocka_unit_test(lost_last_message_is_detected),
        cmocka_unit_test(duplicate_is_detected),
        cmocka_unit_test(reordered_messages_are_detected),
        cmocka_unit_test(changed_content_is_detected),
        cmocka_unit_test(contents_under_each_others_ids_are_detected),
        cmocka_unit_test(swapped_records_are_detected),
        cmocka_unit_test(id_of_another_record_is_detected),
        cmocka_unit_test(attempt_without_need_is_detected),
        cmocka_unit_test(gap_is_detected),
        cmocka_unit_test(broken_frame_is_detected),
        cmocka_unit_test(closed_connection_is_detected),
        cmocka_unit_test(error_reply_is_detected),
        cmocka_unit_test(reply_without_an_id_is_detected),
        cmocka_unit_test(reply_that_names_another_record_is_detected),
        cmocka_unit_test(wrong_level_is_detected),
        cmocka_unit_test(lost_message_of_a_group_is_detected),
        cmocka_unit_test(message_at_two_members_is_detected),
        cmocka_unit_test(ack_that_is_not_confirmed_is_detected),
        cmocka_unit_test(stale_ack_is_detected),
        cmocka_unit_test(refused_subscription_is_exit_69),
        cmocka_unit_test(another_subprotocol_is_exit_69),
        cmocka_unit_test(options_that_a_load_does_not_know_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
