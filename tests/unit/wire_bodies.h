/*
 * wire_bodies: what the tests of the readers of bodies share: bodies with padding, and messages as text.
 * Ownership: wire_padded returns heap memory; wire_describe writes to a buffer of its own.
 * Units: bytes.
 * Errors: a test without memory aborts; a message that cannot be read is described as such.
 * Callers: tests/unit, one thread.
 *
 * A message is described as t'text' or b'octets', and if it has more, TYPE ID EXPIRY {name=value,...} behind that, with -
 * for what is absent. Messages are parted by blanks.
 */
#ifndef WIRE_BODIES_H
#define WIRE_BODIES_H

#include <string.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_in.h"

enum { WIRE_DESCRIPTION_BYTES = 1 << 16 };

/* The body with the readable bytes that the readers ask for, and nothing behind them. */
static inline uint8_t *wire_padded(struct cmq_span body, uint8_t padding)
{
    uint8_t *padded = malloc(body.bytes + CMQ_JSON_PADDING);
    cmq_assert(padded != NULL);
    if (body.bytes != 0)
        memcpy(padded, body.data, body.bytes);
    memset(padded + body.bytes, padding, CMQ_JSON_PADDING);
    return padded;
}

struct wire_text {
    char text[WIRE_DESCRIPTION_BYTES];
    size_t bytes;
};

static inline void wire_put(struct wire_text *text, const void *data, size_t bytes)
{
    cmq_assert(text->bytes + bytes < sizeof text->text);
    if (bytes != 0)
        memcpy(text->text + text->bytes, data, bytes);
    text->bytes += bytes;
    text->text[text->bytes] = '\0';
}

static inline void wire_put_word(struct wire_text *text, struct cmq_span word)
{
    wire_put(text, " ", 1);
    wire_put(text, word.bytes != 0 ? (const void *)word.data : "-", word.bytes != 0 ? word.bytes : 1);
}

static inline void wire_put_headers(struct wire_text *text, struct cmq_span packed)
{
    struct cmq_mp_reader reader;
    struct cmq_mp_value map;
    if (packed.bytes == 0) {
        wire_put(text, " -", 2);
        return;
    }
    cmq_mp_reader_init(&reader, packed);
    cmq_assert(cmq_mp_read(&reader, &map) == CMQ_OK && map.type == CMQ_MP_MAP);
    wire_put(text, " {", 2);
    for (uint32_t i = 0; i < map.count; i++) {
        struct cmq_span name, value;
        cmq_assert(cmq_mp_read_str(&reader, &name) == CMQ_OK && cmq_mp_read_str(&reader, &value) == CMQ_OK);
        wire_put(text, ",", i > 0);
        wire_put(text, name.data, name.bytes);
        wire_put(text, "=", 1);
        wire_put(text, value.data, value.bytes);
    }
    cmq_assert(cmq_mp_left(&reader) == 0);
    wire_put(text, "}", 1);
}

static inline void wire_put_message(struct wire_text *text, const struct cmq_message_full *message)
{
    wire_put(text, message->text ? "t'" : "b'", 2);
    wire_put(text, message->body.data, message->body.bytes);
    wire_put(text, "'", 1);
    if (message->type.bytes == 0 && message->id.bytes == 0 && message->expiry_ms == 0 &&
        message->headers.bytes == 0)
        return;
    char expiry[24];
    int bytes = snprintf(expiry, sizeof expiry, "%llu", (unsigned long long)message->expiry_ms);
    wire_put_word(text, message->type);
    wire_put_word(text, message->id);
    wire_put_word(text, cmq_span_make(expiry, message->expiry_ms != 0 ? (size_t)bytes : 0));
    wire_put_headers(text, message->headers);
}

static inline const char *wire_describe(struct cmq_span messages, uint32_t count)
{
    static struct wire_text text;
    struct cmq_mp_reader reader;
    text.bytes = 0;
    text.text[0] = '\0';
    cmq_mp_reader_init(&reader, messages);
    for (uint32_t i = 0; i < count; i++) {
        struct cmq_message_full message;
        if (cmq_message_read(&reader, &message) != CMQ_OK)
            return "not a message";
        wire_put(&text, " ", i > 0);
        wire_put_message(&text, &message);
    }
    return cmq_mp_left(&reader) == 0 ? text.text : "more than the messages";
}

#endif
