#include "common/wire/cmq_operation.h"

#include <string.h>

#include "common/wire/cmq_mp.h"

#define UNDERSTOOD                                                                                   \
    "understood are {\"do\":\"restart\",\"stage\":S,\"instance\":null or 0..7}, "                    \
    "{\"do\":\"scale\",\"stage\":S,\"count\":1..8} and {\"do\":\"watch\"}, S: ingest, encryptor or " \
    "dispatcher"

/* What was there; each member at most once. */
enum { HAS_DO = 1, HAS_STAGE = 2, HAS_INSTANCE = 4, HAS_COUNT = 8, HAS_BY = 16 };
static const char *const members[] = {"do", "stage", "instance", "count", "by"};
static const char *const verbs[] = {
    [CMQ_OPERATION_WATCH] = "watch", [CMQ_OPERATION_RESTART] = "restart", [CMQ_OPERATION_SCALE] = "scale"};
static const char *const stages[] = {"ingest", "encryptor", "dispatcher"};

const char *cmq_operation_verb_name(enum cmq_operation_verb verb)
{
    return verbs[verb];
}

/* count: there is none. */
static size_t find(struct cmq_span name, const char *const *names, size_t count)
{
    size_t at = 0;
    while (at < count && (strlen(names[at]) != name.bytes || memcmp(names[at], name.data, name.bytes) != 0))
        at++;
    return at;
}

static bool read_word(struct cmq_mp_reader *reader, const char *const *words, size_t count, size_t *ret_at)
{
    struct cmq_span word;
    if (cmq_mp_read_str(reader, &word) != CMQ_OK)
        return false;
    *ret_at = find(word, words, count);
    return *ret_at < count;
}

static bool read_number(struct cmq_mp_reader *reader, unsigned min, unsigned max, unsigned *ret_number)
{
    uint64_t number;
    if (cmq_mp_read_uint(reader, &number) != CMQ_OK || number < min || number > max)
        return false;
    *ret_number = (unsigned)number;
    return true;
}

static char shown(char byte)
{
    const bool plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
    return plain ? byte : '_';
}

static bool read_by(struct cmq_mp_reader *reader, struct cmq_operation *operation)
{
    struct cmq_span name;
    if (cmq_mp_read_str(reader, &name) != CMQ_OK || name.bytes >= sizeof operation->by)
        return false;
    for (size_t i = 0; i < name.bytes; i++)
        operation->by[i] = shown((char)name.data[i]);
    return true;
}

static bool read_instance(struct cmq_mp_reader *reader, struct cmq_operation *operation)
{
    struct cmq_mp_reader next = *reader;
    struct cmq_mp_value value;
    if (cmq_mp_read(&next, &value) != CMQ_OK)
        return false;
    if (value.type == CMQ_MP_NIL) {
        *reader = next;
        return true;
    }
    operation->one = true;
    return read_number(reader, 0, CMQ_OPERATION_INSTANCES_MAX - 1, &operation->number);
}

static bool read_member(struct cmq_mp_reader *reader, struct cmq_operation *operation, unsigned *has)
{
    size_t member, at;
    if (!read_word(reader, members, CMQ_COUNT_OF(members), &member))
        return false;
    const unsigned bit = 1u << member;
    if ((*has & bit) != 0)
        return false;
    *has |= bit;
    switch (bit) {
    case HAS_DO:
        if (!read_word(reader, verbs, CMQ_COUNT_OF(verbs), &at))
            return false;
        operation->verb = (enum cmq_operation_verb)at;
        return true;
    case HAS_STAGE:
        if (!read_word(reader, stages, CMQ_COUNT_OF(stages), &at))
            return false;
        operation->stage = stages[at];
        return true;
    case HAS_INSTANCE:
        return read_instance(reader, operation);
    case HAS_COUNT:
        return read_number(reader, 1, CMQ_OPERATION_INSTANCES_MAX, &operation->number);
    default:
        return read_by(reader, operation);
    }
}

static bool is_whole(enum cmq_operation_verb verb, unsigned has)
{
    has &= ~(unsigned)HAS_BY;
    switch (verb) {
    case CMQ_OPERATION_WATCH:
        return has == HAS_DO;
    case CMQ_OPERATION_RESTART:
        return (has | HAS_INSTANCE) == (HAS_DO | HAS_STAGE | HAS_INSTANCE) && (has & HAS_STAGE) != 0;
    case CMQ_OPERATION_SCALE:
        return has == (HAS_DO | HAS_STAGE | HAS_COUNT);
    }
    return false;
}

enum cmq_err cmq_operation_read(struct cmq_span packed, struct cmq_operation *ret_operation,
                                struct cmq_reason *reason)
{
    struct cmq_operation operation = {.verb = CMQ_OPERATION_WATCH};
    struct cmq_mp_reader reader;
    struct cmq_mp_value map;
    unsigned has = 0;
    cmq_mp_reader_init(&reader, packed);
    bool good =
        cmq_mp_read(&reader, &map) == CMQ_OK && map.type == CMQ_MP_MAP && map.count <= CMQ_COUNT_OF(members);
    for (uint32_t i = 0; good && i < map.count; i++)
        good = read_member(&reader, &operation, &has);
    if (!good || cmq_mp_left(&reader) != 0 || (has & HAS_DO) == 0 || !is_whole(operation.verb, has))
        return cmq_reason_set(reason, CMQ_ERR_MALFORMED, "%s", UNDERSTOOD);
    *ret_operation = operation;
    return CMQ_OK;
}

size_t cmq_operation_write(char text[CMQ_OPERATION_TEXT_BYTES], const struct cmq_operation *operation)
{
    char by[CMQ_OPERATION_BY_BYTES] = "", what[64] = "";
    for (size_t i = 0; i < sizeof by - 1 && operation->by[i] != '\0'; i++)
        by[i] = shown(operation->by[i]);
    switch (operation->verb) {
    case CMQ_OPERATION_WATCH:
        break;
    case CMQ_OPERATION_RESTART:
        if (operation->one)
            (void)snprintf(what, sizeof what, ",\"stage\":\"%s\",\"instance\":%u", operation->stage,
                           operation->number);
        else
            (void)snprintf(what, sizeof what, ",\"stage\":\"%s\",\"instance\":null", operation->stage);
        break;
    case CMQ_OPERATION_SCALE:
        (void)snprintf(what, sizeof what, ",\"stage\":\"%s\",\"count\":%u", operation->stage,
                       operation->number);
        break;
    }
    int bytes = snprintf(text, CMQ_OPERATION_TEXT_BYTES, "{\"do\":\"%s\"%s,\"by\":\"%s\"}\n",
                         verbs[operation->verb], what, by);
    cmq_assert(bytes > 0 && (size_t)bytes < CMQ_OPERATION_TEXT_BYTES);
    return (size_t)bytes;
}
