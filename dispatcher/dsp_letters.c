#include "dispatcher/dsp_letters.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/proc/cmq_stage_ring.h"
#include "common/shm/cmq_ring.h"
#include "common/wire/cmq_batch.h"

/* In status and messages the second membership is an ingest with a number that no ingest has. */
enum { INSTANCE_BASE = 1000 };

struct dsp_letters {
    const struct cmq_conf *conf;
    unsigned instance_number;
    _Atomic(struct cmq_ring *) ring; /* the delivery thread sets it once */
    bool said;
};

enum cmq_err dsp_letters_new(const struct cmq_conf *conf, unsigned instance_number,
                             struct dsp_letters **ret_letters)
{
    struct dsp_letters *letters = calloc(1, sizeof *letters);
    if (letters == NULL)
        return CMQ_ERR_NOMEM;
    letters->conf = conf;
    letters->instance_number = INSTANCE_BASE + instance_number;
    *ret_letters = letters;
    return CMQ_OK;
}

void dsp_letters_free(struct dsp_letters *letters)
{
    if (letters == NULL)
        return;
    cmq_ring_detach(atomic_load_explicit(&letters->ring, memory_order_acquire));
    free(letters);
}

static enum cmq_err join(struct dsp_letters *letters, struct cmq_ring **ret_ring)
{
    struct cmq_ring_setup setup;
    struct cmq_reason reason = {.text = ""};
    struct cmq_ring *ring = NULL;
    cmq_stage_ring_setup(letters->conf, letters->instance_number, letters->conf->dispatcher_dead_arena_bytes,
                         &setup);
    enum cmq_err err = cmq_ring_attach(&setup, CMQ_ROLE_INGEST, &ring, &reason);
    if (err != CMQ_OK) {
        if (!letters->said)
            cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "where=dead_letters action=retry reason=\"%s\"",
                    reason.text);
        letters->said = true;
        return CMQ_ERR_AGAIN; /* the message stays in hand until it works */
    }
    /* Release: pairs with the tick's load; the attachment is complete. */
    atomic_store_explicit(&letters->ring, ring, memory_order_release);
    *ret_ring = ring;
    return CMQ_OK;
}

enum cmq_err dsp_letters_publish(struct dsp_letters *letters, struct cmq_span topic, struct cmq_span message,
                                 uint64_t *ret_seq)
{
    uint8_t head[CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + CMQ_TOPIC_BYTES_MAX];
    struct cmq_ring *ring = atomic_load_explicit(&letters->ring, memory_order_relaxed);
    if (ring == NULL) {
        enum cmq_err err = join(letters, &ring);
        if (err != CMQ_OK)
            return err;
    }
    const struct cmq_plain_head plain = {.unit_count = 1, .accepted_at_ms = cmq_clock_wall_ms()};
    size_t head_bytes = cmq_plain_encode_head(head, &plain, topic, 1, (uint32_t)message.bytes);
    const struct cmq_span parts[] = {cmq_span_make(head, head_bytes), message};
    return cmq_ring_publish(ring, parts, CMQ_COUNT_OF(parts), 1, ret_seq);
}

void dsp_letters_tick(struct dsp_letters *letters)
{
    struct cmq_ring *ring = atomic_load_explicit(&letters->ring, memory_order_acquire);
    struct cmq_reason reason;
    if (ring != NULL && cmq_ring_tick(ring, &reason) != CMQ_OK)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_MEMBER_DEAD, "where=dead_letters reason=\"%s\"", reason.text);
}
