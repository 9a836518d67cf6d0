#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dispatcher/dsp_session.h"
#include "tests/support/fake_groups.h"
#include "tests/support/fake_log.h"

enum { CACHE_BYTES = 1 << 20 };

static struct fake_log *event_log;
static struct dsp_source *source;
static struct dsp_encoder encoder;
static struct dsp_text frame;
static struct dsp_access *access_open;
static struct dsp_hub hub;
static struct dsp_session session;
static unsigned wanted;

static void want(struct dsp_session *wanting)
{
    assert_true(wanting->hub == &hub);
    wanted++;
}

static void on_ready(void *context, struct dsp_member *member)
{
    dsp_hub_ready(context, member);
}

static void on_gap(void *context, struct dsp_member *member, uint64_t from, uint64_t to, bool damaged)
{
    dsp_hub_gap(context, member, from, to, damaged);
}

static const struct cmq_address address = {.bytes = {192, 0, 2, 1}, .length = 4};

/* As without tokens: everybody may do everything. */
static void let_in(void)
{
    const struct cmq_grant everybody = {.open = true};
    dsp_session_identify(&session, &everybody, &address);
}

static int setup(void **state)
{
    (void)state;
    struct cmq_reason reason = {{0}};
    event_log = fake_log_new();
    const struct dsp_source_setup source_setup = {
        .directory = "unused", .cache_bytes = CACHE_BYTES, .free_encoded = dsp_encode_free};
    assert_int_equal(dsp_source_new(&source_setup, event_log->ring, event_log->opening, &source, &reason),
                     CMQ_OK);
    assert_int_equal(dsp_encoder_init(&encoder, source), CMQ_OK);
    assert_int_equal(dsp_text_init(&frame, 16, 4096), CMQ_OK);
    assert_int_equal(dsp_access_new("", 20, &access_open, &reason), CMQ_OK);
    hub = (struct dsp_hub){.ring = event_log->ring,
                           .source = source,
                           .groups = fake_groups_new(source, on_ready, on_gap, &hub),
                           .access = access_open,
                           .encoder = &encoder,
                           .frame = &frame,
                           .limits = {.frame_bytes_max = 4096, .frame_messages_max = 1000},
                           .settings = {.heartbeat_ms = 30000,
                                        .receive_bytes_max = 65536,
                                        .ack_wait_ms = 1000,
                                        .subscriptions_max = 4,
                                        .credit = 100,
                                        .max_deliver = 16,
                                        .max_ack_pending = 65536},
                           .follow = UINT64_MAX,
                           .want = want};
    cmq_buf_init(&hub.packed, 1 << 20);
    assert_int_equal(cmq_json_packer_new(65536, &hub.packer), CMQ_OK);
    dsp_session_init(&session, &hub, DSP_FORMAT_JSON);
    let_in();
    wanted = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dsp_session_fini(&session);
    dsp_hub_fini(&hub);
    dsp_access_free(access_open);
    cmq_json_packer_free(hub.packer);
    fake_groups_free(hub.groups);
    dsp_text_fini(&frame);
    dsp_encoder_fini(&encoder);
    dsp_source_free(source);
    fake_log_free(event_log);
    return 0;
}

static enum dsp_send next(void)
{
    enum cmq_err err = CMQ_OK;
    enum dsp_send send = dsp_session_next(&session, &err);
    assert_int_equal(err, CMQ_OK);
    return send;
}

static void say(const char *command)
{
    dsp_session_receive(&session, cmq_span_make(command, strlen(command)));
}

/* The next frame is `expected`; one that ends in "..." may go on as it likes. */
static void hear(const char *expected)
{
    size_t bytes = strlen(expected);
    bool open = bytes >= 3 && strcmp(expected + bytes - 3, "...") == 0;
    assert_int_equal(next(), DSP_SEND_FRAME);
    bytes -= open ? 3 : 0;
    if (frame.bytes < bytes || (!open && frame.bytes != bytes) ||
        memcmp(dsp_text_start(&frame), expected, bytes) != 0)
        fail_msg("got %.*s", (int)frame.bytes, (const char *)dsp_text_start(&frame));
}

static void hear_nothing(void)
{
    assert_int_equal(next(), DSP_SEND_NOTHING);
}

static void connect_first(void)
{
    say("{\"id\":1,\"connect\":{}}");
    hear("{\"id\":1,\"ok\":{\"version\":\"...");
}

#define TS             ",\"ts\":1700000000000"
#define ITEM(id, data) "{\"id\":\"" id "\",\"data\":\"" data "\"" TS "}"
#define GROUP_ITEM(id, data, attempt) \
    "{\"id\":\"" id "\",\"data\":\"" data "\"" TS ",\"attempt\":" attempt "}"
#define JOBS(items) "{\"msgs\":{\"sub\":3,\"group\":\"w\",\"topic\":\"jobs\",\"items\":[" items "]}}"

static void consume_jobs(const char *more)
{
    char command[256];
    connect_first();
    (void)snprintf(command, sizeof(command), "{\"id\":3,\"consume\":{\"topic\":\"jobs\",\"group\":\"w\"%s}}",
                   more);
    say(command);
    hear("{\"id\":3,\"ok\":{\"group\":\"w\",\"topic\":\"jobs\"}}");
}

/* ---- connecting ---- */

static void connect_tells_what_to_expect(void **state)
{
    (void)state;
    say("{\"id\":7,\"connect\":{\"client\":\"test\"}}");
    assert_int_equal(wanted, 1);
    hear("{\"id\":7,\"ok\":{\"version\":\"" CMQ_VERSION
         "\",\"heartbeat_ms\":30000,\"receive_bytes_max\":65536}}");
    hear_nothing();
    say("{\"id\":8,\"connect\":{}}");
    hear("{\"id\":8,\"error\":{\"code\":\"bad_command\"...");
}

static void commands_before_connect_end_the_connection(void **state)
{
    (void)state;
    say("{}");
    hear_nothing();
    say("{\"id\":1,\"ping\":{}}");
    say("{\"id\":2,\"connect\":{}}");
    hear("{\"id\":1,\"error\":{\"code\":\"not_connected\"...");
    assert_int_equal(next(), DSP_SEND_CLOSE);
    assert_int_equal(session.closing, DSP_CLOSE_PROTOCOL);
}

static void what_is_not_json_ends_the_connection(void **state)
{
    (void)state;
    connect_first();
    say("{\"id\":1,");
    assert_int_equal(next(), DSP_SEND_CLOSE);
    assert_int_equal(session.closing, DSP_CLOSE_PROTOCOL);
}

static void faults_of_commands_without_id_are_told_too(void **state)
{
    (void)state;
    connect_first();
    say("{\"unsubscribe\":{\"id\":5}}");
    hear("{\"id\":null,\"error\":{\"code\":\"no_such_sub\"...");
    say("{\"nothing\":1}");
    hear("{\"id\":null,\"error\":{\"code\":\"bad_command\"...");
    say("{\"ping\":{}}");
    hear_nothing();
    say("{\"id\":4,\"ping\":{}}");
    hear("{\"id\":4,\"ok\":{}}");
}

static void several_commands_are_answered_in_order(void **state)
{
    (void)state;
    connect_first();
    say("{\"id\":4,\"ping\":{}}");
    say("{\"id\":5,\"ping\":{}}");
    hear("{\"id\":4,\"ok\":{}}");
    hear("{\"id\":5,\"ok\":{}}");
    hear_nothing();
}

/* ---- subscribing ---- */

static void subscription_gets_what_comes(void **state)
{
    (void)state;
    connect_first();
    say("{\"id\":2,\"subscribe\":{\"topic\":\"o.*\"}}");
    hear("{\"id\":2,\"ok\":{\"topic\":\"o.*\",\"from\":\"1-0\"}}");
    hear_nothing();
    assert_int_equal(hub.follow, 1);
    (void)fake_log_texts(event_log, "o.eu", 1, 'a');
    wanted = 0;
    dsp_hub_stored(&hub);
    assert_int_equal(wanted, 1);
    hear("{\"msgs\":{\"sub\":2,\"topic\":\"o.eu\",\"items\":[" ITEM("1-0", "a0") "]}}");
    hear_nothing();
    assert_int_equal(hub.follow, 2);
    say("{\"id\":9,\"unsubscribe\":{\"id\":2}}");
    hear("{\"id\":9,\"ok\":{}}");
    (void)fake_log_texts(event_log, "o.eu", 1, 'b');
    dsp_hub_stored(&hub);
    hear_nothing();
}

static void subscription_sleeps_on_while_others_are_meant(void **state)
{
    (void)state;
    connect_first();
    say("{\"id\":2,\"subscribe\":{\"topic\":\"o.*\"}}");
    hear("{\"id\":2,\"ok\":...");
    say("{\"id\":3,\"subscribe\":{\"topic\":\"p\"}}");
    hear("{\"id\":3,\"ok\":...");
    hear_nothing();
    (void)fake_log_texts(event_log, "other", 1, 'x');
    wanted = 0;
    dsp_hub_stored(&hub);
    assert_int_equal(wanted, 0);
    assert_int_equal(hub.follow, 2); /* the log is waited for all the same */
    (void)fake_log_texts(event_log, "p", 1, 'a');
    dsp_hub_stored(&hub);
    assert_int_equal(wanted, 1);
    assert_int_equal(hub.follow, 3);
    hear("{\"msgs\":{\"sub\":3,\"topic\":\"p\",\"items\":[" ITEM("2-0", "a0") "]}}");
    hear_nothing();
    (void)fake_log_texts(event_log, "o.eu", 1, 'b');
    dsp_hub_stored(&hub);
    assert_int_equal(wanted, 2);
    hear("{\"msgs\":{\"sub\":2,\"topic\":\"o.eu\",\"items\":[" ITEM("3-0", "b0") "]}}");
}

static void subscriptions_have_their_turn_one_after_the_other(void **state)
{
    (void)state;
    hub.limits.frame_messages_max = 1;
    (void)fake_log_texts(event_log, "a", 2, 'a');
    (void)fake_log_texts(event_log, "b", 2, 'b');
    connect_first();
    say("{\"id\":2,\"subscribe\":{\"topic\":\"a\",\"since\":\"earliest\"}}");
    say("{\"id\":3,\"subscribe\":{\"topic\":\"b\",\"since\":\"earliest\"}}");
    hear("{\"id\":2,\"ok\":...");
    hear("{\"id\":3,\"ok\":...");
    hear("{\"msgs\":{\"sub\":2,\"topic\":\"a\",\"items\":[" ITEM("1-0", "a0") "]}}");
    hear("{\"msgs\":{\"sub\":3,\"topic\":\"b\",\"items\":[" ITEM("2-0", "b0") "]}}");
    hear("{\"msgs\":{\"sub\":2,\"topic\":\"a\",\"items\":[" ITEM("1-1", "a1") "]}}");
    hear("{\"msgs\":{\"sub\":3,\"topic\":\"b\",\"items\":[" ITEM("2-1", "b1") "]}}");
    hear_nothing();
}

static void faults_of_subscribing_have_their_codes(void **state)
{
    (void)state;
    connect_first();
    say("{\"subscribe\":{\"topic\":\"a\"}}");
    hear("{\"id\":null,\"error\":{\"code\":\"bad_command\"...");
    say("{\"id\":2,\"subscribe\":{\"topic\":\"a..b\"}}");
    hear("{\"id\":2,\"error\":{\"code\":\"bad_topic\"...");
    say("{\"id\":2,\"subscribe\":{\"topic\":\"a\",\"since\":\"7-0\"}}");
    hear("{\"id\":2,\"error\":{\"code\":\"bad_since\"...");
    say("{\"id\":2,\"subscribe\":{\"topic\":\"a\"}}");
    hear("{\"id\":2,\"ok\":...");
    say("{\"id\":2,\"subscribe\":{\"topic\":\"b\"}}");
    hear("{\"id\":2,\"error\":{\"code\":\"id_in_use\"...");
    for (unsigned i = 3; i < 6; i++) {
        char command[64];
        (void)snprintf(command, sizeof(command), "{\"id\":%u,\"subscribe\":{\"topic\":\"a\"}}", i);
        say(command);
        assert_int_equal(next(), DSP_SEND_FRAME);
    }
    say("{\"id\":6,\"subscribe\":{\"topic\":\"a\"}}");
    hear("{\"id\":6,\"error\":{\"code\":\"limit\"...");
    say("{\"id\":7,\"unsubscribe\":{\"id\":2}}");
    hear("{\"id\":7,\"ok\":{}}");
    say("{\"id\":6,\"subscribe\":{\"topic\":\"a\"}}");
    hear("{\"id\":6,\"ok\":...");
}

static void messagepack_session_speaks_messagepack(void **state)
{
    (void)state;
    static const char connect[] = "\x82\xa2id\x01\xa7"
                                  "connect\x80";
    dsp_session_init(&session, &hub, DSP_FORMAT_MSGPACK);
    let_in();
    dsp_session_receive(&session, cmq_span_make(connect, sizeof(connect) - 1));
    assert_int_equal(next(), DSP_SEND_FRAME);
    assert_memory_equal(dsp_text_start(&frame), "\x82\xa2id\x01\xa2ok\x83", 9);
    dsp_session_receive(&session, cmq_span_make("\x93", 1));
    assert_int_equal(next(), DSP_SEND_CLOSE);
}

/* ---- tokens ---- */

#define TOKEN  "cmq_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define DIGEST "affdcd7be4867ecfd05a95970820a0544c5b99774c3c65110ad234ce99cb58dc"
#define SCOPES "subscribe:orders.* consume:jobs"

static char token_directory[] = "/tmp/cmq-session-XXXXXX", token_file[64];

static void write_tokens(const char *scopes)
{
    FILE *out = fopen(token_file, "w");
    assert_non_null(out);
    (void)fprintf(out, "token some sha256:" DIGEST " created:0 expires:never %s\n", scopes);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(token_file, 0640), 0);
}

static void renew_tokens(void)
{
    assert_true(dsp_access_refresh(access_open, token_file, true));
    dsp_access_renew(access_open);
}

/* The session is nobody's, and tokens are needed. */
static int setup_with_tokens(void **state)
{
    int result = setup(state);
    const struct cmq_grant nobody = {0};
    dsp_session_identify(&session, &nobody, &address);
    assert_non_null(mkdtemp(token_directory));
    (void)snprintf(token_file, sizeof(token_file), "%s/tokens", token_directory);
    write_tokens(SCOPES);
    renew_tokens();
    return result;
}

static int teardown_with_tokens(void **state)
{
    (void)unlink(token_file);
    (void)rmdir(token_directory);
    memcpy(token_directory + sizeof(token_directory) - 7, "XXXXXX", 6);
    return teardown(state);
}

static void log_in(void)
{
    say("{\"id\":1,\"connect\":{\"token\":\"" TOKEN "\"}}");
    hear("{\"id\":1,\"ok\":{\"version\":\"...");
}

static void nobody_is_turned_away_with_a_reason(void **state)
{
    (void)state;
    say("{\"id\":1,\"connect\":{}}");
    say("{\"id\":2,\"ping\":{}}"); /* not listened to any more */
    hear("{\"id\":1,\"error\":{\"code\":\"unauthorized\",\"message\":\"no token was sent...");
    assert_int_equal(next(), DSP_SEND_CLOSE);
    assert_int_equal(session.closing, DSP_CLOSE_PROTOCOL);
    assert_true(session.turned_away);
}

static void unknown_token_is_turned_away(void **state)
{
    (void)state;
    say("{\"connect\":{\"token\":\"" TOKEN "x\"}}");
    hear("{\"id\":null,\"error\":{\"code\":\"unauthorized\",\"message\":\"this token is unknown...");
    assert_int_equal(next(), DSP_SEND_CLOSE);
}

static void token_bounds_what_its_session_reads(void **state)
{
    (void)state;
    log_in();
    say("{\"id\":2,\"subscribe\":{\"topic\":\"orders.>\"}}");
    hear("{\"id\":2,\"error\":{\"code\":\"forbidden\",\"message\":\"this token has no right to subscribe to "
         "this "
         "topic\"}}");
    say("{\"id\":2,\"consume\":{\"group\":\"w\",\"topic\":\"orders.eu\"}}");
    hear("{\"id\":2,\"error\":{\"code\":\"forbidden\"...");
    say("{\"id\":2,\"consume\":{\"group\":\"old\"}}"); /* of topic past */
    hear("{\"id\":2,\"error\":{\"code\":\"forbidden\"...");
    say("{\"id\":2,\"consume\":{\"group\":\"old\",\"topic\":\"jobs\"}}");
    hear("{\"id\":2,\"error\":{\"code\":\"group_mismatch\",\"message\":\"a group of that name has another "
         "topic\"}}");
    assert_int_equal(fake_groups_members(hub.groups), 0);
    say("{\"id\":2,\"subscribe\":{\"topic\":\"orders.eu\"}}");
    hear("{\"id\":2,\"ok\"...");
    say("{\"id\":3,\"consume\":{\"group\":\"w\",\"topic\":\"jobs\"}}");
    hear("{\"id\":3,\"ok\"...");
    say("{\"id\":4,\"connect\":{\"token\":\"" TOKEN "\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_command\"...");
}

static void second_token_is_refused(void **state)
{
    (void)state;
    struct cmq_grant grant;
    assert_int_equal(dsp_access_token(access_open, cmq_span_make(TOKEN, strlen(TOKEN)),
                                      cmq_address_span(&address), &grant),
                     CMQ_AUTH_OK);
    dsp_session_identify(&session, &grant, &address);
    say("{\"id\":1,\"connect\":{\"token\":\"" TOKEN "\"}}");
    hear("{\"id\":1,\"error\":{\"code\":\"bad_command\"...");
    connect_first();
}

static void session_of_a_grant_that_is_over_gets_nothing_more(void **state)
{
    (void)state;
    log_in();
    say("{\"id\":2,\"subscribe\":{\"topic\":\"orders.eu\"}}");
    hear("{\"id\":2,\"ok\"...");
    (void)fake_log_texts(event_log, "orders.eu", 1, 'a');
    dsp_hub_stored(&hub);
    dsp_session_recheck(&session);
    hear("{\"msgs\"...");
    write_tokens("subscribe:orders.us");
    renew_tokens();
    (void)fake_log_texts(event_log, "orders.eu", 1, 'b');
    dsp_hub_stored(&hub);
    dsp_session_recheck(&session);
    assert_int_equal(next(), DSP_SEND_CLOSE);
    assert_int_equal(session.closing, DSP_CLOSE_REVOKED);
}

/* ---- groups ---- */

static void consumer_gets_messages_and_its_ack_is_told_when_durable(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "jobs", 2, 'a');
    consume_jobs("");
    hear(JOBS(GROUP_ITEM("1-0", "a0", "1") "," GROUP_ITEM("1-1", "a1", "1")));
    hear_nothing();
    say("{\"id\":4,\"ack\":{\"group\":\"w\",\"ids\":[\"1-0\",\"1-1:2\",\"9-9\"]}}");
    hear_nothing();
    wanted = 0;
    fake_groups_commit(hub.groups);
    dsp_hub_durable(&hub);
    assert_int_equal(wanted, 1);
    hear("{\"id\":4,\"ok\":{\"acked\":1,\"stale\":[\"1-1:2\",\"9-9\"]}}");
    say("{\"id\":5,\"ack\":{\"group\":\"w\",\"upto\":\"1-1\"}}");
    fake_groups_commit(hub.groups);
    dsp_hub_durable(&hub);
    hear("{\"id\":5,\"ok\":{\"acked\":1,\"stale\":[]}}");
    hear_nothing();
}

static void acks_that_change_nothing_are_told_at_once(void **state)
{
    (void)state;
    consume_jobs("");
    say("{\"id\":4,\"ack\":{\"group\":\"w\",\"ids\":[\"1-0\"]}}");
    hear("{\"id\":4,\"ok\":{\"acked\":0,\"stale\":[\"1-0\"]}}");
    say("{\"ack\":{\"group\":\"w\",\"ids\":[\"1-0\"]}}");
    hear_nothing();
}

static void nacked_message_comes_again_with_its_attempt(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "jobs", 2, 'a');
    consume_jobs("");
    assert_int_equal(next(), DSP_SEND_FRAME);
    say("{\"id\":4,\"nack\":{\"group\":\"w\",\"ids\":[\"1-1\"],\"delay_ms\":0}}");
    hear("{\"id\":4,\"ok\":{\"nacked\":1,\"stale\":[]}}");
    hear(JOBS(GROUP_ITEM("1-1", "a1", "2")));
    hear_nothing();
}

static void credit_bounds_what_is_in_flight(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "jobs", 3, 'a');
    consume_jobs(",\"credit\":1");
    hear(JOBS(GROUP_ITEM("1-0", "a0", "1")));
    hear_nothing();
    assert_int_equal(hub.follow, UINT64_MAX); /* the log is not what it waits for */
    wanted = 0;
    say("{\"ack\":{\"group\":\"w\",\"ids\":[\"1-0\"]}}");
    assert_true(wanted > 0);
    hear(JOBS(GROUP_ITEM("1-1", "a1", "1")));
    say("{\"id\":5,\"credit\":{\"group\":\"w\",\"credit\":2}}");
    hear("{\"id\":5,\"ok\":{}}");
    hear(JOBS(GROUP_ITEM("1-2", "a2", "1")));
    hear_nothing();
}

static void group_frames_keep_their_limits(void **state)
{
    (void)state;
    hub.limits.frame_messages_max = 2;
    (void)fake_log_texts(event_log, "jobs", 3, 'a');
    (void)fake_log_texts(event_log, "jobs", 1, 'b');
    consume_jobs("");
    hear(JOBS(GROUP_ITEM("1-0", "a0", "1") "," GROUP_ITEM("1-1", "a1", "1")));
    hear(JOBS(GROUP_ITEM("1-2", "a2", "1") "," GROUP_ITEM("2-0", "b0", "1")));
    hear_nothing();
}

static void consumer_wakes_when_the_log_has_more(void **state)
{
    (void)state;
    consume_jobs("");
    hear_nothing();
    assert_int_equal(hub.follow, 1);
    (void)fake_log_texts(event_log, "jobs", 1, 'a');
    dsp_hub_stored(&hub);
    dsp_groups_poke(hub.groups);
    hear(JOBS(GROUP_ITEM("1-0", "a0", "1")));
}

static void messages_of_no_use_are_done_without_delivery(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0xc0, 0xa1, 'x', 0xc0};
    const struct fake_unit unit = {.topic = "jobs", .messages = {plain, 4}, .count = 3};
    (void)fake_log_seal(event_log, &unit, 1);
    uint64_t bad = fake_log_texts(event_log, "jobs", 2, 'a');
    fake_log_flip(event_log, bad, fake_log_payload_bytes(event_log, bad) - 1);
    consume_jobs("");
    hear(JOBS(GROUP_ITEM("1-1", "x", "1")));
    hear("{\"gap\":{\"sub\":3,\"from\":\"2-0\",\"to\":\"3-0\",\"reason\":\"damaged\"}}");
    assert_int_equal(fake_groups_skipped(hub.groups), 2); /* the socket has not taken the frame yet */
    hear_nothing();
    assert_int_equal(fake_groups_skipped(hub.groups), 4);
}

static uint64_t clock_ms(void)
{
    return 300;
}

static void messages_whose_time_is_over_are_done_without_delivery(void **state)
{
    (void)state;
    static const uint64_t expiries_ms[] = {300, 0, 301, 200};
    uint8_t plain[256];
    size_t bytes = 0;
    encoder.clock_ms = clock_ms;
    for (unsigned i = 0; i < CMQ_COUNT_OF(expiries_ms); i++) {
        const struct cmq_message_full message = {
            .text = true, .body = {(const uint8_t *)"x", 1}, .expiry_ms = expiries_ms[i]};
        bytes += cmq_message_write(plain + bytes, &message);
    }
    const struct fake_unit unit = {.topic = "jobs", .messages = {plain, bytes}, .count = 4};
    (void)fake_log_seal(event_log, &unit, 1);
    consume_jobs("");
    hear(JOBS(GROUP_ITEM("1-1", "x", "1") "," GROUP_ITEM("1-2", "x", "1")));
    hear_nothing();
    assert_int_equal(fake_groups_skipped(hub.groups), 2);
    assert_int_equal(fake_log_counter(event_log, CMQ_COUNT_EXPIRED), 2);
}

static void gaps_of_a_group_are_told(void **state)
{
    (void)state;
    consume_jobs("");
    hear_nothing();
    wanted = 0;
    dsp_hub_gap(&hub, &session.turn->member, 4, 9, false);
    dsp_hub_gap(&hub, &session.turn->member, 9, 12, false);
    assert_int_equal(wanted, 1);
    hear("{\"gap\":{\"sub\":3,\"from\":\"4-0\",\"to\":\"12-0\",\"reason\":\"retention\"}}");
    hear_nothing();
}

static void options_of_a_consume_reach_the_group(void **state)
{
    (void)state;
    consume_jobs(",\"ack_wait_ms\":50,\"max_deliver\":3");
    assert_int_equal(fake_groups_options(hub.groups).ack_wait_ms, 50);
    assert_int_equal(fake_groups_options(hub.groups).max_deliver, 3);
    assert_int_equal(fake_groups_options(hub.groups).start_seq, 1);
    say("{\"id\":4,\"consume\":{\"topic\":\"jobs\",\"group\":\"v\"}}");
    hear("{\"id\":4,\"ok\":...");
    assert_int_equal(fake_groups_options(hub.groups).ack_wait_ms, 1000);
    assert_int_equal(fake_groups_options(hub.groups).max_deliver, 16);
    assert_false(fake_groups_options(hub.groups).auto_ack);
}

static void faults_of_groups_have_their_codes(void **state)
{
    (void)state;
    consume_jobs("");
    say("{\"id\":4,\"consume\":{\"topic\":\"jobs\",\"group\":\"a b\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_group\"...");
    say("{\"id\":4,\"consume\":{\"topic\":\"jobs\",\"group\":\"w\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_group\"...");
    say("{\"id\":4,\"consume\":{\"topic\":\"past\",\"group\":\"w\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"group_mismatch\",\"message\":\"the group has the topic jobs\"}}");
    say("{\"id\":4,\"consume\":{\"topic\":\"jobs\",\"group\":\"old\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"group_mismatch\",\"message\":\"group old is of topic past\"}}");
    say("{\"id\":4,\"consume\":{\"group\":\"new\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"no_such_group\"...");
    say("{\"id\":4,\"consume\":{\"topic\":\"a b\",\"group\":\"v\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_topic\"...");
    say("{\"id\":4,\"consume\":{\"topic\":\"a\",\"group\":\"v\",\"since\":\"x\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_since\"...");
    say("{\"id\":3,\"consume\":{\"topic\":\"a\",\"group\":\"v\"}}");
    hear("{\"id\":3,\"error\":{\"code\":\"id_in_use\"...");
    say("{\"id\":4,\"ack\":{\"group\":\"v\",\"ids\":[]}}");
    hear("{\"id\":4,\"error\":{\"code\":\"no_such_group\"...");
    say("{\"id\":4,\"credit\":{\"group\":\"v\",\"credit\":1}}");
    hear("{\"id\":4,\"error\":{\"code\":\"no_such_group\"...");
    say("{\"id\":4,\"ack\":{\"group\":\"w\",\"ids\":[\"x\"]}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_id\"...");
    say("{\"id\":4,\"nack\":{\"group\":\"w\",\"ids\":[\"1-0\",\"2\"]}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_id\"...");
    say("{\"id\":4,\"ack\":{\"group\":\"w\",\"upto\":\"1-0:1\"}}");
    hear("{\"id\":4,\"error\":{\"code\":\"bad_id\"...");
    assert_int_equal(fake_groups_members(hub.groups), 1);
    say("{\"id\":4,\"consume\":{\"group\":\"old\"}}");
    hear("{\"id\":4,\"ok\":{\"group\":\"old\",\"topic\":\"past\"}}");
}

static void unsubscribing_leaves_the_group(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "jobs", 1, 'a');
    consume_jobs("");
    assert_int_equal(next(), DSP_SEND_FRAME);
    say("{\"id\":5,\"unsubscribe\":{\"id\":3}}");
    hear("{\"id\":5,\"ok\":{}}");
    assert_int_equal(fake_groups_members(hub.groups), 0);
    say("{\"id\":3,\"consume\":{\"group\":\"w\"}}");
    hear("{\"id\":3,\"ok\":...");
    hear(JOBS(GROUP_ITEM("1-0", "a0", "2")));
}

static void without_groups_consume_says_so(void **state)
{
    (void)state;
    struct dsp_groups *groups = hub.groups;
    hub.groups = NULL;
    connect_first();
    say("{\"id\":3,\"consume\":{\"topic\":\"jobs\",\"group\":\"w\"}}");
    hear("{\"id\":3,\"error\":{\"code\":\"internal\"...");
    hub.groups = groups;
}

/* ---- ends ---- */

static void draining_waits_for_acks_and_sends_no_more_messages(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "jobs", 1, 'a');
    consume_jobs("");
    assert_int_equal(next(), DSP_SEND_FRAME);
    say("{\"id\":4,\"ack\":{\"group\":\"w\",\"ids\":[\"1-0\"]}}");
    (void)fake_log_texts(event_log, "jobs", 1, 'b');
    hub.draining = true;
    hear_nothing();
    fake_groups_commit(hub.groups);
    dsp_hub_durable(&hub);
    hear("{\"id\":4,\"ok\":...");
    assert_int_equal(next(), DSP_SEND_CLOSE);
    assert_int_equal(session.closing, DSP_CLOSE_DRAIN);
}

static void client_that_reads_no_replies_is_not_listened_to(void **state)
{
    (void)state;
    connect_first();
    unsigned count = 0;
    while (!dsp_session_is_congested(&session)) {
        say("{\"id\":4,\"ping\":{}}");
        count++;
    }
    assert_true(count > 100 && count < 10000);
    while (next() == DSP_SEND_FRAME)
        count--;
    assert_int_equal(count, 0);
    assert_false(dsp_session_is_congested(&session));
    assert_int_equal(session.closing, DSP_CLOSE_NONE);
    while (session.closing == DSP_CLOSE_NONE)
        say("{\"id\":4,\"ping\":{}}");
    assert_int_equal(session.closing, DSP_CLOSE_SLOW);
    assert_int_equal(next(), DSP_SEND_CLOSE);
}

static void client_that_goes_leaves_everything(void **state)
{
    (void)state;
    (void)fake_log_texts(event_log, "jobs", 2, 'a');
    consume_jobs("");
    say("{\"id\":4,\"subscribe\":{\"topic\":\"jobs\"}}");
    while (next() == DSP_SEND_FRAME) {
    }
    say("{\"id\":5,\"ack\":{\"group\":\"w\",\"ids\":[\"1-0\"]}}");
    say("{\"id\":6,\"ping\":{}}");
    dsp_session_fini(&session);
    assert_int_equal(fake_groups_members(hub.groups), 0);
    assert_null(hub.sleeping);
    assert_null(hub.waiting);
}

#define WITH_TOKENS(name) cmocka_unit_test_setup_teardown(name, setup_with_tokens, teardown_with_tokens)
#define TEST(name)        cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(connect_tells_what_to_expect),
        WITH_TOKENS(nobody_is_turned_away_with_a_reason),
        WITH_TOKENS(unknown_token_is_turned_away),
        WITH_TOKENS(token_bounds_what_its_session_reads),
        WITH_TOKENS(second_token_is_refused),
        WITH_TOKENS(session_of_a_grant_that_is_over_gets_nothing_more),
        TEST(commands_before_connect_end_the_connection),
        TEST(what_is_not_json_ends_the_connection),
        TEST(faults_of_commands_without_id_are_told_too),
        TEST(several_commands_are_answered_in_order),
        TEST(subscription_gets_what_comes),
        TEST(subscription_sleeps_on_while_others_are_meant),
        TEST(subscriptions_have_their_turn_one_after_the_other),
        TEST(faults_of_subscribing_have_their_codes),
        TEST(messagepack_session_speaks_messagepack),
        TEST(consumer_gets_messages_and_its_ack_is_told_when_durable),
        TEST(acks_that_change_nothing_are_told_at_once),
        TEST(nacked_message_comes_again_with_its_attempt),
        TEST(credit_bounds_what_is_in_flight),
        TEST(group_frames_keep_their_limits),
        TEST(consumer_wakes_when_the_log_has_more),
        TEST(messages_of_no_use_are_done_without_delivery),
        TEST(messages_whose_time_is_over_are_done_without_delivery),
        TEST(gaps_of_a_group_are_told),
        TEST(options_of_a_consume_reach_the_group),
        TEST(faults_of_groups_have_their_codes),
        TEST(unsubscribing_leaves_the_group),
        TEST(without_groups_consume_says_so),
        TEST(draining_waits_for_acks_and_sends_no_more_messages),
        TEST(client_that_reads_no_replies_is_not_listened_to),
        TEST(client_that_goes_leaves_everything),
    };
    return cmocka_run_group_tests_name("dsp_session", tests, NULL, NULL);
}
