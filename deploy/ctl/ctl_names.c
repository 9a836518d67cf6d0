/* What status and top say about groups and about the last warnings and errors; topics and clients are in status --json. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/shm/cmq_tables_read.h"
#include "ctl.h"

enum { LINE_SHOWN = 120 };

static void print_groups(const struct cmq_tables_merged *merged, size_t groups_max)
{
    if (merged->group_count == 0)
        return;
    (void)printf("\n%-24s %-24s %12s %10s %8s %12s %8s\n", "GROUP", "TOPIC", "LAG RECORDS", "PENDING",
                 "MEMBERS", "REDELIVERED", "DEAD");
    for (size_t i = 0; i < merged->group_count && i < groups_max; i++) {
        const struct cmq_group_copy *group = &merged->groups[i];
        (void)printf("%-24s %-24s %12llu %10llu %8llu %12llu %8llu\n", group->name, group->topic,
                     (unsigned long long)group->lag_records, (unsigned long long)group->pending,
                     (unsigned long long)group->members, (unsigned long long)group->redelivered,
                     (unsigned long long)group->dead_letters);
    }
    if (merged->group_count > groups_max)
        (void)printf("and %zu more, which are less behind: status --json\n",
                     merged->group_count - groups_max);
}

static void print_errors(const struct cmq_tables_merged *merged, size_t errors_max)
{
    for (size_t i = 0; i < merged->error_count && i < errors_max; i++) {
        const struct cmq_error_copy *error = &merged->errors[i];
        const time_t seconds = (time_t)(error->time_ms / 1000u);
        char when[32] = "-";
        struct tm utc;
        if (gmtime_r(&seconds, &utc) != NULL)
            (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
        (void)printf("%s%s %-5s %s %u %s %.*s\n", i == 0 ? "\n" : "", when,
                     error->is_error ? "error" : "warn", cmq_role_name(error->role), error->instance_number,
                     error->event, LINE_SHOWN, error->text);
    }
}

enum cmq_err ctl_print_names(const struct cmq_sight *sight, size_t groups_max, size_t errors_max)
{
    struct cmq_tables_merged *merged = NULL;
    enum cmq_err err = cmq_tables_merge(sight, &merged);
    if (err != CMQ_OK)
        return err;
    print_groups(merged, groups_max);
    print_errors(merged, errors_max);
    free(merged);
    return CMQ_OK;
}
