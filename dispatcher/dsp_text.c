#include "dispatcher/dsp_text.h"

#include <string.h>

#include "common/wire/cmq_json_out.h"
#include "common/wire/cmq_mp_out.h"

enum { SMALL_MAX = 64, CAPACITY_MIN = 256, NUMBER_BYTES_MAX = 20 };

static enum cmq_err set_capacity(struct dsp_text *text, size_t capacity)
{
    uint8_t *memory = realloc(text->memory, text->headroom + capacity);
    if (memory == NULL)
        return CMQ_ERR_NOMEM;
    text->memory = memory;
    text->capacity = capacity;
    return CMQ_OK;
}

enum cmq_err dsp_text_init(struct dsp_text *text, size_t headroom, size_t usual_bytes)
{
    if (usual_bytes < CAPACITY_MIN)
        usual_bytes = CAPACITY_MIN;
    *text = (struct dsp_text){.headroom = headroom, .usual_bytes = usual_bytes};
    return set_capacity(text, usual_bytes);
}

void dsp_text_fini(struct dsp_text *text)
{
    free(text->memory);
    *text = (struct dsp_text){0};
}

void dsp_text_begin(struct dsp_text *text)
{
    text->bytes = 0;
    text->err = CMQ_OK;
    if (text->capacity > text->usual_bytes && ++text->small > SMALL_MAX) {
        text->small = 0;
        (void)set_capacity(text, text->usual_bytes); /* it shrinks; if not, the larger one serves as well */
    }
}

uint8_t *dsp_text_room(struct dsp_text *text, size_t more)
{
    size_t needed = text->bytes + more;
    if (needed > text->usual_bytes)
        text->small = 0;
    if (needed > text->capacity) {
        size_t capacity = text->capacity * 2 > needed ? text->capacity * 2 : needed;
        if (set_capacity(text, capacity) != CMQ_OK) {
            text->err = CMQ_ERR_NOMEM;
            return NULL;
        }
    }
    return dsp_text_start(text) + text->bytes;
}

void dsp_text_add(struct dsp_text *text, const void *data, size_t bytes)
{
    uint8_t *dst = dsp_text_room(text, bytes);
    if (dst == NULL || bytes == 0)
        return;
    memcpy(dst, data, bytes);
    text->bytes += bytes;
}

/* ---- maps ---- */

static void add_byte(struct dsp_writer *writer, char byte)
{
    dsp_text_add(writer->text, &byte, 1);
}

/* Before every value that is not behind its key. */
static void separate(struct dsp_writer *writer)
{
    if (writer->comma)
        add_byte(writer, ',');
    writer->comma = writer->format == DSP_FORMAT_JSON;
}

static void add_head(struct dsp_writer *writer, uint8_t *(*put)(uint8_t *, uint32_t), uint32_t count)
{
    uint8_t head[CMQ_MP_HEAD_BYTES_MAX];
    dsp_text_add(writer->text, head, (size_t)(put(head, count) - head));
}

void dsp_write_map(struct dsp_writer *writer, uint32_t pairs)
{
    separate(writer);
    writer->comma = false;
    if (writer->format == DSP_FORMAT_JSON)
        add_byte(writer, '{');
    else
        add_head(writer, cmq_mp_put_map, pairs);
}

void dsp_write_map_end(struct dsp_writer *writer)
{
    if (writer->format == DSP_FORMAT_JSON)
        add_byte(writer, '}');
    writer->comma = writer->format == DSP_FORMAT_JSON;
}

void dsp_write_array(struct dsp_writer *writer, uint32_t values)
{
    separate(writer);
    writer->comma = false;
    if (writer->format == DSP_FORMAT_JSON)
        add_byte(writer, '[');
    else
        add_head(writer, cmq_mp_put_array, values);
}

void dsp_write_array_end(struct dsp_writer *writer)
{
    if (writer->format == DSP_FORMAT_JSON)
        add_byte(writer, ']');
    writer->comma = writer->format == DSP_FORMAT_JSON;
}

void dsp_write_key(struct dsp_writer *writer, const char *name)
{
    dsp_write_text(writer, name);
    if (writer->format == DSP_FORMAT_JSON)
        add_byte(writer, ':');
    writer->comma = false;
}

void dsp_write_str(struct dsp_writer *writer, struct cmq_span value)
{
    separate(writer);
    if (writer->format == DSP_FORMAT_MSGPACK) {
        add_head(writer, cmq_mp_put_str_head, (uint32_t)value.bytes);
        dsp_text_add(writer->text, value.data, value.bytes);
        return;
    }
    uint8_t *dst = dsp_text_room(writer->text, cmq_json_string_bytes_max(value.bytes));
    if (dst != NULL)
        writer->text->bytes += cmq_json_write_string(dst, value);
}

void dsp_write_text(struct dsp_writer *writer, const char *value)
{
    dsp_write_str(writer, cmq_span_make(value, strlen(value)));
}

void dsp_write_uint(struct dsp_writer *writer, uint64_t value)
{
    separate(writer);
    if (writer->format == DSP_FORMAT_JSON) {
        char digits[NUMBER_BYTES_MAX + 1];
        int bytes = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
        dsp_text_add(writer->text, digits, (size_t)bytes);
        return;
    }
    uint8_t number[CMQ_MP_HEAD_BYTES_MAX];
    dsp_text_add(writer->text, number, (size_t)(cmq_mp_put_uint(number, value) - number));
}

void dsp_write_nil(struct dsp_writer *writer)
{
    separate(writer);
    if (writer->format == DSP_FORMAT_JSON)
        dsp_text_add(writer->text, "null", 4);
    else
        dsp_text_add(writer->text, "\xc0", 1);
}
