#include "tests/support/fake_delivery_ring.h"

#include <string.h>

struct fake_record {
    uint8_t *payload; /* what the ring keeps */
    uint8_t *lent;    /* what a claim shows */
    size_t bytes;
    uint32_t messages, progress;
    uint64_t word;
    enum fake_delivery_state state;
    bool void_record, redelivery;
};

struct cmq_ring {
    struct fake_record *records;
    size_t count, capacity;
    uint64_t words, counters[CMQ_COUNTER_COUNT];
    uint32_t claimed, claimed_max;
};

struct cmq_ring *fake_delivery_ring_new(void)
{
    struct cmq_ring *ring = calloc(1, sizeof(*ring));
    cmq_assert(ring != NULL);
    return ring;
}

static void take_back(struct cmq_ring *ring, struct fake_record *record, enum fake_delivery_state state)
{
    cmq_assert(record->state == FAKE_CLAIMED);
    free(record->lent);
    record->lent = NULL;
    record->state = state;
    record->word = ++ring->words;
    ring->claimed--;
}

void fake_delivery_ring_free(struct cmq_ring *ring)
{
    for (size_t i = 0; i < ring->count; i++) {
        free(ring->records[i].lent);
        free(ring->records[i].payload);
    }
    free(ring->records);
    free(ring);
}

static struct fake_record *add(struct cmq_ring *ring)
{
    if (ring->count == ring->capacity) {
        ring->capacity = ring->capacity == 0 ? 64 : ring->capacity * 2;
        ring->records = realloc(ring->records, ring->capacity * sizeof(*ring->records));
        cmq_assert(ring->records != NULL);
    }
    struct fake_record *record = &ring->records[ring->count++];
    *record = (struct fake_record){.word = ++ring->words};
    return record;
}

uint64_t fake_delivery_ring_add(struct cmq_ring *ring, const void *payload, size_t bytes, uint32_t messages)
{
    struct fake_record *record = add(ring);
    record->payload = malloc(bytes + 1);
    cmq_assert(record->payload != NULL);
    memcpy(record->payload, payload, bytes);
    record->bytes = bytes;
    record->messages = messages;
    return ring->count;
}

uint64_t fake_delivery_ring_add_void(struct cmq_ring *ring)
{
    add(ring)->void_record = true;
    return ring->count;
}

static struct fake_record *find(const struct cmq_ring *ring, uint64_t seq)
{
    cmq_assert(seq >= 1 && seq <= ring->count);
    return &ring->records[seq - 1];
}

void fake_delivery_ring_set_progress(struct cmq_ring *ring, uint64_t seq, uint32_t progress)
{
    struct fake_record *record = find(ring, seq);
    cmq_assert(record->state == FAKE_FREE);
    record->progress = progress;
    record->redelivery = true;
}

void fake_delivery_ring_steal(struct cmq_ring *ring, uint64_t seq)
{
    take_back(ring, find(ring, seq), FAKE_DONE);
}

void fake_delivery_ring_kill(struct cmq_ring *ring)
{
    for (size_t i = 0; i < ring->count; i++) {
        if (ring->records[i].state != FAKE_CLAIMED)
            continue;
        take_back(ring, &ring->records[i], FAKE_FREE);
        ring->records[i].redelivery = true;
    }
}

enum fake_delivery_state fake_delivery_ring_state(const struct cmq_ring *ring, uint64_t seq)
{
    return find(ring, seq)->state;
}

uint32_t fake_delivery_ring_progress(const struct cmq_ring *ring, uint64_t seq)
{
    return find(ring, seq)->progress;
}

uint64_t fake_delivery_ring_counter(const struct cmq_ring *ring, enum cmq_counter counter)
{
    return ring->counters[counter];
}

uint32_t fake_delivery_ring_claimed_max(const struct cmq_ring *ring)
{
    return ring->claimed_max;
}

/* ---- cmq_ring.h ---- */

void cmq_ring_count(struct cmq_ring *ring, enum cmq_counter counter, uint64_t add_value)
{
    ring->counters[counter] += add_value;
}

void cmq_ring_gauge(struct cmq_ring *ring, enum cmq_counter counter, uint64_t value)
{
    ring->counters[counter] = value;
}

enum cmq_err cmq_ring_claim(struct cmq_ring *ring, struct cmq_claim *ret_claim)
{
    for (size_t i = 0; i < ring->count; i++) {
        struct fake_record *record = &ring->records[i];
        if (record->state != FAKE_FREE)
            continue;
        record->state = FAKE_CLAIMED;
        record->word = ++ring->words;
        ring->claimed++;
        if (ring->claimed > ring->claimed_max)
            ring->claimed_max = ring->claimed;
        *ret_claim = (struct cmq_claim){.seq = i + 1,
                                        .word = record->word,
                                        .progress = record->progress,
                                        .void_record = record->void_record,
                                        .redelivery = record->redelivery,
                                        .messages = record->messages};
        if (!record->void_record) {
            record->lent = malloc(record->bytes + 1);
            cmq_assert(record->lent != NULL);
            memcpy(record->lent, record->payload, record->bytes);
            ret_claim->payload = cmq_span_make(record->lent, record->bytes);
        }
        return CMQ_OK;
    }
    return CMQ_ERR_AGAIN;
}

static struct fake_record *held(struct cmq_ring *ring, const struct cmq_claim *claim)
{
    struct fake_record *record = find(ring, claim->seq);
    return record->word == claim->word ? record : NULL;
}

enum cmq_err cmq_ring_progress(struct cmq_ring *ring, struct cmq_claim *claim, uint32_t progress)
{
    struct fake_record *record = held(ring, claim);
    cmq_assert(progress > claim->progress && progress < CMQ_PROGRESS_DONE);
    if (record == NULL)
        return CMQ_ERR_LOST;
    cmq_assert(progress < record->messages);
    record->progress = progress;
    record->word = ++ring->words;
    claim->word = record->word;
    claim->progress = progress;
    return CMQ_OK;
}

enum cmq_err cmq_ring_done(struct cmq_ring *ring, struct cmq_claim *claim)
{
    struct fake_record *record = held(ring, claim);
    if (record == NULL)
        return CMQ_ERR_LOST;
    take_back(ring, record, FAKE_DONE);
    return CMQ_OK;
}

void cmq_ring_release(struct cmq_ring *ring, struct cmq_claim *claim)
{
    struct fake_record *record = held(ring, claim);
    if (record == NULL)
        return;
    record->redelivery = true;
    take_back(ring, record, FAKE_FREE);
}
