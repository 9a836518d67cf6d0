#include "tests/bench/bench_consume.h"

#include <time.h>

#include "common/base/cmq_clock.h"

static const uint64_t quiet_ns = 200 * CMQ_NS_PER_MS;

uint64_t bench_thread_cpu_ns(void)
{
    struct timespec ts = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * CMQ_NS_PER_S + (uint64_t)ts.tv_nsec;
}

enum cmq_err bench_consume_drain(struct bench_ws *ws, uint64_t deadline_ns, uint64_t *ret_discarded,
                                 struct cmq_reason *reason)
{
    uint64_t now_ns = cmq_clock_mono_ns(), heard_ns = now_ns;
    while (now_ns - heard_ns < quiet_ns || ws->in_message) {
        enum cmq_err err = bench_ws_read(ws, &now_ns, reason);
        if (err == CMQ_OK)
            heard_ns = now_ns;
        else if (err != CMQ_ERR_TIMEOUT)
            return err;
        if (now_ns > deadline_ns)
            return cmq_reason_set(reason, CMQ_ERR_TIMEOUT,
                                  "old messages kept coming (%llu so far): is another publisher at work?",
                                  (unsigned long long)ws->stream.messages);
    }
    *ret_discarded = ws->stream.messages;
    return CMQ_OK;
}

/* Reads until every wanted message has come; returns false when that will not happen. */
static bool read_wanted(struct bench_consume *consume)
{
    uint64_t now_ns = 0;
    /* Relaxed: a flag and a target, nothing is published by them. */
    while (atomic_load_explicit(consume->stop, memory_order_relaxed) == 0) {
        enum cmq_err err = bench_ws_read(consume->ws, &now_ns, &consume->reason);
        if (err != CMQ_OK && err != CMQ_ERR_TIMEOUT) {
            consume->err = err;
            return false;
        }
        if (consume->verify->unique >= atomic_load_explicit(&consume->wanted, memory_order_relaxed))
            return true;
        if (now_ns > consume->deadline_ns) {
            consume->timed_out = true;
            return false;
        }
    }
    return false;
}

/* Listens on until it is quiet: late duplicates count too. */
static void read_late(struct bench_consume *consume)
{
    uint64_t now_ns = consume->last_ns, heard_ns = now_ns;
    while (now_ns - heard_ns < quiet_ns && now_ns < consume->deadline_ns) {
        enum cmq_err err = bench_ws_read(consume->ws, &now_ns, &consume->reason);
        if (err == CMQ_OK)
            heard_ns = now_ns;
        else if (err != CMQ_ERR_TIMEOUT) {
            consume->err = err;
            return;
        }
    }
}

static void *consume_main(void *arg)
{
    struct bench_consume *consume = arg;
    uint64_t cpu_start_ns = bench_thread_cpu_ns();
    bool all = read_wanted(consume);
    consume->cpu_ns = bench_thread_cpu_ns() - cpu_start_ns;
    if (all)
        consume->last_ns = cmq_clock_mono_ns();
    else
        atomic_store_explicit(consume->stop, 1, memory_order_relaxed); /* relaxed: a flag */
    (void)sem_post(&consume->settled);
    if (all)
        read_late(consume);
    return NULL;
}

enum cmq_err bench_consume_start(struct bench_consume *consume, struct cmq_reason *reason)
{
    bench_stream_init(&consume->ws->stream, consume->verify);
    consume->ws->frames = 0;
    consume->ws->text_bytes = 0;
    if (sem_init(&consume->settled, 0, 0) != 0 ||
        pthread_create(&consume->thread, NULL, consume_main, consume) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "no thread for the consumer");
    return CMQ_OK;
}

void bench_consume_wait(struct bench_consume *consume)
{
    while (sem_wait(&consume->settled) != 0)
        continue; /* interrupted by a signal */
}

void bench_consume_join(struct bench_consume *consume)
{
    (void)pthread_join(consume->thread, NULL);
    (void)sem_destroy(&consume->settled);
    consume->frames = consume->ws->frames;
    consume->text_bytes = consume->ws->text_bytes;
}
