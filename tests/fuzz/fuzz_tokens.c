/*
 * Bytes -> the file of tokens, and a pattern that is asked for. Up to the first NUL: a file. Behind it: `pattern NUL topic`.
 * A line that is taken is written back as a line that says the same; a right that covers a pattern matches its topics.
 */
#include <string.h>

#include "common/auth/cmq_auth_scope.h"
#include "common/auth/cmq_auth_table.h"
#include "common/wire/cmq_topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct question {
    struct cmq_span pattern, topic; /* checked, or bytes 0 */
    const struct cmq_auth_table *table;
};

static bool same_span(struct cmq_span a, struct cmq_span b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

static void check_again(const struct cmq_token_line *line)
{
    struct cmq_buf buf;
    struct cmq_token_line again;
    cmq_buf_init(&buf, 1u << 20);
    cmq_assert(cmq_token_line_format(line, &buf) == CMQ_OK);
    cmq_assert(cmq_token_line_parse(cmq_span_make(buf.data, buf.bytes - 1), &again, NULL) == CMQ_OK);
    cmq_assert(line->kind == again.kind && line->admin == again.admin && same_span(line->name, again.name));
    cmq_assert(line->created_ms == again.created_ms && line->expires_ms == again.expires_ms);
    cmq_assert(line->messages_rate == again.messages_rate && line->bytes_rate == again.bytes_rate);
    cmq_assert(memcmp(line->digest, again.digest, sizeof line->digest) == 0);
    cmq_assert(strcmp(line->subject, again.subject) == 0 && strlen(line->subject) == line->subject_bytes);
    for (unsigned i = 0; i < CMQ_TOKEN_SCOPES; i++)
        cmq_assert(same_span(line->scopes[i], again.scopes[i]));
    cmq_buf_fini(&buf);
}

static bool matches_any(struct cmq_span scope, struct cmq_span topic)
{
    for (size_t begin = 0, end = 0; begin < scope.bytes; begin = end + 1) {
        for (end = begin; end < scope.bytes && scope.data[end] != ',';)
            end++;
        if (cmq_topic_matches(cmq_span_make(scope.data + begin, end - begin), topic))
            return true;
    }
    return false;
}

static enum cmq_err check_line(void *context, size_t number, struct cmq_span raw,
                               const struct cmq_token_line *line, struct cmq_reason *reason)
{
    (void)number, (void)raw, (void)reason;
    const struct question *question = context;
    uint8_t key[CMQ_AUTH_KEY_BYTES];
    check_again(line);
    if (line->kind == CMQ_TOKEN_BEARER)
        memcpy(key, line->digest, sizeof key);
    else
        cmq_auth_key_of_subject(cmq_span_make(line->subject, line->subject_bytes), key);
    const struct cmq_auth_entry *entry = cmq_auth_table_find(question->table, line->kind, key);
    cmq_assert(entry != NULL && entry->expires_ms == line->expires_ms);
    for (unsigned i = 0; question->pattern.bytes != 0 && i < CMQ_TOKEN_SCOPES; i++) {
        const bool covered = cmq_auth_scope_covers(entry->scopes[i], question->pattern);
        if (covered && question->topic.bytes != 0 && cmq_topic_matches(question->pattern, question->topic))
            cmq_assert(matches_any(entry->scopes[i], question->topic));
    }
    return CMQ_OK;
}

/* The bytes up to the next NUL, which goes, too. */
static struct cmq_span cut(struct cmq_span *rest)
{
    const uint8_t *end = rest->bytes == 0 ? NULL : memchr(rest->data, '\0', rest->bytes);
    const struct cmq_span part =
        cmq_span_make(rest->data, end == NULL ? rest->bytes : (size_t)(end - rest->data));
    *rest = end == NULL ? (struct cmq_span){0} : cmq_span_make(end + 1, rest->bytes - part.bytes - 1);
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct cmq_auth_table *table = NULL, *next = NULL;
    struct cmq_reason reason;
    uint8_t *exact = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(exact != NULL);
    if (bytes != 0)
        memcpy(exact, data, bytes);
    struct cmq_span rest = cmq_span_make(exact, bytes);
    const struct cmq_span file = cut(&rest);
    struct question question = {.pattern = cut(&rest)};
    question.topic = cut(&rest);
    if (cmq_topic_pattern_check(question.pattern, NULL) != CMQ_OK)
        question.pattern = (struct cmq_span){0};
    if (cmq_topic_check(question.topic, true, NULL) != CMQ_OK)
        question.topic = (struct cmq_span){0};
    if (cmq_auth_table_new("f", file, NULL, &table, &reason) == CMQ_OK) {
        question.table = table;
        cmq_assert(cmq_token_file_walk("f", file, check_line, &question, &reason) == CMQ_OK);
        /* The same file again: the same entries. */
        cmq_assert(cmq_auth_table_new("f", file, table, &next, &reason) == CMQ_OK);
        question.table = next;
        cmq_auth_table_retire(table, next);
        cmq_auth_table_free(table);
        cmq_assert(cmq_token_file_walk("f", file, check_line, &question, &reason) == CMQ_OK);
        cmq_auth_table_free(next);
    }
    free(exact);
    return 0;
}
