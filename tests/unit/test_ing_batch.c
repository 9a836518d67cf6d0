#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "ingest/ing_batch.h"

enum { BODY_BYTES_MAX = 4 << 20 };

static const struct cmq_json_limits limits = {.message_bytes_max = 100, .messages_max = 200000};

static int setup(void **state)
{
    return ing_packer_new(BODY_BYTES_MAX, &limits, (struct ing_packer **)state) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    ing_packer_free(*state);
    return 0;
}

/* Packs a copy that has the padding. The batch doesn't point into the body. */
static struct ing_problem pack_order(void **state, const struct ing_order *order, const char *text,
                                     size_t bytes, struct ing_batch *ret_batch)
{
    uint8_t *body = calloc(1, bytes + CMQ_JSON_PADDING);
    assert_non_null(body);
    memcpy(body, text, bytes);
    struct ing_problem problem = ing_batch_pack(*state, order, cmq_span_make(body, bytes), ret_batch);
    free(body);
    return problem;
}

static struct cmq_span text_span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

static struct ing_problem pack(void **state, enum ing_format format, const char *text,
                               struct ing_batch *ret_batch)
{
    const struct ing_order order = {.format = format, .topic = text_span("default"), .accepted_at_ms = 1234};
    return pack_order(state, &order, text, strlen(text), ret_batch);
}

/* Joins the parts and reads them back as the encryptor will. The caller frees. */
static uint8_t *decode_topic(const struct ing_batch *batch, const char *topic, uint32_t flags,
                             struct cmq_plain_unit *ret_unit)
{
    size_t bytes = batch->parts[0].bytes + batch->parts[1].bytes;
    uint8_t *record = malloc(bytes);
    assert_non_null(record);
    memcpy(record, batch->parts[0].data, batch->parts[0].bytes);
    memcpy(record + batch->parts[0].bytes, batch->parts[1].data, batch->parts[1].bytes);
    struct cmq_mp_reader units;
    struct cmq_plain_head head;
    assert_int_equal(cmq_plain_decode(cmq_span_make(record, bytes), &units, &head), CMQ_OK);
    assert_int_equal(head.unit_count, 1);
    assert_int_equal(head.accepted_at_ms, 1234);
    assert_int_equal(cmq_plain_next(&units, ret_unit), CMQ_OK);
    assert_int_equal(cmq_mp_left(&units), 0);
    assert_int_equal(head.flags, flags);
    assert_int_equal(ret_unit->topic.bytes, strlen(topic));
    assert_memory_equal(ret_unit->topic.data, topic, strlen(topic));
    return record;
}

static uint8_t *decode(const struct ing_batch *batch, struct cmq_plain_unit *ret_unit)
{
    return decode_topic(batch, "default", 0, ret_unit);
}

static void expect_messages(const struct ing_batch *batch, const char *const *want, uint32_t count)
{
    struct cmq_plain_unit unit;
    uint8_t *record = decode(batch, &unit);
    assert_int_equal(batch->count, count);
    assert_int_equal(unit.count, count);
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, unit.messages);
    for (uint32_t i = 0; i < count; i++) {
        struct cmq_message message;
        assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
        assert_true(message.text);
        assert_int_equal(message.body.bytes, strlen(want[i]));
        assert_memory_equal(message.body.data, want[i], message.body.bytes);
    }
    assert_int_equal(cmq_mp_left(&reader), 0);
    free(record);
}

static void one_message_becomes_a_batch_of_one(void **state)
{
    struct ing_batch batch;
    assert_int_equal(pack(state, ING_FORMAT_INPUT, "{\"content\":\"a\\u00e9\\n\"}", &batch).kind,
                     ING_PROBLEM_NONE);
    expect_messages(&batch, (const char *const[]){"a\xc3\xa9\n"}, 1);
}

static void many_messages_keep_their_order(void **state)
{
    struct ing_batch batch;
    assert_int_equal(pack(state, ING_FORMAT_INPUTS,
                          "{\"messages\":[{\"content\":\"1\"},{\"content\":\"\"},{\"content\":\"3\"}]}",
                          &batch)
                         .kind,
                     ING_PROBLEM_NONE);
    expect_messages(&batch, (const char *const[]){"1", "", "3"}, 3);
}

static void an_empty_batch_has_no_messages(void **state)
{
    struct ing_batch batch = {.count = 9};
    assert_int_equal(pack(state, ING_FORMAT_INPUTS, "{\"messages\":[]}", &batch).kind, ING_PROBLEM_NONE);
    assert_int_equal(batch.count, 0);
}

static void errors_say_where_and_what(void **state)
{
    struct ing_batch batch = {.count = 9};
    struct ing_problem problem =
        pack(state, ING_FORMAT_INPUTS, "{\"messages\":[{\"content\":\"1\"},{\"content\":2}]}", &batch);
    assert_int_equal(problem.kind, ING_PROBLEM_MALFORMED);
    assert_int_equal(problem.index, 1);
    assert_non_null(problem.detail);
    assert_true(strlen(problem.detail) > 10);
    assert_int_equal(batch.count, 9);
    problem = pack(state, ING_FORMAT_INPUT, "", &batch);
    assert_int_equal(problem.kind, ING_PROBLEM_MALFORMED);
    assert_int_equal(problem.index, ING_INDEX_NONE);
}

static void a_message_over_the_limit_is_too_large(void **state)
{
    char body[200] = "{\"messages\":[{\"content\":\"\"},{\"content\":\"";
    memset(body + strlen(body), 'x', 101);
    strncat(body, "\"}]}", 5);
    struct ing_batch batch;
    struct ing_problem problem = pack(state, ING_FORMAT_INPUTS, body, &batch);
    assert_int_equal(problem.kind, ING_PROBLEM_TOO_LARGE);
    assert_int_equal(problem.index, 1);
}

static void an_error_leaves_nothing_for_the_next_batch(void **state)
{
    struct ing_batch batch;
    assert_int_equal(pack(state, ING_FORMAT_INPUTS, "{\"messages\":[{\"content\":\"left\"},{]}", &batch).kind,
                     ING_PROBLEM_MALFORMED);
    assert_int_equal(pack(state, ING_FORMAT_INPUT, "{\"content\":\"b\"}", &batch).kind, ING_PROBLEM_NONE);
    expect_messages(&batch, (const char *const[]){"b"}, 1);
}

static void a_large_batch_is_followed_by_a_small_one(void **state)
{
    enum { COUNT = 100000 };
    char *body = malloc(COUNT * 21 + 40);
    assert_non_null(body);
    char *at = stpcpy(body, "{\"messages\":[");
    for (int i = 0; i < COUNT; i++)
        at = stpcpy(at, i == 0 ? "{\"content\":\"xxxxxx\"}" : ",{\"content\":\"xxxxxx\"}");
    (void)stpcpy(at, "]}");
    struct ing_batch batch;
    assert_int_equal(pack(state, ING_FORMAT_INPUTS, body, &batch).kind, ING_PROBLEM_NONE);
    free(body);
    assert_int_equal(batch.count, COUNT);
    struct cmq_plain_unit unit;
    free(decode(&batch, &unit));
    assert_int_equal(pack(state, ING_FORMAT_INPUT, "{\"content\":\"b\"}", &batch).kind, ING_PROBLEM_NONE);
    expect_messages(&batch, (const char *const[]){"b"}, 1);
}

/* ---- topics, keys, ids ---- */

static void expect_span(struct cmq_span span, const void *data, size_t bytes)
{
    assert_int_equal(span.bytes, bytes);
    if (bytes != 0)
        assert_memory_equal(span.data, data, bytes);
}

/* The only message of the batch. */
static struct cmq_message_full only_message(const struct cmq_plain_unit *unit)
{
    struct cmq_mp_reader reader;
    struct cmq_message_full message = {0};
    cmq_mp_reader_init(&reader, unit->messages);
    assert_int_equal(unit->count, 1);
    assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
    assert_int_equal(cmq_mp_left(&reader), 0);
    return message;
}

static void a_body_is_one_message_of_its_topic(void **state)
{
    static const struct {
        enum cmq_type type;
        const char *type_text;
        const char *body;
        size_t bytes;
        bool text;
        const char *kept; /* type */
    } table[] = {
        {CMQ_TYPE_TEXT, "", "hello \xc3\xa9", 8, true, ""},
        {CMQ_TYPE_TEXT, "", "\xff\x00", 2, false, ""},
        {CMQ_TYPE_TEXT, "", "", 0, true, ""},
        {CMQ_TYPE_OTHER, "image/png", "\x89PNG\xff", 5, false, "image/png"},
        {CMQ_TYPE_OTHER, "text/html", "<b>", 3, true, "text/html"},
        {CMQ_TYPE_JSON, "", " {\"a\": [1]}\n", 12, true, "application/json"},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        const struct ing_order order = {.format = ING_FORMAT_WHOLE,
                                        .topic = text_span("orders.eu"),
                                        .type = table[i].type,
                                        .type_text = text_span(table[i].type_text),
                                        .accepted_at_ms = 1234};
        struct ing_batch batch;
        struct cmq_plain_unit unit;
        assert_int_equal(pack_order(state, &order, table[i].body, table[i].bytes, &batch).kind,
                         ING_PROBLEM_NONE);
        assert_int_equal(batch.count, 1);
        assert_false(batch.has_ids || batch.has_key);
        uint8_t *record = decode_topic(&batch, "orders.eu", 0, &unit);
        const struct cmq_message_full message = only_message(&unit);
        assert_int_equal(message.text, table[i].text);
        expect_span(message.body, table[i].body, table[i].bytes);
        expect_span(message.type, table[i].kept, strlen(table[i].kept));
        assert_int_equal(message.id.bytes, 0);
        free(record);
    }
}

static void a_json_body_of_a_topic_is_checked(void **state)
{
    const struct ing_order order = {
        .format = ING_FORMAT_WHOLE, .topic = text_span("a"), .type = CMQ_TYPE_JSON, .accepted_at_ms = 1234};
    struct ing_batch batch;
    struct ing_problem problem = pack_order(state, &order, "{\"a\":}", 6, &batch);
    assert_int_equal(problem.kind, ING_PROBLEM_MALFORMED);
    assert_int_equal(problem.offset, 5);
    assert_int_equal(problem.index, ING_INDEX_NONE);
    problem = pack_order(state, &order, "", 0, &batch);
    assert_int_equal(problem.kind, ING_PROBLEM_MALFORMED);
}

static void a_body_over_the_limit_of_a_message_is_too_large(void **state)
{
    const struct ing_order order = {
        .format = ING_FORMAT_WHOLE, .topic = text_span("a"), .accepted_at_ms = 1234};
    char body[101] = {0};
    struct ing_batch batch;
    assert_int_equal(pack_order(state, &order, body, 100, &batch).kind, ING_PROBLEM_NONE);
    struct ing_problem problem = pack_order(state, &order, body, 101, &batch);
    assert_int_equal(problem.kind, ING_PROBLEM_TOO_LARGE);
    assert_non_null(strstr(problem.detail, "101 bytes"));
}

static void a_key_stands_before_the_messages(void **state)
{
    char topic[CMQ_TOPIC_BYTES_MAX + 1], key[CMQ_MESSAGE_ID_BYTES_MAX + 1];
    memset(topic, 't', sizeof topic);
    memset(key, 'k', sizeof key);
    topic[CMQ_TOPIC_BYTES_MAX] = key[CMQ_MESSAGE_ID_BYTES_MAX] = '\0';
    const struct ing_order order = {
        .format = ING_FORMAT_JSON, .topic = text_span(topic), .key = text_span(key), .accepted_at_ms = 1234};
    struct ing_batch batch;
    struct cmq_plain_unit unit;
    struct cmq_mp_reader reader;
    struct cmq_span found;
    struct cmq_message message;
    assert_int_equal(pack_order(state, &order, "[\"a\",\"b\"]", 9, &batch).kind, ING_PROBLEM_NONE);
    assert_true(batch.has_ids && batch.has_key);
    assert_int_equal(batch.count, 2);
    uint8_t *record = decode_topic(&batch, topic, CMQ_PLAIN_HAS_KEY, &unit);
    assert_int_equal(unit.count, 2);
    cmq_mp_reader_init(&reader, unit.messages);
    assert_int_equal(cmq_message_key_read(&reader, CMQ_PLAIN_HAS_KEY, &found), CMQ_OK);
    expect_span(found, key, strlen(key));
    assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
    expect_span(message.body, "a", 1);
    assert_int_equal(cmq_message_next(&reader, &message), CMQ_OK);
    assert_int_equal(cmq_mp_left(&reader), 0);
    free(record);
}

static void ids_are_flagged_and_kept(void **state)
{
    struct ing_batch batch;
    struct cmq_plain_unit unit;
    assert_int_equal(pack(state, ING_FORMAT_INPUT, "{\"content\":\"a\",\"id\":\"o-1\"}", &batch).kind,
                     ING_PROBLEM_NONE);
    assert_true(batch.has_ids);
    assert_false(batch.has_key);
    uint8_t *record = decode_topic(&batch, "default", CMQ_PLAIN_HAS_IDS, &unit);
    expect_span(only_message(&unit).id, "o-1", 3);
    free(record);
}

static void a_key_and_ids_in_one_request_are_refused(void **state)
{
    const struct ing_order order = {
        .format = ING_FORMAT_JSON, .topic = text_span("a"), .key = text_span("k")};
    static const char body[] = "[\"a\",{\"data\":\"b\",\"id\":\"1\"}]";
    struct ing_batch batch;
    struct ing_problem problem = pack_order(state, &order, body, sizeof body - 1, &batch);
    assert_int_equal(problem.kind, ING_PROBLEM_BAD_HEADER);
    assert_non_null(strstr(problem.detail, "not both"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_message_becomes_a_batch_of_one, setup, teardown),
        cmocka_unit_test_setup_teardown(many_messages_keep_their_order, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_batch_has_no_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_say_where_and_what, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_over_the_limit_is_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_leaves_nothing_for_the_next_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_batch_is_followed_by_a_small_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_is_one_message_of_its_topic, setup, teardown),
        cmocka_unit_test_setup_teardown(a_json_body_of_a_topic_is_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_over_the_limit_of_a_message_is_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_stands_before_the_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(ids_are_flagged_and_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_and_ids_in_one_request_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests_name("ing_batch", tests, NULL, NULL);
}
