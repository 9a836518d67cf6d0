/* Bytes of a plain record -> everything that the encryptor reads of it. */
#include <string.h>

#include "common/wire/cmq_batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_inside(struct cmq_span part, struct cmq_span all)
{
    if (part.bytes == 0)
        return;
    cmq_assert(part.data >= all.data && part.data < all.data + all.bytes);
    cmq_assert(part.bytes <= (size_t)(all.data + all.bytes - part.data));
}

/* Written again and read again, the unit is the same. */
static void check_again(const struct cmq_plain_head *head, const struct cmq_plain_unit *unit)
{
    uint8_t *dst =
        malloc(CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + unit->topic.bytes + unit->messages.bytes);
    cmq_assert(dst != NULL);
    struct cmq_plain_head one = *head, again_head;
    one.unit_count = 1;
    size_t bytes = cmq_plain_encode_head(dst, &one, unit->topic, unit->count, (uint32_t)unit->messages.bytes);
    cmq_assert(bytes <= CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + unit->topic.bytes);
    if (unit->messages.bytes != 0)
        memcpy(dst + bytes, unit->messages.data, unit->messages.bytes);
    bytes += unit->messages.bytes;
    struct cmq_mp_reader units;
    struct cmq_plain_unit again;
    cmq_assert(cmq_plain_decode(cmq_span_make(dst, bytes), &units, &again_head) == CMQ_OK);
    cmq_assert(cmq_plain_next(&units, &again) == CMQ_OK && cmq_mp_left(&units) == 0);
    cmq_assert(again_head.flags == head->flags && again_head.accepted_at_ms == head->accepted_at_ms);
    cmq_assert(again.count == unit->count && again.topic.bytes == unit->topic.bytes);
    cmq_assert(memcmp(again.topic.data, unit->topic.data, unit->topic.bytes) == 0);
    cmq_assert(again.messages.bytes == unit->messages.bytes);
    free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(exact != NULL);
    if (bytes != 0)
        memcpy(exact, data, bytes);
    struct cmq_span all = cmq_span_make(exact, bytes);
    struct cmq_plain_head head = {0};
    struct cmq_mp_reader units;
    enum cmq_err err = cmq_plain_decode(all, &units, &head);
    for (uint32_t i = 0; err == CMQ_OK && i < head.unit_count; i++) {
        struct cmq_plain_unit unit;
        const uint8_t *before = units.next;
        err = cmq_plain_next(&units, &unit);
        cmq_assert(err == CMQ_OK ? units.next > before : units.next == before);
        if (err != CMQ_OK)
            break;
        check_inside(unit.topic, all);
        check_inside(unit.messages, all);
        check_again(&head, &unit);
    }
    free(exact);
    return 0;
}
