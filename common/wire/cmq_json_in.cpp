/*
 * How a body becomes messages:
 * - simdjson's first stage (vector code chosen for this CPU) checks UTF-8, control characters and open
 * strings, and writes the offset of every token: { } [ ] : , the opening quote of a string, the first byte of
 * anything else.
 * - The walk (cmq_json_walk, cmq_json_messages) holds the tokens against the grammar, every one of them, and
 * copies each content out on the way.
 * - Messages are written behind *messages, which grows by them only when the last token was right.
 * Why the walk is ours: simdjson's tape costs 8 bytes a token and one more copy and gives no offset of an
 * error; its On-Demand reader does not check what it skips. What fails: a first stage that refuses gives no
 * offset, so a slow scan finds it. The walk knows its own.
 */
#include <cstring>
#include <memory>
#include <new>

#include <simdjson.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* compound literals are C */
extern "C" {
#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_json_messages.h"
#include "common/wire/cmq_json_text.h"
#include "common/wire/cmq_json_walk.h"
}
#pragma GCC diagnostic pop

struct cmq_json_parser {
    std::unique_ptr<simdjson::internal::dom_parser_implementation> stage1;
    size_t body_bytes_max;
};

namespace
{

constexpr size_t CAPACITY_MIN = 4096;
constexpr size_t CAPACITY_KEEP_MAX = 1u << 20; /* body bytes; a parser keeps at most four times as much */

cmq_err grow(cmq_json_parser &parser, size_t bytes)
{
    if (parser.stage1 != nullptr && bytes <= parser.stage1->capacity())
        return CMQ_OK;
    size_t capacity = CAPACITY_MIN;
    while (capacity < bytes)
        capacity *= 2;
    capacity = capacity < parser.body_bytes_max ? capacity : parser.body_bytes_max;
    parser.stage1.reset(); /* before the new one is there: at most one at a time */
    simdjson::error_code failed = simdjson::get_active_implementation()->create_dom_parser_implementation(
        capacity, CMQ_JSON_DEPTH_MAX, parser.stage1);
    if (failed == simdjson::SUCCESS)
        return CMQ_OK;
    parser.stage1.reset();
    return CMQ_ERR_NOMEM;
}

/* The first stage says what, but neither where nor in which message. */
cmq_err refused_by_stage1(cmq_walk &w, bool list)
{
    cmq_json_flaw flaw = cmq_json_find_flaw({w.body, w.bytes});
    w.index = list ? flaw.index : CMQ_JSON_NO_INDEX;
    return cmq_walk_fail(&w, CMQ_ERR_MALFORMED, flaw.offset, flaw.text);
}

/* Fills w's tokens. */
cmq_err tokenize(cmq_json_parser &parser, cmq_walk &w, bool list)
{
    if (w.bytes > parser.body_bytes_max)
        return cmq_walk_fail(&w, CMQ_ERR_TOO_BIG, SIZE_MAX, "the body is larger than the limit");
    if (w.bytes == 0)
        return cmq_walk_fail(&w, CMQ_ERR_MALFORMED, 0, "the body is empty; expected JSON");
    static const uint8_t byte_order_mark[] = {0xef, 0xbb, 0xbf};
    if (w.bytes >= 3 && memcmp(w.body, byte_order_mark, 3) == 0)
        return cmq_walk_fail(&w, CMQ_ERR_MALFORMED, 0,
                             "byte order mark before the JSON text; send UTF-8 without one");
    if (grow(parser, w.bytes) != CMQ_OK)
        return cmq_walk_fail(&w, CMQ_ERR_NOMEM, SIZE_MAX, "out of memory");
    simdjson::error_code failed = parser.stage1->stage1(w.body, w.bytes, simdjson::stage1_mode::regular);
    if (failed == simdjson::EMPTY)
        return cmq_walk_fail(&w, CMQ_ERR_MALFORMED, w.bytes, "the body is blank; expected JSON");
    if (failed != simdjson::SUCCESS)
        return refused_by_stage1(w, list);
    w.tokens = parser.stage1->structural_indexes.get();
    w.count = parser.stage1->n_structural_indexes;
    return CMQ_OK;
}

/* list: there are several messages, so that an error may have an index. */
cmq_err parse(cmq_json_parser &parser, cmq_walk &w, bool list, cmq_json_document *read)
{
    cmq_err err = tokenize(parser, w, list);
    if (err == CMQ_OK)
        err = read(&w);
    if (parser.stage1 != nullptr && parser.stage1->capacity() > CAPACITY_KEEP_MAX)
        parser.stage1.reset();
    return err;
}

cmq_walk begin_walk(cmq_span body, const cmq_json_limits *limits, cmq_buf *messages, cmq_json_error *error)
{
    cmq_walk w = {};
    w.body = body.data;
    w.bytes = body.bytes;
    w.index = CMQ_JSON_NO_INDEX;
    w.limits = limits;
    w.buf = messages;
    w.error = error;
    return w;
}

cmq_err parse_list(cmq_json_parser &parser, cmq_walk &w, cmq_json_document *read, cmq_json_found *ret_found)
{
    cmq_err err = parse(parser, w, true, read);
    if (err == CMQ_OK)
        *ret_found = {w.messages, w.has_ids};
    return err;
}

} // namespace

enum cmq_err cmq_json_parser_new(size_t body_bytes_max, struct cmq_json_parser **ret_parser)
{
    if (body_bytes_max == 0 || body_bytes_max > simdjson::SIMDJSON_MAXSIZE_BYTES)
        return CMQ_ERR_INVALID;
    cmq_json_parser *parser = new (std::nothrow) cmq_json_parser{nullptr, body_bytes_max};
    if (parser == nullptr)
        return CMQ_ERR_NOMEM;
    *ret_parser = parser;
    return CMQ_OK;
}

void cmq_json_parser_free(struct cmq_json_parser *parser)
{
    delete parser;
}

enum cmq_err cmq_json_parse_single(struct cmq_json_parser *parser, struct cmq_span body,
                                   const struct cmq_json_limits *limits, struct cmq_buf *messages,
                                   struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    cmq_walk w = begin_walk(body, limits, messages, ret_error);
    cmq_err err = parse(*parser, w, false, cmq_json_read_single);
    if (err == CMQ_OK)
        *ret_found = {w.messages, w.has_ids};
    return err;
}

enum cmq_err cmq_json_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                  const struct cmq_json_limits *limits, struct cmq_buf *messages,
                                  struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    cmq_walk w = begin_walk(body, limits, messages, ret_error);
    return parse_list(*parser, w, cmq_json_read_batch, ret_found);
}

enum cmq_err cmq_json_parse_topic_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                        const struct cmq_json_limits *limits, struct cmq_buf *messages,
                                        struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    cmq_walk w = begin_walk(body, limits, messages, ret_error);
    return parse_list(*parser, w, cmq_json_read_topic_batch, ret_found);
}

enum cmq_err cmq_json_check(struct cmq_json_parser *parser, struct cmq_span body,
                            struct cmq_json_error *ret_error)
{
    cmq_walk w = begin_walk(body, nullptr, nullptr, ret_error);
    return parse(*parser, w, false, cmq_json_read_any);
}

bool cmq_utf8_is_valid(struct cmq_span text)
{
    return text.bytes == 0 || simdjson::validate_utf8(reinterpret_cast<const char *>(text.data), text.bytes);
}
