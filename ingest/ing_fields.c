#include "ingest/ing_fields.h"

#include <string.h>

#include "ingest/ing_text.h"

void ing_fields_put_copy(struct ing_fields *fields, const char *name, struct cmq_span value)
{
    if (value.bytes >= sizeof fields->text - fields->text_bytes)
        return;
    char *copy = fields->text + fields->text_bytes;
    if (value.bytes != 0)
        memcpy(copy, value.data, value.bytes);
    copy[value.bytes] = '\0';
    fields->text_bytes += value.bytes + 1;
    ing_fields_put(fields, name, copy);
}

void ing_fields_put_u64(struct ing_fields *fields, const char *name, uint64_t value)
{
    uint8_t digits[ING_U64_BYTES_MAX];
    const uint8_t *end = ing_text_put_u64(digits, value);
    ing_fields_put_copy(fields, name, cmq_span_make(digits, (size_t)(end - digits)));
}
