#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log/cmq_log.h"
#include "dispatcher/dsp_ledger_int.h"

enum { PROGRESS_RANGES_MAX = 32 };
static const size_t claims_bytes = 64u << 20; /* hundreds of thousands of claims */

/* ---- opening ---- */

static enum cmq_err open_env(const char *path, uint64_t map_bytes, unsigned flags, MDB_env **ret_env,
                             struct cmq_reason *reason)
{
    MDB_env *env = NULL;
    int code = mdb_env_create(&env);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_mapsize(env, map_bytes);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxdbs(env, CMQ_LEDGER_TABLES_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxreaders(env, CMQ_LEDGER_READERS_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0600);
    if (code == MDB_SUCCESS)
        code = cmq_ledger_check_size(env);
    if (code == MDB_SUCCESS) {
        int dead = 0;
        (void)mdb_reader_check(env, &dead);
        *ret_env = env;
        return CMQ_OK;
    }
    if (env != NULL)
        mdb_env_close(env);
    return cmq_ledger_refuse(reason, path, code);
}

static enum cmq_err check_format(MDB_txn *txn, MDB_dbi groups, const char *path, struct cmq_reason *reason)
{
    char name[] = CMQ_LEDGER_FORMAT_KEY;
    uint32_t format = 0, mine = CMQ_LEDGER_FORMAT;
    MDB_val key = {.mv_size = sizeof name, .mv_data = name},
            value = {.mv_size = sizeof mine, .mv_data = &mine};
    int code = cmq_ledger_format_read(txn, groups, &format);
    if (code == MDB_SUCCESS && format == 0)
        code = mdb_put(txn, groups, &key, &value, 0);
    else if (code == MDB_SUCCESS && format > CMQ_LEDGER_FORMAT_MAX)
        return cmq_ledger_refuse_format(reason, path);
    return code == MDB_SUCCESS ? CMQ_OK : cmq_ledger_refuse(reason, path, code);
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
        return err != CMQ_OK ? err : cmq_ledger_refuse(reason, path, code);
    }
    code = mdb_txn_commit(txn);
    return code == MDB_SUCCESS ? CMQ_OK : cmq_ledger_refuse(reason, path, code);
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
    return code == MDB_SUCCESS ? CMQ_OK : cmq_ledger_refuse(reason, path, code);
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
    char path[CMQ_LEDGER_PATH_BYTES], name[CMQ_LEDGER_CLAIMS_BYTES];
    if (strlen(setup->directory) > sizeof path - sizeof name - 2)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "dispatcher.groups_dir is too long");
    if (mkdir(setup->directory, 0700) != 0 && errno != EEXIST)
        return cmq_reason_set(reason, errno == EACCES ? CMQ_ERR_PERMISSION : CMQ_ERR_SYSTEM,
                              "%s: %s; dispatcher.groups_dir must be writable, or its parent directory",
                              setup->directory, strerror(errno));
    enum cmq_err err = cmq_ledger_claims_name(setup->boot_id, name, reason);
    if (err != CMQ_OK)
        return err;
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
    cmq_assert(setup->owner != CMQ_LEDGER_NOBODY);
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
        err = cmq_ledger_refuse(reason, setup->directory, code);
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

static void read_group(const MDB_val *key, const MDB_val *value, struct dsp_ledger_group *ret_group)
{
    struct cmq_ledger_row row;
    cmq_ledger_row_read(value, &row);
    *ret_group =
        (struct dsp_ledger_group){.id = row.id, .start_seq = row.start_seq, .start_index = row.start_index};
    memcpy(ret_group->topic, row.topic, sizeof row.topic);
    memcpy(ret_group->name, key->mv_data, key->mv_size);
}

/* The id of a new group, which no other one had. */
static int take_id(MDB_txn *txn, MDB_dbi groups, uint32_t *ret_id)
{
    char name[] = CMQ_LEDGER_NEXT_KEY;
    uint32_t next = 0;
    MDB_stat stat_of;
    MDB_val value, key = {.mv_size = sizeof name, .mv_data = name};
    int code = mdb_get(txn, groups, &key, &value);
    if (code ==
        MDB_NOTFOUND) { /* none was removed: the row of the format counts as one, so ids begin with 1 */
        code = mdb_stat(txn, groups, &stat_of);
        *ret_id = (uint32_t)stat_of.ms_entries;
        return code;
    }
    if (code != MDB_SUCCESS || value.mv_size != sizeof next)
        return code != MDB_SUCCESS ? code : MDB_CORRUPTED;
    memcpy(&next, value.mv_data, sizeof next);
    *ret_id = next++;
    value = (MDB_val){.mv_size = sizeof next, .mv_data = &next};
    return mdb_put(txn, groups, &key, &value, 0);
}

static int add_group(struct dsp_ledger *ledger, MDB_val *key, struct cmq_span topic, uint64_t start_seq,
                     uint32_t start_index, struct dsp_ledger_group *ret_group)
{
    MDB_txn *txn = NULL;
    MDB_val value;
    int code = mdb_txn_begin(ledger->tables->acks, NULL, 0, &txn);
    if (code != MDB_SUCCESS)
        return code;
    code = mdb_get(txn, ledger->tables->groups, key, &value); /* another dispatcher may have been first */
    if (code == MDB_SUCCESS) {
        read_group(key, &value, ret_group);
        mdb_txn_abort(txn);
        return MDB_SUCCESS;
    }
    uint32_t id = 0;
    if (code == MDB_NOTFOUND)
        code = take_id(txn, ledger->tables->groups, &id);
    if (code == MDB_SUCCESS) {
        struct cmq_ledger_row stored = {.start_seq = start_seq, .start_index = start_index, .id = id};
        memcpy(stored.topic, topic.data, topic.bytes);
        value = (MDB_val){.mv_size = sizeof stored, .mv_data = &stored};
        read_group(key, &value, ret_group);
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
            read_group(&key, &value, ret_group);
        mdb_txn_reset(ledger->acks_read);
    }
    if (code == MDB_NOTFOUND && topic.bytes > 0)
        code = add_group(ledger, &key, topic, start_seq, start_index, ret_group);
    if (code != MDB_SUCCESS)
        return cmq_ledger_err(code);
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
        if (cmq_ledger_key_is_name(&key) && index-- == 0)
            break;
    }
    read_group(&key, &value, &group);
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
        if (!cmq_ledger_key_is_name(&key))
            continue;
        if (key.mv_size == bytes && memcmp(key.mv_data, name, bytes) == 0)
            continue;
        memcpy(ret_progress->name, key.mv_data, key.mv_size);
        ret_progress->name[key.mv_size] = '\0';
        read_group(&key, &value, &ret_progress->group);
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
        return cmq_ledger_err(code);
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
    return cmq_ledger_err(code);
}

enum cmq_err dsp_ledger_state(struct dsp_ledger *ledger, size_t index, struct dsp_ledger_state *ret_state)
{
    MDB_cursor *cursor = NULL;
    MDB_txn *claims = NULL;
    uint32_t group = 0;
    int code = dsp_acks_begin(ledger);
    if (code != MDB_SUCCESS)
        return cmq_ledger_err(code);
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
    return cmq_ledger_err(code);
}
