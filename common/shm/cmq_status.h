/*
 * cmq_status: counters and histograms of a stage's instance, kept when its process dies; the next one counts on.
 * Ownership: objects "/cmq.INSTANCE.s{i,e,d}N" belong to the broker instance; made by the first process with that number,
 *            written by the one that has it now (its instance lock sees to that), read by anyone. Removed with the ring.
 * Units: as cmq_counters.h; nanoseconds.
 * Errors: none for a writer: a broker that cannot count goes on. Readers get what is there.
 * Callers: any thread.
 *
 * What a death leaves: an empty object, which is replaced; one without its magic is finished by the next process of that number; a count is one atomic
 * add, a duration three, so a histogram may lack one of them. Nothing is reset but the gauges, at join.
 */
#ifndef CMQ_STATUS_H
#define CMQ_STATUS_H

#include <assert.h>
#include <stdatomic.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_ring.h"
#include "common/shm/cmq_segment.h"

#define CMQ_STATUS_INSTANCES_MAX 64u
#define CMQ_STATUS_VERSION_BYTES 16u /* with the closing NUL of the copy; what is longer is cut */

struct cmq_status_hist {
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t buckets[CMQ_HIST_BUCKETS];
};

/* One page of shared memory; all relaxed. */
struct cmq_status_page {
    _Atomic uint64_t magic; /* stored last by who makes it */
    _Atomic uint64_t starts;
    _Atomic uint64_t version[2]; /* of the program that has the number now: text, zeros behind it */
    _Atomic uint64_t counters[64];
    struct cmq_status_hist hists[CMQ_HIST_COUNT];
};
static_assert(sizeof(struct cmq_status_page) <= 4096, "a page");

/* A copy. */
struct cmq_status {
    enum cmq_role role;
    uint32_t instance_number;
    uint64_t starts;                        /* processes so far */
    char version[CMQ_STATUS_VERSION_BYTES]; /* letters, digits, "." "+" "-" "~"; "": not known */
    uint64_t counters[CMQ_COUNTER_COUNT];
    struct {
        uint64_t count, sum_ns;
        uint64_t buckets[CMQ_HIST_BUCKETS]; /* not cumulative */
    } hists[CMQ_HIST_COUNT];
};

/* For cmq_ring: the page of a joining member. data stays NULL when it cannot be had, or for numbers from
 * CMQ_STATUS_INSTANCES_MAX on (a dispatcher's membership for dead letters). */
void cmq_status_join(const char *instance, enum cmq_role role, uint32_t instance_number, const char *version,
                     struct cmq_segment *ret_segment);
/* Fills at most max entries, by stage and number, whether they run or not; returns how many there are. */
size_t cmq_status_read(const char *instance, struct cmq_status *ret_statuses, size_t max);

/* For cmq_tables, too: the name of an instance's object of a kind (a letter). False: it has none. */
bool cmq_status_object_name(char ret_name[CMQ_SEGMENT_NAME_BYTES], char kind, const char *instance,
                            enum cmq_role role, uint32_t instance_number);
/* One of this build, or made new, zeroed. Its first word is the magic (0: unfinished); one of another build is replaced: its
 * words mean something else. */
CMQ_MUST_USE enum cmq_err cmq_status_object_open(const char *name, size_t bytes, uint64_t magic,
                                                 struct cmq_segment *ret_segment);

#endif
