#include "common/base/cmq_clock.h"
#include "common/shm/cmq_bell.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_view.h"

/* Records of others are looked at again this often: their owner may have died meanwhile. */
enum { RESCAN_MS = 50, SPACE_BATCH_MIN = 1, SPACE_BATCHES = 64 };

static bool is_done(uint64_t owner)
{
    return cmq_word_decode(owner).low == CMQ_PROGRESS_DONE;
}

void cmq_gate_advance(struct cmq_ring *ring)
{
    _Atomic uint64_t *gate = &ring->d->stored.value;
    const uint64_t batch = cmq_max_u64(ring->slots / SPACE_BATCHES, SPACE_BATCH_MIN);
    uint64_t seq = atomic_load_explicit(gate, memory_order_acquire);
    bool ring_bells = false, moved = false;
    for (;;) {
        /* Pairs with the CAS to DONE: whoever delivered has stopped reading the sealed bytes. */
        uint64_t owner = atomic_load_explicit(&cmq_slot_d(ring, seq)->owner, memory_order_acquire);
        if (cmq_phase(ring, owner, seq) != CMQ_PHASE_THIS || !is_done(owner))
            break;
        /* Release: pairs with cmq_gate_load of producers and encryptors, who overwrite what lies below. */
        if (atomic_compare_exchange_strong_explicit(gate, &seq, seq + 1, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            seq++;
            moved = true;
            ring_bells = ring_bells || seq % batch == 0;
            CMQ_CRASH_POINT("gate.cas");
        }
    }
    (void)cmq_gate_load(ring);
    /* Waiters for space are woken in batches, and when nothing more is under way. */
    if (ring_bells || (moved && !cmq_is_committed(ring, seq))) {
        cmq_bell_ring(&ring->bells->bells[CMQ_BELL_SPACE_INGEST], CMQ_BELL_ALL);
        cmq_bell_ring(&ring->bells->bells[CMQ_BELL_SPACE_ENCRYPTOR], CMQ_BELL_ALL);
    }
}

enum take { TAKE_FREE, TAKE_OVER, TAKE_SKIP, TAKE_END };

/* What to do about record seq, given its owner word. */
static enum take judge(struct cmq_ring *ring, uint64_t seq, uint64_t owner)
{
    switch (cmq_phase(ring, owner, seq)) {
    case CMQ_PHASE_PREVIOUS:
        return cmq_is_committed(ring, seq) ? TAKE_FREE : TAKE_END;
    case CMQ_PHASE_LATER:
        return TAKE_SKIP;
    case CMQ_PHASE_OLDER:
        return TAKE_END;
    case CMQ_PHASE_THIS:
        break;
    }
    struct cmq_word word = cmq_word_decode(owner);
    if (is_done(owner) || word.member == ring->id)
        return TAKE_SKIP;
    return word.member == CMQ_NOBODY || cmq_member_is_gone(ring, word.member) ? TAKE_OVER : TAKE_SKIP;
}

/* First record from `from` on that can be taken. Every record passed over is done, own, or another's who
 * lives. */
static enum take find(struct cmq_ring *ring, uint64_t from, uint64_t gate, uint64_t *ret_seq,
                      uint64_t *ret_owner)
{
    for (uint64_t seq = from; seq < gate + ring->slots; seq++) {
        /* Pairs with release and progress of the former owner. */
        uint64_t owner = atomic_load_explicit(&cmq_slot_d(ring, seq)->owner, memory_order_acquire);
        enum take take = judge(ring, seq, owner);
        if (take == TAKE_SKIP)
            continue;
        *ret_seq = seq;
        *ret_owner = owner;
        return take;
    }
    *ret_seq = gate + ring->slots;
    return TAKE_END;
}

/* Where the scan begins: behind what was passed over, but from the gate when something was released, or now
 * and then, since an owner may have died. */
static uint64_t scan_start(struct cmq_ring *ring, uint64_t gate)
{
    uint64_t now_ns = cmq_clock_mono_ns();
    uint64_t released = atomic_load_explicit(&ring->d->released.value, memory_order_acquire);
    bool wanted = atomic_load_explicit(&ring->rescan, memory_order_relaxed) != 0;
    if (wanted || released != ring->released_seen || now_ns - ring->rescan_ns > RESCAN_MS * CMQ_NS_PER_MS) {
        atomic_store_explicit(&ring->rescan, 0, memory_order_relaxed);
        ring->released_seen = released;
        ring->rescan_ns = now_ns;
        return gate;
    }
    return cmq_max_u64(gate, atomic_load_explicit(&ring->scan, memory_order_relaxed));
}

static enum cmq_err fill_claim(struct cmq_ring *ring, uint64_t seq, uint64_t word, bool redelivery,
                               struct cmq_claim *ret_claim)
{
    struct cmq_record head;
    const uint8_t *payload = NULL;
    uint64_t out = atomic_load_explicit(&cmq_slot_b(ring, seq)->out, memory_order_acquire);
    *ret_claim = (struct cmq_claim){
        .seq = seq, .word = word, .progress = cmq_word_decode(word).low, .redelivery = redelivery};
    enum cmq_err err =
        cmq_phase(ring, out, seq) != CMQ_PHASE_THIS
            ? CMQ_ERR_CORRUPT
            : cmq_record_locate(ring, &ring->peers, out, seq, CMQ_ROLE_ENCRYPTOR, &head, &payload);
    if (err != CMQ_OK && err != CMQ_ERR_CORRUPT)
        return err;
    ret_claim->void_record = err != CMQ_OK || head.type == CMQ_RECORD_VOID;
    if (ret_claim->void_record)
        return CMQ_OK;
    ret_claim->payload = cmq_span_make(payload, head.payload_bytes);
    ret_claim->messages = head.messages;
    return CMQ_OK;
}

enum cmq_err cmq_ring_claim(struct cmq_ring *ring, struct cmq_claim *ret_claim)
{
    cmq_assert(ring->role == CMQ_ROLE_DISPATCHER);
    cmq_peers_prune(ring, &ring->peers, ring->was_idle);
    ring->was_idle = false;
    uint64_t gate = cmq_gate_load(ring), seq, owner;
    uint64_t from = scan_start(ring, gate);
    for (;;) {
        enum take take = find(ring, from, gate, &seq, &owner);
        if (take == TAKE_END) {
            atomic_store_explicit(&ring->scan, seq, memory_order_relaxed);
            cmq_gate_advance(ring);
            ring->was_idle = true;
            return CMQ_ERR_AGAIN;
        }
        uint32_t progress = take == TAKE_OVER ? cmq_word_decode(owner).low : 0;
        uint64_t word = cmq_word_for(ring, seq, progress);
        /* Acquire: the sealed record, and the former owner's progress. */
        if (atomic_compare_exchange_strong_explicit(&cmq_slot_d(ring, seq)->owner, &owner, word,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            CMQ_CRASH_POINT("claim.cas");
            atomic_store_explicit(&ring->scan, seq + 1, memory_order_relaxed);
            if (take == TAKE_OVER)
                cmq_ring_count(ring, CMQ_COUNT_STOLEN, 1);
            enum cmq_err err = fill_claim(ring, seq, word, take == TAKE_OVER, ret_claim);
            if (err != CMQ_OK)
                cmq_ring_release(ring, ret_claim); /* whoever can read it may have it */
            return err;
        }
        from = seq; /* lost a race: judge the same record again */
    }
}

static enum cmq_err move_word(struct cmq_ring *ring, struct cmq_claim *claim, uint32_t member,
                              uint32_t progress)
{
    uint64_t word = claim->word;
    uint64_t next = cmq_word_encode(cmq_lap_of(claim->seq, ring->slots_log2), member, progress);
    /* Release: our reads of the sealed bytes come before; a taker and the gate acquire. */
    if (!atomic_compare_exchange_strong_explicit(&cmq_slot_d(ring, claim->seq)->owner, &word, next,
                                                 memory_order_acq_rel, memory_order_relaxed)) {
        cmq_ring_count(ring, CMQ_COUNT_LOST, 1);
        return CMQ_ERR_LOST;
    }
    claim->word = next;
    claim->progress = progress;
    return CMQ_OK;
}

enum cmq_err cmq_ring_progress(struct cmq_ring *ring, struct cmq_claim *claim, uint32_t progress)
{
    cmq_assert(progress >= claim->progress && progress < CMQ_PROGRESS_DONE);
    enum cmq_err err = move_word(ring, claim, ring->id, progress);
    if (err == CMQ_OK)
        CMQ_CRASH_POINT("progress.cas");
    return err;
}

enum cmq_err cmq_ring_done(struct cmq_ring *ring, struct cmq_claim *claim)
{
    enum cmq_err err = move_word(ring, claim, ring->id, CMQ_PROGRESS_DONE);
    if (err != CMQ_OK)
        return err;
    CMQ_CRASH_POINT("done.cas");
    cmq_gate_advance(ring);
    return CMQ_OK;
}

void cmq_ring_release(struct cmq_ring *ring, struct cmq_claim *claim)
{
    if (move_word(ring, claim, CMQ_NOBODY, claim->progress) != CMQ_OK)
        return; /* taken over already: just as good */
    CMQ_CRASH_POINT("release.cas");
    /* Release: pairs with scan_start. */
    atomic_fetch_add_explicit(&ring->d->released.value, 1, memory_order_release);
    cmq_bell_ring(&ring->bells->bells[CMQ_BELL_SEALED], CMQ_BELL_ALL);
}

/* The waiter's look: the whole window from the gate, so that nothing an earlier look skipped can hide.
 * Records in the own hand are skipped by their id; they are few. */
bool cmq_claim_look(void *context)
{
    struct cmq_ring *ring = context;
    uint64_t gate = cmq_gate_load(ring), seq, owner;
    uint64_t scan = cmq_max_u64(gate, atomic_load_explicit(&ring->scan, memory_order_relaxed));
    if (find(ring, scan, gate, &seq, &owner) != TAKE_END)
        return true;
    if (scan == gate || find(ring, gate, gate, &seq, &owner) == TAKE_END)
        return false;
    /* Below the scan: the claim that follows is to begin at the gate too. */
    atomic_store_explicit(&ring->rescan, 1, memory_order_relaxed);
    return true;
}
