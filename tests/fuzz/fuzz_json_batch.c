/* Bytes of a request body -> cmq_json_parse_batch. What is taken must survive being written and parsed again.
 */
#include "tests/fuzz/fuzz_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes > FUZZ_BODY_BYTES_MAX)
        return 0;
    struct cmq_json_parser *parser;
    cmq_assert(cmq_json_parser_new(FUZZ_BODY_BYTES_MAX, &parser) == CMQ_OK);
    uint8_t *body = fuzz_padded(data, bytes);
    struct cmq_buf messages;
    struct cmq_json_error error;
    struct cmq_json_found found = {0};
    cmq_buf_init(&messages, bytes); /* the messages never take more than the body */
    enum cmq_err err = cmq_json_parse_batch(parser, cmq_span_make(body, bytes), &fuzz_limits, NULL, &messages,
                                            &found, &error);
    if (err == CMQ_OK) {
        fuzz_check_messages(parser, cmq_buf_span(&messages), found.messages);
    } else {
        cmq_assert(messages.bytes == 0);
        fuzz_check_error(&error, bytes);
    }
    cmq_buf_fini(&messages);
    free(body);
    cmq_json_parser_free(parser);
    return 0;
}
