/*
 * cmq_layout: the bytes that the stages share. Everything else in common/shm works on these.
 * Ownership: objects belong to the broker instance, not to a process: "/cmq.INSTANCE.{ctl,bell,a,b,d}" are made by
 *            cmq_ring_create, "/cmq.INSTANCE.mID.RANDOM" by the member ID that alone writes it.
 * Units: bytes; seq = record number; offsets in words count 64 bytes.
 * Errors: none here. A reader loads each word once, decodes the copy, checks it against private geometry, uses it.
 * Callers: common/shm only.
 *
 * One sequence space, one slot per record in each of three arrays, all 1:1 (slot = seq mod slots):
 *
 *   a: pub      {lap, member, offset}   ingest publishes record n           FREE -> PUBLISHED
 *      lease    {lap, member, time}     an encryptor works on it            -> LEASED (again and again: steal)
 *   b: out      {lap, member, offset}   the sealed result, first one wins   -> COMMITTED
 *   d: outcome  {lap, kind, index}      what the log writer made of it; then it moves the cursor `stored` above n
 *                                                                           -> STORED: FREE for n + slots
 *
 * A word whose lap is LAP(n) speaks of record n; with the lap before, the slot is free for n; a later lap: n is
 * history. Every transition in a and b is one compare-and-swap from the exact word that was read; d has one writer at a
 * time, who holds the log lock. No state needs repair, nothing is reset, and in a and b safety never depends on knowing
 * who is dead: knowing it only makes take-overs quick.
 *
 * What a death (SIGKILL) after each step leaves, and who repairs it. Labels are the crash points of the tests.
 *
 *   step              a death here leaves                    repaired by
 *   publish.copied    nothing visible                        client retries; arena is collected
 *   publish.cas       accepted; tail hint, bell not done     next producer walks on; waiters' time-outs
 *   publish.hint      accepted, bell not rung                next publish, or encryptor's time-out
 *   publish.rung      accepted, client not told              client retries: 2 copies at most
 *   lease.cas         leased, no result                      steal: owner's lock is free, or lease is old
 *   lease.hint        the same                               the same
 *   commit.written    leased, result unpublished             the same; arena is collected
 *   commit.cas        committed, bell not rung               next commit, or the log writer's time-out
 *   commit.rung       nothing open                           -
 *   log written       in the log, cursor not moved           the lock is free: the next writer reads the log's end, and
 *                                                            moves the cursor there without writing again
 *   stored.cas        stored, bells not rung                 the next writer's first move, or the waiters' time-outs
 *   stored.rung       nothing open                           -
 *   join.locked       a lock that the kernel frees           -
 *   join.registered   JOINING entry, maybe no object         collect: lock is free, entry and object go
 *   join.created      JOINING entry and object               the same
 *   join.active       a member without work                  the same
 *   collect.unlinked  entry of a dead member, no object      next collect (a missing object is fine)
 *   leave.draining    LEAVING entry                          the same
 *   create.part       objects, no READY ctl                  next creator (under the lock) starts over
 *   while parked      a stale parked bit                     costs wake calls until the bit is used again
 *   SIGSTOP, lessee   a lease that ages                      steal by age; the late commit CAS fails
 *   SIGSTOP, log writer  a lock that is held                 killed by another encryptor after stall_ms (cmq_fence.c)
 *
 * Memory orders: a payload is written before the release half of the CAS that publishes its word, and read after the
 * acquire load of that word. The bell's store-then-look order needs seq_cst fences (cmq_bell.c).
 */
#ifndef CMQ_LAYOUT_H
#define CMQ_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cmq_base.h"
#include "common/shm/cmq_counters.h"
#include "common/shm/cmq_ring.h"

#ifndef CMQ_LAYOUT_VERSION /* tests/upgrade builds another one */
#define CMQ_LAYOUT_VERSION 2u
#endif
#define CMQ_PAGE_BYTES 4096u
#define CMQ_UNIT_BYTES 64u /* granularity of offsets in words */
#define CMQ_NOBODY     255u

#define CMQ_LAP_BITS    28u
#define CMQ_MEMBER_BITS 8u
#define CMQ_LOW_BITS    28u
#define CMQ_LAP_MASK    ((1u << CMQ_LAP_BITS) - 1u)
#define CMQ_LOW_MASK    ((1u << CMQ_LOW_BITS) - 1u)
#define CMQ_LAP_HALF    (1u << (CMQ_LAP_BITS - 1u))

/* ---- words ---- */

struct cmq_word {
    uint32_t lap;
    uint32_t member;
    uint32_t low; /* offset / 64, or lease time */
};

static inline uint64_t cmq_word_encode(uint32_t lap, uint32_t member, uint32_t low)
{
    return ((uint64_t)(lap & CMQ_LAP_MASK) << 36) | ((uint64_t)(member & 0xffu) << 28) | (low & CMQ_LOW_MASK);
}

static inline struct cmq_word cmq_word_decode(uint64_t word)
{
    return (struct cmq_word){.lap = (uint32_t)(word >> 36),
                             .member = (uint32_t)(word >> 28) & 0xffu,
                             .low = (uint32_t)word & CMQ_LOW_MASK};
}

/* Where a word stands for record n. */
enum cmq_phase {
    CMQ_PHASE_OLDER,    /* free for n, or older still (leases are not written for every record) */
    CMQ_PHASE_PREVIOUS, /* exactly the lap before: free for n */
    CMQ_PHASE_THIS,
    CMQ_PHASE_LATER
};

static inline uint32_t cmq_lap_of(uint64_t seq, uint32_t slots_log2)
{
    return (uint32_t)((seq >> slots_log2) + 1u) & CMQ_LAP_MASK;
}

static inline enum cmq_phase cmq_phase_of(uint64_t word, uint64_t seq, uint32_t slots_log2)
{
    uint32_t distance = ((uint32_t)(word >> 36) - cmq_lap_of(seq, slots_log2)) & CMQ_LAP_MASK;
    if (distance == 0)
        return CMQ_PHASE_THIS;
    if (distance == CMQ_LAP_MASK)
        return CMQ_PHASE_PREVIOUS;
    return distance < CMQ_LAP_HALF ? CMQ_PHASE_LATER : CMQ_PHASE_OLDER;
}

/* ---- outcome words: lap:28 | kind:4 | index:32 ---- */

static inline uint64_t cmq_outcome_encode(uint32_t lap, uint32_t kind, uint32_t index)
{
    return ((uint64_t)(lap & CMQ_LAP_MASK) << 36) | ((uint64_t)(kind & 0xfu) << 32) | index;
}
/* A kind that is none: the word is being written. */
#define CMQ_OUTCOME_OPEN 0xfu
static inline uint32_t cmq_outcome_kind(uint64_t word)
{
    return (uint32_t)(word >> 32) & 0xfu;
}

/* ---- ctl: header and registry. Written by the creator, then only where said. ---- */

enum { CMQ_STATE_NONE = 0, CMQ_STATE_READY = 0x52454459 };
enum { CMQ_MODE_RUN = 0, CMQ_MODE_DRAIN = 1 };

struct cmq_header {
    uint64_t magic; /* cmq_layout_magic(): version and sizes folded in */
    uint32_t version;
    uint32_t slots;
    uint64_t first_seq;
    uint64_t record_bytes_max;
    uint64_t ctl_bytes, bell_bytes, a_bytes, b_bytes, d_bytes;
    uint64_t members_device, members_inode; /* of INSTANCE.members: all must lock the same file */
    char instance[CMQ_INSTANCE_BYTES];
    uint8_t boot_id[40];    /* text of /proc/sys/kernel/random/boot_id; a ring of another boot is refused */
    _Atomic uint32_t state; /* creator stores READY last (release); attach loads it first (acquire) */
    _Atomic uint32_t mode;  /* any member; ingest reads it relaxed: late by a request is fine */
};

enum cmq_entry_state {
    CMQ_ENTRY_FREE,
    CMQ_ENTRY_JOINING,
    CMQ_ENTRY_ACTIVE,
    CMQ_ENTRY_LEAVING,
    CMQ_ENTRY_DEAD
};

/* One member. All but beat is written under the registry lock (cmq_member.c) by the member itself or, once
 * its liveness lock is free, by the collector. Readers without the lock load state first (acquire). */
struct cmq_entry {
    _Atomic uint32_t state;
    _Atomic uint32_t role;
    _Atomic uint32_t bit; /* 0..63, unique among live members of the role: its bit in the bells */
    _Atomic uint32_t instance_number;
    _Atomic int32_t pid;
    uint32_t pad0;
    _Atomic uint64_t object_random;
    _Atomic uint64_t object_bytes;
    _Atomic uint64_t start_wall_ms;
    _Atomic uint64_t beat_ns; /* own member, relaxed; CLOCK_MONOTONIC */
    _Atomic uint64_t process; /* cmq_fence_process(pid): tells the process from a later one with its pid */
};

struct cmq_ctl {
    struct cmq_header header;
    uint8_t pad[CMQ_PAGE_BYTES - sizeof(struct cmq_header)];
    struct cmq_entry entries[CMQ_MEMBERS_MAX + 1];
};

/* ---- bell: anyone may write. A hostile writer can only delay others by their time-outs. ---- */

enum cmq_bell_index {
    CMQ_BELL_PLAIN,
    CMQ_BELL_SPACE_INGEST,
    CMQ_BELL_SPACE_ENCRYPTOR,
    CMQ_BELL_COMMITTED, /* encryptors' log threads */
    CMQ_BELL_STORED,    /* dispatchers */
    CMQ_BELL_DURABLE,   /* ingests; rung when stored moves, too */
    CMQ_BELL_COUNT
};

struct cmq_bell {
    _Atomic uint32_t seq;
    uint32_t pad0;
    _Atomic uint64_t parked; /* bit per waiting member of the one role that waits here */
    uint8_t pad1[48];
};

struct cmq_bells {
    struct cmq_bell bells[CMQ_BELL_COUNT];
};

/* ---- a: written by ingest (pub) and encryptors (lease). ---- */

struct cmq_hint {
    _Atomic uint64_t value; /* only a hint: verified by whoever uses it */
    uint8_t pad[CMQ_CACHE_LINE - 8];
};

struct cmq_slot_a {
    _Atomic uint64_t pub;
    _Atomic uint64_t lease;
    uint8_t pad[48];
};

struct cmq_array_a {
    struct cmq_hint tail;  /* next seq to publish */
    struct cmq_hint claim; /* next seq to lease */
    uint8_t pad[CMQ_PAGE_BYTES - 2 * sizeof(struct cmq_hint)];
    struct cmq_slot_a slots[];
};

/* ---- b: written by encryptors. ---- */

struct cmq_slot_b {
    _Atomic uint64_t out;
    uint8_t pad[56];
};

struct cmq_array_b {
    uint8_t pad[CMQ_PAGE_BYTES];
    struct cmq_slot_b slots[];
};

/* ---- d: written by the log writer. ---- */

struct cmq_slot_d {
    _Atomic uint64_t outcome_seq; /* between two stores of outcome (cmq_ring_log.c) */
    _Atomic uint64_t outcome;
    uint8_t pad[48];
};

struct cmq_array_d {
    struct cmq_hint stored; /* all records below are in the log; monotone; the only bound for reusing slots */
    struct cmq_hint durable; /* all below survive a power cut; monotone; <= stored */
    struct cmq_hint health;  /* enum cmq_log_health; relaxed: late by a request is fine */
    uint8_t pad[CMQ_PAGE_BYTES - 3 * sizeof(struct cmq_hint)];
    struct cmq_slot_d slots[];
};

/* ---- m: a member's page, then its arena. Written by that member only. ---- */

struct cmq_member_page {
    uint64_t magic;
    uint32_t id;
    uint32_t role;
    uint64_t object_random;
    uint64_t arena_bytes;
    uint8_t pad[32];
    _Atomic uint64_t counters[64];
    uint8_t pad1[CMQ_PAGE_BYTES - 64 - 512];
};

enum cmq_record_type { CMQ_RECORD_BATCH = 1, CMQ_RECORD_VOID = 2 };

/* Head of a record in an arena, 64-byte aligned; the payload follows. Plain members: it is complete before
 * the word that names it is published, and not changed until the slot's next step allows it. */
struct cmq_record {
    uint64_t seq;
    uint64_t arena_pos; /* position since the arena's birth; mod arena size = offset (the reserve: ~0) */
    uint32_t payload_bytes;
    uint32_t messages;
    uint32_t type;
    uint32_t member;
    uint64_t published_ns; /* CLOCK_MONOTONIC of the plain record's publication */
    uint32_t check; /* cmq_record_check(): against a head overwritten meanwhile, not against an enemy */
    uint32_t pad0;
    uint64_t pad1[2];
};

static inline uint32_t cmq_record_check(const struct cmq_record *record)
{
    uint64_t mix = record->seq * 0x9e3779b97f4a7c15ull;
    mix = (mix ^ record->arena_pos) * 0xff51afd7ed558ccdull;
    mix = (mix ^ ((uint64_t)record->payload_bytes << 32 | record->messages)) * 0xc4ceb9fe1a85ec53ull;
    mix = (mix ^ ((uint64_t)record->type << 32 | record->member)) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(mix >> 32);
}

static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "words must be lock-free");
static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "atomics add nothing");
static_assert(sizeof(struct cmq_header) <= 256, "header");
static_assert(sizeof(struct cmq_entry) == 64, "entry");
static_assert(offsetof(struct cmq_ctl, entries) == CMQ_PAGE_BYTES, "registry begins on its own page");
static_assert(sizeof(struct cmq_bell) == 64 && offsetof(struct cmq_bell, parked) == 8, "bell");
static_assert(sizeof(struct cmq_slot_a) == 64 && sizeof(struct cmq_slot_b) == 64 &&
                  sizeof(struct cmq_slot_d) == 64,
              "slot");
static_assert(offsetof(struct cmq_array_a, slots) == CMQ_PAGE_BYTES, "a");
static_assert(offsetof(struct cmq_array_b, slots) == CMQ_PAGE_BYTES, "b");
static_assert(offsetof(struct cmq_array_d, slots) == CMQ_PAGE_BYTES, "d");
static_assert(sizeof(struct cmq_member_page) == CMQ_PAGE_BYTES, "member page");
static_assert(CMQ_COUNTER_COUNT <= 64, "counters fit the page");
static_assert(sizeof(struct cmq_record) == 64, "record head");

/* Version and sizes in one number: two builds that disagree refuse each other. */
static inline uint64_t cmq_layout_magic(void)
{
    const uint64_t parts[] = {CMQ_LAYOUT_VERSION,
                              sizeof(struct cmq_ctl),
                              sizeof(struct cmq_bells),
                              sizeof(struct cmq_slot_a),
                              sizeof(struct cmq_slot_b),
                              sizeof(struct cmq_slot_d),
                              sizeof(struct cmq_member_page),
                              sizeof(struct cmq_record),
                              CMQ_LAP_BITS,
                              CMQ_BELL_COUNT,
                              offsetof(struct cmq_slot_d, outcome),
                              offsetof(struct cmq_array_d, durable),
                              offsetof(struct cmq_record, check),
                              CMQ_COUNTER_COUNT,
                              CMQ_MEMBERS_MAX};
    uint64_t hash = 0x434d512d52494e47ull; /* "CMQ-RING" */
    for (size_t i = 0; i < CMQ_COUNT_OF(parts); i++)
        hash = (hash ^ parts[i]) * 0x100000001b3ull;
    return hash;
}

#endif
