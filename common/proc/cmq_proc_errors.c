#include "common/proc/cmq_proc_errors.h"

#include <pthread.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/shm/cmq_sight.h"
#include "common/shm/cmq_tables.h"

static struct {
    pthread_mutex_t lock;
    struct cmq_segment segment;
    struct cmq_table_error waiting[CMQ_TABLE_ERRORS_MAX];
    size_t written; /* into waiting, in all */
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t copy_text(char *ret_text, size_t bytes_max, const char *text, size_t bytes)
{
    const size_t copied = bytes < bytes_max ? bytes : bytes_max;
    memcpy(ret_text, text, copied);
    return (uint32_t)copied;
}

static void keep(void *context, enum cmq_log_level level, const char *event, const char *text, size_t bytes)
{
    struct cmq_table_error error = {.time_ms = cmq_clock_wall_ms(),
                                    .level = level == CMQ_LOG_ERROR ? CMQ_TABLE_ERROR : CMQ_TABLE_WARN};
    (void)context;
    error.event_bytes = copy_text(error.event, sizeof error.event, event, strlen(event));
    error.text_bytes = copy_text(error.text, sizeof error.text, text, bytes);
    pthread_mutex_lock(&kept.lock);
    if (kept.segment.data != NULL)
        cmq_tables_error(kept.segment.data, &error);
    else
        kept.waiting[kept.written++ % CMQ_TABLE_ERRORS_MAX] = error;
    pthread_mutex_unlock(&kept.lock);
}

void cmq_proc_errors_begin(void)
{
    cmq_log_set_keep(keep, NULL);
}

static enum cmq_role role_of(const char *stage)
{
    static const enum cmq_role roles[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};
    for (size_t i = 0; i < CMQ_COUNT_OF(roles); i++)
        if (strcmp(stage, cmq_role_name(roles[i])) == 0)
            return roles[i];
    return CMQ_ROLE_NONE;
}

void cmq_proc_errors_attach(const char *broker, const char *stage, unsigned instance)
{
    struct cmq_segment segment = {0};
    if (!cmq_tables_map(broker, role_of(stage), instance, true, &segment))
        return;
    pthread_mutex_lock(&kept.lock);
    struct cmq_segment old = kept.segment;
    kept.segment = segment;
    size_t next = kept.written > CMQ_TABLE_ERRORS_MAX ? kept.written - CMQ_TABLE_ERRORS_MAX : 0;
    for (; next < kept.written; next++)
        cmq_tables_error(segment.data, &kept.waiting[next % CMQ_TABLE_ERRORS_MAX]);
    kept.written = 0;
    pthread_mutex_unlock(&kept.lock);
    cmq_segment_unmap(&old);
}

void cmq_proc_errors_end(void)
{
    cmq_log_set_keep(NULL, NULL);
    pthread_mutex_lock(&kept.lock);
    cmq_segment_unmap(&kept.segment);
    kept.written = 0;
    pthread_mutex_unlock(&kept.lock);
}
