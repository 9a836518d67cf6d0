#include "ingest/ing_request.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/wire/cmq_topic.h"

/* Header names that matter here. All of them may come once only. */
enum known {
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    AUTHORIZATION,
    EXPECT,
    ACK,
    KEY,
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
    [ACK] = {"cmq-ack", 7, "The header CMQ-Ack may come only once."},
    [KEY] = {"idempotency-key", 15, "The header Idempotency-Key may come only once."},
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
        head->type_text = value;
        head->type = cmq_type_of(value);
        return NULL;
    case CONTENT_ENCODING:
        head->coding_is_identity = equals(value, "identity", 8);
        return NULL;
    case ACK:
        take_ack(head, value);
        return NULL;
    case KEY:
        take_key(head, value);
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
        head->broken = take_known(head, known, cmq_type_trim(value));
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

static bool is_path(struct cmq_span path, const char *wanted)
{
    size_t bytes = strlen(wanted);
    return path.bytes == bytes && memcmp(path.data, wanted, bytes) == 0;
}

static void take_topic(struct ing_target *target, struct cmq_span topic)
{
    struct cmq_reason reason;
    target->wrong = ING_PROBLEM_NONE;
    target->topic_bytes = 0;
    if (cmq_topic_check(topic, true, &reason) != CMQ_OK) {
        target->wrong = ING_PROBLEM_BAD_TOPIC;
        (void)snprintf(target->detail, sizeof target->detail, "The %.*s.", (int)sizeof target->detail - 8,
                       reason.text);
        return;
    }
    if (topic.data[0] == '$')
        target->wrong = ING_PROBLEM_RESERVED_TOPIC;
    target->detail[0] = '\0';
    target->topic_bytes = (uint8_t)topic.bytes;
    memcpy(target->topic, topic.data, topic.bytes);
}

static void parse_topic_path(struct ing_target *target, struct cmq_span rest)
{
    static const char batch[] = "/batch";
    const size_t batch_bytes = sizeof batch - 1;
    target->route = ING_ROUTE_TOPIC;
    if (rest.bytes >= batch_bytes && memcmp(rest.data + rest.bytes - batch_bytes, batch, batch_bytes) == 0) {
        target->route = ING_ROUTE_TOPIC_BATCH;
        rest.bytes -= batch_bytes;
    }
    if (rest.bytes != 0 && memchr(rest.data, '%', rest.bytes) != NULL)
        target->route = ING_ROUTE_NONE;
    else
        take_topic(target, rest);
}

void ing_target_parse(struct ing_target *ret_target, const char *text)
{
    static const char topics[] = "/v1/topics/";
    const char *begin = target_path(text);
    const struct cmq_span path = cmq_span_make(begin, strcspn(begin, "?"));
    ret_target->wrong = ING_PROBLEM_NONE;
    ret_target->topic_bytes = 0;
    ret_target->route = ING_ROUTE_NONE;
    if (is_path(path, "/input"))
        ret_target->route = ING_ROUTE_SINGLE;
    else if (is_path(path, "/input/batch"))
        ret_target->route = ING_ROUTE_BATCH;
    else if (is_path(path, "/"))
        ret_target->route = ING_ROUTE_ROOT;
    else if (path.bytes >= sizeof topics - 1 && memcmp(begin, topics, sizeof topics - 1) == 0)
        parse_topic_path(ret_target,
                         cmq_span_make(begin + sizeof topics - 1, path.bytes - (sizeof topics - 1)));
}

const char *ing_request_allow(enum ing_route route)
{
    switch (route) {
    case ING_ROUTE_ROOT:
        return "GET, HEAD";
    case ING_ROUTE_SINGLE:
    case ING_ROUTE_BATCH:
    case ING_ROUTE_TOPIC:
    case ING_ROUTE_TOPIC_BATCH:
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

/* Of a request that brings messages. */
static struct ing_problem judge_content(const struct ing_head *head, const struct ing_target *target,
                                        uint64_t body_bytes_max)
{
    if (target->wrong != ING_PROBLEM_NONE)
        return ing_problem_make(target->wrong, target->detail[0] != '\0' ? target->detail : NULL);
    if (head->has_length && head->content_length > body_bytes_max)
        return ing_problem_make(ING_PROBLEM_TOO_LARGE, NULL);
    if (!head->coding_is_identity)
        return ing_problem_make(ING_PROBLEM_CODING, NULL);
    bool any_type = target->route == ING_ROUTE_TOPIC;
    if (head->type == CMQ_TYPE_JSON_FOREIGN || (!any_type && head->type != CMQ_TYPE_JSON))
        return ing_problem_make(ING_PROBLEM_MEDIA_TYPE, NULL);
    if (head->type == CMQ_TYPE_BAD)
        return ing_problem_make(ING_PROBLEM_BAD_HEADER,
                                "Content-Type must be a media type of at most 127 bytes, like text/html.");
    if (head->wrong != NULL)
        return ing_problem_make(ING_PROBLEM_BAD_HEADER, head->wrong);
    return ing_problem_make(ING_PROBLEM_NONE, NULL);
}

struct ing_problem ing_request_judge(const struct ing_head *head, const struct ing_target *target,
                                     const char *method, const char *version, uint64_t body_bytes_max)
{
    const char *broken = broken_framing(head, version);
    if (broken != NULL)
        return ing_problem_make(ING_PROBLEM_BAD_REQUEST, broken);
    if (target->route == ING_ROUTE_NONE)
        return ing_problem_make(ING_PROBLEM_NOT_FOUND, NULL);
    if (!method_fits(target->route, method))
        return ing_problem_make(ING_PROBLEM_METHOD, NULL);
    if (target->route != ING_ROUTE_ROOT)
        return judge_content(head, target, body_bytes_max);
    return ing_request_has_body(head)
               ? ing_problem_make(ING_PROBLEM_BAD_REQUEST, "This path takes no request body.")
               : ing_problem_make(ING_PROBLEM_NONE, NULL);
}
