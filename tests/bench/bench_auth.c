/*
 * bench-auth: nanoseconds of a token check with many tokens loaded, on one thread and on two. No verdict: it prints what it
 * measures. Tokens are taken in an order that no cache foresees.
 * Usage: bench-auth [TOKENS, 1..100000, default 10000] [MILLISECONDS a row, 1..10000, default 500]
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auth/cmq_auth.h"
#include "common/auth/cmq_token_file.h"
#include "common/base/cmq_clock.h"

enum { THREADS_MAX = 2, CALLS_A_LOOK = 256 };

static const char scope[] = "orders.>,invoices.*.paid,default";
static const char topic[] = "orders.eu.7";

struct bench {
    struct cmq_auth *auth;
    char (*tokens)[CMQ_TOKEN_BYTES + 1];
    size_t count;
};

struct worker;
typedef bool bench_step(struct worker *worker);

struct worker {
    const struct bench *bench;
    bench_step *step;
    uint64_t state;       /* of the order */
    uint64_t duration_ns; /* of a row */
    atomic_uint *go;
    uint64_t calls, ns;
    bool good;
    pthread_t thread;
};

/* ---- what is measured ---- */

/* xorshift (Marsaglia 2003). */
static size_t next_index(struct worker *worker)
{
    worker->state ^= worker->state << 13;
    worker->state ^= worker->state >> 7;
    worker->state ^= worker->state << 17;
    return (size_t)(worker->state % worker->bench->count);
}

static enum cmq_auth_result check(const struct worker *worker, const char *token, struct cmq_grant *ret_grant)
{
    static const uint8_t address[4] = {192, 0, 2, 1};
    return cmq_auth_check(worker->bench->auth, cmq_span_make(token, CMQ_TOKEN_BYTES), cmq_span_make("", 0),
                          cmq_span_make(address, sizeof address), ret_grant);
}

static bool step_known(struct worker *worker)
{
    struct cmq_grant grant;
    bool good = check(worker, worker->bench->tokens[next_index(worker)], &grant) == CMQ_AUTH_OK;
    cmq_grant_put(&grant);
    return good;
}

static bool step_same(struct worker *worker)
{
    struct cmq_grant grant;
    bool good = check(worker, worker->bench->tokens[0], &grant) == CMQ_AUTH_OK;
    cmq_grant_put(&grant);
    return good;
}

/* As a request does it: who, may it publish here, how much is left. */
static bool step_request(struct worker *worker)
{
    struct cmq_grant grant;
    struct cmq_rate rate = {0};
    bool good = check(worker, worker->bench->tokens[next_index(worker)], &grant) == CMQ_AUTH_OK &&
                cmq_grant_allows(&grant, CMQ_RIGHT_PUBLISH, cmq_span_make(topic, sizeof topic - 1));
    cmq_grant_take(&grant, 1, 100, 1000000000, 0, cmq_clock_mono_ns(), &rate);
    cmq_grant_put(&grant);
    return good && rate.ok;
}

static bool step_unknown(struct worker *worker)
{
    char token[CMQ_TOKEN_BYTES + 1];
    struct cmq_grant grant;
    memcpy(token, worker->bench->tokens[next_index(worker)], sizeof token);
    token[10] = token[10] == 'A' ? 'B' : 'A';
    return check(worker, token, &grant) != CMQ_AUTH_OK;
}

/* ---- measuring ---- */

static void *work(void *arg)
{
    struct worker *worker = arg;
    worker->good = true;
    while (atomic_load_explicit(worker->go, memory_order_acquire) == 0)
        continue; /* all begin together */
    uint64_t begin_ns = cmq_clock_mono_ns(), now_ns;
    do {
        for (int i = 0; i < CALLS_A_LOOK; i++)
            worker->good = worker->step(worker) && worker->good;
        worker->calls += CALLS_A_LOOK;
        now_ns = cmq_clock_mono_ns();
    } while (now_ns - begin_ns < worker->duration_ns && worker->good);
    worker->ns = now_ns - begin_ns;
    return NULL;
}

static bool print_row(const struct bench *bench, const char *name, bench_step *step, unsigned threads,
                      uint64_t duration_ns)
{
    struct worker workers[THREADS_MAX];
    atomic_uint go = 0;
    uint64_t calls = 0, ns = 0;
    bool good = true;
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){.bench = bench,
                                     .step = step,
                                     .state = 0x9e3779b97f4a7c15ull + i,
                                     .duration_ns = duration_ns,
                                     .go = &go};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort();
    }
    atomic_store_explicit(&go, 1, memory_order_release);
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        calls += workers[i].calls;
        ns += workers[i].ns;
        good = good && workers[i].good;
    }
    printf("%-28s %u thread%s %8.0f ns each\n", name, threads, threads > 1 ? "s" : " ",
           (double)ns / (double)calls);
    if (!good)
        fprintf(stderr, "bench-auth: %s: not the expected answer\n", name);
    return good;
}

/* ---- the file ---- */

static bool make_tokens(struct bench *bench, const char *path)
{
    struct cmq_buf text;
    struct cmq_reason reason = {.text = "out of memory"};
    bool good = true;
    cmq_buf_init(&text, CMQ_TOKEN_FILE_BYTES_MAX);
    for (size_t i = 0; i < bench->count && good; i++) {
        char name[32];
        struct cmq_token_line line = {
            .kind = CMQ_TOKEN_BEARER, .created_ms = cmq_clock_wall_ms(), .expires_ms = CMQ_TOKEN_NEVER};
        snprintf(name, sizeof name, "t%zu", i);
        line.name = cmq_span_make(name, strlen(name));
        line.scopes[CMQ_RIGHT_PUBLISH] = cmq_span_make(scope, sizeof scope - 1);
        good = cmq_token_make(bench->tokens[i], line.digest) == CMQ_OK &&
               cmq_token_line_format(&line, &text) == CMQ_OK;
    }
    good = good && cmq_token_file_write(path, cmq_buf_span(&text), &reason) == CMQ_OK;
    cmq_buf_fini(&text);
    uint64_t begin_ns = cmq_clock_mono_ns();
    good = good && cmq_auth_new(path, 1000000, &bench->auth, &reason) == CMQ_OK;
    if (good)
        printf("%zu tokens, read in %.1f ms\n", bench->count,
               (double)(cmq_clock_mono_ns() - begin_ns) / CMQ_NS_PER_MS);
    else
        fprintf(stderr, "bench-auth: %s\n", reason.text);
    return good;
}

static bool measure(const struct bench *bench, uint64_t duration_ns)
{
    static const struct {
        const char *name;
        bench_step *step;
    } rows[] = {{"check, any token", step_known},
                {"check, the same token", step_same},
                {"check, scope and rate", step_request},
                {"check, unknown token", step_unknown}};
    bool good = true;
    for (size_t i = 0; i < CMQ_COUNT_OF(rows); i++)
        for (unsigned threads = 1; threads <= THREADS_MAX; threads++)
            good = print_row(bench, rows[i].name, rows[i].step, threads, duration_ns) && good;
    return good;
}

static uint64_t argument(int argc, char **argv, int at, uint64_t otherwise)
{
    return argc > at ? strtoull(argv[at], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    uint64_t count = argument(argc, argv, 1, 10000), duration_ms = argument(argc, argv, 2, 500);
    if (count < 1 || count > CMQ_AUTH_TOKENS_MAX || duration_ms < 1 || duration_ms > 10000) {
        fprintf(stderr, "usage: bench-auth [TOKENS, 1..%u] [MILLISECONDS a row, 1..10000]\n",
                CMQ_AUTH_TOKENS_MAX);
        return 64;
    }
    char directory[] = "/tmp/cmq-bench-auth-XXXXXX", path[64];
    struct bench bench = {.count = (size_t)count};
    bench.tokens = calloc(bench.count, sizeof *bench.tokens);
    if (bench.tokens == NULL || mkdtemp(directory) == NULL)
        abort();
    snprintf(path, sizeof path, "%s/tokens", directory);
    bool good = make_tokens(&bench, path) && measure(&bench, duration_ms * CMQ_NS_PER_MS);
    cmq_auth_free(bench.auth);
    unlink(path);
    rmdir(directory);
    free(bench.tokens);
    return good ? 0 : 1;
}
