/*
 * cmq_operation: one request to the operator's agent: what the dashboard may ask to be done with a stage.
 * Ownership: values only; the text is the caller's buffer.
 * Units: instances 0 to CMQ_OPERATION_INSTANCES_MAX - 1.
 * Errors: CMQ_ERR_MALFORMED with a sentence that says what is understood, and echoes nothing.
 * Callers: dispatcher and agent; any thread. Both read with this: the agent does not trust what a dispatcher checked.
 *
 *   {"do":"restart","stage":"encryptor","instance":null|0..7}   all instances one after the other, or one
 *   {"do":"scale","stage":"encryptor","count":1..8}
 *   {"do":"watch"}                                              what is done now, or was done last
 * "by" may be there once: who asks, for the agent's log.
 */
#ifndef CMQ_OPERATION_H
#define CMQ_OPERATION_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

#define CMQ_OPERATION_SOCKET        "agent.sock" /* in common.run_dir */
#define CMQ_OPERATION_INSTANCES_MAX 8u
#define CMQ_OPERATION_BY_BYTES      64u
#define CMQ_OPERATION_TEXT_BYTES    256u

enum cmq_operation_verb { CMQ_OPERATION_WATCH, CMQ_OPERATION_RESTART, CMQ_OPERATION_SCALE };

struct cmq_operation {
    enum cmq_operation_verb verb;
    const char *stage; /* a literal; NULL: watch */
    bool one;          /* restart: only that instance */
    unsigned number;   /* the instance, or the count */
    char by[CMQ_OPERATION_BY_BYTES];
};

const char *cmq_operation_verb_name(enum cmq_operation_verb verb);
/* packed: the JSON as cmq_json_pack gives it. *ret_operation is unchanged on error. */
CMQ_MUST_USE enum cmq_err cmq_operation_read(struct cmq_span packed, struct cmq_operation *ret_operation,
                                             struct cmq_reason *reason);
/* The JSON, and a newline. What in `by` is no letter, digit, '.', '_' or '-' becomes '_'. Returns its length. */
size_t cmq_operation_write(char text[CMQ_OPERATION_TEXT_BYTES], const struct cmq_operation *operation);

#endif
