#include <string.h>

#include "common/log/cmq_log.h"
#include "common/shm/cmq_crash.h"
#include "dispatcher/dsp_ledger_int.h"

/* Snapshots of dead processes keep old pages from being used again: looked for once in so many commits. */
enum { CHECK_READERS_EVERY = 512 };

/* ---- the set of done records ---- */

/* Places the cursor on the last range that begins at or below seq; MDB_NOTFOUND: there is none. */
static int seek_below(MDB_cursor *cursor, uint32_t group, uint64_t seq, uint64_t *ret_from, uint64_t *ret_to)
{
    struct cmq_ledger_key buffer;
    MDB_val value, key = cmq_ledger_key_seq(&buffer, group, seq);
    uint64_t from = 0;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (code != MDB_SUCCESS && code != MDB_NOTFOUND)
        return code;
    if (code == MDB_NOTFOUND)
        code = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    else if (!cmq_ledger_key_is(&key, group, &from) || from != seq)
        code = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    if (code != MDB_SUCCESS)
        return code;
    if (!cmq_ledger_key_is(&key, group, &from))
        return MDB_NOTFOUND;
    *ret_from = from;
    *ret_to = cmq_ledger_value_u64(&value);
    return MDB_SUCCESS;
}

/* The first range that begins at or above seq. */
static int seek_above(MDB_cursor *cursor, uint32_t group, uint64_t seq, uint64_t *ret_from, uint64_t *ret_to)
{
    struct cmq_ledger_key buffer;
    MDB_val value, key = cmq_ledger_key_seq(&buffer, group, seq);
    int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (code != MDB_SUCCESS)
        return code;
    if (!cmq_ledger_key_is(&key, group, ret_from))
        return MDB_NOTFOUND;
    *ret_to = cmq_ledger_value_u64(&value);
    return MDB_SUCCESS;
}

int dsp_done_find(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t seq,
                  uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_next)
{
    MDB_cursor *cursor = NULL;
    uint64_t to;
    int code = mdb_cursor_open(txn, tables->done, &cursor);
    if (code != MDB_SUCCESS)
        return code;
    code = seek_below(cursor, group, seq, ret_from, ret_to);
    if (code == MDB_NOTFOUND || (code == MDB_SUCCESS && *ret_to <= seq)) {
        code = seek_above(cursor, group, seq, ret_next, &to);
        if (code == MDB_NOTFOUND)
            *ret_next = UINT64_MAX;
        if (code == MDB_SUCCESS)
            code = MDB_NOTFOUND;
    }
    mdb_cursor_close(cursor);
    return code;
}

/* Adds a range, and says what it became together with its neighbours. */
static int add_done(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t *from,
                    uint64_t *to)
{
    MDB_cursor *cursor = NULL;
    struct cmq_ledger_key buffer;
    uint64_t other_from, other_to;
    int code = mdb_cursor_open(txn, tables->done, &cursor);
    if (code != MDB_SUCCESS)
        return code;
    code = seek_below(cursor, group, *from, &other_from, &other_to);
    if (code == MDB_SUCCESS && other_to >= *from) {
        *from = other_from;
        *to = cmq_max_u64(*to, other_to);
    }
    while (code == MDB_SUCCESS || code == MDB_NOTFOUND) {
        code = seek_above(cursor, group, *from, &other_from, &other_to);
        if (code != MDB_SUCCESS || other_from > *to)
            break;
        *to = cmq_max_u64(*to, other_to);
        code = mdb_cursor_del(cursor, 0);
    }
    mdb_cursor_close(cursor);
    if (code != MDB_SUCCESS && code != MDB_NOTFOUND)
        return code;
    MDB_val key = cmq_ledger_key_seq(&buffer, group, *from), value = {.mv_size = sizeof *to, .mv_data = to};
    return mdb_put(txn, tables->done, &key, &value, 0);
}

/* ---- acked messages of other records ---- */

/* Removes the entries of records [from, to), of their chunks [chunk_first, chunk_end) only. */
static int remove_acked(MDB_txn *txn, const struct dsp_tables *tables, const struct dsp_ledger_change *change,
                        uint64_t to, uint32_t chunk_first, uint64_t chunk_end)
{
    MDB_cursor *cursor = NULL;
    struct cmq_ledger_key buffer;
    uint64_t seq = 0;
    int code = mdb_cursor_open(txn, tables->acked, &cursor);
    while (code == MDB_SUCCESS) {
        MDB_val value, key = cmq_ledger_key_chunk(&buffer, change->group, change->from, chunk_first);
        code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (code != MDB_SUCCESS || !cmq_ledger_key_is(&key, change->group, &seq) || seq >= to ||
            (seq == change->from && cmq_ledger_key_number(&key, 12, 4) >= chunk_end))
            break;
        code = mdb_cursor_del(cursor, 0);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

static int put_acked(MDB_txn *txn, const struct dsp_tables *tables, const struct dsp_ledger_change *change)
{
    struct cmq_ledger_key buffer;
    int code = remove_acked(txn, tables, change, change->from + 1, change->chunk_first,
                            (uint64_t)change->chunk_first + change->chunk_count);
    for (size_t i = 0, end; code == MDB_SUCCESS && i < change->acked_count; i = end) {
        uint32_t chunk = change->acked[i].first / CMQ_LEDGER_ACKED_CHUNK;
        for (end = i + 1;
             end < change->acked_count && change->acked[end].first / CMQ_LEDGER_ACKED_CHUNK == chunk;)
            end++;
        MDB_val key = cmq_ledger_key_chunk(&buffer, change->group, change->from, chunk);
        MDB_val value = {.mv_size = (end - i) * sizeof(struct cmq_ledger_acked),
                         .mv_data = (void *)(uintptr_t)&change->acked[i]};
        code = mdb_put(txn, tables->acked, &key, &value, 0);
    }
    return code;
}

size_t dsp_ledger_acked(struct dsp_ledger *ledger, uint32_t group, uint64_t seq,
                        struct cmq_ledger_acked *ret_acked, size_t max)
{
    MDB_cursor *cursor = NULL;
    struct cmq_ledger_key buffer;
    size_t count = 0;
    uint64_t found = 0;
    if (dsp_acks_begin(ledger) != MDB_SUCCESS)
        return 0;
    MDB_val value, key = cmq_ledger_key_chunk(&buffer, group, seq, 0);
    int code = mdb_cursor_open(ledger->acks_read, ledger->tables->acked, &cursor);
    if (code == MDB_SUCCESS)
        code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; code == MDB_SUCCESS && cmq_ledger_key_is(&key, group, &found) && found == seq;
         code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        size_t entries = value.mv_size / sizeof(struct cmq_ledger_acked);
        size_t room = count < max ? max - count : 0;
        if (room > 0)
            memcpy(ret_acked + count, value.mv_data,
                   cmq_min_u64(entries, room) * sizeof(struct cmq_ledger_acked));
        count += entries;
    }
    mdb_cursor_close(cursor);
    mdb_txn_reset(ledger->acks_read);
    return count;
}

/* ---- commit ---- */

static int commit_acks(struct dsp_ledger *ledger, const struct dsp_ledger_change *changes, size_t count)
{
    MDB_txn *txn = NULL;
    const struct dsp_tables *tables = ledger->tables;
    int code = mdb_txn_begin(tables->acks, NULL, 0, &txn);
    if (code != MDB_SUCCESS)
        return code;
    for (size_t i = 0; code == MDB_SUCCESS && i < count; i++) {
        const struct dsp_ledger_change *change = &changes[i];
        uint64_t from = change->from, to = change->to;
        if (change->chunk_count > 0) {
            code = put_acked(txn, tables, change);
            continue;
        }
        code = add_done(txn, tables, change->group, &from, &to);
        if (code == MDB_SUCCESS)
            code = remove_acked(txn, tables, change, change->to, 0, UINT64_MAX);
    }
    if (code == MDB_SUCCESS)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

/* The ranges as they became with their neighbours: a claim that has holes is trimmed when they are closed. */
static int trim_claims(struct dsp_ledger *ledger, const struct dsp_ledger_change *changes, size_t count)
{
    MDB_txn *claims = NULL, *acks = NULL;
    int code = mdb_txn_begin(ledger->tables->claims, NULL, 0, &claims);
    if (code != MDB_SUCCESS)
        return code;
    code = mdb_txn_begin(ledger->tables->acks, NULL, MDB_RDONLY, &acks);
    for (size_t i = 0; code == MDB_SUCCESS && i < count; i++) {
        uint64_t from = changes[i].from, to = changes[i].to, next;
        if (changes[i].chunk_count > 0)
            continue;
        code = dsp_done_find(acks, ledger->tables, changes[i].group, changes[i].from, &from, &to, &next);
        if (code == MDB_SUCCESS)
            code = dsp_claims_trim(claims, ledger->tables, changes[i].group, from, to);
        else if (code == MDB_NOTFOUND)
            code = MDB_SUCCESS;
    }
    if (acks != NULL)
        mdb_txn_abort(acks);
    if (code == MDB_SUCCESS)
        return mdb_txn_commit(claims);
    mdb_txn_abort(claims);
    return code;
}

enum cmq_err dsp_ledger_commit(struct dsp_ledger *ledger, const struct dsp_ledger_change *changes,
                               size_t count)
{
    int dead = 0;
    unsigned commits = 1 + atomic_fetch_add_explicit(&ledger->tables->commits, 1, memory_order_relaxed);
    if (commits % CHECK_READERS_EVERY == 0) {
        (void)mdb_reader_check(ledger->tables->acks, &dead);
        (void)mdb_reader_check(ledger->tables->claims, &dead);
    }
    int code = commit_acks(ledger, changes, count);
    if (code == MDB_MAP_FULL && mdb_reader_check(ledger->tables->acks, &dead) == MDB_SUCCESS && dead > 0)
        code = commit_acks(ledger, changes, count);
    if (code != MDB_SUCCESS)
        return cmq_ledger_err(code);
    CMQ_CRASH_POINT("ledger.committed");
    code = trim_claims(ledger, changes, count);
    if (code != MDB_SUCCESS) /* whoever claims next drops what is done */
        cmq_log(CMQ_LOG_WARN, CMQ_EV_SYSTEM_ERROR, "where=ledger_trim err=\"%s\"", mdb_strerror(code));
    CMQ_CRASH_POINT("ledger.unclaimed");
    return CMQ_OK;
}
