#include "common/auth/cmq_token_line.h"

#include <inttypes.h>
#include <string.h>

#include "common/wire/cmq_topic.h"

const char *const cmq_token_scope_names[CMQ_TOKEN_SCOPES] = {
    [CMQ_RIGHT_PUBLISH] = "publish", [CMQ_RIGHT_SUBSCRIBE] = "subscribe", [CMQ_RIGHT_CONSUME] = "consume"};

enum field_key {
    FIELD_SHA256,
    FIELD_SUBJECT,
    FIELD_CREATED,
    FIELD_EXPIRES,
    FIELD_PUBLISH,
    FIELD_SUBSCRIBE,
    FIELD_CONSUME,
    FIELD_ADMIN,
    FIELD_MESSAGES,
    FIELD_BYTES,
    FIELD_COUNT
};

/* With the colon, where a value follows. */
static const char *const field_names[FIELD_COUNT] = {
    [FIELD_SHA256] = "sha256:",   [FIELD_SUBJECT] = "subject:", [FIELD_CREATED] = "created:",
    [FIELD_EXPIRES] = "expires:", [FIELD_PUBLISH] = "publish:", [FIELD_SUBSCRIBE] = "subscribe:",
    [FIELD_CONSUME] = "consume:", [FIELD_ADMIN] = "admin",      [FIELD_MESSAGES] = "messages:",
    [FIELD_BYTES] = "bytes:",
};

static bool span_is(struct cmq_span span, const char *text)
{
    return span.bytes == strlen(text) && memcmp(span.data, text, span.bytes) == 0;
}

static bool is_name_byte(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '.' || byte == '_' || byte == '-';
}

enum cmq_err cmq_token_name_check(struct cmq_span name, struct cmq_reason *reason)
{
    bool good = name.bytes >= 1 && name.bytes <= CMQ_AUTH_NAME_BYTES_MAX;
    for (size_t i = 0; good && i < name.bytes; i++)
        good = is_name_byte(name.data[i]);
    return good ? CMQ_OK
                : cmq_reason_set(reason, CMQ_ERR_MALFORMED, "a name has 1 to %u of A-Z a-z 0-9 . _ -",
                                 CMQ_AUTH_NAME_BYTES_MAX);
}

enum cmq_err cmq_token_scope_check(struct cmq_span scope, struct cmq_reason *reason)
{
    for (unsigned count = 1;; count++) {
        struct cmq_reason flaw = {{0}};
        const uint8_t *comma = scope.bytes == 0 ? NULL : memchr(scope.data, ',', scope.bytes);
        const size_t bytes = comma == NULL ? scope.bytes : (size_t)(comma - scope.data);
        if (count > CMQ_AUTH_PATTERNS_MAX)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "one right has at most %u patterns",
                                  CMQ_AUTH_PATTERNS_MAX);
        if (cmq_topic_pattern_check(cmq_span_make(scope.data, bytes), &flaw) != CMQ_OK)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%u. pattern: %s", count, flaw.text);
        if (comma == NULL)
            return CMQ_OK;
        scope = cmq_span_make(comma + 1, scope.bytes - bytes - 1);
    }
}

/* Digits only, no leading zero: there is one spelling of a number. */
static bool parse_number(struct cmq_span text, uint64_t least, uint64_t most, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (text.bytes == 0 || text.bytes > 19 || (text.data[0] == '0' && text.bytes > 1))
        return false;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (number < least || number > most)
        return false;
    *ret_number = number;
    return true;
}

/* -1: none. upper: whether A-F are taken, or else a-f. */
static int hex_value(uint8_t digit, bool upper)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    const uint8_t ten = upper ? 'A' : 'a';
    return digit >= ten && digit < ten + 6 ? digit - ten + 10 : -1;
}

static bool parse_digest(struct cmq_span text, uint8_t ret_digest[CMQ_TOKEN_DIGEST_BYTES])
{
    if (text.bytes != 2 * CMQ_TOKEN_DIGEST_BYTES)
        return false;
    for (size_t i = 0; i < CMQ_TOKEN_DIGEST_BYTES; i++) {
        const int high = hex_value(text.data[2 * i], false), low = hex_value(text.data[2 * i + 1], false);
        if (high < 0 || low < 0)
            return false;
        ret_digest[i] = (uint8_t)(16 * high + low);
    }
    return true;
}

/* What stands for itself in a subject; the rest is %XX (RFC 3986, section 2.1). */
static bool is_subject_byte(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f && byte != '%';
}

static bool parse_subject(struct cmq_span text, struct cmq_token_line *line)
{
    size_t bytes = 0;
    for (size_t i = 0; i < text.bytes; bytes++) {
        if (bytes == CMQ_TOKEN_SUBJECT_BYTES_MAX)
            return false;
        uint8_t byte = text.data[i];
        if (is_subject_byte(byte)) {
            i++;
        } else {
            if (byte != '%' || text.bytes - i < 3)
                return false;
            const int high = hex_value(text.data[i + 1], true), low = hex_value(text.data[i + 2], true);
            if (high < 0 || low < 0)
                return false;
            byte = (uint8_t)(16 * high + low);
            if (is_subject_byte(byte) || byte == 0)
                return false;
            i += 3;
        }
        line->subject[bytes] = (char)byte;
    }
    line->subject[bytes] = '\0';
    line->subject_bytes = bytes;
    return bytes > 0;
}

/* NULL: fine, else what is allowed. */
static const char *parse_value(struct cmq_token_line *line, enum field_key key, struct cmq_span value)
{
    switch (key) {
    case FIELD_SHA256:
        return parse_digest(value, line->digest) ? NULL : "is 64 digits of 0-9 a-f";
    case FIELD_SUBJECT:
        return parse_subject(value, line)
                   ? NULL
                   : "is 1 to 253 bytes, where blanks, % and what is not printable are %XX";
    case FIELD_CREATED:
        return parse_number(value, 0, CMQ_TOKEN_TIME_MS_MAX, &line->created_ms)
                   ? NULL
                   : "is a number of milliseconds since 1970";
    case FIELD_EXPIRES:
        if (span_is(value, "never")) {
            line->expires_ms = CMQ_TOKEN_NEVER;
            return NULL;
        }
        return parse_number(value, 0, CMQ_TOKEN_TIME_MS_MAX, &line->expires_ms)
                   ? NULL
                   : "is a number of milliseconds since 1970, or never";
    case FIELD_PUBLISH:
    case FIELD_SUBSCRIBE:
    case FIELD_CONSUME:
        line->scopes[key - FIELD_PUBLISH + CMQ_RIGHT_PUBLISH] = value;
        return NULL; /* checked where there is a sentence */
    case FIELD_ADMIN:
        line->admin = true;
        return NULL;
    case FIELD_MESSAGES:
        return parse_number(value, 1, CMQ_TOKEN_MESSAGES_RATE_MAX, &line->messages_rate)
                   ? NULL
                   : "is a number from 1 to 1000000000";
    case FIELD_BYTES:
        return parse_number(value, 1, CMQ_TOKEN_BYTES_RATE_MAX, &line->bytes_rate)
                   ? NULL
                   : "is a number from 1 to 1099511627776";
    case FIELD_COUNT:
        break;
    }
    return "is not known";
}

static enum field_key find_field(struct cmq_span word)
{
    unsigned key = 0;
    for (; key < FIELD_COUNT; key++) {
        const size_t bytes = strlen(field_names[key]);
        if (key == FIELD_ADMIN ? span_is(word, field_names[key])
                               : word.bytes >= bytes && memcmp(word.data, field_names[key], bytes) == 0)
            break;
    }
    return (enum field_key)key;
}

static enum cmq_err parse_field(struct cmq_token_line *line, struct cmq_span word, unsigned number,
                                uint32_t *seen, struct cmq_reason *reason)
{
    const enum field_key key = find_field(word);
    if (key == FIELD_COUNT)
        return cmq_reason_set(
            reason, CMQ_ERR_MALFORMED,
            "field %u is none of sha256: subject: created: expires: publish: subscribe: consume: "
            "admin messages: bytes: (one blank between fields)",
            number);
    if ((*seen & 1u << key) != 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s is there twice", field_names[key]);
    *seen |= 1u << key;
    const size_t bytes = strlen(field_names[key]);
    const struct cmq_span value = cmq_span_make(word.data + bytes, word.bytes - bytes);
    const char *const wrong = parse_value(line, key, value);
    if (wrong != NULL)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s %s", field_names[key], wrong);
    struct cmq_reason flaw = {{0}};
    if (key >= FIELD_PUBLISH && key <= FIELD_CONSUME && cmq_token_scope_check(value, &flaw) != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s %s", field_names[key], flaw.text);
    return CMQ_OK;
}

static enum cmq_err check_whole(const struct cmq_token_line *line, uint32_t seen, struct cmq_reason *reason)
{
    const enum field_key needed[] = {line->kind == CMQ_TOKEN_BEARER ? FIELD_SHA256 : FIELD_SUBJECT,
                                     FIELD_CREATED, FIELD_EXPIRES};
    for (size_t i = 0; i < CMQ_COUNT_OF(needed); i++) {
        if ((seen & 1u << needed[i]) == 0)
            return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s is missing", field_names[needed[i]]);
    }
    if (line->kind == CMQ_TOKEN_CERTIFICATE && (seen & 1u << FIELD_SHA256) != 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                              "sha256: does not belong to a line that begins with cert");
    const uint32_t rights =
        1u << FIELD_PUBLISH | 1u << FIELD_SUBSCRIBE | 1u << FIELD_CONSUME | 1u << FIELD_ADMIN;
    if ((seen & rights) == 0)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                              "there is no right: give publish: subscribe: consume: or admin");
    return CMQ_OK;
}

/* The bytes up to the next blank, which is taken, too. */
static struct cmq_span next_word(struct cmq_span *rest)
{
    const uint8_t *blank = rest->bytes == 0 ? NULL : memchr(rest->data, ' ', rest->bytes);
    struct cmq_span word = *rest;
    if (blank == NULL) {
        *rest = (struct cmq_span){0};
        return word;
    }
    word.bytes = (size_t)(blank - rest->data);
    *rest = cmq_span_make(blank + 1, rest->bytes - word.bytes - 1);
    return word;
}

enum cmq_err cmq_token_line_parse(struct cmq_span text, struct cmq_token_line *ret_line,
                                  struct cmq_reason *reason)
{
    struct cmq_token_line line = {0};
    struct cmq_span rest = text;
    const struct cmq_span kind = next_word(&rest);
    if (!span_is(kind, "token") && !span_is(kind, "cert"))
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                              "a line begins with \"token \", \"cert \" or \"#\", without blanks before");
    line.kind = kind.bytes == 5 ? CMQ_TOKEN_BEARER : CMQ_TOKEN_CERTIFICATE;
    line.name = next_word(&rest);
    enum cmq_err err = cmq_token_name_check(line.name, reason);
    uint32_t seen = 0;
    /* A blank at the end leaves a last field that is empty, and refused. */
    bool more = rest.data != NULL;
    for (unsigned number = 3; err == CMQ_OK && more; number++) {
        const struct cmq_span word = next_word(&rest);
        more = rest.data != NULL;
        err = parse_field(&line, word, number, &seen, reason);
    }
    if (err == CMQ_OK)
        err = check_whole(&line, seen, reason);
    if (err == CMQ_OK)
        *ret_line = line;
    return err;
}

static enum cmq_err put_text(struct cmq_buf *buf, const char *text)
{
    return cmq_buf_append(buf, text, strlen(text));
}

static enum cmq_err put_number(struct cmq_buf *buf, enum field_key key, uint64_t number)
{
    char text[48];
    (void)snprintf(text, sizeof text, " %s%" PRIu64, field_names[key], number);
    return put_text(buf, text);
}

static enum cmq_err put_digest(struct cmq_buf *buf, const uint8_t digest[CMQ_TOKEN_DIGEST_BYTES])
{
    char text[2 * CMQ_TOKEN_DIGEST_BYTES + 1];
    for (size_t i = 0; i < CMQ_TOKEN_DIGEST_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    enum cmq_err err = put_text(buf, " sha256:");
    return err == CMQ_OK ? put_text(buf, text) : err;
}

static enum cmq_err put_subject(struct cmq_buf *buf, const struct cmq_token_line *line)
{
    enum cmq_err err = put_text(buf, " subject:");
    for (size_t i = 0; err == CMQ_OK && i < line->subject_bytes; i++) {
        char text[4];
        const uint8_t byte = (uint8_t)line->subject[i];
        (void)snprintf(text, sizeof text, is_subject_byte(byte) ? "%c" : "%%%02X", byte);
        err = put_text(buf, text);
    }
    return err;
}

static enum cmq_err put_scopes(struct cmq_buf *buf, const struct cmq_token_line *line)
{
    enum cmq_err err = CMQ_OK;
    for (unsigned i = 0; err == CMQ_OK && i < CMQ_TOKEN_SCOPES; i++) {
        if (line->scopes[i].bytes == 0)
            continue;
        err = put_text(buf, " ");
        if (err == CMQ_OK)
            err = put_text(buf, field_names[FIELD_PUBLISH + i]);
        if (err == CMQ_OK)
            err = cmq_buf_append(buf, line->scopes[i].data, line->scopes[i].bytes);
    }
    return err;
}

enum cmq_err cmq_token_line_format(const struct cmq_token_line *line, struct cmq_buf *buf)
{
    enum cmq_err err = put_text(buf, line->kind == CMQ_TOKEN_BEARER ? "token " : "cert ");
    if (err == CMQ_OK)
        err = cmq_buf_append(buf, line->name.data, line->name.bytes);
    if (err == CMQ_OK)
        err = line->kind == CMQ_TOKEN_BEARER ? put_digest(buf, line->digest) : CMQ_OK;
    if (err == CMQ_OK && line->subject_bytes > 0)
        err = put_subject(buf, line);
    if (err == CMQ_OK)
        err = put_number(buf, FIELD_CREATED, line->created_ms);
    if (err == CMQ_OK)
        err = line->expires_ms == CMQ_TOKEN_NEVER ? put_text(buf, " expires:never")
                                                  : put_number(buf, FIELD_EXPIRES, line->expires_ms);
    if (err == CMQ_OK)
        err = put_scopes(buf, line);
    if (err == CMQ_OK && line->admin)
        err = put_text(buf, " admin");
    if (err == CMQ_OK && line->messages_rate != 0)
        err = put_number(buf, FIELD_MESSAGES, line->messages_rate);
    if (err == CMQ_OK && line->bytes_rate != 0)
        err = put_number(buf, FIELD_BYTES, line->bytes_rate);
    return err == CMQ_OK ? put_text(buf, "\n") : err;
}
