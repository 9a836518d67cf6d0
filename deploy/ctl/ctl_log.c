#include "ctl_log.h"

#include "common/journal/cmq_journal.h"
#include "common/wire/cmq_batch.h"
#include "ctl_progress.h"

enum { READ_BYTES = 4 << 20 };

enum cmq_err ctl_log_end(const struct cmq_conf *conf, uint64_t *ret_seq, struct cmq_reason *reason)
{
    struct cmq_conf_path path;
    struct cmq_ring *ring = NULL;
    if (ctl_ring_observe(conf, &ring, NULL) != CMQ_OK)
        return cmq_journal_next_seq(cmq_conf_log_dir(conf, &path), cmq_file_system(), 1, ret_seq, reason);
    *ret_seq = cmq_ring_stored_seq(ring);
    cmq_ring_detach(ring);
    return CMQ_OK;
}

enum cmq_err ctl_log_floor(const struct cmq_conf *conf, uint64_t end_seq, uint64_t *ret_seq,
                           struct cmq_reason *reason)
{
    struct cmq_conf_path path;
    struct cmq_journal_reader *reader = NULL;
    enum cmq_err err =
        cmq_journal_reader_open(cmq_conf_log_dir(conf, &path), cmq_file_system(), &reader, reason);
    if (err == CMQ_OK || err == CMQ_ERR_AGAIN)
        *ret_seq = err == CMQ_OK ? cmq_journal_floor(reader, end_seq) : end_seq;
    cmq_journal_reader_close(reader);
    return err == CMQ_ERR_AGAIN ? CMQ_OK : err;
}

/* CMQ_ERR_MALFORMED: the record's bytes are not what an encryptor writes. */
static enum cmq_err tell_record(struct ctl_log *log, uint64_t seq, struct cmq_span payload,
                                enum cmq_err *ret_hook)
{
    struct cmq_mp_reader units;
    struct cmq_sealed_head head;
    struct cmq_sealed_unit sealed;
    struct ctl_log_unit unit = {.seq = seq};
    enum cmq_err err = cmq_sealed_decode(payload, &units, &head);
    for (uint32_t i = 0; err == CMQ_OK && *ret_hook == CMQ_OK && i < head.unit_count; i++) {
        err = cmq_sealed_next(&units, &sealed);
        if (err != CMQ_OK || sealed.count > UINT32_MAX - unit.first)
            return CMQ_ERR_MALFORMED;
        unit.topic = cmq_span_make(sealed.topic, sealed.topic_bytes);
        unit.count = sealed.count;
        unit.accepted_at_ms = head.accepted_at_ms;
        unit.sealed_bytes = sealed.sealed.bytes;
        *ret_hook = log->on_unit(log->context, &unit);
        unit.first += sealed.count;
    }
    return err;
}

static enum cmq_err tell_chunk(struct ctl_log *log, const struct cmq_journal_chunk *chunk)
{
    enum cmq_err hook = CMQ_OK;
    for (uint32_t i = 0; hook == CMQ_OK && i < chunk->count; i++) {
        const struct cmq_journal_entry *entry = &chunk->entries[i];
        if (entry->type != CMQ_JOURNAL_BATCH)
            continue;
        const struct cmq_span payload =
            cmq_span_make(chunk->data + entry->payload_offset, entry->payload_bytes);
        if (tell_record(log, entry->seq, payload, &hook) != CMQ_OK)
            log->damaged++;
    }
    return hook;
}

static enum cmq_err walk(struct ctl_log *log, struct cmq_journal_reader *reader,
                         struct cmq_journal_chunk *chunk, struct ctl_progress *progress)
{
    uint64_t seq = cmq_max_u64(log->from_seq, cmq_journal_floor(reader, log->end_seq));
    const struct cmq_journal_pos *from = NULL;
    struct cmq_journal_pos next;
    while (seq < log->end_seq) {
        uint64_t other = log->end_seq;
        enum cmq_err err = cmq_journal_read(reader, seq, log->end_seq, from, READ_BYTES, chunk, &other);
        from = NULL;
        switch (err) {
        case CMQ_OK:
            err = tell_chunk(log, chunk);
            if (err != CMQ_OK)
                return err;
            ctl_progress_add(progress, chunk->bytes);
            seq = chunk->next_seq;
            next = chunk->next;
            from = &next;
            break;
        case CMQ_ERR_CORRUPT:
            other = cmq_max_u64(other, seq + 1);
            log->damaged += other - seq;
            seq = other;
            break;
        case CMQ_ERR_NOT_FOUND: /* retention goes on meanwhile */
            seq = cmq_max_u64(other, seq + 1);
            break;
        default: /* of the system */
            return err;
        }
    }
    return CMQ_OK;
}

enum cmq_err ctl_log_walk(const struct ctl *ctl, struct ctl_log *log, struct cmq_reason *reason)
{
    struct cmq_conf_path path;
    struct cmq_journal_usage usage = {0};
    struct cmq_journal_chunk chunk = {0};
    struct cmq_journal_reader *reader = NULL;
    struct ctl_progress progress;
    const char *directory = cmq_conf_log_dir(&ctl->conf, &path);
    enum cmq_err err = cmq_journal_reader_open(directory, cmq_file_system(), &reader, reason);
    if (err != CMQ_OK)
        return err == CMQ_ERR_AGAIN ? CMQ_OK : err;
    (void)(cmq_journal_usage(directory, cmq_file_system(), &usage) == CMQ_OK);
    ctl_progress_begin(&progress, log->what, usage.bytes, ctl->json);
    err = walk(log, reader, &chunk, &progress);
    ctl_progress_end(&progress);
    cmq_journal_chunk_fini(&chunk);
    cmq_journal_reader_close(reader);
    if (err != CMQ_OK && (reason == NULL || reason->text[0] == '\0'))
        return cmq_reason_set(reason, err, "the log in %s cannot be read: %s", directory, cmq_err_text(err));
    return err;
}
