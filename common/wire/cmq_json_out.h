/*
 * cmq_json_out: JSON strings for frames and replies (RFC 8259, section 7).
 * Ownership: writes to the caller's memory.
 * Units: bytes.
 * Errors: none; the caller gives enough room.
 * Callers: any thread.
 *
 * Escaped: quote, backslash, and U+0000..U+001F (short forms where JSON has them). All else is copied, so UTF-8 stays
 * UTF-8. Input must be valid UTF-8 for the output to be JSON: ingest has checked it.
 */
#ifndef CMQ_JSON_OUT_H
#define CMQ_JSON_OUT_H

#include "common/base/cmq_base.h"

/* Room that `bytes` input bytes may need, both quotes included. */
static inline size_t cmq_json_string_bytes_max(size_t bytes)
{
    return bytes * 6u + 2u;
}
/* Writes the quoted string; returns bytes written. Fast for text that needs no escape. dst must have
 * cmq_json_string_bytes_max(text.bytes) bytes. */
size_t cmq_json_write_string(uint8_t *dst, struct cmq_span text);

#endif
