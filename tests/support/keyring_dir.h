/*
 * keyring_dir: a directory with the three files of a keyring, for tests.
 * Ownership: begin makes a fresh directory, end removes it with everything in it.
 * Units: bytes.
 * Errors: a failure ends the test (cmocka).
 * Callers: the test thread.
 */
#ifndef KEYRING_DIR_H
#define KEYRING_DIR_H

#include "common/crypto/cmq_keyring.h"

struct keyring_dir {
    char path[64];
    char kek[96], delivery_kek[96], keyring[96];
    struct cmq_keyring_paths encryptor, delivery; /* encryptor is also the argument of create */
};

void keyring_dir_begin(struct keyring_dir *dir);
void keyring_dir_end(struct keyring_dir *dir);
/* begin, then cmq_keyring_create. */
void keyring_dir_create(struct keyring_dir *dir);
/* Opens one side; the test fails with the sentence if that is refused. */
struct cmq_keyring *keyring_dir_open(const struct keyring_dir *dir, enum cmq_keyring_side side);

/* Whole files; read returns the size. write replaces the file whatever it was. */
size_t keyring_dir_read(const char *path, uint8_t *dst, size_t bytes_max);
void keyring_dir_write(const char *path, const void *src, size_t bytes, unsigned mode);

#endif
