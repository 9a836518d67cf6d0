/*
 * Three tables: ids (what a message is known as -> entry), order (seq, index -> the key in ids, so that the oldest are
 * found without a search), meta (version, applied). An id that is published again after its window gets a new entry and
 * a new place in order; the old place then names an entry of another seq, and is removed alone.
 */
#include "encryptor/enc_idem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log/cmq_log.h"
#include "common/wire/cmq_batch.h"

enum {
    TABLES = 3,
    ENTRY_BYTES = 24 + CMQ_DIGEST_BYTES,
    PLACE_BYTES = 12,
    KEY_BYTES_MAX = CMQ_TOPIC_BYTES_MAX + 2 + CMQ_MESSAGE_ID_BYTES_MAX,
    EXPIRED_AT_ONCE = 512,
    BOOT_ID_BYTES = 36,
    PATH_BYTES = 320
};
#define VERSION     1u
#define MAP_BYTES   (64ull << 20) /* and for each entry: */
#define MAP_ENTRY   1100ull
#define FILE_PREFIX "ids-"

struct enc_idem {
    struct enc_idem_setup setup;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi ids, order, meta;
    uint64_t count;           /* with what the transaction did */
    uint64_t committed_count; /* without */
    uint64_t dropped;
};

static enum cmq_err err_of(int code)
{
    switch (code) {
    case 0:
        return CMQ_OK;
    case MDB_NOTFOUND:
        return CMQ_ERR_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return CMQ_ERR_FULL;
    case ENOMEM:
        return CMQ_ERR_NOMEM;
    case EACCES:
    case EPERM:
    case EROFS:
        return CMQ_ERR_PERMISSION;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
    case MDB_VERSION_MISMATCH:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
        return CMQ_ERR_CORRUPT;
    default: /* numbers of the library and the system */
        return CMQ_ERR_SYSTEM;
    }
}

/* ---- bytes ---- */

static void store_u64(uint8_t *dst, uint64_t value) /* big-endian: order sorts by it */
{
    for (unsigned i = 0; i < 8; i++)
        dst[i] = (uint8_t)(value >> (56u - 8u * i));
}

static void store_u32(uint8_t *dst, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        dst[i] = (uint8_t)(value >> (24u - 8u * i));
}

static uint64_t load_bytes(const void *src, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | ((const uint8_t *)src)[i];
    return value;
}

static MDB_val key_encode(uint8_t dst[KEY_BYTES_MAX], const struct enc_idem_key *key)
{
    cmq_assert(key->topic.bytes <= CMQ_TOPIC_BYTES_MAX && key->id.bytes <= CMQ_MESSAGE_ID_BYTES_MAX);
    size_t bytes = key->topic.bytes;
    memcpy(dst, key->topic.data, bytes);
    dst[bytes++] = 0; /* topics have none */
    dst[bytes++] = key->request ? 1 : 0;
    memcpy(dst + bytes, key->id.data, key->id.bytes);
    return (MDB_val){.mv_size = bytes + key->id.bytes, .mv_data = dst};
}

static MDB_val place_encode(uint8_t dst[PLACE_BYTES], uint64_t seq, uint32_t index)
{
    store_u64(dst, seq);
    store_u32(dst + 8, index);
    return (MDB_val){.mv_size = PLACE_BYTES, .mv_data = dst};
}

static void entry_encode(uint8_t dst[ENTRY_BYTES], const struct enc_idem_entry *entry)
{
    store_u64(dst, entry->seq);
    store_u32(dst + 8, entry->index);
    store_u32(dst + 12, entry->count);
    store_u64(dst + 16, entry->stored_at_ms);
    memcpy(dst + 24, entry->digest, CMQ_DIGEST_BYTES);
}

static enum cmq_err entry_decode(const MDB_val *value, struct enc_idem_entry *ret_entry)
{
    const uint8_t *src = value->mv_data;
    if (value->mv_size != ENTRY_BYTES)
        return CMQ_ERR_CORRUPT;
    ret_entry->seq = load_bytes(src, 8);
    ret_entry->index = (uint32_t)load_bytes(src + 8, 4);
    ret_entry->count = (uint32_t)load_bytes(src + 12, 4);
    ret_entry->stored_at_ms = load_bytes(src + 16, 8);
    memcpy(ret_entry->digest, src + 24, CMQ_DIGEST_BYTES);
    return CMQ_OK;
}

/* ---- files ---- */

static enum cmq_err boot_id_read(char ret_id[BOOT_ID_BYTES + 1], struct cmq_reason *reason)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, ret_id, BOOT_ID_BYTES);
    if (fd >= 0)
        (void)close(fd);
    if (got != BOOT_ID_BYTES)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the boot id cannot be read from /proc: %s",
                              strerror(errno));
    ret_id[BOOT_ID_BYTES] = '\0';
    return CMQ_OK;
}

static enum cmq_err file_path(const struct enc_idem_setup *setup, char ret_path[PATH_BYTES],
                              struct cmq_reason *reason)
{
    char system_id[BOOT_ID_BYTES + 1];
    const char *id = setup->boot_id;
    if (id == NULL) {
        enum cmq_err err = boot_id_read(system_id, reason);
        if (err != CMQ_OK)
            return err;
        id = system_id;
    }
    int bytes = snprintf(ret_path, PATH_BYTES, "%s/" FILE_PREFIX "%s.mdb", setup->directory, id);
    cmq_assert(bytes > 0 && bytes < PATH_BYTES);
    return CMQ_OK;
}

/* Removes the tables of other boots; with keep NULL all of them. */
static enum cmq_err remove_files(const struct enc_idem_setup *setup, const char *keep,
                                 struct cmq_reason *reason)
{
    DIR *dir = opendir(setup->directory);
    if (dir == NULL)
        return errno == ENOENT ? CMQ_OK
                               : cmq_reason_set(reason, err_of(errno), "%s cannot be read: %s",
                                                setup->directory, strerror(errno));
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, FILE_PREFIX, strlen(FILE_PREFIX)) == 0 &&
            (keep == NULL || strcmp(entry->d_name, keep) != 0))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
    return CMQ_OK;
}

void enc_idem_discard(const struct enc_idem_setup *setup)
{
    struct cmq_reason reason;
    if (remove_files(setup, NULL, &reason) != CMQ_OK)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_SYSTEM_ERROR, "what=message_ids reason=\"%s\"", reason.text);
}

/* ---- transactions ---- */

static int begin(struct enc_idem *idem)
{
    return idem->txn != NULL ? 0 : mdb_txn_begin(idem->env, NULL, 0, &idem->txn);
}

void enc_idem_abort(struct enc_idem *idem)
{
    if (idem->txn != NULL)
        mdb_txn_abort(idem->txn);
    idem->txn = NULL;
    idem->count = idem->committed_count;
}

enum cmq_err enc_idem_commit(struct enc_idem *idem, uint64_t applied)
{
    uint8_t bytes[8];
    MDB_val key = {.mv_size = 7, .mv_data = (void *)(uintptr_t) "applied"};
    MDB_val value = {.mv_size = sizeof bytes, .mv_data = bytes};
    store_u64(bytes, applied);
    int code = begin(idem);
    if (code == 0)
        code = mdb_put(idem->txn, idem->meta, &key, &value, 0);
    if (code != 0) {
        enc_idem_abort(idem);
        return err_of(code);
    }
    code = mdb_txn_commit(idem->txn);
    idem->txn = NULL; /* freed whatever the result */
    if (code == 0)
        idem->committed_count = idem->count;
    else
        idem->count = idem->committed_count;
    return err_of(code);
}

/* ---- open ---- */

static int open_tables(struct enc_idem *idem)
{
    MDB_stat stat;
    int code = begin(idem);
    if (code == 0)
        code = mdb_dbi_open(idem->txn, "ids", MDB_CREATE, &idem->ids);
    if (code == 0)
        code = mdb_dbi_open(idem->txn, "order", MDB_CREATE, &idem->order);
    if (code == 0)
        code = mdb_dbi_open(idem->txn, "meta", MDB_CREATE, &idem->meta);
    if (code == 0)
        code = mdb_stat(idem->txn, idem->order, &stat);
    if (code == 0)
        idem->count = idem->committed_count = stat.ms_entries;
    return code;
}

/* meta's number, 0 if there is none. */
static enum cmq_err meta_read(struct enc_idem *idem, const char *name, uint64_t *ret_number)
{
    MDB_val key = {.mv_size = strlen(name), .mv_data = (void *)(uintptr_t)name}, value;
    int code = mdb_get(idem->txn, idem->meta, &key, &value);
    *ret_number = 0;
    if (code == MDB_NOTFOUND)
        return CMQ_OK;
    if (code == 0 && value.mv_size != 8)
        return CMQ_ERR_CORRUPT;
    if (code == 0)
        *ret_number = load_bytes(value.mv_data, 8);
    return err_of(code);
}

static enum cmq_err version_check(struct enc_idem *idem)
{
    uint64_t version;
    enum cmq_err err = meta_read(idem, "version", &version);
    if (err != CMQ_OK || version == VERSION)
        return err;
    if (version != 0)
        return CMQ_ERR_CORRUPT; /* another build's: it is built again */
    uint8_t bytes[8];
    MDB_val key = {.mv_size = 7, .mv_data = (void *)(uintptr_t) "version"};
    MDB_val value = {.mv_size = sizeof bytes, .mv_data = bytes};
    store_u64(bytes, VERSION);
    return err_of(mdb_put(idem->txn, idem->meta, &key, &value, 0));
}

/* Removes one place, and its entry if that is still the one of this place. */
static enum cmq_err remove_place(struct enc_idem *idem, MDB_cursor *cursor, const MDB_val *place,
                                 const MDB_val *named)
{
    MDB_val key = *named, value;
    struct enc_idem_entry entry;
    const uint64_t seq = load_bytes(place->mv_data, 8);
    const uint32_t index = (uint32_t)load_bytes((const uint8_t *)place->mv_data + 8, 4);
    int code = mdb_get(idem->txn, idem->ids, &key, &value);
    if (code == 0) {
        if (entry_decode(&value, &entry) != CMQ_OK)
            return CMQ_ERR_CORRUPT;
        if (entry.seq == seq && entry.index == index)
            code = mdb_del(idem->txn, idem->ids, &key, NULL);
    } else if (code == MDB_NOTFOUND) {
        code = 0;
    }
    if (code == 0)
        code = mdb_cursor_del(cursor, 0);
    if (code == 0 && idem->count > 0)
        idem->count--;
    return err_of(code);
}

/* Entries of records that the log does not have: their group was never appended. */
static enum cmq_err cut_tail(struct enc_idem *idem, uint64_t next_seq)
{
    MDB_cursor *cursor = NULL;
    MDB_val place, named;
    enum cmq_err err = err_of(mdb_cursor_open(idem->txn, idem->order, &cursor));
    while (err == CMQ_OK) {
        err = err_of(mdb_cursor_get(cursor, &place, &named, MDB_LAST));
        if (err == CMQ_OK && place.mv_size != PLACE_BYTES)
            err = CMQ_ERR_CORRUPT;
        if (err != CMQ_OK || load_bytes(place.mv_data, 8) < next_seq)
            break;
        err = remove_place(idem, cursor, &place, &named);
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    return err == CMQ_ERR_NOT_FOUND ? CMQ_OK : err;
}

/* The environment alone. On CORRUPT the caller removes the files and calls again. */
static enum cmq_err open_file(struct enc_idem *idem, const char *path, uint64_t next_seq,
                              uint64_t *ret_applied)
{
    /* The log lock keeps everybody else out, so LMDB's own locks, and a lock file of dead processes, are not needed. */
    const unsigned flags = MDB_NOSUBDIR | MDB_NOSYNC | MDB_NOLOCK | MDB_NORDAHEAD;
    int code = mdb_env_create(&idem->env);
    if (code == 0)
        code = mdb_env_set_maxdbs(idem->env, TABLES);
    if (code == 0)
        code = mdb_env_set_mapsize(idem->env, (size_t)(MAP_BYTES + idem->setup.entries_max * MAP_ENTRY));
    if (code == 0)
        code = mdb_env_open(idem->env, path, flags, 0600);
    if (code == 0)
        code = open_tables(idem);
    enum cmq_err err = err_of(code);
    if (err == CMQ_OK)
        err = version_check(idem);
    if (err == CMQ_OK)
        err = meta_read(idem, "applied", ret_applied);
    if (err == CMQ_OK && *ret_applied > next_seq)
        err = CMQ_ERR_CORRUPT; /* the table of another log */
    if (err == CMQ_OK)
        err = cut_tail(idem, next_seq);
    return err == CMQ_OK ? enc_idem_commit(idem, *ret_applied) : err;
}

static void close_file(struct enc_idem *idem)
{
    enc_idem_abort(idem);
    if (idem->env != NULL)
        mdb_env_close(idem->env);
    idem->env = NULL;
}

enum cmq_err enc_idem_open(const struct enc_idem_setup *setup, uint64_t next_seq, struct enc_idem **ret_idem,
                           uint64_t *ret_applied, struct cmq_reason *reason)
{
    char path[PATH_BYTES];
    enum cmq_err err = file_path(setup, path, reason);
    if (err != CMQ_OK)
        return err;
    if (mkdir(setup->directory, 0700) != 0 && errno != EEXIST)
        return cmq_reason_set(reason, err_of(errno), "directory %s cannot be made: %s", setup->directory,
                              strerror(errno));
    err = remove_files(setup, strrchr(path, '/') + 1, reason);
    if (err != CMQ_OK)
        return err;
    struct enc_idem *idem = calloc(1, sizeof *idem);
    if (idem == NULL)
        return CMQ_ERR_NOMEM;
    idem->setup = *setup;
    *ret_applied = 0;
    err = open_file(idem, path, next_seq, ret_applied);
    if (err == CMQ_ERR_CORRUPT) {
        close_file(idem);
        (void)unlink(path);
        *ret_applied = 0;
        err = open_file(idem, path, next_seq, ret_applied);
    }
    if (err != CMQ_OK) {
        close_file(idem);
        free(idem);
        return cmq_reason_set(reason, err, "the table of message ids %s cannot be opened: %s", path,
                              cmq_err_text(err));
    }
    *ret_idem = idem;
    return CMQ_OK;
}

void enc_idem_close(struct enc_idem *idem)
{
    if (idem == NULL)
        return;
    close_file(idem);
    free(idem);
}

/* ---- entries ---- */

/* A time far ahead is as old as one far behind: the clock was wrong then. */
static bool within(const struct enc_idem *idem, uint64_t stored_at_ms, uint64_t now_ms)
{
    uint64_t apart = stored_at_ms > now_ms ? stored_at_ms - now_ms : now_ms - stored_at_ms;
    return apart < idem->setup.window_ms;
}

enum cmq_err enc_idem_find(struct enc_idem *idem, const struct enc_idem_key *key, uint64_t now_ms,
                           struct enc_idem_entry *ret_entry)
{
    uint8_t bytes[KEY_BYTES_MAX];
    struct enc_idem_entry entry;
    MDB_val name = key_encode(bytes, key), value;
    int code = begin(idem);
    if (code == 0)
        code = mdb_get(idem->txn, idem->ids, &name, &value);
    enum cmq_err err = err_of(code);
    if (err == CMQ_OK)
        err = entry_decode(&value, &entry);
    if (err == CMQ_OK && !within(idem, entry.stored_at_ms, now_ms))
        err = CMQ_ERR_NOT_FOUND;
    if (err == CMQ_OK)
        *ret_entry = entry;
    return err;
}

/* Removes the oldest while they are out of the window, or (now_ms 0) one whatever its age. */
static enum cmq_err remove_oldest(struct enc_idem *idem, uint64_t now_ms, unsigned most)
{
    MDB_cursor *cursor = NULL;
    MDB_val place, named, value;
    struct enc_idem_entry entry;
    int code = begin(idem);
    enum cmq_err err = err_of(code);
    if (err == CMQ_OK)
        err = err_of(mdb_cursor_open(idem->txn, idem->order, &cursor));
    for (unsigned i = 0; err == CMQ_OK && i < most; i++) {
        err = err_of(mdb_cursor_get(cursor, &place, &named, MDB_FIRST));
        if (err == CMQ_OK && place.mv_size != PLACE_BYTES)
            err = CMQ_ERR_CORRUPT;
        if (err == CMQ_OK && now_ms != 0 && mdb_get(idem->txn, idem->ids, &named, &value) == 0) {
            err = entry_decode(&value, &entry);
            if (err == CMQ_OK && entry.seq == load_bytes(place.mv_data, 8) &&
                within(idem, entry.stored_at_ms, now_ms))
                break;
        }
        if (err == CMQ_OK)
            err = remove_place(idem, cursor, &place, &named);
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    return err == CMQ_ERR_NOT_FOUND ? CMQ_OK : err;
}

enum cmq_err enc_idem_put(struct enc_idem *idem, const struct enc_idem_key *key,
                          const struct enc_idem_entry *entry)
{
    uint8_t key_bytes[KEY_BYTES_MAX], entry_bytes[ENTRY_BYTES], place_bytes[PLACE_BYTES];
    MDB_val name = key_encode(key_bytes, key);
    MDB_val value = {.mv_size = ENTRY_BYTES, .mv_data = entry_bytes};
    MDB_val place = place_encode(place_bytes, entry->seq, entry->index), old;
    entry_encode(entry_bytes, entry);
    int code = begin(idem);
    if (code == 0)
        code = mdb_put(idem->txn, idem->ids, &name, &value, 0);
    bool fresh = code == 0 && mdb_get(idem->txn, idem->order, &place, &old) == MDB_NOTFOUND;
    if (code == 0)
        code = mdb_put(idem->txn, idem->order, &place, &name, 0);
    if (code == 0 && fresh)
        idem->count++;
    enum cmq_err err = err_of(code);
    if (err == CMQ_OK && idem->count > idem->setup.entries_max) {
        err = remove_oldest(idem, 0, 1);
        idem->dropped++;
    }
    return err;
}

enum cmq_err enc_idem_remove(struct enc_idem *idem, uint64_t seq, uint32_t index)
{
    uint8_t bytes[PLACE_BYTES];
    MDB_cursor *cursor = NULL;
    MDB_val place = place_encode(bytes, seq, index), named;
    int code = begin(idem);
    if (code == 0)
        code = mdb_cursor_open(idem->txn, idem->order, &cursor);
    if (code == 0)
        code = mdb_cursor_get(cursor, &place, &named, MDB_SET_KEY);
    enum cmq_err err = code == MDB_NOTFOUND ? CMQ_OK : err_of(code);
    if (code == 0)
        err = remove_place(idem, cursor, &place, &named);
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    return err;
}

enum cmq_err enc_idem_expire(struct enc_idem *idem, uint64_t now_ms)
{
    return idem->count == 0 ? CMQ_OK : remove_oldest(idem, now_ms, EXPIRED_AT_ONCE);
}

uint64_t enc_idem_count(const struct enc_idem *idem)
{
    return idem->count;
}

uint64_t enc_idem_dropped(const struct enc_idem *idem)
{
    return idem->dropped;
}
