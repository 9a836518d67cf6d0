#include "common/shm/cmq_ring.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_bell.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_create.h"
#include "common/shm/cmq_view.h"

enum { EXTENTS_SPARE = 1024, PRUNE_CALLS = 1024 };

/* ---- attachment ---- */

static enum cmq_err map_one(const struct cmq_ring *ring, const char *suffix, uint64_t bytes, bool writable,
                            struct cmq_segment *ret_segment, struct cmq_reason *reason)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    cmq_segment_name(name, ring->instance, suffix);
    return cmq_segment_map(name, bytes, writable, ret_segment, reason);
}

static enum cmq_err map_ctl(struct cmq_ring *ring, struct cmq_reason *reason)
{
    bool member = ring->role != CMQ_ROLE_OBSERVER;
    enum cmq_err err = map_one(ring, "ctl", sizeof(struct cmq_ctl), member, &ring->ctl_segment, reason);
    if (err == CMQ_ERR_NOT_FOUND)
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "the ring of instance \"%s\" does not exist yet",
                              ring->instance);
    if (err != CMQ_OK)
        return err;
    ring->ctl = ring->ctl_segment.data;
    /* Pairs with the creator's last store. */
    if (atomic_load_explicit(&ring->ctl->header.state, memory_order_acquire) != CMQ_STATE_READY)
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "the ring of instance \"%s\" is being created",
                              ring->instance);
    return cmq_header_check(&ring->ctl->header, ring->instance, reason);
}

static enum cmq_err map_all(struct cmq_ring *ring, struct cmq_reason *reason)
{
    enum cmq_err err = map_ctl(ring, reason);
    if (err != CMQ_OK)
        return err;
    const struct cmq_header *header = &ring->ctl->header;
    ring->slots = header->slots;
    ring->slots_log2 = (uint32_t)__builtin_ctz(ring->slots);
    ring->first_seq = header->first_seq;
    ring->record_bytes_max = header->record_bytes_max;
    struct cmq_sizes sizes = cmq_sizes_for(ring->slots);
    /* A dispatcher writes nothing of what it delivers: of these it may only ring bells. */
    bool encryptor = ring->role == CMQ_ROLE_ENCRYPTOR, member = ring->role != CMQ_ROLE_OBSERVER;
    err = map_one(ring, "bell", sizes.bell_bytes, member, &ring->bell_segment, reason);
    if (err == CMQ_OK)
        err = map_one(ring, "a", sizes.a_bytes, encryptor || ring->role == CMQ_ROLE_INGEST, &ring->a_segment,
                      reason);
    if (err == CMQ_OK)
        err = map_one(ring, "b", sizes.b_bytes, encryptor, &ring->b_segment, reason);
    if (err == CMQ_OK)
        err = map_one(ring, "d", sizes.d_bytes, encryptor, &ring->d_segment, reason);
    if (err != CMQ_OK)
        return err;
    ring->bells = ring->bell_segment.data;
    ring->a = ring->a_segment.data;
    ring->b = ring->b_segment.data;
    ring->d = ring->d_segment.data;
    return CMQ_OK;
}

static enum cmq_err set_arena_size(struct cmq_ring *ring, struct cmq_reason *reason)
{
    ring->arena_bytes = ring->reserve_offset = 0;
    if (ring->role != CMQ_ROLE_INGEST && ring->role != CMQ_ROLE_ENCRYPTOR)
        return CMQ_OK;
    /* The reserve holds the largest sealed record: what a thief needs when the arena itself is full. */
    uint64_t reserve = ring->role == CMQ_ROLE_ENCRYPTOR
                           ? cmq_align_up(cmq_result_bytes_max(ring->record_bytes_max), CMQ_UNIT_BYTES)
                           : 0;
    uint64_t need = reserve + cmq_align_up(cmq_result_bytes_max(ring->record_bytes_max), CMQ_UNIT_BYTES);
    ring->arena_bytes = ring->setup.arena_bytes & ~(uint64_t)(CMQ_PAGE_BYTES - 1);
    if (ring->arena_bytes < need || ring->arena_bytes / CMQ_UNIT_BYTES > CMQ_LOW_MASK)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "arena_bytes is %llu, but records of %llu bytes need between %llu and 16 GiB",
                              (unsigned long long)ring->arena_bytes,
                              (unsigned long long)ring->record_bytes_max, (unsigned long long)need);
    ring->reserve_offset = ring->arena_bytes - reserve;
    return CMQ_OK;
}

/* Acquire: pairs with the release of the thread of this process (an encryptor's log thread, another publisher) that brought
 * the value: what it knew to be over is over for this thread as well. */
static uint64_t gate_known(const struct cmq_ring *ring)
{
    return atomic_load_explicit(&ring->gate_seen, memory_order_acquire);
}

static bool plain_is_history(void *context, uint64_t seq)
{
    struct cmq_ring *ring = context;
    /* Below the gate whatever the slot says now: a member may have slept for half of all laps. */
    return seq < gate_known(ring) || cmq_is_committed(ring, seq);
}

static bool sealed_is_history(void *context, uint64_t seq)
{
    struct cmq_ring *ring = context;
    return seq < gate_known(ring);
}

static enum cmq_err join(struct cmq_ring *ring, struct cmq_reason *reason)
{
    enum cmq_err err = cmq_member_lock_open(ring->run_dir, ring->instance, &ring->lock_fd, reason);
    if (err != CMQ_OK || ring->role == CMQ_ROLE_OBSERVER)
        return err;
    err = cmq_members_check(&ring->ctl->header, ring->lock_fd, ring->run_dir, reason);
    if (err == CMQ_OK)
        err = set_arena_size(ring, reason);
    if (err != CMQ_OK)
        return err;
    err = cmq_member_join(ring, reason);
    if (err != CMQ_OK || ring->arena_bytes == 0)
        return err;
    uint32_t extents = 1;
    while (extents < ring->slots + EXTENTS_SPARE)
        extents *= 2;
    err = cmq_arena_init(&ring->arena, ring->reserve_offset, extents,
                         ring->role == CMQ_ROLE_INGEST ? plain_is_history : sealed_is_history, ring);
    return err == CMQ_OK ? err : cmq_reason_set(reason, err, "no memory for the arena's table");
}

enum cmq_err cmq_ring_attach(const struct cmq_ring_setup *setup, enum cmq_role role,
                             struct cmq_ring **ret_ring, struct cmq_reason *reason)
{
    cmq_assert(role != CMQ_ROLE_NONE);
    enum cmq_err err = cmq_setup_check(setup, reason);
    if (err != CMQ_OK)
        return err;
    struct cmq_ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return CMQ_ERR_NOMEM;
    ring->setup = *setup;
    (void)snprintf(ring->instance, sizeof ring->instance, "%s", setup->instance);
    (void)snprintf(ring->run_dir, sizeof ring->run_dir, "%s", setup->run_dir);
    ring->setup.instance = ring->instance;
    ring->setup.run_dir = ring->run_dir;
    ring->role = role;
    ring->id = CMQ_NOBODY;
    ring->lock_fd = -1;
    (void)pthread_mutex_init(&ring->arena_lock, NULL);
    err = map_all(ring, reason);
    if (err != CMQ_OK)
        goto out;
    uint64_t gate = cmq_gate_load(ring);
    atomic_store_explicit(&ring->commit_low, gate, memory_order_relaxed);
    atomic_store_explicit(&ring->followed_stored, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&ring->followed_durable, UINT64_MAX, memory_order_relaxed);
    err = join(ring, reason);
    /* From our lock on nobody can destroy it; before, somebody may have. */
    if (err == CMQ_OK &&
        atomic_load_explicit(&ring->ctl->header.state, memory_order_acquire) != CMQ_STATE_READY)
        err = cmq_reason_set(reason, CMQ_ERR_AGAIN, "the ring of instance \"%s\" was just removed",
                             ring->instance);
out:
    if (err != CMQ_OK) {
        cmq_ring_detach(ring);
        return err;
    }
    *ret_ring = ring;
    return CMQ_OK;
}

void cmq_ring_detach(struct cmq_ring *ring)
{
    if (ring == NULL)
        return;
    if (ring->ctl != NULL && ring->lock_fd >= 0)
        cmq_member_leave(ring);
    cmq_arena_fini(&ring->arena);
    for (size_t i = 0; i < CMQ_MEMBERS_MAX; i++) {
        cmq_segment_unmap(&ring->peers.by_id[i].segment);
        cmq_segment_unmap(&ring->log_peers.by_id[i].segment);
    }
    cmq_segment_unmap(&ring->status_segment);
    cmq_segment_unmap(&ring->tables_segment);
    cmq_segment_unmap(&ring->own_segment);
    cmq_segment_unmap(&ring->d_segment);
    cmq_segment_unmap(&ring->b_segment);
    cmq_segment_unmap(&ring->a_segment);
    cmq_segment_unmap(&ring->bell_segment);
    cmq_segment_unmap(&ring->ctl_segment);
    if (ring->lock_fd >= 0)
        close(ring->lock_fd);
    (void)pthread_mutex_destroy(&ring->arena_lock);
    free(ring);
}

/* ---- shared helpers ---- */

uint64_t cmq_gate_load(struct cmq_ring *ring)
{
    /* Pairs with the release of cmq_ring_stored: what the records below needed is no longer read by anyone, and what the
     * log writer had done for them is seen. */
    uint64_t gate = atomic_load_explicit(&ring->d->stored.value, memory_order_acquire);
    /* Acquire and release: a value that another thread of ours brought counts as loaded by us. */
    uint64_t seen = atomic_load_explicit(&ring->gate_seen, memory_order_acquire);
    while (gate > seen) {
        if (atomic_compare_exchange_weak_explicit(&ring->gate_seen, &seen, gate, memory_order_acq_rel,
                                                  memory_order_acquire))
            return gate;
    }
    return seen;
}

void cmq_hint_raise(struct cmq_hint *hint, uint64_t value)
{
    uint64_t old = atomic_load_explicit(&hint->value, memory_order_relaxed);
    while (old < value && !atomic_compare_exchange_weak_explicit(
                              &hint->value, &old, value, memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* The object of member id, mapped. CMQ_ERR_CORRUPT: it is not there or is not what the registry says, for good.
 * CMQ_ERR_PERMISSION, CMQ_ERR_SYSTEM: this process cannot map it now; that says nothing about the record. */
static enum cmq_err peer_segment(struct cmq_ring *ring, struct cmq_peers *peers, uint32_t id,
                                 enum cmq_role role, const struct cmq_segment **ret_segment)
{
    const struct cmq_entry *entry = &ring->ctl->entries[id];
    struct cmq_peer *peer = &peers->by_id[id];
    /* Pairs with the member's store of ACTIVE. */
    uint32_t state = atomic_load_explicit(&entry->state, memory_order_acquire);
    uint64_t object_random = atomic_load_explicit(&entry->object_random, memory_order_relaxed);
    if (state == CMQ_ENTRY_FREE || atomic_load_explicit(&entry->role, memory_order_relaxed) != (uint32_t)role)
        return CMQ_ERR_CORRUPT;
    *ret_segment = &peer->segment;
    if (peer->segment.data != NULL && peer->object_random == object_random)
        return CMQ_OK;
    cmq_segment_unmap(&peer->segment);
    char suffix[32];
    cmq_member_object_suffix(suffix, id, object_random);
    enum cmq_err err = map_one(ring, suffix, 0, false, &peer->segment, NULL);
    if (err == CMQ_ERR_NOT_FOUND || err == CMQ_ERR_LAYOUT)
        return CMQ_ERR_CORRUPT;
    if (err != CMQ_OK)
        return err == CMQ_ERR_PERMISSION ? err : CMQ_ERR_SYSTEM;
    const struct cmq_member_page *page = peer->segment.data;
    if (peer->segment.bytes <= CMQ_PAGE_BYTES || page->magic != cmq_layout_magic() ||
        page->object_random != object_random) {
        cmq_segment_unmap(&peer->segment);
        return CMQ_ERR_CORRUPT;
    }
    peer->object_random = object_random;
    return CMQ_OK;
}

void cmq_peers_prune(struct cmq_ring *ring, struct cmq_peers *peers, bool idle)
{
    if (!idle && ++peers->prune_calls % PRUNE_CALLS != 0)
        return;
    uint64_t now_ns = cmq_clock_mono_ns();
    if (now_ns - peers->pruned_ns < CMQ_NS_PER_S)
        return;
    peers->pruned_ns = now_ns;
    for (uint32_t id = 0; id < CMQ_MEMBERS_MAX; id++) {
        struct cmq_peer *peer = &peers->by_id[id];
        const struct cmq_entry *entry = &ring->ctl->entries[id];
        if (peer->segment.data == NULL)
            continue;
        /* FREE, or taken anew: no live record lies there, or the id would not be free. */
        if (atomic_load_explicit(&entry->state, memory_order_acquire) == CMQ_ENTRY_FREE ||
            atomic_load_explicit(&entry->object_random, memory_order_relaxed) != peer->object_random)
            cmq_segment_unmap(&peer->segment);
    }
}

enum cmq_err cmq_record_locate(struct cmq_ring *ring, struct cmq_peers *peers, uint64_t word, uint64_t seq,
                               enum cmq_role writer, struct cmq_record *ret_head, const uint8_t **ret_payload)
{
    struct cmq_word decoded = cmq_word_decode(word);
    if (decoded.member >= CMQ_MEMBERS_MAX)
        return CMQ_ERR_CORRUPT;
    const struct cmq_segment *segment;
    enum cmq_err err = peer_segment(ring, peers, decoded.member, writer, &segment);
    if (err != CMQ_OK)
        return err;
    const uint64_t arena_bytes = segment->bytes - CMQ_PAGE_BYTES;
    const uint64_t offset = (uint64_t)decoded.low * CMQ_UNIT_BYTES;
    if (arena_bytes < sizeof(struct cmq_record) || offset > arena_bytes - sizeof(struct cmq_record))
        return CMQ_ERR_CORRUPT;
    const uint8_t *data = (const uint8_t *)segment->data + CMQ_PAGE_BYTES + offset;
    struct cmq_record head;
    memcpy(&head, data, sizeof head); /* one private copy; only this is looked at */
    if (head.seq != seq || head.member != decoded.member || head.check != cmq_record_check(&head) ||
        head.payload_bytes > arena_bytes - offset - sizeof head ||
        (head.type != CMQ_RECORD_BATCH && head.type != CMQ_RECORD_VOID))
        return CMQ_ERR_CORRUPT;
    *ret_head = head;
    *ret_payload = data + sizeof head;
    return CMQ_OK;
}

/* ---- housekeeping ---- */

enum cmq_err cmq_ring_tick(struct cmq_ring *ring, struct cmq_reason *reason)
{
    cmq_assert(ring->role != CMQ_ROLE_OBSERVER);
    const struct cmq_entry *entry = &ring->ctl->entries[ring->id];
    if (atomic_load_explicit(&entry->object_random, memory_order_relaxed) != ring->object_random ||
        atomic_load_explicit(&entry->state, memory_order_acquire) != CMQ_ENTRY_ACTIVE)
        return cmq_reason_set(reason, CMQ_ERR_LOST, "the registry no longer has this member as active");
    const uint64_t now_ns = cmq_clock_mono_ns();
    atomic_store_explicit(&ring->ctl->entries[ring->id].beat_ns, now_ns, memory_order_relaxed);
    if (reason != NULL)
        reason->text[0] = '\0';
    cmq_fence(ring, now_ns, reason);
    cmq_member_collect(ring);
    uint64_t gate = cmq_gate_load(ring);
    const uint64_t words[] = {atomic_load_explicit(&cmq_slot_a(ring, gate)->pub, memory_order_acquire),
                              atomic_load_explicit(&cmq_slot_b(ring, gate)->out, memory_order_acquire)};
    for (size_t i = 0; i < CMQ_COUNT_OF(words); i++) {
        if (cmq_phase(ring, words[i], gate) != CMQ_PHASE_OLDER)
            continue;
        return cmq_reason_set(reason, CMQ_ERR_CORRUPT, "slot of record %llu holds an impossible word",
                              (unsigned long long)gate);
    }
    return CMQ_OK;
}

void cmq_ring_count(struct cmq_ring *ring, enum cmq_counter counter, uint64_t add)
{
    if (ring->page != NULL)
        atomic_fetch_add_explicit(&ring->page->counters[counter], add, memory_order_relaxed);
    if (ring->status != NULL)
        atomic_fetch_add_explicit(&ring->status->counters[counter], add, memory_order_relaxed);
}

void cmq_ring_gauge(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value)
{
    if (ring->page != NULL)
        atomic_store_explicit(&ring->page->counters[counter], value, memory_order_relaxed);
    if (ring->status != NULL)
        atomic_store_explicit(&ring->status->counters[counter], value, memory_order_relaxed);
}

void cmq_ring_observe(struct cmq_ring *ring, enum cmq_hist hist, uint64_t ns)
{
    if (ring->status == NULL)
        return;
    struct cmq_status_hist *into = &ring->status->hists[hist];
    atomic_fetch_add_explicit(&into->buckets[cmq_hist_bucket(ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&into->sum_ns, ns, memory_order_relaxed);
}

uint64_t cmq_ring_record_bytes_max(const struct cmq_ring *ring)
{
    return ring->record_bytes_max;
}

/* ---- state ---- */

void cmq_ring_state(struct cmq_ring *ring, struct cmq_ring_state *ret_state)
{
    uint64_t gate = cmq_gate_load(ring), committed = gate, published;
    while (committed < gate + ring->slots && cmq_is_committed(ring, committed))
        committed++;
    published = committed;
    while (published < gate + ring->slots && cmq_is_published(ring, published))
        published++;
    *ret_state = (struct cmq_ring_state){
        .first_seq = ring->first_seq,
        .gate = gate,
        .committed = committed,
        .published = published,
        .slots = ring->slots,
        .draining = atomic_load_explicit(&ring->ctl->header.mode, memory_order_relaxed) == CMQ_MODE_DRAIN};
}

static bool member_state(struct cmq_ring *ring, uint32_t id, struct cmq_member_state *ret_member)
{
    const struct cmq_entry *entry = &ring->ctl->entries[id];
    uint32_t state = atomic_load_explicit(&entry->state, memory_order_acquire);
    if (state == CMQ_ENTRY_FREE)
        return false;
    *ret_member = (struct cmq_member_state){
        .id = id,
        .instance_number = atomic_load_explicit(&entry->instance_number, memory_order_relaxed),
        .role = (enum cmq_role)atomic_load_explicit(&entry->role, memory_order_relaxed),
        .pid = atomic_load_explicit(&entry->pid, memory_order_relaxed),
        .alive = state == CMQ_ENTRY_ACTIVE && cmq_member_is_alive(ring, id),
        .start_wall_ms = atomic_load_explicit(&entry->start_wall_ms, memory_order_relaxed)};
    char suffix[32];
    struct cmq_segment segment = {0};
    cmq_member_object_suffix(suffix, id, atomic_load_explicit(&entry->object_random, memory_order_relaxed));
    if (map_one(ring, suffix, 0, false, &segment, NULL) != CMQ_OK)
        return true;
    if (segment.bytes >= CMQ_PAGE_BYTES) {
        struct cmq_member_page *page = segment.data;
        ret_member->arena_bytes = segment.bytes - CMQ_PAGE_BYTES;
        for (size_t i = 0; i < CMQ_COUNTER_COUNT; i++)
            ret_member->counters[i] = atomic_load_explicit(&page->counters[i], memory_order_relaxed);
    }
    cmq_segment_unmap(&segment);
    return true;
}

size_t cmq_ring_members(struct cmq_ring *ring, struct cmq_member_state *ret_members, size_t max)
{
    size_t count = 0;
    struct cmq_member_state member;
    for (uint32_t id = 0; id < CMQ_MEMBERS_MAX; id++) {
        if (!member_state(ring, id, &member))
            continue;
        if (count < max)
            ret_members[count] = member;
        count++;
    }
    return count;
}

enum cmq_err cmq_ring_set_draining(struct cmq_ring *ring, bool draining)
{
    if (ring->role == CMQ_ROLE_OBSERVER)
        return CMQ_ERR_PERMISSION;
    atomic_store_explicit(&ring->ctl->header.mode, draining ? CMQ_MODE_DRAIN : CMQ_MODE_RUN,
                          memory_order_relaxed);
    return CMQ_OK;
}
