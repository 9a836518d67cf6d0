/*
 * ctl_commands: the one table of commands and options. Help, completion and manual pages are made from it; a new command is
 * one entry in it and a function.
 * Ownership: everything is static.
 * Units: as the texts of the options say.
 * Errors: none.
 * Callers: the only thread.
 */
#ifndef CTL_COMMANDS_H
#define CTL_COMMANDS_H

#include <argp.h>
#include <stddef.h>

#include "ctl.h"

enum ctl_option_key {
    CTL_OPTION_JSON = 256,
    CTL_OPTION_SAMPLE,
    CTL_OPTION_REFERENCE,
    CTL_OPTION_SUPERVISOR,
    CTL_OPTION_SYSTEMD,
    CTL_OPTION_TIMEOUT,
    CTL_OPTION_TOKEN_FILE,
    CTL_OPTION_INTERVAL,
    CTL_OPTION_COUNT,
    CTL_OPTION_SINCE,
    CTL_OPTION_TYPE,
    CTL_OPTION_KEY,
    CTL_OPTION_ACK,
    CTL_OPTION_TTL,
    CTL_OPTION_LINES,
    CTL_OPTION_KEYS,
    CTL_OPTION_CHECK,
    CTL_OPTION_FORCE,
    CTL_OPTION_SORT,
    CTL_OPTION_MAX,
    CTL_OPTION_GROUP,
    CTL_OPTION_IDLE,
    CTL_OPTION_RECORDS,
    CTL_OPTION_TO,
    CTL_OPTION_SECONDS,
    CTL_OPTION_CONNECTIONS,
    CTL_OPTION_BATCH,
    CTL_OPTION_BYTES,
    CTL_OPTION_RATE,
    CTL_OPTION_MESSAGES,
    CTL_OPTION_PUBLISH, /* this and the next two in the order of enum cmq_right */
    CTL_OPTION_SUBSCRIBE,
    CTL_OPTION_CONSUME,
    CTL_OPTION_ADMIN,
    CTL_OPTION_EXPIRES,
    CTL_OPTION_MESSAGES_RATE,
    CTL_OPTION_BYTES_RATE,
    CTL_OPTION_CERTIFICATE,
    CTL_OPTION_BOUND_TO
};

/*
 * words and the third field of an option are shown as they are, and say what can be completed: words in small letters stand for
 * themselves, " | " or "|" is between alternatives, [x] may be left out; STAGE, COMMAND, FILE and DIRECTORY are
 * completed, other words in capitals are the user's.
 */
struct ctl_command {
    const char *name, *words, *about;
    unsigned word_count; /* at most; at least so many less words_optional */
    bool needs_conf;
    int (*run)(struct ctl *ctl);
    const struct argp_option *options;
    unsigned words_optional;
    const char *failed;   /* what exit status 1 says; NULL: that there is none */
    const char *examples; /* "ARGUMENTS\twhat it does\n", several; NULL: none */
};

/* Where an option goes in struct ctl. Options that are not in the list have a case in main.c. */
struct ctl_option_place {
    int key;
    enum { CTL_PLACE_FLAG, CTL_PLACE_TEXT, CTL_PLACE_NUMBER } kind;
    size_t offset;             /* of a bool, a const char * or a uint64_t */
    uint64_t min, max, factor; /* numbers */
};

extern const struct ctl_command ctl_commands[];
extern const size_t ctl_command_count;
/* What may stand in front of the command. */
extern const struct argp_option ctl_front_options[];

/* NULL: there is none. */
const struct ctl_command *ctl_command_find(const char *name);
/* NULL: the option has none. */
const struct ctl_option_place *ctl_option_place(int key);

#endif
