/* Bytes of a request body -> cmq_json_parse_topic_batch and cmq_json_check. What is taken must survive being written and
 * parsed again, and is JSON to the check, too. With lifetimes and headers it becomes messages that are in their limits. */
#include "tests/fuzz/fuzz_bodies.h"

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
    cmq_buf_init(&messages, SIZE_MAX / 4);
    enum cmq_err plain = cmq_json_check(parser, cmq_span_make(body, bytes), &error);
    enum cmq_err err = cmq_json_parse_topic_batch(parser, cmq_span_make(body, bytes), &fuzz_limits, NULL,
                                                  &messages, &found, &error);
    cmq_assert(err != CMQ_OK || plain == CMQ_OK);
    if (err == CMQ_OK) {
        fuzz_check_messages(parser, cmq_buf_span(&messages), found.messages);
    } else {
        cmq_assert(messages.bytes == 0);
        fuzz_check_error(&error, bytes);
    }
    cmq_buf_fini(&messages);
    (void)fuzz_body(parser, cmq_json_parse_topic_batch, data, bytes);
    free(body);
    cmq_json_parser_free(parser);
    return 0;
}
