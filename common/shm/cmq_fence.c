/*
 * Fencing: a stopped member would hold the log lock, or a lock of a data base, for ever. Liveness cannot tell it from one
 * that works: it holds its member lock. So a member of the same role that has not beaten for stall_ms is killed, and what
 * it held becomes free by the ordinary way of a death.
 *
 *   - only by a member that has itself beaten regularly for stall_ms: after a pause of the whole machine nobody kills;
 *   - a pid is never trusted: pidfd_open first, which fixes the process, then three looks that make it the member: its start
 *     time is the one that was registered, its member lock is held, its entry is unchanged. The member was there before
 *     the pidfd was opened and still is, so nobody else can have had its pid in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_view.h"

enum {
    STAT_FIELDS_BEFORE_START = 20
}; /* from the state, field 3 of proc_pid_stat(5), to starttime, field 22 */

uint64_t cmq_fence_process(int32_t pid)
{
    char path[64], text[512];
    struct stat space;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0 || stat("/proc/self/ns/pid", &space) != 0)
        return 0;
    text[got] = '\0';
    const char *field = strrchr(text, ')'); /* the name may hold anything, also ')' */
    for (unsigned i = 0; field != NULL && i < STAT_FIELDS_BEFORE_START; i++)
        field = strchr(field + 1, ' ');
    if (field == NULL)
        return 0;
    uint64_t start_ticks = strtoull(field + 1, NULL, 10);
    uint64_t mix = start_ticks * 0x9e3779b97f4a7c15ull;
    mix ^= (uint64_t)space.st_ino * 0xff51afd7ed558ccdull;
    return mix ^ (uint32_t)pid;
}

/* What an entry says of its process. */
struct process {
    uint64_t object_random, process;
    int32_t pid;
};

static bool is_active(const struct cmq_ring *ring, uint32_t id, struct process *ret_process)
{
    const struct cmq_entry *entry = &ring->ctl->entries[id];
    /* Acquire: pairs with the member's store of ACTIVE, the other fields are those of this member. */
    if (atomic_load_explicit(&entry->state, memory_order_acquire) != CMQ_ENTRY_ACTIVE ||
        atomic_load_explicit(&entry->role, memory_order_relaxed) != (uint32_t)ring->role)
        return false;
    *ret_process =
        (struct process){.object_random = atomic_load_explicit(&entry->object_random, memory_order_relaxed),
                         .process = atomic_load_explicit(&entry->process, memory_order_relaxed),
                         .pid = atomic_load_explicit(&entry->pid, memory_order_relaxed)};
    return true;
}

/* With the pidfd open: is the process that has the pid the silent member? */
static bool is_still(const struct cmq_ring *ring, uint32_t id, const struct process *seen, uint64_t now_ns)
{
    struct process again;
    return cmq_fence_process(seen->pid) == seen->process && cmq_member_is_alive(ring, id) &&
           is_active(ring, id, &again) && again.object_random == seen->object_random &&
           again.pid == seen->pid && again.process == seen->process && cmq_member_is_silent(ring, id, now_ns);
}

static void fence_one(struct cmq_ring *ring, uint32_t id, uint64_t now_ns, struct cmq_reason *reason)
{
    struct process seen;
    if (!is_active(ring, id, &seen) || !cmq_member_is_silent(ring, id, now_ns))
        return;
    /* Own process: another attachment of it, whose thread is late. */
    if (seen.pid <= 1 || seen.pid == (int32_t)getpid() || seen.process == 0)
        return;
    int fd = (int)syscall(SYS_pidfd_open, seen.pid, 0);
    if (fd < 0)
        return; /* it is dead: collected soon */
    if (is_still(ring, id, &seen, now_ns)) {
        if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0) {
            cmq_ring_count(ring, CMQ_COUNT_FENCED, 1);
        } else if (errno == EPERM && ring->unfenced[id] != seen.object_random) {
            ring->unfenced[id] = seen.object_random; /* told once */
            if (reason != NULL)
                (void)snprintf(reason->text, sizeof reason->text,
                               "member %u (pid %d) is silent, but this process may not kill it", id,
                               seen.pid);
        }
    }
    close(fd);
}

void cmq_fence(struct cmq_ring *ring, uint64_t now_ns, struct cmq_reason *reason)
{
    const uint64_t stall_ns = ring->setup.stall_ms * CMQ_NS_PER_MS;
    if (ring->ticked_ns == 0 || now_ns - ring->ticked_ns > stall_ns / 2)
        ring->watching_ns = now_ns; /* this process was late itself: the others may have been as well */
    ring->ticked_ns = now_ns;
    if (now_ns - ring->watching_ns <= stall_ns)
        return;
    for (uint32_t id = 0; id < CMQ_MEMBERS_MAX; id++) {
        if (id != ring->id)
            fence_one(ring, id, now_ns, reason);
    }
}
