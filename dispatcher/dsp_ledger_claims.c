/*
 * Claims: which dispatcher works on which records. The steps and what a death leaves are in dsp_ledger.h.
 *
 *   - in the steady state a claim moves the frontier, and the own claim before it grows: two rows are written;
 *   - rows of nobody are found from `given_up` on; rows of the dead by a look at all rows, now and then;
 *   - rows may have holes of done records: what is done goes before what is claimed.
 */
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_crash.h"
#include "dispatcher/dsp_ledger_int.h"

/* When there is nothing else, the dead are looked for at once if that is cheap; else, and meanwhile, in this distance. */
enum { SCAN_MS = 100, SCAN_ROWS_CHEAP = 64, OWNERS_KNOWN = 8 };

/* Everything that one claim looks at. */
struct search {
    struct dsp_ledger *ledger;
    MDB_txn *txn; /* claims, writing */
    MDB_cursor *rows;
    uint32_t group;
    uint64_t begin_seq, end_seq;
    uint32_t records_max;
    struct cmq_ledger_front front;
    uint64_t given_up;                                /* as it was */
    uint64_t alive[OWNERS_KNOWN], dead[OWNERS_KNOWN]; /* as far as they were asked about */
    unsigned alive_count, dead_count;
};

static int get_front(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group,
                     struct cmq_ledger_front *ret_front)
{
    struct cmq_ledger_key buffer;
    MDB_val value, key = cmq_ledger_key_seq(&buffer, group, UINT64_MAX);
    int code = mdb_get(txn, tables->rows, &key, &value);
    *ret_front = (struct cmq_ledger_front){.frontier = 0, .given_up = UINT64_MAX};
    if (code == MDB_SUCCESS && value.mv_size == sizeof *ret_front)
        memcpy(ret_front, value.mv_data, sizeof *ret_front);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

static int put_front(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group,
                     struct cmq_ledger_front *front)
{
    struct cmq_ledger_key buffer;
    MDB_val key = cmq_ledger_key_seq(&buffer, group, UINT64_MAX);
    MDB_val value = {.mv_size = sizeof *front, .mv_data = front};
    return mdb_put(txn, tables->rows, &key, &value, 0);
}

static int put_row(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t from,
                   struct cmq_ledger_claim *row)
{
    struct cmq_ledger_key buffer;
    MDB_val key = cmq_ledger_key_seq(&buffer, group, from), value = {.mv_size = sizeof *row, .mv_data = row};
    return mdb_put(txn, tables->rows, &key, &value, 0);
}

/* MDB_NOTFOUND: the cursor left the group's rows. */
static int read_row(const MDB_val *key, const MDB_val *value, uint32_t group, uint64_t *ret_from,
                    struct cmq_ledger_claim *ret_row)
{
    if (!cmq_ledger_key_is(key, group, ret_from) || *ret_from == UINT64_MAX)
        return MDB_NOTFOUND;
    if (value->mv_size != sizeof *ret_row)
        return MDB_CORRUPTED;
    memcpy(ret_row, value->mv_data, sizeof *ret_row);
    return MDB_SUCCESS;
}

/* The first row that begins at or above seq; or, `holding`, at or below seq and nearest to it. */
static int seek_row(MDB_cursor *rows, uint32_t group, uint64_t seq, bool holding, uint64_t *ret_from,
                    struct cmq_ledger_claim *ret_row)
{
    struct cmq_ledger_key buffer;
    MDB_val value, key = cmq_ledger_key_seq(&buffer, group, seq);
    uint64_t from;
    int code = mdb_cursor_get(rows, &key, &value, MDB_SET_RANGE);
    if (code == MDB_NOTFOUND && holding)
        code = mdb_cursor_get(rows, &key, &value, MDB_LAST);
    else if (code == MDB_SUCCESS && holding && (!cmq_ledger_key_is(&key, group, &from) || from != seq))
        code = mdb_cursor_get(rows, &key, &value, MDB_PREV);
    return code == MDB_SUCCESS ? read_row(&key, &value, group, ret_from, ret_row) : code;
}

static int next_row(MDB_cursor *rows, uint32_t group, uint64_t *ret_from, struct cmq_ledger_claim *ret_row)
{
    MDB_val key, value;
    int code = mdb_cursor_get(rows, &key, &value, MDB_NEXT);
    return code == MDB_SUCCESS ? read_row(&key, &value, group, ret_from, ret_row) : code;
}

/* The row that may overlap [from, ...) first: the one before it if that reaches into it, else the next. */
static int seek_overlap(MDB_cursor *rows, uint32_t group, uint64_t from, uint64_t *ret_from,
                        struct cmq_ledger_claim *ret_row)
{
    int code = seek_row(rows, group, from, true, ret_from, ret_row);
    if (code == MDB_SUCCESS && ret_row->to > from)
        return MDB_SUCCESS;
    if (code != MDB_SUCCESS && code != MDB_NOTFOUND)
        return code;
    return seek_row(rows, group, from, false, ret_from, ret_row);
}

static bool is_known(const uint64_t *owners, unsigned count, uint64_t owner)
{
    while (count > 0) {
        if (owners[--count] == owner)
            return true;
    }
    return false;
}

static bool is_free(struct search *search, uint64_t owner)
{
    struct dsp_ledger *ledger = search->ledger;
    if (owner == CMQ_LEDGER_NOBODY || owner == ledger->owner)
        return owner == CMQ_LEDGER_NOBODY;
    if (is_known(search->alive, search->alive_count, owner))
        return false;
    if (is_known(search->dead, search->dead_count, owner))
        return true;
    bool alive = ledger->is_alive(ledger->context, owner);
    unsigned *count = alive ? &search->alive_count : &search->dead_count;
    if (*count < OWNERS_KNOWN)
        (alive ? search->alive : search->dead)[(*count)++] = owner;
    return !alive;
}

/* The first records of [from, to) that are not done; MDB_NOTFOUND: all are. */
static int find_undone(struct search *search, uint64_t from, uint64_t to, uint64_t *ret_from,
                       uint64_t *ret_to)
{
    const struct dsp_ledger *ledger = search->ledger;
    uint64_t done_from, done_to, next = UINT64_MAX;
    int code = MDB_SUCCESS;
    while (from < to) {
        code = dsp_done_find(ledger->acks_read, ledger->tables, search->group, from, &done_from, &done_to,
                             &next);
        if (code != MDB_SUCCESS)
            break;
        from = done_to;
    }
    if (from >= to)
        return MDB_NOTFOUND;
    *ret_from = from;
    *ret_to = cmq_min_u64(to, next);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

/* ---- taking ---- */

/* Takes the first records of a free row that are of use. MDB_NOTFOUND: none are; a row without any is gone. */
static int take_row(struct search *search, uint64_t row_from, struct cmq_ledger_claim row,
                    struct dsp_claim *ret_claim)
{
    const struct dsp_tables *tables = search->ledger->tables;
    uint64_t from, to;
    int code = find_undone(search, cmq_max_u64(row_from, search->begin_seq), row.to, &from, &to);
    if (code == MDB_NOTFOUND) {
        code = mdb_cursor_del(search->rows, 0);
        return code == MDB_SUCCESS ? MDB_NOTFOUND : code;
    }
    if (code != MDB_SUCCESS)
        return code;
    if (from >= search->end_seq) {
        if (row.owner == CMQ_LEDGER_NOBODY)
            search->front.given_up = cmq_min_u64(search->front.given_up, row_from);
        return MDB_NOTFOUND;
    }
    to = cmq_min_u64(to, cmq_min_u64(search->end_seq, from + search->records_max));
    row.losses += row.owner != CMQ_LEDGER_NOBODY;
    struct cmq_ledger_claim rest = row;
    rest.owner = CMQ_LEDGER_NOBODY;
    code = mdb_cursor_del(search->rows, 0);
    if (code == MDB_SUCCESS && to < row.to)
        code = put_row(search->txn, tables, search->group, to, &rest);
    *ret_claim = (struct dsp_claim){.from = from,
                                    .to = to,
                                    .noted_seq = row.noted_seq,
                                    .noted_index = row.noted_index,
                                    .losses = row.losses};
    row.to = to;
    row.owner = search->ledger->owner;
    if (code == MDB_SUCCESS)
        code = put_row(search->txn, tables, search->group, from, &row);
    /* The look began at or below given_up and found this first. */
    search->front.given_up = to;
    return code;
}

/* Looks for a free row from seq on. MDB_NOTFOUND: there is none. */
static int claim_free(struct search *search, uint64_t seq, struct dsp_claim *ret_claim)
{
    struct cmq_ledger_claim row = {0};
    uint64_t from = 0;
    size_t looked = 0;
    int code = seek_row(search->rows, search->group, seq, false, &from, &row);
    while (code == MDB_SUCCESS) {
        looked++;
        bool free_row = is_free(search, row.owner);
        if (free_row) {
            code = take_row(search, from, row, ret_claim);
            if (code != MDB_NOTFOUND)
                return code;
            code = seek_row(search->rows, search->group, from + 1, false, &from, &row);
        } else {
            code = next_row(search->rows, search->group, &from, &row);
        }
    }
    if (seq == 0) {
        struct dsp_ledger *ledger = search->ledger;
        ledger->scans[search->group % CMQ_COUNT_OF(ledger->scans)] =
            (struct dsp_scan){.at_ns = cmq_clock_mono_ns(), .rows = looked};
    }
    return code;
}

/* Records that nobody had before. */
static int claim_new(struct search *search, struct dsp_claim *ret_claim)
{
    const struct dsp_ledger *ledger = search->ledger;
    uint64_t from, to;
    int code = find_undone(search, cmq_max_u64(search->front.frontier, search->begin_seq), search->end_seq,
                           &from, &to);
    if (code != MDB_SUCCESS)
        return code;
    to = cmq_min_u64(to, from + search->records_max);
    *ret_claim = (struct dsp_claim){.from = from, .to = to};
    search->front.frontier = to;
    /* A row of its own, although it may continue ours: what is noted of a row holds for all of it, and a part of the other one may
     * be about to be given up. */
    struct cmq_ledger_claim row = {.to = to, .owner = ledger->owner};
    return put_row(search->txn, ledger->tables, search->group, from, &row);
}

static int claim(struct search *search, struct dsp_claim *ret_claim)
{
    const struct dsp_ledger *ledger = search->ledger;
    const uint64_t given_up = search->given_up;
    const struct dsp_scan *scan = &ledger->scans[search->group % CMQ_COUNT_OF(ledger->scans)];
    bool scanned = cmq_clock_mono_ns() - scan->at_ns >= SCAN_MS * CMQ_NS_PER_MS;
    int code = MDB_NOTFOUND;
    if (scanned || given_up != UINT64_MAX) {
        search->front.given_up = UINT64_MAX;
        code = claim_free(search, scanned ? 0 : given_up, ret_claim);
    }
    if (code == MDB_NOTFOUND)
        code = claim_new(search, ret_claim);
    if (code == MDB_NOTFOUND && !scanned && scan->rows <= SCAN_ROWS_CHEAP)
        code = claim_free(search, 0, ret_claim);
    return code;
}

/* Whether the group is still the one of that id. With acks_read begun. */
static int check_group(const struct dsp_ledger *ledger, const struct dsp_ledger_group *group, bool *ret_same)
{
    struct cmq_ledger_row row = {0};
    MDB_val value, key = {.mv_size = strlen(group->name), .mv_data = (void *)(uintptr_t)group->name};
    int code = mdb_get(ledger->acks_read, ledger->tables->groups, &key, &value);
    if (code == MDB_SUCCESS)
        cmq_ledger_row_read(&value, &row);
    *ret_same = code == MDB_SUCCESS && row.id == group->id;
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

enum cmq_err dsp_ledger_claim(struct dsp_ledger *ledger, const struct dsp_ledger_group *group,
                              uint64_t begin_seq, uint64_t end_seq, uint32_t records_max,
                              struct dsp_claim *ret_claim)
{
    struct search search = {.ledger = ledger,
                            .group = group->id,
                            .begin_seq = cmq_max_u64(begin_seq, group->start_seq),
                            .end_seq = end_seq,
                            .records_max = records_max};
    int code = mdb_txn_begin(ledger->tables->claims, NULL, 0, &search.txn);
    if (code != MDB_SUCCESS)
        return cmq_ledger_err(code);
    bool same = true;
    code = dsp_acks_begin(ledger); /* after the writer lock: see dsp_ledger.h */
    if (code == MDB_SUCCESS) {
        code = check_group(ledger, group, &same);
        if (code == MDB_SUCCESS && !same)
            code = MDB_NOTFOUND;
        if (code == MDB_SUCCESS)
            code = mdb_cursor_open(search.txn, ledger->tables->rows, &search.rows);
        if (code == MDB_SUCCESS)
            code = get_front(search.txn, ledger->tables, group->id, &search.front);
        search.given_up = search.front.given_up;
        if (code == MDB_SUCCESS)
            code = claim(&search, ret_claim);
        if (search.rows != NULL)
            mdb_cursor_close(search.rows);
        mdb_txn_reset(ledger->acks_read);
    }
    if (code == MDB_SUCCESS || (same && code == MDB_NOTFOUND && search.front.given_up != search.given_up)) {
        int put = put_front(search.txn, ledger->tables, group->id, &search.front);
        if (put == MDB_SUCCESS)
            put = mdb_txn_commit(search.txn);
        else
            mdb_txn_abort(search.txn);
        if (put != MDB_SUCCESS)
            return cmq_ledger_err(put);
        CMQ_CRASH_POINT("ledger.claimed");
    } else {
        mdb_txn_abort(search.txn);
    }
    if (!same)
        return CMQ_ERR_LOST;
    return code == MDB_NOTFOUND ? CMQ_ERR_AGAIN : cmq_ledger_err(code);
}

/* ---- notes ---- */

static int note(MDB_txn *txn, MDB_cursor *rows, const struct dsp_ledger *ledger, uint32_t group, uint64_t seq,
                uint32_t index)
{
    struct cmq_ledger_claim row;
    uint64_t from, below = index == 0 && seq > 0 ? seq - 1 : seq;
    int code = seek_row(rows, group, below, true, &from, &row);
    if (code != MDB_SUCCESS)
        return code;
    if (row.owner != ledger->owner || below >= row.to)
        return MDB_NOTFOUND;
    if (row.noted_seq > seq || (row.noted_seq == seq && row.noted_index >= index))
        return MDB_SUCCESS;
    row.noted_seq = seq;
    row.noted_index = index;
    return put_row(txn, ledger->tables, group, from, &row);
}

enum cmq_err dsp_ledger_note(struct dsp_ledger *ledger, uint32_t group, uint64_t seq, uint32_t index)
{
    MDB_txn *txn = NULL;
    MDB_cursor *rows = NULL;
    int code = mdb_txn_begin(ledger->tables->claims, NULL, 0, &txn);
    if (code != MDB_SUCCESS)
        return cmq_ledger_err(code);
    code = mdb_cursor_open(txn, ledger->tables->rows, &rows);
    if (code == MDB_SUCCESS)
        code = note(txn, rows, ledger, group, seq, index);
    mdb_cursor_close(rows);
    if (code != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return code == MDB_NOTFOUND ? CMQ_ERR_LOST : cmq_ledger_err(code);
    }
    code = mdb_txn_commit(txn);
    if (code == MDB_SUCCESS)
        CMQ_CRASH_POINT("ledger.noted");
    return cmq_ledger_err(code);
}

/* ---- giving up ---- */

/* Puts a free row, as a part of the one before it if nothing tells them apart. */
static int put_free(MDB_txn *txn, MDB_cursor *rows, const struct dsp_tables *tables, uint32_t group,
                    uint64_t from, struct cmq_ledger_claim row)
{
    struct cmq_ledger_claim before;
    uint64_t before_from;
    int code = from == 0 ? MDB_NOTFOUND : seek_row(rows, group, from - 1, true, &before_from, &before);
    if (code != MDB_SUCCESS && code != MDB_NOTFOUND)
        return code;
    bool same = code == MDB_SUCCESS && before.to == from && before.owner == CMQ_LEDGER_NOBODY &&
                before.losses == row.losses && row.noted_seq == 0 && before.noted_seq <= from;
    if (!same)
        return put_row(txn, tables, group, from, &row);
    before.to = row.to;
    return put_row(txn, tables, group, before_from, &before);
}

/* Cuts [from, to) out of an own row and makes it free. */
static int free_part(MDB_txn *txn, MDB_cursor *rows, const struct dsp_tables *tables, uint32_t group,
                     uint64_t row_from, struct cmq_ledger_claim row, uint64_t from, uint64_t to,
                     struct cmq_ledger_claim *freed)
{
    struct cmq_ledger_claim head = row;
    int code = mdb_cursor_del(rows, 0);
    head.to = from;
    if (code == MDB_SUCCESS && row_from < from)
        code = put_row(txn, tables, group, row_from, &head);
    if (code == MDB_SUCCESS && to < row.to)
        code = put_row(txn, tables, group, to, &row);
    freed->to = to;
    freed->owner = CMQ_LEDGER_NOBODY;
    freed->losses = row.losses; /* who gives up has said what was delivered */
    return code == MDB_SUCCESS ? put_free(txn, rows, tables, group, from, *freed) : code;
}

static int give_up(MDB_txn *txn, MDB_cursor *rows, const struct dsp_ledger *ledger, uint32_t group,
                   uint64_t from, uint64_t to, const struct cmq_ledger_claim *noted)
{
    struct cmq_ledger_claim row;
    uint64_t row_from;
    int code = seek_overlap(rows, group, from, &row_from, &row);
    while (code == MDB_SUCCESS && row_from < to) {
        const uint64_t end = cmq_min_u64(row.to, to);
        if (row.owner == ledger->owner) {
            struct cmq_ledger_claim freed = *noted;
            if (noted->noted_seq == 0 && row.noted_seq > row_from) {
                freed.noted_seq = row.noted_seq;
                freed.noted_index = row.noted_index;
            }
            code = free_part(txn, rows, ledger->tables, group, row_from, row, cmq_max_u64(row_from, from),
                             end, &freed);
        }
        if (code == MDB_SUCCESS)
            code = seek_row(rows, group, end, false, &row_from, &row);
    }
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

enum cmq_err dsp_ledger_give_up(struct dsp_ledger *ledger, uint32_t group, uint64_t from, uint64_t to,
                                uint64_t noted_seq, uint32_t noted_index)
{
    const struct cmq_ledger_claim noted = {.noted_seq = noted_seq, .noted_index = noted_index};
    const struct dsp_tables *tables = ledger->tables;
    struct cmq_ledger_front front;
    MDB_txn *txn = NULL;
    MDB_cursor *rows = NULL;
    int code = mdb_txn_begin(tables->claims, NULL, 0, &txn);
    if (code != MDB_SUCCESS)
        return cmq_ledger_err(code);
    code = mdb_cursor_open(txn, tables->rows, &rows);
    if (code == MDB_SUCCESS)
        code = give_up(txn, rows, ledger, group, from, to, &noted);
    mdb_cursor_close(rows);
    if (code == MDB_SUCCESS)
        code = get_front(txn, tables, group, &front);
    if (code == MDB_SUCCESS) {
        front.given_up = cmq_min_u64(front.given_up, from);
        code = put_front(txn, tables, group, &front);
    }
    if (code == MDB_SUCCESS)
        return cmq_ledger_err(mdb_txn_commit(txn));
    mdb_txn_abort(txn);
    return cmq_ledger_err(code);
}

int dsp_claims_free_all(MDB_txn *txn, struct dsp_ledger *ledger)
{
    MDB_cursor *rows = NULL;
    MDB_val key, value;
    struct cmq_ledger_front front = {.frontier = 0, .given_up = UINT64_MAX};
    struct cmq_ledger_claim row;
    int code = mdb_cursor_open(txn, ledger->tables->rows, &rows);
    if (code != MDB_SUCCESS)
        return code;
    /* A group's front stands behind its rows. */
    uint64_t lowest = UINT64_MAX;
    for (code = mdb_cursor_get(rows, &key, &value, MDB_FIRST); code == MDB_SUCCESS;
         code = mdb_cursor_get(rows, &key, &value, MDB_NEXT)) {
        uint64_t seq = key.mv_size == 12 ? cmq_ledger_key_number(&key, 4, 8) : 0;
        uint8_t copy[12];
        MDB_val same = {.mv_size = sizeof copy, .mv_data = copy};
        if (key.mv_size != sizeof copy)
            continue;
        memcpy(copy, key.mv_data, sizeof copy);
        if (seq == UINT64_MAX && value.mv_size == sizeof front) {
            memcpy(&front, value.mv_data, sizeof front);
            front.given_up = cmq_min_u64(front.given_up, lowest);
            lowest = UINT64_MAX;
            value = (MDB_val){.mv_size = sizeof front, .mv_data = &front};
        } else if (seq != UINT64_MAX && value.mv_size == sizeof row) {
            memcpy(&row, value.mv_data, sizeof row);
            if (row.owner != ledger->owner)
                continue;
            row.owner = CMQ_LEDGER_NOBODY;
            row.losses++;
            lowest = cmq_min_u64(lowest, seq);
            value = (MDB_val){.mv_size = sizeof row, .mv_data = &row};
        }
        code = mdb_cursor_put(rows, &same, &value, MDB_CURRENT);
        if (code != MDB_SUCCESS)
            break;
    }
    mdb_cursor_close(rows);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

/* ---- the rest ---- */

int dsp_claims_trim(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t from, uint64_t to)
{
    MDB_cursor *rows = NULL;
    struct cmq_ledger_claim row;
    uint64_t row_from;
    int code = mdb_cursor_open(txn, tables->rows, &rows);
    if (code == MDB_SUCCESS)
        code = seek_overlap(rows, group, from, &row_from, &row);
    while (code == MDB_SUCCESS && row_from < to) {
        const uint64_t end = row.to;
        if (row_from >= from) {
            code = mdb_cursor_del(rows, 0);
            if (code == MDB_SUCCESS && end > to)
                code = put_row(txn, tables, group, to, &row);
        } else if (end <= to) {
            row.to = from;
            code = put_row(txn, tables, group, row_from, &row);
        } /* else it has a hole */
        if (code == MDB_SUCCESS)
            code = seek_row(rows, group, cmq_max_u64(row_from + 1, cmq_min_u64(end, to)), false, &row_from,
                            &row);
    }
    mdb_cursor_close(rows);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

int dsp_claims_count(MDB_txn *txn, const struct dsp_tables *tables, uint32_t group, uint64_t *ret_count)
{
    MDB_cursor *rows = NULL;
    struct cmq_ledger_claim row;
    uint64_t from;
    *ret_count = 0;
    int code = mdb_cursor_open(txn, tables->rows, &rows);
    if (code == MDB_SUCCESS)
        code = seek_row(rows, group, 0, false, &from, &row);
    while (code == MDB_SUCCESS) {
        *ret_count += row.owner != CMQ_LEDGER_NOBODY ? row.to - from : 0;
        code = next_row(rows, group, &from, &row);
    }
    mdb_cursor_close(rows);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}
