#include "common/wire/cmq_headers.h"

#include <string.h>

#include "common/wire/cmq_json_in.h"
#include "common/wire/cmq_mp.h"
#include "common/wire/cmq_mp_out.h"
#include "common/wire/cmq_type.h"

void cmq_headers_init(struct cmq_headers *headers, size_t bytes_max)
{
    headers->count = 0;
    headers->bytes = 0;
    headers->bytes_max = (size_t)cmq_min_u64(bytes_max, CMQ_HEADERS_BYTES_MAX);
}

bool cmq_header_name_is_good(struct cmq_span name)
{
    for (size_t i = 0; i < name.bytes; i++)
        if (!cmq_is_token_byte(name.data[i]) || (name.data[i] >= 'A' && name.data[i] <= 'Z'))
            return false;
    return name.bytes >= 1 && name.bytes <= CMQ_HEADER_NAME_BYTES_MAX;
}

static bool value_is_good(struct cmq_span value)
{
    for (size_t i = 0; i < value.bytes; i++)
        if (value.data[i] < 0x20 || value.data[i] == 0x7f)
            return false;
    return cmq_utf8_is_valid(value);
}

const struct cmq_header *cmq_headers_find(const struct cmq_headers *headers, struct cmq_span name)
{
    for (uint32_t i = 0; i < headers->count; i++) {
        const struct cmq_header *header = &headers->entries[i];
        if (header->name.bytes == name.bytes && memcmp(header->name.data, name.data, name.bytes) == 0)
            return header;
    }
    return NULL;
}

enum cmq_err cmq_headers_too_big(const struct cmq_headers *headers, struct cmq_reason *reason)
{
    if (headers->bytes_max == 0)
        return cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "no headers are taken here");
    return cmq_reason_set(reason, CMQ_ERR_TOO_BIG,
                          "the headers of a message, with the request's, have more than %zu bytes",
                          headers->bytes_max);
}

/* One that is known to be good and not there. */
static enum cmq_err append(struct cmq_headers *headers, struct cmq_span name, struct cmq_span value,
                           struct cmq_reason *reason)
{
    if (headers->count == CMQ_HEADERS_MAX)
        return cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "more than %u headers, with the request's",
                              CMQ_HEADERS_MAX);
    if (value.bytes > headers->bytes_max - headers->bytes ||
        name.bytes > headers->bytes_max - headers->bytes - value.bytes)
        return cmq_headers_too_big(headers, reason);
    headers->bytes += name.bytes + value.bytes;
    headers->entries[headers->count++] = (struct cmq_header){.name = name, .value = value};
    return CMQ_OK;
}

enum cmq_err cmq_headers_add(struct cmq_headers *headers, struct cmq_span name, struct cmq_span value,
                             struct cmq_reason *reason)
{
    if (!cmq_header_name_is_good(name))
        return cmq_reason_set(
            reason, CMQ_ERR_MALFORMED,
            "a header's name must be 1 to %u characters of a-z 0-9 and !#$%%&'*+-.^_`|~, in lower case",
            CMQ_HEADER_NAME_BYTES_MAX);
    if (!value_is_good(value))
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED,
                              "the value of the header \"%.*s\" must be UTF-8 without control characters",
                              (int)name.bytes, (const char *)name.data);
    if (cmq_headers_find(headers, name) != NULL)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "the header \"%.*s\" is there twice",
                              (int)name.bytes, (const char *)name.data);
    return append(headers, name, value, reason);
}

enum cmq_err cmq_headers_inherit(struct cmq_headers *headers, struct cmq_span packed,
                                 struct cmq_reason *reason)
{
    if (packed.bytes == 0)
        return CMQ_OK;
    struct cmq_mp_reader reader;
    struct cmq_mp_value map;
    cmq_mp_reader_init(&reader, packed);
    uint32_t count_before = headers->count;
    size_t bytes_before = headers->bytes;
    enum cmq_err err = cmq_mp_read(&reader, &map);
    if (err != CMQ_OK || map.type != CMQ_MP_MAP)
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "packed headers are no map");
    for (uint32_t i = 0; i < map.count && err == CMQ_OK; i++) {
        struct cmq_span name, value;
        if (cmq_mp_read_str(&reader, &name) != CMQ_OK || cmq_mp_read_str(&reader, &value) != CMQ_OK)
            err = cmq_reason_set(reason, CMQ_ERR_MALFORMED, "packed headers are no map of str to str");
        else if (cmq_headers_find(headers, name) == NULL)
            err = append(headers, name, value, reason);
    }
    if (err != CMQ_OK) {
        headers->count = count_before;
        headers->bytes = bytes_before;
    }
    return err;
}

size_t cmq_headers_write(uint8_t *dst, const struct cmq_headers *headers)
{
    if (headers->count == 0)
        return 0;
    uint8_t *next = cmq_mp_put_map(dst, headers->count);
    for (uint32_t i = 0; i < headers->count; i++) {
        next = cmq_mp_put_str(next, headers->entries[i].name);
        next = cmq_mp_put_str(next, headers->entries[i].value);
    }
    return (size_t)(next - dst);
}
