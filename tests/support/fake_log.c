#include "tests/support/fake_log.h"

#include <string.h>

#include "common/crypto/cmq_seal.h"
#include "common/journal/cmq_journal.h"
#include "common/wire/cmq_batch.h"
#include "tests/support/keyring_dir.h"

enum { RECORDS_MAX = 1 << 16, PLACE_BYTES = 64 };

struct fake_record {
    uint8_t *payload;
    size_t bytes;
    uint32_t messages;
    bool damaged, void_record;
};

struct cmq_ring {
    uint64_t counters[CMQ_COUNTER_COUNT];
    uint64_t stored_max, durable_max;
};

/* Behind the log that tests see. */
struct full_log {
    struct fake_log log; /* first */
    struct cmq_ring ring;
    struct keyring_dir dir;
    struct cmq_sealer *sealer;
    struct fake_record *records; /* records[0] is seq 1 */
    uint64_t count, floor;
};

static struct full_log *the_log;

static uint64_t stored_of(const struct full_log *full)
{
    return cmq_min_u64(full->count + 1, full->ring.stored_max);
}

/* ---- life ---- */

struct fake_log *fake_log_new(void)
{
    struct full_log *full = calloc(1, sizeof(*full));
    cmq_assert(full != NULL && the_log == NULL);
    full->records = calloc(RECORDS_MAX, sizeof(*full->records));
    cmq_assert(full->records != NULL);
    full->floor = 1;
    full->ring.stored_max = full->ring.durable_max = UINT64_MAX;
    full->log.ring = &full->ring;
    keyring_dir_create(&full->dir);
    full->log.sealing = keyring_dir_open(&full->dir, CMQ_KEYRING_ENCRYPTOR);
    full->log.opening = keyring_dir_open(&full->dir, CMQ_KEYRING_DELIVERY);
    cmq_assert(cmq_sealer_new(&full->sealer) == CMQ_OK);
    the_log = full;
    return &full->log;
}

void fake_log_free(struct fake_log *log)
{
    struct full_log *full = (struct full_log *)log;
    for (uint64_t i = 0; i < full->count; i++)
        free(full->records[i].payload);
    free(full->records);
    cmq_sealer_free(full->sealer);
    cmq_keyring_free(log->opening);
    cmq_keyring_free(log->sealing);
    keyring_dir_end(&full->dir);
    the_log = NULL;
    free(full);
}

/* ---- writing ---- */

static struct fake_record *add(struct full_log *full)
{
    cmq_assert(full->count < RECORDS_MAX);
    return &full->records[full->count++];
}

uint64_t fake_log_add(struct fake_log *log, const void *payload, size_t bytes, uint32_t messages)
{
    struct full_log *full = (struct full_log *)log;
    struct fake_record *record = add(full);
    record->payload = malloc(bytes + 1);
    cmq_assert(record->payload != NULL);
    memcpy(record->payload, payload, bytes);
    record->bytes = bytes;
    record->messages = messages;
    return full->count;
}

uint64_t fake_log_add_void(struct fake_log *log)
{
    struct full_log *full = (struct full_log *)log;
    add(full)->void_record = true;
    return full->count;
}

static size_t seal_unit(struct full_log *full, const struct cmq_sealed_head *head,
                        const struct fake_unit *unit, uint8_t *dst)
{
    struct cmq_reason reason = {0};
    const struct cmq_data_key *key = NULL;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    struct cmq_sealed_unit sealed = {.topic_bytes = (uint8_t)strlen(unit->topic),
                                     .count = unit->count,
                                     .flags = unit->flags,
                                     .suite = unit->suite == 0 ? CMQ_SUITE_XAES_256_GCM : unit->suite,
                                     .sealed = {.bytes = unit->messages.bytes + CMQ_TAG_BYTES}};
    memcpy(sealed.topic, unit->topic, sealed.topic_bytes);
    cmq_assert(cmq_keyring_seal_key(full->log.sealing, cmq_span_make(unit->topic, strlen(unit->topic)), &key,
                                    &reason) == CMQ_OK);
    memcpy(sealed.key_id, key->key_id, sizeof(sealed.key_id));
    cmq_assert(cmq_seal_nonce(sealed.nonce) == CMQ_OK);
    size_t aad_bytes = cmq_sealed_aad(aad, head, &sealed);
    size_t bytes = cmq_sealed_encode_unit(dst, &sealed);
    cmq_assert(cmq_seal(full->sealer, key->key, sealed.nonce, cmq_span_make(aad, aad_bytes), unit->messages,
                        dst + bytes) == CMQ_OK);
    return bytes + sealed.sealed.bytes;
}

uint64_t fake_log_seal(struct fake_log *log, const struct fake_unit *units, uint32_t count)
{
    struct full_log *full = (struct full_log *)log;
    const struct cmq_sealed_head head = {
        .seq = full->count + 1, .accepted_at_ms = 1700000000000, .unit_count = count};
    size_t capacity = CMQ_BATCH_HEAD_BYTES;
    uint32_t messages = 0;
    for (uint32_t i = 0; i < count; i++) {
        capacity += CMQ_SEALED_UNIT_BYTES + strlen(units[i].topic) + units[i].messages.bytes + CMQ_TAG_BYTES;
        messages += units[i].count;
    }
    uint8_t *batch = malloc(capacity);
    cmq_assert(batch != NULL);
    size_t bytes = cmq_sealed_encode_head(batch, &head);
    for (uint32_t i = 0; i < count; i++)
        bytes += seal_unit(full, &head, &units[i], batch + bytes);
    uint64_t seq = fake_log_add(log, batch, bytes, messages);
    free(batch);
    return seq;
}

uint64_t fake_log_texts(struct fake_log *log, const char *topic, uint32_t count, char letter)
{
    uint8_t *plain = malloc((size_t)count * 16 + 1);
    size_t bytes = 0;
    cmq_assert(plain != NULL);
    for (uint32_t i = 0; i < count; i++) {
        char text[16];
        int length = snprintf(text, sizeof(text), "%c%u", letter, i);
        bytes += cmq_message_head(plain + bytes, true, (uint32_t)length);
        memcpy(plain + bytes, text, (size_t)length);
        bytes += (size_t)length;
    }
    const struct fake_unit unit = {.topic = topic, .messages = cmq_span_make(plain, bytes), .count = count};
    uint64_t seq = fake_log_seal(log, &unit, 1);
    free(plain);
    return seq;
}

static struct fake_record *record_of(const struct fake_log *log, uint64_t seq)
{
    const struct full_log *full = (const struct full_log *)log;
    cmq_assert(seq >= 1 && seq <= full->count);
    return &full->records[seq - 1];
}

void fake_log_flip(struct fake_log *log, uint64_t seq, size_t offset)
{
    record_of(log, seq)->payload[offset] ^= 0x15;
}

size_t fake_log_payload_bytes(const struct fake_log *log, uint64_t seq)
{
    return record_of(log, seq)->bytes;
}

void fake_log_damage(struct fake_log *log, uint64_t seq)
{
    record_of(log, seq)->damaged = true;
}

void fake_log_set_floor(struct fake_log *log, uint64_t seq)
{
    ((struct full_log *)log)->floor = seq;
}

void fake_log_set_stored(struct fake_log *log, uint64_t seq)
{
    ((struct full_log *)log)->ring.stored_max = seq;
}

void fake_log_set_durable(struct fake_log *log, uint64_t seq)
{
    log->ring->durable_max = seq;
}

uint64_t fake_log_counter(const struct fake_log *log, enum cmq_counter counter)
{
    return log->ring->counters[counter];
}

/* ---- what the ring says ---- */

void cmq_ring_observe(struct cmq_ring *ring, enum cmq_hist hist, uint64_t ns)
{
    (void)ring, (void)hist, (void)ns;
}

void cmq_ring_count(struct cmq_ring *ring, enum cmq_counter counter, uint64_t add_count)
{
    ring->counters[counter] += add_count;
}

void cmq_ring_gauge(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value)
{
    ring->counters[counter] = value;
}

uint64_t cmq_ring_stored_seq(struct cmq_ring *ring)
{
    (void)ring;
    return stored_of(the_log);
}

uint64_t cmq_ring_durable_seq(struct cmq_ring *ring)
{
    return cmq_min_u64(stored_of(the_log), ring->durable_max);
}

void cmq_ring_state(struct cmq_ring *ring, struct cmq_ring_state *ret_state)
{
    (void)ring;
    *ret_state = (struct cmq_ring_state){
        .first_seq = 1, .committed = the_log->count + 1, .published = the_log->count + 1};
}

/* ---- the reader ---- */

struct cmq_journal_reader {
    int unused;
};

enum cmq_err cmq_journal_reader_open(const char *directory, const struct cmq_file_ops *ops,
                                     struct cmq_journal_reader **ret_reader, struct cmq_reason *reason)
{
    (void)directory;
    (void)ops;
    (void)reason;
    *ret_reader = calloc(1, sizeof(**ret_reader));
    return *ret_reader == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
}

void cmq_journal_reader_close(struct cmq_journal_reader *reader)
{
    free(reader);
}

void cmq_journal_chunk_fini(struct cmq_journal_chunk *chunk)
{
    free(chunk->data);
    free(chunk->entries);
    *chunk = (struct cmq_journal_chunk){0};
}

static struct cmq_journal_pos place_of(uint64_t seq)
{
    return (struct cmq_journal_pos){.segment = 1, .offset = seq * PLACE_BYTES};
}

static void put_entry(struct cmq_journal_chunk *chunk, uint64_t seq, const struct fake_record *record)
{
    if (chunk->count == chunk->entry_capacity) {
        chunk->entry_capacity = chunk->entry_capacity == 0 ? 16 : chunk->entry_capacity * 2;
        chunk->entries = realloc(chunk->entries, chunk->entry_capacity * sizeof(*chunk->entries));
        cmq_assert(chunk->entries != NULL);
    }
    if (chunk->capacity < chunk->bytes + record->bytes) {
        chunk->capacity = chunk->bytes + record->bytes;
        chunk->data = realloc(chunk->data, chunk->capacity);
        cmq_assert(chunk->data != NULL);
    }
    if (record->bytes != 0)
        memcpy(chunk->data + chunk->bytes, record->payload, record->bytes);
    chunk->entries[chunk->count++] =
        (struct cmq_journal_entry){.seq = seq,
                                   .type = record->void_record ? CMQ_JOURNAL_VOID : CMQ_JOURNAL_BATCH,
                                   .messages = record->messages,
                                   .payload_offset = chunk->bytes,
                                   .payload_bytes = record->bytes,
                                   .pos = place_of(seq)};
    chunk->bytes += record->bytes;
}

enum cmq_err cmq_journal_read(struct cmq_journal_reader *reader, uint64_t seq, uint64_t end_seq,
                              const struct cmq_journal_pos *from, size_t want_bytes,
                              struct cmq_journal_chunk *chunk, uint64_t *ret_seq)
{
    struct full_log *full = the_log;
    (void)reader;
    full->log.reads++;
    full->log.read_bytes = want_bytes;
    full->log.hints_used += from != NULL && from->offset == place_of(seq).offset;
    if (full->log.fail != CMQ_OK) {
        enum cmq_err err = full->log.fail;
        full->log.fail = CMQ_OK;
        return err;
    }
    if (seq >= end_seq)
        return CMQ_ERR_AGAIN;
    if (seq < full->floor) {
        *ret_seq = cmq_min_u64(full->floor, end_seq);
        return CMQ_ERR_NOT_FOUND;
    }
    if (record_of(&full->log, seq)->damaged) {
        while (seq < end_seq && record_of(&full->log, seq)->damaged)
            seq++;
        *ret_seq = seq;
        return CMQ_ERR_CORRUPT;
    }
    chunk->count = 0;
    chunk->bytes = 0;
    for (; seq < end_seq && !record_of(&full->log, seq)->damaged; seq++) {
        const struct fake_record *record = record_of(&full->log, seq);
        if (chunk->count > 0 && chunk->bytes + record->bytes > want_bytes)
            break;
        put_entry(chunk, seq, record);
    }
    chunk->next_seq = seq;
    chunk->next = place_of(seq);
    return CMQ_OK;
}

uint64_t cmq_journal_floor(struct cmq_journal_reader *reader, uint64_t end_seq)
{
    (void)reader;
    return cmq_min_u64(the_log->floor, end_seq);
}
