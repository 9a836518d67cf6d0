/* What can be told of a log from its names and heads, without reading records. */
#include <fcntl.h>

#include "common/journal/cmq_journal_format.h"

static void look_at(const char *directory, const struct cmq_file_ops *ops, uint64_t first_seq,
                    struct cmq_journal_usage *usage)
{
    char path[CMQ_JOURNAL_PATH_BYTES];
    uint64_t bytes, created_at_ms = 0;
    if (cmq_journal_path(path, directory, first_seq, ".log") != CMQ_OK)
        return;
    int fd = ops->open(ops->context, path, O_RDONLY, 0);
    if (fd < 0)
        return; /* retention took it just now */
    usage->segments++;
    if (ops->size(ops->context, fd, &bytes) == 0)
        usage->bytes += bytes;
    if (cmq_journal_version_check(ops, fd, path, &created_at_ms, NULL) == CMQ_OK)
        usage->newest_ms = cmq_max_u64(usage->newest_ms, created_at_ms);
    (void)ops->close(ops->context, fd);
}

static bool is_there(const struct cmq_journal_list *list, uint64_t first_seq)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->first[i] == first_seq)
            return true;
    }
    return false;
}

enum cmq_err cmq_journal_usage(const char *directory, const struct cmq_file_ops *ops,
                               struct cmq_journal_usage *ret_usage)
{
    struct cmq_journal_list list = {0};
    struct cmq_journal_usage usage = {0};
    enum cmq_err err = cmq_journal_list_read(directory, ops, ".log", &list);
    if (err == CMQ_OK && list.count > 0)
        usage.first_seq = list.first[0];
    for (size_t i = 0; err == CMQ_OK && i < list.count; i++) {
        uint64_t next_seq;
        look_at(directory, ops, list.first[i], &usage);
        if (usage.missing_seq == 0 &&
            cmq_journal_index_read(directory, ops, list.first[i], NULL, &next_seq) == CMQ_OK &&
            !is_there(&list, next_seq))
            usage.missing_seq = next_seq;
    }
    cmq_journal_list_fini(&list);
    if (err == CMQ_OK)
        *ret_usage = usage;
    return err;
}
