/* The sample file and the reference page. Everything about a key comes from the table. */
#include <string.h>

#include "common/conf/cmq_conf_int.h"

static void print_words(FILE *out, const char *words, const char *between)
{
    for (const char *at = words; *at != '\0';) {
        size_t bytes = strcspn(at, "|");
        (void)fprintf(out, "%.*s", (int)bytes, at);
        at += bytes;
        if (*at == '|') {
            (void)fputs(between, out);
            at++;
        }
    }
}

static void print_allowed(FILE *out, const struct cmq_conf_row *row)
{
    struct cmq_conf_number low, high;
    switch (row->kind) {
    case CMQ_CONF_U64:
        (void)fprintf(out, "%s to %s%s%s", cmq_conf_number(&low, row->min, row->unit),
                      cmq_conf_number(&high, row->max, row->unit), row->unit[0] == '\0' ? "" : " ",
                      row->unit);
        break;
    case CMQ_CONF_TEXT:
        (void)fprintf(out, "text, at most %zu characters", row->bytes_max);
        break;
    case CMQ_CONF_WORD:
        print_words(out, row->words, ", ");
        break;
    }
}

void cmq_conf_print_sample(FILE *out)
{
    struct cmq_conf_number number;
    const char *section = "";
    (void)fputs(
        "# CipherMQ settings. Lines that begin with '#' are comments; every key is shown with its default.\n"
        "# Sizes may end in K, M, G (powers of 1024), times in us, ms, s, m.\n",
        out);
    for (size_t i = 0; i < cmq_conf_row_count; i++) {
        const struct cmq_conf_row *row = &cmq_conf_rows[i];
        if (strcmp(section, row->section) != 0) {
            section = row->section;
            (void)fprintf(out, "\n[%s]\n", section);
        }
        (void)fprintf(out, "# %s (", row->help);
        print_allowed(out, row);
        (void)fprintf(out, "%s)\n#%s = %s\n", row->when == CMQ_CONF_LIVE ? "; SIGHUP" : "", row->name,
                      cmq_conf_preset(&number, row));
    }
}

static void print_preface(FILE *out)
{
    (void)fputs(
        "# Settings\n\n"
        "This page is written by `ciphermqctl config --reference`; a test compares the two. "
        "`ciphermqctl config --sample` prints a file to start from.\n\n"
        "All stages read one file, `/etc/ciphermq/ciphermq.conf` unless `--config FILE` names another. "
        "Without a file the defaults hold. `--set section.key=value` comes after the file; of several for "
        "one key the "
        "last one counts.\n\n"
        "- `[section]`, then `key = value` lines. A line that begins with `#` or `;` is a comment; a blank "
        "and `;` "
        "begin one behind a value.\n"
        "- Sizes may end in K, M, G (powers of 1024), times in us, ms, s, m. Without an end the unit of the "
        "table "
        "holds.\n"
        "- An unknown section or key, a key set twice, and a value outside its range are errors: the stage "
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
        "`required` need them and `tls.client_ca_file`, which is not set otherwise. The three files are read "
        "again on SIGHUP, and when they change.\n"
        "- `ingest` and `dispatcher` do not share one address and port.\n"
        "- `log.segment_bytes` holds the largest record, and `log.retention_bytes` (`log.memory_bytes` with "
        "`store = memory`) two segments.\n"
        "- `dispatcher.dead_arena_bytes` is a multiple of 4K and holds 2 of the largest records.\n"
        "- With `log.sync = interval`, `ingest.durable_wait_ms` is more than `log.sync_ms`. With `sync = "
        "none` and "
        "with `store = memory` nothing is durable: a request that asks for it is told `accepted`.\n"
        "- `dispatcher.credit` is at most `dispatcher.max_ack_pending`.\n"
        "- Paths begin with `/`; the two `kek_file` settings name two files; `log.dir`, "
        "`encryptor.idempotency_dir` and `dispatcher.groups_dir` are three directories.\n"
        "- `common.instance` has letters, digits, `_` and `-` only.\n",
        out);
}

void cmq_conf_print_reference(FILE *out)
{
    struct cmq_conf_number number;
    const char *section = "";
    print_preface(out);
    for (size_t i = 0; i < cmq_conf_row_count; i++) {
        const struct cmq_conf_row *row = &cmq_conf_rows[i];
        if (strcmp(section, row->section) != 0) {
            section = row->section;
            (void)fprintf(
                out, "\n## [%s]\n\n| Key | Default | Allowed | Read | Meaning |\n|---|---|---|---|---|\n",
                section);
        }
        (void)fprintf(out, "| `%s` | `%s` | ", row->name, cmq_conf_preset(&number, row));
        print_allowed(out, row);
        (void)fprintf(out, " | %s | %s |\n", row->when == CMQ_CONF_LIVE ? "start, SIGHUP" : "start",
                      row->help);
    }
}
