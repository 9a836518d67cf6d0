#include "encryptor/enc_filter.h"

#include <string.h>

#include "common/log/cmq_log.h"

enum { NIL = 0xc0, BODY_KEEP_BYTES = 4 << 20 };

struct message {
    struct cmq_span raw; /* as packed, in filter->plain */
    struct cmq_span id;  /* bytes 0: none */
    uint8_t digest[CMQ_DIGEST_BYTES];
    bool known; /* was published before */
};

struct unit {
    struct cmq_sealed_unit sealed;
    struct cmq_span raw; /* as packed */
    struct cmq_span key; /* of the request; bytes 0: none */
    uint8_t key_digest[CMQ_DIGEST_BYTES];
    uint32_t first; /* message */
    bool opened;    /* messages[first...] are its messages; else they are not looked at */
    bool changed;   /* some of its messages are left out */
};

/* The record in hand. */
struct hand {
    struct cmq_sealed_head head;
    struct unit *units;
    struct message *messages;
    uint32_t unit_capacity, message_capacity, message_count;
    uint8_t *plain; /* of all opened units */
    size_t plain_capacity, plain_bytes;
    size_t payload_bytes;
    uint32_t flags; /* of all units */
};

struct remade {
    struct remade *next;
    uint8_t bytes[];
};

struct enc_filter {
    struct enc_unit_keys *keys;
    struct cmq_digest *digest;
    struct enc_idem_setup setup;
    struct enc_idem *idem;
    struct hand hand;
    struct remade *remade; /* payloads of this group */
    uint64_t now_ms;
    uint64_t applied; /* as the table has it */
    bool dirty;       /* the group has changed the table */
};

/* ---- life ---- */

enum cmq_err enc_filter_new(const struct cmq_keyring_paths *paths, const struct enc_idem_setup *setup,
                            struct enc_filter **ret_filter, struct cmq_reason *reason)
{
    struct enc_filter *filter = calloc(1, sizeof *filter);
    if (filter == NULL)
        return CMQ_ERR_NOMEM;
    filter->setup = *setup;
    enum cmq_err err = enc_unit_keys_new(paths, &filter->keys, reason);
    if (err == CMQ_OK)
        err = cmq_digest_new(&filter->digest);
    if (err != CMQ_OK) {
        enc_filter_free(filter);
        return err;
    }
    *ret_filter = filter;
    return CMQ_OK;
}

static void free_remade(struct enc_filter *filter)
{
    while (filter->remade != NULL) {
        struct remade *next = filter->remade->next;
        free(filter->remade);
        filter->remade = next;
    }
}

void enc_filter_free(struct enc_filter *filter)
{
    if (filter == NULL)
        return;
    enc_filter_close(filter);
    free_remade(filter);
    free(filter->hand.units);
    free(filter->hand.messages);
    free(filter->hand.plain);
    cmq_digest_free(filter->digest);
    enc_unit_keys_free(filter->keys);
    free(filter);
}

enum cmq_err enc_filter_open(struct enc_filter *filter, uint64_t next_seq, uint64_t *ret_applied,
                             struct cmq_reason *reason)
{
    cmq_assert(filter->idem == NULL);
    enum cmq_err err = enc_idem_open(&filter->setup, next_seq, &filter->idem, ret_applied, reason);
    filter->applied = err == CMQ_OK ? *ret_applied : 0;
    return err;
}

void enc_filter_close(struct enc_filter *filter)
{
    enc_idem_close(filter->idem);
    filter->idem = NULL;
    filter->dirty = false;
}

void enc_filter_discard(struct enc_filter *filter)
{
    enc_filter_close(filter);
    enc_idem_discard(&filter->setup);
}

const struct enc_idem *enc_filter_table(const struct enc_filter *filter)
{
    return filter->idem;
}

uint64_t enc_filter_window_ms(const struct enc_filter *filter)
{
    return filter->setup.window_ms;
}

/* ---- taking a record apart ---- */

/* Room for one more; the memory is kept from record to record. */
static void *grow(void *array, uint32_t *capacity, uint32_t count, size_t bytes_each)
{
    if (count < *capacity)
        return array;
    uint32_t wanted = *capacity < 16 ? 16 : *capacity * 2;
    void *larger = realloc(array, wanted * bytes_each);
    if (larger != NULL)
        *capacity = wanted;
    return larger;
}

static enum cmq_err reserve_plain(struct hand *hand, size_t bytes)
{
    if (bytes <= hand->plain_capacity && (hand->plain_capacity <= BODY_KEEP_BYTES || bytes > BODY_KEEP_BYTES))
        return CMQ_OK;
    uint8_t *plain = malloc(bytes);
    if (plain == NULL)
        return CMQ_ERR_NOMEM;
    free(hand->plain);
    hand->plain = plain;
    hand->plain_capacity = bytes;
    return CMQ_OK;
}

/* All but the id and the time of expiry makes a message what it is. Headers begin with another byte than sizes. */
static enum cmq_err add_message(struct enc_filter *filter, const struct cmq_message_full *message)
{
    const uint64_t sizes[] = {message->text, message->body.bytes, message->type.bytes};
    const struct cmq_span pieces[] = {cmq_span_make(sizes, sizeof sizes), message->body, message->type,
                                      message->headers};
    enum cmq_err err = CMQ_OK;
    for (size_t i = 0; err == CMQ_OK && i < CMQ_COUNT_OF(pieces); i++)
        err = cmq_digest_add(filter->digest, pieces[i]);
    return err;
}

static enum cmq_err digest_message(struct enc_filter *filter, const struct cmq_message_full *message,
                                   uint8_t ret_digest[CMQ_DIGEST_BYTES])
{
    enum cmq_err err = cmq_digest_begin(filter->digest);
    if (err == CMQ_OK)
        err = add_message(filter, message);
    return err == CMQ_OK ? cmq_digest_end(filter->digest, ret_digest) : err;
}

static enum cmq_err find_expiry(struct cmq_span messages, uint32_t count, bool *ret_found)
{
    struct cmq_mp_reader reader;
    struct cmq_message_full message = {.expiry_ms = 0};
    enum cmq_err err = CMQ_OK;
    cmq_mp_reader_init(&reader, messages);
    for (uint32_t i = 0; err == CMQ_OK && message.expiry_ms == 0 && i < count; i++)
        err = cmq_message_read(&reader, &message);
    *ret_found = message.expiry_ms != 0;
    return err;
}

/* Of a request with a key, whose messages have no ids. A time to live counts from each try, so it makes no other request. */
static enum cmq_err digest_request(struct enc_filter *filter, struct cmq_span messages, uint32_t count,
                                   uint8_t ret_digest[CMQ_DIGEST_BYTES])
{
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    bool expires;
    enum cmq_err err = find_expiry(messages, count, &expires);
    if (err == CMQ_OK && !expires)
        return cmq_digest_sha256(filter->digest, &messages, 1, ret_digest);
    if (err == CMQ_OK)
        err = cmq_digest_begin(filter->digest);
    cmq_mp_reader_init(&reader, messages);
    for (uint32_t i = 0; err == CMQ_OK && i < count; i++) {
        err = cmq_message_read(&reader, &message);
        if (err == CMQ_OK)
            err = add_message(filter, &message);
    }
    return err == CMQ_OK ? cmq_digest_end(filter->digest, ret_digest) : err;
}

static enum cmq_err take_message(struct enc_filter *filter, struct cmq_mp_reader *reader)
{
    struct hand *hand = &filter->hand;
    struct cmq_message_full full;
    const uint8_t *begin = reader->next;
    struct message *messages =
        grow(hand->messages, &hand->message_capacity, hand->message_count, sizeof *messages);
    if (messages == NULL)
        return CMQ_ERR_NOMEM;
    hand->messages = messages;
    enum cmq_err err = cmq_message_read(reader, &full);
    if (err != CMQ_OK)
        return err;
    struct message *message = &messages[hand->message_count++];
    *message = (struct message){.raw = cmq_span_make(begin, (size_t)(reader->next - begin)), .id = full.id};
    if (full.id.bytes > CMQ_MESSAGE_ID_BYTES_MAX)
        return CMQ_ERR_MALFORMED;
    return full.id.bytes == 0 ? CMQ_OK : digest_message(filter, &full, message->digest);
}

/* Opens the unit behind the plain bytes that are there. */
static enum cmq_err open_unit(struct enc_filter *filter, struct unit *unit)
{
    struct hand *hand = &filter->hand;
    const size_t bytes = unit->sealed.sealed.bytes - CMQ_TAG_BYTES;
    uint8_t *plain = hand->plain + hand->plain_bytes;
    struct cmq_mp_reader reader;
    enum cmq_err err = enc_unit_open(filter->keys, &hand->head, &unit->sealed, plain);
    if (err != CMQ_OK)
        return err;
    hand->plain_bytes += bytes;
    cmq_mp_reader_init(&reader, cmq_span_make(plain, bytes));
    err = cmq_message_key_read(&reader, unit->sealed.flags, &unit->key);
    if (err == CMQ_OK && unit->key.bytes > 0) {
        const struct cmq_span rest = cmq_span_make(reader.next, cmq_mp_left(&reader));
        err = digest_request(filter, rest, unit->sealed.count, unit->key_digest);
    }
    for (uint32_t i = 0; err == CMQ_OK && i < unit->sealed.count; i++)
        err = take_message(filter, &reader);
    if (err == CMQ_OK && cmq_mp_left(&reader) != 0)
        err = CMQ_ERR_MALFORMED;
    unit->opened = true;
    return err;
}

/* Units that have no ids are only counted; so index arithmetic needs their messages as blanks. */
static enum cmq_err skip_unit(struct enc_filter *filter, const struct unit *unit)
{
    struct hand *hand = &filter->hand;
    if (unit->sealed.count > unit->sealed.sealed.bytes) /* a message has one byte at least */
        return CMQ_ERR_MALFORMED;
    for (uint32_t i = 0; i < unit->sealed.count; i++) {
        struct message *messages =
            grow(hand->messages, &hand->message_capacity, hand->message_count, sizeof *messages);
        if (messages == NULL)
            return CMQ_ERR_NOMEM;
        hand->messages = messages;
        messages[hand->message_count++] = (struct message){.known = false};
    }
    return CMQ_OK;
}

/* Heads of all units. payload may be shared memory: everything is checked on private copies. */
static enum cmq_err read_units(struct enc_filter *filter, uint64_t seq, struct cmq_span payload,
                               uint32_t *ret_messages)
{
    struct hand *hand = &filter->hand;
    struct cmq_mp_reader reader;
    uint64_t messages = 0;
    hand->flags = 0;
    hand->payload_bytes = payload.bytes;
    enum cmq_err err = cmq_sealed_decode(payload, &reader, &hand->head);
    if (err == CMQ_OK && (hand->head.seq != seq || hand->head.unit_count > CMQ_BATCH_UNITS_MAX))
        err = CMQ_ERR_MALFORMED;
    for (uint32_t i = 0; err == CMQ_OK && i < hand->head.unit_count; i++) {
        struct unit *units = grow(hand->units, &hand->unit_capacity, i, sizeof *units);
        if (units == NULL)
            return CMQ_ERR_NOMEM;
        hand->units = units;
        units[i] = (struct unit){.opened = false};
        const uint8_t *begin = reader.next;
        err = cmq_sealed_next(&reader, &units[i].sealed);
        if (err != CMQ_OK)
            break;
        units[i].raw = cmq_span_make(begin, (size_t)(reader.next - begin));
        hand->flags |= units[i].sealed.flags;
        messages += units[i].sealed.count;
    }
    if (err == CMQ_OK && (cmq_mp_left(&reader) != 0 || messages > UINT32_MAX))
        err = CMQ_ERR_MALFORMED;
    *ret_messages = (uint32_t)messages;
    return err;
}

static bool has_ids(const struct hand *hand)
{
    return (hand->flags & (CMQ_PLAIN_HAS_IDS | CMQ_PLAIN_HAS_KEY)) != 0;
}

/* Messages of the units that read_units found. */
static enum cmq_err read_messages(struct enc_filter *filter)
{
    struct hand *hand = &filter->hand;
    hand->message_count = 0;
    hand->plain_bytes = 0;
    if ((hand->flags & CMQ_PLAIN_HAS_KEY) != 0 && hand->head.unit_count != 1)
        return CMQ_ERR_MALFORMED;
    enum cmq_err err = reserve_plain(hand, hand->payload_bytes);
    for (uint32_t i = 0; err == CMQ_OK && i < hand->head.unit_count; i++) {
        struct unit *unit = &hand->units[i];
        unit->first = hand->message_count;
        err = (unit->sealed.flags & (CMQ_PLAIN_HAS_IDS | CMQ_PLAIN_HAS_KEY)) != 0 ? open_unit(filter, unit)
                                                                                  : skip_unit(filter, unit);
    }
    return err;
}

/* ---- judging ---- */

static struct enc_idem_key key_of(const struct unit *unit, struct cmq_span id, bool request)
{
    return (struct enc_idem_key){
        .topic = cmq_span_make(unit->sealed.topic, unit->sealed.topic_bytes), .id = id, .request = request};
}

static enum cmq_err put(struct enc_filter *filter, const struct enc_idem_key *key, uint32_t index,
                        uint32_t count, uint64_t stored_at_ms, const uint8_t *digest)
{
    struct enc_idem_entry entry = {
        .seq = filter->hand.head.seq, .index = index, .count = count, .stored_at_ms = stored_at_ms};
    memcpy(entry.digest, digest, CMQ_DIGEST_BYTES);
    filter->dirty = true;
    return enc_idem_put(filter->idem, key, &entry);
}

/* Whether the key is known for another message than this one. CONFLICT: with another content. */
static enum cmq_err look(struct enc_filter *filter, const struct enc_idem_key *key, uint32_t index,
                         const uint8_t *digest, struct cmq_outcome *ret_outcome)
{
    struct enc_idem_entry entry;
    *ret_outcome = (struct cmq_outcome){.kind = CMQ_OUTCOME_KEPT};
    enum cmq_err err = enc_idem_find(filter->idem, key, filter->now_ms, &entry);
    if (err == CMQ_ERR_NOT_FOUND)
        return CMQ_OK;
    if (err != CMQ_OK || (entry.seq == filter->hand.head.seq && entry.index == index))
        return err;
    if (memcmp(entry.digest, digest, CMQ_DIGEST_BYTES) == 0)
        *ret_outcome =
            (struct cmq_outcome){.kind = CMQ_OUTCOME_DUPLICATE, .seq = entry.seq, .index = entry.index};
    else
        *ret_outcome = (struct cmq_outcome){.kind = CMQ_OUTCOME_CONFLICT, .index = index};
    return CMQ_OK;
}

static enum cmq_err judge_request(struct enc_filter *filter, struct cmq_outcome *ret_outcome)
{
    const struct unit *unit = &filter->hand.units[0];
    const struct enc_idem_key key = key_of(unit, unit->key, true);
    enum cmq_err err = look(filter, &key, 0, unit->key_digest, ret_outcome);
    if (err == CMQ_OK && ret_outcome->kind == CMQ_OUTCOME_KEPT)
        err = put(filter, &key, 0, unit->sealed.count, filter->now_ms, unit->key_digest);
    return err;
}

/* Takes back what judge_unit put for the messages before `end`. */
static enum cmq_err take_back(struct enc_filter *filter, uint32_t end)
{
    enum cmq_err err = CMQ_OK;
    for (uint32_t i = 0; err == CMQ_OK && i < end; i++) {
        const struct message *message = &filter->hand.messages[i];
        if (message->id.bytes > 0 && !message->known)
            err = enc_idem_remove(filter->idem, filter->hand.head.seq, i);
    }
    return err;
}

/* Counts the known messages; *ret_outcome becomes DUPLICATE with the first of them, or CONFLICT. */
static enum cmq_err judge_unit(struct enc_filter *filter, struct unit *unit, uint32_t *known,
                               struct cmq_outcome *ret_outcome)
{
    for (uint32_t i = unit->first; unit->opened && i < unit->first + unit->sealed.count; i++) {
        struct message *message = &filter->hand.messages[i];
        struct cmq_outcome one;
        if (message->id.bytes == 0)
            continue;
        const struct enc_idem_key key = key_of(unit, message->id, false);
        enum cmq_err err = look(filter, &key, i, message->digest, &one);
        if (err == CMQ_OK && one.kind == CMQ_OUTCOME_KEPT)
            err = put(filter, &key, i, 1, filter->now_ms, message->digest);
        if (err != CMQ_OK)
            return err;
        if (one.kind == CMQ_OUTCOME_CONFLICT) {
            *ret_outcome = one;
            return take_back(filter, i);
        }
        if (one.kind == CMQ_OUTCOME_DUPLICATE) {
            message->known = unit->changed = true;
            if ((*known)++ == 0)
                *ret_outcome = one;
        }
    }
    return CMQ_OK;
}

static enum cmq_err judge(struct enc_filter *filter, struct cmq_outcome *ret_outcome)
{
    struct hand *hand = &filter->hand;
    uint32_t known = 0;
    *ret_outcome = (struct cmq_outcome){.kind = CMQ_OUTCOME_KEPT};
    if ((hand->flags & CMQ_PLAIN_HAS_KEY) != 0)
        return judge_request(filter, ret_outcome);
    for (uint32_t i = 0; i < hand->head.unit_count; i++) {
        enum cmq_err err = judge_unit(filter, &hand->units[i], &known, ret_outcome);
        if (err != CMQ_OK || ret_outcome->kind == CMQ_OUTCOME_CONFLICT)
            return err;
    }
    if (known > 0 && known < hand->message_count)
        *ret_outcome = (struct cmq_outcome){.kind = CMQ_OUTCOME_PART, .index = known};
    return CMQ_OK;
}

/* ---- making a record anew ---- */

static enum cmq_err remake_unit(struct enc_filter *filter, const struct unit *unit, uint8_t *scratch,
                                uint8_t *dst, size_t *ret_bytes)
{
    size_t bytes = 0;
    for (uint32_t i = unit->first; i < unit->first + unit->sealed.count; i++) {
        const struct message *message = &filter->hand.messages[i];
        if (message->known) {
            scratch[bytes++] = NIL;
            continue;
        }
        memcpy(scratch + bytes, message->raw.data, message->raw.bytes);
        bytes += message->raw.bytes;
    }
    return enc_unit_seal(filter->keys, &filter->hand.head, &unit->sealed, cmq_span_make(scratch, bytes), dst,
                         ret_bytes);
}

/* The same batch, with nil for the messages that are known: under the same seq, so with a new nonce. */
static enum cmq_err remake(struct enc_filter *filter, struct cmq_span *ret_payload)
{
    struct hand *hand = &filter->hand;
    const size_t room = CMQ_BATCH_HEAD_BYTES + hand->payload_bytes +
                        hand->head.unit_count * (CMQ_SEALED_UNIT_BYTES + (size_t)CMQ_TOPIC_BYTES_MAX);
    struct remade *remade = malloc(sizeof *remade + room);
    uint8_t *scratch = malloc(hand->payload_bytes);
    enum cmq_err err = remade == NULL || scratch == NULL ? CMQ_ERR_NOMEM : CMQ_OK;
    size_t bytes = err == CMQ_OK ? cmq_sealed_encode_head(remade->bytes, &hand->head) : 0;
    for (uint32_t i = 0; err == CMQ_OK && i < hand->head.unit_count; i++) {
        const struct unit *unit = &hand->units[i];
        size_t unit_bytes = unit->raw.bytes;
        if (unit->changed)
            err = remake_unit(filter, unit, scratch, remade->bytes + bytes, &unit_bytes);
        else
            memcpy(remade->bytes + bytes, unit->raw.data, unit_bytes);
        bytes += unit_bytes;
    }
    free(scratch);
    if (err != CMQ_OK) {
        free(remade);
        return err;
    }
    remade->next = filter->remade;
    filter->remade = remade;
    *ret_payload = cmq_span_make(remade->bytes, bytes);
    return CMQ_OK;
}

/* ---- a group ---- */

void enc_filter_begin(struct enc_filter *filter, uint64_t now_ms)
{
    free_remade(filter);
    filter->now_ms = now_ms;
}

static void make_void(struct enc_verdict *verdict, uint64_t seq)
{
    verdict->record = (struct enc_log_record){.seq = seq, .type = CMQ_JOURNAL_VOID};
    verdict->told = true;
}

static void report_bad(uint64_t seq, enum cmq_err err)
{
    cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_VOID, "seq=%llu reason=\"%s\"", (unsigned long long)seq,
            cmq_err_text(err));
}

static enum cmq_err judge_record(struct enc_filter *filter, uint32_t messages, struct cmq_span payload,
                                 struct enc_verdict *ret_verdict)
{
    const uint64_t seq = filter->hand.head.seq;
    ret_verdict->record = (struct enc_log_record){
        .seq = seq, .payload = payload, .messages = messages, .type = CMQ_JOURNAL_BATCH};
    if (!has_ids(&filter->hand))
        return CMQ_OK;
    ret_verdict->told = true;
    ret_verdict->record.flags = CMQ_JOURNAL_HAS_IDS;
    enum cmq_err err = read_messages(filter);
    if (err == CMQ_OK)
        err = judge(filter, &ret_verdict->outcome);
    if (err != CMQ_OK)
        return err;
    switch (ret_verdict->outcome.kind) {
    case CMQ_OUTCOME_PART:
        return remake(filter, &ret_verdict->record.payload);
    case CMQ_OUTCOME_DUPLICATE:
    case CMQ_OUTCOME_CONFLICT:
    case CMQ_OUTCOME_VOID:
        make_void(ret_verdict, seq);
        return CMQ_OK;
    case CMQ_OUTCOME_KEPT:
        return CMQ_OK;
    }
    return CMQ_OK;
}

enum cmq_err enc_filter_record(struct enc_filter *filter, const struct cmq_committed *committed,
                               struct enc_verdict *ret_verdict)
{
    uint32_t messages = 0;
    *ret_verdict = (struct enc_verdict){.outcome = {.kind = CMQ_OUTCOME_KEPT}};
    enum cmq_err err = committed->void_record
                           ? CMQ_ERR_MALFORMED
                           : read_units(filter, committed->seq, committed->payload, &messages);
    if (err == CMQ_OK)
        err = judge_record(filter, messages, committed->payload, ret_verdict);
    if (err == CMQ_OK || cmq_err_advice(err) != CMQ_ADVICE_REJECT)
        return err;
    if (!committed->void_record)
        report_bad(committed->seq, err);
    ret_verdict->outcome = (struct cmq_outcome){.kind = CMQ_OUTCOME_VOID};
    make_void(ret_verdict, committed->seq);
    return CMQ_OK;
}

static enum cmq_err commit(struct enc_filter *filter, uint64_t applied, uint64_t now_ms)
{
    enum cmq_err err = enc_idem_expire(filter->idem, now_ms);
    filter->dirty = false;
    if (err == CMQ_OK)
        err = enc_idem_commit(filter->idem, applied);
    else
        enc_idem_abort(filter->idem);
    if (err == CMQ_OK)
        filter->applied = applied;
    return err;
}

enum cmq_err enc_filter_commit(struct enc_filter *filter, uint64_t applied)
{
    return filter->dirty ? commit(filter, applied, filter->now_ms) : CMQ_OK;
}

enum cmq_err enc_filter_tidy(struct enc_filter *filter, uint64_t applied, uint64_t now_ms)
{
    const bool nothing = !filter->dirty && applied == filter->applied && enc_idem_count(filter->idem) == 0;
    return nothing ? CMQ_OK : commit(filter, applied, now_ms);
}

enum cmq_err enc_filter_apply(struct enc_filter *filter, uint64_t seq, uint64_t stored_at_ms,
                              struct cmq_span payload)
{
    struct hand *hand = &filter->hand;
    uint32_t messages;
    enum cmq_err err = read_units(filter, seq, payload, &messages);
    if (err == CMQ_OK && !has_ids(hand))
        return CMQ_OK;
    if (err == CMQ_OK)
        err = read_messages(filter);
    if (err == CMQ_OK && hand->units[0].key.bytes > 0) {
        const struct enc_idem_key key = key_of(&hand->units[0], hand->units[0].key, true);
        return put(filter, &key, 0, hand->units[0].sealed.count, stored_at_ms, hand->units[0].key_digest);
    }
    for (uint32_t u = 0; err == CMQ_OK && u < hand->head.unit_count; u++) {
        const struct unit *unit = &hand->units[u];
        for (uint32_t i = unit->first; err == CMQ_OK && i < unit->first + unit->sealed.count; i++) {
            const struct message *message = &hand->messages[i];
            const struct enc_idem_key key = key_of(unit, message->id, false);
            if (message->id.bytes > 0)
                err = put(filter, &key, i, 1, stored_at_ms, message->digest);
        }
    }
    if (err == CMQ_OK || cmq_err_advice(err) != CMQ_ADVICE_REJECT)
        return err;
    report_bad(seq, err);
    return CMQ_OK;
}
