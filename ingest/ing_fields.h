/*
 * ing_fields: the header fields of one reply, for both ways in which replies are sent.
 * Ownership: names are static; values are static, or copies in the struct.
 * Units: bytes.
 * Errors: none; a copy that finds no room is left out.
 * Callers: any thread.
 */
#ifndef ING_FIELDS_H
#define ING_FIELDS_H

#include "common/base/cmq_base.h"

#define ING_FIELDS_MAX        16u
#define ING_FIELDS_TEXT_BYTES 1024u /* all copies, each with a NUL */

struct ing_fields {
    size_t count;
    size_t text_bytes;
    struct {
        const char *name;
        const char *value;
    } field[ING_FIELDS_MAX];
    char text[ING_FIELDS_TEXT_BYTES];
};

static inline void ing_fields_init(struct ing_fields *fields)
{
    fields->count = 0; /* the rest is written as it is used */
    fields->text_bytes = 0;
}
/* value lives as long as the fields. */
static inline void ing_fields_put(struct ing_fields *fields, const char *name, const char *value)
{
    cmq_assert(fields->count < ING_FIELDS_MAX);
    fields->field[fields->count].name = name;
    fields->field[fields->count++].value = value;
}
/* The value is copied; it has no NUL, CR or LF. */
void ing_fields_put_copy(struct ing_fields *fields, const char *name, struct cmq_span value);
void ing_fields_put_u64(struct ing_fields *fields, const char *name, uint64_t value);

#endif
