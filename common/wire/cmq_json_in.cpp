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
#include "common/wire/cmq_json_in_int.h"
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

/* What is wrong with a body before any token. */
cmq_err check_begin(const cmq_json_parser &parser, const cmq_walk &w)
{
    if (w.bytes > parser.body_bytes_max)
        return cmq_walk_fail(&w, CMQ_ERR_TOO_BIG, SIZE_MAX, "the body is larger than the limit");
    if (w.bytes == 0)
        return cmq_walk_fail(&w, CMQ_ERR_MALFORMED, 0, "the body is empty; expected JSON");
    if (cmq_json_has_byte_order_mark({w.body, w.bytes}))
        return cmq_walk_fail(&w, CMQ_ERR_MALFORMED, 0, CMQ_JSON_BYTE_ORDER_MARK);
    return CMQ_OK;
}

/* list: there are several messages, so that an error may have an index. */
cmq_err tokenize(cmq_json_parser &parser, cmq_walk &w, bool list)
{
    cmq_err err = check_begin(parser, w);
    if (err != CMQ_OK)
        return err;
    err = cmq_json_tokenize(&parser, &w);
    if (err == CMQ_ERR_NOMEM)
        return cmq_walk_fail(&w, err, SIZE_MAX, "out of memory");
    if (err == CMQ_ERR_MALFORMED) { /* it says what, but neither where nor in which message */
        cmq_json_flaw flaw = cmq_json_find_flaw({w.body, w.bytes});
        w.index = list ? flaw.index : CMQ_JSON_NO_INDEX;
        return cmq_walk_fail(&w, err, flaw.offset, flaw.text);
    }
    if (w.count == 0)
        return cmq_walk_fail(&w, CMQ_ERR_MALFORMED, w.bytes, "the body is blank; expected JSON");
    return CMQ_OK;
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

enum cmq_err cmq_json_tokenize(struct cmq_json_parser *parser, struct cmq_walk *w)
{
    cmq_assert(w->bytes <= parser->body_bytes_max);
    if (grow(*parser, w->bytes) != CMQ_OK)
        return CMQ_ERR_NOMEM;
    simdjson::error_code failed = parser->stage1->stage1(w->body, w->bytes, simdjson::stage1_mode::regular);
    if (failed != simdjson::SUCCESS && failed != simdjson::EMPTY)
        return CMQ_ERR_MALFORMED;
    w->tokens = parser->stage1->structural_indexes.get();
    w->count = failed == simdjson::EMPTY ? 0 : parser->stage1->n_structural_indexes;
    return CMQ_OK;
}

size_t cmq_json_body_bytes_max(const struct cmq_json_parser *parser)
{
    return parser->body_bytes_max;
}

void cmq_json_trim(struct cmq_json_parser *parser)
{
    if (parser->stage1 != nullptr && parser->stage1->capacity() > CAPACITY_KEEP_MAX)
        parser->stage1.reset();
}

void cmq_json_begin_walk(struct cmq_walk *ret_walk, struct cmq_span body,
                         const struct cmq_json_limits *limits, const struct cmq_element_defaults *defaults,
                         struct cmq_buf *messages, struct cmq_json_error *error)
{
    cmq_walk w = {};
    w.body = body.data;
    w.bytes = body.bytes;
    w.readable_end = body.bytes != 0 ? body.data + body.bytes : body.data;
    w.index = CMQ_JSON_NO_INDEX;
    w.limits = limits;
    w.defaults = defaults;
    w.inherits = defaults != nullptr && (defaults->ttl_ms != 0 || defaults->headers.bytes != 0);
    w.buf = messages;
    w.error = error;
    *ret_walk = w;
}

enum cmq_err cmq_json_parse_document(struct cmq_json_parser *parser, const struct cmq_json_order *order,
                                     struct cmq_buf *messages, struct cmq_json_found *ret_found,
                                     struct cmq_json_error *ret_error)
{
    cmq_walk w;
    cmq_json_begin_walk(&w, order->body, order->limits, order->defaults, messages, ret_error);
    cmq_err err = tokenize(*parser, w, order->list);
    if (err == CMQ_OK)
        err = order->read(&w);
    cmq_json_trim(parser);
    if (err == CMQ_OK)
        *ret_found = {w.messages, w.has_ids};
    return err;
}

enum cmq_err cmq_json_parse_single(struct cmq_json_parser *parser, struct cmq_span body,
                                   const struct cmq_json_limits *limits,
                                   const struct cmq_element_defaults *defaults, struct cmq_buf *messages,
                                   struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    const cmq_json_order order = {body, limits, defaults, cmq_json_read_single, false};
    return cmq_json_parse_document(parser, &order, messages, ret_found, ret_error);
}

enum cmq_err cmq_json_parse_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                  const struct cmq_json_limits *limits,
                                  const struct cmq_element_defaults *defaults, struct cmq_buf *messages,
                                  struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    const cmq_json_order order = {body, limits, defaults, cmq_json_read_batch, true};
    return cmq_json_parse_document(parser, &order, messages, ret_found, ret_error);
}

enum cmq_err cmq_json_parse_topic_batch(struct cmq_json_parser *parser, struct cmq_span body,
                                        const struct cmq_json_limits *limits,
                                        const struct cmq_element_defaults *defaults, struct cmq_buf *messages,
                                        struct cmq_json_found *ret_found, struct cmq_json_error *ret_error)
{
    const cmq_json_order order = {body, limits, defaults, cmq_json_read_topic_batch, true};
    return cmq_json_parse_document(parser, &order, messages, ret_found, ret_error);
}

enum cmq_err cmq_json_check(struct cmq_json_parser *parser, struct cmq_span body,
                            struct cmq_json_error *ret_error)
{
    const cmq_json_order order = {body, nullptr, nullptr, cmq_json_read_any, false};
    cmq_json_found found;
    return cmq_json_parse_document(parser, &order, nullptr, &found, ret_error);
}

bool cmq_utf8_is_valid(struct cmq_span text)
{
    return text.bytes == 0 || simdjson::validate_utf8(reinterpret_cast<const char *>(text.data), text.bytes);
}
