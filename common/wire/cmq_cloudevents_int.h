/*
 * cmq_cloudevents_int: the rules of attributes, for both modes.
 * Ownership: borrows.
 * Units: bytes.
 * Errors: as cmq_cloudevents.h.
 * Callers: common/wire.
 */
#ifndef CMQ_CLOUDEVENTS_INT_H
#define CMQ_CLOUDEVENTS_INT_H

#include "common/wire/cmq_cloudevents.h"

#define CMQ_CE_PREFIX         "ce-"
#define CMQ_CE_PREFIX_BYTES   3u
#define CMQ_CE_NAME_BYTES_MAX (CMQ_HEADER_NAME_BYTES_MAX - CMQ_CE_PREFIX_BYTES)

/* Of an attribute, without the prefix: a-z 0-9, 1..CMQ_CE_NAME_BYTES_MAX. */
bool cmq_ce_name_is_good(struct cmq_span name);
/* Whether it is an attribute of the core specification that a header carries, all of which are strings. */
bool cmq_ce_is_core(struct cmq_span name);
/* Adds an attribute whose name is good. header_name: with the prefix. */
CMQ_MUST_USE enum cmq_err cmq_ce_add(struct cmq_headers *headers, struct cmq_span header_name,
                                     struct cmq_span value, struct cmq_reason *reason);

#endif
