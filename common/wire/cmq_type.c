#include "common/wire/cmq_type.h"

#include <string.h>
#include <strings.h>

#include "common/wire/cmq_batch.h"

bool cmq_is_token_byte(uint8_t byte)
{
    if ((byte >= '0' && byte <= '9') || ((byte | 0x20u) >= 'a' && (byte | 0x20u) <= 'z'))
        return true;
    return byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL;
}

struct cmq_span cmq_type_trim(struct cmq_span text)
{
    while (text.bytes != 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = cmq_span_make(text.data + 1, text.bytes - 1);
    while (text.bytes != 0 && (text.data[text.bytes - 1] == ' ' || text.data[text.bytes - 1] == '\t'))
        text.bytes--;
    return text;
}

static bool equals(struct cmq_span span, const char *lower)
{
    size_t bytes = strlen(lower);
    return span.bytes == bytes && strncasecmp((const char *)span.data, lower, bytes) == 0;
}

/* Cuts the part before the next `separator` off *rest. */
static struct cmq_span next_part(struct cmq_span *rest, int separator)
{
    struct cmq_span part = *rest;
    const uint8_t *end = rest->bytes == 0 ? NULL : memchr(rest->data, separator, rest->bytes);
    if (end == NULL) {
        *rest = cmq_span_make(NULL, 0);
    } else {
        part.bytes = (size_t)(end - rest->data);
        *rest = cmq_span_make(end + 1, rest->bytes - part.bytes - 1);
    }
    return cmq_type_trim(part);
}

struct parameters {
    bool foreign; /* a charset other than UTF-8 and its part ASCII */
    bool other;   /* some other parameter */
};

static struct parameters read_parameters(struct cmq_span rest)
{
    struct parameters found = {0};
    while (rest.bytes != 0) {
        struct cmq_span value = next_part(&rest, ';');
        struct cmq_span name = next_part(&value, '=');
        if (!equals(name, "charset"))
            found.other = found.other || name.bytes != 0;
        else if (!equals(value, "utf-8") && !equals(value, "\"utf-8\""))
            found.foreign = true;
    }
    return found;
}

static bool is_token(struct cmq_span text)
{
    for (size_t i = 0; i < text.bytes; i++)
        if (!cmq_is_token_byte(text.data[i]))
            return false;
    return text.bytes != 0;
}

static bool is_well_formed(struct cmq_span whole, struct cmq_span media)
{
    for (size_t i = 0; i < whole.bytes; i++)
        if (whole.data[i] < 0x20 || whole.data[i] > 0x7e)
            return false;
    /* No blanks around the slash; next_part would trim them off. */
    if (media.bytes == 0 || memchr(media.data, ' ', media.bytes) != NULL)
        return false;
    struct cmq_span subtype = media;
    struct cmq_span type = next_part(&subtype, '/');
    return whole.bytes <= CMQ_MESSAGE_TYPE_BYTES_MAX && is_token(type) && is_token(subtype);
}

enum cmq_type cmq_type_of(struct cmq_span type)
{
    struct cmq_span whole = cmq_type_trim(type), rest = whole;
    struct cmq_span media = next_part(&rest, ';');
    const struct parameters parameters = read_parameters(rest);
    if (equals(media, CMQ_TYPE_JSON_TEXT))
        return parameters.foreign ? CMQ_TYPE_JSON_FOREIGN : CMQ_TYPE_JSON;
    if (!is_well_formed(whole, media))
        return CMQ_TYPE_BAD;
    bool plain = equals(media, "text/plain") && !parameters.foreign && !parameters.other;
    return plain ? CMQ_TYPE_TEXT : CMQ_TYPE_OTHER;
}

bool cmq_message_id_is_good(struct cmq_span id)
{
    for (size_t i = 0; i < id.bytes; i++)
        if (id.data[i] < 0x21 || id.data[i] > 0x7e)
            return false;
    return id.bytes >= 1 && id.bytes <= CMQ_MESSAGE_ID_BYTES_MAX;
}
