#include "tests/bench/bench_run.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "common/base/cmq_clock.h"

enum { OPEN_MS = 5000 };

static const uint64_t drain_ns = 30 * CMQ_NS_PER_S;

uint64_t bench_result_accepted_ns(const struct bench_result *result)
{
    return result->load.last_ns - result->load.first_ns;
}

uint64_t bench_result_delivered_ns(const struct bench_result *result)
{
    return result->consume.last_ns - result->load.first_ns;
}

static void judge(struct bench_result *result, uint64_t timeout_s)
{
    struct bench_verdict *verdict = &result->verdict;
    if (result->load.timed_out || result->consume.timed_out)
        bench_verdict_add(verdict, "timed out after %" PRIu64 " s", timeout_s);
    if (result->consume.err != CMQ_OK)
        bench_verdict_add(verdict, "%s", result->consume.reason.text);
    bench_verdict_load(verdict, &result->load);
    bench_verdict_verify(verdict, result->verify, "");
    if (result->corrupt > 0)
        bench_verdict_add(verdict, "%" PRIu64 " WebSocket messages that are no JSON array of strings",
                          result->corrupt);
    bench_verdict_end(verdict);
}

/* Runs both threads to their ends, and samples the stages as soon as the last message has come. */
static enum cmq_err run_threads(struct bench_target *target, struct bench_result *result,
                                struct bench_sample *after, struct cmq_reason *reason)
{
    /* Shared flag of both threads; outlives them because both are joined here. */
    _Atomic uint32_t stop = 0;
    result->consume.stop = result->load.stop = &stop;
    atomic_init(&result->consume.wanted, result->verify->messages);
    result->load.wanted = &result->consume.wanted;
    enum cmq_err err = bench_consume_start(&result->consume, reason);
    if (err != CMQ_OK)
        return err;
    err = bench_load_start(&result->load, reason);
    if (err != CMQ_OK)
        atomic_store_explicit(&stop, 1, memory_order_relaxed); /* relaxed: a flag */
    bench_consume_wait(&result->consume);
    bench_stages_sample(&target->stages, after);
    if (err == CMQ_OK)
        bench_load_join(&result->load);
    bench_consume_join(&result->consume);
    result->consume.stop = result->load.stop = NULL;
    return err;
}

static enum cmq_err measure(struct bench_target *target, struct bench_ws *ws, struct bench_result *result,
                            struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_ERR_NOMEM;
    struct bench_sample *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    if (before == NULL || after == NULL) {
        err = cmq_reason_set(reason, err, "out of memory");
        goto out;
    }
    bench_stages_sample(&target->stages, before);
    result->consume.deadline_ns = before->at_ns + result->plan.timeout_s * CMQ_NS_PER_S;
    result->load.deadline_ns = result->consume.deadline_ns;
    result->start_wall_ms = cmq_clock_wall_ms();
    err = run_threads(target, result, after, reason);
    bench_stages_use(before, after, result->use);
    result->corrupt = ws->stream.corrupt;
out:
    free(before);
    free(after);
    return err;
}

enum cmq_err bench_run(struct bench_target *target, const struct bench_plan *plan,
                       struct bench_result **ret_result, struct cmq_reason *reason)
{
    struct bench_ws *ws = NULL;
    struct bench_result *result = calloc(1, sizeof *result);
    if (result == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    result->plan = *plan;
    enum cmq_err err = bench_verify_new(1, plan->messages, plan->size, &result->verify);
    if (err == CMQ_OK && plan->want_posts) {
        result->load.posts = calloc(result->verify->batch_count, sizeof *result->load.posts);
        err = result->load.posts != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
    }
    if (err != CMQ_OK) {
        err = cmq_reason_set(reason, err, "no memory for %" PRIu64 " messages", plan->messages);
        goto out;
    }
    err = bench_ws_open(&target->dispatcher, OPEN_MS, &ws, reason);
    if (err == CMQ_OK)
        err = bench_consume_drain(ws, cmq_clock_mono_ns() + drain_ns, &result->discarded, reason);
    if (err != CMQ_OK)
        goto out;
    result->consume.ws = ws;
    result->consume.verify = result->load.verify = result->verify;
    result->load.address = target->ingest;
    result->load.single = plan->single;
    result->load.ack = plan->ack;
    result->load.connections = (unsigned)cmq_min_u64(plan->connections, result->verify->batch_count);
    result->load.rate = plan->rate;
    err = measure(target, ws, result, reason);
    if (err == CMQ_OK)
        judge(result, plan->timeout_s);
out:
    bench_ws_close(ws);
    result->consume.ws = NULL;
    if (err == CMQ_OK)
        *ret_result = result;
    else
        bench_run_free(result);
    return err;
}

void bench_run_free(struct bench_result *result)
{
    if (result == NULL)
        return;
    free(result->load.posts);
    bench_verify_free(result->verify);
    free(result);
}

enum cmq_err bench_idle(struct bench_target *target, uint64_t seconds, struct bench_idle *ret_idle,
                        struct cmq_reason *reason)
{
    if (target->stages.ring == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "%s", target->no_stages);
    enum cmq_err err = CMQ_ERR_NOMEM;
    uint64_t discarded;
    struct bench_ws *ws = NULL;
    struct bench_sample *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    if (before == NULL || after == NULL) {
        err = cmq_reason_set(reason, err, "out of memory");
        goto out;
    }
    err = bench_ws_open(&target->dispatcher, OPEN_MS, &ws, reason);
    if (err == CMQ_OK)
        err = bench_consume_drain(ws, cmq_clock_mono_ns() + drain_ns, &discarded, reason);
    if (err != CMQ_OK)
        goto out;
    struct bench_idle idle = {.processes = after};
    struct timespec interval = {.tv_sec = (time_t)seconds};
    bench_stages_sample(&target->stages, before);
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &interval, &interval) == EINTR)
        continue;
    bench_stages_sample(&target->stages, after);
    bench_stages_use(before, after, idle.use);
    idle.elapsed_ns = after->at_ns - before->at_ns;
    *ret_idle = idle;
    after = NULL;
out:
    bench_ws_close(ws);
    free(before);
    free(after);
    return err;
}

void bench_idle_fini(struct bench_idle *idle)
{
    free(idle->processes);
    *idle = (struct bench_idle){0};
}
