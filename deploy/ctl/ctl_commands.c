#include "ctl_commands.h"

#include <string.h>

#include "common/base/cmq_base.h"

/* ---- options ---- */

#define COMMON_OPTIONS                                                                               \
    {"config", 'c', "FILE", 0, "settings file (default: " CMQ_PROC_CONFIG_FILE " if it exists)", 0}, \
    {                                                                                                \
        "set", 's', "section.key=value", 0, "one setting; after the file, may be repeated", 0        \
    }
#define TOKEN_OPTION                                                                                         \
    {                                                                                                        \
        "token-file", CTL_OPTION_TOKEN_FILE, "FILE", 0, "a file with the token to use, where tokens are on", \
            0                                                                                                \
    }
#define SUPERVISOR_OPTIONS                                                                                   \
    {"supervisor-conf",                                                                                      \
     CTL_OPTION_SUPERVISOR,                                                                                  \
     "FILE",                                                                                                 \
     0,                                                                                                      \
     "supervisord's configuration (default: $CIPHERMQ_SUPERVISOR_CONF)",                                     \
     0},                                                                                                     \
        {"systemd", CTL_OPTION_SYSTEMD, NULL, 0, "the stages are systemd units", 0},                         \
    {                                                                                                        \
        "timeout", CTL_OPTION_TIMEOUT, "SECONDS", 0, "longest wait for one instance, 1 to 600 (default 30)", \
            0                                                                                                \
    }

const struct argp_option ctl_front_options[] = {COMMON_OPTIONS, {0}};
static const struct argp_option status_options[] = {
    COMMON_OPTIONS, {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0}, {0}};
static const struct argp_option client_options[] = {
    COMMON_OPTIONS, {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0}, TOKEN_OPTION, {0}};
static const struct argp_option top_options[] = {
    COMMON_OPTIONS,
    {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object a line", 0},
    {"interval", CTL_OPTION_INTERVAL, "MS", 0, "time between two looks, 100 to 60000 (default 1000)", 0},
    {"count", CTL_OPTION_COUNT, "N", 0, "leave after so many", 0},
    {0}};
static const struct argp_option pub_options[] = {
    COMMON_OPTIONS,
    TOKEN_OPTION,
    {"type", CTL_OPTION_TYPE, "TYPE", 0, "the message's content type (default text/plain)", 0},
    {"key", CTL_OPTION_KEY, "KEY", 0, "Idempotency-Key: with the same one it is published once", 0},
    {"ack", CTL_OPTION_ACK, "accepted|durable", 0, "what the reply waits for", 0},
    {"ttl", CTL_OPTION_TTL, "TIME", 0, "not delivered when it is over: 1500ms, 30s, 5m, 2h, 3d", 0},
    {"lines", CTL_OPTION_LINES, NULL, 0,
     "each line of standard input is one message: a JSON string, or an object with data", 0},
    {0}};
static const struct argp_option sub_options[] = {
    COMMON_OPTIONS,
    TOKEN_OPTION,
    {"since", CTL_OPTION_SINCE, "earliest|latest|ID", 0,
     "where to begin: at the oldest message, the next one (default), or behind the one with this id", 0},
    {"count", CTL_OPTION_COUNT, "N", 0, "leave after so many messages", 0},
    {0}};
static const struct argp_option supervisor_options[] = {COMMON_OPTIONS, SUPERVISOR_OPTIONS, {0}};
static const struct argp_option config_options[] = {
    {"sample", CTL_OPTION_SAMPLE, NULL, 0, "a settings file with every key at its default, as comments", 0},
    {"reference", CTL_OPTION_REFERENCE, NULL, 0, "the reference page (Markdown)", 0},
    {0}};
static const struct argp_option token_options[] = {
    COMMON_OPTIONS,
    {"json", CTL_OPTION_JSON, NULL, 0, "one JSON document", 0},
    {"publish", CTL_OPTION_PUBLISH, "P,P", 0, "topics that may be published to; patterns, may be repeated",
     0},
    {"subscribe", CTL_OPTION_SUBSCRIBE, "P,P", 0, "topics that may be subscribed to and replayed", 0},
    {"consume", CTL_OPTION_CONSUME, "P,P", 0, "topics whose groups may be joined, with ack and nack", 0},
    {"admin", CTL_OPTION_ADMIN, NULL, 0, "may read metrics and names in the status; includes no other right",
     0},
    {"expires", CTL_OPTION_EXPIRES, "WHEN", 0,
     "30m, 12h, 90d, 52w from now; 2027-01-31 (its first moment, UTC); 2027-01-31T12:00:00Z; never (default)",
     0},
    {"messages-rate", CTL_OPTION_MESSAGES_RATE, "N", 0, "messages a second instead of tokens.messages_rate",
     0},
    {"bytes-rate", CTL_OPTION_BYTES_RATE, "N", 0,
     "bytes a second instead of tokens.bytes_rate; may end in K, M, G", 0},
    {"certificate", CTL_OPTION_CERTIFICATE, "NAME", 0,
     "no token: the rights are those of a client certificate with this common name (or first DNS name)", 0},
    {"bound-to", CTL_OPTION_BOUND_TO, "NAME", 0, "the token is good only together with such a certificate",
     0},
    {0}};

static const struct argp_option no_options[] = {{0}};
static const struct argp_option backup_options[] = {
    COMMON_OPTIONS,
    {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0},
    {"keys", CTL_OPTION_KEYS, NULL, 0,
     "copy the keys as well, mode 0400, to DIRECTORY/keys; then who reads the directory can read every "
     "message",
     0},
    {"timeout", CTL_OPTION_TIMEOUT, "SECONDS", 0,
     "longest wait until all that is stored is durable, 1 to 600 (default 30)", 0},
    {0}};
static const struct argp_option restore_options[] = {
    COMMON_OPTIONS,
    {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0},
    {"check", CTL_OPTION_CHECK, NULL, 0, "only compare all files with the manifest", 0},
    {"force", CTL_OPTION_FORCE, NULL, 0, "rename the broker's directories that are not empty", 0},
    {0}};

static const struct argp_option topics_options[] = {
    COMMON_OPTIONS,
    {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0},
    {"sort", CTL_OPTION_SORT, "name|messages|bytes", 0, "the order; most first (default name)", 0},
    {"max", CTL_OPTION_MAX, "N", 0, "most topics with a row of their own (default 100000)", 0},
    {0}};
static const struct argp_option consume_options[] = {
    COMMON_OPTIONS,
    TOKEN_OPTION,
    {"group", CTL_OPTION_GROUP, "NAME", 0, "the group; made if it is new. Must be given", 0},
    {"count", CTL_OPTION_COUNT, "N", 0, "leave after so many messages", 0},
    {"idle", CTL_OPTION_IDLE, "SECONDS", 0, "leave when nothing came for so long, 1 to 86400", 0},
    {"since", CTL_OPTION_SINCE, "earliest|latest|ID", 0,
     "where a new group begins: at the oldest message (default), the next one, or behind the one with this "
     "id",
     0},
    {"ack", CTL_OPTION_ACK, "auto|none", 0,
     "auto: a message is acknowledged when it was written (default); none: they are given back at the end",
     0},
    {0}};
static const struct argp_option groups_options[] = {
    COMMON_OPTIONS,
    {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0},
    {"records", CTL_OPTION_RECORDS, NULL, 0, "do not read the log: the lag in records only", 0},
    {"to", CTL_OPTION_TO, "earliest|latest|ID", 0,
     "reset: where the group goes on: at the oldest message, the next one, or behind the one with this id",
     0},
    {0}};
static const struct argp_option drain_options[] = {
    COMMON_OPTIONS, {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0}, SUPERVISOR_OPTIONS, {0}};
static const struct argp_option bench_options[] = {
    COMMON_OPTIONS,
    TOKEN_OPTION,
    {"json", CTL_OPTION_JSON, NULL, 0, "one JSON object", 0},
    {"seconds", CTL_OPTION_SECONDS, "N", 0, "how long to publish, 1 to 600 (default 5)", 0},
    {"connections", CTL_OPTION_CONNECTIONS, "N", 0,
     "publishers, each with a POST on its way, 1 to 64 (default 4)", 0},
    {"batch", CTL_OPTION_BATCH, "N", 0, "messages a POST, 1 to 20000 (default 100)", 0},
    {"bytes", CTL_OPTION_BYTES, "N", 0, "bytes a message, 64 to 65536 (default 100)", 0},
    {"rate", CTL_OPTION_RATE, "N", 0, "POSTs a second of all together (default: as fast as it goes)", 0},
    {"messages", CTL_OPTION_MESSAGES, "N", 0, "end after so many (default 1000000)", 0},
    {"ack", CTL_OPTION_ACK, "accepted|durable", 0, "what a reply waits for (default: the broker's)", 0},
    {0}};

static const struct ctl_option_place places[] = {
    {CTL_OPTION_JSON, CTL_PLACE_FLAG, offsetof(struct ctl, json), 0, 0, 0},
    {CTL_OPTION_SAMPLE, CTL_PLACE_FLAG, offsetof(struct ctl, sample), 0, 0, 0},
    {CTL_OPTION_REFERENCE, CTL_PLACE_FLAG, offsetof(struct ctl, reference), 0, 0, 0},
    {CTL_OPTION_SUPERVISOR, CTL_PLACE_TEXT, offsetof(struct ctl, supervisor_conf), 0, 0, 0},
    {CTL_OPTION_SYSTEMD, CTL_PLACE_FLAG, offsetof(struct ctl, systemd), 0, 0, 0},
    {CTL_OPTION_TIMEOUT, CTL_PLACE_NUMBER, offsetof(struct ctl, timeout_ms), 1, 600, 1000},
    {CTL_OPTION_INTERVAL, CTL_PLACE_NUMBER, offsetof(struct ctl, interval_ms), 100, 60000, 1},
    {CTL_OPTION_COUNT, CTL_PLACE_NUMBER, offsetof(struct ctl, count), 1, 1000000000, 1},
    {CTL_OPTION_SINCE, CTL_PLACE_TEXT, offsetof(struct ctl, since), 0, 0, 0},
    {CTL_OPTION_TYPE, CTL_PLACE_TEXT, offsetof(struct ctl, type), 0, 0, 0},
    {CTL_OPTION_KEY, CTL_PLACE_TEXT, offsetof(struct ctl, key), 0, 0, 0},
    {CTL_OPTION_ACK, CTL_PLACE_TEXT, offsetof(struct ctl, ack), 0, 0, 0},
    {CTL_OPTION_TTL, CTL_PLACE_TEXT, offsetof(struct ctl, ttl), 0, 0, 0},
    {CTL_OPTION_LINES, CTL_PLACE_FLAG, offsetof(struct ctl, lines), 0, 0, 0},
    {CTL_OPTION_KEYS, CTL_PLACE_FLAG, offsetof(struct ctl, keys), 0, 0, 0},
    {CTL_OPTION_CHECK, CTL_PLACE_FLAG, offsetof(struct ctl, check), 0, 0, 0},
    {CTL_OPTION_FORCE, CTL_PLACE_FLAG, offsetof(struct ctl, force), 0, 0, 0},
    {CTL_OPTION_SORT, CTL_PLACE_TEXT, offsetof(struct ctl, sort), 0, 0, 0},
    {CTL_OPTION_MAX, CTL_PLACE_NUMBER, offsetof(struct ctl, max), 1, 10000000, 1},
    {CTL_OPTION_GROUP, CTL_PLACE_TEXT, offsetof(struct ctl, group), 0, 0, 0},
    {CTL_OPTION_IDLE, CTL_PLACE_NUMBER, offsetof(struct ctl, idle_ms), 1, 86400, 1000},
    {CTL_OPTION_RECORDS, CTL_PLACE_FLAG, offsetof(struct ctl, records), 0, 0, 0},
    {CTL_OPTION_TO, CTL_PLACE_TEXT, offsetof(struct ctl, to), 0, 0, 0},
    {CTL_OPTION_SECONDS, CTL_PLACE_NUMBER, offsetof(struct ctl, bench.seconds), 1, 600, 1},
    {CTL_OPTION_CONNECTIONS, CTL_PLACE_NUMBER, offsetof(struct ctl, bench.connections), 1, 64, 1},
    {CTL_OPTION_BATCH, CTL_PLACE_NUMBER, offsetof(struct ctl, bench.batch), 1, 20000, 1},
    {CTL_OPTION_BYTES, CTL_PLACE_NUMBER, offsetof(struct ctl, bench.bytes), 64, 65536, 1},
    {CTL_OPTION_RATE, CTL_PLACE_NUMBER, offsetof(struct ctl, bench.rate), 1, 1000000, 1},
    {CTL_OPTION_MESSAGES, CTL_PLACE_NUMBER, offsetof(struct ctl, bench.messages), 1, 1000000000, 1},
    {CTL_OPTION_ADMIN, CTL_PLACE_FLAG, offsetof(struct ctl, token.admin), 0, 0, 0},
    {CTL_OPTION_EXPIRES, CTL_PLACE_TEXT, offsetof(struct ctl, token.expires), 0, 0, 0},
    {CTL_OPTION_MESSAGES_RATE, CTL_PLACE_TEXT, offsetof(struct ctl, token.messages_rate), 0, 0, 0},
    {CTL_OPTION_BYTES_RATE, CTL_PLACE_TEXT, offsetof(struct ctl, token.bytes_rate), 0, 0, 0},
    {CTL_OPTION_CERTIFICATE, CTL_PLACE_TEXT, offsetof(struct ctl, token.certificate), 0, 0, 0},
    {CTL_OPTION_BOUND_TO, CTL_PLACE_TEXT, offsetof(struct ctl, token.bound_to), 0, 0, 0},
};

/* ---- commands ---- */

const struct ctl_command ctl_commands[] = {
    {.name = "init",
     .words = "",
     .about = "Make the run directory, the keys and the ring, whatever is missing.",
     .needs_conf = true,
     .run = ctl_init,
     .options = ctl_front_options},
    {.name = "status",
     .words = "",
     .about = "Show the ring, the log and every instance.",
     .needs_conf = true,
     .run = ctl_status,
     .options = status_options,
     .failed = "a stage has no live instance",
     .examples = "status\tone look\n"
                 "status --json\tthe same for a program\n"},
    {.name = "restart",
     .words = "STAGE[:N]",
     .about = "Restart a stage, one instance after the other, or one instance.",
     .word_count = 1,
     .needs_conf = true,
     .run = ctl_restart,
     .options = supervisor_options,
     .examples = "restart dispatcher\tevery dispatcher, one after the other\n"
                 "restart ingest:1\tone of them\n"},
    {.name = "scale",
     .words = "STAGE COUNT",
     .about = "Start or stop instances until 0 to COUNT-1 run; COUNT is 1 to 8.",
     .word_count = 2,
     .needs_conf = true,
     .run = ctl_scale,
     .options = supervisor_options,
     .examples = "scale encryptor 3\tinstances 0, 1 and 2 run; those that did are not touched\n"},
    {.name = "drain",
     .words = "[STAGE[:N]]",
     .about = "Stop taking messages, wait until all are stored, synced and delivered to whoever is there (or "
              "--timeout "
              "is over), then stop all stages and say what is left. With STAGE: stop only that.",
     .word_count = 1,
     .words_optional = 1,
     .needs_conf = true,
     .run = ctl_drain,
     .options = drain_options,
     .failed = "the time was over before all was stored and delivered; the stages are stopped, and what is "
               "left is named",
     .examples = "drain --timeout 120\tbefore maintenance; `scale STAGE 1` or deploy/up starts again\n"
                 "drain encryptor:2\tone instance: it ends what it has, others go on\n"},
    {.name = "agent",
     .words = "",
     .about =
         "Restart and scale stages for the dashboard, until it is ended. Listens in common.run_dir, obeys "
         "the user of agent.user only, and does one operation at a time.",
     .needs_conf = true,
     .run = ctl_agent,
     .options = supervisor_options,
     .examples = "agent --systemd\tas ciphermq-agent.service runs it\n"},
    {.name = "destroy",
     .words = "",
     .about = "Remove the ring of a stopped broker. Keys are kept, and the log unless its store is memory.",
     .needs_conf = true,
     .run = ctl_destroy,
     .options = ctl_front_options},
    {.name = "key",
     .words = "list | rotate [PATTERN]",
     .about = "Show the data keys, or begin a new epoch for a topic pattern (default \">\"). Needs the "
              "key-encryption key.",
     .word_count = 2,
     .words_optional = 1,
     .needs_conf = true,
     .run = ctl_key,
     .options = status_options,
     .examples = "key list\tpatterns, epochs, how much of each key is used up\n"
                 "key rotate 'orders.>'\ta new data key for these topics; old messages stay readable\n"},
    {.name = "token",
     .words = "create NAME | list | revoke NAME",
     .about = "Make a token with rights to topics, show all, or take one away. Running stages see a change "
              "by themselves. Needs tokens.file.",
     .word_count = 2,
     .words_optional = 1,
     .needs_conf = true,
     .run = ctl_token,
     .options = token_options,
     .examples = "token create shop --publish 'orders.>' --expires 90d\tprints the token once\n"
                 "token revoke shop\tits connections are closed\n"},
    {.name = "verify",
     .words = "",
     .about = "Read the whole log and open everything in it. Needs the key-encryption key.",
     .needs_conf = true,
     .run = ctl_verify,
     .options = status_options,
     .failed = "records are damaged"},
    {.name = "doctor",
     .words = "",
     .about = "Look at configuration, keys, log, machine, ring, stages and ports, send a message through, "
              "and name the fix of what is wrong.",
     .run = ctl_doctor,
     .options = client_options,
     .failed = "something is wrong"},
    {.name = "top",
     .words = "",
     .about = "Show what every instance does per second, until it is left.",
     .needs_conf = true,
     .run = ctl_top,
     .options = top_options,
     .examples = "top --json --count 1\tone second, as one JSON object\n"},
    {.name = "bench",
     .words = "",
     .about = "Publish to a topic of its own, read it back, and tell how fast that was. The messages stay in "
              "the log until retention takes them; after ten minutes nobody gets them any more.",
     .needs_conf = true,
     .run = ctl_bench,
     .options = bench_options,
     .failed = "a message was lost, came twice or out of order",
     .examples = "bench --seconds 10\t4 publishers, 100 messages a POST\n"
                 "bench --batch 1 --connections 64\tsingle messages\n"
                 "bench --rate 100 --batch 1\tthe latency at a rate that the broker takes easily\n"},
    {.name = "pub",
     .words = "TOPIC [MESSAGE]",
     .about = "Publish a message, or standard input as one.",
     .word_count = 2,
     .words_optional = 1,
     .needs_conf = true,
     .run = ctl_pub,
     .options = pub_options,
     .failed = "the broker refused the message",
     .examples = "pub orders.eu 'first order'\tprints the reply, with the id\n"
                 "pub orders.eu --lines <FILE\teach line is a message\n"},
    {.name = "sub",
     .words = "PATTERN",
     .about = "Print the messages of some topics as JSON, one a line, as they come.",
     .word_count = 1,
     .needs_conf = true,
     .run = ctl_sub,
     .options = sub_options,
     .failed = "the broker refused the subscription",
     .examples = "sub 'orders.>' --since earliest\tall that the log still has, then what comes\n"},
    {.name = "consume",
     .words = "TOPIC",
     .about = "Print the messages of a group as JSON, one a line, and acknowledge each when it was written.",
     .word_count = 1,
     .needs_conf = true,
     .run = ctl_consume,
     .options = consume_options,
     .failed = "the broker refused",
     .examples =
         "consume orders.eu --group billing --count 10\tten messages; the next call goes on behind them\n"
         "consume jobs --group look --ack none --idle 1\twhat waits; it comes again later\n"},
    {.name = "groups",
     .words = "[reset NAME TOPIC | delete NAME TOPIC]",
     .about =
         "Show the consumer groups, how far each is and what it has not done, or move or remove one that "
         "has no members now. As root, or as the dispatcher's user.",
     .word_count = 3,
     .words_optional = 3,
     .needs_conf = true,
     .run = ctl_groups,
     .options = groups_options,
     .failed = "the group has members",
     .examples = "groups reset workers jobs --to earliest\teverything that the log has comes again\n"
                 "groups delete workers jobs\tas if it had never been\n"},
    {.name = "topics",
     .words = "[PATTERN]",
     .about = "Show what the log has of each topic. Reads all of it; needs no key.",
     .word_count = 1,
     .words_optional = 1,
     .needs_conf = true,
     .run = ctl_topics,
     .options = topics_options,
     .failed = "records are damaged",
     .examples = "topics 'orders.>' --sort bytes\tthe largest first\n"},
    {.name = "backup",
     .words = "DIRECTORY",
     .about = "Copy the log and the groups to a directory, while the broker runs. Again into the same one, "
              "only what is "
              "new is copied. Keys are not in it.",
     .word_count = 1,
     .needs_conf = true,
     .run = ctl_backup,
     .options = backup_options,
     .examples = "backup /backup/ciphermq\tthe first time all, later what is new\n"},
    {.name = "restore",
     .words = "DIRECTORY",
     .about = "Put a backup in the place of the log and the groups of a broker that does not run, after all "
              "of it was "
              "compared with its manifest.",
     .word_count = 1,
     .needs_conf = true,
     .run = ctl_restore,
     .options = restore_options,
     .examples = "restore --check /backup/ciphermq\tlooks only\n"
                 "restore --force /backup/ciphermq\tfirst renames what is in the way\n"},
    {.name = "completion",
     .words = "bash | zsh | fish",
     .about = "Print what the shell needs to complete commands, options and their arguments.",
     .word_count = 1,
     .run = ctl_completion,
     .options = no_options,
     .examples = "completion bash >~/.local/share/bash-completion/completions/ciphermqctl\tfor one user; the "
                 "package has it "
                 "for all\n"},
    {.name = "man",
     .words = "[COMMAND | ciphermq.conf]",
     .about = "Print a manual page: that of a command, of the settings file, or of ciphermqctl itself.",
     .word_count = 1,
     .words_optional = 1,
     .run = ctl_man,
     .options = no_options,
     .examples = "man backup | man -l -\tread it\n"},
    {.name = "metrics",
     .words = "",
     .about = "Print every number of every instance, as Prometheus reads them.",
     .needs_conf = true,
     .run = ctl_metrics,
     .options = ctl_front_options,
     .failed = "the broker is not running"},
    {.name = "config",
     .words = "",
     .about = "Print --sample or --reference.",
     .run = ctl_config,
     .options = config_options,
     .examples = "config --sample\ta settings file with every key at its default\n"},
};
const size_t ctl_command_count = CMQ_COUNT_OF(ctl_commands);

const struct ctl_command *ctl_command_find(const char *name)
{
    for (size_t i = 0; i < ctl_command_count; i++) {
        if (strcmp(ctl_commands[i].name, name) == 0)
            return &ctl_commands[i];
    }
    return NULL;
}

const struct ctl_option_place *ctl_option_place(int key)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(places); i++) {
        if (places[i].key == key)
            return &places[i];
    }
    return NULL;
}
