#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_tables_read.h"
#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_groups_int.h"
#include "tests/support/groups_bench.h"

static struct bench *bench;
static struct bench_engine *a;

static int setup(void **state)
{
    (void)state;
    bench = bench_start();
    a = bench_open(bench, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bench_stop(bench);
    return 0;
}

static void leave(struct bench_engine *engine, struct dsp_member *member)
{
    dsp_group_leave(engine->groups, member);
}

static uint64_t records(unsigned count, uint32_t messages)
{
    uint64_t seq = 0;
    while (count-- > 0)
        seq = fake_log_texts(bench->log, "jobs", messages, 'm');
    return seq;
}

/* A tick as it will be so much later. */
static uint64_t tick_in(struct bench_engine *engine, uint64_t ms)
{
    return dsp_groups_tick(engine->groups, cmq_clock_mono_ns() + ms * CMQ_NS_PER_MS);
}

static struct cmq_id id_of(uint64_t seq, uint32_t index)
{
    return (struct cmq_id){.seq = seq, .index = index};
}

/* ---- acks ---- */

static void messages_come_in_order_and_are_done_when_all_are_acked(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(2, 5);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, 3), 1, 0, 3, 1);
    assert_got(bench_take(a, &member, 100), 1, 3, 2, 1);
    assert_got(bench_take(a, &member, 100), 2, 0, 5, 1);
    assert_nothing(bench_take(a, &member, 100));
    assert_true(member.waiting);
    static const uint32_t order[] = {3, 0, 4, 1, 2};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(bench_ack(a, &member, 2, order[i]), DSP_ACK_OK);
        assert_int_equal(bench_ack(a, &member, 1, 4 - order[i]), DSP_ACK_OK);
    }
    assert_int_equal(member.flight_count, 0);
    bench_commit(a);
    bench_wait_floor(a, "w", 3);
    leave(a, &member);
}

static void what_was_not_acked_comes_back_and_what_was_does_not(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    records(1, 10);
    bench_consume(a, &first, "w", 0);
    bench_consume(a, &second, "w", 0);
    assert_got(bench_take(a, &first, 10), 1, 0, 10, 1);
    for (uint32_t i = 0; i < 10; i += 3)
        assert_int_equal(bench_ack(a, &first, 1, i), DSP_ACK_OK);
    leave(a, &first);
    assert_got(bench_take(a, &second, 10), 1, 1, 2, 2);
    assert_got(bench_take(a, &second, 10), 1, 4, 2, 2);
    assert_got(bench_take(a, &second, 1), 1, 7, 1, 2);
    assert_got(bench_take(a, &second, 10), 1, 8, 1, 2);
    assert_nothing(bench_take(a, &second, 10));
    assert_int_equal(dsp_group_ack_upto(a->groups, &second, id_of(1, 7)), 5);
    assert_int_equal(dsp_group_ack_upto(a->groups, &second, id_of(9, 0)), 1);
    bench_commit(a);
    bench_wait_floor(a, "w", 2);
    leave(a, &second);
}

static void acks_of_another_delivery_are_stale(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    records(1, 4);
    bench_consume(a, &first, "w", 0);
    bench_consume(a, &second, "w", 0);
    assert_got(bench_take(a, &first, 2), 1, 0, 2, 1);
    assert_int_equal(bench_ack(a, &first, 1, 2), DSP_ACK_STALE);
    assert_int_equal(bench_ack(a, &first, 1, 99), DSP_ACK_STALE);
    assert_int_equal(bench_ack(a, &first, 7, 0), DSP_ACK_STALE);
    assert_int_equal(bench_ack(a, &second, 1, 0), DSP_ACK_STALE);
    assert_int_equal(dsp_group_ack(a->groups, &first, id_of(1, 0), 2), DSP_ACK_STALE);
    assert_int_equal(dsp_group_nack(a->groups, &first, id_of(1, 0), 1, 0), DSP_ACK_OK);
    assert_int_equal(bench_ack(a, &first, 1, 0), DSP_ACK_STALE);
    assert_got(bench_take(a, &first, 9), 1, 0, 1, 2);
    assert_int_equal(dsp_group_ack(a->groups, &first, id_of(1, 0), 1), DSP_ACK_STALE);
    assert_int_equal(dsp_group_ack(a->groups, &first, id_of(1, 0), 2), DSP_ACK_OK);
    assert_int_equal(bench_ack(a, &first, 1, 0), DSP_ACK_STALE);
    assert_int_equal(fake_log_counter(bench->log, CMQ_COUNT_ACKS), 1);
    assert_int_equal(fake_log_counter(bench->log, CMQ_COUNT_STALE_ACKS), 8);
    leave(a, &first);
    leave(a, &second);
}

static void a_skipped_message_is_done_without_an_ack(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(1, 2);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, 2), 1, 0, 2, 1);
    dsp_group_skip(a->groups, &member, id_of(1, 0));
    dsp_group_skip(a->groups, &member, id_of(1, 1));
    assert_int_equal(member.flight_count, 0);
    assert_int_equal(fake_log_counter(bench->log, CMQ_COUNT_ACKS), 0);
    dsp_groups_poke(a->groups); /* nobody asks for a ticket */
    bench_wait_floor(a, "w", 2);
    leave(a, &member);
}

static void acks_are_kept_although_nobody_asks_for_a_ticket(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(2, 2);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, 2), 1, 0, 2, 1);
    assert_int_equal(dsp_group_ack_upto(a->groups, &member, id_of(1, 1)), 2);
    (void)tick_in(a, 0);
    bench_wait_floor(a, "w", 2);
    leave(a, &member);
}

/* ---- redelivery ---- */

static void nacked_messages_come_again_after_their_delay(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(1, 6);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, 6), 1, 0, 6, 1);
    assert_int_equal(dsp_group_nack(a->groups, &member, id_of(1, 4), 0, 50000), DSP_ACK_OK);
    assert_int_equal(dsp_group_nack(a->groups, &member, id_of(1, 2), 1, 90000), DSP_ACK_OK);
    assert_int_equal(dsp_group_nack(a->groups, &member, id_of(1, 1), 1, 0), DSP_ACK_OK);
    assert_int_equal(member.flight_count, 3);
    assert_got(bench_take(a, &member, 6), 1, 1, 1, 2);
    assert_nothing(bench_take(a, &member, 6));
    assert_int_equal(dsp_group_ack_upto(a->groups, &member, id_of(9, 0)), 4);
    assert_true(dsp_groups_due(a->groups) != UINT64_MAX);
    (void)tick_in(a, 60000);
    assert_got(bench_take(a, &member, 6), 1, 4, 1, 2);
    assert_nothing(bench_take(a, &member, 6));
    (void)tick_in(a, 91000);
    assert_got(bench_take(a, &member, 6), 1, 2, 1, 2);
    leave(a, &member);
}

static void what_nobody_acks_in_time_comes_again_to_whoever_waits(void **unused)
{
    (void)unused;
    static struct dsp_member slow, other;
    records(1, 3);
    bench_consume(a, &slow, "w", 0);
    bench_consume(a, &other, "w", 0);
    assert_got(bench_take(a, &slow, 3), 1, 0, 3, 1);
    assert_nothing(bench_take(a, &other, 3));
    assert_int_equal(bench_ack(a, &slow, 1, 1), DSP_ACK_OK);
    a->ready_count = 0;
    (void)tick_in(a, 500);
    assert_int_equal(slow.flight_count, 2);
    (void)tick_in(a, 1001);
    assert_int_equal(slow.flight_count, 0);
    assert_true(a->ready_count >= 1);
    assert_ptr_equal(a->ready[0], &other);
    assert_int_equal(bench_ack(a, &slow, 1, 0), DSP_ACK_STALE);
    assert_got(bench_take(a, &other, 3), 1, 0, 1, 2);
    assert_got(bench_take(a, &other, 3), 1, 2, 1, 2);
    leave(a, &slow);
    leave(a, &other);
}

static void header_is(struct cmq_mp_reader *headers, const char *name, const char *value)
{
    struct cmq_span text;
    assert_int_equal(cmq_mp_read_str(headers, &text), CMQ_OK);
    assert_int_equal(text.bytes, strlen(name));
    assert_memory_equal(text.data, name, text.bytes);
    assert_int_equal(cmq_mp_read_str(headers, &text), CMQ_OK);
    assert_int_equal(text.bytes, strlen(value));
    assert_memory_equal(text.data, value, text.bytes);
}

static void a_dead_letter_stays_although_its_message_had_an_end(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    uint8_t plain[64];
    struct cmq_mp_reader reader;
    struct cmq_message_full message = {
        .text = true, .body = {(const uint8_t *)"m0", 2}, .expiry_ms = UINT64_MAX};
    const struct fake_unit unit = {
        .topic = "jobs", .messages = {plain, cmq_message_write(plain, &message)}, .count = 1};
    (void)fake_log_seal(bench->log, &unit, 1);
    bench_consume(a, &member, "w", 1);
    assert_got(bench_take(a, &member, 1), 1, 0, 1, 1);
    assert_int_equal(dsp_group_nack(a->groups, &member, id_of(1, 0), 0, 0), DSP_ACK_OK);
    (void)tick_in(a, 1001);
    bench_commit(a);
    (void)tick_in(a, 2000);
    assert_int_equal(a->letter_count, 1);
    cmq_mp_reader_init(&reader, cmq_span_make(a->letters[0].message, a->letters[0].bytes));
    assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
    assert_int_equal(message.expiry_ms, 0);
    leave(a, &member);
}

static void a_message_delivered_too_often_becomes_a_dead_letter(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    struct cmq_mp_value map;
    records(1, 2);
    bench_consume(a, &member, "w", 2);
    assert_got(bench_take(a, &member, 2), 1, 0, 2, 1);
    assert_int_equal(bench_ack(a, &member, 1, 0), DSP_ACK_OK);
    assert_int_equal(dsp_group_nack(a->groups, &member, id_of(1, 1), 0, 0), DSP_ACK_OK);
    assert_got(bench_take(a, &member, 2), 1, 1, 1, 2);
    a->publish = CMQ_ERR_FULL;
    (void)tick_in(a, 1001);
    bench_commit(a);
    (void)tick_in(a, 2000);
    assert_true(a->letters_refused >= 1);
    /* Nor is the letter sent before the ledger knows that the message is dead. */
    assert_int_equal(a->letters_early, 0);
    a->publish = CMQ_OK;
    fake_log_set_durable(bench->log, 2);
    assert_true(dsp_groups_due(a->groups) != UINT64_MAX);
    (void)tick_in(a, 3000);
    (void)tick_in(a, 4000);
    assert_int_equal(a->letter_count, 1);
    assert_string_equal(a->letters[0].topic, "$dead.jobs");
    cmq_mp_reader_init(&reader, cmq_span_make(a->letters[0].message, a->letters[0].bytes));
    assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
    assert_true(message.text && message.body.bytes == 2 && memcmp(message.body.data, "m1", 2) == 0);
    cmq_mp_reader_init(&reader, message.headers);
    assert_int_equal(cmq_mp_read(&reader, &map), CMQ_OK);
    assert_int_equal(map.count, 4);
    header_is(&reader, "cmq-dead-reason", "max_deliver");
    header_is(&reader, "cmq-dead-group", "w");
    header_is(&reader, "cmq-dead-id", "1-1");
    header_is(&reader, "cmq-dead-attempts", "2");
    /* Not before the letter is safe is the message done. */
    bench_commit(a);
    bench_wait_floor(a, "w", 1);
    fake_log_set_durable(bench->log, UINT64_MAX);
    (void)tick_in(a, 5000);
    bench_wait_floor(a, "w", 2);
    assert_nothing(bench_take(a, &member, 2));
    leave(a, &member);
}

static void a_letter_whose_group_has_nobody_left_ends_all_the_same(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(1, 2);
    bench_consume(a, &member, "w", 1);
    assert_got(bench_take(a, &member, 1), 1, 0, 1, 1);
    fake_log_set_durable(bench->log, 1);
    leave(a, &member); /* its message dies */
    bench_commit(a);
    (void)tick_in(a, 10);
    assert_int_equal(a->letter_count, 1);
    fake_log_set_durable(bench->log, UINT64_MAX);
    dsp_groups_poke(a->groups);
    struct bench_engine *b = bench_open(bench, 1);
    static struct dsp_member other;
    bench_consume(b, &other, "w", 1);
    struct bench_got got = bench_take_soon(b, &other, 9);
    assert_int_equal(got.seq, 1);
    assert_int_equal(got.first, 1);
    leave(b, &other);
}

/* ---- where a group begins ---- */

static void group_begins_behind_a_message_inside_a_record(void **unused)
{
    (void)unused;
    static struct dsp_member member, other;
    const struct dsp_group_options options = {
        .start_seq = 2, .start_index = 3, .ack_wait_ms = 1000, .max_ack_pending = 100};
    const struct dsp_group_options behind = {
        .start_seq = 2, .start_index = 5, .ack_wait_ms = 1000, .max_ack_pending = 100};
    const struct cmq_span topic = cmq_span_make("jobs", 4);
    records(3, 5);
    assert_int_equal(dsp_group_join(a->groups, "w", topic, &options, &member, NULL), CMQ_OK);
    dsp_group_set_credit(a->groups, &member, 100);
    assert_got(bench_take(a, &member, 9), 2, 3, 2, 1);
    assert_got(bench_take(a, &member, 9), 3, 0, 5, 1);
    assert_nothing(bench_take(a, &member, 9));
    assert_int_equal(dsp_group_ack_upto(a->groups, &member, id_of(3, 4)), 7);
    bench_commit(a);
    bench_wait_floor(a, "w", 4);
    /* Nothing of a record is left behind its last message. */
    assert_int_equal(dsp_group_join(a->groups, "v", topic, &behind, &other, NULL), CMQ_OK);
    dsp_group_set_credit(a->groups, &other, 100);
    assert_got(bench_take(a, &other, 9), 3, 0, 5, 1);
    leave(a, &member);
    leave(a, &other);
}

/* ---- bounds ---- */

static void credit_and_pending_acks_bound_what_is_handed_out(void **unused)
{
    (void)unused;
    static struct dsp_member one, two;
    const struct dsp_group_options options = {.start_seq = 1, .ack_wait_ms = 1000, .max_ack_pending = 6};
    const struct cmq_span topic = cmq_span_make("jobs", 4);
    records(3, 4);
    assert_int_equal(dsp_group_join(a->groups, "w", topic, &options, &one, NULL), CMQ_OK);
    assert_int_equal(dsp_group_join(a->groups, "w", topic, &options, &two, NULL), CMQ_OK);
    dsp_group_set_credit(a->groups, &one, 3);
    assert_got(bench_take(a, &one, 9), 1, 0, 3, 1);
    assert_nothing(bench_take(a, &one, 9));
    assert_got(bench_take(a, &two, 9), 1, 3, 1, 1);
    assert_got(bench_take(a, &two, 9), 2, 0, 2, 1);
    assert_nothing(bench_take(a, &two, 9));
    a->ready_count = 0;
    assert_int_equal(bench_ack(a, &one, 1, 1), DSP_ACK_OK);
    assert_true(a->ready_count == 1 && a->ready[0] == &one);
    assert_got(bench_take(a, &one, 9), 2, 2, 1, 1);
    dsp_group_set_credit(a->groups, &one, 0);
    assert_int_equal(bench_ack(a, &one, 2, 2), DSP_ACK_OK);
    assert_nothing(bench_take(a, &one, 9));
    a->ready_count = 0;
    dsp_group_set_credit(a->groups, &one, 9);
    assert_true(a->ready_count == 1 && a->ready[0] == &one);
    leave(a, &one);
    leave(a, &two);
}

static void members_that_wait_get_their_turn(void **unused)
{
    (void)unused;
    static struct dsp_member members[3];
    for (int i = 0; i < 3; i++) {
        bench_consume(a, &members[i], "w", 0);
        assert_nothing(bench_take(a, &members[i], 1));
    }
    for (unsigned turn = 0; turn < 6; turn++) {
        a->ready_count = 0;
        records(1, 1);
        dsp_groups_poke(a->groups);
        assert_true(a->ready_count >= 1);
        struct dsp_member *next = a->ready[0];
        assert_ptr_equal(next, &members[turn % 3]);
        assert_got(bench_take(a, next, 1), turn + 1, 0, 1, 1);
        for (int i = 0; i < 3; i++) /* those that were woken for nothing wait on, in the old order */
            if (!members[(turn + 1 + (unsigned)i) % 3].waiting)
                assert_nothing(bench_take(a, &members[(turn + 1 + (unsigned)i) % 3], 1));
    }
    for (int i = 0; i < 3; i++)
        leave(a, &members[i]);
}

static void a_long_way_to_the_next_message_is_gone_in_steps(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    for (int i = 0; i < 5000; i++)
        (void)fake_log_texts(bench->log, "other", 1, 'o');
    records(1, 1);
    bench_consume(a, &member, "w", 0);
    assert_nothing(bench_take(a, &member, 1)); /* others had to wait for all of it else */
    unsigned calls = 1;
    struct bench_got got;
    do {
        calls++;
        assert_true(!member.waiting); /* it is to go on, and not to wait for the log */
        got = bench_take(a, &member, 1);
    } while (got.count == 0 && calls < 100);
    assert_got(got, 5001, 0, 1, 1);
    leave(a, &member);
    bench_wait_floor(a, "w", 5001);
}

static void one_message_that_is_not_acked_does_not_keep_all_later_ones(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    unsigned runs = 0;
    bench_consume(a, &member, "w", 0);
    records(1, 1);
    assert_got(bench_take(a, &member, 1), 1, 0, 1, 1);
    for (uint64_t seq = 2; seq < 5000; seq++) {
        records(1, 1);
        assert_got(bench_take(a, &member, 1), seq, 0, 1, 1);
        assert_int_equal(bench_ack(a, &member, seq, 0), DSP_ACK_OK);
    }
    for (const struct dsp_range *run = member.flight; run != NULL; run = run->next)
        runs++;
    assert_in_range(runs, 1, 200);
    (void)tick_in(a, 1001);
    assert_got(bench_take(a, &member, 1), 1, 0, 1, 2);
    leave(a, &member);
}

static void a_million_acks_in_any_order_are_quick(void **unused)
{
    (void)unused;
    enum { COUNT = 1000000 };
    static struct dsp_member member;
    records(1, COUNT);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, COUNT), 1, 0, COUNT, 1);
    uint64_t at = 1;
    for (uint32_t i = 0; i < COUNT; i++) {
        at = (at + 618033) % COUNT; /* prime to a million: each once */
        assert_int_equal(bench_ack(a, &member, 1, (uint32_t)at), DSP_ACK_OK);
        if (i % 10000 == 0)
            (void)dsp_groups_ticket(a->groups);
    }
    bench_commit(a);
    bench_wait_floor(a, "w", 2);
    leave(a, &member);
}

/* ---- auto-ack ---- */

static void deliveries_of_the_root_endpoint_need_no_acks(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    records(3, 10);
    bench_join(a, &first, "jobs", true);
    bench_join(a, &second, "jobs", true);
    assert_got(bench_take(a, &first, 4), 1, 0, 4, 1);
    assert_got(bench_take(a, &second, 3), 1, 4, 3, 1);
    assert_got(bench_take(a, &second, 100), 1, 7, 3, 1);
    assert_got(bench_take(a, &second, 100), 2, 0, 10, 1);
    dsp_group_delivered(a->groups, &second);
    leave(a, &first); /* what was in its flight comes first again */
    assert_got(bench_take(a, &second, 100), 1, 0, 4, 2);
    assert_got(bench_take(a, &second, 1), 3, 0, 1, 1);
    dsp_group_delivered(a->groups, &second);
    assert_got(bench_take(a, &second, 100), 3, 1, 9, 1);
    dsp_group_delivered(a->groups, &second);
    bench_wait_floor(a, "g", 4);
    leave(a, &second);
}

static void messages_of_other_topics_are_passed(void **unused)
{
    (void)unused;
    static const uint8_t two[] = {0xa2, 'x', '0', 0xa2, 'x', '1'};
    const struct fake_unit units[] = {{.topic = "other", .messages = {two, sizeof two}, .count = 2},
                                      {.topic = "jobs", .messages = {two, sizeof two}, .count = 2},
                                      {.topic = "more", .messages = {two, sizeof two}, .count = 2},
                                      {.topic = "jobs", .messages = {two, sizeof two}, .count = 2}};
    for (int auto_ack = 0; auto_ack < 2; auto_ack++) {
        static struct dsp_member member;
        const uint64_t seq = fake_log_seal(bench->log, units, 4);
        if (auto_ack)
            bench_join(a, &member, "jobs", true);
        else
            bench_consume(a, &member, "w", 0);
        struct bench_got got = bench_take(a, &member, 9);
        while (got.seq < seq) /* a record of the round before */
            got = bench_take(a, &member, 9);
        assert_got(got, seq, 2, 2, 1);
        assert_got(bench_take(a, &member, 9), seq, 6, 2, 1);
        assert_nothing(bench_take(a, &member, 9));
        if (auto_ack)
            dsp_group_delivered(a->groups, &member);
        else
            (void)dsp_group_ack_upto(a->groups, &member, id_of(seq, 9));
        bench_commit(a);
        bench_wait_floor(a, auto_ack ? "g" : "w", seq + 1);
        leave(a, &member);
    }
}

/* ---- how far a group is ---- */

static void the_group_that_is_farthest_behind_says_what_is_unread(void **unused)
{
    (void)unused;
    static struct dsp_member fast, slow;
    struct bench_engine *b = bench_open(bench, 1);
    assert_true(dsp_groups_unread(a->groups) == UINT64_MAX);
    records(10, 2);
    bench_consume(a, &slow, "slow", 0);
    bench_consume(a, &fast, "fast", 0);
    dsp_group_set_credit(a->groups, &slow, 1);
    while (bench_take(a, &fast, 9).count > 0)
        ;
    assert_got(bench_take(a, &slow, 9), 1, 0, 1, 1);
    assert_int_equal(dsp_groups_unread(a->groups), 1); /* half of it */
    assert_int_equal(bench_ack(a, &slow, 1, 0), DSP_ACK_OK);
    assert_got(bench_take(a, &slow, 9), 1, 1, 1, 1);
    assert_int_equal(dsp_groups_unread(a->groups), 2);
    assert_int_equal(bench_ack(a, &slow, 1, 1), DSP_ACK_OK);
    /* Somebody else reads the rest while the member here may not. */
    dsp_group_set_credit(a->groups, &slow, 0);
    leave(a, &slow);
    bench_consume(a, &slow, "slow", 0);
    dsp_group_set_credit(a->groups, &slow, 0);
    static struct dsp_member other;
    bench_consume(b, &other, "slow", 0);
    for (unsigned i = 2; i <= 10; i++) { /* what the one here gave back comes when that is committed */
        assert_int_equal(bench_take_soon(b, &other, 9).count, 2);
        assert_int_equal(dsp_group_ack_upto(b->groups, &other, id_of(10, 9)), 2);
    }
    bench_commit(b);
    bench_wait_floor(b, "slow", 11);
    assert_int_equal(dsp_groups_unread(a->groups), 11);
    leave(a, &slow);
    leave(b, &other);
    assert_int_equal(dsp_groups_unread(a->groups), 11);
    leave(a, &fast);
    assert_true(dsp_groups_unread(a->groups) == UINT64_MAX);
}

/* ---- gaps ---- */

static void what_retention_took_is_a_gap(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(20, 1);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, 1), 1, 0, 1, 1);
    leave(a, &member);
    fake_log_set_floor(bench->log, 11);
    struct bench_engine *b = bench_open(bench, 1);
    bench_consume(b, &member, "w", 0);
    assert_got(bench_take_soon(b, &member, 1), 11, 0, 1, 1);
    assert_int_equal(b->gap_from, 1);
    assert_int_equal(b->gap_to, 11);
    assert_false(b->gap_damaged);
    dsp_group_gap_told(b->groups, &member, 1, 11);
    bench_commit(b);
    bench_wait_floor(b, "w", 11);
    leave(b, &member);
}

static void a_gap_is_done_when_somebody_was_told(void **unused)
{
    (void)unused;
    static struct dsp_member first, second, other;
    struct dsp_ledger_state at;
    records(20, 1);
    fake_log_damage(bench->log, 2);
    fake_log_damage(bench->log, 3);
    bench_consume(a, &first, "w", 0);
    assert_got(bench_take(a, &first, 9), 1, 0, 1, 1);
    assert_int_equal(bench_ack(a, &first, 1, 0), DSP_ACK_OK);
    assert_got(bench_take(a, &first, 9), 4, 0, 1, 1);
    assert_true(a->gaps == 1 && a->gap_from == 2 && a->gap_to == 4);
    bench_commit(a);
    bench_wait_floor(a, "w", 2); /* nobody was told of 2 and 3 */
    /* Told of a part. */
    dsp_group_gap_told(a->groups, &first, 1, 3);
    bench_commit(a);
    bench_wait_floor(a, "w", 3);
    /* The one who knows leaves: the others are told. */
    bench_consume(a, &second, "w", 0);
    a->gaps = 0;
    leave(a, &first);
    assert_int_equal(a->gaps, 1);
    assert_true(a->gap_from == 3 && a->gap_to == 4 && a->gap_damaged);
    /* This dispatcher dies before anybody took the frame: the next one finds it again. */
    bench_die(a);
    struct bench_engine *b = bench_open(bench, 1);
    bench_consume(b, &other, "w", 0);
    assert_int_equal(bench_take_soon(b, &other, 1).seq, 4);
    assert_int_equal(b->gaps, 1);
    assert_true(b->gap_from == 3 && b->gap_to == 4 && b->gap_damaged);
    assert_int_equal(bench_ack(b, &other, 4, 0), DSP_ACK_OK);
    dsp_group_gap_told(b->groups, &other, 0, UINT64_MAX);
    bench_commit(b);
    bench_wait_floor(b, "w", 5);
    assert_int_equal(dsp_ledger_state(b->ledger, 0, &at), CMQ_OK);
    leave(b, &other);
    bench_bury(a, &second, 1);
}

static void retention_is_told_again_until_somebody_took_it(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    records(20, 1);
    bench_consume(a, &first, "w", 0);
    assert_got(bench_take(a, &first, 1), 1, 0, 1, 1);
    leave(a, &first);
    fake_log_set_floor(bench->log, 6);
    for (int turn = 0; turn < 2; turn++) { /* the only member leaves, untold */
        a->gaps = 0;
        bench_consume(a, &first, "w", 0);
        assert_true(bench_take_soon(a, &first, 1).seq >= 6);
        assert_int_equal(a->gaps, 1);
        assert_true(a->gap_from == 1 && a->gap_to == 6 && !a->gap_damaged);
        leave(a, &first);
    }
    /* The floor rises before it is told: the gap is one, and told as one. */
    a->gaps = 0;
    bench_consume(a, &first, "w", 0);
    bench_consume(a, &second, "w", 0);
    (void)bench_take_soon(a, &first, 1);
    fake_log_set_floor(bench->log, 11);
    records(1, 1);
    while (bench_take_soon(a, &second, 1).seq < 21)
        ;
    assert_true(a->gap_from == 1 && a->gap_to == 11);
    dsp_group_gap_told(a->groups, &second, 1, 11);
    bench_commit(a);
    bench_wait_floor(a, "w", 11);
    a->gaps = 0;
    leave(a, &first);
    assert_int_equal(a->gaps, 0); /* it is done */
    leave(a, &second);
}

static void a_part_that_cannot_be_read_is_done_when_somebody_was_told(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    records(3, 2);
    fake_log_flip(bench->log, 2, fake_log_payload_bytes(bench->log, 2) - 1);
    bench_consume(a, &first, "w", 0);
    bench_consume(a, &second, "w", 0);
    assert_got(bench_take(a, &first, 9), 1, 0, 2, 1);
    struct dsp_batch batch;
    assert_int_equal(dsp_group_peek(a->groups, &first, &batch), CMQ_OK);
    assert_false(batch.unit->readable);
    assert_int_equal(dsp_group_take(a->groups, &first, &batch, batch.count, 0), CMQ_OK);
    dsp_group_pass(a->groups, &first, &batch);
    assert_int_equal(first.flight_count, 2); /* of record 1: what was passed needs no credit */
    assert_int_equal(a->gaps, 2);            /* both members */
    assert_got(bench_take(a, &second, 9), 3, 0, 2, 1);
    assert_int_equal(dsp_group_ack_upto(a->groups, &first, id_of(1, 9)), 2);
    bench_commit(a);
    bench_wait_floor(a, "w", 2);
    a->gaps = 0;
    leave(a, &first);
    assert_int_equal(a->gaps, 1);
    dsp_group_gap_told(a->groups, &second, 2, 3);
    bench_commit(a);
    bench_wait_floor(a, "w", 3);
    leave(a, &second);
}

static void a_damaged_record_is_a_gap_and_no_stop(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(3, 2);
    fake_log_damage(bench->log, 2);
    (void)fake_log_add_void(bench->log);
    records(1, 1);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, 9), 1, 0, 2, 1);
    assert_got(bench_take(a, &member, 9), 3, 0, 2, 1);
    assert_int_equal(a->gaps, 1);
    assert_true(a->gap_from == 2 && a->gap_to == 3 && a->gap_damaged);
    assert_got(bench_take(a, &member, 9), 5, 0, 1, 1);
    dsp_group_gap_told(a->groups, &member, 2, 3);
    assert_int_equal(dsp_group_ack_upto(a->groups, &member, id_of(9, 0)), 5);
    bench_commit(a);
    bench_wait_floor(a, "w", 6);
    leave(a, &member);
}

/* With nothing in a cache: what is in hand is read again to be delivered again. */
static void a_record_that_goes_from_under_a_hand_is_a_gap(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    bench->cache_bytes = 1;
    struct bench_engine *b = bench_open(bench, 1);
    bench->cache_bytes = 0;
    records(2, 4);
    bench_consume(b, &first, "w", 0);
    bench_consume(b, &second, "w", 0);
    assert_got(bench_take(b, &first, 2), 1, 0, 2, 1);
    assert_got(bench_take(b, &second, 2), 1, 2, 2, 1);
    assert_int_equal(bench_ack(b, &second, 1, 2), DSP_ACK_OK);
    assert_int_equal(dsp_group_nack(b->groups, &first, id_of(1, 0), 1, 0), DSP_ACK_OK);
    fake_log_damage(bench->log, 1);
    assert_got(bench_take(b, &first, 9), 2, 0, 4, 1);
    assert_true(b->gaps == 2 && b->gap_from == 1 && b->gap_to == 2 && b->gap_damaged);
    assert_int_equal(first.flight_count, 4); /* what it had of the record needs no credit any more */
    assert_int_equal(second.flight_count, 0);
    assert_int_equal(bench_ack(b, &second, 1, 3), DSP_ACK_STALE);
    bench_commit(b);
    bench_wait_floor(b, "w", 1);
    dsp_group_gap_told(b->groups, &second, 1, 2);
    bench_commit(b);
    bench_wait_floor(b, "w", 2);
    leave(b, &first);
    leave(b, &second);
}

/* ---- several dispatchers ---- */

static void two_dispatchers_share_a_group_and_one_takes_over_from_the_dead(void **unused)
{
    (void)unused;
    struct bench_engine *b = bench_open(bench, 1);
    static struct dsp_member first, second;
    records(1, 4);
    bench_consume(a, &first, "w", 0);
    bench_consume(b, &second, "w", 0);
    assert_got(bench_take(a, &first, 4), 1, 0, 4, 1);
    records(1, 4);
    assert_got(bench_take(b, &second, 4), 2, 0, 4, 1);
    assert_int_equal(bench_ack(a, &first, 1, 0), DSP_ACK_OK);
    assert_int_equal(bench_ack(a, &first, 1, 2), DSP_ACK_OK);
    bench_commit(a);
    assert_nothing(bench_take(b, &second, 4));
    bench_die(a);
    assert_got(bench_take_soon(b, &second, 4), 1, 1, 1, 2);
    assert_got(bench_take(b, &second, 4), 1, 3, 1, 2);
    assert_nothing(bench_take(b, &second, 4));
    assert_int_equal(dsp_group_ack_upto(b->groups, &second, id_of(9, 0)), 6);
    bench_commit(b);
    bench_wait_floor(b, "w", 3);
    bench_bury(a, &first, 1);
    leave(b, &second);
}

static void a_dead_dispatcher_repeats_one_frame_of_the_root_endpoint(void **unused)
{
    (void)unused;
    struct bench_engine *b = bench_open(bench, 1);
    static struct dsp_member first, second;
    records(8, 10);
    bench_join(a, &first, "jobs", true);
    bench_join(b, &second, "jobs", true);
    for (uint64_t seq = 1; seq <= 4; seq++)
        assert_got(bench_take(a, &first, 10), seq, 0, 10, 1);
    struct dsp_batch unused_batch; /* the frame was full: record 5 is open, and nothing of it went out */
    assert_int_equal(dsp_group_peek(a->groups, &first, &unused_batch), CMQ_OK);
    dsp_group_delivered(a->groups, &first);
    bench_die(a);
    assert_got(bench_take_soon(b, &second, 7), 5, 0, 7, 2);
    dsp_group_delivered(b->groups, &second);
    assert_got(bench_take(b, &second, 2), 5, 7, 2, 2); /* not known to be delivered when it dies */
    bench_die(b);
    struct bench_engine *c = bench_open(bench, 2);
    static struct dsp_member third;
    bench_join(c, &third, "jobs", true);
    assert_got(bench_take_soon(c, &third, 10), 5, 7, 3, 3);
    bench_bury(a, &first, 1);
    bench_bury(b, &second, 1);
    leave(c, &third);
}

static void attempts_count_on_across_dispatchers_without_jumps(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(1, 3);
    uint32_t attempt = 0;
    for (unsigned i = 0; i < 6; i++) {
        struct bench_engine *engine = i == 0 ? a : bench_open(bench, i % 2);
        bench_consume(engine, &member, "w", 100);
        struct bench_got got = bench_take_soon(engine, &member, 2);
        assert_got(got, 1, 0, 2, attempt + 1);
        attempt = got.attempt;
        leave(engine, &member);
        bench_close(engine);
    }
}

static void a_drained_dispatcher_gives_everything_up(void **unused)
{
    (void)unused;
    struct bench_engine *b = bench_open(bench, 1);
    static struct dsp_member first, second;
    records(6, 2);
    bench_consume(a, &first, "w", 0);
    bench_consume(b, &second, "w", 0);
    assert_got(bench_take(a, &first, 2), 1, 0, 2, 1);
    assert_got(bench_take(a, &first, 2), 2, 0, 2, 1);
    assert_int_equal(bench_ack(a, &first, 1, 1), DSP_ACK_OK);
    assert_int_equal(dsp_group_nack(a->groups, &first, id_of(2, 1), 0, 90000), DSP_ACK_OK);
    dsp_groups_drain(a->groups);
    assert_nothing(bench_take(a, &first, 2));
    for (uint64_t seq = 3; seq <= 6; seq++)
        assert_int_equal(bench_take_soon(b, &second, 2).seq, seq);
    assert_int_equal(bench_ack(a, &first, 2, 0), DSP_ACK_OK);
    leave(a, &first);
    assert_got(bench_take_soon(b, &second, 2), 1, 0, 1, 2);
    assert_got(bench_take_soon(b, &second, 2), 2, 1, 1, 2);
    assert_nothing(bench_take(b, &second, 2));
    leave(b, &second);
}

/* ---- joining ---- */

static void a_group_that_cannot_be_joined_says_why(void **unused)
{
    (void)unused;
    const struct dsp_group_options options = {.start_seq = 1, .max_ack_pending = 1},
                                   root = {.auto_ack = true};
    static struct dsp_member member;
    struct cmq_reason reason = {{0}};
    struct cmq_span topic = cmq_span_make("jobs.*", 6), other = cmq_span_make("jobs", 4), none = {NULL, 0};
    assert_int_equal(dsp_group_join(a->groups, "a b", topic, &options, &member, &reason), CMQ_ERR_INVALID);
    assert_int_equal(dsp_group_join(a->groups, "", topic, &options, &member, &reason), CMQ_ERR_INVALID);
    assert_int_equal(dsp_group_join(a->groups, "w", cmq_span_make("a..b", 4), &options, &member, &reason),
                     CMQ_ERR_INVALID);
    assert_int_equal(dsp_group_join(a->groups, "w", none, &options, &member, &reason), CMQ_ERR_NOT_FOUND);
    assert_int_equal(dsp_group_join(a->groups, "w", topic, &options, &member, &reason), CMQ_OK);
    leave(a, &member);
    assert_int_equal(dsp_group_join(a->groups, "w", other, &options, &member, &reason), CMQ_ERR_EXISTS);
    assert_non_null(strstr(reason.text, "jobs.*"));
    assert_int_equal(dsp_group_join(a->groups, "w", none, &options, &member, &reason), CMQ_OK);
    assert_int_equal(dsp_group_topic(member.group).bytes, 6);
    static struct dsp_member second;
    assert_int_equal(dsp_group_join(a->groups, "w", none, &root, &second, &reason), CMQ_ERR_INVALID);
    leave(a, &member);
}

/* ---- what is told ---- */

static struct cmq_group_copy told(struct bench_engine *engine)
{
    static struct cmq_tables_copy copy;
    dsp_groups_tell(engine->groups);
    cmq_tables_copy(&engine->tables, CMQ_ROLE_DISPATCHER, 0, &copy);
    assert_int_equal(copy.group_count, 1);
    assert_string_equal(copy.groups[0].name, "w");
    return copy.groups[0];
}

static void the_tables_are_told_how_a_group_does(void **unused)
{
    (void)unused;
    static struct dsp_member first, second;
    struct bench_engine *b = bench_open(bench, 1);
    records(6, 2);
    bench_consume(a, &first, "w", 0);
    bench_consume(a, &second, "w", 0);
    assert_got(bench_take(a, &first, 2), 1, 0, 2, 1);
    assert_got(bench_take(a, &second, 2), 2, 0, 2, 1);
    assert_got(bench_take(a, &first, 2), 3, 0, 2, 1);
    struct cmq_group_copy group = told(a);
    assert_string_equal(group.topic, "jobs");
    assert_int_equal(group.members, 2);
    assert_int_equal(group.pending, 6);
    assert_int_equal(group.floor, 1);
    assert_int_equal(dsp_group_lag(a->groups, first.group), 6);
    (void)dsp_group_ack_upto(a->groups, &second, id_of(2, 1)); /* a record done above one that is not */
    bench_commit(a);
    group = told(a);
    assert_int_equal(group.floor, 1);
    assert_int_equal(group.done_above, 1);
    assert_int_equal(dsp_group_lag(a->groups, first.group), 5);
    assert_int_equal(dsp_group_nack(a->groups, &first, id_of(1, 0), 1, 0), DSP_ACK_OK);
    assert_got(bench_take(a, &second, 1), 1, 0, 1, 2);
    assert_int_equal(told(a).redelivered, 1);
    /* Another dispatcher, which has nobody of it, sees as much of what is done, and counts nothing. */
    group = told(b);
    assert_int_equal(group.members + group.pending + group.redelivered, 0);
    assert_int_equal(group.floor + group.done_above, 2);
    /* What nobody told before the last one left is not lost. */
    leave(a, &first);
    assert_got(bench_take(a, &second, 2), 1, 1, 1, 2);
    leave(a, &second);
    group = told(a);
    assert_int_equal(group.members, 0);
    assert_int_equal(group.redelivered, 2);
    bench_close(b);
}

static void what_retention_took_waits_for_nobody(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(6, 1);
    bench_consume(a, &member, "w", 0);
    assert_int_equal(told(a).floor, 1);
    fake_log_set_floor(bench->log, 4);
    assert_int_equal(told(a).floor, 4);
    assert_int_equal(dsp_group_lag(a->groups, member.group), 3);
    leave(a, &member);
}

/* ---- an operator ---- */

static void a_group_that_was_moved_ends_what_is_in_hand_and_begins_anew(void **unused)
{
    (void)unused;
    static struct dsp_member member;
    records(3, 2);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take(a, &member, 2), 1, 0, 2, 1);
    assert_got(bench_take(a, &member, 2), 2, 0, 2, 1);
    assert_got(bench_take(a, &member, 2), 3, 0, 2, 1);
    bench_move("w", "jobs", 2, 1);
    assert_nothing(bench_take(a, &member, 2));
    for (uint64_t seq = 1; seq <= 3; seq++) {
        assert_int_equal(bench_ack(a, &member, seq, 0), DSP_ACK_OK);
        assert_int_equal(bench_ack(a, &member, seq, 1), DSP_ACK_OK);
    }
    bench_commit(a);
    assert_got(bench_take_soon(a, &member, 2), 2, 1, 1, 1);
    assert_got(bench_take_soon(a, &member, 2), 3, 0, 2, 1);
    assert_int_equal(bench_ack(a, &member, 2, 1), DSP_ACK_OK);
    assert_int_equal(bench_ack(a, &member, 3, 0), DSP_ACK_OK);
    assert_int_equal(bench_ack(a, &member, 3, 1), DSP_ACK_OK);
    bench_commit(a);
    bench_wait_floor(a, "w", 4);
    bench_move("w", "jobs", 0, 0);
    records(1, 1);
    assert_nothing(bench_take(a, &member, 2));
    leave(a, &member);
    bench_consume(a, &member, "w", 0);
    assert_got(bench_take_soon(a, &member, 2), 1, 0, 2, 1);
    leave(a, &member);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(messages_come_in_order_and_are_done_when_all_are_acked),
        TEST(what_was_not_acked_comes_back_and_what_was_does_not),
        TEST(acks_of_another_delivery_are_stale),
        TEST(a_skipped_message_is_done_without_an_ack),
        TEST(acks_are_kept_although_nobody_asks_for_a_ticket),
        TEST(nacked_messages_come_again_after_their_delay),
        TEST(what_nobody_acks_in_time_comes_again_to_whoever_waits),
        TEST(a_message_delivered_too_often_becomes_a_dead_letter),
        TEST(a_dead_letter_stays_although_its_message_had_an_end),
        TEST(a_letter_whose_group_has_nobody_left_ends_all_the_same),
        TEST(group_begins_behind_a_message_inside_a_record),
        TEST(credit_and_pending_acks_bound_what_is_handed_out),
        TEST(members_that_wait_get_their_turn),
        TEST(a_long_way_to_the_next_message_is_gone_in_steps),
        TEST(one_message_that_is_not_acked_does_not_keep_all_later_ones),
        TEST(a_million_acks_in_any_order_are_quick),
        TEST(deliveries_of_the_root_endpoint_need_no_acks),
        TEST(messages_of_other_topics_are_passed),
        TEST(the_group_that_is_farthest_behind_says_what_is_unread),
        TEST(what_retention_took_is_a_gap),
        TEST(a_gap_is_done_when_somebody_was_told),
        TEST(retention_is_told_again_until_somebody_took_it),
        TEST(a_part_that_cannot_be_read_is_done_when_somebody_was_told),
        TEST(a_damaged_record_is_a_gap_and_no_stop),
        TEST(a_record_that_goes_from_under_a_hand_is_a_gap),
        TEST(two_dispatchers_share_a_group_and_one_takes_over_from_the_dead),
        TEST(a_dead_dispatcher_repeats_one_frame_of_the_root_endpoint),
        TEST(attempts_count_on_across_dispatchers_without_jumps),
        TEST(a_drained_dispatcher_gives_everything_up),
        TEST(a_group_that_cannot_be_joined_says_why),
        TEST(the_tables_are_told_how_a_group_does),
        TEST(what_retention_took_waits_for_nobody),
        TEST(a_group_that_was_moved_ends_what_is_in_hand_and_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
