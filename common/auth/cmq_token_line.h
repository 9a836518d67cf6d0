/*
 * cmq_token_line: one line of the file of tokens: text -> fields, fields -> text.
 * Ownership: a parsed line borrows from its text.
 * Units: bytes; milliseconds since 1970; messages and bytes a second.
 * Errors: CMQ_ERR_MALFORMED with a sentence that names field and place, never a value: somebody may have put a token there.
 * Callers: any thread; no state. Private to common/auth and ciphermqctl.
 */
#ifndef CMQ_TOKEN_LINE_H
#define CMQ_TOKEN_LINE_H

#include "common/auth/cmq_auth.h"
#include "common/base/cmq_buf.h"

#define CMQ_TOKEN_DIGEST_BYTES      32u
#define CMQ_TOKEN_SUBJECT_BYTES_MAX 253u /* of a DNS name; a common name has 64 at most */
#define CMQ_TOKEN_NEVER             UINT64_MAX
#define CMQ_TOKEN_TIME_MS_MAX       253402300799999ull /* the last of the year 9999 */
#define CMQ_TOKEN_SCOPES            3u                 /* rights with patterns; index: enum cmq_right */
#define CMQ_TOKEN_MESSAGES_RATE_MAX 1000000000ull
#define CMQ_TOKEN_BYTES_RATE_MAX    (1ull << 40)

enum cmq_token_kind { CMQ_TOKEN_BEARER, CMQ_TOKEN_CERTIFICATE };

struct cmq_token_line {
    enum cmq_token_kind kind;
    bool admin;
    struct cmq_span name;
    uint8_t digest[CMQ_TOKEN_DIGEST_BYTES]; /* of a bearer token */
    char subject[CMQ_TOKEN_SUBJECT_BYTES_MAX + 1];
    size_t subject_bytes; /* of a certificate, or of the one that a bearer token is bound to; 0: to none */
    uint64_t created_ms, expires_ms;
    struct cmq_span scopes[CMQ_TOKEN_SCOPES]; /* patterns with commas between; bytes 0: no such right */
    uint64_t messages_rate, bytes_rate;       /* 0: the general limit */
};

/* text: without its newline, neither empty nor a comment. */
CMQ_MUST_USE enum cmq_err cmq_token_line_parse(struct cmq_span text, struct cmq_token_line *ret_line,
                                               struct cmq_reason *reason);
/* Appends the line and its newline. What it writes can be parsed if the fields pass the checks below. */
CMQ_MUST_USE enum cmq_err cmq_token_line_format(const struct cmq_token_line *line, struct cmq_buf *buf);

/* 1 to CMQ_AUTH_NAME_BYTES_MAX of A-Z a-z 0-9 . _ - */
CMQ_MUST_USE enum cmq_err cmq_token_name_check(struct cmq_span name, struct cmq_reason *reason);
/* 1 to CMQ_AUTH_PATTERNS_MAX patterns with commas between. */
CMQ_MUST_USE enum cmq_err cmq_token_scope_check(struct cmq_span scope, struct cmq_reason *reason);

extern const char *const cmq_token_scope_names[CMQ_TOKEN_SCOPES];

#endif
