/* Stands in for dsp_groups while the program has none: hub->groups is NULL then, and nothing here is called. */
#include "dispatcher/dsp_groups.h"

enum cmq_err dsp_group_join(struct dsp_groups *groups, const char *name, struct cmq_span topic,
                            const struct dsp_group_options *options, struct dsp_member *ret_member,
                            struct cmq_reason *reason)
{
    (void)groups, (void)name, (void)topic, (void)options, (void)ret_member, (void)reason;
    return CMQ_ERR_SYSTEM;
}

void dsp_group_leave(struct dsp_groups *groups, struct dsp_member *member)
{
    (void)groups, (void)member;
}

struct cmq_span dsp_group_name(const struct dsp_group *group)
{
    (void)group;
    return cmq_span_make(NULL, 0);
}

struct cmq_span dsp_group_topic(const struct dsp_group *group)
{
    return dsp_group_name(group);
}

enum cmq_err dsp_group_peek(struct dsp_groups *groups, struct dsp_member *member, struct dsp_batch *ret_batch)
{
    (void)groups, (void)member, (void)ret_batch;
    return CMQ_ERR_AGAIN;
}

enum cmq_err dsp_group_take(struct dsp_groups *groups, struct dsp_member *member,
                            const struct dsp_batch *batch, uint32_t count, size_t bytes)
{
    (void)groups, (void)member, (void)batch, (void)count, (void)bytes;
    return CMQ_ERR_AGAIN;
}

void dsp_group_skip(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id)
{
    (void)groups, (void)member, (void)id;
}

enum dsp_ack dsp_group_ack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                           uint32_t attempt)
{
    (void)groups, (void)member, (void)id, (void)attempt;
    return DSP_ACK_STALE;
}

uint32_t dsp_group_ack_upto(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id)
{
    (void)groups, (void)member, (void)id;
    return 0;
}

enum dsp_ack dsp_group_nack(struct dsp_groups *groups, struct dsp_member *member, struct cmq_id id,
                            uint32_t attempt, uint64_t delay_ms)
{
    (void)groups, (void)member, (void)id, (void)attempt, (void)delay_ms;
    return DSP_ACK_STALE;
}

void dsp_group_set_credit(struct dsp_groups *groups, struct dsp_member *member, uint32_t credit)
{
    (void)groups, (void)member, (void)credit;
}

uint64_t dsp_groups_ticket(const struct dsp_groups *groups)
{
    (void)groups;
    return 0;
}

uint64_t dsp_groups_durable(const struct dsp_groups *groups)
{
    (void)groups;
    return 0;
}
