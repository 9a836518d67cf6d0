#include "tests/support/file_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/journal/cmq_journal_format.h"

enum { FILES = 96, FDS = 64, PENDING = 512, NAME_BYTES = 64, SECTOR = 512, FD_BASE = 1000, DIRECTORY = -2 };

struct bytes {
    uint8_t *data;
    size_t bytes, capacity;
};

/* A change of a file that no sync has covered: bytes at an offset, or (data NULL) a size. */
struct change {
    uint64_t offset;
    uint8_t *data;
    size_t bytes;
};

struct file {
    bool used;
    struct bytes live, durable;
    struct change *pending;
    size_t pending_count, pending_capacity;
    int locked_by; /* descriptor, or -1 */
};

/* The name `name` means file `file` now; -1: nothing. */
struct naming {
    char name[NAME_BYTES];
    int file;
};

struct names {
    struct naming at[FILES];
    size_t count;
};

struct fault {
    uint64_t skip, times;
    int error;
};

struct file_faults {
    struct cmq_file_ops ops;
    struct file files[FILES];
    struct names live, durable;
    struct {
        struct naming change[2]; /* a rename changes two names at once */
        size_t count;
    } pending[PENDING];
    size_t pending_count;
    int fds[FDS]; /* file index, DIRECTORY, or -1 */
    uint64_t calls, counts[FILE_OPS];
    uint64_t die_at;
    enum file_death death;
    bool dead;
    struct fault fault[FILE_OPS];
    size_t write_max;
    uint64_t space;
};

/* ---- bytes ---- */

static void bytes_resize(struct bytes *bytes, size_t size)
{
    if (size > bytes->capacity) {
        bytes->data = realloc(bytes->data, size);
        cmq_assert(bytes->data != NULL);
        bytes->capacity = size;
    }
    if (size > bytes->bytes)
        memset(bytes->data + bytes->bytes, 0, size - bytes->bytes);
    bytes->bytes = size;
}

static void bytes_put(struct bytes *bytes, uint64_t offset, const void *data, size_t count)
{
    if (offset + count > bytes->bytes)
        bytes_resize(bytes, (size_t)offset + count);
    memcpy(bytes->data + offset, data, count);
}

static void bytes_copy(struct bytes *to, const struct bytes *from)
{
    bytes_resize(to, from->bytes);
    if (from->bytes > 0)
        memcpy(to->data, from->data, from->bytes);
}

static void pending_clear(struct file *file)
{
    for (size_t i = 0; i < file->pending_count; i++)
        free(file->pending[i].data);
    file->pending_count = 0;
}

static void pending_add(struct file *file, uint64_t offset, const void *data, size_t bytes)
{
    if (file->pending_count == file->pending_capacity) {
        file->pending_capacity = file->pending_capacity == 0 ? 16 : file->pending_capacity * 2;
        file->pending = realloc(file->pending, file->pending_capacity * sizeof *file->pending);
        cmq_assert(file->pending != NULL);
    }
    struct change *change = &file->pending[file->pending_count++];
    *change = (struct change){.offset = offset, .bytes = bytes};
    if (data != NULL) {
        change->data = malloc(bytes + 1);
        cmq_assert(change->data != NULL);
        memcpy(change->data, data, bytes);
    }
}

static void file_clear(struct file *file)
{
    pending_clear(file);
    free(file->pending);
    free(file->live.data);
    free(file->durable.data);
    *file = (struct file){.locked_by = -1};
}

/* ---- names ---- */

static struct naming *names_find(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->at[i].name, name) == 0)
            return &names->at[i];
    return NULL;
}

static int names_file(struct names *names, const char *name)
{
    const struct naming *found = names_find(names, name);
    return found == NULL ? -1 : found->file;
}

static void names_set(struct names *names, const struct naming *naming)
{
    struct naming *found = names_find(names, naming->name);
    if (naming->file < 0) {
        if (found != NULL)
            *found = names->at[--names->count];
        return;
    }
    /* A file has one name: an older one that the disk still has goes with the move that is kept. */
    for (size_t i = names->count; i-- > 0;)
        if (names->at[i].file == naming->file && strcmp(names->at[i].name, naming->name) != 0) {
            names->at[i] = names->at[--names->count];
            found = names_find(names, naming->name);
        }
    if (found == NULL) {
        cmq_assert(names->count < FILES);
        found = &names->at[names->count++];
    }
    *found = *naming;
}

static struct naming naming_of(const char *name, int file)
{
    struct naming naming = {.file = file};
    (void)snprintf(naming.name, sizeof naming.name, "%s", name);
    return naming;
}

static void rename_live(struct file_faults *faults, const struct naming *changes, size_t count)
{
    cmq_assert(faults->pending_count < PENDING);
    for (size_t i = 0; i < count; i++) {
        names_set(&faults->live, &changes[i]);
        faults->pending[faults->pending_count].change[i] = changes[i];
    }
    faults->pending[faults->pending_count++].count = count;
}

/* Files that no name, no descriptor and no possible past names any more. */
static void collect(struct file_faults *faults)
{
    bool named[FILES] = {false};
    for (size_t i = 0; i < faults->live.count; i++)
        named[faults->live.at[i].file] = true;
    for (size_t i = 0; i < faults->durable.count; i++)
        named[faults->durable.at[i].file] = true;
    for (size_t i = 0; i < FDS; i++)
        if (faults->fds[i] >= 0)
            named[faults->fds[i]] = true;
    for (size_t i = 0; i < faults->pending_count; i++)
        for (size_t k = 0; k < faults->pending[i].count; k++)
            if (faults->pending[i].change[k].file >= 0)
                named[faults->pending[i].change[k].file] = true;
    for (size_t i = 0; i < FILES; i++)
        if (faults->files[i].used && !named[i])
            file_clear(&faults->files[i]);
}

/* The name inside the directory; "" is the directory itself. NULL: elsewhere. */
static const char *inside(const char *path)
{
    const size_t bytes = strlen(FILE_FAULTS_DIRECTORY);
    if (strncmp(path, FILE_FAULTS_DIRECTORY, bytes) != 0)
        return NULL;
    return path[bytes] == '/' ? path + bytes + 1 : path + bytes;
}

/* ---- faults ---- */

/* Whether the call may go on. *ret_last: it is the last one. */
static bool enter(struct file_faults *faults, enum file_op op, bool *ret_last)
{
    struct fault *fault = &faults->fault[op];
    *ret_last = false;
    if (faults->dead) {
        errno = EIO;
        return false;
    }
    const uint64_t call = faults->calls++;
    faults->counts[op]++;
    if (call == faults->die_at) {
        faults->dead = true;
        if (faults->death == FILE_DEATH_BEFORE) {
            errno = EIO;
            return false;
        }
        *ret_last = true;
    }
    if (fault->skip > 0) {
        fault->skip--;
    } else if (fault->times > 0) {
        fault->times--;
        errno = fault->error;
        return false;
    }
    return true;
}

/* What the caller is told; nothing, if it died in this call. */
static int leave(bool last)
{
    if (!last)
        return 0;
    errno = EIO;
    return -1;
}

static struct file *file_of(struct file_faults *faults, int fd)
{
    cmq_assert(fd >= FD_BASE && fd < FD_BASE + FDS && faults->fds[fd - FD_BASE] >= 0);
    return &faults->files[faults->fds[fd - FD_BASE]];
}

/* A file that is removed takes space until it is closed. */
static uint64_t used_space(const struct file_faults *faults)
{
    bool used[FILES] = {false};
    uint64_t bytes = 0;
    for (size_t i = 0; i < faults->live.count; i++)
        used[faults->live.at[i].file] = true;
    for (size_t i = 0; i < FDS; i++)
        if (faults->fds[i] >= 0)
            used[faults->fds[i]] = true;
    for (size_t i = 0; i < FILES; i++)
        bytes += used[i] ? faults->files[i].live.bytes : 0;
    return bytes;
}

/* ---- calls ---- */

static int faults_open(void *context, const char *path, int flags, mode_t mode)
{
    struct file_faults *faults = context;
    const char *name = inside(path);
    bool last;
    (void)mode;
    if (!enter(faults, FILE_OPEN, &last))
        return -1;
    size_t fd = 0;
    while (fd < FDS && faults->fds[fd] != -1)
        fd++;
    cmq_assert(fd < FDS && name != NULL);
    if (name[0] == '\0' || strcmp(name, "..") == 0) {
        faults->fds[fd] = DIRECTORY;
        return leave(last) == 0 ? (int)fd + FD_BASE : -1;
    }
    int file = names_file(&faults->live, name);
    if (file < 0 && (flags & O_CREAT) == 0) {
        errno = ENOENT;
        return -1;
    }
    if (file < 0) {
        collect(faults);
        for (file = 0; file < FILES && faults->files[file].used; file++)
            continue;
        cmq_assert(file < FILES);
        faults->files[file] = (struct file){.used = true, .locked_by = -1};
        const struct naming naming = naming_of(name, file);
        rename_live(faults, &naming, 1);
    } else if ((flags & O_TRUNC) != 0) {
        bytes_resize(&faults->files[file].live, 0);
        pending_add(&faults->files[file], 0, NULL, 0);
    }
    faults->fds[fd] = file;
    return leave(last) == 0 ? (int)fd + FD_BASE : -1;
}

static int faults_close(void *context, int fd)
{
    struct file_faults *faults = context;
    cmq_assert(fd >= FD_BASE && fd < FD_BASE + FDS && faults->fds[fd - FD_BASE] != -1);
    for (size_t i = 0; i < FILES; i++)
        if (faults->files[i].locked_by == fd)
            faults->files[i].locked_by = -1;
    faults->fds[fd - FD_BASE] = -1;
    return 0;
}

static ssize_t faults_pread(void *context, int fd, void *data, size_t bytes, off_t offset)
{
    struct file_faults *faults = context;
    bool last;
    if (!enter(faults, FILE_PREAD, &last))
        return -1;
    const struct bytes *live = &file_of(faults, fd)->live;
    const uint64_t at = (uint64_t)offset;
    if (leave(last) != 0)
        return -1;
    if (at >= live->bytes)
        return 0;
    bytes = (size_t)cmq_min_u64(bytes, live->bytes - at);
    memcpy(data, live->data + at, bytes);
    return (ssize_t)bytes;
}

static ssize_t faults_pwritev(void *context, int fd, const struct iovec *parts, int count, off_t offset)
{
    struct file_faults *faults = context;
    bool last;
    if (!enter(faults, FILE_PWRITEV, &last))
        return -1;
    struct file *file = file_of(faults, fd);
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    uint8_t *data = malloc(bytes + 1);
    cmq_assert(data != NULL);
    size_t done = 0;
    for (int i = 0; i < count; done += parts[i].iov_len, i++)
        memcpy(data + done, parts[i].iov_base, parts[i].iov_len);
    if (last && faults->death == FILE_DEATH_HALF)
        bytes = bytes * 5 / 8;
    if (faults->write_max > 0)
        bytes = (size_t)cmq_min_u64(bytes, faults->write_max);
    const uint64_t end = (uint64_t)offset + bytes;
    if (end > file->live.bytes && used_space(faults) + (end - file->live.bytes) > faults->space) {
        free(data);
        errno = ENOSPC;
        return -1;
    }
    bytes_put(&file->live, (uint64_t)offset, data, bytes);
    pending_add(file, (uint64_t)offset, data, bytes);
    free(data);
    return leave(last) == 0 ? (ssize_t)bytes : -1;
}

static int faults_fdatasync(void *context, int fd)
{
    struct file_faults *faults = context;
    bool last;
    struct file *file = faults->dead ? NULL : file_of(faults, fd);
    if (!enter(faults, FILE_FDATASYNC, &last)) {
        if (file != NULL && !faults->dead)
            pending_clear(file); /* the kernel has told it once */
        return -1;
    }
    if (last && faults->death == FILE_DEATH_HALF)
        return -1;
    for (size_t i = 0; i < file->pending_count; i++) {
        const struct change *change = &file->pending[i];
        if (change->data == NULL)
            bytes_resize(&file->durable, change->bytes);
        else
            bytes_put(&file->durable, change->offset, change->data, change->bytes);
    }
    pending_clear(file);
    return leave(last);
}

static int faults_fsync(void *context, int fd)
{
    struct file_faults *faults = context;
    bool last;
    if (!enter(faults, FILE_FSYNC, &last))
        return -1;
    cmq_assert(faults->fds[fd - FD_BASE] == DIRECTORY);
    if (last && faults->death == FILE_DEATH_HALF)
        return -1;
    faults->durable = faults->live;
    faults->pending_count = 0;
    return leave(last);
}

static int faults_allocate(void *context, int fd, off_t offset, off_t bytes)
{
    struct file_faults *faults = context;
    bool last;
    if (!enter(faults, FILE_ALLOCATE, &last))
        return -1;
    struct file *file = file_of(faults, fd);
    const size_t size = (size_t)(offset + bytes);
    if (size <= file->live.bytes)
        return leave(last);
    if (used_space(faults) + (size - file->live.bytes) > faults->space) {
        errno = ENOSPC;
        return -1;
    }
    bytes_resize(&file->live, size);
    pending_add(file, 0, NULL, size);
    return leave(last);
}

static int faults_truncate(void *context, int fd, off_t bytes)
{
    struct file_faults *faults = context;
    bool last;
    if (!enter(faults, FILE_TRUNCATE, &last))
        return -1;
    bytes_resize(&file_of(faults, fd)->live, (size_t)bytes);
    pending_add(file_of(faults, fd), 0, NULL, (size_t)bytes);
    return leave(last);
}

static int faults_rename(void *context, const char *from, const char *to)
{
    struct file_faults *faults = context;
    bool last;
    if (!enter(faults, FILE_RENAME, &last))
        return -1;
    const int file = names_file(&faults->live, inside(from));
    if (file < 0) {
        errno = ENOENT;
        return -1;
    }
    const struct naming changes[2] = {naming_of(inside(to), file), naming_of(inside(from), -1)};
    rename_live(faults, changes, 2);
    return leave(last);
}

static int faults_unlink(void *context, const char *path)
{
    struct file_faults *faults = context;
    bool last;
    if (!enter(faults, FILE_UNLINK, &last))
        return -1;
    if (names_file(&faults->live, inside(path)) < 0) {
        errno = ENOENT;
        return -1;
    }
    const struct naming change = naming_of(inside(path), -1);
    rename_live(faults, &change, 1);
    return leave(last);
}

static int faults_mkdir(void *context, const char *path, mode_t mode)
{
    bool last;
    (void)path;
    (void)mode;
    if (!enter(context, FILE_MKDIR, &last))
        return -1;
    errno = EEXIST;
    return -1;
}

static int faults_size(void *context, int fd, uint64_t *ret_bytes)
{
    bool last;
    if (!enter(context, FILE_SIZE, &last) || leave(last) != 0)
        return -1;
    *ret_bytes = file_of(context, fd)->live.bytes;
    return 0;
}

static int faults_list(void *context, const char *path, int (*name)(void *arg, const char *entry), void *arg)
{
    struct file_faults *faults = context;
    bool last;
    (void)path;
    if (!enter(faults, FILE_LIST, &last) || leave(last) != 0)
        return -1;
    for (size_t i = 0; i < faults->live.count; i++)
        if (!name(arg, faults->live.at[i].name))
            break;
    return 0;
}

static int faults_lock(void *context, int fd)
{
    bool last;
    if (!enter(context, FILE_LOCK, &last))
        return -1;
    struct file *file = file_of(context, fd);
    if (file->locked_by >= 0 && file->locked_by != fd) {
        errno = EAGAIN;
        return -1;
    }
    file->locked_by = fd;
    return leave(last);
}

/* ---- the directory ---- */

struct file_faults *file_faults_new(void)
{
    struct file_faults *faults = calloc(1, sizeof *faults);
    cmq_assert(faults != NULL);
    faults->ops = (struct cmq_file_ops){.context = faults,
                                        .open = faults_open,
                                        .close = faults_close,
                                        .pread = faults_pread,
                                        .pwritev = faults_pwritev,
                                        .fdatasync = faults_fdatasync,
                                        .fsync = faults_fsync,
                                        .allocate = faults_allocate,
                                        .truncate = faults_truncate,
                                        .rename = faults_rename,
                                        .unlink = faults_unlink,
                                        .mkdir = faults_mkdir,
                                        .size = faults_size,
                                        .list = faults_list,
                                        .lock = faults_lock};
    faults->space = UINT64_MAX;
    file_faults_revive(faults);
    for (size_t i = 0; i < FILES; i++)
        faults->files[i].locked_by = -1;
    return faults;
}

struct file_faults *file_faults_clone(const struct file_faults *from)
{
    struct file_faults *to = file_faults_new();
    for (size_t i = 0; i < FILES; i++) {
        const struct file *file = &from->files[i];
        to->files[i].used = file->used;
        bytes_copy(&to->files[i].live, &file->live);
        bytes_copy(&to->files[i].durable, &file->durable);
        for (size_t k = 0; k < file->pending_count; k++)
            pending_add(&to->files[i], file->pending[k].offset, file->pending[k].data,
                        file->pending[k].bytes);
    }
    to->live = from->live;
    to->durable = from->durable;
    memcpy(to->pending, from->pending, from->pending_count * sizeof from->pending[0]);
    to->pending_count = from->pending_count;
    return to;
}

void file_faults_free(struct file_faults *faults)
{
    if (faults == NULL)
        return;
    for (size_t i = 0; i < FILES; i++)
        file_clear(&faults->files[i]);
    free(faults);
}

const struct cmq_file_ops *file_faults_ops(struct file_faults *faults)
{
    return &faults->ops;
}

uint64_t file_faults_calls(const struct file_faults *faults)
{
    return faults->calls;
}

uint64_t file_faults_count(const struct file_faults *faults, enum file_op op)
{
    return faults->counts[op];
}

void file_faults_die_at(struct file_faults *faults, uint64_t call, enum file_death death)
{
    faults->die_at = call;
    faults->death = death;
}

bool file_faults_dead(const struct file_faults *faults)
{
    return faults->dead;
}

void file_faults_revive(struct file_faults *faults)
{
    for (size_t i = 0; i < FDS; i++)
        faults->fds[i] = -1;
    for (size_t i = 0; i < FILES; i++)
        faults->files[i].locked_by = -1;
    memset(faults->fault, 0, sizeof faults->fault);
    memset(faults->counts, 0, sizeof faults->counts);
    faults->calls = 0;
    faults->die_at = UINT64_MAX;
    faults->dead = false;
}

void file_faults_fail(struct file_faults *faults, enum file_op op, uint64_t skip, uint64_t times, int error)
{
    faults->fault[op] = (struct fault){.skip = skip, .times = times, .error = error};
}

void file_faults_write_max(struct file_faults *faults, size_t bytes)
{
    faults->write_max = bytes;
}

void file_faults_space(struct file_faults *faults, uint64_t bytes)
{
    faults->space = bytes;
}

/* ---- power ---- */

enum { KEPT, LOST, FIRST_HALF, LAST_HALF, SECTORS };

/* Applies of a write what the choice says: sectors are those of the disk, not of the write. */
static void apply_write(struct bytes *to, const struct change *change, uint32_t choice,
                        file_faults_choose *choose, void *arg)
{
    const uint64_t end = change->offset + change->bytes;
    const uint64_t half = (change->offset + change->bytes / 2) & ~(uint64_t)(SECTOR - 1);
    for (uint64_t at = change->offset; at < end;) {
        const uint64_t next = cmq_min_u64((at / SECTOR + 1) * SECTOR, end);
        const bool kept = choice == KEPT || (choice == FIRST_HALF && at < half) ||
                          (choice == LAST_HALF && at >= half) ||
                          (choice == SECTORS && choose(arg, 2) == KEPT);
        if (kept)
            bytes_put(to, at, change->data + (at - change->offset), (size_t)(next - at));
        at = next;
    }
}

static void cut_file(struct file *file, file_faults_choose *choose, void *arg)
{
    for (size_t i = 0; i < file->pending_count; i++) {
        const struct change *change = &file->pending[i];
        if (change->data == NULL) {
            if (choose(arg, 2) == KEPT)
                bytes_resize(&file->durable, change->bytes);
        } else if (change->bytes <= SECTOR) {
            apply_write(&file->durable, change, choose(arg, 2), choose, arg);
        } else {
            /* Sector by sector only when choices are random: there are too many to try all. */
            apply_write(&file->durable, change, choose(arg, choose == file_faults_choose_all ? 4 : 5), choose,
                        arg);
        }
    }
    pending_clear(file);
    bytes_copy(&file->live, &file->durable);
}

void file_faults_power_cut(struct file_faults *faults, file_faults_choose *choose, void *arg)
{
    for (size_t i = 0; i < faults->pending_count; i++)
        if (choose(arg, 2) == KEPT)
            for (size_t k = 0; k < faults->pending[i].count; k++)
                names_set(&faults->durable, &faults->pending[i].change[k]);
    faults->pending_count = 0;
    faults->live = faults->durable;
    for (size_t i = 0; i < FILES; i++)
        if (faults->files[i].used)
            cut_file(&faults->files[i], choose, arg);
    file_faults_revive(faults);
    collect(faults);
}

uint32_t file_faults_choose_all(void *arg, uint32_t options)
{
    struct file_faults_all *all = arg;
    if (all->depth == CMQ_COUNT_OF(all->taken))
        return KEPT; /* deeper than can be tried */
    if (all->depth == all->known) {
        all->taken[all->known] = 0;
        all->options[all->known++] = (uint8_t)options;
    }
    return all->taken[all->depth++];
}

bool file_faults_all_next(struct file_faults_all *all)
{
    all->depth = 0;
    while (all->known > 0 && all->taken[all->known - 1] + 1u == all->options[all->known - 1])
        all->known--;
    if (all->known == 0)
        return false;
    all->taken[all->known - 1]++;
    return true;
}

uint32_t file_faults_choose_random(void *arg, uint32_t options)
{
    uint64_t *state = arg;
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33) % options;
}

/* ---- a look at it ---- */

bool file_faults_name(const struct file_faults *faults, const char *suffix, size_t index, char ret_name[64])
{
    const char *found = "";
    for (;;) {
        const char *best = NULL;
        for (size_t i = 0; i < faults->live.count; i++) {
            const char *name = faults->live.at[i].name;
            const size_t bytes = strlen(name), tail = strlen(suffix);
            if (bytes >= tail && strcmp(name + bytes - tail, suffix) == 0 && strcmp(name, found) > 0 &&
                (best == NULL || strcmp(name, best) < 0))
                best = name;
        }
        if (best == NULL)
            return false;
        found = best;
        if (index-- == 0)
            break;
    }
    (void)snprintf(ret_name, NAME_BYTES, "%s", found);
    return true;
}

uint8_t *file_faults_bytes(struct file_faults *faults, const char *name, size_t *ret_bytes)
{
    int file = names_file(&faults->live, name);
    if (file < 0)
        return NULL;
    *ret_bytes = faults->files[file].live.bytes;
    return faults->files[file].live.data;
}

uint32_t file_faults_digest(const struct file_faults *faults)
{
    char name[NAME_BYTES];
    uint32_t crc = 0;
    for (size_t i = 0; file_faults_name(faults, "", i, name); i++) {
        crc = cmq_journal_crc(crc, name, strlen(name) + 1);
        for (size_t k = 0; k < faults->live.count; k++)
            if (strcmp(faults->live.at[k].name, name) == 0) {
                const struct bytes *live = &faults->files[faults->live.at[k].file].live;
                crc = cmq_journal_crc(crc, live->data, live->bytes);
            }
    }
    return crc;
}
