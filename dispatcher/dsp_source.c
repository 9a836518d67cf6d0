#include "dispatcher/dsp_source.h"

#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/crypto/cmq_seal.h"
#include "common/log/cmq_log.h"
#include "common/wire/cmq_batch.h"

enum {
    READ_BYTES_MIN = 4096,       /* of one read ahead, at the end of the log */
    READ_BYTES_MAX = 192 * 1024, /* and far from it */
    BUCKETS_MIN = 256,
    BUCKETS_MAX = 1 << 16,
    BYTES_A_BUCKET = 512 /* of the cache */
};

/* The sealed bytes of the records of one read, until the last of them was opened or dropped. */
struct block {
    uint8_t *data;
    size_t bytes;
    uint32_t users; /* records */
};

struct entry {
    struct dsp_record record; /* first: a record is its entry */
    struct entry *bucket_next;
    struct entry *older, *newer; /* in the list of those that nobody holds */
    struct block *block;         /* NULL once opened */
    struct cmq_span sealed;      /* in the block */
    uint8_t *plain;
    size_t bytes; /* all that the record costs, without the block */
    uint32_t holders;
    bool parsed;
};

struct dsp_source {
    struct cmq_ring *ring;
    struct cmq_keyring *keyring;
    struct cmq_sealer *sealer;
    struct cmq_journal_reader *reader;
    size_t record_bytes; /* in the log, of a record of the last read */
    uint64_t awaited;    /* who asked last for what is not stored, asked for this; 0: nobody did */
    struct cmq_journal_chunk chunk;
    void (*free_encoded)(void *encoded);
    size_t bytes, cache_bytes;
    struct entry *oldest, *newest; /* that nobody holds */
    struct entry **buckets;
    size_t bucket_count; /* power of two */
};

/* ---- table ---- */

/* Neighbours have neighbouring buckets: records are asked for in order. */
static struct entry **bucket_of(const struct dsp_source *source, uint64_t seq)
{
    return &source->buckets[seq & (source->bucket_count - 1)];
}

static struct entry *find(const struct dsp_source *source, uint64_t seq)
{
    struct entry *entry = *bucket_of(source, seq);
    while (entry != NULL && entry->record.seq != seq)
        entry = entry->bucket_next;
    return entry;
}

static void list_add(struct dsp_source *source, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = source->newest;
    if (source->newest != NULL)
        source->newest->newer = entry;
    else
        source->oldest = entry;
    source->newest = entry;
}

static void list_remove(struct dsp_source *source, struct entry *entry)
{
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        source->oldest = entry->newer;
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        source->newest = entry->older;
}

static void block_put(struct dsp_source *source, struct block *block)
{
    if (block == NULL || --block->users > 0)
        return;
    source->bytes -= block->bytes;
    free(block->data);
    free(block);
}

/* Nobody holds it, and it is in no list but its bucket. */
static void entry_free(struct dsp_source *source, struct entry *entry)
{
    struct entry **link = bucket_of(source, entry->record.seq);
    while (*link != entry)
        link = &(*link)->bucket_next;
    *link = entry->bucket_next;
    for (size_t i = 0; i < CMQ_COUNT_OF(entry->record.encoded); i++) {
        if (entry->record.encoded[i] != NULL)
            source->free_encoded(entry->record.encoded[i]);
    }
    source->bytes -= entry->bytes;
    block_put(source, entry->block);
    free(entry->plain);
    free(entry->record.units);
    free(entry);
}

static void shrink(struct dsp_source *source)
{
    while (source->bytes > source->cache_bytes && source->oldest != NULL) {
        struct entry *entry = source->oldest;
        list_remove(source, entry);
        entry_free(source, entry);
    }
}

static void grew(struct dsp_source *source, struct entry *entry, size_t bytes)
{
    entry->bytes += bytes;
    source->bytes += bytes;
}

/* ---- reading the log ---- */

/* What the chunk's buffer holds. A well-filled buffer is kept as it is, else its content moves to one of its size. */
static struct block *take_block(struct dsp_source *source)
{
    struct cmq_journal_chunk *chunk = &source->chunk;
    struct block *block = calloc(1, sizeof(*block));
    if (block == NULL)
        return NULL;
    if (chunk->bytes >= chunk->capacity / 2) {
        block->data = chunk->data;
        block->bytes = chunk->capacity;
        chunk->data = NULL;
        chunk->bytes = chunk->capacity = 0;
    } else {
        block->data = malloc(chunk->bytes + 1);
        block->bytes = chunk->bytes;
        if (block->data == NULL) {
            free(block);
            return NULL;
        }
        memcpy(block->data, chunk->data, chunk->bytes);
    }
    block->users = 1; /* the caller, while it hands the block out */
    source->bytes += block->bytes;
    return block;
}

static enum cmq_err add_entry(struct dsp_source *source, struct block *block, uint32_t index)
{
    const struct cmq_journal_chunk *chunk = &source->chunk;
    const struct cmq_journal_entry *from = &chunk->entries[index];
    struct entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return CMQ_ERR_NOMEM;
    entry->record.seq = from->seq;
    entry->record.accepted_at_ms = from->stored_at_ms; /* of a VOID record; others have their own */
    entry->record.next = index + 1 < chunk->count ? chunk->entries[index + 1].pos : chunk->next;
    if (from->type == CMQ_JOURNAL_BATCH) {
        entry->record.message_count = from->messages;
        entry->sealed = cmq_span_make(block->data + from->payload_offset, from->payload_bytes);
        entry->block = block;
        block->users++;
    } else {
        entry->parsed = true;
        entry->record.opened = true;
    }
    struct entry **bucket = bucket_of(source, from->seq);
    entry->bucket_next = *bucket;
    *bucket = entry;
    grew(source, entry, sizeof(*entry));
    list_add(source, entry);
    return CMQ_OK;
}

/* Behind the end of the log lie old bytes: who is there reads little, who is far from it much. */
static size_t bytes_to_read(const struct dsp_source *source, uint64_t records)
{
    uint64_t known = cmq_min_u64(records, READ_BYTES_MAX) * source->record_bytes;
    return cmq_min_u64(cmq_max_u64(known, READ_BYTES_MIN), READ_BYTES_MAX);
}

/* Reads seq and what follows it, as far as one read goes. */
static enum cmq_err read_ahead(struct dsp_source *source, uint64_t seq, uint64_t stored,
                               const struct cmq_journal_pos *near, uint64_t *ret_next)
{
    struct cmq_journal_chunk *chunk = &source->chunk;
    struct cmq_journal_pos known = {0, 0};
    const struct entry *before = seq == 0 ? NULL : find(source, seq - 1);
    if (near != NULL && near->offset != 0)
        known = *near;
    else if (before != NULL)
        known = before->record.next;
    enum cmq_err err = cmq_journal_read(source->reader, seq, stored, &known,
                                        bytes_to_read(source, stored - seq), chunk, ret_next);
    if (err != CMQ_OK)
        return err;
    if (chunk->count == 0)
        return CMQ_ERR_SYSTEM; /* the reader's promise: the first entry is seq */
    const struct cmq_journal_entry *last = &chunk->entries[chunk->count - 1];
    source->record_bytes =
        cmq_journal_record_bytes((last->payload_offset + last->payload_bytes) / chunk->count);
    cmq_ring_count(source->ring, CMQ_COUNT_BYTES_IN, chunk->bytes);
    struct block *block = take_block(source);
    if (block == NULL)
        return CMQ_ERR_NOMEM;
    for (uint32_t i = 0; err == CMQ_OK && i < chunk->count; i++) {
        if (find(source, chunk->entries[i].seq) == NULL)
            err = add_entry(source, block, i);
    }
    block_put(source, block);
    return err;
}

/* ---- units ---- */

static void report_bad(const struct dsp_source *source, uint64_t seq, uint32_t messages, enum cmq_err err)
{
    cmq_ring_count(source->ring, CMQ_COUNT_UNDELIVERABLE, messages);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_BAD, "seq=%llu messages=%u err=\"%s\"", (unsigned long long)seq,
            messages, cmq_err_text(err));
}

static enum cmq_err decode_head(const struct entry *entry, struct cmq_mp_reader *ret_units,
                                struct cmq_sealed_head *ret_head)
{
    enum cmq_err err = cmq_sealed_decode(entry->sealed, ret_units, ret_head);
    if (err != CMQ_OK)
        return err;
    return ret_head->seq == entry->record.seq && ret_head->unit_count <= CMQ_BATCH_UNITS_MAX
               ? CMQ_OK
               : CMQ_ERR_MALFORMED;
}

/* Of one record; more is no record that this broker makes. */
enum { RECORD_MESSAGES_MAX = 0x0fffffff };

/* Fills units (as many as the head says), the topics behind them. Returns the messages of all, or UINT64_MAX. */
static uint64_t parse_units(struct cmq_mp_reader *reader, uint32_t unit_count, struct dsp_unit *units)
{
    uint8_t *topics = (uint8_t *)(units + unit_count);
    struct cmq_sealed_unit sealed;
    uint64_t messages = 0;
    for (uint32_t i = 0; i < unit_count; i++) {
        if (cmq_sealed_next(reader, &sealed) != CMQ_OK)
            return UINT64_MAX;
        memcpy(topics, sealed.topic, sealed.topic_bytes);
        units[i] = (struct dsp_unit){.topic = cmq_span_make(topics, sealed.topic_bytes),
                                     .first = (uint32_t)messages,
                                     .count = sealed.count,
                                     .readable = true};
        topics += sealed.topic_bytes;
        messages += sealed.count;
        if (messages >= RECORD_MESSAGES_MAX)
            return UINT64_MAX;
    }
    return cmq_mp_left(reader) == 0 ? messages : UINT64_MAX;
}

/* The topics' bytes together, or SIZE_MAX. */
static size_t measure_topics(struct cmq_mp_reader reader, uint32_t unit_count)
{
    struct cmq_sealed_unit sealed;
    size_t bytes = 0;
    for (uint32_t i = 0; i < unit_count; i++) {
        if (cmq_sealed_next(&reader, &sealed) != CMQ_OK)
            return SIZE_MAX;
        bytes += sealed.topic_bytes;
    }
    return bytes;
}

/* Topics and counts. CMQ_ERR_CORRUPT: not the sealed batch that it should be; nothing of it can be told apart. */
static enum cmq_err parse(struct dsp_source *source, struct entry *entry)
{
    struct cmq_mp_reader reader;
    struct cmq_sealed_head head;
    struct dsp_record *record = &entry->record;
    enum cmq_err err = decode_head(entry, &reader, &head);
    if (err != CMQ_OK)
        return CMQ_ERR_CORRUPT;
    size_t topic_bytes = measure_topics(reader, head.unit_count);
    if (topic_bytes == SIZE_MAX)
        return CMQ_ERR_CORRUPT;
    size_t bytes = head.unit_count * sizeof(struct dsp_unit) + topic_bytes;
    struct dsp_unit *units = malloc(bytes + 1);
    if (units == NULL)
        return CMQ_ERR_NOMEM;
    uint64_t messages = parse_units(&reader, head.unit_count, units);
    if (messages == UINT64_MAX) {
        free(units);
        return CMQ_ERR_CORRUPT;
    }
    record->units = units;
    record->unit_count = head.unit_count;
    record->message_count = (uint32_t)messages;
    record->accepted_at_ms = head.accepted_at_ms;
    entry->parsed = true;
    grew(source, entry, bytes);
    return CMQ_OK;
}

static enum cmq_err parse_once(struct dsp_source *source, struct entry *entry)
{
    if (entry->parsed)
        return CMQ_OK;
    if (entry->block == NULL)
        return CMQ_ERR_CORRUPT; /* found to be so before */
    enum cmq_err err = parse(source, entry);
    if (err == CMQ_ERR_CORRUPT) {
        report_bad(source, entry->record.seq, entry->record.message_count, CMQ_ERR_MALFORMED);
        block_put(source, entry->block);
        entry->block = NULL;
    }
    return err;
}

enum cmq_err dsp_source_get(struct dsp_source *source, uint64_t seq, const struct cmq_journal_pos *near,
                            struct dsp_record **ret_record, uint64_t *ret_next)
{
    struct entry *entry = find(source, seq);
    if (entry == NULL) {
        uint64_t stored = cmq_ring_stored_seq(source->ring);
        if (seq >= stored) {
            dsp_source_await(source, seq);
            return CMQ_ERR_AGAIN;
        }
        enum cmq_err err = read_ahead(source, seq, stored, near, ret_next);
        if (err != CMQ_OK)
            return err;
        entry = find(source, seq);
        if (entry == NULL)
            return CMQ_ERR_SYSTEM; /* the reader's promise: the first entry is seq */
    }
    enum cmq_err err = parse_once(source, entry);
    if (err != CMQ_OK) {
        shrink(source);
        *ret_next = seq + 1;
        return err;
    }
    if (entry->holders++ == 0)
        list_remove(source, entry);
    shrink(source);
    *ret_record = &entry->record;
    return CMQ_OK;
}

void dsp_source_hold(struct dsp_record *record)
{
    ((struct entry *)record)->holders++;
}

void dsp_source_put(struct dsp_source *source, struct dsp_record *record)
{
    struct entry *entry = (struct entry *)record;
    cmq_assert(entry->holders > 0);
    if (--entry->holders > 0)
        return;
    list_add(source, entry);
    shrink(source);
}

void dsp_source_grew(struct dsp_source *source, struct dsp_record *record, size_t bytes)
{
    grew(source, (struct entry *)record, bytes);
}

void dsp_source_await(struct dsp_source *source, uint64_t seq)
{
    source->awaited = seq;
}

void dsp_source_expired(struct dsp_source *source, uint32_t messages)
{
    cmq_ring_count(source->ring, CMQ_COUNT_EXPIRED, messages);
}

/* ---- opening ---- */

/* An unknown key may have been made since the file was read. */
static enum cmq_err find_key(const struct dsp_source *source, const uint8_t *key_id,
                             const struct cmq_data_key **ret_key)
{
    enum cmq_err err = cmq_keyring_find(source->keyring, key_id, ret_key);
    if (err != CMQ_ERR_NOT_FOUND)
        return err;
    struct cmq_reason reason = {0};
    bool changed = false;
    enum cmq_err reloaded = cmq_keyring_reload(source->keyring, &changed, &reason);
    /* Only a file that was read says that a key does not exist; messages are not given up for one that was not. */
    if (reloaded != CMQ_OK) {
        cmq_log(CMQ_LOG_WARN, CMQ_EV_KEY_REFUSED, "reason=%s",
                cmq_log_sentence(&(struct cmq_log_quoted_sentence){0}, reason.text));
        return CMQ_ERR_SYSTEM;
    }
    return changed ? cmq_keyring_find(source->keyring, key_id, ret_key) : CMQ_ERR_NOT_FOUND;
}

/* A request's key stands before the messages; it is the encryptor's business. */
static enum cmq_err take_key_off(const struct cmq_sealed_unit *sealed, struct cmq_span *messages)
{
    struct cmq_mp_reader reader;
    struct cmq_span key;
    cmq_mp_reader_init(&reader, *messages);
    enum cmq_err err = cmq_message_key_read(&reader, sealed->flags, &key);
    if (err == CMQ_OK)
        *messages = cmq_span_make(reader.next, cmq_mp_left(&reader));
    return err;
}

/* CMQ_OK, a fault of the unit (advice REJECT), or a fault of the process. */
static enum cmq_err open_unit(struct dsp_source *source, const struct cmq_sealed_head *head,
                              const struct cmq_sealed_unit *sealed, uint8_t *plain, struct dsp_unit *unit)
{
    const struct cmq_data_key *key = NULL;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    if (sealed->suite != CMQ_SUITE_XAES_256_GCM)
        return CMQ_ERR_VERSION;
    enum cmq_err err = find_key(source, sealed->key_id, &key);
    if (err != CMQ_OK)
        return err;
    size_t aad_bytes = cmq_sealed_aad(aad, head, sealed);
    err = cmq_open(source->sealer, key->key, sealed->nonce, cmq_span_make(aad, aad_bytes), sealed->sealed,
                   plain);
    if (err != CMQ_OK)
        return err;
    cmq_ring_count(source->ring, CMQ_COUNT_SEALS, 1);
    struct cmq_span messages = cmq_span_make(plain, sealed->sealed.bytes - CMQ_TAG_BYTES);
    err = take_key_off(sealed, &messages);
    if (err == CMQ_OK)
        unit->messages = messages;
    return err;
}

/* The batch was read whole by parse. */
static enum cmq_err open_units(struct dsp_source *source, struct entry *entry, uint8_t *plain)
{
    struct cmq_mp_reader reader;
    struct cmq_sealed_head head;
    struct cmq_sealed_unit sealed;
    enum cmq_err err = decode_head(entry, &reader, &head);
    for (uint32_t i = 0; err == CMQ_OK && i < entry->record.unit_count; i++) {
        struct dsp_unit *unit = &entry->record.units[i];
        err = cmq_sealed_next(&reader, &sealed);
        cmq_assert(err == CMQ_OK);
        err = open_unit(source, &head, &sealed, plain, unit);
        unit->readable = err == CMQ_OK;
        if (err != CMQ_OK && cmq_err_advice(err) != CMQ_ADVICE_REJECT)
            return err;
        if (err != CMQ_OK)
            report_bad(source, head.seq, unit->count, err);
        err = CMQ_OK;
        plain += sealed.sealed.bytes - CMQ_TAG_BYTES;
    }
    return err;
}

/* Both times are of this machine's wall clock, which may have been set between them. */
static void observe(const struct dsp_source *source, const struct dsp_record *record)
{
    const uint64_t now_ms = cmq_clock_wall_ms();
    if (source->awaited != 0 && record->seq >= source->awaited && now_ms >= record->accepted_at_ms)
        cmq_ring_observe(source->ring, CMQ_HIST_DELIVERY, (now_ms - record->accepted_at_ms) * CMQ_NS_PER_MS);
}

enum cmq_err dsp_source_open(struct dsp_source *source, struct dsp_record *record)
{
    struct entry *entry = (struct entry *)record;
    if (record->opened)
        return CMQ_OK;
    /* Plaintexts are shorter than what they are sealed in, so one allocation serves all units. */
    uint8_t *plain = malloc(entry->sealed.bytes + 1);
    if (plain == NULL)
        return CMQ_ERR_NOMEM;
    enum cmq_err err = open_units(source, entry, plain);
    if (err != CMQ_OK) {
        free(plain);
        return err;
    }
    entry->plain = plain;
    grew(source, entry, entry->sealed.bytes);
    block_put(source, entry->block);
    entry->block = NULL;
    record->opened = true;
    observe(source, record);
    return CMQ_OK;
}

/* ---- life ---- */

enum cmq_err dsp_source_new(const struct dsp_source_setup *setup, struct cmq_ring *ring,
                            struct cmq_keyring *keyring, struct dsp_source **ret_source,
                            struct cmq_reason *reason)
{
    struct dsp_source *source = calloc(1, sizeof(*source));
    if (source == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    source->ring = ring;
    source->keyring = keyring;
    source->free_encoded = setup->free_encoded;
    source->cache_bytes = setup->cache_bytes;
    source->record_bytes = READ_BYTES_MIN;
    source->bucket_count = BUCKETS_MIN;
    while (source->bucket_count < BUCKETS_MAX && source->bucket_count * BYTES_A_BUCKET < source->cache_bytes)
        source->bucket_count *= 2;
    source->buckets = calloc(source->bucket_count, sizeof(*source->buckets));
    enum cmq_err err = source->buckets == NULL ? CMQ_ERR_NOMEM : cmq_sealer_new(&source->sealer);
    if (err != CMQ_OK)
        (void)cmq_reason_set(reason, err, "cannot prepare to open records: %s", cmq_err_text(err));
    else
        err = cmq_journal_reader_open(setup->directory, setup->ops, &source->reader, reason);
    if (err == CMQ_OK)
        *ret_source = source;
    else
        dsp_source_free(source);
    return err;
}

void dsp_source_free(struct dsp_source *source)
{
    if (source == NULL)
        return;
    source->cache_bytes = 0;
    shrink(source);
    cmq_assert(source->bytes == 0);
    cmq_journal_reader_close(source->reader);
    cmq_journal_chunk_fini(&source->chunk);
    cmq_sealer_free(source->sealer);
    free(source->buckets);
    free(source);
}

uint64_t dsp_source_stored(struct dsp_source *source)
{
    return cmq_ring_stored_seq(source->ring);
}

uint64_t dsp_source_published(struct dsp_source *source)
{
    struct cmq_ring_state state;
    cmq_ring_state(source->ring, &state);
    return state.published;
}

uint64_t dsp_source_floor(struct dsp_source *source)
{
    return cmq_journal_floor(source->reader, cmq_ring_stored_seq(source->ring));
}

size_t dsp_source_bytes(const struct dsp_source *source)
{
    return source->bytes;
}
