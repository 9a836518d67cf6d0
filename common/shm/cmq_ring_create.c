#include "common/shm/cmq_create.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_segment.h"
#include "common/shm/cmq_view.h"

enum { OBJECT_MODE = 0660, SEALED_MODE = 0640, SLOTS_MAX = 1 << 20 };

struct cmq_sizes cmq_sizes_for(uint32_t slots)
{
    return (struct cmq_sizes){
        .bell_bytes = CMQ_PAGE_BYTES,
        .a_bytes = sizeof(struct cmq_array_a) + (uint64_t)slots * sizeof(struct cmq_slot_a),
        .b_bytes = sizeof(struct cmq_array_b) + (uint64_t)slots * sizeof(struct cmq_slot_b),
        .d_bytes = sizeof(struct cmq_array_d) + (uint64_t)slots * sizeof(struct cmq_slot_d)};
}

enum cmq_err cmq_setup_check(const struct cmq_ring_setup *setup, struct cmq_reason *reason)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t bytes = strlen(setup->instance);
    if (bytes == 0 || bytes >= CMQ_INSTANCE_BYTES || strspn(setup->instance, allowed) != bytes)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "common.instance must be 1 to 31 characters of A-Z a-z 0-9 _ and -");
    if (strlen(setup->run_dir) >= sizeof((struct cmq_ring *)0)->run_dir)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "common.run_dir is too long");
    return CMQ_OK;
}

static void read_boot_id(uint8_t ret_boot_id[40])
{
    memset(ret_boot_id, 0, 40);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, ret_boot_id, 36);
    (void)
        got; /* without it all rings are of boot "": the objects live in memory and go with the boot anyway */
    close(fd);
}

enum cmq_err cmq_header_check(const struct cmq_header *header, const char *instance,
                              struct cmq_reason *reason)
{
    uint8_t boot_id[40];
    read_boot_id(boot_id);
    if (header->magic != cmq_layout_magic())
        return cmq_reason_set(
            reason, CMQ_ERR_LAYOUT,
            "the ring of instance \"%s\" was made by a build with another layout (version %u, this "
            "build has %u); drain and stop all stages, then run ciphermqctl destroy and init",
            instance, header->version, CMQ_LAYOUT_VERSION);
    uint32_t slots = header->slots;
    if (slots < 2 || slots > SLOTS_MAX || !cmq_is_pow2(slots) || header->record_bytes_max == 0 ||
        strncmp(header->instance, instance, sizeof header->instance) != 0)
        return cmq_reason_set(reason, CMQ_ERR_LAYOUT,
                              "the ring of instance \"%s\" has a header that makes no sense", instance);
    if (memcmp(header->boot_id, boot_id, sizeof boot_id) != 0)
        return cmq_reason_set(
            reason, CMQ_ERR_LAYOUT,
            "the ring of instance \"%s\" was made in another boot, or in another container, by "
            "/proc/sys/kernel/random/boot_id; stop all stages, then run ciphermqctl destroy and init",
            instance);
    return CMQ_OK;
}

enum cmq_err cmq_members_check(const struct cmq_header *header, int lock_fd, const char *run_dir,
                               struct cmq_reason *reason)
{
    struct stat info;
    if (fstat(lock_fd, &info) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "members file in %s: %s", run_dir, strerror(errno));
    if ((uint64_t)info.st_dev == header->members_device && (uint64_t)info.st_ino == header->members_inode)
        return CMQ_OK;
    return cmq_reason_set(
        reason, CMQ_ERR_LAYOUT,
        "the ring was made with another common.run_dir than %s, or its members file was deleted; use "
        "the same run_dir, or stop all stages and run ciphermqctl destroy and init",
        run_dir);
}

static enum cmq_err note_members_file(const struct cmq_ring_setup *setup, struct cmq_header *header,
                                      struct cmq_reason *reason)
{
    struct stat info = {0};
    int fd = -1;
    enum cmq_err err = cmq_member_lock_open(setup->run_dir, setup->instance, &fd, reason);
    if (err != CMQ_OK)
        return err;
    if (fstat(fd, &info) != 0)
        err =
            cmq_reason_set(reason, CMQ_ERR_SYSTEM, "members file in %s: %s", setup->run_dir, strerror(errno));
    header->members_device = (uint64_t)info.st_dev;
    header->members_inode = (uint64_t)info.st_ino;
    close(fd);
    return err;
}

/* Slots begin free for the first record that will use them. */
static void fill_slots(struct cmq_array_a *a, struct cmq_array_b *b, struct cmq_array_d *d, uint32_t slots,
                       uint64_t first_seq)
{
    const uint32_t slots_log2 = (uint32_t)__builtin_ctz(slots);
    for (uint64_t seq = first_seq; seq < first_seq + slots; seq++) {
        uint64_t word = cmq_word_encode(cmq_lap_of(seq, slots_log2) - 1u, 0, 0);
        if (word == 0)
            continue; /* fresh pages are zero: leave them untouched */
        size_t index = seq & (slots - 1);
        atomic_store_explicit(&a->slots[index].pub, word, memory_order_relaxed);
        atomic_store_explicit(&a->slots[index].lease, word, memory_order_relaxed);
        atomic_store_explicit(&b->slots[index].out, word, memory_order_relaxed);
        atomic_store_explicit(&d->slots[index].outcome, word, memory_order_relaxed);
    }
    atomic_store_explicit(&a->tail.value, first_seq, memory_order_relaxed);
    atomic_store_explicit(&a->claim.value, first_seq, memory_order_relaxed);
    atomic_store_explicit(&d->stored.value, first_seq, memory_order_relaxed);
    atomic_store_explicit(&d->durable.value, first_seq, memory_order_relaxed);
}

static enum cmq_err create_one(const char *instance, const char *suffix, uint64_t bytes, unsigned mode,
                               struct cmq_segment *ret_segment, struct cmq_reason *reason)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    cmq_segment_name(name, instance, suffix);
    return cmq_segment_create(name, bytes, mode, ret_segment, reason);
}

/* Under the creation lock. ctl comes last, and its state word last of all: a death before leaves nothing
 * attachable. */
static enum cmq_err create_objects(const struct cmq_ring_setup *setup, struct cmq_reason *reason)
{
    struct cmq_segment bell = {0}, a = {0}, b = {0}, d = {0}, ctl = {0};
    const struct cmq_sizes sizes = cmq_sizes_for(setup->slots);
    cmq_segment_remove_all(setup->instance);
    enum cmq_err err = create_one(setup->instance, "bell", sizes.bell_bytes, OBJECT_MODE, &bell, reason);
    if (err == CMQ_OK)
        err = create_one(setup->instance, "a", sizes.a_bytes, OBJECT_MODE, &a, reason);
    if (err == CMQ_OK)
        err = create_one(setup->instance, "b", sizes.b_bytes, SEALED_MODE, &b, reason);
    if (err == CMQ_OK)
        err = create_one(setup->instance, "d", sizes.d_bytes, SEALED_MODE, &d, reason);
    CMQ_CRASH_POINT("create.part");
    if (err == CMQ_OK)
        err = create_one(setup->instance, "ctl", sizeof(struct cmq_ctl), OBJECT_MODE, &ctl, reason);
    if (err != CMQ_OK)
        goto out;
    fill_slots(a.data, b.data, d.data, setup->slots, setup->first_seq);
    struct cmq_header *header = &((struct cmq_ctl *)ctl.data)->header;
    header->magic = cmq_layout_magic();
    header->version = CMQ_LAYOUT_VERSION;
    header->slots = setup->slots;
    header->first_seq = setup->first_seq;
    header->record_bytes_max = setup->record_bytes_max;
    header->ctl_bytes = sizeof(struct cmq_ctl);
    header->bell_bytes = sizes.bell_bytes;
    header->a_bytes = sizes.a_bytes;
    header->b_bytes = sizes.b_bytes;
    header->d_bytes = sizes.d_bytes;
    (void)snprintf(header->instance, sizeof header->instance, "%s", setup->instance);
    read_boot_id(header->boot_id);
    err = note_members_file(setup, header, reason);
    if (err != CMQ_OK)
        goto out;
    /* Pairs with attach's first load. */
    atomic_store_explicit(&header->state, CMQ_STATE_READY, memory_order_release);
out:
    cmq_segment_unmap(&ctl);
    cmq_segment_unmap(&d);
    cmq_segment_unmap(&b);
    cmq_segment_unmap(&a);
    cmq_segment_unmap(&bell);
    return err;
}

/* A ring that is there, complete and of this boot? A foreign layout counts as there: it is refused, not
 * overwritten. */
static enum cmq_err look_for_ring(const char *instance, struct cmq_reason *reason)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    cmq_segment_name(name, instance, "ctl");
    enum cmq_err err = cmq_segment_map(name, 0, false, &segment, reason);
    if (err != CMQ_OK)
        return err;
    const struct cmq_ctl *ctl = segment.data;
    if (segment.bytes < sizeof(struct cmq_header))
        err = CMQ_ERR_NOT_FOUND;
    else if (atomic_load_explicit(&ctl->header.state, memory_order_acquire) != CMQ_STATE_READY)
        err = CMQ_ERR_NOT_FOUND; /* its creator died: we hold the lock */
    else
        err = cmq_header_check(&ctl->header, instance, reason);
    cmq_segment_unmap(&segment);
    return err == CMQ_OK ? CMQ_ERR_EXISTS : err;
}

static enum cmq_err creation_lock(const struct cmq_ring_setup *setup, int *ret_fd, struct cmq_reason *reason)
{
    char path[320];
    (void)snprintf(path, sizeof path, "%s/%s.lock", setup->run_dir, setup->instance);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    if (fd < 0 || fcntl(fd, F_OFD_SETLKW, &lock) != 0) {
        enum cmq_err err = errno == EACCES   ? CMQ_ERR_PERMISSION
                           : errno == ENOENT ? CMQ_ERR_NOT_FOUND
                                             : CMQ_ERR_SYSTEM;
        err = cmq_reason_set(reason, err, "lock file %s: %s; common.run_dir must exist and be writable", path,
                             strerror(errno));
        if (fd >= 0)
            close(fd);
        return err;
    }
    (void)fchmod(fd, 0660); /* as the members file */
    *ret_fd = fd;
    return CMQ_OK;
}

enum cmq_err cmq_ring_create(const struct cmq_ring_setup *setup, struct cmq_reason *reason)
{
    int lock_fd = -1;
    enum cmq_err err = cmq_setup_check(setup, reason);
    if (err != CMQ_OK)
        return err;
    if (setup->slots < 2 || setup->slots > SLOTS_MAX || !cmq_is_pow2(setup->slots))
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "ring.slots is %u; it must be a power of two, 2 to %d",
                              setup->slots, SLOTS_MAX);
    if (setup->record_bytes_max == 0 || setup->record_bytes_max > UINT32_MAX)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "records must be 1 to 4294967295 bytes");
    err = creation_lock(setup, &lock_fd, reason);
    if (err != CMQ_OK)
        return err;
    err = look_for_ring(setup->instance, reason);
    if (err == CMQ_ERR_NOT_FOUND)
        err = create_objects(setup, reason);
    close(lock_fd);
    return err;
}

/* Who has mapped the ring already and joins behind us sees this, and looks for the next one. */
static void retire(const char *instance)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    cmq_segment_name(name, instance, "ctl");
    if (cmq_segment_map(name, 0, true, &segment, NULL) != CMQ_OK)
        return;
    struct cmq_ctl *ctl = segment.data;
    /* Pairs with attach's second look, after it has its member lock. */
    if (segment.bytes >= sizeof(struct cmq_header))
        atomic_store_explicit(&ctl->header.state, CMQ_STATE_NONE, memory_order_release);
    cmq_segment_unmap(&segment);
}

enum cmq_err cmq_ring_destroy(const struct cmq_ring_setup *setup, struct cmq_reason *reason)
{
    int lock_fd = -1, members_fd = -1;
    enum cmq_err err = cmq_setup_check(setup, reason);
    if (err == CMQ_OK)
        err = creation_lock(setup, &lock_fd, reason);
    if (err != CMQ_OK)
        return err;
    err = cmq_member_lock_open(setup->run_dir, setup->instance, &members_fd, reason);
    if (err != CMQ_OK)
        goto out;
    /* All member bytes at once: a single living member refuses it. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = CMQ_MEMBERS_MAX};
    if (fcntl(members_fd, F_OFD_SETLK, &lock) != 0) {
        err = cmq_reason_set(reason, CMQ_ERR_EXISTS, "stages of instance \"%s\" are running; stop them first",
                             setup->instance);
        goto out;
    }
    retire(setup->instance);
    cmq_segment_remove_all(setup->instance);
out:
    if (members_fd >= 0)
        close(members_fd);
    close(lock_fd);
    return err;
}
