/*
 * dsp_groups: consumer groups: who gets which message, how often, and when it is done.
 * Ownership: groups and deliveries belong to struct dsp_groups; members are embedded in their connection and stay
 *            registered from join to leave. Borrows source and ledger.
 * Units: messages, records, milliseconds; attempt counts from 1.
 * Errors: join: CMQ_ERR_INVALID (name or topic), CMQ_ERR_EXISTS (the group has another topic), CMQ_ERR_NOT_FOUND (no topic
 *         given, and no such group), CMQ_ERR_FULL; peek: CMQ_ERR_AGAIN; what is not of advice RETRY ends the process.
 * Callers: the delivery thread. The ledger's commits run on a thread of its own.
 *
 * Happy path:
 *   - a member that can take more asks dsp_group_peek: messages that came back first, then those of records that this
 *     dispatcher claims in the ledger only to hand them out; dsp_group_take puts them in the member's flight;
 *   - an auto-ack member (the root endpoint) says dsp_group_delivered when its socket took the frame; others ack by id;
 *   - acked messages are collected, committed together by the ledger thread, and then confirmed (on_durable).
 * Failure:
 *   - a member leaves, nacks, or lets ack_wait pass: its messages come back with a higher attempt;
 *   - after max_deliver attempts a message goes to topic $dead.<topic>, and is done when that is stored;
 *   - this process dies: other dispatchers find its claims free. What was acked but not committed comes again.
 */
#ifndef DSP_GROUPS_H
#define DSP_GROUPS_H

#include "common/wire/cmq_id.h"
#include "dispatcher/dsp_ledger.h"
#include "dispatcher/dsp_source.h"

struct dsp_groups;
struct dsp_group;
struct dsp_range; /* messages of one unit, in one state */

struct dsp_group_options {
    uint64_t start_seq;       /* for a group that is new */
    uint32_t start_index;     /* of the first message in that record; not with auto_ack */
    uint64_t ack_wait_ms;     /* auto-ack: not used */
    uint32_t max_deliver;     /* 0: no limit. The latest join says it for the group in this process */
    uint32_t max_ack_pending; /* of all members of the group in this process together; > 0; as max_deliver */
    bool auto_ack;
};

struct dsp_member {
    struct dsp_group *group; /* NULL: not a member */
    struct dsp_member *next, *prev;
    struct dsp_member *waiting_next, *waiting_prev;
    struct dsp_range *flight, *flight_last; /* by the time they were taken */
    uint32_t flight_count, flight_runs;     /* messages; and ranges, some of which may be over */
    uint32_t credit; /* dsp_group_set_credit; most messages in flight; auto-ack: UINT32_MAX */
    uint64_t ack_wait_ns;
    uint32_t number; /* names it in the states of messages */
    bool waiting;    /* peek said AGAIN: the hook will be called */
};

struct dsp_groups_setup {
    struct cmq_ring *ring; /* for counters */
    struct dsp_source *source;
    struct dsp_ledger *ledger;
    struct cmq_tables_page *tables; /* where dsp_groups_tell says how groups do; NULL: nowhere */
    /* A member that was waiting may find something now. Called from any dsp_group call, and dsp_groups_poke/tick. */
    void (*on_ready)(void *context, struct dsp_member *member);
    /* All acks with a ticket up to this one are durable. Called in the ledger's thread: only wake the delivery thread. */
    void (*on_durable)(void *context);
    /* Acks cannot be kept any more, and not for lack of space: the process must end. In the ledger's thread. */
    void (*on_failed)(void *context, enum cmq_err err);
    /* Messages of records [from, to) may be missing for this member: retention took them, or they are damaged. They are done
     * once a member was told (dsp_group_gap_told), and not before; the hook is called again if it may have been forgotten. Not
     * for auto-ack members, who cannot be told. The hook must not call dsp_group functions. NULL: nobody wants to know. */
    void (*on_gap)(void *context, struct dsp_member *member, uint64_t from, uint64_t to, bool damaged);
    /* Publishes a dead letter as the only message of a record in `topic` ($dead....); *ret_seq is its record. The message may
     * have an id, which must not be looked up: the batch says nothing of ids. An error of advice RETRY: again later; another
     * one gives the letter up. */
    enum cmq_err (*publish_dead)(void *context, struct cmq_span topic, struct cmq_span message,
                                 uint64_t *ret_seq);
    void *context;
    uint64_t commit_ms; /* auto-acks are committed after this time at the latest; others at once */
};
CMQ_MUST_USE enum cmq_err dsp_groups_new(const struct dsp_groups_setup *setup,
                                         struct dsp_groups **ret_groups);
/* Commits what is acked, gives up all claims; no member may be left. NULL is fine. */
void dsp_groups_free(struct dsp_groups *groups);

/* topic.bytes 0: that of the group, which must exist (CMQ_ERR_NOT_FOUND). CMQ_ERR_EXISTS: it has another topic, which the
 * reason names. */
CMQ_MUST_USE enum cmq_err dsp_group_join(struct dsp_groups *groups, const char *name, struct cmq_span topic,
                                         const struct dsp_group_options *options,
                                         struct dsp_member *ret_member, struct cmq_reason *reason);
/* The topic of a group, whether or not anybody is in it: at most 255 bytes and a NUL. CMQ_ERR_NOT_FOUND. */
CMQ_MUST_USE enum cmq_err dsp_groups_topic(struct dsp_groups *groups, const char *name, char ret_topic[256]);
/* What is in its flight comes back. A zeroed member, or one that left, is fine. */
void dsp_group_leave(struct dsp_groups *groups, struct dsp_member *member);
/* Name and topic (a pattern) of a group, while it has a member. */
struct cmq_span dsp_group_name(const struct dsp_group *group);
struct cmq_span dsp_group_topic(const struct dsp_group *group);

/* The one of the root endpoint. */
bool dsp_group_is_auto_ack(const struct dsp_group *group);

/* Consecutive messages of one unit, all of the same attempt. The record is held by the group until the next call for this
 * group; who needs it longer holds it (dsp_source_hold). */
struct dsp_batch {
    struct dsp_record *record;
    const struct dsp_unit *unit;
    uint32_t first, count; /* indexes in the record */
    uint32_t attempt;
    struct cmq_span messages; /* from message `first` on; behind the count there may be more bytes */
    size_t offset;            /* where they begin in the unit's messages */
};
/* What the member may have next. Nothing is taken. CMQ_ERR_AGAIN: nothing now, or no credit; the member is waiting then. If
 * it is not waiting, many records were looked at and had nothing for the group: ask again, when others had their turn.
 * Nobody may call another dsp_group function between peek and take. */
CMQ_MUST_USE enum cmq_err dsp_group_peek(struct dsp_groups *groups, struct dsp_member *member,
                                         struct dsp_batch *ret_batch);
/* Takes the first `count` (> 0) of the peeked messages into the flight; `bytes` of them were read. Those among them that are
 * of no use to this member (left out, not readable) are in the flight, too: unless it is auto-ack, the caller says
 * dsp_group_skip or dsp_group_pass at once. */
CMQ_MUST_USE enum cmq_err dsp_group_take(struct dsp_groups *groups, struct dsp_member *member,
                                         const struct dsp_batch *batch, uint32_t count, size_t bytes);
/* Done without delivery; not counted as an ack. */
void dsp_group_skip(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id);
/* Nothing of the batch, which was taken whole, can be read: a gap, that all members are told of. Not for auto-ack members. */
void dsp_group_pass(struct dsp_groups *groups, struct dsp_member *member, const struct dsp_batch *batch);
/* The member was told that [from, to) may be missing, and its socket took that. */
void dsp_group_gap_told(struct dsp_groups *groups, struct dsp_member *member, uint64_t from, uint64_t to);
/* Auto-ack: all that is in flight was delivered. */
void dsp_group_delivered(struct dsp_groups *groups, struct dsp_member *member);

enum dsp_ack { DSP_ACK_OK, DSP_ACK_STALE }; /* stale: not in flight at this member, or of another attempt */
/* attempt 0: the current one. */
enum dsp_ack dsp_group_ack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                           uint32_t attempt);
/* Everything in flight at this member up to and with id; returns how many. */
uint32_t dsp_group_ack_upto(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id);
/* Comes again after delay_ms, to any member. */
enum dsp_ack dsp_group_nack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                            uint32_t attempt, uint64_t delay_ms);
/* Most messages in flight from now on; 0 pauses. */
void dsp_group_set_credit(struct dsp_groups *groups, struct dsp_member *member, uint32_t credit);
/* Ticket of the acks so far; they are durable when dsp_groups_durable() has reached it. */
uint64_t dsp_groups_ticket(struct dsp_groups *groups);
uint64_t dsp_groups_durable(struct dsp_groups *groups);

/* The first record that nobody here has begun to read for the group that is farthest behind, of those with members here;
 * UINT64_MAX: none is behind. */
uint64_t dsp_groups_unread(struct dsp_groups *groups);

/* Tells the instance's tables how groups do, those included that have no members here; a few hundred at a time, in turn. */
void dsp_groups_tell(struct dsp_groups *groups);
/* Records that are not done for the group, as of the last tell. */
uint64_t dsp_group_lag(const struct dsp_groups *groups, const struct dsp_group *group);

/* The log has more, or a claim became free: waiting members are told. */
void dsp_groups_poke(struct dsp_groups *groups);
/* Whether dead letters are in the rings and not yet on the disk: a drain waits for them, or the next one sends them again. */
bool dsp_groups_letters(const struct dsp_groups *groups);
/* Ack waits, delays, dead letters. Returns when to be called next (CLOCK_MONOTONIC ns, UINT64_MAX: never). */
uint64_t dsp_groups_tick(struct dsp_groups *groups, uint64_t now_ns);
/* When tick is due as things are now; a take or a nack may have made it sooner than the last tick said. */
uint64_t dsp_groups_due(const struct dsp_groups *groups);
/* No more claims; what is not in flight is given up now, the rest as flights end. */
void dsp_groups_drain(struct dsp_groups *groups);

#endif
