#include "common/shm/cmq_segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char shm_dir[] = "/dev/shm";

void cmq_segment_name(char ret_name[CMQ_SEGMENT_NAME_BYTES], const char *instance, const char *suffix)
{
    int bytes = snprintf(ret_name, CMQ_SEGMENT_NAME_BYTES, "/cmq.%s.%s", instance, suffix);
    cmq_assert(bytes > 0 && bytes < CMQ_SEGMENT_NAME_BYTES);
}

static enum cmq_err system_error(const char *what, const char *name, struct cmq_reason *reason)
{
    int code = errno;
    enum cmq_err err = CMQ_ERR_SYSTEM;
    if (code == ENOENT)
        err = CMQ_ERR_NOT_FOUND;
    else if (code == EEXIST)
        err = CMQ_ERR_EXISTS;
    else if (code == EACCES || code == EPERM)
        err = CMQ_ERR_PERMISSION;
    else if (code == ENOSPC || code == ENOMEM)
        err = CMQ_ERR_FULL;
    return cmq_reason_set(reason, err, "%s of shared memory %s%s: %s%s", what, shm_dir, name, strerror(code),
                          err == CMQ_ERR_FULL ? "; enlarge /dev/shm or lower the arena_bytes settings" : "");
}

#ifdef CMQ_SEGMENT_ONE_VIEW
/* Thread sanitizer knows memory by its address. So that it sees members in threads of one process share a
 * ring, every object is mapped once a process and counted. Tests only. */
enum { VIEWS_MAX = 512 };
static struct view {
    char name[CMQ_SEGMENT_NAME_BYTES];
    void *data;
    size_t bytes;
    unsigned uses;
} views[VIEWS_MAX];
static pthread_mutex_t views_lock = PTHREAD_MUTEX_INITIALIZER;

static struct view *view_find(const char *name, const void *data)
{
    for (size_t i = 0; i < VIEWS_MAX; i++) {
        if (views[i].uses != 0 && (name != NULL ? strcmp(views[i].name, name) == 0 : views[i].data == data))
            return &views[i];
    }
    return NULL;
}

static void *map_pages(const char *name, int fd, size_t bytes, int protection)
{
    (void)protection;
    pthread_mutex_lock(&views_lock);
    struct view *view = view_find(name, NULL);
    if (view == NULL) {
        for (view = views; view->uses != 0; view++)
            cmq_assert(view < views + VIEWS_MAX - 1);
        /* A read-only descriptor cannot be mapped for writing: open anew. */
        int writable_fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);
        view->data =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, writable_fd >= 0 ? writable_fd : fd, 0);
        if (writable_fd >= 0)
            close(writable_fd);
        view->bytes = bytes;
        (void)snprintf(view->name, sizeof view->name, "%s", name);
    }
    if (view->data != MAP_FAILED)
        view->uses++;
    void *data = view->data;
    pthread_mutex_unlock(&views_lock);
    return data;
}

static void unmap_pages(void *data, size_t bytes)
{
    (void)bytes;
    pthread_mutex_lock(&views_lock);
    struct view *view = view_find(NULL, data);
    cmq_assert(view != NULL);
    if (--view->uses == 0)
        (void)munmap(view->data, view->bytes);
    pthread_mutex_unlock(&views_lock);
}
#else
static void *map_pages(const char *name, int fd, size_t bytes, int protection)
{
    (void)name;
    return mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
}

static void unmap_pages(void *data, size_t bytes)
{
    (void)munmap(data, bytes);
}
#endif

static enum cmq_err map_fd(const char *name, int fd, size_t bytes, bool writable,
                           struct cmq_segment *ret_segment, struct cmq_reason *reason)
{
    void *data = map_pages(name, fd, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ);
    if (data == MAP_FAILED)
        return system_error("mapping", name, reason);
    /* Payloads must not reach a core file, and a dump of rings would delay the news of a death. */
    (void)madvise(data, bytes, MADV_DONTDUMP);
    *ret_segment = (struct cmq_segment){.data = data, .bytes = bytes};
    return CMQ_OK;
}

enum cmq_err cmq_segment_create(const char *name, size_t bytes, unsigned mode,
                                struct cmq_segment *ret_segment, struct cmq_reason *reason)
{
    enum cmq_err err;
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    if (fd < 0)
        return system_error("creation", name, reason);
    /* The mode is exact whatever the umask is: the stages' users rely on the group bits. */
    if (fchmod(fd, (mode_t)mode) != 0 || ftruncate(fd, (off_t)bytes) != 0) {
        err = system_error("creation", name, reason);
        goto out;
    }
    /* Pages are taken now: a full /dev/shm is an error here, not a SIGBUS in the data path. */
    errno = posix_fallocate(fd, 0, (off_t)bytes);
    if (errno != 0) {
        err = system_error("allocation", name, reason);
        goto out;
    }
    err = map_fd(name, fd, bytes, true, ret_segment, reason);
out:
    close(fd);
    if (err != CMQ_OK)
        (void)cmq_segment_remove(name);
    return err;
}

enum cmq_err cmq_segment_map(const char *name, size_t bytes, bool writable, struct cmq_segment *ret_segment,
                             struct cmq_reason *reason)
{
    enum cmq_err err;
    struct stat info;
    int fd = shm_open(name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return system_error("opening", name, reason);
    if (fstat(fd, &info) != 0) {
        err = system_error("inspection", name, reason);
        goto out;
    }
    if (info.st_size <= 0 || (bytes != 0 && (uint64_t)info.st_size != bytes)) {
        err = cmq_reason_set(reason, CMQ_ERR_LAYOUT, "shared memory %s%s has %lld bytes, expected %zu",
                             shm_dir, name, (long long)info.st_size, bytes);
        goto out;
    }
    err = map_fd(name, fd, (size_t)info.st_size, writable, ret_segment, reason);
out:
    close(fd);
    return err;
}

void cmq_segment_unmap(struct cmq_segment *segment)
{
    if (segment->data != NULL)
        unmap_pages(segment->data, segment->bytes);
    *segment = (struct cmq_segment){0};
}

bool cmq_segment_remove(const char *name)
{
    return shm_unlink(name) == 0 || errno == ENOENT;
}

void cmq_segment_remove_all(const char *instance)
{
    char prefix[CMQ_SEGMENT_NAME_BYTES];
    cmq_segment_name(prefix, instance, "");
    DIR *dir = opendir(shm_dir);
    if (dir == NULL)
        return;
    const size_t prefix_bytes = strlen(prefix + 1);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, prefix + 1, prefix_bytes) == 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}
