#include "common/shm/cmq_arena.h"

#include "common/shm/cmq_layout.h"

enum cmq_err cmq_arena_init(struct cmq_arena *arena, uint64_t bytes, uint32_t extents_max,
                            cmq_arena_is_history *is_history, void *context)
{
    cmq_assert(cmq_is_pow2(extents_max));
    *arena = (struct cmq_arena){.bytes = bytes & ~(uint64_t)(CMQ_UNIT_BYTES - 1),
                                .extent_mask = extents_max - 1,
                                .is_history = is_history,
                                .context = context};
    arena->extents = calloc(extents_max, sizeof *arena->extents);
    return arena->extents != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
}

void cmq_arena_fini(struct cmq_arena *arena)
{
    free(arena->extents);
    *arena = (struct cmq_arena){0};
}

static struct cmq_extent *at(const struct cmq_arena *arena, uint64_t extent)
{
    return &arena->extents[extent & arena->extent_mask];
}

uint64_t cmq_arena_reclaim(struct cmq_arena *arena)
{
    while (arena->first != arena->next) {
        const struct cmq_extent *oldest = at(arena, arena->first);
        if (oldest->state == CMQ_EXTENT_OPEN)
            break;
        if (oldest->state == CMQ_EXTENT_PUBLISHED && !arena->is_history(arena->context, oldest->seq))
            break;
        arena->first++;
    }
    /* Empty: begin at the bottom again, where caches are warm and pages are touched already. */
    if (arena->first == arena->next && arena->head % arena->bytes != 0)
        arena->head += arena->bytes - arena->head % arena->bytes;
    return arena->next - arena->first;
}

/* Where an extent of so many bytes would begin. Extents do not wrap: the rest of the lap is left unused then.
 */
static bool place(const struct cmq_arena *arena, uint64_t bytes, uint64_t *ret_pos)
{
    uint64_t pos = arena->head;
    uint64_t offset = pos % arena->bytes;
    if (bytes > arena->bytes - offset)
        pos += arena->bytes - offset;
    uint64_t oldest = arena->first == arena->next ? pos : at(arena, arena->first)->begin;
    if (pos + bytes - oldest > arena->bytes)
        return false;
    *ret_pos = pos;
    return true;
}

static uint64_t rounded(uint64_t bytes)
{
    return cmq_align_up(bytes == 0 ? 1 : bytes, CMQ_UNIT_BYTES);
}

bool cmq_arena_has_room(struct cmq_arena *arena, uint64_t bytes)
{
    uint64_t pos;
    return cmq_arena_reclaim(arena) <= arena->extent_mask && rounded(bytes) <= arena->bytes &&
           place(arena, rounded(bytes), &pos);
}

enum cmq_err cmq_arena_alloc(struct cmq_arena *arena, uint64_t bytes, uint64_t *ret_extent, uint64_t *ret_pos)
{
    if (bytes > arena->bytes || rounded(bytes) > arena->bytes)
        return CMQ_ERR_TOO_BIG;
    bytes = rounded(bytes);
    uint64_t pos;
    if (cmq_arena_reclaim(arena) > arena->extent_mask || !place(arena, bytes, &pos))
        return CMQ_ERR_FULL;
    *at(arena, arena->next) = (struct cmq_extent){.begin = pos, .end = pos + bytes, .state = CMQ_EXTENT_OPEN};
    *ret_extent = arena->next++;
    *ret_pos = pos;
    arena->head = pos + bytes;
    return CMQ_OK;
}

void cmq_arena_shrink(struct cmq_arena *arena, uint64_t extent, uint64_t bytes)
{
    struct cmq_extent *own = at(arena, extent);
    cmq_assert(own->state == CMQ_EXTENT_OPEN && rounded(bytes) <= own->end - own->begin);
    if (extent + 1 != arena->next)
        return;
    own->end = own->begin + rounded(bytes);
    arena->head = own->end;
}

void cmq_arena_published(struct cmq_arena *arena, uint64_t extent, uint64_t seq)
{
    struct cmq_extent *own = at(arena, extent);
    cmq_assert(own->state == CMQ_EXTENT_OPEN);
    own->seq = seq;
    own->state = CMQ_EXTENT_PUBLISHED;
}

void cmq_arena_abort(struct cmq_arena *arena, uint64_t extent)
{
    struct cmq_extent *own = at(arena, extent);
    cmq_assert(own->state == CMQ_EXTENT_OPEN);
    if (extent + 1 == arena->next) {
        arena->head = own->begin;
        arena->next = extent;
        return;
    }
    own->state = CMQ_EXTENT_FREE;
}
