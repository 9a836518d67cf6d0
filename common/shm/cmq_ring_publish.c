#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_bell.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_create.h"
#include "common/shm/cmq_view.h"

/* Where to try next: the hint, kept within the window, walked back to the end of the published prefix. So
 * that a bad hint can neither make a hole nor a long walk. */
static uint64_t publish_start(struct cmq_ring *ring, uint64_t gate)
{
    uint64_t seq = atomic_load_explicit(&ring->a->tail.value, memory_order_relaxed);
    if (seq < gate || seq > gate + ring->slots)
        seq = seq < gate ? gate : gate + ring->slots;
    while (seq > gate && !cmq_is_published(ring, seq - 1))
        seq--;
    return seq;
}

/* One CAS from FREE to PUBLISHED at the end of the prefix. head lies in the own arena and is still private.
 */
static enum cmq_err publish_word(struct cmq_ring *ring, struct cmq_record *head, uint64_t pos,
                                 uint64_t *ret_seq)
{
    const uint32_t low = (uint32_t)(pos % ring->arena.bytes / CMQ_UNIT_BYTES);
    uint64_t gate = cmq_gate_load(ring);
    uint64_t seq = publish_start(ring, gate);
    for (;;) {
        if (seq >= gate + ring->slots) {
            /* Pairs with the gate's CAS; fresh before saying no. */
            atomic_thread_fence(memory_order_seq_cst);
            gate = cmq_gate_load(ring);
            if (seq >= gate + ring->slots)
                return CMQ_ERR_FULL;
        }
        _Atomic uint64_t *pub = &cmq_slot_a(ring, seq)->pub;
        uint64_t word = atomic_load_explicit(pub, memory_order_acquire);
        switch (cmq_phase(ring, word, seq)) {
        case CMQ_PHASE_THIS:
            seq++;
            continue;
        case CMQ_PHASE_LATER:
            /* Whoever published the later record had seen the gate above this one, so by now we see it too.
             */
            gate = cmq_gate_load(ring);
            if (seq >= gate)
                return CMQ_ERR_CORRUPT;
            seq = publish_start(ring, gate);
            continue;
        case CMQ_PHASE_OLDER:
            return CMQ_ERR_CORRUPT;
        case CMQ_PHASE_PREVIOUS:
            break;
        }
        head->seq = seq;
        head->check = cmq_record_check(head);
        /* Release: head and payload before the word. Acquire: with the others' words, for the prefix
         * property. */
        if (atomic_compare_exchange_strong_explicit(pub, &word, cmq_word_for(ring, seq, low),
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            *ret_seq = seq;
            return CMQ_OK;
        }
    }
}

static bool has_slot(struct cmq_ring *ring)
{
    uint64_t gate = cmq_gate_load(ring);
    return publish_start(ring, gate) < gate + ring->slots;
}

static enum cmq_err alloc(struct cmq_ring *ring, uint64_t bytes, uint64_t *ret_extent, uint64_t *ret_pos)
{
    pthread_mutex_lock(&ring->arena_lock);
    enum cmq_err err = cmq_arena_alloc(&ring->arena, bytes, ret_extent, ret_pos);
    pthread_mutex_unlock(&ring->arena_lock);
    return err;
}

static void settle(struct cmq_ring *ring, uint64_t extent, enum cmq_err err, uint64_t seq)
{
    pthread_mutex_lock(&ring->arena_lock);
    if (err == CMQ_OK)
        cmq_arena_published(&ring->arena, extent, seq);
    else
        cmq_arena_abort(&ring->arena, extent);
    pthread_mutex_unlock(&ring->arena_lock);
}

static struct cmq_record *write_record(struct cmq_ring *ring, uint64_t pos, const struct cmq_span *parts,
                                       size_t part_count, size_t payload_bytes, uint32_t messages)
{
    uint8_t *dst = ring->arena_data + pos % ring->arena.bytes;
    struct cmq_record *head = (struct cmq_record *)(void *)dst;
    *head = (struct cmq_record){.arena_pos = pos,
                                .payload_bytes = (uint32_t)payload_bytes,
                                .messages = messages,
                                .type = CMQ_RECORD_BATCH,
                                .member = ring->id,
                                .published_ns = cmq_clock_mono_ns()};
    dst += sizeof *head;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].bytes != 0)
            memcpy(dst, parts[i].data, parts[i].bytes);
        dst += parts[i].bytes;
    }
    return head;
}

/* The gate was read when a slot was looked for: it may have passed more records since. */
static void raise_high_water(struct cmq_ring *ring, uint64_t seq)
{
    const uint64_t depth = seq + 1 - atomic_load_explicit(&ring->gate_seen, memory_order_relaxed);
    uint64_t high = atomic_load_explicit(&ring->high_water, memory_order_relaxed);
    if (depth > ring->slots) /* the gate has passed it already */
        return;
    while (depth > high) {
        if (atomic_compare_exchange_weak_explicit(&ring->high_water, &high, depth, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            cmq_ring_gauge(ring, CMQ_COUNT_RING_HIGH_WATER, depth);
            return;
        }
    }
}

enum cmq_err cmq_ring_publish(struct cmq_ring *ring, const struct cmq_span *parts, size_t part_count,
                              uint32_t messages, uint64_t *ret_seq)
{
    cmq_assert(ring->role == CMQ_ROLE_INGEST);
    uint64_t extent, pos, seq = 0;
    size_t payload_bytes = 0;
    for (size_t i = 0; i < part_count; i++)
        payload_bytes += parts[i].bytes;
    if (payload_bytes > ring->record_bytes_max)
        return CMQ_ERR_TOO_BIG;
    if (atomic_load_explicit(&ring->ctl->header.mode, memory_order_relaxed) == CMQ_MODE_DRAIN)
        return CMQ_ERR_DRAINING;
    const uint64_t need = sizeof(struct cmq_record) + payload_bytes;
    /* Without a free slot there is no point in copying. */
    enum cmq_err err = has_slot(ring) ? alloc(ring, need, &extent, &pos) : CMQ_ERR_FULL;
    if (err == CMQ_OK) {
        struct cmq_record *head = write_record(ring, pos, parts, part_count, payload_bytes, messages);
        CMQ_CRASH_POINT("publish.copied");
        err = publish_word(ring, head, pos, &seq);
        CMQ_CRASH_POINT("publish.cas");
        settle(ring, extent, err, seq);
    }
    if (err == CMQ_ERR_FULL)
        atomic_store_explicit(&ring->wanted_bytes, need, memory_order_relaxed);
    if (err != CMQ_OK)
        return err;
    cmq_hint_raise(&ring->a->tail, seq + 1);
    CMQ_CRASH_POINT("publish.hint");
    cmq_bell_ring(&ring->bells->bells[CMQ_BELL_PLAIN], 1);
    CMQ_CRASH_POINT("publish.rung");
    cmq_ring_count(ring, CMQ_COUNT_RECORDS, 1);
    cmq_ring_count(ring, CMQ_COUNT_MESSAGES, messages);
    cmq_ring_count(ring, CMQ_COUNT_BYTES_OUT, payload_bytes);
    raise_high_water(ring, seq);
    *ret_seq = seq;
    return CMQ_OK;
}

bool cmq_space_look_ingest(void *context)
{
    struct cmq_ring *ring = context;
    if (!has_slot(ring))
        return false;
    pthread_mutex_lock(&ring->arena_lock);
    bool room =
        cmq_arena_has_room(&ring->arena, atomic_load_explicit(&ring->wanted_bytes, memory_order_relaxed));
    pthread_mutex_unlock(&ring->arena_lock);
    return room;
}
