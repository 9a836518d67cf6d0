/*
 * cmq_json_text: what JSON text needs besides tokens: escapes, numbers and words, UTF-8, and the place of a flaw.
 * Ownership: borrows.
 * Units: bytes.
 * Errors: told by the result; texts are static.
 * Callers: cmq_json_in, tests.
 */
#ifndef CMQ_JSON_TEXT_H
#define CMQ_JSON_TEXT_H

#include "common/base/cmq_base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cmq_json_escape {
    size_t taken; /* bytes of the escape; 0 if it is wrong */
    size_t bytes; /* of utf8 */
    uint8_t utf8[4];
    const char *wrong; /* what is wrong, or NULL */
};
/* src is at the backslash. A pair of surrogates counts as one escape (RFC 8259, section 7). */
struct cmq_json_escape cmq_json_unescape(const uint8_t *src, const uint8_t *end);

/* Whether text is a number, true, false or null, and nothing else (RFC 8259, sections 3 and 6). */
bool cmq_json_is_scalar(struct cmq_span text);

/* A UTF-8 byte order mark is refused wherever JSON begins (RFC 8259, section 8.1). */
#define CMQ_JSON_BYTE_ORDER_MARK "byte order mark before the JSON text; send UTF-8 without one"
bool cmq_json_has_byte_order_mark(struct cmq_span text);

/* Length of the sequence at src < end, 0 if it is none: no overlong forms, no surrogates (RFC 3629). */
size_t cmq_utf8_sequence_bytes(const uint8_t *src, const uint8_t *end);

struct cmq_json_flaw {
    size_t offset;  /* SIZE_MAX if there is none */
    uint32_t index; /* element of a root array, or of the root's "messages", that it is in; or UINT32_MAX */
    const char *text;
};
/* Finds the first byte that cannot be part of JSON: not UTF-8, a wrong escape or bare control character in a string, a
 * backslash outside of one, a string that never ends. Slow, for the way to an error; does not look at the grammar. */
struct cmq_json_flaw cmq_json_find_flaw(struct cmq_span body);

#ifdef __cplusplus
}
#endif

#endif
