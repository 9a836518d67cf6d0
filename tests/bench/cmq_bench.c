/*
 * cmq-bench: load generator and verifying consumer.
 *   - one thread publishes (bench_load), one consumes and checks (bench_consume, bench_stream, bench_verify);
 *   - what waits in the broker is drained first, so that counting is right;
 *   - figures per stage come from the ring's member table (bench_stages), read-only;
 *   - rates are printed only when the check passed.
 */
#include <errno.h>
#include <string.h>
#include <sysexits.h>

#include "tests/bench/bench_args.h"
#include "tests/bench/bench_report.h"
#include "tests/bench/bench_topic_report.h"

enum { EXIT_CHECK = 1, TOKEN_BYTES = 256 };

struct app {
    struct bench_args args;
    struct cmq_conf conf;
    struct bench_target target;
    struct bench_json json; /* out NULL: not wanted */
    FILE *text;
    char token[TOKEN_BYTES];
    int exit_code;
};

static int fail(int exit_code, const struct cmq_reason *reason)
{
    fprintf(stderr, "cmq-bench: %s\n", reason->text);
    return exit_code;
}

static struct bench_plan plan_for(const struct bench_args *args, enum bench_mode mode)
{
    struct bench_plan plan = {.name = bench_mode_name(mode),
                              .timeout_s = args->timeout_s,
                              .size = 20000,
                              .connections = 4,
                              .ack = args->ack,
                              .want_posts = args->csv != NULL};
    uint64_t seconds = args->seconds != 0 ? args->seconds : 10;
    switch (mode) {
    case BENCH_REFERENCE:
        plan.messages = 100000;
        plan.connections = 5;
        break;
    case BENCH_SUSTAINED:
        plan.messages = 10000000;
        break;
    case BENCH_BATCH:
        plan.messages = 5000000;
        plan.size = 100;
        break;
    case BENCH_SINGLE:
        plan.messages = 500000;
        plan.connections = 16;
        plan.size = 1;
        plan.single = true;
        break;
    case BENCH_LATENCY:
        plan.rate = args->rate != 0 ? args->rate : 1000;
        plan.messages = plan.rate * seconds;
        plan.timeout_s += seconds;
        plan.connections = 1;
        plan.size = 1;
        plan.single = true;
        break;
    case BENCH_DURABLE:
        plan.messages = 5000000;
        plan.ack = "durable";
        break;
    case BENCH_DURABLE_SINGLE:
        plan.messages = 200000;
        plan.connections = 64;
        plan.size = 1;
        plan.single = true;
        plan.ack = "durable";
        break;
    case BENCH_REPLAY:
    case BENCH_FANOUT:
    case BENCH_GROUP:
    case BENCH_SLOW:
    case BENCH_IDLE:
    case BENCH_ALL:
        break;
    }
    if (args->messages != 0)
        plan.messages = args->messages;
    if (args->size != 0)
        plan.size = (uint32_t)args->size;
    if (args->connections != 0)
        plan.connections = (unsigned)args->connections;
    return plan;
}

static int by_delivered(const void *a, const void *b)
{
    uint64_t left = bench_result_delivered_ns(*(struct bench_result *const *)a);
    uint64_t right = bench_result_delivered_ns(*(struct bench_result *const *)b);
    return (left > right) - (left < right);
}

/* Runs the plan `runs` times; gives the median, or the first result whose check failed. */
static enum cmq_err run_repeated(struct app *app, const struct bench_plan *plan, unsigned runs,
                                 struct bench_result **ret_result, struct bench_spread *ret_spread,
                                 struct cmq_reason *reason)
{
    struct bench_result **results = calloc(runs, sizeof(struct bench_result *));
    enum cmq_err err = results != NULL ? CMQ_OK : cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    unsigned done = 0, chosen = 0;
    bool failed = false;
    while (err == CMQ_OK && done < runs && !failed) {
        err = bench_run(&app->target, plan, &results[done], reason);
        if (err == CMQ_OK)
            failed = results[done++]->verdict.failed;
    }
    if (err == CMQ_OK && failed) {
        chosen = done - 1;
        *ret_spread = (struct bench_spread){.runs = done};
    } else if (err == CMQ_OK && done > 0) {
        qsort(results, done, sizeof(struct bench_result *), by_delivered);
        chosen = done / 2;
        *ret_spread = (struct bench_spread){.runs = done,
                                            .least_ns = bench_result_delivered_ns(results[0]),
                                            .most_ns = bench_result_delivered_ns(results[done - 1])};
    }
    for (unsigned i = 0; i < done; i++)
        if (err != CMQ_OK || i != chosen)
            bench_run_free(results[i]);
    if (err == CMQ_OK)
        *ret_result = results[chosen];
    free(results);
    return err;
}

/* Measures and reports. NULL: nothing could be measured, app->exit_code says why. */
static struct bench_result *measure(struct app *app, enum bench_mode mode, unsigned runs)
{
    struct bench_plan plan = plan_for(&app->args, mode);
    struct bench_result *result = NULL;
    struct bench_spread spread;
    struct cmq_reason reason = {0};
    if (run_repeated(app, &plan, runs, &result, &spread, &reason) != CMQ_OK) {
        app->exit_code = fail(EX_UNAVAILABLE, &reason);
        return NULL;
    }
    bench_result_text(app->text, &app->target, result, &spread);
    fflush(app->text);
    if (app->json.out != NULL)
        bench_result_json(&app->json, result, &spread);
    if (result->verdict.failed)
        app->exit_code = EXIT_CHECK;
    if (app->args.csv != NULL && bench_csv_write(app->args.csv, result, &reason) != CMQ_OK)
        app->exit_code = fail(EX_CANTCREAT, &reason);
    return result;
}

static bool measure_idle(struct app *app, struct bench_idle *ret_idle)
{
    struct cmq_reason reason = {0};
    if (bench_idle(&app->target, app->args.seconds != 0 ? app->args.seconds : 10, ret_idle, &reason) !=
        CMQ_OK) {
        app->exit_code = fail(EX_UNAVAILABLE, &reason);
        return false;
    }
    bench_idle_text(app->text, ret_idle);
    if (app->json.out != NULL)
        bench_idle_json(&app->json, ret_idle);
    return true;
}

/* ---- loads of the v1 protocol ---- */

static struct bench_topic_plan topic_plan_for(const struct bench_args *args, enum bench_mode mode,
                                              unsigned subscribers, uint64_t messages)
{
    bool group = mode == BENCH_GROUP, small = group || mode == BENCH_FANOUT;
    return (struct bench_topic_plan){
        .name = bench_mode_name(mode),
        .subscribers = subscribers,
        .group = group,
        .msgpack = args->msgpack,
        .credit = !group              ? 0
                  : args->credit != 0 ? args->credit
                                      : 8192,
        .rate = mode == BENCH_FANOUT ? args->rate : 0,
        .connections = args->connections != 0 ? (unsigned)args->connections : 4,
        .messages = args->messages != 0 ? args->messages : messages,
        .size = args->size != 0 ? (uint32_t)args->size
                : small         ? 100
                                : 20000,
        .ack = args->ack,
        .timeout_s = args->timeout_s,
        .pid = (int32_t)args->pid,
    };
}

static enum cmq_err run_topic(struct app *app, enum bench_mode mode, const struct bench_topic_plan *plan,
                              struct bench_topic_result **ret_result, struct cmq_reason *reason)
{
    if (mode == BENCH_REPLAY)
        return bench_topic_replay(&app->target, plan, ret_result, reason);
    if (mode == BENCH_SLOW)
        return bench_topic_slow(&app->target, plan, ret_result, reason);
    return bench_topic_live(&app->target, plan, ret_result, reason);
}

/* Measures and reports. NULL: nothing could be measured, app->exit_code says why. */
static struct bench_topic_result *measure_topic(struct app *app, enum bench_mode mode, unsigned subscribers,
                                                uint64_t messages)
{
    struct bench_topic_plan plan = topic_plan_for(&app->args, mode, subscribers, messages);
    struct bench_topic_result *result = NULL;
    struct cmq_reason reason = {0};
    if (run_topic(app, mode, &plan, &result, &reason) != CMQ_OK) {
        app->exit_code = fail(EX_UNAVAILABLE, &reason);
        return NULL;
    }
    for (const struct bench_topic_result *r = result; r != NULL; r = r->next) {
        bench_topic_text(app->text, r);
        fputc('\n', app->text);
        if (app->json.out != NULL)
            bench_topic_json(&app->json, r);
        if (r->verdict.failed)
            app->exit_code = EXIT_CHECK;
    }
    fflush(app->text);
    return result;
}

struct topic_load {
    enum bench_mode mode;
    unsigned subscribers;
    uint64_t messages;
};

/* The table is printed only if all checks passed. */
static void measure_topics(struct app *app, const struct topic_load *loads, size_t count)
{
    struct bench_topic_result *results[8] = {0};
    struct cmq_reason reason = {0};
    size_t done = 0;
    cmq_assert(count <= CMQ_COUNT_OF(results));
    for (; done < count && app->exit_code == 0; done++)
        results[done] = measure_topic(app, loads[done].mode, loads[done].subscribers, loads[done].messages);
    if (app->exit_code == 0) {
        bench_topic_table_head(app->text);
        for (size_t i = 0; i < done; i++)
            for (const struct bench_topic_result *r = results[i]; r != NULL; r = r->next)
                bench_topic_table_row(app->text, r);
    }
    if (app->args.csv != NULL &&
        bench_topic_csv(app->args.csv, (const struct bench_topic_result *const *)results, done, &reason) !=
            CMQ_OK)
        app->exit_code = fail(EX_CANTCREAT, &reason);
    for (size_t i = 0; i < done; i++)
        bench_topic_free(results[i]);
}

static void measure_topic_mode(struct app *app)
{
    const struct bench_args *args = &app->args;
    static const struct topic_load fanout[] = {{BENCH_FANOUT, 1, 2000000},
                                               {BENCH_FANOUT, 10, 1000000},
                                               {BENCH_FANOUT, 100, 200000},
                                               {BENCH_FANOUT, 1000, 20000}};
    if (args->mode == BENCH_FANOUT && args->subscribers == 0) {
        measure_topics(app, fanout, CMQ_COUNT_OF(fanout));
        return;
    }
    struct topic_load load = {args->mode, (unsigned)args->subscribers, 10000000};
    if (args->mode == BENCH_REPLAY)
        load.subscribers = 1;
    if (args->mode == BENCH_FANOUT)
        load.messages = cmq_max_u64(20000000 / args->subscribers, 1);
    if (args->mode == BENCH_GROUP)
        load.messages = 1000000;
    if (load.subscribers == 0)
        load.subscribers = args->mode == BENCH_GROUP ? 8 : 2;
    measure_topics(app, &load, 1);
}

/* ---- all ---- */

/* Every load of the README's table. The table is printed only if all checks passed. */
static void measure_all(struct app *app)
{
    static const struct {
        enum bench_mode mode;
        unsigned runs;
        const char *goal;
    } loads[] = {
        {BENCH_REFERENCE, 11, "under 60 ms"},
        {BENCH_SUSTAINED, 3, "3,000,000/s"},
        {BENCH_BATCH, 1, "1,500,000/s"},
        {BENCH_SINGLE, 1, "60,000/s"},
        {BENCH_DURABLE, 1, "1,500,000/s"},
        {BENCH_DURABLE_SINGLE, 1, "15,000/s"},
        {BENCH_LATENCY, 1, "p50 150 us, p99 1 ms"},
    };
    static const struct topic_load topic_loads[] = {
        {BENCH_REPLAY, 1, 2000000}, {BENCH_FANOUT, 100, 100000}, {BENCH_GROUP, 8, 500000}};
    struct bench_result *results[CMQ_COUNT_OF(loads)] = {0};
    size_t done = 0;
    for (; done < CMQ_COUNT_OF(loads) && app->exit_code == 0; done++) {
        results[done] = measure(app, loads[done].mode, loads[done].runs);
        fputc('\n', app->text);
    }
    struct bench_idle idle = {0};
    if (app->exit_code == 0 && measure_idle(app, &idle)) {
        bench_table_head(app->text);
        for (size_t i = 0; i < done; i++)
            (loads[i].mode == BENCH_LATENCY ? bench_table_latency : bench_table_row)(app->text, results[i],
                                                                                     loads[i].goal);
        bench_table_idle(app->text, &idle, "0.5 %, 16 MiB");
        bench_cpu_head(app->text);
        for (size_t i = 0; i < done; i++)
            bench_cpu_row(app->text, results[i]);
    }
    bench_idle_fini(&idle);
    for (size_t i = 0; i < done; i++)
        bench_run_free(results[i]);
    if (app->exit_code == 0)
        measure_topics(app, topic_loads, CMQ_COUNT_OF(topic_loads));
}

/* A token is printed nowhere. */
static enum cmq_err read_token(const char *path, char ret_token[TOKEN_BYTES], struct cmq_reason *reason)
{
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", path, strerror(errno));
    bool good = fgets(ret_token, TOKEN_BYTES, in) != NULL;
    fclose(in);
    if (good)
        ret_token[strcspn(ret_token, "\r\n")] = '\0';
    if (!good || ret_token[0] == '\0' || strlen(ret_token) == TOKEN_BYTES - 1)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s: its first line is no token", path);
    return CMQ_OK;
}

/* How both ports are spoken to. */
static enum cmq_err open_security(struct app *app, struct cmq_reason *reason)
{
    const struct bench_args *args = &app->args;
    struct bench_address *ports[] = {&app->target.ingest, &app->target.dispatcher};
    const char *ca = args->tls_ca != NULL ? args->tls_ca : app->conf.tls_cert_file;
    enum cmq_err err = CMQ_OK;
    if (args->tls && ca[0] == '\0')
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s has no tls.cert_file: --tls-ca is needed",
                              args->config);
    if (args->token_file != NULL)
        err = read_token(args->token_file, app->token, reason);
    for (size_t i = 0; i < CMQ_COUNT_OF(ports) && err == CMQ_OK; i++) {
        ports[i]->token = args->token_file != NULL ? app->token : NULL;
        if (ca[0] != '\0')
            err = bench_tls_new(ca, args->tls_name != NULL ? args->tls_name : ports[i]->host, &ports[i]->tls,
                                reason);
    }
    return err;
}

static void security_text(FILE *out, const struct bench_target *target)
{
    if (target->ingest.tls != NULL)
        fprintf(out, "tls       : HTTP %s; WebSocket %s\n", bench_tls_text(target->ingest.tls),
                bench_tls_text(target->dispatcher.tls));
}

static enum cmq_err open_target(struct app *app, struct cmq_reason *reason)
{
    const struct bench_args *args = &app->args;
    struct bench_target *target = &app->target;
    const struct cmq_conf *conf = &app->conf;
    enum cmq_err err = cmq_conf_load(args->config, NULL, 0, &app->conf, reason);
    if (err == CMQ_OK)
        err = bench_net_resolve(args->host != NULL ? args->host : conf->ingest_listen,
                                args->port != 0 ? args->port : (unsigned)conf->ingest_port, &target->ingest,
                                reason);
    if (err == CMQ_OK)
        err = bench_net_resolve(args->ws_host != NULL ? args->ws_host : conf->dispatcher_listen,
                                args->ws_port != 0 ? args->ws_port : (unsigned)conf->dispatcher_port,
                                &target->dispatcher, reason);
    if (err == CMQ_OK)
        err = open_security(app, reason);
    struct cmq_reason why = {0};
    if (err == CMQ_OK && args->config == NULL)
        snprintf(target->no_stages, sizeof target->no_stages, "no --config given");
    else if (err == CMQ_OK && bench_stages_open(conf, &target->stages, &why) != CMQ_OK)
        snprintf(target->no_stages, sizeof target->no_stages, "%.500s", why.text);
    return err;
}

/* Text goes where JSON does not. */
static bool open_outputs(struct app *app, struct cmq_reason *reason)
{
    const char *json = app->args.json;
    app->text = json != NULL && strcmp(json, "-") == 0 ? stderr : stdout;
    if (json == NULL)
        return true;
    app->json.out = strcmp(json, "-") == 0 ? stdout : fopen(json, "we");
    if (app->json.out == NULL)
        (void)cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", json, strerror(errno));
    return app->json.out != NULL;
}

static void run_mode(struct app *app)
{
    struct bench_machine machine;
    bench_machine_read(app->args.commit, app->args.config != NULL ? &app->conf : NULL, &machine);
    bench_machine_text(app->text, &machine);
    if (app->json.out != NULL) {
        bench_json_open(&app->json, NULL, '{');
        bench_machine_json(&app->json, &machine);
        bench_json_open(&app->json, "runs", '[');
    }
    struct bench_idle idle = {0};
    switch (app->args.mode) {
    case BENCH_ALL:
        measure_all(app);
        break;
    case BENCH_IDLE:
        (void)measure_idle(app, &idle);
        bench_idle_fini(&idle);
        break;
    case BENCH_REPLAY:
    case BENCH_FANOUT:
    case BENCH_GROUP:
    case BENCH_SLOW:
        measure_topic_mode(app);
        break;
    case BENCH_REFERENCE:
    case BENCH_SUSTAINED:
    case BENCH_BATCH:
    case BENCH_SINGLE:
    case BENCH_LATENCY:
    case BENCH_DURABLE:
    case BENCH_DURABLE_SINGLE:
        bench_run_free(measure(app, app->args.mode, app->args.repeat != 0 ? (unsigned)app->args.repeat : 1));
        break;
    }
    security_text(app->text, &app->target);
    if (app->json.out != NULL) {
        bench_json_close(&app->json, ']');
        bench_json_text(&app->json, "tls",
                        app->target.ingest.tls != NULL ? bench_tls_text(app->target.ingest.tls) : "");
        bench_json_close(&app->json, '}');
        fputc('\n', app->json.out);
    }
}

int main(int argc, char **argv)
{
    struct app app = {0};
    struct cmq_reason reason = {0};
    if (bench_args_parse(argc, argv, &app.args, &reason) != CMQ_OK) {
        fprintf(stderr, "cmq-bench: %s; try --help\n", reason.text);
        return EX_USAGE;
    }
    if (app.args.help) {
        bench_args_help(stdout);
        return 0;
    }
    if (!open_outputs(&app, &reason))
        return fail(EX_CANTCREAT, &reason);
    enum cmq_err err = open_target(&app, &reason);
    if (err == CMQ_OK)
        run_mode(&app);
    else
        app.exit_code =
            fail(app.args.config == NULL && err == CMQ_ERR_NOT_FOUND ? EX_UNAVAILABLE : EX_USAGE, &reason);
    bench_stages_close(&app.target.stages);
    bench_tls_free(app.target.ingest.tls);
    bench_tls_free(app.target.dispatcher.tls);
    if (app.json.out != NULL && app.json.out != stdout &&
        (ferror(app.json.out) != 0 || fclose(app.json.out) != 0)) {
        fprintf(stderr, "cmq-bench: %s: could not be written\n", app.args.json);
        return EX_CANTCREAT;
    }
    return app.exit_code;
}
