/*
 * cmq_view: this process's view of the rings, private to common/shm.
 * Ownership: one struct cmq_ring a attachment; mappings belong to it.
 * Units: as in cmq_ring.h.
 * Errors: none.
 * Callers: the files of common/shm. Fields say which thread uses them.
 */
#ifndef CMQ_VIEW_H
#define CMQ_VIEW_H

#include <pthread.h>

#include "common/shm/cmq_arena.h"
#include "common/shm/cmq_layout.h"
#include "common/shm/cmq_ring.h"
#include "common/shm/cmq_segment.h"
#include "common/shm/cmq_status.h"
#include "common/shm/cmq_tables.h"

/* Another member's object, mapped read-only when first named. */
struct cmq_peer {
    struct cmq_segment segment;
    uint64_t object_random;
};

/* All of them, as one thread sees them: each thread that reads payloads has its own, so that none unmaps what another
 * reads. */
struct cmq_peers {
    struct cmq_peer by_id[CMQ_MEMBERS_MAX];
    uint64_t pruned_ns;
    uint32_t prune_calls;
};

/* How the last spins of a waiter ended. */
struct cmq_spin {
    uint32_t misses;  /* in a row */
    uint32_t skipped; /* since the last try */
};

struct cmq_ring {
    struct cmq_ring_setup setup; /* texts point into instance and run_dir below */
    char instance[CMQ_INSTANCE_BYTES];
    char run_dir[256];
    enum cmq_role role;

    struct cmq_segment ctl_segment, bell_segment, a_segment, b_segment, d_segment, own_segment;
    struct cmq_ctl *ctl;
    struct cmq_bells *bells;
    struct cmq_array_a *a;
    struct cmq_array_b *b;
    struct cmq_array_d *d;

    /* Private copies of the geometry: never read again from shared memory. */
    uint32_t slots, slots_log2;
    uint64_t first_seq, record_bytes_max;

    /* Membership; id CMQ_NOBODY for observers. */
    int lock_fd;
    uint32_t id, bit;
    uint64_t object_random;
    struct cmq_member_page *page;
    struct cmq_segment status_segment;
    struct cmq_status_page *status;    /* NULL: it could not be had */
    struct cmq_segment tables_segment; /* data NULL: as status */
    uint8_t *arena_data;
    uint64_t arena_bytes;    /* all of it */
    uint64_t reserve_offset; /* encryptor: arena_bytes - reserve; else arena_bytes */

    _Atomic uint64_t
        gate_seen; /* highest gate seen: a peer cannot move it back (acquire, release; any thread) */

    /* ingest: the arena under its mutex */
    pthread_mutex_t arena_lock;
    struct cmq_arena arena;
    _Atomic uint64_t
        wanted_bytes; /* size of the allocation that failed last; what a wait for space looks for */

    /* encryptor */
    uint64_t reserve_seq; /* record that occupies the reserve */
    bool reserve_used;
    _Atomic uint64_t commit_low; /* all below are committed; private progress of the own scan */
    uint64_t leased_extent;

    /* What the waits for STORED and DURABLE look for; UINT64_MAX: nothing. Any thread stores, the waiter loads. */
    _Atomic uint64_t followed_stored, followed_durable;

    /* the thread that ticks: cmq_fence.c */
    uint64_t ticked_ns, watching_ns;
    uint64_t unfenced[CMQ_MEMBERS_MAX]; /* object of a member that could not be killed: told once */

    _Atomic uint64_t high_water;   /* ingest: most records that were in the ring when it published */
    _Atomic uint64_t last_work_ns; /* for the spin: when something was found last */
    _Atomic uint32_t poke[CMQ_BELL_COUNT];
    struct cmq_spin spins[CMQ_BELL_COUNT]; /* each used by the one thread that waits there */
    struct cmq_peers peers;                /* data thread */
    struct cmq_peers log_peers;            /* an encryptor's log thread */
    bool was_idle;                         /* the last lease found nothing; data thread */
};

static inline struct cmq_slot_a *cmq_slot_a(const struct cmq_ring *ring, uint64_t seq)
{
    return &ring->a->slots[seq & (ring->slots - 1)];
}
static inline struct cmq_slot_b *cmq_slot_b(const struct cmq_ring *ring, uint64_t seq)
{
    return &ring->b->slots[seq & (ring->slots - 1)];
}
static inline struct cmq_slot_d *cmq_slot_d(const struct cmq_ring *ring, uint64_t seq)
{
    return &ring->d->slots[seq & (ring->slots - 1)];
}
static inline enum cmq_phase cmq_phase(const struct cmq_ring *ring, uint64_t word, uint64_t seq)
{
    return cmq_phase_of(word, seq, ring->slots_log2);
}
static inline uint64_t cmq_word_for(const struct cmq_ring *ring, uint64_t seq, uint32_t low)
{
    return cmq_word_encode(cmq_lap_of(seq, ring->slots_log2), ring->id, low);
}
/* Is n published / committed, now or ever? */
static inline bool cmq_is_published(const struct cmq_ring *ring, uint64_t seq)
{
    /* Pairs with the publishing CAS: the record's bytes are visible. */
    enum cmq_phase phase =
        cmq_phase(ring, atomic_load_explicit(&cmq_slot_a(ring, seq)->pub, memory_order_acquire), seq);
    return phase == CMQ_PHASE_THIS || phase == CMQ_PHASE_LATER;
}
static inline bool cmq_is_committed(const struct cmq_ring *ring, uint64_t seq)
{
    /* Pairs with the commit CAS: the sealed bytes are visible. */
    enum cmq_phase phase =
        cmq_phase(ring, atomic_load_explicit(&cmq_slot_b(ring, seq)->out, memory_order_acquire), seq);
    return phase == CMQ_PHASE_THIS || phase == CMQ_PHASE_LATER;
}

/* Fresh gate, monotone for this process. */
uint64_t cmq_gate_load(struct cmq_ring *ring);
void cmq_hint_raise(struct cmq_hint *hint, uint64_t value);

/* Reads and checks the head of the record that a word names. On success *ret_payload points into the member's
 * arena. CMQ_ERR_CORRUPT: nothing usable there, for good. CMQ_ERR_PERMISSION, CMQ_ERR_SYSTEM: not readable by this
 * process now; the record is as good as before. writer = role that the member must have. The thread of `peers` only. */
CMQ_MUST_USE enum cmq_err cmq_record_locate(struct cmq_ring *ring, struct cmq_peers *peers, uint64_t word,
                                            uint64_t seq, enum cmq_role writer, struct cmq_record *ret_head,
                                            const uint8_t **ret_payload);

/* Unmaps objects of members that are gone for good: an unlinked object takes memory while anyone maps it. The thread of
 * `peers` only, when it reads no payload of a record below the gate; `idle`: nothing else to do. Looks once a second at
 * most. */
void cmq_peers_prune(struct cmq_ring *ring, struct cmq_peers *peers, bool idle);

/* Conditions of cmq_ring_wait, on fresh values (each in the file that knows it). */
bool cmq_lease_look(void *ring);
bool cmq_space_look_ingest(void *ring);
bool cmq_space_look_encryptor(void *ring);
bool cmq_committed_look(void *ring);
bool cmq_stored_look(void *ring);
bool cmq_durable_look(void *ring);
/* The one role that parks at a bell: bits are unique within a role only. */
enum cmq_role cmq_bell_role(enum cmq_bell_index bell);
/* How long an encryptor may sleep: short while somebody else's lease is open. */
uint64_t cmq_lease_patience_us(struct cmq_ring *ring);

/* Membership (cmq_member.c). */
CMQ_MUST_USE enum cmq_err cmq_member_join(struct cmq_ring *ring, struct cmq_reason *reason);
void cmq_member_leave(struct cmq_ring *ring);
/* Whether the member's process holds its lock. The own id is alive. Any thread; a system call. */
bool cmq_member_is_alive(const struct cmq_ring *ring, uint32_t id);
/* Has not beaten for stall_ms. */
bool cmq_member_is_silent(const struct cmq_ring *ring, uint32_t id, uint64_t now_ns);
void cmq_member_collect(struct cmq_ring *ring);
/* Kills stopped members of the own role (cmq_fence.c). The thread that ticks, after it has beaten. */
void cmq_fence(struct cmq_ring *ring, uint64_t now_ns, struct cmq_reason *reason);
/* Names a process among all of this boot that had or will have its pid, in this pid namespace; 0: unknown. */
uint64_t cmq_fence_process(int32_t pid);
CMQ_MUST_USE enum cmq_err cmq_member_lock_open(const char *run_dir, const char *instance, int *ret_fd,
                                               struct cmq_reason *reason);
void cmq_member_object_suffix(char ret_suffix[32], uint32_t id, uint64_t object_random);

#endif
