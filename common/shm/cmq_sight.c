#include "common/shm/cmq_sight.h"

#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_tables_read.h"
#include "common/shm/cmq_view.h"

enum { INSTANCES_MAX = 3 * CMQ_STATUS_INSTANCES_MAX };

/* What is needed while it is made. */
struct raw {
    struct cmq_member_state members[CMQ_MEMBERS_MAX];
    struct cmq_status statuses[INSTANCES_MAX];
};

const char *cmq_role_name(enum cmq_role role)
{
    switch (role) {
    case CMQ_ROLE_NONE:
        return "none";
    case CMQ_ROLE_INGEST:
        return "ingest";
    case CMQ_ROLE_ENCRYPTOR:
        return "encryptor";
    case CMQ_ROLE_DISPATCHER:
        return "dispatcher";
    case CMQ_ROLE_OBSERVER:
        return "observer";
    }
    return "unknown";
}

unsigned cmq_role_by(enum cmq_role role)
{
    return role == CMQ_ROLE_INGEST      ? CMQ_BY_INGEST
           : role == CMQ_ROLE_ENCRYPTOR ? CMQ_BY_ENCRYPTOR
                                        : CMQ_BY_DISPATCHER;
}

const char *cmq_log_health_name(enum cmq_log_health health)
{
    switch (health) {
    case CMQ_LOG_HEALTH_NONE:
        return "none";
    case CMQ_LOG_HEALTH_OK:
        return "ok";
    case CMQ_LOG_HEALTH_FULL:
        return "full";
    case CMQ_LOG_HEALTH_FAILED:
        return "failed";
    }
    return "unknown";
}

static bool is_better(const struct cmq_member_state *member, const struct cmq_sight_instance *found)
{
    if (found->member.id == CMQ_MEMBERS_MAX || member->alive != found->alive)
        return found->member.id == CMQ_MEMBERS_MAX || member->alive;
    return member->start_wall_ms > found->member.start_wall_ms;
}

/* The words are read one after another: a difference may be out by what moved between. */
static uint64_t lag_of(const struct cmq_sight *sight, const struct cmq_sight_instance *instance)
{
    if (instance->status.role == CMQ_ROLE_ENCRYPTOR)
        return sight->ring.published - sight->ring.committed;
    return instance->status.role == CMQ_ROLE_DISPATCHER ? instance->status.counters[CMQ_COUNT_LAG] : 0;
}

static enum cmq_err copy_tables(const char *broker, const struct cmq_status *status,
                                struct cmq_tables_copy **ret_tables)
{
    struct cmq_segment segment = {0};
    if (!cmq_tables_map(broker, status->role, status->instance_number, false, &segment))
        return CMQ_OK;
    struct cmq_tables_copy *copy = malloc(sizeof *copy);
    if (copy != NULL)
        cmq_tables_copy(segment.data, status->role, status->instance_number, copy);
    cmq_segment_unmap(&segment);
    *ret_tables = copy;
    return copy == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
}

static void add_instance(struct cmq_sight *sight, const struct cmq_status *status,
                         const struct cmq_member_state *members, size_t member_count)
{
    struct cmq_sight_instance *instance = &sight->instances[sight->count++];
    *instance = (struct cmq_sight_instance){.status = *status, .member = {.id = CMQ_MEMBERS_MAX}};
    for (size_t i = 0; i < member_count; i++) {
        const struct cmq_member_state *member = &members[i];
        if (member->role != status->role || member->instance_number != status->instance_number ||
            !is_better(member, instance))
            continue;
        instance->member = *member;
        instance->alive = member->alive;
    }
    const uint64_t messages = instance->member.counters[CMQ_COUNT_MESSAGES];
    instance->ns_per_message = messages == 0 ? 0 : instance->member.counters[CMQ_COUNT_WORK_NS] / messages;
    instance->lag = lag_of(sight, instance);
    if (instance->alive && status->role == CMQ_ROLE_ENCRYPTOR &&
        instance->member.counters[CMQ_COUNT_LOG_FLOOR] > 0)
        sight->writer = instance;
}

enum cmq_err cmq_sight_take(struct cmq_ring *ring, struct cmq_sight **ret_sight)
{
    struct raw *raw = malloc(sizeof *raw);
    struct cmq_sight *sight = calloc(1, sizeof *sight);
    enum cmq_err err = CMQ_ERR_NOMEM;
    if (raw == NULL || sight == NULL)
        goto out;
    (void)snprintf(sight->instance, sizeof sight->instance, "%s", ring->instance);
    sight->now_ms = cmq_clock_wall_ms();
    cmq_ring_state(ring, &sight->ring);
    const size_t members =
        cmq_min_u64(cmq_ring_members(ring, raw->members, CMQ_MEMBERS_MAX), CMQ_MEMBERS_MAX);
    const size_t count =
        cmq_min_u64(cmq_status_read(ring->instance, raw->statuses, INSTANCES_MAX), INSTANCES_MAX);
    sight->durable = cmq_ring_durable_seq(ring);
    sight->stored = cmq_ring_stored_seq(ring);
    sight->health = cmq_ring_log_health(ring);
    sight->instances = calloc(count + 1, sizeof *sight->instances);
    if (sight->instances == NULL)
        goto out; /* with CMQ_ERR_NOMEM */
    for (size_t i = 0; i < count; i++) {
        add_instance(sight, &raw->statuses[i], raw->members, members);
        err = copy_tables(ring->instance, &raw->statuses[i], &sight->instances[i].tables);
        if (err != CMQ_OK)
            goto out;
    }
    *ret_sight = sight;
    sight = NULL;
    err = CMQ_OK;
out:
    cmq_sight_free(sight);
    free(raw);
    return err;
}

void cmq_sight_free(struct cmq_sight *sight)
{
    if (sight == NULL)
        return;
    for (size_t i = 0; i < sight->count; i++)
        free(sight->instances[i].tables);
    free(sight->instances);
    free(sight);
}

unsigned cmq_sight_live(const struct cmq_sight *sight, enum cmq_role role)
{
    unsigned live = 0;
    for (size_t i = 0; i < sight->count; i++)
        live += sight->instances[i].alive && sight->instances[i].status.role == role;
    return live;
}
