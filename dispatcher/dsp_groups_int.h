/*
 * dsp_groups_int: the state of consumer groups, shared by the files of dsp_groups.
 * Ownership: struct dsp_groups owns everything here but the members.
 * Units: as in dsp_groups.h; nanoseconds of CLOCK_MONOTONIC.
 * Errors: enum cmq_err.
 * Callers: dsp_groups*.c; the delivery thread, but for what is said to be under the lock.
 *
 * A record in hand (struct dsp_hand) is claimed in the ledger and has messages that are not done. Its messages are handed out
 * in order, by runs (struct dsp_range): a run is in a member's flight, or has come back and waits in `returned` or `delayed`.
 * Groups with explicit acks keep a state for each message of a record that was handed out, and a run is only a place to look
 * at; auto-ack groups keep runs alone, so their cost is by frame.
 */
#ifndef DSP_GROUPS_INT_H
#define DSP_GROUPS_INT_H

#include <pthread.h>

#include "dispatcher/dsp_groups_tell.h"

#define DSP_OFFSET_UNKNOWN SIZE_MAX
/* Claims of the dead are looked for this often while the log does not grow. */
#define DSP_LOOK_AGAIN_NS (100 * 1000000ull)

struct dsp_range {
    struct dsp_range *next, *prev;
    struct dsp_hand *hand;
    uint32_t first, count;
    uint32_t attempt; /* of the delivery under way, or of the last one */
    size_t offset;    /* of message `first` in its unit's messages */
    uint64_t at_ns;   /* flight: the ack wait ends; delayed: it may come again */
};

struct dsp_run_list {
    struct dsp_range *head, *tail;
};

enum dsp_message_state { DSP_FREE, DSP_FLIGHT, DSP_RETURNED, DSP_PASSED, DSP_DEAD, DSP_DONE };

struct dsp_message {
    uint8_t state;
    uint16_t attempt; /* of the last delivery */
    uint32_t holder;  /* number of the member in whose flight it is */
};

/* A record in hand. */
struct dsp_hand {
    struct dsp_hand *next, *prev; /* of the group, by rising seq */
    struct dsp_hand *hash_next;
    struct dsp_hand *dirty_next;
    struct dsp_group *group;
    uint64_t seq;
    struct cmq_journal_pos near;
    uint32_t message_count, done_count;
    uint32_t handed; /* messages below were handed out once */
    uint32_t passed_count;
    size_t offset;   /* of message `handed` in its unit */
    uint32_t losses; /* deliveries by owners before that nobody knows about */
    uint32_t refs;   /* runs and dead letters */
    bool finished;   /* all done; kept for its runs */
    bool dirty;      /* acks that no commit has */
    uint32_t dirty_first, dirty_last;
    uint32_t low;               /* auto-ack: all messages below are done */
    struct dsp_range *ahead;    /* auto-ack: done although something before them is not; by rising first */
    struct dsp_message *states; /* explicit; NULL: nothing was handed out */
};

enum { DSP_HASH_BUCKETS = 1024 };
struct dsp_group {
    struct dsp_group *next, *prev;
    char name[DSP_GROUP_NAME_BYTES_MAX + 1];
    struct dsp_ledger_group ledger;
    bool auto_ack;
    uint32_t max_deliver, max_ack_pending;
    struct dsp_member *members, *waiting, *waiting_last;
    uint32_t member_count, pending; /* messages in flight */
    struct dsp_hand *hands, *hands_last, *buckets[DSP_HASH_BUCKETS];
    uint32_t hand_count, dead_count;
    struct dsp_hand *current; /* is being handed out */
    struct dsp_run_list returned, delayed;
    struct dsp_gap *gaps;            /* nobody was told yet */
    struct dsp_range *returned_hint; /* where the last one was put */
    struct dsp_claim claim;          /* records [claim.from, claim.to) are claimed and not in hand yet */
    struct cmq_journal_pos near;
    uint64_t looked_stored, looked_ns; /* nothing to claim when the log ended here */
    uint64_t floor;                    /* of the log, when it was looked at last */
    struct cmq_id noted;               /* auto-ack: what the ledger was told last */
    uint32_t usual_messages;           /* of a record */
    struct dsp_telling telling;
    /* Where a walk over a record's messages was last. */
    uint64_t walk_seq;
    uint32_t walk_unit_first, walk_index;
    size_t walk_offset;
    struct dsp_range *peeked_run; /* what peek said, as the next */
    struct dsp_hand *peeked_hand;
};

struct dsp_dead {
    struct dsp_dead *next;
    struct dsp_hand *hand;
    uint32_t index, attempt;
    bool published;
    uint64_t ticket; /* the ledger knows that it is dead */
    uint64_t seq;    /* of the dead letter */
};

/* What one commit takes. */
struct dsp_commit {
    struct dsp_ledger_change *changes;
    size_t count, capacity;
    struct dsp_release {
        uint32_t group;
        uint64_t from, to, noted_seq;
        uint32_t noted_index;
    } * releases; /* given up after the commit */
    size_t release_count, release_capacity;
    uint64_t ticket;
    uint64_t due_ns; /* 0: not needed; 1: at once */
    bool partial;    /* has acks of records that are not done */
};

struct dsp_groups {
    struct dsp_groups_setup setup;
    struct dsp_group *groups;
    uint32_t group_count, member_number, hand_count;
    struct dsp_range *spare_ranges;
    struct dsp_hand *dirty;
    struct dsp_dead *dead;
    struct dsp_record *held;
    size_t state_bytes;
    uint64_t due_ns, ticket;
    uint32_t steps; /* records opened by this peek */
    struct dsp_tell_turn tell_turn;
    bool draining, nomem;

    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct dsp_commit building, committing; /* building: under lock; committing: the ledger thread's */
    uint64_t durable;                       /* under lock, as all that follow */
    uint64_t sleeping_ns; /* of the ledger thread, until then (UINT64_MAX: until told); 0: it works */
    bool busy, stop;
};

/* ---- dsp_groups.c ---- */

void dsp_waiting_remove(struct dsp_group *group, struct dsp_member *member);
/* Could this member take something? */
bool dsp_has_room(const struct dsp_group *group, const struct dsp_member *member);
bool dsp_may_have_more(const struct dsp_groups *groups, const struct dsp_group *group);
/* Tells the next one in turn. */
void dsp_wake_if_more(struct dsp_groups *groups, struct dsp_group *group);
void dsp_flight_pop(struct dsp_groups *groups, struct dsp_member *member);

/* ---- dsp_groups_hand.c ---- */

struct dsp_range *dsp_range_new(struct dsp_groups *groups);
void dsp_range_free(struct dsp_groups *groups, struct dsp_range *range);
void dsp_runs_push(struct dsp_run_list *list, struct dsp_range *range);
void dsp_runs_remove(struct dsp_run_list *list, struct dsp_range *range);
void dsp_run_drop(struct dsp_groups *groups, struct dsp_range *run);
void dsp_hand_unref(struct dsp_groups *groups, struct dsp_hand *hand);
struct dsp_hand *dsp_hand_find(struct dsp_group *group, uint64_t seq);
/* Makes group->current a record with something to hand out. CMQ_ERR_AGAIN: there is none. CMQ_ERR_TIMEOUT: looked enough. */
CMQ_MUST_USE enum cmq_err dsp_hand_next(struct dsp_groups *groups, struct dsp_group *group, uint32_t room);
/* Messages first .. first + count - 1 are done. Explicit acks: their states were set. */
void dsp_hand_done(struct dsp_groups *groups, struct dsp_hand *hand, uint32_t first, uint32_t count);
/* The states of all messages; NULL: no memory. */
struct dsp_message *dsp_hand_states(struct dsp_groups *groups, struct dsp_hand *hand);
/* What of the run is still in that member's hands comes back after delay_ns, or becomes a dead letter. */
void dsp_run_return(struct dsp_groups *groups, struct dsp_range *run, uint32_t holder, uint64_t delay_ns);
void dsp_returned_add(struct dsp_group *group, struct dsp_range *run);
void dsp_delayed_add(struct dsp_group *group, struct dsp_range *run);
/* Lets go of every record of which nothing is in a flight. */
void dsp_group_let_go(struct dsp_groups *groups, struct dsp_group *group);

/* ---- dsp_groups_commit.c ---- */

CMQ_MUST_USE enum cmq_err dsp_commit_start(struct dsp_groups *groups);
void dsp_commit_stop(struct dsp_groups *groups);
void dsp_commit_done(struct dsp_groups *groups, const struct dsp_group *group, uint64_t from, uint64_t to);
void dsp_commit_release(struct dsp_groups *groups, const struct dsp_group *group, uint64_t from, uint64_t to,
                        uint64_t noted_seq, uint32_t noted_index);
/* Acks of a record that is not done: now, or with the next flush. */
void dsp_commit_partial(struct dsp_groups *groups, struct dsp_hand *hand);
void dsp_commit_flush(struct dsp_groups *groups);

/* ---- dsp_groups_dead.c ---- */

void dsp_dead_add(struct dsp_groups *groups, struct dsp_hand *hand, uint32_t index, uint32_t attempt,
                  uint64_t ticket);
/* Publishes, and ends what is stored. Returns when to look again (UINT64_MAX: never). */
uint64_t dsp_dead_tick(struct dsp_groups *groups, uint64_t now_ns);
/* Offset of message `index` of a unit. CMQ_ERR_MALFORMED: there is no such message. */
CMQ_MUST_USE enum cmq_err dsp_walk_to(struct dsp_group *group, const struct dsp_record *record,
                                      const struct dsp_unit *unit, uint32_t index, size_t *ret_offset);
/* The unit that message `index` is in; NULL: none. */
const struct dsp_unit *dsp_unit_of(const struct dsp_record *record, uint32_t index);

#endif
