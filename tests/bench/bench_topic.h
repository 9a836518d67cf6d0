/*
 * bench_topic: measurements of the v1 protocol: fan-out, replay, a group, a subscriber that does not read.
 * Ownership: results are heap memory, freed by bench_topic_free; plans and target are the caller's.
 * Units: nanoseconds, messages, bytes, KiB of memory.
 * Errors: an error code means that nothing could be measured; a failed check is in the result, `verdict`.
 * Callers: the main thread.
 *
 * Every run has a topic (and group) of its own, named by chance, and a first message that is only a mark: "since" is its
 * id, so that what lies in the log from earlier runs is neither seen nor read.
 */
#ifndef BENCH_TOPIC_H
#define BENCH_TOPIC_H

#include "tests/bench/bench_listen.h"
#include "tests/bench/bench_run.h"

struct bench_topic_plan {
    const char *name; /* of the load */
    unsigned subscribers;
    bool group; /* the subscribers are members of one */
    bool msgpack;
    uint64_t credit, rate; /* 0: default, as fast as possible */
    unsigned connections;
    uint64_t messages;
    uint32_t size;
    const char *ack;
    uint64_t timeout_s;
    int32_t pid; /* of the dispatcher, when there are no stages; 0: none */
};

struct bench_memory {
    uint64_t own_kib, shmem_kib; /* largest dispatcher: anonymous and file pages; ring pages */
};

struct bench_topic_result {
    struct bench_topic_plan plan;
    char label[80]; /* what is special, "" for nothing */
    struct bench_verdict verdict;
    bool catch_up;    /* published before: time counts from the subscription */
    uint64_t from_ns; /* the time's begin */
    struct bench_load load;
    struct bench_listen listen;
    uint64_t excused, reconnects;
    struct bench_hist delivery; /* POST sent -> its last message received, over all subscribers */
    struct bench_use use[BENCH_STAGE_COUNT];
    bool has_memory;
    struct bench_memory before, after, peak;
    struct bench_topic_result *next; /* another measurement of the same run */
};

/* Live subscribers, or a group. */
CMQ_MUST_USE enum cmq_err bench_topic_live(struct bench_target *target, const struct bench_topic_plan *plan,
                                           struct bench_topic_result **ret_result, struct cmq_reason *reason);
/* Publishes, then one subscriber catches up: in JSON, then another one in MessagePack. */
CMQ_MUST_USE enum cmq_err bench_topic_replay(struct bench_target *target, const struct bench_topic_plan *plan,
                                             struct bench_topic_result **ret_result,
                                             struct cmq_reason *reason);
/* Fast subscribers alone; then beside one that reads nothing; then that one reads. */
CMQ_MUST_USE enum cmq_err bench_topic_slow(struct bench_target *target, const struct bench_topic_plan *plan,
                                           struct bench_topic_result **ret_result, struct cmq_reason *reason);
/* And those behind it. NULL is fine. */
void bench_topic_free(struct bench_topic_result *result);

/* First byte sent (or subscription) -> everything has come, has been checked, and in a group is confirmed. */
uint64_t bench_topic_ns(const struct bench_topic_result *result);

#endif
