#include "tests/bench/bench_report.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/cmq_clock.h"

/* 1234567 -> "1,234,567" */
const char *bench_grouped(char ret_text[BENCH_NUMBER_BYTES], uint64_t value)
{
    char digits[BENCH_NUMBER_BYTES];
    int count = snprintf(digits, sizeof digits, "%" PRIu64, value);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            ret_text[at++] = ',';
        ret_text[at++] = digits[i];
    }
    ret_text[at] = '\0';
    return ret_text;
}

double bench_per_second(uint64_t count, uint64_t ns)
{
    return ns == 0 ? 0 : (double)count * 1e9 / (double)ns;
}

static double in_ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double in_us(uint64_t ns)
{
    return (double)ns / 1e3;
}

static double per_message(uint64_t ns, const struct bench_result *result)
{
    return (double)ns / (double)result->plan.messages;
}

/* The kernel's part of the CPU time comes in ticks of 10 ms: below this many it says nothing. */
enum { TICKS_MIN = 20 };

static bool kernel_share(const struct bench_use *use, double *ret_percent)
{
    uint64_t ticks = use->user_ticks + use->system_ticks;
    if (ticks < TICKS_MIN)
        return false;
    *ret_percent = 100.0 * (double)use->system_ticks / (double)ticks;
    return true;
}

/* ---- text ---- */

void bench_hist_text(FILE *out, const char *name, const struct bench_hist *hist)
{
    fprintf(out, "%-10s: p50 %.1f us, p99 %.1f us, p99.9 %.1f us, max %.1f us\n", name,
            in_us(bench_hist_at(hist, 500)), in_us(bench_hist_at(hist, 990)), in_us(bench_hist_at(hist, 999)),
            in_us(hist->max_ns));
}

static void rate_text(FILE *out, const char *name, const struct bench_result *result, uint64_t ns,
                      uint64_t bytes)
{
    char rate[BENCH_NUMBER_BYTES];
    fprintf(out, "%-10s: %s messages/s, %.1f MB/s, %.2f ms\n", name,
            bench_grouped(rate, (uint64_t)bench_per_second(result->plan.messages, ns)),
            bench_per_second(bytes, ns) / 1e6, in_ms(ns));
}

static void counters_text(FILE *out, unsigned stage, const struct bench_use *use)
{
    fprintf(out, "  %-10s:", bench_stage_name(stage));
    for (unsigned c = 0; c < CMQ_COUNTER_COUNT; c++) {
        const struct cmq_counter_info *info = cmq_counter_info((enum cmq_counter)c);
        bool always = c == CMQ_COUNT_WAITS || c == CMQ_COUNT_WAITS_LATE || c == CMQ_COUNT_STOLEN;
        if (info->kind == CMQ_KIND_COUNTER && (always || use->counters[c] != 0))
            fprintf(out, " %s=%" PRIu64, info->name, use->counters[c]);
    }
    fputc('\n', out);
}

static void cpu_text(FILE *out, const struct bench_target *target, const struct bench_result *result)
{
    fprintf(out, "cpu       : ns a message:");
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++) {
        double percent;
        if (result->use[s].processes == 0)
            continue;
        fprintf(out, " %s %.1f", bench_stage_name(s), per_message(result->use[s].cpu_ns, result));
        if (kernel_share(&result->use[s], &percent))
            fprintf(out, " (kernel %.0f %%)", percent);
        fputc(',', out);
    }
    fprintf(out, " publishers %.1f, consumer %.1f\n", per_message(result->load.cpu_ns, result),
            per_message(result->consume.cpu_ns, result));
    if (target->no_stages[0] != '\0') {
        fprintf(out, "stages    : not measured: %s\n", target->no_stages);
        return;
    }
    fprintf(out, "counters  :\n");
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++) {
        counters_text(out, s, &result->use[s]);
        if (result->use[s].changed > 0)
            fprintf(out, "  %u %s processes came or went during the run\n", result->use[s].changed,
                    bench_stage_name(s));
    }
}

static void outcome_text(FILE *out, const struct bench_result *result)
{
    fprintf(out, "check     : %s%s\n", result->verdict.failed ? "FAILED: " : "", result->verdict.text);
    if (result->discarded > 0)
        fprintf(out,
                "note      : %" PRIu64
                " old messages waited in the broker and were discarded before the run\n",
                result->discarded);
    if (result->load.retries > 0)
        fprintf(out, "note      : %" PRIu64 " retries (last: %s)\n", result->load.retries,
                result->load.failure);
    if (result->verify->duplicates_after_retry > 0)
        fprintf(out, "note      : %" PRIu64 " duplicates after retry of POSTs whose connection broke\n",
                result->verify->duplicates_after_retry);
}

void bench_result_text(FILE *out, const struct bench_target *target, const struct bench_result *result,
                       const struct bench_spread *spread)
{
    char messages[BENCH_NUMBER_BYTES], posts[BENCH_NUMBER_BYTES], size[BENCH_NUMBER_BYTES];
    fprintf(out, "%s: %s messages in %s POSTs of %s, %u connections", result->plan.name,
            bench_grouped(messages, result->plan.messages), bench_grouped(posts, result->verify->batch_count),
            bench_grouped(size, result->plan.size), result->load.connections);
    if (result->plan.rate > 0)
        fprintf(out, ", %" PRIu64 " POSTs/s", result->plan.rate);
    fputc('\n', out);
    outcome_text(out, result);
    if (result->verdict.failed)
        return;
    rate_text(out, "accepted", result, bench_result_accepted_ns(result), result->load.body_bytes);
    rate_text(out, "delivered", result, bench_result_delivered_ns(result), result->consume.text_bytes);
    if (spread->runs > 1)
        fprintf(out, "runs      : %u, delivered within %.2f to %.2f ms; the median is shown\n", spread->runs,
                in_ms(spread->least_ns), in_ms(spread->most_ns));
    bench_hist_text(out, "reply", &result->load.reply);
    bench_hist_text(out, "delivery", &result->verify->delivery);
    if (result->plan.rate > 0)
        bench_hist_text(out, "late", &result->load.late);
    fprintf(out, "frames    : %" PRIu64 ", %.1f messages each\n", result->consume.frames,
            (double)result->plan.messages / (double)cmq_max_u64(result->consume.frames, 1));
    cpu_text(out, target, result);
}

/* ---- JSON ---- */

void bench_hist_json(struct bench_json *json, const char *key, const struct bench_hist *hist)
{
    bench_json_open(json, key, '{');
    bench_json_u64(json, "count", hist->count);
    bench_json_f64(json, "mean_us", in_us(bench_hist_mean(hist)));
    bench_json_f64(json, "p50_us", in_us(bench_hist_at(hist, 500)));
    bench_json_f64(json, "p99_us", in_us(bench_hist_at(hist, 990)));
    bench_json_f64(json, "p999_us", in_us(bench_hist_at(hist, 999)));
    bench_json_f64(json, "max_us", in_us(hist->max_ns));
    bench_json_close(json, '}');
}

void bench_use_json(struct bench_json *json, const struct bench_use use[BENCH_STAGE_COUNT], uint64_t messages)
{
    bench_json_open(json, "stages", '{');
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++) {
        bench_json_open(json, bench_stage_name(s), '{');
        bench_json_u64(json, "processes", use[s].processes);
        bench_json_u64(json, "changed", use[s].changed);
        bench_json_u64(json, "cpu_ns", use[s].cpu_ns);
        double percent;
        if (kernel_share(&use[s], &percent))
            bench_json_f64(json, "kernel_percent", percent);
        if (messages > 0)
            bench_json_f64(json, "cpu_ns_per_message", (double)use[s].cpu_ns / (double)messages);
        bench_json_u64(json, "own_kib_max", use[s].own_kib_max);
        bench_json_u64(json, "shmem_kib_max", use[s].shmem_kib_max);
        bench_json_open(json, "counters", '{');
        for (unsigned c = 0; c < CMQ_COUNTER_COUNT; c++)
            bench_json_u64(json, cmq_counter_info((enum cmq_counter)c)->name, use[s].counters[c]);
        bench_json_close(json, '}');
        bench_json_close(json, '}');
    }
    bench_json_close(json, '}');
}

static void check_json(struct bench_json *json, const struct bench_result *result)
{
    const struct bench_verify *verify = result->verify;
    bench_json_open(json, "check", '{');
    bench_json_bool(json, "ok", !result->verdict.failed);
    bench_json_text(json, "verdict", result->verdict.text);
    bench_json_u64(json, "missing", verify->messages - verify->unique);
    bench_json_u64(json, "duplicates", verify->duplicates);
    bench_json_u64(json, "duplicates_after_retry", verify->duplicates_after_retry);
    bench_json_u64(json, "out_of_order", verify->out_of_order);
    bench_json_u64(json, "foreign", verify->foreign);
    bench_json_u64(json, "corrupt", result->corrupt);
    bench_json_u64(json, "posts_failed", result->load.posts_failed);
    bench_json_u64(json, "retries", result->load.retries);
    bench_json_u64(json, "discarded_before", result->discarded);
    bench_json_close(json, '}');
}

static void rate_json(struct bench_json *json, const char *key, const struct bench_result *result,
                      uint64_t ns, uint64_t bytes)
{
    bench_json_open(json, key, '{');
    bench_json_f64(json, "messages_per_s", bench_per_second(result->plan.messages, ns));
    bench_json_f64(json, "mb_per_s", bench_per_second(bytes, ns) / 1e6);
    bench_json_f64(json, "ms", in_ms(ns));
    bench_json_close(json, '}');
}

void bench_result_json(struct bench_json *json, const struct bench_result *result,
                       const struct bench_spread *spread)
{
    bench_json_open(json, NULL, '{');
    bench_json_text(json, "mode", result->plan.name);
    bench_json_u64(json, "messages", result->plan.messages);
    bench_json_u64(json, "size", result->plan.size);
    bench_json_u64(json, "connections", result->load.connections);
    bench_json_u64(json, "rate", result->plan.rate);
    check_json(json, result);
    if (!result->verdict.failed) {
        rate_json(json, "accepted", result, bench_result_accepted_ns(result), result->load.body_bytes);
        rate_json(json, "delivered", result, bench_result_delivered_ns(result), result->consume.text_bytes);
        bench_json_u64(json, "runs", spread->runs);
        bench_json_f64(json, "delivered_ms_least", in_ms(spread->least_ns));
        bench_json_f64(json, "delivered_ms_most", in_ms(spread->most_ns));
        bench_hist_json(json, "reply", &result->load.reply);
        bench_hist_json(json, "delivery", &result->verify->delivery);
        if (result->plan.rate > 0)
            bench_hist_json(json, "late", &result->load.late);
        bench_json_u64(json, "frames", result->consume.frames);
        bench_json_f64(json, "publishers_cpu_ns_per_message", per_message(result->load.cpu_ns, result));
        bench_json_f64(json, "consumer_cpu_ns_per_message", per_message(result->consume.cpu_ns, result));
        bench_use_json(json, result->use, result->plan.messages);
    }
    bench_json_close(json, '}');
}

/* ---- idle ---- */

static double core_percent(const struct bench_idle *idle, uint64_t cpu_ns)
{
    return 100.0 * (double)cpu_ns / (double)idle->elapsed_ns;
}

static uint64_t idle_cpu_ns(const struct bench_idle *idle)
{
    uint64_t sum = 0;
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++)
        sum += idle->use[s].cpu_ns;
    return sum;
}

static double own_mib_max(const struct bench_idle *idle)
{
    uint64_t most = 0;
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++)
        most = cmq_max_u64(most, idle->use[s].own_kib_max);
    return (double)most / 1024.0;
}

void bench_idle_text(FILE *out, const struct bench_idle *idle)
{
    fprintf(out, "idle: %.1f s, one consumer connected, no messages\n", (double)idle->elapsed_ns / 1e9);
    fprintf(out, "cpu       : %.3f %% of a core, all stages together\n",
            core_percent(idle, idle_cpu_ns(idle)));
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++)
        fprintf(out, "%-10s: %.3f %% of a core, %" PRIu64 " waits, %" PRIu64 " late\n", bench_stage_name(s),
                core_percent(idle, idle->use[s].cpu_ns), idle->use[s].counters[CMQ_COUNT_WAITS],
                idle->use[s].counters[CMQ_COUNT_WAITS_LATE]);
    for (size_t i = 0; i < idle->processes->count; i++) {
        const struct bench_process *process = &idle->processes->processes[i];
        fprintf(out,
                "  %s@%" PRIu32 " pid %" PRId32
                ": anonymous %.1f MiB, file %.1f MiB, shared memory %.1f MiB\n",
                bench_stage_name(process->stage), process->instance_number, process->pid,
                (double)process->anon_kib / 1024.0, (double)process->file_kib / 1024.0,
                (double)process->shmem_kib / 1024.0);
    }
}

void bench_idle_json(struct bench_json *json, const struct bench_idle *idle)
{
    bench_json_open(json, NULL, '{');
    bench_json_text(json, "mode", "idle");
    bench_json_f64(json, "seconds", (double)idle->elapsed_ns / 1e9);
    bench_json_f64(json, "cpu_percent_of_a_core", core_percent(idle, idle_cpu_ns(idle)));
    bench_json_f64(json, "own_mib_max", own_mib_max(idle));
    bench_use_json(json, idle->use, 0);
    bench_json_close(json, '}');
}

/* ---- Markdown ---- */

void bench_table_head(FILE *out)
{
    fprintf(out, "\n| load | measured | goal | accepted | in | out |\n|---|---|---|---|---|---|\n");
}

void bench_table_row(FILE *out, const struct bench_result *result, const char *goal)
{
    char messages[BENCH_NUMBER_BYTES], size[BENCH_NUMBER_BYTES], delivered[BENCH_NUMBER_BYTES],
        accepted[BENCH_NUMBER_BYTES];
    uint64_t accepted_ns = bench_result_accepted_ns(result), delivered_ns = bench_result_delivered_ns(result);
    fprintf(out, "| %s: %s messages, %s a POST, %u connections | ", result->plan.name,
            bench_grouped(messages, result->plan.messages), bench_grouped(size, result->plan.size),
            result->load.connections);
    fprintf(out, "%s messages/s delivered, %.1f ms | %s | %s messages/s | %.0f MB/s | %.0f MB/s |\n",
            bench_grouped(delivered, (uint64_t)bench_per_second(result->plan.messages, delivered_ns)),
            in_ms(delivered_ns), goal,
            bench_grouped(accepted, (uint64_t)bench_per_second(result->plan.messages, accepted_ns)),
            bench_per_second(result->load.body_bytes, accepted_ns) / 1e6,
            bench_per_second(result->consume.text_bytes, delivered_ns) / 1e6);
}

void bench_table_latency(FILE *out, const struct bench_result *result, const char *goal)
{
    const struct bench_hist *hist = &result->verify->delivery;
    char rate[BENCH_NUMBER_BYTES];
    fprintf(
        out,
        "| latency: %s single messages/s, POST sent to frame received | "
        "p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us | %s | reply p50 %.0f us, p99 %.0f us | | |\n",
        bench_grouped(rate, result->plan.rate), in_us(bench_hist_at(hist, 500)),
        in_us(bench_hist_at(hist, 990)), in_us(bench_hist_at(hist, 999)), in_us(hist->max_ns), goal,
        in_us(bench_hist_at(&result->load.reply, 500)), in_us(bench_hist_at(&result->load.reply, 990)));
}

void bench_table_idle(FILE *out, const struct bench_idle *idle, const char *goal)
{
    fprintf(out,
            "| idle: %.0f s, one consumer | %.2f %% of a core, largest process %.1f MiB without ring pages | "
            "%s | | | |\n",
            (double)idle->elapsed_ns / 1e9, core_percent(idle, idle_cpu_ns(idle)), own_mib_max(idle), goal);
}

void bench_cpu_head(FILE *out)
{
    fprintf(out, "\n| CPU, ns a message | ingest | encryptor | dispatcher | publishers | consumer |\n"
                 "|---|---|---|---|---|---|\n");
}

void bench_cpu_row(FILE *out, const struct bench_result *result)
{
    fprintf(out, "| %s |", result->plan.name);
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++)
        fprintf(out, " %.1f |", per_message(result->use[s].cpu_ns, result));
    fprintf(out, " %.1f | %.1f |\n", per_message(result->load.cpu_ns, result),
            per_message(result->consume.cpu_ns, result));
}
