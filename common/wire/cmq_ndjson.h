/*
 * cmq_ndjson: a body of JSON lines (NDJSON, JSON Lines) -> messages, as it arrives, a line at a time failing for itself.
 * Ownership: init/fini on the caller's memory; a splitter's bytes are on the heap.
 * Units: bytes, lines (from 1), messages.
 * Errors: of a line: told to the callback, the others go on. CMQ_ERR_NOMEM, CMQ_ERR_TOO_BIG of the whole.
 * Callers: one thread a splitter.
 *
 *   cmq_lines_append(chunk) ... until cmq_lines_ready is enough for a record, or cmq_lines_end
 *   cmq_ndjson_take -> messages of one record; again while lines are ready
 * Whoever gathers whole lines himself calls cmq_ndjson_parse.
 * A line is an element as in cmq_json_parse_topic_batch: "text" or {"data":...}. It ends with LF; a CR before it is white
 * space, as are blank lines, which count but are no messages. A line may span chunks. A line that is longer than
 * line_bytes_max is refused and takes no more memory than that and a chunk.
 */
#ifndef CMQ_NDJSON_H
#define CMQ_NDJSON_H

#include "common/wire/cmq_json_in.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cmq_lines {
    struct cmq_buf held;   /* bytes that came; of a line that is too long not all */
    size_t begin;          /* of held: taken already */
    size_t end;            /* of held: behind the last line that is whole */
    size_t line_bytes_max; /* without the line's end */
    uint64_t line;         /* number of the next line to be taken */
};

/* held_bytes_max: of what came and was not taken. */
void cmq_lines_init(struct cmq_lines *lines, size_t line_bytes_max, size_t held_bytes_max);
/* Accepts a zeroed struct. */
void cmq_lines_fini(struct cmq_lines *lines);
/* CMQ_ERR_TOO_BIG: more than held_bytes_max; CMQ_ERR_NOMEM. Nothing of the chunk was then taken. */
CMQ_MUST_USE enum cmq_err cmq_lines_append(struct cmq_lines *lines, struct cmq_span chunk);
/* The body is at its end: the last line is whole without LF. */
void cmq_lines_end(struct cmq_lines *lines);

/* Bytes of whole lines that wait to be taken. */
static inline size_t cmq_lines_ready(const struct cmq_lines *lines)
{
    return lines->end - lines->begin;
}

/* Told of each line that is refused. error->offset counts from the line's first byte; index is UINT32_MAX. */
typedef void cmq_line_refused(void *context, uint64_t line, const struct cmq_json_error *error);

struct cmq_ndjson_order {
    const struct cmq_json_limits *limits;        /* messages_max: of this call */
    const struct cmq_element_defaults *defaults; /* or NULL */
    size_t line_bytes_max;                       /* without the line's end */
    uint64_t line;                               /* number of the first one */
    cmq_line_refused *refused;
    void *context;
};

struct cmq_ndjson_found {
    uint32_t messages; /* good lines */
    uint64_t refused;  /* lines */
    uint64_t lines;    /* taken: good, refused, and blank ones */
    size_t bytes;      /* taken */
    bool has_ids;
};

/* Takes the lines of a block (the last one may lack its LF) and appends their messages, until none is left, or the next would
 * be one too many for limits->messages_max or for messages->bytes_max. If *messages is empty, one line at least is taken.
 * CMQ_ERR_NOMEM: at the first line that was not taken; *ret_found is always written. CMQ_JSON_PADDING readable bytes follow
 * the block. */
CMQ_MUST_USE enum cmq_err cmq_ndjson_parse(struct cmq_json_parser *parser, struct cmq_span block,
                                           const struct cmq_ndjson_order *order, struct cmq_buf *messages,
                                           struct cmq_ndjson_found *ret_found);
/* The same with the lines that are ready, whose line_bytes_max and line count instead of the order's. */
CMQ_MUST_USE enum cmq_err cmq_ndjson_take(struct cmq_json_parser *parser, struct cmq_lines *lines,
                                          const struct cmq_ndjson_order *order, struct cmq_buf *messages,
                                          struct cmq_ndjson_found *ret_found);

#ifdef __cplusplus
}
#endif

#endif
