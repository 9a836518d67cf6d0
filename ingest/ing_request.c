#include "ingest/ing_request.h"

#include <string.h>
#include <strings.h>

/* Header names that matter here. All of them may come once only. */
enum known {
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    AUTHORIZATION,
    EXPECT,
    KNOWN_COUNT
};

static const struct {
    const char *name;
    size_t bytes;
    const char *twice;
} known_table[KNOWN_COUNT] = {
    [HOST] = {"host", 4, "The header Host may come only once."},
    [CONTENT_LENGTH] = {"content-length", 14, "The header Content-Length may come only once."},
    [TRANSFER_ENCODING] = {"transfer-encoding", 17, "The header Transfer-Encoding may come only once."},
    [CONTENT_TYPE] = {"content-type", 12, "The header Content-Type may come only once."},
    [CONTENT_ENCODING] = {"content-encoding", 16, "The header Content-Encoding may come only once."},
    [AUTHORIZATION] = {"authorization", 13, "The header Authorization may come only once."},
    [EXPECT] = {"expect", 6, "The header Expect may come only once."},
};

/* tchar, RFC 9110 section 5.6.2 */
static bool is_token_byte(uint8_t byte)
{
    if ((byte >= '0' && byte <= '9') || ((byte | 0x20u) >= 'a' && (byte | 0x20u) <= 'z'))
        return true;
    return byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL;
}

static bool name_is_token(struct cmq_span name)
{
    for (size_t i = 0; i < name.bytes; i++)
        if (!is_token_byte(name.data[i]))
            return false;
    return name.bytes != 0;
}

/* field-vchar, blank and tab (RFC 9110 section 5.5) */
static bool value_is_clean(struct cmq_span value)
{
    for (size_t i = 0; i < value.bytes; i++)
        if ((value.data[i] < 0x20 && value.data[i] != '\t') || value.data[i] == 0x7f)
            return false;
    return true;
}

static bool equals(struct cmq_span span, const char *lower, size_t bytes)
{
    return span.bytes == bytes && strncasecmp((const char *)span.data, lower, bytes) == 0;
}

static struct cmq_span trim(struct cmq_span span)
{
    while (span.bytes != 0 && (span.data[0] == ' ' || span.data[0] == '\t'))
        span = cmq_span_make(span.data + 1, span.bytes - 1);
    while (span.bytes != 0 && (span.data[span.bytes - 1] == ' ' || span.data[span.bytes - 1] == '\t'))
        span.bytes--;
    return span;
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
    return trim(part);
}

/* application/json, any parameters, but no charset other than utf-8 (RFC 8259 sections 8.1, 11) */
static bool type_is_json(struct cmq_span value)
{
    struct cmq_span type = next_part(&value, ';');
    if (!equals(type, "application/json", 16))
        return false;
    while (value.bytes != 0) {
        struct cmq_span parameter = next_part(&value, ';');
        struct cmq_span name = next_part(&parameter, '=');
        bool is_charset = equals(name, "charset", 7);
        if (is_charset && !equals(parameter, "utf-8", 5) && !equals(parameter, "\"utf-8\"", 7))
            return false;
    }
    return true;
}

static bool parse_length(struct cmq_span value, uint64_t *ret_length)
{
    uint64_t length = 0;
    for (size_t i = 0; i < value.bytes; i++) {
        unsigned digit = (unsigned)value.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(length, 10u, &length) ||
            __builtin_add_overflow(length, digit, &length))
            return false;
    }
    if (value.bytes == 0)
        return false;
    *ret_length = length;
    return true;
}

static enum known find_known(struct cmq_span name)
{
    for (unsigned i = 0; i < KNOWN_COUNT; i++)
        if (equals(name, known_table[i].name, known_table[i].bytes))
            return (enum known)i;
    return KNOWN_COUNT;
}

static const char *take_known(struct ing_head *head, enum known known, struct cmq_span value)
{
    switch (known) {
    case CONTENT_LENGTH:
        head->has_length = true;
        return parse_length(value, &head->content_length) ? NULL
                                                          : "Content-Length must be one decimal number.";
    case TRANSFER_ENCODING:
        head->chunked = true;
        return equals(value, "chunked", 7) ? NULL : "The only Transfer-Encoding understood is chunked.";
    case CONTENT_TYPE:
        head->type_is_json = type_is_json(value);
        return NULL;
    case CONTENT_ENCODING:
        head->coding_is_identity = equals(value, "identity", 8);
        return NULL;
    case HOST:
    case AUTHORIZATION:
    case EXPECT:
    case KNOWN_COUNT:
        return NULL;
    }
    return NULL;
}

void ing_head_init(struct ing_head *head)
{
    *head = (struct ing_head){.coding_is_identity = true};
}

bool ing_head_add(struct ing_head *head, struct cmq_span name, struct cmq_span value)
{
    if (head->broken != NULL)
        return false;
    if (!name_is_token(name)) {
        head->broken = "A header name has a byte that is not allowed, perhaps a blank before the colon.";
        return false;
    }
    if (!value_is_clean(value)) {
        head->broken = "A header value has a control byte.";
        return false;
    }
    enum known known = find_known(name);
    if (known == KNOWN_COUNT)
        return true;
    uint32_t bit = 1u << known;
    if ((head->seen & bit) != 0)
        head->broken = known_table[known].twice;
    else
        head->broken = take_known(head, known, trim(value));
    head->seen |= bit;
    return head->broken == NULL;
}

/* absolute-form (RFC 9112 section 3.2.2) -> path */
static const char *target_path(const char *target)
{
    if (strncasecmp(target, "http://", 7) != 0)
        return target;
    const char *path = strchr(target + 7, '/');
    return path != NULL ? path : "/";
}

enum ing_route ing_request_route(const char *target)
{
    const char *path = target_path(target);
    size_t bytes = strcspn(path, "?");
    if (bytes == 6 && memcmp(path, "/input", 6) == 0)
        return ING_ROUTE_SINGLE;
    if (bytes == 12 && memcmp(path, "/input/batch", 12) == 0)
        return ING_ROUTE_BATCH;
    return bytes == 1 && path[0] == '/' ? ING_ROUTE_ROOT : ING_ROUTE_NONE;
}

const char *ing_request_allow(enum ing_route route)
{
    switch (route) {
    case ING_ROUTE_ROOT:
        return "GET, HEAD";
    case ING_ROUTE_SINGLE:
    case ING_ROUTE_BATCH:
        return "POST";
    case ING_ROUTE_NONE:
        return NULL;
    }
    return NULL;
}

bool ing_request_has_body(const struct ing_head *head)
{
    return head->chunked || (head->has_length && head->content_length != 0);
}

static const char *broken_framing(const struct ing_head *head, const char *version)
{
    bool is_http10 = strcmp(version, "HTTP/1.0") == 0;
    if (!is_http10 && strcmp(version, "HTTP/1.1") != 0)
        return "Only HTTP/1.1 and HTTP/1.0 are spoken here.";
    if (head->broken != NULL)
        return head->broken;
    if ((head->seen & (1u << HOST)) == 0)
        return "The header Host is missing.";
    if (head->chunked && head->has_length)
        return "Send either Content-Length or Transfer-Encoding, not both.";
    if (head->chunked && is_http10)
        return "HTTP/1.0 has no Transfer-Encoding.";
    return NULL;
}

static bool method_fits(enum ing_route route, const char *method)
{
    if (route == ING_ROUTE_ROOT)
        return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    return strcmp(method, "POST") == 0;
}

struct ing_problem ing_request_judge(const struct ing_head *head, enum ing_route route, const char *method,
                                     const char *version, uint64_t body_bytes_max)
{
    const char *broken = broken_framing(head, version);
    if (broken != NULL)
        return ing_problem_make(ING_PROBLEM_BAD_REQUEST, broken);
    if (route == ING_ROUTE_NONE)
        return ing_problem_make(ING_PROBLEM_NOT_FOUND, NULL);
    if (!method_fits(route, method))
        return ing_problem_make(ING_PROBLEM_METHOD, NULL);
    if (route == ING_ROUTE_ROOT)
        return ing_request_has_body(head)
                   ? ing_problem_make(ING_PROBLEM_BAD_REQUEST, "This path takes no request body.")
                   : ing_problem_make(ING_PROBLEM_NONE, NULL);
    if (head->has_length && head->content_length > body_bytes_max)
        return ing_problem_make(ING_PROBLEM_TOO_LARGE, NULL);
    if (!head->coding_is_identity)
        return ing_problem_make(ING_PROBLEM_CODING, NULL);
    if (!head->type_is_json)
        return ing_problem_make(ING_PROBLEM_MEDIA_TYPE, NULL);
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}
