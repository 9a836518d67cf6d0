/*
 * dsp_proto: the commands of /v1/ws and their replies. docs/PROTOCOL.md has an example of each.
 * Ownership: a command's spans point into the message; replies are written to the caller's text.
 * Units: milliseconds, messages.
 * Errors: a fault (code and sentence) that is sent to the client; nothing that it sent is echoed.
 * Callers: the delivery thread.
 *
 * A command is a map with exactly one command and, maybe, "id". JSON is turned into MessagePack before (cmq_json_pack).
 */
#ifndef DSP_PROTO_H
#define DSP_PROTO_H

#include "common/base/cmq_reason.h"
#include "common/wire/cmq_id.h"
#include "common/wire/cmq_mp.h"
#include "dispatcher/dsp_text.h"

#define DSP_CODE_MAP(X)                 \
    X(BAD_COMMAND, "bad_command")       \
    X(BAD_TOPIC, "bad_topic")           \
    X(BAD_SINCE, "bad_since")           \
    X(BAD_GROUP, "bad_group")           \
    X(BAD_ID, "bad_id")                 \
    X(ID_IN_USE, "id_in_use")           \
    X(NOT_CONNECTED, "not_connected")   \
    X(NO_SUCH_SUB, "no_such_sub")       \
    X(NO_SUCH_GROUP, "no_such_group")   \
    X(GROUP_MISMATCH, "group_mismatch") \
    X(UNAUTHORIZED, "unauthorized")     \
    X(FORBIDDEN, "forbidden")           \
    X(LIMIT, "limit")                   \
    X(INTERNAL, "internal")

enum dsp_code {
#define X(name, text) DSP_CODE_##name,
    DSP_CODE_MAP(X)
#undef X
};

struct dsp_fault {
    enum dsp_code code;
    struct cmq_reason reason;
};

enum dsp_close {
    DSP_CLOSE_NONE = 0,
    DSP_CLOSE_DRAIN = 3001,    /* going away: reconnect */
    DSP_CLOSE_SLOW = 3002,     /* takes nothing: reconnect */
    DSP_CLOSE_INTERNAL = 3003, /* reconnect */
    DSP_CLOSE_PROTOCOL = 3500, /* do not */
    DSP_CLOSE_TOO_LARGE = 3501,
    DSP_CLOSE_REVOKED = 3502 /* with another token */
};

enum dsp_verb {
    DSP_VERB_HEARTBEAT, /* {} */
    DSP_VERB_CONNECT,
    DSP_VERB_SUBSCRIBE,
    DSP_VERB_CONSUME,
    DSP_VERB_ACK,
    DSP_VERB_NACK,
    DSP_VERB_CREDIT,
    DSP_VERB_UNSUBSCRIBE,
    DSP_VERB_PING
};

/* Bits of dsp_command.present. */
enum {
    DSP_HAS_TOKEN = 1 << 0,
    DSP_HAS_CLIENT = 1 << 1,
    DSP_HAS_TOPIC = 1 << 2,
    DSP_HAS_SINCE = 1 << 3,
    DSP_HAS_GROUP = 1 << 4,
    DSP_HAS_CREDIT = 1 << 5,
    DSP_HAS_ACK_WAIT_MS = 1 << 6,
    DSP_HAS_MAX_DELIVER = 1 << 7,
    DSP_HAS_IDS = 1 << 8,
    DSP_HAS_UPTO = 1 << 9,
    DSP_HAS_DELAY_MS = 1 << 10,
    DSP_HAS_TARGET = 1 << 11
};

struct dsp_command {
    enum dsp_verb verb;
    bool has_id;
    uint64_t id;
    uint32_t present; /* of what follows; the rest is zero */
    struct cmq_span token, client, topic, since, group, upto;
    uint64_t credit, ack_wait_ms, max_deliver, delay_ms;
    uint64_t target;          /* unsubscribe: id of a subscribe or consume */
    struct cmq_mp_reader ids; /* of id_count strings */
    uint32_t id_count;
};

enum dsp_decode {
    DSP_DECODE_OK,
    DSP_DECODE_REFUSED, /* *ret_fault; id and has_id of the command are valid */
    DSP_DECODE_BROKEN   /* not one map: the connection is to be closed with DSP_CLOSE_PROTOCOL */
};
CMQ_MUST_USE enum dsp_decode dsp_proto_decode(struct cmq_span message, struct dsp_command *ret_command,
                                              struct dsp_fault *ret_fault);
/* The next of command->ids: "<id>" or "<id>:<attempt>" (*ret_attempt 0: none). CMQ_ERR_MALFORMED. text is it, for replies. */
CMQ_MUST_USE enum cmq_err dsp_proto_next_id(struct cmq_mp_reader *ids, struct cmq_span *ret_text,
                                            struct cmq_id *ret_id, uint32_t *ret_attempt);

const char *dsp_code_text(enum dsp_code code);

/* {"id":N,"error":{"code":..,"message":..}}; "id":null without one. */
void dsp_reply_error(struct dsp_text *text, enum dsp_format format, const struct dsp_command *command,
                     const struct dsp_fault *fault);
/* {"id":N,"ok":{ and its end; `pairs` are written in between. The command has an id. */
struct dsp_writer dsp_reply_ok(struct dsp_text *text, enum dsp_format format,
                               const struct dsp_command *command, uint32_t pairs);
void dsp_reply_end(struct dsp_writer *writer);

#endif
