#include "dispatcher/dsp_encode.h"

#include <string.h>

#include "common/base/cmq_clock.h"
#include "dispatcher/dsp_item.h"

enum {
    PAGE_MESSAGES = 1024,
    PAGE_BYTES = 64 * 1024, /* of messages; a page has one at least */
    SCRATCH_BYTES = 256 * 1024
};

/* Some messages of a unit. */
struct page {
    uint32_t first, count; /* indexes in the record */
    uint32_t items;        /* less than count when some were left out */
    uint32_t expired;      /* of those that are no items */
    uint64_t until_ms;     /* then an item of it is over, and it is encoded again */
    size_t offset, bytes;  /* of its messages in the unit */
    uint32_t *ends;        /* NULL: not encoded yet. Of each item, in the text behind them */
};

struct pages {
    uint32_t count;
    uint32_t end; /* index behind the last message that can be read */
    struct page page[];
};

struct encoded {
    uint32_t unit_count;
    struct pages *units[]; /* NULL: not wanted yet */
};

enum cmq_err dsp_encoder_init(struct dsp_encoder *encoder, struct dsp_source *source)
{
    *encoder = (struct dsp_encoder){.source = source, .clock_ms = cmq_clock_wall_ms};
    return dsp_text_init(&encoder->scratch, 0, SCRATCH_BYTES);
}

void dsp_encoder_fini(struct dsp_encoder *encoder)
{
    dsp_text_fini(&encoder->scratch);
}

void dsp_encode_free(void *memory)
{
    struct encoded *encoded = memory;
    for (uint32_t i = 0; i < encoded->unit_count; i++) {
        struct pages *pages = encoded->units[i];
        for (uint32_t j = 0; pages != NULL && j < pages->count; j++)
            free(pages->page[j].ends);
        free(pages);
    }
    free(encoded);
}

/* ---- pages ---- */

/* Moves over the messages of one page. False: none can be read. */
static bool walk_page(struct cmq_mp_reader *reader, uint32_t messages_max, uint32_t *ret_count)
{
    const uint8_t *begin = reader->next;
    uint32_t count = 0;
    struct cmq_message message;
    struct cmq_message_full full;
    while (count < messages_max && count < PAGE_MESSAGES) {
        const uint8_t *before = reader->next;
        if (cmq_message_next(reader, &message) != CMQ_OK && cmq_message_read(reader, &full) != CMQ_OK)
            break;
        if (count > 0 && (size_t)(reader->next - begin) > PAGE_BYTES) {
            reader->next = before;
            break;
        }
        count++;
    }
    *ret_count = count;
    return count > 0;
}

/* The unit's pages, or how many it has when pages is NULL. */
static uint32_t divide(const struct dsp_unit *unit, struct pages *pages)
{
    struct cmq_mp_reader reader;
    uint32_t count = 0, index = unit->first, end = unit->first + unit->count, messages;
    cmq_mp_reader_init(&reader, unit->messages);
    while (index < end) {
        const uint8_t *begin = reader.next;
        if (!walk_page(&reader, end - index, &messages))
            break;
        if (pages != NULL)
            pages->page[count] = (struct page){.first = index,
                                               .count = messages,
                                               .offset = (size_t)(begin - unit->messages.data),
                                               .bytes = (size_t)(reader.next - begin)};
        index += messages;
        count++;
    }
    if (pages != NULL)
        pages->end = index;
    return count;
}

static struct pages *make_pages(struct dsp_encoder *encoder, struct dsp_record *record,
                                const struct dsp_unit *unit)
{
    bool small = unit->count <= PAGE_MESSAGES && unit->messages.bytes <= PAGE_BYTES;
    uint32_t count = small ? 1 : divide(unit, NULL);
    size_t bytes = sizeof(struct pages) + count * sizeof(struct page);
    struct pages *pages = calloc(1, bytes);
    if (pages == NULL)
        return NULL;
    pages->count = divide(unit, pages);
    dsp_source_grew(encoder->source, record, bytes);
    return pages;
}

static struct pages *pages_of(struct dsp_encoder *encoder, struct dsp_record *record,
                              const struct dsp_unit *unit, enum dsp_format format)
{
    struct encoded *encoded = record->encoded[format];
    if (encoded == NULL) {
        size_t bytes = sizeof(*encoded) + record->unit_count * sizeof(struct pages *);
        encoded = calloc(1, bytes);
        if (encoded == NULL)
            return NULL;
        encoded->unit_count = record->unit_count;
        record->encoded[format] = encoded;
        dsp_source_grew(encoder->source, record, bytes);
    }
    struct pages **pages = &encoded->units[unit - record->units];
    if (*pages == NULL)
        *pages = make_pages(encoder, record, unit);
    return *pages;
}

static uint8_t *text_of(const struct page *page)
{
    return (uint8_t *)(page->ends + page->count);
}

/* Again: its text is not longer than before, since only what is over at now_ms goes. */
static enum cmq_err encode_page(struct dsp_encoder *encoder, struct dsp_record *record,
                                const struct dsp_unit *unit, enum dsp_format format, struct page *page,
                                uint64_t now_ms)
{
    const size_t ends_bytes = page->count * sizeof(*page->ends);
    uint32_t ends[PAGE_MESSAGES];
    struct dsp_item_tally tally;
    struct dsp_form form;
    struct cmq_mp_reader reader;
    struct dsp_text *text = &encoder->scratch;
    dsp_form_init(&form, format, record->seq, record->accepted_at_ms, 0);
    cmq_mp_reader_init(&reader, cmq_span_make(unit->messages.data + page->offset, page->bytes));
    dsp_text_begin(text);
    const struct dsp_item_run run = {.reader = &reader,
                                     .index = page->first,
                                     .count = page->count,
                                     .bytes_max = SIZE_MAX,
                                     .item_max = UINT32_MAX,
                                     .now_ms = now_ms,
                                     .ends = ends};
    if (dsp_item_write(text, &form, &run, &tally) != DSP_ITEM_ALL)
        return CMQ_ERR_NOMEM; /* the pages were walked, so it is not the bytes */
    if (page->ends == NULL) {
        page->ends = malloc(ends_bytes + text->bytes);
        if (page->ends == NULL)
            return CMQ_ERR_NOMEM;
        dsp_source_grew(encoder->source, record, ends_bytes + text->bytes);
    } else {
        cmq_assert(text->bytes <= page->ends[page->count - 1]);
    }
    memcpy(page->ends, ends, ends_bytes);
    memcpy(text_of(page), dsp_text_start(text), text->bytes);
    if (tally.expired > page->expired)
        dsp_source_expired(encoder->source, tally.expired - page->expired);
    page->items = tally.items;
    page->expired = tally.expired;
    page->until_ms = tally.until_ms;
    return CMQ_OK;
}

/* Makes it the items as they are to be delivered now. */
static enum cmq_err refresh(struct dsp_encoder *encoder, struct dsp_record *record,
                            const struct dsp_unit *unit, enum dsp_format format, struct page *page)
{
    if (page->ends != NULL && page->until_ms == UINT64_MAX)
        return CMQ_OK;
    const uint64_t now_ms = encoder->clock_ms();
    if (page->ends != NULL && page->until_ms > now_ms)
        return CMQ_OK;
    return encode_page(encoder, record, unit, format, page, now_ms);
}

/* The page that has the message. */
static struct page *find_page(struct pages *pages, uint32_t index)
{
    uint32_t low = 0, high = pages->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (pages->page[middle].first <= index)
            low = middle;
        else
            high = middle;
    }
    return &pages->page[low];
}

/* ---- frames ---- */

/* How many messages of the page from `from` (in the page) on go into the frame, and how many items they are. */
static uint32_t fitting(const struct page *page, uint32_t from, const struct dsp_items *items,
                        uint32_t *ret_items)
{
    const size_t more =
        dsp_format_is_framed(items->format) ? dsp_item_frame_bytes(items->format, items->topic) : 0;
    const uint32_t begin = from == 0 ? 0 : page->ends[from - 1];
    const uint32_t items_max = items->count_max - items->count;
    const size_t room = items->bytes_max > items->text->bytes ? items->bytes_max - items->text->bytes : 0;
    const uint32_t rest = page->count - from;
    if (page->items == page->count && rest <= items_max &&
        page->ends[page->count - 1] - begin + rest * more <= room) {
        *ret_items = rest;
        return rest;
    }
    uint32_t taken = 0, found = 0;
    for (; taken < rest; taken++) {
        uint32_t last = from + taken, before = last == 0 ? 0 : page->ends[last - 1];
        bool item = page->ends[last] > before;
        bool alone = items->count + found == 0;
        size_t bytes = page->ends[last] - begin + (found + 1) * more;
        if (item && (found == items_max || (bytes > room && !alone)))
            break;
        found += item;
    }
    *ret_items = found;
    return taken;
}

/* Messages from..to of the page, each in its frame. */
static void add_framed(const struct page *page, uint32_t from, uint32_t to, struct dsp_items *items)
{
    for (uint32_t i = from; i < to; i++) {
        const uint32_t begin = i == 0 ? 0 : page->ends[i - 1];
        if (page->ends[i] > begin)
            dsp_item_frame(items->text, items->format, items->topic,
                           cmq_span_make(text_of(page) + begin, page->ends[i] - begin));
    }
}

/* Takes from one page; returns how many messages. */
static uint32_t take_from(const struct page *page, uint32_t from, struct dsp_items *items)
{
    uint32_t found;
    uint32_t taken = fitting(page, from, items, &found);
    if (taken == 0)
        return 0;
    uint32_t begin = from == 0 ? 0 : page->ends[from - 1];
    if (dsp_format_is_framed(items->format))
        add_framed(page, from, from + taken, items);
    else
        dsp_text_add(items->text, text_of(page) + begin, page->ends[from + taken - 1] - begin);
    items->count += found;
    return taken;
}

enum cmq_err dsp_encode_shared(struct dsp_encoder *encoder, struct dsp_record *record,
                               const struct dsp_unit *unit, uint32_t index, struct dsp_items *items,
                               uint32_t *ret_index)
{
    const uint32_t end = unit->first + unit->count;
    const enum dsp_format format = dsp_format_is_framed(items->format) ? DSP_FORMAT_JSON : items->format;
    *ret_index = index;
    struct pages *pages = pages_of(encoder, record, unit, format);
    if (pages == NULL)
        return CMQ_ERR_NOMEM;
    while (*ret_index < end) {
        if (*ret_index >= pages->end)
            return CMQ_ERR_MALFORMED;
        struct page *page = find_page(pages, *ret_index);
        enum cmq_err err = refresh(encoder, record, unit, format, page);
        if (err != CMQ_OK)
            return err;
        uint32_t from = *ret_index - page->first;
        uint32_t taken = take_from(page, from, items);
        if (items->text->err != CMQ_OK)
            return items->text->err;
        *ret_index += taken;
        if (from + taken < page->count)
            break;
    }
    return CMQ_OK;
}

enum cmq_err dsp_encode_run(struct dsp_items *items, const struct dsp_run *run, uint32_t *ret_taken,
                            size_t *ret_bytes, uint32_t *ret_left_out)
{
    struct cmq_mp_reader reader;
    struct dsp_form form;
    struct dsp_item_tally tally;
    dsp_form_init(&form, items->format, run->seq, run->ts_ms, run->attempt);
    cmq_mp_reader_init(&reader, run->messages);
    const struct dsp_item_run item_run = {.reader = &reader,
                                          .index = run->first,
                                          .count = run->count,
                                          .bytes_max = items->bytes_max,
                                          .first_goes = items->count == 0,
                                          .item_max = items->count_max - items->count,
                                          .now_ms = run->now_ms};
    enum dsp_item_end end = dsp_item_write(items->text, &form, &item_run, &tally);
    *ret_taken = tally.read;
    *ret_bytes = (size_t)(reader.next - run->messages.data);
    *ret_left_out = tally.read - tally.items;
    items->count += tally.items;
    if (end == DSP_ITEM_NOMEM)
        return CMQ_ERR_NOMEM;
    return end == DSP_ITEM_BAD ? CMQ_ERR_MALFORMED : CMQ_OK;
}
