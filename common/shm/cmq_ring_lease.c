#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_bell.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_create.h"
#include "common/shm/cmq_view.h"

/* Lease times count 131 us, in 28 bits: 9.7 hours, then they wrap; ages are taken modulo that. */
enum { LEASE_TICK_SHIFT = 17, STEAL_BYTES_PER_MS = 50000, DEAD_CHECK_TICKS = 8, PATIENCE_US = 2000 };
static const uint64_t no_extent = UINT64_MAX;

static uint32_t lease_now(void)
{
    return (uint32_t)(cmq_clock_mono_ns() >> LEASE_TICK_SHIFT) & CMQ_LOW_MASK;
}

static uint64_t lease_age_ticks(uint64_t lease)
{
    return (lease_now() - cmq_word_decode(lease).low) & CMQ_LOW_MASK;
}

static bool is_leased(const struct cmq_ring *ring, uint64_t lease, uint64_t seq)
{
    /* "Older" and not merely "other": a lagging encryptor must not take a later lap's lease for a free one.
     */
    enum cmq_phase phase = cmq_phase(ring, lease, seq);
    return phase == CMQ_PHASE_THIS || phase == CMQ_PHASE_LATER;
}

/* The lowest record that is not committed, remembered. */
static uint64_t lowest_uncommitted(struct cmq_ring *ring, uint64_t gate)
{
    uint64_t seq = cmq_max_u64(atomic_load_explicit(&ring->commit_low, memory_order_relaxed), gate);
    while (seq < gate + ring->slots && cmq_is_committed(ring, seq))
        seq++;
    atomic_store_explicit(&ring->commit_low, seq, memory_order_relaxed);
    return seq;
}

/* First published record from `seq` on that nobody has leased; false when there is none. */
static bool find_unleased(struct cmq_ring *ring, uint64_t seq, uint64_t gate, uint64_t *ret_seq,
                          uint64_t *ret_lease)
{
    for (; seq < gate + ring->slots && cmq_is_published(ring, seq); seq++) {
        uint64_t lease = atomic_load_explicit(&cmq_slot_a(ring, seq)->lease, memory_order_relaxed);
        if (!is_leased(ring, lease, seq) && !cmq_is_committed(ring, seq)) {
            *ret_seq = seq;
            *ret_lease = lease;
            return true;
        }
    }
    return false;
}

static uint64_t claim_start(const struct cmq_ring *ring, uint64_t gate)
{
    uint64_t seq = atomic_load_explicit(&ring->a->claim.value, memory_order_relaxed);
    return seq < gate || seq > gate + ring->slots ? gate : seq;
}

/* May the record's lease be taken over? Its owner is dead, or took too long for its size. */
static bool is_stealable(struct cmq_ring *ring, uint64_t lease, uint32_t payload_bytes)
{
    uint64_t age = lease_age_ticks(lease);
    uint64_t patience_ns = (ring->setup.lease_ms + payload_bytes / STEAL_BYTES_PER_MS) * CMQ_NS_PER_MS;
    if (age << LEASE_TICK_SHIFT > patience_ns)
        return true;
    return age >= DEAD_CHECK_TICKS && !cmq_member_is_alive(ring, cmq_word_decode(lease).member);
}

/* The plain record n: its word, a private copy of its head, and where its payload lies. */
struct plain {
    struct cmq_record head;
    const uint8_t *payload;
    bool bad;
};

/* CMQ_ERR_AGAIN: the record is history, somebody committed it and the gate passed. Other errors: this process cannot read
 * it now. An unreadable record is CMQ_OK and bad. */
static enum cmq_err load_plain(struct cmq_ring *ring, uint64_t seq, struct plain *ret_plain)
{
    uint64_t word = atomic_load_explicit(&cmq_slot_a(ring, seq)->pub, memory_order_acquire);
    if (cmq_phase(ring, word, seq) != CMQ_PHASE_THIS)
        return CMQ_ERR_AGAIN;
    *ret_plain = (struct plain){0};
    enum cmq_err err = cmq_record_locate(ring, &ring->peers, word, seq, CMQ_ROLE_INGEST, &ret_plain->head,
                                         &ret_plain->payload);
    if (err != CMQ_OK && err != CMQ_ERR_CORRUPT)
        return err;
    ret_plain->bad = err != CMQ_OK || ret_plain->head.type != CMQ_RECORD_BATCH ||
                     ret_plain->head.payload_bytes > ring->record_bytes_max;
    if (ret_plain->bad)
        ret_plain->head = (struct cmq_record){.seq = seq};
    return CMQ_OK;
}

static uint64_t result_bytes(const struct plain *plain)
{
    return plain->bad ? sizeof(struct cmq_record) : cmq_result_bytes_max(plain->head.payload_bytes);
}

static bool cas_lease(struct cmq_ring *ring, uint64_t seq, uint64_t seen)
{
    /* Acquire/release only for tidiness: the lease guards no data, the commit CAS decides. */
    bool won = atomic_compare_exchange_strong_explicit(&cmq_slot_a(ring, seq)->lease, &seen,
                                                       cmq_word_for(ring, seq, lease_now()),
                                                       memory_order_acq_rel, memory_order_relaxed);
    if (won)
        CMQ_CRASH_POINT("lease.cas");
    return won;
}

static void fill_lease(struct cmq_ring *ring, uint64_t seq, const struct plain *plain, uint64_t offset,
                       uint64_t pos, bool stolen, struct cmq_lease *ret_lease)
{
    *ret_lease = (struct cmq_lease){.seq = seq,
                                    .payload = cmq_span_make(plain->payload, plain->head.payload_bytes),
                                    .messages = plain->head.messages,
                                    .dst = ring->arena_data + offset + sizeof(struct cmq_record),
                                    .dst_bytes = result_bytes(plain) - sizeof(struct cmq_record),
                                    .stolen = stolen,
                                    .bad = plain->bad,
                                    .own_pos = pos};
    atomic_store_explicit(&ring->last_work_ns, cmq_clock_mono_ns(), memory_order_relaxed);
}

/* The usual way: space first, then the lease. The other order deadlocks: a lessee without space would wait
 * for records that wait for its own. CMQ_ERR_AGAIN: nothing unleased. */
static enum cmq_err lease_next(struct cmq_ring *ring, uint64_t from, uint64_t gate,
                               struct cmq_lease *ret_lease)
{
    uint64_t seq = from, lease, extent, pos;
    struct plain plain;
    while (find_unleased(ring, seq, gate, &seq, &lease)) {
        enum cmq_err err = load_plain(ring, seq, &plain);
        if (err == CMQ_ERR_AGAIN) {
            seq++;
            continue;
        }
        if (err != CMQ_OK)
            return err;
        err = cmq_arena_alloc(&ring->arena, result_bytes(&plain), &extent, &pos);
        if (err == CMQ_ERR_FULL)
            atomic_store_explicit(&ring->wanted_bytes, result_bytes(&plain), memory_order_relaxed);
        if (err != CMQ_OK)
            return err;
        if (cas_lease(ring, seq, lease)) {
            cmq_hint_raise(&ring->a->claim, seq + 1);
            CMQ_CRASH_POINT("lease.hint");
            ring->leased_extent = extent;
            fill_lease(ring, seq, &plain, pos % ring->arena.bytes, pos, false, ret_lease);
            return CMQ_OK;
        }
        /* Lost: judge the same record again. Not only a lessee may have changed the word, also a late thief of a lap ago,
         * and a record passed over here would be behind everybody's hint. */
        cmq_arena_abort(&ring->arena, extent);
    }
    return CMQ_ERR_AGAIN;
}

/* The lowest uncommitted record, if it may be taken over now: its lease is old or its lessee dead; or it has no lease
 * but lies behind the claim hint, where nobody looks any more. CMQ_ERR_AGAIN: nothing to take over. */
static enum cmq_err find_stealable(struct cmq_ring *ring, uint64_t gate, uint64_t *ret_seq,
                                   uint64_t *ret_lease, struct plain *ret_plain)
{
    uint64_t seq = lowest_uncommitted(ring, gate);
    if (seq >= gate + ring->slots || !cmq_is_published(ring, seq))
        return CMQ_ERR_AGAIN;
    uint64_t lease = atomic_load_explicit(&cmq_slot_a(ring, seq)->lease, memory_order_relaxed);
    bool leased = is_leased(ring, lease, seq);
    if (!leased && seq >= claim_start(ring, gate))
        return CMQ_ERR_AGAIN;
    enum cmq_err err = load_plain(ring, seq, ret_plain);
    if (err != CMQ_OK)
        return err;
    *ret_seq = seq;
    *ret_lease = lease;
    return !leased || is_stealable(ring, lease, ret_plain->head.payload_bytes) ? CMQ_OK : CMQ_ERR_AGAIN;
}

/* Taking over the lowest uncommitted record. If the arena is full its result goes to the reserve: whatever
 * the arenas hold is above it, or committed and waiting for just this record. */
static enum cmq_err lease_steal(struct cmq_ring *ring, uint64_t gate, struct cmq_lease *ret_lease)
{
    struct plain plain;
    uint64_t seq, lease, extent, pos;
    enum cmq_err err = find_stealable(ring, gate, &seq, &lease, &plain);
    if (err != CMQ_OK)
        return err;
    bool in_arena = cmq_arena_alloc(&ring->arena, result_bytes(&plain), &extent, &pos) == CMQ_OK;
    if (!in_arena && ring->reserve_used && ring->reserve_seq >= gate) {
        atomic_store_explicit(&ring->wanted_bytes, result_bytes(&plain), memory_order_relaxed);
        return CMQ_ERR_FULL;
    }
    if (!cas_lease(ring, seq, lease)) {
        if (in_arena)
            cmq_arena_abort(&ring->arena, extent);
        return CMQ_ERR_AGAIN;
    }
    if (!in_arena) {
        ring->reserve_used = true;
        ring->reserve_seq = seq;
    }
    ring->leased_extent = in_arena ? extent : no_extent;
    fill_lease(ring, seq, &plain, in_arena ? pos % ring->arena.bytes : ring->reserve_offset,
               in_arena ? pos : UINT64_MAX, true, ret_lease);
    cmq_ring_count(ring, CMQ_COUNT_STOLEN, 1);
    return CMQ_OK;
}

enum cmq_err cmq_ring_lease(struct cmq_ring *ring, struct cmq_lease *ret_lease)
{
    cmq_assert(ring->role == CMQ_ROLE_ENCRYPTOR);
    cmq_peers_prune(ring, &ring->peers, ring->was_idle);
    uint64_t gate = cmq_gate_load(ring);
    /* The head of the line first: everything behind it waits for it. */
    enum cmq_err steal_err = lease_steal(ring, gate, ret_lease);
    if (steal_err == CMQ_OK)
        return steal_err;
    enum cmq_err err = lease_next(ring, claim_start(ring, gate), gate, ret_lease);
    ring->was_idle = err == CMQ_ERR_AGAIN;
    return err == CMQ_ERR_AGAIN ? steal_err : err;
}

static void baton(struct cmq_ring *ring, uint64_t seq)
{
    /* A wake-one token may have gone to a member that died or is busy: pass it on while there is work. */
    if (!cmq_is_published(ring, seq))
        return;
    uint64_t lease = atomic_load_explicit(&cmq_slot_a(ring, seq)->lease, memory_order_relaxed);
    if (!is_leased(ring, lease, seq))
        cmq_bell_ring(&ring->bells->bells[CMQ_BELL_PLAIN], 1);
}

void cmq_ring_abandon(struct cmq_ring *ring, const struct cmq_lease *lease)
{
    if (ring->leased_extent != no_extent)
        cmq_arena_abort(&ring->arena, ring->leased_extent);
    else if (ring->reserve_seq == lease->seq)
        ring->reserve_used = false;
}

static enum cmq_err commit(struct cmq_ring *ring, const struct cmq_lease *lease, struct cmq_record *head)
{
    _Atomic uint64_t *out = &cmq_slot_b(ring, lease->seq)->out;
    uint8_t *dst = lease->dst - sizeof *head;
    const uint32_t low = (uint32_t)((uint64_t)(dst - ring->arena_data) / CMQ_UNIT_BYTES);
    uint64_t word = atomic_load_explicit(out, memory_order_relaxed);
    head->check = cmq_record_check(head);
    memcpy(dst, head, sizeof *head);
    CMQ_CRASH_POINT("commit.written");
    /* Release: sealed bytes before the word. First one wins; the gate check of the producers made sure that
     * the slot's last word was consumed. */
    if (cmq_phase(ring, word, lease->seq) != CMQ_PHASE_PREVIOUS ||
        !atomic_compare_exchange_strong_explicit(out, &word, cmq_word_for(ring, lease->seq, low),
                                                 memory_order_acq_rel, memory_order_relaxed)) {
        cmq_ring_abandon(ring, lease);
        cmq_ring_count(ring, CMQ_COUNT_LOST, 1);
        return CMQ_ERR_LOST;
    }
    CMQ_CRASH_POINT("commit.cas");
    if (ring->leased_extent != no_extent)
        cmq_arena_published(&ring->arena, ring->leased_extent, lease->seq);
    /* All: only the log writer is parked there. Its record may be another one, then this costs a needless look. */
    cmq_bell_ring(&ring->bells->bells[CMQ_BELL_COMMITTED], CMQ_BELL_ALL);
    cmq_bell_ring(&ring->bells->bells[CMQ_BELL_SPACE_INGEST], CMQ_BELL_ALL);
    baton(ring, lease->seq + 1);
    CMQ_CRASH_POINT("commit.rung");
    return CMQ_OK;
}

enum cmq_err cmq_ring_commit(struct cmq_ring *ring, const struct cmq_lease *lease, size_t sealed_bytes,
                             uint32_t messages)
{
    cmq_assert(sealed_bytes <= lease->dst_bytes);
    if (ring->leased_extent != no_extent)
        cmq_arena_shrink(&ring->arena, ring->leased_extent, sizeof(struct cmq_record) + sealed_bytes);
    struct cmq_record head = {.seq = lease->seq,
                              .arena_pos = lease->own_pos,
                              .payload_bytes = (uint32_t)sealed_bytes,
                              .messages = messages,
                              .type = CMQ_RECORD_BATCH,
                              .member = ring->id,
                              .published_ns = cmq_clock_mono_ns()};
    enum cmq_err err = commit(ring, lease, &head);
    if (err == CMQ_OK) {
        cmq_ring_count(ring, CMQ_COUNT_RECORDS, 1);
        cmq_ring_count(ring, CMQ_COUNT_MESSAGES, messages);
        cmq_ring_count(ring, CMQ_COUNT_BYTES_IN, lease->payload.bytes);
        cmq_ring_count(ring, CMQ_COUNT_BYTES_OUT, sealed_bytes);
    }
    return err;
}

enum cmq_err cmq_ring_commit_void(struct cmq_ring *ring, const struct cmq_lease *lease)
{
    if (ring->leased_extent != no_extent)
        cmq_arena_shrink(&ring->arena, ring->leased_extent, sizeof(struct cmq_record));
    struct cmq_record head = {.seq = lease->seq,
                              .arena_pos = lease->own_pos,
                              .type = CMQ_RECORD_VOID,
                              .member = ring->id,
                              .published_ns = cmq_clock_mono_ns()};
    enum cmq_err err = commit(ring, lease, &head);
    if (err == CMQ_OK)
        cmq_ring_count(ring, CMQ_COUNT_VOIDS, 1);
    return err;
}

bool cmq_lease_look(void *context)
{
    struct cmq_ring *ring = context;
    uint64_t gate = cmq_gate_load(ring), seq, lease;
    if (find_unleased(ring, claim_start(ring, gate), gate, &seq, &lease))
        return true;
    struct plain plain;
    return find_stealable(ring, gate, &seq, &lease, &plain) != CMQ_ERR_AGAIN;
}

uint64_t cmq_lease_patience_us(struct cmq_ring *ring)
{
    uint64_t gate = cmq_gate_load(ring);
    uint64_t low = lowest_uncommitted(ring, gate);
    bool open_lease = low < gate + ring->slots && cmq_is_published(ring, low);
    return open_lease ? PATIENCE_US : UINT64_MAX;
}

bool cmq_space_look_encryptor(void *context)
{
    struct cmq_ring *ring = context;
    (void)cmq_gate_load(ring);
    return cmq_arena_has_room(&ring->arena, atomic_load_explicit(&ring->wanted_bytes, memory_order_relaxed));
}
