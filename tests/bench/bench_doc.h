/*
 * bench_doc: walks a JSON or MessagePack document, the same calls for both.
 * Ownership: borrows the document; spans point into it.
 * Units: bytes.
 * Errors: `bad` is set and stays when the bytes are not what was asked for; every call then returns false.
 * Callers: one thread a document.
 *
 * JSON strings come as they stand in the text, with their escapes: all that the bench looks for has none.
 */
#ifndef BENCH_DOC_H
#define BENCH_DOC_H

#include "common/base/cmq_base.h"

struct bench_doc {
    const uint8_t *at, *end;
    bool msgpack, bad;
};

/* A map or an array that is open. */
struct bench_scope {
    uint32_t left; /* elements, or pairs; MessagePack only */
    bool map, begun;
};

struct bench_doc bench_doc_make(struct cmq_span document, bool msgpack);
bool bench_doc_enter(struct bench_doc *doc, bool map, struct bench_scope *ret_scope);
/* Is there another element (or key)? False at the end, which is then behind the reader. */
bool bench_doc_next(struct bench_doc *doc, struct bench_scope *scope);
/* The key of a map's next pair. */
bool bench_doc_key(struct bench_doc *doc, struct cmq_span *ret_key);
bool bench_doc_text(struct bench_doc *doc, struct cmq_span *ret_text);
bool bench_doc_number(struct bench_doc *doc, uint64_t *ret_number);
/* One value of any kind. */
bool bench_doc_skip(struct bench_doc *doc);
/* Nothing but blanks is left, and nothing was bad. */
bool bench_doc_ended(struct bench_doc *doc);

bool bench_span_is(struct cmq_span span, const char *text);

#endif
