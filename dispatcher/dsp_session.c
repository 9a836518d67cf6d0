#include "dispatcher/dsp_session.h"

#include <string.h>

#include "common/log/cmq_log.h"

#include "dispatcher/dsp_item.h"
#include "dispatcher/dsp_roll.h"

enum {
    CONGESTED_BYTES = 64 * 1024, /* of replies; then nothing more is read */
    REPLIES_BYTES_MAX =
        4 << 20,       /* a client that is read from although it reads nothing: what came in one go */
    BATCHES_MAX = 2048 /* of a group in one call, in case nothing in them can be delivered */
};

struct dsp_reply {
    struct dsp_reply *next;
    uint64_t ticket;
    size_t bytes;
    uint8_t text[];
};

/* ---- replies ---- */

static void push_reply(struct dsp_reply **first, struct dsp_reply **last, struct dsp_reply *reply)
{
    reply->next = NULL;
    if (*last != NULL)
        (*last)->next = reply;
    else
        *first = reply;
    *last = reply;
}

static struct dsp_reply *pop_reply(struct dsp_reply **first, struct dsp_reply **last)
{
    struct dsp_reply *reply = *first;
    *first = reply->next;
    if (*first == NULL)
        *last = NULL;
    return reply;
}

static void waiting_add(struct dsp_session *session)
{
    struct dsp_hub *hub = session->hub;
    session->waiting_prev = NULL;
    session->waiting_next = hub->waiting;
    if (hub->waiting != NULL)
        hub->waiting->waiting_prev = session;
    hub->waiting = session;
}

static void waiting_remove(struct dsp_session *session)
{
    if (session->waiting_prev != NULL)
        session->waiting_prev->waiting_next = session->waiting_next;
    else
        session->hub->waiting = session->waiting_next;
    if (session->waiting_next != NULL)
        session->waiting_next->waiting_prev = session->waiting_prev;
}

void dsp_session_reply(struct dsp_session *session, uint64_t ticket)
{
    const struct dsp_text *frame = session->hub->frame;
    struct dsp_reply *reply = frame->err == CMQ_OK ? malloc(sizeof(*reply) + frame->bytes)
                                                   : NULL; /* no memory: the client must not wait */
    if (reply == NULL) {
        session->closing = DSP_CLOSE_INTERNAL;
        return;
    }
    *reply = (struct dsp_reply){.ticket = ticket, .bytes = frame->bytes};
    memcpy(reply->text, dsp_text_start(frame), frame->bytes);
    session->reply_bytes += sizeof(*reply) + reply->bytes;
    if (session->reply_bytes > REPLIES_BYTES_MAX)
        session->closing = DSP_CLOSE_SLOW;
    if (ticket == 0) {
        push_reply(&session->replies, &session->replies_last, reply);
        return;
    }
    if (session->acks == NULL)
        waiting_add(session);
    push_reply(&session->acks, &session->acks_last, reply);
}

void dsp_hub_durable(struct dsp_hub *hub)
{
    const uint64_t durable = dsp_groups_durable(hub->groups);
    struct dsp_session *next;
    for (struct dsp_session *session = hub->waiting; session != NULL; session = next) {
        next = session->waiting_next;
        if (session->acks->ticket > durable)
            continue;
        while (session->acks != NULL && session->acks->ticket <= durable)
            push_reply(&session->replies, &session->replies_last,
                       pop_reply(&session->acks, &session->acks_last));
        if (session->acks == NULL)
            waiting_remove(session);
        hub->want(session);
    }
}

bool dsp_session_is_congested(const struct dsp_session *session)
{
    return session->reply_bytes > CONGESTED_BYTES;
}

static void drop_replies(struct dsp_reply *reply)
{
    while (reply != NULL) {
        struct dsp_reply *next = reply->next;
        free(reply);
        reply = next;
    }
}

/* ---- channels ---- */

static void sleep_add(struct dsp_channel *channel)
{
    struct dsp_hub *hub = channel->session->hub;
    channel->sleep_prev = NULL;
    channel->sleep_next = hub->sleeping;
    if (hub->sleeping != NULL)
        hub->sleeping->sleep_prev = channel;
    hub->sleeping = channel;
}

static void sleep_remove(struct dsp_channel *channel)
{
    if (channel->sleep_prev != NULL)
        channel->sleep_prev->sleep_next = channel->sleep_next;
    else
        channel->session->hub->sleeping = channel->sleep_next;
    if (channel->sleep_next != NULL)
        channel->sleep_next->sleep_prev = channel->sleep_prev;
}

struct dsp_channel *dsp_session_channel_add(struct dsp_session *session, uint64_t id)
{
    struct dsp_channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL)
        return NULL;
    channel->session = session;
    channel->id = id;
    channel->ready = true;
    if (session->turn == NULL) {
        channel->next = channel->prev = channel;
        session->turn = channel;
    } else { /* its turn comes last */
        channel->next = session->turn;
        channel->prev = session->turn->prev;
        channel->prev->next = channel;
        channel->next->prev = channel;
    }
    session->channel_count++;
    return channel;
}

void dsp_session_channel_remove(struct dsp_channel *channel)
{
    struct dsp_session *session = channel->session;
    if (channel->consumes)
        dsp_group_leave(session->hub->groups, &channel->member);
    else if (!channel->ready)
        sleep_remove(channel);
    if (session->told == channel)
        session->told = NULL; /* whoever is left in the group tells it again */
    if (session->turn == channel)
        session->turn = channel->next == channel ? NULL : channel->next;
    channel->next->prev = channel->prev;
    channel->prev->next = channel->next;
    session->channel_count--;
    free(channel);
}

void dsp_session_channel_wake(struct dsp_channel *channel)
{
    if (channel->ready)
        return;
    channel->ready = true;
    if (!channel->consumes)
        sleep_remove(channel);
    channel->session->hub->want(channel->session);
}

/* seq: the end of the log when the channel looked. */
static void fall_asleep(struct dsp_channel *channel, uint64_t seq)
{
    struct dsp_hub *hub = channel->session->hub;
    channel->ready = false;
    hub->follow = cmq_min_u64(hub->follow, seq);
    if (!channel->consumes)
        sleep_add(channel);
}

void dsp_hub_stored(struct dsp_hub *hub)
{
    struct dsp_channel *next;
    hub->follow = UINT64_MAX;
    /* Most records are nothing to most subscribers, and to wake one costs far more than a look at the topics. */
    for (struct dsp_channel *channel = hub->sleeping; channel != NULL; channel = next) {
        next = channel->sleep_next;
        if (dsp_sub_pass(&channel->sub, hub->source))
            hub->follow = cmq_min_u64(hub->follow, channel->sub.cursor.next.seq);
        else
            dsp_session_channel_wake(channel);
    }
}

static struct dsp_channel *channel_of(struct dsp_member *member)
{
    return (struct dsp_channel *)((uint8_t *)member - offsetof(struct dsp_channel, member));
}

void dsp_hub_ready(struct dsp_hub *hub, struct dsp_member *member)
{
    (void)hub;
    dsp_session_channel_wake(channel_of(member));
}

/* One gap a channel: a wider one says less, but nothing wrong. */
void dsp_hub_gap(struct dsp_hub *hub, struct dsp_member *member, uint64_t from, uint64_t to, bool damaged)
{
    struct dsp_channel *channel = channel_of(member);
    (void)hub;
    if (channel->gap_from == channel->gap_to) {
        channel->gap_from = from;
        channel->gap_to = to;
    } else {
        channel->gap_from = cmq_min_u64(channel->gap_from, from);
        channel->gap_to = cmq_max_u64(channel->gap_to, to);
    }
    channel->gap_damaged = damaged;
    dsp_session_channel_wake(channel);
}

void dsp_hub_fini(struct dsp_hub *hub)
{
    cmq_assert(hub->sleeping == NULL && hub->waiting == NULL);
    cmq_buf_fini(&hub->packed);
}

/* ---- groups ---- */

/* Messages that nobody can use (any more) are done without delivery. */
static void skip_left_out(struct dsp_hub *hub, struct dsp_member *member, const struct dsp_batch *batch,
                          uint32_t count, uint64_t now_ms)
{
    uint32_t expired = 0;
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    cmq_mp_reader_init(&reader, batch->messages);
    for (uint32_t i = 0; i < count; i++) {
        if (cmq_message_read(&reader, &message) != CMQ_OK)
            break;
        const bool over = dsp_item_is_over(&message, now_ms);
        expired += over;
        if (message.left_out || over)
            dsp_group_skip(hub->groups, member,
                           (struct cmq_id){.seq = batch->record->seq, .index = batch->first + i});
    }
    cmq_ring_count(hub->ring, CMQ_COUNT_EXPIRED, expired);
}

/* None of the batch can be read. */
static enum cmq_err pass_batch(struct dsp_channel *channel, const struct dsp_batch *batch)
{
    struct dsp_hub *hub = channel->session->hub;
    enum cmq_err err = dsp_group_take(hub->groups, &channel->member, batch, batch->count, 0);
    if (err == CMQ_OK)
        dsp_group_pass(hub->groups, &channel->member, batch);
    return err;
}

/* A frame of a group while it is built. */
struct handing {
    struct dsp_channel *channel;
    struct dsp_items items;
    uint8_t topic[CMQ_TOPIC_BYTES_MAX];
    size_t topic_bytes;
    bool full;
};

static void take_topic(struct handing *handing, struct cmq_span topic)
{
    struct dsp_session *session = handing->channel->session;
    bool same = topic.bytes == handing->topic_bytes && memcmp(topic.data, handing->topic, topic.bytes) == 0;
    if (same)
        return;
    if (handing->items.count > 0) {
        handing->full = true; /* a frame has one topic */
        return;
    }
    memcpy(handing->topic, topic.data, topic.bytes);
    handing->topic_bytes = topic.bytes;
    dsp_push_begin(session->hub->frame, session->format, &session->hub->limits, handing->channel->id,
                   dsp_group_name(handing->channel->member.group), topic, &handing->items);
}

static enum cmq_err hand_out(struct handing *handing, const struct dsp_batch *batch)
{
    struct dsp_hub *hub = handing->channel->session->hub;
    struct dsp_member *member = &handing->channel->member;
    uint32_t taken, left_out;
    size_t bytes;
    const struct dsp_run run = {.seq = batch->record->seq,
                                .ts_ms = batch->record->accepted_at_ms,
                                .first = batch->first,
                                .count = batch->count,
                                .attempt = batch->attempt,
                                .messages = batch->messages,
                                .now_ms = hub->encoder->clock_ms()};
    enum cmq_err err = dsp_encode_run(&handing->items, &run, &taken, &bytes, &left_out);
    if (taken == 0 && err == CMQ_ERR_MALFORMED)
        return pass_batch(handing->channel, batch);
    handing->full = taken < batch->count;
    if (err == CMQ_ERR_MALFORMED)
        err = CMQ_OK; /* met again, as the first one */
    if (err == CMQ_OK && taken > 0)
        err = dsp_group_take(hub->groups, member, batch, taken, bytes);
    if (err == CMQ_OK && left_out > 0)
        skip_left_out(hub, member, batch, taken, run.now_ms);
    return err;
}

/* Its records are done when the socket has taken the frame: the next call of dsp_session_next says so. */
static void tell_gap(struct dsp_channel *channel)
{
    struct dsp_session *session = channel->session;
    session->told = channel;
    session->told_from = channel->gap_from;
    session->told_to = channel->gap_to;
    dsp_push_gap(session->hub->frame, session->format, channel->id, (struct cmq_id){.seq = channel->gap_from},
                 (struct cmq_id){.seq = channel->gap_to}, channel->gap_damaged ? "damaged" : "retention");
    channel->gap_from = channel->gap_to = 0;
}

static void confirm_gap(struct dsp_session *session)
{
    struct dsp_channel *channel = session->told;
    session->told = NULL;
    dsp_group_gap_told(session->hub->groups, &channel->member, session->told_from, session->told_to);
}

static enum dsp_send finish_group(struct handing *handing, enum dsp_send otherwise)
{
    struct dsp_channel *channel = handing->channel;
    if (handing->items.count > 0) {
        dsp_push_end(&handing->items);
        cmq_ring_count(channel->session->hub->ring, CMQ_COUNT_MESSAGES, handing->items.count);
        channel->session->messages += handing->items.count;
        return DSP_SEND_FRAME;
    }
    if (channel->gap_from != channel->gap_to) {
        tell_gap(channel);
        return DSP_SEND_FRAME;
    }
    return otherwise;
}

static enum dsp_send fill_group(struct dsp_channel *channel, enum cmq_err *ret_err)
{
    struct handing handing = {.channel = channel};
    struct dsp_groups *groups = channel->session->hub->groups;
    const uint64_t stored = dsp_source_stored(channel->session->hub->source);
    if (channel->gap_from != channel->gap_to) /* not behind messages that never end */
        return finish_group(&handing, DSP_SEND_LATER);
    for (unsigned i = 0; i < BATCHES_MAX && !handing.full; i++) {
        struct dsp_batch batch;
        enum cmq_err err = dsp_group_peek(groups, &channel->member, &batch);
        if (err == CMQ_ERR_AGAIN) {
            if (!channel->member.waiting)
                return finish_group(&handing, DSP_SEND_LATER); /* it has only looked long enough */
            enum dsp_send send = finish_group(&handing, DSP_SEND_NOTHING);
            /* More in the log is of no use to a member without credit; its acks wake it. */
            bool paused = channel->member.flight_count >= channel->member.credit;
            if (send == DSP_SEND_NOTHING)
                fall_asleep(channel, paused ? UINT64_MAX : stored);
            return send;
        }
        if (err == CMQ_OK && !batch.unit->readable) {
            if (handing.items.count > 0)
                break;
            err = pass_batch(channel, &batch);
        } else if (err == CMQ_OK) {
            take_topic(&handing, batch.unit->topic);
            if (!handing.full)
                err = hand_out(&handing, &batch);
        }
        if (err != CMQ_OK && cmq_err_advice(err) == CMQ_ADVICE_RETRY)
            break;
        if (err != CMQ_OK) {
            *ret_err = err;
            return DSP_SEND_FAILED;
        }
    }
    return finish_group(&handing, DSP_SEND_LATER);
}

/* ---- what is sent ---- */

static enum dsp_send fill_sub(struct dsp_channel *channel, enum cmq_err *ret_err)
{
    struct dsp_session *session = channel->session;
    struct dsp_hub *hub = session->hub;
    switch (dsp_sub_fill(&channel->sub, hub->encoder, session->format, &hub->limits, hub->frame, ret_err)) {
    case DSP_SUB_FRAME:
        cmq_ring_count(hub->ring, CMQ_COUNT_MESSAGES, channel->sub.frame_messages);
        session->messages += channel->sub.frame_messages;
        return DSP_SEND_FRAME;
    case DSP_SUB_TAIL:
        fall_asleep(channel, channel->sub.cursor.next.seq); /* it stands at the end */
        return DSP_SEND_NOTHING;
    case DSP_SUB_MORE:
        return DSP_SEND_LATER;
    case DSP_SUB_FAILED:
        break;
    }
    return DSP_SEND_FAILED;
}

/* The channels in turn, until one has a frame. */
static enum dsp_send next_push(struct dsp_session *session, enum cmq_err *ret_err)
{
    enum dsp_send result = DSP_SEND_NOTHING;
    for (uint32_t i = 0; i < session->channel_count; i++) {
        struct dsp_channel *channel = session->turn;
        session->turn = channel->next;
        if (!channel->ready)
            continue;
        enum dsp_send send = channel->consumes ? fill_group(channel, ret_err) : fill_sub(channel, ret_err);
        if (send == DSP_SEND_FRAME || send == DSP_SEND_FAILED)
            return send;
        if (send == DSP_SEND_LATER)
            result = send;
    }
    return result;
}

static void send_reply(struct dsp_session *session)
{
    struct dsp_reply *reply = pop_reply(&session->replies, &session->replies_last);
    dsp_text_begin(session->hub->frame);
    dsp_text_add(session->hub->frame, reply->text, reply->bytes);
    session->reply_bytes -= sizeof(*reply) + reply->bytes;
    free(reply);
}

enum dsp_send dsp_session_next(struct dsp_session *session, enum cmq_err *ret_err)
{
    struct dsp_hub *hub = session->hub;
    enum dsp_send send = DSP_SEND_NOTHING;
    if (session->told != NULL)
        confirm_gap(session);
    if (session->replies != NULL && session->closing != DSP_CLOSE_SLOW) {
        send_reply(session);
        send = DSP_SEND_FRAME;
    } else if (hub->draining && session->acks == NULL && session->closing == DSP_CLOSE_NONE) {
        session->closing = DSP_CLOSE_DRAIN;
    }
    if (send == DSP_SEND_NOTHING && session->closing != DSP_CLOSE_NONE)
        return DSP_SEND_CLOSE;
    if (send == DSP_SEND_NOTHING && !hub->draining)
        send = next_push(session, ret_err);
    if (send == DSP_SEND_FRAME && hub->frame->err != CMQ_OK) {
        *ret_err = hub->frame->err;
        return DSP_SEND_FAILED;
    }
    return send;
}

/* ---- life ---- */

void dsp_session_init(struct dsp_session *ret_session, struct dsp_hub *hub, enum dsp_format format)
{
    *ret_session = (struct dsp_session){.hub = hub, .format = format};
}

void dsp_session_identify(struct dsp_session *session, const struct cmq_grant *grant,
                          const struct cmq_address *address)
{
    session->grant = *grant;
    session->address = *address;
}

void dsp_session_recheck(struct dsp_session *session)
{
    if (session->closing != DSP_CLOSE_NONE || dsp_access_is_nobody(&session->grant) ||
        dsp_access_is_live(session->hub->access, &session->grant))
        return;
    char text[CMQ_ADDRESS_TEXT_BYTES];
    struct cmq_log_quoted quoted;
    const char *name = cmq_grant_name(&session->grant);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "where=v1 close=%d reason=revoked name=%s address=%s",
            DSP_CLOSE_REVOKED, cmq_log_quote(&quoted, name, strlen(name)),
            cmq_address_text(&session->address, text));
    session->closing = DSP_CLOSE_REVOKED;
    session->hub->want(session);
}

uint64_t dsp_session_unread(const struct dsp_session *session)
{
    uint64_t lowest = UINT64_MAX;
    const struct dsp_channel *channel = session->turn;
    for (uint32_t i = 0; i < session->channel_count; i++, channel = channel->next)
        if (!channel->consumes)
            lowest = cmq_min_u64(lowest, channel->sub.cursor.next.seq);
    return lowest;
}

/* Records that wait for the channel. */
static uint64_t lag_of(const struct dsp_channel *channel, const struct dsp_roll *roll)
{
    return channel->consumes ? dsp_group_lag(channel->session->hub->groups, channel->member.group)
                             : dsp_roll_lag(roll, channel->sub.cursor.next.seq);
}

struct cmq_table_client *dsp_session_tell(const struct dsp_session *session, struct dsp_roll *roll)
{
    const struct dsp_channel *channel = session->turn, *last = NULL;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < session->channel_count; i++, channel = channel->next) {
        const uint64_t lag = lag_of(channel, roll);
        if (!channel->consumes)
            dsp_roll_subscriber(roll, lag);
        if (last != NULL && (lag < largest || (lag == largest && channel->id > last->id)))
            continue;
        last = channel;
        largest = lag;
    }
    struct cmq_table_client *row = dsp_roll_add(roll, largest, session->channel_count, &session->address);
    if (row == NULL)
        return NULL;
    row->kind = CMQ_CLIENT_V1;
    row->messages = session->messages;
    if (last != NULL && last->consumes) {
        row->subject = dsp_group_topic(last->member.group);
        row->group = dsp_group_name(last->member.group);
    } else if (last != NULL) {
        row->subject = cmq_span_make(last->sub.pattern, last->sub.pattern_bytes);
    }
    return row;
}

void dsp_session_fini(struct dsp_session *session)
{
    while (session->turn != NULL)
        dsp_session_channel_remove(session->turn);
    if (session->acks != NULL)
        waiting_remove(session);
    cmq_grant_put(&session->grant);
    drop_replies(session->acks);
    drop_replies(session->replies);
    *session = (struct dsp_session){0};
}

/* A client that does not keep to the protocol is not listened to any more. */
void dsp_session_receive(struct dsp_session *session, struct cmq_span message)
{
    struct dsp_hub *hub = session->hub;
    struct dsp_command command;
    struct dsp_fault fault = {0};
    if (session->closing != DSP_CLOSE_NONE)
        return;
    if (session->format == DSP_FORMAT_JSON) {
        cmq_buf_clear(&hub->packed, CONGESTED_BYTES);
        enum cmq_err err = cmq_json_pack(hub->packer, message, &hub->packed, &fault.reason);
        if (err != CMQ_OK) {
            session->closing = err == CMQ_ERR_NOMEM ? DSP_CLOSE_INTERNAL : DSP_CLOSE_PROTOCOL;
            hub->want(session);
            return;
        }
        message = cmq_buf_span(&hub->packed);
    }
    switch (dsp_proto_decode(message, &command, &fault)) {
    case DSP_DECODE_OK:
        dsp_session_command(session, &command);
        break;
    case DSP_DECODE_REFUSED:
        dsp_reply_error(hub->frame, session->format, &command, &fault);
        dsp_session_reply(session, 0);
        break;
    case DSP_DECODE_BROKEN:
        session->closing = DSP_CLOSE_PROTOCOL;
        break;
    }
    if (session->replies != NULL || session->closing != DSP_CLOSE_NONE)
        hub->want(session);
}
