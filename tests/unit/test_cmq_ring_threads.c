/* All roles as threads of one process: what thread sanitizer can see (the tsan preset maps every object
 * once). Without a sanitizer it is a quick check of order and loss. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/ring_fixture.h"

enum { PRODUCERS = 2, ENCRYPTORS = 2, READERS = 2, RECORDS = 10000, SLOTS = 8, ALL = PRODUCERS * RECORDS };
/* A wake-up that is lost costs LONG_MS, and is counted. Space is rung for in batches: no loss there. */
enum { DURABLE_EVERY = 100, SYNC_EVERY = 3, LONG_MS = 10000, SPACE_MS = 20 };

struct message {
    uint32_t producer, k;
};

struct shared {
    struct ring_fixture fixture;
    _Atomic uint32_t wrong, told;
    struct cmq_ring *encryptors[ENCRYPTORS];
    struct message log[ALL]; /* seq is the index; no atomics: what is below stored must be visible without */
};

struct actor {
    struct shared *shared;
    struct cmq_ring *ring;
    uint32_t number;
};

static void wrong(struct actor *actor)
{
    atomic_fetch_add_explicit(&actor->shared->wrong, 1, memory_order_relaxed);
}

static bool finished(struct cmq_ring *ring)
{
    return cmq_ring_durable_seq(ring) >= ALL;
}

/* As a publisher that asks for durability: what it is told must be true. */
static void await_durable(struct actor *actor, uint64_t seq)
{
    struct cmq_outcome outcome;
    cmq_ring_follow(actor->ring, CMQ_WAIT_DURABLE, seq);
    while (cmq_ring_durable_seq(actor->ring) <= seq)
        (void)cmq_ring_wait(actor->ring, CMQ_WAIT_DURABLE, LONG_MS, NULL);
    if (actor->shared->log[seq].producer != actor->number)
        wrong(actor);
    if (!cmq_ring_outcome(actor->ring, seq, &outcome))
        return; /* used again meanwhile */
    atomic_fetch_add_explicit(&actor->shared->told, 1, memory_order_relaxed);
    if (outcome.kind != CMQ_OUTCOME_PART || outcome.seq != seq * 3 || outcome.index != (uint32_t)seq)
        wrong(actor);
}

static void *produce(void *context)
{
    struct actor *actor = context;
    struct message message = {.producer = actor->number};
    struct cmq_span part = cmq_span_make(&message, sizeof message);
    uint64_t seq;
    while (message.k < RECORDS) {
        if (cmq_ring_publish(actor->ring, &part, 1, 1, &seq) != CMQ_OK) {
            (void)cmq_ring_wait(actor->ring, CMQ_WAIT_SPACE_INGEST, SPACE_MS, NULL);
            continue;
        }
        message.k++;
        if (message.k % DURABLE_EVERY == 0)
            await_durable(actor, seq);
    }
    return NULL;
}

static void *encrypt(void *context)
{
    struct actor *actor = context;
    struct cmq_lease lease;
    while (!finished(actor->ring)) {
        enum cmq_err err = cmq_ring_lease(actor->ring, &lease);
        if (err != CMQ_OK) {
            if (err == CMQ_ERR_FULL)
                (void)cmq_ring_wait(actor->ring, CMQ_WAIT_SPACE_ENCRYPTOR, SPACE_MS, NULL);
            else
                (void)cmq_ring_wait(actor->ring, CMQ_WAIT_PLAIN, LONG_MS, NULL);
            continue;
        }
        memcpy(lease.dst, lease.payload.data, lease.payload.bytes);
        if (lease.bad || cmq_ring_commit(actor->ring, &lease, lease.payload.bytes, 1) != CMQ_OK)
            wrong(actor);
    }
    return NULL;
}

/* The log thread of the first encryptor: the same attachment as its pump. */
static void *write_log(void *context)
{
    struct actor *actor = context;
    struct cmq_committed record;
    uint64_t stored = 0, durable = 0;
    unsigned appends = 0;
    while (!finished(actor->ring)) {
        uint64_t next = stored;
        for (; next < ALL && cmq_ring_committed(actor->ring, next, &record) == CMQ_OK; next++) {
            struct cmq_outcome outcome = {.kind = CMQ_OUTCOME_PART, .seq = next * 3, .index = (uint32_t)next};
            if (record.void_record || record.payload.bytes != sizeof(struct message))
                wrong(actor);
            else
                memcpy(&actor->shared->log[next], record.payload.data, record.payload.bytes);
            cmq_ring_outcome_set(actor->ring, next, &outcome);
        }
        bool idle = next == stored;
        stored = next;
        if (idle || ++appends % SYNC_EVERY == 0)
            durable = stored;
        cmq_ring_stored(actor->ring, stored, durable);
        if (idle && !finished(actor->ring))
            (void)cmq_ring_wait(actor->ring, CMQ_WAIT_COMMITTED, LONG_MS, NULL);
    }
    for (unsigned i = 0; i < ENCRYPTORS; i++) /* their work is over */
        cmq_ring_wake(actor->shared->encryptors[i], CMQ_WAIT_PLAIN);
    return NULL;
}

static void *read_log(void *context)
{
    struct actor *actor = context;
    uint32_t next_k[PRODUCERS] = {0};
    for (uint64_t seq = 0; seq < ALL; seq++) {
        while (cmq_ring_stored_seq(actor->ring) <= seq) {
            cmq_ring_follow(actor->ring, CMQ_WAIT_STORED, seq);
            (void)cmq_ring_wait(actor->ring, CMQ_WAIT_STORED, LONG_MS, NULL);
        }
        const struct message *message = &actor->shared->log[seq];
        if (message->producer >= PRODUCERS || message->k != next_k[message->producer]++)
            wrong(actor);
    }
    return NULL;
}

static uint64_t late_waits(struct cmq_ring *ring)
{
    struct cmq_member_state members[FIXTURE_MEMBERS_MAX];
    uint64_t sum = 0;
    size_t count = cmq_ring_members(ring, members, CMQ_COUNT_OF(members));
    for (size_t i = 0; i < count; i++)
        sum += members[i].counters[CMQ_COUNT_WAITS_LATE];
    return sum;
}

static void every_record_is_in_the_log_once_and_in_order_of_its_producer(void **state)
{
    (void)state;
    static struct shared shared;
    static const struct {
        enum cmq_role role;
        unsigned count;
        void *(*run)(void *);
    } casts[] = {{CMQ_ROLE_INGEST, PRODUCERS, produce},
                 {CMQ_ROLE_ENCRYPTOR, ENCRYPTORS, encrypt},
                 {CMQ_ROLE_DISPATCHER, READERS, read_log},
                 {CMQ_ROLE_ENCRYPTOR, 1, write_log}};
    struct actor actors[PRODUCERS + ENCRYPTORS + READERS + 1];
    pthread_t threads[CMQ_COUNT_OF(actors)];
    size_t count = 0;
    ring_fixture_open(&shared.fixture, SLOTS, 0, 65536);
    shared.fixture.setup.lease_ms =
        60000; /* a theft would read what its owner overwrites: legal, but not for tsan */
    shared.fixture.setup.wait_ms = LONG_MS;
    for (unsigned i = 0; i < ENCRYPTORS; i++)
        shared.encryptors[i] = ring_fixture_join(&shared.fixture, CMQ_ROLE_ENCRYPTOR);
    for (size_t i = 0; i < CMQ_COUNT_OF(casts); i++) {
        for (unsigned number = 0; number < casts[i].count; number++) {
            struct cmq_ring *ring = casts[i].role != CMQ_ROLE_ENCRYPTOR
                                        ? ring_fixture_join(&shared.fixture, casts[i].role)
                                        : shared.encryptors[number];
            actors[count] = (struct actor){.shared = &shared, .ring = ring, .number = number};
            assert_int_equal(pthread_create(&threads[count], NULL, casts[i].run, &actors[count]), 0);
            count++;
        }
    }
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(shared.wrong, 0);
    assert_true(shared.told > 0);
    assert_int_equal(late_waits(shared.encryptors[0]), 0);
    ring_fixture_close(&shared.fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_is_in_the_log_once_and_in_order_of_its_producer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
