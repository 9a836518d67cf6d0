/*
 * ctl_json: what commands need of JSON: texts that are printed, and a walk over what the broker sent.
 * Ownership: spans point into the caller's text.
 * Units: bytes.
 * Errors: false: the text is not what it should be.
 * Callers: the only thread.
 */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <stdbool.h>
#include <stdio.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

/* The quoted string, at most 4096 bytes of it. */
void ctl_json_string(FILE *file, struct cmq_span text);

/* The value that the text begins with (blanks before it are passed), and what is behind it. Objects and arrays are found by
 * their brackets: what is in them is not looked at. */
CMQ_MUST_USE bool ctl_json_value(struct cmq_span text, struct cmq_span *ret_value, struct cmq_span *ret_rest);
/* The value of that member of an object; its name must need no escapes. */
CMQ_MUST_USE bool ctl_json_member(struct cmq_span object, const char *name, struct cmq_span *ret_value);
/* The next element of an array, of which *walk is what is left; begin with the array itself. */
CMQ_MUST_USE bool ctl_json_next(struct cmq_span *walk, struct cmq_span *ret_value);
/* A string's bytes between its quotes, if it has no escapes. */
CMQ_MUST_USE bool ctl_json_plain(struct cmq_span value, struct cmq_span *ret_text);

#endif
