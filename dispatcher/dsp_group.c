#include "dispatcher/dsp_group.h"

#include "common/log/cmq_log.h"
#include "common/wire/cmq_batch.h"

enum {
    RANGES_A_BLOCK = 256,
    /* Buffers kept for the next records: one by one, and all of them. */
    KEEP_BYTES_EACH = 1 << 20,
    KEEP_BYTES_ALL = 4 << 20,
    /* One frame takes no more than this part of the records in hand, so that one slow client leaves some for
       others. */
    FRAME_SHARE = 4,
    /* Records without anything to send (void, undeliverable) that one call skips at most. */
    SKIPS_MAX = 1024
};

struct dsp_range_block {
    struct dsp_range_block *next;
    struct dsp_range ranges[RANGES_A_BLOCK];
};

struct dsp_entry {
    struct dsp_entry *next, *prev;
    struct cmq_claim claim;
    struct dsp_opened record;
    struct dsp_range_list ahead; /* delivered although something before them is not */
    uint32_t low;                /* all messages below are delivered */
    uint32_t refs;               /* ranges pending or in flights */
    bool lost;
};

/* ---- memory ---- */

static struct dsp_range *range_new(struct dsp_share *group)
{
    if (group->spare_ranges == NULL) {
        struct dsp_range_block *block = malloc(sizeof(*block));
        if (block == NULL)
            return NULL;
        block->next = group->range_blocks;
        group->range_blocks = block;
        for (size_t i = 0; i < RANGES_A_BLOCK; i++) {
            block->ranges[i].next = group->spare_ranges;
            group->spare_ranges = &block->ranges[i];
        }
    }
    struct dsp_range *range = group->spare_ranges;
    group->spare_ranges = range->next;
    return range;
}

static void range_free(struct dsp_share *group, struct dsp_range *range)
{
    range->next = group->spare_ranges;
    group->spare_ranges = range;
}

static void list_push(struct dsp_range_list *list, struct dsp_range *range)
{
    range->next = NULL;
    if (list->head == NULL)
        list->head = range;
    else
        list->tail->next = range;
    list->tail = range;
}

static struct dsp_range *list_pop(struct dsp_range_list *list)
{
    struct dsp_range *range = list->head;
    if (range != NULL)
        list->head = range->next;
    return range;
}

static struct dsp_entry *entry_new(struct dsp_share *group)
{
    struct dsp_entry *entry = group->spare_entries;
    if (entry != NULL) {
        group->spare_entries = entry->next;
        group->spare_bytes -= entry->record.plain_capacity;
    } else {
        entry = calloc(1, sizeof(*entry));
        if (entry == NULL)
            return NULL;
    }
    entry->prev = NULL;
    entry->next = group->entries;
    if (group->entries != NULL)
        group->entries->prev = entry;
    group->entries = entry;
    group->entry_count++;
    return entry;
}

/* Forgets a record; the ring has been told already. */
static void entry_free(struct dsp_share *group, struct dsp_entry *entry)
{
    cmq_assert(entry->refs == 0);
    for (struct dsp_range *range; (range = list_pop(&entry->ahead)) != NULL;)
        range_free(group, range);
    if (entry->prev != NULL)
        entry->prev->next = entry->next;
    else
        group->entries = entry->next;
    if (entry->next != NULL)
        entry->next->prev = entry->prev;
    group->entry_count--;
    group->open_bytes -= entry->record.plain_bytes;

    size_t room = group->spare_bytes < KEEP_BYTES_ALL ? KEEP_BYTES_ALL - group->spare_bytes : 0;
    dsp_record_clear(&entry->record, cmq_min_u64(room, KEEP_BYTES_EACH));
    entry->low = 0;
    entry->lost = false;
    entry->next = group->spare_entries;
    group->spare_entries = entry;
    group->spare_bytes += entry->record.plain_capacity;
}

/* ---- progress of a record ---- */

/* Takes out of `ahead` the range that begins where everything before is delivered. */
static struct dsp_range *take_adjacent(struct dsp_entry *entry)
{
    struct dsp_range *before = NULL;
    for (struct dsp_range *range = entry->ahead.head; range != NULL; before = range, range = range->next) {
        if (range->first != entry->low)
            continue;
        if (before == NULL)
            entry->ahead.head = range->next;
        else
            before->next = range->next;
        if (entry->ahead.tail == range)
            entry->ahead.tail = before;
        return range;
    }
    return NULL;
}

/* Notes a range (now the entry's) as delivered, without telling the ring. */
static void note_delivered(struct dsp_share *group, struct dsp_entry *entry, struct dsp_range *range)
{
    if (range->first != entry->low) {
        list_push(&entry->ahead, range);
        return;
    }
    do {
        entry->low += range->count;
        range_free(group, range);
    } while (entry->ahead.head != NULL && (range = take_adjacent(entry)) != NULL);
}

/* Tells the ring how far the record is, and lets go of it when nothing is left to do. */
static void settle(struct dsp_share *group, struct dsp_entry *entry)
{
    if (!entry->lost && entry->low == entry->record.message_count) {
        entry->lost = cmq_ring_done(group->ring, &entry->claim) != CMQ_OK;
        if (!entry->lost)
            cmq_ring_count(group->ring, CMQ_COUNT_RECORDS, 1);
        entry_free(group, entry);
        return;
    }
    if (!entry->lost && entry->low > entry->claim.progress)
        entry->lost = cmq_ring_progress(group->ring, &entry->claim, entry->low) != CMQ_OK;
    if (entry->refs > 0)
        return;
    if (!entry->lost)
        cmq_ring_release(group->ring, &entry->claim);
    entry_free(group, entry);
}

/* Gives up a range that nobody is to get from here. */
static void drop_range(struct dsp_share *group, struct dsp_range *range)
{
    struct dsp_entry *entry = range->entry;
    range_free(group, range);
    if (--entry->refs == 0)
        settle(group, entry);
}

static void release_pending(struct dsp_share *group)
{
    for (struct dsp_range *range; (range = list_pop(&group->pending)) != NULL;)
        drop_range(group, range);
}

/* ---- opening a record ---- */

static enum cmq_err add_range(struct dsp_share *group, struct dsp_entry *entry, uint32_t first,
                              uint32_t count, struct dsp_range **ret_range)
{
    struct dsp_range *range = range_new(group);
    if (range == NULL)
        return CMQ_ERR_NOMEM;
    *range =
        (struct dsp_range){.entry = entry, .first = first, .count = count, .again = entry->claim.redelivery};
    *ret_range = range;
    return CMQ_OK;
}

/* Messages that are not for delivery count as delivered. */
static enum cmq_err add_gap(struct dsp_share *group, struct dsp_entry *entry, uint32_t first, uint32_t end)
{
    struct dsp_range *range = NULL;
    first = first < entry->low ? entry->low : first;
    if (first >= end)
        return CMQ_OK;
    enum cmq_err err = add_range(group, entry, first, end - first, &range);
    if (err == CMQ_OK)
        note_delivered(group, entry, range);
    return err;
}

/* Skips what another dispatcher delivered before. False: the bytes are no messages. */
static bool skip_messages(struct cmq_mp_reader *reader, uint32_t count)
{
    struct cmq_message message;
    while (count-- > 0)
        if (cmq_message_next(reader, &message) != CMQ_OK)
            return false;
    return true;
}

static enum cmq_err add_segment(struct dsp_share *group, struct dsp_entry *entry,
                                const struct dsp_segment *segment)
{
    const struct dsp_opened *record = &entry->record;
    uint32_t skip = entry->claim.progress > segment->first ? entry->claim.progress - segment->first : 0;
    if (skip >= segment->count)
        return CMQ_OK;
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, cmq_span_make(record->plain + segment->offset, segment->bytes));
    if (!skip_messages(&reader, skip))
        return add_gap(group, entry, segment->first + skip, segment->first + segment->count);
    struct dsp_range *range = NULL;
    enum cmq_err err = add_range(group, entry, segment->first + skip, segment->count - skip, &range);
    if (err != CMQ_OK)
        return err;
    range->offset = (size_t)(reader.next - record->plain);
    range->end = segment->offset + segment->bytes;
    entry->refs++;
    list_push(&group->pending, range);
    return CMQ_OK;
}

/* Divides an opened record into pending ranges and gaps. */
static enum cmq_err add_ranges(struct dsp_share *group, struct dsp_entry *entry)
{
    const struct dsp_opened *record = &entry->record;
    entry->low =
        entry->claim.progress < record->message_count ? entry->claim.progress : record->message_count;
    uint32_t end = 0;
    for (uint32_t i = 0; i < record->segment_count; i++) {
        const struct dsp_segment *segment = &record->segments[i];
        enum cmq_err err = add_gap(group, entry, end, segment->first);
        if (err == CMQ_OK)
            err = add_segment(group, entry, segment);
        if (err != CMQ_OK)
            return err;
        end = segment->first + segment->count;
    }
    return add_gap(group, entry, end, record->message_count);
}

/* CMQ_ERR_AGAIN: the ring has nothing. CMQ_OK: one record more was looked at; it may have had nothing to
 * deliver. */
static enum cmq_err claim_record(struct dsp_share *group)
{
    struct cmq_claim claim;
    enum cmq_err err = cmq_ring_claim(group->ring, &claim);
    if (err != CMQ_OK)
        return err;
    if (claim.void_record) {
        cmq_ring_count(group->ring, CMQ_COUNT_VOIDS, 1);
        cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_VOID, "seq=%llu", (unsigned long long)claim.seq);
        err = cmq_ring_done(group->ring, &claim);
        return err == CMQ_ERR_LOST ? CMQ_OK : err; /* lost: somebody else skips it */
    }
    struct dsp_entry *entry = entry_new(group);
    if (entry == NULL) {
        cmq_ring_release(group->ring, &claim);
        return CMQ_ERR_NOMEM;
    }
    entry->claim = claim;
    err = dsp_record_open(group->opener, &claim, &entry->record);
    group->open_bytes += entry->record.plain_bytes;
    if (err == CMQ_OK) {
        cmq_ring_count(group->ring, CMQ_COUNT_BYTES_IN, claim.payload.bytes);
        err = add_ranges(group, entry);
    }
    if (err != CMQ_OK && entry->refs == 0) {
        cmq_ring_release(group->ring, &claim);
        entry->lost = true;
    }
    if (entry->refs == 0)
        settle(group, entry);
    return err;
}

/* ---- frames ---- */

static bool may_claim(const struct dsp_share *group)
{
    return !group->draining && group->entry_count < group->limits.open_records_max &&
           group->open_bytes < group->limits.open_bytes_max;
}

/* What cannot be read as messages is as good as delivered. */
static void skip_rest(struct dsp_share *group, struct dsp_range *range)
{
    struct dsp_entry *entry = range->entry;
    cmq_ring_count(group->ring, CMQ_COUNT_UNDELIVERABLE, range->count);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_BAD, "seq=%llu messages=%u err=\"%s\"",
            (unsigned long long)entry->claim.seq, range->count, cmq_err_text(CMQ_ERR_MALFORMED));
    list_pop(&group->pending);
    entry->refs--;
    note_delivered(group, entry, range);
    if (entry->refs == 0)
        settle(group, entry);
}

/* The first `taken` messages of the first pending range go into the flight. */
static enum cmq_err move_to_flight(struct dsp_share *group, struct dsp_consumer *client, uint32_t taken,
                                   size_t offset)
{
    struct dsp_range *range = group->pending.head;
    struct dsp_range *part = range;
    if (taken == range->count) {
        list_pop(&group->pending);
    } else {
        part = range_new(group);
        if (part == NULL)
            return CMQ_ERR_NOMEM;
        *part = *range;
        part->count = taken;
        range->first += taken;
        range->count -= taken;
        range->offset = offset;
        range->entry->refs++;
    }
    if (part->again)
        cmq_ring_count(group->ring, CMQ_COUNT_REDELIVERED, taken);
    list_push(&client->flight, part);
    return CMQ_OK;
}

/* Fills from the first pending range. */
static enum dsp_take take_pending(struct dsp_share *group, struct dsp_consumer *client,
                                  struct dsp_frame *frame)
{
    struct dsp_range *range = group->pending.head;
    if (range->entry->lost) {
        list_pop(&group->pending);
        drop_range(group, range);
        return DSP_TAKE_ALL;
    }
    const uint8_t *plain = range->entry->record.plain;
    struct cmq_mp_reader reader = {.next = plain + range->offset, .end = plain + range->end};
    uint32_t taken = 0;
    enum dsp_take take = dsp_frame_take(frame, &reader, range->count, &taken);
    if (taken > 0) {
        bool whole = taken == range->count;
        if (move_to_flight(group, client, taken, (size_t)(reader.next - plain)) != CMQ_OK)
            return DSP_TAKE_NOMEM;
        if (whole)
            return take;
    }
    if (take == DSP_TAKE_BAD) {
        skip_rest(group, range);
        return DSP_TAKE_ALL;
    }
    return take;
}

/* Puts messages into the frame until it is full or nothing is there. */
static enum cmq_err fill_frame(struct dsp_share *group, struct dsp_consumer *client, struct dsp_frame *frame)
{
    uint32_t records_left = group->limits.open_records_max / FRAME_SHARE + 1, claims_left = SKIPS_MAX;
    for (;;) {
        if (group->pending.head != NULL) {
            enum dsp_take take = records_left > 0 ? take_pending(group, client, frame) : DSP_TAKE_FULL;
            if (take == DSP_TAKE_NOMEM)
                return CMQ_ERR_NOMEM;
            if (take != DSP_TAKE_ALL)
                return CMQ_OK;
            records_left--;
            claims_left = SKIPS_MAX;
            continue;
        }
        if (!may_claim(group) || claims_left-- == 0)
            return CMQ_OK;
        enum cmq_err err = claim_record(group);
        group->more = err == CMQ_OK;
        if (err != CMQ_OK)
            return err == CMQ_ERR_AGAIN ? CMQ_OK : err;
    }
}

enum dsp_fill dsp_share_fill(struct dsp_share *group, struct dsp_consumer *client, struct dsp_frame *frame,
                             enum cmq_err *ret_err)
{
    cmq_assert(client->flight.head == NULL);
    enum cmq_err err = dsp_frame_begin(frame);
    if (err == CMQ_OK)
        err = fill_frame(group, client, frame);
    if (err != CMQ_OK) {
        *ret_err = err;
        return DSP_FILL_FAILED;
    }
    if (frame->skipped > 0)
        cmq_ring_count(group->ring, CMQ_COUNT_UNDELIVERABLE, frame->skipped);
    client->flight_messages = frame->messages;
    client->flight_bytes = frame->bytes;
    cmq_ring_gauge(group->ring, CMQ_COUNT_BACKLOG, group->entry_count);
    if (frame->messages > 0)
        return DSP_FILL_FRAME;
    /* Only what is not text was taken: there is nothing to send for it. */
    dsp_share_delivered(group, client);
    return DSP_FILL_NOTHING;
}

void dsp_share_delivered(struct dsp_share *group, struct dsp_consumer *client)
{
    if (client->flight.head == NULL)
        return;
    for (struct dsp_range *range; (range = list_pop(&client->flight)) != NULL;) {
        struct dsp_entry *entry = range->entry;
        entry->refs--;
        note_delivered(group, entry, range);
        if (entry->refs == 0 || client->flight.head == NULL || client->flight.head->entry != entry)
            settle(group, entry);
    }
    if (client->flight_messages > 0) {
        cmq_ring_count(group->ring, CMQ_COUNT_MESSAGES, client->flight_messages);
        cmq_ring_count(group->ring, CMQ_COUNT_FRAMES, 1);
        cmq_ring_count(group->ring, CMQ_COUNT_BYTES_OUT, client->flight_bytes);
    }
    cmq_ring_gauge(group->ring, CMQ_COUNT_BACKLOG, group->entry_count);
}

/* ---- clients ---- */

static bool comes_before(const struct dsp_range *a, const struct dsp_range *b)
{
    if (a->entry->claim.seq != b->entry->claim.seq)
        return a->entry->claim.seq < b->entry->claim.seq;
    return a->first < b->first;
}

/* Merges a flight into what is pending, both in order. */
static void return_flight(struct dsp_share *group, struct dsp_range_list *flight)
{
    struct dsp_range_list merged = {0}, pending = group->pending;
    while (flight->head != NULL || pending.head != NULL) {
        bool take_flight =
            pending.head == NULL || (flight->head != NULL && comes_before(flight->head, pending.head));
        struct dsp_range *range = list_pop(take_flight ? flight : &pending);
        range->again = range->again || take_flight;
        list_push(&merged, range);
    }
    group->pending = merged;
}

void dsp_share_join(struct dsp_share *group, struct dsp_consumer *ret_client)
{
    *ret_client = (struct dsp_consumer){0};
    group->client_count++;
}

void dsp_share_leave(struct dsp_share *group, struct dsp_consumer *client)
{
    cmq_assert(group->client_count > 0);
    return_flight(group, &client->flight);
    if (--group->client_count == 0 || group->draining)
        release_pending(group);
    cmq_ring_gauge(group->ring, CMQ_COUNT_BACKLOG, group->entry_count);
}

/* ---- the rest ---- */

enum dsp_want dsp_share_want(const struct dsp_share *group)
{
    if (group->pending.head != NULL)
        return DSP_WANT_CLIENT;
    if (!may_claim(group))
        return DSP_WANT_DELIVERY;
    return group->more ? DSP_WANT_CLIENT : DSP_WANT_RING;
}

void dsp_share_ring_rang(struct dsp_share *group)
{
    group->more = true;
}

void dsp_share_drain(struct dsp_share *group)
{
    group->draining = true;
    release_pending(group);
    cmq_ring_gauge(group->ring, CMQ_COUNT_BACKLOG, group->entry_count);
}

void dsp_share_init(struct dsp_share *ret_group, struct cmq_ring *ring, struct dsp_opener *opener,
                    const struct dsp_limits *limits)
{
    *ret_group = (struct dsp_share){.ring = ring, .opener = opener, .limits = *limits};
}

void dsp_share_fini(struct dsp_share *group)
{
    cmq_assert(group->client_count == 0);
    release_pending(group);
    cmq_assert(group->entries == NULL);
    for (struct dsp_entry *entry; (entry = group->spare_entries) != NULL;) {
        group->spare_entries = entry->next;
        dsp_record_fini(&entry->record);
        free(entry);
    }
    for (struct dsp_range_block *block; (block = group->range_blocks) != NULL;) {
        group->range_blocks = block->next;
        free(block);
    }
    *group = (struct dsp_share){0};
}
