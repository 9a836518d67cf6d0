/* The sample file and the reference page. Everything about a key comes from the table. */
#include <string.h>

#include "common/conf/cmq_conf_int.h"

/* "a|b|c" as "a, b, c". */
static void put_words(char *ret_text, size_t bytes, const char *words)
{
    size_t at = 0;
    for (; *words != '\0' && at + 2 < bytes; words++) {
        ret_text[at++] = *words == '|' ? ',' : *words;
        if (*words == '|')
            ret_text[at++] = ' ';
    }
    ret_text[at] = '\0';
}

bool cmq_conf_key(size_t index, struct cmq_conf_key *ret_key)
{
    struct cmq_conf_number low, high;
    if (index >= cmq_conf_row_count)
        return false;
    const struct cmq_conf_row *row = &cmq_conf_rows[index];
    *ret_key = (struct cmq_conf_key){
        .section = row->section, .name = row->name, .help = row->help, .live = row->when == CMQ_CONF_LIVE};
    (void)snprintf(ret_key->preset, sizeof ret_key->preset, "%s", cmq_conf_preset(&low, row));
    switch (row->kind) {
    case CMQ_CONF_U64:
        (void)snprintf(ret_key->allowed, sizeof ret_key->allowed, "%s to %s%s%s",
                       cmq_conf_number(&low, row->min, row->unit),
                       cmq_conf_number(&high, row->max, row->unit), row->unit[0] == '\0' ? "" : " ",
                       row->unit);
        break;
    case CMQ_CONF_TEXT:
        (void)snprintf(ret_key->allowed, sizeof ret_key->allowed, "text, at most %zu characters",
                       row->bytes_max);
        break;
    case CMQ_CONF_WORD:
        put_words(ret_key->allowed, sizeof ret_key->allowed, row->words);
        break;
    }
    return true;
}

void cmq_conf_print_sample(FILE *out)
{
    struct cmq_conf_key key;
    const char *section = "";
    (void)fputs(
        "# CipherMQ settings. Lines that begin with '#' are comments; every key is shown with its default.\n"
        "# Sizes may end in K, M, G (powers of 1024), times in us, ms, s, m.\n",
        out);
    for (size_t i = 0; cmq_conf_key(i, &key); i++) {
        if (strcmp(section, key.section) != 0) {
            section = key.section;
            (void)fprintf(out, "\n[%s]\n", section);
        }
        (void)fprintf(out, "# %s (%s%s)\n#%s = %s\n", key.help, key.allowed, key.live ? "; SIGHUP" : "",
                      key.name, key.preset);
    }
}

const char *cmq_conf_rules(void)
{
    return "All stages read one file, `/etc/ciphermq/ciphermq.conf` unless `--config FILE` names another. "
           "Without a file the defaults hold. `--set section.key=value` comes after the file; of several for "
           "one key the "
           "last one counts.\n\n"
           "- `[section]`, then `key = value` lines. A line that begins with `#` or `;` is a comment; a "
           "blank "
           "and `;` "
           "begin one behind a value.\n"
           "- Sizes may end in K, M, G (powers of 1024), times in us, ms, s, m. Without an end the unit of "
           "the "
           "table "
           "holds.\n"
           "- An unknown section or key, a key set twice, and a value outside its range are errors: the "
           "stage "
           "exits with "
           "78 and names file, line, and what is allowed. `--check` only looks.\n"
           "- Keys marked \"SIGHUP\" are taken by a running stage when it gets that signal. If any other key "
           "has "
           "changed, nothing is taken, and the log says which one.\n\n"
           "Rules that span several keys:\n\n"
           "- `ring.slots` is a power of two.\n"
           "- `ingest.message_bytes_max` is at most `ingest.request_bytes_max`.\n"
           "- Each `arena_bytes` is a multiple of 4K and holds 8 of the largest records that "
           "`ingest.request_bytes_max` "
           "allows.\n"
           "- `listen` is an IP address: any with TLS (`tls.cert_file`, `tls.key_file`) and tokens "
           "(`tokens.file`), else a loopback one.\n"
           "- `tls.cert_file` and `tls.key_file` are set both or none. `tls.client_cert = optional` and "
           "`required` need them and `tls.client_ca_file`, which is not set otherwise. The three files are "
           "read "
           "again on SIGHUP, and when they change.\n"
           "- `ingest` and `dispatcher` do not share one address and port.\n"
           "- `log.segment_bytes` holds the largest record, and `log.retention_bytes` (`log.memory_bytes` "
           "with "
           "`store = memory`) two segments.\n"
           "- `dispatcher.dead_arena_bytes` is a multiple of 4K and holds 2 of the largest records.\n"
           "- With `log.sync = interval`, `ingest.durable_wait_ms` is more than `log.sync_ms`. With `sync = "
           "none` and "
           "with `store = memory` nothing is durable: a request that asks for it is told `accepted`.\n"
           "- `dispatcher.credit` is at most `dispatcher.max_ack_pending`.\n"
           "- Paths begin with `/`; the two `kek_file` settings name two files; `log.dir`, "
           "`encryptor.idempotency_dir` and `dispatcher.groups_dir` are three directories.\n"
           "- `common.instance` has letters, digits, `_` and `-` only.\n";
}

void cmq_conf_print_reference(FILE *out)
{
    struct cmq_conf_key key;
    const char *section = "";
    (void)fprintf(out,
                  "# Settings\n\n"
                  "This page is written by `ciphermqctl config --reference`; a test compares the two. "
                  "`ciphermqctl config --sample` prints a file to start from.\n\n%s",
                  cmq_conf_rules());
    for (size_t i = 0; cmq_conf_key(i, &key); i++) {
        if (strcmp(section, key.section) != 0) {
            section = key.section;
            (void)fprintf(
                out, "\n## [%s]\n\n| Key | Default | Allowed | Read | Meaning |\n|---|---|---|---|---|\n",
                section);
        }
        (void)fprintf(out, "| `%s` | `%s` | %s | %s | %s |\n", key.name, key.preset, key.allowed,
                      key.live ? "start, SIGHUP" : "start", key.help);
    }
}
