/*
 * cmq_headers: the headers that a message carries: a small set of names and values, and its packed form.
 * Ownership: a set borrows names and values; it is written to the caller's memory.
 * Units: bytes; a set's bytes are those of its names and values.
 * Errors: CMQ_ERR_MALFORMED (a rule of the name or value, or a name twice), CMQ_ERR_TOO_BIG (too many, too long), with a
 *         sentence that shows at most a good name; the set is then as before.
 * Callers: any thread; a set: one thread.
 *
 * A name is a token of RFC 9110 in lower case, 1..CMQ_HEADER_NAME_BYTES_MAX bytes. A value is UTF-8 without control
 * characters (U+0000..U+001F, U+007F) and may be empty. Packed, a set is a MessagePack map of str to str, as cmq_batch.h
 * has it.
 */
#ifndef CMQ_HEADERS_H
#define CMQ_HEADERS_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "common/base/cmq_reason.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CMQ_HEADERS_MAX           32u
#define CMQ_HEADERS_BYTES_MAX     16384u /* no set may have more, whatever its bytes_max */
#define CMQ_HEADER_NAME_BYTES_MAX 128u
/* Room that a packed set needs besides its bytes. */
#define CMQ_HEADERS_ROOM (3u + CMQ_HEADERS_MAX * (2u + 3u))

struct cmq_header {
    struct cmq_span name;
    struct cmq_span value;
};

struct cmq_headers {
    uint32_t count;
    size_t bytes;
    size_t bytes_max;
    struct cmq_header entries[CMQ_HEADERS_MAX];
};

/* An empty set that takes bytes_max bytes, and not more than CMQ_HEADERS_BYTES_MAX. 0: no header at all. */
void cmq_headers_init(struct cmq_headers *headers, size_t bytes_max);
/* Adds one header, which must outlive the set. */
CMQ_MUST_USE enum cmq_err cmq_headers_add(struct cmq_headers *headers, struct cmq_span name,
                                          struct cmq_span value, struct cmq_reason *reason);
/* Adds those of a packed set whose names are not in this one. packed outlives the set; bytes 0: nothing to add. */
CMQ_MUST_USE enum cmq_err cmq_headers_inherit(struct cmq_headers *headers, struct cmq_span packed,
                                              struct cmq_reason *reason);
/* The error of a set that one header more does not fit into: CMQ_ERR_TOO_BIG. */
enum cmq_err cmq_headers_too_big(const struct cmq_headers *headers, struct cmq_reason *reason);
/* NULL: no such name. */
const struct cmq_header *cmq_headers_find(const struct cmq_headers *headers, struct cmq_span name);
/* Packs the set. dst: headers->bytes + CMQ_HEADERS_ROOM, none of the parts in it. Returns bytes; 0 of an empty set, which is
 * what cmq_message_full takes for "no headers". */
size_t cmq_headers_write(uint8_t *dst, const struct cmq_headers *headers);

bool cmq_header_name_is_good(struct cmq_span name);

#ifdef __cplusplus
}
#endif

#endif
