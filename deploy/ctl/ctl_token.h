/*
 * ctl_token: what `ciphermqctl token` reads and prints.
 * Ownership: borrows; a buffer is the caller's.
 * Units: milliseconds since 1970; messages and bytes a second.
 * Errors: CMQ_ERR_INVALID with a sentence that names the option and what is allowed.
 * Callers: the only thread.
 */
#ifndef CTL_TOKEN_H
#define CTL_TOKEN_H

#include "common/auth/cmq_token_line.h"
#include "ctl.h"

/* 30m 12h 90d 52w from now, YYYY-MM-DD, YYYY-MM-DDTHH:MM:SSZ, never. The past is refused. */
CMQ_MUST_USE enum cmq_err ctl_token_expiry(const char *text, uint64_t now_ms, uint64_t *ret_expires_ms,
                                           struct cmq_reason *reason);
/* 1 to max; with units: may end in K, M, G (powers of 1024). option: for the sentence. */
CMQ_MUST_USE enum cmq_err ctl_token_rate(const char *option, const char *text, bool units, uint64_t max,
                                         uint64_t *ret_rate, struct cmq_reason *reason);
/* Appends the options' patterns with commas between. */
CMQ_MUST_USE enum cmq_err ctl_token_scope(const struct ctl_token_options *options, unsigned right,
                                          struct cmq_buf *buf, struct cmq_reason *reason);

/* token: NULL, or what was made: shown this once. */
void ctl_token_print_json(const struct cmq_token_line *line, const char *token, uint64_t now_ms);
void ctl_token_print_head(void);
void ctl_token_print_row(const struct cmq_token_line *line, uint64_t now_ms);

#endif
