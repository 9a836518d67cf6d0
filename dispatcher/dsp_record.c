#include "dispatcher/dsp_record.h"

#include <string.h>

#include "common/log/cmq_log.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_topic.h"

enum { SEGMENTS_MIN = 1, PLAIN_BYTES_MIN = 256 };

enum cmq_err dsp_opener_init(struct dsp_opener *ret_opener, struct cmq_ring *ring,
                             struct cmq_keyring *keyring)
{
    struct cmq_sealer *sealer = NULL;
    enum cmq_err err = cmq_sealer_new(&sealer);
    if (err == CMQ_OK)
        *ret_opener = (struct dsp_opener){.ring = ring, .keyring = keyring, .sealer = sealer};
    return err;
}

void dsp_opener_fini(struct dsp_opener *opener)
{
    cmq_sealer_free(opener->sealer);
    *opener = (struct dsp_opener){0};
}

/* The content is not kept: every open begins anew. */
static enum cmq_err reserve_plain(struct dsp_opened *record, size_t bytes)
{
    if (bytes <= record->plain_capacity)
        return CMQ_OK;
    size_t capacity = bytes < PLAIN_BYTES_MIN ? PLAIN_BYTES_MIN : bytes;
    uint8_t *plain = malloc(capacity);
    if (plain == NULL)
        return CMQ_ERR_NOMEM;
    free(record->plain);
    record->plain = plain;
    record->plain_capacity = capacity;
    return CMQ_OK;
}

static enum cmq_err reserve_segments(struct dsp_opened *record, uint32_t count)
{
    if (count <= record->segment_capacity)
        return CMQ_OK;
    struct dsp_segment *segments = realloc(record->segments, count * sizeof(*segments));
    if (segments == NULL)
        return CMQ_ERR_NOMEM;
    record->segments = segments;
    record->segment_capacity = count;
    return CMQ_OK;
}

/* Only the root endpoint's topic has consumers. */
static bool is_delivered_here(const struct cmq_sealed_unit *unit)
{
    return unit->topic_bytes == sizeof(CMQ_TOPIC_DEFAULT) - 1 &&
           memcmp(unit->topic, CMQ_TOPIC_DEFAULT, sizeof(CMQ_TOPIC_DEFAULT) - 1) == 0;
}

/* An unknown key may have been made since the file was read. */
static enum cmq_err find_key(const struct dsp_opener *opener, const uint8_t *key_id,
                             const struct cmq_data_key **ret_key)
{
    enum cmq_err err = cmq_keyring_find(opener->keyring, key_id, ret_key);
    if (err != CMQ_ERR_NOT_FOUND)
        return err;
    struct cmq_reason reason = {0};
    bool changed = false;
    enum cmq_err reloaded = cmq_keyring_reload(opener->keyring, &changed, &reason);
    if (reloaded != CMQ_OK)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_KEY_REFUSED, "reason=%s",
                cmq_log_quote(&(struct cmq_log_quoted){0}, reason.text, strlen(reason.text)));
    /* Only a file that was read says that a key does not exist; messages are not given up for one that was not. */
    if (reloaded != CMQ_OK)
        return CMQ_ERR_SYSTEM;
    return changed ? cmq_keyring_find(opener->keyring, key_id, ret_key) : CMQ_ERR_NOT_FOUND;
}

/* Decrypts one unit behind what is there. CMQ_OK, a fault of the unit (advice REJECT), or a fault of the
 * process. */
static enum cmq_err open_unit(struct dsp_opener *opener, const struct cmq_sealed_head *head,
                              const struct cmq_sealed_unit *unit, struct dsp_opened *record)
{
    const struct cmq_data_key *key = NULL;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    size_t bytes = unit->sealed.bytes - CMQ_TAG_BYTES;
    if (unit->suite != CMQ_SUITE_XAES_256_GCM)
        return CMQ_ERR_VERSION;
    enum cmq_err err = find_key(opener, unit->key_id, &key);
    if (err != CMQ_OK)
        return err;
    size_t aad_bytes = cmq_sealed_aad(aad, head, unit);
    err = cmq_open(opener->sealer, key->key, unit->nonce, cmq_span_make(aad, aad_bytes), unit->sealed,
                   record->plain + record->plain_bytes);
    if (err != CMQ_OK)
        return err;
    cmq_ring_count(opener->ring, CMQ_COUNT_SEALS, 1);
    record->segments[record->segment_count++] = (struct dsp_segment){
        .first = record->message_count, .count = unit->count, .offset = record->plain_bytes, .bytes = bytes};
    record->plain_bytes += bytes;
    return CMQ_OK;
}

static void report_bad(const struct dsp_opener *opener, uint64_t seq, uint32_t messages, enum cmq_err err)
{
    cmq_ring_count(opener->ring, CMQ_COUNT_UNDELIVERABLE, messages);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_BAD, "seq=%llu messages=%u err=\"%s\"", (unsigned long long)seq,
            messages, cmq_err_text(err));
}

/* All units, one after the other. CMQ_ERR_MALFORMED etc.: the rest of the batch cannot be read. */
static enum cmq_err open_units(struct dsp_opener *opener, struct cmq_mp_reader *units,
                               const struct cmq_sealed_head *head, struct dsp_opened *record)
{
    struct cmq_sealed_unit unit;
    for (uint32_t i = 0; i < head->unit_count; i++) {
        enum cmq_err err = cmq_sealed_next(units, &unit);
        if (err != CMQ_OK)
            return err;
        if (unit.count >= CMQ_PROGRESS_DONE - record->message_count)
            return CMQ_ERR_MALFORMED;
        if (is_delivered_here(&unit)) {
            err = open_unit(opener, head, &unit, record);
            if (err != CMQ_OK && cmq_err_advice(err) != CMQ_ADVICE_REJECT)
                return err;
            if (err != CMQ_OK)
                report_bad(opener, head->seq, unit.count, err);
        }
        record->message_count += unit.count;
    }
    return cmq_mp_left(units) == 0 ? CMQ_OK : CMQ_ERR_MALFORMED;
}

enum cmq_err dsp_record_open(struct dsp_opener *opener, const struct cmq_claim *claim,
                             struct dsp_opened *record)
{
    struct cmq_mp_reader units;
    struct cmq_sealed_head head;
    record->plain_bytes = 0;
    record->segment_count = 0;
    record->message_count = 0;
    enum cmq_err err = cmq_sealed_decode(claim->payload, &units, &head);
    if (err == CMQ_OK && (head.seq != claim->seq || head.unit_count > CMQ_BATCH_UNITS_MAX))
        err = CMQ_ERR_MALFORMED;
    if (err == CMQ_OK) {
        /* Plaintexts are shorter than what they are sealed in, so one reservation serves all units. */
        err = reserve_plain(record, claim->payload.bytes);
        if (err == CMQ_OK)
            err = reserve_segments(record, head.unit_count < SEGMENTS_MIN ? SEGMENTS_MIN : head.unit_count);
        if (err == CMQ_OK)
            err = open_units(opener, &units, &head, record);
    }
    if (err == CMQ_OK || cmq_err_advice(err) != CMQ_ADVICE_REJECT)
        return err;
    uint32_t messages = claim->messages > record->message_count ? claim->messages - record->message_count : 0;
    report_bad(opener, claim->seq, messages, err);
    return CMQ_OK;
}

void dsp_record_clear(struct dsp_opened *record, size_t keep_bytes)
{
    record->plain_bytes = 0;
    record->segment_count = 0;
    record->message_count = 0;
    if (record->plain_capacity > keep_bytes) {
        free(record->plain);
        record->plain = NULL;
        record->plain_capacity = 0;
    }
    if (record->segment_capacity > SEGMENTS_MIN) {
        free(record->segments);
        record->segments = NULL;
        record->segment_capacity = 0;
    }
}

void dsp_record_fini(struct dsp_opened *record)
{
    free(record->plain);
    free(record->segments);
    *record = (struct dsp_opened){0};
}
