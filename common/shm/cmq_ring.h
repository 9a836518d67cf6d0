/*
 * cmq_ring: the shared-memory rings as the stages see them. The protocol is in cmq_layout.h and docs/RINGS.md.
 * Ownership: struct cmq_ring is this process's view; attach/detach. Spans into shared memory: see each function.
 * Units: seq = number of a record, dense from first_seq; bytes; messages; milliseconds; nanoseconds (monotonic).
 * Errors: CMQ_ERR_AGAIN (nothing there yet), CMQ_ERR_FULL, CMQ_ERR_LAYOUT, CMQ_ERR_CORRUPT, CMQ_ERR_LOST, ... a call.
 * Callers: any thread unless said otherwise.
 */
#ifndef CMQ_RING_H
#define CMQ_RING_H

#include <stdatomic.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/shm/cmq_counters.h"

enum cmq_role { CMQ_ROLE_NONE, CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER, CMQ_ROLE_OBSERVER };

#define CMQ_MEMBERS_MAX      255u /* ids 0..254; 255 means nobody */
#define CMQ_ROLE_MEMBERS_MAX 64u
#define CMQ_INSTANCE_BYTES   32u

struct cmq_ring_setup {
    const char *instance, *run_dir; /* [A-Za-z0-9_-]{1,31}; existing directory for the lock files */
    uint32_t slots;                 /* create only; power of two, >= 2 */
    uint64_t first_seq;             /* create only */
    uint64_t record_bytes_max;      /* create only: largest payload of a plain record */
    uint64_t arena_bytes;           /* join as ingest or encryptor */
    uint32_t instance_number;       /* join: shown in status */
    const char *version;            /* join: the program's, shown in status; a literal, or NULL */
    uint32_t lease_ms, stall_ms, spin_us, wait_ms;
};

struct cmq_ring;

/* ---- creation and attachment ---- */

/* Creates the objects if they do not exist, or were half made by a creator that died. CMQ_ERR_EXISTS: a usable ring was
 * there already, nothing was changed. Serialised by run_dir/INSTANCE.lock. */
CMQ_MUST_USE enum cmq_err cmq_ring_create(const struct cmq_ring_setup *setup, struct cmq_reason *reason);
/* Removes all objects of the instance; CMQ_ERR_EXISTS when a member is alive. */
CMQ_MUST_USE enum cmq_err cmq_ring_destroy(const struct cmq_ring_setup *setup, struct cmq_reason *reason);

/* CMQ_ERR_AGAIN: not created yet, call again later. CMQ_ERR_LAYOUT: made by a build that disagrees; the
 * reason says how. As INGEST, ENCRYPTOR, DISPATCHER this joins the ring: a member id, its lock, and a new
 * arena (DISPATCHER: a page). As OBSERVER everything is mapped read-only and nothing is written anywhere. */
CMQ_MUST_USE enum cmq_err cmq_ring_attach(const struct cmq_ring_setup *setup, enum cmq_role role,
                                          struct cmq_ring **ret_ring, struct cmq_reason *reason);
/* Leaves and unmaps. The arena is removed now if no live slot names it, else later by any other member. NULL
 * is fine. */
void cmq_ring_detach(struct cmq_ring *ring);

/* Heartbeat, collection of dead members' arenas; a member of the own role that is stopped (alive, but no heartbeat for
 * stall_ms) is killed, CMQ_COUNT_FENCED counts it. Call every 250 ms or so from one thread an attachment: one that does not
 * is taken for stopped. CMQ_OK with a text in the reason: such a member could not be killed, for the log.
 * CMQ_ERR_CORRUPT: an impossible word was found (the reason names it); CMQ_ERR_LOST: this member was declared dead. */
CMQ_MUST_USE enum cmq_err cmq_ring_tick(struct cmq_ring *ring, struct cmq_reason *reason);

/* This process's counters, in its member page, and those of its instance (cmq_status.h); written relaxed, read by anyone. */
void cmq_ring_count(struct cmq_ring *ring, enum cmq_counter counter, uint64_t add);
void cmq_ring_gauge(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value);
/* One duration; kept beyond this process's life, as the counters are (cmq_status.h). */
void cmq_ring_observe(struct cmq_ring *ring, enum cmq_hist hist, uint64_t ns);
uint64_t cmq_ring_record_bytes_max(const struct cmq_ring *ring);

/* ---- ingest ---- */

/* Copies the parts, back to back, into the own arena and publishes them as one record. When this returns
 * CMQ_OK the record survives the death of any process. CMQ_ERR_FULL: no slot or no arena space now.
 * CMQ_ERR_TOO_BIG. CMQ_ERR_DRAINING: the ring is told to drain. Any thread. Never blocks. */
CMQ_MUST_USE enum cmq_err cmq_ring_publish(struct cmq_ring *ring, const struct cmq_span *parts,
                                           size_t part_count, uint32_t messages, uint64_t *ret_seq);

/* ---- encryptor (one thread) ---- */

struct cmq_lease {
    uint64_t seq;
    struct cmq_span
        payload; /* plain batch, in the producer's arena: shared memory, may change, never outside bounds */
    uint32_t messages; /* as the producer claims */
    uint8_t *dst;      /* room for the sealed batch, in the own arena, others see it only after commit */
    size_t dst_bytes;
    bool stolen;
    bool bad;         /* the record is unreadable: commit with cmq_ring_commit_void */
    uint64_t own_pos; /* private to cmq_ring */
};

/* Takes the next record. CMQ_ERR_AGAIN: nothing to do. CMQ_ERR_FULL: no room for the result (wait for space).
 * CMQ_ERR_PERMISSION, CMQ_ERR_SYSTEM: the producer's memory cannot be mapped now; nothing was leased, try again later. */
CMQ_MUST_USE enum cmq_err cmq_ring_lease(struct cmq_ring *ring, struct cmq_lease *ret_lease);
/* CMQ_ERR_LOST: another encryptor had committed this record already; the result is dropped, nothing is wrong.
 */
CMQ_MUST_USE enum cmq_err cmq_ring_commit(struct cmq_ring *ring, const struct cmq_lease *lease,
                                          size_t sealed_bytes, uint32_t messages);
/* A VOID record: its place in the order, without content. */
CMQ_MUST_USE enum cmq_err cmq_ring_commit_void(struct cmq_ring *ring, const struct cmq_lease *lease);
/* Gives the result's room back without a result. The lease stays and ages, so that anyone may steal the
 * record. */
void cmq_ring_abandon(struct cmq_ring *ring, const struct cmq_lease *lease);

/* ---- waiting ---- */

enum cmq_wait {
    CMQ_WAIT_PLAIN,        /* encryptor: a record to lease */
    CMQ_WAIT_SPACE_INGEST, /* ingest: room for a record */
    CMQ_WAIT_SPACE_ENCRYPTOR,
    CMQ_WAIT_COMMITTED, /* log writer: the record at `stored` is committed */
    CMQ_WAIT_STORED,    /* dispatcher: stored > what cmq_ring_follow named */
    CMQ_WAIT_DURABLE    /* ingest: durable, or stored, > what cmq_ring_follow named for it */
};

/* Sleeps until the condition may hold, *stop becomes non-zero, or timeout_ms (capped by setup.wait_ms) has
 * passed. Spins first while traffic is recent. One thread a member and kind, and only the role that is named there.
 * Returns true if the condition held when it looked last; false says nothing. Spurious returns happen: look, then wait
 * again. */
bool cmq_ring_wait(struct cmq_ring *ring, enum cmq_wait kind, uint32_t timeout_ms, const atomic_uint *stop);
/* Makes a waiter of this process and kind return now (any thread). */
void cmq_ring_wake(struct cmq_ring *ring, enum cmq_wait kind);

/* ---- the log: the gate of the rings ---- */

/* The log writer is one thread of that encryptor which holds the log lock. It reads committed records in order, writes
 * them, and moves two cursors: below `stored` a record is in the log (and is delivered), below `durable` it survives a
 * power cut. Slots and arenas are reused below `stored`. durable <= stored. */
struct cmq_committed {
    uint64_t seq;
    bool void_record;
    struct cmq_span payload; /* sealed batch in an encryptor's arena; readable until seq is below stored */
    uint32_t messages;
};
/* CMQ_ERR_AGAIN: not committed yet. CMQ_ERR_NOT_FOUND: below stored. CMQ_ERR_PERMISSION, CMQ_ERR_SYSTEM: the
 * encryptor's memory cannot be mapped now. An unreadable record is void_record. Log thread. */
CMQ_MUST_USE enum cmq_err cmq_ring_committed(struct cmq_ring *ring, uint64_t seq,
                                             struct cmq_committed *ret_record);

/* What became of a record beyond "kept", told before `stored` passes it. */
enum cmq_outcome_kind {
    CMQ_OUTCOME_KEPT,
    CMQ_OUTCOME_DUPLICATE, /* all of it was published before: as message seq-index */
    CMQ_OUTCOME_CONFLICT, /* message `index` has a known id and another content: nothing of the record was kept */
    CMQ_OUTCOME_PART,     /* `index` of its messages were duplicates and left out */
    CMQ_OUTCOME_VOID      /* unreadable: nothing of it was kept */
};
struct cmq_outcome {
    enum cmq_outcome_kind kind;
    uint64_t seq;
    uint32_t index;
};
/* seq is committed and not below stored; records without one are KEPT. Log thread. */
void cmq_ring_outcome_set(struct cmq_ring *ring, uint64_t seq, const struct cmq_outcome *outcome);
/* False: seq is not below stored yet; or its slot was used again meanwhile, the outcome is not known any more. Any thread. */
bool cmq_ring_outcome(struct cmq_ring *ring, uint64_t seq, struct cmq_outcome *ret_outcome);

/* Moves the cursors up (never down, never beyond what is committed: compare cmq_ring_stored_seq to know) and rings for
 * dispatchers, waiting publishers and space. After a take-over call it even if nothing is to be moved: the last writer may
 * have died between the cursors and the bells. Log thread. */
void cmq_ring_stored(struct cmq_ring *ring, uint64_t stored, uint64_t durable);
uint64_t cmq_ring_stored_seq(struct cmq_ring *ring);  /* fresh; any thread */
uint64_t cmq_ring_durable_seq(struct cmq_ring *ring); /* fresh; any thread */

enum cmq_log_health { CMQ_LOG_HEALTH_NONE, CMQ_LOG_HEALTH_OK, CMQ_LOG_HEALTH_FULL, CMQ_LOG_HEALTH_FAILED };
/* Written by the log thread, read by anyone: publishers are refused at once while it is FULL or FAILED. A change rings for
 * CMQ_WAIT_DURABLE. */
void cmq_ring_log_health_set(struct cmq_ring *ring, enum cmq_log_health health);
enum cmq_log_health cmq_ring_log_health(struct cmq_ring *ring);
/* CMQ_WAIT_STORED, CMQ_WAIT_DURABLE: names the cursor; a wait ends when it is above seq. UINT64_MAX, as at first: never. An
 * ingest may follow both, and waits for CMQ_WAIT_DURABLE. Any thread; a waiter that sleeps already needs cmq_ring_wake. */
void cmq_ring_follow(struct cmq_ring *ring, enum cmq_wait kind, uint64_t seq);

/* ---- state, also for observers ---- */

struct cmq_ring_state {
    uint64_t first_seq, gate, committed, published; /* gate <= committed <= published */
    uint32_t slots;
    bool draining;
};
void cmq_ring_state(struct cmq_ring *ring, struct cmq_ring_state *ret_state);

struct cmq_member_state {
    uint32_t id, instance_number;
    enum cmq_role role;
    int32_t pid;
    bool alive; /* holds its lock */
    uint64_t start_wall_ms;
    uint64_t arena_bytes;
    uint64_t counters[CMQ_COUNTER_COUNT];
};
/* Fills at most `max` entries, dead ones not yet collected included; returns how many there are. */
size_t cmq_ring_members(struct cmq_ring *ring, struct cmq_member_state *ret_members, size_t max);
/* Whether some member of the role lives. A few system calls. Any thread. */
bool cmq_ring_role_is_alive(struct cmq_ring *ring, enum cmq_role role);
/* Names this member among all that ever joined, for state that outlives the process; 0: an observer. Any thread. */
uint64_t cmq_ring_owner(const struct cmq_ring *ring);
/* Whether the member of that name lives (this one does). A later member with the same id has another name. Any thread. */
bool cmq_ring_owner_is_alive(struct cmq_ring *ring, uint64_t owner);

/* Any attached process that may write (not an observer). */
CMQ_MUST_USE enum cmq_err cmq_ring_set_draining(struct cmq_ring *ring, bool draining);

#endif
