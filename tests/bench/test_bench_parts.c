/* The parts of cmq-bench by themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench_hist.h"
#include "tests/bench/bench_http.h"
#include "tests/bench/bench_stream.h"

/* ---- histogram ---- */

static void hist_percentiles_are_within_a_64th(void **state)
{
    (void)state;
    struct bench_hist *hist = calloc(1, sizeof *hist);
    assert_non_null(hist);
    for (uint64_t v = 1; v <= 100000; v++)
        bench_hist_add(hist, v * 37);
    const unsigned marks[] = {10, 500, 990, 999};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        double exact = marks[i] * 100.0 * 37.0, got = (double)bench_hist_at(hist, marks[i]);
        assert_true(got >= exact && got <= exact * (1.0 + 1.0 / 64.0));
    }
    assert_int_equal(bench_hist_at(hist, 1000), 3700000);
    assert_int_equal(hist->max_ns, 3700000);
    free(hist);
}

static void hist_takes_zero_and_the_largest_value(void **state)
{
    (void)state;
    struct bench_hist *hist = calloc(1, sizeof *hist);
    assert_non_null(hist);
    assert_int_equal(bench_hist_at(hist, 500), 0);
    bench_hist_add(hist, 0);
    assert_int_equal(bench_hist_at(hist, 1000), 0);
    bench_hist_add(hist, UINT64_MAX);
    assert_true(bench_hist_at(hist, 1000) >= 1ull << BENCH_HIST_EXP_MAX);
    free(hist);
}

/* ---- text ---- */

static void text_counts_up_as_printf_does(void **state)
{
    (void)state;
    struct bench_text text;
    uint8_t stored[BENCH_TEXT_BYTES];
    bench_text_init(&text, "\"message_", "\"", 1);
    for (uint64_t n = 1; n < 120000; n++) {
        char wanted[64];
        int bytes = snprintf(wanted, sizeof wanted, "\"message_%llu\"", (unsigned long long)n);
        assert_int_equal(bench_text_store(&text, stored) - stored, bytes);
        assert_memory_equal(stored, wanted, (size_t)bytes);
        assert_true(bench_text_matches(&text, stored));
        stored[bytes - 2] ^= 1;
        assert_false(bench_text_matches(&text, stored));
        bench_text_next(&text);
    }
}

static void text_parse_takes_only_what_was_made(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",           "message_",   "message_01",
                                        "message_1 ", "massage_1",  "message_-1",
                                        "essage_1",   "message_1a", "message_99999999999999999999"};
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(bench_text_parse((const uint8_t *)wrong[i], strlen(wrong[i]), &number));
    assert_true(bench_text_parse((const uint8_t *)"message_0", 9, &number));
    assert_int_equal(number, 0);
    assert_true(bench_text_parse((const uint8_t *)"message_1234567", 15, &number));
    assert_int_equal(number, 1234567);
}

/* ---- request and reply ---- */

static void requests_are_what_json_dumps_writes(void **state)
{
    (void)state;
    static const char batch[] =
        "POST /input/batch HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\n"
        "Content-Length: 67\r\n\r\n"
        "{\"messages\": [{\"content\": \"message_9\"}, {\"content\": \"message_10\"}]}";
    static const char single[] = "POST /input HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\n"
                                 "Content-Length: 26\r\n\r\n{\"content\": \"message_100\"}";
    struct bench_request_form form = {.host = "h:1", .size = 2};
    struct bench_request request;
    assert_int_equal(bench_request_init(&request, &form), CMQ_OK);
    bench_request_build(&request, &form, 9, 2);
    assert_int_equal(request.whole.bytes, sizeof batch - 1);
    assert_memory_equal(request.whole.data, batch, sizeof batch - 1);
    form.single = true;
    bench_request_build(&request, &form, 100, 1);
    assert_int_equal(request.whole.bytes, sizeof single - 1);
    assert_memory_equal(request.whole.data, single, sizeof single - 1);
    bench_request_fini(&request);
}

static enum cmq_err parse_reply(const char *text, struct bench_reply *ret_reply)
{
    return bench_reply_parse(cmq_span_make(text, strlen(text)), ret_reply);
}

static void reply_is_whole_only_with_its_last_byte(void **state)
{
    (void)state;
    static const char text[] =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    struct bench_reply reply;
    for (size_t bytes = 0; bytes < sizeof text - 1; bytes++)
        assert_int_equal(bench_reply_parse(cmq_span_make(text, bytes), &reply), CMQ_ERR_AGAIN);
    assert_int_equal(parse_reply(text, &reply), CMQ_OK);
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.bytes, sizeof text - 1);
    assert_false(reply.close);
    assert_memory_equal(reply.body.data, "hello", 5);
}

static void replies_that_cannot_be_framed_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000\r\nContent-Length: 0\r\n\r\n",
        "SMTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    };
    struct bench_reply reply;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(parse_reply(wrong[i], &reply), CMQ_ERR_MALFORMED);
    assert_int_equal(parse_reply("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", &reply),
                     CMQ_ERR_TOO_BIG);
    assert_int_equal(parse_reply("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", &reply),
                     CMQ_OK);
    assert_true(reply.close);
}

/* ---- stream ---- */

/* 1000 messages in batches of 10, all sent over connection 0. */
static struct bench_verify *verify_sent(void)
{
    struct bench_verify *verify = NULL;
    assert_int_equal(bench_verify_new(1, 1000, 10, &verify), CMQ_OK);
    for (uint64_t b = 0; b < verify->batch_count; b++)
        atomic_store_explicit(&verify->batches[b].sent_ns, 1, memory_order_relaxed); /* one thread */
    return verify;
}

/* Feeds text in two pieces, cut at `cut`, each in memory of its own with only the promised slack. */
static void feed_cut(struct bench_stream *stream, const char *text, size_t cut)
{
    size_t bytes = strlen(text), ends[3] = {0, cut, bytes};
    bench_stream_begin(stream);
    for (int i = 0; i < 2; i++) {
        size_t here = ends[i + 1] - ends[i];
        uint8_t *piece = malloc(here + BENCH_STREAM_SLACK);
        assert_non_null(piece);
        memset(piece, '"', here + BENCH_STREAM_SLACK);
        memcpy(piece, text + ends[i], here);
        bench_stream_piece(stream, piece, here, 2);
        free(piece);
    }
    bench_stream_end(stream);
}

static void stream_reads_arrays_cut_anywhere(void **state)
{
    (void)state;
    static const char text[] =
        "[\"message_1\",\"message_2\" , \"\\u006d\\u0065ssage_3\",\"message_4\",\"message_5\","
        "\"message_6\",\"message_7\",\"message_8\",\"message_9\",\"message_10\",\"message_11\"]";
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct bench_verify *verify = verify_sent();
        struct bench_stream stream;
        bench_stream_init(&stream, verify);
        feed_cut(&stream, text, cut);
        assert_int_equal(verify->unique, 11);
        assert_int_equal(verify->duplicates + verify->out_of_order + verify->foreign + stream.corrupt, 0);
        assert_int_equal(bench_verify_first_missing(verify), 12);
        bench_verify_free(verify);
    }
}

static void stream_counts_what_is_no_array_of_strings(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "{}",
        "[1]",
        "[\"a\"",
        "[\"a\",]",
        "[,\"a\"]",
        "[\"a\"]x",
        "[\"a\"\"b\"]",
        "[\"\\x\"]",
        "[\"\\u12g4\"]",
        "[\"\\ud800\"]",
        "[\"\\udc00\"]",
        "[\"\\ud800\\n\"]",
        "[\"a\nb\"]",
        "\"a\"",
        "[[\"a\"]]",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct bench_stream stream;
        bench_stream_init(&stream, NULL);
        feed_cut(&stream, wrong[i], strlen(wrong[i]) / 2);
        if (stream.corrupt != 1)
            fail_msg("%s was taken", wrong[i]);
        feed_cut(&stream, "[\"a\"]", 2); /* the next message is taken again */
        assert_int_equal(stream.corrupt, 1);
    }
}

static void stream_takes_every_legal_string(void **state)
{
    (void)state;
    static const char text[] =
        " [ \"\" , \"\\\"\\\\\\/\\b\\f\\n\\r\\t\" , \"\\ud83d\\ude00\\u00e9\\u20ac\", \"a string that "
        "is much longer than any message of ours and must therefore be foreign\" ] ";
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct bench_verify *verify = verify_sent();
        struct bench_stream stream;
        bench_stream_init(&stream, verify);
        feed_cut(&stream, text, cut);
        assert_int_equal(stream.corrupt, 0);
        assert_int_equal(stream.messages, 4);
        assert_int_equal(verify->foreign, 4);
        bench_verify_free(verify);
    }
}

/* ---- verify ---- */

static void verify_accepts_interleaved_connections(void **state)
{
    (void)state;
    struct bench_verify *verify = verify_sent();
    for (uint64_t b = 0; b < verify->batch_count; b++)
        atomic_store_explicit(&verify->batches[b].connection, (uint16_t)(b % 2), memory_order_relaxed);
    /* Batches 1 3 0 2 5 4 ...: each connection's ascend. */
    const uint64_t order[] = {1, 3, 0, 2, 5, 4};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        bench_verify_add(verify, 1 + order[i] * 10, 10, 2);
    assert_int_equal(verify->out_of_order, 0);
    assert_int_equal(verify->unique, 60);
    assert_int_equal(verify->delivery.count, 6);
    bench_verify_free(verify);
}

static void verify_counts_each_fault_once(void **state)
{
    (void)state;
    struct bench_verify *verify = verify_sent();
    bench_verify_add(verify, 1, 25, 2);
    bench_verify_add(verify, 20, 6, 2); /* 20..25 again */
    assert_int_equal(verify->duplicates, 6);
    bench_verify_add(verify, 27, 4, 2); /* 26 is late */
    assert_int_equal(verify->out_of_order, 0);
    bench_verify_add(verify, 26, 1, 2);
    assert_int_equal(verify->out_of_order, 1);
    bench_verify_add(verify, 30, 3, 2); /* 30 again, 31 and 32 new */
    assert_int_equal(verify->duplicates, 7);
    assert_int_equal(verify->unique, 32);
    bench_verify_add(verify, 0, 1, 2);
    bench_verify_add(verify, 1001, 1, 2);
    assert_int_equal(verify->foreign, 2);
    bench_verify_add(verify, 61, 5, 2);
    atomic_store_explicit(&verify->batches[7].connection, 1, memory_order_relaxed); /* one thread */
    bench_verify_add(verify, 71, 10, 2);
    bench_verify_add(verify, 66, 5, 2); /* another connection's batch came into this one */
    assert_int_equal(verify->out_of_order, 2);
    bench_verify_add(verify, 41, 10, 2); /* same connection, sent before */
    assert_int_equal(verify->out_of_order, 3);
    bench_verify_free(verify);
}

static void verify_calls_what_was_not_sent_yet_foreign(void **state)
{
    (void)state;
    struct bench_verify *verify = verify_sent();
    atomic_store_explicit(&verify->batches[3].sent_ns, 0, memory_order_relaxed); /* one thread */
    bench_verify_add(verify, 31, 10, 2);
    assert_int_equal(verify->foreign, 10);
    assert_int_equal(verify->unique, 0);
    bench_verify_free(verify);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hist_percentiles_are_within_a_64th),
        cmocka_unit_test(hist_takes_zero_and_the_largest_value),
        cmocka_unit_test(text_counts_up_as_printf_does),
        cmocka_unit_test(text_parse_takes_only_what_was_made),
        cmocka_unit_test(requests_are_what_json_dumps_writes),
        cmocka_unit_test(reply_is_whole_only_with_its_last_byte),
        cmocka_unit_test(replies_that_cannot_be_framed_are_refused),
        cmocka_unit_test(stream_reads_arrays_cut_anywhere),
        cmocka_unit_test(stream_counts_what_is_no_array_of_strings),
        cmocka_unit_test(stream_takes_every_legal_string),
        cmocka_unit_test(verify_accepts_interleaved_connections),
        cmocka_unit_test(verify_counts_each_fault_once),
        cmocka_unit_test(verify_calls_what_was_not_sent_yet_foreign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
