/*
 * Members: who takes part, who is alive, and what the dead leave.
 *
 *   - a member id is a byte of run_dir/INSTANCE.members; its holder locks that byte (open file description lock) for
 *     life; the kernel frees the lock on any death, and everybody can test it: liveness needs no protocol;
 *   - the registry in ctl says what an id is (role, bit, object); it is changed under the registry lock, byte 256;
 *   - a new incarnation is a new id with a new arena: nothing is repaired in place;
 *   - whoever has the registry lock may collect a member whose byte is not locked (only a join, under the same lock, could
 *     lock it again; the collector does not, for that would look like life): when no live word names the id, the object is
 *     removed and the id becomes free; until then it stays as DEAD, and its live records stay readable.
 *
 * Ids are never reused while a live word names them (a word is live while its record is at or above the gate).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_view.h"

enum { REGISTRY_BYTE = 256, LOCK_TRIES = 2000 };

void cmq_member_object_suffix(char ret_suffix[32], uint32_t id, uint64_t object_random)
{
    (void)snprintf(ret_suffix, 32, "m%u.%016llx", id, (unsigned long long)object_random);
}

static void object_name(const struct cmq_ring *ring, uint32_t id, uint64_t object_random,
                        char ret_name[CMQ_SEGMENT_NAME_BYTES])
{
    char suffix[32];
    cmq_member_object_suffix(suffix, id, object_random);
    cmq_segment_name(ret_name, ring->instance, suffix);
}

enum cmq_err cmq_member_lock_open(const char *run_dir, const char *instance, int *ret_fd,
                                  struct cmq_reason *reason)
{
    char path[320];
    (void)snprintf(path, sizeof path, "%s/%s.members", run_dir, instance);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (fd < 0) {
        enum cmq_err err = errno == EACCES   ? CMQ_ERR_PERMISSION
                           : errno == ENOENT ? CMQ_ERR_NOT_FOUND
                                             : CMQ_ERR_SYSTEM;
        return cmq_reason_set(reason, err, "lock file %s: %s; common.run_dir must exist and be writable",
                              path, strerror(errno));
    }
    (void)fchmod(fd, 0660); /* whatever the umask of the one that made it: all stages' users lock it */
    *ret_fd = fd;
    return CMQ_OK;
}

static bool byte_lock(int fd, uint32_t byte, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static bool byte_is_locked(int fd, uint32_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

bool cmq_member_is_alive(const struct cmq_ring *ring, uint32_t id)
{
    return id == ring->id || (id < CMQ_MEMBERS_MAX && byte_is_locked(ring->lock_fd, id));
}

/* ---- names ---- */

enum { OWNER_ID_SHIFT = 56 };

/* The object's name is as random as a name needs to be; the id says which lock to look at. */
static uint64_t owner_of(uint32_t id, uint64_t object_random)
{
    return (uint64_t)id << OWNER_ID_SHIFT | (object_random >> (64 - OWNER_ID_SHIFT));
}

uint64_t cmq_ring_owner(const struct cmq_ring *ring)
{
    return ring->id == CMQ_NOBODY ? 0 : owner_of(ring->id, ring->object_random);
}

bool cmq_ring_owner_is_alive(struct cmq_ring *ring, uint64_t owner)
{
    const uint32_t id = (uint32_t)(owner >> OWNER_ID_SHIFT);
    if (owner == 0 || id >= CMQ_MEMBERS_MAX)
        return false;
    const struct cmq_entry *entry = &ring->ctl->entries[id];
    /* Pairs with the release store of join: what the entry says is of this incarnation or a later one. */
    if (atomic_load_explicit(&entry->state, memory_order_acquire) == CMQ_ENTRY_FREE)
        return false;
    return owner_of(id, atomic_load_explicit(&entry->object_random, memory_order_relaxed)) == owner &&
           cmq_member_is_alive(ring, id);
}

bool cmq_ring_role_is_alive(struct cmq_ring *ring, enum cmq_role role)
{
    for (uint32_t id = 0; id < CMQ_MEMBERS_MAX; id++) {
        const struct cmq_entry *entry = &ring->ctl->entries[id];
        /* Pairs with the release store of join, as above. */
        if (atomic_load_explicit(&entry->state, memory_order_acquire) == CMQ_ENTRY_ACTIVE &&
            atomic_load_explicit(&entry->role, memory_order_relaxed) == (uint32_t)role &&
            cmq_member_is_alive(ring, id))
            return true;
    }
    return false;
}

bool cmq_member_is_silent(const struct cmq_ring *ring, uint32_t id, uint64_t now_ns)
{
    uint64_t beat_ns = atomic_load_explicit(&ring->ctl->entries[id].beat_ns, memory_order_relaxed);
    return ring->setup.stall_ms != 0 && now_ns > beat_ns &&
           now_ns - beat_ns > ring->setup.stall_ms * CMQ_NS_PER_MS;
}

/* The holder does a few microseconds of work; a stopped holder delays joins only, never traffic. */
static bool registry_lock(const struct cmq_ring *ring, unsigned tries)
{
    for (unsigned i = 0; i < tries; i++) {
        if (byte_lock(ring->lock_fd, REGISTRY_BYTE, F_WRLCK))
            return true;
        (void)usleep(1000);
    }
    return false;
}

static void registry_unlock(const struct cmq_ring *ring)
{
    (void)byte_lock(ring->lock_fd, REGISTRY_BYTE, F_UNLCK);
}

static uint32_t entry_state(const struct cmq_entry *entry)
{
    /* Pairs with the release stores of join and collect: the other fields are those of this state. */
    return atomic_load_explicit(&entry->state, memory_order_acquire);
}

static bool lowest_free_bit(const struct cmq_ring *ring, uint32_t *ret_bit)
{
    uint64_t used = 0;
    for (uint32_t id = 0; id < CMQ_MEMBERS_MAX; id++) {
        const struct cmq_entry *entry = &ring->ctl->entries[id];
        uint32_t state = entry_state(entry);
        if (state == CMQ_ENTRY_FREE || state == CMQ_ENTRY_DEAD ||
            atomic_load_explicit(&entry->role, memory_order_relaxed) != (uint32_t)ring->role)
            continue;
        if (cmq_member_is_alive(ring, id))
            used |= 1ull << (atomic_load_explicit(&entry->bit, memory_order_relaxed) & 63u);
    }
    for (uint32_t bit = 0; bit < CMQ_ROLE_MEMBERS_MAX; bit++) {
        if ((used >> bit & 1u) == 0) {
            *ret_bit = bit;
            return true;
        }
    }
    return false;
}

/* Under the registry lock: an id that is free and whose lock we get. The search starts anywhere, so that an
 * id is rarely used again soon. */
static enum cmq_err take_id(struct cmq_ring *ring, struct cmq_reason *reason)
{
    uint32_t bit;
    if (!lowest_free_bit(ring, &bit))
        return cmq_reason_set(reason, CMQ_ERR_FULL, "64 members of this stage are alive already");
    uint64_t start;
    if (getrandom(&start, sizeof start, 0) != (ssize_t)sizeof start)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "getrandom: %s", strerror(errno));
    for (uint32_t i = 0; i < CMQ_MEMBERS_MAX; i++) {
        uint32_t id = (uint32_t)((start + i) % CMQ_MEMBERS_MAX);
        if (entry_state(&ring->ctl->entries[id]) != CMQ_ENTRY_FREE || !byte_lock(ring->lock_fd, id, F_WRLCK))
            continue;
        ring->id = id;
        ring->bit = bit;
        return CMQ_OK;
    }
    return cmq_reason_set(reason, CMQ_ERR_FULL,
                          "all %u member ids are taken by members whose records are not delivered yet",
                          CMQ_MEMBERS_MAX);
}

static enum cmq_err register_self(struct cmq_ring *ring, uint64_t object_bytes, struct cmq_reason *reason)
{
    if (!registry_lock(ring, LOCK_TRIES))
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "the member registry is locked by another process");
    CMQ_CRASH_POINT("join.locked");
    enum cmq_err err = take_id(ring, reason);
    if (err != CMQ_OK)
        goto out;
    if (getrandom(&ring->object_random, sizeof ring->object_random, 0) !=
        (ssize_t)sizeof ring->object_random) {
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "getrandom: %s", strerror(errno));
        goto out;
    }
    struct cmq_entry *entry = &ring->ctl->entries[ring->id];
    atomic_store_explicit(&entry->role, (uint32_t)ring->role, memory_order_relaxed);
    atomic_store_explicit(&entry->bit, ring->bit, memory_order_relaxed);
    atomic_store_explicit(&entry->instance_number, ring->setup.instance_number, memory_order_relaxed);
    atomic_store_explicit(&entry->pid, (int32_t)getpid(), memory_order_relaxed);
    atomic_store_explicit(&entry->process, cmq_fence_process((int32_t)getpid()), memory_order_relaxed);
    atomic_store_explicit(&entry->object_random, ring->object_random, memory_order_relaxed);
    atomic_store_explicit(&entry->object_bytes, object_bytes, memory_order_relaxed);
    atomic_store_explicit(&entry->start_wall_ms, cmq_clock_wall_ms(), memory_order_relaxed);
    atomic_store_explicit(&entry->beat_ns, cmq_clock_mono_ns(), memory_order_relaxed);
    /* Registered before the object exists: a death in between leaves a name that the collector knows. */
    atomic_store_explicit(&entry->state, CMQ_ENTRY_JOINING, memory_order_release);
    CMQ_CRASH_POINT("join.registered");
out:
    registry_unlock(ring);
    return err;
}

enum cmq_err cmq_member_join(struct cmq_ring *ring, struct cmq_reason *reason)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    const uint64_t object_bytes = CMQ_PAGE_BYTES + ring->arena_bytes;
    cmq_member_collect(ring);
    enum cmq_err err = register_self(ring, object_bytes, reason);
    if (err != CMQ_OK)
        return err;
    object_name(ring, ring->id, ring->object_random, name);
    err = cmq_segment_create(name, object_bytes, 0640, &ring->own_segment, reason);
    if (err != CMQ_OK)
        return err; /* the entry stays JOINING; our lock goes with detach, then it is collected */
    CMQ_CRASH_POINT("join.created");
    ring->page = ring->own_segment.data;
    ring->arena_data = (uint8_t *)ring->own_segment.data + CMQ_PAGE_BYTES;
    ring->page->magic = cmq_layout_magic();
    ring->page->id = ring->id;
    ring->page->role = (uint32_t)ring->role;
    ring->page->object_random = ring->object_random;
    ring->page->arena_bytes = ring->arena_bytes;
    /* A new member takes over a bit: whatever its predecessor left parked is stale. */
    for (unsigned i = 0; i < CMQ_BELL_COUNT; i++) {
        if (cmq_bell_role((enum cmq_bell_index)i) == ring->role)
            atomic_fetch_and_explicit(&ring->bells->bells[i].parked, ~(1ull << ring->bit),
                                      memory_order_relaxed);
    }
    cmq_status_join(ring->instance, ring->role, ring->setup.instance_number, ring->setup.version,
                    &ring->status_segment);
    ring->status = ring->status_segment.data;
    cmq_tables_join(ring->instance, ring->role, ring->setup.instance_number, &ring->tables_segment);
    /* Pairs with entry_state: object and page are complete. */
    atomic_store_explicit(&ring->ctl->entries[ring->id].state, CMQ_ENTRY_ACTIVE, memory_order_release);
    CMQ_CRASH_POINT("join.active");
    return CMQ_OK;
}

static bool names(uint64_t word, uint32_t id)
{
    return cmq_word_decode(word).member == id;
}

/* Does a live word name the member? The log writer needs the sealed bytes until the record is stored, encryptors
 * the plain ones until it is committed; a thief may still read them until the gate has passed. */
static bool is_named(struct cmq_ring *ring, uint32_t id)
{
    uint64_t gate = cmq_gate_load(ring);
    for (uint64_t seq = gate; seq < gate + ring->slots; seq++) {
        uint64_t pub = atomic_load_explicit(&cmq_slot_a(ring, seq)->pub, memory_order_acquire);
        enum cmq_phase phase = cmq_phase(ring, pub, seq);
        if (phase == CMQ_PHASE_LATER)
            continue; /* the gate has passed meanwhile: history, but what follows is not */
        if (phase != CMQ_PHASE_THIS)
            return false; /* published records are a prefix */
        uint64_t out = atomic_load_explicit(&cmq_slot_b(ring, seq)->out, memory_order_acquire);
        if (names(pub, id) || (cmq_phase(ring, out, seq) == CMQ_PHASE_THIS && names(out, id)))
            return true;
    }
    return false;
}

/* Marks the pages of the record that `word` names. Its length is its writer's claim: too much of it costs
 * only memory. */
static void mark_pages(const struct cmq_segment *object, uint64_t word, uint8_t *pages, size_t page_count)
{
    const uint64_t offset = CMQ_PAGE_BYTES + (uint64_t)cmq_word_decode(word).low * CMQ_UNIT_BYTES;
    struct cmq_record head;
    if (offset > object->bytes - sizeof head)
        return;
    memcpy(&head, (const uint8_t *)object->data + offset, sizeof head);
    const uint64_t end = cmq_min_u64(offset + sizeof head + head.payload_bytes, object->bytes);
    for (uint64_t page = offset / CMQ_PAGE_BYTES; page <= (end - 1) / CMQ_PAGE_BYTES && page < page_count;
         page++)
        pages[page] = 1;
}

static void mark_live(struct cmq_ring *ring, uint32_t id, const struct cmq_segment *object, uint8_t *pages,
                      size_t page_count)
{
    uint64_t gate = cmq_gate_load(ring);
    pages[0] = 1; /* the member page */
    for (uint64_t seq = gate; seq < gate + ring->slots; seq++) {
        uint64_t pub = atomic_load_explicit(&cmq_slot_a(ring, seq)->pub, memory_order_acquire);
        uint64_t out = atomic_load_explicit(&cmq_slot_b(ring, seq)->out, memory_order_acquire);
        enum cmq_phase phase = cmq_phase(ring, pub, seq);
        if (phase == CMQ_PHASE_LATER)
            continue; /* as in is_named */
        if (phase != CMQ_PHASE_THIS)
            return;
        if (names(pub, id))
            mark_pages(object, pub, pages, page_count);
        if (cmq_phase(ring, out, seq) == CMQ_PHASE_THIS && names(out, id))
            mark_pages(object, out, pages, page_count);
    }
}

/* Gives back what a dead member's arena holds besides live records, so that a stage which dies again and
 * again while nobody consumes does not fill the memory. The live words cannot grow any more: their owner is
 * dead. Needs write permission; without it the arena stays whole. */
static bool trim_object(struct cmq_ring *ring, uint32_t id, const char *name)
{
    struct cmq_segment object = {0};
    int fd = shm_open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return false;
    bool trimmed = false;
    uint8_t *pages = NULL;
    if (cmq_segment_map(name, 0, false, &object, NULL) != CMQ_OK || object.bytes < CMQ_PAGE_BYTES)
        goto out;
    const size_t page_count = object.bytes / CMQ_PAGE_BYTES;
    pages = calloc(page_count, 1);
    if (pages == NULL)
        goto out;
    mark_live(ring, id, &object, pages, page_count);
    for (size_t begin = 0, end; begin < page_count; begin = end) {
        for (end = begin + 1; end < page_count && pages[end] == pages[begin]; end++) {
        }
        if (pages[begin] == 0)
            (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(begin * CMQ_PAGE_BYTES),
                            (off_t)((end - begin) * CMQ_PAGE_BYTES));
    }
    trimmed = true;
out:
    free(pages);
    cmq_segment_unmap(&object);
    close(fd);
    return trimmed;
}

/* Under the registry lock, which keeps the byte of the dead from being locked anew. */
static void collect_one(struct cmq_ring *ring, uint32_t id)
{
    struct cmq_entry *entry = &ring->ctl->entries[id];
    char name[CMQ_SEGMENT_NAME_BYTES];
    object_name(ring, id, atomic_load_explicit(&entry->object_random, memory_order_relaxed), name);
    bool named = is_named(ring, id);
    /* Another user's objects cannot be changed or removed: a member of its own stage will do it. DEAD says that the
     * arena is trimmed, or that there is nothing to trim but the whole object. */
    if (named && entry_state(entry) != CMQ_ENTRY_DEAD && !trim_object(ring, id, name))
        return;
    if (named || !cmq_segment_remove(name)) {
        atomic_store_explicit(&entry->state, CMQ_ENTRY_DEAD, memory_order_release);
        return;
    }
    CMQ_CRASH_POINT("collect.unlinked");
    atomic_store_explicit(&entry->state, CMQ_ENTRY_FREE, memory_order_release);
}

void cmq_member_collect(struct cmq_ring *ring)
{
    bool locked = false;
    for (uint32_t id = 0; id < CMQ_MEMBERS_MAX; id++) {
        if (id == ring->id || entry_state(&ring->ctl->entries[id]) == CMQ_ENTRY_FREE ||
            cmq_member_is_alive(ring, id))
            continue;
        if (!locked && !registry_lock(ring, 1))
            return; /* somebody else is at it */
        locked = true;
        /* Checked again under the lock: the id may have been collected and taken anew meanwhile. */
        if (entry_state(&ring->ctl->entries[id]) != CMQ_ENTRY_FREE && !cmq_member_is_alive(ring, id))
            collect_one(ring, id);
    }
    if (locked)
        registry_unlock(ring);
}

void cmq_member_leave(struct cmq_ring *ring)
{
    if (ring->id == CMQ_NOBODY)
        return;
    struct cmq_entry *entry = &ring->ctl->entries[ring->id];
    atomic_store_explicit(&entry->state, CMQ_ENTRY_LEAVING, memory_order_release);
    CMQ_CRASH_POINT("leave.draining");
    if (registry_lock(ring, LOCK_TRIES)) {
        collect_one(ring, ring->id);
        registry_unlock(ring);
    }
    (void)byte_lock(ring->lock_fd, ring->id, F_UNLCK);
    ring->id = CMQ_NOBODY;
}
