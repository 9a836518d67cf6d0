/* Atomic updates when the n-th system call fails, or the process dies there, for every n; and their order on
 * disk. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/crypto/cmq_keyfile.h"
#include "common/crypto/cmq_keyring_int.h"
#include "tests/support/keyring_dir.h"

static struct keyring_dir dir;
static struct cmq_reason reason;

static int calls, bad_call; /* bad_call 0: none */
static bool is_deadly;
static const char *call_name;

static bool is_bad(const char *name)
{
    if (++calls != bad_call)
        return false;
    call_name = name;
    if (is_deadly)
        (void)raise(SIGKILL);
    errno = EIO;
    return true;
}

static int n_open(const char *path, int flags, mode_t mode)
{
    return is_bad("open") ? -1 : open(path, flags, mode);
}
static int n_fstat(int fd, struct stat *ret_stat)
{
    return is_bad("fstat") ? -1 : fstat(fd, ret_stat);
}
static ssize_t n_pread(int fd, void *dst, size_t bytes, off_t offset)
{
    return is_bad("pread") ? -1 : pread(fd, dst, bytes, offset);
}
/* In two parts, so that a death or an error can come in the middle. */
static ssize_t n_write(int fd, const void *src, size_t bytes)
{
    return is_bad("write") ? -1 : write(fd, src, (bytes + 1) / 2);
}
static int n_fchmod(int fd, mode_t mode)
{
    return is_bad("fchmod") ? -1 : fchmod(fd, mode);
}
static int n_fchown(int fd, uid_t owner, gid_t group)
{
    return is_bad("fchown") ? -1 : fchown(fd, owner, group);
}
static int n_fsync(int fd)
{
    return is_bad("fsync") ? -1 : fsync(fd);
}
static int n_close(int fd)
{
    bool bad = is_bad("close");
    int result = close(fd);
    return bad ? -1 : result;
}
static int n_unlink(const char *path)
{
    return is_bad("unlink") ? -1 : unlink(path);
}
static int n_rename(const char *from, const char *to, unsigned flags)
{
    return is_bad("rename") ? -1 : renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static const struct cmq_keyfile_sys n_sys = {.open = n_open,
                                             .fstat = n_fstat,
                                             .pread = n_pread,
                                             .write = n_write,
                                             .fchmod = n_fchmod,
                                             .fchown = n_fchown,
                                             .fsync = n_fsync,
                                             .close = n_close,
                                             .unlink = n_unlink,
                                             .rename = n_rename};

static enum cmq_err work_create(void)
{
    return cmq_keyring_create(&dir.encryptor, &reason);
}

static enum cmq_err work_rotate(void)
{
    struct cmq_keyring *keyring;
    enum cmq_err err = cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason);
    if (err == CMQ_OK) {
        err = cmq_keyring_rotate(keyring, ">", true, &reason);
        if (err != CMQ_OK)
            cmq_assert(cmq_keyring_count(keyring) == 1); /* the keys in use did not change */
        cmq_keyring_free(keyring);
    }
    return err;
}

static enum cmq_err work_reserve(void)
{
    struct cmq_keyring *keyring;
    const struct cmq_data_key *key;
    enum cmq_err err = cmq_keyring_open(&dir.encryptor, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason);
    if (err == CMQ_OK) {
        err = cmq_keyring_seal_key(keyring, cmq_span_make("default", 7), &key, &reason);
        cmq_keyring_free(keyring);
    }
    return err;
}

static bool n_th_call_works(enum cmq_err (*work)(void), int n, bool deadly)
{
    calls = 0;
    bad_call = n;
    is_deadly = deadly;
    call_name = "none";
    cmq_keyfile_set_sys(&n_sys);
    enum cmq_err err = CMQ_OK;
    if (!deadly) {
        err = work();
        cmq_keyfile_set_sys(NULL);
        if (err != CMQ_OK && strcmp(call_name, "none") == 0)
            fail_msg("refused without a fault: %s", reason.text);
        return err == CMQ_OK;
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(work() == CMQ_OK ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    cmq_keyfile_set_sys(NULL);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return !WIFSIGNALED(status);
}

/* Old or new, whole, both sides agree, no reservation lost; and the next change works, in spite of any
 * litter. */
static void check_after(enum cmq_err (*work)(void))
{
    struct cmq_keyring *keyring = keyring_dir_open(&dir, CMQ_KEYRING_ENCRYPTOR);
    struct cmq_keyring *delivery = keyring_dir_open(&dir, CMQ_KEYRING_DELIVERY);
    const struct cmq_data_key *key, *found;
    size_t count = cmq_keyring_count(keyring);
    uint64_t reserved = keyring->table->keys[0].seals_reserved;
    assert_true(count == 1 || (count == 2 && work == work_rotate));
    assert_true(reserved == 0 || (reserved == CMQ_KEY_SEALS_RESERVED && work == work_reserve));
    assert_int_equal(cmq_keyring_seal_key(keyring, cmq_span_make("x", 1), &key, &reason), CMQ_OK);
    assert_int_equal(key->epoch, count);
    assert_int_equal(cmq_keyring_find(delivery, key->key_id, &found), CMQ_OK);
    assert_memory_equal(key->key, found->key, CMQ_KEYRING_KEY_BYTES);
    assert_int_equal(cmq_keyring_rotate(keyring, ">", true, &reason), CMQ_OK);
    cmq_keyring_free(delivery);
    cmq_keyring_free(keyring);
    char litter[128];
    (void)snprintf(litter, sizeof litter, "%s.new", dir.keyring);
    assert_int_equal(access(litter, F_OK), -1);
}

static void every_call(enum cmq_err (*work)(void), bool deadly)
{
    int faults = 0;
    for (int n = 1;; n++) {
        keyring_dir_begin(&dir);
        if (work != work_create)
            assert_int_equal(work_create(), CMQ_OK);
        bool good = n_th_call_works(work, n, deadly);
        bool beyond = !deadly && calls < n;
        faults += !good;
        if (work == work_create)
            assert_int_equal(work_create(), CMQ_OK); /* the second run finishes what the first began */
        check_after(work);
        keyring_dir_end(&dir);
        if (beyond || (deadly && good))
            break;
    }
    assert_true(faults >= 15); /* the calls that a change cannot do without */
}

static void update_whose_nth_call_fails_leaves_the_old_keyring_or_the_new(void **state)
{
    (void)state;
    every_call(work_rotate, false);
    every_call(work_reserve, false);
}

static void update_that_dies_at_its_nth_call_leaves_the_old_keyring_or_the_new(void **state)
{
    (void)state;
    every_call(work_rotate, true);
    every_call(work_reserve, true);
}

static void create_whose_nth_call_fails_is_finished_by_the_next(void **state)
{
    (void)state;
    every_call(work_create, false);
}

static void create_that_dies_at_its_nth_call_is_finished_by_the_next(void **state)
{
    (void)state;
    every_call(work_create, true);
}

static char trace[512];

static void note(const char *what)
{
    size_t used = strlen(trace);
    (void)snprintf(trace + used, sizeof trace - used, "%s ", what);
}
static ssize_t t_write(int fd, const void *src, size_t bytes)
{
    note("write");
    return write(fd, src, bytes);
}
static int t_fsync(int fd)
{
    struct stat found;
    assert_int_equal(fstat(fd, &found), 0);
    note(S_ISDIR(found.st_mode) ? "fsync-directory" : "fsync-file");
    return fsync(fd);
}
static int t_rename(const char *from, const char *to, unsigned flags)
{
    note("rename");
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void update_is_written_synced_renamed_and_synced_in_this_order(void **state)
{
    (void)state;
    struct cmq_keyfile_sys sys = *cmq_keyfile_real_sys();
    keyring_dir_create(&dir);
    sys.write = t_write;
    sys.fsync = t_fsync;
    sys.rename = t_rename;
    cmq_keyfile_set_sys(&sys);
    trace[0] = '\0';
    assert_int_equal(work_rotate(), CMQ_OK);
    cmq_keyfile_set_sys(NULL);
    assert_string_equal(trace, "write fsync-file rename fsync-directory ");
    keyring_dir_end(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(update_whose_nth_call_fails_leaves_the_old_keyring_or_the_new),
        cmocka_unit_test(update_that_dies_at_its_nth_call_leaves_the_old_keyring_or_the_new),
        cmocka_unit_test(create_whose_nth_call_fails_is_finished_by_the_next),
        cmocka_unit_test(create_that_dies_at_its_nth_call_is_finished_by_the_next),
        cmocka_unit_test(update_is_written_synced_renamed_and_synced_in_this_order),
    };
    return cmocka_run_group_tests_name("cmq_keyfile_faults", tests, NULL, NULL);
}
