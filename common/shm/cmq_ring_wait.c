#include "common/base/cmq_clock.h"
#include "common/shm/cmq_bell.h"
#include "common/shm/cmq_view.h"

/* Spinning pays only while records come quickly one after the other. */
enum { RECENT_US = 200, SPINS_PER_CLOCK = 32, SPIN_MISSES_MAX = 4, SPIN_RETRY = 16 };

struct waiter {
    struct cmq_ring *ring;
    cmq_bell_look *look;
    const atomic_uint *stop;
    _Atomic uint32_t *poke;
    bool found; /* what look said last */
};

static const struct {
    enum cmq_bell_index bell;
    cmq_bell_look *look;
} kinds[] = {[CMQ_WAIT_PLAIN] = {CMQ_BELL_PLAIN, cmq_lease_look},
             [CMQ_WAIT_SPACE_INGEST] = {CMQ_BELL_SPACE_INGEST, cmq_space_look_ingest},
             [CMQ_WAIT_SPACE_ENCRYPTOR] = {CMQ_BELL_SPACE_ENCRYPTOR, cmq_space_look_encryptor},
             [CMQ_WAIT_COMMITTED] = {CMQ_BELL_COMMITTED, cmq_committed_look},
             [CMQ_WAIT_STORED] = {CMQ_BELL_STORED, cmq_stored_look},
             [CMQ_WAIT_DURABLE] = {CMQ_BELL_DURABLE, cmq_durable_look}};

enum cmq_role cmq_bell_role(enum cmq_bell_index bell)
{
    static const enum cmq_role roles[] = {
        [CMQ_BELL_PLAIN] = CMQ_ROLE_ENCRYPTOR,           [CMQ_BELL_SPACE_INGEST] = CMQ_ROLE_INGEST,
        [CMQ_BELL_SPACE_ENCRYPTOR] = CMQ_ROLE_ENCRYPTOR, [CMQ_BELL_COMMITTED] = CMQ_ROLE_ENCRYPTOR,
        [CMQ_BELL_STORED] = CMQ_ROLE_DISPATCHER,         [CMQ_BELL_DURABLE] = CMQ_ROLE_INGEST};
    return roles[bell];
}

/* Everything that ends the wait, on fresh values. */
static bool look(void *context)
{
    struct waiter *waiter = context;
    /* Pairs with cmq_ring_wake and the stage's own store; seq_cst side of the bell's fence. */
    if (atomic_load_explicit(waiter->poke, memory_order_acquire) != 0 ||
        (waiter->stop != NULL && atomic_load_explicit(waiter->stop, memory_order_acquire) != 0))
        return true;
    waiter->found = waiter->look(waiter->ring);
    return waiter->found;
}

/* Is a spin likely to find something? The last ones tell; after some misses only every 16th wait tries again.
 * On few cores a vain spin is time taken from the very stage that it waits for. */
static bool spin_pays(struct cmq_ring *ring, struct cmq_spin *record)
{
    if (ring->setup.spin_us == 0)
        return false;
    uint64_t last_ns = atomic_load_explicit(&ring->last_work_ns, memory_order_relaxed);
    if (cmq_clock_mono_ns() - last_ns > RECENT_US * CMQ_NS_PER_US)
        return false;
    return record->misses < SPIN_MISSES_MAX || ++record->skipped % SPIN_RETRY == 0;
}

static bool spin(struct waiter *waiter, struct cmq_spin *record)
{
    const uint64_t end_ns = cmq_clock_mono_ns() + waiter->ring->setup.spin_us * CMQ_NS_PER_US;
    do {
        for (unsigned i = 0; i < SPINS_PER_CLOCK; i++) {
            if (look(waiter)) {
                record->misses = 0;
                return true;
            }
            cmq_cpu_relax();
        }
    } while (cmq_clock_mono_ns() < end_ns);
    record->misses++;
    return false;
}

bool cmq_ring_wait(struct cmq_ring *ring, enum cmq_wait kind, uint32_t timeout_ms, const atomic_uint *stop)
{
    /* Two roles at one bell would share bits: one would clear the other's. */
    cmq_assert(ring->role == cmq_bell_role(kinds[kind].bell));
    struct waiter waiter = {
        .ring = ring, .look = kinds[kind].look, .stop = stop, .poke = &ring->poke[kinds[kind].bell]};
    uint64_t timeout_us = cmq_min_u64(timeout_ms, ring->setup.wait_ms) * 1000u;
    struct cmq_spin *record = &ring->spins[kinds[kind].bell];
    if (!look(&waiter) && !(spin_pays(ring, record) && spin(&waiter, record))) {
        if (kind == CMQ_WAIT_PLAIN || kind == CMQ_WAIT_SPACE_ENCRYPTOR)
            timeout_us = cmq_min_u64(timeout_us, cmq_lease_patience_us(ring));
        enum cmq_bell_result result =
            cmq_bell_wait(&ring->bells->bells[kinds[kind].bell], ring->bit, look, &waiter, timeout_us);
        if (result != CMQ_BELL_FOUND)
            cmq_ring_count(ring, CMQ_COUNT_WAITS, 1);
        /* Waiters for space are woken in batches: for them a time-out is no lost wake-up. */
        bool counts = kind != CMQ_WAIT_SPACE_INGEST && kind != CMQ_WAIT_SPACE_ENCRYPTOR;
        if (result == CMQ_BELL_TIMED_OUT && look(&waiter) && waiter.found && counts)
            cmq_ring_count(ring, CMQ_COUNT_WAITS_LATE, 1);
    }
    /* Acquire: whatever cmq_ring_wake's caller had stored before is seen by our caller's next look. */
    (void)atomic_exchange_explicit(waiter.poke, 0, memory_order_acq_rel);
    if (waiter.found)
        atomic_store_explicit(&ring->last_work_ns, cmq_clock_mono_ns(), memory_order_relaxed);
    return waiter.found;
}

void cmq_ring_wake(struct cmq_ring *ring, enum cmq_wait kind)
{
    struct cmq_bell *bell = &ring->bells->bells[kinds[kind].bell];
    atomic_store_explicit(&ring->poke[kinds[kind].bell], 1, memory_order_release);
    cmq_bell_ring(bell, CMQ_BELL_ALL);
}
