#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/cmq_clock.h"
#include "tests/bench/bench_report.h"

enum { BUFFER_BYTES = 1 << 20, PATH_BYTES = 4096, TIME_BYTES = 48 };

struct totals {
    uint64_t sent, accepted;
    double latency_s; /* sum over accepted messages of a message's share of its POST's latency */
};

/* As Python's datetime.now().isoformat(). */
static void format_time(char ret_text[TIME_BYTES], uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000u);
    struct tm local;
    char text[32];
    ret_text[0] = '\0';
    if (wall_us != 0 && localtime_r(&seconds, &local) != NULL &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &local) != 0)
        snprintf(ret_text, TIME_BYTES, "%s.%06u", text, (unsigned)(wall_us % 1000000u));
}

/* The original writes a row a message and shares a POST's latency out over its messages. */
static void write_batch(FILE *out, const struct bench_verify *verify, const struct bench_post *post,
                        uint64_t batch, struct totals *totals)
{
    uint32_t count = bench_verify_batch_messages(verify, batch);
    bool accepted = post->failure == BENCH_FAILURE_NONE;
    double latency_s = (double)post->latency_ns / 1e9 / count;
    uint64_t first = verify->first + batch * verify->size;
    char time_text[TIME_BYTES], status[8] = "";
    format_time(time_text, post->ended_wall_us);
    if (post->status != 0)
        snprintf(status, sizeof status, "%u", post->status);
    for (uint32_t i = 0; i < count; i++)
        fprintf(out, "%" PRIu64 ",%s,%.9f,%s,%s,%s\r\n", first + i, status, latency_s, time_text,
                accepted ? "True" : "False", bench_failure_text((enum bench_failure)post->failure));
    totals->sent += count;
    totals->accepted += accepted ? count : 0;
    totals->latency_s += accepted ? latency_s * count : 0;
}

static void write_summary(FILE *out, const struct bench_result *result, const struct totals *totals)
{
    double accepted = (double)totals->accepted;
    double total_s = result->load.posts_accepted > 0 ? (double)bench_result_accepted_ns(result) / 1e9 : 0;
    fprintf(out, "metric,value\r\n");
    fprintf(out, "Total messages sent,%" PRIu64 "\r\n", totals->sent);
    fprintf(out, "Successful requests,%" PRIu64 "\r\n", totals->accepted);
    fprintf(out, "Success rate,%.2f%%\r\n", totals->sent > 0 ? accepted * 100.0 / (double)totals->sent : 0);
    fprintf(out, "Total time,%.6f seconds\r\n", total_s);
    fprintf(out, "Average latency,%.9f seconds\r\n", totals->accepted > 0 ? totals->latency_s / accepted : 0);
    /* No rate when the check failed. */
    if (!result->verdict.failed)
        fprintf(out, "Throughput,%.2f messages/second\r\n", total_s > 0 ? accepted / total_s : 0);
    fprintf(out, "Batches sent,%" PRIu64 "\r\n", result->verify->batch_count);
}

static enum cmq_err close_file(FILE *out, const char *path, struct cmq_reason *reason)
{
    bool bad = ferror(out) != 0;
    if (fclose(out) != 0 || bad)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: could not be written", path);
    return CMQ_OK;
}

static FILE *open_file(const char *path, struct cmq_reason *reason)
{
    FILE *out = fopen(path, "we");
    if (out == NULL)
        (void)cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", path, strerror(errno));
    return out;
}

enum cmq_err bench_csv_write(const char *path, const struct bench_result *result, struct cmq_reason *reason)
{
    struct totals totals = {0};
    FILE *out = open_file(path, reason);
    if (out == NULL)
        return CMQ_ERR_SYSTEM;
    (void)setvbuf(out, NULL, _IOFBF, BUFFER_BYTES);
    fprintf(out, "message_id,status_code,latency,timestamp,success,error\r\n");
    for (uint64_t batch = 0; batch < result->verify->batch_count; batch++)
        write_batch(out, result->verify, &result->load.posts[batch], batch, &totals);
    enum cmq_err err = close_file(out, path, reason);
    if (err != CMQ_OK)
        return err;

    char summary[PATH_BYTES];
    size_t stem = strlen(path);
    if (stem > 4 && strcmp(path + stem - 4, ".csv") == 0)
        stem -= 4;
    int bytes = snprintf(summary, sizeof summary, "%.*s_summary.csv", (int)stem, path);
    if (bytes < 0 || (size_t)bytes >= sizeof summary)
        return cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "%s: name too long", path);
    out = open_file(summary, reason);
    if (out == NULL)
        return CMQ_ERR_SYSTEM;
    write_summary(out, result, &totals);
    return close_file(out, summary, reason);
}
