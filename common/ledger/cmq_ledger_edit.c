#include "common/ledger/cmq_ledger_edit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ledger/cmq_ledger_format.h"

struct edit {
    const char *name, *topic;
    bool remove;
    uint64_t start_seq;
    uint32_t start_index;
    struct cmq_ledger_row row; /* as it was */
};

/* A file of locks that this call had to make must not keep the dispatchers out. */
static int open_env(const char *path, unsigned flags, MDB_env **ret_env)
{
    char lock[CMQ_LEDGER_PATH_BYTES + 8];
    struct stat table;
    MDB_env *env = NULL;
    if (stat(path, &table) != 0)
        return errno;
    int code = mdb_env_create(&env);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxdbs(env, CMQ_LEDGER_TABLES_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxreaders(env, CMQ_LEDGER_READERS_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0600);
    if (code == MDB_SUCCESS)
        code = cmq_ledger_check_size(env);
    (void)snprintf(lock, sizeof lock, "%s-lock", path);
    if (code == MDB_SUCCESS && geteuid() == 0 && chown(lock, table.st_uid, table.st_gid) != 0)
        code = errno;
    if (code == MDB_SUCCESS)
        *ret_env = env;
    else if (env != NULL)
        mdb_env_close(env);
    return code;
}

/* Removes all rows of the id. */
static int remove_rows(MDB_txn *txn, const char *table, uint32_t id)
{
    MDB_dbi dbi;
    MDB_cursor *cursor = NULL;
    uint64_t seq;
    int code = mdb_dbi_open(txn, table, 0, &dbi);
    if (code == MDB_SUCCESS)
        code = mdb_cursor_open(txn, dbi, &cursor);
    while (code == MDB_SUCCESS) {
        struct cmq_ledger_key buffer;
        MDB_val value, key = cmq_ledger_key_seq(&buffer, id, 0);
        code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (code != MDB_SUCCESS || !cmq_ledger_key_is(&key, id, &seq))
            break;
        code = mdb_cursor_del(cursor, 0);
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

static int put_number(MDB_txn *txn, MDB_dbi groups, const char *name, uint32_t number)
{
    MDB_val key = {.mv_size = strlen(name) + 1, .mv_data = (void *)(uintptr_t)name};
    MDB_val value = {.mv_size = sizeof number, .mv_data = &number};
    return mdb_put(txn, groups, &key, &value, 0);
}

/* The next id: what is stored, or behind all that there are. */
static int read_next(MDB_txn *txn, MDB_dbi groups, uint32_t *ret_next)
{
    MDB_cursor *cursor = NULL;
    MDB_val value,
        key = {.mv_size = sizeof CMQ_LEDGER_NEXT_KEY, .mv_data = (void *)(uintptr_t)CMQ_LEDGER_NEXT_KEY};
    struct cmq_ledger_row row;
    uint32_t next = 1;
    int code = mdb_get(txn, groups, &key, &value);
    if (code == MDB_SUCCESS && value.mv_size == sizeof next)
        memcpy(&next, value.mv_data, sizeof next);
    if (code == MDB_SUCCESS || code == MDB_NOTFOUND)
        code = mdb_cursor_open(txn, groups, &cursor);
    if (code != MDB_SUCCESS)
        return code;
    for (code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); code == MDB_SUCCESS;
         code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (!cmq_ledger_key_is_name(&key))
            continue;
        cmq_ledger_row_read(&value, &row);
        next = row.id >= next ? row.id + 1 : next;
    }
    mdb_cursor_close(cursor);
    *ret_next = next;
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

static int put_row(MDB_txn *txn, MDB_dbi groups, const struct edit *edit)
{
    uint32_t next = 0;
    MDB_val key = {.mv_size = strlen(edit->name), .mv_data = (void *)(uintptr_t)edit->name};
    int code = read_next(txn, groups, &next);
    if (code == MDB_SUCCESS && edit->remove) {
        code = mdb_del(txn, groups, &key, NULL);
    } else if (code == MDB_SUCCESS) {
        struct cmq_ledger_row row = edit->row;
        row.id = next++;
        row.start_seq = edit->start_seq;
        row.start_index = edit->start_index;
        MDB_val value = {.mv_size = sizeof row, .mv_data = &row};
        code = mdb_put(txn, groups, &key, &value, 0);
    }
    if (code == MDB_SUCCESS)
        code = put_number(txn, groups, CMQ_LEDGER_NEXT_KEY, next);
    return code == MDB_SUCCESS ? put_number(txn, groups, CMQ_LEDGER_FORMAT_KEY, CMQ_LEDGER_FORMAT_MAX) : code;
}

/* MDB_NOTFOUND: no such group; MDB_KEYEXIST: with another topic. */
static int change_acks(MDB_txn *txn, struct edit *edit, uint32_t *ret_format)
{
    MDB_dbi groups;
    MDB_val value, key = {.mv_size = strlen(edit->name), .mv_data = (void *)(uintptr_t)edit->name};
    int code = mdb_dbi_open(txn, "groups", 0, &groups);
    if (code == MDB_SUCCESS)
        code = cmq_ledger_format_read(txn, groups, ret_format);
    if (code == MDB_SUCCESS && *ret_format > CMQ_LEDGER_FORMAT_MAX)
        return MDB_INCOMPATIBLE;
    if (code == MDB_SUCCESS)
        code = mdb_get(txn, groups, &key, &value);
    if (code != MDB_SUCCESS)
        return code;
    cmq_ledger_row_read(&value, &edit->row);
    if (strcmp(edit->row.topic, edit->topic) != 0)
        return MDB_KEYEXIST;
    code = put_row(txn, groups, edit);
    if (code == MDB_SUCCESS)
        code = remove_rows(txn, "done", edit->row.id);
    return code == MDB_SUCCESS ? remove_rows(txn, "acked", edit->row.id) : code;
}

static int commit_acks(const char *path, struct edit *edit, uint32_t *ret_format)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    int code = open_env(path, 0, &env);
    if (code != MDB_SUCCESS)
        return code;
    code = mdb_txn_begin(env, NULL, 0, &txn);
    if (code == MDB_SUCCESS)
        code = change_acks(txn, edit, ret_format);
    if (code == MDB_SUCCESS)
        code = mdb_txn_commit(txn);
    else if (txn != NULL)
        mdb_txn_abort(txn);
    mdb_env_close(env);
    return code;
}

static enum cmq_err change(const char *directory, struct edit *edit, uint32_t *ret_old_id,
                           struct cmq_reason *reason)
{
    char path[CMQ_LEDGER_PATH_BYTES];
    uint32_t format = 0;
    if (snprintf(path, sizeof path, "%s/acks.mdb", directory) >= (int)sizeof path)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "dispatcher.groups_dir is too long");
    const int code = commit_acks(path, edit, &format);
    if (code == MDB_NOTFOUND || code == ENOENT)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "there is no group %s", edit->name);
    if (code == MDB_KEYEXIST)
        return cmq_reason_set(reason, CMQ_ERR_EXISTS, "group %s has topic %s, not %s", edit->name,
                              edit->row.topic, edit->topic);
    if (format > CMQ_LEDGER_FORMAT_MAX)
        return cmq_ledger_refuse_format(reason, path);
    if (code == EACCES)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s cannot be written; run this as root, or as the dispatcher's user", path);
    if (code != MDB_SUCCESS)
        return cmq_ledger_refuse(reason, path, code);
    *ret_old_id = edit->row.id;
    return CMQ_OK;
}

enum cmq_err cmq_ledger_move(const char *directory, const char *name, const char *topic, uint64_t start_seq,
                             uint32_t start_index, uint32_t *ret_old_id, struct cmq_reason *reason)
{
    struct edit edit = {.name = name, .topic = topic, .start_seq = start_seq, .start_index = start_index};
    return change(directory, &edit, ret_old_id, reason);
}

enum cmq_err cmq_ledger_remove(const char *directory, const char *name, const char *topic,
                               uint32_t *ret_old_id, struct cmq_reason *reason)
{
    struct edit edit = {.name = name, .topic = topic, .remove = true};
    return change(directory, &edit, ret_old_id, reason);
}

void cmq_ledger_forget_claims(const char *directory, uint32_t old_id)
{
    char path[CMQ_LEDGER_PATH_BYTES], name[CMQ_LEDGER_CLAIMS_BYTES];
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    if (cmq_ledger_claims_name(NULL, name, NULL) != CMQ_OK)
        return;
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path ||
        access(path, F_OK) != 0 || open_env(path, MDB_NOSYNC, &env) != MDB_SUCCESS)
        return;
    if (mdb_txn_begin(env, NULL, 0, &txn) == MDB_SUCCESS) {
        if (remove_rows(txn, NULL, old_id) == MDB_SUCCESS)
            (void)mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    mdb_env_close(env);
}
