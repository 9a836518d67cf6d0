/* What each command of a session does. */
#include <string.h>

#include "common/log/cmq_log.h"
#include "common/wire/cmq_topic.h"
#include "dispatcher/dsp_session.h"

/* ---- faults ---- */

static void refuse(struct dsp_session *session, const struct dsp_command *command, struct dsp_fault *fault,
                   enum dsp_code code)
{
    fault->code = code;
    dsp_reply_error(session->hub->frame, session->format, command, fault);
    dsp_session_reply(session, 0);
}

static void refuse_saying(struct dsp_session *session, const struct dsp_command *command, enum dsp_code code,
                          const char *sentence)
{
    struct dsp_fault fault = {0};
    (void)cmq_reason_set(&fault.reason, CMQ_ERR_INVALID, "%s", sentence);
    refuse(session, command, &fault, code);
}

/* Without an id nobody waits for a reply. */
static bool wants_reply(const struct dsp_command *command)
{
    return command->has_id;
}

static void reply_empty(struct dsp_session *session, const struct dsp_command *command)
{
    if (!wants_reply(command))
        return;
    struct dsp_writer writer = dsp_reply_ok(session->hub->frame, session->format, command, 0);
    dsp_reply_end(&writer);
    dsp_session_reply(session, 0);
}

/* ---- who may what ---- */

static void log_refusal(const struct dsp_session *session, const char *reason)
{
    char text[CMQ_ADDRESS_TEXT_BYTES];
    struct cmq_log_quoted quoted;
    const char *name = cmq_grant_name(&session->grant);
    cmq_ring_count(session->hub->ring, CMQ_COUNT_REJECTED_AUTH, 1);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "where=v1 reason=%s name=%s address=%s", reason,
            cmq_log_quote(&quoted, name, strlen(name)), cmq_address_text(&session->address, text));
}

/* Whether the connection is somebody's, or becomes so by the token in this connect. */
static bool log_in(struct dsp_session *session, const struct dsp_command *command)
{
    enum cmq_auth_result result = CMQ_AUTH_MISSING;
    const bool has_token = (command->present & DSP_HAS_TOKEN) != 0;
    if (has_token && session->grant.entry != NULL) {
        refuse_saying(session, command, DSP_CODE_BAD_COMMAND,
                      "this connection showed a token or a certificate already; leave token out");
        return false;
    }
    if (!dsp_access_is_nobody(&session->grant))
        return true;
    if (has_token)
        result = dsp_access_token(session->hub->access, command->token, cmq_address_span(&session->address),
                                  &session->grant);
    if (result == CMQ_AUTH_OK)
        return true;
    log_refusal(session, dsp_access_word(result));
    refuse_saying(session, command, DSP_CODE_UNAUTHORIZED, dsp_access_sentence(result));
    session->turned_away = true;
    session->closing = DSP_CLOSE_PROTOCOL;
    return false;
}

static bool may(struct dsp_session *session, const struct dsp_command *command, enum cmq_right right,
                struct cmq_span topic)
{
    if (cmq_grant_allows(&session->grant, right, topic))
        return true;
    log_refusal(session, right == CMQ_RIGHT_CONSUME ? "no_right_to_consume" : "no_right_to_subscribe");
    refuse_saying(session, command, DSP_CODE_FORBIDDEN, dsp_access_lacks(right));
    return false;
}

/* ---- connect ---- */

static void connect(struct dsp_session *session, const struct dsp_command *command)
{
    const struct dsp_session_settings *settings = &session->hub->settings;
    if (session->connected) {
        refuse_saying(session, command, DSP_CODE_BAD_COMMAND, "connected already; connect is said once");
        return;
    }
    if (!log_in(session, command))
        return;
    session->connected = true;
    if (!wants_reply(command))
        return;
    struct dsp_writer writer = dsp_reply_ok(session->hub->frame, session->format, command, 3);
    dsp_write_key(&writer, "version");
    dsp_write_text(&writer, CMQ_VERSION);
    dsp_write_key(&writer, "heartbeat_ms");
    dsp_write_uint(&writer, settings->heartbeat_ms);
    dsp_write_key(&writer, "receive_bytes_max");
    dsp_write_uint(&writer, settings->receive_bytes_max);
    dsp_reply_end(&writer);
    dsp_session_reply(session, 0);
}

/* ---- channels ---- */

static struct dsp_channel *find_id(const struct dsp_session *session, uint64_t id)
{
    struct dsp_channel *channel = session->turn;
    for (uint32_t i = 0; i < session->channel_count; i++, channel = channel->next) {
        if (channel->id == id)
            return channel;
    }
    return NULL;
}

static bool same(struct cmq_span a, struct cmq_span b)
{
    return a.bytes == b.bytes && memcmp(a.data, b.data, a.bytes) == 0;
}

static struct dsp_channel *find_group(const struct dsp_session *session, struct cmq_span name)
{
    struct dsp_channel *channel = session->turn;
    for (uint32_t i = 0; i < session->channel_count; i++, channel = channel->next) {
        if (!channel->consumes)
            continue;
        if (same(dsp_group_name(channel->member.group), name))
            return channel;
    }
    return NULL;
}

/* The group that a command names, or NULL when that was answered. */
static struct dsp_channel *need_group(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_channel *channel = find_group(session, command->group);
    if (channel == NULL)
        refuse_saying(session, command, DSP_CODE_NO_SUCH_GROUP,
                      "this connection does not consume from that group; say consume first");
    return channel;
}

/* Whether one more may be made under the command's id. */
static bool check_new(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_fault fault = {0};
    if (!command->has_id) {
        refuse_saying(session, command, DSP_CODE_BAD_COMMAND,
                      "subscribe and consume need an id, which names them");
        return false;
    }
    if (find_id(session, command->id) != NULL) {
        refuse_saying(session, command, DSP_CODE_ID_IN_USE,
                      "a subscribe or consume of this connection has that id already");
        return false;
    }
    if (session->channel_count >= session->hub->settings.subscriptions_max) {
        (void)cmq_reason_set(&fault.reason, CMQ_ERR_FULL,
                             "at most %u subscribes and consumes a connection (dispatcher.subscriptions_max)",
                             session->hub->settings.subscriptions_max);
        refuse(session, command, &fault, DSP_CODE_LIMIT);
        return false;
    }
    return true;
}

static bool read_since(struct dsp_session *session, const struct dsp_command *command, const char *otherwise,
                       struct dsp_cursor *ret_cursor)
{
    struct dsp_fault fault = {0};
    struct cmq_span since = (command->present & DSP_HAS_SINCE) != 0
                                ? command->since
                                : cmq_span_make(otherwise, strlen(otherwise));
    if (dsp_cursor_parse(session->hub->source, since, ret_cursor, &fault.reason) == CMQ_OK)
        return true;
    refuse(session, command, &fault, DSP_CODE_BAD_SINCE);
    return false;
}

static bool check_topic(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_fault fault = {0};
    if (cmq_topic_pattern_check(command->topic, &fault.reason) == CMQ_OK)
        return true;
    refuse(session, command, &fault, DSP_CODE_BAD_TOPIC);
    return false;
}

static void subscribe(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_cursor cursor;
    char from[CMQ_ID_TEXT_BYTES];
    if (!check_new(session, command) || !check_topic(session, command) ||
        !may(session, command, CMQ_RIGHT_SUBSCRIBE, command->topic) ||
        !read_since(session, command, "latest", &cursor))
        return;
    struct dsp_channel *channel = dsp_session_channel_add(session, command->id);
    if (channel == NULL) {
        refuse_saying(session, command, DSP_CODE_INTERNAL, "out of memory; try again");
        return;
    }
    dsp_sub_init(&channel->sub, command->id, command->topic, &cursor);
    (void)cmq_id_format(from, cursor.next);
    struct dsp_writer writer = dsp_reply_ok(session->hub->frame, session->format, command, 2);
    dsp_write_key(&writer, "topic");
    dsp_write_str(&writer, command->topic);
    dsp_write_key(&writer, "from");
    dsp_write_text(&writer, from);
    dsp_reply_end(&writer);
    dsp_session_reply(session, 0);
}

/* ---- groups ---- */

static bool copy_group_name(struct cmq_span name, char ret_name[DSP_GROUP_NAME_BYTES_MAX + 1])
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    if (name.bytes == 0 || name.bytes > DSP_GROUP_NAME_BYTES_MAX)
        return false;
    memcpy(ret_name, name.data, name.bytes);
    ret_name[name.bytes] = '\0';
    return strspn(ret_name, allowed) == name.bytes;
}

static enum dsp_code code_of_join(enum cmq_err err)
{
    switch (err) {
    case CMQ_ERR_INVALID:
        return DSP_CODE_BAD_GROUP;
    case CMQ_ERR_EXISTS:
        return DSP_CODE_GROUP_MISMATCH;
    case CMQ_ERR_NOT_FOUND:
        return DSP_CODE_NO_SUCH_GROUP;
    case CMQ_ERR_FULL:
        return DSP_CODE_LIMIT;
    default:
        return DSP_CODE_INTERNAL;
    }
}

static uint64_t given(const struct dsp_command *command, uint32_t bit, uint64_t value, uint64_t otherwise)
{
    return (command->present & bit) != 0 ? value : otherwise;
}

static enum cmq_err join(struct dsp_channel *channel, const char *name, const struct dsp_command *command,
                         const struct dsp_cursor *cursor, struct dsp_fault *fault)
{
    struct dsp_hub *hub = channel->session->hub;
    const struct dsp_session_settings *settings = &hub->settings;
    const struct dsp_group_options options = {
        .start_seq = cursor->next.seq,
        .start_index = cursor->next.index,
        .ack_wait_ms = given(command, DSP_HAS_ACK_WAIT_MS, command->ack_wait_ms, settings->ack_wait_ms),
        .max_deliver =
            (uint32_t)given(command, DSP_HAS_MAX_DELIVER, command->max_deliver, settings->max_deliver),
        .max_ack_pending = settings->max_ack_pending};
    enum cmq_err err =
        dsp_group_join(hub->groups, name, command->topic, &options, &channel->member, &fault->reason);
    if (err != CMQ_OK)
        return err;
    channel->consumes = true;
    dsp_group_set_credit(hub->groups, &channel->member,
                         (uint32_t)given(command, DSP_HAS_CREDIT, command->credit, settings->credit));
    return CMQ_OK;
}

/* Acks name the group, so a connection is in it once. */
static bool check_first_of_group(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_fault fault = {0};
    const struct dsp_channel *channel = find_group(session, command->group);
    if (channel == NULL)
        return true;
    struct cmq_span topic = dsp_group_topic(channel->member.group);
    if ((command->present & DSP_HAS_TOPIC) == 0 || same(topic, command->topic)) {
        refuse_saying(session, command, DSP_CODE_BAD_GROUP,
                      "this connection consumes from that group already");
        return false;
    }
    (void)cmq_reason_set(&fault.reason, CMQ_ERR_EXISTS, "the group has the topic %.*s", (int)topic.bytes,
                         (const char *)topic.data);
    refuse(session, command, &fault, DSP_CODE_GROUP_MISMATCH);
    return false;
}

/* Before it joins, and so changes anything of the group. Without a topic the right is that of the group's, if there is one. */
static bool may_consume(struct dsp_session *session, const struct dsp_command *command, const char *name)
{
    char topic[256];
    if (session->grant.open)
        return true;
    if ((command->present & DSP_HAS_TOPIC) != 0)
        return may(session, command, CMQ_RIGHT_CONSUME, command->topic);
    if (dsp_groups_topic(session->hub->groups, name, topic) != CMQ_OK)
        return true; /* joining says why not */
    return may(session, command, CMQ_RIGHT_CONSUME, cmq_span_make(topic, strlen(topic)));
}

/* The topic of a group is nobody's business who may not consume it. */
static void hide_topic(const struct dsp_session *session, struct dsp_fault *fault)
{
    if (!session->grant.open)
        (void)cmq_reason_set(&fault->reason, CMQ_ERR_EXISTS, "a group of that name has another topic");
}

static void consume(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_cursor cursor;
    struct dsp_fault fault = {0};
    char name[DSP_GROUP_NAME_BYTES_MAX + 1];
    if (!check_new(session, command))
        return;
    if (!copy_group_name(command->group, name)) {
        refuse_saying(session, command, DSP_CODE_BAD_GROUP, "group must be 1 to 64 of A-Z a-z 0-9 _ . -");
        return;
    }
    if (session->hub->groups == NULL) {
        refuse_saying(session, command, DSP_CODE_INTERNAL, "there are no groups here");
        return;
    }
    if (!check_first_of_group(session, command))
        return;
    if (((command->present & DSP_HAS_TOPIC) != 0 && !check_topic(session, command)) ||
        !may_consume(session, command, name) || !read_since(session, command, "earliest", &cursor))
        return;
    struct dsp_channel *channel = dsp_session_channel_add(session, command->id);
    enum cmq_err err = channel == NULL ? CMQ_ERR_NOMEM : join(channel, name, command, &cursor, &fault);
    if (err != CMQ_OK) {
        if (channel != NULL)
            dsp_session_channel_remove(channel);
        if (fault.reason.text[0] == '\0')
            (void)cmq_reason_set(&fault.reason, err, "%s", cmq_err_text(err));
        if (err == CMQ_ERR_EXISTS)
            hide_topic(session, &fault);
        refuse(session, command, &fault, code_of_join(err));
        return;
    }
    struct dsp_writer writer = dsp_reply_ok(session->hub->frame, session->format, command, 2);
    dsp_write_key(&writer, "group");
    dsp_write_str(&writer, command->group);
    dsp_write_key(&writer, "topic");
    dsp_write_str(&writer, dsp_group_topic(channel->member.group));
    dsp_reply_end(&writer);
    dsp_session_reply(session, 0);
}

static void credit(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_channel *channel = need_group(session, command);
    if (channel == NULL)
        return;
    dsp_group_set_credit(session->hub->groups, &channel->member, (uint32_t)command->credit);
    dsp_session_channel_wake(channel);
    reply_empty(session, command);
}

static bool check_ids(struct dsp_session *session, const struct dsp_command *command)
{
    struct cmq_mp_reader ids = command->ids;
    struct cmq_span text;
    struct cmq_id id;
    uint32_t attempt;
    for (uint32_t i = 0; i < command->id_count; i++) {
        if (dsp_proto_next_id(&ids, &text, &id, &attempt) == CMQ_OK)
            continue;
        struct dsp_fault fault = {0};
        (void)cmq_reason_set(&fault.reason, CMQ_ERR_MALFORMED,
                             "ids[%u] is no id; one is \"12-0\", or \"12-0:1\" with the attempt", i);
        refuse(session, command, &fault, DSP_CODE_BAD_ID);
        return false;
    }
    return true;
}

/* What became of each id. */
struct verdicts {
    uint8_t *stale; /* a byte an id */
    uint32_t stale_count;
};

/* Acks or nacks all ids. False: no memory, nothing was done. */
static bool apply_ids(struct dsp_channel *channel, const struct dsp_command *command,
                      struct verdicts *verdicts)
{
    struct dsp_groups *groups = channel->session->hub->groups;
    struct cmq_mp_reader ids = command->ids;
    struct cmq_span text;
    struct cmq_id id = {0};
    uint32_t attempt = 0;
    *verdicts = (struct verdicts){.stale = calloc(command->id_count + 1u, 1)};
    if (verdicts->stale == NULL)
        return false;
    for (uint32_t i = 0; i < command->id_count; i++) {
        if (dsp_proto_next_id(&ids, &text, &id, &attempt) != CMQ_OK)
            break; /* not reached: they were checked */
        enum dsp_ack result = command->verb == DSP_VERB_ACK
                                  ? dsp_group_ack(groups, &channel->member, id, attempt)
                                  : dsp_group_nack(groups, &channel->member, id, attempt, command->delay_ms);
        verdicts->stale[i] = result == DSP_ACK_STALE;
        verdicts->stale_count += verdicts->stale[i];
    }
    return true;
}

static void write_verdicts(struct dsp_session *session, const struct dsp_command *command, uint32_t done,
                           const struct verdicts *verdicts)
{
    struct cmq_mp_reader ids = command->ids;
    struct cmq_span text;
    struct cmq_id id;
    uint32_t attempt;
    struct dsp_writer writer = dsp_reply_ok(session->hub->frame, session->format, command, 2);
    dsp_write_key(&writer, command->verb == DSP_VERB_ACK ? "acked" : "nacked");
    dsp_write_uint(&writer, done);
    dsp_write_key(&writer, "stale");
    dsp_write_array(&writer, verdicts->stale_count);
    for (uint32_t i = 0; verdicts->stale_count > 0 && i < command->id_count; i++) {
        if (dsp_proto_next_id(&ids, &text, &id, &attempt) == CMQ_OK && verdicts->stale[i] != 0)
            dsp_write_str(&writer, text);
    }
    dsp_write_array_end(&writer);
    dsp_reply_end(&writer);
}

/* An ack's reply waits until what it says survives a power cut. */
static void reply_verdicts(struct dsp_session *session, const struct dsp_command *command, uint32_t done,
                           const struct verdicts *verdicts)
{
    if (!wants_reply(command))
        return;
    struct dsp_groups *groups = session->hub->groups;
    uint64_t ticket = command->verb == DSP_VERB_ACK && done > 0 ? dsp_groups_ticket(groups) : 0;
    if (ticket <= dsp_groups_durable(groups))
        ticket = 0;
    write_verdicts(session, command, done, verdicts);
    dsp_session_reply(session, ticket);
}

static void ack_ids(struct dsp_session *session, const struct dsp_command *command)
{
    struct verdicts verdicts;
    struct dsp_channel *channel = need_group(session, command);
    if (channel == NULL || !check_ids(session, command))
        return;
    if (!apply_ids(channel, command, &verdicts)) {
        refuse_saying(session, command, DSP_CODE_INTERNAL, "out of memory; try again");
        return;
    }
    reply_verdicts(session, command, command->id_count - verdicts.stale_count, &verdicts);
    free(verdicts.stale);
}

static void ack_upto(struct dsp_session *session, const struct dsp_command *command)
{
    struct cmq_id id;
    const struct verdicts none = {0};
    struct dsp_channel *channel = need_group(session, command);
    if (channel == NULL)
        return;
    if (cmq_id_parse(command->upto, &id) != CMQ_OK) {
        refuse_saying(session, command, DSP_CODE_BAD_ID, "upto is no id; one is \"12-0\"");
        return;
    }
    uint32_t done = dsp_group_ack_upto(session->hub->groups, &channel->member, id);
    reply_verdicts(session, command, done, &none);
}

static void unsubscribe(struct dsp_session *session, const struct dsp_command *command)
{
    struct dsp_channel *channel = find_id(session, command->target);
    if (channel == NULL) {
        refuse_saying(session, command, DSP_CODE_NO_SUCH_SUB,
                      "no subscribe or consume of this connection has that id");
        return;
    }
    dsp_session_channel_remove(channel);
    reply_empty(session, command);
}

/* ---- all ---- */

void dsp_session_command(struct dsp_session *session, const struct dsp_command *command)
{
    if (command->verb == DSP_VERB_HEARTBEAT)
        return;
    if (command->verb != DSP_VERB_CONNECT && !session->connected) {
        refuse_saying(session, command, DSP_CODE_NOT_CONNECTED, "the first command must be connect");
        session->closing = DSP_CLOSE_PROTOCOL;
        return;
    }
    switch (command->verb) {
    case DSP_VERB_HEARTBEAT:
        break;
    case DSP_VERB_CONNECT:
        connect(session, command);
        break;
    case DSP_VERB_SUBSCRIBE:
        subscribe(session, command);
        break;
    case DSP_VERB_CONSUME:
        consume(session, command);
        break;
    case DSP_VERB_ACK:
        if ((command->present & DSP_HAS_UPTO) != 0)
            ack_upto(session, command);
        else
            ack_ids(session, command);
        break;
    case DSP_VERB_NACK:
        ack_ids(session, command);
        break;
    case DSP_VERB_CREDIT:
        credit(session, command);
        break;
    case DSP_VERB_UNSUBSCRIBE:
        unsubscribe(session, command);
        break;
    case DSP_VERB_PING:
        reply_empty(session, command);
        break;
    }
}
