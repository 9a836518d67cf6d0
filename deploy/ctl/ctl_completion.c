/* completion: a script for the shell, made from the table of commands. */
#include <stdio.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "ctl.h"
#include "ctl_commands.h"
#include "ctl_words.h"

static const char stages[] = "ingest encryptor dispatcher";

static void put_commands(void)
{
    for (size_t i = 0; i < ctl_command_count; i++)
        (void)printf("%s%s", i == 0 ? "" : " ", ctl_commands[i].name);
}

/* The words that may stand there, with blanks between; returns which other kind of word may. */
static enum ctl_word_kind put_words(const char *words, unsigned position)
{
    struct ctl_word word;
    enum ctl_word_kind other = CTL_WORD_OTHER;
    const char *between = "";
    for (unsigned i = 0; ctl_word_at(words, position, i, &word); i++) {
        switch (word.kind) {
        case CTL_WORD_ITSELF:
            (void)printf("%s%.*s", between, (int)word.bytes, word.text);
            between = " ";
            break;
        case CTL_WORD_STAGE:
            (void)printf("%s%s", between, stages);
            between = " ";
            break;
        case CTL_WORD_COMMAND:
            (void)printf("%s", between);
            put_commands();
            between = " ";
            break;
        case CTL_WORD_FILE:
        case CTL_WORD_DIRECTORY:
            other = word.kind;
            break;
        case CTL_WORD_OTHER:
            break;
        }
    }
    return other;
}

static enum ctl_word_kind other_kind(const char *words, unsigned position)
{
    struct ctl_word word;
    for (unsigned i = 0; ctl_word_at(words, position, i, &word); i++) {
        if (word.kind == CTL_WORD_FILE || word.kind == CTL_WORD_DIRECTORY)
            return word.kind;
    }
    return CTL_WORD_OTHER;
}

/* Inside single quotes; `escape` are letters that mean something to the shell's completion. */
static void put_about(const char *about, const char *escape)
{
    for (; *about != '\0'; about++) {
        if (strchr(escape, *about) != NULL)
            (void)putchar('\\');
        if (*about == '\'')
            (void)fputs("'\\''", stdout);
        else
            (void)putchar(*about);
    }
}

static bool is_first_use(size_t command, const struct argp_option *option)
{
    for (size_t i = 0; i < command; i++) {
        for (const struct argp_option *other = ctl_commands[i].options; other->name != NULL; other++) {
            if (strcmp(other->name, option->name) == 0)
                return false;
        }
    }
    return true;
}

/* ---- bash ---- */

static const char bash_head[] =
    "# bash completion of ciphermqctl; written by `ciphermqctl completion bash`.\n"
    "_ciphermqctl()\n"
    "{\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word= i position=0\n"
    "    local words= files= options=\n"
    "    COMPREPLY=()\n"
    "    if [[ $cur == = ]]; then\n"
    "        cur=\n"
    "    elif [[ $prev == = ]]; then\n"
    "        prev=${COMP_WORDS[COMP_CWORD-2]}\n"
    "    fi\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        case $word in\n"
    "        ";
static const char bash_middle[] =
    ")\n"
    "            i=$((i + 1))\n"
    "            if [[ ${COMP_WORDS[i]} == = ]]; then i=$((i + 1)); fi\n"
    "            ;;\n"
    "        -*) ;;\n"
    "        *)\n"
    "            if [[ -z $command ]]; then command=$word; else position=$((position + 1)); fi\n"
    "            ;;\n"
    "        esac\n"
    "    done\n";
static const char bash_tail[] = "    if [[ $cur == -* ]]; then\n"
                                "        words=$options files=\n"
                                "    fi\n"
                                "    case $files in\n"
                                "    file | directory)\n"
                                "        compopt -o filenames 2>/dev/null\n"
                                "        mapfile -t COMPREPLY < <(compgen \"-${files:0:1}\" -- \"$cur\")\n"
                                "        ;;\n"
                                "    *) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
                                "    esac\n"
                                "}\n"
                                "complete -F _ciphermqctl ciphermqctl\n";

/* Names of all options that have an argument, each once, as a pattern of `case`. */
static void put_pattern(char *ret_text, size_t bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < ctl_command_count; i++) {
        for (const struct argp_option *option = ctl_commands[i].options; option->name != NULL; option++) {
            if (option->arg == NULL || !is_first_use(i, option))
                continue;
            at += (size_t)snprintf(ret_text + at, bytes - at, "%s--%s", at == 0 ? "" : " | ", option->name);
            if (option->key > 0 && option->key < 128)
                at += (size_t)snprintf(ret_text + at, bytes - at, " | -%c", option->key);
            cmq_assert(at < bytes);
        }
    }
}

static void put_bash_place(const char *words, unsigned position)
{
    (void)printf("words='");
    const enum ctl_word_kind other = put_words(words, position);
    (void)printf("'%s", other == CTL_WORD_FILE        ? " files=file"
                        : other == CTL_WORD_DIRECTORY ? " files=directory"
                                                      : "");
}

static void put_bash_command(const struct ctl_command *command)
{
    (void)printf("    %s)\n        options='--help", command->name);
    for (const struct argp_option *option = command->options; option->name != NULL; option++)
        (void)printf(" --%s", option->name);
    (void)printf("'\n        case $position in\n");
    for (unsigned i = 0; i < ctl_word_positions(command->words); i++) {
        (void)printf("        %u) ", i);
        put_bash_place(command->words, i);
        (void)printf(" ;;\n");
    }
    (void)printf("        esac\n        ;;\n");
}

static void print_bash(void)
{
    static char pattern[4096];
    put_pattern(pattern, sizeof pattern);
    (void)printf("%s%s%s", bash_head, pattern, bash_middle);
    (void)printf("    case $command in\n    '')\n        options='--config --set --help --version' words='");
    put_commands();
    (void)printf("'\n        ;;\n");
    for (size_t i = 0; i < ctl_command_count; i++)
        put_bash_command(&ctl_commands[i]);
    (void)printf("    esac\n    case $prev in\n");
    for (size_t i = 0; i < ctl_command_count; i++) {
        for (const struct argp_option *option = ctl_commands[i].options; option->name != NULL; option++) {
            if (option->arg == NULL || !is_first_use(i, option))
                continue;
            (void)printf("    --%s", option->name);
            if (option->key > 0 && option->key < 128)
                (void)printf(" | -%c", option->key);
            (void)printf(") files= ");
            put_bash_place(option->arg, 0);
            (void)printf(" ;;\n");
        }
    }
    (void)printf("    esac\n%s", bash_tail);
}

/* ---- zsh ---- */

static void put_zsh_action(const char *words, unsigned position)
{
    const enum ctl_word_kind other = other_kind(words, position);
    if (other != CTL_WORD_OTHER) {
        (void)fputs(other == CTL_WORD_FILE ? "_files" : "_files -/", stdout);
        return;
    }
    (void)putchar('(');
    (void)put_words(words, position);
    (void)putchar(')');
}

static void put_zsh_options(const struct argp_option *options, const char *indent)
{
    for (const struct argp_option *option = options; option->name != NULL; option++) {
        if (option->key > 0 && option->key < 128)
            (void)printf("%s'*'{-%c,--%s=}'[", indent, option->key, option->name);
        else
            (void)printf("%s'*--%s%s[", indent, option->name, option->arg == NULL ? "" : "=");
        put_about(option->doc, "[]:\\");
        (void)printf("]");
        if (option->arg != NULL) {
            (void)printf(":");
            put_about(option->arg, ":\\[]");
            (void)printf(":");
            put_zsh_action(option->arg, 0);
        }
        (void)printf("' \\\n");
    }
}

static void print_zsh(void)
{
    (void)printf(
        "#compdef ciphermqctl\n"
        "# zsh completion of ciphermqctl; written by `ciphermqctl completion zsh`.\n"
        "_ciphermqctl()\n{\n"
        "    local context state line\n    typeset -A opt_args\n    local -a commands\n    commands=(\n");
    for (size_t i = 0; i < ctl_command_count; i++) {
        (void)printf("        '%s:", ctl_commands[i].name);
        put_about(ctl_commands[i].about, ":\\");
        (void)printf("'\n");
    }
    (void)printf("    )\n    _arguments -C \\\n");
    put_zsh_options(ctl_front_options, "        ");
    (void)printf("        '1:command:->command' '*::argument:->argument'\n"
                 "    case $state in\n    command) _describe command commands ;;\n    argument)\n"
                 "        case $words[1] in\n");
    for (size_t i = 0; i < ctl_command_count; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        (void)printf("        %s)\n            _arguments \\\n", command->name);
        put_zsh_options(command->options, "                ");
        for (unsigned at = 0; at < ctl_word_positions(command->words); at++) {
            (void)printf("                '%u:%s:", at + 1, command->name);
            put_zsh_action(command->words, at);
            (void)printf("' \\\n");
        }
        (void)printf("                '(- *)--help[help]'\n            ;;\n");
    }
    (void)printf("        esac\n        ;;\n    esac\n}\n_ciphermqctl \"$@\"\n");
}

/* ---- fish ---- */

static void put_fish_option(const char *condition, const char *command, const struct argp_option *option)
{
    (void)printf("complete -c ciphermqctl -n '%s %s' -l %s", condition, command, option->name);
    if (option->key > 0 && option->key < 128)
        (void)printf(" -s %c", option->key);
    if (option->arg != NULL) {
        const enum ctl_word_kind other = other_kind(option->arg, 0);
        (void)printf(other == CTL_WORD_OTHER ? " -x -a '" : " -r -F -a '");
        (void)put_words(option->arg, 0);
        (void)printf("'");
    }
    (void)printf(" -d '");
    put_about(option->doc, "\\");
    (void)printf("'\n");
}

static void put_fish_command(const struct ctl_command *command)
{
    (void)printf("complete -c ciphermqctl -n '__ciphermqctl_at 0' -a %s -d '", command->name);
    put_about(command->about, "\\");
    (void)printf("'\n");
    for (const struct argp_option *option = command->options; option->name != NULL; option++)
        put_fish_option("__ciphermqctl_in", command->name, option);
    for (unsigned at = 0; at < ctl_word_positions(command->words); at++) {
        const enum ctl_word_kind other = other_kind(command->words, at);
        (void)printf("complete -c ciphermqctl -n '__ciphermqctl_at %u %s' %s -a '", at + 1, command->name,
                     other == CTL_WORD_OTHER ? "-f" : "-F");
        (void)put_words(command->words, at);
        (void)printf("'\n");
    }
}

static void print_fish(void)
{
    static char pattern[4096];
    put_pattern(pattern, sizeof pattern);
    (void)printf("# fish completion of ciphermqctl; written by `ciphermqctl completion fish`.\n"
                 "function __ciphermqctl_words\n    set -l skip 0\n"
                 "    for word in (commandline -opc)[2..-1]\n"
                 "        if test $skip = 1\n            set skip 0\n            continue\n        end\n"
                 "        switch $word\n            case ");
    for (const char *at = pattern; *at != '\0'; at++)
        (void)putchar(*at == '|' ? ' ' : *at);
    (void)printf("\n                set skip 1\n            case '-*'\n            case '*'\n                "
                 "echo $word\n"
                 "        end\n    end\nend\n"
                 "function __ciphermqctl_at\n    set -l words (__ciphermqctl_words)\n"
                 "    test (count $words) -eq $argv[1]; and test \"$words[1]\" = \"$argv[2]\"\nend\n"
                 "function __ciphermqctl_in\n    set -l words (__ciphermqctl_words)\n"
                 "    test (count $words) -gt 0; and test \"$words[1]\" = \"$argv[1]\"\nend\n"
                 "complete -c ciphermqctl -f\n");
    for (const struct argp_option *option = ctl_front_options; option->name != NULL; option++)
        put_fish_option("__ciphermqctl_at", "0", option);
    for (size_t i = 0; i < ctl_command_count; i++)
        put_fish_command(&ctl_commands[i]);
}

int ctl_completion(struct ctl *ctl)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};
    for (size_t i = 0; i < CMQ_COUNT_OF(shells); i++) {
        if (strcmp(ctl->words[0], shells[i].name) == 0) {
            shells[i].print();
            return CMQ_EXIT_OK;
        }
    }
    return ctl_fail(CMQ_EXIT_USAGE, "completion: %s is not known; give bash, zsh or fish", ctl->words[0]);
}
