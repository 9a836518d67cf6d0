/* Bytes of a request body -> cmq_mp_parse_batch. What is taken becomes messages that can be read and are in their limits. */
#include "common/wire/cmq_mp_in.h"

#include "tests/fuzz/fuzz_bodies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct cmq_json_parser *parser;
    if (bytes > FUZZ_BODY_BYTES_MAX)
        return 0;
    cmq_assert(cmq_json_parser_new(FUZZ_BODY_BYTES_MAX, &parser) == CMQ_OK);
    if (fuzz_body(parser, cmq_mp_parse_batch, data, bytes)) {
        struct cmq_mp_reader reader; /* it was one value */
        cmq_mp_reader_init(&reader, cmq_span_make(data, bytes));
        cmq_assert(cmq_mp_skip(&reader) == CMQ_OK && cmq_mp_left(&reader) == 0);
    }
    cmq_json_parser_free(parser);
    return 0;
}
