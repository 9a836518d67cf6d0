#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_json_pack.h"
#include "dispatcher/dsp_proto.h"

static struct cmq_json_packer *packer;
static struct cmq_buf packed;
static struct dsp_command command;
static struct dsp_fault fault;

static int setup(void **state)
{
    (void)state;
    cmq_buf_init(&packed, 1 << 20);
    fault = (struct dsp_fault){0};
    return cmq_json_packer_new(65536, &packer) == CMQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cmq_buf_fini(&packed);
    cmq_json_packer_free(packer);
    return 0;
}

static enum dsp_decode decode(const char *json)
{
    struct cmq_reason reason;
    packed.bytes = 0;
    assert_int_equal(cmq_json_pack(packer, cmq_span_make(json, strlen(json)), &packed, &reason), CMQ_OK);
    return dsp_proto_decode(cmq_buf_span(&packed), &command, &fault);
}

static void assert_span(struct cmq_span span, const char *expected)
{
    assert_int_equal(span.bytes, strlen(expected));
    assert_memory_equal(span.data, expected, span.bytes);
}

static void every_command_is_understood(void **state)
{
    (void)state;
    assert_int_equal(decode("{}"), DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_HEARTBEAT);
    assert_int_equal(decode("{\"id\":1,\"connect\":{\"token\":\"t\",\"client\":\"c\"}}"), DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_CONNECT);
    assert_true(command.has_id && command.id == 1);
    assert_span(command.token, "t");
    assert_span(command.client, "c");
    assert_int_equal(decode("{\"subscribe\":{\"topic\":\"o.*\",\"since\":\"12-0\"},\"id\":0}"),
                     DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_SUBSCRIBE);
    assert_true(command.has_id && command.id == 0);
    assert_span(command.topic, "o.*");
    assert_span(command.since, "12-0");
    assert_int_equal(decode("{\"id\":3,\"consume\":{\"topic\":\"jobs\",\"group\":\"w\",\"credit\":256,"
                            "\"ack_wait_ms\":30000,\"max_deliver\":16,\"since\":\"latest\"}}"),
                     DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_CONSUME);
    assert_int_equal(command.credit, 256);
    assert_int_equal(command.ack_wait_ms, 30000);
    assert_int_equal(command.max_deliver, 16);
    assert_int_equal(command.present, DSP_HAS_TOPIC | DSP_HAS_GROUP | DSP_HAS_CREDIT | DSP_HAS_ACK_WAIT_MS |
                                          DSP_HAS_MAX_DELIVER | DSP_HAS_SINCE);
    assert_int_equal(decode("{\"ack\":{\"group\":\"w\",\"upto\":\"12-9\"}}"), DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_ACK);
    assert_false(command.has_id);
    assert_span(command.upto, "12-9");
    assert_int_equal(decode("{\"id\":5,\"nack\":{\"group\":\"w\",\"ids\":[\"1-0\"],\"delay_ms\":1000}}"),
                     DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_NACK);
    assert_int_equal(command.delay_ms, 1000);
    assert_int_equal(decode("{\"id\":6,\"credit\":{\"group\":\"w\",\"credit\":0}}"), DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_CREDIT);
    assert_int_equal(decode("{\"id\":7,\"unsubscribe\":{\"id\":2}}"), DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_UNSUBSCRIBE);
    assert_int_equal(command.id, 7);
    assert_int_equal(command.target, 2);
    assert_int_equal(decode("{\"id\":8,\"ping\":{}}"), DSP_DECODE_OK);
    assert_int_equal(command.verb, DSP_VERB_PING);
}

static void ids_are_read_one_by_one(void **state)
{
    (void)state;
    struct cmq_span text;
    struct cmq_id id;
    uint32_t attempt;
    assert_int_equal(decode("{\"ack\":{\"ids\":[\"12-0\",\"13-7:2\"],\"group\":\"w\"}}"), DSP_DECODE_OK);
    assert_int_equal(command.id_count, 2);
    assert_span(command.group, "w");
    assert_int_equal(dsp_proto_next_id(&command.ids, &text, &id, &attempt), CMQ_OK);
    assert_true(id.seq == 12 && id.index == 0 && attempt == 0);
    assert_int_equal(dsp_proto_next_id(&command.ids, &text, &id, &attempt), CMQ_OK);
    assert_true(id.seq == 13 && id.index == 7 && attempt == 2);
    assert_span(text, "13-7:2");
    assert_int_equal(dsp_proto_next_id(&command.ids, &text, &id, &attempt), CMQ_ERR_MALFORMED);
}

static void wrong_ids_are_malformed(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",         "12", "12-",  "12-0:", "12-0:0", "12-0:x", "12-0:01", "12-0:4294967296",
        "12-0:1:2", ":1", "12-0 "};
    for (unsigned i = 0; i < CMQ_COUNT_OF(wrong); i++) {
        char json[128];
        struct cmq_span text;
        struct cmq_id id;
        uint32_t attempt;
        (void)snprintf(json, sizeof(json), "{\"ack\":{\"ids\":[\"%s\"],\"group\":\"w\"}}", wrong[i]);
        assert_int_equal(decode(json), DSP_DECODE_OK);
        assert_int_equal(dsp_proto_next_id(&command.ids, &text, &id, &attempt), CMQ_ERR_MALFORMED);
    }
}

static void what_is_no_command_is_refused_with_its_id(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{\"id\":9}",
        "{\"id\":9,\"conect\":{}}",
        "{\"id\":9,\"ping\":{},\"connect\":{}}",
        "{\"id\":9,\"ping\":{},\"ping\":{}}",
        "{\"id\":9,\"ping\":{},\"more\":1}",
        "{\"id\":9,\"ping\":null}",
        "{\"id\":9,\"ping\":{\"x\":1}}",
        "{\"id\":9,\"subscribe\":{}}",
        "{\"id\":9,\"subscribe\":{\"topic\":1}}",
        "{\"id\":9,\"subscribe\":{\"topic\":\"a\",\"topic\":\"b\"}}",
        "{\"id\":9,\"subscribe\":{\"topic\":\"a\",\"group\":\"b\"}}",
        "{\"id\":9,\"consume\":{\"topic\":\"a\"}}",
        "{\"id\":9,\"consume\":{\"group\":\"a\",\"credit\":-1}}",
        "{\"id\":9,\"consume\":{\"group\":\"a\",\"credit\":1.5}}",
        "{\"id\":9,\"consume\":{\"group\":\"a\",\"credit\":1000001}}",
        "{\"id\":9,\"consume\":{\"group\":\"a\",\"credit\":\"1\"}}",
        "{\"id\":9,\"consume\":{\"group\":\"a\",\"ack_wait_ms\":86400001}}",
        "{\"id\":9,\"ack\":{\"group\":\"w\"}}",
        "{\"id\":9,\"ack\":{\"group\":\"w\",\"ids\":\"1-0\"}}",
        "{\"id\":9,\"ack\":{\"group\":\"w\",\"ids\":[1]}}",
        "{\"id\":9,\"ack\":{\"group\":\"w\",\"ids\":[],\"upto\":\"1-0\"}}",
        "{\"id\":9,\"ack\":{\"ids\":[]}}",
        "{\"id\":9,\"nack\":{\"group\":\"w\",\"upto\":\"1-0\"}}",
        "{\"id\":9,\"credit\":{\"group\":\"w\"}}",
        "{\"id\":9,\"unsubscribe\":{}}",
        "{\"id\":9,\"unsubscribe\":{\"id\":\"2\"}}",
    };
    for (unsigned i = 0; i < CMQ_COUNT_OF(wrong); i++) {
        if (decode(wrong[i]) != DSP_DECODE_REFUSED)
            fail_msg("%s was taken", wrong[i]);
        assert_int_equal(fault.code, DSP_CODE_BAD_COMMAND);
        assert_true(strlen(fault.reason.text) > 0);
        assert_true(command.has_id && command.id == 9);
    }
}

static void wrong_id_leaves_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {"{\"id\":\"9\",\"ping\":{}}", "{\"id\":-1,\"ping\":{}}",
                                        "{\"id\":9,\"id\":9,\"ping\":{}}", "{\"id\":null,\"ping\":{}}"};
    for (unsigned i = 0; i < CMQ_COUNT_OF(wrong); i++) {
        assert_int_equal(decode(wrong[i]), DSP_DECODE_REFUSED);
        assert_false(command.has_id);
    }
}

static void what_is_no_map_breaks_the_connection(void **state)
{
    (void)state;
    static const char *const json[] = {"[]", "1", "\"ping\"", "null"};
    static const char *const bytes[] = {"",         "\x81",         "\x81\xa4ping",        "\xc1",
                                        "\x80\x80", "\x81\x01\x80", "\x81\xa4ping\x80\x80"};
    static const size_t sizes[] = {0, 1, 6, 1, 2, 3, 8};
    for (unsigned i = 0; i < CMQ_COUNT_OF(json); i++)
        assert_int_equal(decode(json[i]), DSP_DECODE_BROKEN);
    for (unsigned i = 0; i < CMQ_COUNT_OF(bytes); i++)
        assert_int_equal(dsp_proto_decode(cmq_span_make(bytes[i], sizes[i]), &command, &fault),
                         DSP_DECODE_BROKEN);
}

/* Cut anywhere, and every byte changed: never a read outside (ASan), never more than a refusal. */
static void changed_bytes_are_never_more_than_refused(void **state)
{
    (void)state;
    assert_int_equal(decode("{\"id\":3,\"consume\":{\"topic\":\"jobs\",\"group\":\"w\",\"credit\":256}}"),
                     DSP_DECODE_OK);
    for (size_t cut = 0; cut < packed.bytes; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, packed.data, cut);
        assert_int_equal(dsp_proto_decode(cmq_span_make(exact, cut), &command, &fault), DSP_DECODE_BROKEN);
        free(exact);
    }
    for (size_t at = 0; at < packed.bytes; at++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *exact = malloc(packed.bytes);
            memcpy(exact, packed.data, packed.bytes);
            exact[at] = (uint8_t)value;
            (void)!dsp_proto_decode(cmq_span_make(exact, packed.bytes), &command, &fault);
            free(exact);
        }
    }
}

static void replies_name_the_id_and_the_fault(void **state)
{
    (void)state;
    struct dsp_text text;
    assert_int_equal(dsp_text_init(&text, 0, 256), CMQ_OK);
    const struct dsp_command with_id = {.has_id = true, .id = 4}, without = {0};
    fault.code = DSP_CODE_NO_SUCH_SUB;
    (void)cmq_reason_set(&fault.reason, CMQ_ERR_INVALID, "a \"word\"");
    dsp_reply_error(&text, DSP_FORMAT_JSON, &with_id, &fault);
    static const char error[] =
        "{\"id\":4,\"error\":{\"code\":\"no_such_sub\",\"message\":\"a \\\"word\\\"\"}}";
    assert_span(cmq_span_make(dsp_text_start(&text), text.bytes), error);
    dsp_reply_error(&text, DSP_FORMAT_JSON, &without, &fault);
    assert_memory_equal(dsp_text_start(&text), "{\"id\":null,\"error\":", 19);
    struct dsp_writer writer = dsp_reply_ok(&text, DSP_FORMAT_MSGPACK, &with_id, 0);
    dsp_reply_end(&writer);
    assert_span(cmq_span_make(dsp_text_start(&text), text.bytes), "\x82\xa2id\x04\xa2ok\x80");
    dsp_text_fini(&text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_command_is_understood),
        TEST(ids_are_read_one_by_one),
        TEST(wrong_ids_are_malformed),
        TEST(what_is_no_command_is_refused_with_its_id),
        TEST(wrong_id_leaves_none),
        TEST(what_is_no_map_breaks_the_connection),
        TEST(changed_bytes_are_never_more_than_refused),
        TEST(replies_name_the_id_and_the_fault),
    };
    return cmocka_run_group_tests_name("dsp_proto", tests, NULL, NULL);
}
