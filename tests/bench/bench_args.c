#include "tests/bench/bench_args.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "tests/bench/bench_verify.h"

enum {
    MESSAGES_MAX = 1000000000,
    SIZE_MAX_MESSAGES = 10000000,
    SECONDS_MAX = 86400,
    REPEAT_MAX = 1000,
    SUBSCRIBERS_MAX = 10000
};

static const char *const mode_names[] = {
    [BENCH_REFERENCE] = "reference",
    [BENCH_SUSTAINED] = "sustained",
    [BENCH_BATCH] = "batch",
    [BENCH_SINGLE] = "single",
    [BENCH_LATENCY] = "latency",
    [BENCH_DURABLE] = "durable",
    [BENCH_DURABLE_SINGLE] = "durable-single",
    [BENCH_REPLAY] = "replay",
    [BENCH_FANOUT] = "fanout",
    [BENCH_GROUP] = "group",
    [BENCH_SLOW] = "slow",
    [BENCH_IDLE] = "idle",
    [BENCH_ALL] = "all",
};

const char *bench_mode_name(enum bench_mode mode)
{
    return mode_names[mode];
}

static const char help_text[] =
    "usage: cmq-bench MODE [option...]\n"
    "\n"
    "Publishes over HTTP, consumes over WebSocket, checks that every message came exactly once and in\n"
    "order, and only then prints rates. One POST is in flight per connection.\n"
    "\n"
    "modes\n"
    "  reference   100,000 messages, 5 POSTs of 20,000 at a time: the original script's load\n"
    "  sustained   10,000,000 messages, POSTs of 20,000, 4 connections\n"
    "  batch       5,000,000 messages, POSTs of 100, 4 connections\n"
    "  single      500,000 messages, a POST each, 16 connections\n"
    "  latency     single messages at a given rate on 1 connection: POST sent to frame received\n"
    "  durable     5,000,000 messages, POSTs of 20,000, 4 connections, each 200 a durable one\n"
    "  durable-single\n"
    "              200,000 messages, a POST each, 64 connections, each 200 a durable one\n"
    "  replay      10,000,000 messages are published; then a v1 subscriber catches up, JSON and MessagePack\n"
    "  fanout      1, 10, 100 and 1,000 v1 subscribers of one topic, POSTs of 100\n"
    "  group       1,000,000 messages, POSTs of 100, to 8 members of a group; acks by \"upto\", confirmed\n"
    "  slow        10,000,000 messages to 2 fast subscribers, alone and beside one that reads nothing,\n"
    "              which then catches up; memory of the dispatcher (--config or --pid)\n"
    "  idle        CPU and memory of the stages while nothing happens (needs --config)\n"
    "  all         these, replay, fanout and group smaller; prints the tables of the README\n"
    "\n"
    "options\n"
    "  --config FILE      the broker's configuration: ports, and the ring for figures per stage\n"
    "  --host H --port N  HTTP side (127.0.0.1:3000, or from the configuration)\n"
    "  --ws-host H --ws-port N\n"
    "                     WebSocket side (127.0.0.1:8080, or from the configuration)\n"
    "  --tls              both sides speak TLS; so they do if the configuration has a certificate\n"
    "  --tls-ca FILE      certificates that are trusted (the configuration's tls.cert_file)\n"
    "  --tls-name NAME    whom the broker's certificate must name (the host)\n"
    "  --token-file FILE  a bearer token is its first line\n"
    "  --connections N    publisher connections\n"
    "  --messages N       messages in all\n"
    "  --size N           messages a POST (all but reference, single, durable-single, latency)\n"
    "  --rate N           POSTs a second (latency: 1000; fanout: as fast as possible)\n"
    "  --ack LEVEL        ask for accepted or durable, and insist on it\n"
    "  --subscribers N    fanout: only this many; group: members; slow: fast ones\n"
    "  --credit N         group: most unacknowledged messages a member (8192)\n"
    "  --msgpack          fanout, group, slow: MessagePack instead of JSON\n"
    "  --pid N            slow: the dispatcher's process\n"
    "  --seconds N        how long (latency, idle: 10)\n"
    "  --repeat N         measure N times, show the median (loads of the root endpoint, not latency)\n"
    "  --timeout S        longest time of one measurement (120)\n"
    "  --json FILE        results as JSON; - is standard output, the text then goes to standard error\n"
    "  --csv FILE         a row a message as the original script, and FILE's stem with _summary.csv\n"
    "  --commit TEXT      what to print as the commit\n"
    "  --help\n"
    "\n"
    "exit status: 0 good, 1 check failed or timed out, 64 usage, 69 broker not reachable\n";

void bench_args_help(FILE *out)
{
    fputs(help_text, out);
}

enum {
    OPT_HOST = 256,
    OPT_PORT,
    OPT_WS_HOST,
    OPT_WS_PORT,
    OPT_CONFIG,
    OPT_CONNECTIONS,
    OPT_MESSAGES,
    OPT_SIZE,
    OPT_RATE,
    OPT_SECONDS,
    OPT_REPEAT,
    OPT_TIMEOUT,
    OPT_JSON,
    OPT_CSV,
    OPT_COMMIT,
    OPT_ACK,
    OPT_SUBSCRIBERS,
    OPT_CREDIT,
    OPT_MSGPACK,
    OPT_PID,
    OPT_TLS,
    OPT_TLS_CA,
    OPT_TLS_NAME,
    OPT_TOKEN_FILE,
    OPT_HELP
};

static const struct option options[] = {
    {"host", required_argument, NULL, OPT_HOST},
    {"port", required_argument, NULL, OPT_PORT},
    {"ws-host", required_argument, NULL, OPT_WS_HOST},
    {"ws-port", required_argument, NULL, OPT_WS_PORT},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"messages", required_argument, NULL, OPT_MESSAGES},
    {"size", required_argument, NULL, OPT_SIZE},
    {"rate", required_argument, NULL, OPT_RATE},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"repeat", required_argument, NULL, OPT_REPEAT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"json", required_argument, NULL, OPT_JSON},
    {"csv", required_argument, NULL, OPT_CSV},
    {"commit", required_argument, NULL, OPT_COMMIT},
    {"ack", required_argument, NULL, OPT_ACK},
    {"subscribers", required_argument, NULL, OPT_SUBSCRIBERS},
    {"credit", required_argument, NULL, OPT_CREDIT},
    {"msgpack", no_argument, NULL, OPT_MSGPACK},
    {"pid", required_argument, NULL, OPT_PID},
    {"tls", no_argument, NULL, OPT_TLS},
    {"tls-ca", required_argument, NULL, OPT_TLS_CA},
    {"tls-name", required_argument, NULL, OPT_TLS_NAME},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static enum cmq_err parse_number(int option, uint64_t max, uint64_t *ret_value, struct cmq_reason *reason)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(optarg, &end, 10);
    if (optarg[0] < '0' || optarg[0] > '9' || *end != '\0' || errno != 0 || value < 1 || value > max)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "--%s must be a number from 1 to %llu",
                              options[option - OPT_HOST].name, (unsigned long long)max);
    *ret_value = value;
    return CMQ_OK;
}

static enum cmq_err take_number(struct bench_args *args, int option, struct cmq_reason *reason)
{
    uint64_t port = 0;
    enum cmq_err err = CMQ_ERR_INVALID;
    switch (option) {
    case OPT_PORT:
    case OPT_WS_PORT:
        err = parse_number(option, 65535, &port, reason);
        *(option == OPT_PORT ? &args->port : &args->ws_port) = (unsigned)port;
        break;
    case OPT_CONNECTIONS:
        err = parse_number(option, BENCH_CONNECTIONS_MAX, &args->connections, reason);
        break;
    case OPT_MESSAGES:
        err = parse_number(option, MESSAGES_MAX, &args->messages, reason);
        break;
    case OPT_SIZE:
        err = parse_number(option, SIZE_MAX_MESSAGES, &args->size, reason);
        break;
    case OPT_RATE:
        err = parse_number(option, 1000000, &args->rate, reason);
        break;
    case OPT_SECONDS:
        err = parse_number(option, SECONDS_MAX, &args->seconds, reason);
        break;
    case OPT_REPEAT:
        err = parse_number(option, REPEAT_MAX, &args->repeat, reason);
        break;
    case OPT_SUBSCRIBERS:
        err = parse_number(option, SUBSCRIBERS_MAX, &args->subscribers, reason);
        break;
    case OPT_CREDIT:
        err = parse_number(option, 1000000, &args->credit, reason);
        break;
    case OPT_PID:
        err = parse_number(option, INT32_MAX, &args->pid, reason);
        break;
    case OPT_TIMEOUT:
        err = parse_number(option, SECONDS_MAX, &args->timeout_s, reason);
        break;
    }
    return err;
}

/* Returns false when the option is a number. */
static bool take_text(struct bench_args *args, int option)
{
    switch (option) {
    case OPT_HOST:
        args->host = optarg;
        return true;
    case OPT_WS_HOST:
        args->ws_host = optarg;
        return true;
    case OPT_CONFIG:
        args->config = optarg;
        return true;
    case OPT_JSON:
        args->json = optarg;
        return true;
    case OPT_CSV:
        args->csv = optarg;
        return true;
    case OPT_COMMIT:
        args->commit = optarg;
        return true;
    case OPT_ACK:
        args->ack = optarg;
        return true;
    case OPT_MSGPACK:
        args->msgpack = true;
        return true;
    case OPT_TLS:
        args->tls = true;
        return true;
    case OPT_TLS_CA:
        args->tls_ca = optarg;
        return true;
    case OPT_TLS_NAME:
        args->tls_name = optarg;
        return true;
    case OPT_TOKEN_FILE:
        args->token_file = optarg;
        return true;
    case OPT_HELP:
        args->help = true;
        return true;
    }
    return false;
}

static enum cmq_err take_mode(struct bench_args *args, const char *name, struct cmq_reason *reason)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(mode_names); i++)
        if (strcmp(name, mode_names[i]) == 0) {
            args->mode = (enum bench_mode)i;
            return CMQ_OK;
        }
    return cmq_reason_set(reason, CMQ_ERR_INVALID, "unknown mode \"%.40s\"", name);
}

static unsigned bit(enum bench_mode mode)
{
    return 1u << mode;
}

/* Options that a mode does not know are refused, so that nobody believes that they did something. */
static enum cmq_err check_fit(const struct bench_args *args, struct cmq_reason *reason)
{
    const unsigned free_modes = bit(BENCH_SUSTAINED) | bit(BENCH_BATCH) | bit(BENCH_SINGLE) |
                                bit(BENCH_DURABLE) | bit(BENCH_DURABLE_SINGLE);
    const unsigned topic_modes = bit(BENCH_REPLAY) | bit(BENCH_FANOUT) | bit(BENCH_GROUP) | bit(BENCH_SLOW);
    const struct {
        const char *name;
        bool given;
        unsigned modes;
    } fits[] = {
        {"rate", args->rate != 0, bit(BENCH_LATENCY) | bit(BENCH_FANOUT)},
        {"seconds", args->seconds != 0, bit(BENCH_LATENCY) | bit(BENCH_IDLE) | bit(BENCH_ALL)},
        {"size", args->size != 0, bit(BENCH_SUSTAINED) | bit(BENCH_BATCH) | bit(BENCH_DURABLE) | topic_modes},
        {"messages", args->messages != 0, free_modes | topic_modes},
        {"connections", args->connections != 0, free_modes | topic_modes | bit(BENCH_LATENCY)},
        {"repeat", args->repeat != 0, free_modes | bit(BENCH_REFERENCE)},
        {"csv", args->csv != NULL, free_modes | topic_modes | bit(BENCH_REFERENCE) | bit(BENCH_LATENCY)},
        {"subscribers", args->subscribers != 0, bit(BENCH_FANOUT) | bit(BENCH_GROUP) | bit(BENCH_SLOW)},
        {"credit", args->credit != 0, bit(BENCH_GROUP)},
        {"msgpack", args->msgpack, bit(BENCH_FANOUT) | bit(BENCH_GROUP) | bit(BENCH_SLOW)},
        {"pid", args->pid != 0, bit(BENCH_SLOW)},
        {"ack", args->ack != NULL, ~(bit(BENCH_IDLE) | bit(BENCH_DURABLE) | bit(BENCH_DURABLE_SINGLE))},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(fits); i++)
        if (fits[i].given && (fits[i].modes & bit(args->mode)) == 0)
            return cmq_reason_set(reason, CMQ_ERR_INVALID, "--%s has no meaning for %s", fits[i].name,
                                  mode_names[args->mode]);
    if (args->tls && args->tls_ca == NULL && args->config == NULL)
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "--tls needs --tls-ca, or --config with a certificate in it");
    if (args->ack != NULL && strcmp(args->ack, "accepted") != 0 && strcmp(args->ack, "durable") != 0)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "--ack must be accepted or durable");
    return CMQ_OK;
}

enum cmq_err bench_args_parse(int argc, char **argv, struct bench_args *ret_args, struct cmq_reason *reason)
{
    struct bench_args args = {.timeout_s = 120};
    enum cmq_err err = CMQ_OK;
    int option;
    opterr = 0;
    while (err == CMQ_OK && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return cmq_reason_set(reason, CMQ_ERR_INVALID, "unknown option or missing value: \"%.60s\"",
                                  argv[optind - 1]);
        if (!take_text(&args, option))
            err = take_number(&args, option, reason);
    }
    if (err == CMQ_OK && !args.help) {
        if (optind + 1 != argc)
            return cmq_reason_set(reason, CMQ_ERR_INVALID, "exactly one mode is wanted");
        err = take_mode(&args, argv[optind], reason);
        if (err == CMQ_OK)
            err = check_fit(&args, reason);
    }
    if (err == CMQ_OK)
        *ret_args = args;
    return err;
}
