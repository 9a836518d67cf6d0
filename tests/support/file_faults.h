/*
 * file_faults: one directory in memory behind cmq_file_ops, that fails, dies and loses power on demand.
 * Ownership: new/clone/free; everything in it belongs to it. Descriptors are its own.
 * Units: bytes; calls are counted from 0, all but close.
 * Errors: as cmq_file_ops; cmq_assert for misuse.
 * Callers: tests, one thread.
 *
 * What was written is `live` at once. It becomes durable by fdatasync of its file, names by fsync of the directory. A death
 * keeps what is live. A power cut keeps what is durable, and of the rest any part, in any order: a write whole, not at all,
 * or some of its 512-byte sectors; a size, a name, a removed name each or not.
 * A sync that fails forgets what it should have written, as Linux does: it is still read, but no later sync writes it.
 */
#ifndef FILE_FAULTS_H
#define FILE_FAULTS_H

#include "common/base/cmq_base.h"
#include "common/journal/cmq_file.h"

#define FILE_FAULTS_DIRECTORY "/log"

enum file_op {
    FILE_OPEN,
    FILE_PREAD,
    FILE_PWRITEV,
    FILE_FDATASYNC,
    FILE_FSYNC,
    FILE_ALLOCATE,
    FILE_TRUNCATE,
    FILE_RENAME,
    FILE_UNLINK,
    FILE_MKDIR,
    FILE_SIZE,
    FILE_LIST,
    FILE_LOCK,
    FILE_OPS
};

enum file_death { FILE_DEATH_BEFORE, FILE_DEATH_HALF, FILE_DEATH_AFTER }; /* HALF: a write is done in part */

struct file_faults;

/* The directory is there and empty. */
struct file_faults *file_faults_new(void);
/* A deep copy without open descriptors, locks and plans. */
struct file_faults *file_faults_clone(const struct file_faults *from);
void file_faults_free(struct file_faults *faults);
const struct cmq_file_ops *file_faults_ops(struct file_faults *faults);

uint64_t file_faults_calls(const struct file_faults *faults);
uint64_t file_faults_count(const struct file_faults *faults, enum file_op op);

/* From call number `call` on nothing has an effect any more: every call fails, as nobody is there to see. */
void file_faults_die_at(struct file_faults *faults, uint64_t call, enum file_death death);
bool file_faults_dead(const struct file_faults *faults);
/* The kernel's part of a death: descriptors and locks go. Calls work again and are counted from 0. */
void file_faults_revive(struct file_faults *faults);

/* The calls number skip, skip + 1, ... of this kind from now on, `times` of them, fail with this errno. */
void file_faults_fail(struct file_faults *faults, enum file_op op, uint64_t skip, uint64_t times, int error);
/* A pwritev writes at most so many bytes. 0: no limit. */
void file_faults_write_max(struct file_faults *faults, size_t bytes);
/* All files together may have so many bytes. */
void file_faults_space(struct file_faults *faults, uint64_t bytes);

/* Chooses one of `options`: 0 is "kept whole", 1 is "lost", others are in between. */
typedef uint32_t file_faults_choose(void *arg, uint32_t options);
/* Ends as after revive, with what the choices left. */
void file_faults_power_cut(struct file_faults *faults, file_faults_choose *choose, void *arg);

/* Tries all choices, one a round: init to zero, call next until it is false. */
struct file_faults_all {
    uint8_t taken[64], options[64];
    uint32_t depth, known;
};
uint32_t file_faults_choose_all(void *arg, uint32_t options);
bool file_faults_all_next(struct file_faults_all *all);
/* arg: uint64_t, the seed, moved on. */
uint32_t file_faults_choose_random(void *arg, uint32_t options);

/* Of names and bytes. */
uint32_t file_faults_digest(const struct file_faults *faults);
/* The live bytes; NULL: no such file. */
uint8_t *file_faults_bytes(struct file_faults *faults, const char *name, size_t *ret_bytes);
/* The index-th name that ends so, in order; false: there are fewer. */
bool file_faults_name(const struct file_faults *faults, const char *suffix, size_t index, char ret_name[64]);

#endif
