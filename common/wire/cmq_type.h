/*
 * cmq_type: the content type of a message, as a publisher names it.
 * Ownership: borrows.
 * Units: bytes; at most CMQ_MESSAGE_TYPE_BYTES_MAX of them.
 * Errors: CMQ_TYPE_BAD.
 * Callers: any thread.
 */
#ifndef CMQ_TYPE_H
#define CMQ_TYPE_H

#include "common/base/cmq_base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cmq_type {
    CMQ_TYPE_TEXT,         /* text/plain in UTF-8: the default, which a message does not carry */
    CMQ_TYPE_JSON,         /* application/json, any parameters; carried as CMQ_TYPE_JSON_TEXT */
    CMQ_TYPE_JSON_FOREIGN, /* JSON in another charset than UTF-8 (RFC 8259, section 8.1) */
    CMQ_TYPE_OTHER,        /* carried as it is */
    CMQ_TYPE_BAD           /* not type/subtype in visible ASCII (RFC 9110, section 8.3.1), or too long */
};

#define CMQ_TYPE_JSON_TEXT "application/json"

/* Blanks around it do not count. */
enum cmq_type cmq_type_of(struct cmq_span type);
/* tchar, RFC 9110 section 5.6.2 */
bool cmq_is_token_byte(uint8_t byte);
/* Without blanks and tabs at both ends. */
struct cmq_span cmq_type_trim(struct cmq_span text);
/* An id of a message or an idempotency key: 1..CMQ_MESSAGE_ID_BYTES_MAX visible ASCII characters. */
bool cmq_message_id_is_good(struct cmq_span id);

#ifdef __cplusplus
}
#endif

#endif
