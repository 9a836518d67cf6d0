/* Unit tests of the key memory: what the kernel was told about the pages is read back from /proc/self/smaps.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/crypto/cmq_secret.h"

static int mlock_calls_left, madvise_calls_left;
static int random_calls;

static int some_mlock(const void *address, size_t bytes)
{
    if (mlock_calls_left-- > 0 && bytes == (size_t)sysconf(_SC_PAGESIZE))
        return mlock(address, bytes);
    errno = ENOMEM;
    return -1;
}

static int some_madvise(void *address, size_t bytes, int advice)
{
    if (madvise_calls_left-- > 0)
        return madvise(address, bytes, advice);
    errno = EINVAL;
    return -1;
}

/* Interrupted, then one byte, then two, ...: 0x01, 0x02 0x02, ... */
static ssize_t slow_random(void *dst, size_t bytes, unsigned flags)
{
    assert_int_equal(flags, 0);
    if (++random_calls % 2 == 1) {
        errno = EINTR;
        return -1;
    }
    size_t part = cmq_min_u64(bytes, (size_t)random_calls / 2);
    memset(dst, random_calls / 2, part);
    return (ssize_t)part;
}

static ssize_t broken_random(void *dst, size_t bytes, unsigned flags)
{
    (void)flags;
    if (++random_calls > 1) {
        errno = ENOSYS;
        return -1;
    }
    memset(dst, 0x5a, bytes / 2);
    return (ssize_t)(bytes / 2);
}

static int real_sys_again(void **state)
{
    (void)state;
    cmq_secret_set_sys(NULL);
    return 0;
}

/* The VmFlags of the mapping that begins at data, in blanks. */
static void vm_flags(const uint8_t *data, char *ret_flags, size_t bytes)
{
    char line[512], wanted[32];
    bool found = false;
    FILE *smaps = fopen("/proc/self/smaps", "re");
    assert_non_null(smaps);
    (void)snprintf(wanted, sizeof wanted, "%lx-", (unsigned long)(uintptr_t)data);
    ret_flags[0] = '\0';
    while (fgets(line, sizeof line, smaps) != NULL) {
        found = found || strncmp(line, wanted, strlen(wanted)) == 0;
        if (found && strncmp(line, "VmFlags:", 8) == 0) {
            (void)snprintf(ret_flags, bytes, "%s", line + 8);
            break;
        }
    }
    (void)fclose(smaps);
    assert_true(ret_flags[0] != '\0');
}

static int system_call_mlock(const void *address, size_t bytes)
{
    return (int)syscall(SYS_mlock, address, bytes);
}

/* AddressSanitizer makes mlock do nothing; the flag is then looked for after the system call itself. */
static void use_an_mlock_that_locks(void)
{
    static const struct cmq_secret_sys direct = {
        .mlock = system_call_mlock, .madvise = madvise, .getrandom = getrandom};
    char flags[512];
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(page != MAP_FAILED);
    assert_int_equal(madvise(page, 4096, MADV_DONTFORK), 0); /* else it may melt into a neighbour */
    assert_int_equal(mlock(page, 4096), 0);
    vm_flags(page, flags, sizeof flags);
    if (strstr(flags, " lo ") == NULL)
        cmq_secret_set_sys(&direct);
    (void)munmap(page, 4096);
}

static void secret_pages_are_zero_locked_and_left_out_of_core_dumps(void **state)
{
    (void)state;
    use_an_mlock_that_locks();
    static const char *const fork_flag[] = {
        [CMQ_SECRET_FORK_ABSENT] = " dc ", [CMQ_SECRET_FORK_ZERO] = " wf "};
    for (unsigned fork_kind = 0; fork_kind < CMQ_COUNT_OF(fork_flag); fork_kind++) {
        struct cmq_secret secret;
        char flags[512];
        assert_int_equal(cmq_secret_init(&secret, 5000, (enum cmq_secret_fork)fork_kind, NULL), CMQ_OK);
        assert_int_equal(secret.bytes, 8192);
        assert_int_equal(secret.bytes_locked, 8192);
        assert_true(cmq_secret_is_zero(secret.data, secret.bytes));
        vm_flags(secret.data, flags, sizeof flags);
        assert_non_null(strstr(flags, " lo "));
        assert_non_null(strstr(flags, " dd "));
        assert_non_null(strstr(flags, fork_flag[fork_kind]));
        cmq_secret_fini(&secret);
        assert_null(secret.data);
    }
}

static void secret_pages_are_gone_after_fini(void **state)
{
    (void)state;
    struct cmq_secret secret;
    unsigned char in_core;
    assert_int_equal(cmq_secret_init(&secret, 1, CMQ_SECRET_FORK_ABSENT, NULL), CMQ_OK);
    void *data = secret.data;
    cmq_secret_fini(&secret);
    assert_int_equal(mincore(data, 4096, &in_core), -1);
    assert_int_equal(errno, ENOMEM);
    cmq_secret_fini(&secret); /* a zeroed struct is accepted */
}

/* What a forked child sees: 0 the old byte, 1 a zero byte, 2 a fault, 3 freed without harm. */
static int child_sees(struct cmq_secret *secret, bool only_free)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGBUS, SIG_DFL);
        if (!only_free)
            _exit(*(volatile uint8_t *)secret->data == 0 ? 1 : 0);
        cmq_secret_fini(secret);
        _exit(3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? 2 : WEXITSTATUS(status);
}

static void secret_key_bytes_do_not_exist_in_a_forked_child(void **state)
{
    (void)state;
    struct cmq_secret secret;
    assert_int_equal(cmq_secret_init(&secret, 32, CMQ_SECRET_FORK_ABSENT, NULL), CMQ_OK);
    memset(secret.data, 0x77, 32);
    assert_int_equal(child_sees(&secret, false), 2);
    assert_int_equal(child_sees(&secret, true), 3);
    assert_int_equal(secret.data[31], 0x77);
    cmq_secret_fini(&secret);
}

static void secret_state_is_zero_in_a_forked_child(void **state)
{
    (void)state;
    struct cmq_secret secret;
    assert_int_equal(cmq_secret_init(&secret, 32, CMQ_SECRET_FORK_ZERO, NULL), CMQ_OK);
    memset(secret.data, 0x77, 32);
    assert_int_equal(child_sees(&secret, false), 1);
    assert_int_equal(child_sees(&secret, true), 3);
    assert_int_equal(secret.data[0], 0x77);
    cmq_secret_fini(&secret);
}

static void secret_that_cannot_be_locked_at_all_is_refused_with_the_limit_to_raise(void **state)
{
    (void)state;
    const struct cmq_secret_sys sys = {.mlock = some_mlock, .madvise = madvise};
    struct cmq_secret secret = {0};
    struct cmq_reason reason = {{0}};
    mlock_calls_left = 0;
    cmq_secret_set_sys(&sys);
    assert_int_equal(cmq_secret_init(&secret, 32, CMQ_SECRET_FORK_ABSENT, &reason), CMQ_ERR_SYSTEM);
    assert_non_null(strstr(reason.text, "LimitMEMLOCK"));
    assert_null(secret.data);
}

static void secret_is_locked_as_far_as_the_limit_goes(void **state)
{
    (void)state;
    const struct cmq_secret_sys sys = {.mlock = some_mlock, .madvise = madvise};
    struct cmq_secret secret;
    mlock_calls_left = 4; /* the whole is refused (and counted), then three pages of five */
    cmq_secret_set_sys(&sys);
    assert_int_equal(cmq_secret_init(&secret, 5 * 4096, CMQ_SECRET_FORK_ABSENT, NULL), CMQ_OK);
    assert_int_equal(secret.bytes_locked, 3 * 4096);
    assert_int_equal(secret.bytes, 5 * 4096);
    cmq_secret_fini(&secret);
}

static void secret_is_refused_when_the_kernel_cannot_keep_it_out_of_dumps_and_children(void **state)
{
    (void)state;
    const struct cmq_secret_sys sys = {.mlock = mlock, .madvise = some_madvise};
    cmq_secret_set_sys(&sys);
    for (int good = 0; good < 2; good++) {
        struct cmq_secret secret = {0};
        struct cmq_reason reason = {{0}};
        madvise_calls_left = good;
        assert_int_equal(cmq_secret_init(&secret, 32, CMQ_SECRET_FORK_ZERO, &reason), CMQ_ERR_SYSTEM);
        assert_non_null(strstr(reason.text, "core dumps"));
    }
}

static void random_bytes_are_collected_over_interruptions_and_short_reads(void **state)
{
    (void)state;
    static const uint8_t expected[] = {1, 2, 2, 3, 3, 3, 4, 4};
    const struct cmq_secret_sys sys = {.mlock = mlock, .madvise = madvise, .getrandom = slow_random};
    uint8_t bytes[sizeof expected];
    random_calls = 0;
    cmq_secret_set_sys(&sys);
    assert_int_equal(cmq_secret_random(bytes, sizeof bytes), CMQ_OK);
    assert_memory_equal(bytes, expected, sizeof bytes);
}

static void random_bytes_that_are_not_complete_are_cleansed(void **state)
{
    (void)state;
    const struct cmq_secret_sys sys = {.mlock = mlock, .madvise = madvise, .getrandom = broken_random};
    uint8_t bytes[64];
    random_calls = 0;
    memset(bytes, 0xff, sizeof bytes);
    cmq_secret_set_sys(&sys);
    assert_int_equal(cmq_secret_random(bytes, sizeof bytes), CMQ_ERR_SYSTEM);
    assert_true(cmq_secret_is_zero(bytes, sizeof bytes));
}

static void comparison_sees_every_byte(void **state)
{
    (void)state;
    uint8_t a[33] = {0}, b[33] = {0};
    assert_true(cmq_secret_equal(a, b, sizeof a));
    assert_true(cmq_secret_is_zero(a, sizeof a));
    for (size_t i = 0; i < sizeof b; i++) {
        b[i] = 0x80;
        assert_false(cmq_secret_equal(a, b, sizeof a));
        assert_false(cmq_secret_is_zero(b, sizeof b));
        b[i] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(secret_pages_are_zero_locked_and_left_out_of_core_dumps, real_sys_again),
        cmocka_unit_test(secret_pages_are_gone_after_fini),
        cmocka_unit_test(secret_key_bytes_do_not_exist_in_a_forked_child),
        cmocka_unit_test(secret_state_is_zero_in_a_forked_child),
        cmocka_unit_test_teardown(secret_that_cannot_be_locked_at_all_is_refused_with_the_limit_to_raise,
                                  real_sys_again),
        cmocka_unit_test_teardown(secret_is_locked_as_far_as_the_limit_goes, real_sys_again),
        cmocka_unit_test_teardown(secret_is_refused_when_the_kernel_cannot_keep_it_out_of_dumps_and_children,
                                  real_sys_again),
        cmocka_unit_test_teardown(random_bytes_are_collected_over_interruptions_and_short_reads,
                                  real_sys_again),
        cmocka_unit_test_teardown(random_bytes_that_are_not_complete_are_cleansed, real_sys_again),
        cmocka_unit_test(comparison_sees_every_byte),
    };
    return cmocka_run_group_tests_name("cmq_secret", tests, NULL, NULL);
}
