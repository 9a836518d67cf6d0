#include "dispatcher/dsp_push.h"

#include "common/wire/cmq_mp_out.h"

enum { COUNT_BYTES = 5, CLOSE_BYTES = 3 };

void dsp_push_begin(struct dsp_text *text, enum dsp_format format, const struct dsp_push_limits *limits,
                    uint64_t sub, struct cmq_span group, struct cmq_span topic, struct dsp_items *ret_items)
{
    dsp_text_begin(text);
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
    *ret_items = (struct dsp_items){.text = text,
                                    .format = format,
                                    .bytes_max = limits->frame_bytes_max - CLOSE_BYTES,
                                    .count_max = limits->frame_messages_max,
                                    .head_bytes = text->bytes};
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
    } else {
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

void dsp_push_gap(struct dsp_text *text, enum dsp_format format, uint64_t sub, struct cmq_id from,
                  struct cmq_id to, const char *reason)
{
    dsp_text_begin(text);
    struct dsp_writer writer = dsp_writer_of(text, format);
    dsp_write_map(&writer, 1);
    dsp_write_key(&writer, "gap");
    dsp_write_map(&writer, 4);
    dsp_write_key(&writer, "sub");
    dsp_write_uint(&writer, sub);
    write_id(&writer, "from", from);
    write_id(&writer, "to", to);
    dsp_write_key(&writer, "reason");
    dsp_write_text(&writer, reason);
    dsp_write_map_end(&writer);
    dsp_write_map_end(&writer);
}
