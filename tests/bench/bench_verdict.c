#include "tests/bench/bench_verdict.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

void bench_verdict_add(struct bench_verdict *verdict, const char *fmt, ...)
{
    size_t have = strlen(verdict->text);
    if (have > 0 && have + 3 < sizeof verdict->text) {
        memcpy(verdict->text + have, ", ", 3);
        have += 2;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(verdict->text + have, sizeof verdict->text - have, fmt, args);
    va_end(args);
    verdict->failed = true;
}

void bench_verdict_load(struct bench_verdict *verdict, const struct bench_load *load)
{
    uint64_t posts = load->verify->batch_count;
    if (load->posts_failed > 0)
        bench_verdict_add(verdict, "%" PRIu64 " POSTs failed after %u retries (last: %s)", load->posts_failed,
                          BENCH_RETRIES_MAX, load->failure);
    else if (load->posts_accepted < posts)
        bench_verdict_add(verdict, "%" PRIu64 " POSTs not answered%s%s", posts - load->posts_accepted,
                          load->failure[0] != '\0' ? ", last failure: " : "", load->failure);
    if (load->wrong_acks > 0)
        bench_verdict_add(verdict, "%" PRIu64 " POSTs were not acknowledged as %s (the first one: \"%s\")",
                          load->wrong_acks, load->ack, load->wrong_ack);
    if (load->no_ids > 0)
        bench_verdict_add(verdict, "%" PRIu64 " replies without an id", load->no_ids);
}

void bench_verdict_verify(struct bench_verdict *verdict, const struct bench_verify *verify, const char *who)
{
    uint64_t missing = verify->messages - verify->unique - verify->excused;
    if (missing > 0)
        bench_verdict_add(verdict, "%s%" PRIu64 " messages missing (the first is message_%" PRIu64 ")", who,
                          missing, bench_verify_first_missing(verify));
    if (verify->duplicates > 0)
        bench_verdict_add(verdict, "%s%" PRIu64 " duplicates", who, verify->duplicates);
    if (verify->out_of_order > 0)
        bench_verdict_add(verdict, "%sout of order at %" PRIu64 " places", who, verify->out_of_order);
    if (verify->foreign > 0)
        bench_verdict_add(verdict, "%s%" PRIu64 " messages with content that nobody sent", who,
                          verify->foreign);
}

void bench_verdict_end(struct bench_verdict *verdict)
{
    if (!verdict->failed)
        snprintf(verdict->text, sizeof verdict->text, "ok, each message exactly once and in order");
}
