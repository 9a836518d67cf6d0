#include "tests/bench/bench_topic_report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/bench/bench_report.h"

static double deliveries_per_s(const struct bench_topic_result *result)
{
    return bench_per_second(result->listen.deliveries, bench_topic_ns(result));
}

static const char *who(const struct bench_topic_result *result, char ret_text[160])
{
    const struct bench_topic_plan *plan = &result->plan;
    const char *what = plan->group              ? "members of a group"
                       : plan->subscribers == 1 ? "subscriber"
                                                : "subscribers";
    snprintf(ret_text, 160, "%u %s%s, %s", result->listen.count, what,
             plan->msgpack ? " (MessagePack)" : " (JSON)",
             result->label[0] != '\0' ? result->label
             : result->catch_up       ? "catching up"
                                      : "live");
    return ret_text;
}

static void memory_text(FILE *out, const struct bench_topic_result *result)
{
    if (!result->has_memory)
        return;
    fprintf(out,
            "memory    : dispatcher before %.1f MiB, after %.1f MiB, most %.1f MiB; ring pages %.1f, %.1f, "
            "%.1f MiB\n",
            (double)result->before.own_kib / 1024.0, (double)result->after.own_kib / 1024.0,
            (double)result->peak.own_kib / 1024.0, (double)result->before.shmem_kib / 1024.0,
            (double)result->after.shmem_kib / 1024.0, (double)result->peak.shmem_kib / 1024.0);
}

static void cpu_text(FILE *out, const struct bench_topic_result *result)
{
    double deliveries = (double)cmq_max_u64(result->listen.deliveries, 1);
    fprintf(out, "cpu       : ns a delivery:");
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++)
        if (result->use[s].processes > 0)
            fprintf(out, " %s %.1f,", bench_stage_name(s), (double)result->use[s].cpu_ns / deliveries);
    if (!result->catch_up)
        fprintf(out, " publishers %.1f,", (double)result->load.cpu_ns / deliveries);
    fprintf(out, " consumers %.1f\n", (double)result->listen.cpu_ns / deliveries);
}

static void notes_text(FILE *out, const struct bench_topic_result *result)
{
    const struct bench_listen *listen = &result->listen;
    fprintf(out, "check     : %s%s\n", result->verdict.failed ? "FAILED: " : "", result->verdict.text);
    if (!result->verdict.failed)
        fprintf(out, "checked   : id and content of each item at every subscriber\n");
    if (result->excused > 0)
        fprintf(out,
                "note      : %" PRIu64 " messages were announced as missing in %" PRIu64 " gaps (last: %s)\n",
                result->excused, listen->gaps, listen->last_gap);
    if (result->reconnects > 0)
        fprintf(out, "note      : connected again %" PRIu64 " times after the broker closed the connection\n",
                result->reconnects);
    if (result->load.retries > 0)
        fprintf(out, "note      : %" PRIu64 " retries (last: %s)\n", result->load.retries,
                result->load.failure);
}

void bench_topic_text(FILE *out, const struct bench_topic_result *result)
{
    char a[BENCH_NUMBER_BYTES], b[BENCH_NUMBER_BYTES], text[160];
    const struct bench_listen *listen = &result->listen;
    uint64_t ns = bench_topic_ns(result);
    fprintf(out, "%s: %s messages, %s a POST, to %s\n", result->plan.name,
            bench_grouped(a, result->plan.messages), bench_grouped(b, result->plan.size), who(result, text));
    notes_text(out, result);
    if (result->verdict.failed)
        return;
    if (!result->catch_up)
        fprintf(out, "published : %s messages/s, %.1f MB/s\n",
                bench_grouped(a, (uint64_t)bench_per_second(result->plan.messages,
                                                            result->load.last_ns - result->load.first_ns)),
                bench_per_second(result->load.body_bytes, result->load.last_ns - result->load.first_ns) /
                    1e6);
    fprintf(out, "delivered : %s deliveries/s, %.1f MB/s, %.2f ms\n",
            bench_grouped(a, (uint64_t)deliveries_per_s(result)),
            bench_per_second(listen->payload_bytes, ns) / 1e6, (double)ns / 1e6);
    if (result->plan.group)
        fprintf(out, "acks      : %s messages confirmed in %s acks, within the same time\n",
                bench_grouped(a, listen->acked), bench_grouped(b, listen->acks));
    if (!result->catch_up) {
        bench_hist_text(out, "reply", &result->load.reply);
        bench_hist_text(out, "delivery", &result->delivery);
    }
    fprintf(out, "frames    : %s, %.1f messages each\n", bench_grouped(a, listen->frames),
            (double)listen->deliveries / (double)cmq_max_u64(listen->frames, 1));
    memory_text(out, result);
    cpu_text(out, result);
}

static void figures_json(struct bench_json *json, const struct bench_topic_result *result)
{
    const struct bench_listen *listen = &result->listen;
    uint64_t ns = bench_topic_ns(result);
    bench_json_f64(json, "ms", (double)ns / 1e6);
    bench_json_f64(json, "deliveries_per_s", deliveries_per_s(result));
    bench_json_f64(json, "mb_per_s", bench_per_second(listen->payload_bytes, ns) / 1e6);
    bench_json_u64(json, "frames", listen->frames);
    bench_json_u64(json, "acked", listen->acked);
    if (!result->catch_up) {
        bench_json_f64(json, "published_per_s",
                       bench_per_second(result->plan.messages, result->load.last_ns - result->load.first_ns));
        bench_hist_json(json, "reply", &result->load.reply);
        bench_hist_json(json, "delivery", &result->delivery);
    }
    if (result->has_memory) {
        bench_json_open(json, "dispatcher_memory", '{');
        bench_json_u64(json, "before_kib", result->before.own_kib);
        bench_json_u64(json, "after_kib", result->after.own_kib);
        bench_json_u64(json, "most_kib", result->peak.own_kib);
        bench_json_u64(json, "ring_before_kib", result->before.shmem_kib);
        bench_json_u64(json, "ring_after_kib", result->after.shmem_kib);
        bench_json_close(json, '}');
    }
    bench_json_f64(json, "consumer_cpu_ns_per_delivery",
                   (double)listen->cpu_ns / (double)cmq_max_u64(listen->deliveries, 1));
    bench_use_json(json, result->use, listen->deliveries);
}

void bench_topic_json(struct bench_json *json, const struct bench_topic_result *result)
{
    const struct bench_listen *listen = &result->listen;
    bench_json_open(json, NULL, '{');
    bench_json_text(json, "mode", result->plan.name);
    bench_json_text(json, "label", result->label);
    bench_json_text(json, "format", result->plan.msgpack ? "msgpack" : "json");
    bench_json_u64(json, "messages", result->plan.messages);
    bench_json_u64(json, "size", result->plan.size);
    bench_json_u64(json, "subscribers", listen->count);
    bench_json_bool(json, "group", result->plan.group);
    bench_json_bool(json, "catch_up", result->catch_up);
    bench_json_open(json, "check", '{');
    bench_json_bool(json, "ok", !result->verdict.failed);
    bench_json_text(json, "verdict", result->verdict.text);
    bench_json_u64(json, "deliveries", listen->deliveries);
    bench_json_u64(json, "announced_as_missing", result->excused);
    bench_json_u64(json, "gaps", listen->gaps);
    bench_json_u64(json, "wrong_ids", listen->wrong_ids);
    bench_json_u64(json, "reconnects", result->reconnects);
    bench_json_close(json, '}');
    if (!result->verdict.failed)
        figures_json(json, result);
    bench_json_close(json, '}');
}

void bench_topic_table_head(FILE *out)
{
    fprintf(out,
            "\n| load | deliveries/s | MB/s | messages a frame | ns a delivery: dispatcher, consumers |\n"
            "|---|---|---|---|---|\n");
}

void bench_topic_table_row(FILE *out, const struct bench_topic_result *result)
{
    char a[BENCH_NUMBER_BYTES], b[BENCH_NUMBER_BYTES], c[BENCH_NUMBER_BYTES], text[160];
    const struct bench_listen *listen = &result->listen;
    uint64_t deliveries = cmq_max_u64(listen->deliveries, 1);
    const struct bench_use *dispatcher = &result->use[CMQ_ROLE_DISPATCHER - CMQ_ROLE_INGEST];
    fprintf(out, "| %s: %s messages, %s a POST, %s | %s | %.0f | %.0f | %.0f, %.0f |\n", result->plan.name,
            bench_grouped(a, result->plan.messages), bench_grouped(b, result->plan.size), who(result, text),
            bench_grouped(c, (uint64_t)deliveries_per_s(result)),
            bench_per_second(listen->payload_bytes, bench_topic_ns(result)) / 1e6,
            (double)listen->deliveries / (double)cmq_max_u64(listen->frames, 1),
            (double)dispatcher->cpu_ns / (double)deliveries, (double)listen->cpu_ns / (double)deliveries);
}

enum cmq_err bench_topic_csv(const char *path, const struct bench_topic_result *const *results, size_t count,
                             struct cmq_reason *reason)
{
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", path, strerror(errno));
    fprintf(out, "load,label,format,group,messages,size,subscribers,ok,deliveries,ms,deliveries_per_s,frames,"
                 "acked\r\n");
    for (size_t i = 0; i < count; i++)
        for (const struct bench_topic_result *r = results[i]; r != NULL; r = r->next) {
            fprintf(out, "%s,%s,%s,%s,%" PRIu64 ",%" PRIu32 ",%u,%s,%" PRIu64, r->plan.name, r->label,
                    r->plan.msgpack ? "msgpack" : "json", r->plan.group ? "True" : "False", r->plan.messages,
                    r->plan.size, r->listen.count, r->verdict.failed ? "False" : "True",
                    r->listen.deliveries);
            if (r->verdict.failed)
                fprintf(out, ",,,,\r\n");
            else
                fprintf(out, ",%.3f,%.0f,%" PRIu64 ",%" PRIu64 "\r\n", (double)bench_topic_ns(r) / 1e6,
                        deliveries_per_s(r), r->listen.frames, r->listen.acked);
        }
    if (ferror(out) != 0 || fclose(out) != 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: could not be written", path);
    return CMQ_OK;
}
