#include "ctl_backup_groups.h"

#include <errno.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 512, READERS_MAX = 256 };

/* A lock file that this call had to make (the dispatchers have never run) must not keep them out. */
static bool own_lock_file(const char *path, const struct stat *table)
{
    char lock[PATH_BYTES + 8];
    (void)snprintf(lock, sizeof lock, "%s-lock", path);
    return geteuid() != 0 || chown(lock, table->st_uid, table->st_gid) == 0;
}

enum cmq_err ctl_backup_groups(const char *groups_directory, int fd, struct cmq_reason *reason)
{
    char path[PATH_BYTES];
    struct stat table;
    MDB_env *env = NULL;
    if (snprintf(path, sizeof path, "%s/%s", groups_directory, CTL_GROUPS_NAME) >= (int)sizeof path)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "dispatcher.groups_dir is too long");
    if (stat(path, &table) != 0)
        return errno == ENOENT ? CMQ_ERR_NOT_FOUND
                               : cmq_reason_set(reason, CMQ_ERR_PERMISSION,
                                                "%s cannot be read: %s; run this as root, or as "
                                                "the dispatcher's user",
                                                path, strerror(errno));
    int code = mdb_env_create(&env);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxreaders(env, READERS_MAX);
    if (code == MDB_SUCCESS)
        code = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOTLS, 0600);
    if (code == MDB_SUCCESS && !own_lock_file(path, &table))
        code = errno;
    if (code == MDB_SUCCESS)
        code = mdb_env_copyfd2(env, fd, MDB_CP_COMPACT);
    if (env != NULL)
        mdb_env_close(env);
    if (code == MDB_SUCCESS)
        return CMQ_OK;
    return cmq_reason_set(reason, code == EACCES ? CMQ_ERR_PERMISSION : CMQ_ERR_SYSTEM,
                          "%s cannot be copied: %s%s", path, mdb_strerror(code),
                          code == EACCES ? "; run this as root, or as the dispatcher's user" : "");
}
