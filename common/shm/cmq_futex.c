#include "common/shm/cmq_futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

bool cmq_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_us)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000u),
                               .tv_nsec = (long)(timeout_us % 1000000u) * 1000};
    return syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, NULL, 0) < 0 && errno == ETIMEDOUT;
}

void cmq_futex_wake(_Atomic uint32_t *word, int waiters_max)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, waiters_max, NULL, NULL, 0);
}
