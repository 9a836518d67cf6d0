/* ciphermqctl: makes and removes what the stages share, shows what they do, and asks the supervisor to change
 * it. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "ctl.h"

#define TIMEOUT_MS    30000u
#define TIMEOUT_S_MAX 600u
#define INTERVAL_MS   1000u

enum option_key {
    OPTION_JSON = 256,
    OPTION_SAMPLE,
    OPTION_REFERENCE,
    OPTION_SUPERVISOR,
    OPTION_SYSTEMD,
    OPTION_TIMEOUT,
    OPTION_TOKEN_FILE,
    OPTION_INTERVAL,
    OPTION_COUNT,
    OPTION_SINCE,
    OPTION_TYPE,
    OPTION_KEY,
    OPTION_ACK,
    OPTION_TTL,
    OPTION_LINES,
    OPTION_PUBLISH, /* this and the next two in the order of enum cmq_right */
    OPTION_SUBSCRIBE,
    OPTION_CONSUME,
    OPTION_ADMIN,
    OPTION_EXPIRES,
    OPTION_MESSAGES_RATE,
    OPTION_BYTES_RATE,
    OPTION_CERTIFICATE,
    OPTION_BOUND_TO
};

struct command {
    const char *name, *words, *about;
    unsigned word_count; /* at most; exactly, but for words_optional */
    bool needs_conf;
    int (*run)(struct ctl *ctl);
    const struct argp_option *options;
    unsigned words_optional;
};

#define COMMON_OPTIONS                                                                               \
    {"config", 'c', "FILE", 0, "settings file (default: " CMQ_PROC_CONFIG_FILE " if it exists)", 0}, \
    {                                                                                                \
        "set", 's', "section.key=value", 0, "one setting; after the file, may be repeated", 0        \
    }
#define TOKEN_OPTION                                                                                       \
    {                                                                                                      \
        "token-file", OPTION_TOKEN_FILE, "FILE", 0, "a file with the token to use, where tokens are on", 0 \
    }
#define SUPERVISOR_OPTIONS                                                                                 \
    {"supervisor-conf",                                                                                    \
     OPTION_SUPERVISOR,                                                                                    \
     "FILE",                                                                                               \
     0,                                                                                                    \
     "supervisord's configuration (default: $CIPHERMQ_SUPERVISOR_CONF)",                                   \
     0},                                                                                                   \
        {"systemd", OPTION_SYSTEMD, NULL, 0, "the stages are systemd units", 0},                           \
    {                                                                                                      \
        "timeout", OPTION_TIMEOUT, "SECONDS", 0, "longest wait for one instance, 1 to 600 (default 30)", 0 \
    }

static const struct argp_option plain_options[] = {COMMON_OPTIONS, {0}};
static const struct argp_option status_options[] = {
    COMMON_OPTIONS, {"json", OPTION_JSON, NULL, 0, "one JSON object", 0}, {0}};
static const struct argp_option client_options[] = {
    COMMON_OPTIONS, {"json", OPTION_JSON, NULL, 0, "one JSON object", 0}, TOKEN_OPTION, {0}};
static const struct argp_option top_options[] = {
    COMMON_OPTIONS,
    {"json", OPTION_JSON, NULL, 0, "one JSON object a line", 0},
    {"interval", OPTION_INTERVAL, "MS", 0, "time between two looks, 100 to 60000 (default 1000)", 0},
    {"count", OPTION_COUNT, "N", 0, "leave after so many", 0},
    {0}};
static const struct argp_option pub_options[] = {
    COMMON_OPTIONS,
    TOKEN_OPTION,
    {"type", OPTION_TYPE, "TYPE", 0, "the message's content type (default text/plain)", 0},
    {"key", OPTION_KEY, "KEY", 0, "Idempotency-Key: with the same one it is published once", 0},
    {"ack", OPTION_ACK, "LEVEL", 0, "accepted or durable", 0},
    {"ttl", OPTION_TTL, "TIME", 0, "not delivered when it is over: 1500ms, 30s, 5m, 2h, 3d", 0},
    {"lines", OPTION_LINES, NULL, 0,
     "each line of standard input is one message: a JSON string, or an object with data", 0},
    {0}};
static const struct argp_option sub_options[] = {
    COMMON_OPTIONS,
    TOKEN_OPTION,
    {"since", OPTION_SINCE, "ID", 0,
     "earliest, latest (default), or the id of the last message that you have", 0},
    {"count", OPTION_COUNT, "N", 0, "leave after so many messages", 0},
    {0}};
static const struct argp_option supervisor_options[] = {COMMON_OPTIONS, SUPERVISOR_OPTIONS, {0}};
static const struct argp_option config_options[] = {
    {"sample", OPTION_SAMPLE, NULL, 0, "a settings file with every key at its default, as comments", 0},
    {"reference", OPTION_REFERENCE, NULL, 0, "the reference page (Markdown)", 0},
    {0}};
static const struct argp_option token_options[] = {
    COMMON_OPTIONS,
    {"json", OPTION_JSON, NULL, 0, "one JSON document", 0},
    {"publish", OPTION_PUBLISH, "P,P", 0, "topics that may be published to; patterns, may be repeated", 0},
    {"subscribe", OPTION_SUBSCRIBE, "P,P", 0, "topics that may be subscribed to and replayed", 0},
    {"consume", OPTION_CONSUME, "P,P", 0, "topics whose groups may be joined, with ack and nack", 0},
    {"admin", OPTION_ADMIN, NULL, 0, "may read metrics; includes no other right", 0},
    {"expires", OPTION_EXPIRES, "WHEN", 0,
     "30m, 12h, 90d, 52w from now; 2027-01-31 (its first moment, UTC); 2027-01-31T12:00:00Z; never (default)",
     0},
    {"messages-rate", OPTION_MESSAGES_RATE, "N", 0, "messages a second instead of tokens.messages_rate", 0},
    {"bytes-rate", OPTION_BYTES_RATE, "N", 0,
     "bytes a second instead of tokens.bytes_rate; may end in K, M, G", 0},
    {"certificate", OPTION_CERTIFICATE, "NAME", 0,
     "no token: the rights are those of a client certificate with this common name (or first DNS name)", 0},
    {"bound-to", OPTION_BOUND_TO, "NAME", 0, "the token is good only together with such a certificate", 0},
    {0}};

static const struct command commands[] = {
    {"init", "", "Make the run directory, the keys and the ring, whatever is missing.", 0, true, ctl_init,
     plain_options, 0},
    {"status", "",
     "Show the ring, the log and every instance. Exit status 1 if a stage has no live instance.", 0, true,
     ctl_status, status_options, 0},
    {"restart", "STAGE[:N]", "Restart a stage, one instance after the other, or one instance.", 1, true,
     ctl_restart, supervisor_options, 0},
    {"scale", "STAGE COUNT", "Start or stop instances until 0 to COUNT-1 run; COUNT is 1 to 8.", 2, true,
     ctl_scale, supervisor_options, 0},
    {"destroy", "",
     "Remove the ring of a stopped broker. Keys are kept, and the log unless its store is memory.", 0, true,
     ctl_destroy, plain_options, 0},
    {"key", "list | rotate [PATTERN]",
     "Show the data keys, or begin a new epoch for a topic pattern (default \">\"). Needs the key-encryption "
     "key.",
     2, true, ctl_key, status_options, 1},
    {"token", "create NAME | list | revoke NAME",
     "Make a token with rights to topics, show all, or take one away. Running stages see a change by "
     "themselves. "
     "Needs tokens.file.",
     2, true, ctl_token, token_options, 1},
    {"verify", "",
     "Read the whole log and open everything in it. Exit status 1 if records are damaged. Needs the "
     "key-encryption key.",
     0, true, ctl_verify, status_options, 0},
    {"doctor", "",
     "Look at configuration, keys, log, machine, ring, stages and ports, send a message through, and name "
     "the fix "
     "of what is wrong. Exit status 1 if anything is.",
     0, false, ctl_doctor, client_options, 0},
    {"top", "", "Show what every instance does per second, until it is left.", 0, true, ctl_top, top_options,
     0},
    {"pub", "TOPIC [MESSAGE]", "Publish a message, or standard input as one.", 2, true, ctl_pub, pub_options,
     1},
    {"sub", "PATTERN", "Print the messages of some topics as JSON, one a line, as they come.", 1, true,
     ctl_sub, sub_options, 0},
    {"metrics", "", "Print every number of every instance, as Prometheus reads them.", 0, true, ctl_metrics,
     plain_options, 0},
    {"config", "", "Print --sample or --reference.", 0, false, ctl_config, config_options, 0},
};

int ctl_config(struct ctl *ctl)
{
    if (ctl->sample == ctl->reference)
        return ctl_fail(CMQ_EXIT_USAGE, "config: give --sample or --reference");
    if (ctl->sample)
        cmq_conf_print_sample(stdout);
    else
        cmq_conf_print_reference(stdout);
    return CMQ_EXIT_OK;
}

static uint64_t parse_number(struct argp_state *state, const char *name, const char *text, uint64_t min,
                             uint64_t max)
{
    char *end = NULL;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number < min || number > max)
        argp_error(state, "%s %s: a number from %llu to %llu is allowed", name, text, (unsigned long long)min,
                   (unsigned long long)max);
    return number;
}

/* Not as an argument: those are seen by everybody on the machine. */
static void read_token(struct argp_state *state, const char *path, struct ctl *ctl)
{
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(ctl->bearer, sizeof ctl->bearer, file) == NULL)
        argp_error(state, "--token-file %s cannot be read", path);
    if (file != NULL)
        (void)fclose(file);
    ctl->bearer[strcspn(ctl->bearer, " \t\r\n")] = '\0';
}

static void add_scope(struct argp_state *state, struct ctl_token_options *token, int key, const char *text)
{
    const unsigned right = (unsigned)(key - OPTION_PUBLISH);
    if (token->scope_counts[right] == CTL_SCOPE_OPTIONS_MAX)
        argp_error(state, "one right may be given %u times", CTL_SCOPE_OPTIONS_MAX);
    token->scopes[right][token->scope_counts[right]++] = text;
}

static error_t parse_token_option(int key, char *text, struct argp_state *state)
{
    struct ctl_token_options *token = &((struct ctl *)state->input)->token;
    switch (key) {
    case OPTION_PUBLISH:
    case OPTION_SUBSCRIBE:
    case OPTION_CONSUME:
        add_scope(state, token, key, text);
        return 0;
    case OPTION_ADMIN:
        token->admin = true;
        return 0;
    case OPTION_EXPIRES:
        token->expires = text;
        return 0;
    case OPTION_MESSAGES_RATE:
        token->messages_rate = text;
        return 0;
    case OPTION_BYTES_RATE:
        token->bytes_rate = text;
        return 0;
    case OPTION_CERTIFICATE:
        token->certificate = text;
        return 0;
    case OPTION_BOUND_TO:
        token->bound_to = text;
        return 0;
    default: /* argp's own keys */
        return ARGP_ERR_UNKNOWN;
    }
}

/* Options of all commands; which of them a command knows is in its table. */
static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct ctl *ctl = state->input;
    switch (key) {
    case 'c':
        ctl->source.config_file = text;
        return 0;
    case 's':
        if (!cmq_proc_source_add(&ctl->source, text))
            argp_error(state, "--set may be given %u times", CMQ_PROC_OVERRIDES_MAX);
        return 0;
    case OPTION_JSON:
        ctl->json = true;
        return 0;
    case OPTION_SAMPLE:
        ctl->sample = true;
        return 0;
    case OPTION_REFERENCE:
        ctl->reference = true;
        return 0;
    case OPTION_SUPERVISOR:
        ctl->supervisor_conf = text;
        return 0;
    case OPTION_SYSTEMD:
        ctl->systemd = true;
        return 0;
    case OPTION_TIMEOUT:
        ctl->timeout_ms = parse_number(state, "--timeout", text, 1, TIMEOUT_S_MAX) * 1000u;
        return 0;
    case OPTION_INTERVAL:
        ctl->interval_ms = parse_number(state, "--interval", text, 100, 60000);
        return 0;
    case OPTION_COUNT:
        ctl->count = parse_number(state, "--count", text, 1, 1000000000);
        return 0;
    case OPTION_SINCE:
        ctl->since = text;
        return 0;
    case OPTION_TYPE:
        ctl->type = text;
        return 0;
    case OPTION_KEY:
        ctl->key = text;
        return 0;
    case OPTION_ACK:
        ctl->ack = text;
        return 0;
    case OPTION_TTL:
        ctl->ttl = text;
        return 0;
    case OPTION_LINES:
        ctl->lines = true;
        return 0;
    case OPTION_TOKEN_FILE:
        read_token(state, text, ctl);
        return 0;
    case ARGP_KEY_ARG:
        if (ctl->word_count == CMQ_COUNT_OF(ctl->words))
            return ARGP_ERR_UNKNOWN; /* argp says "too many arguments" */
        ctl->words[ctl->word_count++] = text;
        return 0;
    default:
        return parse_token_option(key, text, state);
    }
}

/* The words in front of the command: options, then its name; the rest is left to the command's own parser. */
struct front {
    struct ctl *ctl;
    int command_index; /* in argv */
};

static error_t parse_front(int key, char *text, struct argp_state *state)
{
    struct front *front = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return 0;
    case ARGP_KEY_ARG:
        front->command_index = state->next - 1;
        state->next = state->argc;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "name a command");
        return EINVAL;
    case 'c':
        front->ctl->source.config_file = text;
        return 0;
    case 's':
        if (!cmq_proc_source_add(&front->ctl->source, text))
            argp_error(state, "--set may be given %u times", CMQ_PROC_OVERRIDES_MAX);
        return 0;
    default: /* argp's own keys */
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* NULL: there is no command to run, *ret_exit_code is set. Help and usage errors end the process in both
 * parsers. */
static const struct command *parse_arguments(int argc, char **argv, struct ctl *ctl, int *ret_exit_code)
{
    static char doc[2048];
    static char own_name[64];
    size_t bytes = (size_t)snprintf(doc, sizeof doc, "Look after a CipherMQ broker.\vCommands:\n");
    for (size_t i = 0; i < CMQ_COUNT_OF(commands); i++)
        bytes +=
            (size_t)snprintf(doc + bytes, sizeof doc - bytes, "  %s%s%s: %s\n", commands[i].name,
                             commands[i].word_count == 0 ? "" : " ", commands[i].words, commands[i].about);
    cmq_assert(bytes < sizeof doc);
    (void)snprintf(doc + bytes, sizeof doc - bytes, "`ciphermqctl COMMAND --help` says more.");
    const struct argp front_argp = {plain_options, parse_front, "COMMAND [ARGUMENT...]", doc, NULL,
                                    NULL,          NULL};
    struct front front = {.ctl = ctl};
    *ret_exit_code = CMQ_EXIT_USAGE;
    if (argp_parse(&front_argp, argc, argv, ARGP_IN_ORDER, NULL, &front) != 0) {
        *ret_exit_code = ctl_fail(CMQ_EXIT_TEMPORARY, "arguments cannot be read: out of memory");
        return NULL;
    }
    const char *name = argv[front.command_index];
    const struct command *command = find_command(name);
    if (command == NULL) {
        (void)ctl_fail(CMQ_EXIT_USAGE, "unknown command %s; `ciphermqctl --help` lists them", name);
        return NULL;
    }
    (void)snprintf(own_name, sizeof own_name, "ciphermqctl %s", name);
    argv[front.command_index] = own_name;
    const struct argp command_argp = {
        command->options, parse_option, command->words, command->about, NULL, NULL, NULL};
    if (argp_parse(&command_argp, argc - front.command_index, argv + front.command_index, 0, NULL, ctl) !=
        0) {
        *ret_exit_code = ctl_fail(CMQ_EXIT_TEMPORARY, "arguments cannot be read: out of memory");
        return NULL;
    }
    if (ctl->word_count > command->word_count ||
        ctl->word_count + command->words_optional < command->word_count) {
        (void)ctl_fail(CMQ_EXIT_USAGE, "usage: ciphermqctl %s%s%s", name, command->word_count == 0 ? "" : " ",
                       command->words);
        return NULL;
    }
    return command;
}

int main(int argc, char **argv)
{
    static struct ctl ctl = {.timeout_ms = TIMEOUT_MS, .interval_ms = INTERVAL_MS};
    int exit_code = CMQ_EXIT_OK;
    struct cmq_reason reason = {{0}};
    argp_program_version = "ciphermqctl " CMQ_VERSION;
    argp_err_exit_status = CMQ_EXIT_USAGE;
    const struct command *command = parse_arguments(argc, argv, &ctl, &exit_code);
    if (command == NULL)
        return exit_code;
    if (command->needs_conf) {
        enum cmq_err err = cmq_proc_load(&ctl.source, &ctl.conf, &reason);
        if (err != CMQ_OK)
            return ctl_fail_err(err, &reason);
    }
    exit_code = command->run(&ctl);
    if (fflush(stdout) != 0 || ferror(stdout) != 0)
        exit_code = ctl_fail(CMQ_EXIT_TEMPORARY, "the output could not be written");
    return exit_code;
}
