#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log/cmq_log.h"
#include "dispatcher/dsp_ledger_int.h"

enum {
    READERS_MAX = 256,
    TABLES_MAX = 8,
    FORMAT = 1,
    PATH_BYTES = 512,
    PROGRESS_RANGES_MAX = 32,
    BOOT_ID_BYTES = 64
};
static const size_t claims_bytes = 64u << 20; /* hundreds of thousands of claims */
static const char format_key[] = "format";

struct stored_group {
    uint64_t start_seq;
    uint32_t id;
    char topic[256];
    uint32_t start_index;
};

enum cmq_err dsp_ledger_err(int code)
{
    switch (code) {
    case MDB_SUCCESS:
        return CMQ_OK;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return CMQ_ERR_FULL;
    case MDB_NOTFOUND:
        return CMQ_ERR_NOT_FOUND;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return CMQ_ERR_CORRUPT;
    case ENOMEM:
        return CMQ_ERR_NOMEM;
    case EACCES:
    case EPERM:
    case EROFS:
        return CMQ_ERR_PERMISSION;
    default:
        return CMQ_ERR_SYSTEM;
    }
}

/* ---- opening ---- */

static enum cmq_err refuse(struct cmq_reason *reason, const char *path, int code)
{
    enum cmq_err err = dsp_ledger_err(code);
    if (err == CMQ_ERR_CORRUPT)
        return cmq_reason_set(
            reason, err,
            "%s is damaged (%s); stop all dispatchers and move the directory "
            "(dispatcher.groups_dir) away: groups begin anew, and everything that is still in "
            "the log is delivered again",
            path, mdb_strerror(code));
    if (err == CMQ_ERR_FULL)
        return cmq_reason_set(reason, err, "%s: %s; make room, or raise dispatcher.groups_bytes_max", path,
                              mdb_strerror(code));
    return cmq_reason_set(reason, err, "%s: %s", path, mdb_strerror(code));
}

/* LMDB maps the file and believes its head: what was cut off would be a SIGBUS later. */
static int check_size(MDB_env *env)
{
    MDB_envinfo info;
    MDB_stat stat_of;
    mdb_filehandle_t fd;
    struct stat file;
    int code = mdb_env_info(env, &info);
    if (code == MDB_SUCCESS)
        code = mdb_env_stat(env, &stat_of);
    if (code == MDB_SUCCESS)
        code = mdb_env_get_fd(env, &fd);
    if (code != MDB_SUCCESS || fstat(fd, &file) != 0)
        return code != MDB_SUCCESS ? code : errno;
    return (uint64_t)file.st_size >= (uint64_t)(info.me_last_pgno + 1) * stat_of.ms_psize ? MDB_SUCCESS
                                                                                          : MDB_CORRUPTED;
}

static enum cmq_err open_env(const char *path, uint64_t map_bytes, unsigned flags, MDB_env **ret_env,
                             struct cmq_reason *reason)
{
    MDB_env *env = NULL;
    int code = mdb_env_create(&env);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_mapsize(env, map_bytes);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxdbs(env, TABLES_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxreaders(env, READERS_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0600);
    if (code == MDB_SUCCESS)
        code = check_size(env);
    if (code == MDB_SUCCESS) {
        int dead = 0;
        (void)mdb_reader_check(env, &dead);
        *ret_env = env;
        return CMQ_OK;
    }
    if (env != NULL)
        mdb_env_close(env);
    return refuse(reason, path, code);
}

/* CMQ_ERR_VERSION through MDB_VERSION_MISMATCH would say "damaged". */
static enum cmq_err check_format(MDB_txn *txn, MDB_dbi groups, const char *path, struct cmq_reason *reason)
{
    uint32_t format = FORMAT;
    MDB_val key = {.mv_size = 0, .mv_data = NULL}, value = {.mv_size = sizeof format, .mv_data = &format};
    key.mv_size = sizeof format_key; /* with its NUL, which no group's name has */
    key.mv_data = (void *)(uintptr_t)format_key;
    int code = mdb_get(txn, groups, &key, &value);
    if (code == MDB_NOTFOUND)
        code = mdb_put(txn, groups, &key, &value, 0);
    else if (code == MDB_SUCCESS && (value.mv_size != sizeof format ||
                                     memcmp(value.mv_data, &(uint32_t){FORMAT}, sizeof format) != 0))
        return cmq_reason_set(reason, CMQ_ERR_VERSION,
                              "%s was made by another version; use that version, or move the directory away",
                              path);
    return code == MDB_SUCCESS ? CMQ_OK : refuse(reason, path, code);
}

static enum cmq_err open_acks(struct dsp_tables *tables, const char *path, uint64_t map_bytes,
                              struct cmq_reason *reason)
{
    MDB_txn *txn = NULL;
    enum cmq_err err = open_env(path, map_bytes, 0, &tables->acks, reason);
    if (err != CMQ_OK)
        return err;
    int code = mdb_txn_begin(tables->acks, NULL, 0, &txn);
    if (code == MDB_SUCCESS)
        code = mdb_dbi_open(txn, "groups", MDB_CREATE, &tables->groups);
    if (code == MDB_SUCCESS)
        code = mdb_dbi_open(txn, "done", MDB_CREATE, &tables->done);
    if (code == MDB_SUCCESS)
        code = mdb_dbi_open(txn, "acked", MDB_CREATE, &tables->acked);
    if (code == MDB_SUCCESS)
        err = check_format(txn, tables->groups, path, reason);
    if (code != MDB_SUCCESS || err != CMQ_OK) {
        if (txn != NULL)
            mdb_txn_abort(txn);
        return err != CMQ_OK ? err : refuse(reason, path, code);
    }
    code = mdb_txn_commit(txn);
    return code == MDB_SUCCESS ? CMQ_OK : refuse(reason, path, code);
}

static enum cmq_err open_claims(struct dsp_tables *tables, const char *path, struct cmq_reason *reason)
{
    MDB_txn *txn = NULL;
    enum cmq_err err = open_env(path, claims_bytes, MDB_NOSYNC, &tables->claims, reason);
    if (err != CMQ_OK)
        return err;
    int code = mdb_txn_begin(tables->claims, NULL, 0, &txn);
    if (code == MDB_SUCCESS)
        code = mdb_dbi_open(txn, NULL, MDB_CREATE, &tables->rows);
    if (code == MDB_SUCCESS)
        code = mdb_txn_commit(txn);
    else if (txn != NULL)
        mdb_txn_abort(txn);
    return code == MDB_SUCCESS ? CMQ_OK : refuse(reason, path, code);
}

static enum cmq_err find_boot_id(const char *given, char ret_boot_id[BOOT_ID_BYTES],
                                 struct cmq_reason *reason)
{
    char text[BOOT_ID_BYTES] = "";
    if (given != NULL) {
        (void)snprintf(ret_boot_id, BOOT_ID_BYTES, "%s", given);
        return CMQ_OK;
    }
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    bool ok = file != NULL && fgets(text, sizeof text, file) != NULL;
    if (file != NULL)
        (void)fclose(file);
    text[strcspn(text, "\n")] = '\0';
    if (!ok || text[0] == '\0' || strchr(text, '/') != NULL)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "/proc/sys/kernel/random/boot_id cannot be read");
    memcpy(ret_boot_id, text, sizeof text);
    return CMQ_OK;
}

/* Nobody of another boot lives; and what an unsynced file is after a power cut, nobody knows. */
static void remove_old_claims(const char *directory, const char *keep)
{
    DIR *dir = opendir(directory);
    if (dir == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, "claims-", 7) == 0 && strncmp(entry->d_name, keep, strlen(keep)) != 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
}

static void tables_free(struct dsp_tables *tables)
{
    if (tables == NULL || --tables->users > 0)
        return;
    if (tables->acks != NULL)
        mdb_env_close(tables->acks);
    if (tables->claims != NULL)
        mdb_env_close(tables->claims);
    free(tables);
}

/* The directory's own entry must be durable before anything in it is. */
static void sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    (void)close(fd);
}

static enum cmq_err open_tables(const struct dsp_ledger_setup *setup, struct dsp_tables *tables,
                                struct cmq_reason *reason)
{
    char path[PATH_BYTES], boot_id[BOOT_ID_BYTES], name[BOOT_ID_BYTES + 16];
    if (strlen(setup->directory) > PATH_BYTES - sizeof name - 2)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "dispatcher.groups_dir is too long");
    if (mkdir(setup->directory, 0700) != 0 && errno != EEXIST)
        return cmq_reason_set(reason, errno == EACCES ? CMQ_ERR_PERMISSION : CMQ_ERR_SYSTEM,
                              "%s: %s; dispatcher.groups_dir must be writable, or its parent directory",
                              setup->directory, strerror(errno));
    enum cmq_err err = find_boot_id(setup->boot_id, boot_id, reason);
    if (err != CMQ_OK)
        return err;
    (void)snprintf(name, sizeof name, "claims-%s.mdb", boot_id);
    remove_old_claims(setup->directory, name);
    (void)snprintf(path, sizeof path, "%s/acks.mdb", setup->directory);
    err = open_acks(tables, path, setup->map_bytes, reason);
    if (err != CMQ_OK)
        return err;
    sync_directory(setup->directory);
    (void)snprintf(path, sizeof path, "%s/..", setup->directory);
    sync_directory(path);
    (void)snprintf(path, sizeof path, "%s/%s", setup->directory, name);
    return open_claims(tables, path, reason);
}

enum cmq_err dsp_ledger_open(const struct dsp_ledger_setup *setup, struct dsp_ledger **ret_ledger,
                             struct cmq_reason *reason)
{
    cmq_assert(setup->owner != DSP_NOBODY);
    struct dsp_ledger *ledger = calloc(1, sizeof(*ledger));
    struct dsp_tables *tables = setup->beside != NULL ? setup->beside->tables : calloc(1, sizeof(*tables));
    enum cmq_err err = CMQ_OK;
    if (tables != NULL)
        tables->users++;
    if (ledger == NULL || tables == NULL)
        err = cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    else if (setup->beside == NULL)
        err = open_tables(setup, tables, reason);
    if (err == CMQ_OK) {
        *ledger = (struct dsp_ledger){
            .tables = tables, .owner = setup->owner, .is_alive = setup->is_alive, .context = setup->context};
        int code = mdb_txn_begin(tables->acks, NULL, MDB_RDONLY, &ledger->acks_read);
        if (code == MDB_SUCCESS) {
            mdb_txn_reset(ledger->acks_read);
            *ret_ledger = ledger;
            return CMQ_OK;
        }
        err = refuse(reason, setup->directory, code);
    }
    tables_free(tables);
    free(ledger);
    return err;
}

void dsp_ledger_abandon(struct dsp_ledger *ledger)
{
    mdb_txn_abort(ledger->acks_read);
    tables_free(ledger->tables);
    free(ledger);
}

void dsp_ledger_close(struct dsp_ledger *ledger)
{
    MDB_txn *txn = NULL;
    if (ledger == NULL)
        return;
    int code = mdb_txn_begin(ledger->tables->claims, NULL, 0, &txn);
    if (code == MDB_SUCCESS) {
        code = dsp_claims_free_all(txn, ledger);
        if (code == MDB_SUCCESS)
            code = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    if (code != MDB_SUCCESS) /* they are free when this process is gone */
        cmq_log(CMQ_LOG_WARN, CMQ_EV_SYSTEM_ERROR, "where=ledger_close err=\"%s\"", mdb_strerror(code));
    dsp_ledger_abandon(ledger);
}

int dsp_acks_begin(struct dsp_ledger *ledger)
{
    return mdb_txn_renew(ledger->acks_read);
}

/* ---- groups ---- */

static void read_group(const MDB_val *value, struct dsp_ledger_group *ret_group)
{
    struct stored_group stored = {0};
    memcpy(&stored, value->mv_data, value->mv_size < sizeof stored ? value->mv_size : sizeof stored);
    stored.topic[sizeof stored.topic - 1] = '\0';
    *ret_group = (struct dsp_ledger_group){
        .id = stored.id, .start_seq = stored.start_seq, .start_index = stored.start_index};
    memcpy(ret_group->topic, stored.topic, sizeof stored.topic);
}

static int add_group(struct dsp_ledger *ledger, MDB_val *key, struct cmq_span topic, uint64_t start_seq,
                     uint32_t start_index, struct dsp_ledger_group *ret_group)
{
    MDB_txn *txn = NULL;
    MDB_stat stat_of;
    MDB_val value;
    int code = mdb_txn_begin(ledger->tables->acks, NULL, 0, &txn);
    if (code != MDB_SUCCESS)
        return code;
    code = mdb_get(txn, ledger->tables->groups, key, &value); /* another dispatcher may have been first */
    if (code == MDB_SUCCESS) {
        read_group(&value, ret_group);
        mdb_txn_abort(txn);
        return MDB_SUCCESS;
    }
    if (code == MDB_NOTFOUND)
        code = mdb_stat(txn, ledger->tables->groups, &stat_of);
    if (code == MDB_SUCCESS) {
        /* The row of the format counts as one, so ids begin with 1; groups are never removed. */
        struct stored_group stored = {
            .start_seq = start_seq, .start_index = start_index, .id = (uint32_t)stat_of.ms_entries};
        memcpy(stored.topic, topic.data, topic.bytes);
        value = (MDB_val){.mv_size = sizeof stored, .mv_data = &stored};
        read_group(&value, ret_group);
        code = mdb_put(txn, ledger->tables->groups, key, &value, 0);
    }
    if (code == MDB_SUCCESS)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

enum cmq_err dsp_ledger_group(struct dsp_ledger *ledger, const char *name, struct cmq_span topic,
                              uint64_t start_seq, uint32_t start_index, struct dsp_ledger_group *ret_group)
{
    char text[DSP_GROUP_NAME_BYTES_MAX + 1];
    MDB_val value, key = {.mv_size = strlen(name), .mv_data = text};
    cmq_assert(key.mv_size > 0 && key.mv_size < sizeof text && topic.bytes < sizeof ret_group->topic);
    memcpy(text, name, key.mv_size + 1);
    int code = dsp_acks_begin(ledger);
    if (code == MDB_SUCCESS) {
        code = mdb_get(ledger->acks_read, ledger->tables->groups, &key, &value);
        if (code == MDB_SUCCESS)
            read_group(&value, ret_group);
        mdb_txn_reset(ledger->acks_read);
    }
    if (code == MDB_NOTFOUND && topic.bytes > 0)
        code = add_group(ledger, &key, topic, start_seq, start_index, ret_group);
    if (code != MDB_SUCCESS)
        return dsp_ledger_err(code);
    bool same =
        strlen(ret_group->topic) == topic.bytes && memcmp(ret_group->topic, topic.data, topic.bytes) == 0;
    return topic.bytes == 0 || same ? CMQ_OK : CMQ_ERR_EXISTS;
}

/* ---- state ---- */

static int read_state(struct dsp_ledger *ledger, MDB_cursor *cursor, size_t index,
                      struct dsp_ledger_state *ret_state, uint32_t *ret_group)
{
    struct dsp_ledger_group group;
    MDB_val key, value;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (;; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (code != MDB_SUCCESS)
            return code;
        if (key.mv_size <= DSP_GROUP_NAME_BYTES_MAX && memchr(key.mv_data, '\0', key.mv_size) == NULL &&
            index-- == 0)
            break;
    }
    read_group(&value, &group);
    *ret_state = (struct dsp_ledger_state){.floor = group.start_seq};
    memcpy(ret_state->name, key.mv_data, key.mv_size);
    memcpy(ret_state->topic, group.topic, sizeof group.topic);
    *ret_group = group.id;
    uint64_t from, to, next;
    code = dsp_done_find(ledger->acks_read, ledger->tables, group.id, group.start_seq, &from, &to, &next);
    if (code == MDB_SUCCESS)
        ret_state->floor = to;
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

uint64_t dsp_ledger_floor(struct dsp_ledger *ledger, const struct dsp_ledger_group *group)
{
    uint64_t from, to, next;
    if (dsp_acks_begin(ledger) != MDB_SUCCESS)
        return 0;
    int code =
        dsp_done_find(ledger->acks_read, ledger->tables, group->id, group->start_seq, &from, &to, &next);
    mdb_txn_reset(ledger->acks_read);
    return code == MDB_SUCCESS ? to : group->start_seq;
}

static int read_progress(struct dsp_ledger *ledger, struct dsp_ledger_progress *progress)
{
    uint64_t from, to, next = UINT64_MAX;
    const uint32_t group = progress->group.id;
    progress->floor = progress->group.start_seq;
    progress->done_above = 0;
    int code = dsp_done_find(ledger->acks_read, ledger->tables, group, progress->floor, &from, &to, &next);
    if (code == MDB_SUCCESS) {
        progress->floor = to;
        code = dsp_done_find(ledger->acks_read, ledger->tables, group, to, &from, &to, &next);
    }
    for (unsigned i = 0; code == MDB_NOTFOUND && next != UINT64_MAX && i < PROGRESS_RANGES_MAX; i++) {
        code = dsp_done_find(ledger->acks_read, ledger->tables, group, next, &from, &to, &next);
        if (code != MDB_SUCCESS)
            break;
        progress->done_above += to - from;
        code = dsp_done_find(ledger->acks_read, ledger->tables, group, to, &from, &to, &next);
    }
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

/* The row of the format has a name that no group can have: it is passed. */
static int find_next(MDB_cursor *cursor, const char *name, struct dsp_ledger_progress *ret_progress)
{
    char text[DSP_GROUP_NAME_BYTES_MAX + 1];
    const size_t bytes = strlen(name);
    MDB_val value, key = {.mv_size = bytes, .mv_data = text};
    memcpy(text, name, bytes + 1);
    int code = mdb_cursor_get(cursor, &key, &value, bytes == 0 ? MDB_FIRST : MDB_SET_RANGE);
    for (; code == MDB_SUCCESS; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size == 0 || key.mv_size > DSP_GROUP_NAME_BYTES_MAX ||
            memchr(key.mv_data, '\0', key.mv_size) != NULL)
            continue;
        if (key.mv_size == bytes && memcmp(key.mv_data, name, bytes) == 0)
            continue;
        memcpy(ret_progress->name, key.mv_data, key.mv_size);
        ret_progress->name[key.mv_size] = '\0';
        read_group(&value, &ret_progress->group);
        break;
    }
    return code;
}

enum cmq_err dsp_ledger_next(struct dsp_ledger *ledger, const char *name,
                             struct dsp_ledger_progress *ret_progress)
{
    MDB_cursor *cursor = NULL;
    struct dsp_ledger_progress progress;
    cmq_assert(strlen(name) <= DSP_GROUP_NAME_BYTES_MAX);
    int code = dsp_acks_begin(ledger);
    if (code != MDB_SUCCESS)
        return dsp_ledger_err(code);
    code = mdb_cursor_open(ledger->acks_read, ledger->tables->groups, &cursor);
    if (code == MDB_SUCCESS) {
        code = find_next(cursor, name, &progress);
        if (code == MDB_SUCCESS)
            code = read_progress(ledger, &progress);
        mdb_cursor_close(cursor);
    }
    mdb_txn_reset(ledger->acks_read);
    if (code == MDB_SUCCESS)
        *ret_progress = progress;
    return dsp_ledger_err(code);
}

enum cmq_err dsp_ledger_state(struct dsp_ledger *ledger, size_t index, struct dsp_ledger_state *ret_state)
{
    MDB_cursor *cursor = NULL;
    MDB_txn *claims = NULL;
    uint32_t group = 0;
    int code = dsp_acks_begin(ledger);
    if (code != MDB_SUCCESS)
        return dsp_ledger_err(code);
    code = mdb_cursor_open(ledger->acks_read, ledger->tables->groups, &cursor);
    if (code == MDB_SUCCESS) {
        code = read_state(ledger, cursor, index, ret_state, &group);
        mdb_cursor_close(cursor);
    }
    mdb_txn_reset(ledger->acks_read);
    if (code == MDB_SUCCESS)
        code = mdb_txn_begin(ledger->tables->claims, NULL, MDB_RDONLY, &claims);
    if (code == MDB_SUCCESS) {
        code = dsp_claims_count(claims, ledger->tables, group, &ret_state->claimed);
        mdb_txn_abort(claims);
    }
    return dsp_ledger_err(code);
}
