#include "common/ledger/cmq_ledger_look.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/ledger/cmq_ledger_format.h"

/* ---- memory ---- */

/* Room for one more; false: no memory. */
static bool reserve(void **array, size_t *capacity, size_t count, size_t bytes)
{
    if (count < *capacity)
        return true;
    const size_t more = *capacity == 0 ? 16 : *capacity * 2;
    void *grown = realloc(*array, more * bytes);
    if (grown == NULL)
        return false;
    *array = grown;
    *capacity = more;
    return true;
}

void cmq_ledger_look_free(struct cmq_ledger_look *look)
{
    for (size_t i = 0; i < look->count; i++) {
        free(look->groups[i].done);
        free(look->groups[i].partly);
    }
    free(look->groups);
    *look = (struct cmq_ledger_look){0};
}

const struct cmq_ledger_group *cmq_ledger_find(const struct cmq_ledger_look *look, const char *name)
{
    for (size_t i = 0; i < look->count; i++) {
        if (strcmp(look->groups[i].name, name) == 0)
            return &look->groups[i];
    }
    return NULL;
}

/* ---- acks ---- */

static int add_group(struct cmq_ledger_look *look, const MDB_val *key, const MDB_val *value)
{
    void *array = look->groups;
    if (!reserve(&array, &look->capacity, look->count, sizeof *look->groups))
        return ENOMEM;
    look->groups = array;
    struct cmq_ledger_group *group = &look->groups[look->count++];
    *group = (struct cmq_ledger_group){.floor = 0};
    memcpy(group->name, key->mv_data, key->mv_size);
    cmq_ledger_row_read(value, &group->row);
    group->floor = group->row.start_seq;
    return MDB_SUCCESS;
}

static int add_done(struct cmq_ledger_group *group, uint64_t from, uint64_t to)
{
    void *array = group->done;
    if (to <= group->floor)
        return MDB_SUCCESS;
    if (from <= group->floor) {
        group->floor = to;
        return MDB_SUCCESS;
    }
    if (!reserve(&array, &group->done_capacity, group->done_count, sizeof *group->done))
        return ENOMEM;
    group->done = array;
    group->done[group->done_count++] = (struct cmq_ledger_done){.from = from, .to = to};
    return MDB_SUCCESS;
}

static int add_acked(struct cmq_ledger_group *group, uint64_t seq, const MDB_val *value)
{
    void *array = group->partly;
    struct cmq_ledger_acked acked;
    uint64_t count = 0;
    for (size_t at = 0; at + sizeof acked <= value->mv_size; at += sizeof acked) {
        memcpy(&acked, (const uint8_t *)value->mv_data + at, sizeof acked);
        count += acked.attempts == 0 ? acked.count : 0;
    }
    if (count == 0)
        return MDB_SUCCESS;
    if (group->partly_count > 0 && group->partly[group->partly_count - 1].seq == seq) {
        group->partly[group->partly_count - 1].acked += count;
        return MDB_SUCCESS;
    }
    if (!reserve(&array, &group->partly_capacity, group->partly_count, sizeof *group->partly))
        return ENOMEM;
    group->partly = array;
    group->partly[group->partly_count++] = (struct cmq_ledger_partly){.seq = seq, .acked = count};
    return MDB_SUCCESS;
}

static int add_claim(struct cmq_ledger_group *group, uint64_t seq, const MDB_val *value)
{
    struct cmq_ledger_claim claim;
    if (seq == UINT64_MAX || value->mv_size != sizeof claim)
        return MDB_SUCCESS;
    memcpy(&claim, value->mv_data, sizeof claim);
    if (claim.owner == CMQ_LEDGER_NOBODY || claim.to <= seq)
        return MDB_SUCCESS;
    group->claimed += claim.to - seq;
    for (size_t i = 0; i < group->owner_count; i++) {
        if (group->owners[i] == claim.owner)
            return MDB_SUCCESS;
    }
    if (group->owner_count < CMQ_COUNT_OF(group->owners))
        group->owners[group->owner_count++] = claim.owner;
    return MDB_SUCCESS;
}

enum rows { ROWS_DONE, ROWS_ACKED, ROWS_CLAIMS };

/* All rows of the group in one table. */
static int read_rows(MDB_cursor *cursor, struct cmq_ledger_group *group, enum rows rows)
{
    struct cmq_ledger_key buffer;
    MDB_val value, key = cmq_ledger_key_seq(&buffer, group->row.id, 0);
    uint64_t seq = 0;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (code == MDB_SUCCESS && cmq_ledger_key_is(&key, group->row.id, &seq)) {
        switch (rows) {
        case ROWS_DONE:
            code = add_done(group, seq, cmq_ledger_value_u64(&value));
            break;
        case ROWS_ACKED:
            code = add_acked(group, seq, &value);
            break;
        case ROWS_CLAIMS:
            code = add_claim(group, seq, &value);
            break;
        }
        if (code == MDB_SUCCESS)
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

static int read_table(MDB_txn *txn, const char *table, struct cmq_ledger_look *look, enum rows rows)
{
    MDB_dbi dbi;
    MDB_cursor *cursor = NULL;
    int code = mdb_dbi_open(txn, table, 0, &dbi);
    if (code == MDB_SUCCESS)
        code = mdb_cursor_open(txn, dbi, &cursor);
    for (size_t i = 0; code == MDB_SUCCESS && i < look->count; i++)
        code = read_rows(cursor, &look->groups[i], rows);
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    return code;
}

static int read_groups(MDB_txn *txn, MDB_dbi groups, struct cmq_ledger_look *look)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int code = mdb_cursor_open(txn, groups, &cursor);
    if (code != MDB_SUCCESS)
        return code;
    for (code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); code == MDB_SUCCESS;
         code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (cmq_ledger_key_is_name(&key))
            code = add_group(look, &key, &value);
        if (code != MDB_SUCCESS)
            break;
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

/* ---- files ---- */

static int open_env(const char *path, MDB_env **ret_env)
{
    char lock[CMQ_LEDGER_PATH_BYTES + 8];
    MDB_env *env = NULL;
    /* Without the file of locks no dispatcher has it open, and LMDB would make one. */
    (void)snprintf(lock, sizeof lock, "%s-lock", path);
    const unsigned no_lock = access(lock, F_OK) == 0 ? 0 : MDB_NOLOCK;
    int code = mdb_env_create(&env);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxdbs(env, CMQ_LEDGER_TABLES_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxreaders(env, CMQ_LEDGER_READERS_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOTLS | MDB_RDONLY | no_lock, 0600);
    if (code == MDB_SUCCESS)
        code = cmq_ledger_check_size(env);
    if (code == MDB_SUCCESS)
        *ret_env = env;
    else if (env != NULL)
        mdb_env_close(env);
    return code;
}

static int read_acks(MDB_env *env, struct cmq_ledger_look *look, uint32_t *ret_format)
{
    MDB_txn *txn = NULL;
    MDB_dbi groups;
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (code != MDB_SUCCESS)
        return code;
    code = mdb_dbi_open(txn, "groups", 0, &groups);
    if (code == MDB_SUCCESS)
        code = cmq_ledger_format_read(txn, groups, ret_format);
    if (code == MDB_SUCCESS && *ret_format <= CMQ_LEDGER_FORMAT_MAX) {
        code = read_groups(txn, groups, look);
        if (code == MDB_SUCCESS)
            code = read_table(txn, "done", look, ROWS_DONE);
        if (code == MDB_SUCCESS)
            code = read_table(txn, "acked", look, ROWS_ACKED);
    }
    mdb_txn_abort(txn);
    return code;
}

static int read_claims(const char *path, struct cmq_ledger_look *look)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    if (access(path, F_OK) != 0)
        return MDB_SUCCESS; /* nobody has claimed anything since the machine was started */
    int code = open_env(path, &env);
    if (code == MDB_SUCCESS)
        code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (code == MDB_SUCCESS)
        code = read_table(txn, NULL, look, ROWS_CLAIMS);
    if (txn != NULL)
        mdb_txn_abort(txn);
    if (env != NULL)
        mdb_env_close(env);
    return code;
}

enum cmq_err cmq_ledger_look(const char *directory, struct cmq_ledger_look *ret_look,
                             struct cmq_reason *reason)
{
    char path[CMQ_LEDGER_PATH_BYTES], claims[CMQ_LEDGER_CLAIMS_BYTES];
    struct cmq_ledger_look look = {0};
    MDB_env *env = NULL;
    uint32_t format = 0;
    enum cmq_err err = cmq_ledger_claims_name(NULL, claims, reason);
    if (err != CMQ_OK)
        return err;
    if (strlen(directory) + sizeof claims + 2 > sizeof path)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "dispatcher.groups_dir is too long");
    (void)snprintf(path, sizeof path, "%s/acks.mdb", directory);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "there are no groups in %s yet", directory);
    int code = open_env(path, &env);
    if (code == MDB_SUCCESS)
        code = read_acks(env, &look, &format);
    if (env != NULL)
        mdb_env_close(env);
    if (code == MDB_SUCCESS) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, claims);
        code = read_claims(path, &look);
    }
    if (code == MDB_SUCCESS && format <= CMQ_LEDGER_FORMAT_MAX) {
        *ret_look = look;
        return CMQ_OK;
    }
    cmq_ledger_look_free(&look);
    if (code == MDB_SUCCESS)
        return cmq_ledger_refuse_format(reason, path);
    if (code == EACCES)
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                              "%s cannot be read; run this as root, or as the dispatcher's user", path);
    return cmq_ledger_refuse(reason, path, code);
}
