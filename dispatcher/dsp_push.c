#include "dispatcher/dsp_push.h"

#include <stdio.h>

#include "common/wire/cmq_mp_out.h"

enum { COUNT_BYTES = 5, CLOSE_BYTES = 3 };

void dsp_push_begin(struct dsp_text *text, enum dsp_format format, const struct dsp_push_limits *limits,
                    uint64_t sub, struct cmq_span group, struct cmq_span topic, struct dsp_items *ret_items)
{
    dsp_text_begin(text);
    *ret_items = (struct dsp_items){.text = text,
                                    .format = format,
                                    .bytes_max = limits->frame_bytes_max - CLOSE_BYTES,
                                    .count_max = limits->frame_messages_max,
                                    .topic = topic};
    if (dsp_format_is_framed(format))
        return;
    struct dsp_writer writer = dsp_writer_of(text, format);
    dsp_write_map(&writer, 1);
    dsp_write_key(&writer, "msgs");
    dsp_write_map(&writer, group.bytes == 0 ? 3 : 4);
    dsp_write_key(&writer, "sub");
    dsp_write_uint(&writer, sub);
    if (group.bytes != 0) {
        dsp_write_key(&writer, "group");
        dsp_write_str(&writer, group);
    }
    dsp_write_key(&writer, "topic");
    dsp_write_str(&writer, topic);
    dsp_write_key(&writer, "items");
    if (format == DSP_FORMAT_JSON)
        dsp_text_add(text, "[", 1);
    else
        dsp_text_add(text, "\xdd\0\0\0", COUNT_BYTES);
    ret_items->head_bytes = text->bytes;
}

void dsp_push_end(struct dsp_items *items)
{
    struct dsp_text *text = items->text;
    cmq_assert(items->count > 0 || text->err != CMQ_OK);
    if (text->err != CMQ_OK)
        return;
    if (items->format == DSP_FORMAT_JSON) {
        text->bytes--; /* the last item's comma */
        dsp_text_add(text, "]}}", CLOSE_BYTES);
    } else if (items->format == DSP_FORMAT_MSGPACK) {
        (void)cmq_mp_put_array32(dsp_text_start(text) + items->head_bytes - COUNT_BYTES, items->count);
    }
}

static void write_id(struct dsp_writer *writer, const char *name, struct cmq_id id)
{
    char text[CMQ_ID_TEXT_BYTES];
    (void)cmq_id_format(text, id);
    dsp_write_key(writer, name);
    dsp_write_text(writer, text);
}

static void write_range(struct dsp_writer *writer, struct cmq_id from, struct cmq_id to, const char *reason)
{
    write_id(writer, "from", from);
    write_id(writer, "to", to);
    dsp_write_key(writer, "reason");
    dsp_write_text(writer, reason);
    dsp_write_map_end(writer);
}

struct cmq_id dsp_push_before(struct cmq_id next)
{
    if (next.index > 0)
        return (struct cmq_id){.seq = next.seq, .index = next.index - 1};
    return (struct cmq_id){.seq = next.seq == 0 ? 0 : next.seq - 1, .index = UINT32_MAX};
}

/* Who connects again with the event's id is told the gap once. */
static void gap_event(struct dsp_text *text, struct cmq_id from, struct cmq_id to, const char *reason)
{
    char head[CMQ_ID_TEXT_BYTES + 32], id[CMQ_ID_TEXT_BYTES];
    struct dsp_writer writer = dsp_writer_of(text, DSP_FORMAT_JSON);
    (void)cmq_id_format(id, dsp_push_before(to));
    int bytes = snprintf(head, sizeof(head), "id: %s\nevent: gap\ndata: ", id);
    dsp_text_add(text, head, (size_t)bytes);
    dsp_write_map(&writer, 3);
    write_range(&writer, from, to, reason);
    dsp_text_add(text, "\n\n", 2);
}

void dsp_push_gap(struct dsp_text *text, enum dsp_format format, uint64_t sub, struct cmq_id from,
                  struct cmq_id to, const char *reason)
{
    dsp_text_begin(text);
    if (format == DSP_FORMAT_SSE) {
        gap_event(text, from, to, reason);
        return;
    }
    const bool line = format == DSP_FORMAT_LINES;
    struct dsp_writer writer = dsp_writer_of(text, line ? DSP_FORMAT_JSON : format);
    dsp_write_map(&writer, 1);
    dsp_write_key(&writer, "gap");
    dsp_write_map(&writer, line ? 3 : 4);
    if (!line) {
        dsp_write_key(&writer, "sub");
        dsp_write_uint(&writer, sub);
    }
    write_range(&writer, from, to, reason);
    dsp_write_map_end(&writer);
    if (line)
        dsp_text_add(text, "\n", 1);
}
