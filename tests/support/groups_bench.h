/*
 * groups_bench: some dispatchers without sockets: engines of consumer groups that share a log in memory and a ledger in a
 *               temporary directory.
 * Ownership: one bench at a time; bench_start and bench_stop own all of it. Members are static: bench_stop makes those leave
 *            that a failed test left behind.
 * Units: as in dsp_groups.h.
 * Errors: cmocka assertions.
 * Callers: one thread; the engines' ledger threads only post a semaphore.
 */
#ifndef GROUPS_BENCH_H
#define GROUPS_BENCH_H

#include "common/shm/cmq_tables.h"
#include "dispatcher/dsp_groups.h"
#include "tests/support/fake_log.h"

enum { BENCH_ENGINES = 8, BENCH_LETTERS = 64, BENCH_LETTER_BYTES = 512, BENCH_READY = 256 };

struct bench_letter {
    char topic[64];
    uint8_t message[BENCH_LETTER_BYTES];
    size_t bytes;
};

struct bench_engine {
    struct dsp_source *source;
    struct dsp_ledger *ledger;
    struct dsp_groups *groups;
    struct dsp_member *ready[BENCH_READY]; /* whom the hook named, in order */
    unsigned ready_count;
    uint64_t gap_from, gap_to; /* the last one */
    unsigned gaps;
    bool gap_damaged;
    struct bench_letter letters[BENCH_LETTERS];
    unsigned letter_count, letters_refused;
    unsigned letters_early; /* sent or refused before the ledger knew everything that it was told */
    enum cmq_err publish;   /* what publish_dead says */
    uint64_t owner;
    struct cmq_tables_page tables;
};

struct bench {
    struct fake_log *log;
    struct bench_engine engines[BENCH_ENGINES];
    uint64_t owners;    /* given so far */
    size_t cache_bytes; /* of the engines that are opened; 0: everything stays in their caches */
};

struct bench *bench_start(void);
void bench_stop(struct bench *bench);
/* Starts engine `index` as a new owner. */
struct bench_engine *bench_open(struct bench *bench, unsigned index);
/* Ends it in order; its members have left. */
void bench_close(struct bench_engine *engine);
/* For all others it is dead. It must not be called any more; bench_bury frees it. */
void bench_die(struct bench_engine *engine);
/* Frees a dead engine, whose members these were. */
void bench_bury(struct bench_engine *engine, struct dsp_member *members, size_t count);

void bench_join(struct bench_engine *engine, struct dsp_member *ret_member, const char *topic, bool auto_ack);
/* Of group `name`; ack_wait 1000 ms, max_deliver as said, credit 1000. */
void bench_consume(struct bench_engine *engine, struct dsp_member *ret_member, const char *name,
                   uint32_t max_deliver);

/* Peeks, and takes at most `max` messages of what there is; their texts must begin with the record's letter. count 0: AGAIN.
 */
struct bench_got {
    uint64_t seq;
    uint32_t first, count, attempt;
};
struct bench_got bench_take(struct bench_engine *engine, struct dsp_member *member, uint32_t max);
/* As bench_take, but waits until there is something: another dispatcher gives something up, say. */
struct bench_got bench_take_soon(struct bench_engine *engine, struct dsp_member *member, uint32_t max);
enum dsp_ack bench_ack(struct bench_engine *engine, struct dsp_member *member, uint64_t seq, uint32_t index);
/* All acks so far are durable. */
void bench_commit(struct bench_engine *engine);
/* Another process moves group `name`, as `ciphermqctl groups reset` does; seq 0: removes it. */
void bench_move(const char *name, const char *topic, uint64_t seq, uint32_t index);
/* Until the group's floor is there. */
void bench_wait_floor(struct bench_engine *engine, const char *name, uint64_t floor);

#define assert_got(got, seq_of, first_of, count_of, attempt_of) \
    do {                                                        \
        struct bench_got got_once = (got);                      \
        assert_int_equal(got_once.count, count_of);             \
        if ((count_of) > 0) {                                   \
            assert_int_equal(got_once.seq, seq_of);             \
            assert_int_equal(got_once.first, first_of);         \
            assert_int_equal(got_once.attempt, attempt_of);     \
        }                                                       \
    } while (0)
#define assert_nothing(got) assert_got(got, 0, 0, 0, 0)

#endif
