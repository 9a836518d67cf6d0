/*
 * cmq_json_out_int: the writer without vector instructions, so that a test can hold both against each other.
 * Ownership: as cmq_json_out.h.
 * Units: bytes.
 * Errors: none.
 * Callers: tests and benchmarks.
 */
#ifndef CMQ_JSON_OUT_INT_H
#define CMQ_JSON_OUT_INT_H

#include "common/base/cmq_base.h"

/* As cmq_json_write_string, which is this one where there is no SSE2. */
size_t cmq_json_write_string_portable(uint8_t *dst, struct cmq_span text);

#endif
