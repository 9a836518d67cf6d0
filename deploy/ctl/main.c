/* ciphermqctl: reads the arguments and runs the command. What commands and options there are: ctl_commands.c. */
#include <argp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "ctl.h"
#include "ctl_commands.h"

#define TIMEOUT_MS  30000u
#define INTERVAL_MS 1000u

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
    const unsigned right = (unsigned)(key - CTL_OPTION_PUBLISH);
    if (token->scope_counts[right] == CTL_SCOPE_OPTIONS_MAX)
        argp_error(state, "one right may be given %u times", CTL_SCOPE_OPTIONS_MAX);
    token->scopes[right][token->scope_counts[right]++] = text;
}

/* What a command's parser works on. */
struct arguments {
    struct ctl *ctl;
    const struct argp_option *options;
};

static const char *option_name(const struct argp_option *options, int key)
{
    while (options->key != key)
        options++;
    return options->name;
}

static void put(struct argp_state *state, const struct ctl_option_place *place, const char *text)
{
    const struct arguments *arguments = state->input;
    unsigned char *at = (unsigned char *)arguments->ctl + place->offset;
    char option[64];
    uint64_t number;
    switch (place->kind) {
    case CTL_PLACE_FLAG:
        memcpy(at, &(bool){true}, sizeof(bool));
        return;
    case CTL_PLACE_TEXT:
        memcpy(at, &text, sizeof text);
        return;
    case CTL_PLACE_NUMBER:
        (void)snprintf(option, sizeof option, "--%s", option_name(arguments->options, place->key));
        number = parse_number(state, option, text, place->min, place->max) * place->factor;
        memcpy(at, &number, sizeof number);
        return;
    }
}

/* Options of all commands; which of them a command knows is in the table. */
static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct ctl *ctl = ((struct arguments *)state->input)->ctl;
    const struct ctl_option_place *place = ctl_option_place(key);
    if (place != NULL) {
        put(state, place, text);
        return 0;
    }
    switch (key) {
    case 'c':
        ctl->source.config_file = text;
        return 0;
    case 's':
        if (!cmq_proc_source_add(&ctl->source, text))
            argp_error(state, "--set may be given %u times", CMQ_PROC_OVERRIDES_MAX);
        return 0;
    case CTL_OPTION_PUBLISH:
    case CTL_OPTION_SUBSCRIBE:
    case CTL_OPTION_CONSUME:
        add_scope(state, &ctl->token, key, text);
        return 0;
    case CTL_OPTION_TOKEN_FILE:
        read_token(state, text, ctl);
        return 0;
    case ARGP_KEY_ARG:
        if (ctl->word_count == CMQ_COUNT_OF(ctl->words))
            return ARGP_ERR_UNKNOWN; /* argp says "too many arguments" */
        ctl->words[ctl->word_count++] = text;
        return 0;
    default: /* argp's own keys */
        return ARGP_ERR_UNKNOWN;
    }
}

struct doc {
    char text[8192];
    size_t bytes;
};

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

/* Appends to a text of argp; what does not fit is a bug of the table. */
static void append(struct doc *doc, const char *fmt, ...) CMQ_PRINTF(2, 3);
static void append(struct doc *doc, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    doc->bytes += (size_t)vsnprintf(doc->text + doc->bytes, sizeof doc->text - doc->bytes, fmt, args);
    va_end(args);
    cmq_assert(doc->bytes < sizeof doc->text);
}

static const char *front_doc(struct doc *doc)
{
    append(doc, "Look after a CipherMQ broker.\vCommands:\n");
    for (size_t i = 0; i < ctl_command_count; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        append(doc, "  %s%s%s: %s\n", command->name, command->words[0] == '\0' ? "" : " ", command->words,
               command->about);
    }
    append(doc, "`ciphermqctl COMMAND --help` says more.");
    return doc->text;
}

static const char *command_doc(struct doc *doc, const struct ctl_command *command)
{
    append(doc, "%s\v", command->about);
    if (command->failed != NULL)
        append(doc, "Exit status 1: %s.\n", command->failed);
    if (command->examples != NULL)
        append(doc, "Examples:\n");
    for (const char *at = command->examples; at != NULL && *at != '\0';) {
        const int words = (int)strcspn(at, "\t"), bytes = (int)strcspn(at, "\n");
        append(doc, "  ciphermqctl %.*s\n      %.*s\n", words, at, bytes - words - 1, at + words + 1);
        at += bytes + 1;
    }
    return doc->text;
}

/* NULL: there is no command to run, *ret_exit_code is set. Help and usage errors end the process in both
 * parsers. */
static const struct ctl_command *parse_arguments(int argc, char **argv, struct ctl *ctl, int *ret_exit_code)
{
    static struct doc front_text, command_text;
    static char own_name[64];
    const struct argp front_argp = {
        ctl_front_options, parse_front, "COMMAND [ARGUMENT...]", front_doc(&front_text), NULL, NULL, NULL};
    struct front front = {.ctl = ctl};
    struct arguments arguments = {.ctl = ctl};
    *ret_exit_code = CMQ_EXIT_USAGE;
    if (argp_parse(&front_argp, argc, argv, ARGP_IN_ORDER, NULL, &front) != 0) {
        *ret_exit_code = ctl_fail(CMQ_EXIT_TEMPORARY, "arguments cannot be read: out of memory");
        return NULL;
    }
    const char *name = argv[front.command_index];
    const struct ctl_command *command = ctl_command_find(name);
    if (command == NULL) {
        (void)ctl_fail(CMQ_EXIT_USAGE, "unknown command %s; `ciphermqctl --help` lists them", name);
        return NULL;
    }
    (void)snprintf(own_name, sizeof own_name, "ciphermqctl %s", name);
    argv[front.command_index] = own_name;
    arguments.options = command->options;
    const struct argp command_argp = {command->options,
                                      parse_option,
                                      command->words,
                                      command_doc(&command_text, command),
                                      NULL,
                                      NULL,
                                      NULL};
    if (argp_parse(&command_argp, argc - front.command_index, argv + front.command_index, 0, NULL,
                   &arguments) != 0) {
        *ret_exit_code = ctl_fail(CMQ_EXIT_TEMPORARY, "arguments cannot be read: out of memory");
        return NULL;
    }
    if (ctl->word_count > command->word_count ||
        ctl->word_count + command->words_optional < command->word_count) {
        (void)ctl_fail(CMQ_EXIT_USAGE, "usage: ciphermqctl %s%s%s", name,
                       command->words[0] == '\0' ? "" : " ", command->words);
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
    const struct ctl_command *command = parse_arguments(argc, argv, &ctl, &exit_code);
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
