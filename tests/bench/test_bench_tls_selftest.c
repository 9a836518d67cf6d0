/* cmq-bench over TLS and with a token, against fake brokers behind fake_tls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/fake_broker.h"
#include "tests/bench/fake_net.h"
#include "tests/bench/fake_tls.h"
#include "tests/bench/fake_v1.h"
#include "tests/bench/selftest_program.h"

static const char here[] = "IP:127.0.0.1";
static const char token[] = "cmq_0123456789012345678901234567890123456789012";

static void run_through(struct fake_tls *tls, const char *mode, const char *more, struct outcome *ret_outcome)
{
    char options[512];
    snprintf(options, sizeof options, "%s --tls-ca %s", more, fake_tls_file(tls));
    run_bench_at(fake_tls_http_port(tls), fake_tls_ws_port(tls), mode, options, ret_outcome);
}

static void run_over_tls(enum fake_fault fault, unsigned long at, const char *mode, const char *more,
                         struct outcome *ret_outcome)
{
    struct fake_broker *fake = fake_broker_start(fault, at);
    struct fake_tls *tls = fake_tls_start(here, fake_broker_http_port(fake), fake_broker_ws_port(fake));
    run_through(tls, mode, more, ret_outcome);
    fake_tls_stop(tls);
    fake_broker_stop(fake);
}

static void assert_passes(enum fake_fault fault, unsigned long at, const char *mode, const char *more,
                          struct outcome *ret_outcome)
{
    run_over_tls(fault, at, mode, more, ret_outcome);
    if (ret_outcome->exit_code != 0)
        fail_msg("exit %d:\n%s", ret_outcome->exit_code, ret_outcome->text);
    assert_says(ret_outcome, "ok, each message exactly once and in order");
    assert_says(ret_outcome, "tls       : HTTP TLSv1.3, TLS_");
    assert_says(ret_outcome, "; WebSocket TLSv1.3, TLS_");
}

/* ---- what must pass ---- */

static void large_posts_and_frames_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "reference", "--tls", &outcome);
    assert_passes(FAKE_NONE, 0, "durable", "--messages 200000", &outcome);
}

static void single_messages_over_sixteen_connections_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "single", "--messages 3000", &outcome);
}

static void latency_of_single_messages_passes(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NONE, 0, "latency", "--rate 500 --seconds 1", &outcome);
    assert_says(&outcome, "delivery  : p50");
}

static void fragments_pings_and_short_records_pass(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_NOISY, 0, "batch", "--messages 2000 --size 100 --connections 2", &outcome);
}

static void connections_are_opened_again_when_replies_close_them(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_CLOSE_EACH, 0, "batch", "--messages 1000 --size 100 --connections 2", &outcome);
    assert_does_not_say(&outcome, "retries");
}

static void post_whose_connection_broke_is_sent_again(void **state)
{
    (void)state;
    static struct outcome outcome;
    assert_passes(FAKE_RESET, 301, "batch", "--messages 1000 --size 100 --connections 1", &outcome);
    assert_says(&outcome, "100 duplicates after retry");
}

static void assert_v1_passes(const char *mode, const char *more)
{
    static struct outcome outcome;
    struct fake_v1 *fake = fake_v1_start(FAKE_V1_NONE, 0, 0);
    struct fake_tls *tls = fake_tls_start(here, fake_v1_http_port(fake), fake_v1_ws_port(fake));
    run_through(tls, mode, more, &outcome);
    fake_tls_stop(tls);
    fake_v1_stop(fake);
    if (outcome.exit_code != 0)
        fail_msg("exit %d:\n%s", outcome.exit_code, outcome.text);
    assert_says(&outcome, "ok, each message exactly once and in order");
    assert_says(&outcome, "deliveries/s");
}

static void fanout_group_and_replay_pass(void **state)
{
    (void)state;
    assert_v1_passes("fanout", "--subscribers 20 --messages 20000");
    assert_v1_passes("group", "--subscribers 4 --messages 20000");
    assert_v1_passes("replay", "--messages 100000 --size 20000");
}

/* ---- what must be detected ---- */

static void lost_message_is_detected(void **state)
{
    (void)state;
    static struct outcome outcome;
    run_over_tls(FAKE_LOSE, 550, "batch", "--messages 1000 --size 100 --connections 1 --timeout 3", &outcome);
    assert_int_equal(outcome.exit_code, CHECK_FAILED);
    assert_says(&outcome, "1 messages missing (the first is message_550)");
    assert_does_not_say(&outcome, "messages/s");
}

static void closed_websocket_is_detected(void **state)
{
    (void)state;
    static struct outcome outcome;
    run_over_tls(FAKE_HANG_UP, 501, "batch", "--messages 1000 --size 100 --connections 1 --timeout 3",
                 &outcome);
    assert_int_equal(outcome.exit_code, CHECK_FAILED);
    assert_says(&outcome, "closed the WebSocket connection");
}

/* ---- whom it speaks to ---- */

static void assert_refused(const struct outcome *outcome, const char *why)
{
    assert_int_equal(outcome->exit_code, UNAVAILABLE);
    assert_says(outcome, why);
    assert_does_not_say(outcome, "messages/s");
}

static void certificate_for_another_name_is_refused(void **state)
{
    (void)state;
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(FAKE_NONE, 0);
    struct fake_tls *tls =
        fake_tls_start("DNS:broker.example", fake_broker_http_port(fake), fake_broker_ws_port(fake));
    run_through(tls, "batch", "--messages 1000", &outcome);
    assert_refused(&outcome, "the certificate is not accepted for \"127.0.0.1\": ");
    run_through(tls, "batch", "--messages 1000 --tls-name broker.example.org", &outcome);
    assert_refused(&outcome, "the certificate is not accepted for \"broker.example.org\": ");
    run_through(tls, "batch", "--messages 1000 --tls-name broker.example", &outcome);
    assert_int_equal(outcome.exit_code, 0);
    fake_tls_stop(tls);
    fake_broker_stop(fake);
}

static void certificate_that_is_not_trusted_is_refused(void **state)
{
    (void)state;
    static struct outcome outcome;
    char options[128];
    struct fake_broker *fake = fake_broker_start(FAKE_NONE, 0);
    struct fake_tls *tls = fake_tls_start(here, fake_broker_http_port(fake), fake_broker_ws_port(fake));
    struct fake_tls *other = fake_tls_start(here, fake_broker_http_port(fake), fake_broker_ws_port(fake));
    snprintf(options, sizeof options, "--messages 1000 --tls-ca %s", fake_tls_file(other));
    run_bench_at(fake_tls_http_port(tls), fake_tls_ws_port(tls), "batch", options, &outcome);
    assert_refused(&outcome, "the certificate is not accepted for \"127.0.0.1\": ");
    fake_tls_stop(other);
    fake_tls_stop(tls);
    fake_broker_stop(fake);
}

static void *answer_in_clear_text(void *arg)
{
    static const char bad[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    char in[4096];
    int fd = accept4(*(int *)arg, NULL, NULL, SOCK_CLOEXEC);
    if (recv(fd, in, sizeof in, 0) > 0)
        (void)fake_send_all(fd, bad, sizeof bad - 1, SIZE_MAX);
    close(fd);
    return NULL;
}

static void broker_without_tls_is_refused(void **state)
{
    (void)state;
    static struct outcome outcome;
    char options[128];
    pthread_t thread;
    unsigned port = 0;
    int fd = fake_listen(&port);
    struct fake_tls *tls = fake_tls_start(here, port, port);
    assert_int_equal(pthread_create(&thread, NULL, answer_in_clear_text, &fd), 0);
    snprintf(options, sizeof options, "--messages 1000 --tls-ca %s", fake_tls_file(tls));
    run_bench_at(port, port, "batch", options, &outcome);
    fake_tls_stop(tls);
    (void)pthread_join(thread, NULL);
    close(fd);
    assert_refused(&outcome, "no TLS handshake: wrong version number");
}

/* ---- tokens ---- */

static void write_token(char path[], const char *text)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void token_is_sent_to_both_ports_and_never_printed(void **state)
{
    (void)state;
    static struct outcome outcome;
    char path[] = "/tmp/cmq-bench-XXXXXX", options[256], line[64];
    snprintf(line, sizeof line, "%s\n", token);
    write_token(path, line);
    struct fake_broker *fake = fake_broker_start(FAKE_NONE, 0);
    fake_broker_want_token(fake, token);
    snprintf(options, sizeof options, "--messages 2000 --json - --token-file %s", path);
    run_bench_at(fake_broker_http_port(fake), fake_broker_ws_port(fake), "batch", options, &outcome);
    fake_broker_stop(fake);
    unlink(path);
    if (outcome.exit_code != 0)
        fail_msg("exit %d:\n%s", outcome.exit_code, outcome.text);
    assert_does_not_say(&outcome, token);
}

static void broker_that_wants_a_token_refuses_who_has_none(void **state)
{
    (void)state;
    static struct outcome outcome;
    struct fake_broker *fake = fake_broker_start(FAKE_NONE, 0);
    fake_broker_want_token(fake, token);
    run_bench_at(fake_broker_http_port(fake), fake_broker_ws_port(fake), "batch", "--messages 100", &outcome);
    fake_broker_stop(fake);
    assert_refused(&outcome, "closed the WebSocket connection");
}

static void file_without_a_token_and_tls_without_trust_are_exit_64(void **state)
{
    (void)state;
    static struct outcome outcome;
    char path[] = "/tmp/cmq-bench-XXXXXX", options[128];
    write_token(path, "\n");
    snprintf(options, sizeof options, "--token-file %s", path);
    run_bench_at(1, 1, "batch", options, &outcome);
    unlink(path);
    assert_int_equal(outcome.exit_code, USAGE);
    assert_says(&outcome, "its first line is no token");
    run_bench_at(1, 1, "batch", "--tls", &outcome);
    assert_int_equal(outcome.exit_code, USAGE);
    assert_says(&outcome, "--tls needs --tls-ca");
    run_bench_at(1, 1, "batch", "--tls-ca /dev/null", &outcome);
    assert_int_equal(outcome.exit_code, USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_posts_and_frames_pass),
        cmocka_unit_test(single_messages_over_sixteen_connections_pass),
        cmocka_unit_test(latency_of_single_messages_passes),
        cmocka_unit_test(fragments_pings_and_short_records_pass),
        cmocka_unit_test(connections_are_opened_again_when_replies_close_them),
        cmocka_unit_test(post_whose_connection_broke_is_sent_again),
        cmocka_unit_test(fanout_group_and_replay_pass),
        cmocka_unit_test(lost_message_is_detected),
        cmocka_unit_test(closed_websocket_is_detected),
        cmocka_unit_test(certificate_for_another_name_is_refused),
        cmocka_unit_test(certificate_that_is_not_trusted_is_refused),
        cmocka_unit_test(broker_without_tls_is_refused),
        cmocka_unit_test(token_is_sent_to_both_ports_and_never_printed),
        cmocka_unit_test(broker_that_wants_a_token_refuses_who_has_none),
        cmocka_unit_test(file_without_a_token_and_tls_without_trust_are_exit_64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
