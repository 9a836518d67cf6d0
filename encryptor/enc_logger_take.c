/* Becoming the writer of the log, and ceasing to be it. */
#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/proc/cmq_proc.h"
#include "common/shm/cmq_crash.h"
#include "encryptor/enc_logger_int.h"
#include "encryptor/enc_refill.h"

/* ---- health ---- */

uint64_t enc_logger_wall_ms(const struct enc_logger *logger)
{
    return logger->setup.wall_ms != NULL ? logger->setup.wall_ms() : cmq_clock_wall_ms();
}

void enc_logger_health(struct enc_logger *logger, enum cmq_log_health health, const char *why)
{
    const enum cmq_log_health before = cmq_ring_log_health(logger->setup.ring);
    struct cmq_log_quoted_sentence quoted;
    if (before == health)
        return;
    cmq_ring_log_health_set(logger->setup.ring, health);
    switch (health) {
    case CMQ_LOG_HEALTH_FULL:
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_LOG_FULL, "action=publishers_get_503 reason=%s",
                cmq_log_sentence(&quoted, why));
        return;
    case CMQ_LOG_HEALTH_FAILED:
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_LOG_FAILED, "action=publishers_get_503 reason=%s",
                cmq_log_sentence(&quoted, why));
        return;
    case CMQ_LOG_HEALTH_OK:
        if (before != CMQ_LOG_HEALTH_NONE)
            cmq_log(CMQ_LOG_INFO, CMQ_EV_LOG_WORKS, "next=%llu", (unsigned long long)logger->next_seq);
        return;
    case CMQ_LOG_HEALTH_NONE:
        return;
    }
}

void enc_logger_show(struct enc_logger *logger)
{
    cmq_ring_gauge(logger->setup.ring, CMQ_COUNT_LOG_FLOOR,
                   logger->log == NULL ? 0 : enc_log_floor(logger->log));
    cmq_ring_gauge(logger->setup.ring, CMQ_COUNT_LOG_DISK_BYTES,
                   logger->log == NULL ? 0 : enc_log_bytes(logger->log));
}

void enc_logger_release(struct enc_logger *logger)
{
    if (logger->setup.filter != NULL)
        enc_filter_close(logger->setup.filter);
    enc_log_close(logger->log);
    logger->log = NULL;
    enc_logger_show(logger);
}

/* The health first: whoever opens the log next must know that a flush may have failed. */
uint32_t enc_logger_failed(struct enc_logger *logger, const char *why)
{
    enc_logger_health(logger, CMQ_LOG_HEALTH_FAILED, why);
    enc_logger_release(logger);
    return FAILED_MS;
}

uint32_t enc_logger_refuse(struct enc_logger *logger, const char *why)
{
    struct cmq_log_quoted_sentence quoted;
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "what=log reason=%s", cmq_log_sentence(&quoted, why));
    enc_logger_release(logger);
    logger->refused = true;
    logger->setup.fail(logger->setup.context, CMQ_EXIT_CONFIG);
    return IDLE_MS;
}

/* ---- flushing and the cursors ---- */

enum cmq_err enc_logger_sync(struct enc_logger *logger, struct cmq_reason *reason)
{
    const uint64_t begin_ns = cmq_clock_mono_ns();
    enum cmq_err err = enc_log_sync(logger->log, reason);
    if (err == CMQ_OK)
        logger->synced_seq = logger->next_seq;
    cmq_ring_count(logger->setup.ring, CMQ_COUNT_LOG_SYNCS, 1);
    const uint64_t took_ns = cmq_clock_mono_ns() - begin_ns;
    cmq_ring_count(logger->setup.ring, CMQ_COUNT_LOG_SYNC_NS, took_ns);
    cmq_ring_observe(logger->setup.ring, CMQ_HIST_LOG_SYNC, took_ns);
    CMQ_CRASH_POINT("logger.synced");
    return err;
}

void enc_logger_move_cursors(struct enc_logger *logger)
{
    const bool flushed = logger->setup.sync != CMQ_CONF_SYNC_NONE;
    cmq_ring_stored(logger->setup.ring, logger->next_seq, flushed ? logger->synced_seq : logger->next_seq);
    CMQ_CRASH_POINT("logger.stored");
}

/* ---- taking the log over ---- */

/* Records between the end of the log and `stored`: they were written, and a failed flush lost them before durable was said of
 * them. Their numbers are given, so they become VOID. */
static enum cmq_err fill_lost(struct enc_logger *logger, uint64_t stored, struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_BAD, "from=%llu to=%llu reason=\"lost by a failed flush\"",
            (unsigned long long)logger->next_seq, (unsigned long long)stored);
    while (err == CMQ_OK && logger->next_seq < stored) {
        const struct enc_log_record record = {.seq = logger->next_seq, .type = CMQ_JOURNAL_VOID};
        size_t written = 0;
        err = enc_log_append(logger->log, &record, 1, enc_logger_wall_ms(logger), &written, reason);
        logger->next_seq = enc_log_next_seq(logger->log);
    }
    return err;
}

/* Whether ring and log belong together. CMQ_ERR_INVALID: they do not. */
static enum cmq_err compare(struct enc_logger *logger, struct cmq_reason *reason)
{
    struct cmq_ring *ring = logger->setup.ring;
    const char *directory = logger->setup.log.directory;
    const uint64_t stored = cmq_ring_stored_seq(ring), durable = cmq_ring_durable_seq(ring);
    struct cmq_ring_state state;
    cmq_ring_state(ring, &state);
    if (logger->next_seq > state.published)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "the log in %s goes up to record %llu, the ring in shared memory only to %llu: they do not "
            "belong "
            "together; stop the broker, run `ciphermqctl destroy` and then `ciphermqctl init`, which makes a "
            "ring that goes on behind the log",
            directory, (unsigned long long)logger->next_seq, (unsigned long long)state.published);
    if (logger->next_seq >= stored)
        return CMQ_OK;
    const bool never_durable = logger->next_seq >= durable || logger->setup.sync == CMQ_CONF_SYNC_NONE;
    if (never_durable && cmq_ring_log_health(ring) == CMQ_LOG_HEALTH_FAILED)
        return fill_lost(logger, stored, reason);
    return cmq_reason_set(
        reason, CMQ_ERR_INVALID,
        "the ring says that records up to %llu are stored, the log in %s ends before %llu: files are missing "
        "or "
        "were replaced; bring them back, or, to go on without these records, stop the broker and run "
        "`ciphermqctl destroy` and `ciphermqctl init`",
        (unsigned long long)stored, directory, (unsigned long long)logger->next_seq);
}

/* The table of message ids, up to the end of the log. */
static enum cmq_err open_table(struct enc_logger *logger, struct cmq_reason *reason)
{
    struct enc_filter *filter = logger->setup.filter;
    struct enc_refill refill = {.directory = logger->setup.log.directory,
                                .ops = logger->setup.log.ops,
                                .next_seq = logger->next_seq,
                                .now_ms = enc_logger_wall_ms(logger),
                                .stop = &logger->stop};
    uint64_t records = 0;
    if (filter == NULL)
        return CMQ_OK;
    enum cmq_err err = enc_filter_open(filter, logger->next_seq, &refill.applied, reason);
    if (err == CMQ_OK)
        err = enc_refill(&refill, filter, &records, reason);
    if (err == CMQ_ERR_CORRUPT)
        enc_filter_discard(filter); /* the next attempt builds it anew */
    return err;
}

static bool has_work(struct enc_logger *logger)
{
    struct cmq_committed committed;
    return cmq_ring_committed(logger->setup.ring, logger->next_seq, &committed) == CMQ_OK;
}

static enum cmq_err settle(struct enc_logger *logger, struct cmq_reason *reason)
{
    struct cmq_ring *ring = logger->setup.ring;
    const uint64_t found = enc_log_next_seq(logger->log), stored = cmq_ring_stored_seq(ring);
    logger->next_seq = found;
    logger->synced_seq = cmq_min_u64(cmq_ring_durable_seq(ring), found);
    enum cmq_err err = compare(logger, reason);
    if (err == CMQ_OK)
        err = open_table(logger, reason);
    /* The file is the truth: what is in it counts, once it is flushed. */
    if (err == CMQ_OK && logger->setup.sync != CMQ_CONF_SYNC_NONE)
        err = enc_logger_sync(logger, reason);
    if (err != CMQ_OK)
        return err;
    enc_logger_move_cursors(logger);
    cmq_ring_count(ring, CMQ_COUNT_LOG_TAKEOVERS, 1);
    cmq_log(CMQ_LOG_INFO, CMQ_EV_LOG_TAKEN,
            "next=%llu stored=%llu floor=%llu bytes=%llu damaged=%llu ids=%llu", (unsigned long long)found,
            (unsigned long long)stored, (unsigned long long)enc_log_floor(logger->log),
            (unsigned long long)enc_log_bytes(logger->log), (unsigned long long)enc_log_damaged(logger->log),
            (unsigned long long)(logger->setup.filter == NULL
                                     ? 0
                                     : enc_idem_count(enc_filter_table(logger->setup.filter))));
    logger->worked = true;
    logger->tidied_ns = cmq_clock_mono_ns();
    /* After a failure only a write proves that it works again, if there is one to make. */
    if (!has_work(logger))
        enc_logger_health(logger, CMQ_LOG_HEALTH_OK, "");
    enc_logger_show(logger);
    return CMQ_OK;
}

uint32_t enc_logger_take(struct enc_logger *logger)
{
    struct cmq_ring *ring = logger->setup.ring;
    struct cmq_reason reason = {.text = ""};
    struct enc_log_setup setup = logger->setup.log;
    struct cmq_ring_state state;
    cmq_ring_state(ring, &state);
    setup.first_seq = state.first_seq; /* of a log that is empty */
    if (cmq_ring_log_health(ring) == CMQ_LOG_HEALTH_FAILED && logger->setup.sync != CMQ_CONF_SYNC_NONE)
        setup.rewrite_from = cmq_ring_durable_seq(ring);
    enum cmq_err err = enc_log_open(&setup, &logger->log, &reason);
    if (err == CMQ_ERR_AGAIN)
        return LOCK_MS;
    if (err == CMQ_ERR_CORRUPT) /* files are missing */
        return enc_logger_refuse(logger, reason.text);
    if (err == CMQ_OK)
        err = settle(logger, &reason);
    switch (err) {
    case CMQ_OK:
        return 0;
    case CMQ_ERR_AGAIN: /* told to stop */
        enc_logger_release(logger);
        return LOCK_MS;
    case CMQ_ERR_FULL:
        enc_logger_health(logger, CMQ_LOG_HEALTH_FULL, reason.text);
        enc_logger_release(logger);
        return FULL_MS;
    case CMQ_ERR_PERMISSION:
        if (logger->worked) /* it was allowed once: a file system that is read-only for now */
            return enc_logger_failed(logger, reason.text);
        return enc_logger_refuse(logger, reason.text);
    case CMQ_ERR_INVALID:
    case CMQ_ERR_VERSION:
    case CMQ_ERR_LAYOUT:
        return enc_logger_refuse(logger, reason.text);
    default: /* the disk, the memory, the table: it may come back */
        return enc_logger_failed(logger, reason.text[0] != '\0' ? reason.text : cmq_err_text(err));
    }
}
