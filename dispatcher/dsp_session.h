/*
 * dsp_session: one connection of /v1/ws without its socket: commands in, replies and pushes out, one frame at a time.
 * Ownership: session and hub are the caller's memory. A session owns its channels (subscribes and consumes) and the replies
 *            that wait; it holds no message. Everything in the hub is borrowed.
 * Units: bytes, messages, milliseconds.
 * Errors: a client's faults become replies, or the code to close with; those of the process are told by dsp_session_next.
 * Callers: the delivery thread.
 *
 * - dsp_session_receive takes a whole message of the client; its reply waits until it can be sent. A reply to acks waits
 *   until they are durable.
 * - When the socket can take a frame, dsp_session_next builds the next one in hub->frame: replies first, then the channels
 *   in turn. There is no queue of messages: a channel has a cursor (dsp_sub) or a group's claims (dsp_groups).
 * - A channel that has nothing sleeps; dsp_hub_stored and dsp_hub_ready wake it if there is something for it, and hub->want
 *   asks for dsp_session_next.
 */
#ifndef DSP_SESSION_H
#define DSP_SESSION_H

#include "common/base/cmq_address.h"
#include "common/base/cmq_buf.h"
#include "common/wire/cmq_json_pack.h"
#include "dispatcher/dsp_access.h"
#include "dispatcher/dsp_groups.h"
#include "dispatcher/dsp_proto.h"
#include "dispatcher/dsp_sub.h"

struct cmq_table_client;
struct dsp_roll;
struct dsp_session;
struct dsp_reply;

/* What a client may do without saying so, and what it is told at connect. */
struct dsp_session_settings {
    uint64_t heartbeat_ms, receive_bytes_max, ack_wait_ms;
    uint32_t subscriptions_max, credit, max_deliver, max_ack_pending;
};

/* A subscribe or a consume. */
struct dsp_channel {
    struct dsp_channel *next, *prev;             /* ring of the session's channels */
    struct dsp_channel *sleep_next, *sleep_prev; /* subscriptions that wait for the log */
    struct dsp_session *session;
    uint64_t id;
    bool ready; /* may have something */
    bool consumes;
    struct dsp_sub sub;        /* !consumes */
    struct dsp_member member;  /* consumes */
    uint64_t gap_from, gap_to; /* records of a gap that is to be told; none when equal */
    bool gap_damaged;
};

struct dsp_hub {
    struct cmq_ring *ring; /* for counters */
    struct dsp_source *source;
    struct dsp_groups *groups;
    struct dsp_access *access;
    struct dsp_encoder *encoder;
    struct dsp_text *frame;
    struct cmq_json_packer *packer;
    struct cmq_buf packed;
    struct dsp_push_limits limits;
    struct dsp_session_settings settings;
    /* The session has something to send: call dsp_session_next when its socket can take it. */
    void (*want)(struct dsp_session *session);
    struct dsp_channel *sleeping;
    uint64_t
        follow; /* dsp_hub_stored is to be called when the log's end is above this; UINT64_MAX: nobody waits */
    struct dsp_session *waiting; /* have acks that are not durable yet */
    bool draining;
};

struct dsp_session {
    struct dsp_hub *hub;
    enum dsp_format format;
    bool connected;
    bool turned_away; /* closing because it may not connect */
    struct cmq_grant grant;
    uint64_t messages;          /* sent so far */
    struct cmq_address address; /* of the peer */
    struct dsp_channel *turn;   /* the channel that is next */
    struct dsp_channel *told;   /* the frame on its way is a gap of this group's; NULL: it is not */
    uint64_t told_from, told_to;
    uint32_t channel_count;
    struct dsp_reply *replies, *replies_last; /* to be sent */
    struct dsp_reply *acks, *acks_last;       /* replies that wait for their ticket, by rising ticket */
    size_t reply_bytes;                       /* of both */
    struct dsp_session *waiting_next, *waiting_prev;
    enum dsp_close closing; /* once the replies are out */
};

/* The hub's fields were set; the rest is zero. */
void dsp_hub_fini(struct dsp_hub *hub);
/* The log has more. Sets hub->follow for those who sleep on. */
void dsp_hub_stored(struct dsp_hub *hub);
/* More acks are durable. */
void dsp_hub_durable(struct dsp_hub *hub);
/* Hooks of dsp_groups, for members that are a session's. */
void dsp_hub_ready(struct dsp_hub *hub, struct dsp_member *member);
void dsp_hub_gap(struct dsp_hub *hub, struct dsp_member *member, uint64_t from, uint64_t to, bool damaged);

void dsp_session_init(struct dsp_session *ret_session, struct dsp_hub *hub, enum dsp_format format);
/* What was shown before: the grant becomes the session's. Before the first message. */
void dsp_session_identify(struct dsp_session *session, const struct cmq_grant *grant,
                          const struct cmq_address *address);
/* Closes it if its grant is over. */
void dsp_session_recheck(struct dsp_session *session);
/* The first record that the subscription that is farthest behind has not passed; UINT64_MAX: there is none. */
uint64_t dsp_session_unread(const struct dsp_session *session);
/* Puts it on the roll, by the channel that is farthest behind. The row, for what the session does not know; NULL: it has none. */
struct cmq_table_client *dsp_session_tell(const struct dsp_session *session, struct dsp_roll *roll);
/* Leaves groups, ends subscriptions. Accepts a zeroed struct. */
void dsp_session_fini(struct dsp_session *session);
void dsp_session_receive(struct dsp_session *session, struct cmq_span message);
/* Many replies wait because the client does not read: nothing more should be taken from it until that ends. */
bool dsp_session_is_congested(const struct dsp_session *session);

enum dsp_send {
    DSP_SEND_FRAME,   /* hub->frame is to be sent; there may be more */
    DSP_SEND_NOTHING, /* want will be called */
    DSP_SEND_LATER,   /* call again when others had their turn */
    DSP_SEND_CLOSE,   /* close with session->closing */
    DSP_SEND_FAILED   /* *ret_err; the process should end */
};
CMQ_MUST_USE enum dsp_send dsp_session_next(struct dsp_session *session, enum cmq_err *ret_err);

/* ---- for dsp_session_command.c ---- */

/* The hub's frame becomes a reply that waits for `ticket` (0: for nothing). */
void dsp_session_reply(struct dsp_session *session, uint64_t ticket);
struct dsp_channel *dsp_session_channel_add(struct dsp_session *session, uint64_t id);
void dsp_session_channel_remove(struct dsp_channel *channel);
void dsp_session_channel_wake(struct dsp_channel *channel);
void dsp_session_command(struct dsp_session *session, const struct dsp_command *command);

#endif
