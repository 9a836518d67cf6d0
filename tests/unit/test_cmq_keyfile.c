/* Unit tests of the files under a keyring: every refusal with its sentence and fix; owner and group of new
 * files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/crypto/cmq_kdf.h"
#include "common/crypto/cmq_keyfile.h"
#include "tests/support/keyring_dir.h"

enum { FOREIGN_USER = 4242, FILE_ROOM = 4096 };

static struct keyring_dir dir;
static struct cmq_reason reason;
static uint8_t file_bytes[FILE_ROOM];

static int dir_begin(void **state)
{
    (void)state;
    reason.text[0] = '\0';
    keyring_dir_create(&dir);
    return 0;
}

static int dir_end(void **state)
{
    (void)state;
    cmq_keyfile_set_sys(NULL);
    keyring_dir_end(&dir);
    return 0;
}

static void remove_file(const char *path)
{
    assert_int_equal(unlink(path), 0);
}

static void make_symlink(const char *path)
{
    char other[128];
    (void)snprintf(other, sizeof other, "%s.real", path);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
}

static void make_directory(const char *path)
{
    remove_file(path);
    assert_int_equal(mkdir(path, 0400), 0);
}

static void make_fifo(const char *path)
{
    remove_file(path);
    assert_int_equal(mkfifo(path, 0400), 0);
}

static void make_readable(const char *path)
{
    assert_int_equal(chmod(path, 0440), 0);
}

static void make_owner_writable(const char *path)
{
    assert_int_equal(chmod(path, 0600), 0);
}

static void make_setuid(const char *path)
{
    assert_int_equal(chmod(path, 04400), 0);
}

static void make_group_writable(const char *path)
{
    assert_int_equal(chmod(path, 0660), 0);
}

static void make_world_writable(const char *path)
{
    assert_int_equal(chmod(path, 0642), 0);
}

static int foreign_fstat(int fd, struct stat *ret_stat)
{
    int result = fstat(fd, ret_stat);
    ret_stat->st_uid = geteuid() + FOREIGN_USER;
    return result;
}

static void make_foreign(const char *path)
{
    static struct cmq_keyfile_sys sys;
    if (geteuid() == 0) {
        assert_int_equal(chown(path, FOREIGN_USER, (gid_t)-1), 0);
        return;
    }
    sys = *cmq_keyfile_real_sys();
    sys.fstat = foreign_fstat;
    cmq_keyfile_set_sys(&sys);
}

static int eacces_open(const char *path, int flags, mode_t mode)
{
    (void)path, (void)flags, (void)mode;
    errno = EACCES;
    return -1;
}

static void make_unreadable(const char *path)
{
    static struct cmq_keyfile_sys sys;
    (void)path;
    sys = *cmq_keyfile_real_sys();
    sys.open = eacces_open;
    cmq_keyfile_set_sys(&sys);
}

static ssize_t eio_pread(int fd, void *dst, size_t bytes, off_t offset)
{
    (void)fd, (void)dst, (void)bytes, (void)offset;
    errno = EIO;
    return -1;
}

static void make_bad_disk(const char *path)
{
    static struct cmq_keyfile_sys sys;
    (void)path;
    sys = *cmq_keyfile_real_sys();
    sys.pread = eio_pread;
    cmq_keyfile_set_sys(&sys);
}

static void make_short(const char *path)
{
    size_t bytes = keyring_dir_read(path, file_bytes, sizeof file_bytes);
    keyring_dir_write(path, file_bytes, bytes - 1, 0400);
}

static void make_long(const char *path)
{
    size_t bytes = keyring_dir_read(path, file_bytes, sizeof file_bytes);
    file_bytes[bytes] = '\n';
    keyring_dir_write(path, file_bytes, bytes + 1, 0400);
}

static void make_empty(const char *path)
{
    keyring_dir_write(path, "", 0, 0400);
}

static void make_zero(const char *path)
{
    memset(file_bytes, 0, 32);
    keyring_dir_write(path, file_bytes, 32, 0400);
}

static void make_other_key(const char *path)
{
    size_t bytes = keyring_dir_read(path, file_bytes, sizeof file_bytes);
    file_bytes[bytes / 2] ^= 0x10;
    keyring_dir_write(path, file_bytes, bytes, 0400);
}

static void make_text(const char *path)
{
    keyring_dir_write(path, "[encryptor]\nkek_file = /etc/ciphermq/kek\n", 41, 0400);
}

static void make_huge(const char *path)
{
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 16 << 20), 0);
}

static void make_version(const char *path, uint8_t version)
{
    size_t bytes = keyring_dir_read(path, file_bytes, sizeof file_bytes);
    file_bytes[8] = version;
    assert_int_equal(cmq_kdf_sha256(cmq_span_make(file_bytes, bytes - 32), file_bytes + bytes - 32), CMQ_OK);
    keyring_dir_write(path, file_bytes, bytes, 0400);
}

static void make_version_zero(const char *path)
{
    make_version(path, 0);
}

static void make_version_of_the_future(const char *path)
{
    make_version(path, 2);
}

enum which { KEK, KEYRING };

static const struct {
    enum which which;
    void (*make)(const char *path);
    enum cmq_err err;
    const char *says, *fix;
} refusals[] = {
    {KEK, remove_file, CMQ_ERR_NOT_FOUND, "does not exist", "ciphermqctl init"},
    {KEK, make_symlink, CMQ_ERR_PERMISSION, "is a symbolic link", "name the file itself"},
    {KEK, make_directory, CMQ_ERR_PERMISSION, "is not a regular file", "remove it"},
    {KEK, make_fifo, CMQ_ERR_PERMISSION, "is not a regular file", "remove it"},
    {KEK, make_readable, CMQ_ERR_PERMISSION, "has mode 0440", "chmod 0400"},
    {KEK, make_owner_writable, CMQ_ERR_PERMISSION, "has mode 0600", "chmod 0400"},
    {KEK, make_setuid, CMQ_ERR_PERMISSION, "has mode 4400", "chmod 0400"},
    {KEK, make_foreign, CMQ_ERR_PERMISSION, "belongs to user", "chown"},
    {KEK, make_unreadable, CMQ_ERR_PERMISSION, "may not be opened by user", "give the file to this user"},
    {KEK, make_bad_disk, CMQ_ERR_SYSTEM, "cannot read", "Input/output error"},
    {KEK, make_short, CMQ_ERR_KEY, "is truncated: it has 31 bytes, a key has 32", "backup"},
    {KEK, make_empty, CMQ_ERR_KEY, "is truncated: it has 0 bytes", "backup"},
    {KEK, make_long, CMQ_ERR_KEY, "is too long: it has 33 bytes, a key has 32", "backup"},
    {KEK, make_zero, CMQ_ERR_KEY, "holds zero bytes only", "backup"},
    {KEK, make_other_key, CMQ_ERR_KEY, "key of", "that belong together"},
    {KEYRING, remove_file, CMQ_ERR_NOT_FOUND, "does not exist", "ciphermqctl init"},
    {KEYRING, make_symlink, CMQ_ERR_PERMISSION, "is a symbolic link", "name the file itself"},
    {KEYRING, make_directory, CMQ_ERR_PERMISSION, "is not a regular file", "remove it"},
    {KEYRING, make_fifo, CMQ_ERR_PERMISSION, "is not a regular file", "remove it"},
    {KEYRING, make_group_writable, CMQ_ERR_PERMISSION, "has mode 0660", "chmod 0640"},
    {KEYRING, make_world_writable, CMQ_ERR_PERMISSION, "has mode 0642", "chmod 0640"},
    {KEYRING, make_empty, CMQ_ERR_MALFORMED, "is empty", "backup"},
    {KEYRING, make_short, CMQ_ERR_MALFORMED, "is truncated: it has 272 of its 273 bytes", "backup"},
    {KEYRING, make_long, CMQ_ERR_MALFORMED, "is longer than it was written", "backup"},
    {KEYRING, make_other_key, CMQ_ERR_MALFORMED, "its SHA-256 does not match", "backup"},
    {KEYRING, make_text, CMQ_ERR_MALFORMED, "is no keyring", "check the path"},
    {KEYRING, make_huge, CMQ_ERR_MALFORMED, "has 16777216 bytes, a keyring at most", "backup"},
    {KEYRING, make_version_zero, CMQ_ERR_VERSION, "has version 0, which never was", "backup"},
    {KEYRING, make_version_of_the_future, CMQ_ERR_VERSION, "has version 2, this program knows version 1",
     "upgrade this program"},
};

static void check_refusal(size_t row, enum cmq_keyring_side side)
{
    struct cmq_keyring *keyring = NULL;
    reason.text[0] = '\0';
    keyring_dir_create(&dir);
    const struct cmq_keyring_paths *paths = side == CMQ_KEYRING_ENCRYPTOR ? &dir.encryptor : &dir.delivery;
    const char *path = refusals[row].which == KEK ? paths->kek_file : paths->keyring_file;
    refusals[row].make(path);
    enum cmq_err err = cmq_keyring_open(paths, side, &keyring, &reason);
    cmq_keyfile_set_sys(NULL);
    if (err != refusals[row].err || strstr(reason.text, refusals[row].says) == NULL ||
        strstr(reason.text, refusals[row].fix) == NULL || strstr(reason.text, path) == NULL)
        fail_msg("row %zu, side %d: %s: %s", row, (int)side, cmq_err_text(err), reason.text);
    assert_null(keyring);
    keyring_dir_end(&dir);
}

static void every_unfit_file_is_refused_with_what_is_wrong_and_the_fix(void **state)
{
    (void)state;
    for (size_t i = 0; i < CMQ_COUNT_OF(refusals); i++) {
        check_refusal(i, CMQ_KEYRING_ENCRYPTOR);
        check_refusal(i, CMQ_KEYRING_DELIVERY);
    }
}

/* root finds the files of the stages' users when init runs again; a stage that runs as root does not take
 * them. */
static void create_takes_key_files_of_other_users_for_root_only(void **state)
{
    (void)state;
    struct cmq_keyring_paths paths = dir.encryptor;
    struct cmq_keyring *keyring;
    make_foreign(dir.kek);
    assert_int_equal(cmq_keyring_create(&paths, &reason), geteuid() == 0 ? CMQ_OK : CMQ_ERR_PERMISSION);
    assert_int_equal(cmq_keyring_open(&paths, CMQ_KEYRING_ENCRYPTOR, &keyring, &reason), CMQ_ERR_PERMISSION);
}

static void create_in_a_directory_that_is_missing_says_so(void **state)
{
    (void)state;
    const struct cmq_keyring_paths paths = {.kek_file = "/tmp/cmq-test-no-such-directory/kek",
                                            .delivery_kek_file =
                                                "/tmp/cmq-test-no-such-directory/delivery.kek",
                                            .keyring_file = "/tmp/cmq-test-no-such-directory/keyring"};
    assert_int_equal(cmq_keyring_create(&paths, &reason), CMQ_ERR_NOT_FOUND);
    assert_non_null(strstr(reason.text, "the directory of /tmp/cmq-test-no-such-directory/keyring.lock"));
}

static void path_that_is_empty_or_too_long_is_refused(void **state)
{
    (void)state;
    char path[CMQ_KEYFILE_PATH_MAX + 2];
    int fd;
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(cmq_keyfile_lock("", &fd, &reason), CMQ_ERR_INVALID);
    assert_int_equal(cmq_keyfile_lock(path, &fd, &reason), CMQ_ERR_INVALID);
    assert_int_equal(cmq_keyfile_write(path, cmq_span_make("x", 1), 0400, false, &reason), CMQ_ERR_INVALID);
}

static void new_file_does_not_replace_one_that_is_there(void **state)
{
    (void)state;
    assert_int_equal(cmq_keyfile_write(dir.kek, cmq_span_make("x", 1), 0400, true, &reason), CMQ_ERR_EXISTS);
    assert_int_equal(keyring_dir_read(dir.kek, file_bytes, sizeof file_bytes), 32);
    char aside[128];
    (void)snprintf(aside, sizeof aside, "%s.new", dir.kek);
    assert_int_equal(access(aside, F_OK), -1);
}

static int idle_unlink(const char *path)
{
    (void)path;
    return 0;
}

/* As if somebody made it again at once: what was not made by us is not written to. */
static void file_aside_that_cannot_be_made_new_is_not_used(void **state)
{
    (void)state;
    struct cmq_keyfile_sys sys = *cmq_keyfile_real_sys();
    char aside[128];
    (void)snprintf(aside, sizeof aside, "%s.new", dir.kek);
    keyring_dir_write(aside, "planted", 7, 0600);
    sys.unlink = idle_unlink;
    cmq_keyfile_set_sys(&sys);
    assert_int_equal(cmq_keyfile_write(dir.kek, cmq_span_make("x", 1), 0400, false, &reason), CMQ_ERR_SYSTEM);
    assert_int_equal(keyring_dir_read(aside, file_bytes, sizeof file_bytes), 7);
    assert_memory_equal(file_bytes, "planted", 7);
}

static uid_t chown_owner;
static gid_t chown_group;
static int chown_error;

static int record_fchown(int fd, uid_t owner, gid_t group)
{
    (void)fd;
    chown_owner = owner;
    chown_group = group;
    errno = chown_error;
    return chown_error == 0 ? 0 : -1;
}

/* Says of every open file that it has another group, so that the file that is written aside has to be
 * changed. */
static int other_group_fstat(int fd, struct stat *ret_stat)
{
    int result = fstat(fd, ret_stat);
    ret_stat->st_gid += 1;
    return result;
}

static void replaced_file_keeps_its_group_or_is_not_replaced(void **state)
{
    (void)state;
    struct cmq_keyfile_sys sys = *cmq_keyfile_real_sys();
    struct stat before, after;
    sys.fstat = other_group_fstat;
    sys.fchown = record_fchown;
    cmq_keyfile_set_sys(&sys);
    assert_int_equal(stat(dir.keyring, &before), 0);
    chown_error = 0;
    assert_int_equal(cmq_keyfile_write(dir.keyring, cmq_span_make("x", 1), 0640, false, &reason), CMQ_OK);
    assert_int_equal(chown_group, before.st_gid);
    assert_int_equal(stat(dir.keyring, &before), 0);
    chown_error = EPERM;
    assert_int_equal(cmq_keyfile_write(dir.keyring, cmq_span_make("yy", 2), 0640, false, &reason),
                     CMQ_ERR_PERMISSION);
    assert_non_null(strstr(reason.text, "make the user a member of that group"));
    assert_int_equal(stat(dir.keyring, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
}

/* As root, with real owners; as another user nothing but the own ids can be given. */
static void files_follow_the_owner_of_their_directory(void **state)
{
    (void)state;
    const bool root = geteuid() == 0;
    const uid_t user = root ? FOREIGN_USER : geteuid();
    const gid_t group = root ? FOREIGN_USER + 1 : getegid();
    struct stat found;
    struct keyring_dir own;
    keyring_dir_begin(&own);
    assert_int_equal(chown(own.path, user, group), 0);
    assert_int_equal(cmq_keyring_create(&own.encryptor, &reason), CMQ_OK);
    char lock[128];
    (void)snprintf(lock, sizeof lock, "%s.lock", own.keyring);
    const char *const path[] = {own.kek, own.delivery_kek, own.keyring, lock};
    for (size_t i = 0; i < CMQ_COUNT_OF(path); i++) {
        assert_int_equal(stat(path[i], &found), 0);
        assert_int_equal(found.st_uid, user);
        assert_int_equal(found.st_gid, group);
    }
    /* and a keyring that was given to another group stays there */
    const gid_t readers = root ? FOREIGN_USER + 2 : group;
    assert_int_equal(chown(own.keyring, user, readers), 0);
    assert_int_equal(cmq_keyfile_write(own.keyring, cmq_span_make("x", 1), 0640, false, &reason), CMQ_OK);
    assert_int_equal(stat(own.keyring, &found), 0);
    assert_int_equal(found.st_uid, user);
    assert_int_equal(found.st_gid, readers);
    assert_int_equal(found.st_mode & 07777, 0640);
    keyring_dir_end(&own);
}

#define DIR_TEST(name) cmocka_unit_test_setup_teardown(name, dir_begin, dir_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unfit_file_is_refused_with_what_is_wrong_and_the_fix),
        DIR_TEST(create_takes_key_files_of_other_users_for_root_only),
        DIR_TEST(create_in_a_directory_that_is_missing_says_so),
        DIR_TEST(path_that_is_empty_or_too_long_is_refused),
        DIR_TEST(new_file_does_not_replace_one_that_is_there),
        DIR_TEST(file_aside_that_cannot_be_made_new_is_not_used),
        DIR_TEST(replaced_file_keeps_its_group_or_is_not_replaced),
        cmocka_unit_test(files_follow_the_owner_of_their_directory),
    };
    return cmocka_run_group_tests_name("cmq_keyfile", tests, NULL, NULL);
}
