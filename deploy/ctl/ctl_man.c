/* man: manual pages in the man(7) macros, made from the tables of commands and of settings. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "ctl.h"
#include "ctl_commands.h"
#include "ctl_words.h"

static const char settings_page[] = "ciphermq.conf";

/* ---- text ---- */

static void put_letter(char letter)
{
    switch (letter) {
    case '-':
        (void)fputs("\\-", stdout);
        return;
    case '\\':
        (void)fputs("\\e", stdout);
        return;
    case '\'':
        (void)fputs("\\(aq", stdout);
        return;
    case '`':
        (void)fputs("\\(ga", stdout);
        return;
    case '^':
        (void)fputs("\\(ha", stdout);
        return;
    case '~':
        (void)fputs("\\(ti", stdout);
        return;
    default:
        (void)putchar(letter);
    }
}

/* Never begins a line: a point there would be a request. */
static void put_bytes(const char *text, size_t bytes)
{
    (void)fputs("\\&", stdout);
    for (size_t i = 0; i < bytes; i++)
        put_letter(text[i]);
}

static void put_text(const char *text)
{
    put_bytes(text, strlen(text));
}

static void put_capitals(const char *text)
{
    for (; *text != '\0'; text++)
        put_letter((char)toupper((unsigned char)*text));
}

/* A line of Markdown: `words` in bold. */
static void put_markdown(const char *text, size_t bytes)
{
    bool bold = false;
    (void)fputs("\\&", stdout);
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '`') {
            bold = !bold;
            (void)fputs(bold ? "\\fB" : "\\fR", stdout);
        } else {
            put_letter(text[i]);
        }
    }
    (void)putchar('\n');
}

static void put_head(const char *name, const char *command, int section)
{
    (void)printf(".\\\" Written by `ciphermqctl man`.\n.TH ");
    put_capitals(name);
    if (command != NULL) {
        (void)fputs("\\-", stdout);
        put_capitals(command);
    }
    (void)printf(" %d \"\" \"CipherMQ " CMQ_VERSION "\" \"CipherMQ\"\n.SH NAME\n", section);
    put_text(name);
    if (command != NULL) {
        (void)fputs("\\-", stdout);
        put_text(command);
    }
    (void)fputs(" \\- ", stdout);
}

/* ---- options, exit status ---- */

static void put_option(const struct argp_option *option)
{
    (void)printf(".TP\n");
    if (option->key > 0 && option->key < 128)
        (void)printf("\\fB\\-%c\\fR, ", option->key);
    (void)printf("\\fB\\-\\-");
    put_text(option->name);
    (void)printf("\\fR");
    if (option->arg != NULL) {
        (void)printf("=\\fI");
        put_text(option->arg);
        (void)printf("\\fR");
    }
    (void)putchar('\n');
    put_text(option->doc);
    (void)putchar('\n');
}

static void put_options(const struct argp_option *options)
{
    static const struct argp_option always[] = {{"help", '?', NULL, 0, "say what there is, and leave", 0},
                                                {"usage", 1000, NULL, 0, "the same in short", 0},
                                                {"version", 'V', NULL, 0, "print the version, and leave", 0},
                                                {0}};
    (void)printf(".SH OPTIONS\n");
    for (const struct argp_option *option = options; option->name != NULL; option++)
        put_option(option);
    for (const struct argp_option *option = always; option->name != NULL; option++)
        put_option(option);
}

static void put_exit_status(const char *failed)
{
    (void)printf(".SH EXIT STATUS\n.TP\n0\ndone\n");
    if (failed != NULL) {
        (void)printf(".TP\n1\n");
        put_text(failed);
        (void)putchar('\n');
    }
    (void)printf(".TP\n%d\nthe arguments are wrong\n.TP\n%d\nshared state is broken\n"
                 ".TP\n%d\nit may work later: nothing was changed, or what was done is told\n"
                 ".TP\n%d\nsomething must be changed first; the sentence on standard error says what\n",
                 CMQ_EXIT_USAGE, CMQ_EXIT_INVARIANT, CMQ_EXIT_TEMPORARY, CMQ_EXIT_CONFIG);
}

static void put_files(void)
{
    (void)printf(".SH FILES\n.TP\n\\fI%s\\fR\nthe settings, unless \\fB\\-\\-config\\fR names another file\n",
                 CMQ_PROC_CONFIG_FILE);
}

/* ---- pages ---- */

/* The first sentence, as a phrase. */
static void put_phrase(const char *about)
{
    const char *end = strstr(about, ". ");
    const size_t bytes = end != NULL ? (size_t)(end - about) : strlen(about) - 1;
    (void)fputs("\\&", stdout);
    put_letter((char)tolower((unsigned char)about[0]));
    for (size_t i = 1; i < bytes; i++)
        put_letter(about[i]);
    (void)putchar('\n');
}

/* A line for each alternative of the words. */
static void put_synopsis(const struct ctl_command *command)
{
    const char *at = command->words;
    (void)printf(".SH SYNOPSIS\n");
    do {
        const char *bar = command->words[0] == '[' ? NULL : strstr(at, " | ");
        const size_t bytes = bar != NULL ? (size_t)(bar - at) : strlen(at);
        if (at != command->words)
            (void)printf(".br\n");
        (void)printf("\\fBciphermqctl ");
        put_text(command->name);
        (void)printf("\\fR [\\fIOPTION\\fR...]");
        if (bytes > 0) {
            (void)putchar(' ');
            put_bytes(at, bytes);
        }
        (void)putchar('\n');
        at += bytes + (bar != NULL ? 3 : 0);
    } while (*at != '\0');
}

static void put_examples(const char *examples)
{
    if (examples == NULL)
        return;
    (void)printf(".SH EXAMPLES\n");
    while (*examples != '\0') {
        const size_t words = strcspn(examples, "\t"), bytes = strcspn(examples, "\n");
        (void)printf(".TP\n\\fBciphermqctl ");
        put_bytes(examples, words);
        (void)printf("\\fR\n");
        put_bytes(examples + words + 1, bytes - words - 1);
        (void)putchar('\n');
        examples += bytes + 1;
    }
}

static void print_command(const struct ctl_command *command)
{
    put_head("ciphermqctl", command->name, 1);
    put_phrase(command->about);
    put_synopsis(command);
    (void)printf(".SH DESCRIPTION\n");
    put_text(command->about);
    (void)putchar('\n');
    put_options(command->options);
    put_exit_status(command->failed);
    put_examples(command->examples);
    put_files();
    (void)printf(".SH SEE ALSO\n.BR ciphermqctl (1),\n.BR ciphermq.conf (5)\n");
}

static void print_main(void)
{
    put_head("ciphermqctl", NULL, 1);
    (void)printf("look after a CipherMQ broker\n.SH SYNOPSIS\n"
                 "\\fBciphermqctl\\fR [\\fIOPTION\\fR...] \\fICOMMAND\\fR [\\fIARGUMENT\\fR...]\n"
                 ".SH DESCRIPTION\nMakes and removes what the stages of a broker share, shows what they do, "
                 "asks their "
                 "supervisor to change it, and speaks with the broker as a client.\n.SH COMMANDS\n");
    for (size_t i = 0; i < ctl_command_count; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        (void)printf(".TP\n\\fB");
        put_text(command->name);
        (void)printf("\\fR ");
        put_text(command->words);
        (void)putchar('\n');
        put_text(command->about);
        (void)printf(" See \\fBciphermqctl\\-");
        put_text(command->name);
        (void)printf("\\fR(1).\n");
    }
    put_options(ctl_front_options);
    put_exit_status("what the page of the command says");
    (void)printf(".SH ENVIRONMENT\n.TP\n\\fBCIPHERMQ_SUPERVISOR_CONF\\fR\n"
                 "supervisord\\(aqs configuration, for commands that start and stop instances\n");
    put_files();
    (void)printf(".SH SEE ALSO\n.BR ciphermq.conf (5)\n");
}

static void put_rules(void)
{
    for (const char *at = cmq_conf_rules(); *at != '\0';) {
        const size_t bytes = strcspn(at, "\n");
        if (bytes == 0) {
            (void)printf(".PP\n");
        } else if (strncmp(at, "- ", 2) == 0) {
            (void)printf(".IP \\(bu 2\n");
            put_markdown(at + 2, bytes - 2);
        } else {
            put_markdown(at, bytes);
        }
        at += bytes + (at[bytes] == '\n' ? 1 : 0);
    }
}

static void print_settings(void)
{
    struct cmq_conf_key key;
    const char *section = "";
    put_head(settings_page, NULL, 5);
    (void)printf("settings of a CipherMQ broker\n.SH SYNOPSIS\n\\fI%s\\fR\n.SH DESCRIPTION\n",
                 CMQ_PROC_CONFIG_FILE);
    put_rules();
    for (size_t i = 0; cmq_conf_key(i, &key); i++) {
        if (strcmp(section, key.section) != 0) {
            section = key.section;
            (void)printf(".SH [");
            put_capitals(section);
            (void)printf("]\n");
        }
        (void)printf(".TP\n\\fB");
        put_text(key.name);
        (void)printf("\\fR = ");
        put_text(key.preset);
        (void)printf("\n");
        put_text(key.help);
        (void)printf(" (");
        put_text(key.allowed);
        (void)printf("%s)\n", key.live ? "; SIGHUP" : "");
    }
    put_files();
    (void)printf(".SH SEE ALSO\n.BR ciphermqctl (1)\n");
}

int ctl_man(struct ctl *ctl)
{
    const struct ctl_command *command = ctl->word_count == 1 ? ctl_command_find(ctl->words[0]) : NULL;
    if (ctl->word_count == 0)
        print_main();
    else if (command != NULL)
        print_command(command);
    else if (strcmp(ctl->words[0], settings_page) == 0)
        print_settings();
    else
        return ctl_fail(CMQ_EXIT_USAGE, "man: there is no page about %s; give a command or %s", ctl->words[0],
                        settings_page);
    return CMQ_EXIT_OK;
}
