/*
 * cmq_id: names of messages, "<seq>-<index>", opaque and ordered for clients.
 * Ownership: caller's memory.
 * Units: seq 0..2^64-1, index 0..2^32-1; at most 31 characters.
 * Errors: CMQ_ERR_MALFORMED (also for leading zeros, signs, blanks, overflow).
 * Callers: any thread.
 */
#ifndef CMQ_ID_H
#define CMQ_ID_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

#define CMQ_ID_TEXT_BYTES 32u /* with the closing NUL */

struct cmq_id {
    uint64_t seq;
    uint32_t index;
};

/* Returns the length of the text. */
size_t cmq_id_format(char ret_text[CMQ_ID_TEXT_BYTES], struct cmq_id id);
CMQ_MUST_USE enum cmq_err cmq_id_parse(struct cmq_span text, struct cmq_id *ret_id);

#endif
