/*
 * ing_batch: a request body -> the parts of one plain batch. The whole body is checked before there is a batch.
 * Ownership: a packer is heap memory of one thread and reused; the parts of a batch point into it and are valid
 *            until the next call with the same packer.
 * Units: bytes, messages, milliseconds since 1970.
 * Errors: a struct ing_problem; its detail points into the packer, as the parts do.
 * Callers: one thread a packer.
 */
#ifndef ING_BATCH_H
#define ING_BATCH_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_ndjson.h"
#include "ingest/ing_problem.h"
#include "ingest/ing_request.h"

struct ing_packer;

/* What the head of a request says about its body. */
struct ing_order {
    enum ing_format format; /* not ING_FORMAT_LINES */
    struct cmq_span topic;
    struct cmq_span key;       /* Idempotency-Key; bytes 0: none */
    enum cmq_type type;        /* of ING_FORMAT_WHOLE, as the next one */
    struct cmq_span type_text; /* of CMQ_TYPE_OTHER */
    uint64_t accepted_at_ms;
    uint64_t ttl_ms;         /* of messages that do not say it; 0: none */
    struct cmq_span headers; /* packed, for all messages; bytes 0: none */
};

struct ing_batch {
    struct cmq_span parts[2]; /* head and key, messages */
    uint32_t count;           /* messages; 0: nothing to publish */
    bool has_ids;             /* the log looks for duplicates: a key, or ids of messages */
    bool has_key;
};

CMQ_MUST_USE enum cmq_err ing_packer_new(size_t body_bytes_max, const struct cmq_json_limits *limits,
                                         struct ing_packer **ret_packer);
void ing_packer_free(struct ing_packer *packer);

/* CMQ_JSON_PADDING readable bytes follow the body. */
struct ing_problem ing_batch_pack(struct ing_packer *packer, const struct ing_order *order,
                                  struct cmq_span body, struct ing_batch *ret_batch);

/* Lines of an NDJSON body; what is wrong with single ones goes to the callback. */
struct ing_lines {
    uint64_t line; /* number of the first one; by the caller, as the next two */
    cmq_line_refused *refused;
    void *context;
    struct cmq_ndjson_found found; /* what was taken; perhaps not the whole block: call again with the rest */
};
/* As many lines of the block as one record may have, at least one. The order's format and key do not matter. A problem is of
 * the broker, not of a line. */
struct ing_problem ing_batch_pack_lines(struct ing_packer *packer, const struct ing_order *order,
                                        struct cmq_span block, struct ing_lines *lines,
                                        struct ing_batch *ret_batch);

#endif
