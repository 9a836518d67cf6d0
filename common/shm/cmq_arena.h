/*
 * cmq_arena: first-in first-out space in the own arena. All of its state is private to the process.
 * Ownership: the arena's bytes belong to the member; extents name parts of it until their record is history.
 * Units: bytes; positions count from the arena's birth and never repeat, offset = position mod size.
 * Errors: CMQ_ERR_FULL, CMQ_ERR_TOO_BIG; nothing is changed then.
 * Callers: one thread at a time (ingest holds a private mutex around it).
 */
#ifndef CMQ_ARENA_H
#define CMQ_ARENA_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

enum cmq_extent_state { CMQ_EXTENT_OPEN, CMQ_EXTENT_PUBLISHED, CMQ_EXTENT_FREE };

struct cmq_extent {
    uint64_t begin, end; /* positions; end > begin */
    uint64_t seq;        /* of a published record */
    enum cmq_extent_state state;
};

/* Whether the record may be overwritten; asked for published extents, oldest first. */
typedef bool cmq_arena_is_history(void *context, uint64_t seq);

struct cmq_arena {
    uint64_t bytes; /* of the first-in first-out part */
    uint64_t head;  /* next position to allocate */
    struct cmq_extent *extents;
    uint32_t extent_mask;
    uint64_t first, next; /* extents [first, next) are in use */
    cmq_arena_is_history *is_history;
    void *context;
};

CMQ_MUST_USE enum cmq_err cmq_arena_init(struct cmq_arena *arena, uint64_t bytes, uint32_t extents_max,
                                         cmq_arena_is_history *is_history, void *context);
void cmq_arena_fini(struct cmq_arena *arena);

/* bytes is rounded up to CMQ_UNIT_BYTES. *ret_extent names the extent in the calls below; *ret_pos is its
 * position. */
CMQ_MUST_USE enum cmq_err cmq_arena_alloc(struct cmq_arena *arena, uint64_t bytes, uint64_t *ret_extent,
                                          uint64_t *ret_pos);
/* Whether an alloc of so many bytes would succeed now. */
bool cmq_arena_has_room(struct cmq_arena *arena, uint64_t bytes);
/* Gives back what is behind `bytes` if the extent is the newest; otherwise keeps it until the record is
 * history. */
void cmq_arena_shrink(struct cmq_arena *arena, uint64_t extent, uint64_t bytes);
void cmq_arena_published(struct cmq_arena *arena, uint64_t extent, uint64_t seq);
void cmq_arena_abort(struct cmq_arena *arena, uint64_t extent);
/* Frees what has become history; returns how many extents are still in use. */
uint64_t cmq_arena_reclaim(struct cmq_arena *arena);

#endif
