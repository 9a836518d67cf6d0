/*
 * cmq_json_pack: a JSON text -> the same value as MessagePack, so that one decoder serves both. For small texts: commands.
 * Ownership: a packer is heap memory, used again and again; texts are borrowed.
 * Units: bytes.
 * Errors: CMQ_ERR_MALFORMED with a sentence that never echoes the text, CMQ_ERR_TOO_BIG, CMQ_ERR_NOMEM; *dst is then as before.
 * Callers: one thread a packer.
 *
 * Objects become maps, members in their order, also those that are there twice. Whole numbers become integers, others
 * 64-bit floats. Strings are UTF-8, which is checked. At most 32 levels of nesting (RFC 8259).
 */
#ifndef CMQ_JSON_PACK_H
#define CMQ_JSON_PACK_H

#include "common/base/cmq_buf.h"
#include "common/base/cmq_reason.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cmq_json_packer;

CMQ_MUST_USE enum cmq_err cmq_json_packer_new(size_t text_bytes_max, struct cmq_json_packer **ret_packer);
/* NULL is fine. */
void cmq_json_packer_free(struct cmq_json_packer *packer);

/* Appends the value to *dst. */
CMQ_MUST_USE enum cmq_err cmq_json_pack(struct cmq_json_packer *packer, struct cmq_span text,
                                        struct cmq_buf *dst, struct cmq_reason *reason);

#ifdef __cplusplus
}
#endif

#endif
