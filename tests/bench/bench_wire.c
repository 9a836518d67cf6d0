/*
 * bench-wire: what one message costs in common/wire, in nanoseconds. Prints, never judges.
 * usage: bench-wire [MESSAGES [ROUNDS]]   (defaults 20000 and 200)
 * The body is the reference body: {"messages": [{"content": "message_1"}, ...]}; then the same messages as an array of
 * strings or objects, as lines of them, as MessagePack, and as objects with a header. The fastest round counts.
 */
#include <sys/utsname.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_json_out.h"
#include "common/wire/cmq_json_out_int.h"
#include "common/wire/cmq_mp_in.h"
#include "common/wire/cmq_mp_out.h"
#include "common/wire/cmq_ndjson.h"

enum { MESSAGES = 20000, ROUNDS = 200, MESSAGE_JSON_MAX = 64 };

struct bench {
    uint32_t count;
    struct cmq_span body;
    struct cmq_span strings, objects, carriers; /* arrays of elements */
    struct cmq_span string_lines, object_lines; /* the same as lines */
    struct cmq_span packed;                     /* the strings as MessagePack */
    struct cmq_json_parser *parser;
    struct cmq_buf messages;
    uint8_t *out;
    uint64_t sink; /* keeps results alive */
};

typedef bool step(struct bench *bench);

static bool parse(struct bench *bench)
{
    static const struct cmq_json_limits limits = {.message_bytes_max = 1u << 20, .messages_max = UINT32_MAX};
    struct cmq_json_error error;
    struct cmq_json_found found;
    bench->messages.bytes = 0;
    return cmq_json_parse_batch(bench->parser, bench->body, &limits, NULL, &bench->messages, &found,
                                &error) == CMQ_OK &&
           found.messages == bench->count;
}

static bool parse_singles(struct bench *bench)
{
    static const struct cmq_json_limits limits = {.message_bytes_max = 1u << 20, .messages_max = 1};
    static const char single[64 + CMQ_JSON_PADDING] = "{\"content\": \"message_1\"}";
    struct cmq_json_found found;
    struct cmq_json_error error;
    for (uint32_t i = 0; i < bench->count; i++) {
        bench->messages.bytes = 0;
        if (cmq_json_parse_single(bench->parser, cmq_span_make(single, 24), &limits, NULL, &bench->messages,
                                  &found, &error) != CMQ_OK)
            return false;
    }
    return true;
}

static const struct cmq_json_limits element_limits = {
    .message_bytes_max = 1u << 20, .messages_max = UINT32_MAX, .headers_bytes_max = 4096};

static bool parse_elements(struct bench *bench, struct cmq_span body)
{
    struct cmq_json_error error;
    struct cmq_json_found found;
    bench->messages.bytes = 0;
    return cmq_json_parse_topic_batch(bench->parser, body, &element_limits, NULL, &bench->messages, &found,
                                      &error) == CMQ_OK &&
           found.messages == bench->count;
}

static bool parse_strings(struct bench *bench)
{
    return parse_elements(bench, bench->strings);
}

static bool parse_objects(struct bench *bench)
{
    return parse_elements(bench, bench->objects);
}

static bool parse_carriers(struct bench *bench)
{
    return parse_elements(bench, bench->carriers);
}

static void line_refused(void *context, uint64_t line, const struct cmq_json_error *error)
{
    (void)context;
    fprintf(stderr, "line %llu: %s\n", (unsigned long long)line, error->text);
}

static bool parse_block(struct bench *bench, struct cmq_span block)
{
    const struct cmq_ndjson_order order = {
        .limits = &element_limits, .line_bytes_max = 1u << 20, .line = 1, .refused = line_refused};
    struct cmq_ndjson_found found;
    bench->messages.bytes = 0;
    return cmq_ndjson_parse(bench->parser, block, &order, &bench->messages, &found) == CMQ_OK &&
           found.messages == bench->count;
}

static bool parse_string_lines(struct bench *bench)
{
    return parse_block(bench, bench->string_lines);
}

static bool parse_object_lines(struct bench *bench)
{
    return parse_block(bench, bench->object_lines);
}

static bool parse_msgpack(struct bench *bench)
{
    struct cmq_json_error error;
    struct cmq_json_found found;
    bench->messages.bytes = 0;
    return cmq_mp_parse_batch(bench->parser, bench->packed, &element_limits, NULL, &bench->messages, &found,
                              &error) == CMQ_OK &&
           found.messages == bench->count;
}

static bool pack_heads(struct bench *bench)
{
    uint8_t *next = bench->out;
    for (uint32_t i = 0; i < bench->count; i++)
        next += cmq_message_head(next, true, 9 + (i & 3u)) + 9;
    bench->sink += (uint64_t)(next - bench->out);
    return true;
}

static bool walk(struct bench *bench)
{
    struct cmq_mp_reader reader;
    struct cmq_message message;
    cmq_mp_reader_init(&reader, cmq_buf_span(&bench->messages));
    for (uint32_t i = 0; i < bench->count; i++) {
        if (cmq_message_next(&reader, &message) != CMQ_OK)
            return false;
        bench->sink += message.body.bytes;
    }
    return cmq_mp_left(&reader) == 0;
}

typedef size_t write_string(uint8_t *dst, struct cmq_span text);

static bool escape_with(struct bench *bench, write_string *write)
{
    struct cmq_mp_reader reader;
    struct cmq_message message;
    uint8_t *next = bench->out;
    cmq_mp_reader_init(&reader, cmq_buf_span(&bench->messages));
    for (uint32_t i = 0; i < bench->count; i++) {
        if (cmq_message_next(&reader, &message) != CMQ_OK)
            return false;
        next += write(next, message.body);
        *next++ = ',';
    }
    bench->sink += (uint64_t)(next - bench->out);
    return true;
}

static bool escape(struct bench *bench)
{
    return escape_with(bench, cmq_json_write_string);
}

static bool escape_portable(struct bench *bench)
{
    return escape_with(bench, cmq_json_write_string_portable);
}

/* A body of elements `message_1`, `message_2`, ... with something around each. */
struct form {
    const char *begin, *before, *after, *separator, *end;
};

static bool make_body(struct cmq_span *ret_body, uint32_t count, const struct form *form)
{
    size_t room = 64 + (size_t)count * MESSAGE_JSON_MAX + CMQ_JSON_PADDING, bytes = 0;
    char *body = calloc(1, room);
    if (body == NULL)
        return false;
    bytes += (size_t)snprintf(body, room, "%s", form->begin);
    for (uint32_t i = 1; i <= count; i++)
        bytes += (size_t)snprintf(body + bytes, room - bytes, "%s%smessage_%u%s",
                                  i > 1 ? form->separator : "", form->before, i, form->after);
    bytes += (size_t)snprintf(body + bytes, room - bytes, "%s", form->end);
    *ret_body = cmq_span_make(body, bytes);
    return true;
}

static bool make_packed(struct bench *bench)
{
    uint8_t *body = calloc(1, 64 + (size_t)bench->count * MESSAGE_JSON_MAX + CMQ_JSON_PADDING);
    if (body == NULL)
        return false;
    uint8_t *next = cmq_mp_put_array(body, bench->count);
    for (uint32_t i = 1; i <= bench->count; i++) {
        char text[24];
        int bytes = snprintf(text, sizeof text, "message_%u", i);
        next = cmq_mp_put_str(next, cmq_span_make(text, (size_t)bytes));
    }
    bench->packed = cmq_span_make(body, (size_t)(next - body));
    return true;
}

static bool make_elements(struct bench *bench)
{
    static const struct form strings = {"[", "\"", "\"", ",", "]"},
                             objects = {"[", "{\"data\":\"", "\"}", ",", "]"},
                             carriers = {"[", "{\"headers\":{\"a\":\"1\"},\"data\":\"", "\"}", ",", "]"},
                             string_lines = {"", "\"", "\"", "\n", "\n"},
                             object_lines = {"", "{\"data\":\"", "\"}", "\n", "\n"};
    return make_body(&bench->strings, bench->count, &strings) &&
           make_body(&bench->objects, bench->count, &objects) &&
           make_body(&bench->carriers, bench->count, &carriers) &&
           make_body(&bench->string_lines, bench->count, &string_lines) &&
           make_body(&bench->object_lines, bench->count, &object_lines) && make_packed(bench);
}

static bool make(struct bench *bench, uint32_t count)
{
    static const struct form input = {"{\"messages\": [", "{\"content\": \"", "\"}", ", ", "]}"};
    bench->count = count;
    bench->out = malloc(64 + (size_t)count * cmq_json_string_bytes_max(24));
    cmq_buf_init(&bench->messages, SIZE_MAX / 4);
    return bench->out != NULL && make_body(&bench->body, count, &input) && make_elements(bench) &&
           cmq_json_parser_new(64 + (size_t)count * MESSAGE_JSON_MAX, &bench->parser) == CMQ_OK;
}

static void drop_body(struct cmq_span body)
{
    free((void *)(uintptr_t)body.data);
}

static void drop(struct bench *bench)
{
    cmq_json_parser_free(bench->parser);
    cmq_buf_fini(&bench->messages);
    free(bench->out);
    drop_body(bench->body);
    drop_body(bench->strings);
    drop_body(bench->objects);
    drop_body(bench->carriers);
    drop_body(bench->string_lines);
    drop_body(bench->object_lines);
    drop_body(bench->packed);
}

static bool measure(struct bench *bench, unsigned rounds, const char *name, step *run)
{
    uint64_t best_ns = UINT64_MAX;
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t begin_ns = cmq_clock_mono_ns();
        if (!run(bench)) {
            fprintf(stderr, "%s failed\n", name);
            return false;
        }
        best_ns = cmq_min_u64(best_ns, cmq_clock_mono_ns() - begin_ns);
    }
    printf("%-16s %7.2f ns/message\n", name, (double)best_ns / bench->count);
    return true;
}

static void print_machine(const struct bench *bench, unsigned rounds)
{
    struct utsname machine;
    if (uname(&machine) != 0)
        return;
    printf("machine %s %s, %ld cores, %s; %u messages, %zu bytes, best of %u\n", machine.sysname,
           machine.release, sysconf(_SC_NPROCESSORS_ONLN), machine.machine, bench->count, bench->body.bytes,
           rounds);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        step *run;
    } steps[] = {{"parse-singles", parse_singles},
                 {"strings", parse_strings},
                 {"string-lines", parse_string_lines},
                 {"string-msgpack", parse_msgpack},
                 {"objects", parse_objects},
                 {"object-lines", parse_object_lines},
                 {"objects-headers", parse_carriers},
                 {"parse-batch", parse}, /* what the next ones read */
                 {"walk", walk},
                 {"walk-escape", escape},
                 {"walk-escape-swar", escape_portable},
                 {"pack-heads", pack_heads}};
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : MESSAGES;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : ROUNDS;
    if (argc > 3 || count == 0 || count > 10000000 || rounds == 0 || rounds > 1000000) {
        fprintf(stderr, "usage: %s [MESSAGES [ROUNDS]]\n", argv[0]);
        return 2;
    }
    struct bench bench = {0};
    bool good = make(&bench, (uint32_t)count);
    if (good)
        print_machine(&bench, (unsigned)rounds);
    for (size_t i = 0; good && i < CMQ_COUNT_OF(steps); i++)
        good = measure(&bench, (unsigned)rounds, steps[i].name, steps[i].run);
    drop(&bench);
    return good ? 0 : 1;
}
