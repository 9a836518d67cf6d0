/*
 * bench: a load for an operator. Publishers, each a thread with one POST on its way, to a topic that nobody else uses; this
 * thread reads all of it back.
 *
 *   - a message says who sent it, its number, and when; the reader judges order and number, and takes the times;
 *   - a POST that got no answer, or 429 or 5xx, is sent again with the same Idempotency-Key: it is in the log once;
 *   - the end: the time is over, or --messages, or Ctrl-C. Then what was acknowledged is waited for.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/base/cmq_clock.h"
#include "ctl_bench.h"
#include "ctl_http.h"
#include "ctl_json.h"
#include "ctl_ws.h"

enum {
    PUBLISHERS_MAX = 64,
    RUN_BYTES = 9,
    REPLY_BYTES_MAX = 65536,
    FRAME_BYTES_MAX = 256 << 20,
    LOOK_MS = 100,
    QUIET_S = 10, /* after the last message: what has not come by then is missing */
    RETRY_MS = 100,
    HEAD_BYTES = 56 /* of a message: run, publisher, number, time */
};

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

struct bench;

struct publisher {
    struct bench *bench;
    pthread_t thread;
    bool started;
    unsigned index;
    uint64_t sent;
    atomic_uint_least64_t acked; /* read by the reader; the rest after the thread's end */
    uint64_t posts, retries;
    struct ctl_times times;
    struct cmq_reason reason; /* why it ended early */
};

struct bench {
    struct ctl *ctl;
    char run[RUN_BYTES], topic[32];
    uint64_t begin_ns, end_ns; /* of publishing */
    atomic_uint_least64_t issued;
    atomic_uint running;
    struct publisher *publishers;
    struct ctl_ws *ws;
    struct ctl_judge judge;
    struct ctl_times times;
    uint64_t last_ns; /* the last message came */
};

static bool is_over(const struct bench *bench)
{
    return interrupted != 0 || cmq_clock_mono_ns() >= bench->end_ns;
}

static void sleep_until(uint64_t ns)
{
    const struct timespec until = {.tv_sec = (time_t)(ns / CMQ_NS_PER_S),
                                   .tv_nsec = (long)(ns % CMQ_NS_PER_S)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* ---- publishing ---- */

/* A JSON array of `count` messages. */
static size_t write_batch(const struct publisher *publisher, uint64_t count, char *body)
{
    const struct bench *bench = publisher->bench;
    const uint64_t bytes = bench->ctl->bench.bytes, now_ns = cmq_clock_mono_ns();
    char *at = body;
    *at++ = '[';
    for (uint64_t i = 0; i < count; i++) {
        char head[HEAD_BYTES];
        int used = snprintf(head, sizeof head, "%s %u %llu %llu ", bench->run, publisher->index,
                            (unsigned long long)(publisher->sent + i), (unsigned long long)now_ns);
        const size_t head_bytes = (size_t)used < bytes ? (size_t)used : bytes;
        *at++ = '"';
        memcpy(at, head, head_bytes);
        memset(at + head_bytes, '.', bytes - head_bytes);
        at += bytes;
        *at++ = '"';
        *at++ = i + 1 < count ? ',' : ']';
    }
    return (size_t)(at - body);
}

/* True: it is in the log, or not for lack of trying. False: no use in going on, or the time for retries is over. */
static bool post(struct publisher *publisher, struct ctl_link *link, struct cmq_span body)
{
    const struct bench *bench = publisher->bench;
    char path[64], key[96], ack[40];
    (void)snprintf(path, sizeof path, "/v1/topics/%s/batch", bench->topic);
    (void)snprintf(key, sizeof key, "Idempotency-Key: %s-%u-%llu", bench->run, publisher->index,
                   (unsigned long long)publisher->sent);
    (void)snprintf(ack, sizeof ack, "CMQ-Ack: %s", bench->ctl->ack != NULL ? bench->ctl->ack : "");
    const struct ctl_request request = {
        .link = link,
        .port = CTL_PORT_HTTP,
        .path = path,
        .post = true,
        .body = body,
        .type = "application/json",
        .headers = {key, "CMQ-TTL: 10m", bench->ctl->ack != NULL ? ack : NULL},
        .timeout_ms = bench->ctl->timeout_ms,
        .bytes_max = REPLY_BYTES_MAX};
    for (;;) {
        struct ctl_answer answer;
        enum cmq_err err = ctl_http(bench->ctl, &request, &answer, &publisher->reason);
        const uint64_t now_ns = cmq_clock_mono_ns();
        uint64_t wait_ms = RETRY_MS;
        if (err == CMQ_OK) {
            const bool good = answer.status >= 200 && answer.status < 300;
            const bool again = answer.status == 429 || answer.status >= 500;
            if (good)
                ctl_times_add(&publisher->times, answer.took_us * CMQ_NS_PER_US, 1);
            else
                (void)cmq_reason_set(&publisher->reason, CMQ_ERR_PERMISSION, "%s answers %ld: %.*s",
                                     answer.url, answer.status, (int)cmq_min_u64(answer.body.bytes, 300),
                                     (const char *)answer.body.data);
            wait_ms = cmq_max_u64(wait_ms, answer.retry_after_s * 1000u);
            ctl_answer_fini(&answer);
            if (good || !again)
                return good;
        }
        if (interrupted != 0 || now_ns + wait_ms * CMQ_NS_PER_MS > bench->end_ns + QUIET_S * CMQ_NS_PER_S)
            return false;
        publisher->retries++;
        sleep_until(now_ns + wait_ms * CMQ_NS_PER_MS);
    }
}

static void publish(struct publisher *publisher, struct ctl_link *link, char *body)
{
    struct bench *bench = publisher->bench;
    const struct ctl *ctl = bench->ctl;
    const uint64_t step_ns =
        ctl->bench.rate == 0 ? 0 : ctl->bench.connections * CMQ_NS_PER_S / ctl->bench.rate;
    uint64_t due_ns = bench->begin_ns + step_ns * publisher->index / ctl->bench.connections;
    while (!is_over(bench)) {
        if (step_ns != 0) {
            if (due_ns >= bench->end_ns)
                return;
            sleep_until(due_ns);
            due_ns += step_ns;
        }
        const uint64_t issued =
            atomic_fetch_add_explicit(&bench->issued, ctl->bench.batch, memory_order_relaxed);
        if (issued >= ctl->bench.messages)
            return;
        const uint64_t count = cmq_min_u64(ctl->bench.batch, ctl->bench.messages - issued);
        if (!post(publisher, link, cmq_span_make(body, write_batch(publisher, count, body))))
            return;
        publisher->reason.text[0] = '\0';
        publisher->posts++;
        publisher->sent += count;
        /* Relaxed: a number alone; the messages come by themselves. */
        atomic_store_explicit(&publisher->acked, publisher->sent, memory_order_relaxed);
    }
}

static void *run_publisher(void *context)
{
    struct publisher *publisher = context;
    struct bench *bench = publisher->bench;
    struct ctl_link *link = ctl_link_new();
    char *body = malloc(bench->ctl->bench.batch * (bench->ctl->bench.bytes + 3u) + 2u);
    if (link != NULL && body != NULL)
        publish(publisher, link, body);
    else
        (void)cmq_reason_set(&publisher->reason, CMQ_ERR_NOMEM, "out of memory");
    free(body);
    ctl_link_free(link);
    /* Release: pairs with the reader's acquire; who sees the end sees all that was acknowledged. */
    atomic_fetch_sub_explicit(&bench->running, 1, memory_order_release);
    return NULL;
}

/* ---- reading ---- */

static void take_item(struct bench *bench, struct cmq_span item, uint64_t now_ns)
{
    struct cmq_span data, text;
    char head[HEAD_BYTES + 1] = "", *end = head + RUN_BYTES;
    if (!ctl_json_member(item, "data", &data) || !ctl_json_plain(data, &text) || text.bytes < RUN_BYTES ||
        memcmp(text.data, bench->run, RUN_BYTES - 1) != 0) {
        bench->judge.strangers++;
        return;
    }
    memcpy(head, text.data, text.bytes < HEAD_BYTES ? text.bytes : HEAD_BYTES);
    const uint64_t publisher = strtoull(end, &end, 10);
    const uint64_t number = strtoull(end, &end, 10);
    const uint64_t sent_ns = strtoull(end, &end, 10);
    ctl_judge_take(&bench->judge, publisher, number);
    ctl_times_add(&bench->times, now_ns > sent_ns ? now_ns - sent_ns : 0, 1);
}

static enum cmq_err take_frame(struct bench *bench, struct cmq_span frame, struct cmq_reason *reason)
{
    struct cmq_span messages, items, item, error;
    const uint64_t now_ns = cmq_clock_mono_ns();
    if (ctl_json_member(frame, "error", &error))
        return cmq_reason_set(reason, CMQ_ERR_PERMISSION, "the broker refuses: %.*s",
                              (int)cmq_min_u64(error.bytes, 400), (const char *)error.data);
    if (!ctl_json_member(frame, "msgs", &messages) || !ctl_json_member(messages, "items", &items))
        return CMQ_OK;
    bench->last_ns = now_ns;
    while (ctl_json_next(&items, &item))
        take_item(bench, item, now_ns);
    return CMQ_OK;
}

static enum cmq_err subscribe(struct bench *bench, struct cmq_buf *frame, struct cmq_reason *reason)
{
    static const char connect[] = "{\"id\":1,\"connect\":{\"client\":\"ciphermqctl\"}}";
    char text[128];
    struct cmq_span id, error;
    const uint64_t deadline_ns = cmq_clock_mono_ns() + QUIET_S * CMQ_NS_PER_S;
    int bytes = snprintf(text, sizeof text,
                         "{\"id\":2,\"subscribe\":{\"topic\":\"%s\",\"since\":\"latest\"}}", bench->topic);
    enum cmq_err err = ctl_ws_open(bench->ctl, "/v1/ws", "ciphermq.v1.json", &bench->ws, reason);
    if (err == CMQ_OK)
        err = ctl_ws_send(bench->ws, cmq_span_make(connect, sizeof connect - 1), reason);
    if (err == CMQ_OK)
        err = ctl_ws_send(bench->ws, cmq_span_make(text, (size_t)bytes), reason);
    while (err == CMQ_OK) {
        err = ctl_ws_receive(bench->ws, deadline_ns, frame, reason);
        if (err == CMQ_ERR_TIMEOUT)
            return cmq_reason_set(reason, err, "no reply to the subscription came within %d s", QUIET_S);
        if (err == CMQ_OK && ctl_json_member(cmq_buf_span(frame), "error", &error))
            return take_frame(bench, cmq_buf_span(frame), reason);
        if (err == CMQ_OK && ctl_json_member(cmq_buf_span(frame), "id", &id) && id.bytes == 1 &&
            id.data[0] == '2')
            return CMQ_OK;
    }
    return err;
}

static void read_acked(const struct bench *bench, uint64_t acked[PUBLISHERS_MAX])
{
    for (unsigned i = 0; i < bench->ctl->bench.connections; i++)
        acked[i] = atomic_load_explicit(&bench->publishers[i].acked, memory_order_relaxed);
}

static enum cmq_err read_all(struct bench *bench, struct cmq_buf *frame, struct cmq_reason *reason)
{
    uint64_t acked[PUBLISHERS_MAX];
    enum cmq_err err = CMQ_OK;
    while (err == CMQ_OK) {
        const uint64_t now_ns = cmq_clock_mono_ns();
        /* Acquire: pairs with the end of a publisher. */
        if (atomic_load_explicit(&bench->running, memory_order_acquire) == 0) {
            read_acked(bench, acked);
            if (ctl_judge_missing(&bench->judge, acked) == bench->judge.skipped ||
                now_ns > cmq_max_u64(bench->last_ns, bench->end_ns) + QUIET_S * CMQ_NS_PER_S)
                return CMQ_OK;
        } else {
            bench->last_ns = now_ns;
        }
        err = ctl_ws_receive(bench->ws, now_ns + LOOK_MS * CMQ_NS_PER_MS, frame, reason);
        if (err == CMQ_OK)
            err = take_frame(bench, cmq_buf_span(frame), reason);
        else if (err == CMQ_ERR_TIMEOUT)
            err = CMQ_OK;
    }
    return err;
}

/* ---- the report ---- */

struct sums {
    uint64_t acked[PUBLISHERS_MAX];
    uint64_t accepted, posts, retries, missing;
    double seconds;
    struct ctl_times posting;
    const char *reason; /* of a publisher that ended early; "": none */
};

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void print_times(const char *name, const struct ctl_times *times, bool json)
{
    (void)printf(json ? "\"%s\":{\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f},"
                      : "%-10s: p50 %.2f ms, p99 %.2f ms, max %.2f ms\n",
                 name, ms(ctl_times_at(times, 0.5)), ms(ctl_times_at(times, 0.99)), ms(times->max_ns));
}

static void print_json(const struct bench *bench, const struct sums *sums, bool good)
{
    (void)printf("{\"topic\":\"%s\",\"seconds\":%.3f,\"connections\":%llu,\"batch\":%llu,\"bytes\":%llu,"
                 "\"posts\":%llu,"
                 "\"retries\":%llu,\"accepted\":%llu,\"delivered\":%llu,\"accepted_per_s\":%.0f,",
                 bench->topic, sums->seconds, (unsigned long long)bench->ctl->bench.connections,
                 (unsigned long long)bench->ctl->bench.batch, (unsigned long long)bench->ctl->bench.bytes,
                 (unsigned long long)sums->posts, (unsigned long long)sums->retries,
                 (unsigned long long)sums->accepted, (unsigned long long)bench->judge.received,
                 (double)sums->accepted / sums->seconds);
    print_times("post", &sums->posting, true);
    print_times("delivery", &bench->times, true);
    (void)printf("\"missing\":%llu,\"repeated\":%llu,\"strangers\":%llu,\"good\":%s}\n",
                 (unsigned long long)sums->missing, (unsigned long long)bench->judge.repeated,
                 (unsigned long long)bench->judge.strangers, good ? "true" : "false");
}

static void print_text(const struct bench *bench, const struct sums *sums, bool good)
{
    const double rate = (double)sums->accepted / sums->seconds;
    (void)printf("accepted  : %llu messages in %.2f s, %.0f/s, %.1f MB/s; %llu POSTs, %llu sent again\n",
                 (unsigned long long)sums->accepted, sums->seconds, rate,
                 rate * (double)bench->ctl->bench.bytes / 1e6, (unsigned long long)sums->posts,
                 (unsigned long long)sums->retries);
    print_times("POST", &sums->posting, false);
    print_times("delivery", &bench->times, false);
    if (good)
        (void)printf("check     : ok, each of %llu messages came once and in order\n",
                     (unsigned long long)bench->judge.received);
    else
        (void)printf("check     : %llu messages are missing, %llu came again or late, %llu are not ours\n",
                     (unsigned long long)sums->missing, (unsigned long long)bench->judge.repeated,
                     (unsigned long long)bench->judge.strangers);
}

static int report(const struct bench *bench, struct sums *sums)
{
    for (unsigned i = 0; i < bench->ctl->bench.connections; i++) {
        const struct publisher *publisher = &bench->publishers[i];
        sums->posts += publisher->posts;
        sums->retries += publisher->retries;
        sums->accepted += publisher->sent;
        ctl_times_sum(&sums->posting, &publisher->times);
        if (publisher->reason.text[0] != '\0')
            sums->reason = publisher->reason.text;
    }
    read_acked(bench, sums->acked);
    sums->missing = ctl_judge_missing(&bench->judge, sums->acked);
    const bool good = ctl_judge_is_good(&bench->judge, sums->acked);
    (bench->ctl->json ? print_json : print_text)(bench, sums, good);
    if (sums->reason[0] != '\0')
        return ctl_fail(CMQ_EXIT_TEMPORARY, "bench: a publisher ended early: %s", sums->reason);
    return good ? CMQ_EXIT_OK : CTL_EXIT_FAILED;
}

/* ---- all of it ---- */

static enum cmq_err start(struct bench *bench, struct cmq_reason *reason)
{
    const uint64_t count = bench->ctl->bench.connections;
    bench->publishers = calloc(count, sizeof *bench->publishers);
    if (bench->publishers == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    bench->begin_ns = cmq_clock_mono_ns();
    bench->end_ns = bench->begin_ns + bench->ctl->bench.seconds * CMQ_NS_PER_S;
    for (unsigned i = 0; i < count; i++) {
        struct publisher *publisher = &bench->publishers[i];
        publisher->bench = bench;
        publisher->index = i;
        atomic_fetch_add_explicit(&bench->running, 1, memory_order_relaxed);
        publisher->started = pthread_create(&publisher->thread, NULL, run_publisher, publisher) == 0;
        if (publisher->started)
            continue;
        atomic_fetch_sub_explicit(&bench->running, 1, memory_order_relaxed);
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot start thread %u of %llu", i + 1,
                              (unsigned long long)count);
    }
    return CMQ_OK;
}

static void stop(struct bench *bench)
{
    for (unsigned i = 0; bench->publishers != NULL && i < bench->ctl->bench.connections; i++) {
        if (bench->publishers[i].started)
            (void)pthread_join(bench->publishers[i].thread, NULL);
    }
}

static enum cmq_err name_run(struct bench *bench, struct cmq_reason *reason)
{
    uint32_t number;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "the kernel gives no random number");
    (void)snprintf(bench->run, sizeof bench->run, "%08x", number);
    (void)snprintf(bench->topic, sizeof bench->topic, "bench.%s", bench->run);
    return CMQ_OK;
}

static void set_defaults(struct ctl *ctl)
{
    ctl->bench.seconds = ctl->bench.seconds != 0 ? ctl->bench.seconds : 5;
    ctl->bench.connections = ctl->bench.connections != 0 ? ctl->bench.connections : 4;
    ctl->bench.batch = ctl->bench.batch != 0 ? ctl->bench.batch : 100;
    ctl->bench.bytes = ctl->bench.bytes != 0 ? ctl->bench.bytes : 100;
    ctl->bench.messages = ctl->bench.messages != 0 ? ctl->bench.messages : 1000000;
}

int ctl_bench(struct ctl *ctl)
{
    static struct sums sums = {.reason = ""};
    static struct bench bench;
    struct cmq_reason reason = {{0}};
    struct cmq_buf frame;
    if (ctl->ack != NULL && strcmp(ctl->ack, "accepted") != 0 && strcmp(ctl->ack, "durable") != 0)
        return ctl_fail(CMQ_EXIT_USAGE, "bench: --ack is accepted or durable");
    set_defaults(ctl);
    bench.ctl = ctl;
    cmq_buf_init(&frame, FRAME_BYTES_MAX);
    enum cmq_err err = ctl_judge_init(&bench.judge, (unsigned)ctl->bench.connections);
    if (err == CMQ_OK)
        err = name_run(&bench, &reason);
    if (err == CMQ_OK)
        err = subscribe(&bench, &frame, &reason);
    if (err == CMQ_OK) {
        (void)signal(SIGINT, interrupt);
        (void)fprintf(stderr, "bench: topic %s, at most %llu messages of %llu bytes\n", bench.topic,
                      (unsigned long long)ctl->bench.messages, (unsigned long long)ctl->bench.bytes);
        err = start(&bench, &reason);
        if (err == CMQ_OK)
            err = read_all(&bench, &frame, &reason);
        if (err != CMQ_OK)
            interrupted = 1; /* for the publishers */
        stop(&bench);
        sums.seconds = (double)(cmq_max_u64(bench.last_ns, bench.begin_ns + 1) - bench.begin_ns) / 1e9;
    }
    int code = err == CMQ_OK ? report(&bench, &sums)
                             : ctl_fail(cmq_proc_exit_of(err), "bench: %s",
                                        reason.text[0] != '\0' ? reason.text : cmq_err_text(err));
    ctl_ws_close(bench.ws);
    free(bench.publishers);
    ctl_judge_fini(&bench.judge);
    cmq_buf_fini(&frame);
    return code;
}
