#include "common/crypto/cmq_secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <openssl/crypto.h>

static const struct cmq_secret_sys real_sys = {.mlock = mlock, .madvise = madvise, .getrandom = getrandom};
static const struct cmq_secret_sys *sys = &real_sys;

void cmq_secret_set_sys(const struct cmq_secret_sys *other)
{
    sys = other != NULL ? other : &real_sys;
}

void cmq_secret_cleanse(void *dst, size_t bytes)
{
    if (bytes != 0)
        OPENSSL_cleanse(dst, bytes);
}

bool cmq_secret_equal(const void *a, const void *b, size_t bytes)
{
    return CRYPTO_memcmp(a, b, bytes) == 0;
}

bool cmq_secret_is_zero(const void *data, size_t bytes)
{
    const uint8_t *next = data;
    unsigned any = 0;
    for (size_t i = 0; i < bytes; i++)
        any |= next[i];
    return any == 0;
}

/* As many leading pages as the limit allows. */
static size_t lock_pages(const uint8_t *data, size_t bytes, size_t page_bytes)
{
    if (sys->mlock(data, bytes) == 0)
        return bytes;
    size_t locked = 0;
    while (locked < bytes && sys->mlock(data + locked, page_bytes) == 0)
        locked += page_bytes;
    return locked;
}

enum cmq_err cmq_secret_init(struct cmq_secret *ret_secret, size_t bytes, enum cmq_secret_fork fork,
                             struct cmq_reason *reason)
{
    cmq_assert(bytes > 0 && bytes <= SIZE_MAX / 2);
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    const size_t rounded = (size_t)cmq_align_up(bytes, page_bytes);
    const int fork_advice = fork == CMQ_SECRET_FORK_ZERO ? MADV_WIPEONFORK : MADV_DONTFORK;
    void *data = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "cannot map %zu bytes for keys: %s", rounded,
                              strerror(errno));
    enum cmq_err err = CMQ_OK;
    size_t locked = 0;
    if (sys->madvise(data, rounded, MADV_DONTDUMP) != 0 || sys->madvise(data, rounded, fork_advice) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM,
                             "cannot keep key memory out of core dumps and forked children: %s; "
                             "Linux 4.14 or newer is needed",
                             strerror(errno));
    else if ((locked = lock_pages(data, rounded, page_bytes)) == 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM,
                             "cannot lock one page of key memory: %s; raise the limit on locked memory "
                             "(ulimit -l, LimitMEMLOCK=) to 1 MiB or more",
                             strerror(errno));
    if (err != CMQ_OK) {
        (void)munmap(data, rounded);
        return err;
    }
    *ret_secret = (struct cmq_secret){
        .data = data, .bytes = rounded, .bytes_locked = locked, .fork = fork, .owner = getpid()};
    return CMQ_OK;
}

void cmq_secret_fini(struct cmq_secret *secret)
{
    /* In a child an ABSENT mapping does not exist; its addresses may belong to somebody else by now. */
    const bool mapped = secret->fork == CMQ_SECRET_FORK_ZERO || secret->owner == getpid();
    if (secret->data != NULL && mapped) {
        cmq_secret_cleanse(secret->data, secret->bytes);
        (void)munmap(secret->data, secret->bytes);
    }
    *secret = (struct cmq_secret){0};
}

enum cmq_err cmq_secret_random(void *dst, size_t bytes)
{
    uint8_t *next = dst;
    size_t left = bytes;
    while (left > 0) {
        ssize_t got = sys->getrandom(next, left, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || (size_t)got > left) {
            cmq_secret_cleanse(dst, bytes);
            return CMQ_ERR_SYSTEM;
        }
        next += got; /* more than 256 bytes may come in parts when a signal arrives */
        left -= (size_t)got;
    }
    return CMQ_OK;
}
