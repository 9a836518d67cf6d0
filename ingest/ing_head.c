#include "ingest/ing_head.h"

#include <string.h>
#include <strings.h>

#include "common/wire/cmq_cloudevents.h"
#include "common/wire/cmq_headers.h"

/* Header names that matter here. All of them may come once only. */
enum known {
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    AUTHORIZATION,
    API_KEY,
    EXPECT,
    ACK,
    KEY,
    TTL,
    ORIGIN,
    KNOWN_COUNT
};

static const struct {
    const char *name;
    size_t bytes;
    const char *twice;
} known_table[KNOWN_COUNT] = {
#define KNOWN(lower, name)                                                  \
    {                                                                       \
        lower, sizeof(lower) - 1, "The header " name " may come only once." \
    }
    [HOST] = KNOWN("host", "Host"),
    [CONTENT_LENGTH] = KNOWN("content-length", "Content-Length"),
    [TRANSFER_ENCODING] = KNOWN("transfer-encoding", "Transfer-Encoding"),
    [CONTENT_TYPE] = KNOWN("content-type", "Content-Type"),
    [CONTENT_ENCODING] = KNOWN("content-encoding", "Content-Encoding"),
    [AUTHORIZATION] = KNOWN("authorization", "Authorization"),
    [API_KEY] = KNOWN("x-api-key", "X-API-Key"),
    [EXPECT] = KNOWN("expect", "Expect"),
    [ACK] = KNOWN("cmq-ack", "CMQ-Ack"),
    [KEY] = KNOWN("idempotency-key", "Idempotency-Key"),
    [TTL] = KNOWN("cmq-ttl", "CMQ-TTL"),
    [ORIGIN] = KNOWN("origin", "Origin"),
#undef KNOWN
};

static bool name_is_token(struct cmq_span name)
{
    for (size_t i = 0; i < name.bytes; i++)
        if (!cmq_is_token_byte(name.data[i]))
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

static bool begins(struct cmq_span span, const char *lower, size_t bytes)
{
    return span.bytes >= bytes && strncasecmp((const char *)span.data, lower, bytes) == 0;
}

/* Digits only; false if there is none, or another byte, or too many. */
static bool parse_number(struct cmq_span value, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (size_t i = 0; i < value.bytes; i++) {
        unsigned digit = (unsigned)value.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, digit, &number))
            return false;
    }
    if (value.bytes == 0)
        return false;
    *ret_number = number;
    return true;
}

bool ing_ttl_parse(struct cmq_span text, uint64_t ttl_ms_max, uint64_t *ret_ttl_ms)
{
    static const struct {
        const char *text;
        size_t bytes;
        uint64_t ms;
    } units[] = {{"ms", 2, 1}, {"s", 1, 1000}, {"m", 1, 60000}, {"h", 1, 3600000}, {"d", 1, 86400000}};
    size_t digits = 0;
    while (digits < text.bytes && text.data[digits] >= '0' && text.data[digits] <= '9')
        digits++;
    const struct cmq_span unit = cmq_span_make(text.data + digits, text.bytes - digits);
    uint64_t ms = unit.bytes == 0 ? 1000 : 0, number = 0;
    for (size_t i = 0; i < CMQ_COUNT_OF(units); i++)
        if (unit.bytes == units[i].bytes && memcmp(unit.data, units[i].text, unit.bytes) == 0)
            ms = units[i].ms;
    if (ms == 0 || !parse_number(cmq_span_make(text.data, digits), &number) ||
        __builtin_mul_overflow(number, ms, &number) || number == 0 || number > ttl_ms_max)
        return false;
    *ret_ttl_ms = number;
    return true;
}

static enum known find_known(struct cmq_span name)
{
    for (unsigned i = 0; i < KNOWN_COUNT; i++)
        if (equals(name, known_table[i].name, known_table[i].bytes))
            return (enum known)i;
    return KNOWN_COUNT;
}

static void take_ack(struct ing_head *head, struct cmq_span value)
{
    if (equals(value, "durable", 7))
        head->ack = ING_ACK_DURABLE;
    else if (equals(value, "accepted", 8))
        head->ack = ING_ACK_ACCEPTED;
    else
        head->wrong = "CMQ-Ack must be accepted or durable.";
}

static void take_key(struct ing_head *head, struct cmq_span value)
{
    head->key = value;
    if (!cmq_message_id_is_good(value))
        head->wrong = "Idempotency-Key must be 1 to 128 visible ASCII characters.";
}

static void take_ttl(struct ing_head *head, struct cmq_span value)
{
    if (!ing_ttl_parse(value, head->limits->ttl_ms_max, &head->ttl_ms))
        head->wrong = "CMQ-TTL must be a time above zero and within ingest.ttl_ms_max, like 30s (ms, s, m, "
                      "h, d; without a unit seconds).";
}

/* Other schemes than Bearer are not ours: as if there were none (RFC 9110 section 11.4). */
static void take_authorization(struct ing_head *head, struct cmq_span value)
{
    if (begins(value, "bearer ", 7))
        head->token = cmq_type_trim(cmq_span_make(value.data + 7, value.bytes - 7));
}

static void carry(struct ing_head *head, enum ing_carried_kind kind, struct cmq_span name,
                  struct cmq_span value)
{
    if (head->carried_count == ING_CARRIED_MAX) {
        head->wrong = "At most 32 headers go with a message.";
        return;
    }
    head->carried[head->carried_count++] = (struct ing_carried){.kind = kind, .name = name, .value = value};
}

static enum ing_coding coding_of(const struct ing_head *head, struct cmq_span value)
{
    if (equals(value, "identity", 8))
        return ING_CODING_NONE;
    bool gzip = equals(value, "gzip", 4) || equals(value, "x-gzip", 6);
    return gzip && head->limits->gzip ? ING_CODING_GZIP : ING_CODING_OTHER;
}

/* uri-host and port (RFC 3986 sections 3.2.2, 3.2.3), by their bytes; empty is allowed. */
static bool host_is_good(struct cmq_span value)
{
    for (size_t i = 0; i < value.bytes; i++) {
        const uint8_t byte = value.data[i];
        const bool word = (byte >= '0' && byte <= '9') || ((byte | 0x20u) >= 'a' && (byte | 0x20u) <= 'z');
        if (!word && (byte == 0 || strchr("-._~%!$&'()*+;=:[]", byte) == NULL))
            return false;
    }
    return true;
}

/* What frames the request. Returns the rule that was broken, or NULL. The value as it came: the library does not take a
 * coding with a blank behind it for what it is, and would read until the end of the stream. */
static const char *take_framing(struct ing_head *head, enum known known, struct cmq_span value)
{
    if (known == HOST)
        return host_is_good(cmq_type_trim(value)) ? NULL : "The header Host is not a name and a port.";
    if (known == CONTENT_LENGTH) {
        head->has_length = true;
        return parse_number(cmq_type_trim(value), &head->content_length)
                   ? NULL
                   : "Content-Length must be one decimal number.";
    }
    head->chunked = true;
    return equals(value, "chunked", 7) ? NULL : "The only Transfer-Encoding understood is chunked.";
}

static const char *take_known(struct ing_head *head, enum known known, struct cmq_span untrimmed)
{
    const struct cmq_span value = cmq_type_trim(untrimmed);
    switch (known) {
    case HOST:
    case CONTENT_LENGTH:
    case TRANSFER_ENCODING:
        return take_framing(head, known, untrimmed);
    case CONTENT_TYPE:
        head->type_text = value;
        head->type = cmq_type_of(value);
        break;
    case CONTENT_ENCODING:
        head->coding = coding_of(head, value);
        break;
    case AUTHORIZATION:
        take_authorization(head, value);
        break;
    case API_KEY:
        head->token = value;
        break;
    case ACK:
        take_ack(head, value);
        break;
    case KEY:
        take_key(head, value);
        break;
    case TTL:
        take_ttl(head, value);
        break;
    case ORIGIN:
        head->origin = value;
        break;
    case EXPECT:
    case KNOWN_COUNT:
        break;
    }
    const uint64_t both = (1u << AUTHORIZATION) | (1u << API_KEY);
    return (head->seen & both) == both ? "Send either Authorization or X-API-Key, not both." : NULL;
}

static void take_other(struct ing_head *head, struct cmq_span name, struct cmq_span value)
{
    static const char meta[] = "cmq-meta-";
    const size_t meta_bytes = sizeof meta - 1;
    if (begins(name, meta, meta_bytes))
        carry(head, ING_CARRIED_META, cmq_span_make(name.data + meta_bytes, name.bytes - meta_bytes), value);
    else if (cmq_cloudevents_is_header(name))
        carry(head, ING_CARRIED_EVENT, name, value);
    else if (equals(name, "traceparent", 11) || equals(name, "tracestate", 10))
        carry(head, ING_CARRIED_META, name, value);
}

void ing_head_init(struct ing_head *head, const struct ing_head_limits *limits)
{
    /* Not the whole struct: the carried headers are many and mostly absent. */
    memset(head, 0, offsetof(struct ing_head, carried));
    head->limits = limits;
}

bool ing_head_add(struct ing_head *head, struct cmq_span name, struct cmq_span value)
{
    if (head->broken != NULL)
        return false;
    if (++head->count > head->limits->headers_max) {
        head->too_many = true;
        return false;
    }
    if (!name_is_token(name)) {
        head->broken = "A header name has a byte that is not allowed, perhaps a blank before the colon.";
        return false;
    }
    if (!value_is_clean(value)) {
        head->broken = "A header value has a control byte.";
        return false;
    }
    enum known known = find_known(name);
    if (known == KNOWN_COUNT) {
        take_other(head, name, cmq_type_trim(value));
        return true;
    }
    const uint64_t bit = 1ull << known;
    const bool twice = (head->seen & bit) != 0;
    head->seen |= bit;
    head->broken = twice ? known_table[known].twice : take_known(head, known, value);
    return head->broken == NULL;
}

bool ing_head_has_host(const struct ing_head *head)
{
    return (head->seen & (1u << HOST)) != 0;
}

/* Adds one carried header to the set; *memory moves over what the set borrows. */
static enum cmq_err add_carried(struct cmq_headers *set, const struct ing_carried *carried, uint8_t **memory,
                                struct cmq_reason *reason)
{
    uint8_t *at = *memory;
    *memory += carried->name.bytes + carried->value.bytes;
    if (carried->kind == ING_CARRIED_EVENT)
        return cmq_cloudevents_add_header(set, carried->name, carried->value, at, reason);
    for (size_t i = 0; i < carried->name.bytes; i++) {
        uint8_t byte = carried->name.data[i];
        at[i] = byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20u) : byte;
    }
    return cmq_headers_add(set, cmq_span_make(at, carried->name.bytes), carried->value, reason);
}

enum cmq_err ing_head_pack_carried(const struct ing_head *head, uint8_t *memory, uint8_t *dst,
                                   size_t *ret_bytes, struct cmq_reason *reason)
{
    struct cmq_headers set;
    enum cmq_err err = CMQ_OK;
    bool is_event = false;
    cmq_headers_init(&set, head->limits->meta_bytes_max);
    for (uint32_t i = 0; i < head->carried_count && err == CMQ_OK; i++) {
        err = add_carried(&set, &head->carried[i], &memory, reason);
        is_event |= head->carried[i].kind == ING_CARRIED_EVENT;
    }
    if (err == CMQ_OK && is_event)
        err = cmq_cloudevents_check(&set, reason);
    if (err == CMQ_OK)
        *ret_bytes = cmq_headers_write(dst, &set);
    return err;
}

size_t ing_head_carried_bytes(const struct ing_head *head)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < head->carried_count; i++)
        bytes += head->carried[i].name.bytes + head->carried[i].value.bytes;
    return bytes;
}
