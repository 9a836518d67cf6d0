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

enum { PRODUCERS = 2, ENCRYPTORS = 2, DISPATCHERS = 2, RECORDS = 10000, SLOTS = 8 };

struct message {
    uint32_t producer, k;
};

struct shared {
    struct ring_fixture fixture;
    _Atomic uint32_t delivered, wrong;
    _Atomic uint64_t seq_of[PRODUCERS][RECORDS]; /* seq + 1 */
};

struct actor {
    struct shared *shared;
    struct cmq_ring *ring;
    uint32_t number;
};

static bool finished(const struct shared *shared)
{
    return atomic_load_explicit(&shared->delivered, memory_order_acquire) >= PRODUCERS * RECORDS;
}

static void *produce(void *context)
{
    struct actor *actor = context;
    struct message message = {.producer = actor->number};
    struct cmq_span part = cmq_span_make(&message, sizeof message);
    uint64_t seq;
    while (message.k < RECORDS) {
        if (cmq_ring_publish(actor->ring, &part, 1, 1, &seq) == CMQ_OK)
            message.k++;
        else
            (void)cmq_ring_wait(actor->ring, CMQ_WAIT_SPACE_INGEST, 50, NULL);
    }
    return NULL;
}

static void *encrypt(void *context)
{
    struct actor *actor = context;
    struct cmq_lease lease;
    while (!finished(actor->shared)) {
        enum cmq_err err = cmq_ring_lease(actor->ring, &lease);
        if (err != CMQ_OK) {
            (void)cmq_ring_wait(actor->ring, err == CMQ_ERR_FULL ? CMQ_WAIT_SPACE_ENCRYPTOR : CMQ_WAIT_PLAIN,
                                20, NULL);
            continue;
        }
        memcpy(lease.dst, lease.payload.data, lease.payload.bytes);
        if (lease.bad || cmq_ring_commit(actor->ring, &lease, lease.payload.bytes, 1) != CMQ_OK)
            atomic_fetch_add_explicit(&actor->shared->wrong, 1, memory_order_relaxed);
    }
    return NULL;
}

static void *dispatch(void *context)
{
    struct actor *actor = context;
    struct cmq_claim claim;
    struct message message;
    while (!finished(actor->shared)) {
        if (cmq_ring_claim(actor->ring, &claim) != CMQ_OK) {
            (void)cmq_ring_wait(actor->ring, CMQ_WAIT_SEALED, 20, NULL);
            continue;
        }
        memcpy(&message, claim.payload.data, sizeof message);
        uint64_t before = atomic_exchange_explicit(&actor->shared->seq_of[message.producer][message.k],
                                                   claim.seq + 1, memory_order_relaxed);
        if (before != 0 || cmq_ring_done(actor->ring, &claim) != CMQ_OK)
            atomic_fetch_add_explicit(&actor->shared->wrong, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&actor->shared->delivered, 1, memory_order_release);
    }
    return NULL;
}

static void every_record_is_delivered_once_and_in_order_of_its_producer(void **state)
{
    (void)state;
    static struct shared shared;
    static const struct {
        enum cmq_role role;
        unsigned count;
        void *(*run)(void *);
    } casts[] = {{CMQ_ROLE_INGEST, PRODUCERS, produce},
                 {CMQ_ROLE_ENCRYPTOR, ENCRYPTORS, encrypt},
                 {CMQ_ROLE_DISPATCHER, DISPATCHERS, dispatch}};
    struct actor actors[PRODUCERS + ENCRYPTORS + DISPATCHERS];
    pthread_t threads[CMQ_COUNT_OF(actors)];
    size_t count = 0;
    ring_fixture_open(&shared.fixture, SLOTS, 0, 65536);
    shared.fixture.setup.lease_ms =
        60000; /* a theft would read what its owner overwrites: legal, but not for tsan */
    for (size_t i = 0; i < CMQ_COUNT_OF(casts); i++) {
        for (unsigned number = 0; number < casts[i].count; number++) {
            actors[count] = (struct actor){.shared = &shared,
                                           .ring = ring_fixture_join(&shared.fixture, casts[i].role),
                                           .number = number};
            assert_int_equal(pthread_create(&threads[count], NULL, casts[i].run, &actors[count]), 0);
            count++;
        }
    }
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(shared.wrong, 0);
    for (unsigned producer = 0; producer < PRODUCERS; producer++) {
        for (unsigned k = 1; k < RECORDS; k++)
            assert_true(shared.seq_of[producer][k] > shared.seq_of[producer][k - 1]);
    }
    ring_fixture_close(&shared.fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_is_delivered_once_and_in_order_of_its_producer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
