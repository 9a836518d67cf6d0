/*
 * fuzz_bodies: what the targets of request bodies that carry headers check of a body that was taken.
 * Ownership: none.
 * Units: bytes.
 * Errors: aborts on a finding.
 * Callers: fuzz_json_topic, fuzz_ndjson, fuzz_mp_batch, fuzz_cloudevents.
 */
#ifndef FUZZ_BODIES_H
#define FUZZ_BODIES_H

#include "common/wire/cmq_headers.h"
#include "tests/fuzz/fuzz_json.h"

#define FUZZ_ACCEPTED_AT_MS 1000u
#define FUZZ_TTL_MS_MAX     50000u

static const struct cmq_json_limits fuzz_carrying = {
    .message_bytes_max = 4096, .messages_max = 64, .headers_bytes_max = 256, .ttl_ms_max = FUZZ_TTL_MS_MAX};

/* Two headers and a ttl, as if the request had them. */
static const struct cmq_element_defaults fuzz_defaults = {.accepted_at_ms = FUZZ_ACCEPTED_AT_MS,
                                                          .ttl_ms = 1,
                                                          .headers = {(const uint8_t *)"\x82\xa5"
                                                                                       "ce-id\xa1r\xa1r\xa1"
                                                                                       "1",
                                                                      13}};

/* Some inputs have defaults, some a clock only. */
static inline const struct cmq_element_defaults *fuzz_defaults_for(const uint8_t *data, size_t bytes)
{
    static const struct cmq_element_defaults clock_only = {.accepted_at_ms = FUZZ_ACCEPTED_AT_MS};
    return bytes % 2 == 0 ? &fuzz_defaults : bytes > 0 && data[bytes - 1] % 2 == 0 ? NULL : &clock_only;
}

static inline void fuzz_check_headers(struct cmq_span packed)
{
    struct cmq_headers headers;
    cmq_headers_init(&headers, fuzz_carrying.headers_bytes_max);
    if (packed.bytes == 0)
        return;
    struct cmq_mp_reader reader;
    struct cmq_mp_value map;
    cmq_mp_reader_init(&reader, packed);
    cmq_assert(cmq_mp_read(&reader, &map) == CMQ_OK && map.type == CMQ_MP_MAP && map.count > 0);
    for (uint32_t i = 0; i < map.count; i++) {
        struct cmq_span name, value;
        cmq_assert(cmq_mp_read_str(&reader, &name) == CMQ_OK && cmq_mp_read_str(&reader, &value) == CMQ_OK);
        cmq_assert(cmq_headers_add(&headers, name, value, NULL) == CMQ_OK);
    }
    cmq_assert(cmq_mp_left(&reader) == 0);
}

/* Every message can be read, is in its limits and carries what it may. */
static inline void fuzz_check_carriers(struct cmq_span messages, uint32_t count,
                                       const struct cmq_element_defaults *defaults)
{
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, messages);
    for (uint32_t i = 0; i < count; i++) {
        struct cmq_message_full message;
        cmq_assert(cmq_message_read(&reader, &message) == CMQ_OK && !message.left_out);
        cmq_assert(message.body.bytes <= fuzz_carrying.message_bytes_max);
        cmq_assert(!message.text || cmq_utf8_is_valid(message.body));
        cmq_assert(message.id.bytes == 0 || cmq_message_id_is_good(message.id));
        cmq_assert(message.type.bytes == 0 || cmq_type_of(message.type) == CMQ_TYPE_JSON ||
                   cmq_type_of(message.type) == CMQ_TYPE_OTHER);
        cmq_assert(message.expiry_ms <= FUZZ_ACCEPTED_AT_MS + FUZZ_TTL_MS_MAX);
        if (defaults == &fuzz_defaults)
            cmq_assert(message.expiry_ms != 0 && message.headers.bytes != 0);
        fuzz_check_headers(message.headers);
    }
    cmq_assert(cmq_mp_left(&reader) == 0);
}

typedef enum cmq_err fuzz_parse(struct cmq_json_parser *parser, struct cmq_span body,
                                const struct cmq_json_limits *limits,
                                const struct cmq_element_defaults *defaults, struct cmq_buf *messages,
                                struct cmq_json_found *ret_found, struct cmq_json_error *ret_error);

/* Parses the body in memory of its own; returns whether it was taken. */
static inline bool fuzz_body(struct cmq_json_parser *parser, fuzz_parse *parse, const uint8_t *data,
                             size_t bytes)
{
    const struct cmq_element_defaults *defaults = fuzz_defaults_for(data, bytes);
    uint8_t *body = fuzz_padded(data, bytes);
    struct cmq_buf messages;
    struct cmq_json_error error;
    struct cmq_json_found found = {0};
    cmq_buf_init(&messages, SIZE_MAX / 4);
    enum cmq_err err =
        parse(parser, cmq_span_make(body, bytes), &fuzz_carrying, defaults, &messages, &found, &error);
    if (err == CMQ_OK) {
        fuzz_check_carriers(cmq_buf_span(&messages), found.messages, defaults);
    } else {
        cmq_assert((err == CMQ_ERR_MALFORMED || err == CMQ_ERR_TOO_BIG) && messages.bytes == 0);
        cmq_assert(error.offset <= bytes || error.offset == SIZE_MAX);
        cmq_assert(memchr(error.text, '\0', sizeof error.text) != NULL && error.text[0] != '\0');
        for (const char *byte = error.text; *byte != '\0'; byte++)
            cmq_assert(*byte >= 0x20 && *byte < 0x7f);
    }
    cmq_buf_fini(&messages);
    free(body);
    return err == CMQ_OK;
}

#endif
