#include "ctl.h"

#include "common/base/cmq_base.h"
#include "common/proc/cmq_stage_ring.h"

enum cmq_err ctl_ring_observe(const struct cmq_conf *conf, struct cmq_ring **ret_ring,
                              struct cmq_reason *reason)
{
    struct cmq_ring_setup setup;
    cmq_stage_ring_setup(conf, 0, 0, &setup);
    enum cmq_err err = cmq_ring_attach(&setup, CMQ_ROLE_OBSERVER, ret_ring, reason);
    if (err == CMQ_ERR_AGAIN)
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "broker \"%s\" has no ring yet; run `ciphermqctl init`",
                              conf->common_instance);
    return err;
}

bool ctl_ring_find(struct cmq_ring *ring, enum cmq_role role, uint32_t instance,
                   struct cmq_member_state *ret_member)
{
    struct cmq_member_state members[CMQ_MEMBERS_MAX];
    size_t count = cmq_min_u64(cmq_ring_members(ring, members, CMQ_COUNT_OF(members)), CMQ_COUNT_OF(members));
    const struct cmq_member_state *newest = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct cmq_member_state *member = &members[i];
        if (member->alive && member->role == role && member->instance_number == instance &&
            (newest == NULL || member->start_wall_ms >= newest->start_wall_ms))
            newest = member;
    }
    if (newest != NULL)
        *ret_member = *newest;
    return newest != NULL;
}
