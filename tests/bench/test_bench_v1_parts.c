/* Documents, pushes and commands of the v1 protocol, as cmq-bench reads and writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/bench/bench_http.h"
#include "tests/bench/bench_v1.h"
#include "tests/bench/bench_verify.h"

static struct cmq_span text_span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

/* ---- documents ---- */

static void documents_are_skipped_whole_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{"null", true},       {"-1.5e3", true},
                 {"\"a\\\"]\"", true}, {"[1,[2,{\"a\":\"}\"}],3]", true},
                 {" {} ", true},       {"{\"a\":{\"b\":[]}}", true},
                 {"", false},          {"[1,2", false},
                 {"\"open", false},    {"}", false},
                 {"\"a\\", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench_doc doc = bench_doc_make(text_span(cases[i].text), false);
        assert_int_equal(bench_doc_skip(&doc) && bench_doc_ended(&doc), cases[i].good);
    }
}

static void messagepack_of_every_length_is_skipped(void **state)
{
    (void)state;
    uint8_t bytes[64];
    for (unsigned tag = 0; tag < 256; tag++) {
        memset(bytes, 0, sizeof bytes);
        bytes[0] = (uint8_t)tag;
        /* Zeros are lengths of nothing, and elements. */
        struct bench_doc doc = bench_doc_make(cmq_span_make(bytes, sizeof bytes), true);
        assert_int_equal(bench_doc_skip(&doc), tag != 0xc1);
        doc = bench_doc_make(cmq_span_make(bytes, 0), true);
        assert_false(bench_doc_skip(&doc));
    }
    memset(bytes, 0xff, sizeof bytes);
    static const uint8_t wide[] = {0xd9, 0xda, 0xdb, 0xc4, 0xc5, 0xc6, 0xdc, 0xdd, 0xde, 0xdf};
    for (size_t i = 0; i < sizeof wide; i++) {
        bytes[0] = wide[i];
        struct bench_doc doc = bench_doc_make(cmq_span_make(bytes, sizeof bytes), true);
        assert_false(bench_doc_skip(&doc)); /* more than there is */
    }
}

/* ---- pushes ---- */

static void ids_are_two_numbers(void **state)
{
    (void)state;
    struct bench_id id;
    assert_true(bench_id_parse(text_span("12-345"), &id));
    assert_int_equal(id.seq, 12);
    assert_int_equal(id.index, 345);
    static const char *const wrong[] = {
        "", "-", "12", "12-", "-1", "12-x", "1 2-3", "12-0-1", "99999999999999999999-0"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(bench_id_parse(text_span(wrong[i]), &id));
}

static void replies_gaps_and_heartbeats_are_told_apart(void **state)
{
    (void)state;
    struct bench_push push;
    bench_push_parse(text_span("{}"), false, &push);
    assert_int_equal(push.kind, BENCH_PUSH_HEARTBEAT);
    bench_push_parse(text_span("{\"id\":4,\"ok\":{\"acked\":7,\"stale\":[\"1-0\",\"1-1\"]}}"), false, &push);
    assert_int_equal(push.kind, BENCH_PUSH_OK);
    assert_int_equal(push.id, 4);
    assert_int_equal(push.acked, 7);
    assert_int_equal(push.stale, 2);
    bench_push_parse(text_span("{\"id\":null,\"error\":{\"code\":\"limit\",\"message\":\"no\"}}"), false,
                     &push);
    assert_int_equal(push.kind, BENCH_PUSH_ERROR);
    assert_true(bench_span_is(push.code, "limit"));
    bench_push_parse(text_span("{\"gap\":{\"sub\":2,\"from\":\"1-0\",\"to\":\"99-0\",\"reason\":\"slow\"}}"),
                     false, &push);
    assert_int_equal(push.kind, BENCH_PUSH_GAP);
    assert_int_equal(push.to.seq, 99);
    static const char *const wrong[] = {"",
                                        "[]",
                                        "{\"id\":4,\"ok\":{}",
                                        "{\"id\":4,\"ok\":{}}x",
                                        "{\"what\":1}",
                                        "{\"gap\":{\"sub\":2,\"from\":\"1\",\"to\":\"99-0\"}}",
                                        "{\"id\":-4,\"ok\":{}}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        bench_push_parse(text_span(wrong[i]), false, &push);
        assert_int_equal(push.kind, BENCH_PUSH_BAD);
    }
}

static size_t write_item(char *dst, size_t room, bool msgpack, unsigned seq, unsigned index, unsigned number)
{
    char id[32], data[32];
    snprintf(id, sizeof id, "%u-%u", seq, index);
    snprintf(data, sizeof data, "message_%u", number);
    int bytes = msgpack ? snprintf(dst, room,
                                   "\x82\xa2id%c%s\xa4"
                                   "data%c%s",
                                   (char)(0xa0u | strlen(id)), id, (char)(0xa0u | strlen(data)), data)
                        : snprintf(dst, room, "{\"id\":\"%s\",\"data\":\"%s\"}", id, data);
    return (size_t)bytes;
}

/* `count` items of record 12 that count up from message_`first`; returns bytes. */
static size_t write_frame(char *dst, size_t room, bool msgpack, unsigned first, unsigned count)
{
    size_t at = (size_t)snprintf(dst, room,
                                 msgpack ? "\x81\xa4msgs\x83\xa3sub\x05\xa5topic\xa1t\xa5items\xdc"
                                         : "{\"msgs\":{\"sub\":5,\"topic\":\"t\",\"items\":[");
    if (msgpack) {
        dst[at++] = (char)(count >> 8);
        dst[at++] = (char)count;
    }
    for (unsigned i = 0; i < count; i++) {
        if (i > 0 && !msgpack)
            dst[at++] = ',';
        at += write_item(dst + at, room - at, msgpack, 12, i, first + i);
    }
    if (!msgpack)
        at += (size_t)snprintf(dst + at, room - at, "]}}");
    return at;
}

/* Counts messages that came as they were written; *ret_runs: in how many runs. */
static unsigned read_frame(const char *text, size_t bytes, bool msgpack, unsigned first, unsigned *ret_runs,
                           bool *ret_bad)
{
    struct bench_push push;
    struct bench_item_run run;
    unsigned next = 0;
    bench_push_parse(cmq_span_make(text, bytes), msgpack, &push);
    assert_int_equal(push.kind, BENCH_PUSH_MSGS);
    assert_int_equal(push.id, 5);
    *ret_runs = 0;
    while (bench_push_next(&push, &run)) {
        ++*ret_runs;
        if (run.ours && run.id.seq == 12 && run.id.index == next && run.number == first + next)
            next += run.count;
    }
    *ret_bad = push.doc.bad;
    return next;
}

static void items_come_in_runs_in_both_formats(void **state)
{
    (void)state;
    static char text[400000];
    unsigned runs;
    bool bad;
    for (int msgpack = 0; msgpack < 2; msgpack++)
        for (unsigned first = 95; first < 1000; first += 100) {
            size_t bytes = write_frame(text, sizeof text, msgpack != 0, first, 3000);
            assert_int_equal(read_frame(text, bytes, msgpack != 0, first, &runs, &bad), 3000);
            assert_false(bad);
            assert_true(runs < 12); /* one for each number of digits */
        }
}

static void every_changed_byte_of_an_item_is_noticed(void **state)
{
    (void)state;
    static char text[4000];
    unsigned runs;
    bool bad;
    for (int msgpack = 0; msgpack < 2; msgpack++) {
        size_t bytes = write_frame(text, sizeof text, msgpack != 0, 1000, 40);
        const char *begin = memmem(text, bytes, "12-20", 5), *end = memmem(text, bytes, "12-21", 5);
        assert_non_null(begin);
        for (const char *at = begin; at < end - 7; at++) {
            text[at - text] ^= 1;
            unsigned good = read_frame(text, bytes, msgpack != 0, 1000, &runs, &bad);
            if (good == 40 && !bad)
                fail_msg("byte %zu was not noticed", (size_t)(at - begin));
            text[at - text] ^= 1;
        }
        for (size_t cut = bytes - 1; cut > bytes - 60; cut--) {
            (void)read_frame(text, cut, msgpack != 0, 1000, &runs, &bad);
            assert_true(bad);
        }
    }
}

/* ---- commands and receipts ---- */

static void commands_read_the_same_in_both_formats(void **state)
{
    (void)state;
    struct bench_field fields[] = {{.key = "topic", .text = "a.b"}, {.key = "credit", .number = 70000}};
    for (int msgpack = 0; msgpack < 2; msgpack++) {
        uint8_t text[BENCH_V1_COMMAND_BYTES_MAX];
        size_t bytes = bench_v1_command_text(text, msgpack != 0, 7, "consume", fields, 2);
        struct bench_doc doc = bench_doc_make(cmq_span_make(text, bytes), msgpack != 0);
        struct bench_scope whole, inner;
        struct cmq_span key = {0}, value = {0};
        uint64_t number = 0;
        assert_true(bench_doc_enter(&doc, true, &whole) && bench_doc_next(&doc, &whole) &&
                    bench_doc_key(&doc, &key));
        assert_true(bench_span_is(key, "id") && bench_doc_number(&doc, &number) && number == 7);
        assert_true(bench_doc_next(&doc, &whole) && bench_doc_key(&doc, &key) &&
                    bench_span_is(key, "consume"));
        assert_true(bench_doc_enter(&doc, true, &inner) && bench_doc_next(&doc, &inner) &&
                    bench_doc_key(&doc, &key));
        assert_true(bench_span_is(key, "topic") && bench_doc_text(&doc, &value) &&
                    bench_span_is(value, "a.b"));
        assert_true(bench_doc_next(&doc, &inner) && bench_doc_key(&doc, &key) &&
                    bench_span_is(key, "credit"));
        assert_true(bench_doc_number(&doc, &number) && number == 70000);
        assert_false(bench_doc_next(&doc, &inner));
        assert_false(bench_doc_next(&doc, &whole));
        assert_true(bench_doc_ended(&doc));
    }
}

static void receipts_give_record_and_level(void **state)
{
    (void)state;
    struct bench_receipt receipt;
    bench_receipt_parse(text_span("{\"count\":2, \"ack\":\"durable\",\"id\":\"7-0\"}"), &receipt);
    assert_int_equal(receipt.seq, 7);
    assert_string_equal(receipt.ack, "durable");
    static const char *const wrong[] = {"", "{}", "[]", "{\"id\":7}", "{\"id\":\"7\"}", "{\"id\":\"7-0\""};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        bench_receipt_parse(text_span(wrong[i]), &receipt);
        assert_int_equal(receipt.seq, 0);
    }
}

static void topic_requests_are_arrays_of_strings(void **state)
{
    (void)state;
    struct bench_request request;
    struct bench_request_form form = {.host = "h:1", .size = 10, .topic = "a.b", .ack = "durable"};
    static const char wanted[] =
        "POST /v1/topics/a.b/batch HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\n"
        "CMQ-Ack: durable\r\nContent-Length: 27\r\n\r\n[\"message_9\", \"message_10\"]";
    assert_int_equal(bench_request_init(&request, &form), CMQ_OK);
    bench_request_build(&request, &form, 9, 2);
    assert_int_equal(request.whole.bytes, sizeof wanted - 1);
    assert_memory_equal(request.whole.data, wanted, sizeof wanted - 1);
    bench_request_fini(&request);
}

/* ---- gaps ---- */

static void only_what_is_in_the_gap_is_excused(void **state)
{
    (void)state;
    struct bench_verify *sent = NULL, *verify = NULL;
    assert_int_equal(bench_verify_new(1, 50, 10, &sent), CMQ_OK);
    for (unsigned b = 0; b < 5; b++) {
        atomic_store_explicit(&sent->batches[b].sent_ns, 1, memory_order_relaxed);
        atomic_store_explicit(&sent->batches[b].seq, 100 + b, memory_order_relaxed);
    }
    assert_int_equal(bench_verify_beside(sent, &verify), CMQ_OK);
    bench_verify_add(verify, 11, 4, 2); /* some of record 101 */
    bench_verify_excuse(verify, 101, 103);
    assert_int_equal(verify->excused, 6 + 10);
    bench_verify_excuse(verify, 101, 103);
    assert_int_equal(verify->excused, 6 + 10);
    bench_verify_add(verify, 15, 1, 2);
    assert_int_equal(verify->duplicates, 1);
    assert_int_equal(verify->unique, 4);
    bench_verify_free(verify);
    bench_verify_free(sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_are_skipped_whole_or_refused),
        cmocka_unit_test(messagepack_of_every_length_is_skipped),
        cmocka_unit_test(ids_are_two_numbers),
        cmocka_unit_test(replies_gaps_and_heartbeats_are_told_apart),
        cmocka_unit_test(items_come_in_runs_in_both_formats),
        cmocka_unit_test(every_changed_byte_of_an_item_is_noticed),
        cmocka_unit_test(commands_read_the_same_in_both_formats),
        cmocka_unit_test(receipts_give_record_and_level),
        cmocka_unit_test(topic_requests_are_arrays_of_strings),
        cmocka_unit_test(only_what_is_in_the_gap_is_excused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
