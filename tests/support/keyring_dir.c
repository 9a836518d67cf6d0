#include "tests/support/keyring_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void keyring_dir_begin(struct keyring_dir *dir)
{
    *dir = (struct keyring_dir){.path = "/tmp/cmq-test-keyring-XXXXXX"};
    assert_non_null(mkdtemp(dir->path));
    (void)snprintf(dir->kek, sizeof dir->kek, "%s/kek", dir->path);
    (void)snprintf(dir->delivery_kek, sizeof dir->delivery_kek, "%s/delivery.kek", dir->path);
    (void)snprintf(dir->keyring, sizeof dir->keyring, "%s/keyring", dir->path);
    dir->encryptor = (struct cmq_keyring_paths){
        .kek_file = dir->kek, .delivery_kek_file = dir->delivery_kek, .keyring_file = dir->keyring};
    dir->delivery = (struct cmq_keyring_paths){.kek_file = dir->delivery_kek, .keyring_file = dir->keyring};
}

void keyring_dir_end(struct keyring_dir *dir)
{
    DIR *all = opendir(dir->path);
    assert_non_null(all);
    for (struct dirent *entry = readdir(all); entry != NULL; entry = readdir(all)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(all), entry->d_name, 0) != 0)
            assert_int_equal(unlinkat(dirfd(all), entry->d_name, AT_REMOVEDIR), 0);
    }
    (void)closedir(all);
    assert_int_equal(rmdir(dir->path), 0);
}

void keyring_dir_create(struct keyring_dir *dir)
{
    struct cmq_reason reason = {{0}};
    keyring_dir_begin(dir);
    if (cmq_keyring_create(&dir->encryptor, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
}

struct cmq_keyring *keyring_dir_open(const struct keyring_dir *dir, enum cmq_keyring_side side)
{
    struct cmq_reason reason = {{0}};
    struct cmq_keyring *keyring = NULL;
    const struct cmq_keyring_paths *paths = side == CMQ_KEYRING_ENCRYPTOR ? &dir->encryptor : &dir->delivery;
    if (cmq_keyring_open(paths, side, &keyring, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
    return keyring;
}

size_t keyring_dir_read(const char *path, uint8_t *dst, size_t bytes_max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t got = read(fd, dst, bytes_max);
    assert_true(got >= 0);
    (void)close(fd);
    return (size_t)got;
}

void keyring_dir_write(const char *path, const void *src, size_t bytes, unsigned mode)
{
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    if (bytes != 0)
        assert_int_equal(write(fd, src, bytes), bytes);
    assert_int_equal(fchmod(fd, mode), 0);
    (void)close(fd);
}
