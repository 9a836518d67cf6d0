/*
 * cmq_sight: all that can be seen of a broker in one look: ring, log, processes, and what every instance counted.
 * Ownership: heap memory; freed by cmq_sight_free.
 * Units: as cmq_ring.h and cmq_status.h; wall clock in milliseconds since 1970.
 * Errors: CMQ_ERR_NOMEM.
 * Callers: any thread with a ring that it may read: a member or an observer. The numbers move while they are read.
 */
#ifndef CMQ_SIGHT_H
#define CMQ_SIGHT_H

#include "common/shm/cmq_status.h"

struct cmq_tables_copy; /* cmq_tables_read.h */

/* A number of a stage that has a process, or had one since the ring was made. By stage, then number. */
struct cmq_sight_instance {
    struct cmq_status status;
    bool alive;
    struct cmq_member_state member; /* of its newest process; alive, or id CMQ_MEMBERS_MAX: none is known */
    uint64_t lag;                   /* records that wait for the stage */
    uint64_t ns_per_message;        /* over the life of its process */
    struct cmq_tables_copy *tables; /* NULL: it has none of this build */
};

struct cmq_sight {
    uint64_t now_ms;
    char instance[CMQ_INSTANCE_BYTES]; /* the broker's name */
    struct cmq_ring_state ring;
    uint64_t stored, durable;
    enum cmq_log_health health;
    const struct cmq_sight_instance *writer; /* of the log; NULL: nobody now */
    struct cmq_sight_instance *instances;
    size_t count;
};

CMQ_MUST_USE enum cmq_err cmq_sight_take(struct cmq_ring *ring, struct cmq_sight **ret_sight);
/* NULL is fine. */
void cmq_sight_free(struct cmq_sight *sight);
unsigned cmq_sight_live(const struct cmq_sight *sight, enum cmq_role role);

/* "ingest", ...; "unknown" for a number that came out of shared memory and is none. */
const char *cmq_role_name(enum cmq_role role);
/* CMQ_BY_: which counters are those of the stage. */
unsigned cmq_role_by(enum cmq_role role);
const char *cmq_log_health_name(enum cmq_log_health health);

#endif
