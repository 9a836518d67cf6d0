/* Random lives of a consumer group over some dispatchers that share a ledger, held against what the promises say of each
 * message. The sequence follows from the seed that a failure prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "tests/support/groups_bench.h"

enum { RECORDS = 48, MESSAGES = 6, ALIVE = 2, MEMBERS = 2, STEPS = 1500, SEEDS = 24 };

enum ack_state { NOT_ACKED, ACKED, CONFIRMED };

struct message {
    bool exists;
    enum ack_state ack;
    uint32_t attempt;               /* the last one that anybody saw */
    const struct dsp_member *where; /* in whose flight; NULL: in nobody's */
    const struct bench_engine *giver, *acker;
};

struct life {
    struct bench *bench;
    struct bench_engine *engines[ALIVE];
    struct dsp_member *members[ALIVE][MEMBERS];
    struct message messages[RECORDS + 1][MESSAGES];
    uint64_t records;
    unsigned used; /* engines of the bench */
    uint64_t later_ms;
};

static struct dsp_member pool[BENCH_ENGINES][MEMBERS];
static struct life life;

static unsigned any(unsigned count)
{
    return (unsigned)random() % count;
}

/* ---- what the promises allow ---- */

static void saw(unsigned e, unsigned m, struct bench_got got)
{
    for (uint32_t i = 0; i < got.count; i++) {
        struct message *message = &life.messages[got.seq][got.first + i];
        assert_true(message->exists);
        assert_int_not_equal(message->ack, CONFIRMED); /* never after a confirmed ack */
        assert_null(message->where);                   /* nobody else has it */
        assert_true(got.attempt > message->attempt);   /* attempts tell deliveries apart */
        if (message->ack == ACKED)
            assert_null(message->acker); /* whoever took the ack has died before it was kept */
        if (got.attempt > 1)
            assert_true(message->attempt > 0 || life.used > ALIVE); /* unknown deliveries need a death */
        message->ack = NOT_ACKED;
        message->attempt = got.attempt;
        message->where = life.members[e][m];
        message->giver = life.engines[e];
    }
}

/* ---- steps ---- */

static struct dsp_member *enter(unsigned e, unsigned m)
{
    struct dsp_member *member = &pool[life.engines[e] - life.bench->engines][m];
    bench_consume(life.engines[e], member, "w", 0);
    return life.members[e][m] = member;
}

static void add_record(void)
{
    if (life.records == RECORDS)
        return;
    const uint32_t count = 1 + any(MESSAGES);
    const bool other = any(5) == 0; /* of no use to the group */
    life.records = fake_log_texts(life.bench->log, other ? "other" : "jobs", count, 'm');
    for (uint32_t i = 0; i < count; i++)
        life.messages[life.records][i] = (struct message){.exists = !other};
}

static void take(unsigned e, unsigned m)
{
    const struct bench_got got = bench_take(life.engines[e], life.members[e][m], 1 + any(8));
    if (got.count > 0)
        saw(e, m, got);
}

/* A random message that is in this member's flight. */
static struct message *in_flight(unsigned e, unsigned m, struct cmq_id *ret_id)
{
    for (unsigned tries = 0; tries < 40; tries++) {
        const struct cmq_id id = {.seq = 1 + any(RECORDS), .index = any(MESSAGES)};
        if (life.messages[id.seq][id.index].where != life.members[e][m])
            continue;
        *ret_id = id;
        return &life.messages[id.seq][id.index];
    }
    return NULL;
}

static void ack(unsigned e, unsigned m)
{
    struct cmq_id id;
    struct message *message = in_flight(e, m, &id);
    if (message == NULL)
        return;
    assert_int_equal(dsp_group_ack(life.engines[e]->groups, life.members[e][m], id, message->attempt + 1),
                     DSP_ACK_STALE);
    assert_int_equal(dsp_group_ack(life.engines[e]->groups, life.members[e][m], id, message->attempt),
                     DSP_ACK_OK);
    message->ack = ACKED;
    message->acker = life.engines[e];
    message->where = NULL;
}

static void nack(unsigned e, unsigned m)
{
    struct cmq_id id;
    struct message *message = in_flight(e, m, &id);
    if (message == NULL)
        return;
    assert_int_equal(dsp_group_nack(life.engines[e]->groups, life.members[e][m], id, 0, any(2) * 5000),
                     DSP_ACK_OK);
    message->where = NULL;
}

static void confirm(unsigned e)
{
    bench_commit(life.engines[e]);
    for (uint64_t seq = 1; seq <= life.records; seq++)
        for (uint32_t i = 0; i < MESSAGES; i++)
            if (life.messages[seq][i].ack == ACKED && life.messages[seq][i].acker == life.engines[e])
                life.messages[seq][i].ack = CONFIRMED;
}

static void empty_flight(const struct dsp_member *member)
{
    for (uint64_t seq = 1; seq <= life.records; seq++)
        for (uint32_t i = 0; i < MESSAGES; i++)
            if (life.messages[seq][i].where == member)
                life.messages[seq][i].where = NULL;
}

/* Every ack wait of this engine is over. */
static void expire(unsigned e)
{
    life.later_ms += 6000;
    (void)dsp_groups_tick(life.engines[e]->groups, cmq_clock_mono_ns() + life.later_ms * CMQ_NS_PER_MS);
    for (unsigned m = 0; m < MEMBERS; m++)
        empty_flight(life.members[e][m]);
}

static void reenter(unsigned e, unsigned m)
{
    dsp_group_leave(life.engines[e]->groups, life.members[e][m]);
    empty_flight(life.members[e][m]);
    (void)enter(e, m);
}

/* Dies as it stands. Acks that it had confirmed are kept; others may be. */
static void die(unsigned e)
{
    if (life.used == BENCH_ENGINES)
        return;
    bench_die(life.engines[e]);
    for (uint64_t seq = 1; seq <= life.records; seq++) {
        for (uint32_t i = 0; i < MESSAGES; i++) {
            struct message *message = &life.messages[seq][i];
            if (message->acker == life.engines[e])
                message->acker = NULL;
            /* How often it had been delivered since the last commit nobody knows; that it had been, is known. */
            if (message->giver == life.engines[e])
                message->attempt = message->attempt > 0 ? 1 : 0;
        }
    }
    for (unsigned m = 0; m < MEMBERS; m++)
        empty_flight(life.members[e][m]);
    life.engines[e] = bench_open(life.bench, life.used++);
    for (unsigned m = 0; m < MEMBERS; m++)
        (void)enter(e, m);
}

/* ---- a life ---- */

static void step(void)
{
    const unsigned e = any(ALIVE), m = any(MEMBERS), what = any(100);
    if (what < 10)
        add_record();
    else if (what < 45)
        take(e, m);
    else if (what < 80)
        ack(e, m);
    else if (what < 88)
        nack(e, m);
    else if (what < 93)
        confirm(e);
    else if (what < 95)
        expire(e);
    else if (what < 98)
        reenter(e, m);
    else if (what == 98)
        dsp_groups_poke(life.engines[e]->groups);
    else if (any(4) == 0)
        die(e);
}

static bool is_over(void)
{
    for (uint64_t seq = 1; seq <= life.records; seq++)
        for (uint32_t i = 0; i < MESSAGES; i++)
            if (life.messages[seq][i].exists && life.messages[seq][i].ack != CONFIRMED &&
                !(life.messages[seq][i].ack == ACKED && life.messages[seq][i].acker == NULL))
                return false;
    return true;
}

/* No more faults: everything is delivered and acked. */
static void finish(void)
{
    const uint64_t deadline_ns = cmq_clock_mono_ns() + 10 * CMQ_NS_PER_S;
    struct dsp_ledger_state state = {.floor = 0};
    while (!is_over() || state.floor <= life.records) {
        assert_true(cmq_clock_mono_ns() < deadline_ns);
        for (unsigned e = 0; e < ALIVE; e++) {
            expire(e);
            for (struct bench_got got;
                 (got = bench_take(life.engines[e], life.members[e][0], 99)).count > 0;) {
                saw(e, 0, got);
                for (uint32_t i = 0; i < got.count; i++) {
                    struct message *message = &life.messages[got.seq][got.first + i];
                    assert_int_equal(bench_ack(life.engines[e], life.members[e][0], got.seq, got.first + i),
                                     DSP_ACK_OK);
                    *message = (struct message){
                        .exists = true, .ack = ACKED, .attempt = got.attempt, .acker = life.engines[e]};
                }
            }
            confirm(e);
        }
        assert_int_equal(dsp_ledger_state(life.engines[0]->ledger, 0, &state), CMQ_OK);
    }
}

static void each_message_is_delivered_until_it_is_acked_and_never_after(void **unused)
{
    (void)unused;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        srandom(seed);
        print_message("seed %u\n", seed);
        life = (struct life){.bench = bench_start()};
        memset(pool, 0, sizeof pool);
        for (unsigned e = 0; e < ALIVE; e++) {
            life.engines[e] = bench_open(life.bench, life.used++);
            for (unsigned m = 0; m < MEMBERS; m++)
                (void)enter(e, m);
        }
        for (unsigned i = 0; i < STEPS; i++)
            step();
        finish();
        bench_stop(life.bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_message_is_delivered_until_it_is_acked_and_never_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
