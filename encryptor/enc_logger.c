#include "encryptor/enc_logger.h"

#include <time.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/shm/cmq_crash.h"
#include "encryptor/enc_logger_int.h"

/* Something besides the log does not work now: say so once. */
static uint32_t in_trouble(struct enc_logger *logger, enum cmq_err err, const char *what)
{
    if (!logger->trouble)
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "action=waiting what=\"%s\" error=\"%s\"", what,
                cmq_err_text(err));
    logger->trouble = true;
    return TROUBLE_MS;
}

/* sync=interval: flushes when it is time (or at once). *ret_left_ms: time until then. */
static enum cmq_err sync_when_due(struct enc_logger *logger, bool at_once, uint32_t *ret_left_ms,
                                  struct cmq_reason *reason)
{
    *ret_left_ms = IDLE_MS;
    if (logger->setup.sync == CMQ_CONF_SYNC_NONE || logger->synced_seq >= logger->next_seq)
        return CMQ_OK;
    const uint64_t due_ns = logger->unsynced_since_ns + logger->setup.sync_ms * CMQ_NS_PER_MS;
    const uint64_t now_ns = cmq_clock_mono_ns();
    if (!at_once && now_ns < due_ns) {
        *ret_left_ms = (uint32_t)((due_ns - now_ns + CMQ_NS_PER_MS - 1) / CMQ_NS_PER_MS);
        return CMQ_OK;
    }
    enum cmq_err err = enc_logger_sync(logger, reason);
    if (err == CMQ_OK)
        enc_logger_move_cursors(logger);
    return err;
}

/* ---- a group ---- */

static enum cmq_err judge(struct enc_logger *logger, const struct cmq_committed *committed,
                          struct enc_verdict *ret_verdict)
{
    if (logger->setup.filter != NULL)
        return enc_filter_record(logger->setup.filter, committed, ret_verdict);
    *ret_verdict = (struct enc_verdict){.record = {.seq = committed->seq,
                                                   .payload = committed->payload,
                                                   .messages = committed->messages,
                                                   .type = CMQ_JOURNAL_BATCH}};
    if (committed->void_record) {
        ret_verdict->record = (struct enc_log_record){.seq = committed->seq, .type = CMQ_JOURNAL_VOID};
        ret_verdict->outcome = (struct cmq_outcome){.kind = CMQ_OUTCOME_VOID};
        ret_verdict->told = true;
    }
    return CMQ_OK;
}

/* Fills the group from next_seq on. Returns why it ends; CMQ_ERR_AGAIN: nothing more is committed. */
static enum cmq_err gather(struct enc_logger *logger, uint64_t end_seq, size_t *ret_count)
{
    struct cmq_ring *ring = logger->setup.ring;
    size_t count = 0, bytes = 0;
    enum cmq_err err = CMQ_ERR_AGAIN;
    while (count < GROUP_RECORDS && bytes < GROUP_BYTES && logger->next_seq + count < end_seq) {
        struct cmq_committed committed;
        struct enc_verdict verdict;
        err = cmq_ring_committed(ring, logger->next_seq + count, &committed);
        if (err == CMQ_OK)
            err = judge(logger, &committed, &verdict);
        if (err != CMQ_OK)
            break;
        if (verdict.told)
            cmq_ring_outcome_set(ring, committed.seq, &verdict.outcome);
        logger->records[count] = verdict.record;
        logger->outcomes[count] = verdict.outcome;
        bytes += verdict.record.payload.bytes;
        count++;
    }
    *ret_count = count;
    return err;
}

static void count_written(struct enc_logger *logger, size_t count)
{
    struct cmq_ring *ring = logger->setup.ring;
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const struct cmq_outcome *outcome = &logger->outcomes[i];
        bytes += cmq_journal_record_bytes(logger->records[i].payload.bytes);
        switch (outcome->kind) {
        case CMQ_OUTCOME_DUPLICATE:
            cmq_ring_count(ring, CMQ_COUNT_DUPLICATES, 1);
            break;
        case CMQ_OUTCOME_PART:
            cmq_ring_count(ring, CMQ_COUNT_DUPLICATES, outcome->index);
            break;
        case CMQ_OUTCOME_CONFLICT:
            cmq_ring_count(ring, CMQ_COUNT_CONFLICTS, 1);
            break;
        case CMQ_OUTCOME_KEPT:
        case CMQ_OUTCOME_VOID:
            break;
        }
    }
    logger->written_bytes += bytes;
    cmq_ring_count(ring, CMQ_COUNT_LOG_APPENDS, 1);
    cmq_ring_count(ring, CMQ_COUNT_LOG_BYTES, bytes);
}

/* Appends the group, flushes it as configured, moves the cursors over what was written. */
static enum cmq_err write_group(struct enc_logger *logger, size_t count, uint64_t now_ms,
                                struct cmq_reason *reason)
{
    size_t written = 0;
    enum cmq_err synced = CMQ_OK;
    const bool all_synced = logger->synced_seq == logger->next_seq;
    const uint64_t begin_ns = cmq_clock_mono_ns();
    enum cmq_err err = enc_log_append(logger->log, logger->records, count, now_ms, &written, reason);
    CMQ_CRASH_POINT("logger.appended");
    cmq_ring_observe(logger->setup.ring, CMQ_HIST_LOG_APPEND, cmq_clock_mono_ns() - begin_ns);
    if (err != CMQ_OK && err != CMQ_ERR_FULL)
        return err; /* what is there is told by opening it again */
    if (written == 0)
        return err;
    logger->next_seq += written;
    count_written(logger, written);
    if (all_synced)
        logger->unsynced_since_ns = cmq_clock_mono_ns();
    if (logger->setup.sync == CMQ_CONF_SYNC_ALWAYS)
        synced = enc_logger_sync(logger, reason);
    if (synced != CMQ_OK)
        return synced;
    enc_logger_move_cursors(logger);
    return err;
}

static enum cmq_err commit_table(struct enc_logger *logger)
{
    if (logger->setup.filter == NULL)
        return CMQ_OK;
    return enc_filter_commit(logger->setup.filter, logger->next_seq);
}

/* Retention, ids out of their window, gauges: now and then, and always when a segment's worth was written. */
static enum cmq_err tidy(struct enc_logger *logger, struct cmq_reason *reason)
{
    const uint64_t now_ns = cmq_clock_mono_ns();
    struct enc_filter *filter = logger->setup.filter;
    if (now_ns - logger->tidied_ns < TIDY_MS * CMQ_NS_PER_MS &&
        logger->written_bytes < logger->setup.log.segment_bytes / 2)
        return CMQ_OK;
    logger->tidied_ns = now_ns;
    logger->written_bytes = 0;
    enum cmq_err err = enc_log_retain(logger->log, enc_logger_wall_ms(logger), reason);
    if (err == CMQ_OK && filter != NULL)
        err = enc_filter_tidy(filter, logger->next_seq, enc_logger_wall_ms(logger));
    if (filter != NULL && enc_idem_dropped(enc_filter_table(filter)) != logger->dropped) {
        logger->dropped = enc_idem_dropped(enc_filter_table(filter));
        cmq_log(CMQ_LOG_WARN, CMQ_EV_REFUSED,
                "what=message_ids dropped=%llu fix=\"raise encryptor.idempotency_entries_max\"",
                (unsigned long long)logger->dropped);
    }
    enc_logger_show(logger);
    return err;
}

/* What an error of append, flush, retention or the table means for the next step. */
static uint32_t after_error(struct enc_logger *logger, enum cmq_err err, const struct cmq_reason *reason)
{
    if (err == CMQ_ERR_FULL) {
        logger->written_bytes = UINT32_MAX; /* so that retention is looked at */
        enc_logger_health(logger, CMQ_LOG_HEALTH_FULL,
                          reason->text[0] != '\0' ? reason->text : "no space for the table of message ids");
        return FULL_MS;
    }
    if (err == CMQ_ERR_CORRUPT && logger->setup.filter != NULL)
        enc_filter_discard(logger->setup.filter);
    return enc_logger_failed(logger, reason->text[0] != '\0' ? reason->text : cmq_err_text(err));
}

static uint32_t write_once(struct enc_logger *logger, uint64_t end_seq)
{
    struct cmq_reason reason = {.text = ""};
    const uint64_t now_ms = enc_logger_wall_ms(logger);
    size_t count = 0;
    uint32_t left_ms = IDLE_MS;
    if (logger->setup.filter != NULL)
        enc_filter_begin(logger->setup.filter, now_ms);
    enum cmq_err gathered = gather(logger, end_seq, &count);
    enum cmq_err err = CMQ_OK;
    if (count > 0)
        err = commit_table(logger);
    if (err == CMQ_OK && count > 0)
        err = write_group(logger, count, now_ms, &reason);
    if (err == CMQ_OK && count > 0) {
        enc_logger_health(logger, CMQ_LOG_HEALTH_OK, "");
        logger->trouble = false;
    }
    if (err == CMQ_OK || err == CMQ_ERR_FULL) {
        enum cmq_err tidied = tidy(logger, &reason);
        if (tidied == CMQ_OK)
            tidied = sync_when_due(logger, false, &left_ms, &reason);
        if (tidied != CMQ_OK)
            err = tidied;
    }
    if (err != CMQ_OK)
        return after_error(logger, err, &reason);
    if (count > 0 || gathered == CMQ_OK)
        return count > 0 ? 0 : left_ms;
    switch (gathered) {
    case CMQ_ERR_AGAIN:
        logger->trouble = false;
        return left_ms;
    case CMQ_ERR_FULL:
    case CMQ_ERR_CORRUPT:
        return after_error(logger, gathered, &reason);
    case CMQ_ERR_NOT_FOUND: /* somebody moved the cursor who should not be there: look again from the file */
        enc_logger_release(logger);
        return LOCK_MS;
    default: /* memory that cannot be mapped, keys, the random source */
        return in_trouble(logger, gathered, "a committed record cannot be read");
    }
}

uint32_t enc_logger_step(struct enc_logger *logger)
{
    if (logger->refused)
        return IDLE_MS;
    return logger->log == NULL ? enc_logger_take(logger) : write_once(logger, UINT64_MAX);
}

bool enc_logger_writes(const struct enc_logger *logger)
{
    return logger->log != NULL;
}

/* ---- the thread ---- */

static bool told_to_stop(struct enc_logger *logger)
{
    return atomic_load_explicit(&logger->stop, memory_order_acquire) != 0;
}

static void rest(struct enc_logger *logger, uint32_t ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000u;
    until.tv_nsec += (long)(ms % 1000u) * (long)CMQ_NS_PER_MS;
    until.tv_sec += until.tv_nsec / (long)CMQ_NS_PER_S;
    until.tv_nsec %= (long)CMQ_NS_PER_S;
    pthread_mutex_lock(&logger->lock);
    if (!told_to_stop(logger))
        (void)pthread_cond_timedwait(&logger->stopped, &logger->lock, &until);
    pthread_mutex_unlock(&logger->lock);
}

/* What is committed now, and what of it is ours to write. */
static void finish(struct enc_logger *logger)
{
    struct cmq_reason reason = {.text = ""};
    struct cmq_ring_state state;
    uint32_t left_ms;
    if (logger->refused || logger->finished)
        return;
    logger->finished = true;
    cmq_ring_state(logger->setup.ring, &state);
    atomic_store_explicit(&logger->stop, 0, memory_order_release); /* the table may be brought up to date */
    if (logger->log == NULL && cmq_ring_stored_seq(logger->setup.ring) < state.committed)
        (void)enc_logger_take(logger);
    uint64_t before = 0;
    while (logger->log != NULL && logger->next_seq < state.committed && logger->next_seq != before) {
        before = logger->next_seq;
        (void)write_once(logger, state.committed);
    }
    if (logger->log != NULL && sync_when_due(logger, true, &left_ms, &reason) != CMQ_OK)
        (void)enc_logger_failed(logger, reason.text);
    if (logger->log == NULL)
        return;
    /* What the table lacks after an error is applied from the log by whoever opens it next. */
    if (logger->setup.filter != NULL &&
        enc_filter_tidy(logger->setup.filter, logger->next_seq, enc_logger_wall_ms(logger)) != CMQ_OK)
        enc_filter_close(logger->setup.filter);
    cmq_log(CMQ_LOG_INFO, CMQ_EV_LOG_RELEASED, "next=%llu", (unsigned long long)logger->next_seq);
    enc_logger_release(logger);
}

static void *run(void *context)
{
    struct enc_logger *logger = context;
    while (!told_to_stop(logger)) {
        const uint32_t ms = enc_logger_step(logger);
        if (ms == 0)
            continue;
        const bool quiet = logger->log != NULL && !logger->trouble &&
                           cmq_ring_log_health(logger->setup.ring) == CMQ_LOG_HEALTH_OK;
        if (quiet)
            (void)cmq_ring_wait(logger->setup.ring, CMQ_WAIT_COMMITTED, ms, &logger->stop);
        else
            rest(logger, ms);
    }
    finish(logger);
    return NULL;
}

enum cmq_err enc_logger_new(const struct enc_logger_setup *setup, struct enc_logger **ret_logger,
                            struct cmq_reason *reason)
{
    struct enc_logger *logger = calloc(1, sizeof *logger);
    pthread_condattr_t attributes;
    if (logger == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    logger->setup = *setup;
    (void)pthread_mutex_init(&logger->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&logger->stopped, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    *ret_logger = logger;
    return CMQ_OK;
}

enum cmq_err enc_logger_start(struct enc_logger *logger, struct cmq_reason *reason)
{
    if (pthread_create(&logger->thread, NULL, run, logger) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot start a thread");
    logger->thread_started = true;
    return CMQ_OK;
}

void enc_logger_drain(struct enc_logger *logger)
{
    if (!logger->thread_started) {
        finish(logger);
        return;
    }
    pthread_mutex_lock(&logger->lock);
    atomic_store_explicit(&logger->stop, 1, memory_order_release);
    (void)pthread_cond_signal(&logger->stopped);
    pthread_mutex_unlock(&logger->lock);
    cmq_ring_wake(logger->setup.ring, CMQ_WAIT_COMMITTED);
    (void)pthread_join(logger->thread, NULL);
    logger->thread_started = false;
}

void enc_logger_free(struct enc_logger *logger)
{
    if (logger == NULL)
        return;
    enc_logger_drain(logger);
    (void)pthread_cond_destroy(&logger->stopped);
    (void)pthread_mutex_destroy(&logger->lock);
    free(logger);
}
