/*
 * The log writer's side of the rings, and what the others see of it.
 *
 *   L1  out[n] committed: its bytes are read in place; the records from `stored` on are one append to the log
 *   L2  outcome[n] is written, while n is still above `stored`
 *   L3  stored = n + 1 (release): n is delivered from now on, its slot and its bytes may be used again
 *   L4  durable = n + 1 (release), once a sync has returned
 *   L5  the bells: STORED for dispatchers, DURABLE for ingests, space for both kinds of writers
 *
 * There is one log writer at a time: it holds the log lock, which the kernel frees when it dies, and a stopped one is
 * killed (cmq_fence.c). So L2 to L4 have one writer; the cursors are raised by compare-and-swap all the same, so that not
 * even a writer that should not be there can move them back. The log is the truth, the cursors only tell of it: after a
 * death between append and L3 the next writer finds the records in the log, and moves the cursors without writing again.
 *
 * Whoever gets the lock gets it from the kernel after the death of the last holder, and so sees all that one had stored.
 *
 * An outcome takes two words, of which a reader must see a pair:
 *
 *   writer                                     reader
 *   W1 outcome = {lap, open} (relaxed)         R1 word = outcome (acquire); another lap, or open: unknown
 *   W2 fence (release)                         R2 seq = outcome_seq (relaxed)
 *   W3 outcome_seq = seq (relaxed)             R3 fence (acquire)
 *   W4 outcome = {lap, kind, index} (release)  R4 outcome (relaxed) is still `word`, or unknown
 *
 * If R1 sees W4, R2 sees W3 or a later one. If R2 sees the W3 of a later lap, the fences W2 and R3 pair, R4 sees that lap's
 * W1 or something later, and the pair is refused.
 */
#include "common/shm/cmq_bell.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_view.h"

enum { SPACE_BATCH_MIN = 1, SPACE_BATCHES = 64 };

/* ---- reading what is committed ---- */

enum cmq_err cmq_ring_committed(struct cmq_ring *ring, uint64_t seq, struct cmq_committed *ret_record)
{
    cmq_assert(ring->role == CMQ_ROLE_ENCRYPTOR);
    struct cmq_record head;
    const uint8_t *payload = NULL;
    if (seq < cmq_gate_load(ring))
        return CMQ_ERR_NOT_FOUND;
    /* Acquire: pairs with the commit CAS, the sealed bytes are visible. They stay: only L3 lets anyone overwrite them. */
    uint64_t out = atomic_load_explicit(&cmq_slot_b(ring, seq)->out, memory_order_acquire);
    if (cmq_phase(ring, out, seq) != CMQ_PHASE_THIS) {
        /* What the caller still reads lies at or above `stored`: nobody's object with such a record is given up. */
        cmq_peers_prune(ring, &ring->log_peers, true);
        return CMQ_ERR_AGAIN;
    }
    cmq_peers_prune(ring, &ring->log_peers, false);
    enum cmq_err err =
        cmq_record_locate(ring, &ring->log_peers, out, seq, CMQ_ROLE_ENCRYPTOR, &head, &payload);
    if (err != CMQ_OK && err != CMQ_ERR_CORRUPT)
        return err;
    *ret_record =
        (struct cmq_committed){.seq = seq, .void_record = err != CMQ_OK || head.type == CMQ_RECORD_VOID};
    if (!ret_record->void_record) {
        ret_record->payload = cmq_span_make(payload, head.payload_bytes);
        ret_record->messages = head.messages;
    }
    return CMQ_OK;
}

/* ---- outcomes ---- */

static void write_outcome(struct cmq_ring *ring, uint64_t seq, const struct cmq_outcome *outcome)
{
    struct cmq_slot_d *slot = cmq_slot_d(ring, seq);
    const uint32_t lap = cmq_lap_of(seq, ring->slots_log2);
    /* W1 and W2, pair with R3 and R4. */
    atomic_store_explicit(&slot->outcome, cmq_outcome_encode(lap, CMQ_OUTCOME_OPEN, 0), memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&slot->outcome_seq, outcome->seq, memory_order_relaxed);
    /* W4, pairs with R1. */
    atomic_store_explicit(&slot->outcome, cmq_outcome_encode(lap, (uint32_t)outcome->kind, outcome->index),
                          memory_order_release);
}

void cmq_ring_outcome_set(struct cmq_ring *ring, uint64_t seq, const struct cmq_outcome *outcome)
{
    cmq_assert(ring->role == CMQ_ROLE_ENCRYPTOR && (unsigned)outcome->kind <= CMQ_OUTCOME_VOID);
    /* Only in the window, whoever moved the gate: outside of it the slot is another record's. */
    const uint64_t gate = cmq_gate_load(ring);
    if (seq >= gate && seq - gate < ring->slots)
        write_outcome(ring, seq, outcome);
}

bool cmq_ring_outcome(struct cmq_ring *ring, uint64_t seq, struct cmq_outcome *ret_outcome)
{
    /* Acquire: pairs with L3, which comes after the outcome of everything below. */
    if (seq >= cmq_gate_load(ring))
        return false;
    const struct cmq_slot_d *slot = cmq_slot_d(ring, seq);
    /* R1, pairs with W4. */
    uint64_t word = atomic_load_explicit(&slot->outcome, memory_order_acquire);
    uint64_t outcome_seq = atomic_load_explicit(&slot->outcome_seq, memory_order_relaxed);
    /* R3 and R4, pair with W1 and W2. */
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&slot->outcome, memory_order_relaxed) != word ||
        cmq_phase(ring, word, seq) != CMQ_PHASE_THIS || cmq_outcome_kind(word) > CMQ_OUTCOME_VOID)
        return false;
    *ret_outcome = (struct cmq_outcome){
        .kind = (enum cmq_outcome_kind)cmq_outcome_kind(word), .seq = outcome_seq, .index = (uint32_t)word};
    return true;
}

/* ---- the cursors ---- */

/* Release: whatever this writer has read in the arenas, written to the log, or set as outcomes comes before. Pairs with the
 * acquire loads of cmq_gate_load and cmq_ring_durable_seq. */
static void raise_cursor(struct cmq_hint *cursor, uint64_t value)
{
    uint64_t old = atomic_load_explicit(&cursor->value, memory_order_relaxed);
    while (old < value && !atomic_compare_exchange_weak_explicit(
                              &cursor->value, &old, value, memory_order_release, memory_order_relaxed)) {
    }
}

/* The end of what may be called stored: no further than what is committed, whatever the caller believes. Every record on the
 * way has an outcome then, so that a word of many laps ago is never taken for one of this lap. */
static uint64_t settle(struct cmq_ring *ring, uint64_t from, uint64_t to)
{
    static const struct cmq_outcome kept = {.kind = CMQ_OUTCOME_KEPT};
    uint64_t seq = from;
    for (; seq < to && cmq_is_committed(ring, seq); seq++) {
        uint64_t word = atomic_load_explicit(&cmq_slot_d(ring, seq)->outcome, memory_order_relaxed);
        if (cmq_phase(ring, word, seq) != CMQ_PHASE_THIS || cmq_outcome_kind(word) > CMQ_OUTCOME_VOID)
            write_outcome(ring, seq, &kept);
    }
    return seq;
}

void cmq_ring_stored(struct cmq_ring *ring, uint64_t stored, uint64_t durable)
{
    cmq_assert(ring->role == CMQ_ROLE_ENCRYPTOR);
    const uint64_t batch = cmq_max_u64(ring->slots / SPACE_BATCHES, SPACE_BATCH_MIN);
    const uint64_t before = cmq_gate_load(ring);
    const uint64_t after = settle(ring, before, stored);
    /* This order: whoever loads durable and then stored never sees durable above stored. */
    raise_cursor(&ring->d->stored, after);
    raise_cursor(&ring->d->durable, cmq_min_u64(durable, after));
    CMQ_CRASH_POINT("stored.cas");
    (void)cmq_gate_load(ring);
    /* Also when nothing moved: a predecessor may have died before its bells. The bell's fence (R2 in cmq_bell.c) orders the
     * cursors before the look at who is parked. */
    cmq_bell_ring(&ring->bells->bells[CMQ_BELL_STORED], CMQ_BELL_ALL);
    cmq_bell_ring(&ring->bells->bells[CMQ_BELL_DURABLE], CMQ_BELL_ALL);
    /* Waiters for space are woken in batches, and when nothing more is under way. */
    if (before / batch != after / batch || !cmq_is_committed(ring, after)) {
        cmq_bell_ring(&ring->bells->bells[CMQ_BELL_SPACE_INGEST], CMQ_BELL_ALL);
        cmq_bell_ring(&ring->bells->bells[CMQ_BELL_SPACE_ENCRYPTOR], CMQ_BELL_ALL);
    }
    CMQ_CRASH_POINT("stored.rung");
}

uint64_t cmq_ring_stored_seq(struct cmq_ring *ring)
{
    return cmq_gate_load(ring);
}

uint64_t cmq_ring_durable_seq(struct cmq_ring *ring)
{
    /* Pairs with raise_cursor: outcomes of the records below are seen. */
    return atomic_load_explicit(&ring->d->durable.value, memory_order_acquire);
}

/* ---- health ---- */

void cmq_ring_log_health_set(struct cmq_ring *ring, enum cmq_log_health health)
{
    cmq_assert(ring->role == CMQ_ROLE_ENCRYPTOR);
    /* Relaxed: it guards no data. */
    uint64_t before =
        atomic_exchange_explicit(&ring->d->health.value, (uint64_t)health, memory_order_relaxed);
    if (before != (uint64_t)health) /* who waits for durability wants to know that there will be none */
        cmq_bell_ring(&ring->bells->bells[CMQ_BELL_DURABLE], CMQ_BELL_ALL);
}

enum cmq_log_health cmq_ring_log_health(struct cmq_ring *ring)
{
    uint64_t health = atomic_load_explicit(&ring->d->health.value, memory_order_relaxed);
    return health <= CMQ_LOG_HEALTH_FAILED ? (enum cmq_log_health)health : CMQ_LOG_HEALTH_FAILED;
}

/* ---- waiting ---- */

void cmq_ring_follow(struct cmq_ring *ring, enum cmq_wait kind, uint64_t seq)
{
    cmq_assert(kind == CMQ_WAIT_STORED || kind == CMQ_WAIT_DURABLE);
    atomic_store_explicit(kind == CMQ_WAIT_STORED ? &ring->followed_stored : &ring->followed_durable, seq,
                          memory_order_release);
}

bool cmq_committed_look(void *context)
{
    struct cmq_ring *ring = context;
    return cmq_is_committed(ring, cmq_gate_load(ring));
}

bool cmq_stored_look(void *context)
{
    struct cmq_ring *ring = context;
    return cmq_gate_load(ring) > atomic_load_explicit(&ring->followed_stored, memory_order_acquire);
}

bool cmq_durable_look(void *context)
{
    struct cmq_ring *ring = context;
    return cmq_ring_durable_seq(ring) > atomic_load_explicit(&ring->followed_durable, memory_order_acquire) ||
           cmq_stored_look(ring);
}
