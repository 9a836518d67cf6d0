/*
 * cmq_auth_scope: whether the patterns of a right cover a pattern that is asked for.
 * Ownership: borrows.
 * Units: none.
 * Errors: none; everything is checked before.
 * Callers: any thread; no state. Private to common/auth.
 *
 * Names of levels are without number, so a `*` can only be covered by a `*` or a `>` at its place, and a pattern without `>`
 * is covered by a list if one of the list covers it alone. One that ends in `>` stands for each number of levels behind it;
 * those may be covered by different patterns: `a.*` and `a.*.>` cover `a.>`.
 */
#ifndef CMQ_AUTH_SCOPE_H
#define CMQ_AUTH_SCOPE_H

#include "common/base/cmq_base.h"

/* Every topic that `inner` matches is matched by `outer` (as cmq_topic_matches has it). Both checked. */
bool cmq_auth_covers(struct cmq_span outer, struct cmq_span inner);
/* scope: checked patterns with commas between; bytes 0: none. */
bool cmq_auth_scope_covers(struct cmq_span scope, struct cmq_span inner);

#endif
