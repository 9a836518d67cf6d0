#include "dispatcher/dsp_frame.h"

#include <string.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_out.h"

/* A buffer that grew for large messages is given back after so many frames that did not need it. */
enum { SMALL_FRAMES_MAX = 64, BRACKET_BYTES = 2 };

static enum cmq_err reserve(struct dsp_frame *frame, size_t capacity)
{
    uint8_t *memory = realloc(frame->memory, frame->headroom + capacity);
    if (memory == NULL)
        return CMQ_ERR_NOMEM;
    frame->memory = memory;
    frame->capacity = capacity;
    return CMQ_OK;
}

enum cmq_err dsp_frame_init(struct dsp_frame *frame, size_t headroom, size_t bytes_max, uint32_t messages_max)
{
    *frame = (struct dsp_frame){.headroom = headroom, .bytes_max = bytes_max, .messages_max = messages_max};
    return reserve(frame, bytes_max);
}

void dsp_frame_fini(struct dsp_frame *frame)
{
    free(frame->memory);
    *frame = (struct dsp_frame){0};
}

void dsp_frame_set_limits(struct dsp_frame *frame, size_t bytes_max, uint32_t messages_max)
{
    frame->bytes_max = bytes_max;
    frame->messages_max = messages_max;
}

enum cmq_err dsp_frame_begin(struct dsp_frame *frame, uint64_t now_ms)
{
    enum cmq_err err = CMQ_OK;
    frame->bytes = 1;
    frame->messages = 0;
    frame->skipped = 0;
    frame->expired = 0;
    frame->now_ms = now_ms;
    if (frame->capacity < frame->bytes_max ||
        (frame->capacity > frame->bytes_max && ++frame->small_frames > SMALL_FRAMES_MAX)) {
        frame->small_frames = 0;
        err = reserve(frame, frame->bytes_max);
    }
    if (err == CMQ_OK)
        frame->memory[frame->headroom] = '[';
    return err;
}

/* Bytes that the string becomes, quotes included. */
static size_t string_bytes(struct cmq_span text)
{
    size_t bytes = text.bytes + BRACKET_BYTES;
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t byte = text.data[i];
        if (byte == '"' || byte == '\\')
            bytes += 1;
        else if (byte < 0x20)
            bytes += 5;
    }
    return bytes;
}

/* The string may not fit when every byte needs its escape: count, and grow the buffer if the frame may take
 * it. */
static enum dsp_take make_room(struct dsp_frame *frame, struct cmq_span text)
{
    if (frame->messages > 0 && frame->bytes + string_bytes(text) + 1 > frame->bytes_max)
        return DSP_TAKE_FULL;
    frame->small_frames = 0;
    /* The writer may use the largest possible room before it knows better. */
    size_t needed = frame->bytes + cmq_json_string_bytes_max(text.bytes) + 1;
    if (needed > frame->capacity && reserve(frame, needed) != CMQ_OK)
        return DSP_TAKE_NOMEM;
    return DSP_TAKE_ALL;
}

enum dsp_take dsp_frame_take(struct dsp_frame *frame, struct cmq_mp_reader *reader, uint32_t count,
                             uint32_t *ret_taken)
{
    enum dsp_take result = DSP_TAKE_ALL;
    struct cmq_message message;
    uint32_t taken = 0;
    while (taken < count) {
        const uint8_t *start = reader->next;
        if (frame->messages >= frame->messages_max) {
            result = DSP_TAKE_FULL;
            break;
        }
        if (cmq_message_next(reader, &message) != CMQ_OK) {
            struct cmq_message_full full;
            if (cmq_message_read(reader, &full) != CMQ_OK) {
                result = DSP_TAKE_BAD;
                break;
            }
            const bool over = full.expiry_ms != 0 && full.expiry_ms <= frame->now_ms;
            if (full.left_out || over) {
                frame->expired += over;
                taken++;
                continue;
            }
            message = (struct cmq_message){.text = full.text, .body = full.body};
        }
        taken++;
        if (!message.text) {
            frame->skipped++;
            continue;
        }
        if (frame->bytes + cmq_json_string_bytes_max(message.body.bytes) + 1 > frame->bytes_max) {
            result = make_room(frame, message.body);
            if (result != DSP_TAKE_ALL) {
                reader->next = start;
                taken--;
                break;
            }
        }
        uint8_t *text = frame->memory + frame->headroom;
        frame->bytes += cmq_json_write_string(text + frame->bytes, message.body);
        text[frame->bytes++] = ',';
        frame->messages++;
    }
    *ret_taken = taken;
    return result;
}

uint8_t *dsp_frame_end(struct dsp_frame *frame, size_t *ret_bytes)
{
    uint8_t *text = frame->memory + frame->headroom;
    /* The bracket takes the last comma's place; there is always room for it. */
    if (frame->messages > 0)
        frame->bytes--;
    text[frame->bytes++] = ']';
    *ret_bytes = frame->bytes;
    return text;
}
