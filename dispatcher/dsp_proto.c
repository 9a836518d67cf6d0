#include "dispatcher/dsp_proto.h"

#include <string.h>

/* ---- what commands look like ---- */

enum kind { KIND_STR, KIND_UINT, KIND_IDS };

static const struct field {
    const char *name;
    enum kind kind;
    uint32_t bit;
    size_t offset;
    uint64_t max; /* UINT */
} fields[] = {
    {"token", KIND_STR, DSP_HAS_TOKEN, offsetof(struct dsp_command, token), 0},
    {"client", KIND_STR, DSP_HAS_CLIENT, offsetof(struct dsp_command, client), 0},
    {"topic", KIND_STR, DSP_HAS_TOPIC, offsetof(struct dsp_command, topic), 0},
    {"since", KIND_STR, DSP_HAS_SINCE, offsetof(struct dsp_command, since), 0},
    {"group", KIND_STR, DSP_HAS_GROUP, offsetof(struct dsp_command, group), 0},
    {"upto", KIND_STR, DSP_HAS_UPTO, offsetof(struct dsp_command, upto), 0},
    {"credit", KIND_UINT, DSP_HAS_CREDIT, offsetof(struct dsp_command, credit), 1000000},
    {"ack_wait_ms", KIND_UINT, DSP_HAS_ACK_WAIT_MS, offsetof(struct dsp_command, ack_wait_ms), 86400000},
    {"max_deliver", KIND_UINT, DSP_HAS_MAX_DELIVER, offsetof(struct dsp_command, max_deliver), 1000000},
    {"delay_ms", KIND_UINT, DSP_HAS_DELAY_MS, offsetof(struct dsp_command, delay_ms), 86400000},
    {"id", KIND_UINT, DSP_HAS_TARGET, offsetof(struct dsp_command, target), UINT64_MAX},
    {"ids", KIND_IDS, DSP_HAS_IDS, 0, 0},
};

static const struct verb {
    const char *name;
    enum dsp_verb verb;
    uint32_t needed, allowed; /* allowed: besides those that are needed */
    const char *expected;
} verbs[] = {
    {"connect", DSP_VERB_CONNECT, 0, DSP_HAS_TOKEN | DSP_HAS_CLIENT,
     "connect takes token and client, both optional"},
    {"subscribe", DSP_VERB_SUBSCRIBE, DSP_HAS_TOPIC, DSP_HAS_SINCE, "subscribe needs topic, and takes since"},
    {"consume", DSP_VERB_CONSUME, DSP_HAS_GROUP,
     DSP_HAS_TOPIC | DSP_HAS_CREDIT | DSP_HAS_ACK_WAIT_MS | DSP_HAS_MAX_DELIVER | DSP_HAS_SINCE,
     "consume needs group, and takes topic, credit, ack_wait_ms, max_deliver and since"},
    {"ack", DSP_VERB_ACK, DSP_HAS_GROUP, DSP_HAS_IDS | DSP_HAS_UPTO,
     "ack needs group, and either ids or upto"},
    {"nack", DSP_VERB_NACK, DSP_HAS_GROUP | DSP_HAS_IDS, DSP_HAS_DELAY_MS,
     "nack needs group and ids, and takes delay_ms"},
    {"credit", DSP_VERB_CREDIT, DSP_HAS_GROUP | DSP_HAS_CREDIT, 0, "credit needs group and credit"},
    {"unsubscribe", DSP_VERB_UNSUBSCRIBE, DSP_HAS_TARGET, 0,
     "unsubscribe needs id, that of the subscribe or consume"},
    {"ping", DSP_VERB_PING, 0, 0, "ping takes nothing"},
};

static bool says(struct cmq_span text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

static enum dsp_decode refuse(struct dsp_fault *fault, const char *sentence)
{
    fault->code = DSP_CODE_BAD_COMMAND;
    (void)cmq_reason_set(&fault->reason, CMQ_ERR_INVALID, "%s", sentence);
    return DSP_DECODE_REFUSED;
}

/* ---- decoding ---- */

static enum dsp_decode read_uint(const struct field *field, const struct cmq_mp_value *value, void *member,
                                 struct dsp_fault *fault)
{
    if (value->type != CMQ_MP_UINT || value->number > field->max) {
        fault->code = DSP_CODE_BAD_COMMAND;
        (void)cmq_reason_set(&fault->reason, CMQ_ERR_INVALID, "%s must be a whole number from 0 to %llu",
                             field->name, (unsigned long long)field->max);
        return DSP_DECODE_REFUSED;
    }
    memcpy(member, &value->number, sizeof(value->number));
    return DSP_DECODE_OK;
}

/* Strings only; what they say is looked at when they are used. */
static enum dsp_decode read_ids(struct cmq_mp_reader *reader, const struct cmq_mp_value *value,
                                struct dsp_command *command, struct dsp_fault *fault)
{
    struct cmq_span text;
    if (value->type != CMQ_MP_ARRAY)
        return refuse(fault, "ids must be an array of strings like \"12-0\" or \"12-0:1\"");
    command->ids = *reader;
    command->id_count = value->count;
    for (uint32_t i = 0; i < value->count; i++) {
        if (cmq_mp_read_str(reader, &text) != CMQ_OK)
            return refuse(fault, "ids must be an array of strings like \"12-0\" or \"12-0:1\"");
    }
    command->ids.end = reader->next;
    return DSP_DECODE_OK;
}

static const struct field *find_field(struct cmq_span name, const struct verb *verb)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(fields); i++) {
        if (says(name, fields[i].name) && ((verb->needed | verb->allowed) & fields[i].bit) != 0)
            return &fields[i];
    }
    return NULL;
}

static enum dsp_decode read_field(struct cmq_mp_reader *reader, const struct field *field,
                                  struct dsp_command *command, struct dsp_fault *fault)
{
    struct cmq_mp_value value;
    uint8_t *member = (uint8_t *)command + field->offset;
    if ((command->present & field->bit) != 0)
        return refuse(fault, "a member is there twice");
    command->present |= field->bit;
    if (cmq_mp_read(reader, &value) != CMQ_OK)
        return DSP_DECODE_BROKEN; /* not reached: the message was walked */
    if (field->kind == KIND_UINT)
        return read_uint(field, &value, member, fault);
    if (field->kind == KIND_IDS)
        return read_ids(reader, &value, command, fault);
    if (value.type != CMQ_MP_STR) {
        fault->code = DSP_CODE_BAD_COMMAND;
        (void)cmq_reason_set(&fault->reason, CMQ_ERR_INVALID, "%s must be a string", field->name);
        return DSP_DECODE_REFUSED;
    }
    memcpy(member, &value.body, sizeof(value.body));
    return DSP_DECODE_OK;
}

/* The value behind the command's name. */
static enum dsp_decode read_verb(struct cmq_mp_reader *reader, const struct verb *verb,
                                 struct dsp_command *command, struct dsp_fault *fault)
{
    struct cmq_mp_value map;
    struct cmq_span name;
    if (cmq_mp_read(reader, &map) != CMQ_OK || map.type != CMQ_MP_MAP)
        return refuse(fault, verb->expected);
    for (uint32_t i = 0; i < map.count; i++) {
        const struct field *field = NULL;
        if (cmq_mp_read_str(reader, &name) == CMQ_OK)
            field = find_field(name, verb);
        if (field == NULL)
            return refuse(fault, verb->expected);
        enum dsp_decode result = read_field(reader, field, command, fault);
        if (result != DSP_DECODE_OK)
            return result;
    }
    bool both = (command->present & (DSP_HAS_IDS | DSP_HAS_UPTO)) == (DSP_HAS_IDS | DSP_HAS_UPTO);
    bool neither = verb->verb == DSP_VERB_ACK && (command->present & (DSP_HAS_IDS | DSP_HAS_UPTO)) == 0;
    if ((command->present & verb->needed) != verb->needed || both || neither)
        return refuse(fault, verb->expected);
    return DSP_DECODE_OK;
}

static const struct verb *find_verb(struct cmq_span name)
{
    for (size_t i = 0; i < CMQ_COUNT_OF(verbs); i++) {
        if (says(name, verbs[i].name))
            return &verbs[i];
    }
    return NULL;
}

/* What stands at the root: the id, and where the command is, whatever comes first. */
struct outline {
    const struct verb *verb;
    struct cmq_mp_reader value; /* of the command */
    bool unknown, twice, bad_id;
};

static enum dsp_decode read_outline(struct cmq_mp_reader *reader, uint32_t pairs, struct dsp_command *command,
                                    struct outline *outline)
{
    for (uint32_t i = 0; i < pairs; i++) {
        struct cmq_mp_value name, value;
        if (cmq_mp_read(reader, &name) != CMQ_OK || name.type != CMQ_MP_STR)
            return DSP_DECODE_BROKEN;
        struct cmq_mp_reader at = *reader;
        if (cmq_mp_skip(reader) != CMQ_OK)
            return DSP_DECODE_BROKEN;
        if (says(name.body, "id")) {
            if (cmq_mp_read(&at, &value) != CMQ_OK || value.type != CMQ_MP_UINT || command->has_id) {
                outline->bad_id = true;
                continue;
            }
            command->has_id = true;
            command->id = value.number;
            continue;
        }
        const struct verb *verb = find_verb(name.body);
        outline->unknown |= verb == NULL;
        outline->twice |= outline->verb != NULL;
        outline->verb = verb;
        outline->value = at;
    }
    return cmq_mp_left(reader) == 0 ? DSP_DECODE_OK : DSP_DECODE_BROKEN;
}

enum dsp_decode dsp_proto_decode(struct cmq_span message, struct dsp_command *ret_command,
                                 struct dsp_fault *ret_fault)
{
    struct cmq_mp_reader reader;
    struct cmq_mp_value map;
    struct outline outline = {0};
    *ret_command = (struct dsp_command){.verb = DSP_VERB_HEARTBEAT};
    cmq_mp_reader_init(&reader, message);
    if (cmq_mp_read(&reader, &map) != CMQ_OK || map.type != CMQ_MP_MAP)
        return DSP_DECODE_BROKEN;
    if (map.count == 0 && cmq_mp_left(&reader) == 0)
        return DSP_DECODE_OK;
    enum dsp_decode result = read_outline(&reader, map.count, ret_command, &outline);
    if (result != DSP_DECODE_OK)
        return result;
    if (outline.bad_id) {
        ret_command->has_id = false;
        return refuse(ret_fault, "id must be a whole number that is not negative, and there once");
    }
    if (outline.verb == NULL || outline.unknown || outline.twice)
        return refuse(ret_fault,
                      "expected exactly one of connect, subscribe, consume, ack, nack, credit, unsubscribe "
                      "and ping, and id");
    ret_command->verb = outline.verb->verb;
    return read_verb(&outline.value, outline.verb, ret_command, ret_fault);
}

enum cmq_err dsp_proto_next_id(struct cmq_mp_reader *ids, struct cmq_span *ret_text, struct cmq_id *ret_id,
                               uint32_t *ret_attempt)
{
    struct cmq_span text;
    uint64_t attempt = 0;
    enum cmq_err err = cmq_mp_read_str(ids, &text);
    if (err != CMQ_OK)
        return err;
    *ret_text = text;
    const uint8_t *colon = text.bytes == 0 ? NULL : memchr(text.data, ':', text.bytes);
    if (colon != NULL) {
        const uint8_t *end = text.data + text.bytes;
        if (colon + 1 == end || colon[1] == '0')
            return CMQ_ERR_MALFORMED;
        for (const uint8_t *digit = colon + 1; digit < end; digit++) {
            if (*digit < '0' || *digit > '9')
                return CMQ_ERR_MALFORMED;
            attempt = attempt * 10 + (uint64_t)(*digit - '0');
            if (attempt > UINT32_MAX)
                return CMQ_ERR_MALFORMED;
        }
        text.bytes = (size_t)(colon - text.data);
    }
    *ret_attempt = (uint32_t)attempt;
    return cmq_id_parse(text, ret_id);
}

/* ---- replies ---- */

const char *dsp_code_text(enum dsp_code code)
{
    static const char *const texts[] = {
#define X(name, text) [DSP_CODE_##name] = text,
        DSP_CODE_MAP(X)
#undef X
    };
    return texts[code];
}

static void write_id(struct dsp_writer *writer, const struct dsp_command *command)
{
    dsp_write_map(writer, 2);
    dsp_write_key(writer, "id");
    if (command->has_id)
        dsp_write_uint(writer, command->id);
    else
        dsp_write_nil(writer);
}

void dsp_reply_error(struct dsp_text *text, enum dsp_format format, const struct dsp_command *command,
                     const struct dsp_fault *fault)
{
    dsp_text_begin(text);
    struct dsp_writer writer = dsp_writer_of(text, format);
    write_id(&writer, command);
    dsp_write_key(&writer, "error");
    dsp_write_map(&writer, 2);
    dsp_write_key(&writer, "code");
    dsp_write_text(&writer, dsp_code_text(fault->code));
    dsp_write_key(&writer, "message");
    dsp_write_text(&writer, fault->reason.text);
    dsp_reply_end(&writer);
}

struct dsp_writer dsp_reply_ok(struct dsp_text *text, enum dsp_format format,
                               const struct dsp_command *command, uint32_t pairs)
{
    dsp_text_begin(text);
    struct dsp_writer writer = dsp_writer_of(text, format);
    write_id(&writer, command);
    dsp_write_key(&writer, "ok");
    dsp_write_map(&writer, pairs);
    return writer;
}

void dsp_reply_end(struct dsp_writer *writer)
{
    dsp_write_map_end(writer);
    dsp_write_map_end(writer);
}
