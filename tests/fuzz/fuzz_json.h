/*
 * fuzz_json: what all JSON targets check of a body that was taken.
 * Ownership: none.
 * Units: bytes.
 * Errors: aborts on a finding.
 * Callers: fuzz_json_single, fuzz_json_batch, fuzz_json_topic.
 */
#ifndef FUZZ_JSON_H
#define FUZZ_JSON_H

#include <string.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_json_out.h"
#include "common/wire/cmq_json_out_int.h"
#include "common/wire/cmq_type.h"

#define FUZZ_BODY_BYTES_MAX (1u << 20)

static const struct cmq_json_limits fuzz_limits = {.message_bytes_max = 4096, .messages_max = 64};

/* The body in memory of its own, with the padding that the contract asks for and nothing behind it. */
static inline uint8_t *fuzz_padded(const uint8_t *data, size_t bytes)
{
    uint8_t *body = malloc(bytes + CMQ_JSON_PADDING);
    cmq_assert(body != NULL);
    if (bytes != 0)
        memcpy(body, data, bytes);
    memset(body + bytes, bytes % 2 == 0 ? '}' : '"', CMQ_JSON_PADDING);
    return body;
}

static inline void fuzz_check_error(const struct cmq_json_error *error, size_t bytes)
{
    cmq_assert(error->offset <= bytes);
    cmq_assert(memchr(error->text, '\0', sizeof error->text) != NULL && error->text[0] != '\0');
}

/* The message, written as JSON by both writers and parsed again, is the same message. */
static inline void fuzz_check_message(struct cmq_json_parser *parser, struct cmq_span text)
{
    static const char before[] = "{\"content\":", after[] = "}";
    size_t room = sizeof before + cmq_json_string_bytes_max(text.bytes) + sizeof after + CMQ_JSON_PADDING;
    uint8_t *body = calloc(1, room), *other = malloc(room);
    cmq_assert(body != NULL && other != NULL);
    size_t bytes = sizeof before - 1;
    memcpy(body, before, bytes);
    size_t written = cmq_json_write_string(body + bytes, text);
    cmq_assert(cmq_json_write_string_portable(other, text) == written);
    cmq_assert(memcmp(body + bytes, other, written) == 0);
    bytes += written;
    memcpy(body + bytes, after, sizeof after - 1);
    bytes += sizeof after - 1;
    struct cmq_buf messages;
    struct cmq_json_found found;
    struct cmq_json_error error;
    struct cmq_mp_reader reader;
    struct cmq_message message;
    cmq_buf_init(&messages, SIZE_MAX / 4);
    cmq_assert(cmq_json_parse_single(parser, cmq_span_make(body, bytes), &fuzz_limits, NULL, &messages,
                                     &found, &error) == CMQ_OK);
    cmq_mp_reader_init(&reader, cmq_buf_span(&messages));
    cmq_assert(cmq_message_next(&reader, &message) == CMQ_OK && cmq_mp_left(&reader) == 0);
    cmq_assert(message.text && message.body.bytes == text.bytes);
    cmq_assert(text.bytes == 0 || memcmp(message.body.data, text.data, text.bytes) == 0);
    cmq_buf_fini(&messages);
    free(body);
    free(other);
}

/* What is said to be JSON is taken as JSON when it stands alone. */
static inline void fuzz_check_value(struct cmq_json_parser *parser, struct cmq_span text)
{
    struct cmq_json_error error;
    uint8_t *body = fuzz_padded(text.data, text.bytes);
    cmq_assert(cmq_json_check(parser, cmq_span_make(body, text.bytes), &error) == CMQ_OK);
    free(body);
}

static inline void fuzz_check_messages(struct cmq_json_parser *parser, struct cmq_span messages,
                                       uint32_t count)
{
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, messages);
    for (uint32_t i = 0; i < count; i++) {
        struct cmq_message_full message;
        cmq_assert(cmq_message_read(&reader, &message) == CMQ_OK && message.text && !message.left_out);
        cmq_assert(message.body.bytes <= fuzz_limits.message_bytes_max);
        cmq_assert(message.id.bytes == 0 || cmq_message_id_is_good(message.id));
        fuzz_check_message(parser, message.body);
        if (message.type.bytes == sizeof CMQ_TYPE_JSON_TEXT - 1 &&
            memcmp(message.type.data, CMQ_TYPE_JSON_TEXT, message.type.bytes) == 0)
            fuzz_check_value(parser, message.body);
    }
    cmq_assert(cmq_mp_left(&reader) == 0);
}

#endif
