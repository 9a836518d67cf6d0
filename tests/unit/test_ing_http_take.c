/* What requests bring and what they are told: topics, ids, levels of acknowledgement, the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "common/wire/cmq_batch.h"
#include "tests/support/http_fixture.h"

static int start_durable(void **state)
{
    return fixture_start(state, 2, ING_ACK_DURABLE, true);
}

static int start_accepted(void **state)
{
    return fixture_start(state, 1, ING_ACK_ACCEPTED, true);
}

static int start_unflushed(void **state)
{
    return fixture_start(state, 2, ING_ACK_DURABLE, false);
}

/* headers: whole lines. */
static void ask_with(struct client *client, const char *path, const char *headers, const char *body)
{
    char text[4096];
    (void)snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n%s", path,
                   headers, strlen(body), body);
    client_say(client, text);
}

#define JSON     "Content-Type: application/json\r\n"
#define DURABLE  "CMQ-Ack: durable\r\n"
#define ACCEPTED "CMQ-Ack: accepted\r\n"
#define ONE      "{\"content\":\"m\"}"
#define ONE_ID   "{\"content\":\"m\",\"id\":\"o-1\"}"

/* The unit of record `index`. */
static struct cmq_plain_unit unit_of(struct fixture *fixture, size_t index, uint32_t *ret_flags)
{
    uint32_t messages = 0;
    struct cmq_mp_reader units;
    struct cmq_plain_head head;
    struct cmq_plain_unit unit = {.count = 0};
    struct cmq_span record = fake_ring_record(fixture->ring, index, &messages);
    assert_int_equal(cmq_plain_decode(record, &units, &head), CMQ_OK);
    assert_int_equal(cmq_plain_next(&units, &unit), CMQ_OK);
    assert_int_equal(unit.count, messages);
    *ret_flags = head.flags;
    return unit;
}

static void expect_topic(const struct cmq_plain_unit *unit, const char *topic)
{
    assert_int_equal(unit->topic.bytes, strlen(topic));
    assert_memory_equal(unit->topic.data, topic, strlen(topic));
}

/* ---- topics ---- */

static void a_body_of_any_type_goes_to_its_topic(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    ask_with(client, "/v1/topics/orders.eu", "Content-Type: text/html\r\n", "<b>");
    client_expect(client, 200, "{\"id\":\"1-0\",\"count\":1,\"ack\":\"accepted\"}");
    ask_with(client, "/v1/topics/orders", "", "plain");
    client_expect(client, 200, "2-0");
    ask_with(client, "/v1/topics/orders", "", "");
    client_expect(client, 200, "3-0");
    uint32_t flags;
    struct cmq_plain_unit unit = unit_of(fixture, 0, &flags);
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    expect_topic(&unit, "orders.eu");
    cmq_mp_reader_init(&reader, unit.messages);
    assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
    assert_int_equal(message.type.bytes, 9);
    assert_memory_equal(message.type.data, "text/html", 9);
    unit = unit_of(fixture, 1, &flags);
    expect_topic(&unit, "orders");
    fixture_expect_record(fixture, 1, (const char *const[]){"plain"}, 1);
    fixture_expect_record(fixture, 2, (const char *const[]){""}, 1);
    client_hang_up(client);
}

static void a_batch_goes_to_its_topic(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    client_ask(client, "/v1/topics/orders/batch", "[\"a\",{\"data\":\"b\"}]");
    client_expect(client, 200, "\"count\":2");
    uint32_t flags;
    struct cmq_plain_unit unit = unit_of(fixture, 0, &flags);
    expect_topic(&unit, "orders");
    fixture_expect_record(fixture, 0, (const char *const[]){"a", "b"}, 2);
    client_ask(client, "/v1/topics/orders/batch", "[]");
    client_expect(client, 200, "\"id\":null");
    client_ask(client, "/v1/topics/orders/batch", "[\"a\",{\"daten\":1}]");
    client_expect(client, 400, "unknown member \\\"daten\\\"");
    client_ask(client, "/v1/topics/orders", "{\"a\":}");
    client_expect(client, 400, "\"offset\":5");
    client_hang_up(client);
}

static void wrong_topics_are_refused_and_the_connection_goes_on(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    ask_with(client, "/v1/topics/a..b", "", "");
    client_expect(client, 400, "/problems/bad-topic");
    ask_with(client, "/v1/topics/$dead.a", "", "");
    client_expect(client, 403, "/problems/reserved-topic");
    ask_with(client, "/v1/topics/a", "CMQ-Ack: now\r\n", "");
    client_expect(client, 400, "CMQ-Ack must be accepted or durable");
    ask_with(client, "/v1/topics/a", "", "");
    client_expect(client, 200, "1-0");
    client_hang_up(client);
    /* With a body the answer comes at once, and the connection ends. */
    client = client_dial(fixture);
    ask_with(client, "/v1/topics/a b", "", "x");
    client_expect(client, 400, "");
    client_hang_up(client);
    client = client_dial(fixture);
    ask_with(client, "/v1/topics/$x", "", "x");
    client_expect(client, 403, "reserved-topic");
    client_expect_end(client);
    client_hang_up(client);
    assert_int_equal(fake_ring_records(fixture->ring), 1);
}

/* ---- levels ---- */

/* Call when another connection was served meanwhile: whoever answers too early has done so by then. */
static void expect_silence(struct client *client)
{
    char byte;
    assert_int_equal(recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
}

static void a_durable_reply_waits_for_the_log(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture), *other = client_dial(fixture);
    client_ask(client, "/input", ONE);
    fake_ring_await_records(fixture->ring, 1);
    fake_ring_set_log(fixture->ring, 2, 1); /* stored is not enough */
    /* The worker is free meanwhile, and who asks for less gets it at once. */
    ask_with(other, "/input", JSON ACCEPTED, ONE);
    client_expect(other, 200, "{\"id\":\"2-0\",\"count\":1,\"ack\":\"accepted\"}");
    expect_silence(client);
    fake_ring_set_log(fixture->ring, 2, 2);
    client_expect(client, 200, "{\"id\":\"1-0\",\"count\":1,\"ack\":\"durable\"}");
    client_hang_up(client);
    client_hang_up(other);
}

static void one_connection_waits_again_and_again(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    for (size_t i = 1; i <= 200; i++) {
        client_ask(client, "/input", ONE);
        fake_ring_await_records(fixture->ring, i);
        fake_ring_set_log(fixture->ring, i + 1, i + 1);
        client_expect(client, 200, "\"ack\":\"durable\"");
    }
    client_hang_up(client);
}

static void one_group_commit_answers_all_that_wait(void **state)
{
    struct fixture *fixture = *state;
    struct client *client[30];
    for (size_t i = 0; i < CMQ_COUNT_OF(client); i++) {
        client[i] = client_dial(fixture);
        client_ask(client[i], "/input", ONE);
    }
    fake_ring_await_records(fixture->ring, CMQ_COUNT_OF(client));
    fake_ring_set_log(fixture->ring, CMQ_COUNT_OF(client) + 1, CMQ_COUNT_OF(client) + 1);
    for (size_t i = 0; i < CMQ_COUNT_OF(client); i++) {
        client_expect(client[i], 200, "\"ack\":\"durable\"");
        client_hang_up(client[i]);
    }
    assert_in_range(fake_ring_wakes(fixture->ring), 0, 1);
}

static void without_a_flush_the_reply_says_accepted(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    ask_with(client, "/input", JSON DURABLE, ONE);
    client_expect(client, 200, "{\"id\":\"1-0\",\"count\":1,\"ack\":\"accepted\"}");
    client_hang_up(client);
}

static void room_first_and_then_the_log(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    fake_ring_set_room(fixture->ring, 0);
    client_ask(client, "/input", ONE);
    fake_ring_await_refused(fixture->ring, 2);
    fake_ring_set_room(fixture->ring, FAKE_RING_ENDLESS);
    fake_ring_await_records(fixture->ring, 1);
    struct client *other = client_dial(fixture);
    for (int i = 0; i < 20; i++) {
        ask_with(other, "/input", JSON ACCEPTED, ONE);
        client_expect(other, 200, "accepted");
    }
    expect_silence(client);
    fake_ring_set_log(fixture->ring, 2, 2);
    client_expect(client, 200, "{\"id\":\"1-0\",\"count\":1,\"ack\":\"durable\"}");
    client_hang_up(client);
    client_hang_up(other);
}

/* ---- the log says no ---- */

static void expect_kept_perhaps(struct client *client, const char *type)
{
    struct reply reply;
    client_read_reply(client, &reply);
    if (reply.status != 503 || strstr(reply.body, type) == NULL ||
        strstr(reply.body, "may still be kept") == NULL || strstr(reply.head, "Retry-After: 1\r\n") == NULL)
        fail_msg("got %d %s", reply.status, reply.body);
}

static void who_waits_too_long_is_told_that_it_may_be_kept(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    ing_durable_set_wait_ms(fixture->durable, 5);
    client_ask(client, "/input", ONE);
    expect_kept_perhaps(client, "/problems/not-durable");
    fake_ring_set_log(fixture->ring, 2, 2);
    ask_with(client, "/input", JSON ACCEPTED, ONE);
    client_expect(client, 200, "2-0");
    assert_int_equal(fake_ring_counter(fixture->ring, CMQ_COUNT_REJECTED_FULL), 1);
    client_hang_up(client);
}

static void a_log_that_takes_nothing_refuses_at_once(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        enum cmq_log_health health;
        const char *type;
    } table[] = {{CMQ_LOG_HEALTH_FULL, "/problems/log-full"},
                 {CMQ_LOG_HEALTH_FAILED, "/problems/log-failed"}};
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct client *client = client_dial(fixture), *waits = client_dial(fixture);
        size_t records = fake_ring_records(fixture->ring);
        client_ask(waits, "/input", ONE);
        fake_ring_await_records(fixture->ring, records + 1);
        fake_ring_set_health(fixture->ring, table[i].health);
        expect_kept_perhaps(waits, table[i].type);
        client_ask(client, "/input", ONE);
        struct reply reply;
        client_read_reply(client, &reply);
        assert_int_equal(reply.status, 503);
        assert_non_null(strstr(reply.body, table[i].type));
        assert_non_null(strstr(reply.body, "was not kept"));
        ask_with(client, "/input", JSON ACCEPTED, ONE);
        client_expect(client, 503, table[i].type);
        assert_int_equal(fake_ring_records(fixture->ring), records + 1);
        fake_ring_set_health(fixture->ring, CMQ_LOG_HEALTH_OK);
        client_hang_up(client);
        client_hang_up(waits);
    }
}

/* ---- ids ---- */

static void ask_and_log(struct fixture *fixture, struct client *client, const char *headers, const char *body,
                        const struct cmq_outcome *outcome)
{
    uint64_t seq = fake_ring_records(fixture->ring) + 1;
    fake_ring_set_outcome(fixture->ring, seq, outcome);
    ask_with(client, "/input/batch", headers, body);
    fake_ring_await_records(fixture->ring, seq);
    fake_ring_set_log(fixture->ring, seq + 1, seq + 1);
}

#define TWO_IDS "{\"messages\":[{\"content\":\"a\",\"id\":\"1\"},{\"content\":\"b\",\"id\":\"2\"}]}"
#define TWO     "{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\"}]}"
#define KEY     "Idempotency-Key: k-1\r\n"

static void outcomes_become_replies(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *headers, *body;
        struct cmq_outcome outcome;
        int status;
        const char *reply;
    } table[] = {
        {JSON, TWO_IDS, {.kind = CMQ_OUTCOME_KEPT}, 200, "{\"id\":\"1-0\",\"count\":2,\"ack\":\"durable\"}"},
        {JSON KEY,
         TWO,
         {CMQ_OUTCOME_DUPLICATE, 1, 0},
         200,
         "{\"id\":\"1-0\",\"count\":2,\"ack\":\"durable\",\"duplicate\":true}"},
        {JSON,
         TWO_IDS,
         {CMQ_OUTCOME_DUPLICATE, 1, 7},
         200,
         "{\"id\":\"1-7\",\"count\":2,\"ack\":\"durable\",\"duplicate\":true}"},
        {JSON,
         TWO_IDS,
         {CMQ_OUTCOME_PART, 0, 1},
         200,
         "{\"id\":\"4-0\",\"count\":2,\"ack\":\"durable\",\"duplicates\":1}"},
        {JSON, TWO_IDS, {CMQ_OUTCOME_CONFLICT, 0, 1}, 409, "\"index\":1}"},
        {JSON KEY, TWO, {CMQ_OUTCOME_CONFLICT, 0, 0}, 409, "/problems/idempotency-conflict"},
        {JSON, TWO, {.kind = CMQ_OUTCOME_VOID}, 500, "nothing of it was kept"},
    };
    struct client *client = client_dial(fixture);
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        struct reply reply;
        ask_and_log(fixture, client, table[i].headers, table[i].body, &table[i].outcome);
        client_read_reply(client, &reply);
        if (reply.status != table[i].status || strstr(reply.body, table[i].reply) == NULL)
            fail_msg("case %zu: %d %s", i, reply.status, reply.body);
        assert_int_equal(strstr(reply.body, "\"index\"") != NULL, i == 4);
    }
    uint32_t flags;
    (void)unit_of(fixture, 0, &flags);
    assert_int_equal(flags, CMQ_PLAIN_HAS_IDS);
    (void)unit_of(fixture, 1, &flags);
    assert_int_equal(flags, CMQ_PLAIN_HAS_KEY);
    client_hang_up(client);
}

static void an_outcome_that_is_not_known_any_more_is_no_success(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    fake_ring_forget_outcomes(fixture->ring, 5);
    client_ask(client, "/input", ONE_ID);
    fake_ring_await_records(fixture->ring, 1);
    fake_ring_set_log(fixture->ring, 2, 2);
    expect_kept_perhaps(client, "/problems/not-durable");
    client_hang_up(client);
}

static void ids_wait_for_the_log_also_when_accepted_is_enough(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    const struct cmq_outcome duplicate = {CMQ_OUTCOME_DUPLICATE, 9, 3};
    for (uint64_t seq = 1; seq <= 40; seq++) {
        if (seq == 40)
            fake_ring_set_outcome(fixture->ring, seq, &duplicate);
        client_ask(client, "/input", ONE_ID);
        fake_ring_await_records(fixture->ring, (size_t)seq);
        fake_ring_set_log(fixture->ring, seq + 1, 1);
        client_expect(client, 200,
                      seq < 40 ? "\"ack\":\"accepted\"}"
                               : "{\"id\":\"9-3\",\"count\":1,\"ack\":\"accepted\",\"duplicate\":true}");
    }
    client_hang_up(client);
}

static void a_key_beside_ids_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    ask_with(client, "/input/batch", JSON KEY, TWO_IDS);
    client_expect(client, 400, "/problems/bad-header");
    assert_int_equal(fake_ring_records(fixture->ring), 0);
    client_hang_up(client);
}

static void what_one_request_asked_for_is_forgotten_by_the_next(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    uint32_t flags;
    ask_with(client, "/v1/topics/a", KEY ACCEPTED "Content-Type: image/png\r\n", "x");
    fake_ring_await_records(fixture->ring, 1);
    fake_ring_set_log(fixture->ring, 2, 2);
    client_expect(client, 200, "\"ack\":\"accepted\"");
    ask_with(client, "/v1/topics/b", "", "y");
    fake_ring_await_records(fixture->ring, 2);
    fake_ring_set_log(fixture->ring, 3, 3);
    client_expect(client, 200, "\"ack\":\"durable\"");
    struct cmq_plain_unit unit = unit_of(fixture, 1, &flags);
    expect_topic(&unit, "b");
    assert_int_equal(flags, 0);
    fixture_expect_record(fixture, 1, (const char *const[]){"y"}, 1);
    client_hang_up(client);
}

/* ---- the end ---- */

static void a_drain_finishes_who_waits_for_the_log(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = client_dial(fixture);
    struct reply reply;
    client_ask(client, "/input", ONE);
    fake_ring_await_records(fixture->ring, 1);
    ing_http_quiesce(fixture->http);
    assert_false(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns()));
    fake_ring_set_log(fixture->ring, 2, 2);
    client_read_reply(client, &reply);
    assert_int_equal(reply.status, 200);
    assert_true(reply.close);
    assert_true(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns() + LONG_NS));
    client_hang_up(client);
}

static void who_still_waits_for_the_log_at_the_end_gets_503(void **state)
{
    struct fixture *fixture = *state;
    struct client *logged = client_dial(fixture), *roomless = client_dial(fixture);
    client_ask(logged, "/input", ONE);
    fake_ring_await_records(fixture->ring, 1);
    fake_ring_set_room(fixture->ring, 0);
    client_ask(roomless, "/input", ONE);
    fake_ring_await_refused(fixture->ring, 2);
    ing_http_quiesce(fixture->http);
    fixture_stop_waits(fixture);
    assert_true(ing_http_wait_idle(fixture->http, cmq_clock_mono_ns() + LONG_NS));
    expect_kept_perhaps(logged, "/problems/not-durable");
    client_expect(roomless, 503, "/problems/draining");
    client_hang_up(logged);
    client_hang_up(roomless);
}

static void a_client_that_goes_away_while_it_waits_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 1; i <= 20; i++) {
        struct client *client = client_dial(fixture);
        client_ask(client, "/input", ONE);
        fake_ring_await_records(fixture->ring, i);
        client_hang_up(client);
    }
    fake_ring_set_log(fixture->ring, 21, 21);
    fake_ring_await_counter(fixture->ring, CMQ_COUNT_CLIENTS, 0);
}

#define ACCEPTING(test) cmocka_unit_test_setup_teardown(test, start_accepted, fixture_stop)
#define WAITING(test)   cmocka_unit_test_setup_teardown(test, start_durable, fixture_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACCEPTING(a_body_of_any_type_goes_to_its_topic),
        ACCEPTING(a_batch_goes_to_its_topic),
        ACCEPTING(wrong_topics_are_refused_and_the_connection_goes_on),
        WAITING(a_durable_reply_waits_for_the_log),
        WAITING(one_connection_waits_again_and_again),
        WAITING(one_group_commit_answers_all_that_wait),
        cmocka_unit_test_setup_teardown(without_a_flush_the_reply_says_accepted, start_unflushed,
                                        fixture_stop),
        WAITING(room_first_and_then_the_log),
        WAITING(who_waits_too_long_is_told_that_it_may_be_kept),
        WAITING(a_log_that_takes_nothing_refuses_at_once),
        WAITING(outcomes_become_replies),
        WAITING(an_outcome_that_is_not_known_any_more_is_no_success),
        ACCEPTING(ids_wait_for_the_log_also_when_accepted_is_enough),
        WAITING(a_key_beside_ids_is_refused),
        WAITING(what_one_request_asked_for_is_forgotten_by_the_next),
        WAITING(a_drain_finishes_who_waits_for_the_log),
        WAITING(who_still_waits_for_the_log_at_the_end_gets_503),
        WAITING(a_client_that_goes_away_while_it_waits_leaves_nothing),
    };
    return cmocka_run_group_tests_name("ing_http_take", tests, NULL, NULL);
}
