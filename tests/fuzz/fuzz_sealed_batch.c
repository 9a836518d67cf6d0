/* Bytes of a sealed record -> everything that the dispatcher reads of it, and the AAD. */
#include <string.h>

#include "common/wire/cmq_batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_unit(const struct cmq_sealed_head *head, const struct cmq_sealed_unit *unit,
                       struct cmq_span all)
{
    cmq_assert(unit->topic_bytes >= 1 && unit->sealed.bytes >= CMQ_TAG_BYTES);
    cmq_assert(unit->count <= unit->sealed.bytes - CMQ_TAG_BYTES);
    cmq_assert(unit->sealed.data >= all.data && unit->sealed.data < all.data + all.bytes);
    cmq_assert(unit->sealed.bytes <= (size_t)(all.data + all.bytes - unit->sealed.data));
    uint8_t *aad = malloc(CMQ_BATCH_AAD_BYTES_MAX);
    cmq_assert(aad != NULL);
    cmq_assert(cmq_sealed_aad(aad, head, unit) ==
               CMQ_BATCH_AAD_BYTES_MAX - CMQ_TOPIC_BYTES_MAX + (size_t)unit->topic_bytes);
    free(aad);
}

/* Written again and read again, the unit is the same. */
static void check_again(const struct cmq_sealed_head *head, const struct cmq_sealed_unit *unit)
{
    uint8_t *dst =
        malloc(CMQ_BATCH_HEAD_BYTES + CMQ_SEALED_UNIT_BYTES + unit->topic_bytes + unit->sealed.bytes);
    cmq_assert(dst != NULL);
    struct cmq_sealed_head one = *head, again_head;
    one.unit_count = 1;
    size_t bytes = cmq_sealed_encode_head(dst, &one);
    bytes += cmq_sealed_encode_unit(dst + bytes, unit);
    memcpy(dst + bytes, unit->sealed.data, unit->sealed.bytes);
    bytes += unit->sealed.bytes;
    struct cmq_mp_reader units;
    struct cmq_sealed_unit again;
    cmq_assert(cmq_sealed_decode(cmq_span_make(dst, bytes), &units, &again_head) == CMQ_OK);
    cmq_assert(cmq_sealed_next(&units, &again) == CMQ_OK && cmq_mp_left(&units) == 0);
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX], again_aad[CMQ_BATCH_AAD_BYTES_MAX];
    size_t aad_bytes = cmq_sealed_aad(aad, &one, unit);
    cmq_assert(cmq_sealed_aad(again_aad, &again_head, &again) == aad_bytes);
    cmq_assert(memcmp(aad, again_aad, aad_bytes) == 0);
    cmq_assert(memcmp(again.nonce, unit->nonce, CMQ_NONCE_BYTES) == 0);
    cmq_assert(again.sealed.bytes == unit->sealed.bytes);
    free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(exact != NULL);
    if (bytes != 0)
        memcpy(exact, data, bytes);
    struct cmq_span all = cmq_span_make(exact, bytes);
    struct cmq_sealed_head head;
    struct cmq_mp_reader units;
    enum cmq_err err = cmq_sealed_decode(all, &units, &head);
    for (uint32_t i = 0; err == CMQ_OK && i < head.unit_count; i++) {
        struct cmq_sealed_unit unit;
        const uint8_t *before = units.next;
        err = cmq_sealed_next(&units, &unit);
        cmq_assert(err == CMQ_OK ? units.next > before : units.next == before);
        if (err != CMQ_OK)
            break;
        check_unit(&head, &unit, all);
        check_again(&head, &unit);
    }
    free(exact);
    return 0;
}
