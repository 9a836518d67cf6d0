#include "dispatcher/dsp_sub.h"

#include <string.h>

#include "common/wire/cmq_topic.h"

/* Records that are passed in one call; topics of a record are looked at in well under a microsecond. */
enum { LOOKS_MAX = 2048 };
/* The same where nobody else has a turn meanwhile. */
enum { PASSED_MAX = 64 };

/* ---- where to begin ---- */

static bool says(struct cmq_span text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

static struct cmq_id behind(struct cmq_id id)
{
    if (id.index == UINT32_MAX)
        return (struct cmq_id){.seq = id.seq + 1};
    return (struct cmq_id){.seq = id.seq, .index = id.index + 1};
}

enum cmq_err dsp_cursor_parse(struct dsp_source *source, struct cmq_span since, struct dsp_cursor *ret_cursor,
                              struct cmq_reason *reason)
{
    struct cmq_id id = {0};
    uint64_t stored = dsp_source_stored(source),
             published = cmq_max_u64(stored, dsp_source_published(source));
    if (says(since, "latest"))
        id.seq = stored;
    else if (says(since, "earliest"))
        id.seq = dsp_source_floor(source);
    else if (cmq_id_parse(since, &id) != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "since is neither \"earliest\" nor \"latest\" nor an id like \"12-0\"");
    else if (id.seq >= published)
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "no message has that id yet: the next one will be %llu-0; is it of another broker?",
            (unsigned long long)published);
    else
        id = id.seq == 0 ? (struct cmq_id){.seq = 1} : behind(id); /* records count from 1 */
    *ret_cursor = (struct dsp_cursor){.next = id};
    return CMQ_OK;
}

void dsp_sub_init(struct dsp_sub *ret_sub, uint64_t id, struct cmq_span pattern,
                  const struct dsp_cursor *cursor)
{
    cmq_assert(pattern.bytes >= 1 && pattern.bytes <= CMQ_TOPIC_BYTES_MAX);
    *ret_sub = (struct dsp_sub){.id = id, .cursor = *cursor, .pattern_bytes = (uint8_t)pattern.bytes};
    memcpy(ret_sub->pattern, pattern.data, pattern.bytes);
    ret_sub->plain =
        memchr(pattern.data, '*', pattern.bytes) == NULL && memchr(pattern.data, '>', pattern.bytes) == NULL;
}

/* ---- filling ---- */

/* A frame while it is built. */
struct filling {
    struct dsp_sub *sub;
    struct dsp_encoder *encoder;
    struct dsp_text *text;
    const struct dsp_push_limits *limits;
    enum dsp_format format;
    struct dsp_items items;
    uint8_t topic[CMQ_TOPIC_BYTES_MAX]; /* of the items */
    size_t topic_bytes;                 /* 0: none yet */
};

enum step {
    STEP_ON,   /* go on */
    STEP_FULL, /* the frame is ready as it is */
    STEP_GAP,  /* the frame is a gap */
    STEP_FAILED
};

static bool is_wanted(const struct dsp_sub *sub, struct cmq_span topic)
{
    if (sub->plain)
        return topic.bytes == sub->pattern_bytes && memcmp(topic.data, sub->pattern, topic.bytes) == 0;
    return cmq_topic_matches(cmq_span_make(sub->pattern, sub->pattern_bytes), topic);
}

/* A gap goes alone: what is there is sent first, and the gap is met again. */
static enum step tell_gap(struct filling *filling, struct cmq_id to, const char *reason)
{
    struct dsp_sub *sub = filling->sub;
    if (filling->items.count > 0)
        return STEP_FULL;
    dsp_push_gap(filling->text, filling->format, sub->id, sub->cursor.next, to, reason);
    if (to.seq != sub->cursor.next.seq)
        sub->cursor.pos = (struct cmq_journal_pos){0, 0};
    sub->cursor.next = to;
    return STEP_GAP;
}

/* Makes the frame one of this topic. False: it has items of another. Events and lines name theirs. */
static bool take_topic(struct filling *filling, struct cmq_span topic)
{
    if (topic.bytes == filling->topic_bytes && memcmp(topic.data, filling->topic, topic.bytes) == 0)
        return true;
    const bool begun = filling->items.count > 0;
    if (begun && !dsp_format_is_framed(filling->format))
        return false;
    memcpy(filling->topic, topic.data, topic.bytes);
    filling->topic_bytes = topic.bytes;
    const struct cmq_span kept = cmq_span_make(filling->topic, topic.bytes);
    if (begun)
        filling->items.topic = kept;
    else
        dsp_push_begin(filling->text, filling->format, filling->limits, filling->sub->id,
                       cmq_span_make(NULL, 0), kept, &filling->items);
    return true;
}

static enum step take_unit(struct filling *filling, struct dsp_record *record, const struct dsp_unit *unit,
                           enum cmq_err *ret_err)
{
    struct cmq_id *next = &filling->sub->cursor.next;
    const uint32_t end = unit->first + unit->count;
    if (next->index < unit->first)
        next->index = unit->first;
    *ret_err = dsp_source_open(filling->encoder->source, record);
    if (*ret_err != CMQ_OK)
        return STEP_FAILED;
    if (!unit->readable)
        return tell_gap(filling, (struct cmq_id){.seq = record->seq, .index = end}, "damaged");
    if (!take_topic(filling, unit->topic))
        return STEP_FULL;
    enum cmq_err err =
        dsp_encode_shared(filling->encoder, record, unit, next->index, &filling->items, &next->index);
    if (err == CMQ_ERR_MALFORMED)
        return tell_gap(filling, (struct cmq_id){.seq = record->seq, .index = end}, "damaged");
    if (err == CMQ_OK)
        err = filling->text->err;
    *ret_err = err;
    if (err != CMQ_OK)
        return STEP_FAILED;
    return next->index < end ? STEP_FULL : STEP_ON;
}

static bool is_passed(const struct dsp_sub *sub, const struct dsp_unit *unit)
{
    return unit->first + unit->count <= sub->cursor.next.index || !is_wanted(sub, unit->topic);
}

static void pass(struct dsp_cursor *cursor, const struct dsp_record *record)
{
    *cursor = (struct dsp_cursor){.next = {.seq = record->seq + 1}, .pos = record->next};
}

static enum step take_record(struct filling *filling, struct dsp_record *record, enum cmq_err *ret_err)
{
    for (uint32_t i = 0; i < record->unit_count; i++) {
        const struct dsp_unit *unit = &record->units[i];
        if (is_passed(filling->sub, unit))
            continue;
        enum step step = take_unit(filling, record, unit, ret_err);
        if (step != STEP_ON)
            return step;
    }
    pass(&filling->sub->cursor, record);
    return STEP_ON;
}

static enum dsp_fill_result finish(struct filling *filling, enum dsp_fill_result otherwise)
{
    filling->sub->frame_messages = filling->items.count;
    if (filling->items.count == 0)
        return otherwise;
    dsp_push_end(&filling->items);
    return DSP_SUB_FRAME;
}

/* The next record. STEP_ON also when it is passed; *ret_tail: there is none. */
static enum step look(struct filling *filling, bool *ret_tail, enum cmq_err *ret_err)
{
    struct dsp_source *source = filling->encoder->source;
    const struct dsp_cursor *cursor = &filling->sub->cursor;
    struct dsp_record *record;
    uint64_t next = 0;
    enum cmq_err err = dsp_source_get(source, cursor->next.seq, &cursor->pos, &record, &next);
    switch (err) {
    case CMQ_OK:
        break;
    case CMQ_ERR_AGAIN:
        *ret_tail = true;
        return STEP_ON;
    case CMQ_ERR_NOT_FOUND:
        return tell_gap(filling, (struct cmq_id){.seq = next}, "retention");
    case CMQ_ERR_CORRUPT:
        return tell_gap(filling, (struct cmq_id){.seq = next}, "damaged");
    default:
        *ret_err = err;
        return STEP_FAILED;
    }
    enum step step = take_record(filling, record, ret_err);
    dsp_source_put(source, record);
    return step;
}

enum dsp_fill_result dsp_sub_fill(struct dsp_sub *sub, struct dsp_encoder *encoder, enum dsp_format format,
                                  const struct dsp_push_limits *limits, struct dsp_text *text,
                                  enum cmq_err *ret_err)
{
    struct filling filling = {
        .sub = sub, .encoder = encoder, .text = text, .limits = limits, .format = format};
    bool tail = false;
    for (unsigned looks = 0; looks < LOOKS_MAX; looks++) {
        switch (look(&filling, &tail, ret_err)) {
        case STEP_ON:
            break;
        case STEP_FULL:
            return finish(&filling, DSP_SUB_MORE);
        case STEP_GAP:
            sub->frame_messages = 0;
            *ret_err = text->err;
            return text->err == CMQ_OK ? DSP_SUB_FRAME : DSP_SUB_FAILED;
        case STEP_FAILED:
            return DSP_SUB_FAILED;
        }
        if (tail)
            return finish(&filling, DSP_SUB_TAIL);
    }
    return finish(&filling, DSP_SUB_MORE);
}

/* ---- passing ---- */

static bool has_any(const struct dsp_sub *sub, const struct dsp_record *record)
{
    for (uint32_t i = 0; i < record->unit_count; i++)
        if (!is_passed(sub, &record->units[i]))
            return true;
    return false;
}

bool dsp_sub_pass(struct dsp_sub *sub, struct dsp_source *source)
{
    for (unsigned passed = 0; passed < PASSED_MAX; passed++) {
        struct dsp_record *record;
        uint64_t next = 0;
        enum cmq_err err = dsp_source_get(source, sub->cursor.next.seq, &sub->cursor.pos, &record, &next);
        if (err != CMQ_OK)
            return err == CMQ_ERR_AGAIN;
        bool any = has_any(sub, record);
        if (!any)
            pass(&sub->cursor, record);
        dsp_source_put(source, record);
        if (any)
            return false;
    }
    return false;
}
