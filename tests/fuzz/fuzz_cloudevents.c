/* Bytes of a request body -> cmq_cloudevents_parse and _parse_batch, and as "name:value" -> cmq_cloudevents_add_header. What is
 * taken is JSON to the check, too, and a batch of one event gives the same messages. */
#include "common/wire/cmq_cloudevents.h"

#include "tests/fuzz/fuzz_bodies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void fuzz_header(const uint8_t *data, size_t bytes)
{
    const uint8_t *colon = bytes > 0 ? memchr(data, ':', bytes) : NULL;
    size_t name_bytes = colon != NULL ? (size_t)(colon - data) : 0;
    if (colon == NULL || !cmq_cloudevents_is_header(cmq_span_make(data, name_bytes)))
        return;
    struct cmq_span value = cmq_span_make(colon + 1, bytes - name_bytes - 1);
    struct cmq_headers headers;
    struct cmq_reason reason;
    uint8_t *memory = malloc(bytes);
    cmq_assert(memory != NULL);
    cmq_headers_init(&headers, fuzz_carrying.headers_bytes_max);
    enum cmq_err err =
        cmq_cloudevents_add_header(&headers, cmq_span_make(data, name_bytes), value, memory, &reason);
    cmq_assert(headers.count == (err == CMQ_OK) &&
               cmq_cloudevents_check(&headers, &reason) == CMQ_ERR_MALFORMED);
    if (err == CMQ_OK)
        cmq_assert(cmq_header_name_is_good(headers.entries[0].name) &&
                   cmq_utf8_is_valid(headers.entries[0].value));
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct cmq_json_parser *parser;
    if (bytes > FUZZ_BODY_BYTES_MAX)
        return 0;
    fuzz_header(data, bytes);
    cmq_assert(cmq_json_parser_new(FUZZ_BODY_BYTES_MAX, &parser) == CMQ_OK);
    bool one = fuzz_body(parser, cmq_cloudevents_parse, data, bytes);
    bool batch = fuzz_body(parser, cmq_cloudevents_parse_batch, data, bytes);
    cmq_assert(!one || !batch);
    if (one || batch)
        fuzz_check_value(parser, cmq_span_make(data, bytes));
    cmq_json_parser_free(parser);
    return 0;
}
