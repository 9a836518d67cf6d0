/* token create, list, revoke: the file of tokens.file. Running stages see a change by themselves. */
#include "ctl_token.h"

#include <string.h>

#include "common/auth/cmq_token_file.h"
#include "common/base/cmq_clock.h"
#include "common/proc/cmq_tls_files.h"

enum { SCOPE_BYTES_MAX = CMQ_AUTH_PATTERNS_MAX * 256 };

static struct cmq_span text_span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

/* What the stages would never find in a certificate is refused here, where somebody reads it. */
static enum cmq_err take_subject(const char *option, const char *subject, struct cmq_token_line *line,
                                 struct cmq_reason *reason)
{
    const size_t bytes = strlen(subject);
    if (bytes > CMQ_TOKEN_SUBJECT_BYTES_MAX || !cmq_tls_name_is_plain(subject, bytes))
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "%s: 1 to %u printable ASCII characters are allowed, without , + \" \\ < > ; = # and "
            "without blanks at the ends; others are no name in a certificate",
            option, CMQ_TOKEN_SUBJECT_BYTES_MAX);
    memcpy(line->subject, subject, bytes + 1);
    line->subject_bytes = bytes;
    return CMQ_OK;
}

/* Everything but the digest. memory: of the scopes. */
static enum cmq_err take_options(const struct ctl *ctl, struct cmq_buf memory[CMQ_TOKEN_SCOPES],
                                 struct cmq_token_line *line, struct cmq_reason *reason)
{
    const struct ctl_token_options *options = &ctl->token;
    line->name = text_span(ctl->words[1]);
    line->admin = options->admin;
    line->created_ms = cmq_clock_wall_ms();
    line->expires_ms = CMQ_TOKEN_NEVER;
    enum cmq_err err = cmq_token_name_check(line->name, reason);
    bool any = options->admin;
    for (unsigned i = 0; err == CMQ_OK && i < CMQ_TOKEN_SCOPES; i++) {
        err = ctl_token_scope(options, i, &memory[i], reason);
        line->scopes[i] = cmq_buf_span(&memory[i]);
        any = any || line->scopes[i].bytes > 0;
    }
    if (err == CMQ_OK && !any)
        err = cmq_reason_set(reason, CMQ_ERR_INVALID,
                             "give at least one right: --publish, --subscribe, --consume or --admin");
    if (err == CMQ_OK && options->expires != NULL)
        err = ctl_token_expiry(options->expires, line->created_ms, &line->expires_ms, reason);
    if (err == CMQ_OK && options->messages_rate != NULL)
        err = ctl_token_rate("--messages-rate", options->messages_rate, false, CMQ_TOKEN_MESSAGES_RATE_MAX,
                             &line->messages_rate, reason);
    if (err == CMQ_OK && options->bytes_rate != NULL)
        err = ctl_token_rate("--bytes-rate", options->bytes_rate, true, CMQ_TOKEN_BYTES_RATE_MAX,
                             &line->bytes_rate, reason);
    if (err == CMQ_OK && options->certificate != NULL && options->bound_to != NULL)
        err = cmq_reason_set(reason, CMQ_ERR_INVALID,
                             "--certificate makes no token that --bound-to could bind: give one of them");
    if (err == CMQ_OK && options->certificate != NULL) {
        line->kind = CMQ_TOKEN_CERTIFICATE;
        err = take_subject("--certificate", options->certificate, line, reason);
    }
    if (err == CMQ_OK && options->bound_to != NULL)
        err = take_subject("--bound-to", options->bound_to, line, reason);
    return err;
}

/* The token goes to stdout alone, so that a script can take it; what a person should know goes beside it. */
static void print_made(const struct ctl *ctl, const struct cmq_token_line *line, const char *token)
{
    if (ctl->json) {
        ctl_token_print_json(line, token, line->created_ms);
        (void)printf("\n");
        return;
    }
    if (token == NULL) {
        (void)printf("%s: certificates of \"%s\" have these rights now\n", ctl->words[1],
                     ctl->token.certificate);
        return;
    }
    (void)printf("%s\n", token);
    (void)fflush(stdout);
    (void)fprintf(
        stderr, "Keep it: it is not stored and not shown again. Send it as \"Authorization: Bearer ...\"%s\n",
        line->expires_ms == CMQ_TOKEN_NEVER ? ". It never expires." : ".");
}

static enum cmq_err create(struct ctl *ctl, struct cmq_reason *reason)
{
    char token[CMQ_TOKEN_BYTES + 1] = "";
    struct cmq_token_line line = {0};
    struct cmq_buf memory[CMQ_TOKEN_SCOPES];
    for (unsigned i = 0; i < CMQ_TOKEN_SCOPES; i++)
        cmq_buf_init(&memory[i], SCOPE_BYTES_MAX);
    enum cmq_err err = take_options(ctl, memory, &line, reason);
    const bool bearer = line.kind == CMQ_TOKEN_BEARER;
    if (err == CMQ_OK && bearer && (err = cmq_token_make(token, line.digest)) != CMQ_OK)
        err = cmq_reason_set(reason, err, "the kernel gives no random bytes");
    if (err == CMQ_OK)
        err = cmq_token_file_add(ctl->conf.tokens_file, &line, reason);
    if (err == CMQ_OK)
        print_made(ctl, &line, bearer ? token : NULL);
    explicit_bzero(token, sizeof token);
    for (unsigned i = 0; i < CMQ_TOKEN_SCOPES; i++)
        cmq_buf_fini(&memory[i]);
    return err;
}

struct listing {
    bool json;
    size_t count;
    uint64_t now_ms;
};

static enum cmq_err list_line(void *context, size_t number, struct cmq_span raw,
                              const struct cmq_token_line *line, struct cmq_reason *reason)
{
    (void)number, (void)raw, (void)reason;
    struct listing *listing = context;
    if (listing->json) {
        (void)printf("%s", listing->count == 0 ? "" : ",\n");
        ctl_token_print_json(line, NULL, listing->now_ms);
    } else {
        ctl_token_print_row(line, listing->now_ms);
    }
    listing->count++;
    return CMQ_OK;
}

static enum cmq_err list(struct ctl *ctl, struct cmq_reason *reason)
{
    struct listing listing = {.json = ctl->json, .now_ms = cmq_clock_wall_ms()};
    struct cmq_buf content;
    enum cmq_err err = cmq_token_file_load(ctl->conf.tokens_file, &content, reason);
    if (err != CMQ_OK && err != CMQ_ERR_NOT_FOUND)
        return err;
    if (ctl->json)
        (void)printf("[\n");
    else
        ctl_token_print_head();
    err = cmq_token_file_walk(ctl->conf.tokens_file, cmq_buf_span(&content), list_line, &listing, reason);
    if (ctl->json)
        (void)printf("%s]\n", listing.count == 0 ? "" : "\n");
    cmq_buf_fini(&content);
    return err;
}

static enum cmq_err revoke(struct ctl *ctl, struct cmq_reason *reason)
{
    const struct cmq_span name = text_span(ctl->words[1]);
    enum cmq_err err = cmq_token_name_check(name, reason);
    if (err == CMQ_OK)
        err = cmq_token_file_remove(ctl->conf.tokens_file, name, reason);
    if (err != CMQ_OK)
        return err;
    (void)printf(ctl->json
                     ? "{\"name\":\"%s\",\"revoked\":true}\n"
                     : "%s: revoked; running stages refuse it within two seconds, and end its connections\n",
                 ctl->words[1]);
    return CMQ_OK;
}

int ctl_token(struct ctl *ctl)
{
    static const struct {
        const char *name;
        unsigned words;
        enum cmq_err (*run)(struct ctl *ctl, struct cmq_reason *reason);
    } actions[] = {{"create", 2, create}, {"list", 1, list}, {"revoke", 2, revoke}};
    struct cmq_reason reason = {{0}};
    for (size_t i = 0; i < CMQ_COUNT_OF(actions); i++) {
        if (strcmp(ctl->words[0], actions[i].name) != 0 || ctl->word_count != actions[i].words)
            continue;
        if (ctl->conf.tokens_file[0] == '\0')
            return ctl_fail(
                CMQ_EXIT_CONFIG,
                "tokens are off: name their file in the configuration, section [tokens], for example "
                "`file = /etc/ciphermq/tokens`, and restart ingest and dispatcher");
        const enum cmq_err err = actions[i].run(ctl, &reason);
        if (err == CMQ_ERR_EXISTS) /* waiting does not help */
            return ctl_fail(CMQ_EXIT_CONFIG, "%s", reason.text);
        return err == CMQ_OK ? CMQ_EXIT_OK : ctl_fail_err(err, &reason);
    }
    return ctl_fail(CMQ_EXIT_USAGE,
                    "usage: ciphermqctl token create NAME RIGHT... | token list | token revoke NAME");
}
