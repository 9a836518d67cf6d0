#include "encryptor/enc_refill.h"

#include "common/log/cmq_log.h"

enum { READ_BYTES = 1 << 20, PROBE_BYTES = 4096 };

struct work {
    const struct enc_refill *refill;
    struct enc_filter *filter;
    struct cmq_journal_reader *reader;
    struct cmq_journal_chunk chunk;
    uint64_t window_begin_ms;
    uint64_t records;
};

/* The next readable record at or behind seq. CMQ_ERR_AGAIN: there is none. */
static enum cmq_err read_from(struct work *work, uint64_t seq, const struct cmq_journal_pos *from,
                              size_t bytes, uint64_t *ret_seq)
{
    const uint64_t end = work->refill->next_seq;
    while (seq < end) {
        uint64_t other = end;
        enum cmq_err err = cmq_journal_read(work->reader, seq, end, from, bytes, &work->chunk, &other);
        if (err == CMQ_OK)
            *ret_seq = seq;
        if (err != CMQ_ERR_NOT_FOUND && err != CMQ_ERR_CORRUPT)
            return err;
        if (err == CMQ_ERR_CORRUPT)
            cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_BAD, "from=%llu to=%llu reason=\"damaged in the log\"",
                    (unsigned long long)seq, (unsigned long long)other);
        seq = cmq_max_u64(other, seq + 1);
        from = NULL;
    }
    return CMQ_ERR_AGAIN;
}

/* The first record within the window, by halves: commit times rise with seq. A clock that was set back only makes the
 * answer too early or too late by what it was wrong. */
static enum cmq_err find_window(struct work *work, uint64_t *ret_seq)
{
    uint64_t low = cmq_journal_floor(work->reader, work->refill->next_seq), high = work->refill->next_seq;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2, found = 0;
        enum cmq_err err = read_from(work, middle, NULL, PROBE_BYTES, &found);
        if (err != CMQ_OK && err != CMQ_ERR_AGAIN)
            return err;
        if (err == CMQ_OK && work->chunk.count > 0 &&
            work->chunk.entries[0].stored_at_ms < work->window_begin_ms)
            low = cmq_max_u64(found, middle) + 1;
        else
            high = middle;
    }
    *ret_seq = low;
    return CMQ_OK;
}

static enum cmq_err apply_chunk(struct work *work)
{
    for (uint32_t i = 0; i < work->chunk.count; i++) {
        const struct cmq_journal_entry *entry = &work->chunk.entries[i];
        if ((entry->flags & CMQ_JOURNAL_HAS_IDS) == 0 || entry->type != CMQ_JOURNAL_BATCH ||
            entry->stored_at_ms < work->window_begin_ms)
            continue;
        enum cmq_err err =
            enc_filter_apply(work->filter, entry->seq, entry->stored_at_ms,
                             cmq_span_make(work->chunk.data + entry->payload_offset, entry->payload_bytes));
        if (err != CMQ_OK)
            return err;
        work->records++;
    }
    return CMQ_OK;
}

static enum cmq_err apply_all(struct work *work, uint64_t seq)
{
    const struct cmq_journal_pos *from = NULL;
    struct cmq_journal_pos next;
    while (seq < work->refill->next_seq) {
        if (work->refill->stop != NULL && atomic_load_explicit(work->refill->stop, memory_order_acquire) != 0)
            return CMQ_ERR_AGAIN;
        enum cmq_err err = read_from(work, seq, from, READ_BYTES, &seq);
        if (err == CMQ_ERR_AGAIN) /* only damage is left */
            break;
        if (err == CMQ_OK)
            err = apply_chunk(work);
        seq = work->chunk.next_seq;
        if (err == CMQ_OK)
            err = enc_filter_tidy(work->filter, seq, work->refill->now_ms);
        if (err != CMQ_OK)
            return err;
        next = work->chunk.next;
        from = &next;
    }
    return enc_filter_tidy(work->filter, work->refill->next_seq, work->refill->now_ms);
}

enum cmq_err enc_refill(const struct enc_refill *refill, struct enc_filter *filter, uint64_t *ret_records,
                        struct cmq_reason *reason)
{
    const uint64_t window_ms = enc_filter_window_ms(filter);
    struct work work = {.refill = refill,
                        .filter = filter,
                        .window_begin_ms = refill->now_ms > window_ms ? refill->now_ms - window_ms : 0};
    uint64_t begin = refill->applied;
    *ret_records = 0;
    if (refill->applied == refill->next_seq)
        return CMQ_OK;
    enum cmq_err err = cmq_journal_reader_open(refill->directory, refill->ops, &work.reader, reason);
    if (err != CMQ_OK)
        return err;
    if (begin == 0)
        err = find_window(&work, &begin);
    if (err == CMQ_OK)
        err = apply_all(&work, begin);
    if (err != CMQ_OK && err != CMQ_ERR_AGAIN)
        (void)cmq_reason_set(reason, err, "the table of message ids cannot be brought up to date: %s",
                             cmq_err_text(err));
    cmq_journal_chunk_fini(&work.chunk);
    cmq_journal_reader_close(work.reader);
    *ret_records = work.records;
    return err;
}
