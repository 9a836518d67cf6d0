#include "common/ledger/cmq_ledger_format.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { BOOT_ID_BYTES = 64 };

void cmq_ledger_row_read(const MDB_val *value, struct cmq_ledger_row *ret_row)
{
    struct cmq_ledger_row row = {0};
    memcpy(&row, value->mv_data, value->mv_size < sizeof row ? value->mv_size : sizeof row);
    row.topic[sizeof row.topic - 1] = '\0';
    *ret_row = row;
}

enum cmq_err cmq_ledger_claims_name(const char *boot_id, char ret_name[CMQ_LEDGER_CLAIMS_BYTES],
                                    struct cmq_reason *reason)
{
    char text[BOOT_ID_BYTES] = "";
    if (boot_id == NULL) {
        FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
        const bool ok = file != NULL && fgets(text, sizeof text, file) != NULL;
        if (file != NULL)
            (void)fclose(file);
        text[strcspn(text, "\n")] = '\0';
        if (!ok || text[0] == '\0' || strchr(text, '/') != NULL)
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "/proc/sys/kernel/random/boot_id cannot be read");
        boot_id = text;
    }
    (void)snprintf(ret_name, CMQ_LEDGER_CLAIMS_BYTES, "claims-%.*s.mdb", BOOT_ID_BYTES - 1, boot_id);
    return CMQ_OK;
}

int cmq_ledger_check_size(MDB_env *env)
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

int cmq_ledger_format_read(MDB_txn *txn, MDB_dbi groups, uint32_t *ret_format)
{
    char name[] = CMQ_LEDGER_FORMAT_KEY;
    MDB_val value, key = {.mv_size = sizeof name, .mv_data = name};
    int code = mdb_get(txn, groups, &key, &value);
    *ret_format = 0;
    if (code == MDB_SUCCESS) {
        *ret_format = UINT32_MAX;
        if (value.mv_size == sizeof *ret_format)
            memcpy(ret_format, value.mv_data, sizeof *ret_format);
    }
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

enum cmq_err cmq_ledger_err(int code)
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

enum cmq_err cmq_ledger_refuse(struct cmq_reason *reason, const char *path, int code)
{
    enum cmq_err err = cmq_ledger_err(code);
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

/* CMQ_ERR_VERSION through MDB_VERSION_MISMATCH would say "damaged". */
enum cmq_err cmq_ledger_refuse_format(struct cmq_reason *reason, const char *path)
{
    return cmq_reason_set(reason, CMQ_ERR_VERSION,
                          "%s was made by another version; use that version, or move the directory away",
                          path);
}
