/*
 * cmq_secret: memory for key bytes (locked, not in core dumps, not in forked children) and random bytes.
 * Ownership: init/fini on the caller's struct; the pages belong to it until fini, which cleanses them.
 * Units: bytes, rounded up to whole pages; new memory is zero.
 * Errors: CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM with a sentence. A limit on locked memory is refused only if not
 *         even the first page can be locked; bytes_locked tells how much was.
 * Callers: any thread; one thread at a time for one struct. Private to common/crypto.
 */
#ifndef CMQ_SECRET_H
#define CMQ_SECRET_H

#include <sys/types.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

/* What a forked child finds. ABSENT: nothing, an access is a fault; for keys, so that no child ever seals
 * under a key of zeros. ZERO: zero bytes; for state whose all-zero form means "empty". */
enum cmq_secret_fork { CMQ_SECRET_FORK_ABSENT, CMQ_SECRET_FORK_ZERO };

struct cmq_secret {
    uint8_t *data;
    size_t bytes;
    size_t bytes_locked;
    enum cmq_secret_fork fork;
    pid_t owner;
};

CMQ_MUST_USE enum cmq_err cmq_secret_init(struct cmq_secret *ret_secret, size_t bytes,
                                          enum cmq_secret_fork fork, struct cmq_reason *reason);
/* Accepts a zeroed struct, also one inherited by a forked child. */
void cmq_secret_fini(struct cmq_secret *secret);

/* getrandom(2) without flags: waits until the kernel's generator is ready, once after boot. On failure dst is
 * cleansed. */
CMQ_MUST_USE enum cmq_err cmq_secret_random(void *dst, size_t bytes);
/* Not removed by the optimiser. */
void cmq_secret_cleanse(void *dst, size_t bytes);
/* Time depends on bytes only. */
bool cmq_secret_equal(const void *a, const void *b, size_t bytes);
bool cmq_secret_is_zero(const void *data, size_t bytes);

/* The system calls of this file; tests put others in. NULL brings the real ones back. */
struct cmq_secret_sys {
    int (*mlock)(const void *address, size_t bytes);
    int (*madvise)(void *address, size_t bytes, int advice);
    ssize_t (*getrandom)(void *dst, size_t bytes, unsigned flags);
};
void cmq_secret_set_sys(const struct cmq_secret_sys *sys);

#endif
